"""Starting the rehearsal beside a worker that has no key."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from workers.settings import without_keys

READY_WITHIN = 30.0


class RehearsalSilent(Exception):
    """Raised when the rehearsal did not begin to answer."""

    def __init__(self) -> None:
        super().__init__("The rehearsal did not start. Set ANTHROPIC_API_KEY to ask the model itself.")


def command(port: int, *, parent: int | None = None) -> list[str]:
    """Return the command that runs the rehearsal on *port*, until *parent*, if given, is gone."""
    told = ["--parent", str(parent)] if parent is not None else []
    return [sys.executable, "-m", "workers.cli", "rehearsal", "--port", str(port), *told]


def free_port() -> int:
    """Return a port on 127.0.0.1 that nobody has now."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port


def answers(url: str) -> bool:
    """Say whether a rehearsal answers at *url*."""
    return says_ok(f"{url}/rehearsal/calls")


def says_ok(url: str) -> bool:
    """Say whether an address on this machine answers 200 within a second; no proxy is asked."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def started() -> Iterator[str]:
    """Run a rehearsal as long as this lasts, and yield its address. Raises `RehearsalSilent`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        command(port, parent=os.getpid()), env=without_keys(os.environ), stdin=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + READY_WITHIN
        while not answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RehearsalSilent
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()


def end_with(parent: int) -> None:
    """End this process by SIGTERM when *parent* is gone: a worker that was killed cannot say goodbye."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
