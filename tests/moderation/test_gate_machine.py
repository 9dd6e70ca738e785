"""A state machine against the gate: whatever happens in whatever order, no unapproved or altered word comes out.

The model is as plain as it can be: for each submission, the words that went in and a word for how they stand.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from ground.vault import LONG, Vault, at_once
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, text
from sqlalchemy.exc import DatabaseError

from bridge.db import Database
from moderation import appeals, gate, holds, moderators, queue, release, takedowns
from moderation.errors import (
    AdminNeeded,
    AlreadyDecided,
    AnotherModeratorNeeded,
    CannotAppeal,
    NoLongerPending,
    NoOpenProposal,
    NothingToAnswer,
    NotReleased,
    NotTheWordsStored,
    Refused,
    SecondModeratorNeeded,
)
from moderation.records import Submission
from moderation.types import Digest, Kind, Rejection, State, SubmissionId

WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
MODERATORS = st.integers(0, 2)
ADMIN = 3


@dataclass
class Known:
    """What the model knows of one submission."""

    kind: Kind
    author: str
    body: str
    state: State = State.PENDING
    proposer: int | None = None
    supersedes: SubmissionId | None = None
    erased: bool = False
    to: SubmissionId | None = None
    taken_back_by: str | None = None
    rejected_by: int | None = None
    takedown: int | None = None
    """Who proposes to take it down."""
    appealed: bool = False
    holder: int | None = None


class Gate(RuleBasedStateMachine):
    """Random sequences of what authors, moderators, the law and a vandal with raw SQL may do."""

    submissions = Bundle("submissions")

    def __init__(self, vault: Vault) -> None:
        super().__init__()
        self.vault = vault
        with vault.database.sessions.begin() as session:
            vault.people.append(moderators.add(session, f"Admin of {vault.essay}", "admin"))
        self.known = {vault.essay: Known(Kind.ESSAY, "Understudy", "# On rest\n\nI rest.", State.APPROVED)}

    @initialize(target=submissions)
    def begin(self) -> object:
        """Begin where something has happened already, or most runs would end before anything does."""
        waiting, first, second = (self._submit(Kind.COMMENT, "Reader", body, self.vault.essay) for body in "abc")
        self.known |= {
            it: Known(Kind.COMMENT, "Reader", body, to=self.vault.essay)
            for it, body in zip((waiting, first, second), "abc", strict=True)
        }
        for it in (first, second):
            self.vault.approve(it)
            self.known[it].state = State.APPROVED
        answer, out = (self._submit(Kind.REPLY, "Understudy", body, to) for body, to in (("d", first), ("e", second)))
        self.known |= {
            it: Known(Kind.REPLY, "Understudy", body, to=to)
            for it, body, to in ((answer, "d", first), (out, "e", second))
        }
        self.vault.approve(out)
        self.known[out].state = State.APPROVED
        refused = self._submit(Kind.COMMENT, "Reader", "f", self.vault.essay)
        self.vault.reject(refused)
        self.known[refused] = Known(Kind.COMMENT, "Reader", "f", State.REJECTED, to=self.vault.essay, rejected_by=0)
        return multiple(self.vault.essay, waiting, first, second, answer, out, refused)

    @rule(
        target=submissions,
        to=submissions,
        kind=st.sampled_from([Kind.COMMENT, Kind.COMMENT, Kind.REPLY]),
        author=WORDS,
        body=WORDS,
    )
    def submit(self, to: SubmissionId, kind: Kind, author: str, body: str) -> SubmissionId:
        answered = self.known[to]
        fits = (answered.kind is Kind.COMMENT) == (kind is Kind.REPLY)
        try:
            new = self._submit(kind, author, body, to)
        except NothingToAnswer:
            assert answered.state is not State.APPROVED or not fits
            return to
        assert answered.state is State.APPROVED
        assert fits
        self.known[new] = Known(kind, author, body, to=to)
        return new

    @rule(target=submissions, old=submissions, body=WORDS)
    def supersede(self, old: SubmissionId, body: str) -> SubmissionId:
        was = self.known[old]
        if was.kind is not Kind.COMMENT:
            return old
        try:
            new = self._submit(Kind.COMMENT, was.author, body, self.vault.essay, supersedes=old)
        except CannotAppeal:
            assert was.appealed
            return old
        except Refused as refusal:
            self._refused_rightly(old, refusal)
            return old
        assert was.state is State.PENDING
        was.state = State.SUPERSEDED
        self.known[new] = Known(Kind.COMMENT, was.author, body, supersedes=old, to=self.vault.essay)
        return new

    @rule(target=submissions, old=submissions)
    def appeal(self, old: SubmissionId) -> SubmissionId:
        was = self.known[old]
        again = any(known.supersedes == old for known in self.known.values())
        try:
            with self.vault.database.sessions.begin() as session:
                new = appeals.appeal(session, old, words="Read it again.", essay=self.vault.essay)
        except NothingToAnswer:
            assert was.to is not None
            assert self.known[was.to].state is not State.APPROVED
            return old
        except CannotAppeal:
            assert was.kind is not Kind.COMMENT or was.state is not State.REJECTED or again or was.appealed
            return old
        assert was.state is State.REJECTED
        assert not again
        assert not was.appealed
        self.known[new] = Known(
            Kind.COMMENT, was.author, was.body, supersedes=old, to=was.to, appealed=True, rejected_by=was.rejected_by
        )
        return new

    @rule(it=submissions, by=MODERATORS)
    def hold(self, it: SubmissionId, by: int) -> None:
        try:
            with self.vault.database.sessions.begin() as session:
                holds.hold(session, it, moderator=self.vault.people[by])
        except Refused as refusal:
            self._refused_rightly(it, refusal)
        else:
            assert self.known[it].state is State.PENDING
            self.known[it].holder = by

    @rule(it=submissions, by=st.integers(0, 3))
    def take_down(self, it: SubmissionId, by: int) -> None:
        was, seen = self.known[it], self.vault.digest(it)
        if it == self.vault.essay:
            return
        try:
            with self.vault.database.sessions.begin() as session:
                came_to = takedowns.take_down(
                    session, it, moderator=self.vault.people[by], seen=seen, code="personal_data", reason=LONG
                )
        except NotReleased:
            assert was.state is not State.APPROVED
        except AdminNeeded:
            assert was.takedown is None
            assert by != ADMIN
        except SecondModeratorNeeded:
            assert was.takedown == by
        else:
            assert was.state is State.APPROVED
            if was.kind is Kind.COMMENT or was.takedown is not None:
                assert came_to is Rejection.DECIDED
                was.state, was.taken_back_by, was.takedown = State.WITHDRAWN, "operator", None
            else:
                assert came_to is Rejection.PROPOSED
                assert by == ADMIN
                was.takedown = by

    @rule(it=submissions, by=MODERATORS)
    def keep(self, it: SubmissionId, by: int) -> None:
        try:
            with self.vault.database.sessions.begin() as session:
                takedowns.keep(session, it, moderator=self.vault.people[by])
        except NoOpenProposal:
            assert self.known[it].takedown is None
        else:
            assert self.known[it].takedown is not None
            self.known[it].takedown = None

    @rule(target=submissions, body=WORDS)
    def submit_essay(self, body: str) -> SubmissionId:
        with self.vault.database.sessions.begin() as session:
            new = gate.submit(session, Kind.ESSAY, author="Understudy", body=body)
        self.known[new] = Known(Kind.ESSAY, "Understudy", body)
        return new

    @rule(it=submissions, by=MODERATORS)
    def approve(self, it: SubmissionId, by: int) -> None:
        try:
            self.vault.approve(it, by=by)
        except NothingToAnswer:
            comment = self.known[it].to
            assert comment is not None
            assert self.known[comment].state is State.WITHDRAWN
            assert self.known[comment].taken_back_by == "author"
        except AnotherModeratorNeeded:
            assert self._rejected_it_before(it, by)
        except Refused as refusal:
            self._refused_rightly(it, refusal)
        else:
            assert self.known[it].state is State.PENDING
            self.known[it].state = State.APPROVED

    @rule(it=submissions, other=submissions, by=MODERATORS, approves=st.booleans())
    def decide_on_other_words(self, it: SubmissionId, other: SubmissionId, by: int, approves: bool) -> None:
        """Carry the digest of another submission, or of none, as a stale form would."""
        seen = self.vault.digest(other) if other != it else Digest("f" * 64)
        with pytest.raises(Refused) as refusal:
            self.vault.approve(it, by=by, seen=seen) if approves else self.vault.reject(it, by=by, seen=seen)
        if self.known[it].state is State.PENDING:
            assert type(refusal.value) is NotTheWordsStored
        else:
            self._refused_rightly(it, refusal.value)

    @rule(it=submissions, by=MODERATORS)
    def reject(self, it: SubmissionId, by: int) -> None:
        was = self.known[it]
        try:
            came_to = self.vault.reject(it, by=by)
        except SecondModeratorNeeded:
            assert (was.state, was.proposer) == (State.PENDING, by)
        except AnotherModeratorNeeded:
            assert self._rejected_it_before(it, by)
        except Refused as refusal:
            self._refused_rightly(it, refusal)
        else:
            assert was.state is State.PENDING
            self._rejected(was, by, came_to)

    @rule(it=submissions, first=MODERATORS, second=MODERATORS, how=st.sampled_from(["approve", "reject", "supersede"]))
    def race(self, it: SubmissionId, first: int, second: int, how: str) -> None:
        """Let one moderator approve while another acts, or the author changes the words."""
        was, seen = self.known[it], self.vault.digest(it)
        rivals: dict[str, Callable[[], object]] = {
            "approve": lambda: self.vault.approve(it, by=second, seen=seen),
            "reject": lambda: self.vault.reject(it, by=second, seen=seen),
            "supersede": lambda: self._submit(Kind.COMMENT, was.author, "Better.", self.vault.essay, supersedes=it),
        }
        if was.appealed or was.kind is Kind.REPLY:
            return  # Who may decide on these, and when, is the other rules' matter.
        if how == "supersede" and was.kind is not Kind.COMMENT:
            how = "approve"
        approved, rival = at_once(lambda: self.vault.approve(it, by=first, seen=seen), rivals[how])
        if was.state is not State.PENDING:
            for refusal in (approved, rival):
                assert isinstance(refusal, Refused)
                self._refused_rightly(it, refusal)
            return
        won = [outcome for outcome in (approved, rival) if not isinstance(outcome, Refused)]
        if rival is Rejection.PROPOSED:
            won.remove(rival)  # Before the approval, which overruled or took back.
        assert len(won) == 1 or (isinstance(rival, SecondModeratorNeeded) and approved is None)
        if approved is None or how == "approve":
            was.state = State.APPROVED
        elif how == "reject":
            was.state, was.rejected_by = State.REJECTED, second
        else:
            was.state = State.SUPERSEDED
            assert isinstance(rival, int)
            self.known[SubmissionId(rival)] = Known(
                Kind.COMMENT, was.author, "Better.", supersedes=it, to=self.vault.essay
            )

    @rule(it=submissions, by=st.sampled_from(["author", "operator", "law"]))
    def withdraw(self, it: SubmissionId, by: str) -> None:
        was = self.known[it]
        if it == self.vault.essay:
            return
        self.vault.withdraw(it, by=by)
        if was.state is not State.WITHDRAWN:
            was.state, was.taken_back_by, was.takedown = State.WITHDRAWN, by, None

    @rule(it=submissions)
    def erase(self, it: SubmissionId) -> None:
        was: Known | None = self.known[it]
        try:
            self.vault.erase(it)
        except Refused:
            assert self.known[it].state is not State.WITHDRAWN
            return
        assert self.known[it].state is State.WITHDRAWN
        while was is not None:
            was.erased, was.state = True, State.WITHDRAWN
            was.taken_back_by = was.taken_back_by or "author"
            was = self.known[was.supersedes] if was.supersedes else None

    @rule(it=submissions, column=st.sampled_from(["author", "body", "nonce", "digest", "kind"]))
    def forge(self, it: SubmissionId, column: str) -> None:
        with self.vault.database.sessions() as session, pytest.raises(DatabaseError):
            session.execute(text(f"UPDATE submissions SET {column} = 'reply' WHERE id = {it}"))

    @rule(it=submissions)
    def forget(self, it: SubmissionId) -> None:
        with self.vault.database.sessions() as session, pytest.raises(DatabaseError):
            session.execute(text(f"DELETE FROM decisions WHERE submission_id = {it}"))

    @invariant()
    def only_approved_words_are_out(self) -> None:
        out = self.vault.released(*self.known)
        assert set(out) == {it for it, known in self.known.items() if known.state is State.APPROVED}
        for it, shown in out.items():
            known = self.known[SubmissionId(it)]
            assert (shown.kind, shown.author, shown.body) == (known.kind, known.author, known.body)

    @invariant()
    def the_desk_has_all_that_is_pending(self) -> None:
        with self.vault.database.reading_sessions() as session:
            waiting = queue.awaiting_review(session, after=self.vault.essay - 1, limit=1000)
            found = release.standing(session, self.known)
            stored = {
                row.id: row for row in session.scalars(select(Submission).where(Submission.id.in_([*self.known])))
            }
        pending = {it for it, known in self.known.items() if known.state is State.PENDING}
        assert {each.id for each in waiting} == pending
        for each in waiting:
            known = self.known[each.id]
            assert (each.author, each.body) == (known.author, known.body)
            assert (each.held.moderator if each.held else None) == (
                self.vault.people[known.holder] if known.holder is not None else None
            )
            if known.proposer is not None:
                assert each.proposal is not None
                assert each.proposal.moderator == self.vault.people[known.proposer]
        for it, known in self.known.items():
            assert found[it].state is known.state
            words = (None, None) if known.erased else (known.author, known.body)
            assert (stored[it].author, stored[it].body) == words

    def teardown(self) -> None:
        assert self.vault.verify() is None

    def _submit(
        self, kind: Kind, author: str, body: str, to: SubmissionId, *, supersedes: SubmissionId | None = None
    ) -> SubmissionId:
        with self.vault.database.sessions.begin() as session:
            return gate.submit(
                session,
                kind,
                author=author,
                body=body,
                in_answer_to=to,
                essay=self.vault.essay,
                supersedes=supersedes,
            )

    def _rejected(self, was: Known, by: int, came_to: object) -> None:
        if was.kind is Kind.COMMENT or was.proposer is not None:
            assert came_to is Rejection.DECIDED
            was.state, was.rejected_by = State.REJECTED, by
        else:
            assert came_to is Rejection.PROPOSED
            was.proposer = by

    def _rejected_it_before(self, it: SubmissionId, by: int) -> bool:
        return self.known[it].appealed and self.known[it].rejected_by == by

    def _refused_rightly(self, it: SubmissionId, refusal: Refused) -> None:
        state = self.known[it].state
        if isinstance(refusal, NoLongerPending):
            assert refusal.state is state
        else:
            assert isinstance(refusal, AlreadyDecided)
            assert state in {State.APPROVED, State.REJECTED}


@pytest.mark.slow
def test_lets_nothing_out_but_approved_words_as_they_were_written(database: Database) -> None:
    # A vault for each run, in one database: ids go on counting, and a run looks at its own only.
    vaults = (Vault(database, people=f"{number}-") for number in range(10_000))
    run_state_machine_as_test(
        lambda: Gate(next(vaults)),  # type: ignore[arg-type]  # Anything that makes one will do.
        settings=settings(
            max_examples=25,
            stateful_step_count=50,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
            phases=[Phase.generate, Phase.shrink],
        ),
    )
