"""The call to the model behind a reply, whole: what was sent and what came back, for moderators to read."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from bridge import prompt
from bridge.keys import Keys
from bridge.records import Comment, Generation, Reply
from moderation.errors import NoSuchSubmission
from moderation.release import released, standing


@dataclass(frozen=True, slots=True)
class Call:
    """One call, as text."""

    model_asked: str
    model_answered: str | None
    rehearsed: bool
    attempt: int
    asked_at: datetime
    request_id: str | None
    request: str | None
    """The body that was sent; None if it was erased."""
    to_the_byte: bool
    """Whether what is shown has the digest of what was sent: words that were taken back since are missing from it."""
    response: str | None


def behind(session: Session, submission_id: int, keys: Keys) -> Call | None:
    """Return the call that brought a reply; None if no model was called for the words. Raises `NoSuchSubmission`."""
    made = session.scalar(
        select(Generation).join(Reply, Reply.generation_id == Generation.id).where(Reply.submission_id == submission_id)
    )
    if made is None:
        if submission_id not in standing(session, [submission_id]):
            raise NoSuchSubmission(submission_id)
        return None
    request = _rebuilt(session, made, keys) if made.request else None
    digest = keys.keyed_digest("request", json.dumps(request, sort_keys=True)) if request is not None else None
    return Call(
        model_asked=made.model_asked,
        model_answered=made.model_answered,
        rehearsed=made.rehearsed,
        attempt=made.attempt,
        asked_at=made.started_at,
        request_id=made.request_id,
        request=_told(request) if request is not None else None,
        to_the_byte=digest == made.request_digest,
        response=_told(json.loads(zlib.decompress(made.response))) if made.response else None,
    )


def _rebuilt(session: Session, made: Generation, keys: Keys) -> dict[str, Any]:
    recipe = json.loads(zlib.decompress(made.request))
    ids = prompt.references(recipe)
    answers = session.execute(
        select(Comment.submission_id, Reply.submission_id)
        .join(Reply, Reply.id == Comment.parent_id)
        .where(Comment.submission_id.in_(ids))
    )
    return prompt.rebuilt(recipe, released(session, ids), {row[0]: row[1] for row in answers}, keys)


def _told(body: Any) -> str:
    return json.dumps(body, ensure_ascii=False, indent=2)
