"""The server: its addresses, what it remembers, and how it is run."""

import asyncio
import contextlib
import errno
import logging
import random
import secrets
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from aiohttp import web

from workers.rehearsal.account import Account, Usage
from workers.rehearsal.batch_routes import BatchRoutes
from workers.rehearsal.batches import Batches
from workers.rehearsal.calls import Calls
from workers.rehearsal.errors import BodyTooLarge, InvalidRequest, ModelUnknown, NothingHere, Refusal
from workers.rehearsal.faults import NO_FAULT, Faults, parse_shares
from workers.rehearsal.limits import DEFAULT_PER_MINUTE, Limits, parse_limits
from workers.rehearsal.messages import Player, check_length, read
from workers.rehearsal.models import CATALOGUE
from workers.rehearsal.settings import RehearsalSettings
from workers.rehearsal.usage import PrefixCache, prompt_tokens
from workers.rehearsal.validation import read_message_request
from workers.rehearsal.wire import MOST_BYTES, admitted, listing, page_of, parsed, read_body, send, without_key

log = logging.getLogger(__name__)

REHEARSAL_HEADER: str = "x-emeritus-rehearsal"

# Whoever is still being answered when the rehearsal ends is given so long; a request left hanging never ends.
_GRACE = 0.1

# So many connections may wait to be accepted: a load test opens hundreds at once.
_BACKLOG = 1_024

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
    account: Account

    def usage(self) -> Usage:
        """Return what all answers have cost until now."""
        return self.account.usage()


class _Stage:
    """The rehearsal's memory, and one method for each address that it serves."""

    def __init__(
        self,
        settings: RehearsalSettings,
        clock: Callable[[], float],
        chance: random.Random,
        calls: Calls,
        account: Account,
    ) -> None:
        self.latency = settings.latency
        self.calls = calls
        self.account = account
        self.limits = Limits(parse_limits(settings.limits, DEFAULT_PER_MINUTE), clock)
        self.player = Player(Faults(parse_shares(settings.faults), chance), PrefixCache(clock), account)
        self.batches = Batches(self.player, calls, settings.latency)

    async def create_message(self, request: web.Request) -> web.StreamResponse:
        """Answer one request for a message."""
        raw = await read_body(request)
        body, malformed = parsed(raw)
        call = self.calls.arrive(body, without_key(request))
        request[_CALL] = call
        version = admitted(request)
        if malformed is not None:
            raise malformed
        asked = read(body, version)
        self.calls.is_about(call, asked.digest)
        check_length(asked)
        fault = self.player.fault(asked, request.headers, batched=False)
        reckoning = self.player.reckon(asked)
        self.limits.admit(reckoning.charged + (reckoning.read if asked.request.model.reads_count else 0))
        reply = self.player.reply(asked, fault, reckoning, batched=False)

        def begins() -> None:
            self.player.begins(reply)
            self.limits.spend_output(reply.answer.output_tokens)

        await asyncio.sleep(self.latency)
        return await send(request, reply.message, fault, begins)

    async def count_tokens(self, request: web.Request) -> web.StreamResponse:
        """Count the tokens of a prompt, by the estimate that usage is reckoned with."""
        body, malformed = parsed(await read_body(request))
        version = admitted(request)
        if malformed is not None:
            raise malformed
        asked = read_message_request(body, version, counting=True)
        return await send(
            request, {"input_tokens": prompt_tokens(asked)}, self.player.header_fault(request.headers) or NO_FAULT
        )

    async def list_models(self, request: web.Request) -> web.StreamResponse:
        """List the catalogue; retired models only where they are asked for."""
        admitted(request)
        wanted = request.query.getall("lifecycle[]", []) or ["active", "deprecated"]
        for lifecycle in wanted:
            if lifecycle not in _LIFECYCLES:
                raise InvalidRequest("lifecycle", f"Input should be one of {', '.join(_LIFECYCLES)}")
        page, more = page_of(request.query, [model for model in CATALOGUE.values() if model.lifecycle in wanted])
        listed = listing(page, [model.info() for model in page], more=more)
        return await send(request, listed, self.player.header_fault(request.headers) or NO_FAULT)

    async def retrieve_model(self, request: web.Request) -> web.StreamResponse:
        """Describe one model, retired or not."""
        admitted(request)
        model_id = request.match_info["model_id"]
        if model_id not in CATALOGUE:
            raise ModelUnknown(model_id)
        return await send(request, CATALOGUE[model_id].info(), self.player.header_fault(request.headers) or NO_FAULT)

    async def count_calls(self, request: web.Request) -> web.StreamResponse:
        """Tell how many calls came, in all and for each letter's digest; the rehearsal's own, for tests."""
        return web.json_response(self.calls.counts())

    async def tell_usage(self, request: web.Request) -> web.StreamResponse:
        """Tell what all answers have cost; the rehearsal's own, for those who measure."""
        return web.json_response(self.account.usage().told())

    async def stop(self, _: web.Application) -> None:
        """Answer no more batches."""
        await self.batches.stop()

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
    account: Account | None = None,
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
        Account() if account is None else account,
    )
    app = web.Application(client_max_size=MOST_BYTES, middlewares=[stage.tell_refusals])
    app.on_response_prepare.append(stage.mark)
    app.on_shutdown.append(stage.stop)
    app.router.add_post("/v1/messages", stage.create_message)
    app.router.add_post("/v1/messages/count_tokens", stage.count_tokens)
    BatchRoutes(stage.batches, stage.player).add_to(app.router)
    app.router.add_get("/v1/models", stage.list_models)
    app.router.add_get("/v1/models/{model_id}", stage.retrieve_model)
    app.router.add_get("/rehearsal/calls", stage.count_calls)
    app.router.add_get("/rehearsal/usage", stage.tell_usage)
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
    calls, account = Calls(keep=True), Account()
    app = create_app(RehearsalSettings(latency=0) if settings is None else settings, calls=calls, account=account)
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
        yield Rehearsal(f"http://127.0.0.1:{port}", calls, account)
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
