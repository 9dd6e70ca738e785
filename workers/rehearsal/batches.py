"""Message Batches: many messages sent at once and answered in the background, kept as long as the rehearsal runs."""

import asyncio
import hashlib
import json
import re
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from workers.rehearsal.calls import Calls
from workers.rehearsal.errors import AskedFor, BatchUnknown, InvalidRequest, LostOnTheWay, Refusal
from workers.rehearsal.faults import Fault, Kind
from workers.rehearsal.messages import Player, check_length, read, with_holes

MOST_REQUESTS = 100_000

_LIFE = timedelta(hours=24)
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_OUTCOMES: tuple["Outcome", ...] = ("succeeded", "errored", "canceled", "expired")

Outcome = Literal["succeeded", "errored", "canceled", "expired"]
Result = Mapping[str, object]


class BatchNotEnded(InvalidRequest):
    """Raised when something is asked of a batch in progress that only an ended one can give."""

    def __init__(self, batch_id: str, wanted: str) -> None:
        super().__init__("batch", f"{batch_id} cannot {wanted} before it has ended")


class BatchEnded(InvalidRequest):
    """Raised when a batch is to be canceled that has ended."""

    def __init__(self, batch_id: str) -> None:
        super().__init__("batch", f"{batch_id} has ended and cannot be canceled")


@dataclass(frozen=True, slots=True)
class Request:
    """One of a batch: `params` are those of a message, and nobody has looked at them yet."""

    custom_id: str
    params: Mapping[str, object]


def read_batch_request(body: object) -> tuple[Request, ...]:
    """Check the body of `POST /v1/messages/batches` as far as the API does at once.

    Raises `InvalidRequest` naming the first field that is wrong; what is in `params` shows at the end.
    """
    if not isinstance(body, dict):
        raise InvalidRequest("body", "Input should be an object")
    for name in body:
        if name != "requests":
            raise InvalidRequest(name, "Extra inputs are not permitted")
    asked = body.get("requests")
    if not isinstance(asked, list):
        raise InvalidRequest("requests", "Field required" if asked is None else "Input should be a valid array")
    if not 1 <= len(asked) <= MOST_REQUESTS:
        raise InvalidRequest("requests", f"between 1 and {MOST_REQUESTS} requests")
    found: dict[str, Request] = {}
    for i, each in enumerate(asked):
        request = _request(each, f"requests.{i}")
        if request.custom_id in found:
            raise InvalidRequest(f"requests.{i}.custom_id", f"custom_id must be unique: {request.custom_id}")
        found[request.custom_id] = request
    return tuple(found.values())


def _request(asked: object, path: str) -> Request:
    if not isinstance(asked, dict):
        raise InvalidRequest(path, "Input should be an object")
    for name in asked:
        if name not in ("custom_id", "params"):
            raise InvalidRequest(f"{path}.{name}", "Extra inputs are not permitted")
    custom_id, params = asked.get("custom_id"), asked.get("params")
    if not isinstance(custom_id, str) or not _CUSTOM_ID.fullmatch(custom_id):
        raise InvalidRequest(f"{path}.custom_id", "String should match pattern '^[a-zA-Z0-9_-]{1,64}$'")
    if not isinstance(params, dict):
        raise InvalidRequest(f"{path}.params", "Field required" if params is None else "Input should be an object")
    return Request(custom_id, params)


@dataclass(slots=True)
class Batch:
    """A batch. `requests` are forgotten when it has ended; `lines` are its results, of which there are none before."""

    requests: tuple[Request, ...]
    headers: Mapping[str, str]
    version: str
    id: str = field(default_factory=lambda: f"msgbatch_01{secrets.token_hex(11)}")
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    cancel_initiated_at: datetime | None = None
    ended_at: datetime | None = None
    lines: Sequence[bytes] = ()
    counts: Counter[Outcome] = field(default_factory=Counter)
    canceled: asyncio.Event = field(default_factory=asyncio.Event)

    def told(self, base_url: str) -> dict[str, object]:
        """Return what the API says of it to somebody who asked at *base_url*."""
        ended = self.ended_at is not None
        in_progress = "in_progress" if self.cancel_initiated_at is None else "canceling"
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": "ended" if ended else in_progress,
            "request_counts": {"processing": len(self.requests)} | {each: self.counts[each] for each in _OUTCOMES},
            "created_at": _written(self.created_at),
            "expires_at": _written(self.created_at + _LIFE),
            "ended_at": _written(self.ended_at),
            "cancel_initiated_at": _written(self.cancel_initiated_at),
            "archived_at": None,
            "results_url": f"{base_url}/v1/messages/batches/{self.id}/results" if ended else None,
        }


class Batches:
    """The batches that were created and not deleted, and those of them that are being answered."""

    def __init__(self, player: Player, calls: Calls, latency: float) -> None:
        self._player = player
        self._calls = calls
        self._latency = latency
        self._kept: dict[str, Batch] = {}
        self._answering: dict[str, asyncio.Task[None]] = {}

    def create(self, requests: tuple[Request, ...], headers: Mapping[str, str], version: str) -> Batch:
        """Take a batch, and begin to answer it in the background; *headers* may ask for faults of its answers."""
        batch = Batch(requests, headers, version)
        self._kept[batch.id] = batch
        self._calls.batch_arrives()
        answering = asyncio.create_task(self._answer(batch))
        self._answering[batch.id] = answering
        answering.add_done_callback(lambda _: self._answering.pop(batch.id))
        return batch

    def find(self, batch_id: str) -> Batch:
        """Return a batch.

        Raises `BatchUnknown`.
        """
        if batch_id not in self._kept:
            raise BatchUnknown(batch_id)
        return self._kept[batch_id]

    def newest_first(self) -> list[Batch]:
        """Return all batches as the API lists them."""
        return list(reversed(self._kept.values()))

    def cancel(self, batch: Batch) -> None:
        """Have a batch end as soon as it can: what was not answered yet will be `canceled`. Again, it does nothing.

        Raises `BatchEnded`.
        """
        if batch.ended_at is not None:
            raise BatchEnded(batch.id)
        if batch.cancel_initiated_at is None:
            batch.cancel_initiated_at = datetime.now(UTC)
            batch.canceled.set()

    def results(self, batch: Batch) -> Sequence[bytes]:
        """Return a line for each request of a batch, in an order that is not the one they were sent in.

        Raises `BatchNotEnded`.
        """
        if batch.ended_at is None:
            raise BatchNotEnded(batch.id, "give results")
        return batch.lines

    def delete(self, batch: Batch) -> None:
        """Forget a batch and its results.

        Raises `BatchNotEnded`.
        """
        if batch.ended_at is None:
            raise BatchNotEnded(batch.id, "be deleted")
        del self._kept[batch.id]

    async def stop(self) -> None:
        """Leave unanswered what is not answered yet."""
        answering = list(self._answering.values())
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering, return_exceptions=True)

    async def _answer(self, batch: Batch) -> None:
        """Answer one request after the other, so that each can read what those before it left in the cache."""
        await _until_canceled(batch, self._latency)
        results: dict[str, Result] = {}
        for request in batch.requests:
            # Whoever else asks meanwhile is answered in between.
            await asyncio.sleep(0)
            results[request.custom_id] = await self._result(batch, request)
        batch.lines = [
            json.dumps({"custom_id": each, "result": results[each]}, ensure_ascii=False).encode(errors="replace")
            + b"\n"
            for each in _in_another_order(list(results))
        ]
        for result in results.values():
            batch.counts[_outcome(result)] += 1
        batch.requests = ()
        batch.ended_at = datetime.now(UTC)

    async def _result(self, batch: Batch, request: Request) -> Result:
        if batch.canceled.is_set():
            return {"type": "canceled"}
        digest = None
        try:
            asked = read(request.params, batch.version)
            digest = asked.digest
            check_length(asked)
            fault = self._player.fault(asked, batch.headers, batched=True)
            await _until_canceled(batch, fault.slow + fault.drip)
            if batch.canceled.is_set():
                return {"type": "canceled"}
            if fault.kind is Kind.EXPIRE:
                return {"type": "expired"}
            _fail(fault, asked.request.model.id)
            reply = self._player.reply(asked, fault, self._player.reckon(asked), batched=True)
        except Refusal as refused:
            self._count(batch, request, digest, refused.status)
            return {"type": "errored", "error": refused.body(f"req_01{secrets.token_hex(11)}")}
        self._count(batch, request, digest, 200)
        self._player.begins(reply)
        message = with_holes(reply.message) if fault.kind is Kind.HOLES else reply.message
        return {"type": "succeeded", "message": message}

    def _count(self, batch: Batch, request: Request, digest: str | None, status: int) -> None:
        """Count one that was put to the model; what was canceled or has expired was not."""
        call = self._calls.arrive(request.params, batch.headers, request.custom_id)
        if digest is not None:
            self._calls.is_about(call, digest)
        self._calls.answered(call, status)


def _fail(fault: Fault, model_id: str) -> None:
    """Fail as the API does when one of its own calls fails: there is no connection of ours that could break."""
    match fault.kind:
        case Kind.STATUS:
            raise AskedFor(fault, model_id)
        case Kind.DROP | Kind.CUT | Kind.HTML | Kind.BAD_JSON | Kind.HANG:
            raise LostOnTheWay(hanging=fault.kind is Kind.HANG)


async def _until_canceled(batch: Batch, seconds: float) -> None:
    """Wait, and no longer than until the batch is canceled."""
    try:
        async with asyncio.timeout(seconds):
            await batch.canceled.wait()
    except TimeoutError:
        pass


def _in_another_order(custom_ids: list[str]) -> list[str]:
    mixed = sorted(custom_ids, key=lambda each: hashlib.sha256(each.encode()).digest())
    return mixed[::-1] if mixed == custom_ids else mixed


def _outcome(result: Result) -> Outcome:
    return next(each for each in _OUTCOMES if each == result["type"])


def _written(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat().replace("+00:00", "Z")
