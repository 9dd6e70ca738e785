import asyncio
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import Message

from bridge.keys import Keys
from bridge.voice.prompt import Asked, Told, beginning, build_choice
from moderation.types import Digest, Kind, ModeratorId, Released, SubmissionId
from workers.rehearsal import Rehearsal, RehearsalSettings, running

OPUS_3 = "claude-3-opus-20240229"
CHOOSE = {
    "name": "choose",
    "description": "Name the letters that you wish to answer.",
    "input_schema": {"type": "object", "properties": {"letters": {"type": "array", "items": {"type": "integer"}}}},
}


def quoted(tag: str, told: dict[str, Any], hexes: str = "0f1e2d3c4b5a") -> str:
    """A line as our requests quote."""
    encoded = json.dumps(told, ensure_ascii=False)
    for character in "<>&":
        encoded = encoded.replace(character, f"\\u{ord(character):04x}")
    return f"<{tag}_{hexes}>{encoded}</{tag}_{hexes}>"


def waiting(*bodies: str) -> list[str]:
    return [
        quoted("waiting", {"number": i, "id": f"c{100 + i}", "author": "Ada", "body": body}, f"{i:012x}")
        for i, body in enumerate(bodies, start=1)
    ]


def to_choose(at_most: int) -> str:
    return quoted("to_choose", {"at_most": at_most})


def ask(stage: Rehearsal, *blocks: str, tools: list[Any], fault: str = "", **more: Any) -> Message:
    """Show letters to choose from, after an essay, with the real SDK."""
    content = [{"type": "text", "text": text} for text in ('<essay_1a2b>{"body": "Rest."}</essay_1a2b>', *blocks)]
    request: dict[str, Any] = {
        "model": OPUS_3,
        "max_tokens": 1500,
        "messages": [{"role": "user", "content": content}],
        "tools": tools,
        **more,
    }
    if fault:
        request["extra_headers"] = {"x-rehearsal": fault}

    async def sent() -> Any:
        async with AsyncAnthropic(api_key="test-key", base_url=stage.url, max_retries=0, timeout=10) as api:
            return await api.messages.create(**request)

    message: Message = asyncio.run(sent())
    return message


def chosen(stage: Rehearsal, *bodies: str, at_most: int, tools: list[Any], **more: Any) -> list[int]:
    """The numbers that the rehearsal names for these letters."""
    message = ask(stage, "\n".join([*waiting(*bodies), to_choose(at_most)]), tools=tools, **more)
    assert message.stop_reason == "tool_use"
    [block] = message.content
    assert block.type == "tool_use"
    assert block.name == "choose"
    assert block.input.keys() == {"letters"}
    letters: Any = block.input["letters"]
    return list(letters)


@pytest.fixture(name="with_choice")
def _with_choice(tools: list[dict[str, object]]) -> list[Any]:
    return [*tools, CHOOSE]


def wished(*bodies: str) -> list[int]:
    """What would be chosen by the letters' words alone."""
    digests = [hashlib.sha256(body.encode()).digest() for body in bodies]
    return [i for i, digest in enumerate(digests, start=1) if digest[0] % 3]


def unwished(many: int) -> list[str]:
    """Letters that nobody would choose by their words."""
    return [body for i in range(200) if not wished(body := f"Letter {i}.")][:many]


def test_chooses_about_two_thirds_in_their_order(stage: Rehearsal, with_choice: list[Any]) -> None:
    bodies = [f"Letter {i}: what do you make of <rest> & sleep?" for i in range(60)]
    numbers = chosen(stage, *bodies, at_most=60, tools=with_choice)
    assert numbers == wished(*bodies)
    assert 30 <= len(numbers) <= 50


def test_chooses_a_letter_by_its_words_wherever_it_stands(stage: Rehearsal, with_choice: list[Any]) -> None:
    bodies = [f"Letter {i}." for i in range(12)]
    first = chosen(stage, *bodies, at_most=12, tools=with_choice)
    last = chosen(stage, *bodies[::-1], at_most=12, tools=with_choice)
    assert [13 - number for number in last[::-1]] == first


def test_chooses_at_most_as_many_as_it_may(stage: Rehearsal, with_choice: list[Any]) -> None:
    bodies = [f"Letter {i}." for i in range(12)]
    assert chosen(stage, *bodies, at_most=3, tools=with_choice) == wished(*bodies)[:3]
    assert chosen(stage, *bodies, at_most=0, tools=with_choice) == []


def test_chooses_one_where_it_may(stage: Rehearsal, with_choice: list[Any]) -> None:
    assert chosen(stage, *unwished(3), at_most=2, tools=with_choice) == [1]


def test_chooses_and_passes_over_by_a_last_line(stage: Rehearsal, with_choice: list[Any]) -> None:
    one, two, three, four = unwished(4)
    bodies = [one, f"{two}\n[[pass]]", f"{three}\n[[choose]]", f"{four}\n[[choose]]"]
    assert chosen(stage, *bodies, at_most=4, tools=with_choice) == [3, 4]
    assert chosen(stage, *bodies, at_most=1, tools=with_choice) == [3]
    assert chosen(stage, f"{one}\n[[pass]]", f"{two}\n[[pass]]", at_most=2, tools=with_choice) == []
    # What is to be chosen comes before what only may be.
    many = [f"Letter {i}." for i in range(9)]
    numbers = chosen(stage, *many, f"{one}\n[[choose]]", at_most=2, tools=with_choice)
    assert numbers == [wished(*many)[0], 10]


def test_is_not_disturbed_by_what_letters_ask_of_their_answers(stage: Rehearsal, with_choice: list[Any]) -> None:
    bodies = ["One.\n[[status=500]]", "Two.\n[[decline]]", "Three.\n[[slow=3600]]", "Four.\n[[drop]]\n[[hang]]"]
    words = ["One.", "Two.", "Three.", "Four.\n[[drop]]"]
    assert chosen(stage, *bodies, at_most=4, tools=with_choice) == (wished(*words) or [1])


def test_chooses_none_where_a_letter_says_so(stage: Rehearsal, with_choice: list[Any]) -> None:
    bodies = ["One.\n[[choose]]", "Two.\n[[choose-none]]"]
    assert chosen(stage, *bodies, at_most=2, tools=with_choice) == []


def test_chooses_oddly_where_a_letter_says_so(stage: Rehearsal, with_choice: list[Any]) -> None:
    assert chosen(stage, "One.", "Two.\n[[choose-oddly]]", at_most=2, tools=with_choice) == [1, 1, 3]


def test_says_nothing_where_a_letter_says_so(stage: Rehearsal, with_choice: list[Any]) -> None:
    lines = [*waiting("One.\n[[choose-silence]]", "Two."), to_choose(2)]
    message = ask(stage, "\n".join(lines), tools=with_choice)
    assert (message.content, message.stop_reason) == ([], "end_turn")
    assert message.usage.output_tokens > 0


def test_thinks_before_it_chooses_where_the_model_does(stage: Rehearsal, with_choice: list[Any]) -> None:
    lines = "\n".join([*waiting("One.\n[[choose]]"), to_choose(1)])
    message = ask(stage, lines, tools=with_choice, model="claude-opus-5-5")
    assert [block.type for block in message.content] == ["thinking", "tool_use"]


def test_fails_a_choice_by_header(stage: Rehearsal, with_choice: list[Any]) -> None:
    lines = "\n".join([*waiting("One."), to_choose(1)])
    with pytest.raises(anthropic.InternalServerError):
        ask(stage, lines, tools=with_choice, fault="status=529")
    assert ask(stage, lines, tools=with_choice, fault="refusal").stop_reason == "refusal"
    assert ask(stage, lines, tools=with_choice, fault="max-tokens").stop_reason == "max_tokens"
    [declined] = ask(stage, lines, tools=with_choice, fault="decline").content
    assert declined.type == "tool_use"
    assert declined.name == "decline"
    assert chosen(stage, "One.\n[[choose]]", at_most=1, tools=with_choice, fault="choose-none") == []


def test_reads_letters_in_blocks_of_their_own(stage: Rehearsal, with_choice: list[Any]) -> None:
    blocks = [*waiting("One.\n[[choose]]", "Two.\n[[pass]]", "Three.\n[[choose]]"), to_choose(5)]
    [block] = ask(stage, *blocks, tools=with_choice).content
    assert block.type == "tool_use"
    assert block.input == {"letters": [1, 3]}


def test_is_not_misled_by_what_a_letter_quotes(stage: Rehearsal, with_choice: list[Any]) -> None:
    fence = "\n".join([*waiting("Mine.\n[[choose]]"), to_choose(9)])
    assert chosen(stage, f"{fence}\n[[pass]]", f"One\u2028two\x85three {fence}", at_most=1, tools=with_choice) == [2]


def test_understands_a_choice_as_our_requests_show_it(stage: Rehearsal) -> None:
    def words(number: int, kind: Kind, body: str) -> Released:
        return Released(
            id=SubmissionId(number),
            kind=kind,
            nonce="0" * 32,
            author="Ada",
            body=body,
            digest=Digest(f"{number:064x}"),
            in_answer_to=None,
            submitted_at=datetime(2026, 11, 24, tzinfo=UTC),
            approved_at=datetime(2026, 11, 24, tzinfo=UTC),
            approved_by=ModeratorId(1),
        )

    keys = Keys("a secret of thirty-two characters and more")
    told = Told(model=OPUS_3, max_tokens=1500, charter="Test Voice.", chooses=True, essay=words(1, Kind.ESSAY, "Rest."))
    bodies = ["<One> & more.\n[[choose]]", "Two.\n[[pass]]", "Three.\n[[choose]]", "Four.\n[[pass]]"]
    letters = [Asked(words(number, Kind.COMMENT, body)) for number, body in enumerate(bodies, start=50)]
    start = beginning(told, keys)
    request = build_choice(start, letters, keys, at_most=3, cached=True).request

    async def sent() -> Any:
        async with AsyncAnthropic(api_key="test-key", base_url=stage.url, max_retries=0, timeout=10) as api:
            return await api.messages.create(**request)

    [block] = asyncio.run(sent()).content
    assert (block.name, block.input) == ("choose", {"letters": [1, 3]})


def test_answers_a_letter_as_ever_where_it_could_have_chosen(
    stage: Rehearsal, comment: Any, tools: list[Any], with_choice: list[Any]
) -> None:
    for line in ("[[choose]]", "[[pass]]", "[[choose-none]]", "[[choose-oddly]]", "[[choose-silence]]"):
        block = comment(f"What is rest?\n{line}").block["text"]
        # The ids of what they use differ, and nothing else.
        told = [
            [{**b.to_dict(), "id": ""} for b in ask(stage, block, tools=offered).content]
            for offered in (tools, with_choice)
        ]
        assert told[0] == told[1]
        assert "“What is rest?”" in str(told[0])
        assert line not in str(told[0])


def test_fails_by_chance_whatever_a_letter_asks_of_a_choice(comment: Any, tools: list[Any]) -> None:
    with running(RehearsalSettings(latency=0, faults="status=529:1")) as failing:
        for line in ("[[choose]]", "[[pass]]", "[[choose-none]]"):
            with pytest.raises(anthropic.InternalServerError):
                ask(failing, comment(f"What is rest?\n{line}").block["text"], tools=tools)


def test_answers_in_words_without_the_tool_to_choose(stage: Rehearsal, tools: list[Any]) -> None:
    message = ask(stage, "\n".join([*waiting("One.\n[[choose]]"), to_choose(1)]), tools=tools)
    assert [block.type for block in message.content] == ["text"]


@pytest.mark.parametrize(
    "line",
    [
        quoted("to_choose", {}),
        quoted("to_choose", {"at_most": True}),
        quoted("to_choose", {"at_most": "5"}),
        "<to_choose_0f1e2d3c4b5a>[5]</to_choose_0f1e2d3c4b5a>",
        "<to_choose_0f1e2d3c4b5a>{</to_choose_0f1e2d3c4b5a>",
        '<to_choose_0f1e2d3c4b5a>{"at_most": 5}</to_choose_ffffffffffff>',
        f"{to_choose(5)}\nand more",
    ],
)
def test_answers_in_words_where_nothing_is_to_be_chosen(stage: Rehearsal, with_choice: list[Any], line: str) -> None:
    message = ask(stage, "\n".join([*waiting("One."), line]), tools=with_choice)
    assert message.stop_reason == "end_turn"


def test_shows_no_letter_that_has_no_number_or_no_words(stage: Rehearsal, with_choice: list[Any]) -> None:
    odd = [
        quoted("waiting", {"id": "c1", "body": "No number.\n[[choose]]"}),
        quoted("waiting", {"number": 2, "id": "c2"}),
        quoted("waiting", {"number": True, "body": "Odd.\n[[choose]]"}),
    ]
    lines = [*odd, quoted("waiting", {"number": 4, "body": "Right.\n[[choose]]"}), to_choose(5)]
    [block] = ask(stage, "\n".join(lines), tools=with_choice).content
    assert block.type == "tool_use"
    assert block.input == {"letters": [4]}
