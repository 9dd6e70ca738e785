"""What readers are told of a voice on its own page: who it is, whether it is asked now, and what it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from bridge.essay import thread
from bridge.essay.essays import Published
from bridge.essay.thread import Counts
from bridge.records import Answering, Comment, Essay, Generation, Reply, Voice
from bridge.voice import voices
from moderation.release import released, released_ids

ESSAYS = 200
"""The most essays that a page lists, the newest."""


@dataclass(frozen=True, slots=True)
class Portrait:
    """A voice as readers are told of it."""

    voice: Voice
    asked_now: bool
    picks: bool
    """Whether it is shown what waits and picks the letters it answers."""
    essays: list[Published]
    counts: Mapping[int, Counts]
    """By the id of the essay."""
    rehearsed: int
    """How many of the answers that are posted under its essays no model wrote."""

    @property
    def letters(self) -> int:
        """How many letters are posted under its essays."""
        return sum(each.letters for each in self.counts.values())

    @property
    def answered(self) -> int:
        """How many of them have an answer that is posted."""
        return sum(each.answered for each in self.counts.values())


def of(session: Session, slug: str) -> Portrait:
    """Return what is told of the voice at *slug*. Raises `voices.NoSuchVoice`."""
    voice = voices.at(session, slug)
    rows = session.scalars(
        select(Essay)
        .where(Essay.voice_id == voice.id, Essay.submission_id.in_(released_ids()))
        .order_by(Essay.id.desc())
        .limit(ESSAYS)
    ).all()
    out = released(session, [essay.submission_id for essay in rows])
    found = [Published(essay, voice, out[essay.submission_id]) for essay in rows if essay.submission_id in out]
    rehearsed = session.scalar(
        select(func.count())
        .select_from(Reply)
        .join(Generation, Generation.id == Reply.generation_id)
        .join(Comment, Comment.id == Reply.comment_id)
        .join(Essay, Essay.id == Comment.essay_id)
        .where(
            Essay.voice_id == voice.id,
            Essay.submission_id.in_(released_ids()),
            Generation.rehearsed,
            Reply.submission_id.in_(released_ids()),
        )
    )
    return Portrait(
        voice=voice,
        asked_now=voices.may_be_asked(session, voice),
        picks=voice.answering == Answering.CHOSEN.value,
        essays=found,
        counts=thread.counts(session, [each.essay.id for each in found]),
        rehearsed=rehearsed or 0,
    )
