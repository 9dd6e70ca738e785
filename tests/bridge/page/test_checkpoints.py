"""Checkpoints: what a chain cannot tell by itself, that its tail was cut or that all of it was rewritten."""

import fcntl
import hashlib
import json
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from ground.house import House, site_over
from ground.vault import unlock
from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.orm import Session

from bridge import db
from bridge.keys import Keys
from bridge.page import checkpoints
from bridge.page.checkpoints import EVERY, Checkpoint, LedgerNoLongerFits, NoCheckpoints, NothingToSign
from bridge.site import Site
from moderation import ledger
from moderation.base import Base
from moderation.ledger import Broken
from moderation.types import AccessEvent

LEDGER = Base.metadata.tables["ledger"]
HEAD = Base.metadata.tables["ledger_head"]


def act(house: House, times: int = 1) -> None:
    """Append entries that have no row, so that nothing but the chain can tell."""
    for _ in range(times):
        with house.site.database.sessions.begin() as session:
            ledger.record_access(session, AccessEvent.SIGNED_IN, moderator=house.ada)


def keep(house: House) -> Checkpoint:
    made = checkpoints.keep(house.site, at_once=True)
    assert made is not None
    return made


def as_owner(house: House, change: Callable[[Connection], None]) -> None:
    """Let somebody who owns the database change the ledger, chain and all."""
    engine = db.owner_engine(house.site.database.writing.url.render_as_string(hide_password=False))
    with engine.begin() as connection:
        unlock(connection)
        change(connection)
    engine.dispose()


def rechain(connection: Connection, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Let *change* do what it will with the facts of the entries, and link what it returns as a proper chain."""
    rows = connection.execute(select(LEDGER).order_by(LEDGER.c.number)).mappings().all()
    told = change([json.loads(row["entry"]) for row in rows])
    connection.execute(delete(LEDGER))
    previous = ledger.BEGINNING
    for number, facts in enumerate(told, start=1):
        words = rfc8785.dumps({**facts, "number": number, "previous": previous})
        digest = hashlib.sha256(words).hexdigest()
        connection.execute(insert(LEDGER).values(number=number, previous=previous, digest=digest, entry=words.decode()))
        previous = digest
    # Whoever rewrites a chain and knows of the head rewrites that too.
    connection.execute(update(HEAD).values(number=len(told), digest=previous))


def chain_of(house: House) -> Broken | None:
    with house.site.database.reading_sessions() as session:
        return ledger.verify(session)[1]


def compared(site: Site, *against: Path, key: str | None = None) -> Broken | None:
    return checkpoints.compare(site, against=against, key=key)[1]


# Making them


def test_signs_the_bytes_that_anybody_can_recompute(house: House) -> None:
    act(house)
    made = keep(house)
    with house.site.database.reading_sessions() as session:
        (head,) = ledger.newest(session, limit=1)
    assert (made.number, made.digest) == (head.number, head.digest)
    told = json.loads(made.line())
    signature, key = bytes.fromhex(told.pop("signature")), bytes.fromhex(told.pop("public_key"))
    assert set(told) == {"format", "number", "digest", "at"}
    assert told["format"] == "emeritus/checkpoint/1"
    Ed25519PublicKey.from_public_bytes(key).verify(signature, rfc8785.dumps(told))
    assert key.hex() == checkpoints.public_key(house.site.keys)
    assert made.is_signed()


@pytest.mark.parametrize("change", [{"number": 999}, {"digest": "0" * 64}, {"at": "2020-01-01T00:00:00Z"}], ids=str)
def test_is_not_signed_once_anything_in_it_is_changed(house: House, change: dict[str, Any]) -> None:
    assert not replace(keep(house), **change).is_signed()


def test_appends_each_to_a_file_for_its_owner_only(house: House) -> None:
    first = keep(house)
    act(house)
    second = keep(house)
    file = checkpoints.where(house.site)
    assert file == house.site.settings.data / "checkpoints.jsonl"
    assert file.read_text() == first.line() + second.line()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert checkpoints.newest(house.site) == second
    assert checkpoints.compare(house.site) == (2, None)


def test_makes_the_first_at_once_and_then_one_an_hour_if_anything_happened(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checkpoints.newest(house.site) is None
    assert checkpoints.keep(house.site) is not None
    act(house)
    assert checkpoints.keep(house.site) is None
    made = keep(house)
    later = datetime.fromisoformat(made.at) + EVERY + timedelta(seconds=1)
    monkeypatch.setattr(checkpoints, "now", lambda: later)
    assert checkpoints.keep(house.site) is None  # Nothing happened since.
    act(house)
    again = checkpoints.keep(house.site)
    assert again is not None
    assert again.at.startswith(later.isoformat()[:19])


def test_makes_one_where_two_ask_at_once(house: House) -> None:
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: checkpoints.keep(house.site, at_once=True), range(4)))
    assert len([each for each in made if each]) == 1
    assert len(checkpoints.where(house.site).read_text().splitlines()) == 1


def test_lets_nobody_else_append_meanwhile(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def newest(session: Session, *, limit: int) -> list[ledger.Entry]:
        with checkpoints.where(house.site).open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        tried.append(limit)
        return entries(session, limit=limit)

    entries = ledger.newest
    monkeypatch.setattr(ledger, "newest", newest)
    keep(house)
    assert tried == [1]


def test_makes_none_of_an_empty_ledger(sqlite_url: str, tmp_path: Path) -> None:
    empty = site_over(db.connect(sqlite_url), tmp_path)
    assert checkpoints.keep(empty) is None
    with pytest.raises(NothingToSign):
        checkpoints.keep(empty, at_once=True)
    empty.database.dispose()


def test_goes_on_after_a_line_that_broke_off(house: House) -> None:
    first = keep(house)
    file = checkpoints.where(house.site)
    file.write_text(first.line() + first.line()[:50])
    assert checkpoints.compare(house.site) == (1, None)
    act(house)
    second = keep(house)
    assert file.read_text() == first.line() + second.line()


def test_signs_nothing_that_contradicts_the_last_one(house: House) -> None:
    act(house, 2)
    kept = keep(house)
    as_owner(house, lambda connection: rechain(connection, lambda told: told[:-1]))
    act(house, 3)
    with pytest.raises(LedgerNoLongerFits, match="rewritten"):
        checkpoints.keep(house.site, at_once=True)
    assert checkpoints.where(house.site).read_text() == kept.line()


# What they find


def test_finds_a_tail_that_was_cut(any_house: House) -> None:
    act(any_house, 3)
    kept = keep(any_house)
    as_owner(any_house, lambda connection: rechain(connection, lambda told: told[:-1]))
    assert chain_of(any_house) is None  # The chain alone misses it.
    broken = compared(any_house.site)
    assert broken is not None
    assert broken.where == f"ledger entry {kept.number}"
    assert broken.what.startswith("was cut")


@pytest.mark.parametrize(
    "change",
    [
        lambda told: [*told[:-1], told[-1] | {"event": "deactivated"}],
        lambda told: [*told[:-3], *told[-2:], told[-1]],
        lambda told: [*told[:-2], told[-1], *told[-2:]],
        lambda told: [*told[:-3], told[-2], told[-3], told[-1]],
        lambda told: [told[0] | {"at": "2020-01-01T00:00:00.000000Z"}, *told[1:]],
    ],
    ids=["changed", "removed", "inserted", "swapped", "rewritten from the beginning"],
)
def test_finds_a_chain_that_was_rewritten(any_house: House, change: Any) -> None:
    with any_house.site.database.sessions.begin() as session:
        ledger.record_access(session, AccessEvent.SIGNED_IN, moderator=any_house.ada)
        ledger.record_access(session, AccessEvent.TOKEN_ISSUED, moderator=any_house.ben)
        ledger.record_access(session, AccessEvent.SIGNED_IN, moderator=any_house.ben)
    keep(any_house)
    assert compared(any_house.site) is None
    as_owner(any_house, lambda connection: rechain(connection, change))
    broken = compared(any_house.site)
    assert broken is not None
    assert "rewritten" in broken.what


def test_names_the_stretch_between_two_checkpoints(house: House) -> None:
    first = keep(house)
    act(house, 3)
    second = keep(house)
    as_owner(
        house, lambda connection: rechain(connection, lambda told: [*told[:-1], told[-1] | {"event": "deactivated"}])
    )
    broken = compared(house.site)
    assert broken is not None
    assert broken.where == f"ledger entries {first.number + 1} to {second.number}"


def test_finds_it_by_a_checkpoint_that_somebody_kept_elsewhere(house: House, tmp_path: Path) -> None:
    act(house, 2)
    kept = tmp_path / "kept.json"
    kept.write_text(keep(house).line().rstrip())
    as_owner(house, lambda connection: rechain(connection, lambda told: told[:-1]))
    checkpoints.where(house.site).unlink()
    assert compared(house.site) is None
    broken = compared(house.site, kept)
    assert broken is not None
    assert "cut" in broken.what


def test_says_that_a_file_holds_no_checkpoint(house: House, tmp_path: Path) -> None:
    for content in (b"", b"{}\n", b"\xff\n", b"[[[["):
        (tmp_path / "kept").write_bytes(content)
        with pytest.raises(NoCheckpoints, match="Nothing was compared"):
            compared(house.site, tmp_path / "kept")


# When they are forged


def test_takes_no_checkpoint_that_was_changed(house: House) -> None:
    line = keep(house).line()
    file = checkpoints.where(house.site)
    file.write_text(line.replace('"number":', '"number":1'))
    broken = compared(house.site)
    assert broken == Broken("checkpoints.jsonl, line 1", "holds a checkpoint that its key did not sign")
    file.write_text(line + "nonsense\n" + line)
    assert compared(house.site) == Broken("checkpoints.jsonl, line 2", "holds no checkpoint that can be read")


def test_takes_no_checkpoint_under_another_key_unless_told_of_it(house: House) -> None:
    keep(house)
    other = replace(house.site, keys=Keys("another secret key, since this morning"))
    broken = compared(other)
    assert broken is not None
    assert "another key" in broken.what
    assert compared(other, key=checkpoints.public_key(house.site.keys).upper()) is None


@pytest.mark.parametrize(
    "change",
    [
        {"number": True},
        {"number": 0},
        {"number": 10**30},
        {"number": "1"},
        {"at": "then"},
        {"at": "2026-01-01T00:00:00"},
        {"digest": "x" * 64},
        {"signature": 5},
        {"format": "emeritus/2"},
        {"more": 1},
    ],
    ids=str,
)
def test_reads_nothing_else_as_a_checkpoint(house: House, change: dict[str, Any]) -> None:
    file = checkpoints.where(house.site)
    line = keep(house).line()
    file.write_text(json.dumps(json.loads(line) | change) + "\n")
    broken = compared(house.site)
    assert broken is not None
    assert "no checkpoint" in broken.what


def test_says_nothing_of_what_was_written(house: House) -> None:
    house.exchange("My name is Bob Smith.", "Hello, Bob.")
    assert "Bob" not in keep(house).line()


def test_leaves_the_database_as_it_is(house: House) -> None:
    before = house.contents()
    keep(house)
    checkpoints.compare(house.site)
    assert house.contents() == before
