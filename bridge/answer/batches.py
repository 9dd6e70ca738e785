"""Requests that are sent together at half the price, and what becomes of them while they are away.

MODEL-API, section 3. As in `answer.replies`, every step is one short transaction of its caller's. While a batch is
away, its requests are claimed under a lease of its own, which outlasts it; whoever changes it holds its voice's row.
"""

from __future__ import annotations

import json
import secrets
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from bridge.answer import replies
from bridge.answer.replies import Claimed, Sitting, VoicePaused
from bridge.db import database_time
from bridge.keys import Keys
from bridge.records import Batch, BatchState, Generation, Purpose, ReplyRequest, RequestState, Voice
from bridge.site import Site
from bridge.voice import budgets, prompt, voices
from bridge.voice.budgets import BudgetSpent
from bridge.voice.model import (
    Answer,
    Origin,
    Outcome,
    PassingTrouble,
    RequestRefused,
    Trouble,
    Unreadable,
    VoiceBlocked,
    read,
)
from bridge.voice.prompt import Prompt

LEASE_SECONDS = 25 * 3600
"""How long the requests in a batch are claimed: the API ends every batch within 24 hours."""
ASKED_EVERY, ASKED_LATER_EVERY = 55, 295
"""Seconds between two looks at a batch, in its first ten minutes and after: so that, of the sweeps that come every
minute, each one looks, and then each fifth."""
FIRST = 600
"""Seconds: what was created is on the API's list by then; a call gives up after half as long."""
CANARY = timedelta(hours=24)
"""For so long one answer shows that requests like it are right: in a batch, a wrong one shows hours later."""
TIMES = 3
"""So often a request goes away in a batch; then it is asked live."""
RESULTS_KEPT = timedelta(days=29)
CLOCKS_DIFFER = timedelta(days=2)
"""By so much the API's clock may differ from the database's, which may be wrong by a day."""

_OPEN = (BatchState.SENDING.value, BatchState.SENT.value)
_ANSWERED = [each.value for each in Outcome if each is not Outcome.UNEXPECTED]
_NOT_TO_BE_REPEATED = {Outcome.CUT.value, Outcome.NOTE_ONLY.value, RequestRefused.__name__}
"""What a request that came back so is not sent away for again: live, it is seen through to its end."""
_BROKEN_OFF = {Outcome.CUT, Outcome.NOTE_ONLY}


class BatchLost(PassingTrouble):
    """A batch never came to be, or its results are gone."""


class NotInTheFile(PassingTrouble):
    """A batch came back, and nothing in it is for this request."""

    def __init__(self) -> None:
        super().__init__("The batch came back without an answer to this one.")


@dataclass(frozen=True, slots=True)
class Before:
    """What came of a request in batches until now."""

    live: bool
    """Whether it is asked live from now on."""
    broken_off: Answer | None
    """The answer that its voice has one more turn for: it was cut off, or a note alone."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A batch on record, to be created: its requests by their names in it."""

    batch_id: int
    entries: Sequence[tuple[str, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Away:
    """A batch that is to be looked at."""

    batch_id: int
    remote_id: str | None
    host: str
    """Where it was sent."""
    created_at: datetime
    seconds: float
    """How long ago it was begun, by the database's clock."""
    custom_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Holder:
    lease: str
    voice_id: int
    model: str


@dataclass(frozen=True, slots=True)
class _Held:
    comment_id: int


# Which way a request goes.


def needs_a_live_one(session: Session, sitting: Sitting, origin: Origin) -> bool:
    """Whether one is to be asked live before others go away: none like them was answered in the last day.

    Or none since what the voice's requests say, or where they go, was changed; or its pause has just run out, and one
    shows whether the trouble is over.
    """
    voice = session.get_one(Voice, sitting.voice_id)
    if voice.paused_at is not None:
        return True
    since = budgets.clock(session) - CANARY
    answered = (
        select(Generation.id)
        .outerjoin(Batch, Batch.id == Generation.batch_id)
        .where(
            Generation.voice_id == sitting.voice_id,
            Generation.started_at >= since - timedelta(seconds=LEASE_SECONDS),  # For the index.
            # Live, it ends a moment after; when a call ended is told by a worker's clock, which may be wrong by a day.
            or_(Generation.started_at >= since, Batch.ended_at >= since),
            Generation.outcome.in_(_ANSWERED),
            Generation.model_asked == sitting.model,
            Generation.host == origin.host,
            Generation.api_version == origin.api_version,
            Generation.prompt_version == prompt.VERSION,
        )
    )
    if voice.ways_changed_at is not None:
        # Begun since, not only ended since: what was away in a batch meanwhile went as it was before.
        answered = answered.where(Generation.started_at > voice.ways_changed_at)
    return session.scalar(answered.limit(1)) is None


def before(session: Session, sitting: Sitting) -> Mapping[int, Before]:
    """Return what came of a sitting's requests in batches, by comment; those that were never in one are absent."""
    calls = session.execute(
        select(Generation.comment_id, Generation.id, Generation.batch_id, Generation.outcome, Generation.model_asked)
        .where(
            Generation.comment_id.in_([claimed.comment_id for claimed in sitting.claimed]),
            Generation.purpose == Purpose.REPLY.value,
        )
        .order_by(Generation.id)
    ).all()
    found = {}
    for comment_id in {call.comment_id for call in calls if call.batch_id is not None}:
        made = [call for call in calls if call.comment_id == comment_id]
        batched = [call for call in made if call.batch_id is not None]
        answered = [call for call in made if call.outcome in set(Outcome)]
        last = answered[-1] if answered else None
        ours = last is not None and last.batch_id is not None and last.model_asked == sitting.model
        found[comment_id] = Before(
            live=len(batched) >= TIMES or batched[-1].outcome in _NOT_TO_BE_REPEATED,
            broken_off=_broken_off(session, last.id) if ours and last is not None else None,
        )
    return found


# Away, and back.


def begin(
    session: Session, sitting: Sitting, entries: Sequence[tuple[Claimed, Prompt]], origin: Origin, keys: Keys
) -> Begun | None:
    """Record that a batch is about to be created and claim what is in it; None if nothing is left to be sent.

    What a budget has no room for waits. Raises `VoicePaused`, and `replies.NoLongerPosted` if one of them quotes what
    is not posted any more: then nothing is recorded. Dying after it, a worker leaves a batch of which nobody knows
    whether it came to be: `look` finds it.
    """
    voice = voices.held(session, sitting.voice_id)
    if not voices.may_be_asked(session, voice):
        raise VoicePaused
    clock = session.scalar(select(database_time())) or 0
    # Not a `replies.new_lease`: a batch does not die with its worker.
    away = replace(sitting, lease=secrets.token_hex(16))
    batch = Batch(
        voice_id=sitting.voice_id,
        essay_id=sitting.essay_id,
        lease=away.lease,
        state=BatchState.SENDING.value,
        requests=0,
        created_at=datetime.fromtimestamp(clock, UTC),
        asked_at=clock,
    )
    session.add(batch)
    session.flush()
    sent: list[tuple[str, dict[str, Any]]] = []
    spent: BudgetSpent | None = None
    for claimed, whole in entries:
        if spent is not None:
            replies.wait_again(session, sitting, claimed, spent.why, until=spent.until)
            continue
        request = replies.still_claimed(session, sitting, claimed)
        if request is None:
            continue
        request.lease, request.leased_until = away.lease, clock + LEASE_SECONDS
        # With something of this batch: another installation with the same key has the same numbers.
        custom_id = f"rr-{claimed.comment_id}-{request.attempts + 1}-{away.lease[:12]}"
        session.flush()
        try:
            replies.begin_generation(session, away, claimed, whole, origin, keys, batch=(batch.id, custom_id))
        except BudgetSpent as refused:
            replies.wait_again(session, away, claimed, refused.why, until=refused.until)
            spent = refused if refused.for_all else None
        else:
            sent.append((custom_id, whole.request))
    if not sent:
        session.delete(batch)
        return None
    batch.requests = len(sent)
    return Begun(batch.id, sent)


def created(session: Session, batch_id: int, remote_id: str) -> bool:
    """Record what the API calls a batch; False if it was given up meanwhile. Twice, the second changes nothing."""
    batch = _held(session, batch_id)
    if batch.state == BatchState.SENDING:
        batch.state, batch.remote_id, batch.why = BatchState.SENT.value, remote_id, None
    return batch.remote_id == remote_id


def doubted(session: Session, batch_id: int, why: str) -> None:
    """Note that creating a batch failed on the way: it may have come to be. Counts as a failure of the API."""
    batch = _held(session, batch_id)
    if batch.state == BatchState.SENDING:
        batch.why = why
        replies.count_failure(session, batch.voice_id, why)


def refused(session: Session, batch_id: int, trouble: Trouble, *, tell: Site | None = None) -> None:
    """End a batch that the API refused to create: nothing was asked and nothing is paid, and what was in it waits.

    As live, the voice is paused where every request would be refused, and a rate limit is waited out. *tell* is the
    site whose admins learn of a pause.
    """
    batch = _held(session, batch_id)
    if batch.state != BatchState.SENDING:
        return
    too_long = isinstance(trouble, RequestRefused) and trouble.too_long
    if isinstance(trouble, VoiceBlocked | RequestRefused) and not too_long:
        replies.pause_voice(session, batch.voice_id, trouble.why, tell=tell, trouble=trouble)
    _give_up(session, batch, trouble, is_billed=False)


def lose(session: Session, batch_id: int, why: str) -> None:
    """Give a batch up: it never came to be, or its results are gone. What was in it waits; its calls keep their price.

    They count at the most they could cost: nobody knows whether they were billed.
    """
    batch = _held(session, batch_id)
    if batch.state in _OPEN:
        _give_up(session, batch, BatchLost(why), is_billed=True)


def due(session: Session) -> list[int]:
    """Return the batches that are to be looked at now, the oldest first."""
    clock = session.scalar(select(database_time())) or 0
    return [batch.id for batch in session.scalars(_open()) if _is_due(batch, clock)]


def look(session: Session, batch_id: int) -> Away | None:
    """Note that a batch is looked at and return it; None if it has come back, or was looked at a moment ago."""
    batch = session.get(Batch, batch_id, with_for_update=True, populate_existing=True)
    clock = session.scalar(select(database_time())) or 0
    if batch is None or batch.state not in _OPEN or not _is_due(batch, clock):
        return None
    batch.asked_at = clock
    calls = session.execute(select(Generation.custom_id, Generation.host).where(Generation.batch_id == batch_id)).all()
    names = frozenset(call.custom_id for call in calls if call.custom_id is not None)
    return Away(batch.id, batch.remote_id, calls[0].host, batch.created_at, _age(batch, clock), names)


def recorded(session: Session, remote_ids: Collection[str]) -> set[str]:
    """Return those of *remote_ids* that some batch has already."""
    found = session.scalars(select(Batch.remote_id).where(Batch.remote_id.in_(remote_ids)))
    return {remote_id for remote_id in found if remote_id is not None}


def is_wanted(session: Session, batch_id: int) -> bool:
    """Whether a letter still waits for something that a batch is to bring."""
    waiting = select(ReplyRequest.comment_id).join(Batch, Batch.lease == ReplyRequest.lease)
    return session.scalar(waiting.where(Batch.id == batch_id).limit(1)) is not None


def note(session: Session, batch_id: int, why: str | None) -> None:
    """Note what went wrong when the API was asked about a batch, or that all went well."""
    batch = _held(session, batch_id)
    if batch.state in _OPEN and batch.why != why:
        batch.why = why


def blocked(session: Session, batch_id: int, trouble: VoiceBlocked, *, tell: Site | None = None) -> None:
    """Note that the API tells nothing of a batch until a person acts, and pause its voice: it may be refused as well.

    Once: who lets the voice go on meanwhile knows better. The batch stays away, and is looked at again. *tell* is the
    site whose admins learn of it.
    """
    batch = _held(session, batch_id)
    is_news = batch.why != trouble.why
    note(session, batch_id, trouble.why)
    if batch.state in _OPEN and is_news:
        replies.pause_voice(session, batch.voice_id, trouble.why, tell=tell, trouble=trouble)


def record_result(
    session: Session, batch_id: int, custom_id: str, result: Answer | Trouble, *, tell: Site | None = None
) -> RequestState | None:
    """Record one result of a batch and, if its request is still claimed so, do what it says.

    Returns the state that the request reached; None for what is no result of this batch, what is recorded already, and
    what nobody waits for any more. An answer that was cut, or a note alone, has its one more turn live. *tell* is the
    site whose admins learn of a pause.
    """
    batch = _held(session, batch_id)
    generation = session.scalar(
        select(Generation).where(Generation.batch_id == batch_id, Generation.custom_id == custom_id)
    )
    if generation is None or generation.ended_at is not None:
        return None
    if isinstance(result, Trouble):
        # What was answered is paid for, whether or not anybody can read it.
        is_billed = isinstance(result, Unreadable)
        return _without_answer(session, batch, generation, result, is_billed=is_billed, tell=tell)
    holder, held = _Holder(batch.lease, batch.voice_id, generation.model_asked), _Held(generation.comment_id)
    # Again, by the model that was asked then: the voice may have another since.
    answer = read(
        result.message, asked=generation.model_asked, request_id=result.request_id, rehearsed=result.rehearsed
    )
    state = replies.record_answer(session, holder, held, generation.id, answer, final=False, tell=tell)
    if state is RequestState.ASKING:
        replies.wait_again(session, holder, held, answer.why)
        return RequestState.WAITING
    return state


def conclude(session: Session, batch_id: int, *, tell: Site | None = None) -> None:
    """End a batch whose results were read to their end; what none came for waits.

    Where all of it was refused as invalid the voice is paused, for all that follows would be as well. *tell* is the
    site whose admins learn of it.
    """
    batch = _held(session, batch_id)
    if batch.state != BatchState.SENT:
        return
    missing = list(session.scalars(_unended(batch_id)))
    for generation in missing:
        _without_answer(session, batch, generation, NotInTheFile(), is_billed=False)
    batch.state, batch.ended_at = BatchState.ENDED.value, budgets.clock(session)
    batch.why = f"{len(missing)} of its requests came back without a result." if missing else None
    why = _why_all_were_refused(session, batch_id)
    if why is not None:
        replies.pause_voice(session, batch.voice_id, why, tell=tell)


def _why_all_were_refused(session: Session, batch_id: int) -> str | None:
    """Return why every request of a batch was refused as invalid; None if some were not, or nobody waited for any."""
    session.flush()
    calls = session.execute(
        select(Generation.outcome, ReplyRequest.state, ReplyRequest.why)
        .join(ReplyRequest, ReplyRequest.comment_id == Generation.comment_id)
        .where(Generation.batch_id == batch_id)
        .order_by(Generation.comment_id)
    ).all()
    if any(call.outcome != RequestRefused.__name__ for call in calls):
        return None
    failed = [call for call in calls if call.state == RequestState.FAILED]
    # What is too long waits to be asked live: it says nothing of the others.
    others = {call.state for call in calls} - {RequestState.FAILED.value, RequestState.WITHDRAWN.value}
    return failed[0].why if failed and not others else None


def _open() -> Select[Batch]:
    return select(Batch).where(Batch.state.in_(_OPEN)).order_by(Batch.id)


def _is_due(batch: Batch, clock: float) -> bool:
    every = ASKED_EVERY if _age(batch, clock) < FIRST else ASKED_LATER_EVERY
    return batch.asked_at is None or batch.asked_at + every <= clock


def _age(batch: Batch, clock: float) -> float:
    return clock - batch.created_at.timestamp()


def _held(session: Session, batch_id: int) -> Batch:
    """Return a batch as it is now; nobody else changes it, or its calls' records, before this transaction ends."""
    batch = session.get_one(Batch, batch_id)
    voices.held(session, batch.voice_id)
    session.refresh(batch)
    return batch


def _unended(batch_id: int) -> Select[Generation]:
    # In the order of the comments, as every transaction takes several of them.
    return (
        select(Generation)
        .where(Generation.batch_id == batch_id, Generation.ended_at.is_(None))
        .order_by(Generation.comment_id)
    )


def _give_up(session: Session, batch: Batch, trouble: Trouble, *, is_billed: bool) -> None:
    for generation in session.scalars(_unended(batch.id)):
        _without_answer(session, batch, generation, trouble, is_billed=is_billed)
    batch.state, batch.ended_at, batch.why = BatchState.LOST.value, budgets.clock(session), trouble.why


def _without_answer(
    session: Session,
    batch: Batch,
    generation: Generation,
    trouble: Trouble,
    *,
    is_billed: bool,
    tell: Site | None = None,
) -> RequestState | None:
    """End one call of a batch that brought no answer; only those that did are billed (MODEL-API, section 3)."""
    holder, held = _Holder(batch.lease, batch.voice_id, generation.model_asked), _Held(generation.comment_id)
    # Before the call's record is touched: an erasure takes the two in this order.
    request = replies.still_claimed(session, holder, held)
    replies.forget_what_is_gone(session, generation, trouble)
    alone = batch.state == BatchState.SENT
    if alone and isinstance(trouble, RequestRefused) and not trouble.too_long:
        replies.give_up(session, holder, held, trouble.why)
    else:
        replies.wait_again(session, holder, held, trouble.why, seconds=getattr(trouble, "seconds", 0))
    if alone and isinstance(trouble, VoiceBlocked):
        replies.pause_voice(session, batch.voice_id, trouble.why, tell=tell, trouble=trouble)
    replies.record_trouble(session, generation.id, trouble)
    if not is_billed and generation.reserved is not None:
        generation.cost = 0
    session.flush()
    return RequestState(request.state) if request is not None else None


def _broken_off(session: Session, generation_id: int) -> Answer | None:
    """Return an answer that was cut off or a note alone, as it was read; None of another, or if it was erased.

    None too of a note that was left after reading what is not posted any more: its words would go to the model again.
    """
    made = session.get_one(Generation, generation_id)
    if made.response is None or made.outcome not in _BROKEN_OFF:
        return None
    answer = read(
        json.loads(zlib.decompress(made.response)),
        asked=made.model_asked,
        request_id=made.request_id,
        rehearsed=made.rehearsed,
    )
    if answer.outcome is Outcome.NOTE_ONLY and not replies.is_posted(session, replies.references(session, made)):
        return None
    return answer if answer.outcome in _BROKEN_OFF else None
