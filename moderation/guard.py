"""Hold the triggers of a live database against those of the migrations."""

from __future__ import annotations

import re

from sqlalchemy import Connection, text

from moderation import writeonce


def unlike_the_migrations(connection: Connection) -> list[str]:
    """Return what differs, in words, the first thing first; an empty list if every trigger is the migration's own."""
    found = _sqlite(connection) if connection.dialect.name == "sqlite" else _postgresql(connection)
    wanted = {_squeezed(s) for s in writeonce.statements(connection.dialect.name) if not s.startswith("REVOKE")}
    missing, foreign = wanted - found, found - wanted
    return [f"missing or changed: {_named(s)}" for s in sorted(missing)] + [
        f"not ours: {_named(s)}" for s in sorted(foreign)
    ]


def _sqlite(connection: Connection) -> set[str]:
    return {_squeezed(sql) for sql in connection.scalars(text("SELECT sql FROM sqlite_master WHERE type = 'trigger'"))}


def _postgresql(connection: Connection) -> set[str]:
    """Write what the catalogue says in the words of `writeonce`, so that the two can be compared as text."""
    found = set()
    triggers = connection.execute(
        text(
            "SELECT c.relname, t.tgname, t.tgenabled::text, pg_get_triggerdef(t.oid) FROM pg_trigger t "
            "JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE NOT t.tgisinternal AND n.nspname = 'public'"
        )
    )
    for table, name, enabled, definition in triggers:
        # The whole definition: a WHEN or a list of columns would make a trigger look the other way.
        found.add(definition.replace(" ON public.", " ON ", 1).replace("DELETE OR UPDATE", "UPDATE OR DELETE", 1))
        if enabled == "A":
            found.add(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")
    functions = connection.execute(
        text(
            "SELECT p.proname, pg_get_function_arguments(p.oid) AS args, pg_get_function_result(p.oid) AS result, "
            "l.lanname, p.prosecdef, array_to_string(p.proconfig, ',') AS config, p.prosrc FROM pg_proc p "
            "JOIN pg_language l ON l.oid = p.prolang JOIN pg_namespace n ON n.oid = p.pronamespace "
            "WHERE n.nspname = 'public'"
        )
    )
    for name, arguments, result, language, definer, config, source in functions:
        found.add(
            f"CREATE FUNCTION {name}({arguments}) RETURNS {result} LANGUAGE {language} "
            + ("SECURITY DEFINER " if definer else "")
            + f"SET {(config or '').replace('=', ' = ', 1)} AS $${source}$$"
        )
    return found


def _squeezed(sql: str) -> str:
    return re.sub(r"\s+", " ", sql).strip()


def _named(statement: str) -> str:
    return " ".join(statement.split(" AS ")[0].split(" WHEN ")[0].split(" BEFORE ")[0].split()[1:])
