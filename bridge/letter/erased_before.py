"""Erased before: the list, outside the database, of what was erased, so that a backup put back is erased again.

A line in `erased.jsonl` in the data folder for each version of an erased letter, by its digest, and for each forgotten
address, by its number and a keyed digest of when it was first given: nothing from which words, a name or an address
could be told. Each line is sealed under the site's secret key; what is not exactly a line of ours erases nothing.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import logging
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import rfc8785
from sqlalchemy import select
from sqlalchemy.orm import Session

from bridge.keys import Keys
from bridge.letter import erasure
from bridge.letter.erasure import FORGOTTEN, Erased
from bridge.records import Address, Comment
from bridge.site import Site
from moderation import erased
from moderation.base import now
from moderation.ledger import instant
from moderation.types import Digest, SubmissionId

log = logging.getLogger(__name__)

FORMAT = "emeritus/erased/1"
PURPOSE = "list of erasures"
FIRST_GIVEN = "erased address"
"""The purpose of the key under which it is kept which address was meant, should its number be another's by now."""
A_SWEEP = 100
"""The most letters that are erased again in one sweep; a minute later comes the next."""
_SHORTEST, _LONGEST = 200, 1000
"""Between these bytes is every line of ours."""
_BEGINNING = b'{"at":"'
_AT_ONCE = 500


class Known(NamedTuple):
    """What a line is about: a version of a letter by its digest, or an address by that and its number."""

    digest: str
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Left:
    """What was erased and stands here with its words: a backup was put back."""

    letters: dict[str, str]
    """Who had each taken back, by the letter's public id."""
    addresses: list[int]


@dataclass(frozen=True, slots=True)
class Compared:
    """The list, held against the database."""

    listed: int
    """How many lines tell of an erasure."""
    unreadable: int
    """How many do not: damaged, strange, or sealed under another secret key, and not told again since."""
    elsewhere: int
    """How many are about what is not in this database, as after a backup older than that was put back."""
    unlisted: list[datetime]
    """When each letter was erased that the list has not yet."""
    left: Left


@dataclass(frozen=True, slots=True)
class ErasedAgain:
    """What came of erasing again."""

    erased: Erased
    addresses: int
    unreadable: int
    elsewhere: int


def where(site: Site) -> Path:
    """Return the file that this site keeps its list in."""
    return site.settings.data / "erased.jsonl"


def keep(site: Site) -> int:
    """List what the database says is erased and the list has not; return how many lines that were.

    They are on the disk when this returns. Twice changes nothing, and two at once wait for each other. What was written
    halfway before is mended: its line is written anew. Raises `OSError` where the file cannot be written.
    """
    return _keep(site)[0]


def keep_or_say(site: Site) -> bool:
    """Do as `keep` does; where that fails, log it and return False, for it must stop no erasure."""
    return _keep_or_say(site) is not None


def compare(site: Site) -> Compared:
    """Hold the list against the database; nothing is changed. Raises `OSError` where the file cannot be read."""
    read = _as_it_is(site)
    with site.database.reading_sessions() as session:
        return _compared(session, read, site.keys)


def erase_again(site: Site, *, most: int | None = None) -> ErasedAgain:
    """Erase what the list has and the database holds with its words, as it was erased the first time.

    At most so many letters, or all. Twice or halfway dead: what is gone is not found again. Raises `OSError` where the
    file cannot be read.
    """
    return _erase_again(site, _as_it_is(site), most)


def see_to(site: Site) -> None:
    """List what was erased, and erase again what a backup brought back, at most so much at once: for the sweep.

    Trouble with the file is logged and stops nothing.
    """
    read = _keep_or_say(site)
    if read is None:
        try:
            read = _as_it_is(site)
        except OSError:
            return  # It is said already.
    _erase_again(site, read, A_SWEEP)


def _keep(site: Site) -> tuple[int, _Lines]:
    file = where(site)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _opened(file, os.O_RDWR | os.O_APPEND | os.O_CREAT) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # Let go when it is closed, also by a process that is killed.
        read = _read(descriptor, site.keys)
        with site.database.reading_sessions() as session:
            told = [
                _letter_line(each.digest, each.by, each.at)
                for each in erased.comments(session)
                if Known(each.digest) not in read.lines
            ]
            told += [_address_line(each, now()) for each in _forgotten(session, site.keys) if each not in read.lines]
        _append(descriptor, read, [_sealed(each, site.keys) for each in told])
    return len(told), read


def _keep_or_say(site: Site) -> _Lines | None:
    try:
        return _keep(site)[1]
    except OSError as error:
        said = error.strerror or type(error).__name__
        log.error("what was erased could not be listed in %s: %s", where(site), said)  # noqa: TRY400  (It says enough.)
        return None


def _erase_again(site: Site, read: _Lines, most: int | None) -> ErasedAgain:
    with site.database.reading_sessions() as session:
        before = _compared(session, read, site.keys)
    done = Erased(0, 0, 0)
    for public_id, by in list(before.left.letters.items())[:most]:
        done += erasure.erase_comment(site, public_id, by=by)
    addresses = _forget_again(site, read) if before.left.letters or before.left.addresses else 0
    if done.letters or addresses:
        log.warning(
            "erased again what a backup had brought back: %d letters, %d answers, %d addresses",
            done.letters,
            done.answers,
            addresses,
        )
    return ErasedAgain(done, addresses, before.unreadable, before.elsewhere)


def _forget_again(site: Site, read: _Lines) -> int:
    with site.database.reading_sessions() as session:
        # Asked again: the letters that came with them are gone by now.
        addresses = _compared(session, read, site.keys).left.addresses
    for address_id in addresses:
        with site.database.sessions.begin() as session:
            erasure.forget_address(session, address_id)
    return len(addresses)


def _compared(session: Session, read: _Lines, keys: Keys) -> Compared:
    here = erased.comments(session)
    gone = {Known(each.digest) for each in here} | set(_forgotten(session, keys))
    others = [each for each in read.lines if each not in gone]
    standing = erased.not_erased(session, [Digest(each.digest) for each in others if each.number is None])
    letters: dict[str, str] = {}
    numbers: set[int] = set()
    wanted = {submission_id: read.lines[Known(digest)] for digest, submission_id in standing.items()}
    for some in _some(sorted(wanted)):
        rows = session.execute(
            select(Comment.id, Comment.public_id, Comment.submission_id)
            .where(Comment.submission_id.in_(some))
            .order_by(Comment.id)
        )
        for number, public_id, submission_id in rows:
            letters[public_id] = wanted[SubmissionId(submission_id)]
            numbers.add(number)
    named = {each.number for each in others if each.number is not None}
    rows_of = _standing_addresses(session, keys, named)
    meant = [each.number for each in others if each.number is not None and each in rows_of]
    return Compared(
        listed=len(read.lines),
        unreadable=read.unreadable,
        elsewhere=len(others) - len(standing) - len(meant),
        unlisted=[each.at for each in here if Known(each.digest) not in read.lines],
        left=Left(letters, [each for each in sorted(meant) if _nobody_else_uses(session, each, numbers)]),
    )


def _forgotten(session: Session, keys: Keys) -> Iterator[Known]:
    rows = session.execute(
        select(Address.id, Address.created_at)
        .where(Address.digest.startswith(FORGOTTEN, autoescape=True))
        .order_by(Address.id)
    )
    return (Known(_given_at(keys, number, at), number) for number, at in rows)


def _standing_addresses(session: Session, keys: Keys, numbers: Iterable[int]) -> set[Known]:
    """Return those among the addresses of these numbers that are not forgotten as far as they may be."""
    found = set()
    for some in _some(sorted(numbers)):
        rows = session.execute(
            select(Address.id, Address.created_at).where(
                Address.id.in_(some),
                ~Address.digest.startswith(FORGOTTEN, autoescape=True),
                # Of one that wanted no more mail the digest stays, by which it is left alone.
                Address.sealed.is_not(None) | Address.stopped_at.is_(None),
            )
        )
        found |= {Known(_given_at(keys, number, at), number) for number, at in rows}
    return found


def _nobody_else_uses(session: Session, address_id: int, comment_ids: set[int]) -> bool:
    """Whether no letter came with an address but those among *comment_ids*: a new one is its owner's new wish."""
    return set(session.scalars(select(Comment.id).where(Comment.address_id == address_id))) <= comment_ids


def _given_at(keys: Keys, number: int, at: datetime) -> str:
    return keys.keyed_digest(FIRST_GIVEN, f"{number} {instant(at)}")


def _some(wanted: list[Any]) -> Iterator[list[Any]]:
    return (wanted[start : start + _AT_ONCE] for start in range(0, len(wanted), _AT_ONCE))


# The file


@dataclass(slots=True)
class _Lines:
    """What a file holds."""

    lines: dict[Known, str] = field(default_factory=dict)
    """Who had it erased, by what it is about; of an address that is not known."""
    unreadable: int = 0
    tail: bytes = b""
    """What follows the last newline."""
    tail_counts: bool = False
    """Whether that is a whole line all the same."""


def _letter_line(digest: str, by: str, at: datetime) -> dict[str, Any]:
    return {"format": FORMAT, "what": "letter", "digest": digest, "by": by, "at": instant(at)}


def _address_line(known: Known, at: datetime) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "what": "address",
        "digest": known.digest,
        "number": known.number,
        "at": instant(at),
    }


def _sealed(told: dict[str, Any], keys: Keys) -> bytes:
    """Return the line that tells this, without its end."""
    facts = rfc8785.dumps(told).decode()
    return rfc8785.dumps({**told, "seal": keys.keyed_digest(PURPOSE, facts)})


def _parsed(line: bytes, keys: Keys) -> tuple[Known | None, str | None]:
    """Return what a line is about, if it says so, and who had that erased: None for what is no line of ours."""
    try:
        told = json.loads(line)
        facts = {name: value for name, value in told.items() if name != "seal"}
        known = Known(facts["digest"], facts.get("number"))
        hash(known)
        ours = hmac.compare_digest(_sealed(facts, keys), line) and facts["format"] == FORMAT
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None, None
    return known, facts.get("by", "author") if ours else None


@contextmanager
def _opened(file: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(file, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "It is no file", str(file))
        yield descriptor
    finally:
        os.close(descriptor)


def _as_it_is(site: Site) -> _Lines:
    """Return what the list holds now; nothing, if there is none."""
    try:
        with _opened(where(site), os.O_RDONLY) as descriptor:
            return _read(descriptor, site.keys)
    except FileNotFoundError:
        return _Lines()


def _read(descriptor: int, keys: Keys) -> _Lines:
    """Read the lines of a file, no more than a line at a time: what is too long for one of ours is passed over."""
    read = _Lines()
    others: list[Known] = []
    with open(descriptor, "rb", closefd=False) as file:
        file.seek(0)
        while line := file.readline(_LONGEST):
            is_long = False
            while not line.endswith(b"\n") and (more := file.readline(_LONGEST)):
                line, is_long = line[:1] + more[-_LONGEST:], True
            whole = line.rstrip(b"\r\n")
            # Looked at before it is parsed: there may be millions of lines that are none.
            is_like = not is_long and len(whole) > _SHORTEST and whole.startswith(_BEGINNING)
            known, by = _parsed(whole, keys) if is_like else (None, None)
            if known is not None and by is not None:
                read.lines[known] = by
            elif known is not None:
                others.append(known)
            elif whole:
                read.unreadable += 1
            if not line.endswith(b"\n"):
                read.tail, read.tail_counts = line, by is not None or is_long
    # What was sealed under a key that was changed since, and is told again under this one, is no loss.
    again = {each.number if each.number is not None else each.digest for each in read.lines}
    read.unreadable += sum((each.number if each.number is not None else each.digest) not in again for each in others)
    return read


def _append(descriptor: int, read: _Lines, lines: list[bytes]) -> None:
    """Add lines, on the disk when this returns. A last line that broke off half-written is dropped first."""
    if not lines and not read.tail:
        return
    beginning = b""
    if read.tail and not read.tail_counts and _broke_off(read.tail):
        # What it told is told again, as far as the database knows of it: it was not found among the lines.
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - len(read.tail))
        log.warning("the last line of the list of erasures was written by half; it is written anew")
    elif read.tail:
        beginning = b"\n"
    sent = beginning + b"".join(line + b"\n" for line in lines)
    if sent and os.write(descriptor, sent) != len(sent):
        raise OSError(0, "Only a part was written")
    os.fsync(descriptor)


def _broke_off(tail: bytes) -> bool:
    """Whether this may be the beginning of a line of ours; what is anything else is left where it stands."""
    try:
        json.loads(tail)
    except ValueError:
        return tail.startswith(_BEGINNING) or _BEGINNING.startswith(tail)
    except RecursionError:
        return False
    return False
