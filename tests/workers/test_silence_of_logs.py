"""What the workers write about their work holds no words, no address, no key (SECURITY, O1).

Every logger there is speaks at its loudest, also those of the libraries; nothing that was said in a letter, an essay, a
charter, a reply, a note or a reason is in it, nor in what a worker process prints, nor in what RQ keeps in Redis.
"""

import asyncio
import io
import json
import logging
import os
import secrets
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from ground.batching import ScriptedBatches
from ground.house import REASON
from ground.installation import _held, wait_for
from ground.workshop import SECRET, Says, ScriptedModel, Workshop, declines, message, notes, owning, unpacked
from redis import Redis
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from bridge import queues
from bridge.letter import erasure
from bridge.records import Batch, Comment, Voice
from bridge.voice import voices
from bridge.voice.model import ModelBusy, PassingTrouble, RequestRefused, Unreadable, VoiceBlocked
from workers import batching, sitting
from workers.claude import Claude
from workers.rehearsal import Rehearsal, running

KEY = "sk-ant-keycanary0sXq9LmZ2pRt8WbA"
WORDS, NAME, EMAIL = "wordscanary", "Namecanary Reader", "mailcanary@letters.example"
ESSAY, CHARTER = "# Titlecanary\n\nessaycanary rests.", "You are chartercanary, and retired."
NOTE, DECLINED, REPLIED, OTHERS = "notecanary", "reasoncanary", "replycanary", "othercanary"
OF_THE_REHEARSAL = (
    "no model has read your letter",
    "a note to the moderators, beside the answer",
    "I would rather not answer this one",
)
CANARIES = (
    *(KEY, WORDS, NAME, "Namecanary", EMAIL, "mailcanary", "Titlecanary", "titlecanary", "essaycanary"),
    *("chartercanary", NOTE, DECLINED, REPLIED, OTHERS, SECRET, REASON, *OF_THE_REHEARSAL),
)
FAULTS = [
    *("", "decline", "note-only", "silence", "empty", "refusal", "max-tokens", "other-model"),
    *("stop=pause_turn", "block=strange", "drop", "cut", "hang", "slow=60", "drip=6", "html", "bad-json", "holes"),
    *("status=400", "status=400;code=own_spend_limit", "status=400;code=organization_on_hold", "status=401"),
    *("status=402", "status=403", "status=404", "status=408", "status=413", "status=429;retry-after=60"),
    *("status=429;code=enforced_spend_limit_reached", "status=500", "status=529"),
]
LOUD = ("httpx2", "httpcore2", "sqlalchemy.engine", "sqlalchemy.engine.Engine", "sqlalchemy.pool", "rq", "redis")
Open = Callable[..., Workshop]


class Heard:
    """All that is said while it listens: by any logger, as a warning, and to the terminal."""

    def __init__(self) -> None:
        self.records: list[logging.LogRecord] = []
        self.warned: list[warnings.WarningMessage] = []
        self.printed = io.StringIO()

    @property
    def text(self) -> str:
        """Everything in one text: messages, what they were made of, tracebacks."""
        told = [self.printed.getvalue(), *(f"{each.message} {each.source}" for each in self.warned)]
        for record in self.records:
            told.append(f"{record.getMessage()} {vars(record)}")
            if record.exc_info is not None:
                told.append("".join(traceback.format_exception(*record.exc_info)))
        return "\n".join(told)


@contextmanager
def listening() -> Iterator[Heard]:
    """Have every logger speak at its loudest, those that are not made yet too, and listen."""
    heard = Heard()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.records.append(record)

    loggers = [logging.getLogger(name) for name in {*logging.root.manager.loggerDict, *LOUD}]
    before = [(each, each.level) for each in (logging.root, *loggers)]
    listener = Listener(logging.NOTSET)
    logging.root.addHandler(listener)
    for each, _ in before:
        each.setLevel(logging.DEBUG)
    try:
        with (
            warnings.catch_warnings(record=True) as warned,
            redirect_stdout(heard.printed),
            redirect_stderr(heard.printed),
        ):
            warnings.simplefilter("always")
            heard.warned = warned
            yield heard
    finally:
        logging.root.removeHandler(listener)
        for each, level in before:
            each.setLevel(level)


def assert_silent(told: str) -> None:
    low = told.casefold()
    for secret in CANARIES:
        at = low.find(secret.casefold())
        assert at < 0, f"{secret!r} is in what was written: ...{told[max(0, at - 200) : at + 60]}..."


@pytest.fixture(scope="module")
def stage() -> Iterator[Rehearsal]:
    with running() as rehearsal:
        yield rehearsal


@pytest.fixture
def canary_house(open_workshop: Open) -> Workshop:
    """A workshop with a canary in each of its fields, and a thread to be read."""
    workshop = open_workshop(charter=CHARTER)
    workshop.essay_id = workshop.essay(ESSAY)
    workshop.asked(f"{OTHERS} was here.", author=f"{NAME} the First", email=f"first.{EMAIL}", wants_reply=False)
    return workshop


def rehearse(workshop: Workshop, stage: Rehearsal) -> None:
    async def note(_seconds: float) -> None:
        """Wait for nothing."""

    async def hold() -> None:
        async with Claude(api_key=KEY, base_url=stage.url, rehearsed=True, silence=0.5, deadline=1) as model:
            await sitting.answer(workshop.site, workshop.essay_id, model, at_once=2, sleep=note)

    asyncio.run(hold(), debug=True)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_says_no_words_of_anybody_whatever_fails(canary_house: Workshop, stage: Rehearsal, fault: str) -> None:
    body = f"{WORDS}, dear.\n[[{fault}]]" if fault else f"{WORDS}, dear."
    with listening() as heard:
        ids = [canary_house.asked(body, author=NAME, email=EMAIL) for _ in range(2)]
        rehearse(canary_house, stage)
        canary_house.time_passes()
        canary_house.sweep()
    # It did listen: to our own words about it, and to the libraries.
    assert {"asyncio", "sqlalchemy"} <= {record.name.partition(".")[0] for record in heard.records}
    assert canary_house.generations(ids[0])
    assert_silent(heard.text)


@pytest.mark.parametrize(
    ("said", "state", "outcome"),
    [
        (message(f"{REPLIED} dreams.", notes(NOTE), stop="tool_use"), "answered", "replied"),
        (message(declines(DECLINED), stop="tool_use"), "declined", "declined"),
        (message(REPLIED, {"type": REPLIED}), "failed", "unexpected"),
        (message(REPLIED, stop=REPLIED), "failed", "unexpected"),
        (message(REPLIED + "\ud800"), "failed", "replied"),
        (message(REPLIED, model=f"{REPLIED}-model"), "failed", "unexpected"),
        (RequestRefused("The API refused our request.", error=f"HTTP 400 {WORDS}"), "failed", "RequestRefused"),
        (PassingTrouble("The API is failing.", error=f"HTTP 500 {WORDS}"), "waiting", "PassingTrouble"),
        (ModelBusy("Waiting for the rate limit.", seconds=60, error=f"HTTP 429 {WORDS}"), "waiting", "ModelBusy"),
        (VoiceBlocked("The key is not accepted.", error=f"HTTP 401 {KEY}"), "waiting", "VoiceBlocked"),
        (Unreadable(f"{REPLIED} is not a message"), "waiting", "Unreadable"),
    ],
)
def test_says_no_words_of_the_voice(canary_house: Workshop, said: Says, state: str, outcome: str) -> None:
    with listening() as heard:
        ids = [canary_house.asked(f"{WORDS} {n}.", author=NAME, email=f"{n}.{EMAIL}") for n in range(2)]
        canary_house.sit(ScriptedModel(said))
    assert canary_house.request(ids[0]).state == state
    made = canary_house.generations(ids[0])
    assert {each.outcome for each in made} == {outcome}
    # What was said is on record, and nowhere else.
    kept = json.dumps([[each.error, each.note, unpacked(each.response) if each.response else ""] for each in made])
    assert any(canary in kept for canary in (REPLIED, DECLINED, WORDS, KEY))
    assert f"generation {made[-1].id}" in heard.text or not isinstance(said, Exception)
    assert_silent(heard.text)


def test_says_no_words_when_a_record_fails_and_when_words_are_erased(canary_house: Workshop, sqlite_url: str) -> None:
    comment_id = canary_house.asked(f"{WORDS}.", author=NAME, email=EMAIL)
    trap = "BEFORE INSERT ON replies BEGIN SELECT RAISE(ABORT, 'trap'); END"
    with owning(sqlite_url) as connection:
        connection.exec_driver_sql(f"CREATE TRIGGER trap {trap}")
    with listening() as heard:
        with pytest.raises(IntegrityError) as failed:
            canary_house.sit(ScriptedModel(message(f"{REPLIED}.", notes(NOTE), stop="tool_use")))
        # As a worker's log and RQ have it.
        shown = "".join(traceback.format_exception(failed.value))
        with canary_house.site.database.reading_sessions() as session:
            public_id = session.get_one(Comment, comment_id).public_id
        erasure.erase_comment(canary_house.site, public_id)
        erasure.clean_disk(canary_house.site)
    assert "trap" in shown
    assert_silent(shown)
    assert_silent(heard.text)


@pytest.mark.slow
def test_says_no_words_of_choices_and_batches(canary_house: Workshop, stage: Rehearsal) -> None:
    with canary_house.site.database.sessions.begin() as session:
        voice = session.get_one(Voice, canary_house.voice_id)
        voice.answering, voice.calls = "chosen", "batch"
    faults = ["choose", "choose", "expire", "decline", "note-only", "max-tokens", "refusal", "status=400", "status=500"]
    for number, fault in enumerate(["pass", *faults]):
        canary_house.asked(f"{WORDS} {number}.\n[[{fault}]]", author=NAME, email=EMAIL)
    with listening() as heard:
        rehearse(canary_house, stage)
        wait_for(lambda: fetched(canary_house, stage) != "not answered yet", "the batch")
        # Again, with what the batch left waiting; and a list to which nothing is said, or nothing sensible.
        for line in ("choose-silence", "choose-oddly", "block=strange", "bad-json", "status=413"):
            canary_house.time_passes()
            canary_house.asked(f"{WORDS}.\n[[{line}]]", author=NAME, email=EMAIL)
            rehearse(canary_house, stage)
    made = canary_house.generations()
    assert {"choice", "reply"} == {each.purpose for each in made}
    assert any(each.batch_id is not None for each in made)
    assert_silent(heard.text)


@pytest.mark.parametrize(
    ("where", "came"),
    [
        ("refuses", "nothing to do"),
        ("breaks_off", "1 results"),
        ("fails", "to be asked again"),
        ("fails_to_delete", "1 results"),
    ],
)
def test_says_no_words_of_what_a_batch_meets(canary_house: Workshop, tmp_path: Path, where: str, came: str) -> None:
    with canary_house.site.database.sessions.begin() as session:
        session.get_one(Voice, canary_house.voice_id).calls = "batch"
    api = ScriptedBatches(tmp_path / "batches", message(f"{REPLIED} dreams."))
    kind = PassingTrouble if where == "breaks_off" else RequestRefused
    setattr(api, where, kind("The API is failing.", error=f"HTTP 500 {WORDS}"))
    with listening() as heard:
        for number in range(2):
            canary_house.asked(f"{WORDS} {number}.", author=NAME, email=EMAIL)
        canary_house.sit(api)
        looked_at_long_ago(canary_house)
        assert asyncio.run(batching.fetch(canary_house.site, 1, api)) == came
    said = [record.getMessage() for record in heard.records if record.name == "workers.batching"]
    assert any(each.startswith("batch 1") and each.endswith(kind.__name__) for each in said)
    assert_silent(heard.text)


def looked_at_long_ago(workshop: Workshop) -> None:
    with workshop.site.database.sessions.begin() as session:
        session.get_one(Batch, 1).asked_at = 0


def fetched(workshop: Workshop, stage: Rehearsal) -> str:
    """Look how the batch stands, as if the last look were long ago."""
    looked_at_long_ago(workshop)

    async def fetch() -> str:
        async with Claude(api_key=KEY, base_url=stage.url, rehearsed=True) as model:
            return await batching.fetch(workshop.site, 1, model)

    return asyncio.run(fetch())


# A worker process, as it is started, with everything that makes a library talk

IN_A_PROCESS = [
    *("", "decline", "note-only", "refusal", "max-tokens", "empty", "other-model", "stop=pause_turn", "block=strange"),
    *("drop;times=1", "bad-json;times=1", "holes;times=1", "html;times=1", "cut;times=1"),
    *("status=400", "status=401", "status=404", "status=413", "status=429;retry-after=1;times=1", "status=500;times=1"),
]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_prints_nothing_of_it_and_leaves_nothing_in_redis(
    canary_house: Workshop, sqlite_url: str, tmp_path: Path, valkey_url: str, stage: Rehearsal
) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "NO_PROXY": "127.0.0.1",
        "EMERITUS_ENV_FILE": os.devnull,
        "EMERITUS_DATA": str(tmp_path),
        "DATABASE_URL": sqlite_url,
        "REDIS_URL": valkey_url,
        "SECRET_KEY": SECRET,
        # A key, so that there is one to be said; whom it is sent to says that it is a rehearsal.
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": stage.url,
        "GATHERING_SECONDS": "0",
        "ANTHROPIC_LOG": "debug",
        "HTTPX_LOG_LEVEL": "trace",
        "PYTHONASYNCIODEBUG": "1",
        "PYTHONWARNINGS": "always",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    said = tmp_path / "said"
    kept = b""
    with said.open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "workers.cli", "worker"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        with Redis.from_url(valkey_url) as redis:
            queue = queues.queue(redis)
            wait_for(lambda: redis.smembers("rq:workers"), "the worker")
            for fault in IN_A_PROCESS:
                line = f"\n[[{fault};key={secrets.token_hex(6)}]]" if "times" in fault else f"\n[[{fault}]]"
                comment_id = canary_house.asked(
                    f"{WORDS}, {fault or 'dear'}.{line if fault else ''}", author=NAME, email=EMAIL
                )
                queues.enqueue(queue, "answer_essay", canary_house.essay_id)
                wait_for(lambda: is_idle(redis), f"the end of {fault}")
                assert canary_house.generations(comment_id), fault
                assert canary_house.request(comment_id).state != "asking", fault
                kept += everything_in(redis)
                with canary_house.site.database.sessions.begin() as session:
                    voices.resume(session, session.get_one(Voice, canary_house.voice_id))
                    # Not asked again by the next.
                    session.execute(text("UPDATE reply_requests SET not_before = 99999999999 WHERE state = 'waiting'"))
            # A job that fails leaves its traceback in the log, and in Redis for a minute.
            with owning(sqlite_url) as connection:
                connection.exec_driver_sql(
                    "CREATE TRIGGER trap BEFORE INSERT ON replies BEGIN SELECT RAISE(ABORT, 'trap'); END"
                )
            canary_house.asked(f"{WORDS}, at last.", author=NAME, email=EMAIL)
            queues.enqueue(queue, "answer_essay", canary_house.essay_id)
            wait_for(lambda: b"IntegrityError" in everything_in(redis), "the failed job")
            queues.enqueue(queue, "sweep")
            wait_for(lambda: is_idle(redis), "the sweep")
            kept += everything_in(redis)
    finally:
        # It ends its child by itself.
        worker.terminate()
        worker.wait(30)
    told = said.read_text(errors="replace")
    assert "IntegrityError" in told
    assert_silent(told)
    assert b"answer_essay" in kept
    assert_silent(kept.decode(errors="replace"))
    outcomes = {made.outcome for made in canary_house.generations()}
    assert {"replied", "declined", "withheld", "cut", "VoiceBlocked", "RequestRefused", "Unreadable"} <= outcomes


def is_idle(redis: Any) -> bool:
    """Whether nothing waits in the queue and nothing is being done."""
    # One that went well is deleted when it is over.
    jobs = [redis.hget(key, "status") for key in redis.scan_iter("rq:job:*")]
    return not {b"queued", b"started"} & set(jobs)


def everything_in(redis: Any) -> bytes:
    """Return every key and all that stands under it, what RQ packed also as it was before."""
    return b"\n".join(part for key in redis.scan_iter() for part in _held(redis, key))
