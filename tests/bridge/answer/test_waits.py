"""How long things usually take: measured over the last month, by voice where there is enough, or not told."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from ground.house import House
from sqlalchemy.orm import Session

from bridge.answer import waits
from bridge.answer.waits import Measured, Waits
from bridge.desk import reviews
from bridge.essay import essays
from bridge.voice import voices
from bridge.voice.voices import NewVoice
from moderation.queue import pending


class Clock:
    """The clocks of the gate and of what measures it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
        for module in ("moderation.gate", "bridge.answer.waits"):
            monkeypatch.setattr(f"{module}.now", lambda: self.at)

    def passes(self, **span: float) -> None:
        self.at += timedelta(**span)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    yield Clock(monkeypatch)
    waits._kept.clear()


def voice_of(house: House, slug: str) -> int:
    with house.site.database.reading_sessions() as session:
        return essays.published(session, slug).voice.id


def usual(house: House, slug: str = "on-rest") -> Waits:
    waits._kept.clear()
    return waits.usual(house.site, voice_of(house, slug))


def exchange(house: House, clock: Clock, hours: tuple[float, float, float], number: int, slug: str = "on-rest") -> None:
    """Have a letter read, answered and its answer read, each after so many hours."""
    sent = house.send(f"Letter {number}?", slug=slug)
    clock.passes(hours=hours[0])
    house.approve(sent.public_id)
    clock.passes(hours=hours[1])
    (reply,) = house.answer(f"Answer {number}.", slug=slug)
    clock.passes(hours=hours[2])
    house.approve(reply)


def another_voice(house: House, slug: str) -> None:
    with house.site.database.sessions.begin() as session:
        voice = voices.add(session, NewVoice("Understudy", "no-such-model-1", "You are another test."))
        added = essays.submit_essay(session, voice, "# Another\n\nMore.", slug=slug)
        waiting = pending(session, added.submission_id)
        assert waiting is not None
    reviews.approve(house.site, added.submission_id, moderator=house.ada, seen=waiting.digest)


def test_tells_the_median_of_each_step(any_house: House, clock: Clock) -> None:
    for number, hours in enumerate((1, 2, 30, 3, 2)):
        exchange(any_house, clock, (hours, hours * 2, hours * 3), number)
    found = usual(any_house)
    assert found.letter == pytest.approx(2 * 3600, abs=1)
    assert found.answer == pytest.approx(4 * 3600, abs=1)
    assert found.verdict == pytest.approx(6 * 3600, abs=1)


def test_says_nothing_of_what_happened_too_seldom(house: House, clock: Clock) -> None:
    for number in range(waits.FEWEST - 1):
        exchange(house, clock, (1, 1, 1), number)
    assert usual(house) == Waits()
    house.reject(house.send("Buy.").public_id, code="spam", reason=None)
    assert usual(house).letter is not None
    assert usual(house).answer is None


def test_measures_the_last_month_only(house: House, clock: Clock) -> None:
    for number in range(waits.FEWEST):
        exchange(house, clock, (1, 1, 1), number)
    clock.passes(days=31)
    assert usual(house) == Waits()


def test_tells_of_a_voice_what_is_usual_with_it_or_else_overall(house: House, clock: Clock) -> None:
    another_voice(house, "another")
    for number in range(waits.FEWEST):
        exchange(house, clock, (1, 1, 1), number)
    assert usual(house, "another") == usual(house)
    for number in range(waits.FEWEST):
        sent = house.send(f"Other {number}?", slug="another", wants_reply=False)
        clock.passes(hours=10)
        house.approve(sent.public_id)
    assert usual(house).letter == pytest.approx(3600, abs=1)
    assert usual(house, "another").letter == pytest.approx(36000, abs=1)
    assert usual(house, "another").answer == usual(house).answer


def test_measures_once_a_minute(house: House, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    waits._kept.clear()
    measured = []
    of = waits.measure

    def measure(session: Session) -> Measured:
        measured.append(session)
        return of(session)

    monkeypatch.setattr(waits, "measure", measure)
    voice = voice_of(house, "on-rest")
    for _ in range(3):
        waits.usual(house.site, voice)
    assert len(measured) == 1
    clock.passes(seconds=61)
    waits.usual(house.site, voice)
    assert len(measured) == 2
