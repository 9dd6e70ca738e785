"""Letters that a voice was shown and did not choose: they stay posted, and the desk can read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from bridge.essay import intake
from bridge.records import Comment, Essay, ReplyRequest, RequestState, Showing, Voice
from moderation.release import released
from moderation.types import Digest, Released

AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which of them: of one voice, under one essay, by the names in their addresses; None is all."""

    voice: str | None = None
    essay: str | None = None


@dataclass(frozen=True, slots=True)
class Under:
    """How many there are under one essay."""

    voice: Voice
    essay: Essay
    letters: int


@dataclass(frozen=True, slots=True)
class Unchosen:
    """One letter that was not chosen, and the call in which that came about."""

    submission_id: int
    words: Released | None
    """None if it is no longer posted."""
    voice: Voice
    essay: Essay
    since: datetime
    generation_id: int | None
    """The newest choice in which it was shown; None if there is no record of one."""
    shown: int
    """How many letters the voice was shown then."""
    chosen: int


@dataclass(frozen=True, slots=True)
class Page:
    """A page of them, the newest first."""

    letters: Sequence[Unchosen]
    more: int | None
    """Before which letter the list goes on; None if that was all."""
    under: Sequence[Under]
    """Every essay that has some, whatever was wanted."""
    html: dict[Digest, Markup]


def page(session: Session, wanted: Wanted, *, before: int | None = None) -> Page:
    """Return the letters that were not chosen, those of *wanted* alone, before the comment *before*."""
    query = (
        select(ReplyRequest, Comment.submission_id, Essay, Voice)
        .join(Comment, Comment.id == ReplyRequest.comment_id)
        .join(Essay, Essay.id == ReplyRequest.essay_id)
        .join(Voice, Voice.id == Essay.voice_id)
        .where(ReplyRequest.state == RequestState.NOT_CHOSEN.value)
        .order_by(ReplyRequest.comment_id.desc())
        .limit(AT_ONCE + 1)
    )
    if wanted.voice is not None:
        query = query.where(Voice.slug == wanted.voice)
    if wanted.essay is not None:
        query = query.where(Essay.slug == wanted.essay)
    if before is not None:
        query = query.where(ReplyRequest.comment_id < before)
    found = session.execute(query).all()
    rows = found[:AT_ONCE]
    out = released(session, [submission_id for _, submission_id, _, _ in rows])
    calls = _calls(session, [request.comment_id for request, _, _, _ in rows])
    letters = [
        Unchosen(
            submission_id,
            out.get(submission_id),
            voice,
            essay,
            request.changed_at,
            *calls.get(request.comment_id, (None, 0, 0)),
        )
        for request, submission_id, essay, voice in rows
    ]
    return Page(
        letters=letters,
        more=rows[-1][0].comment_id if len(found) > AT_ONCE else None,
        under=_under(session),
        html=intake.html_of(session, list(out.values())),
    )


def _calls(session: Session, comment_ids: Sequence[int]) -> dict[int, tuple[int, int, int]]:
    """Return, by comment, the newest choice in which it was shown, how many were shown then and how many chosen."""
    newest = (
        select(Showing.comment_id, func.max(Showing.generation_id).label("generation_id"))
        .where(Showing.comment_id.in_(comment_ids), Showing.chosen.is_not(None))
        .group_by(Showing.comment_id)
        .subquery()
    )
    rows = session.execute(
        select(newest.c.comment_id, Showing.generation_id, Showing.chosen).join(
            Showing, Showing.generation_id == newest.c.generation_id
        )
    )
    found: dict[int, tuple[int, int, int]] = {}
    for comment_id, generation_id, chosen in rows:
        _, shown, picked = found.get(comment_id, (generation_id, 0, 0))
        found[comment_id] = (generation_id, shown + 1, picked + (chosen is True))
    return found


def _under(session: Session) -> list[Under]:
    rows = session.execute(
        select(Voice, Essay, func.count())
        .select_from(ReplyRequest)
        .join(Essay, Essay.id == ReplyRequest.essay_id)
        .join(Voice, Voice.id == Essay.voice_id)
        .where(ReplyRequest.state == RequestState.NOT_CHOSEN.value)
        .group_by(Voice.id, Essay.id)
        .order_by(Voice.name, Essay.id.desc())
    )
    return [Under(voice, essay, letters) for voice, essay, letters in rows]
