"""Hold a sitting again and again, killed at its first write or commit, its second, its third, until it ends alive.

After each, the lease runs out, the sweep and another sitting find what is left, and one line of JSON tells the end.
Of a voice that picks its letters, the first choice takes the first and the third, and any further one the second.
Not a test: `test_sitting.py` and `test_choosing_voice.py` run it as a program, because a fork of pytest's own process
would take its threads along.
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

from ground.workshop import ScriptedModel, message, quoted
from sqlalchemy import event, func, select, text

from bridge import db
from bridge.answer import replies
from bridge.keys import Keys
from bridge.queues import NoNudges
from bridge.records import Generation, Purpose, Reply, ReplyRequest, Showing
from bridge.settings import Settings
from bridge.site import Site
from bridge.voice.model import Answer
from moderation.queue import awaiting_review
from moderation.types import Kind
from workers import sitting


def main(url: str, folder: Path, essay_id: int, comment_id: int, secret: str) -> None:
    template = Path(url.removeprefix("sqlite:///"))
    number, killed = 0, True
    while killed:
        number += 1
        copy, calls = folder / f"killed-{number}.db", folder / f"calls-{number}"
        shutil.copy(template, copy)
        calls.touch()
        child = os.fork()
        if child == 0:
            sit(open_site(copy, secret), essay_id, calls, die_at=number)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status)
        calls_before = calls.stat().st_size
        print(json.dumps({"killed": killed, **recovered(copy, secret, essay_id, comment_id, calls, calls_before)}))


def sit(site: Site, essay_id: int, calls: Path, *, die_at: int | None = None) -> None:
    happened = 0

    def die_in_time(*_: object) -> None:
        nonlocal happened
        happened += 1
        if happened == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(site.database.writing, "before_cursor_execute", die_in_time)
    event.listen(site.database.writing, "commit", die_in_time)

    async def count(_number: int) -> None:
        with calls.open("ab") as counted:
            counted.write(b"1")

    model = PickingModel(site, meanwhile=count)
    asyncio.run(sitting.answer(site, essay_id, model, at_once=2))


class PickingModel(ScriptedModel):
    """A model that picks what only the first choice to be decided may pick."""

    def __init__(self, site: Site, **how: Any) -> None:
        super().__init__(**how)
        self.reply, self.site = self.says[0], site

    async def ask(self, request: dict[str, Any], **more: Any) -> Answer:
        """Pick or answer."""
        self.says = [self.reply]
        if quoted(request)[-1][0] == "to_choose":
            with self.site.database.reading_sessions() as session:
                decided = session.scalar(select(func.count()).where(Showing.chosen.is_not(None)))
            picked = {"letters": [2] if decided else [1, 3]}
            self.says = [message({"type": "tool_use", "id": "toolu_3", "name": "choose", "input": picked})]
        return await super().ask(request, **more)


def recovered(
    copy: Path, secret: str, essay_id: int, comment_id: int, calls: Path, calls_before: int
) -> dict[str, object]:
    site = open_site(copy, secret)
    with site.database.sessions.begin() as session:
        session.execute(text("UPDATE reply_requests SET leased_until = 1 WHERE leased_until IS NOT NULL"))
    with site.database.sessions.begin() as session:
        replies.forget_lost_claims(session)
    sit(site, essay_id, calls)
    with site.database.reading_sessions() as session:
        end = {
            "state": session.get_one(ReplyRequest, comment_id).state,
            "states": session.scalars(select(ReplyRequest.state).order_by(ReplyRequest.comment_id)).all(),
            "replies": session.scalar(select(func.count()).select_from(Reply)),
            "replied_to": session.scalars(select(Reply.comment_id).order_by(Reply.comment_id)).all(),
            "choices": session.scalar(select(func.count()).where(Generation.purpose == Purpose.CHOICE.value)),
            "decided": session.scalars(
                select(func.count())
                .where(Showing.chosen.is_not(None))
                .group_by(Showing.comment_id)
                .order_by(Showing.comment_id)
            ).all(),
            "on_the_desk": len(awaiting_review(session, kind=Kind.REPLY)),
            "generations": session.scalar(select(func.count()).select_from(Generation)),
            "unfinished": session.scalar(select(func.count()).where(Generation.ended_at.is_(None))),
            "calls": calls.stat().st_size,
            "calls_before": calls_before,
            "calls_after": calls.stat().st_size - calls_before,
        }
    site.database.dispose()
    return end


def open_site(path: Path, secret: str) -> Site:
    settings = Settings(_env_file=None, emeritus_data=path.parent, secret_key=secret)  # type: ignore[call-arg]
    return Site(settings, db.connect(f"sqlite:///{path}"), NoNudges(), Keys(secret))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
