"""Letters, verdicts and calls in whatever order: no answer to a letter that was taken back is ever out (section 8).

A sitting is taken apart into its transactions, claim, call and record, and anything may happen between two of them.
"""

import itertools
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from ground.house import MODEL, SLUG, House, sent
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
from sqlalchemy import func, select, update

from bridge.answer import replies
from bridge.desk import reviews, takedowns
from bridge.letter import comments, erasure
from bridge.letter.comments import CommentRefused, Letter
from bridge.records import Comment, Essay, Reply, ReplyRequest, RequestState
from bridge.voice import model
from moderation import ledger
from moderation.base import Base
from moderation.errors import Refused
from moderation.release import released, standing
from moderation.types import Digest

ANSWER = {"content": [{"type": "text", "text": "I do not."}], "stop_reason": "end_turn"}
WHOLE = {"type": "message", "id": "msg_1", "model": MODEL, "usage": {"input_tokens": 7, "output_tokens": 2}}
ORIGIN = model.Origin("model.example", "0", "2023-06-01", False)
REASON = "It would tell a reader where a private person lives."
MODERATORS = Base.metadata.tables["moderators"]


class Interleavings(RuleBasedStateMachine):
    """Readers, two moderators and two workers at one essay."""

    letters = Bundle("letters")

    def __init__(self, house: House, number: int) -> None:
        super().__init__()
        self.house, self.number = house, number
        self.taken_back: set[str] = set()
        self.sittings: list[Any] = []
        self.calls: list[tuple[Any, Any, int]] = []
        with house.site.database.sessions.begin() as session:
            session.execute(update(MODERATORS).where(MODERATORS.c.id == house.ada).values(role="admin"))
            # What the run before left is not this one's to be asked.
            ended = {"state": RequestState.WITHDRAWN.value, "lease": None, "leased_until": None}
            session.execute(update(ReplyRequest).values(ended))
            self.before = session.scalar(select(func.max(Comment.id))) or 0

    @initialize(target=letters)
    def begin(self) -> object:
        """Begin with an answer that is out, one that waits, and one that is on its way, or most runs reach none."""
        out, waits, comes = (self.house.post(f"Is this {each} of {self.number}?").public_id for each in "abc")
        self._begin_sitting()
        for nth in range(3):
            self.call(nth)
        for _ in range(2):
            self.record(0)
        with self.house.site.database.reading_sessions() as session:
            answer = session.scalars(
                select(Reply.public_id).join(Comment, Comment.id == Reply.comment_id).where(Comment.public_id == out)
            ).one()
        self.house.approve(answer)
        return multiple(out, waits, comes)

    @rule(target=letters, posted=st.booleans())
    def send(self, posted: bool) -> str:
        sent = self.house.send(f"Do you dream, {self.number}?")
        if posted:
            self.house.approve(sent.public_id)
        return sent.public_id

    @rule(letter=letters)
    def change(self, letter: str) -> None:
        with suppress(CommentRefused):
            comments.change_comment(self.house.site, letter, Letter("Reader", "Do you sleep?"))

    @rule(letter=letters)
    def take_back(self, letter: str) -> None:
        comments.take_back(self.house.site, letter)
        self.taken_back.add(letter)

    @rule(letter=letters)
    def erase(self, letter: str) -> None:
        erasure.erase_comment(self.house.site, letter)
        self.taken_back.add(letter)

    @rule(letter=letters)
    def take_down(self, letter: str) -> None:
        seen, of = self._seen(letter)
        with suppress(Refused):
            takedowns.take_down(
                self.house.site,
                of,
                moderator=self.house.ada,
                seen=seen,
                code="other",
                reason="Asked to.",
                by="operator",
            )

    @rule(letter=letters, stale=st.booleans())
    def approve(self, letter: str, stale: bool) -> None:
        """Approve a letter, or try to with what was on the screen before its author changed it."""
        seen, of = self._seen(letter)
        if stale:
            comments_changed = suppress(CommentRefused)
            with comments_changed:
                comments.change_comment(self.house.site, letter, Letter("Reader", "Do you sleep?"))
        with suppress(Refused):
            reviews.approve(self.house.site, of, moderator=self.house.ada, seen=seen)

    @rule(approves=st.booleans(), by_ada=st.booleans())
    def decide_on_every_answer(self, approves: bool, by_ada: bool) -> None:
        who = self.house.ada if by_ada else self.house.ben
        with self.house.site.database.reading_sessions() as session:
            made = session.scalars(select(Reply.submission_id).where(Reply.comment_id > self.before)).all()
            seen = {each: how.digest for each, how in standing(session, made).items()}
        act: Callable[[int], object] = (
            (lambda of: reviews.approve(self.house.site, of, moderator=who, seen=seen[of]))
            if approves
            else (
                lambda of: reviews.reject(
                    self.house.site, of, moderator=who, seen=seen[of], code="personal_data", reason=REASON
                )
            )
        )
        for of in made:
            with suppress(Refused):
                act(of)

    @rule()
    def begin_sitting(self) -> None:
        self._begin_sitting()

    def _begin_sitting(self) -> None:
        with self.house.site.database.sessions.begin() as session:
            essay = session.scalars(select(Essay).where(Essay.slug == SLUG)).one()
            sitting = replies.begin_sitting(session, essay.id)
        if sitting is not None:
            self.sittings.append(sitting)

    @rule()
    def lose_the_claims(self) -> None:
        """Let every lease run out, as when a worker hangs; its sitting may still come back with an answer."""
        with self.house.site.database.sessions.begin() as session:
            session.execute(update(ReplyRequest).where(ReplyRequest.lease.is_not(None)).values(leased_until=0.0))
            replies.forget_lost_claims(session)

    @rule(nth=st.integers(0, 20))
    def call(self, nth: int) -> None:
        claims = [(sitting, claimed) for sitting in self.sittings for claimed in sitting.claimed]
        if not claims:
            return
        sitting, claimed = claims[nth % len(claims)]
        with self.house.site.database.sessions.begin() as session:
            call = replies.begin_generation(
                session, sitting, claimed, sent(sitting, claimed, self.house.site.keys), ORIGIN, self.house.site.keys
            )
        if call is not None:
            self.calls.append((sitting, claimed, call))

    @rule(nth=st.integers(0, 20))
    def record(self, nth: int) -> None:
        if not self.calls:
            return
        sitting, claimed, call = self.calls.pop(nth % len(self.calls))
        said = model.read(WHOLE | ANSWER, asked=MODEL, request_id="req_1", rehearsed=False)
        with self.house.site.database.sessions.begin() as session:
            replies.record_answer(session, sitting, claimed, call, said, final=True)

    @invariant()
    def no_answer_is_out_to_a_letter_that_was_taken_back(self) -> None:
        with self.house.site.database.reading_sessions() as session:
            pairs = session.execute(
                select(Comment.public_id, Comment.submission_id, Reply.submission_id)
                .join(Reply, Reply.comment_id == Comment.id)
                .where(Comment.id > self.before)
            ).all()
            out = released(session, itertools.chain.from_iterable(row[1:] for row in pairs))
        for public_id, comment, reply in pairs:
            if public_id in self.taken_back:
                assert comment not in out
                assert reply not in out

    @invariant()
    def each_letter_has_one_answer_at_most(self) -> None:
        with self.house.site.database.reading_sessions() as session:
            most = session.scalars(select(func.count()).select_from(Reply).group_by(Reply.comment_id)).all()
        assert set(most) <= {1}

    def teardown(self) -> None:
        with self.house.site.database.reading_sessions() as session:
            assert ledger.verify(session)[1] is None

    def _seen(self, letter: str) -> tuple[Digest, int]:
        of = self.house.submission(letter)
        return self.house.digest(of), of


@pytest.mark.slow
def test_lets_no_answer_out_to_a_letter_that_was_taken_back(house: House) -> None:
    runs = itertools.count()
    run_state_machine_as_test(
        lambda: Interleavings(house, next(runs)),  # type: ignore[arg-type]  # Anything that makes one will do.
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
            phases=[Phase.generate, Phase.shrink],
        ),
    )
