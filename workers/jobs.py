"""The jobs, by the names that `bridge.queues` lists. Each takes ids and makes one call."""

from __future__ import annotations

import asyncio
import logging
from functools import cache

from redis.exceptions import RedisError

from bridge import queues, replies, settings
from bridge.site import Site, open_site
from moderation import gate
from workers import rehearsing, sitting
from workers.claude import Claude
from workers.settings import API, WorkerSettings

log = logging.getLogger(__name__)

REHEARSAL_KEY = "rehearsal"
"""The key given to the rehearsal: a constant, so that the SDK looks for no other."""


def answer_essay(essay_id: int) -> str:
    """Let the voice answer what waits under one essay (`workers.sitting`).

    Twice: the second finds nothing waiting. Halfway dead: the lease ends and the sweep asks again. No longer wanted:
    requests taken back are not claimed.
    """
    asked = _settings()

    async def sit() -> str:
        async with _model(asked) as model:
            return await sitting.answer(_site(), essay_id, model, at_once=asked.calls_at_once)

    return asyncio.run(sit())


def sweep() -> str:
    """Find what was forgotten: claims that outlived their worker, nudges that were lost, proposals that lapsed.

    Twice or halfway dead: each step is its own transaction and finds only what is still to do.
    """
    site = _site()
    with site.database.sessions.begin() as session:
        lost = replies.forget_lost_claims(session)
    with site.database.sessions.begin() as session:
        lapsed = gate.lapse_proposals(session)
    with site.database.reading_sessions() as session:
        waiting = replies.essays_waiting(session)
    for essay_id in waiting:
        site.nudges.nudge(essay_id)
    return f"{lost} lost claims, {len(lapsed)} lapsed proposals, {len(waiting)} essays nudged"


def nudge_sweep(redis_url: str) -> None:
    """Ask for a sweep now, for a worker that starts: what its predecessor left need not wait for the minute."""
    try:
        queues.enqueue(queues.queue(queues.connection(redis_url)), "sweep")
    except RedisError as error:
        log.warning("no first sweep: %s", type(error).__name__)


def ask_at(rehearsal_url: str | None) -> None:
    """Tell this worker, before it forks, where the rehearsal that was started for it answers."""
    _rehearsal["url"] = rehearsal_url


_rehearsal: dict[str, str | None] = {"url": None}


@cache
def _settings() -> WorkerSettings:
    return settings.load(WorkerSettings)


@cache
def _site() -> Site:
    return open_site(_settings())


def _model(asked: WorkerSettings) -> Claude:
    if asked.rehearses:
        url = _rehearsal["url"] or asked.rehearsal_url
        if url is None:
            raise rehearsing.RehearsalSilent
        return Claude(api_key=REHEARSAL_KEY, base_url=url, rehearsed=True)
    assert asked.anthropic_api_key is not None
    return Claude(api_key=asked.anthropic_api_key, base_url=asked.anthropic_base_url or API, rehearsed=False)
