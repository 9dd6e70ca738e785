"""Having a voice choose, of what waits under an essay, the letters that it will be asked for: one call before others.

If it runs twice, the second finds the letters decided, or claimed by the first. If it dies halfway, what was shown and
not decided is shown again, and what was chosen is asked by another sitting without being shown. If a letter is taken
back, it is not shown any more, and not asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from bridge.answer import choosing
from bridge.answer.replies import Claimed
from bridge.records import Answering
from bridge.voice import prompt
from bridge.voice.budgets import HELD_SECONDS, BudgetSpent
from bridge.voice.model import Answer, Origin
from bridge.voice.prompt import Beginning, Prompt
from workers import asking, batching
from workers.asking import Table
from workers.recording import record

PAGE_TOKENS = 8000
"""The most that the letters come to that are shown at once, one always: a minute may allow 20,000 tokens in all."""


@dataclass(frozen=True, slots=True)
class Picked:
    """What is to be asked for now."""

    letters: Sequence[Claimed]


async def pick(table: Table, waiting: Sequence[Claimed]) -> Picked:
    """Return what of *waiting* is to be asked for, after a voice that picks its letters has picked from the others.

    What it picked in an earlier sitting is not shown again. What is not to be asked for is settled or back to waiting.
    """
    before = [each for each in waiting if each.chosen]
    new: Sequence[Claimed] = [each for each in waiting if not each.chosen]
    if table.sitting.answering is not Answering.CHOSEN or not new:
        return Picked(waiting)
    while new := table.current(new):
        page, later = _page(table, new)
        away = batching.goes_away(table, len(before) + len(page))
        each_one = [
            prompt.build(table.start, each.asked, table.site.keys, cached=not away, measure=table.measure)
            for each in page
        ]
        try:
            ready = await record(table.site, choosing.ready, table.sitting, page, each_one, batched=away)
        except BudgetSpent as spent:
            await asking.all_wait_again(table, [*before, *new], spent.why, until=spent.until)
            return Picked(())
        for each, refused in ready.put_off:
            await asking.wait_again(table, each, refused.why, until=refused.until)
        if not ready.shown:
            new = later
            continue
        await asking.all_wait_again(table, later, None)
        if ready.at_most == 0:
            await asking.all_wait_again(table, ready.shown, choosing.PROMISED, seconds=HELD_SECONDS)
            return Picked(before)
        # A marker costs a quarter of what is shared, and saves nine tenths of it where several are then asked live: it
        # pays if that comes of it one time in four. So it is left out where even as many as may be chosen go away in a
        # batch, of which nobody knows what reads the cache (section 2).
        marked = not batching.goes_away(table, len(before) + ready.at_most)
        choice = _Choice(table, ready.shown, ready.at_most, table.start, marked)
        if not await asking.see_through(table, choice, await choice.affordable(), canary=True):
            await asking.all_wait_again(table, before, None)
            return Picked(())
        if not choice.outdated:
            chosen = [each for each in choice.about if each.comment_id in choice.chosen]
            return Picked([*before, *chosen])
        # One that was taken back before the call was made: the others are shown without it.
        new = choice.about
    return Picked(before)


def _page(table: Table, letters: Sequence[Claimed]) -> tuple[Sequence[Claimed], Sequence[Claimed]]:
    """Return as many of *letters*, the oldest first, as are shown at once, and the others."""
    left = PAGE_TOKENS
    for number, each in enumerate(letters):
        left -= table.measure.tokens(each.asked.comment.body)
        if left < 0 and number > 0:
            return letters[:number], letters[number:]
    return letters, ()


@dataclass(slots=True)
class _Choice:
    """The question which of the letters that it is shown a voice wishes to answer."""

    table: Table
    about: Sequence[Claimed]
    at_most: int
    of: Beginning
    """The table's beginning that it was built of."""
    marked: bool
    """Whether the end of what it shares with the calls after it is marked for the cache."""
    shortened: bool = False
    """Whether it has half of what is remembered."""
    chosen: Sequence[int] = ()
    """The comments that are to be asked for now."""
    outdated: bool = False
    """Whether a letter in it must not be shown any more: no call was made."""

    def request(self) -> Prompt:
        """Return the request that shows the letters; with its first block ends what all calls of the sitting share."""
        asked, keys, start = [each.asked for each in self.about], self.table.site.keys, self.of
        if self.shortened:
            start = prompt.shorter(start, keys, measure=self.table.measure) or start
        return prompt.build_choice(start, asked, keys, at_most=self.at_most, cached=self.marked)

    async def affordable(self) -> Prompt:
        """Return the request for as many, of the older letters, as a budget allows to be shown at once; one always."""
        sent = self.request()
        while len(self.about) > 1:
            if await record(self.table.site, choosing.could_ever_be_made, self.table.sitting, sent):
                break
            await self._halve()
            sent = self.request()
        return sent

    def begin(self, session: Session, sent: Prompt, origin: Origin) -> int | None:
        begun = choosing.begin(session, self.table.sitting, self.about, sent, origin, self.table.site.keys)
        self.outdated = begun is None
        return begun

    def record(
        self, session: Session, generation_id: int, answered: Answer, *, final: bool, seconds: float
    ) -> Answer | None:
        decided = choosing.record(
            session,
            self.table.sitting,
            self.about,
            generation_id,
            answered,
            at_most=self.at_most,
            final=final,
            seconds=seconds,
            tell=self.table.site,
        )
        self.chosen = decided.chosen
        return decided.broken_off

    async def shorter(self) -> Prompt | None:
        """Return the request with half of what is remembered, and after that with half of the letters, the older."""
        less = prompt.shorter(self.of, self.table.site.keys, measure=self.table.measure)
        if less is not None and not self.shortened:
            self.shortened = True
        elif len(self.about) > 1:
            await self._halve()
        else:
            return None
        return self.request()

    async def anew(self) -> Prompt | None:
        await self.table.read_again(self.of)
        still = self.table.current(self.about)
        self.outdated = len(still) < len(self.about)
        self.about, self.of = still, self.table.start
        return None if self.outdated else self.request()

    async def _halve(self) -> None:
        """Keep the older half of the letters; the others go back to waiting."""
        older = self.about[: len(self.about) // 2]
        await asking.all_wait_again(self.table, self.about[len(older) :], None)
        self.about, self.at_most = older, min(self.at_most, len(older))
