from collections.abc import Callable
from typing import Any

import pytest

from workers.rehearsal.errors import InvalidRequest, ModelUnknown
from workers.rehearsal.validation import check_version, parse_json, read_message_request

OPUS_3 = "claude-3-opus-20240229"
OPUS_5_5 = "claude-opus-5-5"
USER = {"role": "user", "content": "Hello"}
TOOL = {"name": "decline", "input_schema": {"type": "object", "properties": {}}}
USE = {"type": "tool_use", "id": "toolu_1", "name": "decline", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "passed on"}
MARKER = {"type": "ephemeral"}


def body(**changes: Any) -> dict[str, Any]:
    """A request that is accepted, with changes; None takes a field away."""
    whole = {"model": OPUS_3, "max_tokens": 1500, "messages": [USER], **changes}
    return {field: value for field, value in whole.items() if value is not None}


def content(*blocks: object) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def said(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def assistant(*blocks: object) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (body(model=None), "model"),
        (body(max_tokens=None), "max_tokens"),
        (body(messages=None), "messages"),
        (body(surprise=1), "surprise"),
        (body(model=7), "model"),
        (body(max_tokens=4097), "max_tokens"),
        (body(model=OPUS_5_5, max_tokens=128_001), "max_tokens"),
        (body(max_tokens=-5), "max_tokens"),
        (body(max_tokens="many"), "max_tokens"),
        (body(max_tokens=True), "max_tokens"),
        (body(stream=True), "stream"),
        (body(temperature=1.0), "temperature"),
        (body(top_p=0.9), "top_p"),
        (body(top_k=5), "top_k"),
        (body(messages=[]), "messages"),
        (body(messages="Hello"), "messages"),
        (body(messages=[{"role": "user"}]), "messages.0.content"),
        (body(messages=[{"role": "user", "content": ""}]), "messages.0.content.text"),
        (body(messages=[content(said("x"), said(" \n"))]), "messages.0.content.1.text"),
        (body(messages=[content(said("\ud800"))]), "messages.0.content.0.text"),
        (body(messages=[content()]), "messages.0"),
        (body(messages=[{**USER, "name": "Ada"}]), "messages.0.name"),
        (body(messages=[{"role": "narrator", "content": "x"}]), "messages.0.role"),
        (body(messages=[{"role": "assistant", "content": "x"}]), "messages"),
        (body(messages=[USER, {"role": "system", "content": "x"}]), "messages.1.role"),
        (body(model=OPUS_5_5, messages=[USER, assistant(said("x"))]), "messages"),
        (body(messages=[USER, assistant(said("x "))]), "messages"),
        (body(messages=[content({"type": "image", "source": {}})]), "messages.0.content.0.type"),
        (body(messages=[content(said("x", colour="red"))]), "messages.0.content.0.colour"),
        (body(messages=[USER, assistant(USE), content(RESULT)]), "tools"),
        (body(tools=[TOOL], messages=[USER, assistant(USE), USER]), "messages.1"),
        (body(tools=[TOOL], messages=[USER, assistant(USE)]), "messages.1"),
        (body(tools=[TOOL], messages=[content(RESULT)]), "messages.0.content.0"),
        (body(tools=[TOOL], messages=[content(USE)]), "messages.0.content.0.type"),
        (body(system=[said("")]), "system.0.text"),
        (body(system=[{"type": "image"}]), "system.0.type"),
        (body(tools=[{"name": "no spaces", "input_schema": {"type": "object"}}]), "tools.0.name"),
        (body(tools=[{"name": "x"}]), "tools.0.input_schema"),
        (body(tools=[{"name": "x", "input_schema": {"type": "string"}}]), "tools.0.input_schema.type"),
        (body(tools=[TOOL, TOOL]), "tools"),
        (body(tools=[{**TOOL, "strict": True}]), "tools.0.strict"),
        (body(tools=[{"type": "web_search_20250305", "name": "web_search"}]), "tools.0.type"),
        (body(tool_choice={"type": "auto"}), "tool_choice"),
        (body(tools=[TOOL], tool_choice={"type": "tool", "name": "other"}), "tool_choice.name"),
        (body(tools=[TOOL], tool_choice={"type": "some"}), "tool_choice.type"),
        (body(model=OPUS_5_5, tools=[TOOL], tool_choice={"type": "any"}), "tool_choice"),
        (body(thinking={"type": "adaptive"}), "thinking.type"),
        (body(thinking={"type": "loud"}), "thinking.type"),
        (body(model=OPUS_5_5, thinking={"type": "disabled"}), "thinking.type"),
        (
            body(model="claude-3-7-sonnet-20250219", thinking={"type": "enabled", "budget_tokens": 1500}),
            "thinking.budget_tokens",
        ),
        (body(output_config={"effort": "low"}), "output_config"),
        (body(metadata={"email": "ada@example.org"}), "metadata.email"),
        (body(service_tier="gold"), "service_tier"),
        (body(stop_sequences=[" "]), "stop_sequences.0"),
        (body(messages=[content(*[said("x", cache_control=MARKER)] * 5)]), "cache_control"),
        (
            body(system=[said("x", cache_control=MARKER)], cache_control={**MARKER, "ttl": "1h"}),
            "cache_control",
        ),
        (body(cache_control={"type": "ephemeral", "ttl": "2h"}), "cache_control.ttl"),
        (body(cache_control={"type": "eternal"}), "cache_control.type"),
        ([], "body"),
    ],
)
def test_names_the_field_that_is_wrong(asked: object, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_message_request(asked, "2026-10-21")
    assert refused.value.field == field
    assert refused.value.message.startswith(f"{field}: ")


@pytest.mark.parametrize(
    "asked",
    [
        body(),
        body(max_tokens=4096),
        body(max_tokens=0),
        body(messages=[USER, USER]),
        body(messages=[USER, assistant(said("I think"))]),
        body(tools=[TOOL], messages=[USER, assistant(said("x"), USE), content(RESULT)]),
        body(tools=[TOOL], tool_choice={"type": "tool", "name": "decline"}),
        body(
            model=OPUS_5_5, messages=[USER, {"role": "system", "content": "x"}, USER], output_config={"effort": "low"}
        ),
        body(model=OPUS_5_5, tools=[{**TOOL, "strict": True}], thinking={"type": "adaptive"}),
        body(thinking={"type": "disabled"}, metadata={"user_id": "abc"}, service_tier="auto"),
        body(system="A charter", stop_sequences=["END"]),
    ],
)
def test_takes_what_the_api_takes(asked: object) -> None:
    read_message_request(asked, "2026-10-21")


def test_takes_sampling_for_retired_models_under_the_older_version_alone() -> None:
    assert read_message_request(body(temperature=0.7, top_k=5), "2023-06-01").model.id == OPUS_3
    with pytest.raises(InvalidRequest, match=r"^temperature: "):
        read_message_request(body(model=OPUS_5_5, temperature=1.0), "2023-06-01")
    with pytest.raises(InvalidRequest, match=r"^temperature: "):
        read_message_request(body(temperature=1.5), "2023-06-01")


def test_counts_without_max_tokens_and_refuses_it_there() -> None:
    assert read_message_request(body(max_tokens=None), "2026-10-21", counting=True).texts == ("Hello",)
    with pytest.raises(InvalidRequest, match=r"^max_tokens: "):
        read_message_request(body(), "2026-10-21", counting=True)


def test_does_not_know_every_model() -> None:
    with pytest.raises(ModelUnknown, match=r"^model: claude-4-imaginary$"):
        read_message_request(body(model="claude-4-imaginary"), "2026-10-21")


@pytest.mark.parametrize(
    "refuse",
    [
        lambda: parse_json(b"{"),
        lambda: parse_json(b'{"max_tokens": NaN}'),
        lambda: parse_json(b"\xff"),
        lambda: parse_json(b"[" * 100_000),
        lambda: check_version(None),
        lambda: check_version("2024-01-01"),
    ],
)
def test_refuses_bodies_and_versions_it_cannot_read(refuse: Callable[[], object]) -> None:
    with pytest.raises(InvalidRequest):
        refuse()
