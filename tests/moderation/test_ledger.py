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
from ground.vault import LONG, Vault, tables, unlock, verified
from sqlalchemy import Connection, Table, insert, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy.orm import Session

from bridge import db
from moderation import ledger, moderators, takedowns
from moderation.base import Base
from moderation.digest import commitment
from moderation.types import AccessEvent, Digest, Kind, ModeratorId

LEDGER = Base.metadata.tables["ledger"]
HEAD = Base.metadata.tables["ledger_head"]
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
    us = vault.live()
    take_down(vault, us)
    yield SimpleNamespace(vault=vault, us=us, owner=owner)
    database.dispose()
    owner.dispose()


def take_down(vault: Vault, us: SimpleNamespace) -> None:
    """Have released words taken down in every way, and somebody sign in, change a rule and lose a role."""
    with vault.database.sessions.begin() as session:
        us.admin = moderators.add(session, "Dora", "admin")

    def act(submission_id: int, moderator: ModeratorId, **how: Any) -> None:
        with vault.database.sessions.begin() as session:
            seen, why = vault.digest(submission_id), {"code": "personal_data", "reason": LONG}
            takedowns.take_down(session, submission_id, moderator=moderator, seen=seen, **{**why, **how})

    us.comment_down = vault.comment("It is private.")
    us.reply_down, us.kept_reply, us.stays, us.contested = [vault.reply(f"Reply {n}.") for n in range(4)]
    for each in (us.comment_down, us.reply_down, us.kept_reply, us.stays, us.contested):
        vault.approve(each)
    act(us.comment_down, us.admin)
    act(us.reply_down, us.admin)
    act(us.reply_down, vault.people[1], reason=None)
    act(us.kept_reply, us.admin)
    with vault.database.sessions.begin() as session:
        takedowns.keep(session, us.kept_reply, moderator=vault.people[2])
    act(us.stays, us.admin, lapse=timedelta(0))
    with vault.database.sessions.begin() as session:
        assert takedowns.lapse_takedowns(session) == [us.stays]
        ledger.record_access(session, AccessEvent.SIGNED_IN, moderator=us.admin)
        ledger.record_access(session, AccessEvent.ROLE_CHANGED, moderator=vault.people[0], by=us.admin)
    act(us.contested, us.admin)


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


UNIQUE = {"digest", "supersedes", "previous"}
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
    whole = lived.vault.told()
    told = whole[:20]
    assert told[:5] == ["decision", "decision", "proposal", "decision", "decision"]
    assert told[-6:] == ["withdrawal", "erasure", "withdrawal", "erasure", "decision", "proposal"]
    counted = [told.count(what) for what in ("decision", "proposal", "lapse", "withdrawal", "erasure")]
    assert counted == [10, 4, 1, 3, 2]
    taken_down = [what for what in whole[20:] if what != "decision"]
    assert taken_down == [
        *("withdrawal", "proposal", "withdrawal", "proposal", "kept", "proposal", "lapse"),
        *("access", "access", "proposal"),
    ]


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
            emptied = [None] if table.columns[column].nullable and row[column] is not None else []
            for value in [other(table, column, row[column]), *emptied]:
                with open_vault.begin_nested() as savepoint:
                    change = update(table).where(this(table, row)).values({column: value})
                    assert open_vault.execute(change).rowcount == 1
                    tried += 1
                    if verified(open_vault) is None:
                        missed.append((row, column, value))
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


def test_has_tried_every_column_with_and_without_a_value(open_vault: Connection) -> None:
    for table in tables():
        for column in table.columns:
            values = [row[column.name] for row in rows(open_vault, table)]
            assert any(value is not None for value in values), column
            assert not column.nullable or any(value is None for value in values), column


@pytest.mark.parametrize("table", [each for each in tables() if each is not LEDGER], ids=lambda table: table.name)
def test_finds_a_copy_of_any_row_that_was_slipped_in(
    lived: SimpleNamespace, open_vault: Connection, table: Table
) -> None:
    (key,) = table.primary_key.columns
    there = rows(open_vault, table)
    taken = {row[key.name] for row in there}
    for row in there:
        for place in {lived.us.pending, lived.us.proposed, lived.us.comment, lived.us.older, 10**6} - taken:
            copy = row | {key.name: place}
            for column in UNIQUE & copy.keys():
                copy[column] = None if column == "supersedes" else "0" * 64
            with open_vault.begin_nested() as savepoint:
                open_vault.execute(insert(table).values(copy))
                assert verified(open_vault) is not None, copy
                savepoint.rollback()


def test_finds_a_copy_of_any_entry_that_was_linked_onto_the_end(open_vault: Connection) -> None:
    links = [json.loads(row["entry"]) for row in rows(open_vault, LEDGER)]
    last = rows(open_vault, LEDGER)[-1]
    for told in links:
        told.pop("previous"), told.pop("number")
        with open_vault.begin_nested() as savepoint:
            open_vault.execute(insert(LEDGER).values(entry(last["number"] + 1, last["digest"], **told)))
            assert verified(open_vault) is not None, told
            savepoint.rollback()


def test_finds_a_copy_of_any_entry_between_two_others(open_vault: Connection) -> None:
    there = rows(open_vault, LEDGER)
    for row in there:
        with open_vault.begin_nested() as savepoint:
            copy = row | {"number": 10**6, "previous": "1" * 64, "digest": "2" * 64}
            open_vault.execute(insert(LEDGER).values(copy))
            assert verified(open_vault) is not None, row
            savepoint.rollback()


@pytest.mark.parametrize("column", ["salt", "reason", "told"])
def test_finds_other_words_in_the_place_of_a_written_reason(open_vault: Connection, column: str) -> None:
    reasons = Base.metadata.tables["reasons"]
    tried = 0
    for row in rows(open_vault, reasons):
        change = update(reasons).where(reasons.c.id == row["id"]).values({column: other(reasons, column, row[column])})
        with open_vault.begin_nested() as savepoint:
            open_vault.execute(change)
            broken = verified(open_vault)
            assert broken is not None, row
            assert broken.where.startswith("the reason of "), broken
            tried += 1
            savepoint.rollback()
    assert tried > 4


def test_finds_a_written_reason_that_was_emptied_or_hung_elsewhere(
    lived: SimpleNamespace, open_vault: Connection
) -> None:
    reasons = Base.metadata.tables["reasons"]
    erased = {lived.us.erased, lived.us.first_erased}
    tried = 0
    for row in rows(open_vault, reasons):
        emptied = {"salt": None, "reason": None, "told": None}
        elsewhere = {"submission_id": lived.us.essay}
        other_proposal = {"proposal_id": None if row["proposal_id"] else 10**6}
        for change in (emptied, elsewhere, other_proposal):
            if change is emptied and row["submission_id"] in erased:
                continue
            with open_vault.begin_nested() as savepoint:
                open_vault.execute(update(reasons).where(reasons.c.id == row["id"]).values(change))
                broken = verified(open_vault)
                assert broken is not None, (row, change)
                assert broken.where.startswith("the reason of "), broken
                savepoint.rollback()
            tried += 1
    assert tried > 9


def test_finds_that_a_written_reason_is_gone_or_belongs_to_nothing(open_vault: Connection) -> None:
    reasons = Base.metadata.tables["reasons"]
    for row in rows(open_vault, reasons):
        with open_vault.begin_nested() as savepoint:
            open_vault.execute(delete_from(reasons).where(reasons.c.id == row["id"]))
            broken = verified(open_vault)
            assert broken is not None
            assert broken.what == "is gone"
            open_vault.execute(insert(reasons).values(row))
            open_vault.execute(insert(reasons).values(row | {"id": 999, "proposal_id": None, "digest": "3" * 64}))
            broken = verified(open_vault)
            assert broken == ledger.Broken("reason 999", "belongs to nothing on record")
            savepoint.rollback()


def test_holds_each_proposal_to_one_end(lived: SimpleNamespace, open_vault: Connection) -> None:
    waiting, taken = Base.metadata.tables["waiting"], Base.metadata.tables["open_takedowns"]
    proposals = Base.metadata.tables["proposals"]
    ended = open_vault.scalar(select(proposals.c.id).where(proposals.c.submission_id == lived.us.stays))
    for change, what in (
        (update(waiting).values(proposal_id=None), "is not open, and nothing tells how it ended"),
        (delete_from(taken), "is not open, and nothing tells how it ended"),
        (insert(taken).values(submission_id=lived.us.stays, proposal_id=ended), "is open, though it ended"),
    ):
        with open_vault.begin_nested() as savepoint:
            open_vault.execute(change)
            broken = verified(open_vault)
            assert broken is not None
            assert broken.what == what
            savepoint.rollback()


def test_lets_a_proposal_go_with_the_words_it_was_about(vault: Vault) -> None:
    reply = vault.reply()
    vault.reject(reply)
    vault.withdraw(reply)
    assert vault.verify() is None


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
        {"type": "lapse", "submission": "of", "proposal": "an open one", "at": "2026-11-24T00:00:00.000000Z"},
        {"type": "lapse", "submission": "of", "proposal": "a confirmed one", "at": "2026-11-24T00:00:00.000000Z"},
        {"type": "kept", "submission": "of", "proposal": "an open one", "moderator": 1, "at": "2026-11-24T00:00:00Z"},
        {"type": "kept", "submission": "of", "proposal": "contested", "moderator": 999, "at": "2026-11-24T00:00:00Z"},
        {"type": "access", "event": "signed_in", "moderator": 999, "by": None},
        {"type": "access", "event": "signed_in", "moderator": None, "by": None},
        {"type": "access", "event": "crowned", "moderator": 1, "by": None},
        {"type": "erasure"},
        {"type": "nonsense", "submission": 1},
        {},
    ],
    ids=str,
)
def test_finds_a_link_that_was_forged_onto_the_end(
    lived: SimpleNamespace, open_vault: Connection, forged: dict[str, Any]
) -> None:
    whose = {"an open one": lived.us.proposed, "a confirmed one": lived.us.vetoed, "contested": lived.us.contested}
    if forged.get("proposal") in whose:
        proposals = Base.metadata.tables["proposals"]
        about = whose[forged["proposal"]]
        number = open_vault.scalar(select(proposals.c.id).where(proposals.c.submission_id == about))
        forged = forged | {"submission": about, "proposal": number}
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
    assert "was cut off or replaced" in broken.what
    open_vault.execute(update(HEAD).values(digest=previous))
    broken = verified(open_vault)
    assert broken is not None
    assert "is not what ledger entry" in broken.what


@pytest.mark.parametrize("way", ["removed", "added", "head gone"])
def test_misses_a_sign_in_at_the_very_end(lived: SimpleNamespace, open_vault: Connection, way: str) -> None:
    """No row tells of a sign-in, so the head, which stands apart, has to."""
    with Session(open_vault, join_transaction_mode="create_savepoint") as session, session.begin():
        ledger.record_access(session, AccessEvent.SIGNED_IN, moderator=lived.us.admin)
    assert verified(open_vault) is None
    last = rows(open_vault, LEDGER)[-1]
    if way == "removed":
        open_vault.execute(delete_from(LEDGER).where(LEDGER.c.number == last["number"]))
    elif way == "added":
        told = json.loads(last["entry"])
        told.pop("previous"), told.pop("number")
        open_vault.execute(insert(LEDGER).values(entry(last["number"] + 1, last["digest"], **told)))
    else:
        open_vault.execute(delete_from(HEAD))
    broken = verified(open_vault)
    assert broken is not None
    assert ("added by hand" if way != "removed" else "cut off") in broken.what


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
