"""The append-only, hash-chained account of what was decided, proposed, withdrawn and erased."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVarTuple

import rfc8785
from sqlalchemy import Row, Select, insert, select, text, update
from sqlalchemy.orm import Session

from moderation.base import now
from moderation.digest import salted
from moderation.records import (
    Decision,
    Erasure,
    LedgerEntry,
    LedgerHead,
    ModeratorRow,
    OpenTakedown,
    ProposalRow,
    ReasonRow,
    Submission,
    Waiting,
    Withdrawal,
)
from moderation.types import AccessEvent, Digest, ModeratorId

BEGINNING = Digest("0" * 64)
"""What the first entry names as its predecessor."""
_Columns = TypeVarTuple("_Columns")
_NUMBERS = {
    "decision": ("submission", "moderator"),
    "proposal": ("submission", "moderator", "proposal"),
    "lapse": ("submission", "proposal"),
    "kept": ("submission", "moderator", "proposal"),
    "withdrawal": ("submission",),
    "erasure": ("submission",),
    "access": ("moderator",),
}
_HEAD_LOCK = 0x656D6572  # "emer": any constant, the same in every process.


@dataclass(frozen=True, slots=True)
class Entry:
    """One link of the chain; `entry` holds the canonical bytes that were hashed, as text."""

    number: int
    previous: Digest
    digest: Digest
    entry: str

    def facts(self) -> dict[str, Any]:
        """Return what it tells, by name, without its place in the chain; nothing if its bytes are not an entry's.

        What `_NUMBERS` lists for its type is there, a whole number; its time can be read, and no value is a container.
        """
        told = _told(self.entry) or {}
        try:
            numbers = [told[name] for name in _NUMBERS[str(told["type"])]]
            datetime.fromisoformat(str(told["at"]))
        except (KeyError, ValueError):
            return {}
        if not all(type(each) is int for each in numbers) or any(isinstance(v, list | dict) for v in told.values()):
            return {}
        return {name: value for name, value in told.items() if name not in {"number", "previous"}}


@dataclass(frozen=True, slots=True)
class Head:
    """The newest link; whoever holds it may append the next."""

    number: int
    digest: Digest


def take_head(session: Session) -> Head:
    """Lock the chain for this transaction and return its newest link.

    Taken before anything else is read, so that two verdicts on different submissions wait for each other
    instead of colliding. On SQLite the transaction itself is that lock (BEGIN IMMEDIATE).
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _HEAD_LOCK})
    newest = session.execute(
        select(LedgerEntry.number, LedgerEntry.digest).order_by(LedgerEntry.number.desc()).limit(1)
    ).first()
    return Head(newest.number, Digest(newest.digest)) if newest else Head(0, BEGINNING)


def append(session: Session, head: Head, what: str, at: datetime, **facts: str | int | None) -> Head:
    """Append one entry after *head* and return the new head. *facts* are ids, codes and digests, never free text."""
    number = head.number + 1
    told = {"number": number, "previous": head.digest, "type": what, "at": instant(at), **facts}
    entry = rfc8785.dumps(dict(told))
    digest = Digest(hashlib.sha256(entry).hexdigest())
    session.add(LedgerEntry(number=number, previous=head.digest, digest=digest, entry=entry.decode()))
    session.flush()
    moved = update(LedgerHead).values(number=number, digest=digest).returning(LedgerHead.id)
    if session.scalar(moved) is None:
        session.execute(insert(LedgerHead).values(id=1, number=number, digest=digest))
    return Head(number, digest)


def entries(session: Session, *, after: int = 0, limit: int = 100) -> list[Entry]:
    """Return up to *limit* entries with a number above *after*, oldest first."""
    rows = select(LedgerEntry).where(LedgerEntry.number > after).order_by(LedgerEntry.number).limit(limit)
    return [_entry(row) for row in session.scalars(rows)]


def newest(session: Session, *, before: int | None = None, limit: int = 100, what: str | None = None) -> list[Entry]:
    """Return up to *limit* entries with a number below *before*, newest first; only those of the type *what*, if given.

    They stand in the order in which things happened, so no other index is needed for what happened lately.
    """
    rows = select(LedgerEntry).order_by(LedgerEntry.number.desc()).limit(limit)
    if before is not None:
        rows = rows.where(LedgerEntry.number < before)
    if what is not None:
        rows = rows.where(LedgerEntry.entry.contains(f'"type":"{what}"', autoescape=True))
    return [_entry(row) for row in session.scalars(rows)]


def about(session: Session, submission_id: int) -> list[Entry]:
    """Return the entries that tell of one submission, oldest first. It reads the whole ledger, for one page."""
    # In the canonical form keys are sorted, so "type" at least follows, and the comma ends the number.
    rows = select(LedgerEntry).where(LedgerEntry.entry.contains(f'"submission":{submission_id},', autoescape=True))
    return [_entry(row) for row in session.scalars(rows.order_by(LedgerEntry.number))]


def digests(session: Session, numbers: Iterable[int]) -> dict[int, Digest]:
    """Return the digests of the entries among *numbers*; numbers that no entry has are absent."""
    found: dict[int, Digest] = {}
    wanted = sorted(set(numbers))
    for start in range(0, len(wanted), 500):
        rows = select(LedgerEntry.number, LedgerEntry.digest).where(LedgerEntry.number.in_(wanted[start : start + 500]))
        found |= {number: Digest(digest) for number, digest in session.execute(rows)}
    return found


def _entry(row: LedgerEntry) -> Entry:
    return Entry(row.number, Digest(row.previous), Digest(row.digest), row.entry)


def instant(at: datetime) -> str:
    """Return *at* as RFC 3339 in UTC with microseconds: what the ledger hashes and what a row must still say."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def record_decision(session: Session, head: Head, decision: Decision, submission: Submission) -> Head:
    """Append what a decision says, and on what."""
    return append(session, head, "decision", decision.decided_at, **_decision_facts(decision, submission))


def record_proposal(session: Session, head: Head, proposal: ProposalRow) -> Head:
    """Append what a veto proposal says."""
    return append(session, head, "proposal", proposal.proposed_at, **_proposal_facts(proposal))


def record_kept(session: Session, head: Head, proposal_id: int, submission_id: int, moderator: int) -> Head:
    """Append that a second moderator, or the proposer, would not take released words down."""
    return append(session, head, "kept", now(), proposal=proposal_id, submission=submission_id, moderator=moderator)


def record_access(
    session: Session, what: AccessEvent, *, moderator: ModeratorId, by: ModeratorId | None = None
) -> None:
    """Append a sign-in of consequence, or a change of what *moderator*'s account may do, and who made it if another.

    Takes the head itself. Such an entry has no row: the chain alone holds it.
    """
    append(session, take_head(session), "access", now(), event=what.value, moderator=moderator, by=by)


def record_lapse(session: Session, head: Head, proposal_id: int, submission_id: int) -> Head:
    """Append that a proposal lapsed without a second moderator."""
    return append(session, head, "lapse", now(), proposal=proposal_id, submission=submission_id)


def record_withdrawal(session: Session, head: Head, withdrawal: Withdrawal, submission: Submission) -> Head:
    """Append that words were taken back, which, and by whom."""
    return append(session, head, "withdrawal", withdrawal.withdrawn_at, **_withdrawal_facts(withdrawal, submission))


def record_erasure(session: Session, head: Head, erasure: Erasure) -> Head:
    """Append that the words of a withdrawn submission were erased."""
    return append(session, head, "erasure", erasure.erased_at, submission=erasure.submission_id)


def _submission_facts(row: Submission) -> dict[str, str | int | None]:
    # The digest binds kind and in_answer_to only while the words are there; nothing else binds the other two.
    return {
        "submission": row.id,
        "digest": row.digest,
        "kind": row.kind,
        "in_answer_to": row.in_answer_to,
        "supersedes": row.supersedes,
        "submitted_at": instant(row.submitted_at),
    }


def _decision_facts(row: Decision, submission: Submission) -> dict[str, str | int | None]:
    return {
        **_submission_facts(submission),
        "digest_seen": row.digest_seen,
        "verdict": row.verdict,
        "moderator": row.moderator_id,
        "code": row.reason_code,
        "reason_digest": row.reason_digest,
        "proposal": row.proposal_id,
    }


def _proposal_facts(row: ProposalRow) -> dict[str, str | int | None]:
    return {
        # Absent from the entries of before there was anything else to propose.
        **({"proposes": row.proposes} if row.proposes != "veto" else {}),
        "proposal": row.id,
        "submission": row.submission_id,
        "digest_seen": row.digest_seen,
        "moderator": row.moderator_id,
        "code": row.reason_code,
        "reason_digest": row.reason_digest,
        "lapses_at": instant(row.lapses_at),
    }


def _withdrawal_facts(row: Withdrawal, submission: Submission) -> dict[str, str | int | None]:
    # Only a taking down has reasons: an author gives none.
    why: dict[str, str | int | None] = {
        "code": row.reason_code,
        "reason_digest": row.reason_digest,
        "proposal": row.proposal_id,
    }
    return {
        **_submission_facts(submission),
        "by": row.taken_back_by,
        "moderator": row.moderator_id,
        **{name: value for name, value in why.items() if value is not None},
    }


@dataclass(frozen=True, slots=True)
class Broken:
    """The first thing that does not hold, in words."""

    where: str
    what: str


def verify(session: Session) -> tuple[int, Broken | None]:
    """Recompute the chain, every digest, and every row's entry; return how many entries hold and the first break.

    A tail that was cut together with its rows, and a chain that was rewritten together with them, only a checkpoint
    shows that was kept elsewhere.

    Words that nobody has decided on or taken back yet have no entry: of them, only digest and place are checked.
    """
    holding = 0
    for holding, broken in _chain(session):
        if broken:
            return holding, broken
    for found in (_words(session), _places(session), _rows(session), _reasons(session)):
        broken = next(found, None)
        if broken:
            return holding, broken
    return holding, None


def _chain(session: Session) -> Iterator[tuple[int, Broken | None]]:
    previous, holding = BEGINNING, 0
    for number, (row,) in enumerate(_each(session, select(LedgerEntry).order_by(LedgerEntry.number)), start=1):
        where = f"ledger entry {row.number}"
        if row.number != number:
            yield number - 1, Broken(f"ledger entry {number}", "is missing")
            return
        if hashlib.sha256(row.entry.encode()).hexdigest() != row.digest:
            yield number - 1, Broken(where, "was changed: its bytes do not hash to its digest")
            return
        told = _told(row.entry)
        if told is None:
            yield number - 1, Broken(where, "is not in canonical form")
            return
        if row.previous != previous or told.get("previous") != previous or told.get("number") != number:
            yield number - 1, Broken(where, "does not follow the entry before it")
            return
        previous = Digest(row.digest)
        holding = number
        yield number, None
    kept = session.execute(select(LedgerHead.number, LedgerHead.digest)).first()
    if (kept.number, kept.digest) != (holding, previous) if kept else holding:
        told_of = kept.number if kept else 0
        what = "was added by hand" if holding > told_of else "is not the newest: its end was cut off or replaced"
        yield holding, Broken(f"ledger entry {holding}", what)


def _each(session: Session, query: Select[*_Columns]) -> Iterator[Row[*_Columns]]:
    """Yield what *query* finds, a thousand at a time; PostgreSQL's cursor is closed even if the rest is not wanted."""
    with closing(session.execute(query.execution_options(yield_per=1000))) as found:
        yield from found


def _told(entry: str) -> dict[str, object] | None:
    """Return the facts of *entry*, or None if these are not the RFC 8785 bytes of any."""
    try:
        facts = json.loads(entry)
        canonical = rfc8785.dumps(facts) == entry.encode()
    except (ValueError, RecursionError):  # What rfc8785 raises is a ValueError too.
        return None
    return facts if canonical and isinstance(facts, dict) else None


def _words(session: Session) -> Iterator[Broken]:
    erased = set(session.scalars(select(Erasure.submission_id)))
    for (row,) in _each(session, select(Submission).order_by(Submission.id)):
        where = f"submission {row.id}"
        recomputed = row.recomputed()
        if recomputed is None and row.id not in erased:
            yield Broken(where, "has lost its words without an erasure on record")
        if row.id in erased and not row.nonce is row.author is row.body is None:
            yield Broken(where, "holds words again after their erasure")
        if recomputed is not None and recomputed != row.digest:
            yield Broken(where, "holds words that are not those of its digest")


def _places(session: Session) -> Iterator[Broken]:
    """Hold each submission to one place: it waits, or it was decided, superseded or withdrawn."""
    kept = set(session.scalars(select(Submission.id)))
    waiting = set(session.scalars(select(Waiting.submission_id)))
    settled = {
        *session.scalars(select(Decision.submission_id)),
        *session.scalars(select(Withdrawal.submission_id)),
        *(older for older in session.scalars(select(Submission.supersedes)) if older is not None),
    }
    for gone in sorted((waiting | settled) - kept):
        yield Broken(f"submission {gone}", "is gone")
    for both in sorted(waiting & settled):
        yield Broken(f"submission {both}", "still waits, though it was decided, superseded or withdrawn")
    for neither in sorted(kept - waiting - settled):
        yield Broken(f"submission {neither}", "neither waits nor was decided, superseded or withdrawn")


def _rows(session: Session) -> Iterator[Broken]:
    """Hold each decision, proposal, withdrawal and erasure against its entry, and each entry against its row."""
    told: dict[tuple[str, str], list[dict[str, object]]] = {}
    people = {*session.scalars(select(ModeratorRow.id)), None}
    for entry in session.scalars(select(LedgerEntry.entry).order_by(LedgerEntry.number)):
        fields: dict[str, object] = json.loads(entry)
        what = str(fields.pop("type", None))
        if what == "access":  # It tells of no submission and has no row.
            who = {fields.get("moderator"), fields.get("by")}
            if fields.get("event") not in set(AccessEvent) or fields.get("moderator") is None or not who <= people:
                yield Broken(f"ledger entry {fields.get('number')}", "tells of nothing that can have happened")
            continue
        about = fields.get("proposal" if what in {"proposal", "lapse", "kept"} else "submission")
        told.setdefault((what, str(about)), []).append(fields)
    proposals = {row.id: row for row in session.scalars(select(ProposalRow))}
    for (what, about), facts in _kept(session, proposals.values()):
        found = told.pop((what, about), [])
        if len(found) != 1:
            yield Broken(f"{what} {about}", f"has {len(found)} ledger entries" if found else "has no ledger entry")
        elif {name: value for name, value in found[0].items() if name not in {"number", "previous"}} != facts:
            yield Broken(f"{what} {about}", f"is not what ledger entry {found[0]['number']} says")
    ends = {("lapse", str(row.id)): row for row in proposals.values()}
    ends |= {("kept", str(row.id)): row for row in proposals.values() if row.proposes == "withdrawal"}
    for (what, about), lost in told.items():
        # How a proposal ended without a decision is an entry without a row: its proposal tells the rest.
        if len(lost) != 1 or (what, about) not in ends or lost[0].get("submission") != ends[what, about].submission_id:
            yield Broken(f"ledger entry {lost[-1]['number']}", f"tells of {what} {about}, which is gone")
        elif what == "kept" and lost[0].get("moderator") not in people - {None}:
            yield Broken(f"ledger entry {lost[0]['number']}", "names a moderator who is not there")
    yield from _ends(session, proposals.values(), [ends[found].id for found in told if found in ends])


def _ends(session: Session, proposals: Iterable[ProposalRow], without_row: list[int]) -> Iterator[Broken]:
    """Hold each proposal to one end, or to none while it is open; *without_row* are those that lapsed or were kept."""
    ended: Counter[int | None] = Counter(without_row)
    for column in (Decision.proposal_id, Withdrawal.proposal_id):
        ended.update(session.scalars(select(column).where(column.is_not(None))))
    waiting = select(Waiting.proposal_id).where(Waiting.proposal_id.is_not(None))
    still_open = {*session.scalars(waiting), *session.scalars(select(OpenTakedown.proposal_id))}
    proposed = {row.submission_id for row in proposals}
    gone = set(session.scalars(select(Withdrawal.submission_id))) & proposed
    for row in proposals:
        if ended[row.id] > 1:
            yield Broken(f"proposal {row.id}", "ended more than once")
        elif ended[row.id] and row.id in still_open:
            yield Broken(f"proposal {row.id}", "is open, though it ended")
        elif not ended[row.id] and row.id not in still_open and row.submission_id not in gone:
            yield Broken(f"proposal {row.id}", "is not open, and nothing tells how it ended")


def _reasons(session: Session) -> Iterator[Broken]:
    """Hold what was written about words against the digests that stand on record; erased reasons have no words."""
    wanted: dict[str, tuple[str, int, int | None]] = {}
    for what, key, submission, column in (
        ("decision", Decision.submission_id, Decision.submission_id, Decision.reason_digest),
        ("proposal", ProposalRow.id, ProposalRow.submission_id, ProposalRow.reason_digest),
        ("withdrawal", Withdrawal.submission_id, Withdrawal.submission_id, Withdrawal.reason_digest),
    ):
        rows = session.execute(select(key, submission, column).where(column.is_not(None)).order_by(key))
        for number, of, digest in rows:
            wanted[str(digest)] = (f"{what} {number}", of, number if what == "proposal" else None)
    erased = set(session.scalars(select(Erasure.submission_id)))
    for (row,) in _each(session, select(ReasonRow).order_by(ReasonRow.id)):
        found = wanted.pop(row.digest, None)
        if found is None:
            yield Broken(f"reason {row.id}", "belongs to nothing on record")
            continue
        about, *place = found
        if [row.submission_id, row.proposal_id] != place:
            yield Broken(f"the reason of {about}", "was hung elsewhere")
        elif row.submission_id in erased:
            if not row.salt is row.reason is row.told is None:
                yield Broken(f"the reason of {about}", "holds words again after their erasure")
        elif row.salt is None:
            yield Broken(f"the reason of {about}", "has lost its words without an erasure on record")
        elif _salted(row) != row.digest:
            yield Broken(f"the reason of {about}", "holds words that are not those of its digest")
    for about, *_ in wanted.values():
        yield Broken(f"the reason of {about}", "is gone")


def _salted(row: ReasonRow) -> Digest | None:
    try:
        return salted({"reason": row.reason, "told": row.told}, row.salt or "")
    except ValueError:  # The salt is no hex any more.
        return None


def _kept(
    session: Session, proposals: Iterable[ProposalRow]
) -> Iterator[tuple[tuple[str, str], dict[str, str | int | None]]]:
    """Yield what the entry of each row must say, by the entry's type and the row's key."""
    decisions = select(Decision, Submission).join(Submission, Submission.id == Decision.submission_id)
    for decision, submission in _each(session, decisions):
        facts = _decision_facts(decision, submission)
        yield ("decision", str(submission.id)), {"at": instant(decision.decided_at), **facts}
    for proposal in proposals:
        yield ("proposal", str(proposal.id)), {"at": instant(proposal.proposed_at), **_proposal_facts(proposal)}
    withdrawals = select(Withdrawal, Submission).join(Submission, Submission.id == Withdrawal.submission_id)
    for withdrawal, submission in _each(session, withdrawals):
        facts = _withdrawal_facts(withdrawal, submission)
        yield ("withdrawal", str(submission.id)), {"at": instant(withdrawal.withdrawn_at), **facts}
    for erasure in session.scalars(select(Erasure)):
        about = erasure.submission_id
        yield ("erasure", str(about)), {"at": instant(erasure.erased_at), "submission": about}
