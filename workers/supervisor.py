"""Runs the parts of `emeritus serve`, starts again what dies, and leaves no process behind.

Each part is the leader of a session of its own. What a part starts stays in that session even when it leaves the
process group, as RQ's work horses do, so a session is what is killed.

A watchman, one more process, sees to it that this holds when the supervisor itself is killed with SIGKILL: it reads the
sessions' numbers from a pipe and ends them when the pipe closes. Linux's PR_SET_PDEATHSIG would cost no process, but it
reaches only the part itself, and a web server's workers or a work horse in the middle of a job would live on.
"""

import errno
import fcntl
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import psutil

LOCK_FILE = "emeritus.lock"

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
RAN_WELL = 60.0

# A killed process is gone in milliseconds, unless the kernel holds it (a broken disk): no use waiting for ever.
KILL_WITHIN = 5.0


class CannotServe(Exception):
    """What keeps `emeritus serve` from starting; each reason is a class of its own, worded for the operator."""


class DataFolderInUse(CannotServe):
    """Raised when another `emeritus serve` holds the data folder."""

    def __init__(self, data: Path) -> None:
        self.data = data
        super().__init__(f"Another emeritus is serving from {data}; stop it, or set EMERITUS_DATA to another folder.")


class DataFolderReadOnly(CannotServe):
    """Raised when no file can be written in the data folder, or the folder cannot be made."""

    def __init__(self, data: Path, reason: str) -> None:
        self.data = data
        self.reason = reason
        super().__init__(f"Nothing can be written to the data folder {data} ({reason}); set EMERITUS_DATA to another.")


class PortTaken(CannotServe):
    """Raised when another program listens on the port."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        super().__init__(f"Port {port} on {host} is taken by another program; stop it, or set PORT to another number.")


class PortRefused(CannotServe):
    """Raised when the system does not let this user listen on the port, taken or not."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        self.host = host
        self.port = port
        self.reason = reason
        super().__init__(f"Port {port} on {host} cannot be used ({reason}); set PORT to another number.")


class NeverReady(CannotServe):
    """Raised when a part ended, or its time ran out, before it was ready for the first time."""

    def __init__(self, name: str, what: str, said: str) -> None:
        self.name = name
        self.said = said
        super().__init__(f"{name} {what} before it was ready" + (f": {said}" if said else "."))


@contextmanager
def data_lock(data: Path) -> Iterator[int]:
    """Hold *data* for this process and yield the lock's descriptor, for `Supervisor(keep_open=...)`.

    Raises `DataFolderInUse` at once if someone holds it. The kernel lets go when the last process that has the
    descriptor open ends, however it ends; a clean end removes the file too.
    """
    path = data / LOCK_FILE
    lock = _locked(data, path)
    try:
        yield lock
    finally:
        # Removed while it is held: who opened it meanwhile sees in _locked that it is no longer the one in the folder.
        path.unlink(missing_ok=True)
        os.close(lock)


def _locked(data: Path, path: Path) -> int:
    """Return a descriptor of the file at *path* that holds its lock."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), path.stat()):
                return lock
        except BlockingIOError:
            os.close(lock)
            raise DataFolderInUse(data) from None
        except FileNotFoundError:
            pass  # Its holder ended cleanly and removed it after we had opened it.
        os.close(lock)


def writable(data: Path) -> None:
    """Make the data folder, for this user alone, if it is absent, and write a file in it.

    Raises `DataFolderReadOnly`. The file is gone afterwards.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Written, not asked about: permission bits do not stop root, and a full or read-only disk has none.
        with tempfile.TemporaryFile(dir=data) as file:
            file.write(b"emeritus")
    except FileExistsError as refused:
        raise DataFolderReadOnly(data, "it is no folder") from refused
    except OSError as refused:
        raise DataFolderReadOnly(data, refused.strerror or str(refused)) from refused


def port_free(host: str, port: int) -> None:
    """Bind *host*:*port* for a moment. Raises `PortTaken`, or `PortRefused` with the system's reason.

    granian listens with SO_REUSEPORT, so it would share a taken port without a word.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            # Otherwise the connections of a server that has just ended would hold the port for a minute.
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as refused:
        if refused.errno == errno.EADDRINUSE:
            raise PortTaken(host, port) from refused
        raise PortRefused(host, port, refused.strerror or str(refused)) from refused


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the whole: *env* is all of its environment, *ready* a quick question asked until it says yes.

    A part without *ready* counts as ready when it has started.
    """

    name: str
    command: list[str]
    env: dict[str, str] = field(repr=False)  # It may hold the model's key.
    ready: Callable[[], bool] | None = None


def pause_before(restart: int) -> float:
    """Return how many seconds to wait before the *restart*-th start in a row, counted from 0."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(restart, 16))


def members(session: int) -> list[int]:
    """Return the processes that live in *session*; one that ended and was not yet waited for is not among them."""
    found = []
    for pid in psutil.pids():
        with suppress(OSError, psutil.Error):
            if os.getsid(pid) == session and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


def kill_session(session: int) -> None:
    """Kill every process in *session* and wait until they are gone; an empty session is well."""
    deadline = time.monotonic() + KILL_WITHIN
    # Again and again, because one of them may have forked between the look and the blow.
    while (left := members(session)) and time.monotonic() < deadline:
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


class Supervisor:
    """Runs *parts*, the first of which the others lean on: it starts first and ends last.

    What the parts print, on either stream, goes to our standard error. *when_ready* is called once, when every part has
    been ready. *keep_open* are descriptors that stay open until the last part is gone, even if this process is killed:
    the data folder's lock.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        grace: float = 15,
        log: Callable[[str], None],
        when_ready: Callable[[], None] | None = None,
        ready_within: float = 60,
        keep_open: Sequence[int] = (),
    ) -> None:
        self._parts = list(parts)
        self._grace = grace
        self._log = log
        self._when_ready = when_ready
        self._ready_within = ready_within
        self._lives: list[_Life] = []
        self._watchman = _Watchman(grace, keep_open)
        self._selector = selectors.DefaultSelector()
        self._asked: signal.Signals | None = None
        self._hastened = False

    def run(self) -> int:
        """Run the parts until INT, TERM or HUP, and end them. Return 0, or 1 if a part failed before it was ready.

        To be called once, from the main thread. A second INT ends the grace. When it returns, or raises what *log* or
        *when_ready* raised, no process that it started is left.
        """
        with self._signals():
            try:
                self._watchman.look_after([])
                self._serve()
            except NeverReady as failure:
                self._say(str(failure))
                return 1
            else:
                return 0
            finally:
                self._end()

    def _serve(self) -> None:
        """Start the parts in order and keep them running until someone asks for the end."""
        waiting = list(self._parts)
        announced = False
        while self._asked is None:
            for life in self._lives:
                self._tend(life)
            self._watchman.tend(self._say)
            if not all(life.was_ready for life in self._lives):
                self._listen(0.02)
            elif waiting:
                life = _Life(waiting.pop(0))
                self._lives.append(life)
                self._start(life)
            elif not announced:
                announced = True
                if self._when_ready is not None:
                    self._when_ready()
            else:
                pauses = [life.next_start - time.monotonic() for life in self._lives if life.process is None]
                self._listen(min([1.0, *pauses]))
        self._say(f"Stopping ({self._asked.name}).")

    def _tend(self, life: "_Life") -> None:
        """Notice that a part is ready, late or dead, and start it again when its pause is over."""
        now = time.monotonic()
        if life.process is None:
            if now >= life.next_start:
                self._start(life)
        elif life.process.poll() is not None:
            self._bury(life, f"ended with {_ending(life.process.returncode)}")
        elif not life.was_ready:
            life.was_ready = life.part.ready is not None and life.part.ready()
            if not life.was_ready and now >= life.began + self._ready_within:
                raise NeverReady(life.part.name, f"took longer than {self._ready_within:g} s", life.last_words)

    def _start(self, life: "_Life") -> None:
        """Start a part as the leader of a session of its own."""
        life.began = time.monotonic()
        try:
            life.process = subprocess.Popen(
                life.part.command,
                env=life.part.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as refused:
            self._bury(life, f"could not be started ({refused.strerror})")
            return
        self._watchman.look_after([other.process.pid for other in self._lives if other.process is not None])
        output = life.process.stdout
        assert output is not None
        os.set_blocking(output.fileno(), False)
        self._selector.register(output, selectors.EVENT_READ, life)
        life.was_ready = life.was_ready or life.part.ready is None

    def _bury(self, life: "_Life", what: str) -> None:
        """Kill what a dead part left running and say when it starts again. Raises `NeverReady` if it never was."""
        self._clean_up(life)
        if not life.was_ready:
            raise NeverReady(life.part.name, what, life.last_words)
        now = time.monotonic()
        if now - life.began >= RAN_WELL:
            life.deaths = 0
        pause = pause_before(life.deaths)
        life.deaths += 1
        life.next_start = now + pause
        self._say(f"{life.part.name} {what}; it starts again in {pause:g} s.")

    def _clean_up(self, life: "_Life") -> None:
        """Kill a part's session, take its exit code and pass on the last it said."""
        if life.process is None:
            return
        kill_session(life.process.pid)
        with suppress(subprocess.TimeoutExpired):
            life.process.wait(KILL_WITHIN)
        output = life.process.stdout
        assert output is not None
        while not output.closed and self._hear(life):
            pass
        if not output.closed:  # Something left the session and has the other end still.
            self._selector.unregister(output)
            output.close()
        life.speak(whole=True)
        life.process = None
        self._watchman.look_after([other.process.pid for other in self._lives if other.process is not None])

    def _listen(self, timeout: float) -> None:
        """Pass on what the parts say until *timeout* seconds are over, a signal comes or a part dies."""
        for key, _ in self._selector.select(max(timeout, 0)):
            if isinstance(key.data, _Life):
                self._hear(key.data)
            else:
                key.data()

    def _hear(self, life: "_Life") -> bool:
        """Read some of what a part has said, and say whether there was anything; at the end, close our end."""
        output = life.process.stdout if life.process is not None else None
        if output is None or output.closed:
            return False
        chunk: bytes | None = output.read(65536)
        if chunk:
            life.heard += chunk
            life.speak(whole=False)
        elif chunk is not None:
            self._selector.unregister(output)
            output.close()
        return bool(chunk)

    def _end(self) -> None:
        """End every part but the first, then the first, then the watchman."""
        for group in (self._lives[1:], self._lives[:1]):
            for life in reversed(group):
                if life.running and life.process is not None:
                    life.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + self._grace
            while any(life.running for life in group) and not self._hastened and time.monotonic() < deadline:
                self._listen(0.1)
            for life in group:
                if life.running:
                    self._say(f"{life.part.name} did not end in time and is killed.")
                self._clean_up(life)
        self._watchman.dismiss()

    def _say(self, sentence: str) -> None:
        """Log a sentence, unless there is nobody left to read it: the parts must be ended all the same."""
        with suppress(OSError):
            self._log(sentence)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Answer INT, TERM and HUP by asking for the end, and wake `_listen` for them and for a part's death."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        self._selector.register(reader, selectors.EVENT_READ, lambda: _empty(reader))
        handlers = dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), self._ask)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
            del handlers[signal.SIGHUP]  # Started under nohup, it outlives its terminal.
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda number, frame: None)
        bell = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(bell)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            reader.close()
            writer.close()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        """Take a signal as the wish to end; a second INT as the wish to end at once."""
        if self._asked is None:
            self._asked = signal.Signals(number)
        elif number == signal.SIGINT:
            self._hastened = True


@dataclass(slots=True, eq=False)
class _Life:
    """What has become of a part: the process it runs as at the moment, if any, and what it said last."""

    part: Part
    process: subprocess.Popen[bytes] | None = None
    was_ready: bool = False
    began: float = 0
    deaths: int = 0
    next_start: float = 0
    heard: bytes = b""
    last_words: str = ""

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def speak(self, *, whole: bool) -> None:
        """Pass on the lines that are complete, so that two parts' lines do not mix, or all if *whole* or very long."""
        whole = whole or len(self.heard) > 65536
        said, _, self.heard = (self.heard, b"", b"") if whole else self.heard.rpartition(b"\n")
        if not said.strip():
            return
        self.last_words = said.decode(errors="replace").strip().splitlines()[-1].strip()
        with suppress(OSError):  # Our own reader may be gone.
            sys.stderr.buffer.write(said.removesuffix(b"\n") + b"\n")
            sys.stderr.buffer.flush()


class _Watchman:
    """A process that ends the parts' sessions when the pipe from the supervisor closes without a farewell."""

    def __init__(self, grace: float, keep_open: Sequence[int]) -> None:
        self._grace = grace
        self._keep_open = tuple(keep_open)
        self._process: subprocess.Popen[bytes] | None = None
        self._sessions: list[int] = []
        self._next_start = 0.0

    def look_after(self, sessions: list[int]) -> None:
        """Tell it the sessions to end, the first of them last; it is started if need be."""
        self._sessions = sessions
        if self._process is None:
            self._start()
        self._tell()

    def tend(self, say: Callable[[str], None]) -> None:
        """Start another if it died, but not all the time."""
        now = time.monotonic()
        if self._process is not None and self._process.poll() is not None and now >= self._next_start:
            ended = _ending(self._process.returncode)
            self._next_start = now + LONGEST_PAUSE
            self._close()
            self._start()
            self._tell()
            say(f"watchman ended with {ended}; another was started.")

    def dismiss(self) -> None:
        """Tell it that all is over and wait for its end."""
        if self._process is None:
            return
        self.look_after([])
        self._close()
        try:
            self._process.wait(KILL_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _start(self) -> None:
        # Only what Python itself needs: the environment of the supervisor may hold the model's key.
        needed = ("PATH", "PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH")
        self._process = subprocess.Popen(
            # -P: without it this folder's modules would stand before the library's.
            [sys.executable, "-P", __file__, str(self._grace)],
            env={name: os.environ[name] for name in needed if name in os.environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=self._keep_open,
            cwd="/",
            bufsize=0,
        )

    def _tell(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # It died; `tend` sees to that.
            self._process.stdin.write((" ".join(map(str, self._sessions)) + "\n").encode())

    def _close(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()


def keep_watch(grace: float) -> None:
    """Read sessions from standard input, a line of numbers each time they change, and end the last named at its end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # It has one duty, and the end of the pipe alone calls for it.
    sessions: list[int] = []
    for line in sys.stdin:
        sessions = [int(word) for word in line.split()]
    for group in (sessions[1:], sessions[:1]):
        for session in reversed(group):
            if session in members(session):
                os.kill(session, signal.SIGTERM)
        deadline = time.monotonic() + grace
        while any(session in members(session) for session in group) and time.monotonic() < deadline:
            time.sleep(0.05)
        for session in group:
            kill_session(session)


def _ending(returncode: int) -> str:
    """Say in words how a process ended."""
    return f"exit code {returncode}" if returncode >= 0 else f"signal {signal.Signals(-returncode).name}"


def _empty(bell: socket.socket) -> None:
    """Take the bytes that signals left, so that the next one wakes us again."""
    with suppress(BlockingIOError):
        while bell.recv(4096):
            pass


if __name__ == "__main__":
    keep_watch(float(sys.argv[1]))
