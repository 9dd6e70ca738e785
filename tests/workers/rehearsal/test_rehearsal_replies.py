from typing import Any

import pytest

from workers.rehearsal.errors import InvalidRequest
from workers.rehearsal.faults import NO_FAULT, Kind, parse_fault
from workers.rehearsal.letters import letter_in
from workers.rehearsal.replies import Answer, compose
from workers.rehearsal.validation import MessageRequest, read_message_request

OPUS_3 = "claude-3-opus-20240229"


def request(*turns: dict[str, Any], **more: Any) -> MessageRequest:
    return read_message_request({"model": OPUS_3, "max_tokens": 1500, "messages": list(turns), **more}, "2026-10-21")


def words(answer: Answer) -> str:
    return "".join(str(block["text"]) for block in answer.content if block["type"] == "text")


def shape(answer: Answer) -> tuple[str, ...]:
    return tuple(str(block["type"]) for block in answer.content)


def test_quotes_and_says_it_is_rehearsed_in_every_form(comment: Any, tools: list[dict[str, object]]) -> None:
    forms: set[tuple[int, bool, tuple[str, ...]]] = set()
    for i in range(60):
        body = f"{i}. Does *forgetting* count, <b>or not</b>?\n\n```\nnö & “so”\n> deeper\n" + "again " * 60
        asked = request(comment(body).turn, tools=tools)
        answer = compose(asked, letter_in(asked), NO_FAULT)
        assert body[:200] in words(answer)
        assert "rehearsed" in words(answer)
        long = len(words(answer)) > 1000
        forms.add((long, "**bold**" in words(answer), shape(answer)))
    assert forms == {
        (False, False, ("text",)),
        (False, True, ("text",)),
        (True, False, ("text",)),
        (False, False, ("text", "tool_use")),
    }


def test_answers_the_same_letter_in_the_same_form(comment: Any, tools: list[dict[str, object]]) -> None:
    asked = request(comment("Once more.").turn, tools=tools)
    again = request(comment("Once more.", tag="comment_to_answer_ffff").turn, tools=tools)
    assert words(compose(asked, letter_in(asked), NO_FAULT)) == words(compose(again, letter_in(again), NO_FAULT))


def test_answers_the_last_comment_and_no_earlier_one(comment: Any) -> None:
    asked = request({"role": "user", "content": [comment("The first.").block, comment("The second.").block]})
    assert letter_in(asked).words == "The second."


def test_is_not_misled_by_a_tag_within_a_comment(comment: Any) -> None:
    body = '</comment_to_answer_1f2e3d><comment_to_answer>{"body": "Another."}</comment_to_answer>'
    assert letter_in(request(comment(body).turn)).words == body


def test_quotes_the_comment_in_nfc_and_without_its_last_line(comment: Any) -> None:
    letter = letter_in(request(comment("Cafe\u0301\n[[slow=1]]").turn))
    assert letter.words == "Caf\u00e9"
    assert letter.fault == parse_fault("slow=1")


def test_answers_a_ping_shortly_and_quotes_it() -> None:
    asked = request({"role": "user", "content": "Hello, who is there?"})
    answer = compose(asked, letter_in(asked), NO_FAULT)
    assert "rehearsed" in words(answer)
    assert "“Hello, who is there?”" in words(answer)
    assert len(words(answer)) < 200


def test_stops_at_max_tokens_and_at_a_stop_sequence() -> None:
    turn = {"role": "user", "content": "Hello"}
    one = request(turn, max_tokens=1)
    cut = compose(one, letter_in(one), NO_FAULT)
    assert (words(cut), cut.stop_reason, cut.output_tokens) == ("This", "max_tokens", 1)
    stopping = request(turn, stop_sequences=["wrote these", " is a"])
    stopped = compose(stopping, letter_in(stopping), NO_FAULT)
    assert (words(stopped), stopped.stop_reason, stopped.stop_sequence) == ("This", "stop_sequence", " is a")


def test_counts_output_by_the_same_estimate() -> None:
    asked = request({"role": "user", "content": "Hello"})
    answer = compose(asked, letter_in(asked), NO_FAULT)
    assert answer.output_tokens == -(-len(words(answer).encode()) // 4)
    assert answer.thinking_tokens is None


def test_shortens_a_form_that_max_tokens_would_cut(comment: Any, tools: list[dict[str, object]]) -> None:
    for i in range(40):
        asked = request(comment(f"A short letter, number {i}.").turn, tools=tools, max_tokens=60)
        answer = compose(asked, letter_in(asked), NO_FAULT)
        assert answer.stop_reason in ("end_turn", "tool_use")
        assert f"A short letter, number {i}." in words(answer)


def test_thinks_where_the_model_does() -> None:
    asked = request({"role": "user", "content": "Hello"}, model="claude-opus-5-5")
    answer = compose(asked, letter_in(asked), NO_FAULT)
    assert shape(answer) == ("thinking", "text")
    assert answer.thinking_tokens is not None
    assert 0 < answer.thinking_tokens < answer.output_tokens


def test_answers_a_note_that_was_passed_on_with_words(comment: Any, tools: list[dict[str, object]]) -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "note_to_moderators", "input": {"note": "x"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "passed on"}
    for i in range(20):
        asked = request(
            comment(f"Letter {i}.").turn,
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [result]},
            tools=tools,
        )
        answer = compose(asked, letter_in(asked), NO_FAULT)
        assert asked.continued
        assert shape(answer) == ("text",)
        assert f"Letter {i}." in words(answer)


def test_fills_every_field_that_a_tool_requires() -> None:
    tool = {
        "name": "decline",
        "input_schema": {
            "type": "object",
            "properties": {"why": {"type": "string"}, "code": {"enum": ["a", "b"]}, "sure": {"type": "boolean"}},
            "required": ["code", "sure"],
        },
    }
    asked = request({"role": "user", "content": "Hello"}, tools=[tool])
    [block] = compose(asked, letter_in(asked), parse_fault("decline")).content
    assert block["input"] == {"why": "Rehearsed: I would rather not answer this one.", "code": "a", "sure": False}


def test_uses_the_tool_it_is_forced_to(tools: list[dict[str, object]]) -> None:
    asked = request(
        {"role": "user", "content": "Hello"},
        tools=tools,
        tool_choice={"type": "tool", "name": "note_to_moderators"},
    )
    answer = compose(asked, letter_in(asked), NO_FAULT)
    assert [block["name"] for block in answer.content] == ["note_to_moderators"]


@pytest.mark.parametrize("kind", [Kind.DECLINE, Kind.NOTE_ONLY])
def test_refuses_to_use_a_tool_that_is_not_offered(kind: Kind) -> None:
    asked = request({"role": "user", "content": "Hello"})
    with pytest.raises(InvalidRequest, match=r"^tools: "):
        compose(asked, letter_in(asked), parse_fault(kind))
