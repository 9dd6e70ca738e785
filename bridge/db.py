"""Connections to the two databases we run on, each with its own walls round the vault's words."""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event, make_url, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import Float

from moderation.writeonce import ERASABLE, VAULT

APP_ROLE = "emeritus_app"
"""PostgreSQL: the role the site acts as. It owns nothing and may not change what the vault holds."""
_PRAGMAS = (
    "journal_mode=WAL",
    "foreign_keys=ON",
    "busy_timeout=15000",
    "synchronous=NORMAL",
    "secure_delete=ON",
    "trusted_schema=OFF",
)
_POOL: dict[str, Any] = {"pool_size": 10, "max_overflow": 0, "pool_timeout": 60}
_PARAMETER = re.compile(r"\{([0-9])\}")
_ALLOWED = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
    sqlite3.SQLITE_TRANSACTION,
    sqlite3.SQLITE_SAVEPOINT,
}

# At DEBUG the engine logs every row that it reads, and so readers' words: `hide_parameters` hides what is sent alone.
logging.getLogger("sqlalchemy.engine.Engine").addFilter(lambda record: record.levelno > logging.DEBUG)


class WrongRole(Exception):
    """Raised when a PostgreSQL connection acts as somebody other than the app's role."""

    def __init__(self, role: str) -> None:
        super().__init__(f"The database connection acts as {role!r} instead of {APP_ROLE!r}. Run `emeritus migrate`.")


class Unreadable(Exception):
    """Raised when a plain statement cannot be read, from the error that says why."""


@dataclass(frozen=True)
class Database:
    """Sessions to write with and sessions to read with. Reading sessions cannot write."""

    writing: Engine
    reading: Engine
    sessions: sessionmaker[Session]
    reading_sessions: sessionmaker[Session]
    still_sessions: sessionmaker[Session]
    """They read, and all through one they see one moment of the records, whatever is written meanwhile."""
    plain: Engine
    """Its raw connections read one statement at a time, outside of any transaction."""

    def dispose(self) -> None:
        """Close every pooled connection; a fork must not share one."""
        self.writing.dispose()
        self.reading.dispose()
        self.plain.dispose()

    def read_one(self, statement: str, *parameters: str) -> Sequence[Any] | None:
        """Return the one row of a plain statement, whose parameters are written `{0}`, `{1}`, or None.

        Neither the ORM nor SQLAlchemy's compiler takes part: it is for what every reader asks for. Raises `Unreadable`.
        """
        sign = "?" if self.plain.dialect.name == "sqlite" else "%s"
        order = [int(each) for each in _PARAMETER.findall(statement)]
        told = _PARAMETER.sub(sign, statement)
        given = tuple(parameters[each] for each in order)
        try:
            try:
                return self._read_one(told, given)
            except psycopg.OperationalError:
                # The server was restarted since: the pool's other connections are as dead as this one.
                self.plain.dispose()
                return self._read_one(told, given)
        except (SQLAlchemyError, sqlite3.Error, psycopg.Error, WrongRole) as error:
            # The drivers' own errors, for no session translates them, and the pool's.
            raise Unreadable from error

    def _read_one(self, told: str, given: tuple[str, ...]) -> Sequence[Any] | None:
        raw = self.plain.raw_connection()
        try:
            cursor = raw.cursor()
            cursor.execute(told, given)
            row: Sequence[Any] | None = cursor.fetchone()
            cursor.close()
            return row
        finally:
            raw.close()


def connect(url: str) -> Database:
    """Return the site's database. Nothing is opened yet."""
    if make_url(url).get_backend_name() == "sqlite":
        writing, reading = _sqlite(url, reads_only=False), _sqlite(url, reads_only=True)
        still = reading  # Which it does anyway.
        plain = reading
    else:
        writing = _postgresql(url)
        reading = writing.execution_options(postgresql_readonly=True)
        still = reading.execution_options(isolation_level="REPEATABLE READ")
        plain = _postgresql_plain(url)
    return Database(
        writing,
        reading,
        sessionmaker(writing, expire_on_commit=False),
        sessionmaker(reading, expire_on_commit=False),
        sessionmaker(still, expire_on_commit=False),
        plain,
    )


def owner_engine(url: str) -> Engine:
    """Return the engine that migrations use: the owner's, without the walls."""
    if make_url(url).get_backend_name() != "sqlite":
        engine = create_engine(url, hide_parameters=True)
        event.listen(engine, "handle_error", _without_values)
        return engine
    engine = create_engine(url, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _prepare(raw: sqlite3.Connection, _record: object) -> None:
        _settle(raw)

    event.listen(engine, "begin", _begin_immediate)
    return engine


def write_anew(url: str, tables: Iterable[str]) -> bool:
    """Write *tables* anew on the disk, so that no file of theirs holds what was deleted from them; return whether so.

    False if something that still reads them, or may not be waited for, kept old pages alive: then it is to be tried
    again. *url* is the owner's. What a disk, a backup or PostgreSQL's write-ahead log keeps is out of reach from here.
    """
    if make_url(url).get_backend_name() == "sqlite":
        return _write_sqlite_anew(make_url(url).database or "")
    return _write_postgresql_anew(url, tables)


class database_time(FunctionElement[float]):
    """Seconds since 1970 by the database's own clock: leases must not depend on a worker's."""

    type = Float()
    inherit_cache = True


@compiles(database_time, "sqlite")
def _sqlite_time(_element: object, _compiler: object, **_: object) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(database_time, "postgresql")
def _postgresql_time(_element: object, _compiler: object, **_: object) -> str:
    return "extract(epoch FROM clock_timestamp())::double precision"


def is_busy(error: OperationalError) -> bool:
    """Whether the database is only locked, restarting or full: worth asking again, so the answer is 503."""
    return True if error.connection_invalidated else "locked" in str(error.orig) or "full" in str(error.orig)


def _sqlite(url: str, *, reads_only: bool) -> Engine:
    # A writer's `BEGIN IMMEDIATE` waits for its turn; a deferred read-then-write would fail at once instead.
    engine = create_engine(url, hide_parameters=True, **_POOL)

    @event.listens_for(engine, "connect")
    def _prepare(raw: sqlite3.Connection, _record: object) -> None:
        _settle(raw)
        if reads_only:
            raw.execute("PRAGMA query_only=ON")
        raw.set_authorizer(_authorize)  # Last: it denies PRAGMA.

    event.listen(engine, "begin", _begin_deferred if reads_only else _begin_immediate)
    return engine


def _settle(raw: sqlite3.Connection) -> None:
    raw.isolation_level = None  # We say BEGIN; DDL becomes transactional too.
    for pragma in _PRAGMAS:
        raw.execute(f"PRAGMA {pragma}")


def _write_sqlite_anew(path: str) -> bool:
    raw = sqlite3.connect(path)
    try:
        _settle(raw)
        raw.execute("PRAGMA busy_timeout=5000")
        # SECURE_DELETE overwrites what is deleted where it stands; copies that a page split left behind stay until the
        # whole file is written anew. Then the log, where all of it stood once more, is emptied.
        raw.execute("VACUUM")
        busy, _, _ = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "full" in str(error):
            return False
        raise
    finally:
        raw.close()
    return not busy


def _write_postgresql_anew(url: str, tables: Iterable[str]) -> bool:
    still_seen: list[str] = []
    engine = create_engine(url, hide_parameters=True, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    event.listen(engine, "handle_error", _without_values)
    with engine.connect() as connection:
        raw: psycopg.Connection[Any] = connection.connection.dbapi_connection  # type: ignore[assignment]
        raw.add_notice_handler(lambda notice: still_seen.append((notice.message_detail or "").split(" ")[0]))
        # Everybody waits behind this lock while it waits, so it gives up soon.
        connection.exec_driver_sql("SET lock_timeout = '2s'")
        name = connection.dialect.identifier_preparer.quote
        for table in tables:
            still_seen.clear()
            try:
                # A plain VACUUM leaves the bytes of what it removes in their pages.
                connection.exec_driver_sql(f"VACUUM (FULL, VERBOSE) public.{name(table)}")
            except OperationalError:
                return False
            # Told in words of the server's language, but first comes how many dead rows somebody may still see; a
            # table that is not the owner's is skipped, and nothing is told of it.
            counted = [each for each in still_seen if each.isdecimal()]
            if not counted or any(int(each) for each in counted):
                return False
    return True


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_deferred(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _authorize(action: int, one: str | None, two: str | None, database: str | None, _inner: str | None) -> int:
    """Deny DDL, ATTACH, PRAGMA and TEMP, and on the vault every change but erasure's three columns."""
    if action in _ALLOWED:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_INSERT and database != "temp" and not (one or "").startswith("sqlite_"):
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_UPDATE and (one not in VAULT or (one == "submissions" and two in ERASABLE)):
        return sqlite3.SQLITE_OK if not (one or "").startswith("sqlite_") else sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_DELETE and one not in VAULT and not (one or "").startswith("sqlite_"):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def _postgresql(url: str) -> Engine:
    # A role set by an option of the connection survives the pool's rollback; SET ROLE in a listener does not.
    options = f"-c role={APP_ROLE} -c search_path=public,pg_temp -c idle_in_transaction_session_timeout=120000"
    engine = create_engine(url, hide_parameters=True, pool_pre_ping=True, connect_args={"options": options}, **_POOL)

    @event.listens_for(engine, "checkout")
    def _still_the_app(raw: Any, _record: object, _proxy: object) -> None:
        with raw.cursor() as cursor:
            role = cursor.execute("SELECT current_user").fetchone()[0]
        raw.rollback()
        if role != APP_ROLE:
            raise WrongRole(role)

    event.listen(engine, "handle_error", _without_values)
    return engine


def _postgresql_plain(url: str) -> Engine:
    """Return an engine for plain statements that only read: its role is looked at once for each connection."""
    options = f"-c role={APP_ROLE} -c search_path=public,pg_temp -c default_transaction_read_only=on"
    connect: dict[str, Any] = {"options": options, "autocommit": True}
    engine = create_engine(url, hide_parameters=True, pool_reset_on_return=None, connect_args=connect, **_POOL)

    @event.listens_for(engine, "connect")
    def _is_the_app(raw: Any, _record: object) -> None:
        with raw.cursor() as cursor:
            role = cursor.execute("SELECT current_user").fetchone()[0]
        if role != APP_ROLE:
            raw.close()  # The pool closes only what it has taken.
            raise WrongRole(role)

    return engine


def _without_values(context: ExceptionContext) -> None:
    """Keep only the first line of what PostgreSQL says: its DETAIL quotes the row, which `hide_parameters` misses."""
    said, told = context.original_exception, context.sqlalchemy_exception
    if isinstance(said, psycopg.Error) and said.diag.message_primary:
        whole, first = str(said), said.diag.message_primary
        said.args = (first,)
        if told is not None:
            told.args = (str(told.args[0]).replace(whole, first), *told.args[1:])


def one_word(session: Session) -> str:
    """Ask the database for a word, to know that it answers."""
    return str(session.scalar(text("SELECT 'ready'")))
