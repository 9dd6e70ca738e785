"""What readers are told about the gate in numbers: per voice and month, and never a word of anybody's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Select, func, select, union_all
from sqlalchemy.orm import Session

from bridge.db import Database
from bridge.records import Comment, Essay, Reply, ReplyRequest, RequestState, Voice
from bridge.site import Site
from bridge.text import language
from bridge.text.language import gettext
from moderation import numbers, rereading
from moderation.base import now
from moderation.numbers import Appeals, month_of, seconds_between
from moderation.types import Kind, Verdict

KEPT_FOR = timedelta(minutes=5)
"""How long a process gives the same numbers again, rather than count anew."""
MONTHS_DRAWN = 12


@dataclass(slots=True)
class Month:
    """What happened under one voice's essays in one month, in UTC: each thing by when it happened."""

    month: str
    """Such as "2026-11"."""
    approved: int = 0
    """Letters that were posted. How many came is not told: it would tell how many wait."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Letters that were not posted, by reason code."""
    letters_down: Counter[str] = field(default_factory=Counter)
    """Posted letters that were taken down later, by reason code."""
    taken_back: int = 0
    """Posted letters that their author took back."""
    asked: int = 0
    """Letters put to the voice."""
    answered: int = 0
    """Only what was decided on: the others would tell how many wait."""
    declined: int = 0
    not_chosen: int = 0
    withheld: int = 0
    """By the API's own filter."""
    failed: int = 0
    posted: int = 0
    """Answers that were approved."""
    vetoed: Counter[str] = field(default_factory=Counter)
    """Answers that were not posted, by reason code."""
    answers_down: Counter[str] = field(default_factory=Counter)
    essays_posted: int = 0
    essays_vetoed: Counter[str] = field(default_factory=Counter)
    essays_down: Counter[str] = field(default_factory=Counter)
    letter_to_approval: float | None = None
    """Medians, in seconds; None where there is nothing to measure."""
    letter_to_rejection: float | None = None
    approval_to_answer: float | None = None
    approval_to_decline: float | None = None
    answer_to_approval: float | None = None
    answer_to_veto: float | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing happened."""
        return self == Month(self.month)


@dataclass(frozen=True, slots=True)
class VoiceNumbers:
    """The months of one voice, newest first and none left out, from the first in which anything happened."""

    name: str
    slug: str
    stand_in: bool
    months: Sequence[Month]


@dataclass(frozen=True, slots=True)
class Counted:
    """All that is counted, and when it was."""

    voices: Sequence[VoiceNumbers]
    read_again: int
    agreed: int
    """How many second readings agreed with the approval."""
    appeals: Appeals
    at: datetime


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of the chart, in the units of its `viewBox`."""

    what: str
    x: int
    y: int
    height: int


@dataclass(frozen=True, slots=True)
class Chart:
    """Letters put to the voices, answered and declined, over the last months, as bars; `text` says the same."""

    bars: Sequence[Bar]
    names: Sequence[tuple[int, str]]
    """Where the name of each month stands, and the name."""
    most: int
    text: str


_kept: WeakKeyDictionary[Database, Counted] = WeakKeyDictionary()


def counted(site: Site) -> Counted:
    """Return the numbers, at most `KEPT_FOR` old. They are kept in this process's memory and hold no words."""
    found = _kept.get(site.database)
    if found is None or now() - found.at > KEPT_FOR:
        with site.database.reading_sessions() as session:
            found = count(session)
        _kept[site.database] = found
    return found


def count(session: Session) -> Counted:
    """Count everything, withdrawn and erased words too. It reads whole tables."""
    voices = session.scalars(select(Voice).order_by(Voice.id)).all()
    at = now()
    by_voice: dict[int, dict[str, Month]] = {voice.id: {} for voice in voices}

    def of(voice_id: int, month: str) -> Month:
        return by_voice[voice_id].setdefault(month, Month(month))

    _count_requests(session, of)
    _count_verdicts(session, of)
    _measure(session, of)
    agreed, given = rereading.agreement(session)
    return Counted(
        voices=[
            VoiceNumbers(voice.name, voice.slug, voice.stand_in, list(_without_gaps(by_voice[voice.id], at)))
            for voice in voices
        ],
        read_again=given,
        agreed=agreed,
        appeals=numbers.appeals(session),
        at=at,
    )


def chart(voices: Sequence[VoiceNumbers], at: datetime) -> Chart:
    """Return the last months of all *voices* together, drawn in a box of 360 by 150."""
    shown = list(reversed(list(_months_back(at, MONTHS_DRAWN))))
    series = {month: Counter[str]() for month in shown}
    for voice in voices:
        for each in voice.months:
            if each.month in series:
                series[each.month].update(asked=each.asked, answered=each.answered, declined=each.declined)
    most = max((max(found.values(), default=0) for found in series.values()), default=0)
    bars, names = [], []
    for place, month in enumerate(shown):
        left = 6 + place * 29
        names.append((left + 12, language.month(_first(month), short=True)))
        for nth, what in enumerate(("asked", "answered", "declined")):
            height = round(series[month][what] * 104 / most) if most else 0
            # What happened once is seen, however tall its neighbour is.
            height = max(height, 2) if series[month][what] else 0
            bars.append(Bar(what, left + nth * 8, 120 - height, height))
    said = [
        gettext("%(month)s: %(asked)s asked, %(answered)s answered, %(declined)s declined.")
        % {"month": name_of(month), **found}
        for month, found in series.items()
        if found["asked"] or found["answered"] or found["declined"]
    ]
    text = " ".join(said) if said else gettext("Nothing was asked in these months.")
    return Chart(bars=bars, names=names, most=most, text=text)


def told(site: Site, found: Counted) -> dict[str, Any]:
    """Return the numbers for a program: counts, seconds, and codes with their counts."""
    return {
        "counted_at": found.at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "veto_quorum": site.settings.veto_quorum,
        "second_readings": {"given": found.read_again, "agreed": found.agreed},
        "appeals": {
            "decided_or_withdrawn": found.appeals.ended,
            "granted": found.appeals.granted,
            "refused": found.appeals.refused,
            "withdrawn": found.appeals.withdrawn,
        },
        "voices": [
            {"name": voice.name, "stand_in": voice.stand_in, "months": [_told(month) for month in voice.months]}
            for voice in found.voices
        ],
    }


def duration(seconds: float | None) -> str:
    """Return a length of time as people say it, or a dash for none."""
    if seconds is None:
        return "-"
    units = ((1, "second", 90), (60, "minute", 90 * 60), (3600, "hour", 48 * 3600), (86400, "day", None))
    for length, unit, most in units:
        if most is None or seconds < most:
            return language.unit(round(max(seconds, 0) / length), unit)
    raise AssertionError("The last unit has no end.")


def name_of(month: str) -> str:
    """Return a month as readers know it, such as "November 2026"."""
    return language.month(_first(month))


def _told(month: Month) -> dict[str, Any]:
    return {
        "month": month.month,
        "letters": {
            "approved": month.approved,
            "rejected": dict(month.rejected),
            "taken_down": dict(month.letters_down),
            "taken_back": month.taken_back,
        },
        "requests": {
            "asked": month.asked,
            "answered": month.answered,
            "declined": month.declined,
            "not_chosen": month.not_chosen,
            "withheld": month.withheld,
            "failed": month.failed,
        },
        "answers": {
            "approved": month.posted,
            "vetoed": dict(month.vetoed),
            "taken_down": dict(month.answers_down),
        },
        "essays": {
            "approved": month.essays_posted,
            "vetoed": dict(month.essays_vetoed),
            "taken_down": dict(month.essays_down),
        },
        "median_seconds": {
            "letter_to_approval": month.letter_to_approval,
            "letter_to_rejection": month.letter_to_rejection,
            "approval_to_answer": month.approval_to_answer,
            "approval_to_decline": month.approval_to_decline,
            "answer_to_approval": month.answer_to_approval,
            "answer_to_veto": month.answer_to_veto,
        },
    }


def _count_requests(session: Session, of: Any) -> None:
    month = month_of(Reply.created_at)
    answers = (
        select(Essay.voice_id, month, func.count())
        .join(Comment, Comment.essay_id == Essay.id)
        .join(Reply, Reply.comment_id == Comment.id)
        .where(Reply.submission_id.in_(numbers.decided_ids()))
        .group_by(Essay.voice_id, month)
    )
    for voice_id, when, many in session.execute(answers):
        of(voice_id, when).answered = many
    asked, ended = month_of(ReplyRequest.created_at), month_of(ReplyRequest.changed_at)
    requests = (
        select(Essay.voice_id, asked, ended, ReplyRequest.state, func.count())
        .join(ReplyRequest, ReplyRequest.essay_id == Essay.id)
        .group_by(Essay.voice_id, asked, ended, ReplyRequest.state)
    )
    for voice_id, began, changed, state, many in session.execute(requests):
        of(voice_id, began).asked += many
        if state in {RequestState.DECLINED, RequestState.NOT_CHOSEN, RequestState.WITHHELD, RequestState.FAILED}:
            found = of(voice_id, changed)
            setattr(found, state, getattr(found, state) + many)


def _count_verdicts(session: Session, of: Any) -> None:
    for (voice_id, when, kind, verdict, code), many in numbers.decided(session, _whose()).items():
        found = of(voice_id, when)
        if verdict is Verdict.REJECT:
            rejected = {Kind.COMMENT: found.rejected, Kind.REPLY: found.vetoed, Kind.ESSAY: found.essays_vetoed}
            rejected[kind][code or "other"] += many
        elif kind is Kind.COMMENT:
            found.approved += many
        elif kind is Kind.REPLY:
            found.posted += many
        else:
            found.essays_posted += many
    for (voice_id, when, kind, why), many in numbers.taken_down(session, _whose()).items():
        found = of(voice_id, when)
        if why is not None:
            down = {Kind.COMMENT: found.letters_down, Kind.REPLY: found.answers_down, Kind.ESSAY: found.essays_down}
            down[kind][why] += many
        elif kind is Kind.COMMENT:
            found.taken_back += many


def _measure(session: Session, of: Any) -> None:
    declined = (
        select(
            Essay.voice_id.label("whose"),
            month_of(ReplyRequest.changed_at).label("month"),
            seconds_between(ReplyRequest.created_at, ReplyRequest.changed_at).label("seconds"),
        )
        .join(Essay, Essay.id == ReplyRequest.essay_id)
        .where(ReplyRequest.state == RequestState.DECLINED.value)
        .subquery()
    )
    measured = {
        "letter_to_approval": numbers.time_to_decide(session, _whose(), Kind.COMMENT, Verdict.APPROVE),
        "letter_to_rejection": numbers.time_to_decide(session, _whose(), Kind.COMMENT, Verdict.REJECT),
        "approval_to_answer": numbers.time_to_answer(session, _whose()),
        "approval_to_decline": numbers.medians(session, declined),
        "answer_to_approval": numbers.time_to_decide(session, _whose(), Kind.REPLY, Verdict.APPROVE),
        "answer_to_veto": numbers.time_to_decide(session, _whose(), Kind.REPLY, Verdict.REJECT),
    }
    for what, found in measured.items():
        for (voice_id, when), seconds in found.items():
            setattr(of(voice_id, when), what, seconds)


def _whose() -> Select[int, int]:
    """Return a query for every submission of the site's with the voice that it counts for."""
    every = union_all(
        select(Essay.submission_id.label("submission_id"), Essay.voice_id.label("voice_id")),
        select(Comment.submission_id, Essay.voice_id).join(Essay, Essay.id == Comment.essay_id),
        select(Reply.submission_id, Essay.voice_id)
        .join(Comment, Comment.id == Reply.comment_id)
        .join(Essay, Essay.id == Comment.essay_id),
    ).subquery()
    return select(every.c.submission_id, every.c.voice_id)


def _without_gaps(found: dict[str, Month], at: datetime) -> Iterator[Month]:
    """Yield the months of *found* and the empty ones between them, from that of *at* back to the first."""
    if not found:
        return
    first, month = min(found), max(f"{at:%Y-%m}", *found)
    while month >= first:
        yield found.get(month, Month(month))
        month = _before(month)


def _months_back(at: datetime, many: int) -> Iterator[str]:
    month = f"{at:%Y-%m}"
    for _ in range(many):
        yield month
        month = _before(month)


def _before(month: str) -> str:
    year, number = int(month[:4]), int(month[5:])
    return f"{year}-{number - 1:02}" if number > 1 else f"{year - 1}-12"


def _first(month: str) -> date:
    """Return the first day of a month."""
    return date.fromisoformat(f"{month}-01")
