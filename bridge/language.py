"""In which language a page or a mail is said, and how it says days, times and numbers.

English is what templates and messages are written in; the others come from the catalogues in `locales/`. What is being
said now is a context variable, set once for a request, a stored page or a mail: text has no other parameter for it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache
from gettext import NullTranslations
from pathlib import Path

from babel import Locale, dates, numbers
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations
from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header

LOCALES = Path(__file__).parent / "locales"
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


@lru_cache(maxsize=512)
def chosen(asked: str | None, accepted: str, offered: tuple[str, ...]) -> str:
    """Return the language for a reader: what the address says, else the best that the browser accepts (RFC 9110)."""
    if asked is not None and asked in offered:
        return asked
    return parse_accept_header(accepted[:512], LanguageAccept).best_match(offered) or offered[0]


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


def N_(message: str) -> str:
    """Mark *message* for the catalogues; it is put into words where it is shown."""
    return message


def day(at: datetime | date) -> str:
    """Say a day: "24 November 2026"."""
    return dates.format_date(at, _PATTERNS.get(tongue().code, "long"), locale=_locale())


def moment(at: datetime) -> str:
    """Say a moment, in UTC: "24 November 2026, 18:05 UTC"."""
    return f"{day(at)}, {dates.format_time(at.astimezone(UTC), 'HH:mm', locale=_locale())} UTC"


def number(count: int) -> str:
    """Say a number: "5,000"."""
    return numbers.format_decimal(count, locale=_locale())


def span(seconds: float) -> str:
    """Say how long something takes, roughly: "5 hours"."""
    lasts = timedelta(seconds=max(60, seconds))
    return dates.format_timedelta(lasts, granularity="minute", threshold=1.5, locale=_locale())


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
