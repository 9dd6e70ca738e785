"""What was erased, told by digests: for a list outside the database, and to find it where a backup was put back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation.records import Erasure, Submission, Withdrawal
from moderation.types import Digest, Kind, SubmissionId

_AT_ONCE = 500  # Well under the bound parameters that either database takes in one statement.


@dataclass(frozen=True, slots=True)
class ErasedComment:
    """One version of a comment whose words were erased."""

    digest: Digest
    by: str
    """Who took the comment back, by its newest version: "author", "operator" or "law"."""
    at: datetime


def comments(session: Session) -> list[ErasedComment]:
    """Return every erased comment, and each of its earlier versions, in the order in which they came."""
    rows = session.execute(
        select(Submission.id, Submission.digest, Submission.supersedes, Withdrawal.taken_back_by, Erasure.erased_at)
        .join(Erasure, Erasure.submission_id == Submission.id)
        .join(Withdrawal, Withdrawal.submission_id == Submission.id)
        .where(Submission.kind == Kind.COMMENT.value)
        .order_by(Submission.id.desc())
    )
    found = []
    whose: dict[int, str] = {}
    for number, digest, supersedes, taken_back_by, erased_at in rows:
        # What replaced a version has a higher number, so it was met before.
        by = whose.pop(number, taken_back_by)
        if supersedes is not None:
            whose[supersedes] = by
        found.append(ErasedComment(Digest(digest), by, erased_at))
    return found[::-1]


def not_erased(session: Session, digests: Iterable[Digest]) -> dict[Digest, SubmissionId]:
    """Return which of *digests* are of words that stand here, each with the newest version of what they are of."""
    found: dict[Digest, SubmissionId] = {}
    wanted = list(digests)
    for start in range(0, len(wanted), _AT_ONCE):
        rows = session.execute(
            select(Submission.digest, Submission.id)
            .outerjoin(Erasure, Erasure.submission_id == Submission.id)
            .where(Submission.digest.in_(wanted[start : start + _AT_ONCE]), Erasure.submission_id.is_(None))
        )
        newest = {Digest(digest): SubmissionId(number) for digest, number in rows}
        while later := _replaced(session, newest.values()):
            newest = {digest: later.get(number, number) for digest, number in newest.items()}
        found |= newest
    return found


def _replaced(session: Session, submission_ids: Iterable[SubmissionId]) -> dict[SubmissionId, SubmissionId]:
    rows = session.execute(
        select(Submission.supersedes, Submission.id).where(Submission.supersedes.in_(set(submission_ids)))
    )
    return {SubmissionId(earlier): SubmissionId(number) for earlier, number in rows if earlier is not None}
