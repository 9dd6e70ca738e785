"""The arithmetic of a pace: whose turn it is."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.voice.model import Allowance, Usage
from workers.turns import (
    CLOCKS_DIFFER,
    FORGOTTEN_AFTER,
    LONGEST_CLOSED,
    LOOK_AGAIN,
    PLACE_SECONDS,
    RISES_AFTER,
    Bounds,
    Bucket,
    Place,
    State,
    Want,
    admitted,
    at_once,
    joined,
    kept_until,
    learnt,
    read,
    refused,
    returned,
    settled,
    written,
)

START = 1_800_000_000.0
FREE = Bounds()
OPUS_3 = Bounds(input_tokens=20_000)


def ask(state: State, bounds: Bounds, now: float, *wanted: Want) -> tuple[State, list[float]]:
    state = settled(state, bounds, now)
    return admitted(state, [(f"{now}/{len(state.places)}/{n}", each) for n, each in enumerate(wanted)], bounds, now)


def ended(state: State) -> State:
    """With no call under way any more."""
    return replace(state, places={})


def headers(name: str, limit: int, remaining: int) -> dict[str, Allowance]:
    return {name: Allowance(limit, remaining, 60.0)}


def usage(fresh: int = 0, *, read: int = 0, written: int = 0, output: int = 0) -> Usage:
    return Usage(fresh, read, written, 0, output)


# A minute's share


def test_lets_three_begin_and_then_one_each_seventeen_seconds() -> None:
    state, waits = ask(State(), OPUS_3, START, *[Want(5_600, 400)] * 6)
    assert waits[:3] == [0, 0, 0]
    assert waits[3:] == pytest.approx([7.2, 24.0, 40.8])
    assert len(state.places) == 3
    for wait in waits[3:]:
        state, [none_yet] = ask(state, OPUS_3, START + wait - 0.1, Want(5_600, 400))
        assert none_yet == pytest.approx(0.1, abs=1e-4)
        state, [now] = ask(state, OPUS_3, START + wait, Want(5_600, 400))
        assert now == 0


@given(
    limit=st.integers(1, 10_000),
    calls=st.lists(st.tuples(st.floats(0, 90), st.floats(0, 1)), min_size=1, max_size=40),
)
def test_never_lets_in_more_than_a_limit_and_what_came_back(limit: int, calls: list[tuple[float, float]]) -> None:
    bounds, state, now, begun = Bounds(input_tokens=limit), State(), START, []
    for passed, share in calls:
        now += passed
        amount = int(share * limit)
        state, [wait] = ask(state, bounds, now, Want(amount, 0))
        if not wait:
            begun.append((now, amount))
    for first, (since, _) in enumerate(begun):
        taken = 0
        for at, amount in begun[first:]:
            taken += amount
            assert taken <= limit + (at - since) * limit / 60 + 0.01 * len(begun) + 0.01


def test_lets_a_call_that_is_dearer_than_a_minute_go_when_all_is_left() -> None:
    state, waits = ask(State(), OPUS_3, START, Want(60_000, 0), Want(100, 0))
    assert waits == [0, pytest.approx(120.3)]
    # The debt outlasts the silence after which all else is forgotten.
    state, [wait] = ask(ended(state), OPUS_3, START + 150, Want(60_000, 0))
    assert wait == pytest.approx(30)
    _, [wait] = ask(state, OPUS_3, START + 180, Want(60_000, 0))
    assert wait == 0


def test_lets_nobody_overtake() -> None:
    _, waits = ask(State(), OPUS_3, START, Want(15_000, 0), Want(15_000, 0), Want(1, 0))
    assert waits[0] == 0
    assert 0 < waits[1] <= waits[2]


def test_holds_to_the_smaller_of_the_voices_bound_and_the_apis() -> None:
    state = learnt(settled(State(), OPUS_3, START), headers("requests", 3, 3), OPUS_3, expected=None, used=None)
    _, waits = ask(state, OPUS_3, START, *[Want(1_000, 0)] * 4)
    assert [bool(wait) for wait in waits] == [False, False, False, True]
    state = learnt(state, headers("input-tokens", 2_000_000, 1_999_000), OPUS_3, expected=1_000, used=None)
    _, waits = ask(state, OPUS_3, START, *[Want(15_000, 0)] * 2)
    assert [bool(wait) for wait in waits] == [False, True]


def test_keeps_a_voices_bound_beside_a_voice_without_one() -> None:
    state, waits = ask(State(), OPUS_3, START, Want(15_000, 0))
    state, [free] = ask(state, FREE, START, Want(15_000, 0))
    _, [bounded] = ask(state, OPUS_3, START, Want(5_000, 0))
    assert [*waits, free, bounded] == [0, 0, pytest.approx(45)]


def test_keeps_output_free_for_those_who_have_not_answered() -> None:
    bounds = Bounds(output_tokens=1_000)
    state, waits = ask(State(), bounds, START, *[Want(10, 400)] * 3)
    assert waits == [0, 0, LOOK_AGAIN]
    # Both said less than was expected.
    for _ in range(2):
        state = learnt(state, {}, bounds, expected=10, used=usage(10, output=100))
    state, waits = ask(ended(state), bounds, START, *[Want(10, 400)] * 3)
    assert waits == [0, 0, LOOK_AGAIN]
    assert state.own["output-tokens"].left == 800


def test_lets_an_answer_longer_than_a_minute_be_said_when_nobody_else_speaks() -> None:
    bounds = Bounds(output_tokens=100)
    state, waits = ask(State(), bounds, START, Want(10, 400), Want(10, 10))
    assert waits == [0, LOOK_AGAIN]
    state = learnt(state, {}, bounds, expected=10, used=usage(10, output=400))
    _, [wait] = ask(ended(state), bounds, START, Want(10, 10))
    assert wait == pytest.approx(310 * 60 / 100)


def test_counts_input_and_output_together_where_the_api_does() -> None:
    told = settled(State(), FREE, START)
    told = learnt(told, headers("tokens", 1_000, 1_000), FREE, expected=None, used=None)
    _, waits = ask(told, FREE, START, Want(300, 300), Want(300, 50), Want(300, 300))
    assert [bool(wait) for wait in waits] == [False, False, True]


# What the headers say


def test_believes_the_headers_at_once_when_less_is_left() -> None:
    state, _ = ask(State(), OPUS_3, START, Want(1_000, 0))
    state = learnt(state, headers("input-tokens", 20_000, 5_000), OPUS_3, expected=1_000, used=None)
    state = learnt(state, headers("input-tokens", 20_000, 300), OPUS_3, expected=1_000, used=None)
    assert state.told["input-tokens"] == Bucket(20_000, 300)


def test_believes_the_headers_when_more_is_left_than_the_others_may_take() -> None:
    state = learnt(
        settled(State(), FREE, START), headers("input-tokens", 20_000, 20_000), FREE, expected=None, used=None
    )
    state, _ = ask(state, FREE, START, *[Want(5_600, 0)] * 3)
    assert state.told["input-tokens"].left == 3_200
    # Only one of the three is known to the API yet: nothing new.
    same = learnt(state, headers("input-tokens", 20_000, 14_400), FREE, expected=5_600, used=None)
    assert same.told["input-tokens"].left == 3_200
    # All three are known.
    same = learnt(state, headers("input-tokens", 20_000, 3_200), FREE, expected=5_600, used=None)
    assert same.told["input-tokens"].left == 3_200
    # The call was read from the cache, which does not count.
    more = learnt(state, headers("input-tokens", 20_000, 19_900), FREE, expected=5_600, used=None)
    assert more.told["input-tokens"].left == 8_700


def test_corrects_what_was_expected_by_what_was_used() -> None:
    state, _ = ask(State(), OPUS_3, START, Want(5_000, 0))
    state = learnt(state, {}, OPUS_3, expected=5_000, used=usage(1_000, read=2_000, written=500, output=70))
    assert state.own["input-tokens"].left == 16_500


def test_takes_a_lower_limit_and_a_higher_one_as_they_are_told() -> None:
    state = settled(State(), FREE, START)
    for limit in (50, 5, 500):
        state = learnt(state, headers("requests", limit, limit - 1), FREE, expected=1, used=None)
        assert state.told["requests"].limit == limit
        assert state.told["requests"].left <= limit - 1


def test_ignores_limits_it_does_not_know_and_limits_of_nothing() -> None:
    limits = {"letters": Allowance(5, 5, 0.0), "requests": Allowance(0, 0, 0.0)}
    assert not learnt(State(), limits, FREE, expected=1, used=None).told


# Calls at once


@given(most=st.integers(1, 5), told=st.lists(st.integers(0, 3), max_size=40))
def test_never_has_more_under_way_than_may_be_at_once(most: int, told: list[int]) -> None:
    bounds, state, now = Bounds(at_once=most), State(), START
    for end in told:
        now += 1
        state = replace(state, places=dict(list(state.places.items())[end:]))
        state, _ = ask(state, bounds, now, Want(1, 1), Want(1, 1))
        assert 1 <= len(state.places) <= most


def test_frees_the_place_of_a_worker_that_was_killed() -> None:
    bounds = Bounds(at_once=1)
    state, _ = ask(State(), bounds, START, Want(1, 1))
    state, [wait] = ask(state, bounds, START + PLACE_SECONDS - 1, Want(1, 1))
    assert wait == LOOK_AGAIN
    _, [wait] = ask(state, bounds, START + PLACE_SECONDS, Want(1, 1))
    assert wait == 0


def test_halves_the_calls_at_once_when_refused_and_lets_them_rise_again() -> None:
    state, _ = ask(State(), FREE, START, *[Want(1, 1)] * 9)
    # All nine are refused together: that is one refusal.
    for _ in range(9):
        state = refused(state, 10, FREE, START)
    assert (at_once(state, FREE), state.closed_until) == (4, START + 10)
    state, [wait] = ask(ended(state), FREE, START + 4, Want(1, 1))
    assert wait == 6
    now, risen = START + 10, []
    while at_once(state, FREE) is not None:
        risen.append(at_once(state, FREE))
        state, waits = ask(ended(state), FREE, now, *[Want(1, 1)] * 10)
        assert waits.count(0) == at_once(state, FREE)
        for _ in range(RISES_AFTER):
            state = learnt(state, {}, FREE, expected=1, used=usage(1))
    assert risen == [4, 5, 6, 7, 8]


def test_does_not_rise_above_the_voices_own_bound() -> None:
    bounds = Bounds(at_once=2)
    state, _ = ask(State(), bounds, START, *[Want(1, 1)] * 2)
    state = refused(state, 1, bounds, START)
    for _ in range(50):
        state = learnt(state, {}, bounds, expected=1, used=usage(1))
    assert at_once(state, bounds) == 2


def test_never_halves_below_one() -> None:
    state, now = State(), START
    for _ in range(5):
        state, [wait] = ask(ended(state), Bounds(at_once=4), now, Want(1, 1))
        assert wait == 0
        state = refused(state, 1, Bounds(at_once=4), now)
        now += 1
    assert at_once(state, FREE) == 1


def test_puts_back_what_was_refused() -> None:
    state, _ = ask(State(), OPUS_3, START, Want(5_000, 400))
    assert returned(state, Want(5_000, 400)).own["input-tokens"].left == 20_000


@pytest.mark.parametrize("bounds", [Bounds(at_once=0), Bounds(requests=0), Bounds(input_tokens=-5), Bounds(0, 0, 0, 0)])
def test_lets_something_go_whatever_the_bounds(bounds: Bounds) -> None:
    _, [wait] = ask(State(), bounds, START, Want(5_000, 400))
    assert wait == 0


# Time


def test_forgets_after_a_silence() -> None:
    state = learnt(settled(State(), FREE, START), headers("requests", 5, 1), FREE, expected=1, used=None)
    assert settled(state, FREE, START + FORGOTTEN_AFTER).told
    assert not settled(state, FREE, START + FORGOTTEN_AFTER + 1).told


def test_remembers_a_refusal_and_a_call_for_as_long_as_they_last() -> None:
    state, _ = ask(State(), FREE, START, Want(1, 1))
    assert kept_until(state) == START + max(PLACE_SECONDS, FORGOTTEN_AFTER)
    assert kept_until(refused(state, 900, FREE, START)) == START + 900


def test_gains_nothing_from_clocks_that_differ() -> None:
    state, _ = ask(State(), OPUS_3, START, Want(20_000, 0))
    for _ in range(10):
        for off in (0, CLOCKS_DIFFER / 2):
            state = settled(state, OPUS_3, START + off)
    assert state.own["input-tokens"].left == pytest.approx(10_000)


@pytest.mark.parametrize("jump", [-86_400, -3_600, 3_600, 86_400, -START, 1e9])
def test_goes_on_after_a_clock_has_jumped(jump: float) -> None:
    bounds = Bounds(at_once=1, input_tokens=20_000)
    state, _ = ask(State(), bounds, START, Want(20_000, 0))
    state = refused(state, 60, bounds, START)
    now = START + jump
    state = settled(state, bounds, now)
    state, [wait] = ask(state, bounds, now + LONGEST_CLOSED, Want(20_000, 0))
    assert wait == 0


# As it is written


def test_reads_what_it_wrote() -> None:
    state, _ = ask(State(), Bounds(at_once=3, requests=7), START, *[Want(5, 6)] * 3)
    state = learnt(state, headers("tokens", 100, 20), FREE, expected=None, used=None)
    state = refused(state, 2.5, FREE, START)
    assert read(written(state)) == state
    assert read(written(State())) == State()


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
PARTS = st.fixed_dictionaries(
    {
        "at": st.floats(),
        "told": st.dictionaries(st.sampled_from(["tokens", "requests", "x"]), st.lists(st.floats(), max_size=3)),
        "own": st.dictionaries(st.sampled_from(["input-tokens"]), st.tuples(st.floats(), st.integers())),
        "places": st.dictionaries(st.text(), st.tuples(st.floats(), st.integers(), st.integers()), max_size=3),
        "closed_until": st.floats() | st.integers(),
        "at_once": st.tuples(*[st.none() | st.integers()] * 3),
    }
)


@given(PARTS | ANYTHING)
def test_goes_on_whatever_stands_in_redis(told: object) -> None:
    state, now = read(json.dumps(told).encode()), START
    for _ in range(3):
        state = settled(state, OPUS_3, now)
        assert kept_until(state) - state.at <= 2 * LONGEST_CLOSED + CLOCKS_DIFFER
        now += 2 * LONGEST_CLOSED + CLOCKS_DIFFER
    _, [wait] = ask(state, OPUS_3, now, Want(5_600, 400))
    assert wait == 0


@pytest.mark.parametrize("told", [b"", b"\xff\x00", b"[" * 100_000, b"9" * 5_000, b'{"at": NaN}', b"null"])
def test_knows_nothing_where_nothing_can_be_read(told: bytes) -> None:
    assert read(told) == State()


def test_is_the_more_careful_of_two_that_went_on_apart() -> None:
    mine = State(
        at=START,
        told={"requests": Bucket(50, 3)},
        own={"input-tokens": Bucket(20_000, 500)},
        places={"mine": Place(START + 10, Want(1, 1))},
        closed_until=START + 5,
        at_once=2,
        at_once_before=8,
    )
    theirs = State(
        at=START + 1,
        told={"requests": Bucket(60, 40), "tokens": Bucket(9, 9)},
        own={"input-tokens": Bucket(20_000, 400)},
        places={"theirs": Place(START + 20, Want(1, 1))},
        closed_until=START,
    )
    assert joined(mine, theirs) == State(
        at=START + 1,
        told={"requests": Bucket(60, 3), "tokens": Bucket(9, 9)},
        own={"input-tokens": Bucket(20_000, 400)},
        places=theirs.places,
        closed_until=START + 5,
        at_once=2,
        at_once_before=8,
    )
