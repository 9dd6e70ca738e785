"""The limits per minute, and the headers in which the API tells what is left of them."""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from workers.rehearsal.errors import LimitReached

# MODEL-API.md, section 6. Where nothing is said of input and output, each may use all that `tokens` allows.
DEFAULT_PER_MINUTE: Mapping[str, int] = {"requests": 10_000, "tokens": 100_000_000}

_NAMES = ("requests", "tokens", "input-tokens", "output-tokens")


class UnknownLimit(ValueError):
    """Raised when a limit is not written as `requests=N`, `tokens=N`, `input-tokens=N` or `output-tokens=N`."""

    def __init__(self, asked: str) -> None:
        super().__init__(f"{asked!r} is not one of {', '.join(_NAMES)} with '=' and a number a minute, from 1")


def parse_limits(asked: str, default: Mapping[str, int]) -> dict[str, int]:
    """Read limits joined by commas, upon *default*; all four are in what comes back.

    Raises `UnknownLimit`.
    """
    limits = dict(default)
    for part in (p.strip() for p in asked.split(",")):
        if not part:
            continue
        found = re.fullmatch(r"([a-z-]+)\s*=\s*([1-9][0-9]{0,14})", part)
        if found is None or found[1] not in _NAMES:
            raise UnknownLimit(part)
        limits[found[1]] = int(found[2])
    for name in _NAMES:
        limits.setdefault(name, limits["tokens"])
    return limits


class _Bucket:
    """What is left of one limit; it fills up again evenly over a minute, as the API's buckets do."""

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._left = float(per_minute)
        self._at = now

    def left(self, now: float) -> float:
        """Return what is left at *now*; below zero where an answer cost more than was left."""
        self._left = min(self.per_minute, self._left + (now - self._at) * self.per_minute / 60)
        self._at = now
        return self._left

    def take(self, amount: float, now: float) -> None:
        """Take *amount*, whether or not it is there."""
        self._left = self.left(now) - amount

    def wait_for(self, amount: float, now: float) -> float:
        """Return the seconds until *amount* is there; a whole minute for what exceeds its share, and will again."""
        if amount > self.per_minute:
            return 60.0
        return max(0.0, (amount - self.left(now)) * 60 / self.per_minute)


class Limits:
    """The four limits of the API, over all keys together."""

    def __init__(self, per_minute: Mapping[str, int], clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets = {name: _Bucket(per_minute[name], clock()) for name in _NAMES}

    def admit(self, input_tokens: int) -> None:
        """Let one request of so many tokens in, and count it.

        Raises `LimitReached`, and counts nothing, when one of the limits does not allow it now.
        """
        now = self._clock()
        wanted = {"requests": 1, "tokens": input_tokens, "input-tokens": input_tokens, "output-tokens": 1}
        for name, amount in wanted.items():
            seconds = self._buckets[name].wait_for(amount, now)
            if seconds > 0:
                # At least 1: the API counts whole seconds, and 0 would invite the same refusal again.
                raise LimitReached(name, self._buckets[name].per_minute, max(1, math.ceil(seconds)))
        for name in ("requests", "tokens", "input-tokens"):
            self._buckets[name].take(wanted[name], now)

    def spend_output(self, output_tokens: int) -> None:
        """Count what an answer cost."""
        now = self._clock()
        self._buckets["tokens"].take(output_tokens, now)
        self._buckets["output-tokens"].take(output_tokens, now)

    def headers(self) -> dict[str, str]:
        """Return `anthropic-ratelimit-*`: limit, what remains, and when all of it will be back (RFC 3339)."""
        now = self._clock()
        told: dict[str, str] = {}
        for name, bucket in self._buckets.items():
            reset = datetime.now(UTC) + timedelta(seconds=math.ceil(bucket.wait_for(bucket.per_minute, now)))
            told[f"anthropic-ratelimit-{name}-limit"] = str(bucket.per_minute)
            told[f"anthropic-ratelimit-{name}-remaining"] = str(max(0, int(bucket.left(now))))
            told[f"anthropic-ratelimit-{name}-reset"] = reset.strftime("%Y-%m-%dT%H:%M:%SZ")
        return told
