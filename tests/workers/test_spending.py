"""What a sitting does when a budget is spent or a person pauses its voice, and how a failed request is asked again."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from ground.workshop import NAME, ScriptedModel, Workshop, declines, message
from sqlalchemy import update

from bridge.answer import replies
from bridge.answer.replies import PAUSE_AFTER, NotToBeAskedAgain
from bridge.desk import keeping
from bridge.records import ReplyRequest, RequestState
from bridge.voice import budgets
from bridge.voice.budgets import Bounds
from bridge.voice.model import PassingTrouble
from moderation import moderators
from moderation.types import Moderator

SLUG = "test-voice"
NOON = datetime(2031, 5, 17, 12, tzinfo=UTC)
MIDNIGHT = datetime(2031, 5, 18, tzinfo=UTC).timestamp()
SPENT = "The day's budget is spent; it is asked after midnight UTC."


def meanwhile(what: Callable[[], object], number: int = 0) -> Callable[[int], Awaitable[None]]:
    async def happen(call: int) -> None:
        if call == number:
            await asyncio.to_thread(what)

    return happen


def ada(workshop: Workshop) -> Moderator:
    with workshop.site.database.reading_sessions() as session:
        return moderators.named(session, workshop.people)[workshop.people[0]]


def fail(workshop: Workshop, comment_id: int) -> None:
    """Let the request for a reply fail, as at a second answer that was cut off."""
    with workshop.site.database.sessions.begin() as session:
        request = session.get_one(ReplyRequest, comment_id)
        request.state, request.why, request.attempts = RequestState.FAILED.value, "It was cut off.", 2


# A budget


def test_asks_nothing_more_once_the_budget_is_spent_and_lets_what_waits_wait(
    any_workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop = any_workshop
    monkeypatch.setattr(budgets, "clock", lambda _session: NOON)
    keeping.set_bounds(workshop.site, SLUG, Bounds(replies_a_day=2))
    ids = [workshop.asked(f"Number {n}.") for n in range(5)]
    elsewhere = workshop.asked("Elsewhere.", essay_id=workshop.essay("# Else\n\nWhere."))
    model = ScriptedModel()
    workshop.sit(model, at_once=1)
    assert len(model.requests) == len(workshop.generations()) == 2
    assert workshop.states() == ["answered", "answered", "waiting", "waiting", "waiting", "waiting"]
    assert [(r.why, r.not_before, r.lease) for r in map(workshop.request, ids[2:])] == [(SPENT, MIDNIGHT, None)] * 3
    # Under another essay the first finds nothing left, and the others are spared.
    workshop.asked("Elsewhere too.", essay_id=2)
    workshop.sit(model, essay_id=2)
    assert workshop.request(elsewhere).why == workshop.request(elsewhere + 1).why == SPENT
    assert workshop.request(elsewhere + 1).not_before == MIDNIGHT
    assert len(model.requests) == 2


def test_goes_on_after_midnight(any_workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = any_workshop
    monkeypatch.setattr(budgets, "clock", lambda _session: NOON)
    keeping.set_bounds(workshop.site, SLUG, Bounds(replies_a_day=1))
    for n in range(2):
        workshop.asked(f"Number {n}.")
    workshop.sit(ScriptedModel())
    assert workshop.states() == ["answered", "waiting"]
    monkeypatch.setattr(budgets, "clock", lambda _session: NOON + timedelta(days=1))
    workshop.time_passes()
    workshop.sit(ScriptedModel())
    assert workshop.states() == ["answered", "answered"]


def test_lets_the_others_wait_a_minute_where_a_call_that_is_open_holds_the_rest(any_workshop: Workshop) -> None:
    workshop = any_workshop
    keeping.set_bounds(workshop.site, SLUG, Bounds(replies_a_day=1))
    for n in range(3):
        workshop.asked(f"Number {n}.")
    # The first declines, so one place is left; of the two that want it together one has it.
    workshop.sit(ScriptedModel(message(declines(), stop="tool_use"), message("I dream.")), at_once=2)
    assert sorted(workshop.states()) == ["answered", "declined", "waiting"]
    assert len(workshop.replies()) == 1


def test_never_has_two_sittings_exceed_a_budget_together(any_workshop: Workshop) -> None:
    workshop = any_workshop
    keeping.set_bounds(workshop.site, SLUG, Bounds(replies_a_day=3))
    essays = [workshop.essay_id, workshop.essay("# Else\n\nWhere.")]
    for n in range(8):
        workshop.asked(f"Number {n}.", essay_id=essays[n % 2])
    together = Barrier(2)

    def hold(essay_id: int) -> None:
        together.wait(30)
        workshop.sit(ScriptedModel(), essay_id=essay_id)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(hold, essays))
    assert len(workshop.replies()) <= 3
    for _ in range(3):
        workshop.time_passes()
        for essay_id in essays:
            workshop.sit(ScriptedModel(), essay_id=essay_id)
    assert len(workshop.replies()) == 3
    assert workshop.states().count("waiting") == 5


# A pause


def test_makes_no_call_after_an_admin_has_paused_the_voice(any_workshop: Workshop) -> None:
    workshop = any_workshop
    for n in range(6):
        workshop.asked(f"Number {n}.")
    admin = ada(workshop)
    paused_after: list[int] = []

    def pause() -> None:
        keeping.pause(workshop.site, SLUG, moderator=admin, why="Enough for today.")
        paused_after.append(len(workshop.generations()))

    model = ScriptedModel(meanwhile=meanwhile(pause, number=2))
    workshop.sit(model, at_once=1)
    # The call that was open is let end; none is begun once the pause is committed.
    assert len(model.requests) == len(workshop.generations()) == paused_after[0] == 3
    assert workshop.states().count("answered") == 3
    assert workshop.states().count("waiting") == 3
    assert workshop.voice().paused_why == "Ada: Enough for today."
    assert workshop.sit(model) == "nothing to do"
    keeping.resume(workshop.site, SLUG)
    workshop.sit(model)
    assert workshop.states() == ["answered"] * 6


def test_keeps_a_persons_pause_whatever_becomes_of_the_calls_that_were_open(any_workshop: Workshop) -> None:
    workshop = any_workshop
    for n in range(PAUSE_AFTER + 1):
        workshop.asked(f"Number {n}.")
    admin = ada(workshop)
    trouble = PassingTrouble("The API is failing.", tries=1)
    calls = [message("I dream."), trouble]
    pausing = meanwhile(lambda: keeping.pause(workshop.site, SLUG, moderator=admin, why=""), number=PAUSE_AFTER)
    workshop.sit(ScriptedModel(*calls, meanwhile=pausing), at_once=1)
    voice = workshop.voice()
    assert (voice.paused_why, voice.paused_until) == ("Ada paused it.", None)
    workshop.time_passes()
    assert workshop.sit(ScriptedModel()) == "nothing to do"


# Asking again


def test_asks_again_as_often_as_one_presses_and_has_one_reply(any_workshop: Workshop) -> None:
    workshop = any_workshop
    comment_id = workshop.asked()
    fail(workshop, comment_id)
    together = Barrier(7)

    def press(number: int) -> str:
        together.wait(30)
        if number == 5:
            workshop.sweep()
        if number >= 5:
            workshop.sit(ScriptedModel())
            return "worked"
        try:
            keeping.ask_again(workshop.site, SLUG, comment_id)
        except NotToBeAskedAgain:
            return "refused"
        return "asked"

    with ThreadPoolExecutor(7) as threads:
        came = list(threads.map(press, range(7)))
    assert came.count("asked") == 1
    assert came.count("refused") == 4
    workshop.sit(ScriptedModel())
    assert workshop.states() == ["answered"]
    assert len(workshop.replies()) == len(workshop.generations()) == 1
    assert workshop.reply_words(comment_id)[0] == NAME
    # The attempts before stay counted.
    assert workshop.request(comment_id).attempts == workshop.generations()[0].attempt == 3


@pytest.mark.parametrize("state", [state for state in RequestState if state is not RequestState.FAILED])
def test_asks_nothing_again_that_did_not_fail(workshop: Workshop, state: RequestState) -> None:
    comment_id = workshop.asked()
    with workshop.site.database.sessions.begin() as session:
        session.execute(update(ReplyRequest).values(state=state.value))
    with pytest.raises(NotToBeAskedAgain):
        keeping.ask_again(workshop.site, SLUG, comment_id)
    assert workshop.states() == [state]


def test_asks_no_voice_again_whose_reply_was_vetoed(workshop: Workshop) -> None:
    comment_id = workshop.asked()
    workshop.sit(ScriptedModel())
    [reply] = workshop.replies()
    for by in workshop.people:
        workshop.reject(
            reply.submission_id, by=by, code="harm", reason="It would tell a reader where a private person lives."
        )
    # Even if the request stood as failed, its comment has had its one reply.
    fail(workshop, comment_id)
    with pytest.raises(NotToBeAskedAgain):
        keeping.ask_again(workshop.site, SLUG, comment_id)


def test_asks_nothing_again_about_a_letter_that_is_no_longer_posted(workshop: Workshop) -> None:
    comment_id = workshop.asked()
    fail(workshop, comment_id)
    workshop.withdraw(workshop.submission(comment_id))
    with pytest.raises(NotToBeAskedAgain):
        keeping.ask_again(workshop.site, SLUG, comment_id)
    with pytest.raises(NotToBeAskedAgain):
        keeping.ask_again(workshop.site, SLUG, 4711)
    assert workshop.states() == ["failed"]


def test_nudges_once_a_worker_can_find_the_request(open_workshop: Callable[..., Workshop]) -> None:
    found: list[list[int]] = []

    class Nudged:
        def nudge(self, essay_id: int) -> None:
            with workshop.site.database.reading_sessions() as session:
                found.append([essay_id, *replies.essays_waiting(session)])

        def nudge_outgoing(self) -> None:
            raise AssertionError("no mail goes out here")

        def nudge_screening(self, submission_id: int) -> None:
            raise AssertionError("no service is asked here")

        def nudge_looking_again(self, after: int) -> None:
            raise AssertionError("no word is listed here")

        def nudge_batch(self, batch_id: int) -> None:
            raise AssertionError("nothing is sent in batches here")

        def nudge_pages(self, essay_id: int) -> None:
            raise AssertionError("nothing is printed here")

        def nudge_mention(self, mention_id: int) -> None:
            raise AssertionError("nothing is mentioned here")

    workshop = open_workshop(nudges=Nudged())
    fail(workshop, workshop.asked())
    found.clear()
    keeping.ask_again(workshop.site, SLUG, 1)
    keeping.resume(workshop.site, SLUG)
    assert found == [[workshop.essay_id, workshop.essay_id]] * 2
