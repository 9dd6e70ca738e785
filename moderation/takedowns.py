"""Taking down released words: an admin's act, with a code and a reason; for a model's words it meets the veto's bar."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from moderation import gate, ledger, reasons
from moderation.base import now
from moderation.errors import (
    AdminNeeded,
    NoOpenProposal,
    NoSuchSubmission,
    NotReleased,
    NotTheWordsStored,
    SecondModeratorNeeded,
)
from moderation.queue import opened
from moderation.records import Decision, OpenTakedown, ProposalRow, ReasonRow, Submission, Withdrawal
from moderation.types import Digest, Kind, ModeratorId, Proposal, Rejection, SubmissionId, Verdict


def take_down(
    session: Session,
    submission_id: int,
    *,
    moderator: ModeratorId,
    seen: Digest,
    code: str,
    reason: str | None,
    by: str = "operator",
    quorum: int = 2,
    lapse: timedelta = gate.VETO_LAPSE,
) -> Rejection:
    """Take a released comment down, or take one step towards taking down a model's words; say which it came to.

    An admin begins; for a model's words a second moderator agrees within *lapse*, and the proposal's code stands. With
    a *quorum* of 1 the admin's act is enough. *by* is "operator", or "law" where that asks for it.

    Raises `NoSuchSubmission`, `UnknownModerator`, `NotReleased`, `NotTheWordsStored`, `AdminNeeded`,
    `SecondModeratorNeeded`, `UnknownReasonCode`, `ReasonTooShort` or `ReasonTooLong`.
    """
    head = ledger.take_head(session)
    judge = gate.judge_of(session, moderator)
    submission = _released(session, submission_id)
    if seen != submission.digest:
        raise NotTheWordsStored(SubmissionId(submission.id), Digest(submission.digest))
    kind = Kind(submission.kind)
    head, proposal = _open(session, head, submission.id)
    if proposal is None and judge.role != "admin":
        raise AdminNeeded
    if proposal is not None and proposal.moderator_id == moderator and quorum > 1:
        raise SecondModeratorNeeded(SubmissionId(submission.id))
    reasons.check(
        kind,
        code,
        reason,
        None,
        proposes=kind.by_model and proposal is None,
        seconds=proposal is not None,
        takes_down=True,
    )
    row = gate.written(submission.id, reason, None)
    if kind.by_model and proposal is None and quorum > 1:
        assert row is not None  # `reasons.check` asks for words with every proposal.
        proposed = gate.propose(session, head, submission.id, moderator, seen, code, row, lapse, what="withdrawal")
        session.add(OpenTakedown(submission_id=submission.id, proposal_id=proposed))
        session.flush()
        return Rejection.PROPOSED
    if row is not None:
        session.add(row)
    withdrawal = Withdrawal(
        submission_id=submission.id,
        taken_back_by=by,
        moderator_id=moderator,
        withdrawn_at=now(),
        reason_code=proposal.reason_code if proposal else code,
        reason_digest=row.digest if row else None,
        proposal_id=proposal.id if proposal else None,
    )
    gate.record_withdrawal(session, head, withdrawal, submission)
    return Rejection.DECIDED


def keep(session: Session, submission_id: int, *, moderator: ModeratorId) -> None:
    """Answer a proposal to take words down with no: they stay, and the disagreement is on record.

    By the proposer, it takes the proposal back. Raises `UnknownModerator`, `NoSuchSubmission` or `NoOpenProposal`.
    """
    head = ledger.take_head(session)
    gate.judge_of(session, moderator)
    if session.get(Submission, submission_id) is None:
        raise NoSuchSubmission(submission_id)
    head, proposal = _open(session, head, submission_id)
    if proposal is None:
        raise NoOpenProposal(SubmissionId(submission_id))
    session.execute(delete(OpenTakedown).where(OpenTakedown.submission_id == submission_id))
    ledger.record_kept(session, head, proposal.id, submission_id, moderator)


def open_takedowns(session: Session, submission_ids: Iterable[int] | None = None) -> dict[int, Proposal]:
    """Return the open proposals to take words down, by submission; of all, or of those among *submission_ids*."""
    query = (
        select(ProposalRow, ReasonRow.reason)
        .join(OpenTakedown, OpenTakedown.proposal_id == ProposalRow.id)
        .outerjoin(ReasonRow, ReasonRow.proposal_id == ProposalRow.id)
        .where(ProposalRow.lapses_at > now())
        .order_by(ProposalRow.id)
    )
    if submission_ids is not None:
        query = query.where(ProposalRow.submission_id.in_(set(submission_ids)))
    return {row.submission_id: opened(row, reason) for row, reason in session.execute(query)}


def lapse_takedowns(session: Session) -> list[SubmissionId]:
    """End the proposals that found no second moderator in time, on record; return whose words stay."""
    head = ledger.take_head(session)
    overdue = session.scalars(
        select(OpenTakedown.submission_id)
        .join(ProposalRow, ProposalRow.id == OpenTakedown.proposal_id)
        .where(ProposalRow.lapses_at <= now())
        .order_by(OpenTakedown.submission_id)
    ).all()
    for submission_id in overdue:
        head, _ = _open(session, head, submission_id)
    return [SubmissionId(submission_id) for submission_id in overdue]


def _released(session: Session, submission_id: int) -> Submission:
    submission = session.get(Submission, submission_id)
    if submission is None:
        raise NoSuchSubmission(submission_id)
    decision = session.get(Decision, submission_id)
    if decision is None or decision.verdict != Verdict.APPROVE or session.get(Withdrawal, submission_id) is not None:
        raise NotReleased(SubmissionId(submission_id))
    return submission


def _open(session: Session, head: ledger.Head, submission_id: int) -> tuple[ledger.Head, ProposalRow | None]:
    """Return the open proposal, if any; one past its time is put on record as lapsed and is open no more."""
    row = session.get(OpenTakedown, submission_id)
    if row is None:
        return head, None
    proposal = session.get_one(ProposalRow, row.proposal_id)
    if proposal.lapses_at > now():
        return head, proposal
    session.delete(row)
    session.flush()
    return ledger.record_lapse(session, head, proposal.id, submission_id), None
