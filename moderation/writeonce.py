"""The triggers that make the vault write-once, as migration 0001 runs them. Frozen: a change is a new migration.

SQLite's delete triggers do not fire for REPLACE unless `recursive_triggers` is on, so an insert whose key or unique
value is taken is refused before REPLACE can delete anything. PostgreSQL's row triggers miss TRUNCATE, and replication
mode skips ordinary triggers, hence the statement triggers and ENABLE ALWAYS.
"""

from __future__ import annotations

VAULT = {
    "submissions": ("id", "digest", "supersedes"),
    "decisions": ("submission_id",),
    "proposals": ("id",),
    "withdrawals": ("submission_id",),
    "erasures": ("submission_id",),
    "ledger": ("number", "previous", "digest"),
}
"""The write-once tables, each with every column whose value is unique in it."""
ERASABLE = ("nonce", "author", "body")
_KEPT = ("id", "kind", "in_answer_to", "digest", "supersedes", "submitted_at")


def statements(dialect: str) -> list[str]:
    """Return the DDL for *dialect* ("sqlite", "postgresql"), in order; without % and : so that any runner takes it."""
    return _sqlite() if dialect == "sqlite" else _postgresql()


def _sqlite() -> list[str]:
    ddl = []
    for table, unique in VAULT.items():
        refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is write-once'); END"
        taken = " OR ".join(f"EXISTS (SELECT 1 FROM {table} WHERE {column} = NEW.{column})" for column in unique)
        when = ""
        if table == "submissions":
            erased = " AND ".join(f"NEW.{column} IS NULL" for column in ERASABLE)
            kept = " AND ".join(f"NEW.{column} IS OLD.{column}" for column in _KEPT)
            when = f"WHEN NOT ({erased} AND {kept} AND EXISTS (SELECT 1 FROM erasures WHERE submission_id = OLD.id)) "
        ddl += [
            f"CREATE TRIGGER {table}_write_once_update BEFORE UPDATE ON {table} {when}{refuse}",
            f"CREATE TRIGGER {table}_write_once_delete BEFORE DELETE ON {table} {refuse}",
            f"CREATE TRIGGER {table}_write_once_insert BEFORE INSERT ON {table} WHEN {taken} {refuse}",
        ]
    return ddl


def _postgresql() -> list[str]:
    kept = " AND ".join(f"NEW.{column} IS NOT DISTINCT FROM OLD.{column}" for column in _KEPT)
    erased = " AND ".join(f"NEW.{column} IS NULL" for column in ERASABLE)
    raising = "RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is write-once', ERRCODE = 'restrict_violation';"
    ddl = [
        "CREATE FUNCTION write_once() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS "
        f"$$ BEGIN {raising} END $$",
        "CREATE FUNCTION write_once_but_erasure() RETURNS trigger LANGUAGE plpgsql "
        "SET search_path = public, pg_temp AS "
        f"$$ BEGIN IF TG_OP = 'UPDATE' AND {erased} AND {kept} "
        "AND EXISTS (SELECT 1 FROM public.erasures WHERE submission_id = OLD.id) THEN RETURN NEW; END IF; "
        f"{raising} END $$",
        "CREATE FUNCTION erase_words(target integer) RETURNS void LANGUAGE sql SECURITY DEFINER "
        "SET search_path = public, pg_temp AS "
        "$$ UPDATE public.submissions SET nonce = NULL, author = NULL, body = NULL WHERE id = target $$",
        "REVOKE ALL ON FUNCTION erase_words(integer) FROM PUBLIC",
    ]
    for table in VAULT:
        function = "write_once_but_erasure" if table == "submissions" else "write_once"
        ddl += [
            f"CREATE TRIGGER {table}_write_once BEFORE UPDATE OR DELETE ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION {function}()",
            f"CREATE TRIGGER {table}_write_once_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION write_once()",
            f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_write_once",
            f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_write_once_truncate",
        ]
    return ddl
