"""Holds: "I want a second reader." No verdict, no reason, and cheaper than approving in doubt."""

from __future__ import annotations

from sqlalchemy import update
from sqlalchemy.orm import Session

from moderation import gate
from moderation.base import now
from moderation.records import Hold, Waiting
from moderation.types import ModeratorId


def hold(session: Session, submission_id: int, *, moderator: ModeratorId) -> None:
    """Leave a pending submission to a second reader. One that somebody else held is handed back by it.

    Doing it twice changes nothing. Raises what `gate.still_waiting` raises, and `UnknownModerator`.
    """
    waiting = gate.still_waiting(session, submission_id, moderator)
    if waiting.hold_id is not None:
        if session.get_one(Hold, waiting.hold_id).moderator_id == moderator:
            return
        _end(session, waiting)
    row = Hold(submission_id=submission_id, moderator_id=moderator, held_at=now())
    session.add(row)
    session.flush()
    waiting.hold_id = row.id
    session.flush()


def let_go(session: Session, submission_id: int, *, moderator: ModeratorId) -> None:
    """Put a held submission back among the others. One that is not held stays as it is. Raises what `hold` raises."""
    _end(session, gate.still_waiting(session, submission_id, moderator))


def _end(session: Session, waiting: Waiting) -> None:
    session.execute(update(Hold).where(Hold.id == waiting.hold_id).values(ended_at=now()))
    waiting.hold_id = None
    session.flush()
