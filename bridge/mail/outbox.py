"""What goes out: mail, and messages to the desk's webhook. Written in the transaction of what it tells, sent later.

Each is sent at most once. A worker commits that it tries before it tries, so one that dies halfway leaves the message
*trying*: nobody knows whether it arrived, it is never sent again, and an admin sees it (SECURITY, section 8).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from bridge.db import database_time
from bridge.keys import Keys
from bridge.records import Comment, Outgoing
from bridge.site import Site
from moderation.base import now

SEALED = "outgoing"
"""The purpose of the key under which address and text are kept until they are sent."""
SUBJECT_LENGTH = 150
MOST_ATTEMPTS = 10
FIRST_WAIT = 60.0
LONGEST_WAIT = 4 * 3600.0
"""Seconds: after each attempt that may be repeated the wait doubles, up to this; ten take about eight hours."""
TRYING_TAKES = 15 * 60.0
"""Seconds after which one that is still being tried was left by its worker."""
REFUSED_KEPT = timedelta(days=7)
"""How long address and text of a refused one are kept, so that an admin may send it again."""
LISTED = 50
MOOT = "It was no longer to be sent: its reader wants no more mail, or its letter or answer is gone."
ABOUT = {
    "told": "to a moderator, what waits",
    "desk": "what waits",
    "paused": "to an admin, that a voice is paused",
    "ask": "to a reader, whether an address is theirs",
    "confirmed": "to a reader, what happened before they confirmed their address",
    "posted": "to a reader, that a letter was posted",
    "not_posted": "to a reader, that a letter was not posted",
    "taken_down": "to a reader, that a letter was taken down",
    "answered": "to a reader, that a letter was answered",
    "declined": "to a reader, that a voice chose not to answer",
    "not_chosen": "to a reader, that a voice chose other letters",
    "withheld": "to a reader, that no answer came",
    "vetoed": "to a reader, that an answer was not posted",
    "data": "to a reader, a link to what is kept about them",
}
"""What the first word of a `once` means, for admins; another one stands for itself."""

_ADDRESS = re.compile(r"[^\s@<>()\[\]\\,;:\"]{1,64}@[^\s@<>()\[\]\\,;:\"]{1,255}")
_HEADER = re.compile(r"(List|X)-[A-Za-z0-9-]+|In-Reply-To|References")
"""What a mail may carry besides what every mail has: nothing that names a sender or a recipient."""
_ABOUT = re.compile(r"[:0-9]")
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class MailRefused(Exception):
    """Raised for a mail that must not be sent as it is, whatever its text. Nothing was written."""

    def __init__(self, what: str) -> None:
        super().__init__(f"This mail cannot be sent: {what}. Nothing was changed.")


class NotToBeSentAgain(Exception):
    """Raised when a message was not refused, or its address and text are no longer kept."""

    def __init__(self) -> None:
        super().__init__("This message cannot be sent again: it was not refused, or its text is gone. Nothing changed.")


class Way(StrEnum):
    """How a message goes out."""

    MAIL = "mail"
    WEBHOOK = "webhook"


class OutgoingState(StrEnum):
    """How a message stands."""

    UNSENT = "unsent"
    TRYING = "trying"
    SENT = "sent"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail to one person."""

    to: str = field(repr=False)
    subject: str = field(repr=False)
    text: str = field(repr=False)
    html: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that this worker alone tries to send now. One of *mail* and *payload* is there."""

    id: int
    once: str
    mail: Mail | None = field(default=None, repr=False)
    payload: dict[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Listed:
    """A message as an admin sees it: never its address or its words."""

    id: int
    way: Way
    about: str
    """What it is about, as its writer named it, without the ids."""
    attempts: int
    why: str | None
    created_at: datetime
    ended_at: datetime | None
    may_be_sent_again: bool


@dataclass(frozen=True, slots=True)
class OutboxStanding:
    """How what goes out stands, for admins. The lists have the newest, at most `LISTED` each."""

    counts: dict[OutgoingState, int]
    left_trying: list[Listed]
    refused: list[Listed]
    put_off: list[Listed]


def put_mail(
    session: Session,
    keys: Keys,
    *,
    once: str,
    to: str,
    subject: str,
    text: str,
    html: str | None = None,
    headers: Mapping[str, str] = NO_HEADERS,
    comment_id: int | None = None,
    address_id: int | None = None,
) -> int:
    """Write down a mail to *to* alone, and return its id; call `nudge_outgoing` after the commit.

    One to a reader says by *address_id* whose it is, and by *comment_id* of which letter it tells: by these it is
    found when they are erased (`forget`, `forget_address`).

    *once* says what it is about and for whom, by ids alone ("told:7:daily:2026-11-24"): where one with the same stands
    already, nothing is written and that one's id is returned. Raises `MailRefused`.
    """
    mail = Mail(to, subject, text, html, dict(headers))
    check(mail)
    whole = {"to": to, "subject": subject, "text": text, "html": html, "headers": dict(headers)}
    return _put(session, keys, Way.MAIL, once, whole, comment_id=comment_id, address_id=address_id)


def put_webhook(session: Session, keys: Keys, *, once: str, payload: Mapping[str, Any]) -> int:
    """Write down a message to the desk's webhook, and return its id; *once* as in `put_mail`."""
    return _put(session, keys, Way.WEBHOOK, once, dict(payload))


def fits_a_subject(subject: str) -> bool:
    """Whether *subject* may be a mail's, which names and titles in it can prevent."""
    one_line = " ".join(subject.split()) == subject != ""
    return one_line and len(subject) <= SUBJECT_LENGTH and _is_plain(subject)


def check(mail: Mail) -> None:
    """Raise `MailRefused` unless a mail goes to one address, and no header could be read as two.

    EmailMessage refuses line feeds but decodes encoded words, and a line feed in one becomes a header of the sender's
    choice (CVE-2024-6923): so nothing that looks like one gets there (SECURITY, Q4).
    """
    if not _ADDRESS.fullmatch(mail.to) or not _is_plain(mail.to):
        raise MailRefused("its address is not one address")
    if not mail.subject.strip() or not _is_plain(mail.subject):
        raise MailRefused("its subject is empty or not plain text")
    for name, value in mail.headers.items():
        if not _HEADER.fullmatch(name) or not _is_plain(value):
            raise MailRefused("it has a header that it may not have")
    for body in (mail.text, mail.html or ""):
        if any("\ud800" <= letter <= "\udfff" or letter == "\0" for letter in body):
            raise MailRefused("its text is not text")


def take(session: Session, keys: Keys) -> Taken | None:
    """Return a message that is due, now *trying*, or None. The caller commits before sending it.

    One whose text this site's key does not open is refused here.
    """
    while True:
        # Two workers take two: PostgreSQL skips the row that another has locked, and SQLite has one writer.
        row = session.scalars(
            select(Outgoing)
            .where(Outgoing.state == OutgoingState.UNSENT.value, _is_due())
            .order_by(Outgoing.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).first()
        if row is None:
            return None
        row.attempts += 1
        row.state = OutgoingState.TRYING.value
        row.not_before = database_time() + TRYING_TAKES
        session.flush()
        if row.sealed is None:
            refused(session, row.id, why=MOOT, passing=False)
            continue
        opened = keys.unsealed(SEALED, row.sealed)
        if opened is not None:
            said = json.loads(opened)
            if row.way == Way.WEBHOOK.value:
                return Taken(row.id, row.once, payload=said)
            return Taken(row.id, row.once, mail=Mail(**said))
        refused(session, row.id, why="Its text cannot be opened: the site's secret key is another one.", passing=False)


def sent(session: Session, outgoing_id: int) -> None:
    """Record that a message was taken by the other side. Its address and text are gone with it."""
    session.execute(
        _if_trying(outgoing_id).values(
            state=OutgoingState.SENT.value, sealed=None, why=None, not_before=None, ended_at=now()
        )
    )


def refused(session: Session, outgoing_id: int, *, why: str, passing: bool) -> None:
    """Record that a message was not taken; a *passing* refusal is tried again later, `MOST_ATTEMPTS` times in all.

    *why* is for admins: a sentence without address or words.
    """
    attempts = session.scalar(
        select(Outgoing.attempts).where(Outgoing.id == outgoing_id, Outgoing.state == OutgoingState.TRYING.value)
    )
    if attempts is None:
        return
    if passing and attempts < MOST_ATTEMPTS:
        wait = min(FIRST_WAIT * 2 ** (attempts - 1), LONGEST_WAIT)
        session.execute(
            _if_trying(outgoing_id).values(state=OutgoingState.UNSENT.value, why=why, not_before=database_time() + wait)
        )
        return
    session.execute(
        _if_trying(outgoing_id).values(state=OutgoingState.REFUSED.value, why=why, not_before=None, ended_at=now())
    )


def in_doubt(session: Session, outgoing_id: int, *, why: str) -> None:
    """Record that nobody knows whether a message was taken: it stays *trying*, and is never sent again."""
    session.execute(_if_trying(outgoing_id).values(why=why, sealed=None, not_before=database_time()))


def send_again(session: Session, outgoing_id: int) -> None:
    """Have a refused message tried anew, from the first attempt on. Raises `NotToBeSentAgain`."""
    changed = session.execute(
        update(Outgoing)
        .where(
            Outgoing.id == outgoing_id,
            Outgoing.state == OutgoingState.REFUSED.value,
            Outgoing.sealed.is_not(None),
        )
        .values(state=OutgoingState.UNSENT.value, attempts=0, not_before=None, ended_at=None)
    )
    assert isinstance(changed, CursorResult)
    if changed.rowcount != 1:
        raise NotToBeSentAgain


def have_sent_again(site: Site, outgoing_id: int) -> None:
    """Have a refused message tried anew, now. Raises `NotToBeSentAgain`."""
    with site.database.sessions.begin() as session:
        send_again(session, outgoing_id)
    # Committed: a worker may look for it before this line returns.
    site.nudges.nudge_outgoing()


def is_any_due(session: Session) -> bool:
    """Whether a message waits for a worker now."""
    due = select(Outgoing.id).where(Outgoing.state == OutgoingState.UNSENT.value, _is_due()).limit(1)
    return session.scalar(due) is not None


def forget_words(session: Session) -> None:
    """Empty the address and text of what will not be sent again: left by its worker, or refused a week ago."""
    session.execute(
        update(Outgoing)
        .where(
            Outgoing.sealed.is_not(None),
            or_(
                _is_left(),
                (Outgoing.state == OutgoingState.REFUSED.value) & (Outgoing.ended_at < now() - REFUSED_KEPT),
            ),
        )
        .values(sealed=None)
    )


def forget(session: Session, comment_id: int) -> None:
    """Empty what is put down about a letter; what is not sent yet never is.

    What tells of several letters to the same address goes with it. What a worker has in hand may still arrive.
    """
    _forget(session, _of(session, [comment_id]))


def forget_about(session: Session, comment_ids: Sequence[int], about: Sequence[str]) -> None:
    """Empty what is put down about letters and is *about* one of these things, as `forget` does."""
    is_about = or_(*(Outgoing.once.startswith(f"{each}:", autoescape=True) for each in about))
    for start in range(0, len(comment_ids), 500):
        _forget(session, _of(session, comment_ids[start : start + 500]) & is_about)


def forget_address(session: Session, address_id: int) -> None:
    """Empty what is put down for an address; what is not sent yet never is."""
    _forget(session, Outgoing.address_id == address_id)


def standing(session: Session) -> OutboxStanding:
    """Return how what goes out stands."""
    return OutboxStanding(counts(session), left_trying(session), refused_ones(session), put_off(session))


def counts(session: Session) -> dict[OutgoingState, int]:
    """Return how many messages stand in each state."""
    found = session.execute(select(Outgoing.state, func.count()).group_by(Outgoing.state)).all()
    return dict.fromkeys(OutgoingState, 0) | {OutgoingState(state): count for state, count in found}


def left_trying(session: Session, *, limit: int = LISTED) -> list[Listed]:
    """Return the newest of those that a worker tried and left: perhaps they arrived, and they are never sent again."""
    return _listed(session, limit, _is_left())


def refused_ones(session: Session, *, limit: int = LISTED) -> list[Listed]:
    """Return the newest of those that were refused for good."""
    return _listed(session, limit, Outgoing.state == OutgoingState.REFUSED.value)


def put_off(session: Session, *, limit: int = LISTED) -> list[Listed]:
    """Return the newest of those that were refused once at least and are tried again."""
    return _listed(session, limit, Outgoing.state == OutgoingState.UNSENT.value, Outgoing.attempts > 0)


def _put(
    session: Session,
    keys: Keys,
    way: Way,
    once: str,
    said: Mapping[str, Any],
    *,
    comment_id: int | None = None,
    address_id: int | None = None,
) -> int:
    there = select(Outgoing.id).where(Outgoing.once == once)
    found = session.scalar(there)
    if found is not None:
        return found
    row = Outgoing(
        way=way.value,
        once=once,
        comment_id=comment_id,
        address_id=address_id,
        sealed=keys.sealed(SEALED, json.dumps(said)),
        state=OutgoingState.UNSENT.value,
        attempts=0,
        created_at=now(),
    )
    try:
        # A savepoint: where another transaction wrote the same first, the caller's own goes on.
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        return session.scalars(there).one()
    return row.id


def _of(session: Session, comment_ids: Sequence[int]) -> ColumnElement[bool]:
    """Return the condition under which a mail tells of one of these letters, by itself or among others."""
    addresses = session.scalars(
        select(Comment.address_id).where(Comment.id.in_(comment_ids), Comment.address_id.is_not(None)).distinct()
    ).all()
    # Where there is no address, nothing is among others: mail to moderators has neither.
    among_others = Outgoing.comment_id.is_(None) & Outgoing.address_id.in_(addresses)
    return or_(Outgoing.comment_id.in_(comment_ids), among_others)


def _forget(session: Session, which: Any) -> None:
    unsent = Outgoing.state == OutgoingState.UNSENT.value
    # Not deleted: by its `once` the same is not put down again.
    session.execute(
        update(Outgoing)
        .where(which, unsent)
        .values(state=OutgoingState.REFUSED.value, why=MOOT, not_before=None, ended_at=now())
    )
    session.execute(update(Outgoing).where(which).values(sealed=None))


def _if_trying(outgoing_id: int) -> Any:
    return update(Outgoing).where(Outgoing.id == outgoing_id, Outgoing.state == OutgoingState.TRYING.value)


def _is_due() -> Any:
    return or_(Outgoing.not_before.is_(None), Outgoing.not_before <= database_time())


def _is_left() -> Any:
    return (Outgoing.state == OutgoingState.TRYING.value) & _is_due()


def _listed(session: Session, limit: int, *which: Any) -> list[Listed]:
    rows = session.scalars(select(Outgoing).where(*which).order_by(Outgoing.id.desc()).limit(limit))
    return [
        Listed(
            id=row.id,
            way=Way(row.way),
            about=_ABOUT.split(row.once)[0].strip(),
            attempts=row.attempts,
            why=row.why,
            created_at=row.created_at,
            ended_at=row.ended_at,
            may_be_sent_again=row.state == OutgoingState.REFUSED.value and row.sealed is not None,
        )
        for row in rows
    ]


def _is_plain(value: str) -> bool:
    """Whether *value* is one line of printable text that nothing decodes to more."""
    return value.isprintable() and "=?" not in value
