"""Taking posted words down, on the site's side: what goes along, what stays, what ends."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, Event

import pytest
from ground.house import REASON, SLUG, House
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from bridge.desk import takedowns
from bridge.essay import essays, thread
from bridge.letter import comments, reports
from bridge.letter.comments import ReplyStatus
from bridge.records import Comment, Essay, Generation, ReplyRequest, RequestState
from moderation import ledger
from moderation.base import Base
from moderation.errors import AdminNeeded, NoOpenProposal, NoSuchSubmission, NotReleased, NotTheWordsStored, Refused
from moderation.types import Digest, ModeratorId, Rejection, State

MODERATORS = Base.metadata.tables["moderators"]


@pytest.fixture(autouse=True)
def _an_admin(request: pytest.FixtureRequest) -> None:
    """Ada is an admin; Ben is not."""
    name = "any_house" if "any_house" in request.fixturenames else "house"
    house: House = request.getfixturevalue(name)
    with house.site.database.sessions.begin() as session:
        session.execute(update(MODERATORS).where(MODERATORS.c.id == house.ada).values(role="admin"))


def take_down(
    house: House,
    submission_id: int,
    *,
    moderator: ModeratorId | None = None,
    code: str = "personal_data",
    reason: str | None = REASON,
    by: str = "operator",
) -> Rejection:
    return takedowns.take_down(
        house.site,
        submission_id,
        moderator=moderator or house.ada,
        seen=house.digest(submission_id),
        code=code,
        reason=reason,
        by=by,
    )


def request(house: House, public_id: str) -> str:
    with house.site.database.reading_sessions() as session:
        comment = session.scalars(select(Comment.id).where(Comment.public_id == public_id)).one()
        return session.get_one(ReplyRequest, comment).state


def conversation(house: House) -> list[thread.PostedComment]:
    with house.site.database.reading_sessions() as session:
        return thread.conversation(session, session.scalars(select(Essay.id).where(Essay.slug == SLUG)).one())


def test_leaves_a_tombstone_with_the_codes_meaning_and_the_answer_where_it_was(any_house: House) -> None:
    sent, reply = any_house.exchange()
    assert take_down(any_house, any_house.submission(sent.public_id)) is Rejection.DECIDED
    (posted,) = conversation(any_house)
    assert posted.words is None
    assert posted.gone is not None
    assert (posted.gone.by, posted.gone.meaning) == ("operator", "Private facts about a person")
    assert posted.reply is not None
    assert posted.reply.public_id == reply
    assert request(any_house, sent.public_id) == RequestState.ANSWERED
    with any_house.site.database.reading_sessions() as session:
        assert thread.posted_reply(session, reply)[1].words is None
        with pytest.raises(thread.TakenBack, match="taken down"):
            thread.posted_comment(session, sent.public_id)
        assert ledger.verify(session)[1] is None


def test_ends_the_request_of_a_letter_that_still_waits_for_its_answer(house: House) -> None:
    for state in (RequestState.WAITING, RequestState.ASKING, RequestState.FAILED):
        sent = house.post()
        house.settle(sent.public_id, state)
        take_down(house, house.submission(sent.public_id))
        assert request(house, sent.public_id) == RequestState.WITHDRAWN
    declined = house.post()
    house.settle(declined.public_id, RequestState.DECLINED)
    take_down(house, house.submission(declined.public_id))
    assert request(house, declined.public_id) == RequestState.DECLINED


def test_lets_a_pending_answer_to_it_be_posted_still(house: House) -> None:
    sent = house.post()
    (reply,) = house.answer("I do not.")
    take_down(house, house.submission(sent.public_id))
    house.approve(reply)
    (posted,) = conversation(house)
    assert posted.words is None
    assert posted.reply is not None


def test_leaves_a_refused_request_as_it_was(house: House) -> None:
    sent = house.post()
    before = house.contents()
    submission = house.submission(sent.public_id)
    with pytest.raises(AdminNeeded):
        take_down(house, submission, moderator=house.ben)
    with pytest.raises(NotTheWordsStored):
        takedowns.take_down(
            house.site, submission, moderator=house.ada, seen=Digest("0" * 64), code="spam", reason=None, by="operator"
        )
    assert house.contents() == before


def test_takes_a_models_words_down_by_two(house: House) -> None:
    sent, reply = house.exchange()
    submission = house.submission(reply)
    assert take_down(house, submission) is Rejection.PROPOSED
    assert comments.held(house.site, sent.public_id).reply_status is ReplyStatus.RELEASED
    assert take_down(house, submission, moderator=house.ben, reason=None) is Rejection.DECIDED
    (posted,) = conversation(house)
    assert posted.words is not None
    assert posted.reply is None
    assert posted.reply_gone is not None
    assert posted.reply_gone.meaning == "Private facts about a person"
    held = comments.held(house.site, sent.public_id)
    assert held.reply_status is ReplyStatus.WITHDRAWN
    assert held.reply is not None
    assert held.reply.withdrawal_code == "personal_data"


def test_keeps_words_that_a_second_moderator_would_keep(house: House) -> None:
    _, reply = house.exchange()
    submission = house.submission(reply)
    take_down(house, submission)
    with house.site.database.reading_sessions() as session:
        shown = takedowns.posted(session, submission)
    assert shown.proposal is not None
    assert shown.proposer is not None
    assert (shown.proposer.name, shown.proposal.reason) == ("Ada", REASON)
    takedowns.keep(house.site, submission, moderator=house.ben)
    assert house.state(submission) is State.APPROVED
    with pytest.raises(NoOpenProposal):
        takedowns.keep(house.site, submission, moderator=house.ben)


def test_takes_an_essay_down_with_all_that_stands_under_it(house: House) -> None:
    sent, reply = house.exchange()
    with house.site.database.reading_sessions() as session:
        submission = session.scalars(select(Essay.submission_id).where(Essay.slug == SLUG)).one()
    take_down(house, submission, code="unlawful", by="law")
    take_down(house, submission, moderator=house.ben, code="unlawful", by="law")
    with house.site.database.reading_sessions() as session:
        with pytest.raises(essays.EssayGone) as gone:
            essays.published(session, SLUG)
        assert (gone.value.gone.by, gone.value.gone.meaning) == ("law", "Unlawful to publish")
        assert essays.all_published(session) == []
        for address in (thread.posted_comment, thread.posted_reply):
            with pytest.raises(essays.EssayGone):
                address(session, sent.public_id if address is thread.posted_comment else reply)
    with pytest.raises(essays.EssayGone):
        house.send()
    assert comments.held(house.site, sent.public_id).essay is None


def test_closes_the_reports_of_what_is_taken_down(house: House) -> None:
    sent, reply = house.exchange()
    about = reports.receive_report(house.site, sent.public_id, "abuse", None)
    other = reports.receive_report(house.site, reply, "harm", None)
    take_down(house, house.submission(reply))
    assert reports.made(house.site, other).report.outcome is None, "it is only proposed"
    take_down(house, house.submission(sent.public_id))
    assert reports.made(house.site, about).report.outcome == "taken_down"
    assert reports.made(house.site, about).report.moderator_id == house.ada
    assert reports.made(house.site, other).report.outcome is None


def test_shows_posted_words_in_their_context_and_nothing_else(house: House) -> None:
    sent, reply = house.exchange("Do you dream?", "I do not.")
    later = house.post("Really?", parent=reply)
    reports.receive_report(house.site, sent.public_id, "abuse", "Rude.")
    waiting = house.submission(house.send().public_id)
    with house.site.database.reading_sessions() as session:
        letter = takedowns.posted(session, house.submission(sent.public_id))
        answer = takedowns.posted(session, house.submission(reply))
        below = takedowns.posted(session, house.submission(later.public_id))
        assert letter.reply is not None
        assert letter.essay is not None
        assert (letter.reply.body, letter.answers, letter.essay.title) == ("I do not.", None, "On rest")
        assert [each.words for each in letter.reports] == ["Rude."]
        assert answer.answers is not None
        assert below.answers is not None
        assert (answer.answers.body, answer.reply, below.answers.body) == ("Do you dream?", None, "I do not.")
        with pytest.raises(NotReleased):
            takedowns.posted(session, waiting)
        with pytest.raises(NoSuchSubmission):
            takedowns.posted(session, 9999)


def test_ends_in_one_way_when_its_author_takes_it_back_meanwhile(any_house: House) -> None:
    for _ in range(8):
        sent = any_house.post()
        submission = any_house.submission(sent.public_id)
        together = Barrier(2)

        def down(submission: int = submission, together: Barrier = together) -> None:
            seen = any_house.digest(submission)
            together.wait()
            with suppress(Refused):
                takedowns.take_down(
                    any_house.site,
                    submission,
                    moderator=any_house.ada,
                    seen=seen,
                    code="spam",
                    reason="x",
                    by="operator",
                )

        def back(public_id: str = sent.public_id, together: Barrier = together) -> None:
            together.wait()
            comments.take_back(any_house.site, public_id)

        with ThreadPoolExecutor(2) as threads:
            for act in [threads.submit(down), threads.submit(back)]:
                act.result()
        assert any_house.state(submission) is State.WITHDRAWN
        assert request(any_house, sent.public_id) == RequestState.WITHDRAWN
    with any_house.site.database.reading_sessions() as session:
        assert ledger.verify(session)[1] is None


def test_waits_for_an_answer_that_is_just_being_recorded(any_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever records holds the request and needs the comment for its row; PostgreSQL would end one of the two."""
    sent = any_house.post()
    (to_wait_for,) = any_house.answer()
    assert to_wait_for
    submission_id = any_house.submission(sent.public_id)
    waits, may_go_on = Event(), takedowns.replies.no_longer_asked

    def no_longer_asked(session: Session, comment_id: int) -> None:
        waits.set()
        may_go_on(session, comment_id)

    monkeypatch.setattr(takedowns.replies, "no_longer_asked", no_longer_asked)
    with any_house.site.database.reading_sessions() as session:
        comment_id = session.scalars(select(Comment.id).where(Comment.public_id == sent.public_id)).one()
        call = session.scalars(select(Generation).where(Generation.comment_id == comment_id)).one()
        again = {each.key: getattr(call, each.key) for each in Generation.__table__.columns if each.key != "id"}
    with ThreadPoolExecutor(1) as thread:
        with any_house.site.database.sessions.begin() as session:
            session.get(ReplyRequest, comment_id, with_for_update=True)
            acting = thread.submit(take_down, any_house, submission_id)
            if session.get_bind().dialect.name == "postgresql":
                assert waits.wait(30)  # SQLite's one writer does not let it begin.
            session.execute(insert(Generation).values(again))
        assert acting.result(30) is Rejection.DECIDED
