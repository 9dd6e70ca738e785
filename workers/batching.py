"""What a voice is asked at half the price, in message batches: sent away by a sitting, fetched when it is answered.

If `send` runs twice, the second finds nothing claimed. If it dies between creating a batch and recording its name, the
batch is never created again blindly: `fetch` looks for it on the API's list. If the letters are no longer wanted, what
is not answered yet is cancelled, and what comes all the same is recorded and not submitted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from bridge.answer import batches
from bridge.answer.batches import Away, Begun
from bridge.answer.replies import Claimed, NoLongerPosted, VoicePaused
from bridge.records import Calls
from bridge.site import Site
from bridge.voice import prompt
from bridge.voice.model import BatchModel, BatchStanding, Model, PassingTrouble, Trouble, VoiceBlocked
from workers import asking
from workers.asking import Table
from workers.recording import Sleep, record, record_surely

log = logging.getLogger(__name__)

LIVE_FROM = 5
"""So many waiting together are cheaper live, by the cache, than in a batch (MODEL-API, section 2)."""
NOTHING = "nothing to do"


def goes_away(table: Table, waiting: int) -> bool:
    """Whether letters of which so many wait together go away in a batch, by their voice's way and where it is asked."""
    way = table.sitting.calls
    together = way is Calls.BATCH or (way is Calls.RULE and waiting < LIVE_FROM)
    return together and _serves_batches(table.model)


async def divided(table: Table, waiting: Sequence[Claimed]) -> tuple[list[Claimed], list[Claimed]]:
    """Return which of *waiting* are asked live, the first before the others, and which go away in a batch then.

    The rule: live from five that wait together, for the cache makes them cheaper than half the price. Before a batch
    goes away, one like it is seen answered; what was in batches often enough, or broke off there, is asked live.
    """
    sitting, model = table.sitting, table.model
    done = await record(table.site, batches.before, sitting)
    table.broken_off = {each: before.broken_off for each, before in done.items() if before.broken_off is not None}
    if not goes_away(table, len(waiting)):
        return list(waiting), []
    live = [each for each in waiting if each.comment_id in done and done[each.comment_id].live]
    away = [each for each in waiting if each not in live]
    if not live and await record(table.site, batches.needs_a_live_one, sitting, model.origin(sitting.api_version)):
        live, away = away[:1], away[1:]
    return live, away


async def send(table: Table, waiting: Sequence[Claimed]) -> int:
    """Send requests away in a batch; return how many went. What is refused is back to waiting, with the reason."""
    site, sitting, model = table.site, table.sitting, table.model
    assert isinstance(model, BatchModel)
    try:
        begun = await _begun(table, waiting)
    except (VoicePaused, NoLongerPosted):
        await asking.all_wait_again(table, waiting, None)
        return 0
    if begun is None:
        return 0
    try:
        remote_id = await model.create_batch(
            begun.entries, api_version=sitting.api_version, extra_body=sitting.extra_body
        )
    except PassingTrouble as trouble:
        log.info("batch %s may have been created: %s", begun.batch_id, type(trouble).__name__)
        await record_surely(site, table.sleep, batches.doubted, begun.batch_id, trouble.why)
    except Trouble as trouble:
        log.info("batch %s was refused: %s", begun.batch_id, type(trouble).__name__)
        await record_surely(site, table.sleep, batches.refused, begun.batch_id, trouble, tell=site)
        site.nudges.nudge_outgoing()
        return 0
    else:
        if not await record_surely(site, table.sleep, batches.created, begun.batch_id, remote_id):
            # It was given up while the answer was on its way, and what is in it waits elsewhere.
            await _cancel(model, remote_id)
    return len(begun.entries)


async def _begun(table: Table, waiting: Sequence[Claimed]) -> Begun | None:
    """Record that a batch is about to be sent, its requests built anew if words went away that they quote.

    Raises `VoicePaused`, and `NoLongerPosted` where words go away again and again.
    """
    site, origin = table.site, table.model.origin(table.sitting.api_version)
    for _ in range(asking.READ_AGAIN_AT_MOST):
        start = table.start
        entries = [
            # No marker for the cache: nobody knows how many in a batch would read what another wrote (section 2).
            (each, prompt.build(start, each.asked, site.keys, cached=False, measure=table.measure))
            for each in table.current(waiting)
        ]
        with suppress(NoLongerPosted):
            return await record(site, batches.begin, table.sitting, entries, origin, site.keys)
        await table.read_again(start)
    raise NoLongerPosted


async def fetch(site: Site, batch_id: int, model: Model, *, sleep: Sleep = asyncio.sleep) -> str:
    """Look at how a batch stands and record what has come of it; return a word for the log."""
    away = await record(site, batches.look, batch_id)
    if away is None:
        return NOTHING
    if not _serves_batches(model) or model.origin(None).host != away.host:
        # Its key is gone, say, and a rehearsal answers: to ask there would be to lose it.
        if away.seconds > batches.RESULTS_KEPT.total_seconds():
            await record(
                site, batches.lose, batch_id, "Its results were kept for 29 days, and nobody could ask for them."
            )
        return "sent elsewhere"
    assert isinstance(model, BatchModel)
    try:
        remote_id = away.remote_id or await _found(site, away, model, sleep)
        if remote_id is None:
            return "not found"
        return await _fetched(site, batch_id, remote_id, model, sleep)
    except Trouble as trouble:
        if trouble.status == 404:
            await record_surely(site, sleep, batches.lose, batch_id, "The API knows nothing of this batch any more.")
            return "lost"
        if isinstance(trouble, VoiceBlocked):
            await record_surely(site, sleep, batches.blocked, batch_id, trouble, tell=site)
            site.nudges.nudge_outgoing()
        else:
            await record_surely(site, sleep, batches.note, batch_id, trouble.why)
        log.info("batch %s: %s", batch_id, type(trouble).__name__)
        return "to be asked again"


async def _fetched(site: Site, batch_id: int, remote_id: str, model: BatchModel, sleep: Sleep) -> str:
    standing = await model.batch(remote_id)
    await record_surely(site, sleep, batches.note, batch_id, None)
    if not standing.ended:
        if not await record(site, batches.is_wanted, batch_id):
            await _cancel(model, remote_id)
            return "cancelled"
        return "not answered yet"
    lines = 0
    async for custom_id, result in model.batch_results(remote_id):
        # Each at once: a file that is cut off has its good lines first.
        await record_surely(site, sleep, batches.record_result, batch_id, custom_id, result, tell=site)
        lines += 1
    await record_surely(site, sleep, batches.conclude, batch_id, tell=site)
    await _delete(model, batch_id, remote_id)
    return f"{lines} results"


async def _found(site: Site, away: Away, model: BatchModel, sleep: Sleep) -> str | None:
    """Return what the API calls a batch whose creation nobody recorded; None if that is not known, or not yet.

    It is one that nobody else has, with as many requests; when it ends, its results have our names. Whatever the
    clocks say, those are tried first that were created next to when ours was begun.
    """
    recent = await model.recent_batches(away.created_at - batches.CLOCKS_DIFFER)
    taken = await record(site, batches.recorded, [each.remote_id for each in recent])
    likely = [each for each in recent if each.remote_id not in taken and each.requests == len(away.custom_ids)]
    likely.sort(key=lambda each: abs(each.created_at - away.created_at))
    for standing in likely:
        if await _is_ours(standing, away, model) and await record_surely(
            site, sleep, batches.created, away.batch_id, standing.remote_id
        ):
            return standing.remote_id
    if all(standing.ended for standing in likely) and away.seconds > batches.FIRST:
        await record_surely(site, sleep, batches.lose, away.batch_id, "It never came to be, as far as the API tells.")
    return None


async def _is_ours(standing: BatchStanding, away: Away, model: BatchModel) -> bool:
    if not standing.ended:
        return False
    names = set()
    try:
        async for custom_id, _ in model.batch_results(standing.remote_id):
            if custom_id not in away.custom_ids:
                return False
            names.add(custom_id)
    except Trouble as trouble:
        if trouble.status != 404:
            raise
        return False  # Its results are gone: ours would be kept still.
    return names == away.custom_ids


async def _cancel(model: BatchModel, remote_id: str) -> None:
    try:
        await model.cancel_batch(remote_id)
    except Trouble as trouble:  # It may have ended this moment; else the next look cancels it.
        log.info("a batch was not cancelled: %s", type(trouble).__name__)


async def _delete(model: BatchModel, batch_id: int, remote_id: str) -> None:
    """Have the API keep no words of a batch whose results are recorded: some may be erased here.

    Tried once, for nobody looks at the batch again: by itself it goes after 29 days.
    """
    try:
        await model.delete_batch(remote_id)
    except Trouble as trouble:
        if trouble.status != 404:
            log.warning(
                "batch %s stays at the API for 29 days; it was not deleted: %s", batch_id, type(trouble).__name__
            )


def _serves_batches(model: Model) -> bool:
    return isinstance(model, BatchModel) and model.batches
