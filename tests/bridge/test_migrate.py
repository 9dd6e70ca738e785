"""Migrating: an empty database comes to this version, twice is well, and what is not right is not served."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from ground import postgres
from ground.vault import Vault
from sqlalchemy import Connection, MetaData, create_engine, insert, inspect, text

from bridge import db, migrate
from bridge.settings import Settings, load
from moderation.base import Base
from moderation.writeonce import VAULT


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "DATABASE_OWNER_URL", "EMERITUS_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EMERITUS_ENV_FILE", os.devnull)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Settings that name a database with nothing in it."""
    if request.param == "sqlite":
        yield load(Settings, emeritus_data=tmp_path / "not" / "yet")
        return
    cluster: postgres.Cluster = request.getfixturevalue("cluster")
    yield load(Settings, emeritus_data=tmp_path, database_url=cluster.create_database("emeritus_empty"))
    cluster.drop_database("emeritus_empty")


def test_makes_a_database_that_can_be_served(empty: Settings) -> None:
    migrate.migrate(empty)
    database = db.connect(empty.database)
    migrate.check(database.writing)
    vault = Vault(database)
    assert vault.essay in vault.released(vault.essay)
    database.dispose()


def test_changes_nothing_the_second_time(empty: Settings) -> None:
    migrate.migrate(empty)
    database = db.connect(empty.database)
    vault = Vault(database)
    us = vault.live()
    told = vault.told()
    migrate.migrate(empty)
    migrate.check(database.writing)
    assert vault.told() == told
    assert us.comment in vault.released(us.comment)
    assert vault.verify() is None
    database.dispose()


def test_makes_every_table_of_the_models(database_url: str) -> None:
    owner = db.owner_engine(database_url)
    assert set(inspect(owner).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
    owner.dispose()


def test_tells_which_migration_a_database_is_at(database_url: str) -> None:
    database = db.connect(database_url)
    for engine in (database.writing, database.reading):
        with engine.connect() as connection:
            assert migrate.revision(connection) == migrate.head()
    database.dispose()


def test_serves_from_no_empty_database(empty: Settings) -> None:
    empty.data.mkdir(parents=True, exist_ok=True)
    engine = db.owner_engine(empty.database)
    with engine.connect() as connection:
        assert migrate.revision(connection) is None
    with pytest.raises(migrate.SchemaRefused, match=r"The database is empty\. Run `emeritus migrate` first\."):
        migrate.check(engine)
    engine.dispose()


def test_serves_from_no_other_version(database_url: str) -> None:
    owner, database = db.owner_engine(database_url), db.connect(database_url)
    with owner.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    with pytest.raises(migrate.SchemaRefused, match=f"at migration 0000, and this version needs {migrate.head()}"):
        migrate.check(database.writing)
    owner.dispose()
    database.dispose()


def test_keeps_a_failed_migration_out_altogether(empty: Settings) -> None:
    """DDL is in the transaction on both databases: half a schema would be neither empty nor served."""
    empty.data.mkdir(parents=True, exist_ok=True)
    owner = db.owner_engine(empty.database)
    with owner.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE waiting (id INTEGER)")
    with pytest.raises(Exception, match="waiting"):
        migrate.migrate(empty)
    assert inspect(owner).get_table_names() == ["waiting"]
    owner.dispose()


# 0004: places for letters that were posted before there were any


def test_gives_posted_letters_their_places_and_pages(empty: Settings) -> None:
    """60 letters and, in answer to the first one's reply, 60 more: what finds no room there goes on the newest page."""
    empty.data.mkdir(parents=True, exist_ok=True)
    owner = db.owner_engine(empty.database)
    with owner.begin() as connection:
        migrate.upgrade(connection, to="0003")
        _correspond(connection, letters=60, answers=60)
    with owner.begin() as connection:
        migrate.upgrade(connection)
        rows = connection.exec_driver_sql("SELECT id, place, page FROM comments ORDER BY id").all()
    owner.dispose()
    assert [row[1] for row in rows] == [*range(1, 121), None]
    # 50 letters fill the first page, and the next 50 in answer its spare room; then they go where letters go.
    assert [row[2] for row in rows] == [*[1] * 50, *[2] * 10, *[1] * 50, *[2] * 10, None]


def _correspond(connection: Connection, *, letters: int, answers: int) -> None:
    """Put posted letters under an essay, the first one answered, posted letters in answer, and one that is pending."""
    tables = MetaData()
    tables.reflect(connection)
    number = letters + answers + 1
    _put(connection, tables, "moderators", id=1, role="admin")
    _put(connection, tables, "voices", id=1)
    for submission in range(1, number + 3):
        kind = "essay" if submission == 1 else "reply" if submission == number + 2 else "comment"
        _put(connection, tables, "submissions", id=submission, kind=kind, digest=f"{submission:064x}")
        if submission != number + 1:
            _put(connection, tables, "decisions", submission_id=submission, verdict="approve", moderator_id=1)
    _put(connection, tables, "essays", id=1, voice_id=1, submission_id=1)
    for comment in range(1, number + 1):
        told = {"id": comment, "public_id": f"{comment:032x}", "submission_id": comment + 1}
        _put(connection, tables, "comments", essay_id=1, **told)
    _put(connection, tables, "generations", id=1, comment_id=1, voice_id=1)
    _put(connection, tables, "replies", id=1, comment_id=1, submission_id=number + 2, generation_id=1)
    below = f"id > {letters} AND id <= {letters + answers}"
    connection.exec_driver_sql(f"UPDATE comments SET parent_id = 1 WHERE {below}")


def _put(connection: Connection, tables: MetaData, name: str, **row: object) -> None:
    """Insert a row, with anything in the columns that need something."""
    table = tables.tables[name]
    anything: dict[type, object] = {
        int: 0,
        str: "",
        bool: False,
        float: 0.0,
        bytes: b"",
        datetime: datetime(2026, 11, 1, tzinfo=UTC),
    }
    for column in table.columns:
        if column.name not in row and not column.nullable and column.server_default is None:
            row[column.name] = anything[column.type.python_type]
    connection.execute(insert(table).values(row))


# PostgreSQL: who may do what

MAY = (
    "SELECT p FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER', 'REFERENCES']) p "
    "WHERE has_table_privilege(:role, :table, p)"
)


def test_gives_the_app_what_it_needs_and_no_more(postgresql_url: str) -> None:
    owner = create_engine(postgresql_url)
    with owner.connect() as connection:
        for table in inspect(owner).get_table_names():
            held = set(connection.scalars(text(MAY), {"role": db.APP_ROLE, "table": table}))
            if table == "alembic_version":
                assert held == {"SELECT"}
            elif table in VAULT:
                assert held == {"SELECT", "INSERT"}, table
            else:
                assert held == {"SELECT", "INSERT", "UPDATE", "DELETE"}, table
        questions = {
            "has_database_privilege(:role, current_database(), 'TEMP')": False,
            "has_database_privilege(:role, current_database(), 'CREATE')": False,
            "has_schema_privilege(:role, 'public', 'CREATE')": False,
            "has_schema_privilege(:role, 'public', 'USAGE')": True,
            "has_function_privilege(:role, 'erase_words(integer)', 'EXECUTE')": True,
            "pg_has_role(:role, 'postgres', 'MEMBER')": False,
        }
        for question, answer in questions.items():
            assert connection.scalar(text(f"SELECT {question}"), {"role": db.APP_ROLE}) is answer, question
        traits = "SELECT rolsuper, rolcreatedb, rolcreaterole, rolcanlogin, rolbypassrls, rolreplication FROM pg_roles"
        row = connection.execute(text(f"{traits} WHERE rolname = :role"), {"role": db.APP_ROLE}).one()
        assert not any(row)
    owner.dispose()


def test_takes_back_rights_that_were_given_by_hand(postgresql_url: str) -> None:
    owner = create_engine(postgresql_url)
    with owner.begin() as connection:
        connection.exec_driver_sql(f"GRANT ALL ON ledger TO {db.APP_ROLE}")
        migrate.grant(connection, login="postgres")
        assert set(connection.scalars(text(MAY), {"role": db.APP_ROLE, "table": "ledger"})) == {"SELECT", "INSERT"}
    owner.dispose()


def test_gives_a_stranger_nothing(cluster: postgres.Cluster, postgresql_url: str) -> None:
    owner = create_engine(postgresql_url)
    with owner.begin() as connection:
        connection.exec_driver_sql("DROP ROLE IF EXISTS stranger")
        connection.exec_driver_sql("CREATE ROLE stranger LOGIN")
        name = str(connection.scalar(text("SELECT current_database()")))
    owner.dispose()
    attempts = (
        "SELECT body FROM submissions",
        "SELECT erase_words(1)",
        "CREATE TABLE elsewhere (id integer)",
        "CREATE TEMP TABLE submissions (id integer)",
        f"SET ROLE {db.APP_ROLE}",
    )
    address = cluster.url(name, user="stranger").replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(address, autocommit=True) as connection:
        for attempt in attempts:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(attempt)


def test_lets_a_separate_login_act_as_the_app(cluster: postgres.Cluster, tmp_path: Path) -> None:
    owner_url = cluster.create_database("emeritus_two_logins")
    owner = create_engine(owner_url)
    with owner.begin() as connection:
        connection.exec_driver_sql("DROP ROLE IF EXISTS letters")
        connection.exec_driver_sql("CREATE ROLE letters LOGIN")
    owner.dispose()
    settings = load(
        Settings,
        emeritus_data=tmp_path,
        database_url=cluster.url("emeritus_two_logins", user="letters"),
        database_owner_url=owner_url,
    )
    migrate.migrate(settings)
    database = db.connect(settings.database)
    migrate.check(database.writing)
    vault = Vault(database)
    assert vault.essay in vault.released(vault.essay)
    with database.writing.connect() as connection:
        assert connection.scalar(text("SELECT session_user")) == "letters"
        assert connection.scalar(text("SELECT current_user")) == db.APP_ROLE
    database.dispose()
    cluster.drop_database("emeritus_two_logins")
