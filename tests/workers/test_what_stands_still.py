"""Nothing that waits stands still for ever because of something else: each of these once did."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ground.batching import ScriptedBatches
from ground.workshop import ScriptedModel, Workshop, message, notes

from bridge import db
from bridge.answer import replies
from bridge.desk import keeping, takedowns
from bridge.records import Calls, Essay, ReplyRequest, Voice
from bridge.voice.budgets import Bounds
from moderation import moderators
from moderation.release import released

SLUG = "test-voice"


@pytest.fixture
def any_workshop(database: db.Database, tmp_path: Path) -> Workshop:
    return Workshop(database, tmp_path, price_in=15.0, price_out=75.0)


@pytest.fixture
def workshop(open_workshop: Callable[..., Workshop]) -> Workshop:
    return open_workshop(price_in=15.0, price_out=75.0)


def voice(workshop: Workshop, **ways: Any) -> None:
    with workshop.site.database.sessions.begin() as session:
        for name, value in ways.items():
            setattr(session.get_one(Voice, workshop.voice_id), name, value)


def test_asks_for_others_beside_a_letter_that_no_budget_has_room_for(any_workshop: Workshop) -> None:
    workshop = any_workshop
    keeping.set_bounds(workshop.site, SLUG, Bounds(cost_a_day=500_000))
    dear = workshop.asked("\N{FOX FACE}" * 4900)
    for n in range(3):
        workshop.asked(f"Small {n}.")
    model = ScriptedModel()
    workshop.sit(model)
    assert workshop.states() == ["waiting", "answered", "answered", "answered"]
    assert "no room for even one call" in str(workshop.request(dear).why)
    # The first of those that were asked went alone, as the first of all does.
    assert [len(each["messages"]) for each in model.requests] == [1, 1, 1]


def test_asks_one_alone_after_one_that_showed_nothing(workshop: Workshop) -> None:
    gone = workshop.asked("Taken back in time.")
    for n in range(3):
        workshop.asked(f"Number {n}.")
    began: list[int] = []
    model = ScriptedModel()

    async def note(_number: int) -> None:
        began.append(model.now)

    model.meanwhile = note
    workshop.withdraw(workshop.submission(gone))
    workshop.sit(model)
    assert workshop.states()[1:] == ["answered"] * 3
    assert began[0] == 1


def test_sends_no_batch_away_before_one_was_answered(workshop: Workshop, tmp_path: Path) -> None:
    voice(workshop, calls=Calls.BATCH.value)
    first = workshop.asked("First.")
    for n in range(3):
        workshop.asked(f"Number {n}.")
    model = ScriptedBatches(tmp_path / "batches")

    workshop.take_back(first)
    workshop.sit(model)
    assert workshop.states()[1] == "answered"


def test_ends_what_waits_under_an_essay_that_is_taken_down(any_workshop: Workshop) -> None:
    workshop = any_workshop
    workshop.asked()
    with workshop.site.database.reading_sessions() as session:
        submission_id = session.get_one(Essay, workshop.essay_id).submission_id
        seen = released(session, [submission_id])[submission_id].digest
    with workshop.site.database.sessions.begin() as session:
        admin = moderators.add(session, "Cyd", "admin")
    for moderator in (admin, workshop.people[0]):
        takedowns.take_down(
            workshop.site,
            submission_id,
            moderator=moderator,
            seen=seen,
            code="harm",
            reason="It tells where a private person lives, and when they are out.",
            by="operator",
        )
    assert workshop.states() == ["withdrawn"]


def test_lets_a_cheaper_voice_be_asked_at_once(workshop: Workshop) -> None:
    keeping.set_bounds(workshop.site, SLUG, Bounds(cost_a_month=1000))
    comment_id = workshop.asked()
    workshop.sit(ScriptedModel())
    assert workshop.request(comment_id).not_before is not None
    keeping.set_ways(workshop.site, SLUG, {"max_tokens": "100"})
    assert workshop.request(comment_id).not_before is None


def test_nudges_nothing_for_a_voice_that_is_paused(any_workshop: Workshop) -> None:
    workshop = any_workshop
    workshop.asked()
    with workshop.site.database.reading_sessions() as session:
        assert replies.essays_waiting(session) == [workshop.essay_id]
        assert replies.waits_under(session, workshop.essay_id)
    workshop.pause(minutes=15)
    with workshop.site.database.reading_sessions() as session:
        assert replies.essays_waiting(session) == []
        assert not replies.waits_under(session, workshop.essay_id)
    workshop.time_passes()
    with workshop.site.database.reading_sessions() as session:
        assert replies.essays_waiting(session) == [workshop.essay_id]


def test_gives_up_a_letter_over_which_workers_die(any_workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = any_workshop
    monkeypatch.setattr(replies, "DIED_AT_MOST", 3)
    poison = workshop.asked("It kills whoever answers it.")
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            workshop.sit(ScriptedModel(ZeroDivisionError()))
        workshop.time_passes()
        workshop.sweep()
    workshop.asked("Another.")
    workshop.sit(ScriptedModel())
    assert workshop.states() == ["failed", "answered"]
    assert workshop.request(poison).why == "3 calls for this letter never came to an end."


def test_waits_with_what_a_process_died_over_several_times(any_workshop: Workshop) -> None:
    workshop = any_workshop
    often, once = (workshop.asked(f"Number {n}.") for n in range(2))
    with workshop.site.database.sessions.begin() as session:
        session.get_one(ReplyRequest, often).attempts = replies.DIED_BEFORE
    replies.claims_are_made_by("0123456789abcdef")
    try:
        with workshop.site.database.sessions.begin() as session:
            replies.begin_sitting(session, workshop.essay_id)
    finally:
        replies.claims_are_made_by("")
    with workshop.site.database.sessions.begin() as session:
        replies.forget_claims_of(session, "0123456789abcdef")
    assert workshop.request(often).not_before is not None
    assert workshop.request(once).not_before is None


def test_records_a_note_without_an_id_and_goes_on(workshop: Workshop) -> None:
    bare = {name: value for name, value in notes("Look.").items() if name != "id"}
    workshop.asked()
    workshop.asked("Another.")
    workshop.sit(ScriptedModel(message(bare, stop="tool_use"), message("I dream.", bare, stop="tool_use")))
    assert workshop.states() == ["failed", "answered"]
    assert [made.note for made in workshop.generations()] == ["Look.", "Look."]


def test_records_a_cost_beyond_all_reason(any_workshop: Workshop) -> None:
    voice(any_workshop, price_in=100_000.0, price_out=100_000.0)
    any_workshop.asked()
    used = {"input_tokens": 9_000_000, "output_tokens": 9_000_000}
    any_workshop.sit(ScriptedModel(message("I dream.", usage=used)))
    assert any_workshop.states() == ["answered"]
    assert [made.cost for made in any_workshop.generations()] == [2**31 - 1]
