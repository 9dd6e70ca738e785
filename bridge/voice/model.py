"""The model as the site knows it: what may be asked, how its answer is read, and what can go wrong. Knows no SDK."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable


class Outcome(StrEnum):
    """What one answer comes to (MODEL-API, section 1, "Reading the answer")."""

    REPLIED = "replied"
    CHOSE = "chose"
    """It named the letters that it wishes to answer, or none: only where it was shown some (`read_choice`)."""
    DECLINED = "declined"
    WITHHELD = "withheld"
    NOTE_ONLY = "note_only"
    CUT = "cut"
    UNEXPECTED = "unexpected"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. The prompt is `fresh + cache_read + cache_written`."""

    fresh: int
    cache_read: int
    cache_written: int
    cache_written_for_an_hour: int
    output: int


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the API's headers say of one limit: so many a minute, so many left, all of them back in so many seconds."""

    limit: int
    remaining: int
    reset: float


RateLimits = Mapping[str, Allowance]
"""By the names in the headers: requests, tokens, input-tokens, output-tokens; those that were told."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the model, read whole. `text` is set only when it may be submitted as a reply."""

    outcome: Outcome
    text: str | None
    why: str | None
    note: str | None
    model: str
    message_id: str | None
    request_id: str | None
    usage: Usage | None
    """None where the answer does not tell it: then the call counts at the most that it could have cost."""
    rehearsed: bool
    message: dict[str, Any]
    """The message as it came, for the record."""
    limits: RateLimits = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an answer comes from, known before the call."""

    host: str
    sdk_version: str
    api_version: str
    rehearsed: bool


class Model(Protocol):
    """Somebody who can be asked."""

    def origin(self, api_version: str | None) -> Origin:
        """Return where the answers come from, for the record."""

    async def ask(
        self, request: dict[str, Any], *, api_version: str | None, extra_body: dict[str, Any] | None
    ) -> Answer:
        """Ask once, without trying again. Raises `Trouble`."""

    async def count(self, request: dict[str, Any], *, api_version: str | None) -> int | None:
        """Return the tokens of a request's prompt; None where that is not served, or not now. Costs nothing."""


@dataclass(frozen=True, slots=True)
class BatchStanding:
    """How a message batch stands, as the API tells it."""

    remote_id: str
    ended: bool
    created_at: datetime
    """By the API's clock."""
    requests: int


@runtime_checkable
class BatchModel(Model, Protocol):
    """Somebody who can also be asked in batches (MODEL-API, section 3). Each method raises `Trouble`."""

    @property
    def batches(self) -> bool:
        """Whether batches are served where this one is asked."""

    async def create_batch(
        self,
        entries: Sequence[tuple[str, dict[str, Any]]],
        *,
        api_version: str | None,
        extra_body: dict[str, Any] | None,
    ) -> str:
        """Send requests, each with its name in the batch; return what the API calls the batch.

        Not to be done again after a `PassingTrouble`: it may have come to be.
        """

    async def batch(self, remote_id: str) -> BatchStanding:
        """Return how a batch stands; a trouble with status 404 says that there is none, or none any more."""

    def batch_results(self, remote_id: str) -> AsyncIterator[tuple[str, Answer | Trouble]]:
        """Yield the results of a batch that has ended, in any order, each with its request's name.

        Raises `Trouble` after the good ones where the file is cut off.
        """

    async def recent_batches(self, since: datetime) -> Sequence[BatchStanding]:
        """Return the batches that were created after *since*."""

    async def cancel_batch(self, remote_id: str) -> None:
        """Have a batch end as soon as it can: what is not answered yet is not paid for."""

    async def delete_batch(self, remote_id: str) -> None:
        """Have nothing more of a batch kept there; it has ended."""


DEADLINE = 300
"""Seconds after which a call is given up, bytes or not: the SDK's own timeout bounds only silence."""
REFUSED = "The API refused our request"
"""What moderators are told where it did; after a colon stand its own words, which may repeat what it was sent."""
NO_CHOICE = "The voice did not say which letters it chooses."
"""What moderators are told where an answer to a choice is none."""
CHOSE_IN_VAIN = "The voice chose among letters where it was asked to answer one."
SAID_NOTHING = "The voice said nothing."
LONGEST_LIST = 2_000
"""Characters of a list that a voice wrote as text."""
_DIGITS = re.compile(r"[0-9]{1,6}", re.ASCII)
_NEARLY_ALL = 0.95
"""Of a limit a minute: what is left of it where it binds nobody."""
MOST_COUNTED = 10_000_000
"""More tokens than any call can have: a greater number is none."""


def storable(text: str) -> str:
    """Return *text* without NUL and halves of surrogate pairs, which a model may write and databases refuse."""
    return "".join(character for character in text if character != "\0" and not "\ud800" <= character <= "\udfff")


@dataclass(frozen=True, slots=True)
class Body:
    """What came back, as JSON or, if it is none, as text. For the record alone: it may repeat a reader's words."""

    told: Any = field(repr=False)


class Trouble(Exception):
    """A call that brought no answer. `why` is for moderators; it holds no words of readers and no key."""

    def __init__(self, why: str, *, error: str = "") -> None:
        super().__init__(storable(why))
        self.why = storable(why)
        self.error = storable(error)
        """The API's own words and ids, for the record."""
        self.status: int | None = None
        self.error_type: str | None = None
        self.error_code: str | None = None
        self.request_id: str | None = None
        self.limits: RateLimits = {}
        self.body: Body | None = None
        self.may_be_billed = True
        """Whether the call may have been paid for though it brought nothing: unless it was refused or never sent."""

    def forget_words(self) -> None:
        """Keep nothing that the API said: it may repeat what it was sent."""
        if self.why.startswith(f"{REFUSED}:"):
            self.why = f"{REFUSED}."
        self.error, self.body = "", None


class PassingTrouble(Trouble):
    """The API is failing, overloaded, unreachable or unreadable: worth another try soon."""

    def __init__(
        self, why: str, *, error: str = "", tries: int = 3, first_wait: float = 0.5, longest_wait: float = 8
    ) -> None:
        super().__init__(why, error=error)
        self.tries = tries
        self.first_wait = first_wait
        self.longest_wait = longest_wait


class ModelBusy(Trouble):
    """The rate limit is reached: wait *seconds*, then ask fewer at once."""

    def __init__(self, why: str, *, seconds: float, error: str = "") -> None:
        super().__init__(why, error=error)
        self.seconds = seconds
        self.may_be_billed = False

    def never_lets_in(self, tokens: int) -> bool:
        """Say whether a request of so many *tokens* was refused though nothing else had been used of the minute.

        It is larger than a minute then, and would be refused for ever.
        """
        whole = [each for each in self.limits.values() if each.remaining >= _NEARLY_ALL * each.limit]
        input_limits = [each.limit for name, each in self.limits.items() if name in {"tokens", "input-tokens"}]
        return bool(input_limits) and len(whole) == len(self.limits) and tokens > min(input_limits)


class VoiceBlocked(Trouble):
    """Nothing will be answered until a person acts: the key, the bill, access to a retired model."""

    def __init__(self, why: str, *, error: str = "") -> None:
        super().__init__(why, error=error)
        self.may_be_billed = False


class RequestRefused(Trouble):
    """The API refuses this very request: asking again would be refused again."""

    def __init__(self, why: str, *, error: str = "", too_long: bool = False, alone: bool = False) -> None:
        super().__init__(why, error=error)
        self.too_long = too_long
        self.alone = alone
        """Whether it says nothing of other requests: its words were at fault, and not how it was asked."""
        self.may_be_billed = False


class LargerThanAMinute(RequestRefused):
    """The request has more tokens than the API ever takes from this key in a minute; *busy* is how it said so."""

    def __init__(self, busy: ModelBusy) -> None:
        super().__init__(
            "The thread is longer than what the API takes from this key in a minute.", error=busy.error, too_long=True
        )
        self.status = busy.status
        self.error_type = busy.error_type
        self.error_code = busy.error_code
        self.request_id = busy.request_id
        self.limits = busy.limits
        self.body = busy.body


class Unreadable(PassingTrouble):
    """What came back is not a message."""

    def __init__(self, what: str) -> None:
        super().__init__("The answer was unreadable.", error=what)


def read(message: dict[str, Any], *, asked: str, request_id: str | None, rehearsed: bool) -> Answer:
    """Read a message of the API. Raises `Unreadable` if it has holes.

    Nothing about its shape is taken for granted: parts and endings that are new are told from those we know.
    """
    content, usage, model = message.get("content"), message.get("usage"), message.get("model")
    whole = message.get("type") == "message"
    if not (whole and isinstance(content, list) and isinstance(usage, dict) and isinstance(model, str)):
        raise Unreadable("the message has holes")
    texts, notes, outcome, why, chose, answerable = [], [], None, None, False, True
    for block in content:
        kind = str(block.get("type")) if isinstance(block, dict) else ""
        if kind == "text" and isinstance(block.get("text"), str):
            texts.append(block["text"])
        elif kind == "tool_use" and block.get("name") == "decline":
            outcome, why = Outcome.DECLINED, _said(block, "reason") or "The voice gave no reason."
        elif kind == "tool_use" and block.get("name") == "note_to_moderators":
            notes.append(_said(block, "note"))
            answerable = answerable and isinstance(block.get("id"), str)
        elif isinstance(block, dict) and _is_choice(block):
            answerable = answerable and isinstance(block.get("id"), str)
            chose = True  # Our own tool, called where nothing was to be chosen: on record, and no part of the reply.
        elif kind not in {"thinking", "redacted_thinking"} and outcome is None:
            outcome, why = Outcome.UNEXPECTED, _unknown(kind, block)
    text = "".join(texts)
    if outcome is None:
        outcome, why = _ending(message, text, bool(notes))
    if outcome is Outcome.NOTE_ONLY and not answerable:
        outcome, why = Outcome.UNEXPECTED, "The voice used a tool without an id, so its turn could not go on."
    if outcome is Outcome.DECLINED and chose and why == SAID_NOTHING:
        # It said something, though not to this reader: no silence, which nobody may ask about again.
        outcome, why = Outcome.UNEXPECTED, CHOSE_IN_VAIN
    model = storable(model)
    if model != asked:
        outcome, why = Outcome.UNEXPECTED, f"Another model answered: {model[:80]}."
    return Answer(
        outcome=outcome,
        text=text if outcome is Outcome.REPLIED else None,
        why=why,
        note="\n".join(note for note in notes if note) or None,
        model=model,
        message_id=_id(message.get("id")),
        request_id=_id(request_id),
        usage=_usage(usage),
        rehearsed=rehearsed,
        message=message,
    )


def read_choice(answer: Answer, *, asked: str) -> tuple[Answer, Sequence[int]]:
    """Read an answer again as one to a choice: return it with its outcome as such, and the numbers it named.

    They are as they came: maybe twice, or of nothing that was shown. Only an answer that `CHOSE` names any; one that
    says something else in place of a choice is unexpected.
    """
    content = answer.message["content"]
    named = [block for block in content if isinstance(block, dict) and _is_choice(block)]
    others = [block for block in content if block not in named]
    rest = read(
        {**answer.message, "content": others}, asked=asked, request_id=answer.request_id, rehearsed=answer.rehearsed
    )
    read_again = replace(rest, text=None, message=answer.message, limits=answer.limits)
    if rest.outcome is Outcome.UNEXPECTED:
        return read_again, ()
    if not named:
        said = rest.outcome is Outcome.REPLIED
        return (replace(read_again, outcome=Outcome.UNEXPECTED, why=NO_CHOICE) if said else read_again), ()
    # Whatever else it said: cut off, the list may not be whole.
    ending, why = _ending(answer.message, "", has_note=True)
    if ending in {Outcome.WITHHELD, Outcome.CUT, Outcome.UNEXPECTED}:
        return replace(read_again, outcome=ending, why=why), ()
    numbers: list[int] = []
    for block in named:
        given = block.get("input")
        letters = _numbers(given.get("letters")) if isinstance(given, dict) else None
        if letters is None:
            return replace(read_again, outcome=Outcome.UNEXPECTED, why=NO_CHOICE), ()
        numbers += letters
    return replace(read_again, outcome=Outcome.CHOSE, why=None), numbers


def _numbers(given: object) -> list[int] | None:
    """Return the numbers in what a voice named. Old models write a list as its JSON, and numbers as text."""
    if isinstance(given, str) and len(given) <= LONGEST_LIST:
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return None
    if not isinstance(given, list):
        return None
    found = [int(each) if isinstance(each, str) and _DIGITS.fullmatch(each) else each for each in given]
    return found if all(type(each) is int for each in found) else None


def _is_choice(block: dict[str, Any]) -> bool:
    return block.get("type") == "tool_use" and block.get("name") == "choose"


def _ending(message: dict[str, Any], text: str, has_note: bool) -> tuple[Outcome, str | None]:
    stop = storable(str(message.get("stop_reason")))
    if stop == "refusal":
        return Outcome.WITHHELD, "Withheld by the API's filter, not by the voice."
    if stop in {"max_tokens", "model_context_window_exceeded"}:
        return Outcome.CUT, f"The answer was cut off ({stop})."
    if stop not in {"end_turn", "tool_use"}:
        return Outcome.UNEXPECTED, f"Unexpected ending: {stop[:40]}."
    if text.strip():
        return Outcome.REPLIED, None
    if has_note and stop == "tool_use":
        return Outcome.NOTE_ONLY, None
    return Outcome.DECLINED, SAID_NOTHING


def _unknown(kind: str, block: object) -> str:
    if kind == "tool_use" and isinstance(block, dict):
        return storable(f"The voice called a tool that it was not given: {str(block.get('name'))[:40]}.")
    return storable(f"The answer has a part of an unknown kind: {kind[:40]}.")


def _said(block: dict[str, Any], field: str) -> str:
    given = block.get("input")
    said = given.get(field) if isinstance(given, dict) else None
    return storable(said).strip()[:4000] if isinstance(said, str) else ""


def _id(given: object) -> str | None:
    return storable(given)[:120] if isinstance(given, str) else None


def _usage(usage: dict[str, Any]) -> Usage | None:
    """Return the tokens that a message tells; None where it does not tell both what was read and what was written.

    Servers that are compatible with the API may tell nothing. That is not known to be free.
    """
    fresh, output = _count(usage.get("input_tokens")), _count(usage.get("output_tokens"))
    if fresh is None or output is None:
        return None
    written = _count(usage.get("cache_creation_input_tokens")) or 0
    split = usage.get("cache_creation")
    for_an_hour = _count(split.get("ephemeral_1h_input_tokens")) if isinstance(split, dict) else None
    return Usage(
        fresh=fresh,
        cache_read=_count(usage.get("cache_read_input_tokens")) or 0,
        cache_written=written,
        cache_written_for_an_hour=min(for_an_hour or 0, written),
        output=output,
    )


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= MOST_COUNTED else None
