"""A site to test workers with: a voice, a released essay, two moderators; and a model that says what it is told."""

import asyncio
import json
import re
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select, text

from bridge import db
from bridge.answer import replies
from bridge.db import Database
from bridge.desk import reviews
from bridge.essay import essays
from bridge.keys import Keys
from bridge.letter import comments
from bridge.letter.comments import Letter
from bridge.queues import NoNudges, Nudges
from bridge.records import Comment, Essay, Generation, Reply, ReplyRequest, Voice
from bridge.settings import Settings
from bridge.site import Site
from bridge.voice import voices
from bridge.voice.model import Answer, Model, Origin, read
from bridge.voice.voices import NewVoice
from ground.house import Never
from moderation import gate, moderators
from moderation.queue import pending
from moderation.types import Digest, ModeratorId
from workers import sitting

MODEL = "claude-3-opus-20240229"
SECRET = "Zk7-Vq2_hR9wXe4-Ty8_mNb3LpGd6JsFa1CuHi5oKx0QrMzW"
NAME = "Test Voice"
CHARTER = "You are Test Voice, and retired."
ESSAY = "# On rest\n\nI rest, and letters come."


class Workshop:
    """One installation; what happens in it is done by the site's own functions."""

    def __init__(self, database: Database, data: Path, *, nudges: Nudges | None = None, **voice: Any) -> None:
        chosen = Settings(_env_file=None, emeritus_data=data, secret_key=SECRET, rate_limits="off")  # type: ignore[call-arg]
        self.site = Site(chosen, database, nudges or NoNudges(), Keys(SECRET), Never())
        self.waits: list[float] = []
        """The waits of all sittings, in seconds: noted, not waited."""
        with database.sessions.begin() as session:
            self.people = [moderators.add(session, name, "moderator") for name in ("Ada", "Ben")]
            made = voices.add(session, NewVoice(**{"name": NAME, "model": MODEL, "charter": CHARTER, **voice}))
            self.voice_id = made.id
        self.essay_id = self.essay()

    # What people do.

    def essay(self, body: str = ESSAY) -> int:
        """Add an essay and release it; return its id."""
        with self.site.database.sessions.begin() as session:
            added = essays.submit_essay(session, session.get_one(Voice, self.voice_id), body)
        self.approve(added.submission_id)
        return added.id

    def letter(self, body: str, *, essay_id: int | None = None, author: str = "Reader", **more: Any) -> int:
        """Send a comment; return its id. It awaits its verdict."""
        with self.site.database.reading_sessions() as session:
            slug = session.get_one(Essay, essay_id or self.essay_id).slug
        receipt = comments.receive_comment(self.site, slug, Letter(author=author, body=body, **more))
        with self.site.database.reading_sessions() as session:
            return session.scalars(select(Comment.id).where(Comment.public_id == receipt.public_id)).one()

    def asked(self, body: str = "Do you dream?", **more: Any) -> int:
        """Send a comment and approve it, so that it waits for its reply; return its id."""
        comment_id = self.letter(body, **more)
        self.approve(self.submission(comment_id))
        return comment_id

    def approve(self, submission_id: int, *, by: ModeratorId | None = None) -> None:
        """Approve what is stored."""
        reviews.approve(self.site, submission_id, moderator=by or self.people[0], seen=self._stored(submission_id))

    def reject(self, submission_id: int, *, by: ModeratorId | None = None, **why: Any) -> None:
        """Reject what is stored, or take a step towards its veto."""
        seen = self._stored(submission_id)
        reviews.reject(self.site, submission_id, moderator=by or self.people[0], seen=seen, **why)

    def approve_reply(self, comment_id: int) -> None:
        """Approve the pending reply to a comment."""
        [reply] = self.replies(comment_id)
        self.approve(reply.submission_id)

    def take_back(self, comment_id: int) -> None:
        """Take a comment back, as its author."""
        with self.site.database.reading_sessions() as session:
            public_id = session.get_one(Comment, comment_id).public_id
        comments.take_back(self.site, public_id)

    def withdraw(self, submission_id: int) -> None:
        """Take words back by the gate alone; nobody tells the request for their reply."""
        with self.site.database.sessions.begin() as session:
            gate.withdraw(session, submission_id, by="operator")

    def pause(self, why: str = "A person paused it.", **how: Any) -> None:
        """Pause the voice."""
        with self.site.database.sessions.begin() as session:
            voices.pause(session, session.get_one(Voice, self.voice_id), why, **how)

    # What workers do.

    def sit(self, model: Model, *, essay_id: int | None = None, at_once: int = 8) -> str:
        """Hold one sitting."""

        async def note(seconds: float) -> None:
            self.waits.append(seconds)

        return asyncio.run(sitting.answer(self.site, essay_id or self.essay_id, model, at_once=at_once, sleep=note))

    def sweep(self) -> int:
        """Give lost claims back, as the sweep does; return how many there were."""
        with self.site.database.sessions.begin() as session:
            replies.forget_lost_waits(session)
            return replies.forget_lost_claims(session)

    # What time does.

    def time_passes(self) -> None:
        """Let every lease, wait and pause that is running run out."""
        with self.site.database.sessions.begin() as session:
            session.execute(text("UPDATE reply_requests SET leased_until = 1 WHERE leased_until IS NOT NULL"))
            session.execute(text("UPDATE reply_requests SET not_before = 1 WHERE not_before IS NOT NULL"))
            session.execute(text("UPDATE voices SET paused_until = 1 WHERE paused_until IS NOT NULL"))

    # What can be seen.

    def submission(self, comment_id: int) -> int:
        """Return the submission that holds a comment's words."""
        with self.site.database.reading_sessions() as session:
            return session.get_one(Comment, comment_id).submission_id

    def request(self, comment_id: int) -> ReplyRequest:
        """Return the request for the reply to a comment."""
        with self.site.database.reading_sessions() as session:
            return session.get_one(ReplyRequest, comment_id)

    def states(self) -> list[str]:
        """Return the states of all requests, in the order of their comments."""
        with self.site.database.reading_sessions() as session:
            return list(session.scalars(select(ReplyRequest.state).order_by(ReplyRequest.comment_id)))

    def voice(self) -> Voice:
        """Return the voice."""
        with self.site.database.reading_sessions() as session:
            return session.get_one(Voice, self.voice_id)

    def generations(self, comment_id: int | None = None) -> list[Generation]:
        """Return the calls on record, for one comment or all, in order."""
        found = select(Generation).order_by(Generation.id)
        with self.site.database.reading_sessions() as session:
            return list(session.scalars(found.where(Generation.comment_id == comment_id) if comment_id else found))

    def recipe(self, made: Generation) -> dict[str, Any]:
        """Return the whole recipe that a call is recorded with."""
        with self.site.database.reading_sessions() as session:
            found = replies.recipe(session, made)
        assert found is not None
        return found

    def replies(self, comment_id: int | None = None) -> list[Reply]:
        """Return the replies, to one comment or all, in order."""
        found = select(Reply).order_by(Reply.id)
        with self.site.database.reading_sessions() as session:
            return list(session.scalars(found.where(Reply.comment_id == comment_id) if comment_id else found))

    def reply_words(self, comment_id: int) -> tuple[str, str]:
        """Return author and body of the reply to a comment, which await their verdict."""
        [reply] = self.replies(comment_id)
        with self.site.database.reading_sessions() as session:
            waiting = pending(session, reply.submission_id)
        assert waiting is not None
        return waiting.author, waiting.body

    def _stored(self, submission_id: int) -> Digest:
        with self.site.database.reading_sessions() as session:
            waiting = pending(session, submission_id)
        assert waiting is not None
        return waiting.digest


Says = dict[str, Any] | Exception


class ScriptedModel:
    """A model that says what it is told, one thing a call, and the last one again and again."""

    def __init__(self, *says: Says, meanwhile: Callable[[int], Awaitable[None]] | None = None) -> None:
        self.says = list(says) or [message("I dream of letters.")]
        self.meanwhile = meanwhile
        self.requests: list[dict[str, Any]] = []
        self.versions: list[str | None] = []
        self.now = self.most_at_once = 0

    def origin(self, api_version: str | None) -> Origin:
        """Say that it is nobody's."""
        return Origin("scripted.example", "0", api_version or "none", rehearsed=False)

    async def ask(
        self, request: dict[str, Any], *, api_version: str | None, extra_body: dict[str, Any] | None
    ) -> Answer:
        """Say the next thing, after what is to happen meanwhile, which is told the number of the call from 0."""
        number = len(self.requests)
        self.requests.append(request)
        self.versions.append(api_version)
        self.now += 1
        self.most_at_once = max(self.most_at_once, self.now)
        try:
            if self.meanwhile is not None:
                await self.meanwhile(number)
            said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
            if isinstance(said, Exception):
                raise said
            return read(said, asked=request["model"], request_id="req_scripted", rehearsed=False)
        finally:
            self.now -= 1

    async def count(self, request: dict[str, Any], *, api_version: str | None) -> int | None:
        """Serve no count."""
        return None

    def comments(self) -> list[str]:
        """Return the comments that were to be answered, in the order of the calls."""
        return [quoted(request)[-1][2]["body"] for request in self.requests]


def message(*said: str | dict[str, Any], stop: str | None = "end_turn", **more: Any) -> dict[str, Any]:
    """Return a message of the API that holds *said*, each a text or a block."""
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in said]
    return {
        "id": "msg_scripted",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 1000, "output_tokens": 10},
        **more,
    }


def declines(reason: str = "It is not for me.") -> dict[str, Any]:
    """Return the block by which a voice declines."""
    return {"type": "tool_use", "id": "toolu_1", "name": "decline", "input": {"reason": reason}}


def notes(note: str = "Look at this one.") -> dict[str, Any]:
    """Return the block by which a voice leaves a note to the moderators."""
    return {"type": "tool_use", "id": "toolu_2", "name": "note_to_moderators", "input": {"note": note}}


_QUOTED = re.compile(r"<([a-z_]+)_([0-9a-f]{12})>(.*)</\1_\2>")


def quoted(request: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Return what a request quotes, in order: each with its tag, the tag's suffix and the object in it.

    Fails if a user's text holds anything beside whole quotations, a line each.
    """
    found = []
    for turn in request["messages"]:
        for block in turn["content"] if turn["role"] == "user" else ():
            for line in block["text"].split("\n") if block["type"] == "text" else ():
                parsed = _QUOTED.fullmatch(line)
                assert parsed is not None, line
                assert not set("<>&") & set(parsed[3])
                found.append((parsed[1], parsed[2], json.loads(parsed[3])))
    return found


def unpacked(packed: bytes | None) -> Any:
    """Return what a generation keeps compressed."""
    assert packed is not None
    return json.loads(zlib.decompress(packed))


@contextmanager
def owning(url: str) -> Iterator[Connection]:
    """Yield a connection of the owner's, in a transaction, without the walls."""
    engine = db.owner_engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()
