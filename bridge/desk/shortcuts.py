"""Whether the desk listens to single keys: each moderator's own choice (WCAG 2.1.4)."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from bridge.records import User
from bridge.site import Site
from moderation.types import ModeratorId


def heard(session: Session, moderator: ModeratorId) -> bool:
    """Whether *moderator* wants single keys to be heard; who has no account of their own does."""
    return session.scalar(select(User.shortcuts).where(User.moderator_id == moderator)) is not False


def choose(site: Site, *, moderator: ModeratorId, heard: bool) -> None:
    """Note *moderator*'s choice."""
    with site.database.sessions.begin() as session:
        session.execute(update(User).where(User.moderator_id == moderator).values(shortcuts=heard))
