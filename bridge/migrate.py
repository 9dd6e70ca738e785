"""Bring a database to this version's schema, and hold a database against it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, make_url, text

from bridge import db
from bridge.settings import Settings
from moderation import guard
from moderation.base import Base
from moderation.writeonce import VAULT

WORDS = {
    "submissions": ("nonce", "author", "body"),
    "reasons": ("salt", "reason", "told"),
    "appeals": ("words",),
    "comments": ("email", "passage"),
    "renderings": ("html",),
    "generations": ("request", "request_digest", "response", "error", "note"),
    "reply_requests": ("why",),
    "reports": ("words", "told"),
    "signals": ("why",),
    "idempotency_keys": ("content_digest",),
    "outgoing": ("sealed",),
    "addresses": ("sealed",),
    "stored_pages": ("body",),
    "stored_letters": ("deflated",),
    "mentions": ("source", "target", "why"),
}
"""What erasure empties, by table: PostgreSQL makes no statistics of it."""
_SCRIPTS = Path(__file__).parent / "migrations"


class SchemaRefused(Exception):
    """Raised when the database is not what this version can serve from. One sentence, with what to do."""


def migrate(settings: Settings) -> None:
    """Run what migrations are missing, then give the app's role its rights. Running it twice changes nothing.

    Raises `settings.SettingsRefused` where the data folder cannot be made.
    """
    if make_url(settings.database_owner).get_backend_name() == "sqlite":
        settings.make_data()
    engine = db.owner_engine(settings.database_owner)
    try:
        with engine.begin() as connection:
            upgrade(connection)
        if engine.dialect.name == "postgresql":
            with engine.begin() as connection:
                grant(connection, login=make_url(settings.database).username)
    finally:
        engine.dispose()


def upgrade(connection: Connection, *, to: str = "head") -> None:
    """Run what migrations are missing, in the caller's transaction; *to* a revision only, for tests."""
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def grant(connection: Connection, *, login: str | None) -> None:
    """PostgreSQL: make the app's role, with what it needs and no more; let *login* act as it; sample no words."""
    for statement in _grants(connection, login):
        connection.exec_driver_sql(statement)


def check(engine: Engine) -> None:
    """Hold the schema against the migrations. Raises `SchemaRefused` if one is missing or a trigger is not its own."""
    if engine.dialect.name == "sqlite" and not Path(engine.url.database or "").is_file():
        # Asked before connecting, which would make an empty file.
        raise SchemaRefused("There is no database yet. Run `emeritus migrate` first.")
    with engine.connect() as connection:
        here = revision(connection)
        newest = head()
        if here != newest:
            if here is None:
                raise SchemaRefused("The database is empty. Run `emeritus migrate` first.")
            raise SchemaRefused(
                f"The database is at migration {here}, and this version needs {newest}. Run `emeritus migrate`."
            )
        wrong = guard.unlike_the_migrations(connection)
        if wrong:
            raise SchemaRefused(f"The write-once triggers are not as they should be: {wrong[0]}. Not serving.")


def revision(connection: Connection) -> str | None:
    """Return the migration that the database is at, or None if it has none. Asks no PRAGMA: the app may not."""
    if connection.dialect.name == "sqlite":
        kept = connection.scalar(text("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"))
    else:
        kept = connection.scalar(text("SELECT to_regclass('public.alembic_version')"))
    return connection.scalar(text("SELECT version_num FROM alembic_version")) if kept else None


def head() -> str:
    """Return the newest migration's revision."""
    return ScriptDirectory(str(_SCRIPTS)).get_current_head() or ""


def _grants(connection: Connection, login: str | None) -> Iterator[str]:
    name = connection.dialect.identifier_preparer.quote
    database = name(connection.scalar(text("SELECT current_database()")) or "")
    exists = connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": db.APP_ROLE})
    if not exists:
        yield f"CREATE ROLE {db.APP_ROLE} NOLOGIN"
    me = str(connection.scalar(text("SELECT current_user")))
    for member in {me, login or me}:
        yield f"GRANT {db.APP_ROLE} TO {name(member)} WITH SET TRUE"
    yield f"REVOKE TEMPORARY, CREATE ON DATABASE {database} FROM PUBLIC"
    yield "REVOKE CREATE ON SCHEMA public FROM PUBLIC"
    yield f"GRANT USAGE ON SCHEMA public TO {db.APP_ROLE}"
    for table in Base.metadata.tables:
        rights = "SELECT, INSERT" if table in VAULT else "SELECT, INSERT, UPDATE, DELETE"
        yield f"REVOKE ALL ON TABLE {name(table)} FROM {db.APP_ROLE}"
        yield f"GRANT {rights} ON TABLE {name(table)} TO {db.APP_ROLE}"
    for table, columns in WORDS.items():
        # ANALYZE keeps samples of what a column holds, out of erasure's reach.
        yield f"ALTER TABLE {table} " + ", ".join(f"ALTER COLUMN {column} SET STATISTICS 0" for column in columns)
    yield f"GRANT SELECT ON TABLE alembic_version TO {db.APP_ROLE}"
    yield f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {db.APP_ROLE}"
    yield f"GRANT EXECUTE ON FUNCTION erase_words(integer) TO {db.APP_ROLE}"
