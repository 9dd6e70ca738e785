"""The server: routes, the pace, and the faults that act on the connection."""

import asyncio
import contextlib
import errno
import hashlib
import json
import logging
import random
import secrets
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass

from aiohttp import web

from workers.rehearsal.calls import Calls
from workers.rehearsal.errors import (
    BodyTooLarge,
    InvalidRequest,
    ModelUnknown,
    NotAuthenticated,
    NothingHere,
    Refusal,
)
from workers.rehearsal.faults import FAULT_HEADER, NO_FAULT, Fault, Faults, Kind, UnknownFault, parse_shares
from workers.rehearsal.limits import DEFAULT_PER_MINUTE, Limits, parse_limits
from workers.rehearsal.models import CATALOGUE, Model
from workers.rehearsal.replies import compose, letter_in
from workers.rehearsal.settings import RehearsalSettings
from workers.rehearsal.usage import PrefixCache, prompt_tokens
from workers.rehearsal.validation import MessageRequest, check_version, parse_json, read_message_request

log = logging.getLogger(__name__)

REHEARSAL_HEADER: str = "x-emeritus-rehearsal"

# The API's own limit (its page "Errors", "Request size limits").
MOST_BYTES = 32 * 1024 * 1024

# A dripped body comes in so many pieces.
_DRIPS = 20

# Whoever is still being answered when the rehearsal ends is given so long; a request left hanging never ends.
_GRACE = 0.1

# So many connections may wait to be accepted: a load test opens hundreds at once.
_BACKLOG = 1_024

_SECRET_HEADERS = frozenset({"authorization", "x-api-key", "cookie"})

# What the API says with an error code; one code is ours, for a limit that the API tells by its message alone.
_CODES: Mapping[str, str] = {
    "enforced_spend_limit_reached": "The organization has crossed the monthly API usage threshold of its API tier.",
    "contract_spend_limit_reached": "The organization has reached the spend limit of its contract.",
    "ramp_limit_exceeded": "The request would exceed a ramp limit, which caps how fast usage can grow.",
    "organization_on_hold": "This organization has been disabled.",
}
OWN_SPEND_LIMIT = "own_spend_limit"
_OWN_SPEND_LIMIT_MESSAGE = "You have reached your specified API usage limits. You will regain access next month."

_REQUEST_ID = web.RequestKey("request_id", str)
_CALL = web.RequestKey("call", int)

_LIFECYCLES = ("active", "deprecated", "retired")


class PortTaken(OSError):
    """Raised when the rehearsal cannot listen because another program holds its port."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(errno.EADDRINUSE, f"The rehearsal cannot start: {host}:{port} is taken by another program.")
        self.port = port

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A rehearsal that is running within this process: where it listens, and what has reached it."""

    url: str
    calls: Calls


class _Stage:
    """The rehearsal's memory, and one method for each address that it serves."""

    def __init__(
        self, settings: RehearsalSettings, clock: Callable[[], float], chance: random.Random, calls: Calls
    ) -> None:
        self.latency = settings.latency
        self.calls = calls
        self.faults = Faults(parse_shares(settings.faults), chance)
        self.limits = Limits(parse_limits(settings.limits, DEFAULT_PER_MINUTE), clock)
        self.cache = PrefixCache(clock)

    async def create_message(self, request: web.Request) -> web.StreamResponse:
        """Answer one request for a message."""
        raw = await _body(request)
        body, malformed = _parsed(raw)
        call = self.calls.arrive(body, _without_key(request))
        request[_CALL] = call
        version = _admitted(request)
        if malformed is not None:
            raise malformed
        asked = read_message_request(body, version)
        letter = letter_in(asked)
        about = letter.words if letter.comment is None else letter.comment
        self.calls.is_about(call, hashlib.sha256(about.encode()).hexdigest())
        _check_context(asked)
        fault = (
            self._by_header(request)
            or self.faults.by_letter(letter.fault, about, continued=asked.continued)
            or self.faults.by_chance()
            or NO_FAULT
        )
        reckoning = self.cache.reckon(asked)
        self.limits.admit(reckoning.charged + (reckoning.read if asked.model.reads_count else 0))
        answer = compose(asked, letter, fault)
        message: dict[str, object] = {
            "id": f"msg_01{secrets.token_hex(11)}",
            "type": "message",
            "role": "assistant",
            "model": _another_model(asked.model) if fault.kind is Kind.OTHER_MODEL else asked.model.id,
            "content": answer.content,
            "stop_reason": answer.stop_reason,
            "stop_sequence": answer.stop_sequence,
            "stop_details": answer.stop_details,
            "usage": reckoning.usage(answer.output_tokens, answer.thinking_tokens),
        }

        def begins() -> None:
            self.cache.begin(reckoning)
            self.limits.spend_output(answer.output_tokens)

        await asyncio.sleep(self.latency)
        return await _send(request, message, fault, begins)

    async def count_tokens(self, request: web.Request) -> web.StreamResponse:
        """Count the tokens of a prompt, by the estimate that usage is reckoned with."""
        body, malformed = _parsed(await _body(request))
        version = _admitted(request)
        if malformed is not None:
            raise malformed
        asked = read_message_request(body, version, counting=True)
        return await _send(request, {"input_tokens": prompt_tokens(asked)}, self._by_header(request) or NO_FAULT)

    async def list_models(self, request: web.Request) -> web.StreamResponse:
        """List the catalogue; retired models only where they are asked for."""
        _admitted(request)
        wanted = request.query.getall("lifecycle[]", []) or ["active", "deprecated"]
        for lifecycle in wanted:
            if lifecycle not in _LIFECYCLES:
                raise InvalidRequest("lifecycle", f"Input should be one of {', '.join(_LIFECYCLES)}")
        limit = _limit(request.query.get("limit", "20"))
        models = [model for model in CATALOGUE.values() if model.lifecycle in wanted]
        if (after := request.query.get("after_id")) is not None:
            at = _position(models, after, "after_id")
            page, more = models[at + 1 : at + 1 + limit], len(models) > at + 1 + limit
        elif (before := request.query.get("before_id")) is not None:
            at = _position(models, before, "before_id")
            page, more = models[max(0, at - limit) : at], at > limit
        else:
            page, more = models[:limit], len(models) > limit
        listed: dict[str, object] = {
            "data": [model.info() for model in page],
            "has_more": more,
            "first_id": page[0].id if page else None,
            "last_id": page[-1].id if page else None,
        }
        return await _send(request, listed, self._by_header(request) or NO_FAULT)

    async def retrieve_model(self, request: web.Request) -> web.StreamResponse:
        """Describe one model, retired or not."""
        _admitted(request)
        model_id = request.match_info["model_id"]
        if model_id not in CATALOGUE:
            raise ModelUnknown(model_id)
        return await _send(request, CATALOGUE[model_id].info(), self._by_header(request) or NO_FAULT)

    async def count_calls(self, request: web.Request) -> web.StreamResponse:
        """Tell how many calls came, in all and for each letter's digest; the rehearsal's own, for tests."""
        return web.json_response(self.calls.counts())

    def _by_header(self, request: web.Request) -> Fault | None:
        try:
            return self.faults.by_header(request.headers)
        except UnknownFault as unknown:
            raise InvalidRequest(FAULT_HEADER, str(unknown)) from unknown

    @web.middleware
    async def tell_refusals(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Give every refusal the shape of the API's errors."""
        request[_REQUEST_ID] = f"req_01{secrets.token_hex(11)}"
        try:
            return await handler(request)
        except Refusal as refused:
            refusal = refused
        except web.HTTPException as unserved:
            refusal = NothingHere(request.method, request.path)
            if unserved.status == 413:
                refusal = BodyTooLarge()
        headers = {} if refusal.retry_after is None else {"retry-after": refusal.retry_after}
        return web.json_response(refusal.body(request[_REQUEST_ID]), status=refusal.status, headers=headers)

    async def mark(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Say on every response that it is the rehearsal's; note what a call was answered."""
        response.headers[REHEARSAL_HEADER] = "1"
        response.headers["request-id"] = request[_REQUEST_ID]
        if request.path == "/v1/messages":
            response.headers.update(self.limits.headers())
        if _CALL in request:
            self.calls.answered(request[_CALL], response.status)


def create_app(
    settings: RehearsalSettings,
    *,
    clock: Callable[[], float] = time.monotonic,
    chance: random.Random | None = None,
    calls: Calls | None = None,
) -> web.Application:
    """Build the rehearsal; *calls*, where given, is told of each call, else they are only counted.

    Run it with `handler_cancellation`, or requests left hanging outlive their clients.
    """
    stage = _Stage(
        settings,
        clock,
        # Chance decides here which attempts fail in a rehearsal, and guards nothing.
        random.Random() if chance is None else chance,  # noqa: S311
        Calls(keep=False) if calls is None else calls,
    )
    app = web.Application(client_max_size=MOST_BYTES, middlewares=[stage.tell_refusals])
    app.on_response_prepare.append(stage.mark)
    app.router.add_post("/v1/messages", stage.create_message)
    app.router.add_post("/v1/messages/count_tokens", stage.count_tokens)
    app.router.add_get("/v1/models", stage.list_models)
    app.router.add_get("/v1/models/{model_id}", stage.retrieve_model)
    app.router.add_get("/rehearsal/calls", stage.count_calls)
    return app


def serve(settings: RehearsalSettings, *, host: str = "127.0.0.1", port: int) -> None:
    """Serve the rehearsal until SIGTERM or SIGINT; then end at once, whatever is still being answered.

    Raises `PortTaken`. Only a process's main thread can do this, for the signals' sake.
    """
    app = create_app(settings)
    listener = _listener(host, port)

    async def until_signalled() -> None:
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        log.info("The rehearsal listens on %s:%s.", host, port)
        await _perform(app, listener, stopped)

    asyncio.run(until_signalled())


@contextlib.contextmanager
def running(settings: RehearsalSettings | None = None) -> Iterator[Rehearsal]:
    """Run a rehearsal on a free port and in a thread of its own while the context lasts; by default without latency."""
    calls = Calls(keep=True)
    app = create_app(RehearsalSettings(latency=0) if settings is None else settings, calls=calls)
    listener = _listener("127.0.0.1", 0)
    port = listener.getsockname()[1]
    begun = threading.Event()
    stop: list[Callable[[], object]] = []

    async def until_stopped() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(stopped.set))
        begun.set()
        await _perform(app, listener, stopped)

    thread = threading.Thread(target=lambda: asyncio.run(until_stopped()), name="rehearsal")
    thread.start()
    begun.wait()
    try:
        yield Rehearsal(f"http://127.0.0.1:{port}", calls)
    finally:
        stop[0]()
        thread.join()


def _listener(host: str, port: int) -> socket.socket:
    """Listen; whoever connects before the app is ready waits a moment, and is served."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as failure:
        if failure.errno == errno.EADDRINUSE:
            raise PortTaken(host, port) from failure
        raise


async def _perform(app: web.Application, listener: socket.socket, stopped: asyncio.Event) -> None:
    """Serve what comes to *listener* until *stopped*, and close it."""
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_GRACE)
    await runner.setup()
    try:
        await web.SockSite(runner, listener, backlog=_BACKLOG).start()
        await stopped.wait()
    finally:
        await runner.cleanup()
        listener.close()


async def _send(
    request: web.Request, body: Mapping[str, object], fault: Fault, begins: Callable[[], None] = lambda: None
) -> web.StreamResponse:
    """Answer with *body*, or with what the fault makes of it; *begins* is called when a response begins."""
    await asyncio.sleep(fault.slow)
    match fault.kind:
        case Kind.DROP | Kind.HANG:
            if fault.kind is Kind.DROP:
                _hang_up(request)
            # Cancelled when the connection is gone, or when the rehearsal ends.
            await asyncio.Event().wait()
        case Kind.STATUS:
            raise _asked_for(fault, body)
    begins()
    if fault.kind is Kind.HTML:
        page = "<!doctype html><title>Rehearsal</title><p>This page stands where an answer should be.</p>"
        return await _pour(request, page.encode(), "text/html", fault)
    if fault.kind is Kind.HOLES:
        body = {field: body[field] for field in ("id", "type", "role", "model") if field in body}
    payload = json.dumps(body, ensure_ascii=False).encode(errors="replace")
    if fault.kind is Kind.BAD_JSON:
        payload = payload[: len(payload) // 2]
    return await _pour(request, payload, "application/json", fault)


async def _pour(request: web.Request, payload: bytes, content_type: str, fault: Fault) -> web.StreamResponse:
    """Send a body at the pace, and up to the point, that the fault sets."""
    response = web.StreamResponse(headers={"content-type": content_type})
    response.content_length = len(payload)
    await response.prepare(request)
    end = len(payload) // 2 if fault.kind is Kind.CUT else len(payload)
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


def _asked_for(fault: Fault, body: Mapping[str, object]) -> Refusal:
    message = f"Rehearsed: the answer with status {fault.status} that was asked for."
    details = None
    if fault.code == OWN_SPEND_LIMIT:
        message = _OWN_SPEND_LIMIT_MESSAGE
    elif fault.code:
        message = _CODES.get(fault.code, message)
        details = {"error_code": fault.code}
    elif fault.status == 404 and "model" in body:
        message = f"model: {body['model']}"
    return Refusal(fault.status, message, details=details, retry_after=fault.retry_after)


async def _body(request: web.Request) -> bytes:
    # Told before it is sent, so that a client is not left writing to a closed connection.
    if request.content_length is not None and request.content_length > MOST_BYTES:
        async for _ in request.content.iter_any():
            pass
        raise BodyTooLarge
    return await request.read()


def _parsed(raw: bytes) -> tuple[object, InvalidRequest | None]:
    try:
        return parse_json(raw), None
    except InvalidRequest as malformed:
        return None, malformed


def _admitted(request: web.Request) -> str:
    """Return the API version of a request that carries a key; any key will do."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    key = token if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
    if not key.strip():
        raise NotAuthenticated
    return check_version(request.headers.get("anthropic-version"))


def _without_key(request: web.Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items() if name.lower() not in _SECRET_HEADERS}


def _check_context(asked: MessageRequest) -> None:
    tokens = prompt_tokens(asked)
    if tokens > asked.model.context:
        raise InvalidRequest("messages", f"prompt is too long: {tokens} tokens > {asked.model.context} maximum")


def _another_model(model: Model) -> str:
    return next(other for other in CATALOGUE if other != model.id)


def _limit(asked: str) -> int:
    if not asked.isascii() or not asked.isdigit() or not 1 <= int(asked) <= 1000:
        raise InvalidRequest("limit", "Input should be a number from 1 to 1000")
    return int(asked)


def _position(models: list[Model], model_id: str, field: str) -> int:
    for at, model in enumerate(models):
        if model.id == model_id:
            return at
    raise InvalidRequest(field, f"{model_id!r} is not in this list")
