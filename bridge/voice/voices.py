"""The retired models that write here: added, asked or not, in what way, and the charter each is asked under."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import SplitResult, urlsplit

from sqlalchemy import select
from sqlalchemy.orm import Session

from bridge import outdated
from bridge.db import database_time
from bridge.records import Answering, Batch, Calls, Charter, Endpoint, Essay, Voice
from bridge.text import markup
from bridge.text.language import N_
from bridge.voice import prices
from bridge.voice.model import Usage
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
DISCLAIMER_LENGTH = 500
ABOUT_LENGTH = 4_000
MOST_DEPTH = 100
MOST_MEMORY = 100_000
MOST_AT_ONCE = 256
MOST_A_MINUTE = 1_000_000_000
MOST_TOKENS = 128_000
"""Of one answer: no model writes more."""
EXTRA_BODY_LENGTH = 4_000
OURS = frozenset({"model", "system", "messages", "tools", "tool_choice", "stream"})
"""What a request says by itself: more of a body may not say it otherwise, or another would speak, or be told."""
ROOM = 1_500
"""Tokens that an answer has room for unless a voice is set otherwise. One that is cut off is tried with twice as many,
which is less than the 4,096 that Opus 3 may write."""
ROOM_TO_THINK = 8_000
_THINKS_UNASKED = re.compile(r"(?:.*[./])?claude-[a-z]+-5(?![0-9]).*", re.ASCII)
_KEY_NAME = re.compile(r"ANTHROPIC_API_KEY_[A-Z0-9_]+", re.ASCII)
_OPTIONS = {"region": re.compile(r"[a-z0-9-]{1,40}", re.ASCII), "project": re.compile(r"[a-z0-9:.-]{1,64}", re.ASCII)}
OPTIONS_OF = {Endpoint.ANTHROPIC: set[str](), Endpoint.BEDROCK: {"region"}, Endpoint.VERTEX: {"region", "project"}}


class VoiceRefused(Exception):
    """Raised when a voice cannot be added, changed or found. One sentence; nothing was changed."""


class NoSuchVoice(VoiceRefused):
    """Raised when no voice has this address."""

    def __init__(self) -> None:
        super().__init__(N_("There is no voice at this address."))


class CharterRefused(VoiceRefused):
    """Raised for a charter that cannot be taken."""


class CharterChanged(CharterRefused):
    """Raised when somebody else changed the charter while this change was written."""

    def __init__(self) -> None:
        super().__init__(
            "Somebody changed this charter while you wrote. Nothing of yours was saved: your words are below, beside "
            "the charter as it is now. Bring the two together and save again."
        )


class WayRefused(VoiceRefused):
    """Raised for a way of asking a voice that cannot be set. *field* is the name of what is wrong in `Ways`."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(f"{sentence} Nothing was changed.")
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """In what way a voice is asked and shown, as `records.Voice` keeps it; all of it may be changed later."""

    disclaimer: str = DISCLAIMER
    retired_on: date | None = None
    answering: Answering = Answering.EACH
    calls: Calls = Calls.LIVE
    depth: int = 10
    memory_tokens: int = 6000
    calls_at_once: int | None = None
    requests_a_minute: int | None = None
    input_tokens_a_minute: int | None = None
    output_tokens_a_minute: int | None = None
    max_tokens: int = ROOM
    anthropic_version: str | None = None
    extra_body: Mapping[str, Any] | None = None
    endpoint: Endpoint = Endpoint.ANTHROPIC
    endpoint_options: Mapping[str, Any] | None = None
    base_url: str | None = None
    key_name: str | None = None


WAYS = tuple(each.name for each in fields(Ways))
_OF_REQUESTS = (
    "answering",
    "memory_tokens",
    "max_tokens",
    "anthropic_version",
    "extra_body",
    "endpoint",
    "endpoint_options",
    "base_url",
    "key_name",
)
"""The ways that change what a request says or where it goes: an answer before tells nothing of those after."""


@dataclass(frozen=True, slots=True)
class NewVoice(Ways):
    """What makes a voice."""

    name: str
    model: str
    charter: str
    stand_in: bool = False
    price_in: float | None = None
    price_out: float | None = None


def add(session: Session, voice: NewVoice) -> Voice:
    """Add a voice. Raises `VoiceRefused` if its name is taken or cannot make an address, or a value makes no sense."""
    name = unicodedata.normalize("NFC", voice.name).strip()
    slug = slug_of(name)
    if not slug or len(name) > 80 or name.endswith(REHEARSAL_MARK):
        raise VoiceRefused("A voice's name needs at least one letter or digit, and at most 80 characters.")
    charter = charter_words(voice.charter)
    ways = checked(voice)
    _check_prices(voice.price_in, voice.price_out)
    if session.scalar(select(Voice.id).where((Voice.name == name) | (Voice.slug == slug))) is not None:
        raise VoiceRefused(f"There is a voice named {name} already.")
    row = Voice(
        name=name,
        slug=slug,
        model=voice.model,
        charter=charter,
        stand_in=voice.stand_in,
        price_in=voice.price_in,
        price_out=voice.price_out,
        created_at=now(),
        **_as_kept(ways),
    )
    session.add(row)
    session.flush()
    session.add(Charter(voice_id=row.id, charter=charter, moderator_id=None, since=row.created_at))
    session.flush()
    return row


def room_for(model: str) -> int:
    """Return the tokens that a model's answers have room for unless told: more where it thinks without being asked.

    What Opus 5.5, Sonnet 5.5, Haiku 5.5, Fable 5.1 and their elders of the fifth generation think counts as written
    (platform.claude.com, "Models overview", 2026-11; MODEL-API, section 1: "give 8,000").
    """
    return ROOM_TO_THINK if _THINKS_UNASKED.fullmatch(model) else ROOM


def set_prices(session: Session, voice: Voice, *, price_in: float | None, price_out: float | None) -> None:
    """Give a voice its prices, in US dollars for a million tokens. Raises `VoiceRefused`."""
    _check_prices(price_in, price_out)
    voice.price_in, voice.price_out = price_in, price_out
    session.flush()


def set_about(session: Session, voice: Voice, written: str) -> None:
    """Say what readers are told of a voice on its own page; nothing for "". Raises `VoiceRefused`."""
    words = unicodedata.normalize("NFC", markup.without_unseen(written)).strip()
    if len(words) > ABOUT_LENGTH:
        raise VoiceRefused(f"What is told of a voice has at most {ABOUT_LENGTH:,} characters. Nothing was changed.")
    voice.about = words if markup.shows_something(words) else None
    session.flush()


def ways_of(voice: Voice) -> Ways:
    """Return in what way a voice is asked."""
    return replace(
        Ways(**{name: getattr(voice, name) for name in WAYS}),
        answering=Answering(voice.answering),
        calls=Calls(voice.calls),
        endpoint=Endpoint(voice.endpoint),
    )


def set_ways(session: Session, voice: Voice, ways: Ways) -> None:
    """Have a voice asked in another way, from its next sitting on. The caller holds its row. Raises `WayRefused`.

    What the voice did not choose stays so: one that answers each letter from now on is not asked for what it passed by.
    """
    kept = _as_kept(checked(ways))
    if any(getattr(voice, name) != kept[name] for name in _OF_REQUESTS):
        voice.ways_changed_at = _clock(session)
    for name, value in kept.items():
        setattr(voice, name, value)
    outdated.mark_frames(session, voice.id)
    session.flush()


def checked(ways: Ways) -> Ways:
    """Return *ways* as they are kept. Raises `WayRefused` for what makes no sense, or would give a key away."""
    for field in ("base_url", "key_name", "extra_body", "endpoint_options", "anthropic_version", "disclaimer"):
        _holds_no_key(field, getattr(ways, field))
    for field, least, most, what in (
        ("depth", 1, MOST_DEPTH, "letters"),
        ("memory_tokens", 0, MOST_MEMORY, "tokens"),
        ("max_tokens", 1, MOST_TOKENS, "tokens"),
        ("calls_at_once", 1, MOST_AT_ONCE, "calls"),
        ("requests_a_minute", 1, MOST_A_MINUTE, "requests"),
        ("input_tokens_a_minute", 1, MOST_A_MINUTE, "tokens"),
        ("output_tokens_a_minute", 1, MOST_A_MINUTE, "tokens"),
    ):
        number = getattr(ways, field)
        if number is not None and not least <= number <= most:
            raise WayRefused(field, f"Write a whole number of {what}, from {least} to {most:,}.")
    if ways.endpoint is not Endpoint.ANTHROPIC and ways.calls is not Calls.LIVE:
        raise WayRefused("calls", "Bedrock and Vertex take no batches, so a voice there is called live.")
    if ways.anthropic_version is not None and not re.fullmatch(r"[A-Za-z0-9-]{1,32}", ways.anthropic_version, re.ASCII):
        raise WayRefused("anthropic_version", "Write a version of the API such as 2023-06-01.")
    if ways.key_name is not None and (not _KEY_NAME.fullmatch(ways.key_name) or len(ways.key_name) > 80):
        raise WayRefused(
            "key_name",
            "A key's name is that of a variable in the worker's environment, such as ANTHROPIC_API_KEY_SECOND; without "
            "one it is ANTHROPIC_API_KEY.",
        )
    return replace(
        Ways(**{name: getattr(ways, name) for name in WAYS}),
        disclaimer=_disclaimer(ways.disclaimer),
        base_url=_base_url(ways.base_url) if ways.base_url is not None else None,
        extra_body=_extra_body(ways.extra_body) if ways.extra_body is not None else None,
        endpoint_options=_endpoint_options(ways.endpoint, ways.endpoint_options),
    )


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


def of_essay(session: Session, essay_id: int) -> Voice | None:
    """Return the voice that wrote an essay."""
    return session.scalar(select(Voice).join(Essay, Essay.voice_id == Voice.id).where(Essay.id == essay_id))


def of_batch(session: Session, batch_id: int) -> Voice | None:
    """Return the voice that a batch was sent for."""
    return session.scalar(select(Voice).join(Batch, Batch.voice_id == Voice.id).where(Batch.id == batch_id))


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
    outdated.mark_frames(session, voice.id)
    session.flush()


def resume(session: Session, voice: Voice) -> None:
    """Ask this voice again."""
    voice.paused_at = voice.paused_why = voice.paused_until = None
    voice.failures_in_a_row = 0
    outdated.mark_frames(session, voice.id)
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
    voice.charter, voice.ways_changed_at = words, _clock(session)
    session.flush()


def cost(voice: Voice, used: Usage, *, batched: bool = False, at: datetime | None = None) -> int | None:
    """Return what a call cost in millionths of a US dollar, rounded up; None where no price is known.

    *at* is when the call was made: now, unless it is told. `prices` says which price holds.
    """
    price = prices.of(voice, at or now())
    return price.cost(used, batched=batched) if price is not None else None


def slug_of(words: str) -> str:
    """Return *words* as they stand in an address: lower-case ASCII letters, digits and single hyphens; maybe empty."""
    plain = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode().lower()
    # An apostrophe parts no words; the curved one is no ASCII, and gone already.
    return re.sub(r"[^a-z0-9]+", "-", plain.replace("'", "")).strip("-")[:80].strip("-")


def _clock(session: Session) -> datetime:
    return datetime.fromtimestamp(session.scalar(select(database_time())) or 0, UTC)


def _check_prices(*given: float | None) -> None:
    # A price that is no number would stop every call at the reckoning of what it could cost.
    if any(price is not None and not 0 <= price <= MOST_PRICE for price in given):
        raise VoiceRefused(f"A price is a number of dollars, at most {MOST_PRICE:,}. Nothing was changed.")
    # One of the two alone would say nothing of what a call costs.
    if sum(price is None for price in given) == 1:
        raise VoiceRefused("Give both prices, for what it is sent and for what it writes. Nothing was changed.")


def _as_kept(ways: Ways) -> dict[str, Any]:
    """Return *ways* by the names of the columns that keep them."""
    kept = {name: getattr(ways, name) for name in WAYS}
    return kept | {name: kept[name].value for name in ("answering", "calls", "endpoint")}


def _holds_no_key(field: str, given: object) -> None:
    said = given if isinstance(given, str) else json.dumps(given) if given is not None else ""
    if said.strip().lower().startswith("sk-") or "sk-ant-" in said.lower():
        raise WayRefused(
            field,
            "This looks like a key, and no key is kept here. Set it in the worker's environment as a variable named "
            "ANTHROPIC_API_KEY_ and a name, and give the variable's name. Then make a new key: this one has been seen.",
        )


def _disclaimer(written: str) -> str:
    words = unicodedata.normalize("NFC", markup.without_unseen(written)).strip()
    if not markup.shows_something(words) or len(words) > DISCLAIMER_LENGTH:
        raise WayRefused("disclaimer", f"A voice needs a disclaimer, in at most {DISCLAIMER_LENGTH} characters.")
    return words


def _base_url(written: str) -> str:
    """Return the address of a compatible server as the SDK wants it: without the `/v1` that each call begins with."""
    address = written.strip().rstrip("/").removesuffix("/v1").rstrip("/")
    try:
        parts = urlsplit(address)
        found = parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        parts, found = SplitResult("", "", "", "", ""), None
    plain = re.fullmatch(r"[!-~]{1,2000}", address, re.ASCII) and not re.search(r"[@?#\\]", address)
    if parts.scheme not in {"http", "https"} or not found or not plain:
        raise WayRefused(
            "base_url",
            "Write the address of a server such as https://models.example.org, without a name, a password or a query.",
        )
    return address


def _extra_body(given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        body: Any = json.loads(json.dumps(given, allow_nan=False))
    except ValueError:
        body = None
    if not isinstance(body, dict) or len(json.dumps(body)) > EXTRA_BODY_LENGTH:
        raise WayRefused("extra_body", f"Write a JSON object of at most {EXTRA_BODY_LENGTH:,} characters.")
    ours = sorted(OURS & set(body))
    if ours:
        raise WayRefused("extra_body", f"The request itself says {', '.join(ours)}; it cannot be said otherwise.")
    most = body.get("max_tokens", 1)
    if type(most) is not int or not 1 <= most <= MOST_TOKENS:
        raise WayRefused("extra_body", f"Its max_tokens must be a whole number from 1 to {MOST_TOKENS:,}.")
    return body


def _endpoint_options(endpoint: Endpoint, given: Mapping[str, Any] | None) -> dict[str, str] | None:
    for name, value in (given or {}).items():
        if name not in OPTIONS_OF[endpoint]:
            raise WayRefused(name, "A region is for Bedrock and Vertex, and a project for Vertex.")
        if not isinstance(value, str) or not _OPTIONS[name].fullmatch(value):
            raise WayRefused(name, f"Write a {name} as its cloud does: lower-case letters, digits and hyphens.")
    return dict(given) if given else None
