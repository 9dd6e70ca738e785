"""Run migrations on the connection that `bridge.migrate` hands over, and lose no trigger on the way."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

import bridge.records  # noqa: F401
import moderation.gate  # noqa: F401  (Loading both floors puts all their tables into the metadata.)
from moderation.base import Base


def triggers(connection: Connection) -> set[str]:
    """Return the names of the triggers that the database has now."""
    if connection.dialect.name == "sqlite":
        query = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    else:
        query = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
    return set(connection.scalars(text(query)))


connection: Connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=False, transactional_ddl=True)
with context.begin_transaction():
    before = triggers(connection)
    context.run_migrations()
    # Alembic's batch mode copies a table and drops its triggers with the old one.
    lost = before - triggers(connection)
    if lost:
        raise RuntimeError(f"a migration dropped triggers: {', '.join(sorted(lost))}")
