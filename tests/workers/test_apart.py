"""What strangers wrote, read in a process of its own: it ends, it holds no key, and it calls nobody."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from workers import apart

FEED = b'<rss version="2.0"><channel><title>t</title><item><title>x</title><link>https://b.example/x</link></item></channel></rss>'


def test_reads_a_feed() -> None:
    [entry] = apart.read("feed", FEED, address=None)
    assert (entry["link"], entry["title"]) == ("https://b.example/x", "x")


def test_passes_on_what_a_reader_refuses() -> None:
    with pytest.raises(apart.CouldNotBeRead, match="DOCTYPE"):
        apart.read("feed", b"<!DOCTYPE x><rss/>", address=None)


def test_waits_for_no_reading_for_long() -> None:
    with pytest.raises(apart.TooHard):
        apart.read("page", b"<a>", seconds=0.01, address="https://b.example/", target="https://a.example/")


@pytest.mark.parametrize("raw", [b"<b>" * 200_000, b"<div>" * 200_000])
def test_survives_what_is_nested_without_end(raw: bytes) -> None:
    with pytest.raises(apart.CouldNotBeRead):
        apart.read("page", raw, seconds=4, address="https://b.example/", target="https://a.example/")


def test_gives_a_reader_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, str] = {}
    real = subprocess.run

    def run(*command: object, **how: object) -> object:
        given.update(how["env"])  # type: ignore[call-overload]
        return real(*command, **how)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", run)
    for name in ("ANTHROPIC_API_KEY", "SECRET_KEY", "DATABASE_URL", "SMTP_URL"):
        monkeypatch.setenv(name, "canary")
    apart.read("feed", FEED, address=None)
    assert "canary" not in given.values()


OUTSIDE = """
import resource, socket, sys
from workers import apart
apart._bound(5)
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])))
except PermissionError as refused:
    print(refused)
try:
    held = bytearray(2 * apart.MEMORY)
except MemoryError:
    print("no memory")
"""


def test_lets_a_reader_call_nobody_and_fill_no_memory() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-c", OUTSIDE, str(listener.getsockname()[1])]
        folder = Path(__file__).parents[2]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=dict(os.environ), check=True)
    assert done.stdout.splitlines() == ["What reads strangers' words calls nobody.", "no memory"]
