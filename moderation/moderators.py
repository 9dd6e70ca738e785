"""The people who decide, as the gate knows them: a name, a role, and whether they still may."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation.base import now
from moderation.errors import Refused
from moderation.records import ModeratorRow
from moderation.types import Moderator, ModeratorId

ROLES = ("moderator", "admin")


class NameTaken(Refused):
    """Raised when another moderator already has this name."""

    def __init__(self, name: str) -> None:
        super().__init__("Another moderator already has this name. Nothing was changed. Choose another name.")
        self.name = name


def add(session: Session, name: str, role: str) -> ModeratorId:
    """Make a moderator known to the gate and return their id. Raises `NameTaken`."""
    if session.scalar(select(ModeratorRow.id).where(ModeratorRow.name == name)) is not None:
        raise NameTaken(name)
    row = ModeratorRow(name=name, role=role, active=True, created_at=now())
    session.add(row)
    session.flush()
    return ModeratorId(row.id)


def deactivate(session: Session, moderator: ModeratorId) -> None:
    """Take away the right to decide. Decisions already made stay."""
    session.get_one(ModeratorRow, moderator).active = False
    session.flush()


def reactivate(session: Session, moderator: ModeratorId) -> None:
    """Give the right to decide back. What was decided before is theirs still."""
    session.get_one(ModeratorRow, moderator).active = True
    session.flush()


def set_role(session: Session, moderator: ModeratorId, role: str) -> None:
    """Give a moderator another role. What they decided stays theirs."""
    session.get_one(ModeratorRow, moderator).role = role
    session.flush()


def named(session: Session, moderator_ids: Iterable[int]) -> dict[int, Moderator]:
    """Return the moderators among *moderator_ids*, keyed by id, active or not."""
    rows = session.scalars(select(ModeratorRow).where(ModeratorRow.id.in_(set(moderator_ids))))
    return {row.id: _moderator(row) for row in rows}


def everyone(session: Session) -> list[Moderator]:
    """Return all moderators, in the order they were added."""
    return [_moderator(row) for row in session.scalars(select(ModeratorRow).order_by(ModeratorRow.id))]


def _moderator(row: ModeratorRow) -> Moderator:
    return Moderator(id=ModeratorId(row.id), name=row.name, role=row.role, active=row.active)
