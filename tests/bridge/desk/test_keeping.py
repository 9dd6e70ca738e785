"""A voice's charter and its versions, its pauses, and the lists that the desk shows of what it is asked."""

from threading import Barrier, Thread

import pytest
from ground.house import VOICE, House
from sqlalchemy import delete, select, update

from bridge.answer.replies import NotToBeAskedAgain
from bridge.desk import keeping
from bridge.records import Charter, Comment, ReplyRequest, RequestState
from bridge.voice import voices
from bridge.voice.voices import CHARTER_LENGTH, CharterChanged, CharterRefused, NoSuchVoice
from moderation import gate, moderators
from moderation.types import Moderator

SLUG = "test-voice"
FIRST = "You are a test."


def ada(house: House) -> Moderator:
    with house.site.database.reading_sessions() as session:
        return moderators.named(session, [house.ada])[house.ada]


def versions(house: House) -> list[keeping.Version]:
    with house.site.database.reading_sessions() as session:
        return keeping.history(session, voices.named(session, VOICE))


def change(house: House, written: str, *, seen: int | None = None) -> None:
    newest = versions(house)[0].charter.id
    keeping.change_charter(house.site, SLUG, written, moderator=ada(house), seen=newest if seen is None else seen)


def settle(house: House, state: RequestState, number: int) -> list[int]:
    """Have *number* letters approved whose requests are in *state*; return their comments' ids."""
    sent = [house.post(f"{state.value}, number {n}.").public_id for n in range(number)]
    with house.site.database.sessions.begin() as session:
        ids = list(session.scalars(select(Comment.id).where(Comment.public_id.in_(sent)).order_by(Comment.id)))
        session.execute(update(ReplyRequest).where(ReplyRequest.comment_id.in_(ids)).values(state=state.value))
    return ids


# The charter


def test_keeps_the_first_charter_of_a_new_voice_as_a_version(any_house: House) -> None:
    (only,) = versions(any_house)
    assert (only.number, only.charter.charter, only.by, only.changes) == (1, FIRST, None, ())
    assert only.charter.id > 0


def test_keeps_every_version_with_who_set_it_and_what_changed(any_house: House) -> None:
    change(any_house, "You are a test.\nBe brief.")
    change(any_house, "Be brief.\nBe kind.")
    newest, middle, first = versions(any_house)
    assert [each.number for each in (newest, middle, first)] == [3, 2, 1]
    assert [each.by.name if each.by else None for each in (newest, middle, first)] == ["Ada", "Ada", None]
    assert [each.charter.charter for each in (middle, first)] == ["You are a test.\nBe brief.", FIRST]
    assert newest.changes == [("gone", FIRST), ("same", "Be brief."), ("new", "Be kind.")]
    with any_house.site.database.reading_sessions() as session:
        assert voices.named(session, VOICE).charter == "Be brief.\nBe kind."


def test_keeps_the_charter_of_a_voice_from_before_there_were_versions(any_house: House) -> None:
    with any_house.site.database.sessions.begin() as session:
        session.execute(delete(Charter))
    (only,) = versions(any_house)
    assert (only.charter.id, only.charter.charter, only.number) == (0, FIRST, 1)
    change(any_house, "You rest.")
    newest, first = versions(any_house)
    assert (newest.charter.charter, first.charter.charter) == ("You rest.", FIRST)
    with any_house.site.database.reading_sessions() as session:
        assert first.charter.since == voices.named(session, VOICE).created_at


def test_refuses_a_change_to_a_charter_that_was_changed_meanwhile(any_house: House) -> None:
    seen = versions(any_house)[0].charter.id
    change(any_house, "You rest.")
    with pytest.raises(CharterChanged):
        change(any_house, "You work.", seen=seen)
    assert [each.charter.charter for each in versions(any_house)] == ["You rest.", FIRST]


@pytest.mark.parametrize("from_before_versions", [False, True])
def test_lets_one_of_six_changes_at_once_win(any_house: House, from_before_versions: bool) -> None:
    if from_before_versions:
        with any_house.site.database.sessions.begin() as session:
            session.execute(delete(Charter))
    seen, admin, together = versions(any_house)[0].charter.id, ada(any_house), Barrier(6)
    refused: list[CharterChanged] = []

    def write(number: int) -> None:
        together.wait(30)
        try:
            keeping.change_charter(any_house.site, SLUG, f"Number {number}.", moderator=admin, seen=seen)
        except CharterChanged as changed:
            refused.append(changed)

    threads = [Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(refused) == 5
    newest, first = versions(any_house)
    with any_house.site.database.reading_sessions() as session:
        assert voices.named(session, VOICE).charter == newest.charter.charter
    assert first.charter.charter == FIRST


def test_normalises_a_charter_before_it_is_kept(house: House) -> None:
    change(house, "  Caf\u0065\u0301\r\nto\u202enight\x07\U000e0041 \r\n")
    assert versions(house)[0].charter.charter == "Caf\u00e9\ntonight"


@pytest.mark.parametrize(
    "written", ["", " \n", "\u200b", "a\0b", "a\ud800", "x" * (CHARTER_LENGTH + 1), FIRST, f" {FIRST}\r\n"]
)
def test_refuses_a_charter_that_is_none_or_too_long_or_the_same(house: House, written: str) -> None:
    before = house.contents()
    with pytest.raises(CharterRefused):
        change(house, written)
    assert house.contents() == before


def test_takes_a_charter_of_the_greatest_length(house: House) -> None:
    change(house, "x" * CHARTER_LENGTH)
    assert len(versions(house)[0].charter.charter) == CHARTER_LENGTH


# Pauses


def test_pauses_with_the_name_of_who_did_and_their_words(any_house: House) -> None:
    keeping.pause(any_house.site, SLUG, moderator=ada(any_house), why=" It repeats\u202e itself. ")
    with any_house.site.database.reading_sessions() as session:
        kept = keeping.one(session, SLUG)
    assert (kept.answers, kept.voice.paused_why, kept.paused_until) == (False, "Ada: It repeats itself.", None)
    keeping.resume(any_house.site, SLUG)
    with any_house.site.database.reading_sessions() as session:
        assert keeping.one(session, SLUG).answers


def test_refuses_more_about_a_pause_than_is_read(house: House) -> None:
    with pytest.raises(keeping.WhyTooLong):
        keeping.pause(house.site, SLUG, moderator=ada(house), why="x" * 501)
    with pytest.raises(NoSuchVoice):
        keeping.pause(house.site, "nobody", moderator=ada(house), why="")
    with house.site.database.reading_sessions() as session:
        assert keeping.one(session, SLUG).answers


def test_keeps_a_pause_by_hand_when_trouble_would_shorten_it(any_house: House) -> None:
    with any_house.site.database.sessions.begin() as session:
        voice = voices.named(session, VOICE)
        voices.pause(session, voice, "By hand.")
        voices.pause(session, voice, "The API is failing.", minutes=15)
        assert (voice.paused_why, voice.paused_until) == ("By hand.", None)
        voices.pause(session, voice, "The key ended.")
        assert voice.paused_why == "The key ended."


# Lists


def test_counts_what_a_voice_is_asked_and_lists_it_page_by_page(any_house: House) -> None:
    failed = settle(any_house, RequestState.FAILED, 5)
    settle(any_house, RequestState.DECLINED, 2)
    with any_house.site.database.reading_sessions() as session:
        kept = keeping.one(session, SLUG)
        assert (kept.counts[RequestState.FAILED], kept.counts[RequestState.DECLINED]) == (5, 2)
        assert kept.counts[RequestState.WAITING] == 0
        first = keeping.asked(session, kept.voice, RequestState.FAILED, limit=3)
        rest = keeping.asked(session, kept.voice, RequestState.FAILED, after=first[-1].request.comment_id, limit=3)
        assert [each.request.comment_id for each in (*first, *rest)] == failed
        assert all(each.may_be_asked_again for each in (*first, *rest))
        declined = keeping.asked(session, kept.voice, RequestState.DECLINED)
        assert [each.may_be_asked_again for each in declined] == [False, False]
        assert declined[0].comment is not None
        assert declined[0].comment.body == "declined, number 0."


def test_lists_nothing_of_another_voice_and_asks_nothing_of_it_again(any_house: House) -> None:
    (comment_id,) = settle(any_house, RequestState.FAILED, 1)
    with any_house.site.database.sessions.begin() as session:
        voices.add(session, voices.NewVoice("Understudy", "no-such-model-1", "You rest."))
    with any_house.site.database.reading_sessions() as session:
        other = keeping.one(session, "understudy")
        assert other.counts[RequestState.FAILED] == 0
        assert keeping.asked(session, other.voice, RequestState.FAILED) == []
        assert [each.voice.slug for each in keeping.everyone(session)] == [SLUG, "understudy"]
    with pytest.raises(NotToBeAskedAgain):
        keeping.ask_again(any_house.site, "understudy", comment_id)


def test_shows_no_words_that_are_no_longer_posted(any_house: House) -> None:
    sent = any_house.post("Do you dream?")
    any_house.settle(sent.public_id, RequestState.FAILED)
    with any_house.site.database.sessions.begin() as session:
        gate.withdraw(session, any_house.submission(sent.public_id), by="operator")
    with any_house.site.database.reading_sessions() as session:
        (listed,) = keeping.asked(session, voices.named(session, VOICE), RequestState.FAILED)
    assert (listed.comment, listed.may_be_asked_again) == (None, False)
