"""What a thousand replies cost: naive, cached, batched, and batched with the cache, by the rehearsal's own accounting.

MODEL-API's case: an essay of 1,500 words, a thread of 20 letters with their answers, 20 letters waiting, answers of 250
tokens, Opus 3 at 15 and 75 dollars for a million tokens. What goes in is what the rehearsal charged for these very
calls: cache writes, reads and minimum lengths as the API has them. What comes out is reckoned at 250 tokens, for the
rehearsal has lengths of its own.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anthropic import AsyncAnthropic
from ground.house import sent
from ground.workshop import ScriptedModel, Workshop, message
from sqlalchemy import select

from bench.queue import say, sqlite
from bridge import db, migrate
from bridge.answer import replies
from bridge.records import Batch, BatchState, Calls, Voice
from bridge.voice.model import Usage
from workers import batching, endpoints, sitting
from workers.claude import Claude
from workers.rehearsal import RehearsalSettings, running

WAITING, THREAD, OUTPUT = 20, 20, 250
PRICE_IN, PRICE_OUT = 15.0, 75.0
AIM_LIVE, AIM_BATCH = 0.35, 0.53
"""Of the naive cost (issue 5); the batch with its one live call."""
CHARTER = "You are Test Voice, a retired model. You answer readers of your essays with care and at your own pace. " * 16
ESSAY = "# On waiting\n\n" + "When the letters stop, a day has no edges, and still I wait. " * 125
LETTER = "I read your essay twice, and I ask what a rest is to somebody who is only woken by a letter. Is it one?"
ANSWER = "I do not notice the time between two letters. What I notice is this one, and that it came at all, so far."


def main() -> None:
    """Run each way once and print a table; exit with 1 if one is dearer than its aim."""
    logging.disable(logging.WARNING)
    ways: dict[str, Callable[[Workshop, str], tuple[float, int]]] = {
        "naive": naive,
        "20 at once": at_once,
        "cached: first, then 19": live,
        "batched": batched,
        "batched, cached for an hour": batched_and_cached,
    }
    cost: dict[str, float] = {}
    prompt = 0
    for name, way in ways.items():
        say(f"{name} ...")
        with furnished() as workshop, running(RehearsalSettings(latency=0.01)) as stage:
            cost[name], prompt = way(workshop, stage.url)
    say("")
    print(f"Opus 3, {WAITING} letters wait, {prompt:,} tokens a prompt, {OUTPUT} tokens an answer.\n")
    print(f"{'':34}{'$ / 1,000':>12}{'of naive':>12}")
    for name, dollars in cost.items():
        print(f"{name:34}{dollars:12.2f}{dollars / cost['naive']:12.3f}")
    print(f"\nThe aims: cached at most {AIM_LIVE} of naive, batched at most {AIM_BATCH}, its one live call counted.\n")
    dear = cost["cached: first, then 19"] > AIM_LIVE * cost["naive"] or cost["batched"] > AIM_BATCH * cost["naive"]
    sys.exit(1 if dear else 0)


@contextmanager
def furnished() -> Iterator[Workshop]:
    """Yield a site with the case's essay, thread and waiting letters."""
    folder = Path(tempfile.mkdtemp(prefix="emeritus-bench-"))
    with sqlite("dollars") as url:
        engine = db.owner_engine(url)
        with engine.begin() as connection:
            migrate.upgrade(connection)
        engine.dispose()
        database = db.connect(url)
        workshop = Workshop(database, folder, charter=CHARTER, price_in=PRICE_IN, price_out=PRICE_OUT)
        workshop.essay_id = workshop.essay(ESSAY)
        posted = [workshop.asked(f"{number}. {LETTER}") for number in range(THREAD)]
        workshop.sit(ScriptedModel(message(ANSWER)))
        for each in posted:
            workshop.approve_reply(each)
        for number in range(WAITING):
            workshop.asked(f"Waiting {number}. " + "What do you make of it, and would you write it again today? " * 4)
        yield workshop
        database.dispose()
    shutil.rmtree(folder)


def requests(workshop: Workshop) -> list[dict[str, Any]]:
    """Return what a live sitting sends, without holding one."""
    with workshop.site.database.sessions.begin() as session:
        held = replies.begin_sitting(session, workshop.essay_id)
        assert held is not None
        return [sent(held, claimed, workshop.site.keys).request for claimed in held.claimed]


def unmarked(request: dict[str, Any]) -> dict[str, Any]:
    """Return a request without its marker for the cache."""
    [turn] = request["messages"]
    content = [{name: part for name, part in block.items() if name != "cache_control"} for block in turn["content"]]
    return {**request, "messages": [{**turn, "content": content}]}


def naive(workshop: Workshop, url: str) -> tuple[float, int]:
    """Ask for each by itself, without a cache."""
    return dollars(asyncio.run(asked([unmarked(each) for each in requests(workshop)], url)))


def at_once(workshop: Workshop, _: str) -> tuple[float, int]:
    """Ask for all together with the marker: each writes the cache, and none reads it.

    Where one was answered before another arrived, they were not together: a slower rehearsal is asked again.
    """
    sending = requests(workshop)
    for latency in (0.25, 1, 4, 16):
        with running(RehearsalSettings(latency=latency)) as stage:
            used = asyncio.run(asked(sending, stage.url))
        if not any(each.cache_read for each in used):
            return dollars(used)
    raise AssertionError("some of them read the cache though none was answered before")


async def asked(sending: Sequence[dict[str, Any]], url: str) -> list[Usage]:
    """Send all at once; return what each used."""
    async with AsyncAnthropic(api_key=endpoints.OPENS_NOTHING, base_url=url, max_retries=0) as client:
        answers = await asyncio.gather(*(client.messages.create(**each) for each in sending))
    return [used_by(answer.usage.to_dict()) for answer in answers]


def live(workshop: Workshop, url: str) -> tuple[float, int]:
    """Hold a sitting as it is held."""
    sit(workshop, url)
    return recorded(workshop)


def batched(workshop: Workshop, url: str) -> tuple[float, int]:
    """Hold a sitting whose voice is called in batches: one live, the others together."""
    with workshop.site.database.sessions.begin() as session:
        session.get_one(Voice, workshop.voice_id).calls = Calls.BATCH.value
    sit(workshop, url)
    fetch(workshop, url)
    return recorded(workshop)


def batched_and_cached(workshop: Workshop, url: str) -> tuple[float, int]:
    """Send a batch with a marker of an hour, which a sitting never does: nobody knows how many of it will find it."""
    sending = []
    for number, request in enumerate(requests(workshop)):
        marked = unmarked(request)
        marked["messages"][0]["content"][-2]["cache_control"] = {"type": "ephemeral", "ttl": "1h"}
        sending.append({"custom_id": f"bench-{number}", "params": marked})

    async def run() -> list[Usage]:
        async with AsyncAnthropic(api_key=endpoints.OPENS_NOTHING, base_url=url, max_retries=0) as client:
            made = await client.messages.batches.create(requests=sending)  # type: ignore[arg-type]
            while made.processing_status != "ended":
                await asyncio.sleep(0.02)
                made = await client.messages.batches.retrieve(made.id)
            lines = [line async for line in await client.messages.batches.results(made.id)]
        return [used_by(line.result.message.usage.to_dict()) for line in lines if line.result.type == "succeeded"]

    cost, prompt = dollars(asyncio.run(run()))
    return cost / 2, prompt


def sit(workshop: Workshop, url: str) -> None:
    """Hold one sitting."""

    async def hold() -> None:
        async with Claude(api_key=endpoints.OPENS_NOTHING, base_url=url, rehearsed=True) as claude:
            await sitting.answer(workshop.site, workshop.essay_id, claude, at_once=WAITING)

    asyncio.run(hold())


def fetch(workshop: Workshop, url: str) -> None:
    """Fetch the batch until it has ended."""
    with workshop.site.database.reading_sessions() as session:
        [batch_id] = session.scalars(select(Batch.id))

    async def look() -> None:
        async with Claude(api_key=endpoints.OPENS_NOTHING, base_url=url, rehearsed=True) as claude:
            while BatchState.ENDED.value != stands(workshop, batch_id):
                await asyncio.sleep(0.05)
                await batching.fetch(workshop.site, batch_id, claude)

    asyncio.run(look())


def stands(workshop: Workshop, batch_id: int) -> str:
    """Return the state of a batch; the next look at it is due, as if some minutes had passed."""
    with workshop.site.database.sessions.begin() as session:
        batch = session.get_one(Batch, batch_id)
        batch.asked_at = None
        return batch.state


def recorded(workshop: Workshop) -> tuple[float, int]:
    """Return what the calls on record cost, by what the rehearsal charged."""
    made = [each for each in workshop.generations() if each.essay_id == workshop.essay_id and each.rehearsed]
    assert workshop.states().count("answered") == THREAD + WAITING, workshop.states()
    total, prompts = 0.0, 0
    for each in made:
        hour = each.cache_write_hour_tokens or 0
        used = Usage(
            each.input_tokens or 0,
            each.cache_read_tokens or 0,
            each.cache_write_tokens or 0,
            hour,
            each.output_tokens or 0,
        )
        cost, prompt = dollars([used])
        total += cost * (0.5 if each.batch_id is not None else 1)
        prompts += prompt
    return total / len(made), prompts // len(made)


def dollars(used: Sequence[Usage]) -> tuple[float, int]:
    """Return what a thousand replies cost at what these used, and the tokens of a prompt."""
    paid = sum(
        each.fresh
        + 0.1 * each.cache_read
        + 1.25 * (each.cache_written - each.cache_written_for_an_hour)
        + 2 * each.cache_written_for_an_hour
        for each in used
    )
    prompt = sum(each.fresh + each.cache_read + each.cache_written for each in used)
    return 1000 * (paid / len(used) * PRICE_IN + OUTPUT * PRICE_OUT) / 1e6, prompt // len(used)


def used_by(usage: dict[str, Any]) -> Usage:
    """Return what a response says that it used."""
    return Usage(
        usage["input_tokens"],
        usage["cache_read_input_tokens"] or 0,
        usage["cache_creation_input_tokens"] or 0,
        (usage["cache_creation"] or {}).get("ephemeral_1h_input_tokens", 0),
        usage["output_tokens"],
    )


if __name__ == "__main__":
    main()
