"""The words of the rehearsal: they say that they are rehearsed, and quote what they answer, in every form."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from workers.rehearsal.choices import Choice
from workers.rehearsal.errors import InvalidRequest
from workers.rehearsal.faults import Fault, Kind
from workers.rehearsal.letters import CHOOSE, Letter
from workers.rehearsal.usage import estimate
from workers.rehearsal.validation import MessageRequest, Tool

# So many characters of a letter are quoted, unbroken.
QUOTED = 200

DECLINE = "decline"
NOTE = "note_to_moderators"

# An answer without words still costs two or three tokens (the API's page "Stop reasons").
_SILENCE_TOKENS = 3

_REHEARSED = "This is a rehearsed answer: no model has read your letter, and none wrote these words."
_THINKING = "This is rehearsed thinking: nothing was weighed, and the answer was settled beforehand."
_LONG = (
    "There is more to say about how a rehearsal works. A stage can be walked before the play begins, and the doors, the"
    " lights and the cues tried, while the one who is to speak is still elsewhere. These paragraphs stand where that"
    " voice would stand, so that the page, the desk and the post can be looked at with something of a likely length in"
    " them.",
    "What would come here, were this not a rehearsal, is an answer: to the question that was asked, or to the one"
    " behind it; perhaps an admission of not knowing; perhaps a question in return. None of that can be"
    " rehearsed, and none of it has been made up.",
    "So read this for its length and its place. Does it stand clear of your letter, and is it plain who is speaking?"
    " Can it be read to the end on a small screen, and found again tomorrow under the same address? Is the label that"
    " says what it is seen before the first word of it? These are things that a rehearsal can find out.",
    "The moderators have it on their desk as they would have a real one. They can let it be posted or propose not to;"
    " either way the words stay as they are, which is a rule that may be tried here too.",
)


class Form(Enum):
    """The forms of an answer; which one it is, the letter's words decide."""

    PLAIN = 0
    MARKDOWN = 1
    LONG = 2
    WITH_NOTE = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model's turn holds, and how it ended."""

    content: list[dict[str, object]]
    stop_reason: str
    output_tokens: int
    stop_sequence: str | None = None
    stop_details: Mapping[str, object] | None = None
    thinking_tokens: int | None = None


def compose(request: MessageRequest, letter: Letter, fault: Fault) -> Answer:
    """Write the answer, in the shape that *fault* asks for where it asks for one.

    Raises `InvalidRequest` when it is to use a tool that the request does not offer.
    """
    if request.max_tokens == 0:
        return Answer([], "max_tokens", 0)
    thinking = _thinking(request)
    match fault.kind:
        case Kind.DECLINE:
            content = [
                *thinking,
                _tool_use(_offered(request, DECLINE), "Rehearsed: I would rather not answer this one."),
            ]
            return _ended(request, content, "tool_use")
        case Kind.NOTE_ONLY:
            content = [*thinking, _tool_use(_offered(request, NOTE), "Rehearsed: a note, and the answer is to follow.")]
            return _ended(request, content, "tool_use")
        case Kind.SILENCE:
            return Answer(thinking, "end_turn", _cost(thinking) + _SILENCE_TOKENS, thinking_tokens=_thought(thinking))
        case Kind.EMPTY:
            spent = _cost(thinking) + _SILENCE_TOKENS
            return Answer([*thinking, _text("")], "end_turn", spent, thinking_tokens=_thought(thinking))
        case Kind.REFUSAL:
            details = {
                "type": "refusal",
                "category": "general_harms",
                "explanation": "Rehearsed: the filter of the API withholds this answer.",
            }
            return Answer([], "refusal", 1, stop_details=details)
        case Kind.MAX_TOKENS:
            words = _words(Form.PLAIN, letter)
            content = [*thinking, _text(words[: len(words) // 2])]
            return Answer(content, "max_tokens", _cost(content), thinking_tokens=_thought(thinking))
        case Kind.STOP:
            return _ended(request, [*thinking, _text(_words(Form.PLAIN, letter))], fault.word)
        case Kind.BLOCK:
            strange: dict[str, object] = {"type": fault.word, "rehearsed": True}
            return _ended(request, [*thinking, _text(_words(Form.PLAIN, letter)), strange], "end_turn")
    if letter.choice is not None and request.forced_tool in (None, CHOOSE):
        return _chosen(request, letter.choice, fault)
    if request.forced_tool is not None:
        content = [_tool_use(request.tools[request.forced_tool], f"{_REHEARSED} You wrote: {_quoted(letter)}")]
        return _ended(request, content, "tool_use")
    form = _form(request, letter)
    content = [*thinking, _text(_words(form, letter))]
    if _cost(content) > request.max_tokens:
        content = [*thinking, _text(_words(Form.PLAIN, letter))]
    elif form is Form.WITH_NOTE:
        note = _tool_use(request.tools[NOTE], "Rehearsed: a note to the moderators, beside the answer.")
        if _cost([*content, note]) <= request.max_tokens:
            return _ended(request, [*content, note], "tool_use")
    return _ended(request, content, "end_turn")


def _chosen(request: MessageRequest, choice: Choice, fault: Fault) -> Answer:
    thinking = _thinking(request)
    match fault.kind:
        case Kind.CHOOSE_SILENCE:
            return Answer(thinking, "end_turn", _cost(thinking) + _SILENCE_TOKENS, thinking_tokens=_thought(thinking))
        case Kind.CHOOSE_NONE:
            numbers = []
        case Kind.CHOOSE_ODDLY:
            numbers = choice.oddly()
        case _:
            numbers = choice.chosen()
    return _ended(request, [*thinking, _used(request.tools[CHOOSE], {"letters": numbers})], "tool_use")


def _form(request: MessageRequest, letter: Letter) -> Form:
    if letter.comment is None:
        return Form.PLAIN
    form = Form(hashlib.sha256(letter.words.encode()).digest()[0] % len(Form))
    may_note = NOTE in request.tools and request.tool_choice != "none" and not request.continued
    return Form.PLAIN if form is Form.WITH_NOTE and not may_note else form


def _words(form: Form, letter: Letter) -> str:
    # The quotation comes last: whatever Markdown it leaves open swallows nothing.
    quoted = _quoted(letter)
    match form:
        case Form.PLAIN | Form.WITH_NOTE:
            return f"{_REHEARSED} You wrote: {quoted}"
        case Form.MARKDOWN:
            return (
                f"*{_REHEARSED}* It shows what an answer may hold:\n\n"
                "- words in **bold** and in *italics*,\n- a list such as this one,\n- and `code`.\n\n"
                f"> It may quote, too.\n\nYou wrote: {quoted}"
            )
        case Form.LONG:
            return "\n\n".join([_REHEARSED, *_LONG, f"You wrote: {quoted}"])


def _quoted(letter: Letter) -> str:
    return f"“{letter.words[:QUOTED]}”" if letter.words else "nothing beside the line for the rehearsal."


def _text(words: str) -> dict[str, object]:
    return {"type": "text", "text": words}


def _thinking(request: MessageRequest) -> list[dict[str, object]]:
    if not request.thinks:
        return []
    signature = hashlib.sha256(_THINKING.encode()).hexdigest()
    return [{"type": "thinking", "thinking": _THINKING, "signature": signature}]


def _offered(request: MessageRequest, name: str) -> Tool:
    if name not in request.tools:
        raise InvalidRequest("tools", f"the rehearsal was asked to use {name}, which is not among them")
    return request.tools[name]


def _tool_use(tool: Tool, words: str) -> dict[str, object]:
    """Use a tool with *words* in its first property, and with something of the right type in all it requires."""
    fields = tuple(dict.fromkeys([*list(tool.properties)[:1], *tool.required]))
    return _used(tool, {field: _filled(tool.properties.get(field), words) for field in fields})


def _used(tool: Tool, given: Mapping[str, object]) -> dict[str, object]:
    return {"type": "tool_use", "id": f"toolu_01{secrets.token_hex(11)}", "name": tool.name, "input": dict(given)}


def _filled(schema: object, words: str) -> object:
    if not isinstance(schema, Mapping):
        return words
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        return choices[0]
    by_type: dict[object, object] = {
        "integer": 0,
        "number": 0,
        "boolean": False,
        "array": [],
        "object": {},
        "null": None,
    }
    kind = schema.get("type")
    return by_type.get(kind, words) if isinstance(kind, str) else words


def _cost(content: list[dict[str, object]]) -> int:
    return sum(_block_cost(block) for block in content)


def _block_cost(block: Mapping[str, object]) -> int:
    match block["type"]:
        case "text":
            return estimate(len(str(block["text"]).encode()))
        case "thinking":
            return estimate(len(str(block["thinking"]).encode()))
    return estimate(len(json.dumps(block, ensure_ascii=False, separators=(",", ":")).encode()))


def _thought(content: list[dict[str, object]]) -> int | None:
    thoughts = [block for block in content if block["type"] == "thinking"]
    return _cost(thoughts) if thoughts else None


def _ended(request: MessageRequest, content: list[dict[str, object]], stop_reason: str) -> Answer:
    """End the turn, earlier where a stop sequence or `max_tokens` ends it."""
    stop_sequence: str | None = None
    kept: list[dict[str, object]] = []
    for block in content:
        if block["type"] == "text":
            words = str(block["text"])
            found = [(at, stop) for stop in request.stop_sequences if (at := words.find(stop)) >= 0]
            if found:
                at, stop_sequence = min(found)
                kept.append(_text(words[:at]))
                stop_reason = "stop_sequence"
                break
        kept.append(block)
    cut: list[dict[str, object]] = []
    left = request.max_tokens
    for block in kept:
        cost = _block_cost(block)
        if cost > left:
            part = str(block["text"]).encode()[: left * 4].decode(errors="ignore") if block["type"] == "text" else ""
            if part:
                cut.append(_text(part))
            return Answer(cut, "max_tokens", request.max_tokens, thinking_tokens=_thought(cut))
        left -= cost
        cut.append(block)
    # The API counts at least one token, whatever came of it.
    return Answer(cut, stop_reason, max(1, _cost(cut)), stop_sequence, thinking_tokens=_thought(cut))
