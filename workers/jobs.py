"""The jobs, by the names that `bridge.queues` lists. Each takes ids and makes one call."""

from __future__ import annotations

import asyncio
import logging
from functools import cache

from redis.exceptions import RedisError

from bridge import accounts, checkpoints, erasure, outbox, queues, replies, settings, signals, told
from bridge.site import Site, open_site
from moderation import gate, takedowns
from workers import posting, rehearsing, screening, sitting
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

    What was erased leaves the disk too (`bridge.erasure`).

    Twice or halfway dead: each step is its own transaction and finds only what is still to do.
    """
    site = _site()
    with site.database.sessions.begin() as session:
        lost = replies.forget_lost_claims(session)
    with site.database.sessions.begin() as session:
        lapsed = gate.lapse_proposals(session) + takedowns.lapse_takedowns(session)
    with site.database.reading_sessions() as session:
        waiting = replies.essays_waiting(session)
    for essay_id in waiting:
        site.nudges.nudge(essay_id)
    told.tell(site)
    with site.database.sessions.begin() as session:
        outbox.forget_words(session)
        accounts.forget_stays(session)
        due = outbox.is_any_due(session)
    if due:
        site.nudges.nudge_outgoing()
    try:
        checkpoints.keep(site)
    except checkpoints.CheckpointRefused as refused:
        log.error("%s", refused)  # noqa: TRY400  (It says what a person is to do; where it was raised says nothing.)
    erasure.clean_disk(site)
    return f"{lost} lost claims, {len(lapsed)} lapsed proposals, {len(waiting)} essays nudged"


def send_outgoing() -> str:
    """Send the mail and the webhook's messages that are due (`workers.posting`).

    Twice: each takes what the other has not. Halfway dead: the one in hand is never sent again, and the desk shows it.
    No longer wanted: what was put down once is sent.
    """
    return posting.send_what_waits(_site(), _settings())


def screen_comment(submission_id: int) -> str:
    """Ask the operator's services about a letter that waits (`workers.screening`).

    Twice: the second answer replaces the first. Halfway dead: the letter waits as it did, with no advice of theirs. No
    longer wanted: a letter that does not wait any more is told to nobody.
    """
    return asyncio.run(screening.screen(_site(), _settings(), submission_id))


def look_again(after: int) -> str:
    """Compare waiting letters above *after* with the listed words as they are now (`bridge.signals`).

    Twice or halfway dead: each letter then has what the list says, or what it had. No longer wanted: the list is read
    again for each page, so a later change is in it.
    """
    signals.look_again(_site(), after)
    return f"above {after}"


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
