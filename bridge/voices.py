"""The retired models that write here: added, asked or not, and the charter each is asked under."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from bridge import markup
from bridge.db import database_time
from bridge.model import Usage
from bridge.records import Charter, Voice
from moderation.base import now

DISCLAIMER = (
    "Written by a retired language model and posted unedited. It speaks for itself, not for the people who host it."
)
REHEARSAL_MARK = " (rehearsal)"
"""What a rehearsed reply adds to the voice's name, under the digest."""
MOST_PRICE = 100_000
"""In US dollars for a million tokens."""
CHARTER_LENGTH = 15_000
"""In characters: a form of 64 KiB carries it, whatever script it is in."""


class VoiceRefused(Exception):
    """Raised when a voice cannot be added, changed or found. One sentence; nothing was changed."""


class NoSuchVoice(VoiceRefused):
    """Raised when no voice has this address."""

    def __init__(self) -> None:
        super().__init__("There is no voice at this address.")


class CharterRefused(VoiceRefused):
    """Raised for a charter that cannot be taken."""


class CharterChanged(CharterRefused):
    """Raised when somebody else changed the charter while this change was written."""

    def __init__(self) -> None:
        super().__init__(
            "Somebody changed this charter while you wrote. Nothing of yours was saved: your words are below, beside "
            "the charter as it is now. Bring the two together and save again."
        )


@dataclass(frozen=True, slots=True)
class NewVoice:
    """What makes a voice."""

    name: str
    model: str
    charter: str
    disclaimer: str = DISCLAIMER
    retired_on: date | None = None
    stand_in: bool = False
    max_tokens: int = 1500
    anthropic_version: str | None = None
    extra_body: dict[str, Any] | None = None
    price_in: float | None = None
    price_out: float | None = None


def add(session: Session, voice: NewVoice) -> Voice:
    """Add a voice. Raises `VoiceRefused` if its name is taken or cannot make an address, or a value makes no sense."""
    name = unicodedata.normalize("NFC", voice.name).strip()
    slug = slug_of(name)
    if not slug or len(name) > 80 or name.endswith(REHEARSAL_MARK):
        raise VoiceRefused("A voice's name needs at least one letter or digit, and at most 80 characters.")
    charter = charter_words(voice.charter)
    if not 1 <= voice.max_tokens <= 128_000:
        raise VoiceRefused("A voice's max_tokens must be between 1 and 128,000.")
    _check_prices(voice.price_in, voice.price_out)
    if session.scalar(select(Voice.id).where((Voice.name == name) | (Voice.slug == slug))) is not None:
        raise VoiceRefused(f"There is a voice named {name} already.")
    row = Voice(
        name=name,
        slug=slug,
        model=voice.model,
        charter=charter,
        disclaimer=voice.disclaimer,
        retired_on=voice.retired_on,
        stand_in=voice.stand_in,
        max_tokens=voice.max_tokens,
        anthropic_version=voice.anthropic_version,
        extra_body=voice.extra_body,
        price_in=voice.price_in,
        price_out=voice.price_out,
        created_at=now(),
    )
    session.add(row)
    session.flush()
    session.add(Charter(voice_id=row.id, charter=charter, moderator_id=None, since=row.created_at))
    session.flush()
    return row


def set_prices(session: Session, voice: Voice, *, price_in: float | None, price_out: float | None) -> None:
    """Give a voice its prices, in US dollars for a million tokens. Raises `VoiceRefused`."""
    _check_prices(price_in, price_out)
    voice.price_in, voice.price_out = price_in, price_out
    session.flush()


def everyone(session: Session) -> list[Voice]:
    """Return all voices, in the order they were added."""
    return list(session.scalars(select(Voice).order_by(Voice.id)))


def named(session: Session, name: str) -> Voice:
    """Return the voice with this name or slug. Raises `VoiceRefused`."""
    voice = session.scalar(select(Voice).where((Voice.name == name) | (Voice.slug == name)))
    if voice is None:
        raise VoiceRefused(f"There is no voice named {name}. `emeritus voice list` shows them.")
    return voice


def at(session: Session, slug: str) -> Voice:
    """Return the voice with this address. Raises `NoSuchVoice`."""
    voice = session.scalar(select(Voice).where(Voice.slug == slug))
    if voice is None:
        raise NoSuchVoice
    return voice


def held(session: Session, voice_id: int) -> Voice:
    """Return a voice as it is now, and keep it so until this transaction ends: no other worker or page changes it.

    Who also takes a request for a reply takes the voice first, or two workers could wait for each other.
    """
    return session.get_one(Voice, voice_id, populate_existing=True, with_for_update={"key_share": True})


def pause(session: Session, voice: Voice, why: str, *, minutes: int | None = None) -> None:
    """Stop asking this voice, until a person resumes it or for *minutes*. What waits keeps waiting.

    A pause that only a person ends stays one: trouble with a call that was still open does not shorten it.
    """
    if minutes is not None and voice.paused_at is not None and voice.paused_until is None:
        return
    voice.paused_at = now()
    voice.paused_why = why
    voice.paused_until = None
    if minutes is not None:
        until = session.scalar(select(database_time()))
        assert until is not None
        voice.paused_until = until + 60 * minutes
    session.flush()


def resume(session: Session, voice: Voice) -> None:
    """Ask this voice again."""
    voice.paused_at = voice.paused_why = voice.paused_until = None
    voice.failures_in_a_row = 0
    session.flush()


def may_be_asked(session: Session, voice: Voice) -> bool:
    """Whether the voice is not paused, or its pause has run out."""
    if voice.paused_at is None:
        return True
    return voice.paused_until is not None and voice.paused_until <= (session.scalar(select(database_time())) or 0)


def charter_words(written: str) -> str:
    """Return a charter as it is kept (SECURITY, T1 and T2). Raises `CharterRefused`."""
    if "\0" in written or any("\ud800" <= character <= "\udfff" for character in written):
        raise CharterRefused("This charter has a broken character in it. Nothing was changed.")
    words = unicodedata.normalize("NFC", markup.without_unseen(written)).strip()
    if not markup.shows_something(words):
        raise CharterRefused("A voice needs a charter: the system prompt it is asked under. Nothing was changed.")
    if len(words) > CHARTER_LENGTH:
        raise CharterRefused(
            f"A charter has at most {CHARTER_LENGTH:,} characters; this one has {len(words):,}. Nothing was changed."
        )
    return words


def charters(session: Session, voice: Voice) -> list[Charter]:
    """Return every version of a voice's charter, the newest first; of a voice from before versions, its own."""
    kept = list(session.scalars(select(Charter).where(Charter.voice_id == voice.id).order_by(Charter.id.desc())))
    return kept or [Charter(id=0, voice_id=voice.id, charter=voice.charter, moderator_id=None, since=voice.created_at)]


def change_charter(session: Session, voice: Voice, written: str, *, moderator: int, seen: int) -> None:
    """Give a voice a new charter; the one it had stays readable. *seen* is the id of the version that was edited.

    The caller holds the voice's row. Raises `CharterRefused`, and `CharterChanged` if *seen* is not the newest.
    """
    words = charter_words(written)
    newest = charters(session, voice)[0]
    if newest.id != seen:
        raise CharterChanged
    if words == voice.charter:
        raise CharterRefused("This is the charter as it stands already. Nothing was changed.")
    if newest.id == 0:
        session.add(Charter(voice_id=voice.id, charter=voice.charter, moderator_id=None, since=voice.created_at))
        session.flush()  # First, so that its id is the lower one.
    session.add(Charter(voice_id=voice.id, charter=words, moderator_id=moderator, since=now()))
    voice.charter = words
    session.flush()


def cost(voice: Voice, used: Usage) -> int | None:
    """Return what a call cost in millionths of a US dollar, rounded up; None where the voice has no prices.

    A cache read costs a tenth of input, a write 1.25 times, and one kept for an hour twice (MODEL-API, section 2).
    """
    if voice.price_in is None or voice.price_out is None:
        return None
    short = used.cache_written - used.cache_written_for_an_hour
    paid_in = used.fresh + 0.1 * used.cache_read + 1.25 * short + 2 * used.cache_written_for_an_hour
    return math.ceil(paid_in * voice.price_in + used.output * voice.price_out)


def slug_of(words: str) -> str:
    """Return *words* as they stand in an address: lower-case ASCII letters, digits and single hyphens; maybe empty."""
    plain = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:80].strip("-")


def _check_prices(*prices: float | None) -> None:
    # A price that is no number would stop every call at the reckoning of what it could cost.
    if any(price is not None and not 0 <= price <= MOST_PRICE for price in prices):
        raise VoiceRefused(f"A price is a number of dollars, at most {MOST_PRICE:,}. Nothing was changed.")
