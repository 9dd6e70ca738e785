"""What happens to the need for a reply: requested, claimed by a sitting, answered or not, given back.

Every step is one short transaction of its caller's; no call to the model is made here. A claim is a lease on the
database's own clock: a worker that dies stops renewing it, and the sweep gives its requests to another.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol

from sqlalchemy import Select, and_, case, func, nulls_first, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from bridge import outdated
from bridge.answer import memory
from bridge.db import database_time
from bridge.essay import intake
from bridge.essay.essays import submission_of
from bridge.keys import Keys
from bridge.mail import notices, told
from bridge.records import (
    Answering,
    Batch,
    Calls,
    Comment,
    Essay,
    Generation,
    Prefix,
    Purpose,
    Reply,
    ReplyRequest,
    RequestState,
    Showing,
    Voice,
)
from bridge.signal import signals
from bridge.site import Site
from bridge.text import words
from bridge.voice import budgets, prices, prompt, voices
from bridge.voice.model import REFUSED, Answer, Origin, Outcome, Trouble
from bridge.voice.prompt import Asked, Prompt, Told
from bridge.voice.voices import REHEARSAL_MARK
from moderation import gate, rereading
from moderation.base import now
from moderation.errors import NothingToAnswer
from moderation.release import released, released_ids, standing
from moderation.types import Kind, SubmissionId

LEASE_SECONDS = 30
"""How long a claim lasts unless its sitting renews it."""
AT_ONCE = 100
"""The most requests that one sitting claims; the next sitting takes the rest."""
IN_TURN = 20
"""The same where something waits under other essays of the voice: then they take turns."""
DIED_BEFORE, DIED_AT_MOST = 3, 20
"""So many calls of a request that never ended make it wait, and so many make it fail."""
A_PAGE = 20
"""The most letters that a voice is shown at once to choose from."""
CACHE_SECONDS = 300
"""How long the API's cache keeps what a call wrote to it or read from it, from the call's beginning."""
SAME_FOR = 1800
"""Seconds for which sittings one after another may read the same of a thread, while letters wait for the pace."""
LONGEST_WAIT = 3700
"""Seconds: an hour is the longest for which the API's wish to wait is obeyed, and a minute may pass on the way."""
PAUSE_AFTER = 5
PAUSE_MINUTES = 15


class VoicePaused(Exception):
    """Raised when the voice was paused after its sitting began."""


class NoLongerPosted(Exception):
    """Raised when a request quotes words that are not posted any more. Nothing was recorded; the call is not made."""


class NotToBeAskedAgain(Exception):
    """Raised when a request is not one that failed, or its comment is no longer posted, or is answered."""

    def __init__(self) -> None:
        super().__init__(
            "Only a request that failed is asked again, for a letter that is posted and unanswered, and this is not "
            "one, or no longer. Nothing was changed."
        )


class Holder(Protocol):
    """Who holds claims: a sitting, or a batch that is away."""

    @property
    def lease(self) -> str:
        """The name of the claims."""

    @property
    def voice_id(self) -> int:
        """Whose answers they wait for."""

    @property
    def model(self) -> str:
        """The model that is asked."""


class Held(Protocol):
    """A request that is claimed."""

    @property
    def comment_id(self) -> int:
        """The comment to be answered."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A request that this sitting may ask for."""

    comment_id: int
    attempt: int
    asked: Asked
    chosen: bool = False
    """Whether its voice picks its letters and chose this one in an earlier sitting."""
    put_off: bool = False
    """Whether an earlier sitting took it on and put it off, for the pace most often."""


@dataclass(frozen=True, slots=True)
class Cached:
    """What the last call under an essay shared with others, where the API's cache holds it still."""

    told: Told
    """What it was made from, as far as that is posted."""
    shared: Mapping[str, Any]
    """Its recipe: if something went away since, what it was made from no longer makes this."""


@dataclass(frozen=True, slots=True)
class Sitting:
    """What one sitting took on: the claimed requests of one essay and how its voice is asked."""

    lease: str
    essay_id: int
    voice_id: int
    model: str
    api_version: str | None
    extra_body: dict[str, Any] | None
    answering: Answering
    calls: Calls
    told: Told
    claimed: Sequence[Claimed]
    others_soon: bool = False
    """Whether others under the essay, which were put off, come due while the cache keeps what this sitting writes."""
    cached: Cached | None = None
    """Where letters wait for the pace: what an earlier sitting read, and this one may read for a tenth of its price."""


def request_if_comment(session: Session, submission_id: int) -> int | None:
    """Note the need for a reply if *submission_id* is a comment that wants one; return its essay's id, else None."""
    comment = session.scalar(select(Comment).where(Comment.submission_id == submission_id))
    if comment is None or not comment.wants_reply or session.get(ReplyRequest, comment.id) is not None:
        return None
    if is_too_deep(session, comment):
        return None
    session.add(
        ReplyRequest(
            comment_id=comment.id,
            essay_id=comment.essay_id,
            state=RequestState.WAITING.value,
            attempts=0,
            created_at=now(),
            changed_at=now(),
        )
    )
    session.flush()
    return comment.essay_id


def is_too_deep(session: Session, comment: Comment) -> bool:
    """Whether a comment is further down a conversation than its voice answers."""
    most = session.scalars(
        select(Voice.depth).join(Essay, Essay.voice_id == Voice.id).where(Essay.id == comment.essay_id)
    ).one()
    return memory.depth(session, comment, at_most=most) > most


def no_longer_wanted(session: Session, comment_id: int) -> None:
    """End the request for a comment that was taken back; an answer that is still on its way will not be submitted."""
    request = session.get(ReplyRequest, comment_id, with_for_update=True)
    if request is not None:
        _settle(session, request, RequestState.WITHDRAWN, "Its author took the comment back.")


def no_longer_asked(session: Session, comment_id: int) -> None:
    """End the request for a comment that was taken down, unless it has its outcome: an answer that came may stay."""
    request = session.get(ReplyRequest, comment_id, with_for_update=True)
    if request is not None and request.state in {RequestState.WAITING, RequestState.ASKING, RequestState.FAILED}:
        _settle(session, request, RequestState.WITHDRAWN, "The comment was taken down.")


def essay_is_gone(session: Session, essay_id: int) -> None:
    """End every request under an essay that was taken down; what is still on its way will not be submitted."""
    still = [RequestState.WAITING.value, RequestState.ASKING.value, RequestState.FAILED.value]
    for request in session.scalars(
        select(ReplyRequest)
        .where(ReplyRequest.essay_id == essay_id, ReplyRequest.state.in_(still))
        .order_by(ReplyRequest.comment_id)
        .with_for_update()
    ):
        _settle(session, request, RequestState.WITHDRAWN, "The essay is no longer posted.")


def empty_records(session: Session, comment_id: int) -> None:
    """Take out of the records of all calls about a comment what was said in them; what they cost stays.

    Those too in which it was shown among others to be chosen. An answer that comes later is recorded without its words
    (`record_answer`).
    """
    shown = select(Showing.generation_id).where(Showing.comment_id == comment_id)
    session.execute(
        update(Generation)
        .where(or_(Generation.comment_id == comment_id, Generation.id.in_(shown)))
        .values(request=b"", request_digest="", response=None, error=None, note=None, request_id=None, message_id=None)
    )


def forget_refusals(session: Session, comment_id: int, calls: Iterable[int]) -> None:
    """Take out of the records what the API said when it refused calls that were sent a comment or its answer.

    *calls* are those for other letters. It may repeat what it was sent, and stands wherever moderators read why
    something waits or failed.
    """
    shown = select(Showing.generation_id).where(Showing.comment_id == comment_id)
    sent = or_(Generation.comment_id == comment_id, Generation.id.in_(shown), Generation.id.in_(list(calls)))
    whose = select(Generation.comment_id).where(sent)
    voices_asked = select(Generation.voice_id).where(sent)
    batches_sent = select(Generation.batch_id).where(sent, Generation.batch_id.is_not(None))
    others = select(Showing.comment_id).where(Showing.generation_id.in_(shown))
    said = f"{REFUSED}:%"
    for column, of in (
        (ReplyRequest.why, or_(ReplyRequest.comment_id.in_(whose), ReplyRequest.comment_id.in_(others))),
        (Voice.paused_why, Voice.id.in_(voices_asked)),
        (Batch.why, Batch.id.in_(batches_sent)),
    ):
        session.execute(update(column.class_).where(of, column.like(said)).values({column: f"{REFUSED}."}))
    troubles = and_(sent, Generation.outcome.not_in([each.value for each in Outcome]))
    session.execute(update(Generation).where(troubles).values(error=None, response=None))


def gathering(session: Session, essay_id: int, window: float) -> float:
    """Return the seconds until what began to wait under an essay has been gathered for so long as *window*."""
    first = session.scalar(
        select(func.min(ReplyRequest.changed_at)).where(
            ReplyRequest.essay_id == essay_id, ReplyRequest.state == RequestState.WAITING.value, _is_due()
        )
    )
    if first is None:
        return 0
    return min(max(0, window - (now() - first).total_seconds()), window)


def begin_sitting(session: Session, essay_id: int) -> Sitting | None:
    """Claim what waits under an essay and gather what its voice may be read; None if nothing waits or it is paused.

    Run twice, the second finds nothing waiting. A claim whose worker dies falls back to waiting with its lease.
    """
    essay = session.get(Essay, essay_id)
    if essay is None:
        return None
    voice = session.get_one(Voice, essay.voice_id)
    if not voices.may_be_asked(session, voice):
        return None
    lease = new_lease()
    taken = _claim(session, essay_id, lease, _at_most(session, essay, voice))
    out = released(session, [essay.submission_id])
    if essay.submission_id not in out:
        for request in session.scalars(select(ReplyRequest).where(ReplyRequest.lease == lease)):
            _settle(session, request, RequestState.WITHDRAWN, "The essay is no longer posted.")
        return None
    if not taken:
        return None
    soon = _put_off_and_soon_due(session, essay_id)
    read_to_it = memory.told(session, essay, voice, out[essay.submission_id], without=[*taken, *soon])
    claimed = _claimed(session, essay, taken)
    paced = bool(soon) or any(each.put_off for each in claimed)
    return Sitting(
        lease=lease,
        essay_id=essay.id,
        voice_id=voice.id,
        model=voice.model,
        api_version=voice.anthropic_version,
        extra_body=voice.extra_body,
        answering=Answering(voice.answering),
        calls=Calls(voice.calls),
        told=read_to_it,
        claimed=claimed,
        others_soon=bool(soon),
        cached=_cached(session, essay_id, voice, read_to_it) if paced else None,
    )


def read_again(session: Session, sitting: Sitting) -> Sitting:
    """Return a sitting with what its voice may be read by now, and those of its requests that are still its own.

    What a voice's row says of how it is asked stays as it was. A request for a letter that is no longer posted ends,
    and all of them do where the essay is not.
    """
    essay, voice = session.get_one(Essay, sitting.essay_id), session.get_one(Voice, sitting.voice_id)
    out = released(session, [essay.submission_id])
    if essay.submission_id not in out:
        essay_is_gone(session, essay.id)
        return replace(sitting, claimed=())
    ours = [each for each in sitting.claimed if still_claimed(session, sitting, each) is not None]
    found = session.scalars(select(Comment).where(Comment.id.in_([each.comment_id for each in ours]))).all()
    asked = memory.asked(session, essay, found)
    for each in ours:
        if each.comment_id not in asked:
            no_longer_wanted(session, each.comment_id)
    without = [*(each.comment_id for each in sitting.claimed), *_put_off_and_soon_due(session, essay.id)]
    read = memory.told(session, essay, voice, out[essay.submission_id], without=without)
    return replace(
        sitting,
        told=replace(sitting.told, essay=read.essay, earlier_essays=read.earlier_essays, thread=read.thread),
        claimed=[replace(each, asked=asked[each.comment_id]) for each in ours if each.comment_id in asked],
    )


def new_lease() -> str:
    """Return the name of a new claim; it begins with that of the work horse that makes it, if there is one."""
    return f"{_horse['name']}{secrets.token_hex(8)}" if _horse["name"] else secrets.token_hex(16)


def claims_are_made_by(horse: str) -> None:
    """Have this process's claims begin with *horse*, 16 hex digits: who sees it die gives them back at once."""
    _horse["name"] = horse


def forget_claims_of(session: Session, horse: str) -> list[int]:
    """Put what a dead process claimed back to waiting; return the essays it waits under.

    What was asked several times already waits a minute: it may be what the process died of.
    """
    soon = case((ReplyRequest.attempts >= DIED_BEFORE, database_time() + 60), else_=ReplyRequest.not_before)
    lost = session.execute(
        update(ReplyRequest)
        .where(ReplyRequest.state == RequestState.ASKING.value, ReplyRequest.lease.startswith(horse))
        .values(state=RequestState.WAITING.value, lease=None, leased_until=None, not_before=soon, changed_at=now())
        .returning(ReplyRequest.essay_id)
        .execution_options(synchronize_session=False)
    )
    return sorted(set(lost.scalars()))


_horse = {"name": ""}


def renew(session: Session, lease: str) -> None:
    """Prolong a sitting's claims."""
    session.execute(
        update(ReplyRequest)
        .where(ReplyRequest.lease == lease, ReplyRequest.state == RequestState.ASKING.value)
        .values(leased_until=database_time() + LEASE_SECONDS)
    )


def begin_generation(
    session: Session,
    sitting: Sitting,
    claimed: Claimed,
    sent: Prompt,
    origin: Origin,
    keys: Keys,
    *,
    batch: tuple[int, str] | None = None,
) -> int | None:
    """Record that a call is about to be made, and return its id; in a *batch*, with its id and the call's name there.

    None if it must not be made any more: the claim was lost or the comment taken back. Raises `VoicePaused`,
    `NoLongerPosted`, and `budgets.BudgetSpent` if what the call could cost is more than a budget has left.
    """
    voice = voices.held(session, sitting.voice_id)
    request = still_claimed(session, sitting, claimed)
    if request is None:
        return None
    if not voices.may_be_asked(session, voice):
        raise VoicePaused
    generation = new_generation(
        session, sitting, voice, claimed.comment_id, sent, origin, keys, purpose=Purpose.REPLY, batch=batch
    )
    request.attempts += 1
    generation.attempt = request.attempts
    session.flush()
    return generation.id


def new_generation(
    session: Session,
    sitting: Sitting,
    voice: Voice,
    comment_id: int,
    sent: Prompt,
    origin: Origin,
    keys: Keys,
    *,
    purpose: Purpose,
    batch: tuple[int, str] | None = None,
) -> Generation:
    """Add the record of a call that is about to be made, with its greatest cost reserved.

    The caller holds the voice's row. Raises `NoLongerPosted` if something that it quotes is not posted any more, and
    `BudgetSpent`.
    """
    if not is_posted(session, prompt.references(prompt.whole(sent.recipe, sent.shared))):
        raise NoLongerPosted
    started_at = budgets.clock(session)
    whole = {**sent.request, **(sitting.extra_body or {})}
    reserved = budgets.reserve(
        session,
        voice,
        whole,
        comment_id=comment_id,
        at=started_at,
        batched=batch is not None,
        replies=purpose is Purpose.REPLY,
    )
    price = prices.of(voice, started_at)
    batch_id, custom_id = batch or (None, None)
    generation = Generation(
        comment_id=comment_id,
        essay_id=sitting.essay_id,
        voice_id=sitting.voice_id,
        purpose=purpose.value,
        attempt=1,
        model_asked=sitting.model,
        rehearsed=origin.rehearsed,
        host=origin.host,
        sdk_version=origin.sdk_version,
        api_version=origin.api_version,
        prompt_version=prompt.VERSION,
        prefix_id=_kept_once(session, sent.shared),
        request=zlib.compress(json.dumps({**sent.recipe, "extra": sitting.extra_body or {}}).encode()),
        request_digest=keys.keyed_digest("request", json.dumps(whole, sort_keys=True)),
        reserved=reserved,
        price=price.as_record() if price is not None else None,
        batch_id=batch_id,
        custom_id=custom_id,
        started_at=started_at,
    )
    session.add(generation)
    return generation


def record_trouble(session: Session, generation_id: int, trouble: Trouble, *, seconds: float | None = None) -> None:
    """Complete the record of a call that brought no answer; one that was refused or never sent cost nothing."""
    generation = _held(session, generation_id)
    forget_what_is_gone(session, generation, trouble)
    if not trouble.may_be_billed and generation.reserved is not None:
        generation.cost = 0
    generation.outcome = type(trouble).__name__
    generation.status = trouble.status
    generation.error_type, generation.error_code = trouble.error_type, trouble.error_code
    generation.seconds = seconds
    if generation.request:
        generation.error = f"{trouble.why} {trouble.error}".strip()[:4000]
        if trouble.body is not None:
            generation.response = zlib.compress(json.dumps(trouble.body.told).encode())
        generation.request_id = trouble.request_id
    generation.ended_at = now()


def record_answer(
    session: Session,
    sitting: Holder,
    claimed: Held,
    generation_id: int,
    answer: Answer,
    *,
    final: bool,
    seconds: float | None = None,
    tell: Site | None = None,
) -> RequestState | None:
    """Complete the record of a call and, if the request is still ours, do what the answer says.

    A reply is submitted to the gate; silence, a decline and the API's filter end the request; an answer that was cut,
    or a note alone, leaves it asking unless *final*. *tell* is the site whose admins learn of a pause, and whose reader
    of an answer that does not come. Returns the state the request reached, or None if it was no longer ours: then the
    answer is on record only.
    """
    voice = voices.held(session, sitting.voice_id)
    # Before the call's record is touched: an erasure takes the two in this order.
    request = still_claimed(session, sitting, claimed)
    generation = completed(session, generation_id, answer, seconds)
    count_success(session, voice)
    if request is None:
        return None
    match answer.outcome:
        case Outcome.REPLIED:
            return _submit(session, request, voice, generation, answer)
        case Outcome.DECLINED:
            return _settle(session, request, RequestState.DECLINED, answer.why, tell=tell)
        case Outcome.WITHHELD:
            return _settle(session, request, RequestState.WITHHELD, answer.why, tell=tell)
        case Outcome.NOTE_ONLY if final:
            why = "The voice left a note for moderators and said nothing."
            return _settle(session, request, RequestState.DECLINED, why, tell=tell)
        case Outcome.CUT if final:
            return _settle(session, request, RequestState.FAILED, answer.why)
        case Outcome.UNEXPECTED:
            if answer.model != sitting.model:
                pause_voice(session, voice.id, answer.why or "Another model answered.", tell=tell)
            return _settle(session, request, RequestState.FAILED, answer.why)
    return RequestState.ASKING


def give_up(session: Session, sitting: Holder, claimed: Held, why: str) -> None:
    """End a request that the API will not answer. It stays failed until a moderator asks again."""
    request = still_claimed(session, sitting, claimed)
    if request is not None:
        _settle(session, request, RequestState.FAILED, why)


def pass_over(session: Session, sitting: Holder, claimed: Held, why: str, *, tell: Site | None = None) -> None:
    """End a request whose voice was shown the letter and chose others, or none; its reader hears of it from *tell*."""
    request = still_claimed(session, sitting, claimed)
    if request is not None:
        _settle(session, request, RequestState.NOT_CHOSEN, why, tell=tell)


def wait_again(
    session: Session,
    sitting: Holder,
    claimed: Held,
    why: str | None,
    *,
    seconds: float = 0,
    until: float | None = None,
) -> None:
    """Put a request back to waiting, not to be asked before *seconds* from now, or before *until*."""
    request = still_claimed(session, sitting, claimed)
    if request is None:
        return
    if seconds:
        until = (session.scalar(select(database_time())) or 0) + seconds
    request.not_before = until
    _settle(session, request, RequestState.WAITING, why)


def ask_again(session: Session, comment_id: int) -> int:
    """Put a request that failed back to waiting; return its essay's id. Raises `NotToBeAskedAgain`.

    A voice that declined, and a reply that was vetoed, stay as they are: silence is never retried into an answer.
    """
    request = session.get(ReplyRequest, comment_id, with_for_update=True, populate_existing=True)
    if request is None or request.state != RequestState.FAILED:
        raise NotToBeAskedAgain
    comment = session.get_one(Comment, comment_id)
    answered = session.scalar(select(Reply.id).where(Reply.comment_id == comment_id)) is not None
    if answered or comment.submission_id not in released(session, [comment.submission_id]):
        raise NotToBeAskedAgain
    request.not_before = None
    _settle(session, request, RequestState.WAITING, None)
    session.flush()
    return request.essay_id


def pause_voice(
    session: Session, voice_id: int, why: str, *, tell: Site | None = None, trouble: Trouble | None = None
) -> None:
    """Ask this voice nothing more until a person acts; *tell* is the site whose admins learn of it by mail."""
    if tell is not None:
        told.pause_voice(session, tell, voice_id, why, trouble=trouble)
    else:
        voices.pause(session, voices.held(session, voice_id), why)


def count_success(session: Session, voice: Voice) -> None:
    """Note that the voice was reached: nothing failed in a row, and a pause that ran out is over."""
    voice.failures_in_a_row = 0
    if voice.paused_at is not None and voices.may_be_asked(session, voice):
        voices.resume(session, voice)


def count_failure(session: Session, voice_id: int, why: str) -> None:
    """Count a request that the API failed; five in a row pause the voice for a quarter of an hour.

    The next in a row is the one that probes when the pause has run out: it pauses the voice again.
    """
    voice = voices.held(session, voice_id)
    voice.failures_in_a_row += 1
    if voice.failures_in_a_row >= PAUSE_AFTER and voices.may_be_asked(session, voice):
        voices.pause(session, voice, why, minutes=PAUSE_MINUTES)


def forget_lost_claims(session: Session) -> int:
    """Put requests whose worker stopped renewing its lease back to waiting; return how many.

    So also those whose lease ends later than any does: the database's clock was ahead when it was written.
    """
    away = select(Batch.id).where(Batch.lease == ReplyRequest.lease, Batch.ended_at.is_(None))
    too_late = and_(ReplyRequest.leased_until > database_time() + 2 * LEASE_SECONDS, ~away.exists())
    lost = session.execute(
        update(ReplyRequest)
        .where(
            ReplyRequest.state == RequestState.ASKING.value,
            or_(ReplyRequest.leased_until < database_time(), too_late),
        )
        .values(state=RequestState.WAITING.value, lease=None, leased_until=None, changed_at=now())
        .returning(ReplyRequest.comment_id)
        .execution_options(synchronize_session=False)
    )
    return len(lost.all())


def forget_lost_waits(session: Session) -> int:
    """Let requests be asked now that wait for longer than any does; return how many.

    The database's clock was ahead when they were put off. Only a budget puts off for longer than an hour, and until the
    next day or month. A pause that ends by itself is no longer than it may be either.
    """
    at = budgets.clock(session)
    longest = at.timestamp() + 2 * 60 * PAUSE_MINUTES
    session.execute(
        update(Voice)
        .where(Voice.paused_until > longest)
        .values(paused_until=at.timestamp())
        .execution_options(synchronize_session=False)
    )
    lost = session.execute(
        update(ReplyRequest)
        .where(
            ReplyRequest.state == RequestState.WAITING.value,
            ReplyRequest.not_before > at.timestamp() + LONGEST_WAIT,
            ReplyRequest.not_before.not_in(budgets.midnights(at)),
        )
        .values(not_before=None)
        .returning(ReplyRequest.comment_id)
        .execution_options(synchronize_session=False)
    )
    return len(lost.all())


def essays_waiting(session: Session, *, voice_id: int | None = None) -> list[int]:
    """Return the ids of essays, of one voice or all, under which a request may be asked now.

    The one asked longest ago comes first, so that they take turns.
    """
    last = select(func.max(Generation.started_at)).where(Generation.essay_id == ReplyRequest.essay_id).scalar_subquery()
    waiting = select(ReplyRequest.essay_id).where(
        ReplyRequest.state == RequestState.WAITING.value, _is_due(), _may_be_asked()
    )
    if voice_id is not None:
        waiting = waiting.where(ReplyRequest.essay_id.in_(_essays_of(voice_id)))
    return list(
        session.scalars(
            waiting.group_by(ReplyRequest.essay_id).order_by(nulls_first(last.asc()), ReplyRequest.essay_id)
        )
    )


def waits_under(session: Session, essay_id: int) -> bool:
    """Whether a request waits under an essay that may be asked now."""
    waiting = select(ReplyRequest.comment_id).where(
        ReplyRequest.essay_id == essay_id,
        ReplyRequest.state == RequestState.WAITING.value,
        _is_due(),
        _may_be_asked(),
    )
    return session.scalar(waiting.limit(1)) is not None


def _may_be_asked() -> Any:
    """Whether the voice of a request's essay is not paused, or its pause has run out."""
    awake = or_(Voice.paused_at.is_(None), Voice.paused_until <= database_time())
    return ReplyRequest.essay_id.in_(select(Essay.id).join(Voice, Voice.id == Essay.voice_id).where(awake))


def _at_most(session: Session, essay: Essay, voice: Voice) -> int:
    """Return how many requests a sitting under *essay* claims."""
    if voice.paused_at is not None:
        return 1  # After a pause that ran out, one request probes whether the trouble is over.
    others = select(ReplyRequest.comment_id).where(
        ReplyRequest.essay_id.in_(_essays_of(voice.id)),
        ReplyRequest.essay_id != essay.id,
        ReplyRequest.state == RequestState.WAITING.value,
        _is_due(),
    )
    if voice.answering == Answering.CHOSEN.value:
        return A_PAGE
    return IN_TURN if session.scalar(others.limit(1)) is not None else AT_ONCE


def _essays_of(voice_id: int) -> Select[int]:
    return select(Essay.id).where(Essay.voice_id == voice_id)


def _claim(session: Session, essay_id: int, lease: str, at_most: int) -> list[int]:
    waiting = (
        select(ReplyRequest.comment_id)
        .where(ReplyRequest.essay_id == essay_id, ReplyRequest.state == RequestState.WAITING.value, _is_due())
        .order_by(ReplyRequest.comment_id)
        .limit(at_most)
        .with_for_update(skip_locked=True)
    )
    taken = session.execute(
        update(ReplyRequest)
        .where(ReplyRequest.comment_id.in_(waiting), ReplyRequest.state == RequestState.WAITING.value)
        .values(
            state=RequestState.ASKING.value,
            lease=lease,
            leased_until=database_time() + LEASE_SECONDS,
            changed_at=now(),
        )
        .returning(ReplyRequest.comment_id)
        .execution_options(synchronize_session=False)
    )
    return sorted(taken.scalars())


def _put_off_and_soon_due(session: Session, essay_id: int) -> list[int]:
    """Return the comments under an essay that were put off and are asked while the cache keeps what is written now."""
    waiting = select(ReplyRequest.comment_id).where(
        ReplyRequest.essay_id == essay_id,
        ReplyRequest.state == RequestState.WAITING.value,
        ReplyRequest.not_before <= database_time() + CACHE_SECONDS,
    )
    return list(session.scalars(waiting))


def _cached(session: Session, essay_id: int, voice: Voice, told: Told) -> Cached | None:
    """Return what the last call under an essay shared, if the cache has it by what that call used; not for too long.

    *told* is what is posted by now; what came since is left out, or the beginning would be another.
    """
    at = budgets.clock(session)
    since = at - timedelta(seconds=CACHE_SECONDS)
    if voice.ways_changed_at is not None:
        since = max(since, voice.ways_changed_at)
    calls = select(Generation.prefix_id).where(Generation.essay_id == essay_id, Generation.batch_id.is_(None))
    last = session.scalar(
        calls.where(
            Generation.started_at >= since,
            Generation.model_asked == voice.model,
            Generation.prompt_version == prompt.VERSION,
            or_(Generation.cache_read_tokens > 0, Generation.cache_write_tokens > 0),
        )
        .order_by(Generation.started_at.desc(), Generation.id.desc())
        .limit(1)
    )
    before = calls.where(Generation.prefix_id == last, Generation.started_at < at - timedelta(seconds=SAME_FOR))
    if last is None or session.scalar(before.limit(1)) is not None:
        return None
    shared = json.loads(zlib.decompress(session.get_one(Prefix, last).recipe))
    had = set(prompt.references(prompt.whole({"content": []}, shared)))
    thread = [
        replace(each, reply=each.reply if each.reply is not None and each.reply.id in had else None)
        for each in told.thread
        if had.intersection(each.submissions)
    ]
    essays = [each for each in told.earlier_essays if each.id in had]
    return Cached(replace(told, earlier_essays=essays, thread=thread), shared)


def _claimed(session: Session, essay: Essay, taken: Sequence[int]) -> list[Claimed]:
    found = session.execute(
        select(Comment, ReplyRequest)
        .join(ReplyRequest, ReplyRequest.comment_id == Comment.id)
        .where(Comment.id.in_(taken))
        .order_by(Comment.id)
    ).all()
    asked = memory.asked(session, essay, [comment for comment, _ in found])
    unended = _unended(session, taken)
    claimed = []
    for comment, request in found:
        if unended.get(comment.id, 0) >= DIED_AT_MOST:
            why = f"{DIED_AT_MOST} calls for this letter never came to an end."
            _settle(session, request, RequestState.FAILED, why)
            continue
        if comment.id not in asked:
            # Taken back between its approval and now, with the request still open: nothing to answer.
            no_longer_wanted(session, comment.id)
            continue
        claimed.append(
            Claimed(
                comment.id,
                request.attempts,
                asked[comment.id],
                chosen=request.chosen_at is not None,
                put_off=request.not_before is not None,
            )
        )
    return claimed


def _unended(session: Session, comment_ids: Sequence[int]) -> dict[int, int]:
    """Return how many live calls for each of these comments never ended: their worker died, or could not record it."""
    rows = session.execute(
        select(Generation.comment_id, func.count())
        .where(Generation.comment_id.in_(comment_ids), Generation.ended_at.is_(None), Generation.batch_id.is_(None))
        .group_by(Generation.comment_id)
    )
    return {comment_id: number for comment_id, number in rows}  # noqa: C416  (dict() finds no types.)


def _kept_once(session: Session, shared: dict[str, Any]) -> int:
    """Return the id of the record of what a request shares with others, which is made where there is none."""
    recipe = json.dumps(shared, sort_keys=True).encode()
    digest = hashlib.sha256(recipe).hexdigest()
    known = session.scalar(select(Prefix.id).where(Prefix.digest == digest))
    if known is not None:
        return known
    made = Prefix(digest=digest, recipe=zlib.compress(recipe), created_at=now())
    try:
        with session.begin_nested():
            session.add(made)
    except IntegrityError:  # Another worker kept it meanwhile.
        return session.scalars(select(Prefix.id).where(Prefix.digest == digest)).one()
    return made.id


def is_posted(session: Session, submission_ids: Iterable[int]) -> bool:
    """Whether all of *submission_ids* are released at this moment. In one statement, which reads no words."""
    ids, posted = set(submission_ids), released_ids().subquery()
    return session.scalar(select(func.count()).select_from(posted).where(posted.c.submission_id.in_(ids))) == len(ids)


def still_claimed(session: Session, sitting: Holder, claimed: Held) -> ReplyRequest | None:
    """Return a request, which nobody changes before this transaction ends; None if it is no longer claimed so."""
    request = session.get(ReplyRequest, claimed.comment_id, with_for_update=True, populate_existing=True)
    ours = request is not None and request.state == RequestState.ASKING and request.lease == sitting.lease
    return request if ours else None


def _held(session: Session, generation_id: int) -> Generation:
    """Return the record of a call, which nobody erases before this transaction ends; erased, its request is empty."""
    return session.get_one(Generation, generation_id, with_for_update=True, populate_existing=True)


def completed(session: Session, generation_id: int, answer: Answer, seconds: float | None) -> Generation:
    """Complete the record of a call with the answer it brought, after so many *seconds*."""
    generation = _held(session, generation_id)
    generation.model_answered = answer.model[:120]
    generation.rehearsed = answer.rehearsed
    generation.outcome = answer.outcome.value
    generation.ended_at = now()
    generation.seconds = seconds
    if generation.request:
        generation.response = zlib.compress(json.dumps(answer.message).encode())
        generation.error = answer.why
        generation.note = answer.note
        generation.request_id = answer.request_id
        generation.message_id = answer.message_id
    if answer.usage is not None:
        used = answer.usage
        generation.input_tokens = used.fresh
        generation.cache_read_tokens = used.cache_read
        generation.cache_write_tokens = used.cache_written
        generation.cache_write_hour_tokens = used.cache_written_for_an_hour
        generation.output_tokens = used.output
        # By the price that it was begun with, whatever the voice costs by now.
        price = prices.recorded(generation.price)
        cost = price.cost(used, batched=generation.batch_id is not None) if price is not None else None
        generation.cost = min(cost, 2**31 - 1) if cost is not None else None  # The column's most.
    session.flush()
    return generation


def _submit(
    session: Session, request: ReplyRequest, voice: Voice, generation: Generation, answer: Answer
) -> RequestState:
    comment = session.get_one(Comment, request.comment_id)
    try:
        body = words.model_words(answer.text or "")
        submission_id = intake.submit(
            session,
            Kind.REPLY,
            author=voice.name + REHEARSAL_MARK if answer.rehearsed else voice.name,
            body=body,
            in_answer_to=SubmissionId(comment.submission_id),
            essay=submission_of(session.get_one(Essay, request.essay_id)),
            voice=voice.id,
        )
    except words.ModelWordsUnreadable:
        return _settle(session, request, RequestState.FAILED, "The answer was unreadable.")
    except NothingToAnswer:
        return _settle(session, request, RequestState.WITHDRAWN, "The comment is no longer posted.")
    # One reply for each comment, by its unique key: a second one fails here and rolls its submission back.
    reply = Reply(
        public_id=secrets.token_hex(16),
        comment_id=comment.id,
        submission_id=submission_id,
        generation_id=generation.id,
        created_at=budgets.clock(session),  # It counts against a day and a month, which all workers share.
    )
    session.add(reply)
    session.flush()
    signals.look_at_reply(session, reply)
    if _was_shown_what_is_gone(session, generation):
        rereading.ask_again(session, submission_id)
    return _settle(session, request, RequestState.ANSWERED, None)


def forget_what_is_gone(session: Session, generation: Generation, trouble: Trouble) -> None:
    """Take the API's own words out of a trouble if something that its call was sent was erased meanwhile."""
    if generation.request and _was_shown_what_is_gone(session, generation):
        trouble.forget_words()


def _was_shown_what_is_gone(session: Session, generation: Generation) -> bool:
    """Whether something that a call was sent was erased while it was made: `erasure` did not find its reply yet."""
    _, newest = gate.erasures(session)
    # Days earlier, for the clock of whoever erased may be wrong by one; the long way round is only slower.
    if newest is None or newest < generation.started_at - timedelta(days=2):
        return False
    shown = references(session, generation)
    return any(each.erased_at is not None for each in standing(session, shown).values())


def recipe(session: Session, generation: Generation) -> dict[str, Any] | None:
    """Return the recipe of the whole request of a call; None if it was erased."""
    if not generation.request:
        return None
    shared = session.get(Prefix, generation.prefix_id) if generation.prefix_id is not None else None
    return prompt.whole(
        json.loads(zlib.decompress(generation.request)),
        json.loads(zlib.decompress(shared.recipe)) if shared is not None else None,
    )


def references(session: Session, generation: Generation) -> set[int]:
    """Return the submissions that a call was sent."""
    sent = recipe(session, generation)
    return set(prompt.references(sent)) if sent is not None else set()


_TOLD = {RequestState.DECLINED, RequestState.WITHHELD, RequestState.NOT_CHOSEN}
"""The outcomes that every reader is told of, under the letter."""


def _settle(
    session: Session, request: ReplyRequest, state: RequestState, why: str | None, *, tell: Site | None = None
) -> RequestState:
    request.state = state.value
    request.why = why
    request.lease = None
    request.leased_until = None
    request.changed_at = now()
    if state in _TOLD:
        outdated.mark_letters(session, request.comment_id)
        if tell is not None:
            notices.unanswered(session, tell, request)
    return state


def _is_due() -> Any:
    return or_(ReplyRequest.not_before.is_(None), ReplyRequest.not_before <= database_time())
