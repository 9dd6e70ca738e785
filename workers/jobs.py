"""The jobs, by the names that `bridge.queues` lists. Each takes ids and makes one call."""

from __future__ import annotations

import asyncio
import logging
from functools import cache

from redis.exceptions import RedisError

from bridge import queues, settings
from bridge.answer import batches, replies
from bridge.letter import admission, erased_before, erasure, mentions, retention
from bridge.mail import outbox, told
from bridge.page import checkpoints, shelf
from bridge.people import accounts
from bridge.records import Voice
from bridge.signal import signals
from bridge.site import Site, open_site
from bridge.voice import voices
from moderation import gate, takedowns
from workers import batching, endpoints, mentioning, posting, screening, sitting
from workers.claude import Claude
from workers.pace import Bounds, Pace
from workers.settings import WorkerSettings

log = logging.getLogger(__name__)


def answer_essay(essay_id: int) -> str:
    """Let the voice answer what waits under one essay (`workers.sitting`).

    Twice: the second finds nothing waiting. Halfway dead: the lease ends and the sweep asks again. No longer wanted:
    requests taken back are not claimed.
    """
    asked, site = _settings(), _site()
    with site.database.reading_sessions() as session:
        voice = voices.of_essay(session, essay_id)
    if voice is None or not sitting.is_left(site, essay_id):
        return sitting.NOTHING  # Before a client is made: many nudges find nothing.

    async def sit() -> str:
        await sitting.gather(site, essay_id, asked.gathering_seconds)
        async with _reach(voice) as model:
            bounds = Bounds(
                at_once=voice.calls_at_once,
                requests=voice.requests_a_minute,
                input_tokens=voice.input_tokens_a_minute,
                output_tokens=voice.output_tokens_a_minute,
            )
            pace = Pace(asked.redis, f"{model.who(voice.model)}:{voice.id}", bounds)
            try:
                return await sitting.answer(site, essay_id, model, at_once=asked.calls_at_once, pace=pace)
            finally:
                await pace.close()

    done = asyncio.run(sit())
    shelf.bring_up_to_date(site, essay_id)
    # What is left goes to the end of the queue, behind the other essays.
    if done != sitting.NOTHING and sitting.is_left(site, essay_id):
        site.nudges.nudge(essay_id)
    return done


def sweep() -> str:
    """Find what was forgotten: claims that outlived their worker, nudges that were lost, proposals that lapsed.

    What was erased is listed, and erased again if a backup brought it back (`letter.erased_before`): first, before
    anything of it is sent. What is kept no longer goes (`letter.retention`), and what was erased leaves the disk too
    (`letter.erasure`).

    Twice or halfway dead: each step is its own transaction and finds only what is still to do.
    """
    site = _site()
    erased_before.see_to(site)
    with site.database.sessions.begin() as session:
        lost = replies.forget_lost_claims(session)
        replies.forget_lost_waits(session)
    with site.database.sessions.begin() as session:
        lapsed = gate.lapse_proposals(session) + takedowns.lapse_takedowns(session)
    with site.database.reading_sessions() as session:
        waiting = replies.essays_waiting(session)
        away = batches.due(session)
        old = shelf.out_of_date(session, site.settings)
        mentioned = mentions.due(session)
    for essay_id in waiting:
        site.nudges.nudge(essay_id)
    for batch_id in away:
        site.nudges.nudge_batch(batch_id)
    for essay_id in old:
        site.nudges.nudge_pages(essay_id)
    for mention_id in mentioned:
        site.nudges.nudge_mention(mention_id)
    told.tell(site)
    with site.database.sessions.begin() as session:
        outbox.forget_words(session)
        accounts.forget_stays(session)
        admission.renew_keys(session)
        due = outbox.is_any_due(session)
    if due:
        site.nudges.nudge_outgoing()
    try:
        checkpoints.keep(site)
    except checkpoints.CheckpointRefused as refused:
        log.error("%s", refused)  # noqa: TRY400  (It says what a person is to do; where it was raised says nothing.)
    retention.let_go(site)
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
    """Compare waiting letters above *after* with the listed words as they are now (`signal.signals`).

    Twice or halfway dead: each letter then has what the list says, or what it had. No longer wanted: the list is read
    again for each page, so a later change is in it.
    """
    signals.look_again(_site(), after)
    return f"above {after}"


def fetch_batch(batch_id: int) -> str:
    """Fetch what came of a batch, if it has come (`workers.batching`).

    Twice: what is recorded already is left. Halfway dead: the next look records the rest. No longer wanted: what is not
    answered yet is cancelled, and what comes all the same is recorded.
    """
    site = _site()
    with site.database.reading_sessions() as session:
        voice = voices.of_batch(session, batch_id)
    if voice is None:
        return batching.NOTHING

    async def look() -> str:
        async with _reach(voice) as model:
            return await batching.fetch(site, batch_id, model)

    return asyncio.run(look())


def print_pages(essay_id: int) -> str:
    """Print what is missing or out of date of an essay's stored pages (`page.shelf`).

    Twice: the second finds nothing to print. Halfway dead: the sweep finds the rest. No longer wanted: of an essay that
    is out no more, what is stored is taken away.
    """
    return f"{shelf.bring_up_to_date(_site(), essay_id)} pages"


def see_to_mention(mention_id: int) -> str:
    """Look at a page that says it links here, or tell one that an essay links to it (`workers.mentioning`).

    Twice: the second finds it taken, or done. Halfway dead: the sweep finds it when its time is over, and a page may be
    told twice, which changes nothing there. No longer wanted: what is done or refused is not due.
    """
    return mentioning.see_to(_site(), mention_id)


def give_back(horse: str) -> None:
    """Let wait again at once what a dead process of this worker claimed; its lease would end within half a minute.

    For the worker itself, which must not keep a connection that its next child would inherit.
    """
    asked = _settings()
    site = open_site(asked)
    try:
        with site.database.sessions.begin() as session:
            essays = replies.forget_claims_of(session, horse)
    finally:
        site.database.dispose()
    for essay_id in essays:
        site.nudges.nudge(essay_id)


def nudge_sweep(redis_url: str) -> None:
    """Ask for a sweep now, for a worker that starts: what its predecessor left need not wait for the minute."""
    try:
        queues.enqueue(queues.queue(queues.connection(redis_url), queues.POST), "sweep")
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


def _reach(voice: Voice) -> Claude:
    return endpoints.reach(voice, _settings(), _rehearsal["url"] or _settings().rehearsal_url)
