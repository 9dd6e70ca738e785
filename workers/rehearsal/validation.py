"""The shape of a request, checked as the API checks it: a 400 names the field.

Fields that we never send and that change no answer (`container`, `diagnostics`, `inference_geo`, `speed`) are let pass
unread. Images, documents and the server's own tools are refused by name: they are no part of the rehearsal.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from workers.rehearsal.errors import InvalidRequest, ModelUnknown
from workers.rehearsal.models import CATALOGUE, Model

# The API's versions that the SDK can be made to send; sampling is refused altogether from the second on.
VERSIONS = ("2023-06-01", "2026-10-21")
_SAMPLING_VERSION = "2023-06-01"

_MOST_MARKERS = 4
_MOST_MESSAGES = 100_000
_LEAST_THINKING = 1_024
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")

_COUNTED = frozenset(
    {"model", "messages", "system", "tools", "tool_choice", "thinking", "cache_control", "output_config", "speed"}
)
_SAMPLING = ("temperature", "top_p", "top_k")
_CREATED = _COUNTED | {
    "max_tokens",
    "metadata",
    "stop_sequences",
    "stream",
    "service_tier",
    "container",
    "diagnostics",
    "inference_geo",
    *_SAMPLING,
}
_THINKING_TYPES = frozenset({"enabled", "disabled", "adaptive", "between_tools"})

Ttl = Literal["5m", "1h"]
Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Block:
    """One block of the prompt in its order: tools, system, messages.

    `content` is what the cache compares, `size` the bytes that are counted, `ttl` the cache marker, if it has one.
    """

    role: str
    content: bytes
    size: int
    ttl: Ttl | None

    @property
    def of_messages(self) -> bool:
        """Whether the block is of a message, and no tool or system prompt."""
        return self.role not in {"tools", "system prompt"}


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the model may use."""

    name: str
    properties: Mapping[str, object]
    required: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MessageRequest:
    """A request that the API would take.

    `manner` is what spoils the cache of the messages when it changes; `texts` the text blocks of the user's turns, in
    order; `continued` says that the last turn brings the result of a tool; `max_tokens` is 0 where only counting is
    asked for.
    """

    model: Model
    max_tokens: int
    blocks: tuple[Block, ...]
    manner: bytes
    tools: Mapping[str, Tool]
    tool_choice: str
    forced_tool: str | None
    thinks: bool
    stop_sequences: tuple[str, ...]
    texts: tuple[str, ...]
    continued: bool


def parse_json(body: bytes) -> object:
    """Read a request's body.

    Raises `InvalidRequest` for what is not strict JSON: broken, too deep, or with NaN.
    """
    try:
        return json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as wrong:
        raise InvalidRequest("body", "The request body is not valid JSON.") from wrong


def check_version(version: str | None) -> str:
    """Return the API version that a request asks for.

    Raises `InvalidRequest` when it names none, or one that the API does not know.
    """
    if version is None:
        raise InvalidRequest("anthropic-version", "header is required")
    if version not in VERSIONS:
        raise InvalidRequest("anthropic-version", f'"{version}" is not a valid version')
    return version


def read_message_request(body: object, version: str, *, counting: bool = False) -> MessageRequest:
    """Check the body of `POST /v1/messages`, or of `count_tokens` when *counting*, and return what it asks.

    Raises `InvalidRequest` naming the first field that is wrong, or `ModelUnknown`.
    """
    asked = _mapping(body, "body")
    _only(asked, _COUNTED if counting else _CREATED, "")
    for field in ("model", "messages") if counting else ("model", "max_tokens", "messages"):
        if field not in asked:
            raise InvalidRequest(field, "Field required")
    model_id = _text(asked["model"], "model")
    if model_id not in CATALOGUE:
        raise ModelUnknown(model_id)
    model = CATALOGUE[model_id]
    max_tokens = 0 if counting else _max_tokens(asked["max_tokens"], model)
    if asked.get("stream") not in (None, False):
        raise InvalidRequest("stream", "the rehearsal does not stream")
    _check_sampling(asked, model, version)
    _check_metadata(asked.get("metadata"))
    stop_sequences = _stop_sequences(asked.get("stop_sequences"))
    if asked.get("service_tier") not in (None, "auto", "standard_only"):
        raise InvalidRequest("service_tier", "Input should be 'auto' or 'standard_only'")
    if asked.get("output_config") is not None and not model.newer_fields:
        raise InvalidRequest("output_config", f"{model.id} does not support it")
    thinks = _thinking(asked.get("thinking"), model, None if counting else max_tokens)

    tools, blocks = _tools(asked.get("tools"), model)
    choice, forced = _tool_choice(asked.get("tool_choice"), tools, model, thinking=asked.get("thinking"))
    blocks += _system(asked.get("system"))
    turns = _Turns(model, with_tools=bool(tools))
    turns.read(asked["messages"])
    blocks += turns.blocks
    blocks = _check_markers(blocks, _ttl(asked.get("cache_control"), "cache_control"))
    return MessageRequest(
        model=model,
        max_tokens=max_tokens,
        blocks=tuple(blocks),
        manner=_canonical({"tool_choice": asked.get("tool_choice"), "thinking": asked.get("thinking")}),
        tools=tools,
        tool_choice=choice,
        forced_tool=forced,
        thinks=thinks,
        stop_sequences=stop_sequences,
        texts=tuple(turns.texts),
        continued=turns.continued,
    )


class _Turns:
    """Reads the messages; turns of tool use and tool result have to fit together."""

    def __init__(self, model: Model, *, with_tools: bool) -> None:
        self.model = model
        self.with_tools = with_tools
        self.blocks: list[Block] = []
        self.texts: list[str] = []
        self.continued = False
        self._role = ""
        self._awaited: set[str] = set()

    def read(self, value: object) -> None:
        messages = _list(value, "messages")
        if not messages:
            raise InvalidRequest("messages", "at least one message is required")
        if len(messages) > _MOST_MESSAGES:
            raise InvalidRequest("messages", f"at most {_MOST_MESSAGES} messages")
        for i, message in enumerate(messages):
            self._turn(_mapping(message, f"messages.{i}"), i, last=i == len(messages) - 1)
        if self._awaited and self._role == "assistant":
            self._results_missing(len(messages) - 1)
        if self._role == "assistant" and not self.model.prefill:
            raise InvalidRequest(
                "messages",
                "This model does not support assistant message prefill. The conversation must end with a user message.",
            )

    def _turn(self, message: Json, i: int, *, last: bool) -> None:
        path = f"messages.{i}"
        _only(message, {"role", "content"}, f"{path}.")
        role = message.get("role")
        if role not in ("user", "assistant", "system") or (role == "system" and not self.model.newer_fields):
            raise InvalidRequest(f"{path}.role", "Input should be 'user' or 'assistant'")
        if i == 0 and role != "user":
            raise InvalidRequest("messages", 'first message must use the "user" role')
        if "content" not in message:
            raise InvalidRequest(f"{path}.content", "Field required")
        content = message["content"]
        if isinstance(content, str):
            parts: list[tuple[str, object]] = [(f"{path}.content", {"type": "text", "text": content})]
        else:
            parts = [(f"{path}.content.{j}", part) for j, part in enumerate(_list(content, f"{path}.content"))]
        if not parts:
            raise InvalidRequest(path, "all messages must have non-empty content")
        awaited, self._awaited = self._awaited, set()
        self._role = role
        self.continued = False
        answered: set[str] = set()
        for where, part in parts:
            block = _mapping(part, where)
            kind = block.get("type")
            if kind == "text":
                self._text(block, where, ends=last and where == parts[-1][0])
            elif kind == "tool_use" and role == "assistant":
                self._tool_use(block, where)
            elif kind == "tool_result" and role == "user":
                answered.add(self._tool_result(block, where, awaited))
            elif kind in ("thinking", "redacted_thinking") and role == "assistant":
                self._thinking(block, where)
            else:
                raise InvalidRequest(f"{where}.type", f"{kind!r} is not allowed here, or no part of the rehearsal")
        if awaited - answered:
            self._awaited = awaited - answered
            self._results_missing(i - 1)
        self.continued = bool(answered)

    def _results_missing(self, i: int) -> None:
        raise InvalidRequest(
            f"messages.{i}",
            "`tool_use` ids were found without `tool_result` blocks immediately after: "
            + ", ".join(sorted(self._awaited)),
        )

    def _text(self, block: Json, path: str, *, ends: bool) -> None:
        _only(block, {"type", "text", "cache_control", "citations"}, f"{path}.")
        text = _solid(
            block.get("text"), f"{path}.text", "messages: text content blocks must contain non-whitespace text"
        )
        if ends and self._role == "assistant" and text != text.rstrip():
            raise InvalidRequest("messages", "final assistant content cannot end with trailing whitespace")
        self._add(text.encode(), _ttl(block.get("cache_control"), f"{path}.cache_control"))
        if self._role == "user":
            self.texts.append(text)

    def _tool_use(self, block: Json, path: str) -> None:
        self._check_tools()
        _only(block, {"type", "id", "name", "input", "cache_control", "caller", "toolset_name"}, f"{path}.")
        used = _text(block.get("id"), f"{path}.id")
        if not _NAME.fullmatch(used):
            raise InvalidRequest(f"{path}.id", "String should match pattern '^[a-zA-Z0-9_-]+$'")
        if used in self._awaited:
            raise InvalidRequest("messages", "`tool_use` ids must be unique")
        name = _text(block.get("name"), f"{path}.name")
        given = _mapping(block.get("input"), f"{path}.input")
        self._awaited.add(used)
        self._add(_canonical([used, name, given]), _ttl(block.get("cache_control"), f"{path}.cache_control"))

    def _tool_result(self, block: Json, path: str, awaited: set[str]) -> str:
        self._check_tools()
        _only(block, {"type", "tool_use_id", "content", "is_error", "cache_control"}, f"{path}.")
        used = _text(block.get("tool_use_id"), f"{path}.tool_use_id")
        if used not in awaited:
            raise InvalidRequest(path, f"unexpected `tool_use_id` found in `tool_result` blocks: {used}")
        content = block.get("content")
        if not (content is None or isinstance(content, str)):
            for k, part in enumerate(_list(content, f"{path}.content")):
                inner = _mapping(part, f"{path}.content.{k}")
                _only(inner, {"type", "text"}, f"{path}.content.{k}.")
                if inner.get("type") != "text":
                    raise InvalidRequest(f"{path}.content.{k}.type", "is no part of the rehearsal")
                _text(inner.get("text"), f"{path}.content.{k}.text")
        if not isinstance(block.get("is_error", False), bool):
            raise InvalidRequest(f"{path}.is_error", "Input should be a valid boolean")
        self._add(
            _canonical([used, content, block.get("is_error", False)]),
            _ttl(block.get("cache_control"), f"{path}.cache_control"),
        )
        return used

    def _thinking(self, block: Json, path: str) -> None:
        fields = {"thinking": ("thinking", "signature"), "redacted_thinking": ("data",)}[str(block["type"])]
        _only(block, {"type", *fields}, f"{path}.")
        self._add(_canonical([_text(block.get(field), f"{path}.{field}") for field in fields]), None)

    def _check_tools(self) -> None:
        if not self.with_tools:
            raise InvalidRequest("tools", "requests with `tool_use` or `tool_result` blocks must define tools")

    def _add(self, content: bytes, ttl: Ttl | None) -> None:
        self.blocks.append(Block(self._role, content, len(content), ttl))


def _max_tokens(value: object, model: Model) -> int:
    number = _whole(value, "max_tokens")
    # 0 only fills the cache.
    if number < 0:
        raise InvalidRequest("max_tokens", "Input should be greater than or equal to 0")
    if number > model.most_output:
        raise InvalidRequest(
            "max_tokens",
            f"{number} > {model.most_output}, which is the maximum allowed number of output tokens for {model.id}",
        )
    return number


def _check_sampling(asked: Json, model: Model, version: str) -> None:
    for field in _SAMPLING:
        if field not in asked:
            continue
        if version != _SAMPLING_VERSION:
            raise InvalidRequest(field, "Extra inputs are not permitted")
        if not model.sampling:
            raise InvalidRequest(field, f"{model.id} does not support it")
        value = asked[field]
        most = None if field == "top_k" else 1
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or (most and value > most):
            raise InvalidRequest(field, "Input should be a number from 0" + (f" to {most}" if most else ""))


def _check_metadata(value: object) -> None:
    if value is None:
        return
    metadata = _mapping(value, "metadata")
    _only(metadata, {"user_id"}, "metadata.")
    if metadata.get("user_id") is not None:
        _text(metadata["user_id"], "metadata.user_id")


def _stop_sequences(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(
        _solid(stop, f"stop_sequences.{i}", "stop_sequences: each stop sequence must contain non-whitespace")
        for i, stop in enumerate(_list(value, "stop_sequences"))
    )


def _thinking(value: object, model: Model, max_tokens: int | None) -> bool:
    if value is None:
        return model.thinks
    thinking = _mapping(value, "thinking")
    kind = thinking.get("type")
    if kind not in _THINKING_TYPES:
        raise InvalidRequest("thinking.type", f"{kind!r} is none of {', '.join(sorted(_THINKING_TYPES))}")
    _only(thinking, {"type", "display", *(("budget_tokens",) if kind == "enabled" else ())}, "thinking.")
    if kind not in model.thinking:
        raise InvalidRequest("thinking.type", f'"{kind}" is not supported by {model.id}')
    if kind == "enabled":
        budget = _whole(thinking.get("budget_tokens"), "thinking.budget_tokens")
        if budget < _LEAST_THINKING or (max_tokens is not None and budget >= max_tokens):
            raise InvalidRequest("thinking.budget_tokens", f"at least {_LEAST_THINKING}, and less than max_tokens")
    return kind in ("enabled", "adaptive")


def _tools(value: object, model: Model) -> tuple[dict[str, Tool], list[Block]]:
    tools: dict[str, Tool] = {}
    blocks: list[Block] = []
    for i, given in enumerate(_list(value, "tools") if value is not None else []):
        path = f"tools.{i}"
        tool = _mapping(given, path)
        if tool.get("type") not in (None, "custom"):
            raise InvalidRequest(f"{path}.type", f"{tool['type']!r} is no part of the rehearsal")
        _only(
            tool,
            {"type", "name", "description", "input_schema", "cache_control", "strict", "input_examples"}
            | {"eager_input_streaming", "defer_loading", "allowed_callers"},
            f"{path}.",
        )
        name = _text(tool.get("name"), f"{path}.name")
        if not _NAME.fullmatch(name):
            raise InvalidRequest(f"{path}.name", "String should match pattern '^[a-zA-Z0-9_-]{1,128}$'")
        if name in tools:
            raise InvalidRequest("tools", "Tool names must be unique.")
        if "description" in tool:
            _text(tool["description"], f"{path}.description")
        if tool.get("strict") and not model.newer_fields:
            raise InvalidRequest(f"{path}.strict", f"{model.id} does not support it")
        schema = _mapping(tool.get("input_schema"), f"{path}.input_schema")
        if schema.get("type") != "object":
            raise InvalidRequest(f"{path}.input_schema.type", "Input should be 'object'")
        properties = _mapping(schema.get("properties") or {}, f"{path}.input_schema.properties")
        required = tuple(
            _text(field, f"{path}.input_schema.required.{k}")
            for k, field in enumerate(_list(schema.get("required") or [], f"{path}.input_schema.required"))
        )
        tools[name] = Tool(name, properties, required)
        content = _canonical({key: part for key, part in tool.items() if key != "cache_control"})
        blocks.append(Block("tools", content, len(content), _ttl(tool.get("cache_control"), f"{path}.cache_control")))
    return tools, blocks


def _tool_choice(value: object, tools: Mapping[str, Tool], model: Model, *, thinking: object) -> tuple[str, str | None]:
    if value is None:
        return "auto", None
    choice = _mapping(value, "tool_choice")
    kind = choice.get("type")
    if kind not in ("auto", "any", "tool", "none"):
        raise InvalidRequest("tool_choice.type", f"{kind!r} is none of auto, any, tool, none")
    _only(choice, {"type", "disable_parallel_tool_use", *(("name",) if kind == "tool" else ())}, "tool_choice.")
    if not tools:
        raise InvalidRequest("tool_choice", "may only be specified while providing `tools`")
    if kind in ("auto", "none"):
        return str(kind), None
    if not model.forced_choice:
        raise InvalidRequest("tool_choice", f"{model.id} does not support tool_choice that forces tool use")
    if isinstance(thinking, Mapping) and thinking.get("type") in ("enabled", "adaptive"):
        raise InvalidRequest("tool_choice", "Thinking may not be enabled when tool_choice forces tool use.")
    if kind == "any":
        return "any", next(iter(tools))
    name = _text(choice.get("name"), "tool_choice.name")
    if name not in tools:
        raise InvalidRequest("tool_choice.name", f"Tool '{name}' not found in provided tools")
    return "tool", name


def _system(value: object) -> list[Block]:
    if value is None or value == "":
        return []
    if isinstance(value, str):
        content = _text(value, "system").encode()
        return [Block("system prompt", content, len(content), None)]
    blocks: list[Block] = []
    for i, given in enumerate(_list(value, "system")):
        path = f"system.{i}"
        block = _mapping(given, path)
        if block.get("type") != "text":
            raise InvalidRequest(f"{path}.type", "Input should be 'text'")
        _only(block, {"type", "text", "cache_control", "citations"}, f"{path}.")
        text = _solid(block.get("text"), f"{path}.text", "system: text content blocks must contain non-whitespace text")
        content = text.encode()
        ttl = _ttl(block.get("cache_control"), f"{path}.cache_control")
        blocks.append(Block("system prompt", content, len(content), ttl))
    return blocks


def _ttl(value: object, path: str) -> Ttl | None:
    if value is None:
        return None
    marker = _mapping(value, path)
    _only(marker, {"type", "ttl"}, f"{path}.")
    if marker.get("type") != "ephemeral":
        raise InvalidRequest(f"{path}.type", "Input should be 'ephemeral'")
    match marker.get("ttl", "5m"):
        case "5m":
            return "5m"
        case "1h":
            return "1h"
    raise InvalidRequest(f"{path}.ttl", "Input should be '5m' or '1h'")


def _check_markers(blocks: list[Block], automatic: Ttl | None) -> list[Block]:
    """Return the blocks, the last one marked where caching was asked for as a whole."""
    if automatic is not None and blocks[-1].ttl is None:
        last = blocks[-1]
        blocks = [*blocks[:-1], Block(last.role, last.content, last.size, automatic)]
    marked = [block.ttl for block in blocks if block.ttl is not None]
    if len(marked) > _MOST_MARKERS:
        raise InvalidRequest(
            "cache_control",
            f"A maximum of {_MOST_MARKERS} blocks with cache_control may be provided. Found {len(marked)}.",
        )
    if "5m" in marked and "1h" in marked[marked.index("5m") :]:
        raise InvalidRequest(
            "cache_control", "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block"
        )
    return blocks


def _only(given: Json, allowed: frozenset[str] | set[str], prefix: str) -> None:
    for field in given:
        if field not in allowed:
            raise InvalidRequest(f"{prefix}{field}", "Extra inputs are not permitted")


def _mapping(value: object, path: str) -> Json:
    if not isinstance(value, dict):
        raise InvalidRequest(path, "Field required" if value is None else "Input should be an object")
    return value


def _list(value: object, path: str) -> list[object]:
    if not isinstance(value, list):
        raise InvalidRequest(path, "Input should be a valid array")
    return value


def _text(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(path, "Field required" if value is None else "Input should be a valid string")
    try:
        value.encode()
    except UnicodeEncodeError as lone:
        raise InvalidRequest(path, "Input should be a valid string without lone surrogates") from lone
    return value


def _solid(value: object, path: str, blank: str) -> str:
    text = _text(value, path)
    if not text.strip():
        raise InvalidRequest(path, blank)
    return text


def _whole(value: object, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequest(path, "Field required" if value is None else "Input should be a valid integer")
    return value


def _canonical(value: object) -> bytes:
    # "surrogatepass": what was not read as text above (a tool's schema) is compared and counted, and never shown.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass")


def _no_constant(name: str) -> float:
    raise ValueError(name)
