"""The steps of a choice, each by itself; `tests/workers/test_choosing_voice.py` has them taken in order."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from ground.workshop import MODEL, ScriptedModel, Workshop, declines, message, notes, quoted, unpacked
from sqlalchemy import select

from bridge import db
from bridge.answer import calls, choosing, replies, unchosen
from bridge.answer.choosing import Decided, Ready
from bridge.answer.replies import Claimed, Sitting, VoicePaused
from bridge.letter import erasure
from bridge.records import Answering, Comment, Showing, Voice
from bridge.voice import budgets, prompt
from bridge.voice.budgets import Bounds, BudgetSpent
from bridge.voice.model import NO_CHOICE, Answer, Outcome, read, read_choice
from bridge.voice.prompt import Prompt

R = TypeVar("R")
ORIGIN = ScriptedModel().origin(None)
STRANGE = {"type": "new"}


def chooses(letters: Any, **more: Any) -> dict[str, Any]:
    """Return the block by which a voice chooses."""
    return {"type": "tool_use", "id": "toolu_3", "name": "choose", "input": {"letters": letters}, **more}


def chose(*letters: int) -> dict[str, Any]:
    return message(chooses(list(letters)), stop="tool_use")


@pytest.fixture
def workshop(database: db.Database, tmp_path: Path) -> Workshop:
    return Workshop(database, tmp_path, answering=Answering.CHOSEN, price_in=15.0, price_out=75.0)


def step(workshop: Workshop, what: Callable[..., R], *given: Any, **named: Any) -> R:
    with workshop.site.database.sessions.begin() as session:
        return what(session, *given, **named)


def begun(workshop: Workshop) -> Sitting:
    sitting = step(workshop, replies.begin_sitting, workshop.essay_id)
    assert sitting is not None
    return sitting


def request(workshop: Workshop, sitting: Sitting, shown: list[Claimed], at_most: int = 20) -> Prompt:
    keys = workshop.site.keys
    start = prompt.beginning(sitting.told, keys)
    return prompt.build_choice(start, [each.asked for each in shown], keys, at_most=at_most, cached=True)


def shown_to(workshop: Workshop, sitting: Sitting) -> int:
    """Record that a voice is shown what a sitting claimed; return the call's id."""
    shown = list(sitting.claimed)
    made = step(workshop, choosing.begin, sitting, shown, request(workshop, sitting, shown), ORIGIN, workshop.site.keys)
    assert made is not None
    return made


def answered(said: dict[str, Any]) -> Answer:
    return read(said, asked=MODEL, request_id="req_scripted", rehearsed=False)


def decided(
    workshop: Workshop, sitting: Sitting, made: int, said: dict[str, Any], *, at_most: int = 20, final: bool = False
) -> Decided:
    return step(
        workshop,
        choosing.record,
        sitting,
        list(sitting.claimed),
        made,
        answered(said),
        at_most=at_most,
        final=final,
        seconds=1.5,
    )


def showings(workshop: Workshop) -> list[tuple[int, int, bool | None]]:
    found = select(Showing).order_by(Showing.generation_id, Showing.number)
    with workshop.site.database.reading_sessions() as session:
        return [(each.number, each.comment_id, each.chosen) for each in session.scalars(found)]


def bounded(workshop: Workshop, **bounds: int) -> None:
    with workshop.site.database.sessions.begin() as session:
        budgets.set_bounds(session, session.get_one(Voice, workshop.voice_id), Bounds(**bounds))


def ready(workshop: Workshop, sitting: Sitting) -> Ready:
    letters = [each for each in sitting.claimed if not each.chosen]
    start = prompt.beginning(sitting.told, workshop.site.keys)
    each_one = [prompt.build(start, each.asked, workshop.site.keys, cached=True) for each in letters]
    return step(workshop, choosing.ready, sitting, letters, each_one)


# What an answer says


@pytest.mark.parametrize(
    ("said", "outcome", "numbers"),
    [
        (chose(2, 1), Outcome.CHOSE, [2, 1]),
        (chose(), Outcome.CHOSE, []),
        (chose(1, 1, 9, 0, -1), Outcome.CHOSE, [1, 1, 9, 0, -1]),
        (message("These.", chooses([1]), stop="tool_use"), Outcome.CHOSE, [1]),
        (message(chooses([1]), stop="end_turn"), Outcome.CHOSE, [1]),
        (message(chooses([1]), chooses([2]), stop="tool_use"), Outcome.CHOSE, [1, 2]),
        (message(chooses([1]), notes(), stop="tool_use"), Outcome.CHOSE, [1]),
        (message(chooses([1]), declines(), stop="tool_use"), Outcome.CHOSE, [1]),
        (message({"type": "thinking", "thinking": "Hm."}, chooses([1]), stop="tool_use"), Outcome.CHOSE, [1]),
        (message(declines(), stop="tool_use"), Outcome.DECLINED, []),
        (message(), Outcome.DECLINED, []),
        (message(" \n"), Outcome.DECLINED, []),
        (message(notes(), stop="tool_use"), Outcome.NOTE_ONLY, []),
        (message("I choose 1."), Outcome.UNEXPECTED, []),
        (message(chooses([1]), STRANGE, stop="tool_use"), Outcome.UNEXPECTED, []),
        (message(STRANGE), Outcome.UNEXPECTED, []),
        (message(chooses([1], name="pick"), stop="tool_use"), Outcome.UNEXPECTED, []),
        (message(chooses([1]), stop="pause_turn"), Outcome.UNEXPECTED, []),
        (message(chooses([1], input=None), stop="tool_use"), Outcome.UNEXPECTED, []),
        (message(chooses([1], input={}), stop="tool_use"), Outcome.UNEXPECTED, []),
        (message(chooses("1, 2"), stop="tool_use"), Outcome.UNEXPECTED, []),
        (message(chooses([1, "2"]), stop="tool_use"), Outcome.CHOSE, [1, 2]),
        (message(chooses("[1, 2]"), stop="tool_use"), Outcome.CHOSE, [1, 2]),
        (message(chooses([1, "two"]), stop="tool_use"), Outcome.UNEXPECTED, []),
        (message(chooses("[" * 3000), stop="tool_use"), Outcome.UNEXPECTED, []),
        (message(chooses([True]), stop="tool_use"), Outcome.UNEXPECTED, []),
        (message(chooses([1.0]), stop="tool_use"), Outcome.UNEXPECTED, []),
        (message(chooses([1]), chooses("2"), stop="tool_use"), Outcome.UNEXPECTED, []),
        (message(chooses([1]), stop="tool_use", model="claude-opus-5-5"), Outcome.UNEXPECTED, []),
        (message(chooses([1]), stop="max_tokens"), Outcome.CUT, []),
        (message(chooses([1]), declines(), stop="max_tokens"), Outcome.CUT, []),
        (message("I would", stop="max_tokens"), Outcome.CUT, []),
        (message(stop="refusal"), Outcome.WITHHELD, []),
        (message(chooses([1]), stop="refusal"), Outcome.WITHHELD, []),
    ],
)
def test_reads_an_answer_as_a_choice(said: dict[str, Any], outcome: Outcome, numbers: list[int]) -> None:
    again, named = read_choice(answered(said), asked=MODEL)
    assert (again.outcome, list(named)) == (outcome, numbers)
    assert again.text is None
    assert again.message == said
    assert (again.why is None) == (outcome in {Outcome.CHOSE, Outcome.NOTE_ONLY})


def test_reads_nothing_but_a_choice_otherwise_than_before() -> None:
    # What is said in place of a reply is no choice where no letters are shown.
    assert answered(chose(1)).outcome is Outcome.UNEXPECTED


def test_keeps_what_was_said_beside_a_choice() -> None:
    again, _ = read_choice(answered(message(chooses([1]), notes("Look."), stop="tool_use")), asked=MODEL)
    assert (again.note, again.message_id, again.request_id) == ("Look.", "msg_scripted", "req_scripted")
    assert again.usage is not None
    again, _ = read_choice(answered(message(chooses([1]), model="other", stop="tool_use")), asked=MODEL)
    assert again.why == "Another model answered: other."


# What is recorded before the call


def test_records_what_is_shown_before_it_is_shown(workshop: Workshop) -> None:
    ids = [workshop.asked(f"Number {n}.", author="Ada L.") for n in range(3)]
    sitting = begun(workshop)
    made = shown_to(workshop, sitting)
    [call] = workshop.generations()
    assert (call.id, call.comment_id, call.purpose, call.attempt) == (made, ids[0], "choice", 1)
    assert (call.reserved or 0) > 0
    assert showings(workshop) == [(n, each, None) for n, each in enumerate(ids, start=1)]
    assert workshop.states() == ["asking"] * 3
    assert [workshop.request(each).attempts for each in ids] == [0, 0, 0]
    recipe = workshop.recipe(call)
    assert "Number" not in str(recipe)
    assert "Ada" not in str(recipe)
    with workshop.site.database.reading_sessions() as session:
        _, whole = calls.one(session, made, workshop.site.keys)
    assert whole.equal
    assert whole.request == request(workshop, sitting, list(sitting.claimed)).request


def test_shows_no_letter_that_is_no_longer_claimed(workshop: Workshop) -> None:
    ids = [workshop.asked(f"Number {n}.") for n in range(2)]
    sitting = begun(workshop)
    shown = list(sitting.claimed)
    workshop.take_back(ids[0])
    sent = request(workshop, sitting, shown)
    assert step(workshop, choosing.begin, sitting, shown, sent, ORIGIN, workshop.site.keys) is None
    assert (workshop.generations(), showings(workshop)) == ([], [])
    assert [each.comment_id for each in ready(workshop, sitting).shown] == ids[1:]
    workshop.take_back(ids[1])
    assert ready(workshop, sitting) == Ready((), 0)


def test_shows_nothing_to_a_voice_that_is_paused(workshop: Workshop) -> None:
    workshop.asked()
    sitting = begun(workshop)
    workshop.pause()
    with pytest.raises(VoicePaused):
        shown_to(workshop, sitting)
    assert (workshop.generations(), showings(workshop)) == ([], [])


# What is decided


def test_decides_all_that_was_shown_at_once(workshop: Workshop) -> None:
    ids = [workshop.asked(f"Number {n}.") for n in range(3)]
    sitting = begun(workshop)
    made = shown_to(workshop, sitting)
    said = message(chooses([3, 1]), notes("Two of them are kind."), stop="tool_use")
    assert decided(workshop, sitting, made, said) == Decided([ids[2], ids[0]])
    assert showings(workshop) == [(1, ids[0], True), (2, ids[1], False), (3, ids[2], True)]
    assert workshop.states() == ["asking", "not_chosen", "asking"]
    passed = workshop.request(ids[1])
    assert (passed.lease, passed.chosen_at) == (None, None)
    assert passed.why == "The voice was shown 3 letters and chose 2."
    for each in (ids[0], ids[2]):
        assert workshop.request(each).chosen_at is not None
        assert workshop.request(each).lease == sitting.lease
    [call] = workshop.generations()
    assert (call.outcome, call.note, call.error, call.seconds) == ("chose", "Two of them are kind.", None, 1.5)
    assert call.cost == 1000 * 15 + 10 * 75
    assert unpacked(call.response) == said
    with workshop.site.database.reading_sessions() as session:
        told, _ = calls.one(session, made, workshop.site.keys)
        page = unchosen.page(session, unchosen.Wanted())
    assert told.came_to == "It chose 2 of 3."
    assert [each.submission_id for each in page.letters] == [workshop.submission(ids[1])]


def test_changes_nothing_when_it_is_recorded_twice(workshop: Workshop) -> None:
    ids = [workshop.asked(f"Number {n}.") for n in range(4)]
    sitting = begun(workshop)
    made = shown_to(workshop, sitting)
    first = decided(workshop, sitting, made, chose(4, 2, 1), at_most=2)
    before = ([workshop.request(each).changed_at for each in ids], showings(workshop), workshop.states())
    assert decided(workshop, sitting, made, chose(4, 2, 1), at_most=2) == first == Decided([ids[3], ids[1]])
    assert ([workshop.request(each).changed_at for each in ids], showings(workshop), workshop.states()) == before


def test_leaves_what_was_named_beyond_the_bound_waiting_and_chosen(workshop: Workshop) -> None:
    ids = [workshop.asked(f"Number {n}.") for n in range(3)]
    sitting = begun(workshop)
    made = shown_to(workshop, sitting)
    assert decided(workshop, sitting, made, chose(3, 2), at_most=1).chosen == [ids[2]]
    assert workshop.states() == ["not_chosen", "waiting", "asking"]
    assert workshop.request(ids[1]).chosen_at is not None
    again = begun(workshop)
    assert [(each.comment_id, each.chosen) for each in again.claimed] == [(ids[1], True)]


def test_passes_over_numbers_of_nothing_and_counts_none_twice(workshop: Workshop) -> None:
    ids = [workshop.asked(f"Number {n}.") for n in range(3)]
    sitting = begun(workshop)
    made = shown_to(workshop, sitting)
    assert decided(workshop, sitting, made, chose(0, -1, 4, 2, 2, 10**30, 3), at_most=2).chosen == ids[1:]
    assert workshop.states() == ["not_chosen", "asking", "asking"]
    assert unpacked(workshop.generations()[0].response)["content"][0]["input"] == {
        "letters": [0, -1, 4, 2, 2, 10**30, 3]
    }


@pytest.mark.parametrize(
    ("said", "outcome", "error"),
    [
        (chose(), "chose", None),
        (message(), "declined", "The voice said nothing."),
        (message(declines("Not today."), stop="tool_use"), "declined", "Not today."),
        (message(notes(), stop="tool_use"), "note_only", None),
    ],
)
def test_chooses_none_where_the_voice_names_none(
    workshop: Workshop, said: dict[str, Any], outcome: str, error: str | None
) -> None:
    ids = [workshop.asked(f"Number {n}.") for n in range(2)]
    sitting = begun(workshop)
    made = shown_to(workshop, sitting)
    assert decided(workshop, sitting, made, said, final=True) == Decided([])
    assert workshop.states() == ["not_chosen"] * 2
    # The reason may repeat what one of the letters says: it stands in the record that is emptied with that letter.
    assert {workshop.request(each).why for each in ids} == {"The voice was shown 2 letters and chose none."}
    [call] = workshop.generations()
    assert (call.outcome, call.error) == (outcome, error)
    assert [chosen for _, _, chosen in showings(workshop)] == [False, False]


@pytest.mark.parametrize("letters", [[2], ["2"], "[2]", ' ["2"] '])
def test_reads_the_numbers_as_old_models_write_them(workshop: Workshop, letters: object) -> None:
    ids = [workshop.asked(f"Number {n}.") for n in range(2)]
    sitting = begun(workshop)
    made = shown_to(workshop, sitting)
    decided(workshop, sitting, made, message(chooses(letters), stop="tool_use"))
    assert [workshop.request(each).chosen_at is not None for each in ids] == [False, True]


@pytest.mark.parametrize(
    "said",
    [
        message("I choose 1."),
        message(STRANGE),
        message(chooses("1"), stop="tool_use"),
        message(chooses([True]), stop="tool_use"),
    ],
)
def test_fails_them_all_where_the_voice_does_not_say(workshop: Workshop, said: dict[str, Any]) -> None:
    ids = [workshop.asked(f"Number {n}.") for n in range(2)]
    sitting = begun(workshop)
    made = shown_to(workshop, sitting)
    assert decided(workshop, sitting, made, said) == Decided(())
    assert workshop.states() == ["failed"] * 2
    assert {workshop.request(each).why for each in ids} == {NO_CHOICE}
    assert [chosen for _, _, chosen in showings(workshop)] == [None, None]
    assert workshop.voice().paused_at is None
    # A moderator can ask again; then it is shown again.
    step(workshop, replies.ask_again, ids[0])
    assert [(each.comment_id, each.chosen) for each in begun(workshop).claimed] == [(ids[0], False)]


def test_decides_nothing_by_an_answer_that_broke_off_unless_it_was_the_last(workshop: Workshop) -> None:
    ids = [workshop.asked(f"Number {n}.") for n in range(2)]
    sitting = begun(workshop)
    cut = message(chooses([1]), stop="max_tokens")
    came = decided(workshop, sitting, shown_to(workshop, sitting), cut)
    assert came.broken_off is not None
    assert (came.broken_off.outcome, came.broken_off.why) == (Outcome.CUT, "The answer was cut off (max_tokens).")
    assert workshop.states() == ["asking"] * 2
    noted = decided(workshop, sitting, shown_to(workshop, sitting), message(notes(), stop="tool_use"))
    assert noted.broken_off is not None
    assert workshop.states() == ["asking"] * 2
    assert decided(workshop, sitting, shown_to(workshop, sitting), cut, final=True) == Decided(())
    assert {(workshop.request(each).state, workshop.request(each).why) for each in ids} == {
        ("failed", "The answer was cut off (max_tokens).")
    }


def test_has_each_asked_by_itself_where_the_filter_refused_the_list(workshop: Workshop) -> None:
    ids = [workshop.asked(f"Number {n}.") for n in range(3)]
    sitting = begun(workshop)
    made = shown_to(workshop, sitting)
    assert decided(workshop, sitting, made, message(stop="refusal"), at_most=2).chosen == ids[:2]
    assert workshop.states() == ["asking", "asking", "waiting"]
    for each in ids:
        asked = workshop.request(each)
        assert asked.chosen_at is not None
        assert asked.why == choosing.REFUSED_AS_A_LIST
    # It was not the voice that chose them.
    assert [chosen for _, _, chosen in showings(workshop)] == [None] * 3
    assert workshop.generations()[0].outcome == "withheld"


def test_pauses_the_voice_and_decides_nothing_where_another_model_answered(workshop: Workshop) -> None:
    ids = [workshop.asked(f"Number {n}.") for n in range(2)]
    sitting = begun(workshop)
    made = shown_to(workshop, sitting)
    said = message(chooses([1]), stop="tool_use", model="claude-opus-5-5")
    assert decided(workshop, sitting, made, said) == Decided(())
    assert workshop.voice().paused_why == "Another model answered: claude-opus-5-5."
    assert {(workshop.request(each).state, workshop.request(each).chosen_at) for each in ids} == {("waiting", None)}


def test_decides_nothing_of_what_is_no_longer_its_own(workshop: Workshop) -> None:
    ids = [workshop.asked(f"Number {n}.") for n in range(4)]
    sitting = begun(workshop)
    made = shown_to(workshop, sitting)
    workshop.take_back(ids[0])
    workshop.take_back(ids[3])
    # The place of one that was taken back goes to the next that was named.
    assert decided(workshop, sitting, made, chose(1, 2, 3), at_most=1).chosen == [ids[1]]
    assert workshop.states() == ["withdrawn", "asking", "waiting", "withdrawn"]
    assert workshop.request(ids[0]).chosen_at is None
    assert [chosen for _, _, chosen in showings(workshop)] == [True, True, True, False]


def test_decides_nothing_once_its_lease_is_lost(workshop: Workshop) -> None:
    workshop.asked()
    sitting = begun(workshop)
    made = shown_to(workshop, sitting)
    workshop.time_passes()
    workshop.sweep()
    assert decided(workshop, sitting, made, chose(1)) == Decided([])
    assert workshop.states() == ["waiting"]
    again = begun(workshop)
    assert [each.chosen for each in again.claimed] == [False]
    assert decided(workshop, sitting, made, message(notes(), stop="tool_use")) == Decided(())


def test_resumes_a_voice_whose_pause_had_run_out(workshop: Workshop) -> None:
    for n in range(2):
        workshop.asked(f"Number {n}.")
    workshop.pause(minutes=15)
    workshop.time_passes()
    sitting = begun(workshop)
    assert len(sitting.claimed) == 1
    decided(workshop, sitting, shown_to(workshop, sitting), chose(1))
    assert workshop.voice().paused_at is None


# What the budgets allow


def test_lets_a_voice_without_budgets_choose_them_all(workshop: Workshop) -> None:
    for n in range(3):
        workshop.asked(f"Number {n}.")
    assert ready(workshop, begun(workshop)).at_most == 3


def test_lets_a_voice_choose_as_many_as_its_budgets_have_room_for(workshop: Workshop) -> None:
    for n in range(3):
        workshop.asked(f"Number {n}.")
    bounded(workshop, replies_a_day=2)
    sitting = begun(workshop)
    assert ready(workshop, sitting).at_most == 2
    # One more was named than there was room for: it has the first place next time.
    decided(workshop, sitting, shown_to(workshop, sitting), chose(1, 2), at_most=1)
    workshop.time_passes()
    workshop.sweep()
    workshop.asked("A new one.")
    sitting = begun(workshop)
    assert [each.chosen for each in sitting.claimed] == [True, True, False]
    assert ready(workshop, sitting).at_most == 0


def test_bounds_the_choice_by_dollars_as_well(workshop: Workshop) -> None:
    for n in range(3):
        workshop.asked(f"Number {n}.")
    sitting = begun(workshop)
    start = prompt.beginning(sitting.told, workshop.site.keys)
    one = prompt.build(start, sitting.claimed[0].asked, workshop.site.keys, cached=True)
    most = budgets.greatest_cost(workshop.voice(), one.request) or 0
    bounded(workshop, cost_a_month=2 * most + most // 2)
    assert ready(workshop, sitting).at_most == 2


def test_says_until_when_a_spent_budget_puts_the_choice_off(workshop: Workshop) -> None:
    workshop.asked()
    bounded(workshop, replies_a_day=0)
    with pytest.raises(BudgetSpent) as spent:
        ready(workshop, begun(workshop))
    with workshop.site.database.reading_sessions() as session:
        midnight = budgets.periods(budgets.clock(session)).next_day.timestamp()
    assert spent.value.until == midnight + budgets.ADMINS_SECOND
    assert spent.value.for_all


def test_counts_the_cost_of_a_choice_and_no_reply(workshop: Workshop) -> None:
    for n in range(2):
        workshop.asked(f"Number {n}.")
    bounded(workshop, replies_a_day=2, cost_a_day=1_000_000)
    sitting = begun(workshop)
    made = shown_to(workshop, sitting)

    def spent() -> budgets.Counted:
        with workshop.site.database.reading_sessions() as session:
            return budgets.counted(session, workshop.voice_id, at=budgets.clock(session)).day

    [call] = workshop.generations()
    assert (spent().cost, spent().replies) == (call.reserved, 0)
    assert ready(workshop, sitting).at_most == 2
    decided(workshop, sitting, made, chose())
    assert (spent().cost, spent().replies) == (1000 * 15 + 10 * 75, 0)


def test_is_not_kept_from_a_choice_by_a_bound_on_replies(workshop: Workshop) -> None:
    workshop.asked()
    sitting = begun(workshop)
    bounded(workshop, replies_a_day=0)
    assert shown_to(workshop, sitting)


def test_makes_no_choice_that_could_cost_more_than_is_left(workshop: Workshop) -> None:
    workshop.asked()
    sitting = begun(workshop)
    bounded(workshop, cost_a_day=1)
    with pytest.raises(BudgetSpent):
        shown_to(workshop, sitting)
    assert (workshop.generations(), showings(workshop)) == ([], [])


def test_leaves_a_letter_the_room_that_a_dead_call_about_it_holds(workshop: Workshop) -> None:
    ids = [workshop.asked(f"Number {n}.") for n in range(2)]
    sitting = begun(workshop)
    start = prompt.beginning(sitting.told, workshop.site.keys)
    one = prompt.build(start, sitting.claimed[0].asked, workshop.site.keys, cached=True)
    step(workshop, replies.begin_generation, sitting, sitting.claimed[0], one, ORIGIN, workshop.site.keys)
    workshop.time_passes()
    workshop.sweep()
    bounded(workshop, replies_a_day=1)
    found = ready(workshop, begun(workshop))
    assert ([each.comment_id for each in found.shown], found.at_most) == (ids, 1)


def test_puts_off_only_those_whose_answer_costs_more_than_a_bound(workshop: Workshop) -> None:
    ids = [workshop.asked(body) for body in ("Short.", "\N{FOX FACE}" * 4900, "Short as well.")]
    sitting = begun(workshop)
    start = prompt.beginning(sitting.told, workshop.site.keys)
    one = prompt.build(start, sitting.claimed[2].asked, workshop.site.keys, cached=True)
    most = budgets.greatest_cost(workshop.voice(), one.request) or 0
    bounded(workshop, cost_a_day=2 * most, cost_a_month=100 * most)
    found = ready(workshop, sitting)
    assert ([each.comment_id for each in found.shown], found.at_most) == ([ids[0], ids[2]], 2)
    assert [(each.comment_id, spent.for_all) for each, spent in found.put_off] == [(ids[1], False)]
    # As an exception for all of them where all must wait, whatever each would cost.
    bounded(workshop, cost_a_day=2 * most, replies_a_day=0)
    with pytest.raises(BudgetSpent) as spent:
        ready(workshop, sitting)
    assert spent.value.for_all


def test_puts_off_what_waits_for_its_reader_while_open_calls_hold_the_rest(workshop: Workshop) -> None:
    other = workshop.essay("# On work\n\nI worked.")
    workshop.asked("Elsewhere.", essay_id=other)
    elsewhere = step(workshop, replies.begin_sitting, other)
    assert elsewhere is not None
    start = prompt.beginning(elsewhere.told, workshop.site.keys)
    one = prompt.build(start, elsewhere.claimed[0].asked, workshop.site.keys, cached=True)
    step(workshop, replies.begin_generation, elsewhere, elsewhere.claimed[0], one, ORIGIN, workshop.site.keys)
    ids = [workshop.asked(f"Number {n}.") for n in range(2)]
    bounded(workshop, replies_a_day=1, replies_a_reader=0)
    found = ready(workshop, begun(workshop))
    assert (found.shown, [each.comment_id for each, _ in found.put_off]) == ((), ids)
    with workshop.site.database.reading_sessions() as session:
        tomorrow = budgets.periods(budgets.clock(session)).next_day.timestamp() + budgets.ADMINS_SECOND
    assert {spent.until for _, spent in found.put_off} == {tomorrow}


def test_counts_no_letter_as_promised_that_is_put_off_to_another_day(workshop: Workshop) -> None:
    for n in range(2):
        workshop.asked(f"Number {n}.")
    sitting = begun(workshop)
    decided(workshop, sitting, shown_to(workshop, sitting), chose(1, 2))
    bounded(workshop, replies_a_day=3)
    step(workshop, replies.wait_again, sitting, sitting.claimed[0], "Its calls are open.", seconds=budgets.HELD_SECONDS)
    step(workshop, replies.wait_again, sitting, sitting.claimed[1], "Spent.", seconds=2 * budgets.HELD_SECONDS)
    for n in range(3):
        workshop.asked(f"A new one, {n}.")
    assert ready(workshop, begun(workshop)).at_most == 2


# What erasure leaves


def erase(workshop: Workshop, comment_id: int) -> None:
    with workshop.site.database.reading_sessions() as session:
        public_id = session.get_one(Comment, comment_id).public_id
    erasure.erase_comment(workshop.site, public_id)


def test_empties_every_choice_in_which_an_erased_letter_was_shown(workshop: Workshop) -> None:
    ids = [workshop.asked(f"Number {n}.") for n in range(3)]
    sitting = begun(workshop)
    made = shown_to(workshop, sitting)
    decided(workshop, sitting, made, message(declines("The second one shouts."), notes("It shouts."), stop="tool_use"))
    erase(workshop, ids[1])
    [call] = workshop.generations()
    assert (call.request, call.response, call.error, call.note, call.request_id) == (b"", None, None, None, None)
    assert call.cost == 1000 * 15 + 10 * 75
    assert [number for number, _, _ in showings(workshop)] == [1, 2, 3]
    assert all("shouts" not in (workshop.request(each).why or "") for each in ids)


def test_records_no_words_of_a_choice_whose_letter_is_erased_meanwhile(workshop: Workshop) -> None:
    ids = [workshop.asked(f"Number {n}.") for n in range(2)]
    sitting = begun(workshop)
    made = shown_to(workshop, sitting)
    erase(workshop, ids[0])
    said = message(chooses([1, 2]), notes("The first one shouts."), stop="tool_use")
    assert decided(workshop, sitting, made, said).chosen == [ids[1]]
    [call] = workshop.generations()
    assert (call.request, call.response, call.note, call.outcome) == (b"", None, None, "chose")
    assert workshop.states() == ["withdrawn", "asking"]


# Who may be asked


def test_keeps_what_was_chosen_chosen_when_it_is_asked_again(workshop: Workshop) -> None:
    comment_id = workshop.asked()
    sitting = begun(workshop)
    decided(workshop, sitting, shown_to(workshop, sitting), chose(1))
    step(workshop, replies.give_up, sitting, sitting.claimed[0], "The API refused our request.")
    step(workshop, replies.ask_again, comment_id)
    assert [each.chosen for each in begun(workshop).claimed] == [True]


def test_numbers_the_letters_as_the_request_does(workshop: Workshop) -> None:
    for n in range(3):
        workshop.asked(f"Number {n}.")
    sitting = begun(workshop)
    made = shown_to(workshop, sitting)
    sent = request(workshop, sitting, list(sitting.claimed)).request
    told = [(said["number"], said["id"]) for tag, _, said in quoted(sent) if tag == "waiting"]
    with workshop.site.database.reading_sessions() as session:
        found = session.execute(
            select(Showing.number, Comment.submission_id)
            .join(Comment, Comment.id == Showing.comment_id)
            .where(Showing.generation_id == made)
            .order_by(Showing.number)
        ).all()
    assert told == [(number, f"c{submission_id}") for number, submission_id in found]
