"""An essay's correspondence: what is public, in its order, and what stands where something was taken back."""

import pytest
from ground.house import MODEL, SLUG, House
from sqlalchemy import select

from bridge.essay import essays, thread
from bridge.essay.thread import PostedComment
from bridge.letter import comments
from bridge.records import Essay, RequestState
from bridge.text.passages import Passage


def essay_id(house: House, slug: str = SLUG) -> int:
    with house.site.database.reading_sessions() as session:
        return session.scalars(select(Essay.id).where(Essay.slug == slug)).one()


def posted(house: House, **page: int) -> list[PostedComment]:
    with house.site.database.reading_sessions() as session:
        return thread.posted_comments(session, essay_id(house), **page)


def bodies(found: list[PostedComment]) -> list[str | None]:
    return [each.words.body if each.words else None for each in found]


def test_shows_what_was_approved_in_the_order_of_its_posting_and_nothing_else(house: House) -> None:
    first, second = house.send("One."), house.send("Two.")
    house.send("Pending.")
    house.reject(house.send("Rejected.").public_id, code="spam")
    comments.take_back(house.site, house.send("Taken back while pending.").public_id)
    house.approve(second.public_id)
    house.approve(first.public_id)
    assert bodies(posted(house)) == ["Two.", "One."]


def test_shows_a_reply_once_it_is_released(house: House) -> None:
    house.post()
    (reply,) = house.answer("I do not.")
    assert posted(house)[0].reply is None
    house.approve(reply, by=house.ben)
    shown = posted(house)[0].reply
    assert shown is not None
    assert (shown.words.body, shown.model, shown.rehearsed, shown.approved_by) == ("I do not.", MODEL, False, "Ben")


def test_calls_a_rehearsal_by_that_name_alone(house: House) -> None:
    house.post()
    (reply,) = house.answer(rehearsed=True)
    house.approve(reply)
    shown = posted(house)[0].reply
    assert shown is not None
    assert (shown.model, shown.rehearsed, shown.words.author) == ("rehearsal", True, "Test Voice (rehearsal)")


def test_shows_no_reply_that_was_vetoed(house: House) -> None:
    house.post()
    (reply,) = house.answer()
    house.reject(reply)
    house.reject(reply, by=house.ben)
    assert posted(house)[0].reply is None
    with house.site.database.reading_sessions() as session, pytest.raises(thread.NotPublic):
        thread.posted_reply(session, reply)


def test_leaves_a_tombstone_where_a_posted_letter_was_taken_back(house: House) -> None:
    sent, reply = house.exchange()
    comments.take_back(house.site, sent.public_id)
    (gone,) = posted(house)
    assert (gone.words, gone.reply, gone.public_id, gone.digest) == (None, None, sent.public_id, sent.digest)
    assert gone.gone is not None
    with house.site.database.reading_sessions() as session:
        with pytest.raises(thread.TakenBack) as letter:
            thread.posted_comment(session, sent.public_id)
        with pytest.raises(thread.TakenBack):
            thread.posted_reply(session, reply)
    assert letter.value.gone == gone.gone


def test_goes_on_after_the_last_of_a_page(house: House) -> None:
    for number in range(5):
        house.post(str(number))
    first = posted(house, limit=2)
    assert bodies(first) == ["0", "1"]
    assert bodies(posted(house, after=first[-1].place)) == ["2", "3", "4"]


def test_puts_letters_to_an_answer_below_it_however_deep(house: House) -> None:
    _, reply = house.exchange("One.", "Two.")
    _, deeper = house.exchange("Three.", "Four.", parent=reply)
    house.post("Five.", parent=deeper)
    house.post("Another.")
    with house.site.database.reading_sessions() as session:
        top = thread.conversation(session, essay_id(house))
    assert bodies(top) == ["One.", "Another."]
    assert bodies(top[0].below) == ["Three.", "Five."]
    assert [each.answers for each in top[0].below] == [reply, deeper]


def test_knows_the_answer_that_stood_where_it_was_taken_back_and_none_that_waits(house: House) -> None:
    sent, reply = house.exchange("One.", "Two.")
    house.post("Three.")
    house.answer("Pending.")
    assert [each.reply_id for each in posted(house)] == [reply, None]
    comments.take_back(house.site, sent.public_id)
    assert [each.reply_id for each in posted(house)] == [reply, None]


def test_tells_which_blocks_letters_are_about(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "LETTERS_A_PAGE", 1)
    house.essay("another", "# Another\n\nOne two.\n\nThree.")
    house.post("Elsewhere.", passage=Passage(0, "rest well"))
    house.post("About the whole.", slug="another")
    sent = [house.post(words, slug="another", passage=Passage(0, words)) for words in ("two", "One", "two")]
    last = house.post("Three.", slug="another", passage=Passage(1, "Three."))
    house.send("Waiting.", slug="another", passage=Passage(1, "Three"))
    comments.take_back(house.site, sent[0].public_id)
    with house.site.database.reading_sessions() as session:
        assert thread.about_blocks(session, essay_id(house, "another")) == {
            0: thread.AboutBlock(sent[1].public_id, 3, 2, {"One", "two"}),
            1: thread.AboutBlock(last.public_id, 5, 1, {"Three."}),
        }


@pytest.mark.parametrize(("state", "told"), [("declined", "declined"), ("withheld", "withheld"), ("failed", None)])
def test_tells_readers_of_an_outcome_and_not_of_trouble(house: House, state: str, told: str | None) -> None:
    house.settle(house.post().public_id, RequestState(state))
    assert posted(house)[0].outcome == told


def test_answers_alike_for_ids_that_are_not_released_and_that_never_were(house: House) -> None:
    pending = house.send().public_id
    house.post()
    (reply,) = house.answer()
    said = set()
    with house.site.database.reading_sessions() as session:
        for unknown in (pending, "0" * 32, ""):
            with pytest.raises(thread.NotPublic) as refused:
                thread.posted_comment(session, unknown)
            said.add(str(refused.value))
        for unknown in (reply, "0" * 32):
            with pytest.raises(thread.NotPublic) as refused:
                thread.posted_reply(session, unknown)
            said.add(str(refused.value))
    assert len(said) == 1


def test_hides_the_letters_of_an_essay_that_was_taken_back(house: House) -> None:
    from moderation import gate

    submission = house.essay("another")
    sent = house.post(slug="another")
    with house.site.database.sessions.begin() as session:
        gate.withdraw(session, submission, by="operator")
    with house.site.database.reading_sessions() as session, pytest.raises(essays.NoSuchEssay):
        thread.posted_comment(session, sent.public_id)


def test_gives_the_model_what_is_released_here_and_nothing_else(house: House) -> None:
    house.essay("another")
    _, reply = house.exchange("One.", "Two.")
    house.post("Three.", parent=reply)
    house.send("Pending.")
    house.post("Elsewhere.", slug="another")
    comments.take_back(house.site, house.post("Taken back.").public_id)
    with house.site.database.reading_sessions() as session:
        told = thread.exchanges(session, essay_id(house))
    assert [tuple(words and words.body for words in (each.comment, each.reply)) for each in told] == [
        ("One.", "Two."),
        ("Three.", None),
    ]
    assert told[1].in_answer_to == house.submission(reply)


def test_counts_letters_and_answers_of_each_essay(house: House) -> None:
    house.essay("another")
    house.exchange("One.", "Two.")
    house.post("Three.")
    house.answer("Pending.")
    house.send("Four.")
    ids = [essay_id(house), essay_id(house, "another")]
    with house.site.database.reading_sessions() as session:
        assert thread.counts(session, ids) == {ids[0]: thread.Counts(2, 1), ids[1]: thread.Counts(0, 0)}
