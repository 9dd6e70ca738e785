"""What happens to the need for a reply: requested, claimed by a sitting, answered or not, given back.

Every step is one short transaction of its caller's; no call to the model is made here. A claim is a lease on the
database's own clock: a worker that dies stops renewing it, and the sweep gives its requests to another.
"""

from __future__ import annotations

import json
import secrets
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from bridge import budgets, intake, prompt, signals, thread, voices, words
from bridge.db import database_time
from bridge.essays import submission_of
from bridge.keys import Keys
from bridge.model import Answer, ModelBusy, Origin, Outcome, RequestRefused, Trouble, VoiceBlocked
from bridge.prompt import Prompt
from bridge.records import Comment, Essay, Generation, Reply, ReplyRequest, RequestState, Voice
from bridge.voices import REHEARSAL_MARK
from moderation import rereading
from moderation.base import now
from moderation.errors import NothingToAnswer
from moderation.release import released, standing
from moderation.types import Kind, Released, SubmissionId

LEASE_SECONDS = 30
"""How long a claim lasts unless its sitting renews it."""
AT_ONCE = 100
"""The most requests that one sitting claims; the next sitting takes the rest."""
PROMPT_CHARACTERS = 400_000
"""The most characters of thread in a prompt: about 100,000 tokens, half of the smallest context we ask."""
PAUSE_AFTER = 5
PAUSE_MINUTES = 15


UNBILLED = (ModelBusy, RequestRefused, VoiceBlocked)
"""Refusals of the API: it did nothing, so it charges nothing. What broke off on the way may have been billed."""


class VoicePaused(Exception):
    """Raised when the voice was paused after its sitting began."""


class NotToBeAskedAgain(Exception):
    """Raised when a request is not one that failed, or its comment is no longer posted, or is answered."""

    def __init__(self) -> None:
        super().__init__(
            "Only a request that failed is asked again, for a letter that is posted and unanswered, and this is not "
            "one, or no longer. Nothing was changed."
        )


@dataclass(frozen=True, slots=True)
class Claimed:
    """A request that this sitting may ask for."""

    comment_id: int
    attempt: int
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class Sitting:
    """What one sitting took on: the claimed requests of one essay and how its voice is asked."""

    lease: str
    essay_id: int
    voice_id: int
    model: str
    api_version: str | None
    extra_body: dict[str, Any] | None
    claimed: Sequence[Claimed]


def request_if_comment(session: Session, submission_id: int) -> int | None:
    """Note the need for a reply if *submission_id* is a comment that wants one; return its essay's id, else None."""
    comment = session.scalar(select(Comment).where(Comment.submission_id == submission_id))
    if comment is None or not comment.wants_reply or session.get(ReplyRequest, comment.id) is not None:
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


def no_longer_wanted(session: Session, comment_id: int) -> None:
    """End the request for a comment that was taken back; an answer that is still on its way will not be submitted."""
    request = session.get(ReplyRequest, comment_id, with_for_update=True)
    if request is not None:
        _settle(request, RequestState.WITHDRAWN, "Its author took the comment back.")


def no_longer_asked(session: Session, comment_id: int) -> None:
    """End the request for a comment that was taken down, unless it has its outcome: an answer that came may stay."""
    request = session.get(ReplyRequest, comment_id, with_for_update=True)
    if request is not None and request.state in {RequestState.WAITING, RequestState.ASKING, RequestState.FAILED}:
        _settle(request, RequestState.WITHDRAWN, "The comment was taken down.")


def empty_records(session: Session, comment_id: int) -> None:
    """Take out of the records of all calls for a comment what was said in them; what they cost stays.

    An answer that comes later is recorded without its words (`record_answer`).
    """
    session.execute(
        update(Generation)
        .where(Generation.comment_id == comment_id)
        .values(request=b"", request_digest="", response=None, error=None, note=None, request_id=None, message_id=None)
    )


def begin_sitting(session: Session, essay_id: int, keys: Keys) -> Sitting | None:
    """Claim what waits under an essay and build what its voice is sent; None if nothing waits or it is paused.

    Run twice, the second finds nothing waiting. A claim whose worker dies falls back to waiting with its lease.
    """
    essay = session.get(Essay, essay_id)
    if essay is None:
        return None
    voice = session.get_one(Voice, essay.voice_id)
    if not voices.may_be_asked(session, voice):
        return None
    # After a pause that ran out, one request probes whether the trouble is over.
    at_most = 1 if voice.paused_at is not None else AT_ONCE
    lease = secrets.token_hex(16)
    taken = _claim(session, essay_id, lease, at_most)
    out = released(session, [essay.submission_id])
    if essay.submission_id not in out:
        for request in session.scalars(select(ReplyRequest).where(ReplyRequest.lease == lease)):
            _settle(request, RequestState.WITHDRAWN, "The essay is no longer posted.")
        return None
    if not taken:
        return None
    claimed = _prompts(session, essay, voice, out[essay.submission_id], taken, keys)
    return Sitting(lease, essay.id, voice.id, voice.model, voice.anthropic_version, voice.extra_body, claimed)


def renew(session: Session, lease: str) -> None:
    """Prolong a sitting's claims."""
    session.execute(
        update(ReplyRequest)
        .where(ReplyRequest.lease == lease, ReplyRequest.state == RequestState.ASKING.value)
        .values(leased_until=database_time() + LEASE_SECONDS)
    )


def begin_generation(
    session: Session, sitting: Sitting, claimed: Claimed, sent: Prompt, origin: Origin, keys: Keys
) -> int | None:
    """Record that a call is about to be made, and return its id.

    None if it must not be made any more: the claim was lost or the comment taken back. Raises `VoicePaused`, and
    `budgets.BudgetSpent` if what the call could cost is more than a budget has left.
    """
    voice = voices.held(session, sitting.voice_id)
    request = _still_claimed(session, sitting, claimed)
    if request is None:
        return None
    if not voices.may_be_asked(session, voice):
        raise VoicePaused
    started_at = budgets.clock(session)
    whole = {**sent.request, **(sitting.extra_body or {})}
    reserved = budgets.reserve(session, voice, whole, comment_id=claimed.comment_id, at=started_at)
    request.attempts += 1
    generation = Generation(
        comment_id=claimed.comment_id,
        voice_id=sitting.voice_id,
        attempt=request.attempts,
        model_asked=sitting.model,
        rehearsed=origin.rehearsed,
        host=origin.host,
        sdk_version=origin.sdk_version,
        api_version=origin.api_version,
        prompt_version=prompt.VERSION,
        request=zlib.compress(json.dumps(sent.recipe).encode()),
        request_digest=keys.keyed_digest("request", json.dumps(sent.request, sort_keys=True)),
        reserved=reserved,
        started_at=started_at,
    )
    session.add(generation)
    session.flush()
    return generation.id


def record_trouble(session: Session, generation_id: int, trouble: Trouble) -> None:
    """Complete the record of a call that brought no answer; one that the API refused cost nothing."""
    generation = _held(session, generation_id)
    if isinstance(trouble, UNBILLED) and generation.reserved is not None:
        generation.cost = 0
    generation.outcome = type(trouble).__name__
    if generation.request:
        generation.error = f"{trouble.why} {trouble.error}".strip()[:4000]
    generation.ended_at = now()


def record_answer(
    session: Session, sitting: Sitting, claimed: Claimed, generation_id: int, answer: Answer, *, final: bool
) -> RequestState | None:
    """Complete the record of a call and, if the request is still ours, do what the answer says.

    A reply is submitted to the gate; silence, a decline and the API's filter end the request; an answer that was cut,
    or a note alone, leaves it asking unless *final*. Returns the state the request reached, or None if it was no
    longer ours: then the answer is on record only.
    """
    voice = voices.held(session, sitting.voice_id)
    # Before the call's record is touched: an erasure takes the two in this order.
    request = _still_claimed(session, sitting, claimed)
    generation = _completed(session, generation_id, answer)
    voice.failures_in_a_row = 0
    if voice.paused_at is not None and voices.may_be_asked(session, voice):
        voices.resume(session, voice)
    if request is None:
        return None
    match answer.outcome:
        case Outcome.REPLIED:
            return _submit(session, request, voice, generation, answer)
        case Outcome.DECLINED:
            return _settle(request, RequestState.DECLINED, answer.why)
        case Outcome.WITHHELD:
            return _settle(request, RequestState.WITHHELD, answer.why)
        case Outcome.NOTE_ONLY if final:
            return _settle(request, RequestState.DECLINED, "The voice left a note for moderators and said nothing.")
        case Outcome.CUT if final:
            return _settle(request, RequestState.FAILED, answer.why)
        case Outcome.UNEXPECTED:
            if answer.model != sitting.model:
                voices.pause(session, voice, answer.why or "Another model answered.")
            return _settle(request, RequestState.FAILED, answer.why)
    return RequestState.ASKING


def give_up(session: Session, sitting: Sitting, claimed: Claimed, why: str) -> None:
    """End a request that the API will not answer. It stays failed until a moderator asks again."""
    request = _still_claimed(session, sitting, claimed)
    if request is not None:
        _settle(request, RequestState.FAILED, why)


def wait_again(
    session: Session,
    sitting: Sitting,
    claimed: Claimed,
    why: str | None,
    *,
    seconds: float = 0,
    until: float | None = None,
) -> None:
    """Put a request back to waiting, not to be asked before *seconds* from now, or before *until*."""
    request = _still_claimed(session, sitting, claimed)
    if request is None:
        return
    if seconds:
        until = (session.scalar(select(database_time())) or 0) + seconds
    request.not_before = until
    _settle(request, RequestState.WAITING, why)


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
    _settle(request, RequestState.WAITING, None)
    session.flush()
    return request.essay_id


def pause_voice(session: Session, voice_id: int, why: str) -> None:
    """Ask this voice nothing more until a person acts."""
    voices.pause(session, voices.held(session, voice_id), why)


def count_failure(session: Session, voice_id: int, why: str) -> None:
    """Count a request that the API failed; five in a row pause the voice for a quarter of an hour."""
    voice = voices.held(session, voice_id)
    voice.failures_in_a_row += 1
    if voice.failures_in_a_row >= PAUSE_AFTER:
        voices.pause(session, voice, why, minutes=PAUSE_MINUTES)
        voice.failures_in_a_row = 0


def forget_lost_claims(session: Session) -> int:
    """Put requests whose worker stopped renewing its lease back to waiting; return how many."""
    lost = session.execute(
        update(ReplyRequest)
        .where(ReplyRequest.state == RequestState.ASKING.value, ReplyRequest.leased_until < database_time())
        .values(state=RequestState.WAITING.value, lease=None, leased_until=None, changed_at=now())
        .returning(ReplyRequest.comment_id)
    )
    return len(lost.all())


def essays_waiting(session: Session, *, voice_id: int | None = None) -> list[int]:
    """Return the ids of essays, of one voice or all, under which a request may be asked now."""
    waiting = select(ReplyRequest.essay_id).where(ReplyRequest.state == RequestState.WAITING.value, _is_due())
    if voice_id is not None:
        waiting = waiting.where(ReplyRequest.essay_id.in_(select(Essay.id).where(Essay.voice_id == voice_id)))
    return list(session.scalars(waiting.group_by(ReplyRequest.essay_id).order_by(ReplyRequest.essay_id)))


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


def _prompts(
    session: Session, essay: Essay, voice: Voice, essay_out: Released, taken: Sequence[int], keys: Keys
) -> list[Claimed]:
    so_far = prompt.newest(thread.exchanges(session, essay.id, without=taken), PROMPT_CHARACTERS)
    found = session.execute(
        select(Comment, Reply.submission_id, ReplyRequest.attempts)
        .join(ReplyRequest, ReplyRequest.comment_id == Comment.id)
        .outerjoin(Reply, Reply.id == Comment.parent_id)
        .where(Comment.id.in_(taken))
        .order_by(Comment.id)
    ).all()
    out = released(session, [comment.submission_id for comment, _, _ in found])
    claimed = []
    for comment, answers, attempts in found:
        if comment.submission_id not in out:
            # Taken back between its approval and now, with the request still open: nothing to answer.
            no_longer_wanted(session, comment.id)
            continue
        built = prompt.build(
            model=voice.model,
            max_tokens=voice.max_tokens,
            charter=voice.charter,
            essay=essay_out,
            thread=so_far,
            comment=out[comment.submission_id],
            in_answer_to=answers,
            shared=len(taken) > 1,
            keys=keys,
        )
        claimed.append(Claimed(comment.id, attempts, built))
    return claimed


def _still_claimed(session: Session, sitting: Sitting, claimed: Claimed) -> ReplyRequest | None:
    request = session.get(ReplyRequest, claimed.comment_id, with_for_update=True, populate_existing=True)
    ours = request is not None and request.state == RequestState.ASKING and request.lease == sitting.lease
    return request if ours else None


def _held(session: Session, generation_id: int) -> Generation:
    """Return the record of a call, which nobody erases before this transaction ends; erased, its request is empty."""
    return session.get_one(Generation, generation_id, with_for_update=True, populate_existing=True)


def _completed(session: Session, generation_id: int, answer: Answer) -> Generation:
    generation = _held(session, generation_id)
    generation.model_answered = answer.model[:120]
    generation.rehearsed = answer.rehearsed
    generation.outcome = answer.outcome.value
    generation.ended_at = now()
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
        generation.output_tokens = used.output
        generation.cost = voices.cost(session.get_one(Voice, generation.voice_id), used)
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
        return _settle(request, RequestState.FAILED, "The answer was unreadable.")
    except NothingToAnswer:
        return _settle(request, RequestState.WITHDRAWN, "The comment is no longer posted.")
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
    return _settle(request, RequestState.ANSWERED, None)


def _was_shown_what_is_gone(session: Session, generation: Generation) -> bool:
    """Whether something that a call was sent was erased while it was made: `erasure` did not find its reply yet."""
    shown = prompt.references(json.loads(zlib.decompress(generation.request))) if generation.request else []
    return any(each.erased_at is not None for each in standing(session, shown).values())


def _settle(request: ReplyRequest, state: RequestState, why: str | None) -> RequestState:
    request.state = state.value
    request.why = why
    request.lease = None
    request.leased_until = None
    request.changed_at = now()
    return state


def _is_due() -> Any:
    return or_(ReplyRequest.not_before.is_(None), ReplyRequest.not_before <= database_time())
