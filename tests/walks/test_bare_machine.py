"""What a machine with nothing but Python gets: a wheel that serves, plain refusals, and a server that slow clients
cannot stop.
"""

import re
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from ground.installation import EMERITUS, ROOT, Installation, free_port, newcomers_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SLOW_CLIENTS = 200


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from the checkout, with nothing fetched."""
    out = tmp_path_factory.mktemp("dist")
    command: list[str | Path] = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    [built] = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Install the wheel into an empty environment of its own, far from the checkout; it is not started yet."""
    home = tmp_path_factory.mktemp("elsewhere")
    venv = home / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True, timeout=60)
    [packages] = (venv / "lib").glob("python*/site-packages")
    # The dependencies are those of this environment; what it says of the checkout itself (its own .pth) is not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", venv / "bin" / "python", "install", "--quiet"]
    options = ["--no-deps", "--no-index", "--ignore-installed", "--disable-pip-version-check"]
    subprocess.run([*pip, *options, wheel], check=True, timeout=60)
    installed = Installation(home, {"REHEARSAL_LATENCY": "0.05"}, emeritus=venv / "bin" / "emeritus", cwd=home / "venv")
    yield installed
    installed.destroy()


def test_serves_from_a_wheel_and_keeps_its_data_when_it_is_run_again(elsewhere: Installation, wheel: Path) -> None:
    venv = elsewhere.home / "venv"
    where: list[str | Path] = [
        venv / "bin" / "python",
        "-c",
        "import bridge, workers.cli; print(bridge.__file__, workers.__file__)",
    ]
    found = subprocess.run(where, cwd=elsewhere.cwd, capture_output=True, text=True, timeout=60, check=True)
    assert all(Path(path).is_relative_to(venv) for path in found.stdout.split()), found.stdout
    elsewhere.start()
    assert elsewhere.password
    mark = elsewhere.mark()
    elsewhere.comment("how-to-fold-a-letter", f"Does this stay? {mark}")
    page = elsewhere.call("GET", "/essays/how-to-fold-a-letter")
    assert (page.status, "How to fold a letter" in page.text) == (200, True)
    assert elsewhere.call("GET", "/static/emeritus.css").status == 200
    assert elsewhere.call("GET", "/static/form.js").status == 200
    elsewhere.stop(signal.SIGINT)
    first = elsewhere.password

    elsewhere.password = ""
    elsewhere.start()
    elsewhere.admit_moderator()
    assert [mark in each["body"] for each in elsewhere.queue()] == [True]
    assert len(elsewhere.ask("SELECT 1 FROM essays")) == 3
    # A password is shown once; the second time it is not even known.
    assert (elsewhere.password, elsewhere.said.count(first)) == ("", 1)
    elsewhere.stop(signal.SIGTERM)


def test_refuses_what_it_cannot_serve_from_in_one_sentence(installation: Installation, tmp_path: Path) -> None:
    a_file = tmp_path / "a-file"
    a_file.write_text("not a folder\n")
    unmade = tmp_path / "unmade"
    taken = {"EMERITUS_DATA": str(tmp_path / "new"), "PORT": str(installation.port)}
    refused = [
        ("demo", taken, rf"Port {installation.port} on 127\.0\.0\.1 is taken"),
        (
            "web",
            {**taken, "EMERITUS_DATA": str(installation.data)},
            rf"Port {installation.port} on 127\.0\.0\.1 is taken",
        ),
        (
            "demo",
            {"EMERITUS_DATA": str(a_file / "data"), "PORT": str(free_port())},
            f"Nothing can be written to the data folder {re.escape(str(a_file))}/data",
        ),
        (
            "serve",
            {"EMERITUS_DATA": str(unmade), "PORT": str(free_port())},
            r"(There is no database yet|The database is empty)\. Run `emeritus migrate` first\.",
        ),
        (
            "serve",
            {"EMERITUS_DATA": str(installation.data), "PORT": str(free_port())},
            "Another emeritus is serving from",
        ),
        ("serve", {"EMERITUS_DATA": str(unmade), "PORT": "eight"}, "PORT: "),
    ]
    with ExitStack() as stack:
        # Side by side, since each takes its second or two to start.
        running = [
            stack.enter_context(
                subprocess.Popen(
                    [EMERITUS, command],
                    env=newcomers_environment(**settings),
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for command, settings, _ in refused
        ]
        for process, (command, settings, sentence) in zip(running, refused, strict=True):
            out, err = process.communicate(timeout=60)
            assert (process.returncode, out) == (1, ""), (command, settings, out, err)
            assert re.match(f"Error: {sentence}", err), (command, settings, err)
            assert err.count("\n") == 1, err
    assert not (unmade / "emeritus.lock").exists()
    assert installation.call("GET", "/healthz").status == 200


HALF_HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Half: "
HALF_BODY = (
    b"POST /api/v1/essays/how-to-fold-a-letter/comments HTTP/1.1\r\nHost: localhost\r\n"
    b'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"author": "slow'
)


@pytest.mark.parametrize("half", [HALF_HEAD, HALF_BODY], ids=["half heads", "half bodies"])
def test_answers_beside_two_hundred_slow_clients(installation: Installation, half: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(SLOW_CLIENTS):
            client = socket.create_connection(("127.0.0.1", installation.port), timeout=10)
            stack.enter_context(client)
            client.sendall(half)
        for _ in range(10):
            assert installation.call("GET", "/healthz", within=10).status == 200
        assert installation.call("GET", "/essays/how-to-fold-a-letter", within=10).status == 200
    assert installation.ask("SELECT count(*) FROM submissions WHERE author = 'slow'") == [(0,)]
