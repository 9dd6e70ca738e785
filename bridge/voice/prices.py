"""What a call to a model costs: a table by model and day (`prices.toml`), under the prices that a voice has of its own.

All reckoning is exact, in decimals; what it comes to is in millionths of a US dollar, rounded up once.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from bridge.records import Endpoint, Voice
from bridge.voice.model import Usage

OF_ITS_OWN = "the voice's own"
"""The source of a price that no table gave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a million tokens cost in US dollars, which is what one costs in millionths of a dollar."""

    input: Decimal
    output: Decimal
    cache_write: Decimal = Decimal("1.25")
    """This and the next two are what a token costs in tokens of input (MODEL-API, section 2)."""
    cache_write_hour: Decimal = Decimal(2)
    cache_read: Decimal = Decimal("0.1")
    batch: Decimal = Decimal("0.5")
    """What a call in a batch costs of what it would cost live."""
    long_prompt: int | None = None
    """Above so many tokens of prompt the whole call costs the two prices below instead."""
    long_input: Decimal | None = None
    long_output: Decimal | None = None
    model: str
    since: date | None = None
    """None: a voice's own price, which holds whenever it is asked."""
    source: str

    def cost(self, used: Usage, *, batched: bool = False) -> int:
        """Return what a call cost in millionths of a US dollar, rounded up."""
        short = used.cache_written - used.cache_written_for_an_hour
        paid_in = (
            used.fresh
            + self.cache_read * used.cache_read
            + self.cache_write * short
            + self.cache_write_hour * used.cache_written_for_an_hour
        )
        return self._of(used.fresh + used.cache_read + used.cache_written, paid_in, used.output, batched)

    def greatest(self, prompt: int, output: int, *, batched: bool = False, for_an_hour: bool = False) -> int:
        """Return the most that a call of so many tokens can cost: as if all of its prompt were written to the cache."""
        dearest = max(Decimal(1), self.cache_write, self.cache_write_hour if for_an_hour else Decimal(1))
        return self._of(prompt, dearest * prompt, output, batched)

    def as_record(self) -> dict[str, Any]:
        """Return this price as JSON, for the record of a call; `recorded` gives it back."""
        told = {name: getattr(self, name) for name in self.__slots__}
        return {
            name: str(value) if isinstance(value, Decimal) else value.isoformat() if isinstance(value, date) else value
            for name, value in told.items()
            if value is not None
        }

    def _of(self, prompt: int, paid_in: Decimal | int, output: int, batched: bool) -> int:
        each_in, each_out = self.input, self.output
        if self.long_prompt is not None and prompt > self.long_prompt:
            each_in, each_out = self.long_input or each_in, self.long_output or each_out
        whole = paid_in * each_in + output * each_out
        return math.ceil(whole * self.batch if batched else whole)


def of(voice: Voice, at: datetime) -> Price | None:
    """Return what a call to *voice* costs at a moment; None where nobody knows.

    Prices that the voice has of its own win. The table is of Anthropic's own API: a voice at Bedrock or Vertex has no
    price but its own.
    """
    listed = row(voice.model, at.astimezone(UTC).date())
    if voice.price_in is not None and voice.price_out is not None:
        factors = {name: getattr(listed, name) for name in _FACTORS} if listed is not None else {}
        return _read(
            {"input": str(voice.price_in), "output": str(voice.price_out), "model": voice.model, "source": OF_ITS_OWN}
            | factors
        )
    return listed if voice.endpoint == Endpoint.ANTHROPIC.value else None


def row(model: str, day: date) -> Price | None:
    """Return the table's newest row of a model that is not after *day*."""
    return next(
        (each for each in table() if each.model == model and each.since is not None and each.since <= day), None
    )


@cache
def table() -> tuple[Price, ...]:
    """Return the table's rows, the newest first."""
    written = tomllib.loads((files("bridge.voice") / "prices.toml").read_text(encoding="utf-8"), parse_float=Decimal)
    return tuple(sorted((_read(each) for each in written["price"]), key=lambda each: str(each.since), reverse=True))


def recorded(record: Mapping[str, Any] | None) -> Price | None:
    """Return the price that a call's record keeps; None if it keeps none."""
    return _read({**record, "since": _day(record.get("since"))}) if record else None


_FACTORS = ("cache_write", "cache_write_hour", "cache_read", "batch")
_DECIMALS = ("input", "output", *_FACTORS, "long_input", "long_output")


def _read(written: Mapping[str, Any]) -> Price:
    told: dict[str, Any] = {name: Decimal(value) if name in _DECIMALS else value for name, value in written.items()}
    return Price(**told)


def _day(written: str | None) -> date | None:
    return date.fromisoformat(written) if written is not None else None
