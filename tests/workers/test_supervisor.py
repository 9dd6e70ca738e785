"""The supervisor, with real processes: what it starts, starts again, and leaves behind (nothing)."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from workers import supervisor

pytestmark = pytest.mark.slow

T = TypeVar("T")

# Starts the parts that its argument describes, as `emeritus serve` does, and holds the folder's lock meanwhile.
SERVE = """
import json, os, sys
from pathlib import Path
from workers.supervisor import Part, Supervisor, data_lock
told = json.loads(sys.argv[1])
data = Path(told["data"])
def log(sentence):
    print("LOG", sentence, file=sys.stderr, flush=True)
def part(name, code):
    ready = (data / f"{name}.pid").exists if told["await_ready"] else None
    return Part(name, [sys.executable, "-I", "-S", "-c", code, str(data), name], dict(os.environ), ready)
with data_lock(data) as lock:
    parts = [part(name, code) for name, code in told["parts"].items()]
    code = Supervisor(
        parts, grace=told["grace"], log=log, when_ready=lambda: log("all ready"), ready_within=told["ready_within"],
        keep_open=[lock],
    ).run()
sys.exit(code)
"""

# What each part begins with: it leaves its number in the folder, at once and whole.
TELL = """
import os, signal, sys, time
def tell(name, pid):
    written = os.path.join(sys.argv[1], f".{name}-{pid}")
    with open(written, "w") as file:
        file.write(str(pid))
    os.rename(written, os.path.join(sys.argv[1], f"{name}.pid"))
def rest():
    while True:
        signal.pause()
name = sys.argv[2]
"""

STEADY = TELL + "tell(name, os.getpid()); rest()"
STUBBORN = TELL + "signal.signal(signal.SIGTERM, signal.SIG_IGN); tell(name, os.getpid()); rest()"

# As RQ does it: the child leaves the process group, and nothing that its parent gets reaches it.
WITH_HORSE = (
    TELL
    + """
child = os.fork()
if not child:
    os.setpgrp()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tell("horse", os.getpid())
    rest()
tell(name, os.getpid())
rest()
"""
)

# Writes down when it ends; the second takes its time about it.
LAST_WISH = (
    TELL
    + """
def end(number, frame):
    if name == "second":
        time.sleep(0.3)
    with open(os.path.join(sys.argv[1], "ends"), "a") as file:
        file.write(name + " ")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
tell(name, os.getpid())
rest()
"""
)


def wait_for(told: Callable[[], T], what: str, within: float = 15) -> T:
    deadline = time.monotonic() + within
    while not (answer := told()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)
    return answer


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Served:
    """A supervisor that runs in a process of its own, and every process it was seen to have."""

    def __init__(self, data: Path, parts: dict[str, str], *, grace: float, ready: bool, ready_within: float) -> None:
        self.data = data
        self.told = data / "log"
        description = {
            "data": str(data),
            "parts": parts,
            "grace": grace,
            "await_ready": ready,
            "ready_within": ready_within,
        }
        with self.told.open("wb") as told:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE, json.dumps(description)],
                stdin=subprocess.PIPE,  # Open for ever, as a terminal is.
                stderr=told,
                start_new_session=True,
            )
        self.seen: set[int] = set()

    @property
    def log(self) -> str:
        return self.told.read_text()

    def await_log(self, words: str) -> None:
        wait_for(lambda: words in self.log, f"{words!r} in:\n{self.log}")
        self.look_round()

    def await_pid(self, name: str, other_than: int | None = None) -> int:
        """Wait until the part is there, under another number than the one it had."""

        def pid() -> int | None:
            file = self.data / f"{name}.pid"
            found = int(file.read_text()) if file.exists() else None
            return found if found != other_than else None

        found = wait_for(pid, f"{name} in:\n{self.log}")
        assert found is not None
        self.look_round()
        return found

    def look_round(self) -> None:
        if self.process.poll() is None:
            self.seen |= {child.pid for child in psutil.Process(self.process.pid).children(recursive=True)}

    def end(self, number: signal.Signals) -> int:
        self.look_round()
        self.process.send_signal(number)
        return self.process.wait(15)

    def left(self) -> list[int]:
        return [pid for pid in self.seen if alive(pid)]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def begin(
        parts: dict[str, str], *, grace: float = 10, ready: bool = True, ready_within: float = 15, folder: str = "data"
    ) -> Served:
        (tmp_path / folder).mkdir(exist_ok=True)
        served = Served(tmp_path / folder, parts, grace=grace, ready=ready, ready_within=ready_within)
        started.append(served)
        return served

    yield begin
    for served in started:
        served.look_round()
        served.process.kill()
        served.process.communicate()
        for pid in served.left():
            os.kill(pid, signal.SIGKILL)


Begin = Callable[..., Served]


def test_starts_each_part_when_the_one_before_is_ready(serve: Begin) -> None:
    served = serve({"first": STEADY, "second": STEADY})
    served.await_log("LOG all ready")
    assert {"first.pid", "second.pid"} <= {path.name for path in served.data.iterdir()}
    first = psutil.Process(served.await_pid("first"))
    second = psutil.Process(served.await_pid("second"))
    assert first.create_time() <= second.create_time()


def test_does_not_start_a_part_before_the_one_before_is_ready(serve: Begin) -> None:
    served = serve({"first": "import signal; signal.pause()", "second": STEADY}, ready_within=0.3)
    assert served.process.wait(15) == 1
    assert "LOG first took longer than 0.3 s before it was ready." in served.log
    assert not (served.data / "second.pid").exists()


def test_gives_each_part_a_session_and_no_input(serve: Begin) -> None:
    served = serve({"first": TELL + "print('input:', sys.stdin.read(), flush=True); tell(name, os.getpid()); rest()"})
    pid = served.await_pid("first")
    assert os.getsid(pid) == pid
    served.await_log("input:")


def test_passes_on_whole_lines_of_both_streams(serve: Begin) -> None:
    code = "print('on out', flush=True); print('on err', file=sys.stderr); print('half', end='', flush=True)"
    served = serve({"first": TELL + code + "; tell(name, os.getpid()); rest()"})
    served.await_log("on out\non err\n")
    served.end(signal.SIGTERM)
    assert "half\n" in served.log


def test_starts_a_killed_part_again(serve: Begin) -> None:
    served = serve({"first": STEADY, "second": STEADY})
    served.await_log("all ready")
    first, second = served.await_pid("first"), served.await_pid("second")
    os.kill(second, signal.SIGKILL)
    again = served.await_pid("second", other_than=second)
    assert "LOG second ended with signal SIGKILL; it starts again in 0.5 s." in served.log
    os.kill(again, signal.SIGKILL)
    served.await_pid("second", other_than=again)
    assert "LOG second ended with signal SIGKILL; it starts again in 1 s." in served.log
    assert alive(first)


def test_kills_what_a_dead_part_left_running(serve: Begin) -> None:
    served = serve({"first": STEADY, "second": WITH_HORSE})
    served.await_log("all ready")
    second, horse = served.await_pid("second"), served.await_pid("horse")
    os.kill(second, signal.SIGKILL)
    served.await_pid("second", other_than=second)
    assert not alive(horse)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_leaves_nothing_behind_when_told_to_end(serve: Begin, number: signal.Signals) -> None:
    served = serve({"first": STEADY, "second": WITH_HORSE})
    served.await_log("all ready")
    served.await_pid("horse")
    assert served.end(number) == 0
    assert len(served.seen) == 4  # The two parts, the horse and the watchman.
    assert served.left() == []
    assert not (served.data / supervisor.LOCK_FILE).exists()


def test_ends_the_first_part_last(serve: Begin) -> None:
    served = serve({"first": LAST_WISH, "second": LAST_WISH, "third": LAST_WISH})
    served.await_log("all ready")
    assert served.end(signal.SIGTERM) == 0
    assert (served.data / "ends").read_text().split() == ["third", "second", "first"]


def test_kills_a_part_that_does_not_end_in_its_grace(serve: Begin) -> None:
    served = serve({"first": STEADY, "second": STUBBORN}, grace=0.2)
    served.await_log("all ready")
    assert served.end(signal.SIGTERM) == 0
    assert "LOG second did not end in time and is killed." in served.log
    assert served.left() == []


def test_ends_at_once_on_a_second_interrupt(serve: Begin) -> None:
    served = serve({"first": STEADY, "second": STUBBORN}, grace=600)
    served.await_log("all ready")
    served.process.send_signal(signal.SIGINT)
    served.await_log("LOG Stopping (SIGINT).")
    assert served.end(signal.SIGINT) == 0
    assert served.left() == []


def test_leaves_nothing_behind_when_it_is_killed(serve: Begin) -> None:
    served = serve({"first": LAST_WISH, "second": LAST_WISH, "third": WITH_HORSE, "fourth": STUBBORN}, grace=0.6)
    served.await_log("all ready")
    served.await_pid("horse")
    served.end(signal.SIGKILL)
    assert len(served.seen) == 6
    wait_for(lambda: not served.left(), "the end of every process")
    assert (served.data / "ends").read_text().split() == ["second", "first"]


def test_keeps_the_data_folder_until_the_last_part_is_gone(serve: Begin) -> None:
    served = serve({"first": STEADY, "second": STUBBORN}, grace=600)
    served.await_log("all ready")
    second = served.await_pid("second")
    served.end(signal.SIGKILL)
    with pytest.raises(supervisor.DataFolderInUse), supervisor.data_lock(served.data):
        pass
    os.kill(second, signal.SIGKILL)
    wait_for(lambda: not served.left(), "the end of every process")
    with supervisor.data_lock(served.data):
        pass


def test_starts_another_watchman(serve: Begin) -> None:
    served = serve({"first": STEADY})
    served.await_log("all ready")
    first = served.await_pid("first")
    (watchman,) = served.seen - {first}
    os.kill(watchman, signal.SIGKILL)
    served.await_log("LOG watchman ended with signal SIGKILL; another was started.")
    served.end(signal.SIGKILL)
    wait_for(lambda: not served.left(), "the end of every process")


def test_keeps_the_watchman_away_from_the_environment(serve: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary")
    served = serve({"first": STEADY})
    served.await_log("all ready")
    first = served.await_pid("first")
    (watchman,) = served.seen - {first}
    assert "canary" in psutil.Process(first).environ().values()
    assert "canary" not in psutil.Process(watchman).environ().values()


def test_reports_the_last_words_of_a_part_that_never_was_ready(serve: Begin) -> None:
    code = "import sys; print('one more thing', flush=True); sys.exit('Address already in use.')"
    served = serve({"first": STEADY, "second": code, "third": STEADY})
    assert served.process.wait(15) == 1
    assert "LOG second ended with exit code 1 before it was ready: Address already in use.\n" in served.log
    assert not alive(int((served.data / "first.pid").read_text()))
    assert not (served.data / "third.pid").exists()


def test_reports_a_part_that_cannot_be_started(tmp_path: Path) -> None:
    log: list[str] = []
    part = supervisor.Part("web", [str(tmp_path / "absent")], {})
    assert supervisor.Supervisor([part], log=log.append).run() == 1
    assert log == ["web could not be started (No such file or directory) before it was ready."]


def test_puts_the_signal_handlers_back(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)]
    part = supervisor.Part("web", [sys.executable, "-c", ""], {}, ready=lambda: False)
    assert supervisor.Supervisor([part], log=lambda sentence: None).run() == 1
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)]
    assert after == before


def test_leaves_nothing_behind_when_its_caller_fails(tmp_path: Path) -> None:
    class Fell(Exception):
        pass

    def fall() -> None:
        raise Fell

    part = supervisor.Part("web", [sys.executable, "-c", STEADY, str(tmp_path), "web"], {})
    before = set(psutil.Process().children(recursive=True))  # PostgreSQL, say, for the tests before this one.
    with pytest.raises(Fell):
        supervisor.Supervisor([part], log=lambda sentence: None, when_ready=fall).run()
    assert set(psutil.Process().children(recursive=True)) - before == set()


def test_ends_with_make(tmp_path: Path, serve: Begin) -> None:
    """GNU make passes TERM on to the recipe that it runs; Ctrl-C reaches both by the terminal's process group."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "serve.py").write_text(SERVE)
    told = {"data": str(data), "parts": {"first": STEADY}, "grace": 10, "await_ready": True, "ready_within": 15}
    (data / "told").write_text(json.dumps(told))
    (tmp_path / "Makefile").write_text(f'run:\n\t@exec {sys.executable} data/serve.py "$$(cat data/told)"\n')
    with (data / "log").open("wb") as log:
        make = subprocess.Popen(["make", "run"], cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=log)
    wait_for((data / "first.pid").exists, "the part")
    wait_for(lambda: "all ready" in (data / "log").read_text(), "readiness")
    family = psutil.Process(make.pid).children(recursive=True)
    make.terminate()
    make.wait(15)
    wait_for(lambda: not any(alive(one.pid) for one in family), "the end of every process")
    assert not (data / supervisor.LOCK_FILE).exists()


def test_doubles_the_pause_up_to_half_a_minute() -> None:
    assert [supervisor.pause_before(restart) for restart in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert supervisor.pause_before(10_000) == 30


def test_refuses_a_data_folder_in_use(tmp_path: Path) -> None:
    with (
        supervisor.data_lock(tmp_path),
        pytest.raises(supervisor.DataFolderInUse, match=r"^Another emeritus is serving from .*\.$"),
        supervisor.data_lock(tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_takes_a_lock_that_nobody_holds_any_more(tmp_path: Path) -> None:
    (tmp_path / supervisor.LOCK_FILE).touch()
    with supervisor.data_lock(tmp_path):
        pass


def test_lets_only_one_of_many_hold_the_data_folder(tmp_path: Path) -> None:
    """Where a lock could be had on a file that was removed, two would be inside at once, and one would fall."""
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom workers.supervisor import DataFolderInUse, data_lock\n"
        "data = Path(sys.argv[1])\n"
        "for _ in range(4000):\n"
        "    try:\n"
        "        with data_lock(data):\n"
        "            os.mkdir(data / 'inside')\n"
        "            os.rmdir(data / 'inside')\n"
        "    except DataFolderInUse:\n"
        "        pass\n"
    )
    several = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(4)]
    assert [one.wait(30) for one in several] == [0, 0, 0, 0]


def test_refuses_a_taken_port() -> None:
    with socket.socket() as taken:
        # As granian listens: another that does the same would share the port.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(supervisor.PortTaken, match=f"^Port {port} on 127.0.0.1 is taken by another program"):
            supervisor.port_free("127.0.0.1", port)
    supervisor.port_free("127.0.0.1", port)


def test_takes_the_port_of_a_server_that_has_just_ended() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()  # The server closes first, so its end stays in TIME_WAIT.
            assert client.recv(1) == b""
    supervisor.port_free("127.0.0.1", port)


def test_refuses_an_address_that_is_not_ours() -> None:
    with pytest.raises(supervisor.PortRefused, match=r"^Port 8000 on 192\.0\.2\.1 cannot be used \("):
        supervisor.port_free("192.0.2.1", 8000)


def test_makes_a_private_data_folder(tmp_path: Path) -> None:
    data = tmp_path / "deep" / "data"
    supervisor.writable(data)
    assert data.stat().st_mode & 0o777 == 0o700
    assert list(data.iterdir()) == []


def test_refuses_a_data_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(supervisor.DataFolderReadOnly, match="Not a directory"):
        supervisor.writable(tmp_path / "file" / "data")
    with pytest.raises(supervisor.DataFolderReadOnly, match="it is no folder"):
        supervisor.writable(tmp_path / "file")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that even root cannot write to")
def test_refuses_a_data_folder_that_cannot_be_written() -> None:
    with pytest.raises(supervisor.DataFolderReadOnly, match=r"^Nothing can be written to the data folder /proc/self "):
        supervisor.writable(Path("/proc/self"))
