"""In which language a page or a mail is said, and how it says days, times and numbers.

English is what templates and messages are written in; the others come from the catalogues in `locales/`. What is being
said now is a context variable, set once for a request, a stored page or a mail: text has no other parameter for it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache
from gettext import NullTranslations
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlencode

from babel import Locale, dates, numbers, units
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations
from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header

LOCALES = Path(__file__).parents[1] / "locales"
ENGLISH = "en"


@dataclass(frozen=True, slots=True)
class Tongue:
    """The language that something is said in, and whether it is the site's own."""

    code: str = ENGLISH
    first: bool = True

    @property
    def direction(self) -> str:
        """ "ltr" or "rtl", as HTML wants it."""
        return "rtl" if Locale.parse(self.code).text_direction == "rtl" else "ltr"

    @property
    def name(self) -> str:
        """What its speakers call it."""
        return Locale.parse(self.code).get_display_name() or self.code


_now: ContextVar[Tongue] = ContextVar("tongue", default=Tongue())  # noqa: B039  (It is frozen.)


def tongue() -> Tongue:
    """Return what is being spoken now."""
    return _now.get()


def speak(code: str, offered: Sequence[str]) -> None:
    """Speak *code* from here on, in this context; the site's own language if it is none of those *offered*."""
    code = code if code in offered else offered[0]
    _now.set(Tongue(code, first=code == offered[0]))


@contextmanager
def speaking(code: str | None, offered: Sequence[str] = (ENGLISH,)) -> Iterator[Tongue]:
    """Speak *code* within the block, or the site's own language if it is none of those *offered*."""
    spoken = code if code is not None and code in offered else offered[0]
    token = _now.set(Tongue(spoken, first=spoken == offered[0]))
    try:
        yield _now.get()
    finally:
        _now.reset(token)


@dataclass(frozen=True, slots=True)
class Other:
    """A language in which a page can be read, by what its speakers call it, and where."""

    code: str
    name: str
    address: str
    """Relative to the page: what is in its path may be a key, and is not written once more."""


def others(offered: Sequence[str], query: Mapping[str, str] = MappingProxyType({})) -> list[Other]:
    """Return where a page with this *query* is read in each language *offered*; each address says which."""
    kept = {name: value for name, value in query.items() if name != "lang"}
    return [Other(code, Tongue(code).name, f"?{urlencode({**kept, 'lang': code})}") for code in offered]


def chosen(asked: str | None, accepted: str, offered: tuple[str, ...]) -> str:
    """Return the language for a reader: what the address says, else what the browser wants most (RFC 4647, lookup)."""
    return asked if asked in offered and asked is not None else _wanted_most(accepted[:512], offered)


@lru_cache(maxsize=512)
def _wanted_most(accepted: str, offered: tuple[str, ...]) -> str:
    for wanted, quality in parse_accept_header(accepted, LanguageAccept):
        primary = wanted.partition("-")[0].lower()
        if quality > 0 and primary in offered:
            return primary
    return offered[0]


def gettext(message: str) -> str:
    """Return *message* in what is spoken now."""
    return _catalogue(tongue().code).gettext(message)


def ngettext(one: str, many: str, number: int) -> str:
    """Return the form of a message that goes with *number*."""
    return _catalogue(tongue().code).ngettext(one, many, number)


def pgettext(context: str, message: str) -> str:
    """Return *message* as it is said in *context*."""
    return _catalogue(tongue().code).pgettext(context, message)


def npgettext(context: str, one: str, many: str, number: int) -> str:
    """Return the form of a message that goes with *number*, as it is said in *context*."""
    return _catalogue(tongue().code).npgettext(context, one, many, number)


def worded(refused: Exception, sentence: str | None = None) -> str:
    """Say what a refusal says: its `sentence` with its `parts` put in, if it has them, else *sentence* or its own."""
    said: str = getattr(refused, "sentence", None) or sentence or str(refused)
    parts: Mapping[str, int | str] = getattr(refused, "parts", {})
    if not parts:
        # Without parts a sentence is no pattern: a reason in somebody's own words may have a "%" in it.
        return gettext(said)
    return gettext(said) % {n: number(part) if isinstance(part, int) else part for n, part in parts.items()}


def N_(message: str) -> str:
    """Mark *message* for the catalogues; it is put into words where it is shown."""
    return message


def day(at: datetime | date) -> str:
    """Say a day: "24 November 2026"."""
    return dates.format_date(at, _PATTERNS.get(tongue().code, "long"), locale=_locale())


def month(at: date, *, short: bool = False) -> str:
    """Say a month: "November 2026", or "Nov"."""
    return dates.format_date(at, "LLL" if short else "LLLL y", locale=_locale())


def moment(at: datetime) -> str:
    """Say a moment, in UTC: "24 November 2026, 18:05 UTC"."""
    return f"{day(at)}{gettext(', ')}{dates.format_time(at.astimezone(UTC), 'HH:mm', locale=_locale())} UTC"


def number(count: int) -> str:
    """Say a number: "5,000"."""
    return numbers.format_decimal(count, locale=_locale())


def span(seconds: float) -> str:
    """Say how long something takes, roughly: "5 hours"."""
    lasts = timedelta(seconds=max(60, seconds))
    return dates.format_timedelta(lasts, granularity="minute", threshold=1.5, locale=_locale())


def unit(count: int, of: str) -> str:
    """Say so many seconds, minutes, hours or days, shortly: "5 min"."""
    return units.format_unit(count, f"duration-{of}", length="short", locale=_locale())


_PATTERNS = {"en": "d MMMM y"}
"""As the house writes days, where that is not how the language's own default does."""


def _locale() -> Locale:
    return Locale.parse(tongue().code)


@cache
def _catalogue(code: str) -> NullTranslations:
    file = LOCALES / code / "LC_MESSAGES" / "emeritus.po"
    if code == ENGLISH or not file.exists():
        return NullTranslations()
    compiled = io.BytesIO()
    with file.open("rb") as written:
        # What is unsure ("fuzzy") is left out: English is better than a guess.
        write_mo(compiled, read_po(written, locale=code))
    compiled.seek(0)
    return Translations(compiled, domain="emeritus")
