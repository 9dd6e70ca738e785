"""An author's appeal, on the site's side: the comment is from then on what becomes of it."""

import pytest
from ground.house import House
from sqlalchemy import select

from bridge.letter import appeals, comments
from bridge.letter.comments import Letter, ReplyStatus
from bridge.records import Rendering
from bridge.text import words
from moderation.errors import AnotherModeratorNeeded, CannotAppeal
from moderation.queue import awaiting_review
from moderation.types import State

SAID = "It is about the essay: I quote its second line."


def rejected(house: House, **more: str) -> str:
    sent = house.send("Is this rest?", **more)
    house.reject(sent.public_id, code="off_topic", told="Please write about the essay.", reason=None)
    return sent.public_id


def test_puts_the_same_words_before_another_person_with_what_their_author_says(any_house: House) -> None:
    letter = rejected(any_house)
    first = any_house.submission(letter)
    appeals.appeal(any_house.site, letter, f" {SAID}\r\n")
    again = any_house.submission(letter)
    assert again != first
    with any_house.site.database.reading_sessions() as session:
        (waiting,) = awaiting_review(session)
        assert waiting.id == again
        assert waiting.body == "Is this rest?"
        assert waiting.appealed is not None
        assert (waiting.appealed.words, waiting.appealed.rejected) == (SAID, first)
        assert session.scalar(select(Rendering.html).where(Rendering.digest == waiting.digest))
    held = comments.held(any_house.site, letter)
    assert held.standing.state is State.PENDING
    assert held.appealed == waiting.appealed
    assert (held.may_appeal, held.appeal_until) == (False, None)


def test_is_not_decided_by_who_rejected_it(house: House) -> None:
    letter = rejected(house)
    appeals.appeal(house.site, letter, SAID)
    with pytest.raises(AnotherModeratorNeeded):
        house.approve(letter)
    house.approve(letter, by=house.ben)
    held = comments.held(house.site, letter)
    assert held.standing.state is State.APPROVED
    assert held.reply_status is ReplyStatus.WAITING
    assert held.appealed is not None
    assert (held.appealed.code, held.appealed.told) == ("off_topic", "Please write about the essay.")
    (reply,) = house.answer("It is.")
    house.approve(reply)
    assert comments.held(house.site, letter).reply_status is ReplyStatus.RELEASED


def test_is_final_when_rejected_again(house: House) -> None:
    letter = rejected(house)
    appeals.appeal(house.site, letter, SAID)
    house.reject(letter, by=house.ben, code="spam", told="No.", reason=None)
    held = comments.held(house.site, letter)
    assert (held.standing.state, held.standing.reason_code, held.may_appeal) == (State.REJECTED, "spam", False)
    assert held.words is not None
    assert held.words.body == "Is this rest?"
    before = house.contents()
    appeals.appeal(house.site, letter, SAID)  # The same form, sent again.
    with pytest.raises(CannotAppeal, match="it was made"):
        appeals.appeal(house.site, letter, "And again.")
    assert house.contents() == before


def test_shows_an_author_their_own_words_after_a_rejection_until_they_take_them_back(house: House) -> None:
    letter = rejected(house)
    held = comments.held(house.site, letter)
    assert held.words is not None
    assert (held.words.author, held.words.body) == ("Reader", "Is this rest?")
    assert held.may_appeal
    assert held.appeal_until is not None
    assert held.standing.decided_at is not None
    assert (held.appeal_until - held.standing.decided_at).days == 20
    comments.take_back(house.site, letter)
    assert comments.held(house.site, letter).words is None
    assert not comments.held(house.site, letter).may_appeal


def test_takes_no_appeal_that_says_nothing_or_too_much_or_after_anything_but_a_rejection(house: House) -> None:
    letter = rejected(house)
    waiting, posted = house.send().public_id, house.post().public_id
    before = house.contents()
    for said, refusal in ((" \n", words.NothingWritten), ("x" * 2001, words.TooLong), ("\x00", words.Unreadable)):
        with pytest.raises(refusal):
            appeals.appeal(house.site, letter, said)
    for other in (waiting, posted):
        with pytest.raises(CannotAppeal):
            appeals.appeal(house.site, other, SAID)
    with pytest.raises(comments.NoSuchComment):
        appeals.appeal(house.site, "0" * 32, SAID)
    assert house.contents() == before


def test_lets_no_author_change_the_words_they_appeal_for(house: House) -> None:
    letter = rejected(house)
    appeals.appeal(house.site, letter, SAID)
    before = house.contents()
    with pytest.raises(CannotAppeal):
        comments.change_comment(house.site, letter, Letter("Reader", "Other words."))
    assert house.contents() == before


def test_lets_an_author_take_an_appeal_back(house: House) -> None:
    letter = rejected(house)
    appeals.appeal(house.site, letter, SAID)
    comments.take_back(house.site, letter)
    with house.site.database.reading_sessions() as session:
        assert awaiting_review(session) == []
    assert comments.held(house.site, letter).standing.state is State.WITHDRAWN
