"""`emeritus serve`: every part of the site, from one command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from redis.exceptions import RedisError

from bridge import queues
from bridge.server import HOST
from workers import rehearsing, supervisor, valkey
from workers.settings import WorkerSettings, without_keys
from workers.supervisor import Part, Supervisor


@contextmanager
def ground(asked: WorkerSettings) -> Iterator[int]:
    """Hold the data folder and check that the port is free; yield the lock. Raises `supervisor.CannotServe`."""
    supervisor.writable(asked.data)
    supervisor.port_free(HOST, asked.port)
    with supervisor.data_lock(asked.data) as lock:
        yield lock


def serve(asked: WorkerSettings, lock: int, *, when_ready: Callable[[], None]) -> int:
    """Run every part until told to end; return the exit code."""
    embedded = asked.redis_url is None
    if embedded:
        valkey.write_url(asked.data)
    parts = list(_parts(asked, embedded=embedded))
    try:
        return Supervisor(parts, log=_log, when_ready=when_ready, keep_open=[lock]).run()
    finally:
        if embedded:
            valkey.clear_away(asked.data)


def _parts(asked: WorkerSettings, *, embedded: bool) -> Iterator[Part]:
    common = {**os.environ, "EMERITUS_DATA": str(asked.data), "PORT": str(asked.port), "PYTHONUNBUFFERED": "1"}
    keyless = without_keys(common)
    redis_url = valkey.url(asked.data) if embedded else asked.redis
    if embedded:
        yield Part("valkey", valkey.server_command(asked.data), keyless, lambda: valkey.answers(redis_url))
    for_worker = common
    if asked.rehearses:
        port = rehearsing.free_port()
        url = f"http://{HOST}:{port}"
        yield Part("rehearsal", rehearsing.command(port), keyless, lambda: rehearsing.answers(url))
        for_worker = {**common, "REHEARSAL_URL": url}
    yield Part("worker", _command("worker", "--queue", "sittings"), for_worker, lambda: _works(redis_url, queues.QUEUE))
    # What it does speaks to no model, so it is not given the key of one.
    for_post = without_keys(common, of_models_only=True)
    yield Part("post", _command("worker", "--queue", "post"), for_post, lambda: _works(redis_url, queues.POST))
    yield Part("cron", _command("cron"), keyless)
    # Last, so that /healthz answers once every part is up.
    yield Part("web", _command("web"), keyless, lambda: rehearsing.says_ok(f"http://{HOST}:{asked.port}/healthz"))


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "workers.cli", *words]


def _works(redis_url: str, name: str) -> bool:
    """Whether a worker takes jobs from a queue."""
    try:
        return bool(queues.connection(redis_url).scard(f"rq:workers:{name}"))
    except RedisError:
        return False


def _log(sentence: str) -> None:
    click.echo(sentence, err=True)
