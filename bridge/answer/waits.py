"""How long things usually take, as authors are told on the page of their letter: what was measured, or nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from weakref import WeakKeyDictionary

from sqlalchemy import Select, select, union_all
from sqlalchemy.orm import Session

from bridge.db import Database
from bridge.records import Comment, Essay, Reply
from bridge.site import Site
from moderation import numbers
from moderation.base import now
from moderation.types import Kind

MEASURED_OVER = timedelta(days=30)
FEWEST = 5
"""How many must be measured before a number is told: fewer would be one letter's story, not what is usual."""
MOST = 1000
"""Of each kind, the newest: enough for a median, and bounded for a page."""
KEPT_FOR = timedelta(minutes=1)
"""How long a process tells the same numbers again, rather than measure anew."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Medians in seconds; None where too little was measured to say."""

    letter: float | None = None
    """From a letter's coming to what is decided on it."""
    answer: float | None = None
    """From a letter's approval to the coming of its answer."""
    verdict: float | None = None
    """From an answer's coming to what is decided on it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured at one moment."""

    overall: Waits
    voices: dict[int, Waits]
    """By the id of the voice; where one has measured too little, it is told what is usual overall."""
    at: datetime


_kept: WeakKeyDictionary[Database, Measured] = WeakKeyDictionary()


def usual(site: Site, voice_id: int) -> Waits:
    """Return how long things usually take under a voice's essays, as it was at most `KEPT_FOR` ago."""
    found = _kept.get(site.database)
    if found is None or not timedelta(0) <= now() - found.at <= KEPT_FOR:
        with site.database.reading_sessions() as session:
            found = measure(session)
        _kept[site.database] = found
    return found.voices.get(voice_id, found.overall)


def measure(session: Session) -> Measured:
    """Measure what was decided and answered lately."""
    at = now()
    since = at - MEASURED_OVER
    letter = numbers.decided_since(session, _whose(), Kind.COMMENT, since, at_most=MOST)
    answer = numbers.answered_since(session, _whose(), since, at_most=MOST)
    verdict = numbers.decided_since(session, _whose(), Kind.REPLY, since, at_most=MOST)
    overall = Waits(*(_median([seconds for _, seconds in measured]) for measured in (letter, answer, verdict)))
    by_voice = [_by_voice(letter), _by_voice(answer), _by_voice(verdict)]
    voices = {
        voice: Waits(
            _first(by_voice[0].get(voice), overall.letter),
            _first(by_voice[1].get(voice), overall.answer),
            _first(by_voice[2].get(voice), overall.verdict),
        )
        for voice in set().union(*by_voice)
    }
    return Measured(overall, voices, at)


def _by_voice(measured: Sequence[tuple[int, float]]) -> dict[int, float | None]:
    of: dict[int, list[float]] = defaultdict(list)
    for voice, seconds in measured:
        of[voice].append(seconds)
    return {voice: _median(all_of_it) for voice, all_of_it in of.items()}


def _median(seconds: Sequence[float]) -> float | None:
    return median(seconds) if len(seconds) >= FEWEST else None


def _first(own: float | None, overall: float | None) -> float | None:
    return own if own is not None else overall


def _whose() -> Select[int, int]:
    """Return a query for every letter and every answer with the voice that it counts for."""
    every = union_all(
        select(Comment.submission_id.label("submission_id"), Essay.voice_id.label("voice_id")).join(
            Essay, Essay.id == Comment.essay_id
        ),
        select(Reply.submission_id, Essay.voice_id)
        .join(Comment, Comment.id == Reply.comment_id)
        .join(Essay, Essay.id == Comment.essay_id),
    ).subquery()
    return select(every.c.submission_id, every.c.voice_id)
