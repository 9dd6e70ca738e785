"""What is read from a connection and what is sent on it, at the pace and up to the point that a fault sets."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from aiohttp import web

from workers.rehearsal.errors import AskedFor, BodyTooLarge, InvalidRequest, NotAuthenticated
from workers.rehearsal.faults import Fault, Kind
from workers.rehearsal.messages import with_holes
from workers.rehearsal.validation import check_version, parse_json

# The API's own limits (its page "Errors", "Request size limits").
MOST_BYTES = 32 * 1024 * 1024
MOST_BATCH_BYTES = 256 * 1024 * 1024

# A dripped body comes in so many pieces.
_DRIPS = 20

_SECRET_HEADERS = frozenset({"authorization", "x-api-key", "cookie"})


async def read_body(request: web.Request, most: int = MOST_BYTES) -> bytes:
    """Return the whole body of a request.

    Raises `BodyTooLarge` when it has more than *most* bytes.
    """
    # Told before it is sent, so that a client is not left writing to a closed connection.
    if request.content_length is not None and request.content_length > most:
        async for _ in request.content.iter_any():
            pass
        raise BodyTooLarge
    return await request.clone(client_max_size=most).read()


def parsed(raw: bytes) -> tuple[object, InvalidRequest | None]:
    """Return what a body holds, or why it cannot be read: the API minds a missing key more."""
    try:
        return parse_json(raw), None
    except InvalidRequest as malformed:
        return None, malformed


def admitted(request: web.Request) -> str:
    """Return the API version of a request that carries a key; any key will do.

    Raises `NotAuthenticated`, or `InvalidRequest` for a version that is unknown.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    key = token if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
    if not key.strip():
        raise NotAuthenticated
    return check_version(request.headers.get("anthropic-version"))


def without_key(request: web.Request) -> dict[str, str]:
    """Return the headers of a request in lower case, and none that is secret."""
    return {name.lower(): value for name, value in request.headers.items() if name.lower() not in _SECRET_HEADERS}


class Listed(Protocol):
    """What the API lists page by page."""

    @property
    def id(self) -> str:
        """What a page is asked for by."""


_L = TypeVar("_L", bound=Listed)


def page_of(query: Mapping[str, str], all_of_them: Sequence[_L]) -> tuple[Sequence[_L], bool]:
    """Return the page that `limit`, and `after_id` or `before_id`, ask for, and whether more follow in its direction.

    Raises `InvalidRequest`.
    """
    limit = _limit(query.get("limit", "20"))
    if (after := query.get("after_id")) is not None:
        start = _position(all_of_them, after, "after_id") + 1
    elif (before := query.get("before_id")) is not None:
        at = _position(all_of_them, before, "before_id")
        return all_of_them[max(0, at - limit) : at], at > limit
    else:
        start = 0
    return all_of_them[start : start + limit], len(all_of_them) > start + limit


def listing(page: Sequence[Listed], infos: Sequence[object], *, more: bool) -> dict[str, object]:
    """Return a page in the API's shape."""
    return {
        "data": list(infos),
        "has_more": more,
        "first_id": page[0].id if page else None,
        "last_id": page[-1].id if page else None,
    }


async def send(
    request: web.Request, body: Mapping[str, object], fault: Fault, begins: Callable[[], None] = lambda: None
) -> web.StreamResponse:
    """Answer with *body*, or with what the fault makes of it; *begins* is called when a response begins."""
    await _fail_first(request, fault, body.get("model"))
    begins()
    if fault.kind is Kind.HOLES:
        body = with_holes(body)
    payload = json.dumps(body, ensure_ascii=False).encode(errors="replace")
    return await _pour(request, payload, "application/json", fault, len(payload) // 2)


async def send_lines(request: web.Request, lines: Sequence[bytes], fault: Fault) -> web.StreamResponse:
    """Answer with JSON Lines, one at least, or with what the fault makes of them: a part ends amid the middle line."""
    await _fail_first(request, fault)
    if fault.kind is Kind.HOLES:
        lines = [json.dumps({"custom_id": json.loads(line)["custom_id"]}).encode() + b"\n" for line in lines]
    half = len(lines) // 2
    middle = sum(len(line) for line in lines[:half]) + len(lines[half]) // 2
    return await _pour(request, b"".join(lines), "application/x-jsonl", fault, middle)


async def refuse_if_asked(request: web.Request, fault: Fault) -> None:
    """Refuse before anything is done, where the fault is a status.

    Raises `AskedFor`.
    """
    if fault.kind is Kind.STATUS:
        await _fail_first(request, fault)


async def _fail_first(request: web.Request, fault: Fault, model_id: object = None) -> None:
    """Wait as the fault says, and fail where nothing is to be sent at all."""
    await asyncio.sleep(fault.slow)
    match fault.kind:
        case Kind.DROP | Kind.HANG:
            if fault.kind is Kind.DROP:
                _hang_up(request)
            # Cancelled when the connection is gone, or when the rehearsal ends.
            await asyncio.Event().wait()
        case Kind.STATUS:
            raise AskedFor(fault, model_id)


async def _pour(
    request: web.Request, payload: bytes, content_type: str, fault: Fault, middle: int
) -> web.StreamResponse:
    """Send a body at the pace, and up to the point, that the fault sets."""
    if fault.kind is Kind.HTML:
        page = "<!doctype html><title>Rehearsal</title><p>This page stands where an answer should be.</p>"
        payload, content_type = page.encode(), "text/html"
    if fault.kind is Kind.BAD_JSON:
        payload = payload[:middle]
    response = web.StreamResponse(headers={"content-type": content_type})
    response.content_length = len(payload)
    await response.prepare(request)
    end = middle if fault.kind is Kind.CUT else len(payload)
    step = max(1, -(-end // _DRIPS)) if fault.drip else max(1, end)
    for start in range(0, end, step):
        await asyncio.sleep(fault.drip / _DRIPS)
        await response.write(payload[start : min(end, start + step)])
    if fault.kind is Kind.CUT:
        _hang_up(request)
    return response


def _hang_up(request: web.Request) -> None:
    # None once the client has left by itself.
    if request.transport is not None:
        request.transport.close()


def _limit(asked: str) -> int:
    if not asked.isascii() or not asked.isdigit() or not 1 <= int(asked) <= 1000:
        raise InvalidRequest("limit", "Input should be a number from 1 to 1000")
    return int(asked)


def _position(listed: Sequence[Listed], wanted: str, field: str) -> int:
    for at, each in enumerate(listed):
        if each.id == wanted:
            return at
    raise InvalidRequest(field, f"{wanted!r} is not in this list")
