from typing import Any

import pytest

from workers.rehearsal.usage import PrefixCache, Reckoning, prompt_tokens
from workers.rehearsal.validation import MessageRequest, read_message_request

OPUS_3 = "claude-3-opus-20240229"


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def text(tokens: int, letter: str = "x", ttl: str | None = None) -> dict[str, Any]:
    """A block of so many tokens: four bytes each."""
    block: dict[str, Any] = {"type": "text", "text": letter * tokens * 4}
    return block if ttl is None else {**block, "cache_control": {"type": "ephemeral", "ttl": ttl}}


def request(*blocks: dict[str, Any], model: str = OPUS_3, **more: Any) -> MessageRequest:
    body = {
        "model": model,
        "max_tokens": 100,
        "system": [text(1000, "s")],
        "messages": [{"role": "user", "content": list(blocks)}],
        **more,
    }
    return read_message_request(body, "2026-10-21")


def told(reckoning: Reckoning) -> tuple[int, int, int, int]:
    return reckoning.input_tokens, reckoning.written_5m, reckoning.written_1h, reckoning.read


def test_counts_bytes_by_four_rounded_up_and_530_for_tools(tools: list[dict[str, object]]) -> None:
    five_bytes = {"type": "text", "text": "ééa"}
    assert prompt_tokens(request(five_bytes)) == 1002
    # {"name":"t","input_schema":{"type":"object"}} in its canonical form, 45 bytes.
    tool = {"name": "t", "input_schema": {"type": "object"}}
    assert prompt_tokens(request(five_bytes, tools=[tool])) == 530 + 1013


def test_writes_first_and_reads_next() -> None:
    # By hand: 1,000 tokens of system, 100 of essay up to the marker, 10 after it.
    cache = PrefixCache(Clock())
    first = cache.reckon(request(text(100, ttl="5m"), text(10, "a")))
    cache.begin(first)
    second = cache.reckon(request(text(100, ttl="5m"), text(20, "b")))
    assert told(first) == (10, 1100, 0, 0)
    assert told(second) == (20, 0, 0, 1100)
    assert second.usage(7, None) == {
        "input_tokens": 20,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 1100,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": None,
        "service_tier": "standard",
    }


def test_writes_twice_when_both_arrive_before_the_first_response_begins() -> None:
    cache = PrefixCache(Clock())
    first = cache.reckon(request(text(100, ttl="5m"), text(10, "a")))
    second = cache.reckon(request(text(100, ttl="5m"), text(10, "b")))
    cache.begin(first)
    cache.begin(second)
    assert told(first) == told(second) == (10, 1100, 0, 0)


@pytest.mark.parametrize(
    ("model", "essay", "written"),
    [
        (OPUS_3, 23, 0),
        (OPUS_3, 24, 1024),
        ("claude-opus-5-5", 23, 1023),
    ],
)
def test_caches_nothing_below_the_models_minimum(model: str, essay: int, written: int) -> None:
    cache = PrefixCache(Clock())
    first = cache.reckon(request(text(essay, ttl="5m"), text(10), model=model))
    cache.begin(first)
    again = cache.reckon(request(text(essay, ttl="5m"), text(10), model=model))
    assert told(first) == (1000 + essay + 10 - written, written, 0, 0)
    assert told(again) == (1000 + essay + 10 - written, 0, 0, written)


@pytest.mark.parametrize(("ttl", "seconds"), [("5m", 300), ("1h", 3600)])
def test_forgets_after_the_time_to_live_unless_a_read_renews_it(ttl: str, seconds: int) -> None:
    clock = Clock()
    cache = PrefixCache(clock)
    asked = request(text(100, ttl=ttl), text(10))
    cache.begin(cache.reckon(asked))
    clock.now += seconds - 1
    renewed = cache.reckon(asked)
    cache.begin(renewed)
    clock.now += seconds - 1
    assert renewed.read == cache.reckon(asked).read == 1100
    clock.now += 1
    assert cache.reckon(asked).read == 0


def test_lives_from_the_start_of_the_call_and_not_of_its_response() -> None:
    clock = Clock()
    cache = PrefixCache(clock)
    asked = request(text(100, ttl="5m"), text(10))
    slow = cache.reckon(asked)
    clock.now += 200
    cache.begin(slow)
    clock.now += 99
    assert cache.reckon(asked).read == 1100
    clock.now += 1
    assert cache.reckon(asked).read == 0


def test_splits_what_is_written_by_time_to_live() -> None:
    cache = PrefixCache(Clock())
    first = cache.reckon(request(text(100, ttl="1h"), text(50, "t", ttl="5m"), text(10)))
    cache.begin(first)
    longer = cache.reckon(request(text(100, ttl="1h"), text(60, "u", ttl="5m"), text(10)))
    assert told(first) == (10, 50, 1100, 0)
    assert told(longer) == (10, 60, 0, 1100)


def test_finds_what_was_written_up_to_twenty_blocks_before_the_marker() -> None:
    cache = PrefixCache(Clock())
    cache.begin(cache.reckon(request(text(100, ttl="5m"), text(10))))
    near = [text(1, f"{i % 10}") for i in range(18)]
    assert cache.reckon(request(text(100), *near, text(5, ttl="5m"))).read == 1100
    assert cache.reckon(request(text(100), *near, text(1), text(5, ttl="5m"))).read == 0


def test_shares_nothing_between_models_tool_lists_or_other_words(tools: list[dict[str, object]]) -> None:
    cache = PrefixCache(Clock())
    cache.begin(cache.reckon(request(text(100, ttl="5m"), text(10), tools=tools)))
    marked = (text(100, ttl="5m"), text(10))
    assert cache.reckon(request(*marked, tools=tools)).read > 0
    assert cache.reckon(request(*marked, tools=tools[:1])).read == 0
    assert cache.reckon(request(*marked)).read == 0
    assert cache.reckon(request(*marked, tools=tools, model="claude-3-sonnet-20240229")).read == 0
    assert cache.reckon(request(text(100, "y", ttl="5m"), text(10), tools=tools)).read == 0
    assert cache.reckon(request(*marked, tools=tools, tool_choice={"type": "none"})).read == 0


def test_keeps_tools_and_system_when_only_the_tool_choice_changes(tools: list[dict[str, object]]) -> None:
    cache = PrefixCache(Clock())
    system = [text(1100, "s", ttl="5m")]
    first = cache.reckon(request(text(10), tools=tools, system=system))
    cache.begin(first)
    other = cache.reckon(request(text(10), tools=tools, system=system, tool_choice={"type": "none"}))
    assert other.read == first.written_5m > 1100
