"""The pace of a voice's calls, over all workers: how many at once, and how much a minute.

The state of `workers.turns` is kept in Redis, for each endpoint and model, and forgotten after two minutes of silence.
Without Redis, each process goes on by itself with the state it knew last: the pace is worse then, and nothing is lost.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

from redis import asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from bridge.voice.model import RateLimits, Usage
from workers.turns import (
    PLACE_SECONDS,
    Bounds,
    Heard,
    Place,
    State,
    Want,
    admitted,
    awake,
    freed,
    heard,
    joined,
    kept_until,
    learnt,
    read,
    refused,
    returned,
    settled,
    written,
)

__all__ = ["Bounds", "NoPace", "Pace", "PaceTooSlow"]

log = logging.getLogger(__name__)

RECKON_EVERY = 1.0
"""Seconds after which a wait is reckoned again: other workers may have learnt or taken something meanwhile."""
LEFT_ALONE = 5.0
"""Seconds for which Redis is not asked again after it did not answer: each question may take half a second."""
_LEAST_SLEEP = 0.001

# Stores the new state only where the old one still stands, and otherwise says what stands there.
_STORE = """
local there = redis.call('GET', KEYS[1]) or ''
if there ~= ARGV[1] then return there end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return false
"""

Sleep = Callable[[float], Awaitable[object]]
Step = Callable[[State], State]


class PaceTooSlow(Exception):
    """Raised when a call would have to wait longer than it may; `seconds` tells when it may be tried again."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"The pace of this voice allows the call in {seconds:.0f} s. It was not made.")


@dataclass(slots=True)
class _Waiter:
    want: Want
    until: float
    turn: asyncio.Future[float]
    """0 when it is there, or else the seconds after which it would have been."""


@dataclass(frozen=True, slots=True)
class _Due:
    """What has come together since the state was last settled."""

    steps: Sequence[Step]
    ended: Sequence[str]
    line: Mapping[str, Want]


class Pace:
    """The pace of one voice, for one event loop. *who* names the endpoint and the model, and holds no secret.

    All that one process asks for goes through one task: whoever waits is in one line, and what was asked for meanwhile
    is settled with Redis at once.
    """

    def __init__(
        self,
        redis_url: str | None,
        who: str,
        bounds: Bounds,
        *,
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keep the pace in the Redis at this URL; in memory alone if it is None."""
        self._bounds = bounds
        self._sleep = sleep
        self._clock = clock
        self._key = f"emeritus:pace:{who}"
        self._redis: redis.Redis | None = None
        if redis_url is not None:
            self._redis = redis.Redis.from_url(
                redis_url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=Retry(NoBackoff(), 0)
            )
        self._state = State()
        self._stored = b""
        self._seen_at = -math.inf
        self._gone_at: float | None = None
        self._mark = f"{secrets.token_hex(6)}-"
        self._count = itertools.count()
        self._held: dict[str, Place] = {}
        self._heard: dict[str, Heard] = {}
        self._ended: list[str] = []
        self._waiting: dict[str, _Waiter] = {}
        self._steps: list[Step] = []
        self._changed = False
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def turn(self, *, input_tokens: int, output_tokens: int, longest: float) -> AsyncIterator[None]:
        """Wait for a place among the calls at once and a share of the minute; the place is free again on leaving.

        Whoever came first in this process goes first, and the processes in which somebody waits take turns. Raises
        `PaceTooSlow` as soon as it is clear that it would take longer than *longest* seconds.
        """
        if self._is_free():
            yield
            return
        place_id = f"{self._mark}{next(self._count)}"
        turn: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        want = Want(max(0, input_tokens), max(0, output_tokens))
        self._waiting[place_id] = _Waiter(want, self._clock() + longest, turn)
        self._wake()
        try:
            if too_slow := await turn:
                raise PaceTooSlow(too_slow)
            yield
        finally:
            if self._waiting.pop(place_id, None) is not None:
                # It was cancelled: in the line of all, others stand behind it.
                self._wake()
            if place_id in self._held:
                # After what its answer taught, which was learnt while the call had its place.
                self._ended.append(place_id)
                self._tell(partial(freed, place_id=place_id))

    async def learn(self, limits: RateLimits, *, expected: int | None = None, used: Usage | None = None) -> None:
        """Learn from an answer, within its turn: from the headers, and from what it used of the *expected* input.

        Does not wait for Redis.
        """
        if limits or (used is not None and not self._is_free()):
            self._tell(partial(learnt, limits=limits, bounds=self._bounds, expected=expected, used=used))

    async def slow_down(self, seconds: float, limits: RateLimits, *, expected: int | None = None) -> None:
        """Let nothing begin for *seconds* and then half as many at once, after the API refused a call in its turn.

        Where it is to be slowed down for no second, as many may be made at once as before. What was *expected* of the
        call is put back: the API did not count it. Does not wait for Redis.
        """

        def step(state: State) -> State:
            if expected is not None:
                state = returned(state, Want(expected, 0))
            state = learnt(state, limits, self._bounds, expected=expected, used=None)
            return refused(state, seconds, self._bounds, self._clock()) if seconds else state

        self._tell(step)

    def keep_places(self) -> None:
        """Keep the places of the calls under way: to be said again well within `turns.PLACE_SECONDS`."""
        if self._held:
            until = self._clock() + PLACE_SECONDS
            self._held = {key: replace(place, until=until) for key, place in self._held.items()}
            self._wake()

    async def close(self) -> None:
        """Say what is still to be said to Redis, and leave it. Whoever still waits for a turn is cancelled."""
        self._changed = self._changed or bool(self._waiting)
        for waiter in self._waiting.values():
            waiter.turn.cancel()
        self._waiting.clear()
        self._woken.set()
        if self._task is not None:
            await self._task
        if self._redis is not None:
            with suppress(RedisError, OSError):
                await self._redis.aclose()

    def _is_free(self) -> bool:
        """Say whether nothing binds, as far as was known a second ago."""
        # What was told and is not settled yet may bind, unless it is only that calls have ended.
        told = len(self._steps) > len(self._ended)
        if self._bounds != Bounds() or self._state.binds or told or self._waiting:
            return False
        return self._redis is None or 0 <= self._clock() - self._seen_at < RECKON_EVERY

    def _tell(self, step: Step) -> None:
        self._steps.append(step)
        self._wake()

    def _wake(self) -> None:
        self._changed = True
        self._woken.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._attend())

    async def _attend(self) -> None:
        """Settle what was told and who waits, until nothing is left to do: the only one that changes the state."""
        try:
            while self._changed or self._waiting:
                self._changed = False
                self._woken.clear()
                due = _Due(self._steps, self._ended, {key: waiter.want for key, waiter in self._waiting.items()})
                self._steps, self._ended = [], []
                waits = await self._settle(due)
                for place_id in due.ended:
                    del self._held[place_id]
                pause = self._call_up(list(due.line), waits)
                if pause is not None and not self._changed:
                    await self._rest(pause)
        except BaseException as error:
            # Nobody may wait for what has ended.
            for waiter in self._waiting.values():
                if not waiter.turn.done():
                    waiter.turn.set_exception(error)
            raise

    def _call_up(self, line: Sequence[str], waits: Sequence[float]) -> float | None:
        """Tell each in *line* what was found; return the seconds to rest until one of them may go."""
        now, pause = self._clock(), None
        for place_id, wait in zip(line, waits, strict=True):
            waiter = self._waiting.get(place_id)
            if waiter is None or waiter.turn.done():
                # It went away meanwhile; a place that it was given is left out the next time.
                self._waiting.pop(place_id, None)
                self._changed = True
            elif not wait:
                del self._waiting[place_id]
                self._held[place_id] = self._state.places[place_id]
                waiter.turn.set_result(0.0)
            elif now + wait > waiter.until:
                del self._waiting[place_id]
                waiter.turn.set_result(wait)
                # In the line of all, others stand behind it.
                self._changed = True
            elif pause is None:
                pause = max(_LEAST_SLEEP, min(wait, RECKON_EVERY))
        return pause

    async def _rest(self, seconds: float) -> None:
        resting = {asyncio.ensure_future(self._sleep(seconds)), asyncio.ensure_future(self._woken.wait())}
        try:
            await asyncio.wait(resting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in resting:
                each.cancel()

    async def _settle(self, due: _Due) -> list[float]:
        """Take the steps and give out places, in Redis or here; return what `admitted` says of the waits."""
        if self._redis is not None and not (
            self._gone_at is not None and 0 <= self._clock() - self._gone_at < LEFT_ALONE
        ):
            try:
                return await self._settle_in(self._redis, due)
            except (RedisError, OSError) as error:
                if self._gone_at is None:
                    log.warning("the pace is kept in memory for now: %s", type(error).__name__)
                self._gone_at = self._clock()
        # Where nobody can be heard, nobody is waited for.
        mine = {key: head for key, head in self._state.heads.items() if key == self._mark}
        self._state, waits = self._after(replace(self._state, heads=mine), due)
        return waits

    async def _settle_in(self, server: redis.Redis, due: _Due) -> list[float]:
        before, stored = self._state, self._stored
        # Ends: each time round, another worker has got its own state in.
        while True:
            after, waits = self._after(before, due)
            new, lasts = written(after), kept_until(after) - after.at
            found = await server.eval(_STORE, 1, self._key, stored, new, str(math.ceil(lasts * 1000)))
            if found is None:
                self._state, self._stored, self._gone_at, self._seen_at = after, new, None, self._clock()
                return waits
            stored = found
            # What Redis has lost, this process still knows.
            before = read(found) if found else self._state
            if found and self._gone_at is not None:
                now = self._clock()
                before = joined(settled(self._state, self._bounds, now), settled(before, self._bounds, now))

    def _after(self, state: State, due: _Due) -> tuple[State, list[float]]:
        now = self._clock()
        # This process knows its own places and its own turn best, whatever became of them in Redis.
        places = {key: place for key, place in state.places.items() if not key.startswith(self._mark)}
        heads = {key: head for key, head in state.heads.items() if key != self._mark}
        self._heard = heard(heads, self._heard, now)
        heads = awake(self._heard, now)
        if self._mark in self._state.heads:
            heads[self._mark] = self._state.heads[self._mark]
        state = settled(replace(state, places={**places, **self._held}, heads=heads), self._bounds, now)
        for step in due.steps:
            state = step(state)
        return admitted(state, due.line.items(), self._bounds, now, who=self._mark)


class NoPace(Pace):
    """A pace that holds nobody back and learns nothing."""

    def __init__(self) -> None:
        """Keep nothing anywhere."""
        super().__init__(None, "", Bounds())

    async def learn(self, limits: RateLimits, *, expected: int | None = None, used: Usage | None = None) -> None:
        """Learn nothing."""

    async def slow_down(self, seconds: float, limits: RateLimits, *, expected: int | None = None) -> None:
        """Leave the waiting to whoever was refused."""
