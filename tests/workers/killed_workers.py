"""Answer two hundred letters with workers that are killed a hundred times, and tell in a line of JSON what came of it.

Each life is a real worker with its work horses on a real Valkey, forked from this process, which has loaded all that
is needed and opened nothing. Between two lives the leases' clock is moved on. A fifth of the calls fail, and Valkey is
emptied five times. Not a test: `test_two_hundred_letters.py` runs it as a program.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from redis import Redis
from sqlalchemy import func, select, text

from bridge import db, settings
from bridge.records import Generation, Reply, ReplyRequest
from bridge.voice import budgets, prices
from bridge.voice.model import Outcome, Usage
from workers import jobs, turns, worker
from workers.settings import WorkerSettings

KILLS, FLUSHES = 100, 5
LATEST = 170
"""Seconds after which it is told how far it came."""


def main(seed: int) -> None:
    chance = random.Random(seed)
    asked = settings.load(WorkerSettings)
    flush_after = sorted(chance.sample(range(5, KILLS - 5), FLUSHES))
    kills = lives = in_the_middle = 0
    begun = time.monotonic()
    while (kills < KILLS or open_requests(asked)) and time.monotonic() - begun < LATEST:
        lives += 1
        time_passes(asked)
        child = os.fork()
        if child == 0:
            os.setpgrp()
            live(asked)
        if kills < KILLS:
            deaths = strike(child, chance)
            kills += deaths
            in_the_middle += deaths if open_requests(asked) else 0
            if flush_after and kills > flush_after[0]:
                flush_after.pop(0)
                with Redis.from_url(asked.redis) as redis:
                    redis.flushall()
        else:
            await_the_end(asked, child)
            end(child)
    told = {"kills": kills, "lives": lives, "in_the_middle": in_the_middle, "flushes_left": len(flush_after)}
    print(json.dumps({**told, **outcome(asked)}))


def live(asked: WorkerSettings) -> None:
    """Be a worker until killed."""
    devnull = os.open(os.devnull, os.O_RDWR)
    os.dup2(devnull, 1)
    jobs._settings.cache_clear()
    worker.work(asked.redis)
    os._exit(0)


def strike(child: int, chance: random.Random) -> int:
    """Kill the worker with its horse, or only the horse in the middle of a job; return how many deaths it was."""
    time.sleep(chance.uniform(0.05, 0.45))
    horses = children_of(child)
    if horses and chance.random() < 0.5:
        for horse in horses:
            with suppress(ProcessLookupError):
                os.kill(horse, signal.SIGKILL)
        time.sleep(chance.uniform(0.05, 0.3))
        end(child)
        return 2
    end(child)
    return 1


def end(child: int) -> None:
    """Kill a worker and all that it started, and wait for it."""
    for each in (*children_of(child), child):
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(child, 0)


def is_over(child: int) -> bool:
    return os.waitpid(child, os.WNOHANG)[0] == child


def children_of(process: int) -> list[int]:
    with suppress(OSError):
        return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []


def await_the_end(asked: WorkerSettings, child: int) -> None:
    """Wait until nothing is open, or this life has taken half a minute, or it has ended by itself."""
    until = time.monotonic() + 30
    while open_requests(asked) and not is_over(child) and time.monotonic() < until:
        time.sleep(0.1)


def time_passes(asked: WorkerSettings) -> None:
    """Let every lease, wait, pause and place among the calls at once that is running run out."""
    engine = db.owner_engine(asked.database_owner)
    with engine.begin() as connection:
        connection.execute(text("UPDATE reply_requests SET leased_until = 1 WHERE leased_until IS NOT NULL"))
        connection.execute(text("UPDATE reply_requests SET not_before = 1 WHERE not_before IS NOT NULL"))
        connection.execute(text("UPDATE voices SET paused_until = 1 WHERE paused_until IS NOT NULL"))
    engine.dispose()
    with Redis.from_url(asked.redis) as redis:
        for key in redis.scan_iter("emeritus:pace:*"):
            state = turns.read(redis.get(key) or b"")
            lapsed = {place: replace(each, until=0.0) for place, each in state.places.items()}
            redis.set(key, turns.written(replace(state, places=lapsed, closed_until=0.0)))


def open_requests(asked: WorkerSettings) -> int:
    database = db.connect(asked.database)
    with database.reading_sessions() as session:
        still = select(func.count()).where(ReplyRequest.state.in_(["waiting", "asking"]))
        number = session.scalar(still) or 0
    database.dispose()
    return number


def outcome(asked: WorkerSettings) -> dict[str, object]:
    database = db.connect(asked.database)
    with database.reading_sessions() as session:
        states = select(ReplyRequest.state, func.count()).group_by(ReplyRequest.state)
        spent = budgets.counted(session, 1, at=budgets.clock(session))
        made = session.scalars(select(Generation)).all()
        told = {
            "states": {row[0]: row[1] for row in session.execute(states)},
            "replies": session.scalar(select(func.count()).select_from(Reply)),
            "answered_comments": session.scalar(select(func.count(Reply.comment_id.distinct()))),
            "generations": len(made),
            "unended": sum(each.ended_at is None for each in made),
            "without_money": sum(each.cost is None and each.reserved is None for each in made),
            **money(made),
            "spent": spent.month.cost,
            "spent_replies": spent.month.replies,
            "troubles": sum(each.outcome not in {None, "replied", "note_only"} for each in made),
        }
    database.dispose()
    return told


def money(made: Sequence[Generation]) -> dict[str, object]:
    """Return what the calls on record come to, reckoned from the tokens of each and not from the costs kept with them.

    *open*: calls of which nobody knows what they cost, without an end or broken off; they count at their most.
    """
    answered = [each for each in made if each.outcome in {outcome.value for outcome in Outcome}]
    refused = [each for each in made if each.status is not None and each.status >= 400]
    settled = {each.id for each in (*answered, *refused)}
    unknown = [each for each in made if each.id not in settled]
    reckoned = {each.id: cost_by_tokens(each) for each in answered}
    return {
        "answered": len(answered),
        "open": len(unknown),
        "paid": sum(reckoned.values()),
        "held": sum(each.reserved or 0 for each in unknown),
        "wrong_costs": sum(each.cost != reckoned[each.id] for each in answered)
        + sum(each.cost != 0 for each in refused)
        + sum(each.cost is not None for each in unknown),
        "tokens": {
            "input_tokens": sum(each.input_tokens or 0 for each in answered),
            "cache_creation_5m_input_tokens": sum(
                (each.cache_write_tokens or 0) - (each.cache_write_hour_tokens or 0) for each in answered
            ),
            "cache_creation_1h_input_tokens": sum(each.cache_write_hour_tokens or 0 for each in answered),
            "cache_read_input_tokens": sum(each.cache_read_tokens or 0 for each in answered),
            "output_tokens": sum(each.output_tokens or 0 for each in answered),
        },
    }


def cost_by_tokens(made: Generation) -> int:
    """Return what a call cost by its tokens and the price on its record."""
    price = prices.recorded(made.price)
    assert price is not None
    used = Usage(
        fresh=made.input_tokens or 0,
        cache_read=made.cache_read_tokens or 0,
        cache_written=made.cache_write_tokens or 0,
        cache_written_for_an_hour=made.cache_write_hour_tokens or 0,
        output=made.output_tokens or 0,
    )
    return price.cost(used)


if __name__ == "__main__":
    main(int(sys.argv[1]))
