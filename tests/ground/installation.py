"""One whole installation: every process that `emeritus demo` starts, in a throwaway folder, spoken to over HTTP alone.

It remembers each secret that it was told or gave out, keeps all that its processes said, and when it stops, sees to it
that nothing is left: no process, no lock, no socket; and no secret in what was said or in the queue's memory.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import zlib
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
from redis import Redis

ROOT = Path(__file__).parents[2]
EMERITUS = Path(sys.executable).with_name("emeritus")
UP_WITHIN = 90.0
DOWN_WITHIN = 30.0
ANSWERS_WITHIN = 20.0
"""Seconds after which a request hangs, as far as these tests are concerned."""
OURS = ("EMERITUS_", "ANTHROPIC_", "REHEARSAL_", "DATABASE_", "REDIS_", "PYTHON")
"""How those names begin that a developer may have set, and a newcomer has not."""

T = TypeVar("T")


def wait_for(told: Callable[[], T], what: str, within: float = 60) -> T:
    """Ask until the answer is yes, and return it; the deadline only ends a wait that is in vain."""
    deadline = time.monotonic() + within
    while not (answer := told()):
        assert time.monotonic() < deadline, f"waited {within:g} s in vain for {what}"
        time.sleep(0.05)
    return answer


def free_port() -> int:
    """Return a port on 127.0.0.1 that nobody has now."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def newcomers_environment(**settings: str) -> dict[str, str]:
    """Return the environment of somebody who has set nothing but *settings*."""
    cleared = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    for name in (
        "SECRET_KEY",
        "SITE_URL",
        "PORT",
        "CALLS_AT_ONCE",
        "GATHERING_SECONDS",
        "VETO_QUORUM",
        "VETO_LAPSE",
        "TRUSTED_PROXIES",
    ):
        cleared.pop(name, None)
    return {**cleared, "EMERITUS_ENV_FILE": os.devnull, **settings}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request."""

    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(slots=True, eq=False)
class Installation:
    """An installation in *home*, not started yet; *settings* go into its environment."""

    home: Path
    settings: dict[str, str] = field(default_factory=dict)
    emeritus: Path = EMERITUS
    cwd: Path = ROOT
    port: int = field(default_factory=free_port)
    told: set[str] = field(default_factory=set)
    token: str = ""
    password: str = ""
    _process: subprocess.Popen[bytes] | None = None
    _watch: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def environment(self) -> dict[str, str]:
        # All its letters come from one address: readers' limits are told of in tests of their own.
        # And their answers wait for no others to share a beginning with, which would take each story two seconds.
        chosen = {"RATE_LIMITS": "off", "GATHERING_SECONDS": "0", **self.settings}
        return newcomers_environment(EMERITUS_DATA=str(self.data), PORT=str(self.port), **chosen)

    @property
    def address(self) -> str:
        """The address that it prints: a passkey cannot belong to an IP address, so not 127.0.0.1."""
        return f"http://localhost:{self.port}"

    @property
    def said(self) -> str:
        """All that its processes wrote to the terminal."""
        return (self.home / "said").read_text(errors="replace")

    # Starting and stopping

    def start(self) -> None:
        """Run `emeritus demo` and wait until /healthz answers; a second time keeps the data."""
        before = len(self.said) if (self.home / "said").exists() else 0
        with (self.home / "said").open("ab") as said:
            self._process = subprocess.Popen(
                [self.emeritus, "demo"],
                env=self.environment,
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        # Tests that are killed cannot stop it, but their end of this pipe closes.
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", 'cat > /dev/null; kill -TERM "$0"', str(self._process.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            wait_for(self._is_up, "/healthz", UP_WITHIN)
            # The addresses are printed a moment after the last part answers.
            wait_for(lambda: "Sign in" in self.said[before:], "the first sign-in")
        except BaseException:
            self.destroy()
            raise
        for line in self.said[before:].splitlines():
            if line.startswith("Sign in") and "@" in line and "shown this once" in line:
                self.password = line.split()[3]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send it *number* and see that it leaves nothing behind."""
        assert self._process is not None
        self.assert_redis_holds_no_secret()
        running = self.processes()
        assert len(running) > 5, "there should be a process for each part"
        self._process.send_signal(number)
        try:
            assert self._process.wait(DOWN_WITHIN) == 0, self.said[-2000:]
            left = [process for process in running if _lives(process)] + self.processes()
            assert left == [], f"left behind: {left}"
        finally:
            self.destroy()
        for name in ("emeritus.lock", "valkey.url", "valkey.sock"):
            assert not (self.data / name).exists(), f"{name} was left behind"
        self.assert_said_no_secret()

    def destroy(self) -> None:
        """Kill what is left of it, for a test that failed."""
        if self._watch is not None:
            self._watch.kill()  # Before its number can be another's.
            self._watch.communicate()
            self._watch = None
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    def processes(self, word: str = "") -> list[psutil.Process]:
        """Return its living processes, or those of them that have *word* in their command line."""
        mine = f"{self.data}"
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("EMERITUS_DATA") == mine and _lives(process):
                    found.append(process)
        if self._runs and self._process is not None:
            with suppress(psutil.Error):  # The watchman is not told where the data is.
                found += [p for p in psutil.Process(self._process.pid).children(recursive=True) if p not in found]
        return [process for process in found if word in " ".join(_command(process))]

    @property
    def _runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _is_up(self) -> bool:
        assert self._runs, f"it ended: {self.said[-2000:]}"
        with suppress(OSError, http.client.HTTPException):
            return self.call("GET", "/healthz").status == 200
        return False

    # Speaking to it

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str = "",
        headers: Mapping[str, str] | None = None,
        within: float = ANSWERS_WITHIN,
    ) -> Answer:
        """Make one request; a *body* is sent as JSON. Raises TimeoutError if it hangs."""
        sent = dict(headers or {})
        if body is not None:
            sent["Content-Type"] = "application/json"
        if token:
            sent["Authorization"] = f"Bearer {token}"
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=within)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body).encode(), sent)
            came = connection.getresponse()
            return Answer(came.status, came.headers, came.read().decode())

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run an `emeritus` command beside it."""
        return subprocess.run(
            [self.emeritus, *arguments],
            env=self.environment,
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def admit_moderator(self, email: str = "demo@example.org") -> str:
        """Have a token issued by command, remember it as the one to decide with, and return it."""
        done = self.run("token", "issue", email)
        assert done.returncode == 0, done.stderr
        self.token = done.stdout.strip().splitlines()[-1]
        self.told.add(self.token)
        return self.token

    def comment(self, slug: str, body: str, author: str = "A reader", **more: object) -> dict[str, Any]:
        """Send a comment, remember what nobody may find in a log, and return the receipt."""
        came = self.call("POST", f"/api/v1/essays/{slug}/comments", {"author": author, "body": body, **more})
        assert came.status == 202, came.text
        receipt: dict[str, Any] = came.json
        self.told |= {receipt["author_secret"], receipt["manage_url"].rpartition("/")[2]}
        return receipt

    def queue(self, **query: str) -> list[dict[str, Any]]:
        """Return everything that waits on the desk, page after page."""
        return self._pages("/api/v1/queue", "submissions", self.token, query)

    def thread(self, slug: str) -> list[dict[str, Any]]:
        """Return everything that is posted under an essay."""
        return self._pages(f"/api/v1/essays/{slug}/thread", "comments", "", {})

    def approve(self, submission: Mapping[str, Any], *, digest: str = "") -> Answer:
        """Give the verdict on the words as they were shown, or under another *digest*."""
        seen = {"digest": digest or submission["digest"]}
        return self.call("POST", f"/api/v1/submissions/{submission['id']}/approval", seen, token=self.token)

    def waiting(self, mark: str, kind: str = "") -> list[dict[str, Any]]:
        """Return what waits on the desk and has *mark* in it."""
        return [each for each in self.queue(**({"kind": kind} if kind else {})) if mark in each["body"]]

    def approve_all(self, mark: str, kind: str) -> list[dict[str, Any]]:
        """Approve what waits and has *mark* in it; return it."""
        found = self.waiting(mark, kind)
        for each in found:
            assert self.approve(each).status == 201
        return found

    def mark(self) -> str:
        """Return a word that occurs nowhere else, for words that nobody may find in a log."""
        word = f"heliotrope{secrets.token_hex(6)}"
        self.told.add(word)
        return word

    def _pages(self, path: str, name: str, token: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        asked = dict(query)
        while True:
            came = self.call("GET", f"{path}?{'&'.join(f'{k}={v}' for k, v in asked.items())}", token=token)
            assert came.status == 200, came.text
            found += came.json[name]
            if came.json["next"] is None:
                return found
            asked["cursor"] = came.json["next"]

    # Looking into it

    def ask(self, question: str) -> list[tuple[Any, ...]]:
        """Ask its database, without being able to change it."""
        with closing(sqlite3.connect(f"file:{self.data / 'emeritus.db'}?mode=ro", uri=True, timeout=20)) as database:
            return database.execute(question).fetchall()

    @contextmanager
    def redis(self) -> Iterator[Redis]:
        """Reach its Valkey by the address that it leaves in the data folder."""
        connection = Redis.from_url((self.data / "valkey.url").read_text().strip(), socket_timeout=5)
        try:
            yield connection
        finally:
            connection.close()

    def assert_said_no_secret(self) -> None:
        """Fail if a reader's words, address or key, or a token, stands in what its processes said."""
        said = self.said
        assert [secret for secret in self.told if secret in said] == []

    def assert_redis_holds_no_secret(self) -> None:
        """Fail if one stands in Valkey, under any key or in it."""
        with self.redis() as redis:
            held = b"\n".join(part for key in redis.scan_iter() for part in _held(redis, key))
        assert [secret for secret in self.told if secret.encode() in held] == []


def _held(redis: Any, key: bytes) -> Iterator[bytes]:
    """Yield a key and all that stands under it, and what RQ compressed also as it was before."""
    yield key
    kind = redis.type(key)
    match kind:
        case b"string":
            found = [redis.get(key)]
        case b"hash":
            found = [part for pair in redis.hgetall(key).items() for part in pair]
        case b"list":
            found = redis.lrange(key, 0, -1)
        case b"set":
            found = list(redis.smembers(key))
        case b"zset":
            found = redis.zrange(key, 0, -1)
        case b"stream":
            found = [part for _, fields in redis.xrange(key) for pair in fields.items() for part in pair]
        case _:
            assert kind == b"none", f"{key!r} is a {kind!r}, which nobody here looks into"
            found = []
    for part in found:
        if part is not None:
            yield part
            with suppress(zlib.error):
                yield zlib.decompress(part)
            with suppress(zlib.error, ValueError):  # So RQ keeps the traceback of a job that failed.
                yield zlib.decompress(b64decode(part, validate=True))


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _command(process: psutil.Process) -> Sequence[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return ()
