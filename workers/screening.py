"""Services that the operator chose to look at letters: Akismet, and one of their own.

What they say is advice like any other signal. One that fails, is slow or answers nonsense says nothing: the letter
waits as it did, and nobody asks again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import select

from bridge.records import Comment, Essay
from bridge.signal import signals
from bridge.signal.signals import Name, Noticed
from bridge.site import Site
from bridge.text import markup
from moderation import queue
from moderation.base import now
from moderation.types import Kind, Pending
from workers import outside, posting
from workers.settings import WorkerSettings

log = logging.getLogger(__name__)

AKISMET = "https://rest.akismet.com/1.1/comment-check"
"""https://akismet.com/developers/detailed-docs/comment-check/"""
NO_ADDRESS = "127.0.0.1"
"""What Akismet, which asks for one, is told instead of a reader's IP address."""
WHY_LENGTH = 200


class Absurd(Exception):
    """Raised when a service's answer is none. Says what it was not, and nothing of what it was."""


@dataclass(frozen=True, slots=True)
class Letter:
    """What a service is told of."""

    pending: Pending
    essay: str
    """Its essay's slug."""


async def screen(site: Site, asked: WorkerSettings, submission_id: int) -> str:
    """Ask each service that is set about a letter, and keep what they answer; return a word for the log."""
    letter = _waiting(site, submission_id)
    if letter is None:
        return "it waits no more"
    heard = {}
    if asked.akismet_key is not None:
        heard[Name.AKISMET] = await _heard(Name.AKISMET, letter, asked)
    if asked.screening_url is not None:
        heard[Name.SERVICE] = await _heard(Name.SERVICE, letter, asked)
    answered = {name: said for name, said in heard.items() if said is not None}
    noticed = [each for said in answered.values() for each in said]
    if answered:
        with site.database.sessions.begin() as session:
            if not signals.keep(session, letter.pending.id, list(answered), noticed):
                return "it was decided meanwhile"
    return f"{len(noticed)} noticed, {len(heard) - len(answered)} said nothing"


async def _heard(name: Name, letter: Letter, asked: WorkerSettings) -> list[Noticed] | None:
    """Return what one service noticed, or None if it did not answer."""
    ask = _ask_akismet if name is Name.AKISMET else _ask_service
    try:
        return await ask(letter, asked)
    except (outside.OutsideRefused, Absurd) as trouble:
        # What they say tells neither the address nor the words.
        log.warning("submission %s was not screened by %s: %s", letter.pending.id, name.value, trouble)
        return None


async def _ask_akismet(letter: Letter, asked: WorkerSettings) -> list[Noticed]:
    told = {
        "api_key": asked.akismet_key or "",
        "blog": asked.address,
        "user_ip": NO_ADDRESS,
        "permalink": f"{asked.address}/essays/{letter.essay}",
        "comment_type": "comment",
        "comment_author": letter.pending.author,
        "comment_content": letter.pending.body,
        "blog_charset": "UTF-8",
    }
    body = await _answer(AKISMET, urlencode(told).encode(), {"Content-Type": "application/x-www-form-urlencoded"})
    if body.strip() not in {b"true", b"false"}:
        raise Absurd("It answered neither true nor false.")
    return [Noticed(Name.AKISMET, "Akismet takes it for spam.", strong=True)] if body.strip() == b"true" else []


async def _ask_service(letter: Letter, asked: WorkerSettings) -> list[Noticed]:
    assert asked.screening_url is not None
    told = {
        "id": letter.pending.id,
        "author": letter.pending.author,
        "body": letter.pending.body,
        "essay": f"{asked.address}/essays/{letter.essay}",
    }
    body = json.dumps(told).encode()
    headers = {"Content-Type": "application/json"}
    if asked.screening_secret is not None:
        at = int(now().timestamp())
        headers[posting.SIGNATURE] = posting.signature(asked.screening_secret, body, at=at)
    answer = await _answer(asked.screening_url, body, headers, allow_private=asked.screening_private == "on")
    return _read(answer)


async def _answer(url: str, body: bytes, headers: Mapping[str, str], *, allow_private: bool = False) -> bytes:
    answer = await outside.post(url, body=body, headers=headers, allow_private=allow_private)
    if answer.status != 200:
        raise Absurd(f"It answered {answer.status}.")
    return answer.body


def _read(body: bytes) -> list[Noticed]:
    """Return what the operator's own service noticed. Raises `Absurd`."""
    try:
        said: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise Absurd("Its answer is not JSON.") from None
    spam, why = (said.get("spam"), said.get("why")) if isinstance(said, dict) else (None, None)
    if not isinstance(spam, bool) or not isinstance(why, str | None):
        raise Absurd('Its answer is not of the kind {"spam": true, "why": "..."}.')
    told = " ".join(markup.without_unseen(why or "").replace("\x00", "").split())
    if len(told) > WHY_LENGTH:
        told = told[: WHY_LENGTH - 1] + "…"
    if spam:
        return [Noticed(Name.SERVICE, told or "The screening service takes it for spam.", strong=True)]
    return [Noticed(Name.SERVICE, told)] if told else []


def _waiting(site: Site, submission_id: int) -> Letter | None:
    with site.database.reading_sessions() as session:
        pending = queue.pending(session, submission_id)
        slug = session.scalar(
            select(Essay.slug).join(Comment, Comment.essay_id == Essay.id).where(Comment.submission_id == submission_id)
        )
    if pending is None or slug is None or pending.kind is not Kind.COMMENT:
        return None
    return Letter(pending, slug)
