"""One sitting: a voice answers what is waiting under one essay.

If it runs twice, the second finds nothing waiting: a request is claimed by one sitting at a time. If it dies halfway,
its claims end with their lease and the sweep gives them to another; answers already recorded stay. If a comment is
taken back, the voice paused or its budget spent, the next call is not made; to a comment taken back, an answer that
still comes is recorded and not submitted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from sqlalchemy.exc import InterfaceError, OperationalError

from bridge.answer import replies
from bridge.answer.replies import Claimed, Sitting
from bridge.site import Site
from bridge.voice import prompt
from bridge.voice.model import Model
from bridge.voice.prompt import Beginning, Measure
from workers import asking, batching, choosing
from workers.asking import Table
from workers.pace import NoPace, Pace
from workers.recording import record

log = logging.getLogger(__name__)

RENEW_EVERY = 10
"""Seconds between renewals of a lease of 30: one may fail."""
NOTHING = "nothing to do"
EVERYTHING = 10**9
"""Tokens of memory: more than anybody writes under an essay."""
SITTING_SECONDS = 600
"""Seconds after which a sitting makes no further call; with a call's deadline it stays under the job's timeout."""
Sleep = Callable[[float], Awaitable[None]]


async def gather(site: Site, essay_id: int, seconds: float, *, sleep: Sleep = asyncio.sleep) -> None:
    """Wait until what began to wait under an essay had so many *seconds* for more to join it."""
    if seconds:
        await sleep(await record(site, replies.gathering, essay_id, seconds))


def is_left(site: Site, essay_id: int) -> bool:
    """Whether more waits under an essay now than its sitting took on."""
    with site.database.reading_sessions() as session:
        return replies.waits_under(session, essay_id)


async def answer(
    site: Site,
    essay_id: int,
    model: Model,
    *,
    at_once: int,
    pace: Pace | None = None,
    sleep: Sleep = asyncio.sleep,
) -> str:
    """Answer what waits under an essay, at most *at_once* calls together; return a word for the log."""
    sitting = await record(site, replies.begin_sitting, essay_id)
    if sitting is None or not sitting.claimed:
        return NOTHING
    pace = pace or NoPace()
    over = asyncio.Event()
    renewing = asyncio.create_task(_keep_claims(site, sitting, pace, over))
    try:
        start, measure = await _beginning(site, sitting, model)
        before = _as_before(site, sitting)
        table = Table(
            site=site,
            sitting=sitting,
            model=model,
            start=before or start,
            measure=measure,
            written=before,
            pace=pace,
            room=asyncio.Semaphore(at_once),
            sleep=sleep,
            until=asyncio.get_running_loop().time() + SITTING_SECONDS,
        )
        return await _hold(table)
    finally:
        # Not cancelled: a thread would go on writing, and hold a connection, when nobody waits for it any more.
        over.set()
        await renewing


async def _hold(table: Table) -> str:
    sitting = table.sitting
    picked = await choosing.pick(table, sitting.claimed)
    live, away = await batching.divided(table, picked.letters) if picked.letters else ([], [])
    table.cached = len(live) > 1 or table.written is table.start or sitting.others_soon
    sent = 0
    if (not live or await _live(table, live)) and (table.answered or not live):
        sent = await batching.send(table, away) if away else 0
    else:
        for each in away:
            await asking.wait_again(table, each, None)
    return f"{len(live)} asked, {sent} in a batch" if away else f"{len(live)} asked"


async def _live(table: Table, waiting: Sequence[Claimed]) -> bool:
    """Ask for one, and for the others together when it has ended; return whether still others may be asked."""
    others = [*waiting]
    # The others find its prefix in the cache, and if the API refuses it, they are spared. One for which no call was
    # made, or none that was answered, has shown nothing yet; nor has a choice that was made with less to read.
    while others and not (table.answered and table.written is table.start):
        if not await asking.ask(table, others.pop(0), canary=True):
            await asking.all_wait_again(table, others, None)
            return False
    rest = (asking.ask(table, each) for each in others)
    # One whose record failed must not cost the others their answers, which are on their way and paid for.
    for ended in await asyncio.gather(*rest, return_exceptions=True):
        if isinstance(ended, BaseException):
            raise ended
    return True


async def _beginning(site: Site, sitting: Sitting, model: Model) -> tuple[Beginning, Measure]:
    """Lay out what the calls share; where the estimate left something out, by the API's own count, if it gives one."""
    measure = Measure()
    start = prompt.beginning(sitting.told, site.keys, measure=measure)
    if not start.whole:
        tried = prompt.build(start, sitting.claimed[0].asked, site.keys, cached=False)
        counted = await model.count(tried.request, api_version=sitting.api_version)
        if counted is not None:
            measure = measure.counted(tried.request, counted)
            start = prompt.beginning(sitting.told, site.keys, measure=measure)
    return start, measure


def _as_before(site: Site, sitting: Sitting) -> Beginning | None:
    """Lay out once more what the last call shared, where the cache has it and letters wait for the pace; else None."""
    cached = sitting.cached
    if cached is None:
        return None
    # All that it was made from found room then.
    start = prompt.beginning(replace(cached.told, memory=EVERYTHING), site.keys)
    return replace(start, told=cached.told) if start.recipe == cached.shared else None


async def _keep_claims(site: Site, sitting: Sitting, pace: Pace, over: asyncio.Event) -> None:
    """Renew the lease and the places among the calls at once until it is *over*: who dies stops, and both are free."""
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), RENEW_EVERY)
        if over.is_set():
            return
        pace.keep_places()
        try:
            await record(site, replies.renew, sitting.lease)
        except (
            OperationalError,
            InterfaceError,
        ) as error:  # The database is busy or restarting; the lease outlasts one of these.
            log.warning("a lease was not renewed: %s", type(error).__name__)
