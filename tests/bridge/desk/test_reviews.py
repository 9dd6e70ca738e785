"""The desk's acts on the site's side, and what stands beside a submission there."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from ground.house import ESSAY, MODEL, REASON, SLUG, House, site_over
from sqlalchemy import select

from bridge.desk import reviews
from bridge.desk.reviews import Wanted
from bridge.letter import comments
from bridge.letter.comments import Letter
from bridge.records import Essay, ReplyRequest, RequestState
from moderation.errors import AlreadyDecided, NoLongerPending, NotTheWordsStored, Refused
from moderation.ledger import entries
from moderation.types import Digest, Kind, Rejection, State, Tray


class Noted:
    """Nudges that remember what they were told, and whether the request was to be seen by then."""

    def __init__(self) -> None:
        self.house: House | None = None
        self.told: list[tuple[int, list[str]]] = []

    def nudge(self, essay_id: int) -> None:
        assert self.house is not None
        with self.house.site.database.reading_sessions() as session:
            self.told.append((essay_id, list(session.scalars(select(ReplyRequest.state)))))

    def nudge_outgoing(self) -> None:
        """No mail is a review's affair."""

    def nudge_screening(self, submission_id: int) -> None:
        """No service either."""

    def nudge_looking_again(self, after: int) -> None:
        """Nor is a list of words."""

    def nudge_batch(self, batch_id: int) -> None:
        """Nor is what was sent away."""

    def nudge_pages(self, essay_id: int) -> None:
        """Nor are pages."""

    def nudge_mention(self, mention_id: int) -> None:
        """Nor are links."""


@pytest.fixture
def noted(house: House, tmp_path: Path) -> Noted:
    noted = Noted()
    house.site = site_over(house.site.database, tmp_path, nudges=noted)
    noted.house = house
    return noted


def test_puts_an_approved_letter_to_the_voice_and_nudges_after_the_commit(house: House, noted: Noted) -> None:
    house.post()
    with house.site.database.reading_sessions() as session:
        essay = session.scalars(select(Essay.id).where(Essay.slug == SLUG)).one()
    assert noted.told == [(essay, [RequestState.WAITING])]


def test_puts_nothing_to_the_voice_that_wants_no_answer(house: House, noted: Noted) -> None:
    house.post(wants_reply=False)
    assert noted.told == []


def test_nudges_nobody_for_a_reply_or_an_essay_that_is_approved(house: House, noted: Noted) -> None:
    house.exchange()
    house.essay("another")
    assert len(noted.told) == 1


def test_asks_for_nothing_when_the_words_seen_are_not_the_words_stored(house: House, noted: Noted) -> None:
    sent = house.send()
    submission = house.submission(sent.public_id)
    with pytest.raises(NotTheWordsStored) as refused:
        reviews.approve(house.site, submission, moderator=house.ada, seen=Digest("0" * 64))
    assert refused.value.stored == sent.digest
    assert noted.told == []
    assert house.state(submission) is State.PENDING


def test_approves_no_words_that_their_author_has_replaced(house: House) -> None:
    sent = house.send("Frist.")
    before, seen = house.submission(sent.public_id), sent.digest
    comments.change_comment(house.site, sent.public_id, Letter("Reader", "First."))
    with pytest.raises(NoLongerPending):
        reviews.approve(house.site, before, moderator=house.ada, seen=seen)
    assert house.state(house.submission(sent.public_id)) is State.PENDING


def test_takes_one_moderator_to_veto_where_the_quorum_is_one(house: House, tmp_path: Path) -> None:
    house.site = site_over(house.site.database, tmp_path, veto_quorum=1)
    house.post()
    (reply,) = house.answer()
    assert house.reject(reply) is Rejection.DECIDED


def test_shows_a_letter_under_its_essay(house: House) -> None:
    house.send("Do you dream?")
    with house.site.database.reading_sessions() as session:
        (context,) = reviews.waiting(session)
    assert context.essay.slug == SLUG
    assert context.essay_words is not None
    assert context.essay_words.body == ESSAY
    assert context.answers is None
    assert context.comment is not None


def test_shows_a_reply_beside_its_letter_and_its_call(house: House) -> None:
    house.post("Do you dream?")
    house.answer("I do not.", note="A kind reader.")
    with house.site.database.reading_sessions() as session:
        (context,) = reviews.waiting(session)
    assert context.answers is not None
    assert context.answers.body == "Do you dream?"
    assert context.generation is not None
    assert (context.generation.model_answered, context.generation.note) == (MODEL, "A kind reader.")


def test_shows_every_note_of_the_calls_for_a_letter_oldest_first(house: House) -> None:
    house.post("Do you wake?")
    house.answer("I do.", note="Of another letter.")
    letter = house.post("Do you dream?")
    noted = {"type": "tool_use", "id": "n", "name": "note_to_moderators", "input": {"note": "A kind reader."}}
    house.hear({"content": [noted], "stop_reason": "tool_use"}, final=False)
    house.settle(letter.public_id, RequestState.WAITING)
    house.answer("I do not.", note="And a patient one.")
    with house.site.database.reading_sessions() as session:
        _, context = reviews.waiting(session)
    assert context.notes == ["A kind reader.", "And a patient one."]


def test_shows_a_letter_beside_the_reply_that_it_answers(house: House) -> None:
    _, reply = house.exchange(answer="I do not.")
    house.send("Really?", parent=reply)
    with house.site.database.reading_sessions() as session:
        (context,) = reviews.waiting(session)
    assert context.answers is not None
    assert (context.answers.kind, context.answers.body) == (Kind.REPLY, "I do not.")


def test_shows_a_pending_essay_by_itself(house: House) -> None:
    house.essay("pending", released=False)
    with house.site.database.reading_sessions() as session:
        (context,) = reviews.waiting(session)
    assert (context.essay.slug, context.essay_words, context.comment) == ("pending", None, None)


def test_names_who_proposed_a_veto(house: House) -> None:
    house.post()
    (reply,) = house.answer()
    house.reject(reply)
    with house.site.database.reading_sessions() as session:
        (context,) = reviews.waiting(session)
    assert context.proposer is not None
    assert context.proposer.name == "Ada"
    assert context.pending.proposal is not None
    assert context.pending.proposal.reason == REASON


def test_lists_what_waits_by_kind_essay_and_tray(house: House) -> None:
    house.essay("another")
    house.post("One.")
    house.answer("Two.")
    house.send("Three.", slug="another")
    house.essay("pending", released=False)

    def bodies(after: int = 0, limit: int = 100, **asked: object) -> list[str]:
        wanted = Wanted(**asked)  # type: ignore[arg-type]
        with house.site.database.reading_sessions() as session:
            return [each.pending.body for each in reviews.waiting(session, wanted, after=after, limit=limit)]

    assert bodies(kind=Kind.REPLY) == ["Two."]
    assert bodies(kind=Kind.COMMENT) == ["Three."]
    assert bodies(essay=SLUG) == ["Two."]
    assert bodies(essay="another") == ["Three."]
    assert bodies(essay="nowhere") == []
    assert bodies(tray=Tray.LIKELY_SPAM) == []
    assert bodies(limit=1) == ["Two."]
    assert bodies(after=house.submission(house.send("Four.").public_id)) == []


def test_knows_no_context_of_what_awaits_no_verdict(house: House) -> None:
    sent = house.post()
    with house.site.database.reading_sessions() as session:
        assert reviews.one(session, house.submission(sent.public_id)) is None
        assert reviews.one(session, 10**6) is None


@pytest.mark.parametrize("proposed", [True, False])
def test_settles_approval_against_veto_with_one_decision(any_house: House, proposed: bool) -> None:
    any_house.post()
    (reply,) = any_house.answer()
    if proposed:
        any_house.reject(reply)
    submission = any_house.submission(reply)
    seen = any_house.digest(submission)
    together = Barrier(8)

    def decide(number: int) -> str:
        together.wait()
        try:
            if number % 2:
                reviews.approve(any_house.site, submission, moderator=any_house.ben, seen=seen)
                return "approved"
            came_to = reviews.reject(
                any_house.site, submission, moderator=any_house.ben, seen=seen, code="harm", reason=REASON
            )
        except AlreadyDecided as refused:
            return f"told that {refused.moderator} decided"
        except Refused as refused:
            return type(refused).__name__
        return came_to.value

    with ThreadPoolExecutor(8) as threads:
        came_to = list(threads.map(decide, range(8)))
    decided = [each for each in came_to if each in {"approved", "decided"}]
    assert len(decided) == 1
    others = {each for each in came_to if each not in {"approved", "decided"}}
    # Without a proposal before, Ben's first rejection is one, which he alone cannot confirm.
    assert others <= {"told that Ben decided"} | (set() if proposed else {"proposed", "SecondModeratorNeeded"})
    with any_house.site.database.reading_sessions() as session:
        told = [entry.entry for entry in entries(session, limit=1000)]
    assert sum('"type":"decision"' in entry and f'"submission":{submission},' in entry for entry in told) == 1
