"""The ledger: what it tells, and that no row of the vault can be changed, removed, added or swapped behind its back.

The attacker here owns the database: triggers, foreign keys and checks are down.
"""

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import rfc8785
from ground.vault import Vault, tables, unlock, verified
from sqlalchemy import Connection, Table, insert, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy.orm import Session

from bridge import db
from moderation import ledger
from moderation.base import Base
from moderation.digest import commitment
from moderation.types import Digest, Kind

LEDGER = Base.metadata.tables["ledger"]
SUBMISSIONS = Base.metadata.tables["submissions"]
WITHOUT_ENTRY = {"supersedes", "submitted_at"}
"""What no digest binds, and an entry only once words were decided on or taken back."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def lived(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A vault in which everything happened once, shared: what a test does to it is rolled back."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'emeritus.db'}"
    else:
        url = request.getfixturevalue("cluster").create_database("emeritus_ledger")
    request.getfixturevalue("prepare_database")(url)
    database = db.connect(url)
    owner = db.owner_engine(url)
    vault = Vault(database)
    yield SimpleNamespace(vault=vault, us=vault.live(), owner=owner)
    database.dispose()
    owner.dispose()


@pytest.fixture
def open_vault(lived: SimpleNamespace) -> Iterator[Connection]:
    with lived.owner.connect() as connection:
        unlock(connection)
        yield connection
        connection.rollback()


def rows(connection: Connection, table: Table) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns)).mappings()]


def this(table: Table, row: dict[str, Any]) -> Any:
    (key,) = table.primary_key.columns
    return key == row[key.name]


def other(table: Table, column: str, value: Any) -> Any:
    """Return a value that *column* could hold just as well."""
    if column in {"kind", "verdict", "taken_back_by"}:
        choices = {"kind": ("comment", "reply"), "verdict": ("approve", "reject"), "taken_back_by": ("author", "law")}
        return next(choice for choice in choices[column] if choice != value)
    kind = table.columns[column].type.python_type if column not in TIMES else datetime
    if kind is datetime:
        return value + timedelta(microseconds=1)
    if kind is int:
        return (value or 0) + 1000
    return "x" if value is None else value[:-1] + ("0" if value[-1:] != "0" else "1")


TIMES = {column.name for table in tables() for column in table.columns if column.name.endswith("_at")}


def entry(number: int, previous: str, **facts: Any) -> dict[str, Any]:
    """Return a well-formed link."""
    words = rfc8785.dumps({"number": number, "previous": previous, **facts})
    return {
        "number": number,
        "previous": previous,
        "digest": hashlib.sha256(words).hexdigest(),
        "entry": words.decode(),
    }


def test_holds_while_nobody_meddles(lived: SimpleNamespace) -> None:
    with lived.vault.database.reading_sessions() as session:
        holding, broken = ledger.verify(session)
        assert broken is None
        assert holding == len(ledger.entries(session))


def test_holds_on_an_empty_database(sqlite_url: str) -> None:
    database = db.connect(sqlite_url)
    with database.reading_sessions() as session:
        assert ledger.verify(session) == (0, None)
    database.dispose()


def test_tells_everything_in_order(lived: SimpleNamespace) -> None:
    told = lived.vault.told()
    assert told[:5] == ["decision", "decision", "proposal", "decision", "decision"]
    assert told[-6:] == ["withdrawal", "erasure", "withdrawal", "erasure", "decision", "proposal"]
    counted = [told.count(what) for what in ("decision", "proposal", "lapse", "withdrawal", "erasure")]
    assert counted == [10, 4, 1, 3, 2]


def test_links_each_entry_to_the_one_before_by_canonical_bytes(lived: SimpleNamespace) -> None:
    with lived.vault.database.reading_sessions() as session:
        entries = ledger.entries(session)
        later = ledger.entries(session, after=3, limit=2)
    assert [each.number for each in later] == [4, 5]
    previous = "0" * 64
    for number, each in enumerate(entries, start=1):
        told = json.loads(each.entry)
        assert (each.number, each.previous) == (told["number"], told["previous"]) == (number, previous)
        assert each.entry == json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert each.digest == hashlib.sha256(each.entry.encode()).hexdigest()
        previous = each.digest


def test_holds_no_word_that_anybody_wrote(lived: SimpleNamespace) -> None:
    with lived.vault.database.reading_sessions() as session:
        told = " ".join(each.entry for each in ledger.entries(session))
    for words in ("Smith", "advertising", "private person", "Reader", "Understudy", "dream", "Another time"):
        assert words not in told


@pytest.mark.parametrize("table", tables(), ids=lambda table: table.name)
def test_finds_a_change_in_any_column_of_any_row(lived: SimpleNamespace, open_vault: Connection, table: Table) -> None:
    assert verified(open_vault) is None
    settled = {*open_vault.scalars(select(Base.metadata.tables["decisions"].c.submission_id))}
    settled |= {*open_vault.scalars(select(Base.metadata.tables["withdrawals"].c.submission_id))}
    missed, tried = [], 0
    for row in rows(open_vault, table):
        for column in [each.name for each in table.columns]:
            if table is SUBMISSIONS and column in WITHOUT_ENTRY and row["id"] not in settled:
                continue
            change = update(table).where(this(table, row)).values({column: other(table, column, row[column])})
            with open_vault.begin_nested() as savepoint:
                assert open_vault.execute(change).rowcount == 1
                tried += 1
                if verified(open_vault) is None:
                    missed.append((row, column))
                savepoint.rollback()
    assert missed == []
    assert tried >= len(table.columns) * 2
    assert verified(open_vault) is None


@pytest.mark.parametrize("table", tables(), ids=lambda table: table.name)
def test_finds_that_any_row_is_gone(open_vault: Connection, table: Table) -> None:
    for row in rows(open_vault, table):
        with open_vault.begin_nested() as savepoint:
            assert open_vault.execute(delete_from(table).where(this(table, row))).rowcount == 1
            assert verified(open_vault) is not None, row
            savepoint.rollback()


@pytest.mark.parametrize("table", tables(), ids=lambda table: table.name)
def test_finds_that_two_rows_changed_places(open_vault: Connection, table: Table) -> None:
    (key,) = table.primary_key.columns
    first, *others = rows(open_vault, table)
    for second in others:
        with open_vault.begin_nested() as savepoint:
            for old, new in ((first[key.name], 10**6), (second[key.name], first[key.name]), (10**6, second[key.name])):
                open_vault.execute(update(table).where(key == old).values({key.name: new}))
            assert verified(open_vault) is not None, second
            savepoint.rollback()


@pytest.mark.parametrize("name", ["decisions", "proposals", "withdrawals", "erasures"])
def test_finds_a_row_that_was_slipped_in(lived: SimpleNamespace, open_vault: Connection, name: str) -> None:
    table = Base.metadata.tables[name]
    (key,) = table.primary_key.columns
    open_vault.execute(insert(table).values({**rows(open_vault, table)[0], key.name: lived.us.pending}))
    assert verified(open_vault) is not None


def test_finds_a_submission_that_was_slipped_in_with_a_digest_that_fits(
    lived: SimpleNamespace, open_vault: Connection
) -> None:
    row = next(row for row in rows(open_vault, SUBMISSIONS) if row["id"] == lived.us.comment)
    words = {"nonce": "0" * 32, "author": "Reader", "body": "I never wrote this."}
    digest = commitment(kind=Kind.COMMENT, in_answer_to=Digest(row["in_answer_to"]), **words)
    slipped_in = {**row, **words, "id": 999, "digest": digest, "supersedes": None}
    open_vault.execute(insert(SUBMISSIONS).values(slipped_in))
    assert verified(open_vault) is not None


def test_finds_words_that_came_back_after_their_erasure(lived: SimpleNamespace, open_vault: Connection) -> None:
    back = update(SUBMISSIONS).where(SUBMISSIONS.c.id == lived.us.erased)
    open_vault.execute(back.values(nonce="0" * 32, author="Reader", body="My name is Bob Smith."))
    assert verified(open_vault) is not None


def test_finds_decided_words_put_back_on_the_desk(lived: SimpleNamespace, open_vault: Connection) -> None:
    waiting = Base.metadata.tables["waiting"]
    open_vault.execute(insert(waiting).values(submission_id=lived.us.rejected, kind="comment", tray="main"))
    assert verified(open_vault) is not None


def test_finds_approved_words_that_were_replaced_with_their_digest(
    lived: SimpleNamespace, open_vault: Connection
) -> None:
    row = next(row for row in rows(open_vault, SUBMISSIONS) if row["id"] == lived.us.comment)
    digest = commitment(
        kind=Kind.COMMENT, nonce=row["nonce"], author=row["author"], in_answer_to=row["in_answer_to"], body="Obey."
    )
    decisions = Base.metadata.tables["decisions"]
    where = SUBMISSIONS.c.id == lived.us.comment
    open_vault.execute(update(SUBMISSIONS).where(where).values(body="Obey.", digest=digest))
    open_vault.execute(
        update(decisions).where(decisions.c.submission_id == lived.us.comment).values(digest_seen=digest)
    )
    assert verified(open_vault) is not None


@pytest.mark.parametrize(
    "forged",
    [
        {"type": "decision", "submission": 999, "at": "2026-11-24T00:00:00.000000Z"},
        {"type": "lapse", "submission": 999, "proposal": 999, "at": "2026-11-24T00:00:00.000000Z"},
        {"type": "lapse", "submission": 1, "proposal": 1, "at": "2026-11-24T00:00:00.000000Z"},
        {"type": "erasure"},
        {"type": "nonsense", "submission": 1},
        {},
    ],
    ids=str,
)
def test_finds_a_link_that_was_forged_onto_the_end(open_vault: Connection, forged: dict[str, Any]) -> None:
    last = rows(open_vault, LEDGER)[-1]
    open_vault.execute(insert(LEDGER).values(entry(last["number"] + 1, last["digest"], **forged)))
    assert verified(open_vault) is not None


@pytest.mark.parametrize("words", ["", "{", "[]", "null", '"x"', '{"number":1.50}', '{ "number":1}', "[" * 5000])
def test_finds_an_entry_that_is_no_canonical_form_though_its_hash_fits(open_vault: Connection, words: str) -> None:
    last = rows(open_vault, LEDGER)[-1]
    digest = hashlib.sha256(words.encode()).hexdigest()
    open_vault.execute(update(LEDGER).where(LEDGER.c.number == last["number"]).values(entry=words, digest=digest))
    broken = verified(open_vault)
    assert broken is not None
    assert broken.what == "is not in canonical form"


def test_finds_a_chain_that_was_rewritten_to_say_something_else(lived: SimpleNamespace, open_vault: Connection) -> None:
    links = [json.loads(row["entry"]) for row in rows(open_vault, LEDGER)]
    vetoed = next(told for told in links if told["type"] == "decision" and told["verdict"] == "reject")
    vetoed["code"] = "off_topic"
    open_vault.execute(delete_from(LEDGER))
    previous = "0" * 64
    for told in links:
        told.pop("previous")
        link = entry(told.pop("number"), previous, **told)
        open_vault.execute(insert(LEDGER).values(link))
        previous = link["digest"]
    broken = verified(open_vault)
    assert broken is not None
    assert "is not what ledger entry" in broken.what


def test_finds_a_tail_that_was_cut(open_vault: Connection) -> None:
    for number in range(len(rows(open_vault, LEDGER)), 1, -1):
        open_vault.execute(delete_from(LEDGER).where(LEDGER.c.number == number))
        assert verified(open_vault) is not None


def test_says_how_many_entries_hold_before_the_break(lived: SimpleNamespace, open_vault: Connection) -> None:
    open_vault.execute(update(LEDGER).where(LEDGER.c.number == 5).values(entry="{}"))
    with Session(open_vault, join_transaction_mode="create_savepoint") as session:
        holding, broken = ledger.verify(session)
    assert holding == 4
    assert broken == ledger.Broken("ledger entry 5", "was changed: its bytes do not hash to its digest")
