"""One message, asked alone or in a batch: what is read, what goes wrong with it, what is answered, what it costs."""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from workers.rehearsal.account import Account
from workers.rehearsal.errors import InvalidRequest
from workers.rehearsal.faults import FAULT_HEADER, NO_FAULT, Fault, Faults, Kind, UnknownFault
from workers.rehearsal.letters import Letter, letter_in
from workers.rehearsal.models import CATALOGUE, Model
from workers.rehearsal.replies import Answer, compose
from workers.rehearsal.usage import PrefixCache, Reckoning, prompt_tokens
from workers.rehearsal.validation import MessageRequest, read_message_request

# What is left of a message with holes in it.
_SOLID = ("id", "type", "role", "model")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that the API would take, and the letter in it."""

    request: MessageRequest
    letter: Letter

    @property
    def digest(self) -> str:
        """The SHA-256 of what it is about, by which calls are counted."""
        return hashlib.sha256(self.letter.about.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer and what it costs, charged when it is given."""

    message: dict[str, object]
    answer: Answer
    reckoning: Reckoning
    batched: bool


def read(body: object, version: str) -> Asked:
    """Read what is asked.

    Raises `InvalidRequest` or `ModelUnknown`.
    """
    request = read_message_request(body, version)
    return Asked(request, letter_in(request))


def check_length(asked: Asked) -> None:
    """Compare a prompt with the model's context.

    Raises `InvalidRequest` when it is longer.
    """
    tokens, context = prompt_tokens(asked.request), asked.request.model.context
    if tokens > context:
        raise InvalidRequest("messages", f"prompt is too long: {tokens} tokens > {context} maximum")


class Player:
    """Plays the voice for all who ask: one memory of faults, cache and account, whichever way a message is asked."""

    def __init__(self, faults: Faults, cache: PrefixCache, account: Account) -> None:
        self._faults = faults
        self._cache = cache
        self._account = account

    def header_fault(self, headers: Mapping[str, str], *, of_the_answer: bool | None = None) -> Fault | None:
        """Return the fault that the request's own header asks for, where it is *of_the_answer* or not, as wanted.

        Raises `InvalidRequest` when the header asks for something that the rehearsal does not know.
        """
        try:
            return self._faults.by_header(headers, of_the_answer=of_the_answer)
        except UnknownFault as unknown:
            raise InvalidRequest(FAULT_HEADER, str(unknown)) from unknown

    def fault(self, asked: Asked, headers: Mapping[str, str], *, batched: bool) -> Fault:
        """Choose what goes wrong with a message: by header, else by letter, else by chance.

        Of the header of a batch, only a fault of the answer concerns each message. Raises `InvalidRequest` when the
        header asks for something that the rehearsal does not know.
        """
        letter = asked.letter
        return (
            self.header_fault(headers, of_the_answer=True if batched else None)
            or self._faults.by_letter(
                letter.fault,
                letter.about,
                continued=asked.request.continued,
                choosing=letter.choice is not None,
            )
            or self._faults.by_chance()
            or NO_FAULT
        )

    def reckon(self, asked: Asked) -> Reckoning:
        """Reckon what the prompt costs now."""
        return self._cache.reckon(asked.request)

    def reply(self, asked: Asked, fault: Fault, reckoning: Reckoning, *, batched: bool) -> Reply:
        """Answer; nothing is charged yet.

        Raises `InvalidRequest` when the answer is to use a tool that the request does not offer.
        """
        answer = compose(asked.request, asked.letter, fault)
        model = asked.request.model
        message: dict[str, object] = {
            "id": f"msg_01{secrets.token_hex(11)}",
            "type": "message",
            "role": "assistant",
            "model": _another_model(model) if fault.kind is Kind.OTHER_MODEL else model.id,
            "content": answer.content,
            "stop_reason": answer.stop_reason,
            "stop_sequence": answer.stop_sequence,
            "stop_details": answer.stop_details,
            "usage": reckoning.usage(answer.output_tokens, answer.thinking_tokens, batched=batched),
        }
        return Reply(message, answer, reckoning, batched)

    def begins(self, reply: Reply) -> None:
        """Let a reply begin: its prefix is readable now, and it is charged."""
        self._cache.begin(reply.reckoning)
        self._account.charge(reply.reckoning, reply.answer.output_tokens, batched=reply.batched)


def with_holes(message: Mapping[str, object]) -> dict[str, object]:
    """Return the message, or other body, without what nobody could do without."""
    return {field: message[field] for field in _SOLID if field in message}


def _another_model(model: Model) -> str:
    return next(other for other in CATALOGUE if other != model.id)
