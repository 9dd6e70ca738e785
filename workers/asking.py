"""Asking: from the claim of a request to its outcome, or back to waiting. The one layer that tries again."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from sqlalchemy.orm import Session

from bridge.answer import replies
from bridge.answer.replies import Claimed, NoLongerPosted, Sitting, VoicePaused
from bridge.records import RequestState
from bridge.site import Site
from bridge.voice import budgets, prompt
from bridge.voice.budgets import BudgetSpent
from bridge.voice.model import (
    Answer,
    LargerThanAMinute,
    Model,
    ModelBusy,
    Origin,
    Outcome,
    PassingTrouble,
    RequestRefused,
    Trouble,
    VoiceBlocked,
)
from bridge.voice.prompt import Beginning, Measure, Prompt
from workers.pace import Pace, PaceTooSlow
from workers.recording import record, record_surely

log = logging.getLogger(__name__)

LONGEST_WAIT_HERE = 20
"""Seconds; a longer wait after a refusal goes back to the queue."""
LONGEST_WAIT_FOR_PACE = 90
"""Seconds that a call waits for its turn here: a whole minute, which a dear call may need, after others' calls.

What would wait longer is asked in another sitting.
"""
LONGEST_WAIT_AWAY = 600
"""Seconds: what Redis holds of the pace is believed for no longer at a time."""
OUT_OF_PACE = "Waiting for its turn: only so many calls are made at once, or in a minute."
USUAL_OUTPUT = 400
"""Tokens of an answer that the minute is expected to give: the API counts what is said, not what may be."""
LEAST_OF_EXPECTED = 0.6
"""Of what is expected of a request in tokens: where it takes five bytes for a token, and not three (`Measure`)."""
READ_AGAIN_AT_MOST = 3
"""So often a request is built anew because words went away that it quotes; then it waits for another sitting."""


@dataclass(slots=True)
class Table:
    """What the calls of one sitting have in common."""

    site: Site
    sitting: Sitting
    model: Model
    start: Beginning
    measure: Measure
    pace: Pace
    room: asyncio.Semaphore
    sleep: Callable[[float], Awaitable[None]]
    until: float
    """By the loop's clock: after it no further call is made."""
    cached: bool = True
    """Whether the end of what the calls share is marked for the cache."""
    answered: bool = False
    """Whether any of its calls was answered."""
    written: Beginning | None = None
    """What the cache holds: the beginning, as it was marked in a call that was answered."""
    broken_off: Mapping[int, Answer] = field(default_factory=dict)
    """By comment: an answer that broke off in a batch, for which its voice has its one more turn here."""
    due: float | None = None
    """When what it put off for the pace is asked again, in seconds since 1970 by the database's clock."""
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def over(self) -> bool:
        """Whether the sitting has taken as long as one may."""
        return asyncio.get_running_loop().time() > self.until

    def current(self, letters: Iterable[Claimed]) -> list[Claimed]:
        """Return those of *letters* that are still to be asked, each as it was read last."""
        read = {each.comment_id: each for each in self.sitting.claimed}
        return [read[each.comment_id] for each in letters if each.comment_id in read]

    async def read_again(self, than: Beginning) -> None:
        """Lay out what the calls share from what is posted by now, unless somebody did since it was *than*."""
        async with self._reading:
            if self.start is not than:
                return
            self.sitting = await record(self.site, replies.read_again, self.sitting)
            # One that was too long stays as short.
            told = replace(self.sitting.told, memory=than.told.memory)
            start = prompt.beginning(told, self.site.keys, measure=self.measure)
            self.start = replace(start, shortened=than.shortened)
            if self.written is than and self.start.content == than.content:
                self.written = self.start

    @asynccontextmanager
    async def one_first(self, sent: Prompt) -> AsyncIterator[None]:
        """Let one call alone write a beginning to the cache; whoever comes meanwhile waits and finds it there."""
        while self._is_written_by(sent) and self.written is not self.start:
            async with self._writing:
                if self.written is not self.start:
                    yield
                    return
        yield

    def note_written(self, sent: Prompt) -> None:
        """Note that a call was answered."""
        if self._is_written_by(sent):
            self.written = self.start

    def _is_written_by(self, sent: Prompt) -> bool:
        return bool(sent.recipe["cached"]) and sent.shared is self.start.recipe


class SittingOver(Exception):
    """Raised when a call's turn came after its sitting had taken as long as one may. It was not made."""


class Question(Protocol):
    """What is asked in one call, and again until it has an outcome: for a reply to one letter, say, or for a choice."""

    @property
    def about(self) -> Sequence[Claimed]:
        """The requests that it decides."""

    def begin(self, session: Session, sent: Prompt, origin: Origin) -> int | None:
        """Record that a call is about to be made, and return its id; None if it must not be made any more."""

    def record(
        self, session: Session, generation_id: int, answered: Answer, *, final: bool, seconds: float
    ) -> Answer | None:
        """Record an answer and do what it says; return it if it broke off and may go on, never where it is *final*."""

    async def shorter(self) -> Prompt | None:
        """Return a shorter request after one that was too long; None if there is none."""

    async def anew(self) -> Prompt | None:
        """Return the request with what is posted by now alone; None if it is not to be asked so any more."""


async def ask(table: Table, claimed: Claimed, *, canary: bool = False) -> bool:
    """See one request through to an outcome or back to waiting; return whether the others may be asked.

    A *canary* goes first: what refuses it would refuse the others.
    """
    letter = _Letter(table, claimed, canary, of=table.start)
    sent = letter.request()
    if sent is None:
        return True
    return await see_through(table, letter, sent, canary=canary, broken_off=table.broken_off.get(claimed.comment_id))


async def see_through(
    table: Table, question: Question, sent: Prompt, *, canary: bool, broken_off: Answer | None = None
) -> bool:
    """Ask a question, and again, until what it is about has an outcome or is back to waiting; return as `ask` does."""
    tries, read_again, cut_off = 0, 0, None
    # The others under this essay would find no more left, and no earlier turn, than the first of them did.
    everybody = table.sitting.claimed if canary else question.about
    last = broken_off is not None
    if broken_off is not None:
        sent, cut_off = _one_more(sent, broken_off)
    while True:
        try:
            broken_off = await _one_call(table, question, sent, final=last)
        except (VoicePaused, SittingOver):
            await all_wait_again(table, question.about, None)
            return False
        except BudgetSpent as spent:
            await all_wait_again(table, everybody if spent.for_all else question.about, spent.why, until=spent.until)
            return not spent.for_all
        except NoLongerPosted:
            read_again += 1
            if read_again > READ_AGAIN_AT_MOST:
                await all_wait_again(table, question.about, None)
                return not canary
            anew = await question.anew()
            if anew is None:
                return True
            sent = anew
            if broken_off is not None and broken_off.outcome is Outcome.NOTE_ONLY:
                # What it said may repeat what is not posted any more: it has its turn from the start.
                broken_off, last = None, False
            elif broken_off is not None:
                sent, cut_off = _one_more(sent, broken_off)
        except PaceTooSlow as slow:
            await _put_off(table, everybody, slow)
            return False
        except VoiceBlocked as trouble:
            await pause(table, trouble.why, trouble)
            await all_wait_again(table, question.about, trouble.why)
            return False
        except ModelBusy as trouble:
            if trouble.seconds > LONGEST_WAIT_HERE or tries >= 3:
                longer = LONGEST_WAIT_HERE if tries >= 3 else 0
                await all_wait_again(table, everybody, trouble.why, seconds=max(trouble.seconds, longer))
                return False
            tries += 1
            await table.sleep(trouble.seconds)
        except RequestRefused as trouble:
            shorter = await question.shorter() if trouble.too_long and not last else None
            if shorter is not None:
                sent = shorter
                continue
            why = cut_off or trouble.why
            for each in question.about:
                await record_surely(table.site, table.sleep, replies.give_up, table.sitting, each, why)
            if canary and not trouble.too_long and not trouble.alone and not cut_off:
                await pause(table, why, trouble)
                return False
            return True
        except PassingTrouble as trouble:
            tries += 1
            if tries >= trouble.tries:
                await record_surely(table.site, table.sleep, replies.count_failure, table.sitting.voice_id, trouble.why)
                await all_wait_again(table, question.about, trouble.why, seconds=trouble.longest_wait)
                return not canary
            wait = min(trouble.longest_wait, trouble.first_wait * 2**tries)
            await table.sleep(wait * random.uniform(0.5, 1))  # noqa: S311
        else:
            if broken_off is None or await _cannot_go_on(table, question, broken_off):
                return True
            last = True
            sent, cut_off = _one_more(sent, broken_off)


async def call(table: Table, sent: Prompt) -> tuple[Answer, float]:
    """Make one call in the voice's pace; return its answer and the seconds it took. Raises `Trouble`."""
    begun = time.monotonic()
    expected = table.measure.of(sent.request)
    try:
        answered = await table.model.ask(
            sent.request, api_version=table.sitting.api_version, extra_body=table.sitting.extra_body
        )
    except ModelBusy as busy:
        # Where the cache has what they share, as much was let in before.
        if (
            table.written is None
            and busy.never_lets_in(expected)
            and busy.never_lets_in(await _at_least(table, sent, expected))
        ):
            await table.pace.slow_down(0, busy.limits, expected=expected)
            raise LargerThanAMinute(busy) from None
        await table.pace.slow_down(busy.seconds, busy.limits, expected=expected)
        raise
    except Trouble as trouble:
        await table.pace.learn(trouble.limits, expected=expected)
        raise
    table.answered = True
    await table.pace.learn(answered.limits, expected=expected, used=answered.usage)
    return answered, time.monotonic() - begun


async def _at_least(table: Table, sent: Prompt, expected: int) -> int:
    """Return the tokens of a request as the API counts them, or the fewest they can be where it does not count."""
    counted = await table.model.count(sent.request, api_version=table.sitting.api_version)
    return math.floor(expected * LEAST_OF_EXPECTED) if counted is None else counted


async def pause(table: Table, why: str, trouble: Trouble) -> None:
    """Ask this voice nothing more until a person acts, and have the admins told."""
    await record_surely(
        table.site,
        table.sleep,
        replies.pause_voice,
        table.sitting.voice_id,
        why,
        tell=table.site,
        trouble=trouble,
    )
    table.site.nudges.nudge_outgoing()


async def wait_again(
    table: Table, claimed: Claimed, why: str | None, *, seconds: float = 0, until: float | None = None
) -> None:
    """Put a request back to waiting."""
    await record_surely(
        table.site,
        table.sleep,
        replies.wait_again,
        table.sitting,
        claimed,
        why,
        seconds=seconds,
        until=until,
    )


async def all_wait_again(
    table: Table, letters: Sequence[Claimed], why: str | None, *, seconds: float = 0, until: float | None = None
) -> None:
    """Put several requests back to waiting."""
    for each in letters:
        await wait_again(table, each, why, seconds=seconds, until=until)


async def _put_off(table: Table, letters: Sequence[Claimed], slow: PaceTooSlow) -> None:
    """Put letters off for the pace. What one sitting puts off comes due together, when the first of it has its turn.

    Each by itself, they would be asked in sittings of one, and each lay out another beginning.
    """
    # Early enough for the next sitting to find its turn within reach.
    soon = min(max(0.0, slow.seconds - LONGEST_WAIT_FOR_PACE), LONGEST_WAIT_AWAY)
    due = (await record(table.site, budgets.clock)).timestamp() + soon
    table.due = due if table.due is None else min(table.due, due)
    await all_wait_again(table, letters, OUT_OF_PACE, until=table.due)


async def _one_call(table: Table, question: Question, sent: Prompt, *, final: bool) -> Answer | None:
    """Make one call between two short transactions: its record before, its outcome after. Raises `Trouble`.

    Raises `NoLongerPosted` where words that it quotes went away since it was built. Returns an answer that broke off
    and may go on.
    """
    origin = table.model.origin(table.sitting.api_version)
    expected = table.measure.of(sent.request)
    async with table.one_first(sent), table.room:
        async with table.pace.turn(input_tokens=expected, output_tokens=USUAL_OUTPUT, longest=LONGEST_WAIT_FOR_PACE):
            # Only now: a voice that was paused while this waited for its turn is not asked.
            if table.over:
                raise SittingOver
            generation = await record(table.site, question.begin, sent, origin)
            if generation is None:
                return None
            begun = time.monotonic()
            try:
                answered, seconds = await call(table, sent)
                table.note_written(sent)
            except Trouble as trouble:
                first = question.about[0].comment_id
                log.info("comment %s, generation %s: %s", first, generation, type(trouble).__name__)
                took = time.monotonic() - begun
                await record_surely(table.site, table.sleep, replies.record_trouble, generation, trouble, seconds=took)
                raise
        # Within the room: until it is recorded, an answer holds its cost in the budget.
        broken_off = await record_surely(
            table.site, table.sleep, question.record, generation, answered, final=final, seconds=seconds
        )
    if answered.model != table.sitting.model:
        table.site.nudges.nudge_outgoing()  # Its voice was paused, and the admins are told.
    return broken_off


async def _cannot_go_on(table: Table, question: Question, answered: Answer) -> bool:
    """Fail what was cut off where its voice says itself how long an answer may be: more room would change nothing."""
    if answered.outcome is Outcome.NOTE_ONLY or "max_tokens" not in (table.sitting.extra_body or {}):
        return False
    for each in question.about:
        await record_surely(
            table.site, table.sleep, replies.give_up, table.sitting, each, answered.why or "The answer was cut off."
        )
    return True


def _one_more(sent: Prompt, answered: Answer) -> tuple[Prompt, str | None]:
    """Return the request that lets a turn go on once, and why its answer was cut, if it was."""
    if answered.outcome is Outcome.NOTE_ONLY:
        return sent.continued(answered.message["content"]), None
    return sent.roomier(), answered.why


@dataclass(slots=True)
class _Letter:
    """The question for a reply to one letter."""

    table: Table
    claimed: Claimed
    canary: bool
    of: Beginning
    """The table's beginning that its request was built of."""
    shortened: bool = False

    @property
    def about(self) -> Sequence[Claimed]:
        return (self.claimed,)

    def begin(self, session: Session, sent: Prompt, origin: Origin) -> int | None:
        return replies.begin_generation(session, self.table.sitting, self.claimed, sent, origin, self.table.site.keys)

    def record(
        self, session: Session, generation_id: int, answered: Answer, *, final: bool, seconds: float
    ) -> Answer | None:
        state = replies.record_answer(
            session,
            self.table.sitting,
            self.claimed,
            generation_id,
            answered,
            final=final,
            seconds=seconds,
            tell=self.table.site,
        )
        return answered if state is RequestState.ASKING else None

    def request(self) -> Prompt | None:
        """Build the request of what the table has; None if the letter is not to be asked any more."""
        table, start = self.table, self.table.start
        self.of = start
        if self.shortened and not self.canary:
            start = prompt.shorter(start, table.site.keys, measure=table.measure) or start
        for each in table.current(self.about):
            return prompt.build(start, each.asked, table.site.keys, cached=table.cached, measure=table.measure)
        return None

    async def shorter(self) -> Prompt | None:
        """Return the request with half of what is remembered, once."""
        table = self.table
        start = None if self.shortened else prompt.shorter(table.start, table.site.keys, measure=table.measure)
        self.shortened = True
        if start is None:
            return None
        if self.canary:
            table.start = start  # What was too long for the first is too long for the others.
        return self.request()

    async def anew(self) -> Prompt | None:
        await self.table.read_again(self.of)
        return self.request()
