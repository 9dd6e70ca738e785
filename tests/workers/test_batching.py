"""A voice that is asked in batches: what goes away, what comes back, and what becomes of both where something fails."""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from ground.batching import GONE, ScriptedBatches, numbered
from ground.workshop import MODEL, NAME, SECRET, ScriptedModel, Workshop, message, notes, quoted
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from bridge.answer import replies
from bridge.letter import erasure
from bridge.mail import told
from bridge.records import Batch, Comment, Voice
from bridge.site import Site
from bridge.voice import voices
from bridge.voice.model import BatchModel, Model, ModelBusy, PassingTrouble, RequestRefused, Trouble, VoiceBlocked
from moderation.base import now
from workers import batching, sitting
from workers.claude import Claude
from workers.rehearsal import Rehearsal, RehearsalSettings, running

R = TypeVar("R")
GOOD = message("I dream of letters.")
TIMED_OUT = PassingTrouble("No answer within 120 s.", tries=2)


@pytest.fixture
def api(tmp_path: Path) -> ScriptedBatches:
    return ScriptedBatches(tmp_path / "batches")


@pytest.fixture
def batching_one(workshop: Workshop) -> Workshop:
    """A voice that is asked in batches, and was answered within the day."""
    calls(workshop, "batch")
    workshop.asked("Are you there?")
    workshop.sit(ScriptedModel(message("I am.")))
    return workshop


def calls(workshop: Workshop, way: str) -> None:
    with workshop.site.database.sessions.begin() as session:
        voice = session.get_one(Voice, workshop.voice_id)
        voice.calls, voice.price_in, voice.price_out = way, 15.0, 75.0


def fetch(workshop: Workshop, api: Model, batch_id: int = 1, *, minutes: float = 1) -> str:
    """Look at a batch so many minutes after the last look."""
    with workshop.site.database.sessions.begin() as session:
        for each in session.scalars(select(Batch)):
            each.asked_at = (each.asked_at or 0) - 60 * minutes
            each.created_at -= timedelta(minutes=minutes)

    async def at_once(_: float) -> None:
        """Wait for nothing."""

    return asyncio.run(batching.fetch(workshop.site, batch_id, api, sleep=at_once))


def batch(workshop: Workshop, batch_id: int = 1) -> Batch:
    with workshop.site.database.reading_sessions() as session:
        return session.get_one(Batch, batch_id)


def batches_made(workshop: Workshop) -> int:
    with workshop.site.database.reading_sessions() as session:
        return len(session.scalars(select(Batch)).all())


def asked(workshop: Workshop, number: int) -> list[int]:
    return [workshop.asked(f"Number {n}.") for n in range(number)]


def is_marked(request: dict[str, Any]) -> bool:
    return "cache_control" in json.dumps(request)


# What goes away


def test_is_a_model_that_is_asked_in_batches(api: ScriptedBatches) -> None:
    assert isinstance(api, BatchModel)
    assert not isinstance(ScriptedModel(), BatchModel)


def test_asks_one_live_and_sends_the_others_away(any_workshop: Workshop, api: ScriptedBatches) -> None:
    calls(any_workshop, "batch")
    ids = asked(any_workshop, 4)
    assert any_workshop.sit(api) == "1 asked, 3 in a batch"
    assert api.comments() == ["Number 0."]
    assert any_workshop.states() == ["answered", "asking", "asking", "asking"]
    kept = batch(any_workshop)
    assert (kept.state, kept.remote_id, kept.requests) == ("sent", "msgbatch_000", 3)
    assert api.letters("msgbatch_000") == ["Number 1.", "Number 2.", "Number 3."]
    assert not any(is_marked(request) for request in (*api.requests, *(r for _, r in api.entries("msgbatch_000"))))

    assert any_workshop.sit(api) == "nothing to do"
    assert fetch(any_workshop, api) == "3 results"
    assert any_workshop.states() == ["answered"] * 4
    assert [any_workshop.reply_words(each) for each in ids] == [(NAME, "I dream of letters.")] * 4
    assert batch(any_workshop).state == "ended"
    made = any_workshop.generations()
    assert [(call.batch_id, numbered(call.custom_id)) for call in made] == [
        (None, ""),
        *((kept.id, f"rr-{each}-1") for each in ids[1:]),
    ]
    whole = 1000 * 15 + 10 * 75
    assert [call.cost for call in made] == [whole, *[whole // 2] * 3]
    # The next ones need no live one before them for a day.
    asked(any_workshop, 2)
    assert any_workshop.sit(api) == "0 asked, 2 in a batch"


def test_costs_at_most_0_53_of_the_same_live_and_uncached(workshop: Workshop, api: ScriptedBatches) -> None:
    calls(workshop, "batch")
    letters = 20
    asked(workshop, letters)
    workshop.sit(api)
    fetch(workshop, api)
    assert workshop.states() == ["answered"] * letters
    assert sum(call.cost or 0 for call in workshop.generations()) <= 0.53 * letters * (1000 * 15 + 10 * 75)


@pytest.mark.parametrize(
    ("way", "waiting", "said"),
    [
        ("live", 7, "7 asked"),
        ("live", 2, "2 asked"),
        ("rule", 5, "5 asked"),
        ("rule", 4, "0 asked, 4 in a batch"),
        ("batch", 7, "0 asked, 7 in a batch"),
        ("batch", 1, "0 asked, 1 in a batch"),
    ],
)
def test_follows_the_way_of_its_voice(
    batching_one: Workshop, api: ScriptedBatches, way: str, waiting: int, said: str
) -> None:
    calls(batching_one, way)
    asked(batching_one, waiting)
    assert batching_one.sit(api) == said
    assert [is_marked(each) for each in api.requests] == [True] * len(api.requests)


def test_asks_live_what_waits_alone_when_none_was_answered_in_a_day(workshop: Workshop, api: ScriptedBatches) -> None:
    calls(workshop, "batch")
    workshop.asked()
    assert workshop.sit(api) == "1 asked"
    assert (workshop.states(), api.kept()) == (["answered"], [])


def test_asks_live_where_there_are_no_batches(batching_one: Workshop, api: ScriptedBatches) -> None:
    asked(batching_one, 2)
    assert batching_one.sit(ScriptedModel()) == "2 asked"
    api.batches = False  # As at Bedrock.
    asked(batching_one, 2)
    assert batching_one.sit(api) == "2 asked"
    assert api.kept() == []


def test_sends_away_what_its_voice_chose(workshop: Workshop, tmp_path: Path) -> None:
    calls(workshop, "batch")
    with workshop.site.database.sessions.begin() as session:
        session.get_one(Voice, workshop.voice_id).answering = "chosen"
    asked(workshop, 3)
    chosen = {"type": "tool_use", "id": "toolu_3", "name": "choose", "input": {"letters": [1, 3]}}
    api = ScriptedBatches(tmp_path / "batches", message(chosen, stop="tool_use"), GOOD)
    # The choice shows that its requests are right: nothing else is asked live before them.
    assert workshop.sit(api) == "0 asked, 2 in a batch"
    assert api.letters("msgbatch_000") == ["Number 0.", "Number 2."]
    assert workshop.states() == ["asking", "not_chosen", "asking"]
    fetch(workshop, api)
    assert workshop.states() == ["answered", "not_chosen", "answered"]


@pytest.mark.parametrize(
    ("way", "waiting", "room"),
    [("live", 7, 2), ("batch", 7, 5), ("rule", 7, 2), ("rule", 4, 4)],
)
def test_lets_its_voice_choose_as_many_as_its_budget_has_room_for_in_a_batch(
    workshop: Workshop, tmp_path: Path, way: str, waiting: int, room: int
) -> None:
    calls(workshop, way)
    with workshop.site.database.sessions.begin() as session:
        voice = session.get_one(Voice, workshop.voice_id)
        voice.answering, voice.cost_a_day = "chosen", 380_000
    asked(workshop, waiting)
    numbers = list(range(1, waiting + 1))
    chosen = {"type": "tool_use", "id": "toolu_3", "name": "choose", "input": {"letters": numbers}}
    api = ScriptedBatches(tmp_path / "batches", message(chosen, stop="tool_use"), GOOD)
    said = workshop.sit(api)
    # The choice is marked for the cache where its letters may be asked live: by the rule, from five on.
    assert is_marked(api.requests[0]) == (way == "live")
    # The most that one could cost live goes into the budget twice.
    assert quoted(api.requests[0])[-1][2]["at_most"] == room
    assert said == (f"{room} asked" if way == "live" else f"0 asked, {room} in a batch")


@pytest.mark.parametrize(
    ("way", "waiting", "chosen", "marked"),
    [
        ("live", 1, 0, [True]),
        ("live", 7, 2, [True, True, True]),
        ("rule", 7, 7, [True] * 8),
        ("rule", 7, 2, [True, False, False]),
        ("rule", 4, 4, [False] * 5),
        ("batch", 7, 7, [False] * 8),
    ],
)
def test_marks_a_choice_where_what_is_chosen_may_read_it(
    workshop: Workshop, tmp_path: Path, way: str, waiting: int, chosen: int, marked: list[bool]
) -> None:
    calls(workshop, way)
    with workshop.site.database.sessions.begin() as session:
        session.get_one(Voice, workshop.voice_id).answering = "chosen"
    asked(workshop, waiting)
    numbers = list(range(1, chosen + 1))
    choice = {"type": "tool_use", "id": "toolu_3", "name": "choose", "input": {"letters": numbers}}
    api = ScriptedBatches(tmp_path / "batches", message(choice, stop="tool_use"), GOOD)
    workshop.sit(api)
    away = [request for remote_id in api.kept() for _, request in api.entries(remote_id)]
    assert [is_marked(request) for request in (*api.requests, *away)] == marked


@pytest.mark.parametrize(
    ("said", "states"),
    [
        (VoiceBlocked("The key is not accepted."), ["waiting", "waiting", "waiting"]),
        (RequestRefused("The API refused our request: tools."), ["failed", "waiting", "waiting"]),
        (PassingTrouble("The API is failing.", tries=1), ["waiting", "waiting", "waiting"]),
    ],
)
def test_sends_nothing_away_when_the_live_one_is_not_answered(
    workshop: Workshop, tmp_path: Path, said: Trouble, states: list[str]
) -> None:
    calls(workshop, "batch")
    asked(workshop, 3)
    api = ScriptedBatches(tmp_path / "batches", said)
    assert workshop.sit(api) == "1 asked, 0 in a batch"
    assert (api.kept(), workshop.states()) == ([], states)


def test_sends_nothing_away_for_a_voice_that_was_paused_meanwhile(workshop: Workshop, tmp_path: Path) -> None:
    calls(workshop, "batch")
    ids = asked(workshop, 3)

    async def pause(_number: int) -> None:
        workshop.pause()
        workshop.take_back(ids[1])

    api = ScriptedBatches(tmp_path / "batches", meanwhile=pause)
    assert workshop.sit(api) == "1 asked, 0 in a batch"
    assert api.kept() == []
    assert workshop.states() == ["answered", "withdrawn", "waiting"]


def goes(workshop: Workshop, comment_id: int, how: str) -> None:
    if how == "withdrawn":
        workshop.withdraw(workshop.submission(comment_id))
        return
    with workshop.site.database.reading_sessions() as session:
        public_id = session.get_one(Comment, comment_id).public_id
    erasure.erase_comment(workshop.site, public_id)


@pytest.mark.parametrize("how", ["withdrawn", "erased"])
def test_sends_nothing_away_of_a_letter_that_went_away_during_the_live_call(
    any_workshop: Workshop, tmp_path: Path, how: str
) -> None:
    calls(any_workshop, "batch")
    gone = any_workshop.asked("CANARY", wants_reply=False)
    ids = asked(any_workshop, 4)

    async def meanwhile(_number: int) -> None:
        goes(any_workshop, gone, how)
        goes(any_workshop, ids[1], how)

    api = ScriptedBatches(tmp_path / "batches", meanwhile=meanwhile)
    assert any_workshop.sit(api) == "1 asked, 2 in a batch"
    assert "CANARY" in json.dumps(api.requests)
    assert "CANARY" not in json.dumps(api.entries("msgbatch_000"))
    assert api.letters("msgbatch_000") == ["Number 2.", "Number 3."]
    fetch(any_workshop, api, any_workshop.generations()[-1].batch_id or 0)
    assert any_workshop.states() == ["answered", "withdrawn", "answered", "answered"]


def test_lets_letters_wait_where_words_go_away_again_and_again(
    batching_one: Workshop, api: ScriptedBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(batching_one, 2)
    monkeypatch.setattr(replies, "is_posted", lambda *_: False)
    assert batching_one.sit(api) == "0 asked, 0 in a batch"
    assert (api.kept(), batches_made(batching_one), batching_one.states()[1:]) == ([], 0, ["waiting"] * 2)
    monkeypatch.undo()
    assert batching_one.sit(api) == "0 asked, 2 in a batch"


def test_probes_with_one_live_after_a_pause(batching_one: Workshop, api: ScriptedBatches) -> None:
    asked(batching_one, 3)
    batching_one.pause(minutes=15)
    batching_one.time_passes()
    assert batching_one.sit(api) == "1 asked"
    assert batching_one.voice().paused_at is None
    assert batching_one.sit(api) == "0 asked, 2 in a batch"


@pytest.mark.parametrize(
    ("trouble", "pauses"),
    [
        (VoiceBlocked("Billing needs attention."), True),
        (RequestRefused("The API refused our request: requests."), True),
        (RequestRefused("The thread is too long to send.", too_long=True), False),
        (ModelBusy("Waiting for the rate limit.", seconds=60), False),
    ],
)
def test_lets_letters_wait_where_a_batch_is_refused(
    batching_one: Workshop, api: ScriptedBatches, trouble: Trouble, *, pauses: bool
) -> None:
    asked(batching_one, 2)
    api.refuses = trouble
    assert batching_one.sit(api) == "0 asked, 0 in a batch"
    assert batching_one.states() == ["answered", "waiting", "waiting"]
    assert (batching_one.voice().paused_why == trouble.why) is pauses
    assert fetch(batching_one, api) == "nothing to do"
    assert {call.cost for call in batching_one.generations()[1:]} == {0}


def test_has_the_admins_told_of_a_pause(
    batching_one: Workshop, api: ScriptedBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []

    def hear(_session: Session, site: Site, _voice_id: int, why: str, **_: Any) -> None:
        assert site is batching_one.site
        heard.append(why)

    monkeypatch.setattr(told, "pause_voice", hear)
    asked(batching_one, 2)
    api.refuses = VoiceBlocked("Billing needs attention.")
    batching_one.sit(api)
    api.refuses = None
    api.brings = {"Number 0.": VoiceBlocked("It is gone."), "Number 1.": message("I.", model="claude-opus-5-5")}
    batching_one.sit(api)
    fetch(batching_one, api, 2)
    assert sorted(heard) == ["Another model answered: claude-opus-5-5.", "Billing needs attention.", "It is gone."]
    heard.clear()
    asked(batching_one, 2)
    api.brings = {f"Number {n}.": RequestRefused("The API refused our request: top_k.") for n in range(2)}
    batching_one.sit(api)
    fetch(batching_one, api, 3)
    assert heard == ["The API refused our request: top_k."]


# What comes back


@pytest.mark.parametrize("times", [1, 2])
def test_is_fetched_once_however_often_it_is_looked_at(
    batching_one: Workshop, api: ScriptedBatches, times: int
) -> None:
    asked(batching_one, 3)
    batching_one.sit(api)
    api.times = times
    assert fetch(batching_one, api, minutes=0) == "nothing to do"
    said = [fetch(batching_one, api) for _ in range(5)]
    assert said == [f"{3 * times} results", *["nothing to do"] * 4]
    assert api.looked == 1
    assert len(batching_one.replies()) == len(batching_one.generations()) == 4


def test_waits_for_a_batch_that_is_not_answered_yet(batching_one: Workshop, api: ScriptedBatches) -> None:
    asked(batching_one, 2)
    batching_one.sit(api)
    api.ended = False
    assert fetch(batching_one, api) == "not answered yet"
    assert batching_one.sweep() == 0
    assert (batching_one.states(), api.cancelled) == (["answered", "asking", "asking"], [])
    api.ended = True
    fetch(batching_one, api)
    assert batching_one.states() == ["answered"] * 3


def test_retries_or_fails_one_by_one_what_was_not_answered(batching_one: Workshop, api: ScriptedBatches) -> None:
    ids = asked(batching_one, 4)
    api.brings = {
        "Number 1.": PassingTrouble("The batch ended before its turn came.", error="expired"),
        "Number 2.": RequestRefused("The API refused our request: images."),
        "Number 3.": PassingTrouble("The API is failing.", error="HTTP 500"),
    }
    batching_one.sit(api)
    fetch(batching_one, api)
    assert batching_one.states() == ["answered", "answered", "waiting", "failed", "waiting"]
    assert batching_one.request(ids[2]).why == "The API refused our request: images."
    api.brings = {}
    assert batching_one.sit(api) == "0 asked, 2 in a batch"
    assert [numbered(name) for name, _ in api.entries("msgbatch_001")] == [f"rr-{ids[1]}-2", f"rr-{ids[3]}-2"]
    fetch(batching_one, api, 2)
    assert batching_one.states() == ["answered", "answered", "answered", "failed", "answered"]


def test_asks_live_what_was_away_three_times(batching_one: Workshop, api: ScriptedBatches) -> None:
    asked(batching_one, 1)
    api.brings = {"Number 0.": PassingTrouble("The batch ended before its turn came.", error="expired")}
    for number in range(1, 4):
        assert batching_one.sit(api) == "0 asked, 1 in a batch"
        fetch(batching_one, api, number)
    assert batching_one.sit(api) == "1 asked"
    assert batching_one.states() == ["answered", "answered"]


def test_gives_a_cut_answer_its_one_more_try_live(batching_one: Workshop, api: ScriptedBatches) -> None:
    ids = asked(batching_one, 2)
    api.brings = {"Number 1.": message("I dr", stop="max_tokens")}
    batching_one.sit(api)
    fetch(batching_one, api)
    assert batching_one.states() == ["answered", "answered", "waiting"]
    assert batching_one.sit(api) == "1 asked"
    assert [request["max_tokens"] for request in api.requests] == [3000]
    assert batching_one.reply_words(ids[1]) == (NAME, "I dream of letters.")


def test_fails_an_answer_that_is_cut_again_live(batching_one: Workshop, tmp_path: Path) -> None:
    cut = message("I dr", stop="max_tokens")
    api = ScriptedBatches(tmp_path / "batches", PassingTrouble("The API is failing.", tries=1), cut)
    [comment_id] = asked(batching_one, 1)
    api.brings = {"Number 0.": cut}
    batching_one.sit(api)
    fetch(batching_one, api)
    # Trouble on the way does not take its last try.
    batching_one.sit(api)
    batching_one.time_passes()
    batching_one.sit(api)
    assert [request["max_tokens"] for request in api.requests] == [3000, 3000]
    request = batching_one.request(comment_id)
    assert (request.state, request.why) == ("failed", "The answer was cut off (max_tokens).")


def test_lets_the_turn_go_on_live_after_a_note(batching_one: Workshop, api: ScriptedBatches) -> None:
    noted = message(notes("A kind one."), stop="tool_use")
    [comment_id] = asked(batching_one, 1)
    api.brings = {"Number 0.": noted}
    batching_one.sit(api)
    fetch(batching_one, api)
    assert batching_one.sit(api) == "1 asked"
    [request] = api.requests
    assert request["messages"][1:] == [
        {"role": "assistant", "content": noted["content"]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_2", "content": "passed on"}]},
    ]
    assert batching_one.reply_words(comment_id) == (NAME, "I dream of letters.")


def test_lets_no_turn_go_on_live_after_a_note_on_words_that_went_away(
    batching_one: Workshop, api: ScriptedBatches
) -> None:
    gone = batching_one.asked("CANARY", wants_reply=False)
    [comment_id] = asked(batching_one, 1)
    api.brings = {"Number 0.": message(notes("It says CANARY."), stop="tool_use")}
    batching_one.sit(api)
    fetch(batching_one, api)
    goes(batching_one, gone, "erased")
    assert batching_one.sit(api) == "1 asked"
    [request] = api.requests
    assert len(request["messages"]) == 1
    assert "CANARY" not in json.dumps(request)
    assert batching_one.reply_words(comment_id) == (NAME, "I dream of letters.")


def test_keeps_the_good_lines_of_a_file_that_is_cut_off(batching_one: Workshop, api: ScriptedBatches) -> None:
    asked(batching_one, 3)
    batching_one.sit(api)
    for lines in (1, 2, 3):
        api.cut_after = lines
        assert fetch(batching_one, api, minutes=5) == "to be asked again"
        assert batching_one.states() == ["answered", *["asking"] * (3 - lines), *["answered"] * lines]
    assert batch(batching_one).why == "The file was cut off."
    api.cut_after = None
    assert fetch(batching_one, api, minutes=5) == "3 results"
    assert (batch(batching_one).state, batch(batching_one).why) == ("ended", None)
    assert len(batching_one.replies()) == 4


def test_has_the_api_keep_nothing_of_a_batch_that_is_recorded(
    batching_one: Workshop, api: ScriptedBatches, caplog: pytest.LogCaptureFixture
) -> None:
    asked(batching_one, 2)
    batching_one.sit(api)
    api.cut_after = 1
    fetch(batching_one, api)
    assert api.deleted == []  # One of its results was not read yet.
    api.cut_after = None
    assert fetch(batching_one, api, minutes=5) == "2 results"
    assert api.deleted == ["msgbatch_000"]
    # Where that fails it is said, and it goes by itself after 29 days.
    asked(batching_one, 2)
    batching_one.sit(api)
    api.fails_to_delete = PassingTrouble("The API is failing.")
    with caplog.at_level("WARNING"):
        assert fetch(batching_one, api, 2) == "2 results"
    assert [record.getMessage() for record in caplog.records] == [
        "batch 2 stays at the API for 29 days; it was not deleted: PassingTrouble"
    ]
    assert batch(batching_one, 2).state == "ended"
    assert batching_one.states() == ["answered"] * 5


def test_asks_again_for_what_the_file_does_not_have(batching_one: Workshop, api: ScriptedBatches) -> None:
    ids = asked(batching_one, 2)
    batching_one.sit(api)
    [forgotten] = [name for name, _ in api.entries("msgbatch_000") if name.startswith(f"rr-{ids[0]}-1-")]
    api.forgets = {forgotten}
    fetch(batching_one, api)
    assert batching_one.states() == ["answered", "waiting", "answered"]


@pytest.mark.parametrize("trouble", [PassingTrouble("The API is failing."), VoiceBlocked("No key is set."), TIMED_OUT])
def test_stays_away_while_nobody_can_tell(batching_one: Workshop, api: ScriptedBatches, trouble: Trouble) -> None:
    asked(batching_one, 2)
    batching_one.sit(api)
    api.fails = trouble
    assert fetch(batching_one, api) == "to be asked again"
    assert (batch(batching_one).state, batch(batching_one).why) == ("sent", trouble.why)
    assert batching_one.states() == ["answered", "asking", "asking"]
    # What is to be asked next would be refused as well.
    blocked = isinstance(trouble, VoiceBlocked)
    assert batching_one.voice().paused_why == (trouble.why if blocked else None)
    # Who lets it go on meanwhile is not overruled by the next look.
    with batching_one.site.database.sessions.begin() as session:
        voices.resume(session, session.get_one(Voice, batching_one.voice_id))
    assert fetch(batching_one, api, minutes=5) == "to be asked again"
    assert batching_one.voice().paused_at is None
    api.fails = None
    fetch(batching_one, api)
    assert batching_one.states() == ["answered"] * 3


def test_is_not_looked_for_where_it_was_not_sent(batching_one: Workshop, api: ScriptedBatches) -> None:
    asked(batching_one, 2)
    batching_one.sit(api)
    api.host = "127.0.0.1"
    assert fetch(batching_one, api) == "sent elsewhere"
    assert fetch(batching_one, ScriptedModel()) == "sent elsewhere"
    assert (api.looked, batch(batching_one).state) == (0, "sent")
    assert fetch(batching_one, api, minutes=30 * 24 * 60) == "sent elsewhere"
    assert batch(batching_one).state == "lost"
    assert batching_one.states() == ["answered", "waiting", "waiting"]


def test_lets_letters_wait_when_their_batch_is_gone(batching_one: Workshop, api: ScriptedBatches) -> None:
    asked(batching_one, 2)
    batching_one.sit(api)
    api.lose("msgbatch_000")
    assert fetch(batching_one, api) == "lost"
    assert batching_one.states() == ["answered", "waiting", "waiting"]
    assert batching_one.sit(api) == "0 asked, 2 in a batch"
    fetch(batching_one, api, 2)
    assert batching_one.states() == ["answered"] * 3


def test_records_what_comes_for_a_paused_voice(batching_one: Workshop, api: ScriptedBatches) -> None:
    ids = asked(batching_one, 2)
    batching_one.sit(api)
    batching_one.pause()
    batching_one.take_back(ids[0])
    assert fetch(batching_one, api) == "2 results"
    assert batching_one.states() == ["answered", "withdrawn", "answered"]
    assert [call.cost for call in batching_one.generations()[1:]] == [7875, 7875]
    assert batching_one.voice().paused_why == "A person paused it."
    assert len(batching_one.replies()) == 2


def test_cancels_what_nobody_waits_for_any_more(batching_one: Workshop, api: ScriptedBatches) -> None:
    ids = asked(batching_one, 2)
    batching_one.sit(api)
    api.ended = False
    batching_one.take_back(ids[0])
    assert fetch(batching_one, api) == "not answered yet"
    batching_one.take_back(ids[1])
    assert fetch(batching_one, api) == "cancelled"
    assert api.cancelled == ["msgbatch_000"]
    api.ended = True
    fetch(batching_one, api)
    assert (batch(batching_one).state, batching_one.states()) == ("ended", ["answered", "withdrawn", "withdrawn"])


# Lost on the way


def test_finds_a_batch_that_came_to_be_though_its_creation_timed_out(
    any_workshop: Workshop, api: ScriptedBatches
) -> None:
    calls(any_workshop, "batch")
    asked(any_workshop, 3)
    api.breaks_off = TIMED_OUT
    assert any_workshop.sit(api) == "1 asked, 2 in a batch"
    assert (batch(any_workshop).state, batch(any_workshop).why) == ("sending", TIMED_OUT.why)
    assert any_workshop.voice().failures_in_a_row == 1
    # Others of that time: one with other letters in it, a bigger one, and one that is somebody's.
    (name, request), _ = api.entries("msgbatch_000")
    api.keep([(name, request), ("rr-4711-1", request)])
    api.keep([(f"rr-{n}-1", request) for n in range(3)])
    api.ended = False
    assert fetch(any_workshop, api) == "not found"
    assert any_workshop.states() == ["answered", "asking", "asking"]
    api.ended = True
    assert fetch(any_workshop, api) == "2 results"
    assert (batch(any_workshop).state, batch(any_workshop).remote_id) == ("ended", "msgbatch_000")
    assert any_workshop.states() == ["answered"] * 3
    assert batches_made(any_workshop) == 1


def test_takes_the_one_of_its_own_time_where_another_has_the_same_names(
    batching_one: Workshop, api: ScriptedBatches
) -> None:
    asked(batching_one, 2)
    api.breaks_off = TIMED_OUT
    batching_one.sit(api)
    same = api.entries("msgbatch_000")
    for hours in (-20, 20):  # Another installation's, with the same key.
        api.keep(same, created_at=now() + timedelta(hours=hours))
    assert fetch(batching_one, api) == "2 results"
    assert batch(batching_one).remote_id == "msgbatch_000"


def test_takes_no_results_of_another_installation_with_the_same_key(
    batching_one: Workshop, api: ScriptedBatches
) -> None:
    ids = asked(batching_one, 2)
    api.breaks_off = TIMED_OUT
    batching_one.sit(api)
    entries = api.entries("msgbatch_000")
    # Ours never came to be, and theirs is about letters of the same numbers.
    shutil.rmtree(api.folder)
    api.folder.mkdir()
    api.keep([(f"rr-{each}-1-0123456789ab", request) for each, (_, request) in zip(ids, entries, strict=True)])
    assert fetch(batching_one, api) == "not found"
    assert batch(batching_one).remote_id is None


def test_is_not_lost_with_somebody_elses_results(batching_one: Workshop, api: ScriptedBatches) -> None:
    asked(batching_one, 1)
    api.breaks_off = TIMED_OUT
    batching_one.sit(api)
    other = api.keep([("rr-4711-1", {})])
    results = api.batch_results

    def without_the_other(remote_id: str) -> Any:
        if remote_id == other:
            raise GONE
        return results(remote_id)

    api.batch_results = without_the_other  # type: ignore[method-assign, assignment]
    assert fetch(batching_one, api) == "1 results"
    assert batching_one.states() == ["answered"] * 2


def test_gives_up_after_ten_minutes_what_never_came_to_be(batching_one: Workshop, api: ScriptedBatches) -> None:
    asked(batching_one, 2)
    api.refuses = TIMED_OUT
    batching_one.sit(api)
    # From long ago, and so another one, though it has the same names.
    first, second = (call.custom_id or "" for call in batching_one.generations()[1:])
    api.keep([(first, {}), (second, {})], created_at=now() - timedelta(days=3))
    for minutes in (1, 8):
        assert fetch(batching_one, api, minutes=minutes) == "not found"
        assert batching_one.states() == ["answered", "asking", "asking"]
    assert fetch(batching_one, api, minutes=5) == "not found"
    assert batch(batching_one).state == "lost"
    assert batching_one.states() == ["answered", "waiting", "waiting"]
    assert [call.cost for call in batching_one.generations()[1:]] == [None, None]
    api.refuses = None
    batching_one.sit(api)
    fetch(batching_one, api, 2)
    assert batching_one.states() == ["answered"] * 3


def test_never_takes_one_batch_for_two(batching_one: Workshop, api: ScriptedBatches) -> None:
    ids = asked(batching_one, 1)
    batching_one.sit(api)
    asked(batching_one, 1)
    api.refuses = TIMED_OUT
    batching_one.sit(api)
    assert fetch(batching_one, api, 2) == "not found"
    assert (batch(batching_one, 2).state, batch(batching_one, 2).remote_id) == ("sending", None)
    assert api.read == []
    fetch(batching_one, api)
    assert len(batching_one.replies(ids[0])) == 1


def test_cancels_a_batch_that_was_given_up_while_it_was_created(batching_one: Workshop, api: ScriptedBatches) -> None:
    asked(batching_one, 1)
    create = api.create_batch

    async def slowly(*given: Any, **more: Any) -> str:
        with batching_one.site.database.sessions.begin() as session:
            session.execute(text("UPDATE batches SET state = 'lost'"))
        return await create(*given, **more)

    api.create_batch = slowly  # type: ignore[method-assign]
    batching_one.sit(api)
    assert api.cancelled == ["msgbatch_000"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_recovers_wherever_a_worker_is_killed(batching_one: Workshop, sqlite_url: str, tmp_path: Path) -> None:
    ids = asked(batching_one, 2)
    batching_one.site.database.dispose()
    folder = tmp_path / "killed"
    folder.mkdir()
    script = Path(__file__).with_name("killed_batching.py")
    done = subprocess.run(
        [sys.executable, str(script), sqlite_url, str(folder), str(batching_one.essay_id), SECRET],
        check=True,
        capture_output=True,
        text=True,
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["killed"] for each in told] == [True] * (len(told) - 1) + [False]
    assert len(told) > 25
    for each in told:
        assert each["states"] == ["answered"] * 3, each
        assert each["replies"] == each["on_the_desk"] == 3, each
        # Nothing is paid twice: what was sent away is found again, and made no second time.
        assert each["batches"] == 1, each
        assert each["live_calls"] == 0, each
        assert each["open"] == 0, each
    # At least once it died between the batch's creation and its record.
    assert any(each["unrecorded"] for each in told)
    assert len(ids) == 2


# The stand-in for the API, by the real SDK


@pytest.fixture
def stage() -> Any:
    with running(RehearsalSettings(latency=0)) as rehearsal:
        yield rehearsal


def by_sdk(stage: Rehearsal, what: Callable[[Claude], Awaitable[R]]) -> R:
    async def done() -> R:
        async with Claude(api_key="test-key", base_url=stage.url, rehearsed=True) as model:
            return await what(model)

    return asyncio.run(done())


@pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")
def test_comes_to_its_end_with_the_real_sdk(workshop: Workshop, stage: Rehearsal) -> None:
    calls(workshop, "batch")
    faults = ["", "expire", "decline", "note-only", "max-tokens", "refusal", "status=500", "status=400"]
    for number, fault in enumerate(["", *faults]):
        workshop.asked(f"Number {number}." + (f"\n[[{fault}]]" if fault else ""))
    assert by_sdk(stage, lambda model: sitting.answer(workshop.site, workshop.essay_id, model, at_once=8)) == (
        "1 asked, 8 in a batch"
    )

    def looked(minutes: float) -> str:
        with workshop.site.database.sessions.begin() as session:
            for each in session.scalars(select(Batch)):
                each.asked_at = (each.asked_at or 0) - 60 * minutes
        return by_sdk(stage, lambda model: batching.fetch(workshop.site, 1, model))

    for _ in range(1000):
        if (said := looked(1)) != "not answered yet":
            break
    assert said == "8 results"
    # Nothing of it is kept there any more.
    assert by_sdk(stage, lambda model: model.recent_batches(now() - timedelta(days=1))) == []
    assert workshop.states() == [
        "answered",
        "answered",
        "waiting",
        "declined",
        "waiting",
        "waiting",
        "withheld",
        "waiting",
        "failed",
    ]
    spent = stage.usage()

    def price(tokens: Any) -> float:
        return float(tokens.input_tokens * 15 + tokens.output_tokens * 75)

    batched = [call for call in workshop.generations() if call.batch_id is not None]
    assert sum(call.cost or 0 for call in batched) == pytest.approx(price(spent.batched) / 2, abs=len(batched))
    assert sum(call.cost or 0 for call in workshop.generations()) == pytest.approx(
        price(spent.live) + price(spent.batched) / 2, abs=len(batched)
    )
    assert {call.model_asked for call in batched} == {MODEL}
