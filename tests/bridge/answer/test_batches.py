"""The steps of a batch, each by itself; `tests/workers/test_batching.py` has them taken in order."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from ground.batching import numbered
from ground.house import sent
from ground.workshop import ScriptedModel, Workshop, message, notes
from sqlalchemy import select, text

from bridge import db
from bridge.answer import batches, replies
from bridge.answer.batches import LEASE_SECONDS, TIMES, Begun
from bridge.answer.replies import Sitting, VoicePaused
from bridge.db import database_time
from bridge.letter import erasure
from bridge.records import Answering, Batch, Calls, Comment, Generation, RequestState, Voice
from bridge.voice import budgets, voices
from bridge.voice.model import (
    Answer,
    ModelBusy,
    PassingTrouble,
    RequestRefused,
    Trouble,
    Unreadable,
    VoiceBlocked,
    read,
)

R = TypeVar("R")
ORIGIN = ScriptedModel().origin(None)
PRICED = {"price_in": 15.0, "price_out": 75.0}


@pytest.fixture
def workshop(database: db.Database, tmp_path: Path) -> Workshop:
    return Workshop(database, tmp_path, **PRICED)


def step(workshop: Workshop, what: Callable[..., R], *given: Any, **named: Any) -> R:
    with workshop.site.database.sessions.begin() as session:
        return what(session, *given, **named)


def seated(workshop: Workshop) -> Sitting:
    sitting = step(workshop, replies.begin_sitting, workshop.essay_id)
    assert sitting is not None
    return sitting


def begun(workshop: Workshop, sitting: Sitting | None = None) -> Begun | None:
    sitting = sitting or seated(workshop)
    keys = workshop.site.keys
    entries = [(each, sent(sitting, each, keys)) for each in sitting.claimed]
    return step(workshop, batches.begin, sitting, entries, ORIGIN, keys)


def away(workshop: Workshop, *letters: str) -> tuple[list[int], int]:
    """Send letters away in a batch that the API has; return their ids and the batch's."""
    ids = [workshop.asked(each) for each in letters or ("One.", "Two.")]
    made = begun(workshop)
    assert made is not None
    assert step(workshop, batches.created, made.batch_id, "msgbatch_1")
    return ids, made.batch_id


def batch(workshop: Workshop, batch_id: int = 1) -> Batch:
    with workshop.site.database.reading_sessions() as session:
        return session.get_one(Batch, batch_id)


def clock(workshop: Workshop) -> float:
    with workshop.site.database.reading_sessions() as session:
        return float(session.scalar(select(database_time())) or 0)


def answered(*said: Any, **more: Any) -> Answer:
    whole = message(*(said or ("I dream of letters.",)), **more)
    return read(whole, asked=whole["model"], request_id=None, rehearsed=False)


def comes(workshop: Workshop, batch_id: int, comment_id: int, result: Answer | Trouble) -> RequestState | None:
    [made] = [each for each in workshop.generations(comment_id) if each.batch_id == batch_id]
    return step(workshop, batches.record_result, batch_id, made.custom_id, result)


def long_ago(workshop: Workshop, *, begun: float = 0, asked: float = 0) -> None:
    """Let so many seconds pass for all batches since they were begun, and since they were asked about."""
    with workshop.site.database.sessions.begin() as session:
        for each in session.scalars(select(Batch)):
            each.created_at -= timedelta(seconds=begun)
            each.asked_at = (each.asked_at or 0) - asked


# Away


def test_claims_what_is_in_a_batch_for_longer_than_it_can_be_away(workshop: Workshop) -> None:
    ids = [workshop.asked(each) for each in ("One.", "Two.")]
    sitting = seated(workshop)
    before = clock(workshop)
    made = begun(workshop, sitting)
    after = clock(workshop)
    assert made is not None
    kept = batch(workshop)
    assert (kept.state, kept.remote_id, kept.requests, kept.essay_id) == ("sending", None, 2, workshop.essay_id)
    assert kept.lease != sitting.lease
    for each in ids:
        request = workshop.request(each)
        assert (request.state, request.lease, request.attempts) == ("asking", kept.lease, 1)
        assert before + LEASE_SECONDS <= (request.leased_until or 0) <= after + LEASE_SECONDS
    assert [numbered(name) for name, _ in made.entries] == [f"rr-{each}-1" for each in ids]
    assert [(call.batch_id, numbered(call.custom_id), call.ended_at) for call in workshop.generations()] == [
        (kept.id, f"rr-{each}-1", None) for each in ids
    ]
    # Neither the sitting's end nor its worker's death gives them back.
    step(workshop, replies.forget_claims_of, sitting.lease[:16])
    step(workshop, replies.forget_lost_claims)
    assert workshop.states() == ["asking", "asking"]


def test_does_not_die_with_the_worker_that_sent_it(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(replies._horse, "name", "0123456789abcdef")
    away(workshop)
    assert step(workshop, replies.forget_claims_of, "0123456789abcdef") == []
    assert workshop.states() == ["asking", "asking"]


def test_reserves_half_of_what_a_call_could_cost(workshop: Workshop) -> None:
    workshop.asked()
    sitting = seated(workshop)
    request = sent(sitting, sitting.claimed[0], workshop.site.keys).request
    begun(workshop, sitting)
    [made] = workshop.generations()
    most = budgets.greatest_cost(workshop.voice(), request)
    assert made.reserved is not None
    assert most is not None
    assert most / 2 <= made.reserved <= most / 2 + 1
    with workshop.site.database.reading_sessions() as session:
        spent = budgets.counted(session, workshop.voice_id, at=budgets.clock(session))
    assert (spent.day.cost, spent.day.cost_held, spent.day.replies_held) == (made.reserved, made.reserved, 1)


def test_leaves_waiting_what_a_budget_has_no_room_for(workshop: Workshop) -> None:
    ids = [workshop.asked(f"Number {n}.") for n in range(3)]
    with workshop.site.database.sessions.begin() as session:
        session.get_one(Voice, workshop.voice_id).replies_a_day = 2
    made = begun(workshop)
    assert made is not None
    assert [numbered(name) for name, _ in made.entries] == [f"rr-{each}-1" for each in ids[:2]]
    assert workshop.states() == ["asking", "asking", "waiting"]
    assert workshop.request(ids[2]).not_before is not None
    assert batch(workshop).requests == 2


def test_leaves_no_batch_where_nothing_is_left_to_send(workshop: Workshop) -> None:
    comment_id = workshop.asked()
    with workshop.site.database.sessions.begin() as session:
        session.get_one(Voice, workshop.voice_id).cost_a_day = 0
    assert begun(workshop) is None
    assert workshop.request(comment_id).state == "waiting"
    with workshop.site.database.reading_sessions() as session:
        assert session.get(Batch, 1) is None


def test_sends_nothing_that_is_no_longer_wanted(workshop: Workshop) -> None:
    ids = [workshop.asked(f"Number {n}.") for n in range(2)]
    sitting = seated(workshop)
    workshop.take_back(ids[0])
    made = begun(workshop, sitting)
    assert made is not None
    assert [numbered(name) for name, _ in made.entries] == [f"rr-{ids[1]}-1"]


def test_sends_nothing_for_a_paused_voice(workshop: Workshop) -> None:
    workshop.asked()
    sitting = seated(workshop)
    workshop.pause()
    with pytest.raises(VoicePaused):
        begun(workshop, sitting)
    assert workshop.generations() == []


def test_knows_a_batch_by_the_name_it_was_given_first(workshop: Workshop) -> None:
    _, batch_id = away(workshop)
    assert step(workshop, batches.created, batch_id, "msgbatch_1")
    assert not step(workshop, batches.created, batch_id, "msgbatch_2")
    assert (batch(workshop).state, batch(workshop).remote_id) == ("sent", "msgbatch_1")
    assert step(workshop, batches.recorded, ["msgbatch_1", "msgbatch_2"]) == {"msgbatch_1"}


@pytest.mark.parametrize(
    ("trouble", "paused", "waits"),
    [
        (VoiceBlocked("The key is not accepted."), True, False),
        (RequestRefused("The API refused our request: requests."), True, False),
        (RequestRefused("The thread is too long to send.", too_long=True), False, False),
        (ModelBusy("Waiting for the rate limit.", seconds=60), False, True),
    ],
)
def test_lets_all_wait_where_a_batch_is_refused(
    workshop: Workshop, trouble: Trouble, *, paused: bool, waits: bool
) -> None:
    ids = [workshop.asked(each) for each in ("One.", "Two.")]
    made = begun(workshop)
    assert made is not None
    for _ in range(2):
        step(workshop, batches.refused, made.batch_id, trouble)
    assert (batch(workshop).state, batch(workshop).why) == ("lost", trouble.why)
    requests = [workshop.request(each) for each in ids]
    assert [(each.state, each.why, each.lease) for each in requests] == [("waiting", trouble.why, None)] * 2
    assert [each.not_before is not None for each in requests] == [waits] * 2
    assert [(call.outcome, call.cost) for call in workshop.generations()] == [(type(trouble).__name__, 0)] * 2
    assert (workshop.voice().paused_at is not None) is paused


def test_counts_a_creation_that_failed_on_the_way_as_a_failure(workshop: Workshop) -> None:
    workshop.asked()
    made = begun(workshop)
    assert made is not None
    step(workshop, batches.doubted, made.batch_id, "No answer within 120 s.")
    assert (batch(workshop).state, batch(workshop).why) == ("sending", "No answer within 120 s.")
    assert workshop.voice().failures_in_a_row == 1
    assert workshop.states() == ["asking"]


def test_counts_at_its_most_what_was_lost(workshop: Workshop) -> None:
    ids, batch_id = away(workshop)
    comes(workshop, batch_id, ids[0], answered())
    for _ in range(2):
        step(workshop, batches.lose, batch_id, "Gone.")
    assert workshop.states() == ["answered", "waiting"]
    first, second = workshop.generations()
    assert (first.outcome, second.outcome, second.cost) == ("replied", "BatchLost", None)
    assert second.ended_at is not None
    with workshop.site.database.reading_sessions() as session:
        spent = budgets.counted(session, workshop.voice_id, at=budgets.clock(session))
    assert spent.day.cost == (first.cost or 0) + (second.reserved or 0)
    assert (batch(workshop).state, batch(workshop).why) == ("lost", "Gone.")
    assert not step(workshop, batches.created, batch_id, "msgbatch_9")


# Back


def test_records_an_answer_at_half_its_price(workshop: Workshop) -> None:
    ids, batch_id = away(workshop)
    assert comes(workshop, batch_id, ids[0], answered()) is RequestState.ANSWERED
    assert workshop.states() == ["answered", "asking"]
    assert workshop.reply_words(ids[0]) == ("Test Voice", "I dream of letters.")
    made = workshop.generations()[0]
    assert (made.cost, made.seconds, made.outcome) == ((1000 * 15 + 10 * 75) // 2, None, "replied")


def test_counts_a_result_once_however_often_it_comes(workshop: Workshop) -> None:
    ids, batch_id = away(workshop)
    comes(workshop, batch_id, ids[0], answered())
    before = workshop.generations()[0]
    assert comes(workshop, batch_id, ids[0], answered("I dream of something else.")) is None
    assert comes(workshop, batch_id, ids[0], PassingTrouble("The batch ended before its turn came.")) is None
    after = workshop.generations()[0]
    assert (after.response, after.cost, after.ended_at) == (before.response, before.cost, before.ended_at)
    assert len(workshop.replies()) == 1


@pytest.mark.parametrize("name", ["rr-4711-1", "rr-1-2", "", "x" * 200])
def test_takes_no_notice_of_what_it_did_not_ask_for(workshop: Workshop, name: str) -> None:
    _, batch_id = away(workshop)
    assert step(workshop, batches.record_result, batch_id, name, answered()) is None
    assert workshop.replies() == []


@pytest.mark.parametrize(
    ("result", "state", "outcome", "is_paid"),
    [
        (answered(stop="refusal"), "withheld", "withheld", True),
        (answered(stop="max_tokens"), "waiting", "cut", True),
        (answered(notes(), stop="tool_use"), "waiting", "note_only", True),
        (RequestRefused("The API refused our request: messages."), "failed", "RequestRefused", False),
        (RequestRefused("The thread is too long to send.", too_long=True), "waiting", "RequestRefused", False),
        (PassingTrouble("The batch ended before its turn came."), "waiting", "PassingTrouble", False),
        (Unreadable("the result has no message"), "waiting", "Unreadable", None),
    ],
)
def test_does_what_a_result_says(
    workshop: Workshop, result: Answer | Trouble, state: str, outcome: str, is_paid: bool | None
) -> None:
    ids, batch_id = away(workshop)
    assert comes(workshop, batch_id, ids[0], result) == state
    assert workshop.states() == [state, "asking"]
    made = workshop.generations()[0]
    assert made.outcome == outcome
    assert made.ended_at is not None
    # What was answered and cannot be read counts at its most.
    assert {None: made.cost is None, True: (made.cost or 0) > 0, False: made.cost == 0}[is_paid]
    assert workshop.voice().paused_at is None


def test_pauses_where_a_result_says_that_nobody_is_answered(workshop: Workshop) -> None:
    ids, batch_id = away(workshop)
    comes(workshop, batch_id, ids[0], VoiceBlocked("This key may not use it."))
    assert workshop.voice().paused_why == "This key may not use it."
    assert workshop.states() == ["waiting", "asking"]
    # What was answered all the same is paid for, and recorded.
    comes(workshop, batch_id, ids[1], answered())
    assert workshop.states() == ["waiting", "answered"]
    assert workshop.voice().paused_why == "This key may not use it."


def test_fails_and_pauses_when_another_model_answers_in_a_batch(workshop: Workshop) -> None:
    ids, batch_id = away(workshop)
    comes(workshop, batch_id, ids[0], answered(model="claude-opus-5-5"))
    assert workshop.request(ids[0]).why == "Another model answered: claude-opus-5-5."
    assert workshop.voice().paused_why == "Another model answered: claude-opus-5-5."
    assert workshop.states() == ["failed", "asking"]
    assert workshop.replies() == []


def test_takes_an_answer_of_the_model_that_was_asked_then(workshop: Workshop) -> None:
    ids, batch_id = away(workshop)
    with workshop.site.database.sessions.begin() as session:
        session.get_one(Voice, workshop.voice_id).model = "no-such-model-1"
    as_of_now = read(message("I dream."), asked="no-such-model-1", request_id=None, rehearsed=False)
    assert as_of_now.text is None
    comes(workshop, batch_id, ids[0], as_of_now)
    assert workshop.reply_words(ids[0]) == ("Test Voice", "I dream.")
    assert workshop.voice().paused_at is None


def test_records_and_does_not_submit_what_nobody_waits_for_any_more(workshop: Workshop) -> None:
    ids, batch_id = away(workshop)
    workshop.take_back(ids[0])
    assert comes(workshop, batch_id, ids[0], answered()) is None
    assert workshop.states() == ["withdrawn", "asking"]
    made = workshop.generations()[0]
    assert (made.outcome, made.cost) == ("replied", (1000 * 15 + 10 * 75) // 2)
    assert workshop.replies() == []


def test_submits_no_late_answer_to_what_was_asked_again_meanwhile(workshop: Workshop) -> None:
    ids, batch_id = away(workshop)
    workshop.time_passes()
    assert workshop.sweep() == 2
    sitting = seated(workshop)
    assert comes(workshop, batch_id, ids[0], answered("Late.")) is None
    assert workshop.generations()[0].outcome == "replied"
    assert workshop.replies() == []
    assert [workshop.request(each).lease for each in ids] == [sitting.lease] * 2


def test_keeps_no_words_of_an_answer_to_what_was_erased(workshop: Workshop) -> None:
    ids, batch_id = away(workshop)
    with workshop.site.database.reading_sessions() as session:
        public_id = session.get_one(Comment, ids[0]).public_id
    erasure.erase_comment(workshop.site, public_id)
    comes(workshop, batch_id, ids[0], answered())
    made = workshop.generations()[0]
    assert (made.request, made.response, made.outcome) == (b"", None, "replied")
    assert made.cost
    assert workshop.replies() == []


@pytest.mark.parametrize("withdrawn", [0, 1])
def test_pauses_when_all_of_a_batch_was_refused_as_invalid(workshop: Workshop, withdrawn: int) -> None:
    ids, batch_id = away(workshop)
    for each in ids[:withdrawn]:
        workshop.take_back(each)
    for each in ids:
        comes(workshop, batch_id, each, RequestRefused("The API refused our request: temperature.", error="HTTP 400"))
    assert workshop.voice().paused_at is None
    told: list[str] = []
    for _ in range(2):
        step(workshop, batches.conclude, batch_id)
        told.append(workshop.voice().paused_why or "")
        with workshop.site.database.sessions.begin() as session:
            voices.resume(session, session.get_one(Voice, workshop.voice_id))
    assert told == ["The API refused our request: temperature.", ""]
    assert batch(workshop).state == "ended"


@pytest.mark.parametrize(
    "other",
    [
        answered(),
        RequestRefused("The thread is too long to send.", too_long=True),
        PassingTrouble("The batch ended before its turn came."),
        None,
    ],
)
def test_pauses_nothing_where_not_all_of_a_batch_was_refused(
    workshop: Workshop, other: Answer | Trouble | None
) -> None:
    ids, batch_id = away(workshop)
    comes(workshop, batch_id, ids[0], RequestRefused("The API refused our request: messages."))
    if other is not None:
        comes(workshop, batch_id, ids[1], other)
    step(workshop, batches.conclude, batch_id)
    assert workshop.voice().paused_at is None


def test_pauses_nothing_for_what_nobody_waited_for(workshop: Workshop) -> None:
    ids, batch_id = away(workshop)
    for each in ids:
        workshop.take_back(each)
        comes(workshop, batch_id, each, RequestRefused("The API refused our request: messages."))
    step(workshop, batches.conclude, batch_id)
    assert workshop.voice().paused_at is None


def test_ends_what_came_without_a_result(workshop: Workshop) -> None:
    ids, batch_id = away(workshop)
    comes(workshop, batch_id, ids[1], answered())
    for _ in range(2):
        step(workshop, batches.conclude, batch_id)
    assert workshop.states() == ["waiting", "answered"]
    assert (workshop.generations()[0].outcome, workshop.generations()[0].cost) == ("NotInTheFile", 0)
    kept = batch(workshop)
    assert (kept.state, kept.why) == ("ended", "1 of its requests came back without a result.")
    assert kept.ended_at is not None


# Looking


def test_is_looked_at_every_minute_and_then_every_five(workshop: Workshop) -> None:
    _, batch_id = away(workshop)
    assert step(workshop, batches.due) == []
    assert step(workshop, batches.look, batch_id) is None
    long_ago(workshop, asked=60)
    assert step(workshop, batches.due) == [batch_id]
    found = step(workshop, batches.look, batch_id)
    assert found is not None
    assert (found.remote_id, found.host, len(found.custom_ids)) == ("msgbatch_1", ORIGIN.host, 2)
    assert step(workshop, batches.look, batch_id) is None
    long_ago(workshop, begun=601, asked=60)
    assert step(workshop, batches.due) == []
    long_ago(workshop, asked=240)
    assert step(workshop, batches.due) == [batch_id]
    step(workshop, batches.conclude, batch_id)
    long_ago(workshop, asked=3600)
    assert step(workshop, batches.due) == []
    assert step(workshop, batches.look, batch_id) is None
    assert step(workshop, batches.look, 4711) is None


def test_is_wanted_while_a_letter_waits_for_it(workshop: Workshop) -> None:
    ids, batch_id = away(workshop, "One.", "Two.", "Three.")
    comes(workshop, batch_id, ids[0], answered())
    workshop.take_back(ids[1])
    with workshop.site.database.reading_sessions() as session:
        assert batches.is_wanted(session, batch_id)
    workshop.take_back(ids[2])
    with workshop.site.database.reading_sessions() as session:
        assert not batches.is_wanted(session, batch_id)


# Which way


def test_needs_one_answer_a_day_to_requests_like_these(workshop: Workshop) -> None:
    workshop.asked()
    sitting = seated(workshop)

    def needed(**other: Any) -> bool:
        origin = {each: getattr(ORIGIN, each) for each in ORIGIN.__slots__}
        return step(workshop, batches.needs_a_live_one, sitting, type(ORIGIN)(**{**origin, **other}))

    assert needed()
    begun(workshop, sitting)
    assert needed()
    step(workshop, batches.created, 1, "msgbatch_1")
    comes(workshop, 1, sitting.claimed[0].comment_id, answered())
    assert not needed()
    assert needed(host="elsewhere.example")
    assert needed(api_version="2099-01-01")
    workshop.pause(minutes=0)
    assert needed()
    with workshop.site.database.sessions.begin() as session:
        voices.resume(session, session.get_one(Voice, workshop.voice_id))
        [made] = session.scalars(select(Generation))
        made.started_at -= timedelta(hours=24, minutes=30)
    assert needed()
    # It was away for a day, and came back now.
    step(workshop, batches.conclude, 1)
    assert not needed()
    with workshop.site.database.sessions.begin() as session:
        session.get_one(Batch, 1).ended_at -= timedelta(hours=25)  # type: ignore[operator]
    assert needed()


@pytest.mark.parametrize(
    ("changed", "is_needed"),
    [
        ({"extra_body": {"temperature": 0.5}}, True),
        ({"max_tokens": 4000}, True),
        ({"anthropic_version": "2023-06-01"}, True),
        ({"base_url": "https://models.example.org"}, True),
        ({"key_name": "ANTHROPIC_API_KEY_SECOND"}, True),
        ({"answering": Answering.CHOSEN}, True),
        ({"memory_tokens": 100}, True),
        ({}, False),
        ({"calls": Calls.RULE, "calls_at_once": 2, "depth": 4, "disclaimer": "It is retired."}, False),
    ],
)
def test_needs_a_live_one_when_what_is_sent_has_changed(
    workshop: Workshop, changed: dict[str, Any], *, is_needed: bool
) -> None:
    workshop.asked()
    workshop.sit(ScriptedModel())
    workshop.asked("Another.")

    def needed() -> bool:
        return step(workshop, batches.needs_a_live_one, seated(workshop), ORIGIN)

    assert not needed()
    workshop.time_passes()
    workshop.sweep()
    with workshop.site.database.sessions.begin() as session:
        voice = voices.held(session, workshop.voice_id)
        voices.set_ways(session, voice, replace(voices.ways_of(voice), **changed))
    sitting = seated(workshop)
    origin = ScriptedModel().origin(sitting.api_version)
    assert step(workshop, batches.needs_a_live_one, sitting, origin) is is_needed
    workshop.time_passes()
    workshop.sweep()
    chosen = {"type": "tool_use", "id": "toolu_3", "name": "choose", "input": {"letters": [1]}}
    picks = [message(chosen, stop="tool_use")] if sitting.answering is Answering.CHOSEN else []
    workshop.sit(ScriptedModel(*picks, message("I dream of letters.")))
    assert not step(workshop, batches.needs_a_live_one, sitting, origin)


def test_needs_a_live_one_under_a_new_charter(workshop: Workshop) -> None:
    workshop.asked()
    workshop.sit(ScriptedModel())
    workshop.asked("Another.")
    sitting = seated(workshop)
    assert not step(workshop, batches.needs_a_live_one, sitting, ORIGIN)
    with workshop.site.database.sessions.begin() as session:
        voice = voices.held(session, workshop.voice_id)
        seen = voices.charters(session, voice)[0].id
        voices.change_charter(session, voice, "You rest.", moderator=workshop.people[0], seen=seen)
    assert step(workshop, batches.needs_a_live_one, sitting, ORIGIN)


def test_takes_no_answer_to_what_was_sent_away_before_the_change(workshop: Workshop) -> None:
    ids, batch_id = [workshop.asked()], 1
    sitting = seated(workshop)
    begun(workshop, sitting)
    step(workshop, batches.created, batch_id, "msgbatch_1")
    with workshop.site.database.sessions.begin() as session:
        voice = voices.held(session, workshop.voice_id)
        voices.set_ways(session, voice, replace(voices.ways_of(voice), max_tokens=4000))
    comes(workshop, batch_id, ids[0], answered())
    step(workshop, batches.conclude, batch_id)
    assert step(workshop, batches.needs_a_live_one, sitting, ORIGIN)


def test_asks_live_what_was_away_often_enough(workshop: Workshop) -> None:
    comment_id = workshop.asked()
    for number in range(1, TIMES + 1):
        sitting = seated(workshop)
        [before] = [step(workshop, batches.before, sitting).get(comment_id)] if number > 1 else [None]
        assert before is None or not before.live
        made = begun(workshop, sitting)
        assert made is not None
        assert numbered(made.entries[0][0]) == f"rr-{comment_id}-{number}"
        step(workshop, batches.created, made.batch_id, f"msgbatch_{number}")
        comes(workshop, made.batch_id, comment_id, PassingTrouble("The batch ended before its turn came."))
    found = step(workshop, batches.before, seated(workshop))[comment_id]
    assert (found.live, found.broken_off) == (True, None)


@pytest.mark.parametrize(
    ("result", "breaks_off"),
    [
        (answered("I dr", stop="max_tokens"), True),
        (answered(notes(), stop="tool_use"), True),
        (RequestRefused("The thread is too long to send.", too_long=True), False),
    ],
)
def test_remembers_what_broke_off_in_a_batch(workshop: Workshop, result: Answer | Trouble, *, breaks_off: bool) -> None:
    ids, batch_id = away(workshop)
    comes(workshop, batch_id, ids[0], result)
    step(workshop, batches.lose, batch_id, "Gone.")
    found = step(workshop, batches.before, seated(workshop))
    assert [(found[each].live, found[each].broken_off is not None) for each in ids] == [
        (True, breaks_off),
        (False, False),
    ]
    kept = found[ids[0]].broken_off
    assert kept is None or (isinstance(result, Answer) and kept.message == result.message)


def test_knows_nothing_of_what_was_asked_live(workshop: Workshop) -> None:
    workshop.asked("Cut.")
    workshop.sit(ScriptedModel(PassingTrouble("The API is failing.", tries=1)))
    with workshop.site.database.sessions.begin() as session:
        session.execute(text("UPDATE reply_requests SET not_before = NULL"))
    assert step(workshop, batches.before, seated(workshop)) == {}
