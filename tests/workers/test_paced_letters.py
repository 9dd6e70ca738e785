"""What letters cost, and when they are answered, where the pace lets three or four calls a minute begin.

The lowest limit of a retired model (MODEL-API, section 5), reads of the cache included. What is paid is what the
rehearsal charged; the minutes pass by a clock of the tests' own.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from bench.dollars import OUTPUT, THREAD, dollars, furnished
from ground.workshop import Workshop
from sqlalchemy import event, select, text

from bridge.letter import erasure
from bridge.records import Comment, Generation
from bridge.voice.model import Answer, Usage
from workers import endpoints, sitting
from workers.claude import Claude
from workers.pace import Bounds, Pace
from workers.rehearsal import Rehearsal, running

LOWEST = Bounds(requests=50, input_tokens=20_000, output_tokens=4_000)
SWEEP_EVERY = 60
EACH_PUT_OFF_BY_ITSELF = [1, 2, 2, 9, 25, 41, 57, 77, 98, 119, 139, 160, 181, 201, 222, 243, 263, 284, 305, 325]
"""Seconds after which each of the 20 was answered when each was put off to a moment of its own, at 0.97 of naive."""
STILL = 0.01
"""Seconds without a word to the database after which nobody is at work."""


class Afternoon:
    """A clock that stands still while anybody is at work or a call is under way.

    When it goes on, all that is on record grows older.
    """

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self.now = 0.0
        self.under_way = 0
        self._busy_at = 0.0
        event.listen(workshop.site.database.writing, "before_cursor_execute", self._note)

    def _note(self, *_: object) -> None:
        self._busy_at = time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        while self.under_way or time.monotonic() - self._busy_at < STILL:
            await asyncio.sleep(STILL / 4)
        self.pass_by(seconds)

    def pass_by(self, seconds: float) -> None:
        """Let time pass at once."""
        self.now += seconds
        with self.workshop.site.database.sessions.begin() as session:
            session.execute(text("UPDATE reply_requests SET not_before = not_before - :seconds"), {"seconds": seconds})
            for made in session.scalars(select(Generation)):
                made.started_at -= timedelta(seconds=seconds)


class Timed(Claude):
    """The rehearsal, each of whose answers takes a second of an afternoon."""

    afternoon: Afternoon
    answered: list[float]
    during: Callable[[int], None]

    async def ask(self, request: dict[str, Any], **how: Any) -> Answer:
        self.afternoon.under_way += 1
        try:
            await asyncio.to_thread(self.during, len(self.answered))
            said = await super().ask(request, **how)
        finally:
            self.afternoon.under_way -= 1
        self.answered.append(self.afternoon.now + 1)
        return said


def spend(
    workshop: Workshop,
    stage: Rehearsal,
    *,
    between: Callable[[int], None] = lambda _: None,
    during: Callable[[int], None] = lambda _: None,
) -> tuple[list[float], int]:
    """Have what waits answered as a worker does, by nudges and sweeps.

    Returns when each was answered, and how many sittings were held. Something may happen *between* them, told their
    number, or *during* a call, told how many were answered before.
    """
    afternoon = Afternoon(workshop)
    held = 0

    async def whole() -> list[float]:
        nonlocal held
        pace = Pace(None, "", LOWEST, sleep=afternoon.sleep, clock=lambda: afternoon.now)
        async with Timed(api_key=endpoints.OPENS_NOTHING, base_url=stage.url, rehearsed=True) as model:
            model.afternoon, model.answered, model.during = afternoon, [], during
            while {"waiting", "asking"} & set(workshop.states()):
                said = await sitting.answer(
                    workshop.site, workshop.essay_id, model, at_once=20, pace=pace, sleep=afternoon.sleep
                )
                if said != sitting.NOTHING:
                    held += 1
                    between(held)
                if said == sitting.NOTHING or not sitting.is_left(workshop.site, workshop.essay_id):
                    afternoon.pass_by(SWEEP_EVERY - afternoon.now % SWEEP_EVERY)
            await pace.close()
            return model.answered

    return asyncio.run(whole()), held


def paid(workshop: Workshop) -> list[Usage]:
    """Return what the calls to the rehearsal used, in order."""
    return [
        Usage(each.input_tokens or 0, each.cache_read_tokens or 0, each.cache_write_tokens or 0, 0, OUTPUT)
        for each in workshop.generations()
        if each.rehearsed
    ]


def writes(workshop: Workshop) -> int:
    """Return how often the cache was written; nothing was sent that neither wrote nor read it."""
    used = paid(workshop)
    assert all(bool(each.cache_written) != bool(each.cache_read) for each in used)
    return sum(bool(each.cache_written) for each in used)


@pytest.fixture
def furnished_one() -> Iterator[Workshop]:
    """The README's case: an essay, a thread of 20 letters, and 20 that wait."""
    with furnished() as workshop:
        yield workshop


@pytest.fixture
def stage() -> Iterator[Rehearsal]:
    """A rehearsal with nothing in its cache: another test's case is the same to the byte."""
    with running() as rehearsal:
        yield rehearsal


def test_costs_at_most_0_40_of_naive_and_makes_no_letter_wait_longer(furnished_one: Workshop, stage: Rehearsal) -> None:
    times, held = spend(furnished_one, stage)
    used = paid(furnished_one)
    [first, *_] = used
    cost, _ = dollars(used)
    naive, _ = dollars([Usage(first.fresh + first.cache_written, 0, 0, 0, OUTPUT)])
    assert cost <= 0.40 * naive
    assert writes(furnished_one) == 1
    assert furnished_one.states() == ["answered"] * 40
    # The clock may go on for a moment while somebody is still at work.
    late = [each - before for each, before in zip(sorted(times), EACH_PUT_OFF_BY_ITSELF, strict=True)]
    assert max(late) <= 3, late
    assert held <= 8


def test_reads_the_same_cache_though_letters_and_answers_come_meanwhile(
    furnished_one: Workshop, stage: Rehearsal
) -> None:
    def meanwhile(held: int) -> None:
        if held == 2:
            furnished_one.asked("A new one.")
            for reply in furnished_one.replies()[THREAD:]:
                furnished_one.approve(reply.submission_id)

    spend(furnished_one, stage, between=meanwhile)
    assert furnished_one.states() == ["answered"] * 41
    assert writes(furnished_one) == 1


@pytest.mark.parametrize("when", ["between", "during"])
def test_writes_the_cache_anew_when_words_went_away_and_sends_them_no_more(
    furnished_one: Workshop, stage: Rehearsal, when: str
) -> None:
    gone = furnished_one.asked("CANARY", wants_reply=False)
    before = len(stage.calls)
    erased_after: list[int] = []

    def meanwhile(number: int) -> None:
        if number == (2 if when == "between" else 7) and not erased_after:
            with furnished_one.site.database.reading_sessions() as session:
                public_id = session.get_one(Comment, gone).public_id
            erasure.erase_comment(furnished_one.site, public_id)
            # During a call, that one has it still.
            erased_after.append(len(stage.calls) - before + (when == "during"))

    spend(furnished_one, stage, **{when: meanwhile})
    held = ["CANARY" in json.dumps(call.body) for call in stage.calls[before:]]
    assert held == [True] * erased_after[0] + [False] * (20 - erased_after[0])
    assert furnished_one.states() == ["answered"] * 40
    assert writes(furnished_one) == 2
