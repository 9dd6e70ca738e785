"""Appeals: the author of a rejected comment asks once for another moderator.

The same words come to the gate again, as a submission of their own that names the rejected one; the decision that
stands is never changed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, aliased

from moderation import gate, ledger
from moderation.base import now
from moderation.errors import (
    AppealedBefore,
    CannotAppeal,
    NoSuchSubmission,
    NotRejected,
    ReasonTooLong,
    ReasonTooShort,
    TakenBackBefore,
    TooLateToAppeal,
)
from moderation.records import AppealRow, Decision, ReasonRow, Submission, Withdrawal
from moderation.types import Appealed, Digest, Kind, ModeratorId, Rejected, SubmissionId, Tray, Verdict

WITHIN = timedelta(days=20)
"""How long after the rejection its author may appeal."""
LENGTH = 2000
"""The most characters of what they say for it."""


def appeal(
    session: Session,
    rejected: int,
    *,
    words: str,
    essay: SubmissionId | None,
    voice: int | None = None,
) -> SubmissionId:
    """Put the words of a rejected comment before another moderator, with what their author says; return the new id.

    Raises `NoSuchSubmission`, `CannotAppeal`, `ReasonTooShort` or `ReasonTooLong` for *words*, or `NothingToAnswer` if
    what the comment answers is public no more.
    """
    ledger.take_head(session)  # Two appeals at once, or an appeal and a taking back, wait for each other.
    submission = session.get(Submission, rejected)
    if submission is None:
        raise NoSuchSubmission(rejected)
    why_not = _why_not(session, submission)
    if why_not is not None:
        raise why_not
    if not words.strip():
        raise ReasonTooShort(1)
    if len(words) > LENGTH:
        raise ReasonTooLong(LENGTH)
    assert submission.author is not None
    assert submission.body is not None
    answered = session.scalar(select(Submission.id).where(Submission.digest == submission.in_answer_to))
    again = gate.place(
        session,
        Kind.COMMENT,
        author=submission.author,
        body=submission.body,
        in_answer_to=SubmissionId(answered) if answered is not None else None,
        essay=essay,
        tray=Tray.MAIN,
        supersedes=SubmissionId(rejected),
        voice=voice,
    )
    session.add(AppealRow(submission_id=again, words=words, appealed_at=now()))
    session.flush()
    return again


def may_appeal(session: Session, submission_id: int) -> bool:
    """Whether the author of a submission may appeal against its rejection now."""
    submission = session.get(Submission, submission_id)
    return submission is not None and _why_not(session, submission) is None


def final_ids(before: datetime) -> Select[int]:
    """Return a query for the ids of rejected comments against which nobody can appeal any more, for use in another.

    Only those that were rejected earlier than *before*, and not taken back. An appeal that waits is a submission of its
    own, and has no rejection yet.
    """
    taken_back = select(Withdrawal.submission_id).where(Withdrawal.submission_id == Decision.submission_id)
    again = aliased(Submission)
    appealed = select(again.id).where(again.supersedes == Decision.submission_id)
    return (
        select(Decision.submission_id)
        .join(Submission, Submission.id == Decision.submission_id)
        .where(
            Submission.kind == Kind.COMMENT.value,
            Decision.verdict == Verdict.REJECT.value,
            Decision.decided_at < min(before, now() - WITHIN),
            ~taken_back.exists(),
            ~appealed.exists(),
        )
    )


def rejected(session: Session, submission_id: int) -> Rejected | None:
    """Return the words of a rejected comment, for their own author; None for any other submission, and once erased."""
    submission = session.get(Submission, submission_id)
    decision = session.get(Decision, submission_id)
    if submission is None or decision is None or decision.verdict != Verdict.REJECT:
        return None
    if submission.kind != Kind.COMMENT or submission.author is None or submission.body is None:
        return None
    return Rejected(
        id=SubmissionId(submission.id),
        kind=Kind.COMMENT,
        author=submission.author,
        body=submission.body,
        digest=Digest(submission.digest),
        submitted_at=submission.submitted_at,
    )


def made(session: Session, submission_id: int) -> Appealed | None:
    """Return what a submission appeals against, if it is an appeal, whatever became of it."""
    row = session.get(AppealRow, submission_id)
    if row is None:
        return None
    decision = session.get_one(Decision, session.get_one(Submission, submission_id).supersedes)
    told = session.scalar(select(ReasonRow.told).where(ReasonRow.digest == decision.reason_digest))
    return Appealed(
        rejected=SubmissionId(decision.submission_id),
        rejected_by=ModeratorId(decision.moderator_id),
        rejected_at=decision.decided_at,
        code=decision.reason_code or "",
        told=told,
        words=row.words,
        appealed_at=row.appealed_at,
    )


def _why_not(session: Session, submission: Submission) -> CannotAppeal | None:
    submission_id = SubmissionId(submission.id)
    if session.get(AppealRow, submission.id) is not None:
        return AppealedBefore(submission_id)
    decision = session.get(Decision, submission.id)
    if submission.kind != Kind.COMMENT or decision is None or decision.verdict != Verdict.REJECT:
        return NotRejected(submission_id)
    if session.get(Withdrawal, submission.id) is not None:
        return TakenBackBefore(submission_id)
    once = session.scalar(select(Submission.id).where(Submission.supersedes == submission.id))
    if once is not None:
        return AppealedBefore(submission_id)
    if decision.decided_at + WITHIN <= now():
        return TooLateToAppeal(submission_id, days=WITHIN.days)
    return None
