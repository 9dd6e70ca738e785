"""What readers are told in numbers: counted per voice and month, with no month left out and no word in it."""

from datetime import UTC, datetime, timedelta

import pytest
from ground.house import VOICE, House
from sqlalchemy import update

from bridge.essay import essays
from bridge.letter import comments
from bridge.page import transparency
from bridge.page.transparency import Counted, Month, VoiceNumbers
from bridge.records import Reply, ReplyRequest, RequestState
from bridge.voice import voices
from bridge.voice.voices import NewVoice


def count(house: House) -> Counted:
    with house.site.database.reading_sessions() as session:
        return transparency.count(session)


def this_month(house: House) -> Month:
    return count(house).voices[0].months[0]


def test_counts_letters_answers_and_verdicts(any_house: House) -> None:
    house = any_house
    house.exchange("One?", "One.")
    house.post("Two?")
    (vetoed,) = house.answer("Two.")
    house.reject(vetoed, by=house.ada, code="harm")
    house.reject(vetoed, by=house.ben, code="harm", reason=None)
    for number, code in enumerate(("spam", "spam", "abuse")):
        sent = house.send(f"Buy number {number}.")
        house.reject(sent.public_id, code=code, reason=None)
    house.settle(house.post("Three?").public_id, RequestState.DECLINED)
    house.settle(house.post("Four?").public_id, RequestState.WITHHELD)
    house.send("Five?")
    month = this_month(house)
    assert (month.approved, dict(month.rejected)) == (4, {"spam": 2, "abuse": 1})
    assert (month.asked, month.answered, month.declined, month.withheld, month.failed) == (4, 2, 1, 1, 0)
    assert (month.posted, dict(month.vetoed), month.essays_posted) == (1, {"harm": 1}, 1)
    house.post("Six?")
    house.answer("Nobody decided on this one.")
    assert this_month(house).answered == 2
    for measured in (
        month.letter_to_approval,
        month.letter_to_rejection,
        month.approval_to_answer,
        month.approval_to_decline,
        month.answer_to_approval,
        month.answer_to_veto,
    ):
        assert measured is not None
        assert 0 <= measured < 60


def test_counts_what_was_taken_back_all_the_same(house: House) -> None:
    sent, _ = house.exchange()
    before = this_month(house)
    comments.take_back(house.site, sent.public_id)
    after = this_month(house)
    assert (before.taken_back, after.taken_back) == (0, 1)
    for name in ("approved", "asked", "answered", "posted"):
        assert getattr(after, name) == getattr(before, name) == 1, name


def test_keeps_voices_apart_and_leaves_no_month_out(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with house.site.database.sessions.begin() as session:
        other = voices.add(session, NewVoice("Understudy", "no-such-model-1", "You are another."))
        essays.submit_essay(session, other, "# Later\n\nWords.", slug="later")
    house.exchange()
    at = datetime.now(UTC)
    monkeypatch.setattr(transparency, "now", lambda: at + timedelta(days=100))
    found = count(house)
    assert [voice.name for voice in found.voices] == [VOICE, "Understudy"]
    months = found.voices[0].months
    assert months[-1].month == f"{at:%Y-%m}"
    assert months[0].month == f"{at + timedelta(days=100):%Y-%m}"
    assert [each.is_empty for each in months] == [True] * (len(months) - 1) + [False]
    assert 4 <= len(months) <= 5
    assert found.voices[1].months == []


def test_counts_across_the_turn_of_a_year(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.exchange()
    when = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)
    with house.site.database.sessions.begin() as session:
        session.execute(update(Reply).values(created_at=datetime(2027, 2, 1, tzinfo=UTC)))
        session.execute(update(ReplyRequest).values(created_at=when))
    monkeypatch.setattr(transparency, "now", lambda: datetime(2027, 2, 2, tzinfo=UTC))
    months = {each.month: each for each in count(house).voices[0].months}
    assert list(months)[:3] == ["2027-02", "2027-01", "2026-12"]
    assert (months["2027-02"].answered, months["2026-11"].asked) == (1, 1)
    assert months["2027-01"].is_empty


def test_keeps_the_numbers_a_few_minutes_and_no_word(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.exchange("My name is Bob Smith.", "Hello, Bob.")
    first = transparency.counted(house.site)
    house.post("Another.")
    assert transparency.counted(house.site) is first
    monkeypatch.setattr(transparency, "now", lambda: first.at + transparency.KEPT_FOR + timedelta(seconds=1))
    assert transparency.counted(house.site).voices[0].months[0].approved == 2
    assert "Bob" not in repr(first)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "-"),
        (-1, "0 sec"),
        (0.4, "0 sec"),
        (89, "89 sec"),
        (90, "2 min"),
        (3600, "60 min"),
        (7200, "2 hr"),
        (172_799, "48 hr"),
        (200_000, "2 days"),
        (864_000, "10 days"),
    ],
)
def test_says_how_long_it_took(seconds: float | None, said: str) -> None:
    assert transparency.duration(seconds) == said


def numbers(*months: Month) -> list[VoiceNumbers]:
    return [VoiceNumbers("Test Voice", "test-voice", False, months)]


def test_draws_the_last_twelve_months_and_says_the_same_in_words() -> None:
    at = datetime(2026, 3, 9, tzinfo=UTC)
    found = transparency.chart(
        numbers(Month("2026-03", asked=1000, answered=1), Month("2025-05", asked=500), Month("2025-03", asked=9)), at
    )
    names = [name for _, name in found.names]
    assert " ".join(names) == "Apr May Jun Jul Aug Sep Oct Nov Dec Jan Feb Mar"
    heights = {(bar.what, bar.x): bar.height for bar in found.bars}
    assert len(heights) == 36
    assert sorted(height for height in heights.values() if height) == [2, 52, 104]
    assert all(bar.y + bar.height == 120 and bar.y >= 16 for bar in found.bars)
    assert found.most == 1000
    assert "May 2025: 500 asked, 0 answered, 0 declined" in found.text
    assert "March 2026: 1000 asked, 1 answered" in found.text
    assert "March 2025" not in found.text


def test_draws_nothing_of_nothing() -> None:
    found = transparency.chart([], datetime(2026, 3, 9, tzinfo=UTC))
    assert (found.most, found.text) == (0, "Nothing was asked in these months.")
    assert not any(bar.height for bar in found.bars)


def test_tells_programs_the_same(house: House) -> None:
    house.exchange()
    told = transparency.told(house.site, count(house))
    assert told["veto_quorum"] == 2
    (voice,) = told["voices"]
    assert voice["months"][0]["letters"] == {
        "approved": 1,
        "rejected": {},
        "taken_down": {},
        "taken_back": 0,
    }
    assert voice["months"][0]["answers"]["approved"] == 1
    assert told["appeals"] == {"decided_or_withdrawn": 0, "granted": 0, "refused": 0, "withdrawn": 0}
