"""The whole past of one submission, for the desk: what happened to it, in order, with who and when and why.

Told from the records and, where they have no row for it, from the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation import ledger
from moderation.errors import NoSuchSubmission
from moderation.ledger import Entry
from moderation.records import (
    AppealRow,
    Decision,
    Erasure,
    Hold,
    ProposalRow,
    ReasonRow,
    SecondReading,
    Submission,
    Waiting,
    Withdrawal,
)
from moderation.types import Digest, Kind, ModeratorId, State, SubmissionId, Verdict


class What(StrEnum):
    """What can happen to a submission."""

    SUBMITTED = "submitted"
    SUPERSEDED = "superseded"
    HELD = "held"
    LET_GO = "let_go"
    VETO_PROPOSED = "veto_proposed"
    TAKEDOWN_PROPOSED = "takedown_proposed"
    LAPSED = "lapsed"
    KEPT = "kept"
    APPROVED = "approved"
    OVERRULED = "overruled"
    """Approved, against another's proposal."""
    TAKEN_BACK = "taken_back"
    """Approved by who had proposed the veto."""
    REJECTED = "rejected"
    CONFIRMED = "confirmed"
    """Vetoed, by a second moderator."""
    READ_AGAIN = "read_again"
    APPEALED = "appealed"
    APPEAL_ENDED = "appeal_ended"
    REPORTED = "reported"
    """By a reader. The site keeps reports, and adds them and what became of them."""
    REPORT_CLOSED = "report_closed"
    WITHDRAWN = "withdrawn"
    TAKEN_DOWN = "taken_down"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class Happened:
    """One thing that happened to a submission."""

    at: datetime
    what: What
    moderator: ModeratorId | None = None
    code: str | None = None
    reason: str | None = None
    """For the desk alone."""
    told: str | None = None
    """What the author was told, or who reported it."""
    said: str | None = None
    """What its author said in an appeal, or a reader in a report."""
    by: str | None = None
    """Who took it back: "author", "operator" or "law"."""
    outcome: str | None = None
    """What came of it, where that is another thing than what happened: a verdict, a state, a report's outcome."""
    other: SubmissionId | None = None
    """The submission that it replaced, or that replaced it."""
    until: datetime | None = None
    entry: int | None = None
    """The number of its entry in the ledger."""


@dataclass(frozen=True, slots=True)
class Past:
    """One submission as it stands now, whatever became of it. For the desk only: its words need not be public."""

    id: SubmissionId
    kind: Kind
    author: str | None
    body: str | None
    """None, like the author, once they are erased."""
    digest: Digest
    answers: SubmissionId | None
    submitted_at: datetime
    state: State
    holds: bool
    """Whether the words are still those of the digest."""
    entries: tuple[int, ...]
    """The numbers of the ledger's entries about it."""
    happened: tuple[Happened, ...]
    """Oldest first."""


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision, for a list of the latest."""

    entry: int
    submission_id: SubmissionId
    kind: Kind
    author: str | None
    body: str | None
    verdict: Verdict
    code: str | None
    moderator: ModeratorId
    at: datetime
    overrules: bool
    """Whether another's proposal was not followed."""


def past(session: Session, submission_id: int) -> Past:
    """Return a submission with all that happened to it. Raises `NoSuchSubmission`."""
    row = session.get(Submission, submission_id)
    if row is None:
        raise NoSuchSubmission(submission_id)
    entries = ledger.about(session, submission_id)
    recomputed = row.recomputed()
    return Past(
        id=SubmissionId(row.id),
        kind=Kind(row.kind),
        author=row.author,
        body=row.body,
        digest=Digest(row.digest),
        answers=_answers(session, row),
        submitted_at=row.submitted_at,
        state=_state(session, submission_id),
        holds=recomputed is None or recomputed == row.digest,
        entries=tuple(entry.number for entry in entries),
        happened=tuple(_all(session, row, entries)),
    )


def history(session: Session, submission_id: int) -> list[Happened]:
    """Return what happened to one submission, oldest first. Raises `NoSuchSubmission`."""
    return list(past(session, submission_id).happened)


def decided(session: Session, *, before: int | None = None, limit: int = 50) -> list[Decided]:
    """Return up to *limit* decisions, newest first, whose ledger entry has a number below *before*."""
    entries = ledger.newest(session, before=before, limit=limit, what="decision")
    # An entry that cannot be read tells of nothing; `ledger.verify` names it.
    numbers = {facts["submission"]: entry.number for entry in entries if (facts := entry.facts())}
    rows = session.execute(
        select(Submission, Decision, ProposalRow.moderator_id)
        .join(Decision, Decision.submission_id == Submission.id)
        .outerjoin(ProposalRow, ProposalRow.id == Decision.proposal_id)
        .where(Submission.id.in_(numbers))
    )
    found = [
        Decided(
            entry=numbers[submission.id],
            submission_id=SubmissionId(submission.id),
            kind=Kind(submission.kind),
            author=submission.author,
            body=submission.body,
            verdict=Verdict(decision.verdict),
            code=decision.reason_code,
            moderator=ModeratorId(decision.moderator_id),
            at=decision.decided_at,
            overrules=decision.verdict == Verdict.APPROVE and proposer not in {None, decision.moderator_id},
        )
        for submission, decision, proposer in rows
    ]
    return sorted(found, key=lambda each: each.entry, reverse=True)


def _all(session: Session, row: Submission, entries: list[Entry]) -> list[Happened]:
    numbers = _Numbers(entries)
    reasons = {
        each.digest: each for each in session.scalars(select(ReasonRow).where(ReasonRow.submission_id == row.id))
    }
    found = [
        *_beginning(session, row),
        *_holds(session, row),
        *_proposals(session, row, numbers, reasons, entries),
        *_decision(session, row, numbers, reasons),
        *_second_reading(session, row),
        *_appeal(session, row),
        *_end(session, row, numbers, reasons),
    ]
    # Things of one moment keep the order above: what ended something stands after it.
    return sorted(found, key=lambda each: each.at)


class _Numbers:
    """The ledger's numbers of what happened to one submission."""

    def __init__(self, entries: list[Entry]) -> None:
        self._found: dict[tuple[str, int | None], int] = {}
        for entry in entries:
            facts = entry.facts()
            about = facts.get("proposal") if facts.get("type") in {"proposal", "lapse", "kept"} else None
            self._found[str(facts.get("type")), about] = entry.number

    def of(self, what: str, proposal: int | None = None) -> int | None:
        return self._found.get((what, proposal))


def _beginning(session: Session, row: Submission) -> list[Happened]:
    appeal = session.get(AppealRow, row.id)
    older = SubmissionId(row.supersedes) if row.supersedes is not None else None
    found = [
        Happened(
            row.submitted_at,
            What.SUBMITTED,
            other=older,
            said=appeal.words if appeal else None,
            outcome="appeal" if appeal else None,
        )
    ]
    newer = _newer(session, row)
    if newer is not None and session.get(AppealRow, newer.id) is None:
        found.append(Happened(newer.submitted_at, What.SUPERSEDED, other=SubmissionId(newer.id)))
    return found


def _newer(session: Session, row: Submission) -> Submission | None:
    return session.scalar(select(Submission).where(Submission.supersedes == row.id))


def _holds(session: Session, row: Submission) -> list[Happened]:
    decision, withdrawal = session.get(Decision, row.id), session.get(Withdrawal, row.id)
    newer = _newer(session, row)
    ends = [
        decision.decided_at if decision else None,
        withdrawal.withdrawn_at if withdrawal else None,
        # A change ends a hold just before the newer version is there, in the same transaction.
        newer.submitted_at - timedelta(seconds=1) if newer else None,
    ]
    left = min((at for at in ends if at is not None), default=None)
    found = []
    for hold in session.scalars(select(Hold).where(Hold.submission_id == row.id).order_by(Hold.id)):
        who = ModeratorId(hold.moderator_id)
        found.append(Happened(hold.held_at, What.HELD, who))
        # A verdict ends a hold too, and tells the rest.
        if hold.ended_at is not None and (left is None or hold.ended_at < left):
            found.append(Happened(hold.ended_at, What.LET_GO, who))
    return found


def _proposals(
    session: Session, row: Submission, numbers: _Numbers, reasons: dict[str, ReasonRow], entries: list[Entry]
) -> list[Happened]:
    found = []
    kept = {facts["proposal"]: facts for facts in (entry.facts() for entry in entries) if facts.get("type") == "kept"}
    lapsed = {f["proposal"]: f for f in (entry.facts() for entry in entries) if f.get("type") == "lapse"}
    for each in session.scalars(select(ProposalRow).where(ProposalRow.submission_id == row.id)):
        reason = reasons.get(each.reason_digest)
        found.append(
            Happened(
                each.proposed_at,
                What.VETO_PROPOSED if each.proposes == "veto" else What.TAKEDOWN_PROPOSED,
                ModeratorId(each.moderator_id),
                code=each.reason_code,
                reason=reason.reason if reason else None,
                told=reason.told if reason else None,
                until=each.lapses_at,
                entry=numbers.of("proposal", each.id),
            )
        )
        if each.id in lapsed:
            at = datetime.fromisoformat(str(lapsed[each.id]["at"]))
            found.append(Happened(at, What.LAPSED, entry=numbers.of("lapse", each.id)))
        if each.id in kept:
            at, who = datetime.fromisoformat(str(kept[each.id]["at"])), ModeratorId(int(kept[each.id]["moderator"]))
            by = "proposer" if who == each.moderator_id else "another"
            found.append(Happened(at, What.KEPT, who, outcome=by, entry=numbers.of("kept", each.id)))
    return found


def _decision(session: Session, row: Submission, numbers: _Numbers, reasons: dict[str, ReasonRow]) -> list[Happened]:
    decision = session.get(Decision, row.id)
    if decision is None:
        return []
    proposal = session.get(ProposalRow, decision.proposal_id) if decision.proposal_id is not None else None
    own = proposal is not None and proposal.moderator_id == decision.moderator_id
    if decision.verdict == Verdict.APPROVE:
        what = What.APPROVED if proposal is None else What.TAKEN_BACK if own else What.OVERRULED
    else:
        what = What.REJECTED if proposal is None or own else What.CONFIRMED
    reason = reasons.get(decision.reason_digest or "")
    return [
        Happened(
            decision.decided_at,
            what,
            ModeratorId(decision.moderator_id),
            code=decision.reason_code,
            reason=reason.reason if reason else None,
            told=reason.told if reason else None,
            entry=numbers.of("decision"),
        )
    ]


def _second_reading(session: Session, row: Submission) -> list[Happened]:
    reading = session.get(SecondReading, row.id)
    if reading is None or reading.read_at is None or reading.moderator_id is None:
        return []  # Asked for, but not given: to tell would end its blindness.
    who = ModeratorId(reading.moderator_id)
    return [Happened(reading.read_at, What.READ_AGAIN, who, code=reading.reason_code, outcome=reading.verdict)]


def _appeal(session: Session, row: Submission) -> list[Happened]:
    newer = _newer(session, row)
    appeal = session.get(AppealRow, newer.id) if newer is not None else None
    if newer is None or appeal is None:
        return []
    again = SubmissionId(newer.id)
    found = [Happened(appeal.appealed_at, What.APPEALED, said=appeal.words, other=again)]
    decision, withdrawal = session.get(Decision, newer.id), session.get(Withdrawal, newer.id)
    if decision is not None:
        who = ModeratorId(decision.moderator_id)
        outcome, code = decision.verdict, decision.reason_code
        found.append(Happened(decision.decided_at, What.APPEAL_ENDED, who, code=code, outcome=outcome, other=again))
    elif withdrawal is not None:
        found.append(Happened(withdrawal.withdrawn_at, What.APPEAL_ENDED, outcome="withdrawn", other=again))
    return found


def _end(session: Session, row: Submission, numbers: _Numbers, reasons: dict[str, ReasonRow]) -> list[Happened]:
    found = []
    withdrawal, erasure = session.get(Withdrawal, row.id), session.get(Erasure, row.id)
    if withdrawal is not None:
        reason = reasons.get(withdrawal.reason_digest or "")
        found.append(
            Happened(
                withdrawal.withdrawn_at,
                What.TAKEN_DOWN if withdrawal.moderator_id is not None else What.WITHDRAWN,
                ModeratorId(withdrawal.moderator_id) if withdrawal.moderator_id is not None else None,
                code=withdrawal.reason_code,
                reason=reason.reason if reason else None,
                told=reason.told if reason else None,
                by=withdrawal.taken_back_by,
                outcome="confirmed" if withdrawal.proposal_id is not None else None,
                entry=numbers.of("withdrawal"),
            )
        )
    if erasure is not None:
        found.append(Happened(erasure.erased_at, What.ERASED, entry=numbers.of("erasure")))
    return found


def _answers(session: Session, row: Submission) -> SubmissionId | None:
    found = session.scalar(select(Submission.id).where(Submission.digest == row.in_answer_to))
    return SubmissionId(found) if found is not None else None


def _state(session: Session, submission_id: int) -> State:
    if session.get(Withdrawal, submission_id) is not None:
        return State.WITHDRAWN
    decision = session.get(Decision, submission_id)
    if decision is not None:
        return State.APPROVED if decision.verdict == Verdict.APPROVE else State.REJECTED
    return State.PENDING if session.get(Waiting, submission_id) is not None else State.SUPERSEDED
