"""The way out. Publication is a query over decisions; there is no other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from moderation.errors import NotWhatWasReviewed
from moderation.records import Decision, Erasure, ReasonRow, Submission, Waiting, Withdrawal
from moderation.types import Digest, Kind, ModeratorId, Released, Standing, State, SubmissionId, Verdict

_AT_ONCE = 500  # Well under the bound parameters that either database takes in one statement.


def released(session: Session, submission_ids: Iterable[int]) -> dict[int, Released]:
    """Return the approved among *submission_ids*, keyed by id; pending, rejected and withdrawn ids are absent.

    Raises `NotWhatWasReviewed` if stored words no longer match the digest that was approved.
    """
    found: dict[int, Released] = {}
    for some in _some_at_a_time(submission_ids):
        rows = session.execute(
            select(Submission, Decision)
            .join(Decision, Decision.submission_id == Submission.id)
            .outerjoin(Withdrawal, Withdrawal.submission_id == Submission.id)
            .where(
                Submission.id.in_(some),
                Decision.verdict == Verdict.APPROVE.value,
                Withdrawal.submission_id.is_(None),
            )
        )
        for submission, decision in rows:
            found[submission.id] = _checked(submission, decision)
    return found


def approved_ids() -> Select[int]:
    """Return a query for the ids of all submissions that were ever approved, withdrawn ones too, for use in another."""
    return select(Decision.submission_id).where(Decision.verdict == Verdict.APPROVE.value)


def released_ids() -> Select[int]:
    """Return a query for the ids of all submissions that are released now, for counting them."""
    taken_back = select(Withdrawal.submission_id).where(Withdrawal.submission_id == Decision.submission_id)
    return approved_ids().where(~taken_back.exists())


def released_at() -> Select[int, datetime]:
    """Return a query for the ids of all submissions that are released now, each with when it was approved."""
    taken_back = select(Withdrawal.submission_id).where(Withdrawal.submission_id == Decision.submission_id)
    return select(Decision.submission_id, Decision.decided_at).where(
        Decision.verdict == Verdict.APPROVE.value, ~taken_back.exists()
    )


def standing(session: Session, submission_ids: Iterable[int]) -> dict[int, Standing]:
    """Return how each of *submission_ids* stands, keyed by id and without its words; unknown ids are absent."""
    found: dict[int, Standing] = {}
    for some in _some_at_a_time(submission_ids):
        rows = session.execute(
            select(Submission, Decision, Withdrawal, Waiting, ReasonRow.told, Erasure.erased_at)
            .outerjoin(Decision, Decision.submission_id == Submission.id)
            .outerjoin(Withdrawal, Withdrawal.submission_id == Submission.id)
            .outerjoin(Waiting, Waiting.submission_id == Submission.id)
            .outerjoin(ReasonRow, ReasonRow.digest == Decision.reason_digest)
            .outerjoin(Erasure, Erasure.submission_id == Submission.id)
            .where(Submission.id.in_(some))
        )
        for submission, decision, withdrawal, waiting, told, erased_at in rows:
            found[submission.id] = Standing(
                id=SubmissionId(submission.id),
                kind=Kind(submission.kind),
                digest=Digest(submission.digest),
                state=_state(decision, withdrawal, waiting),
                submitted_at=submission.submitted_at,
                decided_at=decision.decided_at if decision else None,
                reason_code=decision.reason_code if decision else None,
                told=told,
                withdrawn_at=withdrawal.withdrawn_at if withdrawal else None,
                was_released=decision is not None and decision.verdict == Verdict.APPROVE,
                decided_by=ModeratorId(decision.moderator_id) if decision else None,
                erased_at=erased_at,
                withdrawn_by=withdrawal.taken_back_by if withdrawal else None,
                withdrawal_code=withdrawal.reason_code if withdrawal else None,
            )
    return found


def _checked(submission: Submission, decision: Decision) -> Released:
    if submission.nonce is None or submission.author is None or submission.body is None:
        raise NotWhatWasReviewed(submission.id)
    if not submission.recomputed() == submission.digest == decision.digest_seen:
        raise NotWhatWasReviewed(submission.id)
    return Released(
        id=SubmissionId(submission.id),
        kind=Kind(submission.kind),
        nonce=submission.nonce,
        author=submission.author,
        body=submission.body,
        digest=Digest(submission.digest),
        in_answer_to=Digest(submission.in_answer_to) if submission.in_answer_to else None,
        submitted_at=submission.submitted_at,
        approved_at=decision.decided_at,
        approved_by=ModeratorId(decision.moderator_id),
    )


def _state(decision: Decision | None, withdrawal: Withdrawal | None, waiting: Waiting | None) -> State:
    if withdrawal is not None:
        return State.WITHDRAWN
    if decision is not None:
        return State.APPROVED if decision.verdict == Verdict.APPROVE else State.REJECTED
    return State.PENDING if waiting is not None else State.SUPERSEDED


def _some_at_a_time(submission_ids: Iterable[int]) -> Iterator[list[int]]:
    ids = sorted(set(submission_ids))
    for start in range(0, len(ids), _AT_ONCE):
        yield ids[start : start + _AT_ONCE]
