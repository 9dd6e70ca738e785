"""The pace of a voice's calls: in one process, and over several with a real Valkey. Time passes only when told to."""

import asyncio
import gc
import heapq
import itertools
import logging
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import anthropic
import pytest
from ground.workshop import ScriptedModel, Workshop, message, quoted
from redis import Redis
from sqlalchemy import select

from bridge.records import Reply
from bridge.voice.model import Allowance, Usage
from moderation.base import now
from workers import asking, sitting, valkey
from workers.pace import LEFT_ALONE, Bounds, NoPace, Pace, PaceTooSlow
from workers.rehearsal import RehearsalSettings, running
from workers.turns import CLOCKS_DIFFER, HEARD_WITHIN, PLACE_SECONDS, RISES_AFTER, State, read

WHO = "api.test/test-voice"
FREE = Bounds()
START = 1_800_000_000.0
NOBODY = "redis://127.0.0.1:1"
USED = Usage(1, 0, 0, 0, 1)


class Time:
    """A clock that stands until it is moved, and sleep by that clock."""

    def __init__(self) -> None:
        self.now = START
        self._sleeping: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = itertools.count()

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleeping, (self.now + seconds, next(self._count), woken))
        await woken

    async def passes(self, seconds: float) -> None:
        """Move on, and wake in order those whose time has come; each does what it can before the next."""
        end = self.now + seconds
        while True:
            await settled()
            self._sleeping = [each for each in self._sleeping if not each[2].done()]
            heapq.heapify(self._sleeping)
            if not self._sleeping or self._sleeping[0][0] > end:
                break
            self.now, _, woken = heapq.heappop(self._sleeping)
            woken.set_result(None)
        self.now = end
        await settled()


async def settled() -> None:
    """Let everything run that waits for nothing but its turn in the loop."""
    for _ in range(50):
        await asyncio.sleep(0)


async def happens(what: Callable[[], object]) -> None:
    """Wait for something that Valkey has a part in."""
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.001)


async def passes_until(time: Time, what: Callable[[], object]) -> None:
    """Let time pass until something happens that Valkey has a part in: it answers when it likes."""
    while not what():
        await time.passes(1)
        await asyncio.sleep(0.001)


class Hurried:
    """A clock that whoever sleeps moves on: where a real Valkey answers, nobody knows when all is settled."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        # A little later, for what has come by itself meanwhile to come first.
        await asyncio.sleep(0.005)
        self.now += seconds


Clock = Time | Hurried


@asynccontextmanager
async def pace(url: str | None, clock: Clock, bounds: Bounds = FREE, who: str = WHO) -> AsyncIterator[Pace]:
    made = Pace(url, who, bounds, sleep=clock.sleep, clock=clock)
    try:
        yield made
    finally:
        await made.close()


class Call:
    """A call that lasts until it is ended."""

    def __init__(self, of: Pace, *, input_tokens: int = 100, output_tokens: int = 10, longest: float = 1e6) -> None:
        self.begun = False
        self.too_slow: float | None = None
        self._end = asyncio.Event()
        self.task = asyncio.create_task(self._make(of, input_tokens, output_tokens, longest))

    async def _make(self, of: Pace, input_tokens: int, output_tokens: int, longest: float) -> None:
        try:
            async with of.turn(input_tokens=input_tokens, output_tokens=output_tokens, longest=longest):
                self.begun = True
                await self._end.wait()
        except PaceTooSlow as slow:
            self.too_slow = slow.seconds

    async def ends(self) -> None:
        self._end.set()
        await self.task


async def end_all(calls: list[Call]) -> None:
    for call in calls:
        call.task.cancel()
    await asyncio.gather(*(call.task for call in calls), return_exceptions=True)


def count(calls: list[Call]) -> int:
    return sum(call.begun for call in calls)


def commands(url: str) -> int:
    """How often Valkey was asked to keep a state."""
    with Redis.from_url(url) as client:
        return int(client.info("commandstats").get("cmdstat_eval", {"calls": 0})["calls"])


def kept_in(url: str) -> State:
    """Return what Valkey has of the pace."""
    with Redis.from_url(url) as client:
        return read(client.get(f"emeritus:pace:{WHO}") or b"")


def run(test: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(bounded())


# In one process


def test_lets_three_begin_and_then_one_each_seventeen_seconds() -> None:
    async def test() -> None:
        time = Time()
        async with pace(None, time, Bounds(input_tokens=20_000)) as voice:
            calls = [Call(voice, input_tokens=5_600) for _ in range(8)]
            began = {}
            for second in range(80):
                await time.passes(1 if second else 0)
                began[count(calls)] = began.get(count(calls), time.now - START)
            assert began == {3: 0, 4: 8, 5: 24, 6: 41, 7: 58, 8: 75}
            await end_all(calls)

    run(test())


def test_keeps_to_the_calls_at_once_first_come_first_served() -> None:
    async def test() -> None:
        time = Time()
        async with pace(None, time, Bounds(at_once=2)) as voice:
            calls = [Call(voice) for _ in range(5)]
            await settled()
            assert [call.begun for call in calls] == [True, True, False, False, False]
            await calls[1].ends()
            await settled()
            assert [call.begun for call in calls] == [True, True, True, False, False]
            await end_all(calls)

    run(test())


def test_gives_the_place_back_when_a_call_fails() -> None:
    async def test() -> None:
        async with pace(None, Time(), Bounds(at_once=1)) as voice:
            for _ in range(3):
                with pytest.raises(ZeroDivisionError):
                    async with voice.turn(input_tokens=1, output_tokens=1, longest=0):
                        raise ZeroDivisionError
                await settled()

    run(test())


def test_says_at_once_when_a_turn_would_come_too_late() -> None:
    async def test() -> None:
        time = Time()
        async with pace(None, time, Bounds(input_tokens=20_000)) as voice:
            calls = [Call(voice, input_tokens=5_600, longest=60) for _ in range(8)]
            await settled()
            # Those before it in the line are counted.
            late = [call.too_slow for call in calls if call.too_slow is not None]
            assert late == pytest.approx([7.2 + 4 * 16.8])
            assert count(calls) == 3
            await time.passes(60)
            assert count(calls) == 7
            await end_all(calls)

    run(test())


def test_says_it_when_the_places_were_taken_for_too_long() -> None:
    async def test() -> None:
        time = Time()
        async with pace(None, time, Bounds(at_once=1)) as voice:
            calls = [Call(voice), Call(voice, longest=60), Call(voice, longest=70)]
            for _ in range(5):
                await time.passes(10)
                voice.keep_places()
            await time.passes(9)
            assert [call.too_slow for call in calls] == [None, None, None]
            await time.passes(1)
            assert calls[1].too_slow is not None
            await calls[0].ends()
            await settled()
            assert calls[2].begun
            await end_all(calls)

    run(test())


def test_leaves_no_place_with_those_who_went_away(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with pace(None, Time(), Bounds(at_once=1)) as voice:
            # Before it asked, while it was given its turn, while it waited, in its turn.
            for turns_of_the_loop in range(12):
                call = Call(voice)
                for _ in range(turns_of_the_loop):
                    await asyncio.sleep(0)
                await end_all([call])
            # And just when the place becomes free.
            for turns_of_the_loop in range(12):
                first, waiting = Call(voice), Call(voice)
                await settled()
                first.task.cancel()
                for _ in range(turns_of_the_loop):
                    await asyncio.sleep(0)
                await end_all([waiting, first])
            first, waiting, last = Call(voice), Call(voice), Call(voice)
            await settled()
            assert first.begun
            await end_all([waiting])
            await first.ends()
            await settled()
            assert last.begun
            await end_all([last])

    run(test())
    gc.collect()
    assert not caplog.records


def test_holds_everybody_back_after_a_refusal_and_then_half_of_them() -> None:
    async def test() -> None:
        time = Time()
        async with pace(None, time, Bounds(at_once=8)) as voice:
            calls = [Call(voice) for _ in range(8)]
            await settled()
            for call in calls:
                await voice.slow_down(10, {}, expected=100)
                await call.ends()
            calls = [Call(voice) for _ in range(8)]
            await time.passes(9.9)
            assert count(calls) == 0
            await time.passes(0.1)
            assert count(calls) == 4
            for _ in range(RISES_AFTER):
                await voice.learn({}, expected=100, used=USED)
            await settled()
            assert count(calls) == 5
            await end_all(calls)

    run(test())


def test_slows_down_a_voice_without_bounds_too() -> None:
    async def test() -> None:
        time = Time()
        async with pace(None, time) as voice:
            async with voice.turn(input_tokens=100, output_tokens=10, longest=0):
                await voice.slow_down(20, {})
            with pytest.raises(PaceTooSlow) as late:
                async with voice.turn(input_tokens=100, output_tokens=10, longest=5):
                    pass
            assert late.value.seconds == 20
            calls = [Call(voice) for _ in range(3)]
            await time.passes(20)
            assert count(calls) == 1
            await end_all(calls)

    run(test())


def test_learns_from_an_answer_before_its_place_is_free() -> None:
    async def test() -> None:
        time = Time()
        async with pace(None, time) as voice:
            first = Call(voice, input_tokens=5_600)
            await settled()
            await voice.learn(
                {"input-tokens": Allowance(20_000, 14_400, 17.0)}, expected=5_600, used=Usage(5_600, 0, 0, 0, 5)
            )
            await first.ends()
            calls = [Call(voice, input_tokens=5_600) for _ in range(4)]
            await settled()
            assert count(calls) == 2
            # Both read the cache, which is not counted: there is room for the others.
            for call in calls[:2]:
                await voice.learn(
                    {"input-tokens": Allowance(20_000, 14_300, 17.0)}, expected=5_600, used=Usage(9, 5_591, 0, 0, 5)
                )
                await call.ends()
            await settled()
            assert count(calls) == 4
            await end_all(calls)

    run(test())


def test_holds_nobody_back_where_nothing_binds() -> None:
    async def test() -> None:
        voice = Pace(None, WHO, FREE)
        for _ in range(3):
            await voice.learn({}, expected=1, used=USED)
            calls = [Call(voice, longest=0) for _ in range(200)]
            await asyncio.sleep(0)
            assert count(calls) == 200
            await end_all(calls)

    run(test())


def test_can_be_done_without() -> None:
    async def test() -> None:
        voice = NoPace()
        await voice.slow_down(1_000, {"requests": Allowance(1, 0, 60.0)}, expected=1)
        await voice.learn({"requests": Allowance(1, 0, 60.0)}, expected=1, used=USED)
        calls = [Call(voice, longest=0) for _ in range(5)]
        await asyncio.sleep(0)
        assert count(calls) == 5
        await end_all(calls)
        await voice.close()

    run(test())


def test_leaves_nobody_waiting_when_it_is_closed() -> None:
    async def test() -> None:
        voice = Pace(None, WHO, Bounds(at_once=1), clock=Time())
        calls = [Call(voice) for _ in range(3)]
        await settled()
        await voice.close()
        with pytest.raises(asyncio.CancelledError):
            await calls[1].task
        await end_all(calls)

    run(test())


# In several


def test_shares_the_calls_at_once_with_other_workers(valkey_url: str) -> None:
    async def test() -> None:
        time = Hurried()
        bounds = Bounds(at_once=3)
        async with pace(valkey_url, time, bounds) as one, pace(valkey_url, time, bounds) as other:
            mine = [Call(one) for _ in range(4)]
            await happens(lambda: count(mine) == 3)
            theirs = [Call(other), Call(other)]
            looked = commands(valkey_url)
            await happens(lambda: commands(valkey_url) > looked + 10)
            assert (count(mine), count(theirs)) == (3, 0)
            await end_all(mine)
            await happens(lambda: count(theirs) == 2)
            await end_all(theirs)

    run(test())


def test_shares_the_minute_with_other_workers(valkey_url: str) -> None:
    async def test() -> None:
        time, bounds, begun = Hurried(), Bounds(input_tokens=20_000), []

        async def calls(of: Pace) -> None:
            async with of.turn(input_tokens=5_600, output_tokens=1, longest=1e6):
                begun.append(time.now)

        async with pace(valkey_url, time, bounds) as one, pace(valkey_url, time, bounds) as other:
            await asyncio.gather(*(calls(each) for each in (one, other) * 8))
        assert len(begun) == 16
        for first, since in enumerate(begun):
            for more, at in enumerate(begun[first:], 1):
                assert more * 5_600 <= 20_000 + (at - since) * 20_000 / 60 + 1

    run(test())


def test_shares_what_the_headers_and_a_refusal_said(valkey_url: str) -> None:
    async def test() -> None:
        time = Time()
        async with pace(valkey_url, time) as one, pace(valkey_url, time) as other:
            async with one.turn(input_tokens=1, output_tokens=1, longest=0):
                await one.learn({"requests": Allowance(2, 1, 30.0)}, expected=1, used=USED)
            await happens(lambda: one._state.told)
            calls = [Call(other), Call(other)]
            await happens(lambda: count(calls) == 1)
            await one.slow_down(900, {})
            await happens(lambda: one._state.closed_until)
            late = Call(other, longest=60)
            await happens(lambda: late.too_slow == 900)
            await end_all(calls)

    run(test())


@dataclass
class Behind:
    """A clock that goes as another does, and is set some seconds behind or before it."""

    of: Hurried
    seconds: float

    def __call__(self) -> float:
        return self.of() - self.seconds

    async def sleep(self, seconds: float) -> None:
        await self.of.sleep(seconds)


@pytest.mark.parametrize("behind", [0, CLOCKS_DIFFER - 1, 1 - CLOCKS_DIFFER])
def test_has_workers_take_turns(valkey_url: str, behind: float) -> None:
    async def test() -> None:
        time, bounds, begun = Hurried(), Bounds(at_once=1), []

        async def call(of: Pace, whose: str) -> None:
            async with of.turn(input_tokens=1, output_tokens=1, longest=1e6):
                begun.append(whose)
                # The first lasts until both wait for the place.
                await happens(lambda: len(begun) > 1 or len(kept_in(valkey_url).heads) == 2)

        there = Behind(time, behind)
        async with pace(valkey_url, time, bounds) as one, pace(valkey_url, there, bounds) as other:
            calls = [call(one, "one") for _ in range(8)]
            await asyncio.gather(*calls, *(call(other, "other") for _ in range(8)))
        assert begun.count("one") == begun.count("other") == 8
        assert all(former != latter for former, latter in itertools.pairwise(begun[1:-1])), begun

    run(test())


@pytest.mark.parametrize("tokens", [12_000, 20_000])
def test_has_a_dear_call_take_its_turn_among_another_workers_many(valkey_url: str, tokens: int) -> None:
    async def test() -> None:
        time, bounds, begun, ended = Hurried(), Bounds(input_tokens=20_000), [], []

        async def cheap(of: Pace) -> None:
            while not ended:
                async with of.turn(input_tokens=3_000, output_tokens=1, longest=1e6):
                    begun.append(time.now)

        async def dear(of: Pace) -> None:
            try:
                for _ in range(2):
                    async with of.turn(input_tokens=tokens, output_tokens=1, longest=asking.LONGEST_WAIT_FOR_PACE):
                        pass
            finally:
                ended.append(time.now)

        async with pace(valkey_url, time, bounds) as one, pace(valkey_url, time, bounds) as other:
            many = [asyncio.create_task(cheap(one)) for _ in range(4)]
            await happens(lambda: len(begun) > 8)
            await dear(other)
            await asyncio.gather(*many)

    run(test())


async def killed(voice: Pace, *calls: Call) -> None:
    """Let no more be heard of a worker: whatever it had or wanted stays as it is in Valkey."""
    assert voice._redis is not None
    await voice._redis.aclose()
    voice._redis = None
    await end_all([*calls])


def test_forgets_soon_who_waited_in_a_killed_worker(valkey_url: str) -> None:
    async def test() -> None:
        time, bounds = Time(), Bounds(at_once=1)
        async with pace(valkey_url, time, bounds) as voice:
            first = Call(voice)
            await happens(lambda: first.begun)
            elsewhere = Pace(valkey_url, WHO, bounds, sleep=time.sleep, clock=time)
            waiting = Call(elsewhere)
            await happens(lambda: len(kept_in(valkey_url).heads) == 1)
            await killed(elsewhere, waiting)
            last = Call(voice)
            await happens(lambda: len(kept_in(valkey_url).heads) == 2)
            await first.ends()
            began = time.now
            await passes_until(time, lambda: last.begun)
            assert HEARD_WITHIN <= time.now - began <= HEARD_WITHIN + 2
            await end_all([last])

    run(test())


def test_leaves_nothing_in_the_line_when_it_waits_no_more(valkey_url: str) -> None:
    async def test() -> None:
        time, bounds = Time(), Bounds(at_once=1)
        async with pace(valkey_url, time, bounds) as one:
            first = Call(one)
            await happens(lambda: first.begun)
            async with pace(valkey_url, time, bounds) as other:
                # It gives up by itself, it is cancelled, and its sitting ends.
                late = Call(other, longest=0)
                await happens(lambda: late.too_slow is not None)
                await happens(lambda: not kept_in(valkey_url).heads)
                cancelled = Call(other)
                await happens(lambda: kept_in(valkey_url).heads)
                await end_all([cancelled])
                await happens(lambda: not kept_in(valkey_url).heads)
                closed = Call(other)
                await happens(lambda: kept_in(valkey_url).heads)
            assert not kept_in(valkey_url).heads
            await end_all([first, closed])

    run(test())


def test_does_not_mix_voices(valkey_url: str) -> None:
    async def test() -> None:
        time, bounds = Time(), Bounds(at_once=1)
        async with pace(valkey_url, time, bounds) as one, pace(valkey_url, time, bounds, who="another") as other:
            calls = [Call(one), Call(other)]
            await happens(lambda: count(calls) == 2)
            await end_all(calls)

    run(test())


def test_gets_the_place_of_a_killed_worker_back(valkey_url: str) -> None:
    async def test() -> None:
        time = Time()
        gone = Pace(valkey_url, WHO, Bounds(at_once=1), sleep=time.sleep, clock=time)
        call = Call(gone)
        await happens(lambda: call.begun)
        await killed(gone, call)
        async with pace(valkey_url, time, Bounds(at_once=1)) as voice:
            with pytest.raises(PaceTooSlow):
                async with voice.turn(input_tokens=1, output_tokens=1, longest=0):
                    pass
            time.now += PLACE_SECONDS
            async with voice.turn(input_tokens=1, output_tokens=1, longest=0):
                pass

    run(test())


def test_forgets_a_voice_that_is_silent(valkey_url: str) -> None:
    async def test() -> None:
        async with (
            pace(valkey_url, Time(), Bounds(requests=5)) as voice,
            voice.turn(input_tokens=1, output_tokens=1, longest=0),
        ):
            await happens(lambda: not voice._changed)
        with Redis.from_url(valkey_url) as client:
            [key] = client.keys()
            assert 110_000 < client.pttl(key) <= 120_000

    run(test())


# What it costs


def test_asks_valkey_a_few_times_for_many_turns(valkey_url: str) -> None:
    async def test() -> None:
        time, before = Time(), commands(valkey_url)
        async with pace(valkey_url, time, Bounds(at_once=64)) as voice:
            calls = [Call(voice) for _ in range(64)]
            await happens(lambda: count(calls) == 64)
            assert commands(valkey_url) - before <= 2
            for call in calls:
                await voice.learn({"requests": Allowance(1000, 900, 5.0)}, expected=100, used=USED)
                await call.ends()
        # One for what was learnt and one for the place, at most.
        assert commands(valkey_url) - before <= 2 + 64 * 2

    run(test())


def test_asks_valkey_no_oftener_for_many_who_wait_than_for_one(valkey_url: str) -> None:
    async def asked(waiting: int) -> int:
        time, before = Hurried(), commands(valkey_url)
        async with pace(valkey_url, time, Bounds(at_once=1), who=f"{waiting}") as voice:
            calls = [Call(voice, longest=10) for _ in range(waiting + 1)]
            await happens(lambda: all(call.too_slow is not None for call in calls[1:]))
            await end_all(calls)
        return commands(valkey_url) - before

    async def test() -> None:
        alone, many = await asked(1), await asked(64)
        # Four times a second for ten seconds.
        assert alone <= 50
        assert many <= alone + 5

    run(test())


def test_asks_valkey_once_a_second_where_nothing_binds(valkey_url: str) -> None:
    async def test() -> None:
        time, before = Time(), commands(valkey_url)
        async with pace(valkey_url, time) as voice:
            for _ in range(200):
                async with voice.turn(input_tokens=1, output_tokens=1, longest=0):
                    await voice.learn({}, expected=1, used=USED)
            assert commands(valkey_url) - before <= 4
            time.now += 1
            async with voice.turn(input_tokens=1, output_tokens=1, longest=0):
                pass
        assert commands(valkey_url) - before <= 8

    run(test())


# Without Valkey


def test_goes_on_without_valkey_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        time = Time()
        async with pace(NOBODY, time, Bounds(at_once=2, input_tokens=20_000)) as voice:
            calls = [Call(voice, input_tokens=5_600) for _ in range(8)]
            await happens(lambda: count(calls) == 2)
            for call in calls:
                await passes_until(time, lambda call=call: call.begun)
                await call.ends()
            # Three had their share at once; the last five had to wait for it.
            assert time.now >= START + 7.2 + 4 * 16.8
            await end_all(calls)

    with caplog.at_level(logging.DEBUG, "workers.pace"):
        run(test())
    assert [record.getMessage() for record in caplog.records if record.name == "workers.pace"] == [
        "the pace is kept in memory for now: ConnectionError"
    ]


@pytest.fixture
def later() -> Iterator[tuple[str, Callable[[], None]]]:
    """The address of a Valkey that is not there yet, and what starts it."""
    with tempfile.TemporaryDirectory(prefix="emeritus-test-", dir="/tmp") as folder:
        servers = []

        def start() -> None:
            command = valkey.server_command(Path(folder))
            servers.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
            valkey.await_ready(valkey.url(Path(folder)), 10)

        yield valkey.url(Path(folder)), start
        for server in servers:
            server.terminate()
            server.wait(10)


def test_takes_what_it_knows_to_a_valkey_that_is_back(later: tuple[str, Callable[[], None]]) -> None:
    url, start = later

    async def test() -> None:
        time, bounds = Time(), Bounds(at_once=3)
        async with pace(url, time, bounds) as one, pace(url, time, bounds) as other:
            mine = [Call(one), Call(one)]
            await happens(lambda: count(mine) == 2)
            start()
            await one.learn({"requests": Allowance(50, 40, 5.0)}, expected=1, used=USED)
            await happens(lambda: one._state.told)
            assert commands(url) == 0
            time.now += LEFT_ALONE
            await one.learn({"requests": Allowance(50, 40, 5.0)}, expected=1, used=USED)
            await happens(lambda: commands(url) == 1)
            theirs = [Call(other), Call(other)]
            await happens(lambda: count(theirs) == 1)
            await mine[0].ends()
            await passes_until(time, lambda: count(theirs) == 2)
            await end_all(mine + theirs)

    run(test())


def test_takes_its_debt_to_a_valkey_that_is_back(later: tuple[str, Callable[[], None]]) -> None:
    url, start = later

    async def test() -> None:
        time, bounds = Time(), Bounds(input_tokens=20_000)
        async with pace(url, time, bounds) as one, pace(url, time, bounds) as other:
            async with one.turn(input_tokens=20_000, output_tokens=1, longest=0):
                pass
            await happens(lambda: not one._held)
            start()
            async with other.turn(input_tokens=100, output_tokens=1, longest=0):
                pass
            await happens(lambda: commands(url))
            time.now += LEFT_ALONE
            for each in (one, other):
                with pytest.raises(PaceTooSlow) as late:
                    async with each.turn(input_tokens=20_000, output_tokens=1, longest=0):
                        pass
                assert late.value.seconds == 55

    run(test())


def test_loses_no_place_when_valkey_is_emptied(valkey_url: str) -> None:
    async def test() -> None:
        time, bounds = Hurried(), Bounds(at_once=2)
        async with pace(valkey_url, time, bounds) as one, pace(valkey_url, time, bounds) as other:
            mine, theirs = [Call(one)], [Call(other)]
            await happens(lambda: count(mine + theirs) == 2)
            with Redis.from_url(valkey_url) as client:
                for _ in range(5):
                    client.flushall()
                    for each in (one, other):
                        await each.learn({}, expected=1, used=USED)
                        await happens(lambda each=each: not each._changed and not each._steps)
                    late = [Call(one, longest=2), Call(other, longest=2)]
                    await happens(lambda late=late: all(call.too_slow is not None for call in late))
            await end_all(mine + theirs)
            after = [Call(one), Call(other)]
            await happens(lambda: count(after) == 2)
            await end_all(after)

    run(test())


def test_forgets_no_debt_when_valkey_is_emptied(valkey_url: str) -> None:
    async def test() -> None:
        async with pace(valkey_url, Time(), Bounds(input_tokens=20_000)) as voice:
            async with voice.turn(input_tokens=20_000, output_tokens=1, longest=0):
                pass
            await happens(lambda: not voice._held)
            with Redis.from_url(valkey_url) as client:
                assert client.keys()
                client.flushall()
            with pytest.raises(PaceTooSlow) as late:
                async with voice.turn(input_tokens=20_000, output_tokens=1, longest=0):
                    pass
            assert late.value.seconds == 60

    run(test())


def test_goes_on_where_valkey_has_no_room_left(valkey_url: str) -> None:
    async def test() -> None:
        time = Time()
        async with pace(valkey_url, time, Bounds(requests=2)) as voice:
            calls = [Call(voice) for _ in range(3)]
            await happens(lambda: count(calls) == 2)
            await passes_until(time, lambda: count(calls) == 3)
            assert time.now >= START + 30
            await end_all(calls)

    with Redis.from_url(valkey_url) as client:
        client.config_set("maxmemory", 1)
        try:
            run(test())
            assert not client.keys()
        finally:
            client.config_set("maxmemory", 0)


@pytest.mark.parametrize("stands", [b"", b"no state", b'{"at":1e999}', b"\xff\xfe"])
def test_goes_on_whatever_stands_in_valkey(valkey_url: str, stands: bytes) -> None:
    async def test() -> None:
        async with (
            pace(valkey_url, Time(), Bounds(at_once=1)) as voice,
            voice.turn(input_tokens=1, output_tokens=1, longest=0),
        ):
            pass

    with Redis.from_url(valkey_url) as client:
        client.set(f"emeritus:pace:{WHO}", stands)
        run(test())
        assert client.get(f"emeritus:pace:{WHO}") != stands


def test_goes_on_where_something_else_stands_in_valkey(valkey_url: str) -> None:
    async def test() -> None:
        async with (
            pace(valkey_url, Time(), Bounds(at_once=1)) as voice,
            voice.turn(input_tokens=1, output_tokens=1, longest=0),
        ):
            pass

    with Redis.from_url(valkey_url) as client:
        client.rpush(f"emeritus:pace:{WHO}", "x")
    run(test())


# With the API


def test_is_let_in_by_the_rehearsal_each_time() -> None:
    """The headers of the rehearsal, through the SDK, keep it from refusing a call."""

    def limits(headers: object) -> dict[str, Allowance]:
        def told(name: str, what: str) -> str:
            return str(headers[f"anthropic-ratelimit-{name}-{what}"])  # type: ignore[index]

        def allowance(name: str) -> Allowance:
            reset = (datetime.fromisoformat(told(name, "reset")) - now()).total_seconds()
            return Allowance(int(told(name, "limit")), int(told(name, "remaining")), reset)

        return {name: allowance(name) for name in ("requests", "tokens", "input-tokens", "output-tokens")}

    async def test(url: str) -> None:
        time = Time()
        words = {"model": "claude-opus-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "a" * 22_400}]}
        async with (
            anthropic.AsyncAnthropic(api_key="sk-ant-test", base_url=url, max_retries=0) as client,
            pace(None, time) as voice,
        ):
            expected = (
                await client.messages.count_tokens(model=words["model"], messages=words["messages"])
            ).input_tokens

            async def call(longest: float) -> None:
                async with voice.turn(input_tokens=expected, output_tokens=100, longest=longest):
                    raw = await client.messages.with_raw_response.create(**words)
                    used = (await raw.parse()).usage
                    await voice.learn(
                        limits(raw.headers),
                        expected=expected,
                        used=Usage(used.input_tokens, 0, 0, 0, used.output_tokens),
                    )

            await call(0)
            made = await asyncio.gather(*(call(0) for _ in range(10)), return_exceptions=True)
            # The limit allows three of these a minute, and nobody was refused by the API.
            assert made.count(None) == 2
            late = [slow.seconds for slow in made if isinstance(slow, PaceTooSlow)]
            assert len(late) == 8
            assert late == sorted(late)

    with running(RehearsalSettings(latency=0, limits="input-tokens=20000")) as rehearsal:
        run(test(rehearsal.url))


# With a sitting


def test_keeps_the_place_of_a_call_that_lasts_longer_than_a_place(
    workshop: Workshop, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sitting, "RENEW_EVERY", 0)
    workshop.asked()
    time, bounds = Hurried(), Bounds(at_once=1)
    looked = []

    async def test() -> None:
        async with pace(valkey_url, time, bounds) as voice, pace(valkey_url, time, bounds) as elsewhere:

            async def lasts(_number: int) -> None:
                for _ in range(3):
                    time.now += PLACE_SECONDS - 1
                    await happens(
                        lambda: (
                            [each.until for each in kept_in(valkey_url).places.values()] == [time.now + PLACE_SECONDS]
                        )
                    )
                with pytest.raises(PaceTooSlow):
                    async with elsewhere.turn(input_tokens=1, output_tokens=1, longest=0):
                        pass
                looked.append(time.now)

            model = ScriptedModel(meanwhile=lasts)
            await sitting.answer(workshop.site, workshop.essay_id, model, at_once=1, pace=voice)
            await happens(lambda: not kept_in(valkey_url).places)
            async with elsewhere.turn(input_tokens=1, output_tokens=1, longest=0):
                pass

    run(test())
    assert len(looked) == 1
    assert workshop.states() == ["answered"]


def test_gives_a_conversation_that_is_longer_than_a_minute_allows_its_turn(workshop: Workshop) -> None:
    long = "I have read what you wrote, and I think of it often. " * 80
    used = {"input_tokens": 12_000, "output_tokens": 10}
    parent: dict[str, str] = {}
    for turn in range(3):
        comment_id = workshop.asked(f"Turn {turn}. {long}", **parent)
        workshop.sit(ScriptedModel(message(f"Turn {turn}. {long}")))
        workshop.approve_reply(comment_id)
        with workshop.site.database.reading_sessions() as session:
            parent = {"parent": session.scalars(select(Reply.public_id).where(Reply.comment_id == comment_id)).one()}
    waiting = [workshop.asked(f"And last, {n}?", **parent) for n in range(2)]
    time, model = Hurried(), ScriptedModel(message("I do.", usage=used))
    whys = []

    async def test() -> None:
        async with pace(None, time, Bounds(input_tokens=5_000)) as voice:
            # Each waits until all that a minute allows is left, and what it takes beyond that is owed.
            while "waiting" in workshop.states() and len(whys) < 10:
                await sitting.answer(workshop.site, workshop.essay_id, model, at_once=2, pace=voice)
                whys.append(workshop.request(waiting[1]).why)
                time.now += 60
                workshop.time_passes()

    run(test())
    assert whys[0] == asking.OUT_OF_PACE
    assert workshop.states() == ["answered"] * 5
    assert len(model.requests) == 2
    assert 60 < time.now - START < 400
    for request in model.requests:
        assert [f"Turn {n}." in told["body"] for _, _, told in quoted(request)[-7:-1] for n in range(3)].count(
            True
        ) == 6
