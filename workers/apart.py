"""What strangers wrote is read in a process of its own, with little time and memory and no way out of it.

A parser that is led astray costs that process (SECURITY, T6 and Q3): who asked hears that it could not be read.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from bridge.essay import importing
from bridge.text import words

SECONDS = 20.0
MEMORY = 1024 * 1024 * 1024
"""Bytes of addresses; most of them are those of the interpreter and the libraries."""
_MOST_ANSWER = 64 * 1024 * 1024
_NEEDED = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "VIRTUAL_ENV")
_WAYS_OUT = frozenset({"socket.connect", "socket.getaddrinfo", "socket.sendto", "subprocess.Popen", "os.system"})


class CouldNotBeRead(Exception):
    """Raised when a reading came to no end, or was refused. One sentence, for a person."""


class TooHard(CouldNotBeRead):
    """Raised when it took more time or memory than there is, or its reader failed."""

    def __init__(self) -> None:
        super().__init__("It takes too long to read, or is nested too deeply.")


def _feed(raw: bytes, told: Mapping[str, Any]) -> Any:
    return [asdict(each) for each in importing.read_feed(raw, told["address"])]


def _entry(_raw: bytes, told: Mapping[str, Any]) -> Any:
    return importing.written(importing.Entry(**told))


def _page(raw: bytes, told: Mapping[str, Any]) -> Any:
    from bridge.essay import elsewhere  # Here and below: a worker that never reads needs none of its libraries.

    return asdict(elsewhere.read_page(raw, **told))


def _endpoint(raw: bytes, told: Mapping[str, Any]) -> Any:
    from bridge.essay import elsewhere

    return elsewhere.endpoint(raw, told["address"])


READERS: dict[str, Callable[[bytes, Mapping[str, Any]], Any]] = {
    "feed": _feed,
    "entry": _entry,
    "page": _page,
    "endpoint": _endpoint,
}


def read(what: str, raw: bytes = b"", *, seconds: float = SECONDS, **told: Any) -> Any:
    """Return what the reader of this name found in *raw*, as JSON has it. Raises `CouldNotBeRead`."""
    asked = json.dumps({"what": what, "seconds": seconds, "told": told}).encode() + b"\n" + raw
    try:
        done = subprocess.run(
            [sys.executable, "-m", "workers.apart"],
            input=asked,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # No key and no address of a database is needed to read.
            env={name: os.environ[name] for name in _NEEDED if name in os.environ},
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TooHard from None
    if done.returncode != 0 or len(done.stdout) > _MOST_ANSWER:
        raise TooHard
    answer = json.loads(done.stdout)
    if "refused" in answer:
        raise CouldNotBeRead(answer["refused"])
    return answer["found"]


def main() -> None:
    """Read what stands on the standard input, within bounds, and write what was found."""
    asked = json.loads(sys.stdin.buffer.readline())
    _bound(asked["seconds"])
    raw = sys.stdin.buffer.read()
    try:
        answer = {"found": READERS[asked["what"]](raw, asked["told"])}
    except (importing.FeedRefused, importing.EntryRefused, words.WordsRefused) as refused:
        answer = {"refused": str(refused)}
    # Half a surrogate pair is no UTF-8, so it goes as its number.
    sys.stdout.write(json.dumps(answer, ensure_ascii=True))


def _bound(seconds: float) -> None:
    # Not every system bounds addresses, and none lets a bound be raised again.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 1))
    sys.addaudithook(_refuse_ways_out)


def _refuse_ways_out(event: str, _arguments: object) -> None:
    if event in _WAYS_OUT:
        raise PermissionError("What reads strangers' words calls nobody.")


if __name__ == "__main__":
    main()
