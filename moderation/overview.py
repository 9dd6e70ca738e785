"""What waits on the desk, in numbers and times: no words, no names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from moderation import queue
from moderation.base import now
from moderation.records import OpenTakedown, ProposalRow, Submission, Waiting
from moderation.types import Kind


@dataclass(frozen=True, slots=True)
class Overview:
    """How much waits, and since when. Each number is at most `queue.MOST_COUNTED`."""

    waiting: dict[Kind, int]
    held: int
    """Of those that wait, how many somebody wants a second reader for."""
    lapsing: int
    """Proposals that lapse within a day if no second moderator says anything."""
    oldest_at: datetime | None
    newest_id: int
    """The submission that came last among those that wait; 0 if none waits."""
    newest_at: datetime | None

    @property
    def number(self) -> int:
        """How many wait in all."""
        return sum(self.waiting.values())

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to tell anybody."""
        return not self.number and not self.lapsing


def overview(session: Session) -> Overview:
    """Return what waits now."""
    newest = session.execute(
        select(Submission.id, Submission.submitted_at).where(
            Submission.id == select(func.max(Waiting.submission_id)).scalar_subquery()
        )
    ).first()
    return Overview(
        waiting=queue.counts(session),
        held=queue.number(session, held=True),
        lapsing=_lapsing(session),
        oldest_at=queue.oldest(session),
        newest_id=newest[0] if newest else 0,
        newest_at=newest[1] if newest else None,
    )


def _lapsing(session: Session) -> int:
    soon = ProposalRow.lapses_at <= now() + timedelta(days=1)
    vetoes = select(ProposalRow.id).join(Waiting, Waiting.proposal_id == ProposalRow.id).where(soon)
    takedowns = select(ProposalRow.id).join(OpenTakedown, OpenTakedown.proposal_id == ProposalRow.id).where(soon)
    return sum(
        session.scalar(select(func.count()).select_from(each.limit(queue.MOST_COUNTED).subquery())) or 0
        for each in (vetoes, takedowns)
    )
