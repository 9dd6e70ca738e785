import copy
from typing import Any

import pytest
from ground.workshop import MODEL, declines, message, notes

from bridge.voice.model import Answer, Outcome, Unreadable, Usage, read

THINKING = {"type": "thinking", "thinking": "Let me see.", "signature": "s"}
STRANGE = {"type": "server_tool_use", "text": None}
CHOICE = {"type": "tool_use", "id": "toolu_1", "name": "choose", "input": {"letters": [1]}}


def reading(said: dict[str, Any]) -> Answer:
    return read(said, asked=MODEL, request_id="req_1", rehearsed=False)


@pytest.mark.parametrize(
    ("said", "outcome", "text"),
    [
        (message("I rest."), Outcome.REPLIED, "I rest."),
        (message("I ", "rest."), Outcome.REPLIED, "I rest."),
        (message(" As written, \r\n with its spaces. "), Outcome.REPLIED, " As written, \r\n with its spaces. "),
        (message("I rest.", notes(), stop="tool_use"), Outcome.REPLIED, "I rest."),
        (message(THINKING, "I rest."), Outcome.REPLIED, "I rest."),
        (message({"type": "redacted_thinking", "data": "x"}, "I rest."), Outcome.REPLIED, "I rest."),
        (message(declines(), stop="tool_use"), Outcome.DECLINED, None),
        (message("Well,", declines(), stop="tool_use"), Outcome.DECLINED, None),
        (message(declines(), notes(), stop="tool_use"), Outcome.DECLINED, None),
        (message(STRANGE, declines(), stop="tool_use"), Outcome.DECLINED, None),
        (message(declines(), stop="max_tokens"), Outcome.DECLINED, None),
        (message(notes(), stop="tool_use"), Outcome.NOTE_ONLY, None),
        (message(" \n", notes(), stop="tool_use"), Outcome.NOTE_ONLY, None),
        (message(notes(), stop="end_turn"), Outcome.DECLINED, None),
        (message(), Outcome.DECLINED, None),
        (message(""), Outcome.DECLINED, None),
        (message(" \n"), Outcome.DECLINED, None),
        (message(THINKING), Outcome.DECLINED, None),
        (message("I re", stop="max_tokens"), Outcome.CUT, None),
        (message("I re", notes(), stop="max_tokens"), Outcome.CUT, None),
        (message("I re", stop="model_context_window_exceeded"), Outcome.CUT, None),
        (message(stop="refusal"), Outcome.WITHHELD, None),
        (message("I re", stop="refusal"), Outcome.WITHHELD, None),
        (message("I rest.", stop="stop_sequence"), Outcome.UNEXPECTED, None),
        (message("I rest.", stop="pause_turn"), Outcome.UNEXPECTED, None),
        (message("I rest.", stop=None), Outcome.UNEXPECTED, None),
        (message("I rest.", stop="something_new"), Outcome.UNEXPECTED, None),
        (message("I rest.", stop_reason=["end_turn"]), Outcome.UNEXPECTED, None),
        (message("I rest.", STRANGE), Outcome.UNEXPECTED, None),
        (message("I rest.", {"type": "text", "text": None}), Outcome.UNEXPECTED, None),
        (message("I rest.", {"type": ["text"]}), Outcome.UNEXPECTED, None),
        (message("I rest.", {"type": "tool_use", "name": "publish", "input": {}}), Outcome.UNEXPECTED, None),
        (message("I rest.", CHOICE, stop="tool_use"), Outcome.REPLIED, "I rest."),
        (message(CHOICE, "I rest."), Outcome.REPLIED, "I rest."),
        (message(CHOICE, notes(), stop="tool_use"), Outcome.NOTE_ONLY, None),
        (message(CHOICE, declines(), stop="tool_use"), Outcome.DECLINED, None),
        (message(CHOICE, stop="tool_use"), Outcome.UNEXPECTED, None),
        (message({**notes(), "id": None}, stop="tool_use"), Outcome.UNEXPECTED, None),
        (message({**CHOICE, "id": None}, notes(), stop="tool_use"), Outcome.UNEXPECTED, None),
        (message("I rest.", model="claude-opus-5-5"), Outcome.UNEXPECTED, None),
        (message(declines(), model="claude-opus-5-5"), Outcome.UNEXPECTED, None),
    ],
)
def test_reads_what_an_answer_comes_to(said: dict[str, Any], outcome: Outcome, text: str | None) -> None:
    as_it_came = copy.deepcopy(said)
    answer = reading(said)
    assert (answer.outcome, answer.text) == (outcome, text)
    assert answer.message == as_it_came
    assert (answer.why is None) == (outcome in {Outcome.REPLIED, Outcome.NOTE_ONLY})


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (message(declines("Not today. "), stop="tool_use"), "Not today."),
        (message(declines(""), stop="tool_use"), "The voice gave no reason."),
        (message({**declines(), "input": {}}, stop="tool_use"), "The voice gave no reason."),
        (message({**declines(), "input": {"reason": 7}}, stop="tool_use"), "The voice gave no reason."),
        (message({**declines(), "input": "why"}, stop="tool_use"), "The voice gave no reason."),
        (message(), "The voice said nothing."),
        (message("I re", stop="max_tokens"), "The answer was cut off (max_tokens)."),
        (message(stop="refusal"), "Withheld by the API's filter, not by the voice."),
        (message("I rest.", stop="pause_turn"), "Unexpected ending: pause_turn."),
        (message("I rest.", STRANGE), "The answer has a part of an unknown kind: server_tool_use."),
        (
            message("I rest.", {"type": "tool_use", "name": "publish", "input": {}}),
            "The voice called a tool that it was not given: publish.",
        ),
        (message(CHOICE, stop="tool_use"), "The voice chose among letters where it was asked to answer one."),
        (message("I rest.", model="claude-opus-5-5"), "Another model answered: claude-opus-5-5."),
    ],
)
def test_says_why_in_words(said: dict[str, Any], why: str) -> None:
    assert reading(said).why == why


def test_keeps_notes_beside_the_reply() -> None:
    answer = reading(message("I rest.", notes("One."), notes(" Two. "), notes(""), stop="tool_use"))
    assert (answer.text, answer.note) == ("I rest.", "One.\nTwo.")


@pytest.mark.parametrize(
    "holes",
    [
        {},
        {"type": "error"},
        {"type": None},
        {"content": None},
        {"content": "I rest."},
        {"content": {"type": "text", "text": "I rest."}},
        {"usage": None},
        {"usage": 12},
        {"model": None},
    ],
)
def test_refuses_a_message_with_holes(holes: dict[str, Any]) -> None:
    said = message("I rest.") | holes if holes else {}
    with pytest.raises(Unreadable) as refused:
        reading(said)
    assert (refused.value.why, refused.value.tries) == ("The answer was unreadable.", 3)


def test_counts_tokens_and_takes_what_is_no_number_for_none() -> None:
    used = {
        "input_tokens": 5,
        "cache_read_input_tokens": 40,
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_1h_input_tokens": 20, "ephemeral_5m_input_tokens": 10},
        "output_tokens": 7,
    }
    assert reading(message("I rest.", usage=used)).usage == Usage(5, 40, 30, 20, 7)
    strange = {"input_tokens": 5, "cache_read_input_tokens": -1, "cache_creation": 3, "output_tokens": 7}
    assert reading(message("I rest.", usage=strange)).usage == Usage(5, 0, 0, 0, 7)
    more_than_all = used | {"cache_creation_input_tokens": 8}
    assert reading(message("I rest.", usage=more_than_all)).usage == Usage(5, 40, 8, 8, 7)


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"input_tokens": 5},
        {"output_tokens": 7},
        {"input_tokens": None, "output_tokens": 7},
        {"input_tokens": "5", "output_tokens": 7},
        {"input_tokens": 5, "output_tokens": -1},
        {"input_tokens": True, "output_tokens": 7},
        {"input_tokens": 5, "output_tokens": False},
        {"input_tokens": 5.0, "output_tokens": 7},
        {"input_tokens": 5, "output_tokens": 10**30},
    ],
)
def test_takes_tokens_that_are_not_told_for_unknown_and_not_for_none(told: dict[str, Any]) -> None:
    answer = reading(message("I rest.", usage=told))
    assert (answer.outcome, answer.usage) == (Outcome.REPLIED, None)


def test_keeps_nothing_beside_the_reply_that_a_database_would_refuse() -> None:
    broken = "a\0b\ud800c"
    answer = reading(message("I rest.", notes(broken), stop="tool_use", id="msg_" + "x" * 200))
    assert (answer.note, answer.message_id) == ("abc", "msg_" + "x" * 116)
    for said in (
        message(declines(broken), stop="tool_use"),
        message("I rest.", stop=broken),
        message("I rest.", {"type": broken}),
        message("I rest.", model=broken),
    ):
        answer = reading(said)
        assert "abc" in (answer.why or "")
        assert not {"\0", "\ud800"} & set((answer.why or "") + answer.model)
