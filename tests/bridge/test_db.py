"""Connections: who may write, who may only read, what errors show, and whose clock leases go by."""

import sqlite3
import time
import traceback
from pathlib import Path

import psycopg
import pytest
from ground import postgres
from sqlalchemy import create_engine, insert, select, text
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError

from bridge import db
from moderation import moderators
from moderation.base import now
from moderation.records import ModeratorRow

SECRET = "canary-7f3a"
VISIBLE = text("SELECT count(*) FROM moderators")


def add(database: db.Database, name: str = "Ada") -> None:
    with database.sessions.begin() as session:
        moderators.add(session, name, "moderator")


def test_reads_what_was_written(database: db.Database) -> None:
    add(database)
    with database.reading_sessions() as session:
        assert [each.name for each in moderators.everyone(session)] == ["Ada"]


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO moderators (name, role, active, created_at) VALUES ('Eve', 'admin', true, '2026-11-24 00:00:00')",
        "UPDATE moderators SET role = 'admin'",
        "DELETE FROM moderators",
        "INSERT INTO ledger (previous, digest, entry) VALUES ('p', 'd', '{}')",
    ],
)
def test_writes_nothing_in_a_reading_session(database: db.Database, change: str) -> None:
    add(database)
    with database.reading_sessions() as session, pytest.raises(DatabaseError, match=r"read-only|readonly"):
        session.execute(text(change))
    with database.reading_sessions() as session:
        assert [each.role for each in moderators.everyone(session)] == ["moderator"]
        assert session.scalar(text("SELECT count(*) FROM ledger")) == 0


def test_writes_again_after_a_reading_session_used_the_connection(database: db.Database) -> None:
    # On PostgreSQL both share one pool: that a connection only reads must not stay with it.
    for name in ("Ada", "Ben", "Cleo"):
        with database.reading_sessions() as session:
            session.scalar(VISIBLE)
        add(database, name)
    with database.reading_sessions() as session:
        assert session.scalar(VISIBLE) == 3


def test_undoes_what_was_not_committed(database: db.Database) -> None:
    with database.sessions() as session:
        moderators.add(session, "Ada", "moderator")
    with database.reading_sessions() as session:
        assert session.scalar(VISIBLE) == 0


def test_answers(database: db.Database) -> None:
    for sessions in (database.sessions, database.reading_sessions):
        with sessions() as session:
            assert db.one_word(session) == "ready"


def test_hides_parameters_in_errors(database: db.Database, database_url: str) -> None:
    owner = db.owner_engine(database_url)
    for engine in (database.writing, owner):
        with engine.connect() as connection, pytest.raises(IntegrityError) as refusal:
            connection.execute(
                text("INSERT INTO moderators (name, role, active, created_at) VALUES (:name, 'x', true, :at)"),
                {"name": SECRET, "at": "2026-11-24 00:00:00"},
            )
        assert "SQL parameters hidden" in str(refusal.value)
        # PostgreSQL's own words too: "DETAIL: Failing row contains (...)".
        assert SECRET not in "".join(traceback.format_exception(refusal.value))
    owner.dispose()


def test_hides_the_key_that_is_taken(database: db.Database) -> None:
    add(database, SECRET)
    again = insert(ModeratorRow).values(name=SECRET, role="admin", active=True, created_at=now())
    with database.sessions() as session, pytest.raises(IntegrityError) as refusal:
        session.execute(again)
    assert SECRET not in "".join(traceback.format_exception(refusal.value))
    assert "moderators" in str(refusal.value)


def test_hides_parameters_of_a_statement_that_never_ran(database: db.Database) -> None:
    with database.reading_sessions() as session, pytest.raises(DatabaseError) as refusal:
        session.execute(text("INSERT INTO moderators (name) VALUES (:name)"), {"name": SECRET})
    assert SECRET not in str(refusal.value)


def test_tells_the_time_by_the_databases_clock(database: db.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose own clock is a day off must neither lose its lease nor take another's."""
    monkeypatch.setattr("moderation.base.now", lambda: pytest.fail("asked the worker's clock"))
    before = time.time()
    with database.sessions() as session:
        told = session.scalars(select(db.database_time())).one()
        later = session.scalars(select(db.database_time())).one()
    # SQLite counts milliseconds, and rounds: give it one on each side.
    assert before - 0.002 <= told <= later <= time.time() + 0.002
    assert isinstance(told, float)


def test_lets_time_pass_within_a_transaction(database: db.Database) -> None:
    with database.sessions() as session:
        first = session.scalars(select(db.database_time())).one()
        deadline = time.monotonic() + 10
        while session.scalars(select(db.database_time())).one() == first:
            assert time.monotonic() < deadline, "the database's clock stands still"


def test_compares_leases_in_the_database(database: db.Database) -> None:
    add(database)
    with database.sessions() as session:
        alive = select(ModeratorRow.name).where(db.database_time() + 60 > db.database_time())
        lapsed = select(ModeratorRow.name).where(db.database_time() - 60 > db.database_time())
        assert session.scalars(alive).all() == ["Ada"]
        assert session.scalars(lapsed).all() == []


# SQLite


def test_sets_up_every_sqlite_connection(sqlite_url: str) -> None:
    """The authorizer refuses to be asked for pragmas, so the connection is asked before it is set."""
    database, owner = db.connect(sqlite_url), db.owner_engine(sqlite_url)
    wanted = {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 15000, "secure_delete": 1, "trusted_schema": 0}
    for engine, only_reads in ((database.writing, 0), (database.reading, 1), (owner, 0)):
        pooled = engine.raw_connection()
        assert isinstance(pooled.driver_connection, sqlite3.Connection)
        pooled.driver_connection.set_authorizer(None)
        for pragma, value in {**wanted, "query_only": only_reads}.items():
            assert pooled.driver_connection.execute(f"PRAGMA {pragma}").fetchone() == (value,), pragma
        pooled.invalidate()
    database.dispose()
    owner.dispose()


def test_takes_turns_at_writing_to_sqlite(sqlite_url: str) -> None:
    """BEGIN IMMEDIATE: a writer who read first has the lock already, so it never fails halfway."""
    database = db.connect(sqlite_url)
    add(database)
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), timeout=0, isolation_level=None)
    with database.sessions.begin() as session:
        assert session.scalar(VISIBLE) == 1
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        moderators.add(session, "Ben", "moderator")
    other.execute("BEGIN IMMEDIATE")
    # Readers wait for nobody.
    with database.reading_sessions() as session:
        assert session.scalar(VISIBLE) == 2
    other.close()
    database.dispose()


def test_tells_a_locked_sqlite_from_a_broken_one(sqlite_url: str, tmp_path: Path) -> None:
    holder = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    impatient = create_engine(f"{sqlite_url}?timeout=0")
    with pytest.raises(OperationalError) as locked, impatient.connect() as connection:
        connection.exec_driver_sql("DELETE FROM moderators")
    assert db.is_busy(locked.value)
    with pytest.raises(OperationalError) as broken, impatient.connect() as connection:
        connection.exec_driver_sql("SELECT * FROM nowhere")
    assert not db.is_busy(broken.value)
    holder.close()
    impatient.dispose()


# PostgreSQL


def test_acts_as_the_apps_role(postgresql_url: str) -> None:
    database = db.connect(postgresql_url)
    for engine in (database.writing, database.reading):
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT current_user")) == db.APP_ROLE
            connection.rollback()
            # Not undone by a rollback, as SET ROLE in a listener would be.
            assert connection.scalar(text("SELECT current_user")) == db.APP_ROLE
            assert connection.scalar(text("SHOW search_path")) == "public,pg_temp"
            assert connection.scalar(text("SHOW idle_in_transaction_session_timeout")) == "2min"
    database.dispose()


def test_says_what_to_do_where_the_role_is_missing_or_another(postgresql_url: str) -> None:
    database = db.connect(postgresql_url)
    with database.writing.connect() as connection:
        connection.exec_driver_sql("SET ROLE postgres")
        connection.commit()
    with pytest.raises(db.WrongRole, match="Run `emeritus migrate`"), database.sessions() as session:
        db.one_word(session)
    database.dispose()


def test_connects_again_after_postgresql_ended_the_connections(cluster: postgres.Cluster, postgresql_url: str) -> None:
    database = db.connect(postgresql_url)
    owner = create_engine(cluster.url("postgres"), isolation_level="AUTOCOMMIT")
    end = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
    with database.sessions() as session:
        assert db.one_word(session) == "ready"
        with owner.connect() as connection:
            connection.execute(end, {"name": database.writing.url.database})
        with pytest.raises(OperationalError) as lost:
            db.one_word(session)
        assert db.is_busy(lost.value)
    with database.sessions() as session:
        assert db.one_word(session) == "ready"
    owner.dispose()
    database.dispose()


def test_knows_a_refusal_of_postgresql_for_what_it_is(postgresql_url: str) -> None:
    database = db.connect(postgresql_url)
    with database.sessions() as session, pytest.raises(DatabaseError) as refusal:
        session.execute(text("TRUNCATE ledger"))
    assert isinstance(refusal.value.orig, psycopg.errors.InsufficientPrivilege)
    assert not isinstance(refusal.value, OperationalError)
    database.dispose()
