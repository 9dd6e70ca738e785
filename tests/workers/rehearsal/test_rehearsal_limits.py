import pytest

from workers.rehearsal.errors import LimitReached
from workers.rehearsal.limits import DEFAULT_PER_MINUTE, Limits, UnknownLimit, parse_limits


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def limits(asked: str, clock: Clock) -> Limits:
    return Limits(parse_limits(asked, DEFAULT_PER_MINUTE), clock)


def test_reads_limits_upon_the_usual_ones() -> None:
    assert parse_limits("", DEFAULT_PER_MINUTE) == {
        "requests": 10_000,
        "tokens": 100_000_000,
        "input-tokens": 100_000_000,
        "output-tokens": 100_000_000,
    }
    assert parse_limits("requests=50, output-tokens=4000,tokens=20000", DEFAULT_PER_MINUTE) == {
        "requests": 50,
        "tokens": 20_000,
        "input-tokens": 20_000,
        "output-tokens": 4_000,
    }


@pytest.mark.parametrize("asked", ["requests", "requests=0", "requests=-1", "letters=5", "requests=1.5", "tokens=many"])
def test_refuses_limits_that_are_none(asked: str) -> None:
    with pytest.raises(UnknownLimit):
        parse_limits(asked, DEFAULT_PER_MINUTE)


def test_lets_a_request_in_again_when_it_said_it_would() -> None:
    clock = Clock()
    bounded = limits("requests=3", clock)
    for _ in range(3):
        bounded.admit(10)
    with pytest.raises(LimitReached) as refused:
        bounded.admit(10)
    assert refused.value.retry_after == "20"
    clock.now += 19
    with pytest.raises(LimitReached):
        bounded.admit(10)
    clock.now += 1
    bounded.admit(10)


def test_never_lets_in_what_exceeds_a_whole_minute() -> None:
    clock = Clock()
    bounded = limits("input-tokens=600", clock)
    for _ in range(2):
        with pytest.raises(LimitReached) as refused:
            bounded.admit(601)
        assert refused.value.retry_after == "60"
        assert bounded.headers()["anthropic-ratelimit-input-tokens-remaining"] == "600"
        clock.now += 60


def test_counts_what_an_answer_cost_against_the_next_request() -> None:
    clock = Clock()
    bounded = limits("tokens=600", clock)
    bounded.admit(100)
    bounded.spend_output(450)
    assert bounded.headers()["anthropic-ratelimit-tokens-remaining"] == "50"
    assert bounded.headers()["anthropic-ratelimit-input-tokens-remaining"] == "500"
    assert bounded.headers()["anthropic-ratelimit-output-tokens-remaining"] == "150"
    # Ten tokens come back each second.
    with pytest.raises(LimitReached, match="600 tokens per minute") as refused:
        bounded.admit(100)
    assert refused.value.retry_after == "5"
