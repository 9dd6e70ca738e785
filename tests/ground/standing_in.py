"""A small HTTP server that a test tells what to answer: for APIs that are not the rehearsal's."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Asked:
    """What came."""

    method: str
    path: str
    headers: Mapping[str, str]
    """By names in lower case."""
    body: bytes

    @property
    def told(self) -> dict[str, Any]:
        """The body, read as JSON."""
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


@dataclass(frozen=True, slots=True)
class Told:
    """What is answered.

    *cut*: bytes of the body that are promised and never sent; *hold*: the connection stays open until then.
    """

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int = 0
    hold: threading.Event | None = None


@dataclass(slots=True)
class StandingIn:
    """Where it answers, and what it was asked."""

    url: str
    asked: list[Asked] = field(default_factory=list)


def as_json(told: object, status: int = 200, **headers: str) -> Told:
    """Answer with JSON; headers with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Told(json.dumps(told).encode(), status, headers=named)


@contextmanager
def standing_in(answer: Callable[[Asked], Told]) -> Iterator[StandingIn]:
    """Answer on a free port while this lasts."""

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, body)
            stand_in.asked.append(asked)
            told = answer(asked)
            self.send_response(told.status)
            if "date" in told.headers:
                self._headers_buffer = [line for line in self._headers_buffer if not line.startswith(b"Date:")]
            self.send_header("content-type", told.content_type)
            self.send_header("content-length", str(len(told.body) + told.cut))
            for name, value in told.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(told.body)
            if told.hold is not None:
                self.wfile.flush()
                told.hold.wait(20)

        do_GET = do_POST = do_DELETE = _do

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stand_in = StandingIn(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def canned(body: bytes, content_type: str = "application/json", status: int = 200, **headers: str) -> Iterator[str]:
    """Answer everything alike; yield the address."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with standing_in(lambda _: Told(body, status, content_type, named)) as server:
        yield server.url
