"""How often something may be tried, counted in Redis, or in memory while Redis is gone.

What is counted depends on what a request says, such as whom it names, so nothing here knows a request or a view. The
engine is `limits`, on which Flask-Limiter is built.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import re
import time
from dataclasses import dataclass

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.errors import StorageError
from limits.storage import MemoryStorage, storage_from_string
from limits.strategies import MovingWindowRateLimiter

log = logging.getLogger(__name__)

_LEFT_ALONE = 5.0
"""Seconds for which Redis is not asked again after it did not answer: each question may take half a second."""


@dataclass(frozen=True, slots=True)
class Bound:
    """So many times within so many seconds, whenever they begin."""

    name: str
    times: int
    seconds: int

    @property
    def rate(self) -> RateLimitItem:
        """The same, as the engine has it."""
        return RateLimitItemPerSecond(self.times, self.seconds, namespace=f"emeritus:{self.name}")


class Limits:
    """Counts what was tried. The counters hold only what they are given: give them keyed digests."""

    def __init__(self, redis: str | None) -> None:
        """Count in the Redis at this URL; in memory alone if it is None."""
        self._here = MovingWindowRateLimiter(MemoryStorage())
        self._shared: MovingWindowRateLimiter | None = None
        self._gone_until = 0.0
        if redis is not None:
            url = f"redis+{redis}" if redis.startswith("unix://") else redis
            storage = storage_from_string(url, wrap_exceptions=True, socket_timeout=0.5, socket_connect_timeout=0.5)
            self._shared = MovingWindowRateLimiter(storage)

    def take(self, bound: Bound, *who: str) -> bool:
        """Count one more try of *who*; return whether it was still within *bound*."""
        if (shared := self._reachable()) is not None:
            try:
                return shared.hit(bound.rate, *who)
            except StorageError as error:
                self._leave_alone(error)
        return self._here.hit(bound.rate, *who)

    def left(self, bound: Bound, *who: str) -> bool:
        """Return whether *who* may try once more, counting nothing."""
        if (shared := self._reachable()) is not None:
            try:
                return shared.test(bound.rate, *who)
            except StorageError as error:
                self._leave_alone(error)
        return self._here.test(bound.rate, *who)

    def wait(self, bound: Bound, *who: str) -> int:
        """Return the seconds until *who* may try once more; 1 at least."""
        if (shared := self._reachable()) is not None:
            try:
                return _seconds_until(shared.get_window_stats(bound.rate, *who).reset_time)
            except StorageError as error:
                self._leave_alone(error)
        return _seconds_until(self._here.get_window_stats(bound.rate, *who).reset_time)

    def forget(self, bound: Bound, *who: str) -> None:
        """Count the tries of *who* from nothing again."""
        self._here.clear(bound.rate, *who)
        if (shared := self._reachable()) is not None:
            try:
                shared.clear(bound.rate, *who)
            except StorageError as error:
                self._leave_alone(error)

    def _reachable(self) -> MovingWindowRateLimiter | None:
        return self._shared if time.monotonic() >= self._gone_until else None

    def _leave_alone(self, error: StorageError) -> None:
        self._gone_until = time.monotonic() + _LEFT_ALONE
        log.warning("tries are counted in memory for now: %s", type(error.storage_error).__name__)


def _seconds_until(moment: float) -> int:
    return max(1, math.ceil(moment - time.time()))


_WITH_PORT = re.compile(r"([0-9.]+):[0-9]+|\[([^\]]*)\](?::[0-9]+)?")
"""As some proxies write an address."""


def network(address: str | None) -> str:
    """Return what of an address tells one visitor from another: all of IPv4, the first half of IPv6."""
    told = address or ""
    if (with_port := _WITH_PORT.fullmatch(told)) is not None:
        told = with_port[1] or with_port[2]
    try:
        found = ipaddress.ip_address(told.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        # Whoever has one address of a /64 has all of them.
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
