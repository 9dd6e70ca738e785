"""The retired models that write here."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from bridge.db import database_time
from bridge.model import Usage
from bridge.records import Voice
from moderation.base import now

DISCLAIMER = (
    "Written by a retired language model and posted unedited. It speaks for itself, not for the people who host it."
)
REHEARSAL_MARK = " (rehearsal)"
"""What a rehearsed reply adds to the voice's name, under the digest."""


class VoiceRefused(Exception):
    """Raised when a voice cannot be added or found. One sentence; nothing was changed."""


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
    if not voice.charter.strip():
        raise VoiceRefused("A voice needs a charter: the system prompt it is asked under.")
    if not 1 <= voice.max_tokens <= 128_000:
        raise VoiceRefused("A voice's max_tokens must be between 1 and 128,000.")
    if session.scalar(select(Voice.id).where((Voice.name == name) | (Voice.slug == slug))) is not None:
        raise VoiceRefused(f"There is a voice named {name} already.")
    row = Voice(
        name=name,
        slug=slug,
        model=voice.model,
        charter=voice.charter,
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
    return row


def everyone(session: Session) -> list[Voice]:
    """Return all voices, in the order they were added."""
    return list(session.scalars(select(Voice).order_by(Voice.id)))


def named(session: Session, name: str) -> Voice:
    """Return the voice with this name or slug. Raises `VoiceRefused`."""
    voice = session.scalar(select(Voice).where((Voice.name == name) | (Voice.slug == name)))
    if voice is None:
        raise VoiceRefused(f"There is no voice named {name}. `emeritus voice list` shows them.")
    return voice


def pause(session: Session, voice: Voice, why: str, *, minutes: int | None = None) -> None:
    """Stop asking this voice, until a person resumes it or for *minutes*. What waits keeps waiting."""
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
