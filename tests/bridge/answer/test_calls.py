"""The calls to the model as they are on record: all of them, in words, and held against what was sent."""

import json
import zlib
from collections.abc import Callable

import pytest
from ground.called import choose, picks, refuse, send_away
from ground.house import House
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from bridge.answer import batches, calls, unchosen
from bridge.answer.calls import Call, NoSuchCall, Whole
from bridge.answer.unchosen import Wanted
from bridge.letter import erasure
from bridge.records import Batch, BatchState, Generation, Prefix
from bridge.voice.model import ModelBusy, PassingTrouble, RequestRefused
from moderation import gate
from moderation.errors import NoSuchSubmission


def of(house: House, public_id: str, **more: int) -> calls.OfLetter:
    with house.site.database.reading_sessions() as session:
        return calls.of_letter(session, house.submission(public_id), **more)


def opened(house: House, number: int) -> tuple[Call, Whole]:
    with house.site.database.reading_sessions() as session:
        return calls.one(session, number, house.site.keys)


def named(house: House, name: str) -> int:
    with house.site.database.reading_sessions() as session:
        return calls.named(session, name)


def test_lists_every_call_for_a_letter_also_those_without_an_answer(any_house: House) -> None:
    house = any_house
    sent = house.post()
    refuse(house, PassingTrouble("The API is failing."), wait=-1)
    refuse(house, ModelBusy("Waiting for the rate limit.", seconds=1), wait=-1)
    (reply,) = house.answer()
    found = of(house, sent.public_id)
    assert [each.made.attempt for each in found.calls] == [3, 2, 1]
    assert [each.came_to for each in found.calls] == [
        "It answered.",
        "The API asked to wait: its rate limit was reached.",
        "The API failed, was overloaded, or was not reached.",
    ]
    assert [each.brought for each in found.calls] == [house.submission(reply), None, None]
    assert found.request is not None
    assert (found.request.state, found.request.attempts) == ("answered", 3)
    # Its answer's submission leads to the same.
    assert [each.made.id for each in of(house, reply).calls] == [each.made.id for each in found.calls]


def test_goes_on_to_earlier_calls(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "AT_ONCE", 2)
    sent = house.post()
    for _ in range(3):
        refuse(house, PassingTrouble("The API is failing."), wait=-1)
    first = of(house, sent.public_id)
    assert first.more is not None
    rest = of(house, sent.public_id, before=first.more)
    assert ([each.made.attempt for each in (*first.calls, *rest.calls)], rest.more) == ([3, 2, 1], None)


def test_knows_no_calls_for_what_no_model_was_asked(house: House) -> None:
    sent = house.send()
    assert of(house, sent.public_id).calls == []
    with house.site.database.reading_sessions() as session:
        assert calls.of_letter(session, 1).calls == ()  # The essay's.
        with pytest.raises(NoSuchSubmission):
            calls.of_letter(session, 1_000_000)
        with pytest.raises(NoSuchCall):
            calls.one(session, 1_000_000, house.site.keys)


def test_shows_a_choice_among_the_calls_of_each_letter_that_was_shown(any_house: House) -> None:
    house = any_house
    picks(house)
    sent = [house.post(f"Letter {number}.") for number in range(3)]
    choice = choose(house, [sent[1].public_id])
    for each in sent:
        assert [call.made.id for call in of(house, each.public_id).calls] == [choice]
    call, whole = opened(house, choice)
    assert (call.is_choice, call.came_to) == (True, "It chose 1 of 3.")
    assert [(each.number, each.chosen) for each in call.shown] == [(1, False), (2, True), (3, False)]
    assert [each.words.body for each in call.shown if each.words] == ["Letter 0.", "Letter 1.", "Letter 2."]
    assert whole.equal
    house.answer()
    assert [each.is_choice for each in of(house, sent[1].public_id).calls] == [False, True]
    assert len(of(house, sent[0].public_id).calls) == 1


def test_says_of_a_call_without_an_end_where_it_may_be(house: House) -> None:
    sent = house.post()
    send_away(house)
    (call,) = of(house, sent.public_id).calls
    assert call.came_to == "It is away in a batch."
    assert call.batch is not None
    assert call.made.custom_id is not None
    with house.site.database.sessions.begin() as session:
        session.execute(update(Generation).values(batch_id=None))
    (call,) = of(house, sent.public_id).calls
    assert "it is still open, or its worker died" in call.came_to


@pytest.mark.parametrize(
    ("happens", "came_to"),
    [
        (lambda session, batch_id: batches.lose(session, batch_id, "Gone."), "Its batch was lost. It may have been"),
        (batches.conclude, "Its batch came back without an answer to this one."),
        (
            lambda session, batch_id: batches.record_result(
                session,
                batch_id,
                session.scalars(select(Generation.custom_id)).one(),
                PassingTrouble("The batch ended before its turn came.", error="expired"),
            ),
            "Its batch brought no answer to it: the API failed, or the batch ended before its turn came.",
        ),
    ],
)
def test_says_what_became_of_a_call_in_a_batch(
    house: House, happens: Callable[[Session, int], object], came_to: str
) -> None:
    sent = house.post()
    batch_id = send_away(house)
    with house.site.database.sessions.begin() as session:
        happens(session, batch_id)
    (call,) = of(house, sent.public_id).calls
    assert call.came_to.startswith(came_to)


def test_tells_an_outcome_that_it_has_no_words_for(house: House) -> None:
    sent = house.post()
    refuse(house, RequestRefused("The API refused our request: no"))
    with house.site.database.sessions.begin() as session:
        session.execute(update(Generation).values(outcome="something_new"))
    assert [each.came_to for each in of(house, sent.public_id).calls] == ["It is recorded as something_new."]


def test_finds_a_call_by_its_number_and_by_what_it_was_for(house: House) -> None:
    picks(house)
    sent, other = house.post("Do you dream?"), house.post("Do you sleep?")
    choice = choose(house, [sent.public_id])
    assert [named(house, each.public_id) for each in (sent, other)] == [choice, choice]
    (failed,) = refuse(house, PassingTrouble("The API is failing."), wait=-1)
    assert named(house, sent.public_id) == failed
    (reply,) = house.answer()
    answered = named(house, reply)
    assert answered > failed
    assert named(house, sent.public_id) == named(house, str(answered)) == answered
    assert named(house, other.public_id) == choice
    unasked = house.send().public_id
    for nothing in ("0", "1000000", "9" * 5000, "x", "", "٣", unasked, "f" * 32, str(answered) + " "):
        with pytest.raises(NoSuchCall):
            named(house, nothing)


def test_puts_every_kind_of_request_together_to_the_byte(house: House) -> None:
    _, reply = house.exchange("Do you <b>dream</b>?", "I do not.")
    house.post("Not even of tides?", parent=reply, author="Zoë \N{GRINNING FACE}")
    house.post("And of \u2028 lines?")
    house.answer("Of tides, perhaps.")
    with house.site.database.reading_sessions() as session:
        numbers = session.scalars(select(Generation.id)).all()
    assert len(numbers) == 3
    for number in numbers:
        _, whole = opened(house, number)
        assert whole.equal
        assert whole.sentence.startswith("This is equal, to the byte")
        assert json.loads(whole.request_text or "") == whole.request


def test_says_which_words_are_missing_and_whether_they_were_erased(house: House) -> None:
    first, second = house.post("Do you dream?", author="Ann"), house.post("Do you sleep?", author="Bob")
    house.answer("I do not.")
    house.post("Not even of tides?")
    (reply,) = house.answer("Of tides, perhaps.")
    ids = [house.submission(each.public_id) for each in (first, second)]
    with house.site.database.sessions.begin() as session:
        gate.withdraw(session, ids[0], by="operator")  # type: ignore[arg-type]
    erasure.erase_comment(house.site, second.public_id)
    _, whole = opened(house, named(house, reply))
    assert not whole.equal
    assert [(each.submission_id, each.erased) for each in whole.missing] == [(ids[0], False), (ids[1], True)]
    assert whole.sentence == (
        f"The words of submissions {ids[0]} (taken back) and {ids[1]} (erased) are missing, and a sentence stands in "
        "their place; the rest is as it was sent."
    )
    text = whole.request_text or ""
    assert "Not even of tides?" in text
    assert "Do you dream?" not in text
    assert "Do you sleep?" not in text
    # Of the erased letter's own call nothing is left, and that is said.
    call, own = opened(house, named(house, second.public_id))
    assert (own.request, own.response, own.equal) == (None, None, False)
    assert own.sentence == "The request was erased, with a letter that stood in it."
    assert call.made.cost is None or call.made.cost >= 0


def test_says_that_a_record_was_changed(house: House) -> None:
    sent = house.post()
    (reply,) = house.answer()
    with house.site.database.sessions.begin() as session:
        made = session.scalars(select(Generation)).one()
        shared = session.get_one(Prefix, made.prefix_id)
        recipe = json.loads(zlib.decompress(shared.recipe))
        recipe["system"][0]["text"] += " Be brief."
        shared.recipe = zlib.compress(json.dumps(recipe).encode())
    _, whole = opened(house, named(house, reply))
    assert (whole.equal, whole.missing) == (False, [])
    assert "This is not equal to what was sent, though no words are missing" in whole.sentence
    assert of(house, sent.public_id).calls


def test_shows_what_no_screen_shows_by_its_escape() -> None:
    body = {"text": "a\u202eb\x9b31m\U000e0041 ü\n"}
    text = calls.told(body)
    assert json.loads(text) == body
    assert "\\u202e" in text
    assert "\\u009b" in text
    assert "\\udb40\\udc41" in text
    assert "ü" in text


def test_lists_batches_that_are_away_before_those_that_are_over(any_house: House) -> None:
    house = any_house
    house.post("One.")
    house.post("Two.")
    first = send_away(house)
    house.post("Three.")
    second = send_away(house)
    with house.site.database.sessions.begin() as session:
        over = session.get_one(Batch, first)
        over.state, over.why = BatchState.LOST.value, "The API has no such batch."
        made = session.scalars(select(Generation).where(Generation.batch_id == first)).first()
        assert made is not None
        made.ended_at = made.started_at
    with house.site.database.reading_sessions() as session:
        listed = calls.batches(session)
    assert [(each.batch.id, each.is_open, each.batch.requests, each.back) for each in listed] == [
        (second, True, 1, 0),
        (first, False, 2, 1),
    ]


def test_lists_letters_that_were_not_chosen_with_the_call_they_were_shown_in(any_house: House) -> None:
    house = any_house
    picks(house)
    sent = [house.post(f"Letter {number}.") for number in range(3)]
    first = choose(house, [sent[1].public_id])
    house.answer()
    house.essay("on-sleep")
    other = house.post("About sleep.", slug="on-sleep")
    second = choose(house, [], slug="on-sleep")

    def page(before: int | None = None, **wanted: str) -> list[tuple[str | None, int | None, int, int]]:
        with house.site.database.reading_sessions() as session:
            found = unchosen.page(session, Wanted(**wanted), before=before)
        assert {each.words.digest for each in found.letters if each.words} == set(found.html)
        return [(each.words and each.words.body, each.generation_id, each.shown, each.chosen) for each in found.letters]

    assert page() == [
        ("About sleep.", second, 1, 0),
        ("Letter 2.", first, 3, 1),
        ("Letter 0.", first, 3, 1),
    ]
    assert page(essay="on-sleep") == [("About sleep.", second, 1, 0)]
    assert page(voice="test-voice", essay="on-rest", before=3) == [("Letter 0.", first, 3, 1)]
    assert page(voice="nobody") == []
    with house.site.database.reading_sessions() as session:
        under = unchosen.page(session, Wanted()).under
    assert [(each.essay.slug, each.letters) for each in under] == [("on-sleep", 1), ("on-rest", 2)]
    erasure.erase_comment(house.site, other.public_id)
    assert [body for body, *_ in page()] == ["Letter 2.", "Letter 0."]
