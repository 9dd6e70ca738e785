"""The one gate. Words come in by `submit` and get one verdict, by `approve` or `reject`; nothing here can change them.

Every function works in the caller's transaction and commits nothing. What it raises leaves that transaction to be
rolled back: a refusal changes nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from moderation import ledger, reasons
from moderation.base import now
from moderation.digest import commitment, new_nonce, salted
from moderation.errors import (
    AlreadyDecided,
    AnotherModeratorNeeded,
    AppealStays,
    NoLongerPending,
    NoSuchSubmission,
    NothingToAnswer,
    NotTheWordsStored,
    NotWhatWasReviewed,
    Refused,
    SecondModeratorNeeded,
    UnknownModerator,
)
from moderation.records import (
    AppealRow,
    Decision,
    Erasure,
    Hold,
    ModeratorRow,
    OpenTakedown,
    ProposalRow,
    ReasonRow,
    Submission,
    Waiting,
    Withdrawal,
)
from moderation.release import released
from moderation.types import (
    Digest,
    Kind,
    ModeratorId,
    ProposalId,
    Rejection,
    Released,
    State,
    SubmissionId,
    Tray,
    Verdict,
)

VETO_LAPSE = timedelta(days=7)
_ANSWERABLE: dict[Kind, tuple[Kind | None, ...]] = {
    Kind.ESSAY: (None,),
    Kind.COMMENT: (Kind.ESSAY, Kind.REPLY),
    Kind.REPLY: (Kind.COMMENT,),
}


def submit(
    session: Session,
    kind: Kind,
    *,
    author: str,
    body: str,
    in_answer_to: SubmissionId | None = None,
    essay: SubmissionId | None = None,
    tray: Tray = Tray.MAIN,
    supersedes: SubmissionId | None = None,
    voice: int | None = None,
) -> SubmissionId:
    """Keep *author* and *body*, exactly as given, and put them on the desk; return the submission's id.

    *essay* is the released essay that all of this stands under (None for an essay itself), *voice* the site's number
    for whose it is. With *supersedes*, the pending submission of that id leaves the desk in the same transaction.

    Raises `NothingToAnswer` unless *in_answer_to* is released and of a kind that *kind* may answer;
    `AlreadyDecided` or `NoLongerPending` if what it supersedes no longer waits; `AppealStays` if that is an appeal.
    """
    if supersedes is not None:
        if session.get(AppealRow, supersedes) is not None:
            raise AppealStays(supersedes)
        _leave_the_desk(session, supersedes)
    return place(
        session,
        kind,
        author=author,
        body=body,
        in_answer_to=in_answer_to,
        essay=essay,
        tray=tray,
        supersedes=supersedes,
        voice=voice,
    )


def place(
    session: Session,
    kind: Kind,
    *,
    author: str,
    body: str,
    in_answer_to: SubmissionId | None,
    essay: SubmissionId | None,
    tray: Tray,
    supersedes: SubmissionId | None,
    voice: int | None,
) -> SubmissionId:
    """Do what `submit` does once nothing that is superseded waits any more. For the vault's own use."""
    answered = _answered(session, kind, in_answer_to)
    nonce = new_nonce()
    digest = commitment(
        kind=kind, nonce=nonce, author=author, in_answer_to=answered.digest if answered else None, body=body
    )
    submission = Submission(
        kind=kind.value,
        nonce=nonce,
        author=author,
        body=body,
        in_answer_to=answered.digest if answered else None,
        digest=digest,
        supersedes=supersedes,
        submitted_at=now(),
    )
    session.add(submission)
    session.flush()
    session.add(Waiting(submission_id=submission.id, kind=kind.value, essay=essay, tray=tray.value, voice=voice))
    session.flush()
    return SubmissionId(submission.id)


def approve(session: Session, submission_id: int, *, moderator: ModeratorId, seen: Digest) -> None:
    """Approve words verbatim: one decision, and its ledger entry, in this transaction.

    An open veto proposal on them is taken back (by its own proposer) or overruled (by another), on record.

    Raises `NoSuchSubmission`, `UnknownModerator`, `AlreadyDecided`, `NoLongerPending`, `NotTheWordsStored` if *seen* is
    not the digest of what is stored, or `NothingToAnswer` for a reply whose comment is no longer released.
    """
    head = ledger.take_head(session)
    submission, waiting = _awaiting_verdict(session, submission_id, moderator, seen)
    if submission.kind == Kind.REPLY:
        # A comment that is taken back takes its reply along; whoever forgets to is stopped here.
        _answerable_still(session, submission)
    head, proposal = _open_proposal(session, head, waiting)
    decision = Decision(
        submission_id=submission.id,
        verdict=Verdict.APPROVE.value,
        moderator_id=moderator,
        decided_at=now(),
        digest_seen=seen,
        proposal_id=proposal.id if proposal else None,
    )
    _decide(session, decision)
    ledger.record_decision(session, head, decision, submission)


def reject(
    session: Session,
    submission_id: int,
    *,
    moderator: ModeratorId,
    seen: Digest,
    code: str,
    reason: str | None = None,
    told: str | None = None,
    quorum: int = 2,
    lapse: timedelta = VETO_LAPSE,
) -> Rejection:
    """Reject a comment, or take one step towards vetoing a model's words; say which it came to.

    A model's words are only proposed for a veto, until a second moderator rejects them too within *lapse*; the
    proposal's code is the one that stands. With a *quorum* of 1 the first rejection decides. *reason* is for the
    desk, *told* for the author.

    Raises what `approve` raises, `SecondModeratorNeeded`, `UnknownReasonCode`, `ReasonTooShort` or `ReasonTooLong`.
    """
    head = ledger.take_head(session)
    submission, waiting = _awaiting_verdict(session, submission_id, moderator, seen)
    kind = Kind(submission.kind)
    head, proposal = _open_proposal(session, head, waiting)
    if proposal is not None and proposal.moderator_id == moderator and quorum > 1:
        raise SecondModeratorNeeded(SubmissionId(submission.id))
    begins_veto = kind.by_model and proposal is None
    reasons.check(kind, code, reason, told, proposes=begins_veto, seconds=proposal is not None)
    reason_row = written(submission.id, reason, told)
    if begins_veto and quorum > 1:
        assert reason_row is not None  # `reasons.check` asks for words with every proposal.
        waiting.proposal_id = propose(session, head, submission.id, moderator, seen, code, reason_row, lapse)
        session.flush()
        return Rejection.PROPOSED
    if reason_row is not None:
        session.add(reason_row)
    decision = Decision(
        submission_id=submission.id,
        verdict=Verdict.REJECT.value,
        moderator_id=moderator,
        decided_at=now(),
        digest_seen=seen,
        reason_code=proposal.reason_code if proposal else code,
        reason_digest=reason_row.digest if reason_row else None,
        proposal_id=proposal.id if proposal else None,
    )
    _decide(session, decision)
    ledger.record_decision(session, head, decision, submission)
    return Rejection.DECIDED


def withdraw(session: Session, submission_id: int, *, by: str, moderator: ModeratorId | None = None) -> None:
    """Take back words, pending or released, for their "author", the "operator" or the "law".

    Pending words leave the desk undecided; released words stop being released; rejected ones may be erased then. Doing
    it twice changes nothing. Raises `NoSuchSubmission`. A moderator takes down released words by `takedowns`.
    """
    head = ledger.take_head(session)
    submission = _stored(session, submission_id)
    if session.get(Withdrawal, submission.id) is None:
        withdrawal = Withdrawal(
            submission_id=submission.id, taken_back_by=by, moderator_id=moderator, withdrawn_at=now()
        )
        record_withdrawal(session, head, withdrawal, submission)


def record_withdrawal(
    session: Session, head: ledger.Head, withdrawal: Withdrawal, submission: Submission
) -> ledger.Head:
    """Put a withdrawal and its entry on record; the words leave the desk. For the vault's own use."""
    session.execute(delete(Waiting).where(Waiting.submission_id == submission.id))
    session.execute(delete(OpenTakedown).where(OpenTakedown.submission_id == submission.id))
    _end_hold(session, submission.id)
    session.add(withdrawal)
    session.flush()
    return ledger.record_withdrawal(session, head, withdrawal, submission)


def erase(session: Session, submission_id: int) -> list[SubmissionId]:
    """Empty the words of a withdrawn submission, here and in its superseded versions, and their reasons' free text.

    Returns the ids of all of these. The digest, the decision and the ledger stay and say nothing about the words.
    Doing it twice changes nothing. Raises `NoSuchSubmission`, or `Refused` if the words were not withdrawn first.
    """
    head = ledger.take_head(session)
    submission: Submission | None = _stored(session, submission_id)
    versions = []
    while submission is not None:
        versions.append(SubmissionId(submission.id))
        if session.get(Erasure, submission.id) is None:
            if session.get(Withdrawal, submission.id) is None:
                if submission.id == submission_id:
                    raise Refused("Only withdrawn words can be erased.")
                # An earlier version never was public: its withdrawal is that of the words that replaced it.
                withdrawal = Withdrawal(submission_id=submission.id, taken_back_by="author", withdrawn_at=now())
                head = record_withdrawal(session, head, withdrawal, submission)
            erasure = Erasure(submission_id=submission.id, erased_at=now())
            session.add(erasure)
            session.flush()
            _empty(session, submission.id)
            head = ledger.record_erasure(session, head, erasure)
        submission = session.get(Submission, submission.supersedes) if submission.supersedes else None
    return versions


def erasures(session: Session) -> tuple[int, datetime | None]:
    """Return how many submissions were erased, and when the last of them was.

    Each is put on record under the ledger's lock, so the number grows in the order of the commits.
    """
    number, last = session.execute(select(func.count(), func.max(Erasure.erased_at))).one()
    return number, last


def lapse_proposals(session: Session) -> list[SubmissionId]:
    """Put submissions whose veto proposal found no second moderator in time back to plain pending; return their ids."""
    head = ledger.take_head(session)
    overdue = session.scalars(
        select(Waiting).join(ProposalRow, Waiting.proposal_id == ProposalRow.id).where(ProposalRow.lapses_at <= now())
    ).all()
    for waiting in overdue:
        head, _ = _open_proposal(session, head, waiting)
    return [SubmissionId(waiting.submission_id) for waiting in overdue]


def sort_into(session: Session, submission_id: int, tray: Tray) -> None:
    """Move a pending submission to another tray. It waits there like any other."""
    session.execute(update(Waiting).where(Waiting.submission_id == submission_id).values(tray=tray.value))


def _answered(session: Session, kind: Kind, in_answer_to: SubmissionId | None) -> Released | None:
    if in_answer_to is None:
        if None not in _ANSWERABLE[kind]:
            raise NothingToAnswer(None)
        return None
    answered = released(session, [in_answer_to]).get(in_answer_to)
    if answered is None or answered.kind not in _ANSWERABLE[kind]:
        raise NothingToAnswer(in_answer_to)
    return answered


def _answerable_still(session: Session, reply: Submission) -> None:
    """Refuse a reply whose comment its author took back; one that we took down is no way round the model's bar."""
    comment = session.scalar(select(Submission.id).where(Submission.digest == reply.in_answer_to))
    decision = session.get(Decision, comment) if comment is not None else None
    withdrawal = session.get(Withdrawal, comment) if comment is not None else None
    approved = decision is not None and decision.verdict == Verdict.APPROVE
    if not approved or (withdrawal is not None and withdrawal.taken_back_by == "author"):
        raise NothingToAnswer(comment)


def _stored(session: Session, submission_id: int) -> Submission:
    submission = session.get(Submission, submission_id)
    if submission is None:
        raise NoSuchSubmission(submission_id)
    return submission


def still_waiting(session: Session, submission_id: int, moderator: ModeratorId) -> Waiting:
    """Return the place on the desk of what *moderator* acts on without a verdict. For the vault's own use.

    Raises `UnknownModerator`, `NoSuchSubmission`, `AlreadyDecided` or `NoLongerPending`.
    """
    judge_of(session, moderator)
    _stored(session, submission_id)
    waiting = session.get(Waiting, submission_id, with_for_update=True)
    if waiting is None:
        raise _why_not_waiting(session, submission_id)
    return waiting


def _awaiting_verdict(
    session: Session, submission_id: int, moderator: ModeratorId, seen: Digest
) -> tuple[Submission, Waiting]:
    """Return the stored words and their place on the desk if *moderator* may decide now and saw these very words."""
    judge_of(session, moderator)
    submission = _stored(session, submission_id)
    # Locked, so that an author's change waits for this verdict or this verdict for the change. SQLite ignores it.
    waiting = session.get(Waiting, submission.id, with_for_update=True)
    if waiting is None:
        raise _why_not_waiting(session, submission.id)
    if seen != submission.digest:
        raise NotTheWordsStored(SubmissionId(submission.id), Digest(submission.digest))
    if submission.recomputed() != submission.digest:
        raise NotWhatWasReviewed(submission.id)
    rejection = session.get(Decision, submission.supersedes) if submission.supersedes is not None else None
    if rejection is not None and rejection.moderator_id == moderator and _others_may_decide(session, moderator):
        raise AnotherModeratorNeeded(SubmissionId(submission.id))
    return submission, waiting


def judge_of(session: Session, moderator: ModeratorId) -> ModeratorRow:
    """Return the moderator who acts. Raises `UnknownModerator`. For the vault's own use."""
    judge = session.get(ModeratorRow, moderator)
    if judge is None or not judge.active:
        raise UnknownModerator(moderator)
    return judge


def _others_may_decide(session: Session, moderator: ModeratorId) -> bool:
    others = select(ModeratorRow.id).where(ModeratorRow.active, ModeratorRow.id != moderator).limit(1)
    return session.scalar(others) is not None


def _decide(session: Session, decision: Decision) -> None:
    # The primary key, not a prior SELECT, settles a race between two moderators.
    try:
        with session.begin_nested():
            session.add(decision)
            session.flush()
    except IntegrityError:
        raise _already_decided(session, decision.submission_id) from None
    _leave_the_desk(session, decision.submission_id)


def _leave_the_desk(session: Session, submission_id: int) -> None:
    left = session.execute(
        delete(Waiting).where(Waiting.submission_id == submission_id).returning(Waiting.submission_id)
    ).first()
    if left is None:
        raise _why_not_waiting(session, submission_id)
    _end_hold(session, submission_id)


def _end_hold(session: Session, submission_id: int) -> None:
    session.execute(
        update(Hold).where(Hold.submission_id == submission_id, Hold.ended_at.is_(None)).values(ended_at=now())
    )


def _why_not_waiting(session: Session, submission_id: int) -> Refused:
    _stored(session, submission_id)
    if session.get(Withdrawal, submission_id) is not None:
        return NoLongerPending(SubmissionId(submission_id), State.WITHDRAWN)
    if session.get(Decision, submission_id) is not None:
        return _already_decided(session, submission_id)
    newer = session.scalar(select(Submission.id).where(Submission.supersedes == submission_id))
    if newer is not None:
        return NoLongerPending(SubmissionId(submission_id), State.SUPERSEDED, SubmissionId(newer))
    return _already_decided(session, submission_id)


def _already_decided(session: Session, submission_id: int) -> AlreadyDecided:
    found = session.execute(
        select(Decision.verdict, ModeratorRow.name)
        .join(ModeratorRow, Decision.moderator_id == ModeratorRow.id)
        .where(Decision.submission_id == submission_id)
    ).first()
    if found is None:
        return AlreadyDecided(SubmissionId(submission_id), None, None)
    return AlreadyDecided(SubmissionId(submission_id), Verdict(found.verdict), found.name)


def _open_proposal(session: Session, head: ledger.Head, waiting: Waiting) -> tuple[ledger.Head, ProposalRow | None]:
    """Return the open proposal, if any; one past its time is put on record as lapsed and is open no more."""
    if waiting.proposal_id is None:
        return head, None
    proposal = session.get_one(ProposalRow, waiting.proposal_id)
    if proposal.lapses_at > now():
        return head, proposal
    waiting.proposal_id = None
    session.flush()
    return ledger.record_lapse(session, head, proposal.id, waiting.submission_id), None


def propose(
    session: Session,
    head: ledger.Head,
    submission_id: int,
    moderator: ModeratorId,
    seen: Digest,
    code: str,
    reason: ReasonRow,
    lapse: timedelta,
    *,
    what: str = "veto",
) -> ProposalId:
    """Put a proposal, its reason and its entry on record. For the vault's own use."""
    at = now()
    proposal = ProposalRow(
        submission_id=submission_id,
        moderator_id=moderator,
        proposed_at=at,
        lapses_at=at + lapse,
        digest_seen=seen,
        reason_code=code,
        reason_digest=reason.digest,
        proposes=what,
    )
    session.add(proposal)
    session.flush()
    reason.proposal_id = proposal.id
    session.add(reason)
    session.flush()
    ledger.record_proposal(session, head, proposal)
    return ProposalId(proposal.id)


def written(submission_id: int, reason: str | None, told: str | None) -> ReasonRow | None:
    """Return the row of what a moderator wrote, or None if that is nothing. For the vault's own use."""
    if not reason and not told:
        return None
    salt = new_nonce()
    digest = salted({"reason": reason, "told": told}, salt)
    return ReasonRow(submission_id=submission_id, digest=digest, salt=salt, reason=reason, told=told)


def _empty(session: Session, submission_id: int) -> None:
    """Do the one change the triggers allow, and empty the free text that was written about the words."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.erase_words(submission_id)))
    else:
        session.execute(
            update(Submission).where(Submission.id == submission_id).values(nonce=None, author=None, body=None)
        )
    session.execute(
        update(ReasonRow).where(ReasonRow.submission_id == submission_id).values(salt=None, reason=None, told=None)
    )
    session.execute(update(AppealRow).where(AppealRow.submission_id == submission_id).values(words=None))
    session.expire_all()
