"""What an author is told of an answer that is not there yet: true, kind, and nothing of money."""

from datetime import UTC, datetime, timedelta

import pytest
from flask.testing import FlaskClient
from ground.called import choose, picks, refuse, send_away
from ground.house import SLUG, VOICE, House, text
from sqlalchemy import select, update

from bridge.answer import calls, replies
from bridge.answer.awaiting import Stage
from bridge.letter import comments
from bridge.records import Comment, Essay, ReplyRequest, Voice
from bridge.voice import budgets
from bridge.voice.budgets import Bounds, BudgetSpent
from bridge.voice.model import PassingTrouble, RequestRefused
from moderation import gate
from moderation.base import now


def stage(house: House, public_id: str) -> Stage:
    return comments.held(house.site, public_id).awaited.stage


def put_off(house: House, seconds: float) -> datetime:
    until = now() + timedelta(seconds=seconds)
    with house.site.database.sessions.begin() as session:
        session.execute(
            update(ReplyRequest).values(not_before=until.timestamp(), why="The day's budget is spent; $3 were it.")
        )
    return until


def test_follows_a_letter_from_its_posting_to_its_answer(house: House) -> None:
    sent = house.send()
    assert stage(house, sent.public_id) is Stage.WAITING
    house.approve(sent.public_id)
    assert stage(house, sent.public_id) is Stage.WAITING
    with house.site.database.sessions.begin() as session:
        sitting = replies.begin_sitting(session, session.scalars(select(Essay.id)).one())
    assert sitting is not None
    assert stage(house, sent.public_id) is Stage.ASKED
    with house.site.database.sessions.begin() as session:
        replies.wait_again(session, sitting, sitting.claimed[0], None)
    house.answer()
    assert stage(house, sent.public_id) is Stage.OVER


def test_knows_a_letter_that_wants_no_answer(house: House, client: FlaskClient) -> None:
    sent = house.send(wants_reply=False)
    assert stage(house, sent.public_id) is Stage.UNWANTED
    assert f"{VOICE} is asked" not in text(client.get(f"/letters/{sent.token}"))


def test_says_until_when_a_letter_may_wait_without_a_word_of_money(house: House, client: FlaskClient) -> None:
    sent = house.post()
    put_off(house, 120)
    assert stage(house, sent.public_id) is Stage.WAITING
    until = put_off(house, 7200)
    assert stage(house, sent.public_id) is Stage.LATER
    page = text(client.get(f"/letters/{sent.token}"))
    told = until.astimezone(UTC)
    assert "It answers in its own time. For now it has answered as much as it may" in page
    assert f"until {told.day} {told:%B %Y, %H:%M} UTC or a little longer" in page
    for hidden in ("budget", "$", "cost", "limit"):
        assert hidden not in page


def test_names_no_day_where_only_an_admin_can_make_room(house: House, client: FlaskClient) -> None:
    sent = house.post()
    with house.site.database.sessions.begin() as session:
        voice = session.scalars(select(Voice)).one()
        budgets.set_bounds(session, voice, Bounds(replies_a_day=0))
        sitting = replies.begin_sitting(session, session.scalars(select(Essay.id)).one())
        assert sitting is not None
        with pytest.raises(BudgetSpent) as refused:
            budgets.reserve(session, voice, {"max_tokens": 1}, comment_id=1, at=budgets.clock(session))
        replies.wait_again(session, sitting, sitting.claimed[0], refused.value.why, until=refused.value.until)
    assert stage(house, sent.public_id) is Stage.WAITING
    assert "until" not in text(client.get(f"/letters/{sent.token}"))
    with house.site.database.reading_sessions() as session:
        assert calls.of_letter(session, house.submission(sent.public_id)).waits_until is None
    # An admin makes room, and it is asked.
    with house.site.database.sessions.begin() as session:
        assert budgets.set_bounds(session, session.scalars(select(Voice)).one(), Bounds(replies_a_day=1)) == [1]
    assert len(house.answer()) == 1


@pytest.mark.parametrize(("seconds", "asked"), [(None, False), (900, False), (-900, True)])
def test_says_that_a_voice_is_not_asked_while_it_is_paused(
    house: House, client: FlaskClient, seconds: float | None, asked: bool
) -> None:
    sent = house.post()
    with house.site.database.sessions.begin() as session:
        until = now().timestamp() + seconds if seconds is not None else None
        session.execute(
            update(Voice).values(paused_at=now(), paused_why="Billing needs attention.", paused_until=until)
        )
    page = text(client.get(f"/letters/{sent.token}"))
    assert ("It is not being asked just now. Your letter keeps its place." in page) is not asked
    assert "Billing" not in page


def test_says_that_a_letter_is_away_in_a_batch(house: House, client: FlaskClient) -> None:
    sent = house.post()
    send_away(house)
    assert stage(house, sent.public_id) is Stage.IN_A_BATCH
    assert "up to a day" in text(client.get(f"/letters/{sent.token}"))


def test_says_that_asking_failed_and_nothing_of_why(house: House, client: FlaskClient) -> None:
    sent = house.post()
    refuse(house, RequestRefused("The API refused our request: tokens"))
    assert stage(house, sent.public_id) is Stage.FAILED
    page = text(client.get(f"/letters/{sent.token}"))
    assert f"Asking {VOICE} did not work this time" in page
    assert "it may be asked again" in page
    assert "refused our request" not in page
    assert comments.held(house.site, sent.public_id).reply_status.value == "waiting"


def test_tells_of_trouble_that_passes_as_of_waiting(house: House) -> None:
    sent = house.post()
    refuse(house, PassingTrouble("The API is failing."), wait=8)
    assert stage(house, sent.public_id) is Stage.WAITING


def test_says_that_a_voice_picks_and_that_it_picked_this_letter(house: House, client: FlaskClient) -> None:
    picks(house)
    picked, other = house.post("Do you dream?"), house.post("Do you sleep?")
    assert "chooses the letters it answers" in text(client.get(f"/letters/{picked.token}"))
    choose(house, [picked.public_id])
    assert "It was shown what waited and chose your letter." in text(client.get(f"/letters/{picked.token}"))
    page = text(client.get(f"/letters/{other.token}"))
    assert f"{VOICE} was shown what waited and chose other letters this time" in page
    assert comments.held(house.site, other.public_id).reply_status.value == "not_chosen"


def test_says_that_a_conversation_went_too_deep(house: House, client: FlaskClient) -> None:
    _, reply = house.exchange()
    with house.site.database.sessions.begin() as session:
        session.execute(update(Voice).values(depth=1))
    sent = house.send("And then?", parent=reply)
    assert stage(house, sent.public_id) is Stage.TOO_DEEP
    deep = f"{VOICE} does not answer this far down a conversation"
    assert deep in text(client.get(f"/letters/{sent.token}"))
    house.approve(sent.public_id)
    assert stage(house, sent.public_id) is Stage.TOO_DEEP
    page = text(client.get(f"/letters/{sent.token}"))
    assert deep in page
    assert "You asked for no answer" not in page
    # A voice that answers further down later does not make this letter one that waits.
    with house.site.database.sessions.begin() as session:
        session.execute(update(Voice).values(depth=10))
    assert stage(house, sent.public_id) is Stage.TOO_DEEP
    assert comments.held(house.site, sent.public_id).reply_status.value == "none"


def test_says_that_nothing_is_asked_about_an_essay_that_is_gone(house: House, client: FlaskClient) -> None:
    sent = house.post()
    with house.site.database.sessions.begin() as session:
        essay = session.scalars(select(Essay).where(Essay.slug == SLUG)).one()
        gate.withdraw(session, essay.submission_id, by="operator")
        assert replies.begin_sitting(session, essay.id) is None
        comment = session.scalars(select(Comment).where(Comment.public_id == sent.public_id)).one()
        assert session.get_one(ReplyRequest, comment.id).state == "withdrawn"
    assert stage(house, sent.public_id) is Stage.NO_LONGER
    page = text(client.get(f"/letters/{sent.token}"))
    assert f"{VOICE} is no longer asked" in page
    assert "Its answer is no longer posted" not in page
