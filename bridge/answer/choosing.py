"""A voice chooses which of the letters that wait under an essay it answers: what it was shown, and what came of that.

As in `answer.replies`, every step is one short transaction of its caller's; no call to the model is made here. A letter
is decided in the one transaction that records the answer, so none is decided twice; one that was shown and not decided
is shown again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from bridge.answer import replies
from bridge.answer.replies import Claimed, Sitting, VoicePaused
from bridge.db import database_time
from bridge.keys import Keys
from bridge.records import Essay, Purpose, ReplyRequest, RequestState, Showing, Voice
from bridge.site import Site
from bridge.voice import budgets, voices
from bridge.voice.budgets import Bounds, BudgetSpent
from bridge.voice.model import NO_CHOICE, Answer, Origin, Outcome, read_choice
from bridge.voice.prompt import Prompt
from moderation.base import now

PROMISED = "The voice has chosen as many letters as its budget allows now; it is shown this one when they are answered."
REFUSED_AS_A_LIST = "The API's filter refused the list of letters, not this one: it is asked by itself."


@dataclass(frozen=True, slots=True)
class Ready:
    """The letters that may be shown now, the oldest first, and how many of them may be chosen."""

    shown: Sequence[Claimed]
    at_most: int
    put_off: Sequence[tuple[Claimed, BudgetSpent]] = ()
    """Letters that are not to be shown, each for what concerns only itself: its answer could cost more than a bound."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What one answer decided."""

    chosen: Sequence[int]
    """The comments that are to be asked now."""
    broken_off: Answer | None = None
    """An answer that broke off before it decided anything: its voice has one more turn."""


def ready(
    session: Session, sitting: Sitting, letters: Sequence[Claimed], each_one: Sequence[Prompt], *, batched: bool = False
) -> Ready:
    """Return which of *letters* are still this sitting's, and how many the budgets let their voice choose.

    What asking for each could cost is reckoned by its request of *each_one*, at the price in a batch where what is
    chosen goes away in one. How many go into what is left is reckoned by the oldest that may be shown. Letters that
    were chosen before and still wait come first. Raises `BudgetSpent` where there is no room for any.
    """
    ours = {each.comment_id for each in _still_ours(session, sitting, letters)}
    waiting = [(each, one) for each, one in zip(letters, each_one, strict=True) if each.comment_id in ours]
    if not waiting:
        return Ready((), 0)
    voice = session.get_one(Voice, sitting.voice_id)
    if budgets.bounds_of(voice) == Bounds():
        return Ready([each for each, _ in waiting], len(waiting))
    at = budgets.clock(session)
    put_off: list[tuple[Claimed, BudgetSpent]] = []
    fitting: list[tuple[Claimed, dict[str, Any]]] = []
    for each, one in waiting:
        request = {**one.request, **(sitting.extra_body or {})}
        if _exceeds_a_bound(voice, request, batched=batched, at=at):
            spent = _refused(session, voice, request, each, batched=batched, at=at)
            if spent is not None:
                put_off.append((each, spent))
                continue
        fitting.append((each, request))
    while fitting:
        oldest, request = fitting[0]
        most = budgets.greatest_cost(voice, request, batched=batched, at=at)
        room = budgets.room(session, voice, sitting.essay_id, at=at, costing=most)
        shown = [each for each, _ in fitting]
        if room is None:
            return Ready(shown, len(shown), put_off)
        if room == 0:
            spent = _refused(session, voice, request, oldest, batched=batched, at=at)
            if spent is not None and spent.for_all:
                raise spent
            if spent is not None:
                put_off.append((oldest, spent))
                del fitting[0]
                continue
            # All that is left is held by a call about this one letter, which died: it is for the letter still.
            room = 1
        return Ready(shown, min(len(shown), max(0, room - _promised(session, sitting))), put_off)
    return Ready((), 0, put_off)


def could_ever_be_made(session: Session, sitting: Sitting, sent: Prompt) -> bool:
    """Whether the budgets would allow this call if nothing were spent of them."""
    voice, request = session.get_one(Voice, sitting.voice_id), {**sent.request, **(sitting.extra_body or {})}
    return not _exceeds_a_bound(voice, request, batched=False, at=budgets.clock(session))


def begin(
    session: Session, sitting: Sitting, shown: Sequence[Claimed], sent: Prompt, origin: Origin, keys: Keys
) -> int | None:
    """Record that a voice is about to be shown letters, numbered from 1 in this order; return the call's id.

    None if one of them must not be shown any more: the claim was lost or the comment taken back. Raises `VoicePaused`,
    `replies.NoLongerPosted`, and `BudgetSpent` if what the call could cost is more than a budget has left.
    """
    voice = voices.held(session, sitting.voice_id)
    if len(_still_ours(session, sitting, shown)) < len(shown):
        return None
    if not voices.may_be_asked(session, voice):
        raise VoicePaused
    oldest = shown[0].comment_id
    generation = replies.new_generation(session, sitting, voice, oldest, sent, origin, keys, purpose=Purpose.CHOICE)
    session.flush()
    for number, each in enumerate(shown, start=1):
        session.add(Showing(generation_id=generation.id, comment_id=each.comment_id, number=number))
    session.flush()
    return generation.id


def record(
    session: Session,
    sitting: Sitting,
    shown: Sequence[Claimed],
    generation_id: int,
    answer: Answer,
    *,
    at_most: int,
    final: bool,
    seconds: float | None = None,
    tell: Site | None = None,
) -> Decided:
    """Complete the record of a choice and decide what was *shown* in it, as far as that is still this sitting's.

    Of the letters it names, the first *at_most* are to be asked now and the others keep waiting, chosen; the rest are
    not chosen. Silence and a decline choose none. The API's filter refused the list and no letter: each is asked by
    itself. An answer that says nothing of a choice decides nothing, and fails the requests; so does one that was cut,
    if this try is *final*. Where another model answered, the voice is paused, the admins of the site to *tell* learn
    of it, and the letters wait. Readers whose letters are not chosen learn of it from *tell*, if they asked to be told.
    Done twice, the second time changes nothing.
    """
    answer, numbers = read_choice(answer, asked=sitting.model)
    voice = voices.held(session, sitting.voice_id)
    # Before the call's record is touched: an erasure takes the two in this order.
    ours = _still_ours(session, sitting, shown)
    replies.completed(session, generation_id, answer, seconds)
    replies.count_success(session, voice)
    match answer.outcome:
        case Outcome.CHOSE:
            # Each number once, in the order they were named; numbers of nothing that was shown are passed over.
            named = [shown[number - 1] for number in dict.fromkeys(numbers) if 1 <= number <= len(shown)]
            return _decide(session, sitting, shown, ours, generation_id, named, at_most, tell=tell)
        case Outcome.DECLINED:
            return _decide(session, sitting, shown, ours, generation_id, (), at_most, tell=tell)
        case Outcome.NOTE_ONLY if final:
            return _decide(session, sitting, shown, ours, generation_id, (), at_most, tell=tell)
        case Outcome.WITHHELD:
            return _choose(session, sitting, ours, at_most, REFUSED_AS_A_LIST)
        case Outcome.UNEXPECTED if answer.model != sitting.model:
            why = answer.why or "Another model answered."
            replies.pause_voice(session, voice.id, why, tell=tell)
            for each in ours:
                replies.wait_again(session, sitting, each, why)
        case Outcome.UNEXPECTED:
            for each in ours:
                replies.give_up(session, sitting, each, NO_CHOICE)
        case Outcome.CUT if final:
            for each in ours:
                replies.give_up(session, sitting, each, answer.why or NO_CHOICE)
        case _:
            return Decided((), broken_off=answer if ours else None)
    return Decided(())


def _decide(
    session: Session,
    sitting: Sitting,
    shown: Sequence[Claimed],
    ours: Sequence[Claimed],
    generation_id: int,
    named: Sequence[Claimed],
    at_most: int,
    *,
    tell: Site | None,
) -> Decided:
    chosen = {each.comment_id for each in named}
    session.execute(
        update(Showing)
        .where(Showing.generation_id == generation_id)
        .values(chosen=Showing.comment_id.in_(chosen))
        .execution_options(synchronize_session=False)
    )
    # Not the voice's reason: it may repeat what another letter says, and stands in the call's own record.
    why = f"The voice was shown {_letters(len(shown))} and chose {len(named) or 'none'}."
    still = {each.comment_id for each in ours}
    for each in ours:
        if each.comment_id not in chosen:
            replies.pass_over(session, sitting, each, why, tell=tell)
    return _choose(session, sitting, [each for each in named if each.comment_id in still], at_most, None)


def _choose(session: Session, sitting: Sitting, letters: Sequence[Claimed], at_most: int, why: str | None) -> Decided:
    """Note that *letters* are chosen; the first *at_most* stay claimed, to be asked now."""
    for number, each in enumerate(letters, start=1):
        request = replies.still_claimed(session, sitting, each)
        if request is None:  # It was among ours, and nobody changes those before this transaction ends.
            continue
        request.chosen_at = request.chosen_at or now()
        request.why = why
        if number > at_most:
            replies.wait_again(session, sitting, each, why)
    session.flush()
    return Decided([each.comment_id for each in letters[:at_most]])


def _still_ours(session: Session, sitting: Sitting, letters: Sequence[Claimed]) -> list[Claimed]:
    return [each for each in letters if replies.still_claimed(session, sitting, each) is not None]


def _promised(session: Session, sitting: Sitting) -> int:
    """Return how many letters the voice chose before that no call is made for yet, but will be soon.

    One that a budget put off, to midnight or the first of a month, takes the place of nothing that can be asked now.
    """
    waiting = (
        select(func.count())
        .select_from(ReplyRequest)
        .join(Essay, Essay.id == ReplyRequest.essay_id)
        .where(
            Essay.voice_id == sitting.voice_id,
            ReplyRequest.state == RequestState.WAITING.value,
            ReplyRequest.chosen_at.is_not(None),
            or_(
                ReplyRequest.not_before.is_(None),
                ReplyRequest.not_before <= database_time() + budgets.HELD_SECONDS,
            ),
        )
    )
    return (session.scalar(waiting) or 0) + sum(each.chosen for each in sitting.claimed)


def _exceeds_a_bound(voice: Voice, request: Mapping[str, Any], *, batched: bool, at: datetime) -> bool:
    """Whether a call could cost more than a budget has when nothing of it is spent."""
    bounds = budgets.bounds_of(voice)
    in_dollars = [bound for bound in (bounds.cost_a_day, bounds.cost_a_month) if bound is not None]
    if not in_dollars:
        return False
    most = budgets.greatest_cost(voice, request, batched=batched, at=at)
    return most is not None and most > min(in_dollars)


def _refused(
    session: Session, voice: Voice, request: Mapping[str, Any], letter: Claimed, *, batched: bool, at: datetime
) -> BudgetSpent | None:
    """Return why a budget would refuse the call about a letter now; None if none would."""
    try:
        budgets.reserve(session, voice, request, comment_id=letter.comment_id, at=at, batched=batched)
    except BudgetSpent as spent:
        return spent
    return None


def _letters(number: int) -> str:
    return "one letter" if number == 1 else f"{number} letters"
