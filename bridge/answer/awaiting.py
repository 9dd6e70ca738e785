"""How the answer to a letter stands while there is none, as its author is told: kindly, truly, and without money."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from bridge.answer import replies
from bridge.db import database_time
from bridge.records import Answering, Batch, BatchState, Comment, ReplyRequest, RequestState, Voice
from bridge.voice import budgets

LATER_FROM = 600
"""Seconds: what is put off for less is only waiting for its turn."""


class Stage(StrEnum):
    """Where a letter that has no answer is."""

    UNWANTED = "unwanted"
    """Its author asked for none."""
    TOO_DEEP = "too_deep"
    """It is further down a conversation than the voice answers."""
    WAITING = "waiting"
    LATER = "later"
    """The voice has answered as much as it may for now."""
    NOT_ASKED_NOW = "not_asked_now"
    ASKED = "asked"
    IN_A_BATCH = "in_a_batch"
    """It was sent with others, and they may take a day."""
    FAILED = "failed"
    """Asking did not work; a person may ask again."""
    NO_LONGER = "no_longer"
    """Nothing is asked any more: the essay, or what was written under it, is gone."""
    OVER = "over"
    """It has its outcome."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """How the answer to one letter stands."""

    stage: Stage
    until: datetime | None = None
    """When it is asked at the earliest, where that is later."""
    picks: bool = False
    """Whether its voice is shown what waits and picks the letters it answers."""
    picked: bool = False
    """Whether it picked this one."""


def awaited(session: Session, comment: Comment, voice: Voice, request: ReplyRequest | None, *, posted: bool) -> Awaited:
    """Return how the answer to a comment stands; before it is *posted*, how it will."""
    picks = voice.answering == Answering.CHOSEN.value
    if not comment.wants_reply:
        return Awaited(Stage.UNWANTED)
    if request is None:
        # One that is posted would have its request; a voice that answers further down since then is not asked again.
        too_deep = posted or replies.is_too_deep(session, comment)
        return Awaited(Stage.TOO_DEEP) if too_deep else Awaited(Stage.WAITING, picks=picks)
    stage, until = _stage(session, voice, request)
    return Awaited(stage, until, picks, picked=request.chosen_at is not None)


def _stage(session: Session, voice: Voice, request: ReplyRequest) -> tuple[Stage, datetime | None]:
    now = session.scalar(select(database_time())) or 0.0
    if request.state == RequestState.FAILED.value:
        return Stage.FAILED, None
    if request.state == RequestState.WITHDRAWN.value:
        return Stage.NO_LONGER, None
    if request.state == RequestState.ASKING.value:
        away = select(Batch.id).where(
            Batch.lease == request.lease, Batch.state.in_([BatchState.SENDING.value, BatchState.SENT.value])
        )
        return (Stage.IN_A_BATCH if session.scalar(away) is not None else Stage.ASKED), None
    if request.state != RequestState.WAITING.value:
        return Stage.OVER, None
    if voice.paused_at is not None and (voice.paused_until is None or voice.paused_until > now):
        return Stage.NOT_ASKED_NOW, None
    if request.not_before is not None and budgets.only_an_admin_ends(request.not_before):
        return Stage.WAITING, None  # There is no day that could be named.
    if request.not_before is not None and request.not_before > now + LATER_FROM:
        return Stage.LATER, datetime.fromtimestamp(request.not_before, UTC)
    return Stage.WAITING, None
