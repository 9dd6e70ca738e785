"""One sitting: a voice answers what is waiting under one essay.

If it runs twice, the second finds nothing waiting: a request is claimed by one sitting at a time. If it dies halfway,
its claims end with their lease and the sweep gives them to another; answers already recorded stay. If a comment is
taken back, the voice paused or its budget spent, the next call is not made; to a comment taken back, an answer that
still comes is recorded and not submitted.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from bridge import replies
from bridge.budgets import BudgetSpent
from bridge.model import (
    Answer,
    Model,
    ModelBusy,
    Outcome,
    PassingTrouble,
    RequestRefused,
    Trouble,
    VoiceBlocked,
)
from bridge.prompt import Prompt
from bridge.records import RequestState
from bridge.replies import Claimed, Sitting, VoicePaused
from bridge.site import Site

log = logging.getLogger(__name__)

RENEW_EVERY = 10
"""Seconds between renewals of a lease of 30: one may fail."""
SITTING_SECONDS = 600
"""Seconds after which a sitting makes no further call; with a call's deadline it stays under the job's timeout."""
LONGEST_WAIT_HERE = 20
"""Seconds; a longer wait goes back to the queue."""
_P = ParamSpec("_P")
_R = TypeVar("_R")
Sleep = Callable[[float], Awaitable[None]]


async def answer(site: Site, essay_id: int, model: Model, *, at_once: int, sleep: Sleep = asyncio.sleep) -> str:
    """Answer what waits under an essay, at most *at_once* calls together; return a word for the log."""
    sitting = await _record(site, replies.begin_sitting, essay_id, site.keys)
    if sitting is None or not sitting.claimed:
        return "nothing to do"
    until = asyncio.get_running_loop().time() + SITTING_SECONDS
    renewing = asyncio.create_task(_keep_lease(site, sitting))
    room = asyncio.Semaphore(at_once)
    try:
        # The first alone: the others find its prefix in the cache, and if the API refuses it, they are spared.
        first, *others = sitting.claimed
        goes_on = await _answer_one(site, sitting, first, model, room, sleep, until, canary=True)
        if goes_on:
            rest = (_answer_one(site, sitting, each, model, room, sleep, until) for each in others)
            # One whose record failed must not cost the others their answers, which are on their way and paid for.
            for ended in await asyncio.gather(*rest, return_exceptions=True):
                if isinstance(ended, BaseException):
                    raise ended
        else:
            for each in others:
                await _wait_again(site, sitting, each, None)
    finally:
        renewing.cancel()
        with suppress(asyncio.CancelledError):
            await renewing
    return f"{len(sitting.claimed)} asked"


async def _answer_one(
    site: Site,
    sitting: Sitting,
    claimed: Claimed,
    model: Model,
    room: asyncio.Semaphore,
    sleep: Sleep,
    until: float,
    *,
    canary: bool = False,
) -> bool:
    """See one request through to an outcome or back to waiting; return whether the others may be asked.

    The one layer that tries again: the SDK does not.
    """
    sent, tries, shortened, last, cut_off = claimed.prompt, 0, False, False, None
    while True:
        if asyncio.get_running_loop().time() > until:
            await _wait_again(site, sitting, claimed, None)
            return False
        try:
            async with room:
                state, answered = await _one_call(site, sitting, claimed, model, sent, final=last)
        except VoicePaused:
            await _wait_again(site, sitting, claimed, None)
            return False
        except BudgetSpent as spent:
            # The others under this essay would find no more left than the first of them did.
            for each in sitting.claimed if canary else (claimed,):
                await _wait_again(site, sitting, each, spent.why, until=spent.until)
            return False
        except VoiceBlocked as trouble:
            await _record(site, replies.pause_voice, sitting.voice_id, trouble.why)
            await _wait_again(site, sitting, claimed, trouble.why)
            return False
        except ModelBusy as trouble:
            if trouble.seconds > LONGEST_WAIT_HERE or tries >= 3:
                await _wait_again(site, sitting, claimed, trouble.why, seconds=trouble.seconds)
                return False
            tries += 1
            await sleep(trouble.seconds)
        except RequestRefused as trouble:
            if trouble.too_long and not shortened and not last:
                sent, shortened = sent.shortened(), True
                continue
            why = cut_off or trouble.why
            await _record(site, replies.give_up, sitting, claimed, why)
            if canary and not trouble.too_long and not cut_off:
                await _record(site, replies.pause_voice, sitting.voice_id, why)
                return False
            return True
        except PassingTrouble as trouble:
            tries += 1
            if tries >= trouble.tries:
                await _record(site, replies.count_failure, sitting.voice_id, trouble.why)
                await _wait_again(site, sitting, claimed, trouble.why, seconds=trouble.longest_wait)
                return not canary
            wait = min(trouble.longest_wait, trouble.first_wait * 2**tries)
            await sleep(wait * random.uniform(0.5, 1))  # noqa: S311
        else:
            if answered is None or state is not RequestState.ASKING:
                return True
            last = True
            if answered.outcome is Outcome.NOTE_ONLY:
                sent = sent.continued(answered.message["content"])
            else:
                cut_off, sent = answered.why, sent.roomier()


async def _one_call(
    site: Site, sitting: Sitting, claimed: Claimed, model: Model, sent: Prompt, *, final: bool
) -> tuple[RequestState | None, Answer | None]:
    """Make one call between two short transactions: its record before, its outcome after. Raises `Trouble`."""
    origin = model.origin(sitting.api_version)
    generation = await _record(site, replies.begin_generation, sitting, claimed, sent, origin, site.keys)
    if generation is None:
        return None, None
    try:
        answered = await model.ask(sent.request, api_version=sitting.api_version, extra_body=sitting.extra_body)
    except Trouble as trouble:
        log.info("comment %s, generation %s: %s", claimed.comment_id, generation, type(trouble).__name__)
        await _record(site, replies.record_trouble, generation, trouble)
        raise
    state = await _record(site, replies.record_answer, sitting, claimed, generation, answered, final=final)
    return state, answered


async def _wait_again(
    site: Site, sitting: Sitting, claimed: Claimed, why: str | None, *, seconds: float = 0, until: float | None = None
) -> None:
    await _record(site, replies.wait_again, sitting, claimed, why, seconds=seconds, until=until)


async def _keep_lease(site: Site, sitting: Sitting) -> None:
    while True:
        await asyncio.sleep(RENEW_EVERY)
        try:
            await _record(site, replies.renew, sitting.lease)
        except OperationalError as error:  # The database is busy or restarting; the lease outlasts one of these.
            log.warning("a lease was not renewed: %s", type(error).__name__)


async def _record(site: Site, step: Callable[Concatenate[Session, _P], _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Run *step* in a transaction of its own, in a thread: a database that waits must not stop the other calls."""

    def run() -> _R:
        with site.database.sessions.begin() as session:
            return step(session, *args, **kwargs)

    return await asyncio.to_thread(run)
