"""Send letters away in a batch and fetch it, killed at the first write or commit, the second, the third, and so on.

It is killed at the creation of the batch too, before its record. After each, time passes, and other workers go on
with what is left; one line of JSON tells the end. Not a test: `test_batching.py` runs it as a program, because a fork
of pytest's own process would take its threads along.
"""

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import asyncio

from ground.batching import ScriptedBatches
from sqlalchemy import event, func, select, text

from bridge import db
from bridge.answer import batches, replies
from bridge.keys import Keys
from bridge.queues import NoNudges
from bridge.records import Batch, Generation, Reply, ReplyRequest
from bridge.settings import Settings
from bridge.site import Site
from moderation.queue import awaiting_review
from moderation.types import Kind
from workers import batching, sitting


class Mortal(ScriptedBatches):
    """The API, whose client may die as soon as it has the batch."""

    async def create_batch(self, *given: Any, **more: Any) -> str:
        made = await super().create_batch(*given, **more)
        happens()
        return made


count = {"happened": 0, "die_at": 0}


def writes(_connection: object, _cursor: object, statement: str, *_: object) -> None:
    """Take a statement for something that happens, unless it only looks."""
    if not statement.startswith(("SELECT", "PRAGMA")):
        happens()


def happens(*_: object) -> None:
    """Count what happens, and die when it is time."""
    count["happened"] += 1
    if count["happened"] == count["die_at"]:
        os.kill(os.getpid(), signal.SIGKILL)


def main(url: str, folder: Path, essay_id: int, secret: str) -> None:
    template = Path(url.removeprefix("sqlite:///"))
    number, killed = 0, True
    while killed:
        number += 1
        copy, kept = folder / f"killed-{number}.db", folder / f"batches-{number}"
        shutil.copy(template, copy)
        child = os.fork()
        if child == 0:
            count["die_at"] = number
            site = open_site(copy, secret)
            event.listen(site.database.writing, "before_cursor_execute", writes)
            event.listen(site.database.writing, "commit", happens)
            work(site, essay_id, Mortal(kept))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status)
        print(json.dumps({"killed": killed, **recovered(open_site(copy, secret), essay_id, ScriptedBatches(kept))}))


def work(site: Site, essay_id: int, api: ScriptedBatches) -> None:
    """Hold a sitting, and look at each batch that is due."""
    asyncio.run(sitting.answer(site, essay_id, api, at_once=2))
    time_passes(site, "UPDATE batches SET asked_at = asked_at - 60")
    with site.database.reading_sessions() as session:
        due = batches.due(session)
    for batch_id in due:
        asyncio.run(batching.fetch(site, batch_id, api))


def recovered(site: Site, essay_id: int, api: ScriptedBatches) -> dict[str, object]:
    with site.database.reading_sessions() as session:
        unrecorded = bool(api.kept()) and session.scalar(select(Batch.remote_id)) is None
    # A minute: a sitting's lease has run out, and a batch's has not.
    time_passes(site, "UPDATE reply_requests SET leased_until = leased_until - 60 WHERE leased_until IS NOT NULL")
    with site.database.sessions.begin() as session:
        replies.forget_lost_claims(session)
    for _ in range(3):
        if is_anything_open(site):
            work(site, essay_id, api)
    with site.database.reading_sessions() as session:
        end = {
            "states": list(session.scalars(select(ReplyRequest.state).order_by(ReplyRequest.comment_id))),
            "replies": session.scalar(select(func.count()).select_from(Reply)),
            "on_the_desk": len(awaiting_review(session, kind=Kind.REPLY)),
            "open": session.scalar(select(func.count()).where(Generation.ended_at.is_(None))),
            "batches": len(api.kept()),
            "live_calls": len(api.requests),
            "unrecorded": unrecorded,
        }
    site.database.dispose()
    return end


def is_anything_open(site: Site) -> bool:
    with site.database.reading_sessions() as session:
        still = select(ReplyRequest.comment_id).where(ReplyRequest.state.in_(["waiting", "asking"]))
        return session.scalar(still.limit(1)) is not None or bool(
            session.scalar(select(Batch.id).where(Batch.ended_at.is_(None)))
        )


def time_passes(site: Site, how: str) -> None:
    with site.database.sessions.begin() as session:
        session.execute(text(how))


def open_site(path: Path, secret: str) -> Site:
    settings = Settings(_env_file=None, emeritus_data=path.parent, secret_key=secret)  # type: ignore[call-arg]
    return Site(settings, db.connect(f"sqlite:///{path}"), NoNudges(), Keys(secret))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
