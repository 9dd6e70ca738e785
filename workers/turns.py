"""Whose turn it is to call: the arithmetic of a pace, without clock or Redis.

What binds is the smaller of the voice's own bounds and what the API's headers say (MODEL-API, section 5). A limit is a
bucket that fills up evenly over a minute, as the API's do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from bridge.voice.model import RateLimits, Usage

PLACE_SECONDS = 40
"""Seconds after which a place is free again unless it is kept (`Pace.keep_places`): its worker may have died."""
FORGOTTEN_AFTER = 120
"""Seconds of silence after which what was learnt is forgotten; by then every usual bucket has filled up."""
LONGEST_CLOSED = 3600
"""Seconds beyond which nothing in the state may reach: a clock that jumped, or a stranger in Redis."""
CLOCKS_DIFFER = 60
"""Seconds by which the clocks of two workers may differ; more than that, and a clock was set back."""
RISES_AFTER = 5
"""So many answers allow one more call at once, after a refusal had halved them."""
HEARD_WITHIN = 5
"""Seconds within which a process whose callers wait looks again, many times over: else it has died."""
LOOK_AGAIN = 0.25
"""Seconds until a place that others hold is looked for again: when it comes back is not known."""
_NEARLY = 0.01
"""What may be missing of an amount: the clock is no finer."""
_NAMES = ("requests", "tokens", "input-tokens", "output-tokens")


@dataclass(frozen=True, slots=True)
class Bounds:
    """A voice's own bounds over all workers, the last three a minute. None: no bound of its own.

    What another voice asks of the same model at the same endpoint counts against them too.
    """

    at_once: int | None = None
    requests: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None

    def a_minute(self) -> dict[str, int]:
        """Return what is bounded a minute, by its name in the API's headers; at least 1, or nothing ever went."""
        named = {"requests": self.requests, "input-tokens": self.input_tokens, "output-tokens": self.output_tokens}
        return {name: max(1, bound) for name, bound in named.items() if bound is not None}


@dataclass(frozen=True, slots=True)
class Want:
    """What a call is expected to take. The API counts its input when it comes and its output when it is said."""

    input: int
    output: int

    def taken(self, name: str) -> int:
        """Return what is taken from a bucket when the call begins."""
        if name == "requests":
            return 1
        return 0 if name == "output-tokens" else self.input

    def spoken_for(self, name: str) -> int:
        """Return what must be left besides while the call lasts; what it used is taken when it ends."""
        return self.output if name in {"tokens", "output-tokens"} else 0


@dataclass(frozen=True, slots=True)
class Place:
    """One of the calls under way, free again at `until` at the latest."""

    until: float
    want: Want


@dataclass(frozen=True, slots=True)
class Head:
    """The first in the line of one process, for the other processes to see. Each has its line, and they take turns.

    Who is older has the lower number. A process draws it from the state when a line forms there and whenever one of its
    callers was let in: one more than the others have. No clock is asked, so one that is wrong neither gains nor loses.
    """

    number: int
    want: Want
    looked: float
    """When its process last looked, by its own clock. The others only see that it changes (`heard`)."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A head as it stands since `since`, by the clock of the process that sees it."""

    head: Head
    since: float


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is `left` of a limit a minute; below zero where more was used than there was."""

    limit: int
    left: float

    def wait_for(self, amount: float, ahead: float = 0) -> float:
        """Return the seconds until *amount* is there when those *ahead* have taken theirs.

        What is dearer than a whole minute waits for a full bucket: otherwise it would wait for ever.
        """
        missing = min(amount, self.limit) + ahead - self.left
        return missing * 60 / self.limit if missing > _NEARLY else 0.0


@dataclass(frozen=True, slots=True)
class State:
    """What is known of a voice's calls, as of `at`."""

    at: float = 0.0
    told: Mapping[str, Bucket] = field(default_factory=dict)
    """What the API's headers say."""
    own: Mapping[str, Bucket] = field(default_factory=dict)
    """The bounds of the voices themselves, filled and emptied by what we know alone."""
    places: Mapping[str, Place] = field(default_factory=dict)
    heads: Mapping[str, Head] = field(default_factory=dict)
    """By process, for those whose callers wait."""
    closed_until: float = 0.0
    at_once: int | None = None
    """What a refusal of the API left of the calls at once; None: it left them all."""
    at_once_before: int | None = None
    answers: int = 0
    """How many have come since the calls at once last changed."""

    @property
    def binds(self) -> bool:
        """Whether a call may have to wait."""
        return bool(self.told or self.own) or self.at_once is not None or self.closed_until > self.at


def at_once(state: State, bounds: Bounds) -> int | None:
    """Return how many calls there may be at once, from 1; None if nothing bounds them."""
    known = [max(1, each) for each in (bounds.at_once, state.at_once) if each is not None]
    return min(known, default=None)


def settled(state: State, bounds: Bounds, now: float) -> State:
    """Let time pass: fill the buckets up, free the places that have lapsed, forget what has been silent for long.

    A clock behind another's fills nothing up; one that was set back does not stop the filling.
    """
    if now > kept_until(state):
        state = State()
    before = state.at if state.at <= now + CLOCKS_DIFFER else now
    passed = max(0.0, now - before)
    own = dict(state.own)
    for name, bound in bounds.a_minute().items():
        own[name] = replace(own[name], limit=bound) if name in own else Bucket(bound, bound)
    return replace(
        state,
        at=max(before, now),
        told={name: _filled(bucket, passed) for name, bucket in state.told.items()},
        own={name: _filled(bucket, passed) for name, bucket in own.items()},
        places={
            key: replace(place, until=min(place.until, now + PLACE_SECONDS))
            for key, place in state.places.items()
            if place.until > now
        },
        closed_until=min(state.closed_until, now + LONGEST_CLOSED),
    )


def _filled(bucket: Bucket, seconds: float) -> Bucket:
    left = min(bucket.limit, bucket.left + seconds * bucket.limit / 60)
    return replace(bucket, left=max(left, -bucket.limit * LONGEST_CLOSED / 60))


def kept_until(state: State) -> float:
    """Return when all this may be forgotten: nothing is under way, nothing is closed, and every bucket is full."""
    full = (state.at + bucket.wait_for(bucket.limit) for bucket in (*state.told.values(), *state.own.values()))
    lapsed = (place.until for place in state.places.values())
    return max(state.at + FORGOTTEN_AFTER, state.closed_until, *full, *lapsed)


def heard(heads: Mapping[str, Head], before: Mapping[str, Heard], now: float) -> dict[str, Heard]:
    """Note since when each of *heads* stands as it does, by the one clock that also gave what was noted *before*."""
    known = {key: noted for key, noted in before.items() if noted.head == heads.get(key) and noted.since <= now}
    return {key: known.get(key) or Heard(head, now) for key, head in heads.items()}


def awake(noted: Mapping[str, Heard], now: float) -> dict[str, Head]:
    """Return the heads whose processes still look: the others have died, and must not hold anybody up."""
    return {key: each.head for key, each in noted.items() if now - each.since < HEARD_WITHIN}


def admitted(
    state: State, wanted: Iterable[tuple[str, Want]], bounds: Bounds, now: float, *, who: str
) -> tuple[State, list[float]]:
    """Give a place to each of *wanted*, the line of the process *who*, up to the first that must wait.

    Nobody overtakes. The heads of other processes stand in this line too, the older before the first of *wanted*, the
    younger behind it, and what they need is held for them until their own processes look.

    Returns for each the seconds it must wait: 0 for those who have a place now; for the others at least so much, with
    those before them counted. *state* must be settled.
    """
    wanted = list(wanted)
    most, bounded = at_once(state, bounds), bounds.a_minute()
    buckets = [*state.told.items(), *((name, bucket) for name, bucket in state.own.items() if name in bounded)]
    under_way = len(state.places)
    others = {name: sum(place.want.spoken_for(name) for place in state.places.values()) for name in _NAMES}
    ahead = dict.fromkeys(_NAMES, 0)
    waits, longest = [], max(0.0, state.closed_until - now)
    for want, is_ours in _in_line(state, [want for _, want in wanted], who):
        if most is not None and under_way >= most:
            longest = max(longest, LOOK_AGAIN)
        for name, bucket in buckets:
            amount = want.taken(name) + want.spoken_for(name)
            longest = max(longest, bucket.wait_for(amount, ahead[name]))
            # What the others are still to say is in the bucket yet, and how much they leave will be known then.
            if others[name] and bucket.wait_for(amount, ahead[name] + others[name]):
                longest = max(longest, LOOK_AGAIN)
        ahead = {name: amount + want.taken(name) for name, amount in ahead.items()}
        if is_ours:
            waits.append(longest)
        if not longest:
            others = {name: amount + want.spoken_for(name) for name, amount in others.items()}
            under_way += 1
    begun = {key: want for (key, want), wait in zip(wanted, waits, strict=True) if not wait}
    left = [want for _, want in wanted[len(begun) :]]
    places = {**state.places, **{key: Place(now + PLACE_SECONDS, want) for key, want in begun.items()}}
    state = replace(state, places=places, heads=_heads(state, left, now, who=who, again=bool(begun)))
    return _taken(state, lambda name: sum(want.taken(name) for want in begun.values())), waits


def _in_line(state: State, wanted: Sequence[Want], who: str) -> list[tuple[Want, bool]]:
    """Return who waits, in order, and whether it is in the line of the process *who*."""
    others = {(head.number, key): head.want for key, head in state.heads.items() if key != who}
    mine = (state.heads[who].number, who) if who in state.heads else (_next_number(state, who), who)
    older = [(others[each], False) for each in sorted(others) if each < mine]
    younger = [(others[each], False) for each in sorted(others) if each > mine]
    ours = [(want, True) for want in wanted]
    return [*older, *ours[:1], *younger, *ours[1:]]


def _heads(state: State, left: Sequence[Want], now: float, *, who: str, again: bool) -> dict[str, Head]:
    """Return the heads with the first of those *left* over, which draws a number *again* if others were let in."""
    heads = {key: head for key, head in state.heads.items() if key != who}
    if left:
        number = state.heads[who].number if who in state.heads and not again else _next_number(state, who)
        heads[who] = Head(number, left[0], now)
    return heads


def _next_number(state: State, who: str) -> int:
    return 1 + max((head.number for key, head in state.heads.items() if key != who), default=0)


def _taken(state: State, amount: Callable[[str], float]) -> State:
    """Take from each bucket the *amount* that goes with its name."""

    def after(buckets: Mapping[str, Bucket]) -> dict[str, Bucket]:
        return {name: replace(bucket, left=bucket.left - amount(name)) for name, bucket in buckets.items()}

    return replace(state, told=after(state.told), own=after(state.own))


def freed(state: State, place_id: str) -> State:
    """Give a place back."""
    return replace(state, places={key: place for key, place in state.places.items() if key != place_id})


def learnt(state: State, limits: RateLimits, bounds: Bounds, *, expected: int | None, used: Usage | None) -> State:
    """Count what an answer used, and believe the API's headers about what is left.

    *expected* is the input the call was let in with; its place is still held. The headers may not know yet of the
    other calls under way: what is left is between what they say with those taken off and what they say.
    """
    begun = Want(expected or 0, 0)
    if used is not None:
        # Whether what is read from the cache counts, only headers tell; to the voice's own bounds it does.
        more = used.fresh + used.cache_read + used.cache_written - begun.input if expected else 0
        spent = {"tokens": more + used.output, "input-tokens": more, "output-tokens": used.output}
        state = _taken(state, lambda name: spent.get(name, 0))
    told = dict(state.told)
    for name, allowance in limits.items():
        if name not in _NAMES or allowance.limit < 1:
            continue
        others = sum(place.want.taken(name) for place in state.places.values()) - begun.taken(name)
        most = float(min(allowance.remaining, allowance.limit))
        least = most - max(0, others)
        left = told[name].left if name in told else least
        told[name] = Bucket(allowance.limit, max(least, min(left, most)))
    state = replace(state, told=told)
    return state if used is None else _risen(state, bounds)


def _risen(state: State, bounds: Bounds) -> State:
    if state.at_once is None:
        return state
    if state.answers + 1 < RISES_AFTER:
        return replace(state, answers=state.answers + 1)
    top = bounds.at_once or state.at_once_before or 1
    if state.at_once + 1 >= top:
        return replace(state, at_once=None, at_once_before=None, answers=0)
    return replace(state, at_once=state.at_once + 1, answers=0)


def refused(state: State, seconds: float, bounds: Bounds, now: float) -> State:
    """Let nothing begin for *seconds*, and then half as many at once; a volley of refusals halves them once."""
    closed_until = max(state.closed_until, now + min(max(seconds, 0.0), LONGEST_CLOSED))
    if state.closed_until > now:
        return replace(state, closed_until=closed_until, answers=0)
    before = at_once(state, bounds) or len(state.places)
    # Fewer may have been under way than were allowed: those were too many already.
    halved = max(1, min(before, max(1, len(state.places))) // 2)
    return replace(
        state,
        closed_until=closed_until,
        at_once=halved,
        at_once_before=max(state.at_once_before or 1, before),
        answers=0,
    )


def returned(state: State, want: Want) -> State:
    """Put back what a call took that the API did not let in."""
    return _taken(state, lambda name: -want.taken(name))


def joined(here: State, there: State) -> State:
    """Return one state out of two that went on apart, each settled: the more careful of both."""

    def fewer(ours: Mapping[str, Bucket], theirs: Mapping[str, Bucket]) -> dict[str, Bucket]:
        both = {**ours, **theirs}
        return {
            name: replace(bucket, left=min(ours.get(name, bucket).left, theirs.get(name, bucket).left))
            for name, bucket in both.items()
        }

    halved = [each for each in (here.at_once, there.at_once) if each is not None]
    before = [each for each in (here.at_once_before, there.at_once_before) if each is not None]
    return State(
        at=max(here.at, there.at),
        told=fewer(here.told, there.told),
        own=fewer(here.own, there.own),
        # Those of others that are only known here have ended long since, or will be told by them.
        places=there.places,
        heads=there.heads,
        closed_until=max(here.closed_until, there.closed_until),
        at_once=min(halved, default=None),
        at_once_before=max(before, default=None),
    )


def written(state: State) -> bytes:
    """Write a state for Redis: numbers, and the names of limits."""
    told = {
        "at": state.at,
        "told": {name: [bucket.limit, bucket.left] for name, bucket in state.told.items()},
        "own": {name: [bucket.limit, bucket.left] for name, bucket in state.own.items()},
        "places": {key: [place.until, place.want.input, place.want.output] for key, place in state.places.items()},
        "heads": {
            key: [head.number, head.want.input, head.want.output, head.looked] for key, head in state.heads.items()
        },
        "closed_until": state.closed_until,
        "at_once": [state.at_once, state.at_once_before, state.answers],
    }
    return json.dumps(told, separators=(",", ":")).encode()


def read(told: bytes) -> State:
    """Read a state from Redis; what is none, whoever wrote it, counts as nothing known."""
    try:
        known = json.loads(told)
        halved, before, answers = known["at_once"]
        return State(
            at=_number(known["at"]),
            told=_buckets(known["told"]),
            own=_buckets(known["own"]),
            places={
                str(key): Place(_number(until), Want(int(_number(taken)), int(_number(said))))
                for key, (until, taken, said) in known["places"].items()
            },
            # A worker of an older version says nothing of them.
            heads={
                str(key): Head(int(_number(number)), Want(int(_number(taken)), int(_number(said))), _number(looked))
                for key, (number, taken, said, looked) in known.get("heads", {}).items()
            },
            closed_until=_number(known["closed_until"]),
            at_once=None if halved is None else int(_number(halved)),
            at_once_before=None if before is None else int(_number(before)),
            answers=int(_number(answers)),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return State()


def _buckets(told: dict[str, list[object]]) -> dict[str, Bucket]:
    return {
        name: Bucket(max(1, int(_number(limit))), _number(left))
        for name, (limit, left) in told.items()
        if name in _NAMES
    }


def _number(told: object) -> float:
    # Also not a boolean, nor "not a number".
    if type(told) not in {int, float} or not -1e15 < (number := cast(float, told)) < 1e15:
        raise ValueError
    return number
