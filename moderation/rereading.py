"""Second readings: some approvals are shown, blind, to another moderator. How often they agree is public.

A second reading changes nothing: who would have rejected may propose to take the words down.
"""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from moderation import gate, reasons
from moderation.base import now
from moderation.errors import AnotherModeratorNeeded, NothingToReread, NotTheWordsStored, Refused
from moderation.records import Decision, SecondReading, Submission, Withdrawal
from moderation.release import released
from moderation.types import Digest, Kind, ModeratorId, Released, SubmissionId, Verdict

SHARE = 0.05
"""The share of approvals that are read again (FEATURES, section 2)."""


def ask(session: Session, submission_id: int) -> None:
    """Ask for a second reading of words that were just approved. One that was asked for before stays as it is."""
    if session.get(SecondReading, submission_id) is None:
        session.add(SecondReading(submission_id=submission_id, asked_at=now()))
        session.flush()


def ask_again(session: Session, submission_id: int) -> None:
    """Ask for a reading of words that something has changed for, even if they were read a second time before.

    Words that still await their verdict are read again once they are approved.
    """
    row = session.get(SecondReading, submission_id, with_for_update=True)
    if row is None:
        ask(session, submission_id)
    elif row.read_at is not None:
        row.asked_at, row.moderator_id, row.verdict, row.reason_code, row.read_at = now(), None, None, None, None
        session.flush()


def awaiting(session: Session, moderator: ModeratorId, *, after: int = 0, limit: int = 50) -> list[Released]:
    """Return up to *limit* released words with an id above *after* that *moderator* may read again, oldest first."""
    ids = session.scalars(
        select(SecondReading.submission_id)
        .join(Decision, Decision.submission_id == SecondReading.submission_id)
        .outerjoin(Withdrawal, Withdrawal.submission_id == SecondReading.submission_id)
        .where(
            SecondReading.read_at.is_(None),
            SecondReading.submission_id > after,
            # What was asked for while it waited may have been vetoed since.
            Decision.verdict == Verdict.APPROVE.value,
            Decision.moderator_id != moderator,
            Withdrawal.submission_id.is_(None),
        )
        .order_by(SecondReading.submission_id)
        .limit(limit)
    ).all()
    return list(dict(sorted(released(session, ids).items())).values())


def answer(
    session: Session,
    submission_id: int,
    *,
    moderator: ModeratorId,
    seen: Digest,
    verdict: Verdict,
    code: str | None = None,
) -> None:
    """Put on record what a second reader would have done.

    Raises `UnknownModerator`, `NothingToReread`, `AnotherModeratorNeeded` for one's own approval, `NotTheWordsStored`,
    or `UnknownReasonCode` for a rejection without one of the published codes.
    """
    gate.judge_of(session, moderator)
    row = session.get(SecondReading, submission_id, with_for_update=True)
    if row is None or row.read_at is not None:
        raise NothingToReread(SubmissionId(submission_id))
    decision = session.get(Decision, submission_id)
    submission = session.get_one(Submission, submission_id)
    if decision is None or decision.verdict != Verdict.APPROVE or session.get(Withdrawal, submission_id) is not None:
        raise NothingToReread(SubmissionId(submission_id))
    if decision.moderator_id == moderator:
        raise AnotherModeratorNeeded(SubmissionId(submission_id))
    if seen != submission.digest:
        raise NotTheWordsStored(SubmissionId(submission_id), Digest(submission.digest))
    if verdict is Verdict.REJECT:
        reasons.known(Kind(submission.kind), code or "")
    elif code is not None:
        raise Refused("An approval has no reason code. Nothing was changed.")
    row.moderator_id, row.verdict, row.reason_code, row.read_at = moderator, verdict.value, code, now()
    session.flush()


def agreement(session: Session) -> tuple[int, int]:
    """Return how many second readings agreed with the approval, and how many were given."""
    given = session.execute(
        select(SecondReading.verdict, func.count())
        .where(SecondReading.read_at.is_not(None))
        .group_by(SecondReading.verdict)
    )
    found = {row[0]: row[1] for row in given}
    return found.get(Verdict.APPROVE.value, 0), sum(found.values())
