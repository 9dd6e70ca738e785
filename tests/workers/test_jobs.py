import json
import logging
import zlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ground.workshop import MODEL, NAME, SECRET, ScriptedModel, Workshop
from redis import Redis
from sqlalchemy import text

from bridge import queues
from bridge.answer import replies
from bridge.letter import mentions
from bridge.mail import outbox
from bridge.page import checkpoints
from bridge.people import accounts
from bridge.records import UsedLink, Voice
from bridge.voice.model import PassingTrouble
from moderation import gate
from moderation.base import now
from workers import jobs, outside, sitting
from workers.rehearsal import Rehearsal, running
from workers.rehearsing import RehearsalSilent

Open = Callable[..., Workshop]
NOBODY = "unix:///nonexistent/valkey.sock"


@pytest.fixture(scope="module")
def stage() -> Iterator[Rehearsal]:
    with running() as rehearsal:
        yield rehearsal


@pytest.fixture(autouse=True)
def at_work(
    monkeypatch: pytest.MonkeyPatch, sqlite_url: str, tmp_path: Path, valkey_url: str
) -> Iterator[Callable[..., None]]:
    """Be a worker process of the workshop's installation; called with settings, be one that has these."""

    def forget() -> None:
        if jobs._site.cache_info().currsize:
            jobs._site().database.dispose()
        jobs._settings.cache_clear()
        jobs._site.cache_clear()
        jobs.ask_at(None)

    def become(**environment: str) -> None:
        forget()
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    become(DATABASE_URL=sqlite_url, EMERITUS_DATA=str(tmp_path), SECRET_KEY=SECRET, REDIS_URL=valkey_url)
    yield become
    forget()


def nudged(valkey_url: str) -> list[Any]:
    """Return what stands in the queues: the function's name, its instance, its arguments."""
    with Redis.from_url(valkey_url) as client:
        ids = [each for name in (queues.QUEUE, queues.POST) for each in client.lrange(f"rq:queue:{name}", 0, -1)]
        return [json.loads(zlib.decompress(client.hget(f"rq:job:{i.decode()}", "data"))) for i in ids]


# answer_essay


def test_answers_by_the_rehearsal_that_the_worker_started(workshop: Workshop, stage: Rehearsal) -> None:
    comment_id = workshop.asked()
    jobs.ask_at(stage.url)
    assert jobs.answer_essay(workshop.essay_id) == "1 asked"
    author, body = workshop.reply_words(comment_id)
    assert author == f"{NAME} (rehearsal)"
    assert "rehearsed answer" in body
    assert [made.rehearsed for made in workshop.generations()] == [True]
    assert jobs.answer_essay(workshop.essay_id) == "nothing to do"
    assert len(workshop.replies()) == 1


def test_has_letters_that_are_approved_close_together_share_a_sitting(
    workshop: Workshop,
    stage: Rehearsal,
    at_work: Callable[..., None],
    valkey_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_work(GATHERING_SECONDS="30")
    jobs.ask_at(stage.url)
    waits: list[float] = []

    async def meanwhile(seconds: float) -> None:
        waits.append(seconds)
        workshop.asked("Second.")

    monkeypatch.setattr(sitting, "gather", partial(sitting.gather, sleep=meanwhile))
    workshop.asked("First.")
    assert jobs.answer_essay(workshop.essay_id) == "2 asked"
    assert len(waits) == 1
    assert 0 < waits[0] <= 30
    assert workshop.states() == ["answered", "answered"]
    assert len({made.prefix_id for made in workshop.generations()}) == 1
    assert nudged(valkey_url) == []


def test_leaves_what_it_did_not_take_on_to_the_end_of_the_queue(
    workshop: Workshop, stage: Rehearsal, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "AT_ONCE", 1)
    for n in range(2):
        workshop.asked(f"Number {n}.")
    jobs.ask_at(stage.url)
    assert jobs.answer_essay(workshop.essay_id) == "1 asked"
    assert nudged(valkey_url) == [["workers.jobs.answer_essay", None, [workshop.essay_id], {}]]
    assert jobs.answer_essay(workshop.essay_id) == "1 asked"
    assert len(nudged(valkey_url)) == 1


def test_asks_for_no_sitting_that_could_do_nothing(workshop: Workshop, stage: Rehearsal, valkey_url: str) -> None:
    jobs.ask_at(stage.url)
    workshop.asked("Do you dream?\n[[status=401]]")
    workshop.asked("Neither is this one answered.")
    assert jobs.answer_essay(workshop.essay_id) == "2 asked"
    assert workshop.states() == ["waiting", "waiting"]
    assert jobs.answer_essay(workshop.essay_id) == "nothing to do"
    names = [name for name, _, _, _ in nudged(valkey_url)]
    assert names.count("workers.jobs.answer_essay") <= 1
    assert jobs.answer_essay(4711) == "nothing to do"


def test_paces_each_voice_by_itself(workshop: Workshop, stage: Rehearsal, valkey_url: str) -> None:
    with workshop.site.database.sessions.begin() as session:
        session.get_one(Voice, workshop.voice_id).calls_at_once = 3
    workshop.asked()
    jobs.ask_at(stage.url)
    jobs.answer_essay(workshop.essay_id)
    with Redis.from_url(valkey_url) as client:
        [key] = client.scan_iter("emeritus:pace:*")
    assert key.decode().endswith(f"{MODEL}:{workshop.voice_id}")


def test_answers_by_the_rehearsal_that_serve_started(
    workshop: Workshop, stage: Rehearsal, at_work: Callable[..., None]
) -> None:
    workshop.asked()
    at_work(REHEARSAL_URL=stage.url)
    assert jobs.answer_essay(workshop.essay_id) == "1 asked"


def test_speaks_to_any_server_as_to_the_api_itself(
    workshop: Workshop, stage: Rehearsal, at_work: Callable[..., None]
) -> None:
    # The server says by a header that it is a rehearsal, and is believed: no model wrote these words.
    comment_id = workshop.asked()
    at_work(ANTHROPIC_API_KEY="a-key\n", ANTHROPIC_BASE_URL=f"{stage.url}/v1/")
    assert jobs.answer_essay(workshop.essay_id) == "1 asked"
    assert workshop.reply_words(comment_id)[0] == f"{NAME} (rehearsal)"


def test_says_that_there_is_nobody_to_ask(workshop: Workshop) -> None:
    workshop.asked()
    with pytest.raises(RehearsalSilent, match="Set ANTHROPIC_API_KEY"):
        jobs.answer_essay(workshop.essay_id)
    assert workshop.states() == ["waiting"]


def test_sends_a_batch_away_and_fetches_it(workshop: Workshop, stage: Rehearsal, valkey_url: str) -> None:
    with workshop.site.database.sessions.begin() as session:
        session.get_one(Voice, workshop.voice_id).calls = "batch"
    for number in range(3):
        workshop.asked(f"Number {number}.")
    jobs.ask_at(stage.url)
    assert jobs.answer_essay(workshop.essay_id) == "1 asked, 2 in a batch"
    jobs.sweep()
    assert nudged(valkey_url) == []
    said = "not answered yet"
    for _ in range(1000):
        with workshop.site.database.sessions.begin() as session:
            session.execute(text("UPDATE batches SET asked_at = asked_at - 60"))
        jobs.sweep()
        assert nudged(valkey_url)[-1] == ["workers.jobs.fetch_batch", None, [1], {}]
        said = jobs.fetch_batch(1)
        if said != "not answered yet":
            break
    assert said == "2 results"
    assert workshop.states() == ["answered"] * 3
    assert workshop.reply_words(3)[0] == f"{NAME} (rehearsal)"
    assert jobs.fetch_batch(1) == jobs.fetch_batch(4711) == "nothing to do"


def test_has_nothing_to_do_where_nothing_is_wanted(workshop: Workshop, stage: Rehearsal) -> None:
    jobs.ask_at(stage.url)
    assert jobs.answer_essay(workshop.essay_id) == "nothing to do"
    assert jobs.answer_essay(4711) == "nothing to do"
    workshop.take_back(workshop.asked())
    assert jobs.answer_essay(workshop.essay_id) == "nothing to do"
    workshop.asked()
    workshop.pause()
    assert jobs.answer_essay(workshop.essay_id) == "nothing to do"


# sweep


def test_gives_the_requests_of_a_lost_worker_to_another(workshop: Workshop) -> None:
    workshop.asked()
    with pytest.raises(ZeroDivisionError):
        workshop.sit(ScriptedModel(ZeroDivisionError()))
    assert jobs.sweep() == "0 lost claims, 0 lapsed proposals, 0 essays nudged"
    workshop.time_passes()
    assert jobs.sweep() == "1 lost claims, 0 lapsed proposals, 1 essays nudged"
    assert workshop.states() == ["waiting"]
    assert jobs.sweep() == "0 lost claims, 0 lapsed proposals, 1 essays nudged"


def test_forgets_sign_ins_that_ran_out(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[bool] = []
    monkeypatch.setattr(accounts, "forget_stays", lambda session: swept.append(session.in_transaction()))
    jobs.sweep()
    assert swept == [True]


def test_lets_proposals_lapse(workshop: Workshop) -> None:
    comment_id = workshop.asked()
    workshop.sit(ScriptedModel())
    [reply] = workshop.replies(comment_id)
    with workshop.site.database.sessions.begin() as session:
        reason = "It would tell a reader where a private person lives."
        seen = workshop._stored(reply.submission_id)
        moderator = workshop.people[0]
        gate.reject(
            session,
            reply.submission_id,
            moderator=moderator,
            seen=seen,
            code="harm",
            reason=reason,
            lapse=timedelta(0),
        )
    assert jobs.sweep() == "0 lost claims, 1 lapsed proposals, 0 essays nudged"
    assert jobs.sweep() == "0 lost claims, 0 lapsed proposals, 0 essays nudged"


def test_nudges_again_what_lost_its_nudge(open_workshop: Open, valkey_url: str) -> None:
    workshop = open_workshop(nudges=queues.RedisNudges(valkey_url))
    other = workshop.essay("# On work\n\nI work no more.")
    workshop.asked("One.")
    workshop.asked("Two.")
    workshop.asked("Three.", essay_id=other)
    essays = [workshop.essay_id, workshop.essay_id, other]
    assert nudged(valkey_url) == [["workers.jobs.answer_essay", None, [each], {}] for each in essays]
    with Redis.from_url(valkey_url) as client:
        client.flushall()
    assert nudged(valkey_url) == []
    assert jobs.sweep() == "0 lost claims, 0 lapsed proposals, 2 essays nudged"
    assert nudged(valkey_url) == [["workers.jobs.answer_essay", None, [each], {}] for each in set(essays)]


def test_leaves_alone_what_is_not_due(workshop: Workshop, valkey_url: str) -> None:
    workshop.asked()
    workshop.sit(ScriptedModel(PassingTrouble("The API is failing.", tries=1)))
    assert jobs.sweep() == "0 lost claims, 0 lapsed proposals, 0 essays nudged"
    workshop.time_passes()
    assert jobs.sweep() == "0 lost claims, 0 lapsed proposals, 1 essays nudged"


def test_sweeps_without_redis(
    workshop: Workshop, at_work: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    workshop.asked()
    at_work(REDIS_URL=NOBODY)
    with caplog.at_level(logging.DEBUG):
        assert jobs.sweep() == "0 lost claims, 0 lapsed proposals, 1 essays nudged"
        jobs.nudge_sweep(NOBODY)
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
        f"no nudge for essay {workshop.essay_id}, the sweep will find it: ConnectionError",
        "no first sweep: ConnectionError",
    ]
    assert "nonexistent" not in caplog.text


def test_keeps_a_checkpoint_of_the_ledger(workshop: Workshop, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    jobs.sweep()
    kept = (tmp_path / "checkpoints.jsonl").read_text()
    assert checkpoints.compare(workshop.site) == (1, None)
    jobs.sweep()
    assert (tmp_path / "checkpoints.jsonl").read_text() == kept
    (tmp_path / "checkpoints.jsonl").write_text(kept.replace('"number":1', '"number":99'))
    assert caplog.text == ""
    assert jobs.sweep() == "0 lost claims, 0 lapsed proposals, 0 essays nudged"
    assert "does not fit its last checkpoint" in caplog.text
    assert "ledger verify" in caplog.text


def test_asks_for_a_sweep_at_once(valkey_url: str) -> None:
    jobs.nudge_sweep(valkey_url)
    assert nudged(valkey_url) == [["workers.jobs.sweep", None, [], {}]]


# send_outgoing


def test_sends_what_waits_and_is_nudged_for_it_by_the_sweep(
    workshop: Workshop, tmp_path: Path, valkey_url: str
) -> None:
    assert jobs.send_outgoing() == "0 sent, 0 not"
    with workshop.site.database.sessions.begin() as session:
        outbox.put_mail(session, workshop.site.keys, once="a mail:1", to="a@one.example", subject="One", text="One.")
    jobs.sweep()
    assert nudged(valkey_url) == [["workers.jobs.send_outgoing", None, [], {}]]
    assert jobs.send_outgoing() == "1 sent, 0 not"
    assert [file.name for file in (tmp_path / "mail").iterdir()] == ["1.eml"]
    jobs.sweep()
    assert len(nudged(valkey_url)) == 1


def test_has_moderators_told_by_the_sweep(workshop: Workshop, at_work: Callable[..., None], valkey_url: str) -> None:
    at_work(DESK_WEBHOOK_URL="https://hooks.example/x")
    jobs.sweep()
    assert nudged(valkey_url) == []
    workshop.letter("Do you dream?")
    jobs.sweep()
    with workshop.site.database.reading_sessions() as session:
        assert outbox.counts(session)[outbox.OutgoingState.UNSENT] == 1
    assert nudged(valkey_url)[0] == ["workers.jobs.send_outgoing", None, [], {}]


# see_to_mention


def test_finds_mentions_that_wait(workshop: Workshop, valkey_url: str) -> None:
    mentions.receive(workshop.site, "https://ann.example/1", "http://localhost:8000/essays/on-rest")
    jobs.sweep()
    waiting = queues.queue(queues.connection(valkey_url), queues.POST).get_jobs()
    assert ("workers.jobs.see_to_mention", [1]) in [(job.func_name, list(job.args)) for job in waiting]


def test_sees_to_a_mention(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    mentions.receive(workshop.site, "https://ann.example/1", "http://localhost:8000/essays/on-rest")
    monkeypatch.setattr(outside, "PUBLIC", outside.Bounds(ports=frozenset()))
    assert jobs.see_to_mention(1) == "refused"
    assert jobs.see_to_mention(1) == "nothing to do"


def test_lets_go_what_is_kept_no_longer(workshop: Workshop) -> None:
    with workshop.site.database.sessions.begin() as session:
        session.add(UsedLink(digest="0" * 64, used_at=now() - timedelta(days=40)))
    jobs.sweep()
    with workshop.site.database.reading_sessions() as session:
        assert session.get(UsedLink, "0" * 64) is None
