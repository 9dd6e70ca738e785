"""Being told: what moderators hear of what waits, by mail and on the desk's webhook, and admins of a voice in trouble.

A reader's words and names stay on the desk: mail lies in other people's houses.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from bridge.mail import outbox
from bridge.records import Outgoing, User, Voice
from bridge.site import Site
from bridge.voice import voices
from bridge.voice.model import RequestRefused, Trouble
from moderation import base, moderators
from moderation.overview import Overview, overview
from moderation.queue import MOST_COUNTED
from moderation.types import Kind

log = logging.getLogger(__name__)

GATHERED = timedelta(minutes=5)
"""What comes within this time of a message is told in the next one."""
DAILY_AT = 8
"""The hour, UTC, from which the day's mail goes out."""
_STRADDLE = timedelta(seconds=5)
"""A submission has its time before its transaction commits: one this much older than the last mail may be new."""
_HERE = Path(__file__).parents[1]
_NAMES = {Kind.COMMENT: ("letter", "letters"), Kind.REPLY: ("answer", "answers"), Kind.ESSAY: ("essay", "essays")}


class Told(StrEnum):
    """How often a moderator is written to about what waits."""

    NEVER = "never"
    AT_ONCE = "at_once"
    HOURLY = "hourly"
    DAILY = "daily"

    @property
    def in_words(self) -> str:
        """What a moderator chooses between."""
        return _IN_WORDS[self]


_IN_WORDS = {
    Told.NEVER: "Never",
    Told.AT_ONCE: "When something new waits, at most every five minutes",
    Told.HOURLY: "Once an hour, when something new waits",
    Told.DAILY: f"Once a day at {DAILY_AT:02}:00 UTC, while anything waits",
}
_WHY = {
    Told.AT_ONCE: "You asked to be told when something new waits.",
    Told.HOURLY: "You asked to be told once an hour when something new waits.",
    Told.DAILY: "You asked to be told once a day what waits.",
}


_TO_DO = {
    401: "Put a key that is accepted into the environment of the workers, and start them again.",
    402: "Look at the billing of the organisation that the key belongs to.",
    403: "Have the key's workspace allowed to use this model, or give the workers another key.",
    404: (
        "If the model's id is mistyped, set the right one. If the model is retired, it is served by request only: ask "
        "Anthropic for access through its External Researcher Access Program, which article 9125743 of its support "
        "pages describes."
    ),
}
"""What an admin can do about a refusal, by its HTTP status (MODEL-API, sections 4 and 9)."""
_READ_ON = "Read on the voice's page what is on record, and put right what it says."
_PAUSED = """\
The voice {name} is paused: nothing more is asked of it until a person lets it answer again. Letters that wait for it
keep their place.

What happened: {happened}

What to do: {to_do}

Then let it answer again, on its page: {page}

You get this because you are an admin of {address}.
"""


@dataclass(frozen=True, slots=True)
class _Letter:
    """One mail to be written down: for whom, about which period, and what it says."""

    user_id: int
    to: str
    once: str
    subject: str
    text: str


def tell(site: Site) -> int:
    """Write down the mail that is due to moderators and the message due to the webhook; return how many are due.

    Nothing is told while nothing waits. Twice at once: each is about one person and period, and is written once.
    """
    at = base.now()
    with site.database.reading_sessions() as session:
        seen = overview(session)
        if seen.is_empty:
            return 0
        letters = list(_letters(session, site, seen, at))
        webhook = site.settings.desk_webhook_url is not None and _is_webhook_due(session, seen, at)
    if not letters and not webhook:
        return 0
    # Worded by now: nothing is rendered while others wait to write.
    with site.database.sessions.begin() as session:
        for letter in letters:
            _write_down(session, site, letter, at)
        if webhook:
            outbox.put_webhook(
                session, site.keys, once=f"desk:{seen.newest_id}", payload=payload(seen, site.settings.address, at)
            )
    # Committed: a worker may look for it before this line returns.
    site.nudges.nudge_outgoing()
    return len(letters) + webhook


def pause_voice(session: Session, site: Site, voice_id: int, why: str, *, trouble: Trouble | None = None) -> bool:
    """Pause a voice until a person acts, because of *trouble*, and write down a mail to every admin that says so.

    A voice that is paused so already stays as it is, and nobody is told again: calls that were open together fail
    together. Return whether it was paused now; then call `nudge_outgoing` after the commit, or leave it to the sweep.
    """
    voice = voices.held(session, voice_id)
    if voice.paused_at is not None and voice.paused_until is None:
        return False
    voices.pause(session, voice, why)
    _tell_admins(session, site, voice, why, trouble)
    return True


def payload(seen: Overview, address: str, at: datetime) -> dict[str, object]:
    """Return what the webhook is told: Slack and the like show `text`."""
    oldest = f", the oldest for {_age(at - seen.oldest_at)}" if seen.oldest_at is not None else ""
    waits = "waits" if seen.number == 1 else "wait"
    return {
        "text": f"{_number(seen.number)} {waits} on the desk{oldest}: {address}/desk/",
        "waiting": {kind.value: seen.waiting[kind] for kind in Kind},
        "held": seen.held,
        "lapsing": seen.lapsing,
        "oldest_at": seen.oldest_at.isoformat() if seen.oldest_at is not None else None,
        "desk": f"{address}/desk/",
    }


def _tell_admins(session: Session, site: Site, voice: Voice, why: str, trouble: Trouble | None) -> None:
    assert voice.paused_at is not None
    address = site.settings.address
    text = _PAUSED.format(
        name=voice.name,
        happened=_happened(why, trouble),
        to_do=_TO_DO.get((trouble.status if trouble is not None else None) or 0, _READ_ON),
        page=f"{address}/desk/voices/{voice.slug}",
        address=address,
    )
    users = session.scalars(select(User).where(User.active).order_by(User.id)).all()
    people = moderators.named(session, [user.moderator_id for user in users])
    for user in users:
        who = people[user.moderator_id]
        if not who.active or who.role != "admin":
            continue
        once = f"paused:{voice.id}:{voice.paused_at:%Y-%m-%dT%H:%M:%S.%f}:{user.id}"
        try:
            # The name stands in the text alone: in a subject it could be one that no mail may have.
            outbox.put_mail(session, site.keys, once=once, to=user.email, subject="A voice is paused", text=text)
        except outbox.MailRefused:
            # The pause must hold, whatever is wrong with somebody's address.
            log.warning("user %s was not told that a voice is paused: no mail can go to this address", user.id)


def _happened(why: str, trouble: Trouble | None) -> str:
    """Return what happened as a mail may say it: what the API or a model said may repeat a reader's words."""
    if trouble is not None and not isinstance(trouble, RequestRefused):
        return why
    return f"{why.partition(':')[0].rstrip('.')}."


def _letters(session: Session, site: Site, seen: Overview, at: datetime) -> Iterator[_Letter]:
    users = session.scalars(select(User).where(User.active, User.told != Told.NEVER.value).order_by(User.id)).all()
    people = moderators.named(session, [user.moderator_id for user in users])
    for user in users:
        how = Told(user.told)
        period = _period(how, user.told_at, seen, at)
        if period is None or not people[user.moderator_id].active:
            continue
        once = f"told:{user.id}:{how}:{period}"
        if session.scalar(select(Outgoing.id).where(Outgoing.once == once)) is None:
            yield _Letter(user.id, user.email, once, _subject(seen), _text(seen, how, site.settings.address, at))


def _period(how: Told, told_at: datetime | None, seen: Overview, at: datetime) -> str | None:
    """Return what a mail that is due now is about, the same for all that must be one; None if none is due."""
    is_new = seen.newest_at is not None and (told_at is None or seen.newest_at > told_at - _STRADDLE)
    if how is Told.AT_ONCE:
        due = is_new and (told_at is None or told_at <= at - GATHERED)
        return str(seen.newest_id) if due else None
    if how is Told.HOURLY:
        return f"{at:%Y-%m-%dT%H}" if is_new else None
    return f"{at:%Y-%m-%d}" if at.hour >= DAILY_AT else None


def _is_webhook_due(session: Session, seen: Overview, at: datetime) -> bool:
    """Whether something new waits that the webhook was not told, and the last message is long enough ago."""
    last = session.scalar(
        select(Outgoing.created_at)
        .where(Outgoing.way == outbox.Way.WEBHOOK.value)
        .order_by(Outgoing.id.desc())
        .limit(1)
    )
    if last is None:
        return seen.newest_at is not None
    return seen.newest_at is not None and seen.newest_at > last - _STRADDLE and last <= at - GATHERED


def _write_down(session: Session, site: Site, letter: _Letter, at: datetime) -> None:
    # Whoever was deactivated, or chose otherwise, since they were looked at is not written to.
    chosen = update(User).where(User.id == letter.user_id, User.active, User.told != Told.NEVER.value)
    earlier = or_(User.told_at.is_(None), User.told_at <= at)
    if session.execute(chosen.where(earlier).values(told_at=at).returning(User.id)).first() is not None:
        outbox.put_mail(
            session,
            site.keys,
            once=letter.once,
            to=letter.to,
            subject=letter.subject,
            text=letter.text,
        )


def _subject(seen: Overview) -> str:
    if seen.number:
        return f"{_number(seen.number)} {'waits' if seen.number == 1 else 'wait'} on the desk"
    return "A proposal lapses within a day" if seen.lapsing == 1 else "Proposals lapse within a day"


def _text(seen: Overview, how: Told, address: str, at: datetime) -> str:
    kinds = [
        (_number(seen.waiting[kind]), _NAMES[kind][seen.waiting[kind] != 1]) for kind in Kind if seen.waiting[kind]
    ]
    lapsing = f"{seen.lapsing} {'proposal lapses' if seen.lapsing == 1 else 'proposals lapse'}" if seen.lapsing else ""
    return (
        _mails()
        .get_template("waiting.txt")
        .render(
            site_name="Emeritus",
            kinds=kinds,
            oldest=_age(at - seen.oldest_at) if seen.oldest_at is not None else "",
            held=_number(seen.held) if seen.held else "",
            lapsing=lapsing,
            desk=f"{address}/desk/",
            why=_WHY[how],
        )
    )


def _number(count: int) -> str:
    return f"{count:,}" if count < MOST_COUNTED else f"{MOST_COUNTED:,} or more"


def _age(waited: timedelta) -> str:
    minutes = max(0, int(waited.total_seconds())) // 60
    for length, unit in ((24 * 60, "day"), (60, "hour"), (1, "minute")):
        if minutes >= length:
            count = minutes // length
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return "less than a minute"


@cache
def _mails() -> Environment:
    """Return the templates of mail. Workers, which know no Flask, write it too."""
    folder = _HERE / "templates" if (_HERE / "templates").is_dir() else _HERE.parent / "templates"
    # Plain text: escaping would show as such.
    return Environment(
        loader=FileSystemLoader(folder / "mail"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701
    )
