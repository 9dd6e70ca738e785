"""The desk's door: what awaits a verdict, oldest first."""

from __future__ import annotations

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from moderation.records import ProposalRow, ReasonRow, Submission, Waiting
from moderation.types import (
    Digest,
    Kind,
    ModeratorId,
    Pending,
    Proposal,
    ProposalId,
    SubmissionId,
    Tray,
)


def awaiting_review(
    session: Session,
    *,
    kind: Kind | None = None,
    essay: SubmissionId | None = None,
    tray: Tray | None = None,
    after: int = 0,
    limit: int = 100,
) -> list[Pending]:
    """Return up to *limit* pending submissions with an id above *after*, oldest first; of every tray unless told."""
    query = _pending().where(Waiting.submission_id > after).order_by(Waiting.submission_id).limit(limit)
    if kind is not None:
        query = query.where(Waiting.kind == kind.value)
    if essay is not None:
        query = query.where(Waiting.essay == essay)
    if tray is not None:
        query = query.where(Waiting.tray == tray.value)
    return [_seen_by_the_desk(*row) for row in session.execute(query)]


def pending(session: Session, submission_id: int) -> Pending | None:
    """Return one pending submission, or None if it awaits no verdict."""
    row = session.execute(_pending().where(Waiting.submission_id == submission_id)).first()
    return _seen_by_the_desk(*row) if row else None


def counts(session: Session) -> dict[Kind, int]:
    """Return how many submissions of each kind await a verdict, by counting them."""
    by_kind = session.execute(select(Waiting.kind, func.count()).group_by(Waiting.kind))
    found = {Kind(kind): number for kind, number in by_kind}
    return {kind: found.get(kind, 0) for kind in Kind}


def _pending() -> Select[Submission, Waiting, ProposalRow, str | None]:
    return (
        select(Submission, Waiting, ProposalRow, ReasonRow.reason)
        .join(Waiting, Waiting.submission_id == Submission.id)
        .outerjoin(ProposalRow, ProposalRow.id == Waiting.proposal_id)
        .outerjoin(ReasonRow, ReasonRow.proposal_id == ProposalRow.id)
    )


def _seen_by_the_desk(
    submission: Submission, waiting: Waiting, proposal: ProposalRow | None, reason: str | None
) -> Pending:
    # Waiting words are never erased without leaving the desk first, so they are whole here.
    assert submission.nonce is not None
    assert submission.author is not None
    assert submission.body is not None
    return Pending(
        id=SubmissionId(submission.id),
        kind=Kind(submission.kind),
        nonce=submission.nonce,
        author=submission.author,
        body=submission.body,
        digest=Digest(submission.digest),
        in_answer_to=Digest(submission.in_answer_to) if submission.in_answer_to else None,
        submitted_at=submission.submitted_at,
        tray=Tray(waiting.tray),
        proposal=Proposal(
            id=ProposalId(proposal.id),
            moderator=ModeratorId(proposal.moderator_id),
            code=proposal.reason_code,
            reason=reason,
            proposed_at=proposal.proposed_at,
            lapses_at=proposal.lapses_at,
        )
        if proposal is not None
        else None,
    )
