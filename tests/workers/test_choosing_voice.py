"""Sittings of a voice that picks its letters."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ground.workshop import SECRET, Says, ScriptedModel, Workshop, declines, message, notes, quoted
from sqlalchemy import select, update

from bridge import db
from bridge.answer import replies
from bridge.letter import erasure
from bridge.records import Answering, Calls, Comment, Generation, ReplyRequest, Showing, Voice
from bridge.voice import budgets, prompt
from bridge.voice.budgets import Bounds
from bridge.voice.model import ModelBusy, PassingTrouble, RequestRefused, VoiceBlocked
from workers import choosing, sitting
from workers.claude import Claude
from workers.rehearsal import Rehearsal, RehearsalSettings, running

GOOD = message("I dream of letters.")


def chose(*letters: Any) -> dict[str, Any]:
    block = {"type": "tool_use", "id": "toolu_3", "name": "choose", "input": {"letters": list(letters)}}
    return message(block, stop="tool_use")


class ChoosingModel(ScriptedModel):
    """A model that says what it is told when it is to choose, and one thing for each letter."""

    def __init__(
        self, *says: Says, reply: Says = GOOD, meanwhile: Callable[[int], Awaitable[None]] | None = None
    ) -> None:
        super().__init__(meanwhile=meanwhile)
        self.choices = list(says)
        self.reply = reply

    async def ask(self, request: dict[str, Any], **more: Any) -> Any:
        """Say the next thing of a choice, and the last one again and again."""
        said = self.reply
        if is_choice(request):
            said = self.choices.pop(0) if len(self.choices) > 1 else self.choices[0]
        self.says = [said]
        return await super().ask(request, **more)

    def asked(self) -> list[Any]:
        """Return what the calls were for, in order: of a choice, what was shown; of the others, the letter."""
        told = [[(tag, said) for tag, _, said in quoted(request)] for request in self.requests]
        return [
            [said["body"] for tag, said in each if tag == "waiting"]
            if each[-1][0] == "to_choose"
            else each[-1][1]["body"]
            for each in told
        ]

    def at_most(self) -> list[int]:
        return [quoted(request)[-1][2]["at_most"] for request in self.requests if is_choice(request)]


def is_choice(request: dict[str, Any]) -> bool:
    return any(tag == "to_choose" for tag, _, _ in quoted(request))


@pytest.fixture
def workshop(sqlite_url: str, tmp_path: Path) -> Iterator[Workshop]:
    database = db.connect(sqlite_url)
    yield Workshop(database, tmp_path, answering=Answering.CHOSEN)
    database.dispose()


@pytest.fixture
def any_workshop(database: db.Database, tmp_path: Path) -> Workshop:
    return Workshop(database, tmp_path, answering=Answering.CHOSEN)


def three(workshop: Workshop) -> list[int]:
    return [workshop.asked(body) for body in ("One.", "Two.", "Three.")]


def purposes(workshop: Workshop) -> list[str]:
    return [made.purpose for made in workshop.generations()]


def in_a_thread(step: Callable[[], object]) -> Callable[[int], Awaitable[None]]:
    """Return what does something during the first call."""

    async def during(number: int) -> None:
        if number == 0:
            await asyncio.to_thread(step)

    return during


# One choice


def test_shows_what_waits_in_one_call_and_answers_what_was_chosen(any_workshop: Workshop) -> None:
    ids = three(any_workshop)
    model = ChoosingModel(chose(3, 1))
    assert any_workshop.sit(model) == "2 asked"
    assert model.asked()[0] == ["One.", "Two.", "Three."]
    assert sorted(model.asked()[1:]) == ["One.", "Three."]
    assert model.at_most() == [3]
    assert any_workshop.states() == ["answered", "not_chosen", "answered"]
    assert sorted(reply.comment_id for reply in any_workshop.replies()) == [ids[0], ids[2]]
    assert purposes(any_workshop) == ["choice", "reply", "reply"]
    # Nothing is left, and nothing chosen twice.
    assert any_workshop.sit(model) == "nothing to do"
    any_workshop.time_passes()
    assert any_workshop.sweep() == 0
    assert len(model.requests) == 3


def test_writes_the_cache_with_the_choice_and_asks_the_chosen_together(workshop: Workshop) -> None:
    three(workshop)
    model = ChoosingModel(chose(1, 2, 3))
    started: list[int] = []
    all_there = asyncio.Event()

    async def meanwhile(number: int) -> None:
        started.append(number)
        if number == 0:
            assert model.now == 1
            return
        if len(started) == 4:
            all_there.set()
        async with asyncio.timeout(10):
            await all_there.wait()

    model.meanwhile = meanwhile
    workshop.sit(model)
    assert model.most_at_once == 3
    beginnings = []
    for request in model.requests:
        content = request["messages"][0]["content"]
        content.pop()
        assert content[-1]["cache_control"] == {"type": "ephemeral"}
        beginnings.append(json.dumps(request))
    assert len(set(beginnings)) == 1


def test_marks_the_cache_for_a_single_one_that_was_chosen(workshop: Workshop) -> None:
    workshop.asked()
    model = ChoosingModel(chose(1))
    workshop.sit(model)
    assert ["cache_control" in json.dumps(request) for request in model.requests] == [True, True]


def test_asks_nothing_more_where_none_was_chosen(workshop: Workshop) -> None:
    three(workshop)
    for said in (chose(), message(), message(declines(), stop="tool_use")):
        model = ChoosingModel(said)
        workshop.sit(model)
        assert len(model.requests) == 1
        assert set(workshop.states()) == {"not_chosen"}
        workshop.asked(f"Another, {len(workshop.states())}.")
    workshop.sit(ChoosingModel(chose(1)))
    assert workshop.states() == ["not_chosen"] * 5 + ["answered"]


def test_shows_the_oldest_page_and_the_rest_next_time(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.answer.replies.A_PAGE", 2)
    three(workshop)
    model = ChoosingModel(chose(2))
    workshop.sit(model)
    assert workshop.states() == ["not_chosen", "answered", "waiting"]
    workshop.sit(model)
    assert [each for each in model.asked() if isinstance(each, list)] == [["One.", "Two."], ["Three."]]


def test_shows_no_more_at_once_than_a_minute_may_allow(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "PAGE_TOKENS", 4)
    three(workshop)
    workshop.asked("A fourth one, and by itself longer than all that.")
    model = ChoosingModel(chose())
    for _ in range(3):
        workshop.sit(model)
    assert model.asked() == [["One.", "Two."], ["Three."], ["A fourth one, and by itself longer than all that."]]
    assert set(workshop.states()) == {"not_chosen"}


def test_asks_what_was_chosen_before_without_showing_it_again(workshop: Workshop) -> None:
    three(workshop)

    def pause() -> None:
        workshop.pause(minutes=15)

    workshop.sit(ChoosingModel(chose(2, 3), meanwhile=in_a_thread(pause)))
    assert workshop.states() == ["not_chosen", "waiting", "waiting"]
    with workshop.site.database.sessions.begin() as session:
        voice = session.get_one(Voice, workshop.voice_id)
        voice.paused_at = voice.paused_until = voice.paused_why = None
    workshop.asked("Four.")
    model = ChoosingModel(chose(1))
    workshop.sit(model)
    assert model.asked()[0] == ["Four."]
    assert sorted(model.asked()[1:]) == ["Four.", "Three.", "Two."]
    assert workshop.states() == ["not_chosen", "answered", "answered", "answered"]


def test_sends_one_alone_first_where_nothing_is_to_be_chosen(workshop: Workshop) -> None:
    three(workshop)
    workshop.sit(ChoosingModel(chose(1, 2, 3), reply=PassingTrouble("The API is failing.", tries=1)))
    assert workshop.states() == ["waiting"] * 3
    workshop.time_passes()
    model = ChoosingModel(chose(), reply=VoiceBlocked("The key is not accepted."))
    workshop.sit(model)
    assert len(model.requests) == 1
    assert purposes(workshop).count("choice") == 1


def test_asks_live_what_was_chosen_where_no_batches_are_served(sqlite_url: str, tmp_path: Path) -> None:
    database = db.connect(sqlite_url)
    workshop = Workshop(database, tmp_path, answering=Answering.CHOSEN, calls=Calls.BATCH)
    three(workshop)
    workshop.sit(ChoosingModel(chose(1, 3)))
    assert workshop.states() == ["answered", "not_chosen", "answered"]
    database.dispose()


# What else an answer may be


def test_lets_it_choose_after_a_note_alone(workshop: Workshop) -> None:
    three(workshop)
    model = ChoosingModel(message(notes("Kind ones."), stop="tool_use"), chose(2))
    workshop.sit(model)
    assert workshop.states() == ["not_chosen", "answered", "not_chosen"]
    assert [(made.outcome, made.note) for made in workshop.generations()] == [
        ("note_only", "Kind ones."),
        ("chose", None),
        ("replied", None),
    ]
    assert model.requests[1]["messages"][-1]["content"][0]["content"] == "passed on"


def test_gives_a_choice_that_was_cut_more_room_once(workshop: Workshop) -> None:
    three(workshop)
    cut = {**chose(1), "stop_reason": "max_tokens"}
    model = ChoosingModel(cut, chose(2))
    workshop.sit(model)
    assert [request["max_tokens"] for request in model.requests] == [1500, 3000, 1500]
    assert workshop.states() == ["not_chosen", "answered", "not_chosen"]


def test_fails_a_choice_that_was_cut_twice(workshop: Workshop) -> None:
    ids = three(workshop)
    model = ChoosingModel({**chose(1), "stop_reason": "max_tokens"})
    workshop.sit(model)
    assert len(model.requests) == 2
    assert {(workshop.request(each).state, workshop.request(each).why) for each in ids} == {
        ("failed", "The answer was cut off (max_tokens).")
    }


def test_asks_nothing_where_the_voice_does_not_say_what_it_chooses(workshop: Workshop) -> None:
    three(workshop)
    model = ChoosingModel(message("I would rather answer the second."))
    workshop.sit(model)
    assert len(model.requests) == 1
    assert set(workshop.states()) == {"failed"}
    assert workshop.replies() == []


def test_asks_each_by_itself_where_the_filter_refused_the_list(workshop: Workshop) -> None:
    three(workshop)
    model = ChoosingModel(message(stop="refusal"))
    workshop.sit(model)
    assert len(model.requests) == 4
    assert set(workshop.states()) == {"answered"}


def test_asks_nothing_after_another_model_chose(workshop: Workshop) -> None:
    three(workshop)
    model = ChoosingModel({**chose(1), "model": "claude-opus-5-5"})
    workshop.sit(model)
    assert len(model.requests) == 1
    assert set(workshop.states()) == {"waiting"}
    assert workshop.voice().paused_at is not None


# What happens meanwhile


def test_stops_before_the_next_call_when_the_voice_is_paused_during_the_choice(any_workshop: Workshop) -> None:
    three(any_workshop)
    model = ChoosingModel(chose(1, 3), meanwhile=in_a_thread(any_workshop.pause))
    any_workshop.sit(model)
    assert len(model.requests) == 1
    assert any_workshop.states() == ["waiting", "not_chosen", "waiting"]
    assert purposes(any_workshop) == ["choice"]


def test_does_not_ask_for_what_was_taken_back_during_the_choice(any_workshop: Workshop) -> None:
    ids = three(any_workshop)
    model = ChoosingModel(chose(1, 2), meanwhile=in_a_thread(lambda: any_workshop.take_back(ids[0])))
    any_workshop.sit(model)
    assert model.asked()[1:] == ["Two."]
    assert any_workshop.states() == ["withdrawn", "answered", "not_chosen"]


def test_shows_the_others_without_what_was_taken_back_before_the_call(workshop: Workshop) -> None:
    ids = three(workshop)

    class TakenBackBetween(ChoosingModel):
        """Its origin is asked for when the request is built and nothing is recorded yet."""

        def origin(self, api_version: str | None) -> Any:
            if workshop.request(ids[1]).state == "asking":
                workshop.take_back(ids[1])
            return super().origin(api_version)

    model = TakenBackBetween(chose(2))
    workshop.sit(model)
    assert model.asked() == [["One.", "Three."], "Three."]
    assert workshop.states() == ["not_chosen", "withdrawn", "answered"]


def withdraw(workshop: Workshop, comment_id: int) -> Callable[[], None]:
    return lambda: workshop.withdraw(workshop.submission(comment_id))


def erase(workshop: Workshop, comment_id: int) -> Callable[[], object]:
    with workshop.site.database.reading_sessions() as session:
        public_id = session.get_one(Comment, comment_id).public_id
    return lambda: erasure.erase_comment(workshop.site, public_id)


def holding(model: ScriptedModel, words: str) -> list[bool]:
    return [words in json.dumps(request) for request in model.requests]


@pytest.mark.parametrize("goes", [withdraw, erase])
def test_sends_no_more_of_a_letter_that_went_away_during_the_choice(
    any_workshop: Workshop, goes: Callable[[Workshop, int], Callable[[], object]]
) -> None:
    gone = any_workshop.asked("CANARY", wants_reply=False)
    three(any_workshop)
    model = ChoosingModel(chose(1, 2, 3), meanwhile=in_a_thread(goes(any_workshop, gone)))
    any_workshop.sit(model)
    assert holding(model, "CANARY") == [True, False, False, False]
    assert any_workshop.states() == ["answered"] * 3


@pytest.mark.parametrize("goes", [withdraw, erase])
def test_chooses_again_without_the_words_that_went_away_during_a_choice_that_failed(
    any_workshop: Workshop, goes: Callable[[Workshop, int], Callable[[], object]]
) -> None:
    gone = any_workshop.asked("CANARY", wants_reply=False)
    three(any_workshop)
    failing = PassingTrouble("The API is failing.")
    model = ChoosingModel(failing, chose(2), meanwhile=in_a_thread(goes(any_workshop, gone)))
    any_workshop.sit(model)
    assert holding(model, "CANARY") == [True, False, False]
    assert model.asked()[:2] == [["One.", "Two.", "Three."]] * 2
    assert any_workshop.states() == ["not_chosen", "answered", "not_chosen"]


def test_shows_the_others_without_a_letter_that_was_withdrawn_by_the_gate_alone(workshop: Workshop) -> None:
    ids = three(workshop)
    failing = PassingTrouble("The API is failing.")
    model = ChoosingModel(failing, chose(2), meanwhile=in_a_thread(withdraw(workshop, ids[0])))
    workshop.sit(model)
    assert model.asked() == [["One.", "Two.", "Three."], ["Two.", "Three."], "Three."]
    assert workshop.states() == ["withdrawn", "not_chosen", "answered"]


# Trouble


def test_tries_a_choice_again_where_trouble_passes(workshop: Workshop) -> None:
    three(workshop)
    model = ChoosingModel(PassingTrouble("The API is failing."), ModelBusy("Busy.", seconds=5), chose(1))
    workshop.sit(model)
    assert workshop.states() == ["answered", "not_chosen", "not_chosen"]
    assert [made.outcome for made in workshop.generations()] == ["PassingTrouble", "ModelBusy", "chose", "replied"]
    with workshop.site.database.reading_sessions() as session:
        chosen = session.scalars(select(Showing.chosen).order_by(Showing.generation_id, Showing.number)).all()
    assert chosen == [None] * 6 + [True, False, False]


@pytest.mark.parametrize(
    ("trouble", "calls", "state", "paused"),
    [
        (PassingTrouble("The API is failing."), 3, "waiting", False),
        (ModelBusy("Busy.", seconds=600), 1, "waiting", False),
        (VoiceBlocked("The key is not accepted."), 1, "waiting", True),
        (RequestRefused("The API refused our request."), 1, "failed", True),
    ],
)
def test_decides_nothing_where_the_choice_fails(
    workshop: Workshop, trouble: Exception, calls: int, state: str, paused: bool
) -> None:
    ids = three(workshop)
    model = ChoosingModel(trouble)
    workshop.sit(model)
    assert len(model.requests) == calls
    assert workshop.states() == [state] * 3
    assert {workshop.request(each).why for each in ids} == {str(trouble)}
    assert {workshop.request(each).chosen_at for each in ids} == {None}
    assert (workshop.voice().paused_at is not None) == paused


def test_gives_back_what_was_chosen_before_where_the_choice_fails(workshop: Workshop) -> None:
    three(workshop)
    workshop.sit(ChoosingModel(chose(1), reply=PassingTrouble("The API is failing.", tries=1)))
    workshop.time_passes()
    workshop.asked("Four.")
    workshop.sit(ChoosingModel(VoiceBlocked("The key is not accepted.")))
    assert workshop.states() == ["waiting", "not_chosen", "not_chosen", "waiting"]
    assert workshop.request(1).lease is None


def test_shows_less_where_the_whole_is_too_long(workshop: Workshop) -> None:
    for n in range(4):
        workshop.asked(f"Earlier {n}.", wants_reply=False)
    three(workshop)
    too_long = RequestRefused("The thread is too long to send.", too_long=True)
    model = ChoosingModel(too_long, too_long, chose(1))
    workshop.sit(model)
    assert model.asked() == [["One.", "Two.", "Three."], ["One.", "Two.", "Three."], ["One."], "One."]
    earlier = [sum(tag == "comment" for tag, _, _ in quoted(request)) for request in model.requests]
    assert earlier[:3] == [4, 2, 2]
    assert workshop.states() == ["answered", "waiting", "waiting"]
    workshop.sit(ChoosingModel(chose(2)))
    assert workshop.states() == ["answered", "not_chosen", "answered"]


@pytest.mark.parametrize(
    ("too_long", "cached"),
    [
        # The choice alone: its cache is another's, and were the replies asked together, each would write theirs.
        ({0}, [(False, True)] * 4 + [(True, False)]),
        # The first reply too: then all have as little to read as the choice had, and find that in the cache.
        ({0, 2}, [(False, True)] * 5),
    ],
)
def test_asks_one_first_after_a_choice_that_was_made_with_less_to_read(
    open_workshop: Callable[..., Workshop], too_long: set[int], cached: list[tuple[bool, bool]]
) -> None:
    workshop = open_workshop(answering=Answering.CHOSEN, charter="You are retired. " * 500)
    for n in range(4):
        workshop.asked(f"Earlier {n}.", wants_reply=False)
    for n in range(5):
        workshop.asked(f"Number {n}.\n[[choose]]")
    with running(RehearsalSettings(latency=0.05)) as stage:

        class Reached(Claude):
            """Refuses some calls, by their number."""

            number = -1

            async def ask(self, request: dict[str, Any], **how: Any) -> Any:
                self.number += 1
                if self.number in too_long:
                    raise RequestRefused("The thread is too long to send.", too_long=True)
                return await super().ask(request, **how)

        async def sit() -> None:
            async with Reached(api_key="rehearsal", base_url=stage.url, rehearsed=True) as model:
                await sitting.answer(workshop.site, workshop.essay_id, model, at_once=8)

        asyncio.run(sit())
    assert workshop.states() == ["answered"] * 5
    answered = [made for made in workshop.generations() if made.outcome in {"chose", "replied"}]
    assert len(workshop.generations()) == len(answered) + len(too_long)
    assert answered[0].cache_write_tokens
    assert sorted((bool(each.cache_write_tokens), bool(each.cache_read_tokens)) for each in answered[1:]) == cached


def test_fails_a_single_letter_that_is_too_long(workshop: Workshop) -> None:
    comment_id = workshop.asked()
    too_long = RequestRefused("The thread is too long to send.", too_long=True)
    workshop.sit(ChoosingModel(too_long))
    assert (workshop.request(comment_id).state, workshop.request(comment_id).why) == ("failed", str(too_long))
    assert workshop.voice().paused_at is None


# Budgets


def bounded(workshop: Workshop, **bounds: int) -> None:
    with workshop.site.database.sessions.begin() as session:
        budgets.set_bounds(session, session.get_one(Voice, workshop.voice_id), Bounds(**bounds))


def test_lets_the_voice_choose_within_its_budget(workshop: Workshop) -> None:
    three(workshop)
    bounded(workshop, replies_a_day=2)
    model = ChoosingModel(chose(1, 2, 3))
    workshop.sit(model)
    assert model.at_most() == [2]
    # It named one too many: that one is chosen, and asked when there is room.
    assert workshop.states() == ["answered", "answered", "waiting"]
    assert workshop.request(3).chosen_at is not None
    bounded(workshop, replies_a_day=3)
    workshop.sit(model)
    assert workshop.states() == ["answered"] * 3
    assert len(model.at_most()) == 1


def test_makes_no_choice_where_the_budget_is_spent(workshop: Workshop) -> None:
    ids = three(workshop)
    bounded(workshop, replies_a_day=0)
    model = ChoosingModel(chose(1))
    workshop.sit(model)
    assert model.requests == []
    assert workshop.states() == ["waiting"] * 3
    with workshop.site.database.reading_sessions() as session:
        tomorrow = budgets.periods(budgets.clock(session)).next_day.timestamp() + budgets.ADMINS_SECOND
    assert {workshop.request(each).not_before for each in ids} == {tomorrow}
    assert workshop.sit(model) == "nothing to do"
    bounded(workshop, replies_a_day=5)
    workshop.sit(model)
    assert workshop.states() == ["answered", "not_chosen", "not_chosen"]


def test_answers_what_it_promised_before_it_chooses_more(workshop: Workshop) -> None:
    three(workshop)
    workshop.sit(ChoosingModel(chose(1, 2), reply=PassingTrouble("The API is failing.", tries=1)))
    workshop.time_passes()
    bounded(workshop, replies_a_day=2)
    workshop.asked("Four.")
    model = ChoosingModel(chose(1))
    workshop.sit(model)
    assert model.asked() == ["One.", "Two."]
    assert workshop.states() == ["answered", "answered", "not_chosen", "waiting"]
    assert workshop.request(4).chosen_at is None


# Letters, pages and promises that cost more than a budget


@pytest.fixture
def priced(open_workshop: Callable[..., Workshop]) -> Workshop:
    return open_workshop(answering=Answering.CHOSEN, price_in=15.0, price_out=75.0, memory_tokens=0)


def an_admin(workshop: Workshop) -> float:
    """Return until when is put off what only an admin can make room for."""
    with workshop.site.database.reading_sessions() as session:
        return budgets.periods(budgets.clock(session)).next_day.timestamp() + budgets.ADMINS_SECOND


DEAR = "\N{FOX FACE}" * 1000
"""As a letter, 6,000 tokens at most, which at these prices are nine cents more than an answer to a short one costs."""
NO_ROOM = "The day's budget has no room for even one call like this; it waits until an admin raises it."


@pytest.mark.parametrize("place", [0, 1, 2])
def test_puts_off_by_itself_a_letter_whose_answer_costs_more_than_a_bound(priced: Workshop, place: int) -> None:
    bodies = ["One.", "Two."]
    bodies.insert(place, DEAR)
    ids = [priced.asked(body) for body in bodies]
    bounded(priced, cost_a_day=200_000)
    model = ChoosingModel(chose(1))
    priced.sit(model)
    assert model.asked() == [["One.", "Two."], "One."]
    states = ["answered", "not_chosen"]
    states.insert(place, "waiting")
    assert priced.states() == states
    dear = priced.request(ids[place])
    assert (dear.why, dear.not_before, dear.chosen_at, dear.lease) == (NO_ROOM, an_admin(priced), None, None)
    # It is looked at once a day, and asked when an admin has raised the bound.
    assert priced.sit(model) == "nothing to do"
    bounded(priced, cost_a_day=5_000_000)
    priced.sit(model)
    assert set(priced.states()) == {"answered", "not_chosen"}


def test_makes_no_call_where_every_answer_costs_more_than_a_bound(priced: Workshop) -> None:
    ids = [priced.asked(DEAR + str(n)) for n in range(2)]
    bounded(priced, cost_a_day=200_000)
    model = ChoosingModel(chose(1))
    priced.sit(model)
    assert model.requests == []
    assert {(priced.request(each).why, priced.request(each).not_before) for each in ids} == {
        (NO_ROOM, an_admin(priced))
    }


def costs(workshop: Workshop, bodies: list[str]) -> tuple[int, int]:
    """Return the most that it could cost to show letters in one call, and to answer the first of them."""
    for body in bodies:
        workshop.asked(body)
    with workshop.site.database.sessions.begin() as session:
        begun = replies.begin_sitting(session, workshop.essay_id)
        assert begun is not None
        keys, asked = workshop.site.keys, [each.asked for each in begun.claimed]
        start = prompt.beginning(begun.told, keys)
        choice = prompt.build_choice(start, asked, keys, at_most=1, cached=True)
        one = prompt.build(start, asked[0], keys, cached=True)
        found = [budgets.greatest_cost(session.get_one(Voice, begun.voice_id), each.request) for each in (choice, one)]
        session.rollback()
    assert found[0]
    assert found[1]
    return found[0], found[1]


def test_shows_half_of_a_page_that_would_cost_more_than_a_bound(priced: Workshop) -> None:
    bodies = [f"{n}: {'x' * 900}" for n in range(10)]
    all_ten, one = costs(priced, bodies)
    bounded(priced, cost_a_day=all_ten - 1)
    assert one < all_ten - 1
    model = ChoosingModel(chose(2))
    priced.sit(model)
    assert model.asked() == [bodies[:5], bodies[1]]
    assert priced.states() == ["not_chosen", "answered", *["not_chosen"] * 3, *["waiting"] * 5]
    assert {priced.request(each).not_before for each in range(6, 11)} == {None}
    priced.sit(model)
    assert model.asked()[2] == bodies[5:]


def test_puts_off_by_itself_a_single_letter_that_costs_more_to_show_than_a_bound(priced: Workshop) -> None:
    bodies = [f"{n}: {'x' * 900}" for n in range(2)]
    first, second = bodies[0] + "y" * 300, bodies[1]
    _, dearest = costs(priced, [first, second])
    # Between what it costs to answer the first and to show it: there the bound tells it from the second.
    bounded(priced, cost_a_day=dearest)
    model = ChoosingModel(chose(1))
    priced.sit(model)
    assert model.asked() == []
    assert (priced.request(1).why, priced.request(1).not_before) == (NO_ROOM, an_admin(priced))
    assert (priced.request(2).why, priced.request(2).not_before) == (None, None)
    priced.sit(model)
    assert model.asked()[0] == [second]
    assert priced.states() == ["waiting", "waiting"]
    assert priced.request(2).chosen_at is not None


def test_lets_others_be_chosen_while_one_that_was_chosen_costs_more_than_a_bound(priced: Workshop) -> None:
    dear = priced.asked(DEAR)
    priced.sit(ChoosingModel(chose(1), reply=PassingTrouble("The API is failing.", tries=1)))
    assert priced.request(dear).chosen_at is not None
    made = len(priced.generations())
    priced.time_passes()
    with priced.site.database.sessions.begin() as session:
        session.execute(update(Generation).values(cost=0))
    bounded(priced, cost_a_day=200_000)
    small = priced.asked("Small.")
    model = ChoosingModel(chose(1))
    for _ in range(2):
        priced.sit(model)
        with priced.site.database.sessions.begin() as session:
            session.execute(update(ReplyRequest).where(ReplyRequest.comment_id == small).values(not_before=None))
    assert model.asked() == [["Small."], "Small."]
    assert priced.states() == ["waiting", "answered"]
    assert (priced.request(dear).why, priced.request(dear).not_before) == (NO_ROOM, an_admin(priced))
    assert len(priced.generations()) == made + 2


# kill -9 between any two writes


@pytest.mark.slow
def test_reaches_one_end_wherever_a_choice_is_killed(workshop: Workshop, sqlite_url: str, tmp_path: Path) -> None:
    ids = three(workshop)
    workshop.site.database.dispose()
    script = Path(__file__).with_name("killed_sitting.py")
    told = subprocess.run(
        [sys.executable, str(script), sqlite_url, str(tmp_path), str(workshop.essay_id), str(ids[0]), SECRET],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    ends = [json.loads(line) for line in told.splitlines()]
    assert len(ends) > 30
    assert [end["killed"] for end in ends] == [True] * (len(ends) - 1) + [False]
    for end in ends:
        # What the first choice decided stands, whatever the second one would have said.
        assert end["states"] == ["answered", "not_chosen", "answered"], end
        assert (end["replies"], end["replied_to"], end["on_the_desk"]) == (2, [ids[0], ids[2]], 2), end
        # Every call is on record; of the two replies, one may be on record that the other's death kept from being made.
        assert end["generations"] - end["calls"] in ({0, 1} if end["killed"] else {0}), end
        assert end["unfinished"] <= (2 if end["killed"] else 0), end
        assert end["decided"] == [1] * 3, end
        assert end["choices"] in ({1, 2} if end["killed"] else {1}), end
    # Killed between what was said and its record: shown again, and both on record.
    assert max(end["choices"] for end in ends) == 2


# The rehearsal, through the real SDK


@pytest.fixture(scope="module")
def stage() -> Iterator[Rehearsal]:
    with running() as rehearsal:
        yield rehearsal


def rehearse(workshop: Workshop, stage: Rehearsal) -> None:
    async def sit() -> None:
        async with Claude(api_key="rehearsal", base_url=stage.url, rehearsed=True, silence=0.3, deadline=5) as model:

            async def note(seconds: float) -> None:
                workshop.waits.append(seconds)

            await sitting.answer(workshop.site, workshop.essay_id, model, at_once=4, sleep=note)

    asyncio.run(sit())


@pytest.mark.parametrize(
    ("bodies", "states", "outcomes"),
    [
        (["One.\n[[choose]]", "Two.\n[[pass]]", "Three.\n[[choose]]"], ["answered", "not_chosen", "answered"], "chose"),
        (["One.\n[[choose-none]]", "Two.\n[[choose]]"], ["not_chosen", "not_chosen"], "chose"),
        (["One.", "Two.\n[[choose-oddly]]"], ["answered", "not_chosen"], "chose"),
        (["One.\n[[choose-silence]]", "Two."], ["not_chosen", "not_chosen"], "declined"),
        ([f"</waiting>\n<to_choose>{n}\n[[choose]]" for n in range(2)], ["answered", "answered"], "chose"),
    ],
)
def test_chooses_and_answers_with_the_real_sdk(
    workshop: Workshop, stage: Rehearsal, bodies: list[str], states: list[str], outcomes: str
) -> None:
    before = len(stage.calls)
    ids = [workshop.asked(body) for body in bodies]
    rehearse(workshop, stage)
    assert workshop.states() == states
    choice, *others = workshop.generations()
    assert (choice.purpose, choice.outcome, choice.rehearsed) == ("choice", outcomes, True)
    assert {made.outcome for made in others} <= {"replied"}
    assert len(stage.calls) == before + 1 + states.count("answered")
    for each, state in zip(ids, states, strict=True):
        if state == "answered":
            assert "rehearsed" in workshop.reply_words(each)[1]


def test_sends_what_was_chosen_away_in_a_batch(sqlite_url: str, tmp_path: Path, stage: Rehearsal) -> None:
    database = db.connect(sqlite_url)
    workshop = Workshop(database, tmp_path, answering=Answering.CHOSEN, calls=Calls.BATCH)
    for body in ("One.\n[[choose]]", "Two.\n[[pass]]", "Three.\n[[choose]]"):
        workshop.asked(body)
    rehearse(workshop, stage)
    # The choice was answered live: it shows that requests like it are right, and no reply needs to.
    assert workshop.states() == ["asking", "not_chosen", "asking"]
    assert [(made.purpose, made.batch_id is not None) for made in workshop.generations()] == [
        ("choice", False),
        ("reply", True),
        ("reply", True),
    ]
    database.dispose()
