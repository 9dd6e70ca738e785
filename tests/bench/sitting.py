"""What a sitting adds to the calls it makes: time and memory, against a bare loop that makes the same calls.

Sixty-four comments wait, the rehearsal takes a second, one worker has sixty-four slots. Both make the same requests in
the same order, one and then the others together, each in a process of its own and several times in turn.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from anthropic import AsyncAnthropic
from ground.house import sent
from ground.workshop import MODEL, SECRET, Workshop
from sqlalchemy import func, select

from bench.dollars import ESSAY
from bench.queue import say, sqlite
from bridge import db, migrate
from bridge.answer import replies
from bridge.keys import Keys
from bridge.queues import NoNudges
from bridge.records import ReplyRequest, RequestState
from bridge.settings import Settings
from bridge.site import Site
from workers import endpoints, rehearsing, sitting, valkey
from workers.claude import Claude
from workers.pace import Bounds, Pace

WAITING, LATENCY, ROUNDS = 64, 1.0, 3
AIM_TIME, AIM_MEMORY = 1.25, 0.5
"""How much longer than the bare loop, and how many megabytes more for a call in flight (issue 5)."""


def main() -> None:
    """Measure in turn and print a table; exit with 1 if anything is over its aim."""
    took: dict[str, list[float]] = {"bare": [], "sitting": []}
    grew: dict[str, list[float]] = {"bare": [], "sitting": []}
    with rehearsal(LATENCY) as url, served_valkey() as redis:
        for turn in range(ROUNDS):
            for which in took:
                say(f"round {turn + 1} of {ROUNDS}: {which} ...")
                seconds, megabytes = measured(which, url, redis)
                took[which].append(seconds)
                grew[which].append(megabytes / WAITING)
    say("")
    ratio = median(took["sitting"]) / median(took["bare"])
    more = median(grew["sitting"]) - median(grew["bare"])
    print(f"{WAITING} comments wait, {LATENCY:g} s latency, {WAITING} slots; medians of {ROUNDS}.\n")
    print(f"{'':34}{'bare loop':>12}{'sitting':>12}{'':>9}")
    print(f"{'seconds':34}{median(took['bare']):12.2f}{median(took['sitting']):12.2f}{ratio:9.2f}")
    print(f"{'MB for a call in flight':34}{median(grew['bare']):12.2f}{median(grew['sitting']):12.2f}{more:+9.2f}")
    print(f"\nThe aims: at most {AIM_TIME} times as long, under {AIM_MEMORY} MB more for a call.\n")
    if ratio > AIM_TIME or more >= AIM_MEMORY:
        sys.exit(1)


def measured(which: str, url: str, redis: str) -> tuple[float, float]:
    """Run one of the two in a process of its own; return its seconds and the megabytes it grew by."""
    with sqlite(which) as database, tempfile.TemporaryDirectory(prefix="emeritus-bench-") as folder:
        environment = {**os.environ, "NO_PROXY": "127.0.0.1", "PYTHONPATH": "tests"}
        # Furnished in another process: what that leaves of its memory would be taken for the calls'.
        for part in ("furnish", which):
            run = subprocess.run(
                [sys.executable, "-m", "bench.sitting", part, url, redis, database, folder],
                env=environment,
                check=True,
                capture_output=True,
                text=True,
            )
    told = json.loads(run.stdout.splitlines()[-1])
    return told["seconds"], told["megabytes"]


def furnish(database_url: str, folder: Path) -> None:
    """Let letters wait: two under one essay to warm up with, and those that count under another."""
    engine = db.owner_engine(database_url)
    with engine.begin() as connection:
        migrate.upgrade(connection)
    engine.dispose()
    workshop = Workshop(db.connect(database_url), folder)
    elsewhere = workshop.essay("# Warming up\n\nBefore it counts.")
    measured_under = workshop.essay(ESSAY)
    for number in range(2):
        workshop.asked(f"Warm {number}.", essay_id=elsewhere)
    for number in range(WAITING):
        workshop.asked(f"Letter {number}. " + "What do you make of it? " * 8, essay_id=measured_under)


def one(which: str, url: str, redis: str, database_url: str, folder: Path) -> None:
    """Be the process that is measured: warm up, and time the calls."""
    site = Site(
        Settings(_env_file=None, emeritus_data=folder, secret_key=SECRET),  # type: ignore[call-arg]
        db.connect(database_url),
        NoNudges(),
        Keys(SECRET),
    )
    with site.database.reading_sessions() as session:
        elsewhere, measured_under = sorted(session.scalars(select(ReplyRequest.essay_id).distinct()))

    async def hold(essay_id: int) -> None:
        async with Claude(api_key=endpoints.OPENS_NOTHING, base_url=url, rehearsed=True) as claude:
            pace = Pace(redis, claude.who(MODEL), Bounds())
            await sitting.answer(site, essay_id, claude, at_once=WAITING, pace=pace)
            await pace.close()

    async def loop(requests: list[dict[str, Any]]) -> None:
        async with AsyncAnthropic(api_key="bare", base_url=url, max_retries=0) as client:
            await client.messages.create(**requests[0])
            await asyncio.gather(*(client.messages.create(**request) for request in requests[1:]))

    asyncio.run(hold(elsewhere))
    if which == "bare":
        with site.database.sessions.begin() as session:
            held = replies.begin_sitting(session, measured_under)
            assert held is not None
            requests = [sent(held, claimed, site.keys).request for claimed in held.claimed]
    with growth() as grown:
        begun = time.perf_counter()
        asyncio.run(loop(requests) if which == "bare" else hold(measured_under))
        seconds = time.perf_counter() - begun
    with site.database.reading_sessions() as session:
        answered = session.scalar(select(func.count()).where(ReplyRequest.state == RequestState.ANSWERED.value))
    if which == "sitting" and answered != WAITING + 2:
        sys.exit("Not every letter was answered: the measurement is broken.")
    print(json.dumps({"seconds": seconds, "megabytes": grown[0]}))


@contextmanager
def growth() -> Iterator[list[float]]:
    """Watch this process's memory; the list that is yielded holds at the end by how many megabytes it grew at most."""
    page = os.sysconf("SC_PAGE_SIZE") / 2**20
    over = threading.Event()
    found: list[float] = []

    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * page

    def watch(before: float, most: float) -> None:
        while not over.wait(0.01):
            most = max(most, resident())
        found.append(most - before)

    watching = threading.Thread(target=watch, args=(resident(), 0.0))
    watching.start()
    try:
        yield found
    finally:
        over.set()
        watching.join()


@contextmanager
def served_valkey() -> Iterator[str]:
    """Run a Valkey, in which the pace is kept, and yield its address."""
    with tempfile.TemporaryDirectory(prefix="emeritus-bench-", dir="/tmp") as folder:
        server = subprocess.Popen(
            valkey.server_command(Path(folder)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        try:
            valkey.await_ready(valkey.url(Path(folder)), 10)
            yield valkey.url(Path(folder))
        finally:
            server.terminate()
            server.wait()


@contextmanager
def rehearsal(latency: float, **settings: str) -> Iterator[str]:
    """Run the rehearsal in a process of its own; yield its address."""
    port = rehearsing.free_port()
    environment = {**os.environ, "EMERITUS_ENV_FILE": os.devnull, "REHEARSAL_LATENCY": str(latency), **settings}
    process = subprocess.Popen(rehearsing.command(port), env=environment, stdin=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        while not rehearsing.answers(url):
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    elif sys.argv[1] == "furnish":
        furnish(sys.argv[4], Path(sys.argv[5]))
    else:
        one(*sys.argv[1:5], Path(sys.argv[5]))
