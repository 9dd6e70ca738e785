"""The steps of a request, each by itself; `tests/workers/test_sitting.py` has them taken in order."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from ground.house import sent
from ground.workshop import ScriptedModel, Workshop
from sqlalchemy import select
from sqlalchemy.orm import Session

from bridge import db
from bridge.answer import replies
from bridge.answer.replies import LEASE_SECONDS, Sitting, VoicePaused
from bridge.db import database_time
from bridge.records import ReplyRequest, RequestState, Voice
from bridge.voice import voices

R = TypeVar("R")
ORIGIN = ScriptedModel().origin(None)


@pytest.fixture
def workshop(database: db.Database, tmp_path: Path) -> Workshop:
    return Workshop(database, tmp_path)


def step(workshop: Workshop, what: Callable[..., R], *given: Any, **named: Any) -> R:
    with workshop.site.database.sessions.begin() as session:
        return what(session, *given, **named)


def begun(workshop: Workshop, essay_id: int | None = None) -> Sitting | None:
    return step(workshop, replies.begin_sitting, essay_id or workshop.essay_id)


def clock(workshop: Workshop) -> float:
    with workshop.site.database.reading_sessions() as session:
        return float(session.scalar(select(database_time())) or 0)


def test_notes_the_need_for_a_reply_once_and_only_for_comments_that_want_one(workshop: Workshop) -> None:
    wanting = workshop.asked("Answer me.")
    workshop.asked("Do not.", wants_reply=False)
    with workshop.site.database.reading_sessions() as session:
        assert session.get(replies.ReplyRequest, wanting + 1) is None
    assert workshop.states() == ["waiting"]
    assert step(workshop, replies.request_if_comment, workshop.submission(wanting)) is None
    assert step(workshop, replies.request_if_comment, 1) is None
    assert step(workshop, replies.request_if_comment, 4711) is None


def test_claims_all_that_waits_for_as_long_as_a_lease_lasts(workshop: Workshop) -> None:
    ids = [workshop.asked(f"Number {n}.") for n in range(2)]
    before = clock(workshop)
    sitting = begun(workshop)
    after = clock(workshop)
    assert sitting is not None
    assert [claimed.comment_id for claimed in sitting.claimed] == ids
    for each in ids:
        request = workshop.request(each)
        assert (request.state, request.lease, request.attempts) == ("asking", sitting.lease, 0)
        assert before + LEASE_SECONDS <= (request.leased_until or 0) <= after + LEASE_SECONDS
    assert begun(workshop) is None
    assert workshop.request(ids[0]).lease == sitting.lease


def test_claims_nothing_where_there_is_nothing(workshop: Workshop) -> None:
    assert begun(workshop) is None
    assert begun(workshop, 4711) is None
    other = workshop.essay("# On work\n\nI work no more.")
    workshop.asked(essay_id=other)
    assert begun(workshop) is None
    assert workshop.states() == ["waiting"]


def test_renews_only_the_claims_of_its_own_lease(workshop: Workshop) -> None:
    first = workshop.asked("One.")
    mine = begun(workshop)
    second = workshop.asked("Two.")
    assert begun(workshop) is not None
    assert mine is not None
    workshop.time_passes()
    step(workshop, replies.renew, mine.lease)
    assert step(workshop, replies.forget_lost_claims) == 1
    assert [workshop.request(each).state for each in (first, second)] == ["asking", "waiting"]


def test_gives_back_no_claim_before_its_time(workshop: Workshop) -> None:
    workshop.asked()
    begun(workshop)
    assert step(workshop, replies.forget_lost_claims) == 0
    assert workshop.states() == ["asking"]


def test_begins_no_call_that_is_no_longer_wanted(workshop: Workshop) -> None:
    ids = [workshop.asked(f"Number {n}.") for n in range(3)]
    sitting = begun(workshop)
    assert sitting is not None

    def begin(number: int) -> int | None:
        claimed = sitting.claimed[number]
        return step(
            workshop,
            replies.begin_generation,
            sitting,
            claimed,
            sent(sitting, claimed, workshop.site.keys),
            ORIGIN,
            workshop.site.keys,
        )

    workshop.take_back(ids[0])
    assert begin(0) is None
    assert begin(1) is not None
    workshop.pause()
    with pytest.raises(VoicePaused):
        begin(2)
    assert [made.comment_id for made in workshop.generations()] == [ids[1]]
    assert [workshop.request(each).attempts for each in ids] == [0, 1, 0]


def test_puts_a_request_back_only_while_it_holds_it(workshop: Workshop) -> None:
    comment_id = workshop.asked()
    lost = begun(workshop)
    assert lost is not None
    workshop.time_passes()
    step(workshop, replies.forget_lost_claims)
    held = begun(workshop)
    assert held is not None
    step(workshop, replies.wait_again, lost, lost.claimed[0], "Too late.", seconds=60)
    step(workshop, replies.give_up, lost, lost.claimed[0], "Too late.")
    assert workshop.request(comment_id).lease == held.lease
    before = clock(workshop)
    step(workshop, replies.wait_again, held, held.claimed[0], "Later.", seconds=60)
    request = workshop.request(comment_id)
    assert (request.state, request.why, request.lease, request.leased_until) == ("waiting", "Later.", None, None)
    assert before + 60 <= (request.not_before or 0) <= clock(workshop) + 60
    assert begun(workshop) is None
    assert step(workshop, replies.essays_waiting) == []
    workshop.time_passes()
    assert step(workshop, replies.essays_waiting) == [workshop.essay_id]


def test_waits_for_no_time_where_none_is_named(workshop: Workshop) -> None:
    comment_id = workshop.asked()
    for seconds in (60, 0):
        held = begun(workshop)
        assert held is not None
        step(workshop, replies.wait_again, held, held.claimed[0], None, seconds=seconds)
        due = workshop.request(comment_id).not_before is None
        workshop.time_passes()
        assert due == (seconds == 0)


def test_fails_for_good_what_it_gives_up(workshop: Workshop) -> None:
    comment_id = workshop.asked()
    held = begun(workshop)
    assert held is not None
    step(workshop, replies.give_up, held, held.claimed[0], "The API refused our request.")
    request = workshop.request(comment_id)
    assert (request.state, request.why, request.lease) == (RequestState.FAILED, "The API refused our request.", None)
    assert begun(workshop) is None
    assert step(workshop, replies.essays_waiting) == []


def test_names_each_essay_under_which_something_waits_once(workshop: Workshop) -> None:
    other = workshop.essay("# On work\n\nI work no more.")
    workshop.asked("Three.", essay_id=other)
    workshop.asked("One.")
    workshop.asked("Two.")
    assert step(workshop, replies.essays_waiting) == [workshop.essay_id, other]


def test_counts_failures_until_there_are_five_in_a_row(workshop: Workshop) -> None:
    for failures in range(1, replies.PAUSE_AFTER):
        step(workshop, replies.count_failure, workshop.voice_id, "The API is failing.")
        voice = workshop.voice()
        assert (voice.failures_in_a_row, voice.paused_at) == (failures, None)
    before = clock(workshop)
    step(workshop, replies.count_failure, workshop.voice_id, "The API is failing.")
    voice = workshop.voice()
    assert (voice.failures_in_a_row, voice.paused_why) == (replies.PAUSE_AFTER, "The API is failing.")
    quarter = 60 * replies.PAUSE_MINUTES
    assert quarter == 900
    assert before + quarter <= (voice.paused_until or 0) <= clock(workshop) + quarter
    # Of a call that was under way meanwhile: it makes the pause no longer.
    step(workshop, replies.count_failure, workshop.voice_id, "The API cannot be reached.")
    assert workshop.voice().paused_until == voice.paused_until


def test_probes_with_one_when_a_pause_has_run_out(workshop: Workshop) -> None:
    for n in range(3):
        workshop.asked(f"Number {n}.")
    workshop.pause(minutes=15)
    assert begun(workshop) is None
    workshop.time_passes()
    sitting = begun(workshop)
    assert sitting is not None
    assert len(sitting.claimed) == 1
    assert workshop.states() == ["asking", "waiting", "waiting"]


def test_waits_for_a_person_where_a_person_is_needed(workshop: Workshop) -> None:
    workshop.asked()
    step(workshop, replies.pause_voice, workshop.voice_id, "The key is not accepted.")
    workshop.time_passes()
    assert begun(workshop) is None

    def resume(session: Session) -> None:
        voices.resume(session, session.get_one(Voice, workshop.voice_id))

    step(workshop, resume)
    assert begun(workshop) is not None


def test_shows_no_comment_that_waits_in_the_request_for_another(workshop: Workshop) -> None:
    # What waits is asked about, each in its own request, and is no part of the thread that they share.
    for n in range(2):
        workshop.asked(f"Number {n}.")
    sitting = begun(workshop)
    assert sitting is not None
    for claimed, other in zip(sitting.claimed, ("Number 1.", "Number 0."), strict=True):
        assert other not in str(sent(sitting, claimed, workshop.site.keys).request)


# Turns


def test_gathers_for_a_while_what_comes_close_together(workshop: Workshop) -> None:
    assert step(workshop, replies.gathering, workshop.essay_id, 2.0) == 0
    comment_id = workshop.asked()
    assert 1.5 < step(workshop, replies.gathering, workshop.essay_id, 2.0) <= 2
    with workshop.site.database.sessions.begin() as session:
        session.get_one(ReplyRequest, comment_id).changed_at -= timedelta(seconds=30)
    workshop.asked("A later one does not prolong it.")
    assert step(workshop, replies.gathering, workshop.essay_id, 2.0) == 0


def test_has_essays_take_turns(workshop: Workshop) -> None:
    first, second, third = (workshop.essay(f"# Number {n}\n\nWords.") for n in range(3))
    for essay_id in (first, second):
        workshop.asked(essay_id=essay_id)
    for essay_id in (second, first):
        workshop.sit(ScriptedModel(), essay_id=essay_id)
    for essay_id in (first, second, third):
        workshop.asked(essay_id=essay_id)
    # Never asked, then asked longest ago.
    assert step(workshop, replies.essays_waiting) == [third, second, first]


def test_takes_fewer_where_others_wait_for_the_same_voice(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "IN_TURN", 2)
    for n in range(3):
        workshop.asked(f"Number {n}.")
    other = workshop.asked("Elsewhere.", essay_id=workshop.essay("# Else\n\nWhere."))
    sitting = begun(workshop)
    assert sitting is not None
    assert len(sitting.claimed) == 2
    workshop.take_back(other)
    rest = begun(workshop)
    assert rest is not None
    assert len(rest.claimed) == 1


def test_gives_back_at_once_what_a_dead_process_claimed(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = workshop.essay("# Else\n\nWhere.")
    workshop.asked()
    workshop.asked("Elsewhere.", essay_id=elsewhere)
    replies.claims_are_made_by("0123456789abcdef")
    try:
        begun(workshop)
    finally:
        replies.claims_are_made_by("")
    begun(workshop, elsewhere)
    assert workshop.states() == ["asking", "asking"]
    assert step(workshop, replies.forget_claims_of, "fedcba9876543210") == []
    assert step(workshop, replies.forget_claims_of, "0123456789abcdef") == [workshop.essay_id]
    assert workshop.states() == ["waiting", "asking"]
