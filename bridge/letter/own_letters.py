"""An author's own letters under an essay that nobody else can see: those that wait, and those not posted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from markupsafe import Markup
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from bridge.essay import intake
from bridge.keys import AUTHOR_LINK, Keys, fingerprint
from bridge.records import Comment, Reply
from moderation import appeals, reasons
from moderation.base import now
from moderation.queue import pending
from moderation.release import standing
from moderation.types import Pending, Rejected, Standing, State

AT_MOST = 20
"""The most letters that are shown, and the most keys that are looked at."""
LOOKED_AT = 100
"""The most letters of one author under one essay among which they are looked for, newest first."""
REMEMBERED = timedelta(days=30)
"""How long a letter that was not posted is still shown in its place; its author's page shows it for ever."""


class Stage(StrEnum):
    """How a letter that nobody else can see stands."""

    WAITING = "waiting"
    APPEALED = "appealed"
    """It waits for another person than the one who did not post it."""
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class OwnLetter:
    """One letter as its own author sees it under the essay."""

    public_id: str
    token: str
    """The signed part of the address of the author's page."""
    words: Pending | Rejected
    html: Markup
    stage: Stage
    why: str | None
    """What the code means by which it was not posted."""
    answers: str | None
    """The public id of the reply that it answers."""
    passage: str | None
    sent_at: datetime


def by_secret(session: Session, keys: Keys, essay_id: int, secret: str) -> list[OwnLetter]:
    """Return the letters by whoever has an author's secret, oldest first; what nobody was given finds none."""
    return _found(session, keys, essay_id, Comment.author_digest == fingerprint(secret)) if secret else []


def by_keys(session: Session, keys: Keys, essay_id: int, tokens: Sequence[str]) -> list[OwnLetter]:
    """Return the letters that the links to their author's pages open, oldest first; what opens nothing is passed over.

    No more than the last `AT_MOST` are looked at.
    """
    opened = [keys.opened(AUTHOR_LINK, token) for token in tokens[-AT_MOST:]]
    known = [public_id for public_id in opened if public_id is not None]
    return _found(session, keys, essay_id, Comment.public_id.in_(known)) if known else []


def _found(session: Session, keys: Keys, essay_id: int, whose: ColumnElement[bool]) -> list[OwnLetter]:
    rows = session.execute(
        select(Comment, Reply.public_id)
        .outerjoin(Reply, Reply.id == Comment.parent_id)
        .where(Comment.essay_id == essay_id, whose)
        .order_by(Comment.id.desc())
        .limit(LOOKED_AT)
    ).all()
    how = standing(session, [comment.submission_id for comment, _ in rows])
    since = now() - REMEMBERED
    newest = [(comment, answers) for comment, answers in rows if _is_shown(how[comment.submission_id], since)]
    shown = [_own(session, keys, comment, answers, how[comment.submission_id]) for comment, answers in newest[:AT_MOST]]
    return [each for each in reversed(shown) if each is not None]


def _is_shown(how: Standing, since: datetime) -> bool:
    if how.state is State.REJECTED:
        return how.decided_at is not None and how.decided_at > since
    return how.state is State.PENDING


def _own(session: Session, keys: Keys, comment: Comment, answers: str | None, how: Standing) -> OwnLetter | None:
    words: Pending | Rejected | None
    if how.state is State.REJECTED:
        stage, words = Stage.REJECTED, appeals.rejected(session, comment.submission_id)
    else:
        words = pending(session, comment.submission_id)
        stage = Stage.APPEALED if words is not None and words.appealed is not None else Stage.WAITING
    if words is None:
        return None  # Erased, or decided while this was read.
    return OwnLetter(
        public_id=comment.public_id,
        token=keys.signed(AUTHOR_LINK, comment.public_id),
        words=words,
        html=intake.html_of(session, [words])[words.digest],
        stage=stage,
        why=reasons.COMMENT_CODES.get(how.reason_code) if how.reason_code and stage is Stage.REJECTED else None,
        answers=answers,
        passage=comment.passage,
        sent_at=comment.created_at,
    )
