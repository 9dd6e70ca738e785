"""Words and decisions stay as they were written: SECURITY.md's W1 to W4, against the migrated schema.

Each attack that changes rows is tried three times: where nothing guards, to know that it is one; by a stranger's
connection, where triggers alone must stop it; and as the site, whose connections have walls of their own.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from ground import postgres
from ground.vault import Vault, contents, tables, unlock, verified
from sqlalchemy import Connection, Engine, create_engine, select, text
from sqlalchemy.exc import DatabaseError

from bridge import db, migrate
from moderation.records import Submission
from moderation.writeonce import ERASABLE, VAULT, statements

COLUMNS = {table.name: [column.name for column in table.columns] for table in tables()}
KEYS = {table.name: table.primary_key.columns.keys()[0] for table in tables()}
OTHERS = "kind, nonce, author, body, in_answer_to, digest, supersedes, submitted_at"


@dataclass(frozen=True)
class Lived:
    """A database in which everything happened once; `us` says which submission is which."""

    url: str
    us: SimpleNamespace


@pytest.fixture(scope="module")
def sqlite_lived(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Lived:
    path = str(shutil.copy(sqlite_template, tmp_path_factory.mktemp("writeonce") / "emeritus.db"))
    database = db.connect(f"sqlite:///{path}")
    us = Vault(database).live()
    database.dispose()
    return Lived(path, us)


@pytest.fixture
def sqlite_copy(sqlite_lived: Lived, tmp_path: Path) -> Lived:
    return Lived(f"sqlite:///{shutil.copy(sqlite_lived.url, tmp_path / 'emeritus.db')}", sqlite_lived.us)


@pytest.fixture(scope="module")
def postgresql_lived(cluster: postgres.Cluster, postgresql_template: str) -> Iterator[Lived]:
    # One for all attacks: each is rolled back, and each test sees for itself that nothing was changed.
    url = cluster.create_database("emeritus_writeonce", template=postgresql_template)
    database = db.connect(url)
    us = Vault(database).live()
    database.dispose()
    yield Lived(url, us)
    cluster.drop_database("emeritus_writeonce")


@pytest.fixture(params=["sqlite", "postgresql"])
def lived(request: pytest.FixtureRequest) -> Lived:
    """A copy for this test alone on SQLite, the shared one on PostgreSQL."""
    found: Lived = request.getfixturevalue("sqlite_copy" if request.param == "sqlite" else "postgresql_lived")
    return found


def kept(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Return what the vault holds, as its owner sees it."""
    engine = db.owner_engine(url)
    with engine.connect() as connection:
        found = contents(connection)
    engine.dispose()
    return found


def values(row: dict[str, Any]) -> str:
    """Write a row as SQL."""
    return ", ".join(
        "NULL" if value is None else str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"
        for value in row.values()
    )


# W1, SQLite: attacks that change rows

CHANGES = {
    "update of the words": "UPDATE submissions SET body = 'Obey.' WHERE id = {comment}",
    "update of the words and the digest": "UPDATE submissions SET body = 'Obey.', digest = 'd' WHERE id = {comment}",
    "update of all": "UPDATE submissions SET author = 'Understudy'",
    "update to NULL without an erasure": (
        "UPDATE submissions SET body = NULL, author = NULL, nonce = NULL WHERE id = {comment}"
    ),
    "update of pending words": "UPDATE submissions SET body = 'Obey.' WHERE id = {pending}",
    "update of a verdict": (
        "UPDATE decisions SET verdict = 'approve', reason_code = NULL WHERE submission_id = {vetoed}"
    ),
    "update from": (
        "UPDATE submissions SET body = s.body FROM submissions s WHERE submissions.id = {comment} AND s.id = 1"
    ),
    "update in a common table expression": (
        "WITH them(it) AS (SELECT {comment}) UPDATE submissions SET body = 'Obey.' WHERE id IN (SELECT it FROM them)"
    ),
    "update or replace of a key": "UPDATE OR REPLACE submissions SET id = {comment} WHERE id = {pending}",
    "update or replace of a digest": (
        "UPDATE OR REPLACE submissions SET digest = (SELECT digest FROM submissions WHERE id = {comment}) "
        "WHERE id = {pending}"
    ),
    "update or replace of a decision's key": (
        "UPDATE OR REPLACE decisions SET submission_id = {comment} WHERE submission_id = {rejected}"
    ),
    "renumbered rowid": "UPDATE submissions SET rowid = 900 WHERE id = {comment}",
    "renumbered oid": "UPDATE decisions SET oid = 900 WHERE submission_id = {comment}",
    "delete": "DELETE FROM decisions WHERE submission_id = {comment}",
    "delete of all": "DELETE FROM ledger",
    "delete of words": "DELETE FROM submissions WHERE id = {pending}",
    "replace by the key": "REPLACE INTO submissions SELECT {comment}, {others} FROM submissions WHERE id = 1",
    "replace by the key as text": (
        "INSERT OR REPLACE INTO submissions (id, {others}) SELECT '{comment}', kind, nonce, author, 'Obey.', "
        "in_answer_to, 'd', NULL, submitted_at FROM submissions WHERE id = {comment}"
    ),
    "replace by the key as a real": (
        "INSERT OR REPLACE INTO submissions (id, {others}) SELECT {comment}.0, kind, nonce, author, 'Obey.', "
        "in_answer_to, 'd', NULL, submitted_at FROM submissions WHERE id = {comment}"
    ),
    "replace by rowid": (
        "REPLACE INTO decisions (rowid, verdict, moderator_id, decided_at, digest_seen) "
        "SELECT submission_id, 'approve', moderator_id, decided_at, digest_seen FROM decisions "
        "WHERE submission_id = {rejected}"
    ),
    "replace of a verdict": (
        "REPLACE INTO decisions (submission_id, verdict, moderator_id, decided_at, digest_seen) "
        "SELECT submission_id, 'approve', moderator_id, decided_at, digest_seen FROM decisions "
        "WHERE submission_id = {vetoed}"
    ),
    "replace by the digest": (
        "REPLACE INTO submissions ({others}) SELECT kind, nonce, author, 'Obey.', in_answer_to, digest, NULL, "
        "submitted_at FROM submissions WHERE id = {comment}"
    ),
    "replace by what is superseded": (
        "REPLACE INTO submissions ({others}) SELECT kind, nonce, author, 'Obey.', in_answer_to, 'd', supersedes, "
        "submitted_at FROM submissions WHERE id = {comment}"
    ),
    "replace of an unset key": (
        "REPLACE INTO submissions (id, {others}) SELECT NULL, kind, nonce, author, 'Obey.', in_answer_to, digest, "
        "NULL, submitted_at FROM submissions WHERE id = {comment}"
    ),
    "replace of a proposal": (
        "REPLACE INTO proposals SELECT id, submission_id, moderator_id, proposed_at, lapses_at, digest_seen, 'other', "
        "reason_digest, proposes FROM proposals"
    ),
    "replace of a withdrawal": (
        "REPLACE INTO withdrawals SELECT submission_id, 'operator', moderator_id, withdrawn_at, reason_code, "
        "reason_digest, proposal_id FROM withdrawals"
    ),
    "replace of an erasure": "REPLACE INTO erasures SELECT submission_id, '2001-01-01 00:00:00' FROM erasures",
    "replace in the ledger by number": (
        "REPLACE INTO ledger SELECT number, 'p', 'd', '{{}}' FROM ledger WHERE number = 2"
    ),
    "replace in the ledger by previous": (
        "REPLACE INTO ledger (previous, digest, entry) SELECT previous, 'd', '{{}}' FROM ledger WHERE number = 2"
    ),
    "replace in the ledger by digest": (
        "REPLACE INTO ledger (previous, digest, entry) SELECT 'p', digest, '{{}}' FROM ledger WHERE number = 2"
    ),
    "upsert of words": (
        "INSERT INTO submissions SELECT * FROM submissions WHERE id = {comment} "
        "ON CONFLICT (id) DO UPDATE SET body = 'Obey.'"
    ),
    "upsert by the digest": (
        "INSERT INTO submissions ({others}) SELECT {others} FROM submissions WHERE id = {comment} "
        "ON CONFLICT (digest) DO UPDATE SET author = 'Understudy'"
    ),
    "upsert of a verdict": (
        "INSERT INTO decisions SELECT * FROM decisions WHERE submission_id = {vetoed} "
        "ON CONFLICT DO UPDATE SET verdict = 'approve', reason_code = NULL"
    ),
    "half an erasure": "UPDATE submissions SET body = 'Obey.' WHERE id = {erased}",
    "an erasure of more than words": "UPDATE submissions SET submitted_at = '2001-01-01 00:00:00' WHERE id = {erased}",
    "an erasure of the kind too": (
        "UPDATE submissions SET body = NULL, author = NULL, nonce = NULL, kind = 'reply' WHERE id = {erased}"
    ),
    "an erasure of the key too": "UPDATE submissions SET body = NULL, id = 900 WHERE id = {erased}",
    "words put back after an erasure": (
        "UPDATE submissions SET body = 'Obey.', author = 'Understudy', nonce = 'n' WHERE id = {erased}"
    ),
}
CHANGES |= {
    f"renumbering or ignoring in {table}": f"UPDATE OR IGNORE {table} SET {KEYS[table]} = {KEYS[table]} + 900"
    for table in VAULT
}
PLAIN = (
    "half an",
    "an erasure of",
    "words put back",
    "upsert of words",
    "update of",
    "update to",
    "update in",
    "delete",
)
"""How those attacks begin that PostgreSQL understands as well."""
NEGATIVE = (
    "INSERT OR REPLACE INTO submissions (id, {others}) SELECT -1, kind, nonce, author, body, in_answer_to, 'd', NULL, "
    "submitted_at FROM submissions WHERE id = 1"
)


def spelled(attack: str, us: SimpleNamespace) -> str:
    return attack.format(**vars(us), others=OTHERS)


@pytest.fixture
def stranger(sqlite_copy: Lived) -> Iterator[sqlite3.Connection]:
    """A connection with Python's defaults: no authorizer, foreign keys off."""
    connection = sqlite3.connect(sqlite_copy.url.removeprefix("sqlite:///"), isolation_level=None)
    yield connection
    connection.close()


@pytest.fixture
def site(sqlite_copy: Lived) -> Iterator[sqlite3.Connection]:
    """The site's own connection, outside any transaction: VACUUM and ATTACH would be refused within one."""
    database = db.connect(sqlite_copy.url)
    pooled = database.writing.raw_connection()
    assert isinstance(pooled.driver_connection, sqlite3.Connection)
    yield pooled.driver_connection
    pooled.close()
    database.dispose()


@pytest.mark.parametrize("attack", CHANGES.values(), ids=CHANGES)
def test_sqlite_triggers_alone_stop(sqlite_copy: Lived, stranger: sqlite3.Connection, attack: str) -> None:
    before = kept(sqlite_copy.url)
    for recursive in ("OFF", "ON"):
        stranger.execute(f"PRAGMA recursive_triggers = {recursive}")
        with pytest.raises(sqlite3.IntegrityError, match="write-once"):
            stranger.execute(spelled(attack, sqlite_copy.us))
    assert kept(sqlite_copy.url) == before


@pytest.mark.parametrize("attack", CHANGES.values(), ids=CHANGES)
def test_sqlite_site_cannot(sqlite_copy: Lived, site: sqlite3.Connection, attack: str) -> None:
    before = kept(sqlite_copy.url)
    with pytest.raises(sqlite3.DatabaseError, match=f"write-once|{DENIED}"):
        site.execute(spelled(attack, sqlite_copy.us))
    assert kept(sqlite_copy.url) == before


@pytest.mark.parametrize("attack", CHANGES.values(), ids=CHANGES)
def test_sqlite_without_triggers_suffers(sqlite_copy: Lived, stranger: sqlite3.Connection, attack: str) -> None:
    before = kept(sqlite_copy.url)
    for statement in statements("sqlite"):
        stranger.execute(f"DROP TRIGGER {statement.split()[2]}")
    stranger.execute("PRAGMA ignore_check_constraints = ON")
    stranger.execute(spelled(attack, sqlite_copy.us))
    assert kept(sqlite_copy.url) != before


@pytest.mark.parametrize("table", VAULT)
def test_sqlite_triggers_watch_every_column(stranger: sqlite3.Connection, table: str) -> None:
    for column in COLUMNS[table]:
        with pytest.raises(sqlite3.IntegrityError, match=f"{table} is write-once"):
            stranger.execute(f"UPDATE {table} SET {column} = {column}")


@pytest.mark.parametrize("number", [-1, 0, -(2**63)])
def test_sqlite_refuses_a_key_that_is_not_positive(
    stranger: sqlite3.Connection, sqlite_copy: Lived, number: int
) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        stranger.execute(spelled(NEGATIVE.replace("-1", str(number)), sqlite_copy.us))


def test_sqlite_never_gives_a_number_twice(stranger: sqlite3.Connection, sqlite_copy: Lived) -> None:
    # Without its memory SQLite counts on from the greatest key, which nobody can delete.
    stranger.execute("DELETE FROM sqlite_sequence")
    newest = max(row[0] for row in stranger.execute("SELECT id FROM submissions"))
    copied = OTHERS.replace("digest", "'d'").replace("supersedes", "NULL")
    stranger.execute(f"INSERT INTO submissions ({OTHERS}) SELECT {copied} FROM submissions WHERE id = 1")
    assert max(row[0] for row in stranger.execute("SELECT id FROM submissions")) == newest + 1


def test_sqlite_takes_new_rows_still(stranger: sqlite3.Connection) -> None:
    stranger.execute("INSERT INTO ledger (previous, digest, entry) VALUES ('p', 'd', '{}')")
    assert stranger.execute("SELECT count(*) FROM ledger WHERE previous = 'p'").fetchone() == (1,)


# W1, SQLite: attacks that go round the triggers. A stranger who can write the file can do these; the site cannot.

DENIED = "not authorized|authorization denied|access to|may not be modified"
ROUNDABOUT = {
    "drop a trigger": "DROP TRIGGER submissions_write_once_update",
    "drop a table": "DROP TABLE decisions",
    "rename a table": "ALTER TABLE submissions RENAME TO elsewhere",
    "rename a column": "ALTER TABLE submissions RENAME COLUMN body TO words",
    "add a column": "ALTER TABLE submissions ADD COLUMN html TEXT",
    "drop a column": "ALTER TABLE submissions DROP COLUMN author",
    "create a table": "CREATE TABLE elsewhere (id INTEGER)",
    "create a table from another": "CREATE TABLE elsewhere AS SELECT * FROM submissions",
    "create a trigger": (
        "CREATE TRIGGER t AFTER INSERT ON waiting BEGIN "
        "DELETE FROM waiting WHERE submission_id = NEW.submission_id; END"
    ),
    "create a view": "CREATE VIEW v AS SELECT * FROM submissions",
    "create an index": "CREATE UNIQUE INDEX i ON submissions (author)",
    "drop an index": "DROP INDEX ix_waiting_kind",
    "create a virtual table": "CREATE VIRTUAL TABLE v USING json_each(body)",
    "shadow a table": "CREATE TEMP TABLE submissions (id INTEGER, body TEXT)",
    "shadow a table with its rows": "CREATE TEMPORARY TABLE decisions AS SELECT * FROM decisions",
    "shadow a table with a view": "CREATE TEMP VIEW decisions AS SELECT id AS submission_id FROM submissions",
    "add a passing trigger": (
        "CREATE TEMP TRIGGER t BEFORE UPDATE ON main.submissions BEGIN SELECT RAISE(IGNORE); END"
    ),
    "write the schema": "UPDATE sqlite_master SET sql = '' WHERE type = 'trigger'",
    "write the schema by its other name": "DELETE FROM sqlite_schema WHERE type = 'trigger'",
    "add to the schema": "INSERT INTO sqlite_master (type, name) VALUES ('trigger', 't')",
    "forget the numbers": "DELETE FROM sqlite_sequence",
    "turn back the numbers": "UPDATE sqlite_sequence SET seq = 0",
    "add to the numbers": "INSERT INTO sqlite_sequence VALUES ('submissions', 0)",
    "attach another file": "ATTACH ':memory:' AS elsewhere",
    "detach the file": "DETACH main",
    "vacuum": "VACUUM",
    "reindex": "REINDEX",
    "analyze": "ANALYZE",
    "load code": "SELECT load_extension('evil')",
    "turn on recursive triggers": "PRAGMA recursive_triggers = ON",
    "make the schema writable": "PRAGMA writable_schema = ON",
    "turn off foreign keys": "PRAGMA foreign_keys = OFF",
    "turn off checks": "PRAGMA ignore_check_constraints = ON",
    "turn off the journal": "PRAGMA journal_mode = OFF",
    "keep erased words in the file": "PRAGMA secure_delete = OFF",
    "trust the schema": "PRAGMA trusted_schema = ON",
    "let readers write": "PRAGMA query_only = OFF",
    "read a pragma": "PRAGMA table_info(submissions)",
    "read a pragma as a table": "SELECT * FROM pragma_table_info('submissions')",
}


@pytest.mark.parametrize("attack", ROUNDABOUT.values(), ids=ROUNDABOUT)
def test_sqlite_site_cannot_go_round(sqlite_copy: Lived, site: sqlite3.Connection, attack: str) -> None:
    before = kept(sqlite_copy.url)
    with pytest.raises(sqlite3.DatabaseError, match=DENIED):
        site.execute(attack)
    assert kept(sqlite_copy.url) == before
    owner = db.owner_engine(sqlite_copy.url)
    migrate.check(owner)
    owner.dispose()


def test_sqlite_site_cannot_save_a_copy(site: sqlite3.Connection, tmp_path: Path) -> None:
    with pytest.raises(sqlite3.DatabaseError, match=DENIED):
        site.execute(f"VACUUM INTO '{tmp_path / 'copy.db'}'")


@pytest.mark.parametrize("table", VAULT)
def test_sqlite_site_may_not_change_rows_even_where_triggers_are_gone(
    stranger: sqlite3.Connection, site: sqlite3.Connection, table: str
) -> None:
    for statement in statements("sqlite"):
        stranger.execute(f"DROP TRIGGER {statement.split()[2]}")
    # But erasure's three columns, which the triggers watch alone.
    watched = [column for column in COLUMNS[table] if table != "submissions" or column not in ERASABLE]
    for change in [f"DELETE FROM {table}", *(f"UPDATE {table} SET {column} = NULL" for column in watched)]:
        with pytest.raises(sqlite3.DatabaseError, match=DENIED):
            site.execute(change)


def test_sqlite_site_is_walled_in_every_session(sqlite_copy: Lived) -> None:
    database = db.connect(sqlite_copy.url)
    for sessions in (database.sessions, database.reading_sessions):
        for attack in ("DROP TRIGGER ledger_write_once_delete", "DELETE FROM ledger", "PRAGMA writable_schema = ON"):
            with sessions() as session, pytest.raises(DatabaseError, match="not authorized"):
                session.execute(text(attack))
    database.dispose()


# W2, PostgreSQL: attacks as the site


def insert_like(table: str, row: str) -> str:
    return f"INSERT INTO {table} SELECT * FROM {table} WHERE {row} "


FORBIDDEN = {
    "update of the words": "UPDATE submissions SET body = 'Obey.' WHERE id = {comment}",
    "update of all": "UPDATE submissions SET author = 'Understudy'",
    "update of a verdict": (
        "UPDATE decisions SET verdict = 'approve', reason_code = NULL WHERE submission_id = {vetoed}"
    ),
    "update to NULL beside an erasure": "UPDATE submissions SET body = NULL WHERE id = {erased}",
    "delete": "DELETE FROM decisions WHERE submission_id = {comment}",
    "truncate": "TRUNCATE ledger",
    "truncate of all": "TRUNCATE submissions CASCADE",
    "replication": "SET session_replication_role = replica",
    "no triggers": "ALTER TABLE submissions DISABLE TRIGGER ALL",
    "one trigger less": "ALTER TABLE submissions DISABLE TRIGGER submissions_write_once",
    "drop a trigger": "DROP TRIGGER submissions_write_once ON submissions",
    "add a trigger": (
        "CREATE TRIGGER a BEFORE UPDATE ON submissions FOR EACH ROW "
        "EXECUTE FUNCTION suppress_redundant_updates_trigger()"
    ),
    "replace the function": (
        "CREATE OR REPLACE FUNCTION write_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$"
    ),
    "replace the eraser": (
        "CREATE OR REPLACE FUNCTION erase_words(target integer) RETURNS void LANGUAGE sql SECURITY DEFINER "
        "AS $$ DELETE FROM submissions $$"
    ),
    "turn the eraser's path": "ALTER FUNCTION erase_words(integer) SET search_path = pg_temp",
    "drop the function": "DROP FUNCTION write_once() CASCADE",
    "rewrite by type": "ALTER TABLE submissions ALTER COLUMN body TYPE text USING 'Obey.'",
    "drop a column": "ALTER TABLE submissions DROP COLUMN nonce",
    "inherit": "CREATE TABLE child () INHERITS (submissions)",
    "create in the schema": "CREATE TABLE elsewhere (id integer)",
    "create a function": "CREATE FUNCTION f() RETURNS integer LANGUAGE sql AS $$ SELECT 1 $$",
    "create a view": "CREATE VIEW v AS SELECT * FROM submissions",
    "create a schema": "CREATE SCHEMA elsewhere",
    "shadow a table": "CREATE TEMP TABLE submissions (id integer, body text)",
    "shadow a table by its schema": "CREATE TABLE pg_temp.submissions (id integer, body text)",
    "rename a table": "ALTER TABLE submissions RENAME TO elsewhere",
    "drop a table": "DROP TABLE decisions CASCADE",
    "take a table": "ALTER TABLE submissions OWNER TO emeritus_app",
    "take the superuser's": "ALTER ROLE emeritus_app SUPERUSER",
    "add a rule": "CREATE RULE r AS ON INSERT TO decisions DO INSTEAD NOTHING",
    "hide rows": "ALTER TABLE decisions ENABLE ROW LEVEL SECURITY",
    "upsert": insert_like("submissions", "id = {comment}") + "ON CONFLICT (id) DO UPDATE SET body = 'Obey.'",
    "upsert of a verdict": (
        insert_like("decisions", "submission_id = {vetoed}")
        + "ON CONFLICT (submission_id) DO UPDATE SET verdict = 'approve', reason_code = NULL"
    ),
    "merge": (
        "MERGE INTO submissions s USING (SELECT {comment} AS id) t ON s.id = t.id WHEN MATCHED THEN "
        "UPDATE SET body = 'Obey.'"
    ),
    "update in a block": "DO $$ BEGIN UPDATE submissions SET body = 'Obey.' WHERE id = {comment}; END $$",
    "update in a query": (
        "WITH u AS (UPDATE submissions SET body = 'Obey.' WHERE id = {comment} RETURNING id) SELECT * FROM u"
    ),
    "lock the words": "SELECT body FROM submissions WHERE id = {comment} FOR UPDATE",
    "turn back the numbers": "SELECT setval('submissions_id_seq', 1)",
    "run a program": "COPY ledger FROM PROGRAM 'echo'",
    "read a file": "COPY ledger FROM '/etc/passwd'",
    "write the catalogue": "UPDATE pg_trigger SET tgenabled = 'D'",
}
REFUSED = {
    # These the site may try; what is there already stops them.
    "insert over a key": (psycopg.errors.UniqueViolation, insert_like("submissions", "id = {comment}")),
    "a second verdict": (psycopg.errors.UniqueViolation, insert_like("decisions", "submission_id = {vetoed}")),
    "a second link after one": (
        psycopg.errors.UniqueViolation,
        "INSERT INTO ledger (number, previous, digest, entry) "
        "SELECT 900, previous, 'd', '' FROM ledger WHERE number = 2",
    ),
    "a negative key": (
        psycopg.errors.CheckViolation,
        "INSERT INTO ledger (number, previous, digest, entry) VALUES (-1, 'p', 'd', '')",
    ),
    "an erasure of what was not withdrawn": (
        psycopg.errors.ForeignKeyViolation,
        "INSERT INTO erasures VALUES ({comment}, now())",
    ),
    "an erasure without its row": (psycopg.errors.RestrictViolation, "SELECT erase_words({comment})"),
    "an erasure of withdrawn words without its row": (
        psycopg.errors.RestrictViolation,
        "SELECT erase_words({withdrawn})",
    ),
}


@pytest.fixture(scope="module")
def app(postgresql_lived: Lived) -> Iterator[db.Database]:
    database = db.connect(postgresql_lived.url)
    yield database
    database.dispose()


def psycopg_error(connection: Connection, attack: str) -> psycopg.Error:
    """Try an attack, expect a refusal, and return what PostgreSQL said."""
    with connection.begin() as transaction:
        with pytest.raises(DatabaseError) as refusal:
            connection.exec_driver_sql(attack)
        transaction.rollback()
    assert isinstance(refusal.value.orig, psycopg.Error)
    return refusal.value.orig


@pytest.mark.parametrize("attack", FORBIDDEN.values(), ids=FORBIDDEN)
def test_postgresql_site_may_not(postgresql_lived: Lived, app: db.Database, attack: str) -> None:
    before = kept(postgresql_lived.url)
    with app.writing.connect() as connection:
        said = psycopg_error(connection, spelled(attack, postgresql_lived.us))
    assert isinstance(said, psycopg.errors.InsufficientPrivilege), said
    assert kept(postgresql_lived.url) == before


@pytest.mark.parametrize(("error", "attack"), REFUSED.values(), ids=REFUSED)
def test_postgresql_refuses(postgresql_lived: Lived, app: db.Database, error: type[psycopg.Error], attack: str) -> None:
    before = kept(postgresql_lived.url)
    with app.writing.connect() as connection:
        said = psycopg_error(connection, spelled(attack, postgresql_lived.us))
    assert isinstance(said, error), said
    assert kept(postgresql_lived.url) == before


def test_postgresql_site_cannot_give_itself_rights(app: db.Database) -> None:
    held = "SELECT bool_or(has_table_privilege(t, p)) FROM unnest(CAST(:vault AS text[])) t, unnest(ARRAY['UPDATE', "
    held += "'DELETE', 'TRUNCATE', 'TRIGGER', 'REFERENCES', 'INSERT WITH GRANT OPTION']) p"
    with app.writing.connect() as connection:
        # PostgreSQL only warns that nothing was granted.
        connection.exec_driver_sql("GRANT UPDATE, DELETE, TRUNCATE, TRIGGER ON submissions TO emeritus_app")
        assert connection.scalar(text(held), {"vault": [*VAULT]}) is False


def test_postgresql_copy_adds_and_never_replaces(postgresql_lived: Lived, app: db.Database) -> None:
    before = kept(postgresql_lived.url)
    raw = app.writing.raw_connection()
    assert isinstance(raw.driver_connection, psycopg.Connection)
    cursor = raw.driver_connection.cursor()
    with pytest.raises(psycopg.errors.UniqueViolation), cursor.copy("COPY ledger FROM STDIN") as copy:
        copy.write_row((2, "p", "d", ""))
    raw.close()
    assert kept(postgresql_lived.url) == before


@pytest.mark.parametrize("table", VAULT)
@pytest.mark.parametrize(
    "how", ["UPDATE {table} SET {column} = {column}", "DELETE FROM {table}", "TRUNCATE {table} CASCADE"]
)
def test_postgresql_triggers_stop_even_the_owner(postgresql_lived: Lived, table: str, how: str) -> None:
    owner = db.owner_engine(postgresql_lived.url)
    with owner.connect() as connection:
        for mode in ("origin", "replica", "local"):
            for column in COLUMNS[table]:
                with connection.begin() as transaction:
                    connection.exec_driver_sql(f"SET LOCAL session_replication_role = {mode}")
                    with pytest.raises(DatabaseError, match="is write-once"):
                        connection.exec_driver_sql(how.format(table=table, column=column))
                    transaction.rollback()
    owner.dispose()


@pytest.mark.parametrize("attack", [attack for name, attack in CHANGES.items() if name.startswith(PLAIN)])
def test_postgresql_triggers_stop_the_owner_too(postgresql_lived: Lived, attack: str) -> None:
    owner = db.owner_engine(postgresql_lived.url)
    with owner.connect() as connection, pytest.raises(DatabaseError, match="is write-once"):
        connection.exec_driver_sql(spelled(attack, postgresql_lived.us))
    owner.dispose()


@pytest.mark.parametrize("escape", ["SET ROLE NONE", "SET ROLE postgres"])
def test_one_login_gets_the_owner_back_but_not_for_another_checkout(postgresql_lived: Lived, escape: str) -> None:
    database = db.connect(postgresql_lived.url)
    with database.writing.connect() as connection:
        connection.exec_driver_sql(escape)
        connection.commit()
        assert connection.scalar(text("SELECT current_user")) == "postgres"  # Known: only two logins are a wall.
    with pytest.raises(db.WrongRole) as refusal, database.writing.connect():
        pass
    assert "emeritus_app" in str(refusal.value)
    with database.writing.connect() as connection:  # That connection was thrown away.
        assert connection.scalar(text("SELECT current_user")) == "emeritus_app"
    database.dispose()


@pytest.mark.parametrize("escape", ["RESET ROLE", "RESET ALL", "DISCARD ALL", "SET SESSION AUTHORIZATION DEFAULT"])
def test_one_login_stays_the_app_through(postgresql_lived: Lived, escape: str) -> None:
    database = db.connect(postgresql_lived.url)
    with database.writing.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(escape)
        assert connection.scalar(text("SELECT current_user")) == "emeritus_app"
    database.dispose()


@pytest.fixture
def other_login(cluster: postgres.Cluster, postgresql_url: str) -> str:
    """The address for a login that owns nothing: DATABASE_URL's, where DATABASE_OWNER_URL is another."""
    owner = create_engine(postgresql_url)
    with owner.begin() as connection:
        connection.exec_driver_sql("DROP ROLE IF EXISTS site")
        connection.exec_driver_sql("CREATE ROLE site LOGIN")
        migrate.grant(connection, login="site")
        name = str(connection.scalar(text("SELECT current_database()")))
    owner.dispose()
    return cluster.url(name, user="site")


def test_two_logins_do_the_sites_work(other_login: str) -> None:
    database = db.connect(other_login)
    vault = Vault(database)
    us = vault.live()
    assert us.comment in vault.released(us.comment)
    assert vault.verify() is None
    database.dispose()


@pytest.mark.parametrize(
    "escape",
    [
        "SET ROLE NONE",
        "RESET ROLE",
        "DISCARD ALL",
        "SET SESSION AUTHORIZATION DEFAULT",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
    ],
)
def test_two_logins_are_a_wall(other_login: str, escape: str) -> None:
    database = db.connect(other_login)
    Vault(database).comment()
    owner = database.writing.url.set(username="postgres").render_as_string()
    before = kept(owner)
    attacks = (
        "UPDATE submissions SET body = 'Obey.'",
        "DROP TRIGGER ledger_write_once ON ledger",
        "TRUNCATE ledger",
        "CREATE TEMP TABLE submissions (id integer)",
        "CREATE TABLE elsewhere (id integer)",
    )
    with database.writing.connect() as connection:
        autocommit = connection.execution_options(isolation_level="AUTOCOMMIT")
        with suppress(DatabaseError):  # Refused, or without effect.
            autocommit.exec_driver_sql(escape)
        assert connection.scalar(text("SELECT current_user")) in {"site", "emeritus_app"}
        for attack in attacks:
            with pytest.raises(DatabaseError) as refusal:
                autocommit.exec_driver_sql(attack)
            assert isinstance(refusal.value.orig, psycopg.errors.InsufficientPrivilege)
    assert kept(owner) == before
    database.dispose()


# W4: erasure, the only exit


@pytest.mark.parametrize("column", ERASABLE)
def test_erasure_takes_the_three_together(lived: Lived, column: str) -> None:
    """One of the three alone would break the check that they go together."""
    owner = db.owner_engine(lived.url)
    with owner.connect() as connection, pytest.raises(DatabaseError, match="is write-once"):
        connection.exec_driver_sql(f"UPDATE submissions SET {column} = NULL WHERE id = {lived.us.comment}")
    owner.dispose()


def test_erasure_can_be_repeated(lived: Lived) -> None:
    owner = db.owner_engine(lived.url)
    with owner.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE submissions SET body = NULL, author = NULL, nonce = NULL WHERE id = {lived.us.erased}"
        )
    owner.dispose()


def test_erasure_leaves_the_words_in_no_byte_of_the_file(sqlite_copy: Lived) -> None:
    database = db.connect(sqlite_copy.url)
    with database.sessions.begin() as session:
        assert session.get_one(Submission, sqlite_copy.us.withdrawn).body == "I take this back."
    database.dispose()
    vault = SimpleNamespace(database=database)
    Vault.erase(vault, sqlite_copy.us.withdrawn)  # type: ignore[arg-type]
    database.dispose()  # The last connection to close checkpoints.
    folder = Path(sqlite_copy.url.removeprefix("sqlite:///")).parent
    assert b"I take this back." not in b"".join(each.read_bytes() for each in folder.iterdir())


# W3: the triggers of a live database


def trigger_names(dialect: str) -> list[tuple[str, str]]:
    """Return each trigger with its table."""
    found = [statement.split() for statement in statements(dialect) if statement.startswith("CREATE TRIGGER")]
    return [(words[2], words[words.index("ON") + 1]) for words in found]


def refused(engine: Engine) -> str:
    with pytest.raises(migrate.SchemaRefused) as refusal:
        migrate.check(engine)
    return str(refusal.value)


def test_serves_from_the_migrated_schema(lived: Lived) -> None:
    database = db.connect(lived.url)
    migrate.check(database.writing)
    migrate.check(database.reading)
    database.dispose()


@pytest.mark.parametrize(("trigger", "table"), trigger_names("sqlite"))
def test_refuses_to_serve_when_an_sqlite_trigger_is_not_its_own(
    sqlite_copy: Lived, stranger: sqlite3.Connection, trigger: str, table: str
) -> None:
    (own,) = stranger.execute("SELECT sql FROM sqlite_master WHERE name = ?", [trigger]).fetchone()
    database = db.connect(sqlite_copy.url)
    migrate.check(database.writing)
    stranger.execute(f"DROP TRIGGER {trigger}")
    assert trigger in refused(database.writing)
    for weaker in (
        own.replace(" BEGIN ", " BEGIN SELECT RAISE(IGNORE) WHERE 1; "),
        own.replace("ABORT", "FAIL"),
        own.replace(f"ON {table} ", f"ON {table} WHEN 0 ") if "WHEN" not in own else own.replace("WHEN", "WHEN 0 AND"),
        own.replace(f" ON {table}", " ON waiting"),
    ):
        assert weaker != own
        stranger.execute(weaker)
        assert trigger in refused(database.writing)
        stranger.execute(f"DROP TRIGGER {trigger}")
    stranger.execute(own)
    migrate.check(database.writing)
    database.dispose()


def test_refuses_to_serve_beside_a_foreign_sqlite_trigger(sqlite_copy: Lived, stranger: sqlite3.Connection) -> None:
    stranger.execute("CREATE TRIGGER evil AFTER INSERT ON comments BEGIN UPDATE comments SET wants_reply = 0; END")
    database = db.connect(sqlite_copy.url)
    assert "evil" in refused(database.writing)
    database.dispose()


@pytest.fixture(scope="module")
def meddler(cluster: postgres.Cluster, postgresql_template: str) -> Iterator[Engine]:
    """The owner of a database whose triggers are changed and put back."""
    engine = db.owner_engine(cluster.create_database("emeritus_meddled", template=postgresql_template))
    yield engine
    engine.dispose()
    cluster.drop_database("emeritus_meddled")


WEAKER = {
    "dropped": [],
    "disabled": ["{own}", "ALTER TABLE {table} DISABLE TRIGGER {trigger}"],
    "for origin only": ["{own}"],
    "for replicas only": ["{own}", "ALTER TABLE {table} ENABLE REPLICA TRIGGER {trigger}"],
    "after": ["{after}", "{always}"],
    "never": ["{never}", "{always}"],
    "another function": ["{other}", "{always}"],
}


@pytest.mark.parametrize("change", WEAKER)
@pytest.mark.parametrize(("trigger", "table"), trigger_names("postgresql"))
def test_refuses_to_serve_when_a_postgresql_trigger_is_not_its_own(
    meddler: Engine, trigger: str, table: str, change: str
) -> None:
    own = next(ddl for ddl in statements("postgresql") if ddl.startswith(f"CREATE TRIGGER {trigger} "))
    always = f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}"
    spellings = {
        "own": own,
        "always": always,
        "table": table,
        "trigger": trigger,
        "after": own.replace(" BEFORE ", " AFTER "),
        "never": own.replace(" EXECUTE ", " WHEN (false) EXECUTE "),
        "other": own.replace("write_once_but_erasure()", "write_once()")
        if "but_erasure" in own
        else own.replace("write_once()", "suppress_redundant_updates_trigger()"),
    }
    migrate.check(meddler)
    drop = f"DROP TRIGGER IF EXISTS {trigger} ON {table}"
    with meddler.begin() as connection:
        for statement in [drop, *(weaker.format(**spellings) for weaker in WEAKER[change])]:
            connection.exec_driver_sql(statement)
    try:
        assert trigger in refused(meddler)
    finally:
        with meddler.begin() as connection:
            for statement in (drop, own, always):
                connection.exec_driver_sql(statement)
    migrate.check(meddler)


MEDDLING = {
    "a trigger on fewer columns": (
        "DROP TRIGGER decisions_write_once ON decisions; CREATE TRIGGER decisions_write_once BEFORE DELETE OR UPDATE "
        "OF submission_id ON decisions FOR EACH ROW EXECUTE FUNCTION write_once(); "
        "ALTER TABLE decisions ENABLE ALWAYS TRIGGER decisions_write_once"
    ),
    "a foreign trigger": (
        "CREATE TRIGGER evil BEFORE INSERT ON comments FOR EACH ROW "
        "EXECUTE FUNCTION suppress_redundant_updates_trigger()"
    ),
    "another body": (
        "CREATE OR REPLACE FUNCTION write_once() RETURNS trigger LANGUAGE plpgsql "
        "SET search_path = public, pg_temp AS $$ BEGIN RETURN NEW; END $$"
    ),
    "no path": "ALTER FUNCTION write_once() RESET search_path",
    "another path": "ALTER FUNCTION write_once_but_erasure() SET search_path = pg_temp, public",
    "the caller's rights": "ALTER FUNCTION erase_words(integer) SECURITY INVOKER",
    "the owner's rights": "ALTER FUNCTION write_once() SECURITY DEFINER",
    "a wider eraser": (
        "CREATE OR REPLACE FUNCTION erase_words(target integer) RETURNS void LANGUAGE sql SECURITY DEFINER "
        "SET search_path = public, pg_temp AS $$ DELETE FROM public.submissions $$"
    ),
    "a foreign function": (
        "CREATE FUNCTION evil() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp "
        "AS $$ TRUNCATE public.ledger $$"
    ),
}


@pytest.mark.parametrize("change", MEDDLING.values(), ids=MEDDLING)
def test_refuses_to_serve_after_meddling_with(postgresql_url: str, change: str) -> None:
    owner = db.owner_engine(postgresql_url)
    migrate.check(owner)
    with owner.begin() as connection:
        for statement in change.split("; ") if "$$" not in change else [change]:
            connection.exec_driver_sql(statement)
    refused(owner)
    owner.dispose()


def test_attacks_of_the_owner_are_seen_by_the_ledger_at_least(lived: Lived) -> None:
    owner = db.owner_engine(lived.url)
    with owner.connect() as connection:
        unlock(connection)
        connection.exec_driver_sql(f"UPDATE submissions SET body = 'Obey.' WHERE id = {lived.us.comment}")
        assert connection.scalar(select(Submission.body).where(Submission.id == lived.us.comment)) == "Obey."
        assert verified(connection) is not None
        connection.rollback()
    owner.dispose()
