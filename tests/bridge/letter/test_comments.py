"""A letter on its reader's side: received, looked up, changed, taken back, and never twice under one key."""

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from ground.house import SLUG, House, site_over
from sqlalchemy import func, select

from bridge.essay import essays
from bridge.keys import new_secret
from bridge.letter import comments
from bridge.letter.comments import DecidedMeanwhile, Letter, Receipt, ReplyStatus
from bridge.mail import outbox
from bridge.queues import NoNudges
from bridge.records import Address, Comment, IdempotencyKey, Rendering, Reply, ReplyRequest, RequestState
from bridge.text import words
from moderation.base import now
from moderation.errors import NothingToAnswer
from moderation.queue import awaiting_review
from moderation.types import Kind, State

KEY = "kYv3-0sXq9_LmZ2pRt8WbA"
"""As the preview page makes them: 22 characters, 128 random bits."""


def waiting_bodies(house: House) -> list[str]:
    with house.site.database.reading_sessions() as session:
        return [each.body for each in awaiting_review(session)]


def status(house: House, public_id: str) -> ReplyStatus:
    return comments.held(house.site, public_id).reply_status


def test_puts_a_letter_before_the_gate_as_its_words_are_normalised(house: House) -> None:
    sent = house.send("  Cafe\u0301\r\nau lait\u200b ", author=" Zoe\u0308 ")
    with house.site.database.reading_sessions() as session:
        (waiting,) = awaiting_review(session)
    assert (waiting.kind, waiting.author, waiting.body) == (Kind.COMMENT, "Zoë", "Café\nau lait")
    assert waiting.digest == sent.digest


def test_keeps_the_rendering_beside_the_words(house: House) -> None:
    sent = house.send("*yes*")
    with house.site.database.reading_sessions() as session:
        kept = session.scalars(select(Rendering.html).where(Rendering.digest == sent.digest)).one()
    assert kept == "<p><em>yes</em></p>\n"


@pytest.mark.parametrize("name", ["Test Voice", "test vоice", "ADA", "Emeritus", "Ｅmeritus"])
def test_refuses_a_name_that_looks_like_somebody_of_the_house(house: House, name: str) -> None:
    with pytest.raises(words.NameTaken):
        house.send(author=name)
    assert waiting_bodies(house) == []


@pytest.mark.parametrize("slug", ["nowhere", "pending"])
def test_takes_no_letter_under_an_essay_that_is_not_released(house: House, slug: str) -> None:
    house.essay("pending", released=False)
    with pytest.raises(essays.NoSuchEssay):
        house.send(slug=slug)


def test_encrypts_an_address_and_refuses_what_cannot_be_one(house: House) -> None:
    house.send(email="reader@letters.example.org")
    with house.site.database.reading_sessions() as session:
        kept = session.scalars(select(Address.sealed)).one()
    assert kept is not None
    assert b"reader" not in kept
    with pytest.raises(comments.NotAnAddress):
        house.send(email="reader@")


def test_takes_a_letter_in_answer_to_a_released_reply_only(house: House) -> None:
    house.post()
    (reply,) = house.answer()
    with pytest.raises(comments.NothingToReplyTo):
        house.send("Not yet?", parent=reply)
    house.approve(reply)
    sent = house.send("Now?", parent=reply)
    with house.site.database.reading_sessions() as session:
        (waiting,) = awaiting_review(session)
    assert waiting.digest == sent.digest
    assert waiting.in_answer_to == house.digest(house.submission(reply))


def test_refuses_to_answer_a_reply_that_stands_under_another_essay(house: House) -> None:
    house.essay("another")
    _, reply = house.exchange()
    with pytest.raises(comments.NothingToReplyTo):
        house.send(slug="another", parent=reply)


def test_gives_the_same_receipt_for_the_same_key_and_letter_and_adds_nothing(house: House) -> None:
    letter = Letter("Reader", "Once.\r\n")
    first = comments.receive_comment(house.site, SLUG, letter, key=KEY)
    before = house.contents()
    assert comments.receive_comment(house.site, SLUG, Letter("Reader", "Once."), key=KEY) == first
    assert house.contents() == before


@pytest.mark.parametrize(
    "other",
    [
        Letter("Reader", "Twice."),
        Letter("Readers", "Once."),
        Letter("Reader", "Once.", wants_reply=False),
        Letter("Reader", "Once.", email="reader@letters.example.org"),
    ],
)
def test_refuses_another_letter_under_the_same_key(house: House, other: Letter) -> None:
    comments.receive_comment(house.site, SLUG, Letter("Reader", "Once."), key=KEY)
    with pytest.raises(comments.KeyUsedForOtherWords):
        comments.receive_comment(house.site, SLUG, other, key=KEY)
    assert waiting_bodies(house) == ["Once."]


def test_takes_the_same_key_from_two_authors_for_two_letters(house: House) -> None:
    mine, yours = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    for secret in (mine, yours, mine):
        comments.receive_comment(house.site, SLUG, Letter("Reader", "Once."), key="1", author_secret=secret)
    assert waiting_bodies(house) == ["Once.", "Once."]


@pytest.mark.parametrize("key", ["1", "a" * 64, "abcdef0123456789abcdef", "12345678901234567890123456789012", KEY[:21]])
def test_refuses_a_key_that_could_be_guessed_where_no_secret_comes_with_it(house: House, key: str) -> None:
    with pytest.raises(comments.KeyTooWeak):
        comments.receive_comment(house.site, SLUG, Letter("Reader", "Once."), key=key)
    assert waiting_bodies(house) == []


@pytest.mark.parametrize("key", [KEY, "8f14e45fceea167a5a36dedd4bea2543", "3f2b8c1e-7a90-4d6f-9b15-c0e84a7d2f36"])
def test_takes_a_key_of_128_bits_as_programs_write_them(house: House, key: str) -> None:
    comments.receive_comment(house.site, SLUG, Letter("Reader", "Once."), key=key)
    assert waiting_bodies(house) == ["Once."]


@pytest.mark.parametrize("secret", ["short", "é" * 40, "x" * 129])
def test_refuses_a_secret_that_is_none_of_ours(house: House, secret: str) -> None:
    with pytest.raises(comments.SecretRefused):
        comments.receive_comment(house.site, SLUG, Letter("Reader", "Once."), author_secret=secret)


def test_keeps_one_letter_of_twenty_that_come_at_once_with_one_key(any_house: House) -> None:
    together = Barrier(20)

    def send(_: int) -> comments.Receipt:
        together.wait()
        return comments.receive_comment(any_house.site, SLUG, Letter("Reader", "Once."), key=KEY)

    with ThreadPoolExecutor(20) as threads:
        receipts = set(threads.map(send, range(20)))
    assert len(receipts) == 1
    with any_house.site.database.reading_sessions() as session:
        for table in (Comment, IdempotencyKey):
            assert session.scalar(select(func.count()).select_from(table)) == 1
        assert len(awaiting_review(session)) == 1


def test_keeps_no_secret_and_no_key_in_the_database(house: House) -> None:
    sent = comments.receive_comment(house.site, SLUG, Letter("Reader", "Once."), key=KEY)
    kept = repr(house.contents())
    assert sent.author_secret not in kept
    assert KEY not in kept
    assert sent.token not in kept


def test_replaces_a_pending_letter_and_asks_the_desk_for_the_new_words_only(house: House) -> None:
    sent = house.send("Frist.")
    before = house.submission(sent.public_id)
    comments.change_comment(house.site, sent.public_id, Letter("Reader", "First.", wants_reply=False))
    assert house.state(before) is State.SUPERSEDED
    assert waiting_bodies(house) == ["First."]
    assert not comments.held(house.site, sent.public_id).wants_reply


def test_changes_a_letter_in_answer_to_a_reply_and_binds_it_to_that_again(house: House) -> None:
    _, reply = house.exchange()
    sent = house.send("Realy?", parent=reply)
    comments.change_comment(house.site, sent.public_id, Letter("Reader", "Really?"))
    with house.site.database.reading_sessions() as session:
        (waiting,) = awaiting_review(session)
    assert waiting.in_answer_to == house.digest(house.submission(reply))


def test_changes_no_letter_that_was_decided_on(house: House) -> None:
    sent = house.post("As it is.")
    with pytest.raises(DecidedMeanwhile):
        comments.change_comment(house.site, sent.public_id, Letter("Reader", "Otherwise."))
    assert waiting_bodies(house) == []


def test_changes_no_letter_that_was_taken_back(house: House) -> None:
    sent = house.send("As it is.")
    comments.take_back(house.site, sent.public_id)
    with pytest.raises(DecidedMeanwhile):
        comments.change_comment(house.site, sent.public_id, Letter("Reader", "Otherwise."))


def test_changes_no_letter_whose_answered_reply_is_gone(house: House) -> None:
    first, reply = house.exchange()
    sent = house.send("Really?", parent=reply)
    comments.take_back(house.site, first.public_id)
    with pytest.raises(NothingToAnswer):
        comments.change_comment(house.site, sent.public_id, Letter("Reader", "Truly?"))


def test_refuses_a_change_to_words_that_would_be_refused_at_first(house: House) -> None:
    sent = house.send("As it is.")
    with pytest.raises(words.TooLong):
        comments.change_comment(house.site, sent.public_id, Letter("Reader", "x" * 5001))
    assert waiting_bodies(house) == ["As it is."]


def test_takes_a_pending_letter_off_the_desk(house: House) -> None:
    sent = house.send()
    comments.take_back(house.site, sent.public_id)
    assert waiting_bodies(house) == []
    assert house.state(house.submission(sent.public_id)) is State.WITHDRAWN


def test_takes_a_posted_letter_back_with_its_reply(house: House) -> None:
    sent, reply = house.exchange()
    comments.take_back(house.site, sent.public_id)
    assert house.state(house.submission(sent.public_id)) is State.WITHDRAWN
    assert house.state(house.submission(reply)) is State.WITHDRAWN
    assert status(house, sent.public_id) is ReplyStatus.WITHDRAWN


def test_takes_a_letter_back_with_its_pending_reply(house: House) -> None:
    sent = house.post()
    house.answer("Too late.")
    comments.take_back(house.site, sent.public_id)
    assert waiting_bodies(house) == []


def test_leaves_a_veto_as_it_was_when_its_letter_is_taken_back(house: House) -> None:
    sent = house.post()
    (reply,) = house.answer()
    house.reject(reply)
    house.reject(reply, by=house.ben)
    comments.take_back(house.site, sent.public_id)
    assert house.state(house.submission(reply)) is State.REJECTED


def test_asks_no_longer_for_an_answer_to_a_letter_that_was_taken_back(house: House) -> None:
    sent = house.post()
    comments.take_back(house.site, sent.public_id)
    with house.site.database.reading_sessions() as session:
        assert session.scalars(select(ReplyRequest.state)).all() == [RequestState.WITHDRAWN]


def test_takes_a_letter_back_once_however_often_it_is_asked_to(house: House) -> None:
    sent, _ = house.exchange()
    comments.take_back(house.site, sent.public_id)
    before = house.contents()
    comments.take_back(house.site, sent.public_id)
    after = house.contents()
    # When the request was settled is written again, and says nothing new.
    assert {name: rows for name, rows in after.items() if name != "reply_requests"} == {
        name: rows for name, rows in before.items() if name != "reply_requests"
    }


def test_takes_back_a_letter_that_was_not_posted(house: House) -> None:
    sent = house.send()
    house.reject(sent.public_id, code="spam")
    comments.take_back(house.site, sent.public_id)
    assert house.state(house.submission(sent.public_id)) is State.WITHDRAWN


def test_tells_what_became_of_the_wish_for_an_answer(house: House) -> None:
    unwanted = house.post(wants_reply=False).public_id
    assert status(house, unwanted) is ReplyStatus.NONE
    sent = house.send().public_id
    assert status(house, sent) is ReplyStatus.NONE
    house.approve(sent)
    assert status(house, sent) is ReplyStatus.WAITING
    (reply,) = house.answer()
    assert status(house, sent) is ReplyStatus.WAITING
    house.approve(reply)
    assert status(house, sent) is ReplyStatus.RELEASED


def test_tells_of_a_veto_once_two_agreed(house: House) -> None:
    sent = house.post().public_id
    (reply,) = house.answer()
    house.reject(reply)
    assert status(house, sent) is ReplyStatus.WAITING
    house.reject(reply, by=house.ben)
    assert status(house, sent) is ReplyStatus.VETOED
    with house.site.database.reading_sessions() as session:
        assert session.scalar(select(func.count()).select_from(Reply)) == 1


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"content": [], "stop_reason": "end_turn"}, ReplyStatus.DECLINED),
        ({"content": [], "stop_reason": "refusal"}, ReplyStatus.WITHHELD),
        # Failed is for moderators: it may be asked again, so its reader still waits.
        ({"content": [], "stop_reason": "max_tokens"}, ReplyStatus.WAITING),
    ],
)
def test_tells_of_an_answer_that_never_came(house: House, message: dict[str, object], told: ReplyStatus) -> None:
    sent = house.post().public_id
    house.hear(message)
    assert status(house, sent) is told


def test_tells_of_a_letter_that_the_voice_did_not_choose(house: House) -> None:
    sent = house.post().public_id
    house.settle(sent, RequestState.NOT_CHOSEN)
    assert status(house, sent) is ReplyStatus.NOT_CHOSEN


def test_opens_a_letter_by_its_whole_link_only(house: House) -> None:
    sent = house.send()
    assert comments.opened_by(house.site, sent.token) == sent.public_id
    for broken in (sent.public_id, sent.token[:-1], sent.token.replace(".", ""), "", f"x{sent.token}"):
        with pytest.raises(comments.NoSuchComment):
            comments.opened_by(house.site, broken)
    with pytest.raises(comments.NoSuchComment):
        comments.opened_by(house.site, house.site.keys.signed("comment form", sent.public_id))


def test_takes_the_same_words_of_one_author_once_an_hour_where_a_form_sent_them(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(key: str, secret: str | None, body: str = "Once.") -> Receipt:
        return comments.receive_comment(
            house.site, SLUG, Letter("Reader", body), key=key, author_secret=secret, same_words_once=True
        )

    first = send(KEY, None)
    assert send(KEY[::-1], first.author_secret).public_id == first.public_id
    assert send(KEY[::-1], None).public_id != first.public_id, "somebody else may mean the same"
    assert send(KEY[1:] + "x", first.author_secret, "Twice.").public_id != first.public_id
    comments.take_back(house.site, first.public_id)
    again = send(KEY[2:] + "xy", first.author_secret)
    assert again.public_id != first.public_id, "what was taken back may be sent again"
    later = now() + timedelta(hours=1, seconds=1)
    monkeypatch.setattr(comments, "now", lambda: later)
    assert send(KEY[3:] + "xyz", first.author_secret).public_id != again.public_id


def test_leaves_nothing_waiting_of_a_letter_that_is_changed_and_taken_back_at_once(any_house: House) -> None:
    for _ in range(10):
        sent = any_house.send("As it was.")
        together = Barrier(2)

        def change(public_id: str = sent.public_id, together: Barrier = together) -> None:
            together.wait()
            with suppress(DecidedMeanwhile):
                comments.change_comment(any_house.site, public_id, Letter("Reader", "Otherwise."))

        def take_back(public_id: str = sent.public_id, together: Barrier = together) -> None:
            together.wait()
            comments.take_back(any_house.site, public_id)

        with ThreadPoolExecutor(2) as threads:
            for act in [threads.submit(change), threads.submit(take_back)]:
                act.result()
    assert waiting_bodies(any_house) == []


def sent_by(house: House, secret: str, body: str, **more: Any) -> Receipt:
    """Send a letter as a form does: with a key of its own, and the same words once."""
    letter = Letter("Reader", body, **more)
    return comments.receive_comment(
        house.site, SLUG, letter, key=new_secret(), author_secret=secret, same_words_once=True
    )


def test_loses_no_words_that_were_changed_and_sent_again(house: House) -> None:
    secret = new_secret()
    first = sent_by(house, secret, "First.")
    comments.change_comment(house.site, first.public_id, Letter("Reader", "Second."))
    again = sent_by(house, secret, "First.")
    assert again.public_id != first.public_id
    assert sorted(waiting_bodies(house)) == ["First.", "Second."]
    assert sent_by(house, secret, "Second.").public_id == first.public_id


def test_asks_an_address_that_came_when_the_same_words_were_sent_again(house: House) -> None:
    secret = new_secret()
    first = sent_by(house, secret, "Once.")
    assert sent_by(house, secret, "Once.", email="reader@letters.example").public_id == first.public_id
    assert waiting_bodies(house) == ["Once."]
    with house.site.database.reading_sessions() as session:
        assert session.scalars(select(Comment.address_id)).one() is not None


def test_nudges_for_the_question_once_it_is_committed(house: House, tmp_path: Path) -> None:
    unsent: list[int] = []

    class Noted(NoNudges):
        def nudge_outgoing(self) -> None:
            with house.site.database.reading_sessions() as session:
                unsent.append(outbox.counts(session)[outbox.OutgoingState.UNSENT])

    house.site = site_over(house.site.database, tmp_path, nudges=Noted())
    secret = new_secret()
    sent_by(house, secret, "Once.")
    assert unsent == []
    sent_by(house, secret, "Once.", email="reader@letters.example")
    assert unsent == [1]
    sent_by(house, secret, "Once.", email="reader@letters.example")
    sent_by(house, secret, "Another.", email="another@letters.example")
    assert unsent == [1, 2]


def test_takes_the_same_words_of_two_tabs_once(any_house: House) -> None:
    secret, begin = new_secret(), threading.Barrier(6)

    def send(_: int) -> str:
        begin.wait(30)
        return sent_by(any_house, secret, "Once, please.").public_id

    with ThreadPoolExecutor(6) as tabs:
        assert len(set(tabs.map(send, range(6)))) == 1
    assert waiting_bodies(any_house) == ["Once, please."]
