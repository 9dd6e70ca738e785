"""The desk's door: what awaits a verdict, oldest first."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import TypeVarTuple

from sqlalchemy import Select, and_, bindparam, func, or_, select
from sqlalchemy.orm import Session, aliased

from moderation.base import now
from moderation.records import AppealRow, Decision, Hold, ProposalRow, ReasonRow, Submission, Waiting
from moderation.types import (
    Appealed,
    Digest,
    Held,
    Kind,
    ModeratorId,
    Pending,
    Proposal,
    ProposalId,
    SubmissionId,
    Tray,
)

_Columns = TypeVarTuple("_Columns")
MOST_COUNTED = 1000
"""Where counting ends: "1,000 or more" costs the same whatever waits."""


def awaiting_review(
    session: Session,
    *,
    kind: Kind | None = None,
    essay: SubmissionId | None = None,
    tray: Tray | None = None,
    voice: int | None = None,
    held: bool | None = None,
    not_held_by: ModeratorId | None = None,
    among: Select[int] | None = None,
    after: int = 0,
    limit: int = 100,
) -> list[Pending]:
    """Return up to *limit* pending submissions with an id above *after*, oldest first; of every tray unless told.

    *among* is a query for the ids of those that may be returned; *not_held_by* leaves out what that moderator holds,
    for it waits for somebody else.
    """
    query = _chosen(_pending(), kind=kind, essay=essay, tray=tray, voice=voice, held=held, not_held_by=not_held_by)
    query = query.where(Waiting.submission_id > after).order_by(Waiting.submission_id).limit(limit)
    if among is not None:
        query = query.where(Waiting.submission_id.in_(among))
    return [_seen_by_the_desk(*row) for row in session.execute(query)]


def pending(session: Session, submission_id: int) -> Pending | None:
    """Return one pending submission, or None if it awaits no verdict."""
    row = session.execute(_pending_one(), {"id": submission_id}).first()
    return _seen_by_the_desk(*row) if row else None


def counts(session: Session) -> dict[Kind, int]:
    """Return how many submissions of each kind await a verdict, at most `MOST_COUNTED` of each, by counting them."""
    return {kind: number(session, kind=kind) for kind in Kind}


def number(
    session: Session,
    *,
    kind: Kind | None = None,
    essay: SubmissionId | None = None,
    tray: Tray | None = None,
    voice: int | None = None,
    held: bool | None = None,
    not_held_by: ModeratorId | None = None,
    among: Select[int] | None = None,
) -> int:
    """Return how many `awaiting_review` would give without a limit, at most `MOST_COUNTED`."""
    query = _chosen(
        select(Waiting.submission_id),
        kind=kind,
        essay=essay,
        tray=tray,
        voice=voice,
        held=held,
        not_held_by=not_held_by,
    )
    if among is not None:
        query = query.where(Waiting.submission_id.in_(among))
    return session.scalar(select(func.count()).select_from(query.limit(MOST_COUNTED).subquery())) or 0


def oldest(session: Session) -> datetime | None:
    """Return when the submission that waits longest arrived, or None if nothing waits."""
    first = select(func.min(Waiting.submission_id)).scalar_subquery()
    return session.scalar(select(Submission.submitted_at).where(Submission.id == first))


def _chosen(
    query: Select[*_Columns],
    *,
    kind: Kind | None,
    essay: SubmissionId | None,
    tray: Tray | None,
    voice: int | None,
    held: bool | None,
    not_held_by: ModeratorId | None,
) -> Select[*_Columns]:
    if kind is not None:
        query = query.where(Waiting.kind == kind.value)
    if essay is not None:
        query = query.where(Waiting.essay == essay)
    if tray is not None:
        query = query.where(Waiting.tray == tray.value)
    if voice is not None:
        query = query.where(Waiting.voice == voice)
    if held is not None:
        query = query.where(Waiting.hold_id.is_not(None) if held else Waiting.hold_id.is_(None))
    if not_held_by is not None:
        hold = aliased(Hold)
        theirs = select(hold.id).where(hold.id == Waiting.hold_id, hold.moderator_id == not_held_by)
        query = query.where(or_(Waiting.hold_id.is_(None), ~theirs.exists()))
    return query


@cache
def _pending_one() -> Select[Submission, Waiting, ProposalRow, str | None, Hold, AppealRow, Decision, str | None]:
    # Put together once: it is asked for several times whenever words come in, and takes longer to write than to run.
    return _pending().where(Waiting.submission_id == bindparam("id"))


def _pending() -> Select[Submission, Waiting, ProposalRow, str | None, Hold, AppealRow, Decision, str | None]:
    about_rejection = aliased(ReasonRow)
    return (
        select(Submission, Waiting, ProposalRow, ReasonRow.reason, Hold, AppealRow, Decision, about_rejection.told)
        .join(Waiting, Waiting.submission_id == Submission.id)
        .outerjoin(ProposalRow, ProposalRow.id == Waiting.proposal_id)
        .outerjoin(ReasonRow, ReasonRow.proposal_id == ProposalRow.id)
        .outerjoin(Hold, Hold.id == Waiting.hold_id)
        .outerjoin(AppealRow, AppealRow.submission_id == Submission.id)
        .outerjoin(
            Decision, and_(AppealRow.submission_id.is_not(None), Decision.submission_id == Submission.supersedes)
        )
        .outerjoin(about_rejection, about_rejection.digest == Decision.reason_digest)
    )


def _seen_by_the_desk(
    submission: Submission,
    waiting: Waiting,
    proposal: ProposalRow | None,
    reason: str | None,
    hold: Hold | None,
    appeal: AppealRow | None,
    rejection: Decision | None,
    told: str | None,
) -> Pending:
    # Waiting words are never erased without leaving the desk first, so they are whole here.
    assert submission.nonce is not None
    assert submission.author is not None
    assert submission.body is not None
    appealed = None
    if appeal is not None and rejection is not None:
        appealed = Appealed(
            rejected=SubmissionId(rejection.submission_id),
            rejected_by=ModeratorId(rejection.moderator_id),
            rejected_at=rejection.decided_at,
            code=rejection.reason_code or "",
            told=told,
            words=appeal.words,
            appealed_at=appeal.appealed_at,
        )
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
        proposal=opened(proposal, reason) if proposal is not None and proposal.lapses_at > now() else None,
        held=Held(ModeratorId(hold.moderator_id), hold.held_at) if hold is not None else None,
        appealed=appealed,
    )


def opened(proposal: ProposalRow, reason: str | None) -> Proposal:
    """Return an open proposal with its written *reason*."""
    return Proposal(
        id=ProposalId(proposal.id),
        moderator=ModeratorId(proposal.moderator_id),
        code=proposal.reason_code,
        reason=reason,
        proposed_at=proposal.proposed_at,
        lapses_at=proposal.lapses_at,
    )
