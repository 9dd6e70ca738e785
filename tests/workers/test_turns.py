"""The arithmetic of a pace: whose turn it is."""

import json
from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.voice.model import Allowance, Usage
from workers.turns import (
    CLOCKS_DIFFER,
    FORGOTTEN_AFTER,
    HEARD_WITHIN,
    LONGEST_CLOSED,
    LOOK_AGAIN,
    PLACE_SECONDS,
    RISES_AFTER,
    Bounds,
    Bucket,
    Head,
    Heard,
    Place,
    State,
    Want,
    admitted,
    at_once,
    awake,
    heard,
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
    return admitted(
        state, [(f"{now}/{len(state.places)}/{n}", each) for n, each in enumerate(wanted)], bounds, now, who="us"
    )


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


# Over several workers


@dataclass
class Worker:
    """A process with a line, which looks at the state as `Pace` does."""

    name: str
    line: list[tuple[str, Want]]
    behind: float = 0
    noted: dict[str, Heard] = field(default_factory=dict)

    def looks(self, state: State, bounds: Bounds, now: float) -> tuple[State, int]:
        """Return the state after its look, and how many of its line were let in."""
        by_its_clock = now - self.behind
        self.noted = heard(
            {key: head for key, head in state.heads.items() if key != self.name}, self.noted, by_its_clock
        )
        mine = {self.name: state.heads[self.name]} if self.name in state.heads else {}
        state = settled(replace(state, heads=mine | awake(self.noted, by_its_clock)), bounds, by_its_clock)
        state, waits = admitted(state, self.line, bounds, by_its_clock, who=self.name)
        let_in = waits.count(0)
        self.line = self.line[let_in:]
        return state, let_in

    def would_wait(self, state: State, bounds: Bounds, now: float) -> float:
        """Return how long its first must wait, whoever else is in line."""
        return admitted(state, self.line[:1], bounds, now - self.behind, who=self.name)[1][0]


def workers_with(wanted: list[list[Want]], behind: list[float]) -> list[Worker]:
    return [
        Worker(f"w{n}", [(f"w{n}-{place}", want) for place, want in enumerate(line)], off)
        for n, (line, off) in enumerate(zip(wanted, behind, strict=False))
    ]


LINES = st.lists(
    st.lists(st.builds(Want, st.integers(0, 1_500), st.integers(0, 300)), max_size=4), min_size=2, max_size=4
)
BEHIND = st.lists(st.sampled_from([0.0, 7.0, CLOCKS_DIFFER / 2, -CLOCKS_DIFFER / 2]), min_size=4, max_size=4)
BOUNDS = st.builds(
    Bounds,
    at_once=st.none() | st.integers(1, 3),
    requests=st.none() | st.integers(10, 100),
    input_tokens=st.none() | st.integers(1_000, 10_000),
    output_tokens=st.none() | st.integers(1_000, 10_000),
)


@settings(deadline=None)  # A quarter of an hour passes in some, a look at a time.
@given(wanted=LINES, behind=BEHIND, bounds=BOUNDS, order=st.randoms(use_true_random=False))
def test_lets_nobody_overtake_over_several_workers_and_everybody_go(
    wanted: list[list[Want]], behind: list[float], bounds: Bounds, order: Random
) -> None:
    state, now, workers = State(), START, workers_with(wanted, behind)
    while any(each.line for each in workers):
        now += HEARD_WITHIN / 2
        # Each had to wait for what it took at most, and for its own clock.
        assert now - START < 60 * 1.5 * sum(map(len, wanted)) + 2 * CLOCKS_DIFFER
        for worker in order.sample(workers, len(workers)):
            # What it was let in with has ended by then, and was all as expected.
            places = {key: place for key, place in state.places.items() if not key.startswith(worker.name)}
            before = settled(replace(state, places=places), bounds, now - worker.behind)
            heads = {key: head for key, head in before.heads.items() if key != worker.name}
            mine = before.heads.get(worker.name)
            older = [each for each in workers if each.name in heads and (not mine or is_older(heads[each.name], mine))]
            alone = worker.would_wait(replace(before, heads={}), bounds, now) if worker.line else None
            state, let_in = worker.looks(before, bounds, now)
            # Whoever is first and fits goes when its own process looks.
            assert older or bool(let_in) == (alone == 0)
            # Where it is let in, all who are older than it could go too, and can still; where it is let in once more,
            # all others are older.
            passed = [each for each in workers if each.name in heads] if let_in > 1 else older if let_in else []
            for each in passed:
                assert not each.would_wait(before, bounds, now)
                assert not each.would_wait(state, bounds, now)


def is_older(head: Head, than: Head) -> bool:
    assert head.number != than.number
    return head.number < than.number


@settings(deadline=None)
@given(
    wanted=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    behind=BEHIND,
    order=st.randoms(use_true_random=False),
)
def test_has_each_worker_let_in_once_before_any_is_let_in_twice(
    wanted: list[int], behind: list[float], order: Random
) -> None:
    bounds, state, now = Bounds(at_once=1), State(), START
    workers = workers_with([[Want(1, 1)] * number for number in wanted], behind)
    # Taken by somebody until all of them wait.
    for each in workers:
        state, _ = each.looks(replace(state, places={"x": Place(now + 2 * CLOCKS_DIFFER, Want(1, 1))}), bounds, now)
    turns = []
    while any(each.line for each in workers):
        now += LOOK_AGAIN
        for each in order.sample(workers, len(workers)):
            # A call ends at once.
            state, let_in = each.looks(replace(state, places={}), bounds, now)
            turns += [each.name] * let_in
    rounds = [turns[: len(workers)]]
    assert sorted(rounds[0]) == [each.name for each in workers]
    # From then on in the same order, without those who are done.
    for number in range(1, max(wanted)):
        rounds.append([name for name in rounds[0] if wanted[int(name[1:])] > number])
    assert turns == [name for each in rounds for name in each]


@pytest.mark.parametrize("behind", [0, CLOCKS_DIFFER / 2, -CLOCKS_DIFFER / 2])
def test_forgets_within_seconds_who_waited_in_a_process_that_died(behind: float) -> None:
    bounds, dear = Bounds(at_once=1), Want(1, 1)
    dead, alive = workers_with([[dear], [dear]], [behind, 0])
    taken = {"x": Place(START + 2 * CLOCKS_DIFFER, dear)}
    state, _ = dead.looks(replace(settled(State(), bounds, START), places=taken), bounds, START)
    state, now, let_in = replace(state, places={}), START, 0
    while not let_in:
        state, let_in = alive.looks(state, bounds, now)
        now += LOOK_AGAIN
    assert HEARD_WITHIN <= now - START <= HEARD_WITHIN + 2 * LOOK_AGAIN
    assert not state.heads


def test_gives_a_turn_back_to_a_process_that_was_taken_for_dead() -> None:
    bounds = Bounds(at_once=1)
    slow, quick = workers_with([[Want(1, 1)], [Want(1, 1)] * 2], [0, 0])
    taken = {"x": Place(START + PLACE_SECONDS, Want(1, 1))}
    state, _ = slow.looks(replace(settled(State(), bounds, START), places=taken), bounds, START)
    mine = state.heads["w0"]
    for seconds in (0, HEARD_WITHIN):
        state, _ = quick.looks(state, bounds, START + seconds)
    assert set(state.heads) == {"w1"}
    # It comes back as it was, and not behind those who came later.
    mine = replace(mine, looked=START + HEARD_WITHIN)
    state = replace(state, places={}, heads={**state.heads, "w0": mine})
    _, let_in = quick.looks(state, bounds, START + HEARD_WITHIN)
    assert let_in == 0
    _, let_in = slow.looks(state, bounds, START + HEARD_WITHIN)
    assert let_in == 1


def test_holds_nobody_up_for_a_head_that_fits_beside_it() -> None:
    bounds = Bounds(at_once=3, input_tokens=1_000)
    head = Head(1, Want(500, 0), START)
    state = replace(settled(State(), bounds, START), heads={"them": head})
    state, waits = ask(state, bounds, START, Want(400, 0), Want(100, 0), Want(100, 0))
    assert waits == [0, 0, pytest.approx(6)]
    assert state.own["input-tokens"].left == 500
    assert state.heads == {"them": head, "us": Head(2, Want(100, 0), START)}


def test_lets_one_in_before_a_younger_head_and_the_others_behind_it() -> None:
    bounds = Bounds(at_once=2)
    heads = {"us": Head(1, Want(1, 1), START), "them": Head(2, Want(1, 1), START)}
    state, waits = ask(replace(settled(State(), bounds, START), heads=heads), bounds, START, *[Want(1, 1)] * 2)
    assert waits == [0, LOOK_AGAIN]
    assert state.heads == {"them": heads["them"], "us": Head(3, Want(1, 1), START)}


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


def test_reads_a_state_in_which_no_line_was_written_yet() -> None:
    state, _ = ask(State(), Bounds(at_once=1), START, *[Want(5, 6)] * 2)
    told = json.loads(written(state))
    assert told.pop("heads")
    assert read(json.dumps(told).encode()) == replace(state, heads={})


def test_reads_what_it_wrote() -> None:
    state, _ = ask(State(), Bounds(at_once=3, requests=7), START, *[Want(5, 6)] * 4)
    assert state.heads
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
        "heads": st.dictionaries(st.text(), st.tuples(*[st.integers() | st.floats()] * 4), max_size=3),
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
        heads={"mine": Head(1, Want(1, 1), START)},
        closed_until=START + 5,
        at_once=2,
        at_once_before=8,
    )
    theirs = State(
        at=START + 1,
        told={"requests": Bucket(60, 40), "tokens": Bucket(9, 9)},
        own={"input-tokens": Bucket(20_000, 400)},
        places={"theirs": Place(START + 20, Want(1, 1))},
        heads={"theirs": Head(2, Want(1, 1), START)},
        closed_until=START,
    )
    assert joined(mine, theirs) == State(
        at=START + 1,
        told={"requests": Bucket(60, 3), "tokens": Bucket(9, 9)},
        own={"input-tokens": Bucket(20_000, 400)},
        places=theirs.places,
        heads=theirs.heads,
        closed_until=START + 5,
        at_once=2,
        at_once_before=8,
    )
