"""What it costs to read a correspondence and to add to it, beside a bare Flask page of equal size.

Both run under granian as `emeritus web` does. Milliseconds of CPU a request, over all processes of the server, from
/proc; the requests of all are taken in turns.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
from ground.house import ADA, SECRET_KEY, SLUG, VOICE, House, bearer, furnish, site_over
from sqlalchemy import select

from bench.queue import say
from bench.threads import fill
from bridge import db, migrate, outdated
from bridge.page import shelf
from bridge.people import accounts
from bridge.records import Essay
from bridge.server import HEADERS_WITHIN, THREADS, WORKERS

SIZES = (20, 200, 2000)
SHORT, LONG = 20, 2025
"""With the newest of its pages half full, as it is on average."""
TURNS, AT_ONCE, APPROVALS = 9, 1000, 25
READ, UNCHANGED, ALIKE, GROWTH = 1.5, 1.3, 1.2, 2.0
"""The aims of issue 6: of a read, a 304, between the sizes, and of an approval under 2,000 letters against 20."""
SURFACES = {"page": "/essays/{}", "embed": "/essays/{}/embed", "json": "/api/v1/essays/{}/thread"}
GRANIAN = (
    "from granian import Granian; from granian.constants import HTTPModes, Interfaces; "
    "from granian.http import HTTP1Settings; from granian.log import LogLevels; import sys; "
    "Granian('bench.floor:create_app', factory=True, interface=Interfaces.WSGI, address='127.0.0.1', "
    "port=int(sys.argv[1]), workers=int(sys.argv[2]), blocking_threads=int(sys.argv[3]), http=HTTPModes.http1, "
    "websockets=False, log_access=False, log_level=LogLevels.error, "
    "http1_settings=HTTP1Settings(header_read_timeout=int(sys.argv[4]))).serve()"
)


@dataclass
class Server:
    """A server that answers, and what it has used of the processors."""

    process: subprocess.Popen[bytes]
    port: int

    def __post_init__(self) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def used(self) -> float:
        """Return the CPU seconds of all its processes."""
        whole = psutil.Process(self.process.pid)
        times = [each.cpu_times() for each in (whole, *whole.children(recursive=True))]
        return sum(each.user + each.system for each in times)

    def get(self, path: str, **headers: str) -> tuple[int, bytes, str]:
        """Return status, body and tag of what it answers."""
        self.connection.request("GET", path, headers={"Accept-Encoding": "gzip", **headers})
        answer = self.connection.getresponse()
        return answer.status, answer.read(), answer.headers.get("ETag", "")


def main() -> None:
    """Measure, print a table, and exit with 1 if anything is over its aim."""
    logging.disable(logging.WARNING)  # No Redis runs here, which the site says.
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="emeritus-bench-"))
        stack.callback(shutil.rmtree, folder)
        house = furnished(folder)
        server = started(stack, web(folder), "/healthz")
        late = reads(stack, server) + approvals(house, server)
    if late:
        sys.exit(1)


def reads(stack: ExitStack, server: Server) -> int:
    """Measure what readers ask for; return how much of it is over its aim."""
    late = 0
    print(f"CPU milliseconds a request; the floor is a bare Flask page of equal size. Medians of {TURNS} turns.\n")
    print(f"{'':24}{'bytes':>9}{'floor':>9}{'read':>9}{'ratio':>8}{'304':>9}{'ratio':>8}")
    for name, address in SURFACES.items():
        costs = []
        for size in SIZES:
            path = address.format(slug_of(size))
            status, body, tag = server.get(path)
            if status != 200:
                sys.exit(f"{path} answered {status}: the measurement is broken.")
            floor = started(stack, bare(len(body)), "/")
            took = measured(
                {
                    "floor": (floor, lambda floor=floor: floor.get("/")[0] == 200),
                    "read": (server, lambda path=path: server.get(path)[0] == 200),
                    "304": (server, lambda path=path, tag=tag: server.get(path, **{"If-None-Match": tag})[0] == 304),
                }
            )
            floor.process.terminate()
            floor.process.wait()
            costs.append(took["read"] / took["floor"])
            unchanged = took["304"] / took["floor"]
            late += (costs[-1] > READ) + (unchanged > UNCHANGED)
            print(
                f"{name + f', {size:,} letters':24}{len(body):9,}{took['floor']:9.3f}{took['read']:9.3f}"
                f"{costs[-1]:8.2f}{took['304']:9.3f}{unchanged:8.2f}"
            )
        late += max(costs) / min(costs) > ALIKE
    print(f"\nThe aims: a read {READ}, a 304 {UNCHANGED}, the sizes within {ALIKE} of each other.\n")
    return late


def approvals(house: House, server: Server) -> int:
    """Measure approvals under a short and under a long thread; return whether the long one is over the aim."""
    took = dict.fromkeys((SHORT, LONG), 0.0)
    for turn in range(APPROVALS):
        say(f"approval {turn + 1} of {APPROVALS} ...")
        for size in took:
            sent = house.send(f"Letter {turn} of the measurement.", slug=slug_of(size))
            path = f"/api/v1/submissions/{house.submission(sent.public_id)}/approval"
            headers = {"Content-Type": "application/json", **bearer(house.tokens.ada)}
            before = server.used()
            server.connection.request("POST", path, json.dumps({"digest": sent.digest}), headers)
            answer = server.connection.getresponse()
            answer.read()
            if answer.status != 201:
                sys.exit(f"{path} answered {answer.status}: the measurement is broken.")
            took[size] += 1000 * (server.used() - before) / APPROVALS
    say("")
    ratio = took[LONG] / took[SHORT]
    print(f"An approval under {SHORT} letters costs {took[SHORT]:.1f} ms of CPU, under {LONG:,} {took[LONG]:.1f} ms:")
    print(f"{ratio:.2f} times as much. The aim: {GROWTH}.")
    return ratio > GROWTH


def measured(requests: dict[str, tuple[Server, Callable[[], bool]]]) -> dict[str, float]:
    """Return the median CPU milliseconds of each request, many of each at a time, all of them in turns."""
    took: dict[str, list[float]] = {name: [] for name in requests}
    for turn in range(TURNS + 1):
        say(f"turn {turn + 1} of {TURNS + 1} ...")
        for name, (server, ask) in requests.items():
            before = server.used()
            for _ in range(AT_ONCE):
                if not ask():
                    sys.exit(f"{name}: another answer came than is measured.")
            if turn:
                took[name].append(1000 * (server.used() - before) / AT_ONCE)
    say("")
    return {name: median(each) for name, each in took.items()}


def furnished(folder: Path, sizes: Iterable[int] = (*SIZES, LONG)) -> House:
    """Return a site with an essay for each size, its letters posted and its pages stored."""
    url = f"sqlite:///{folder / 'emeritus.db'}"
    engine = db.owner_engine(url)
    with engine.begin() as connection:
        migrate.upgrade(connection)
    site = site_over(db.connect(url), folder, rate_limits="off")
    house = House(site, furnish(site))
    with site.database.reading_sessions() as session:
        moderator = accounts.moderator_of(session, ADA)
    for size in sizes:
        say(f"{size:,} letters ...")
        if slug_of(size) != SLUG:
            house.essay(slug_of(size))
        with site.database.reading_sessions() as session:
            essay = session.scalars(select(Essay).where(Essay.slug == slug_of(size))).one()
        with engine.begin() as connection:
            fill(connection, essay, author=VOICE, moderator=moderator, letters=size)
        with site.database.sessions.begin() as session:
            outdated.mark_all(session, essay.id)
        shelf.bring_up_to_date(site, essay.id)
    engine.dispose()
    return house


def slug_of(size: int) -> str:
    """Return where the thread of this size stands."""
    return f"letters-{size}"


def web(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return how the site is served."""
    settings = {
        "EMERITUS_DATA": str(folder),
        "SECRET_KEY": SECRET_KEY,
        "RATE_LIMITS": "off",
        "EMERITUS_ENV_FILE": "/dev/null",
    }
    return [str(Path(sys.executable).with_name("emeritus")), "web"], settings


def bare(size: int) -> tuple[list[str], dict[str, str]]:
    """Return how the floor is served: as the site is."""
    return (
        [sys.executable, "-c", GRANIAN, "{port}", str(WORKERS), str(THREADS), str(HEADERS_WITHIN)],
        {"FLOOR_BYTES": str(size)},
    )


def started(stack: ExitStack, how: tuple[list[str], dict[str, str]], ready: str) -> Server:
    """Start a server on a free port, and return it once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command, settings = how
    process = subprocess.Popen(
        [each.replace("{port}", str(port)) for each in command],
        env={**os.environ, **settings, "PORT": str(port)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            server = Server(process, port)
            if server.get(ready)[0] == 200:
                return server
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{command[0]} did not answer: the measurement is broken.")


if __name__ == "__main__":
    main()
