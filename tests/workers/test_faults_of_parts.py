"""What the site stands on fails in the middle of things: the queue, the database, the disk, the clock (SECURITY, 8).

No word is half written, no letter that was taken is forgotten, and each is answered once. The walk of a whole
installation through the same is `tests/walks/test_misfortunes.py`.
"""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest
from flask.testing import FlaskClient
from ground.batching import ScriptedBatches
from ground.house import REASON
from ground.workshop import NAME, SECRET, ScriptedModel, Workshop, message, owning
from redis import Redis
from sqlalchemy import event, text, update
from sqlalchemy.exc import DBAPIError, OperationalError

from bridge import db, queues
from bridge.answer import batches
from bridge.app import create_app
from bridge.letter import erasure
from bridge.people import accounts
from bridge.records import Batch, BatchState, Comment, Essay, ReplyRequest, User, Voice
from bridge.settings import Settings
from bridge.site import Site
from bridge.voice import budgets
from bridge.voice.model import ModelBusy, PassingTrouble
from moderation import base
from moderation.queue import awaiting_review
from moderation.types import Kind
from workers import batching, jobs, recording, valkey
from workers.rehearsal import Rehearsal, running

GOOD = message("I dream of letters.")
WITHIN = 2.0
"""Seconds in which a letter is taken, whatever the queue does."""
Open = Callable[..., Workshop]


def meanwhile(what: Callable[[], object], number: int = 0) -> Callable[[int], Awaitable[None]]:
    async def happen(call: int) -> None:
        if call == number:
            await asyncio.to_thread(what)

    return happen


def assert_each_is_answered_once(workshop: Workshop, *ids: int) -> None:
    """Each letter has one reply, which waits before the gate, and no submission stands there without its reply."""
    assert [workshop.request(each).state for each in ids] == ["answered"] * len(ids)
    assert sorted(reply.comment_id for reply in workshop.replies()) == sorted(ids)
    with workshop.site.database.reading_sessions() as session:
        waits = {each.id for each in awaiting_review(session, kind=Kind.REPLY)}
    assert waits == {reply.submission_id for reply in workshop.replies()}


def recover(workshop: Workshop, model: ScriptedModel | None = None) -> ScriptedModel:
    """Let time pass, sweep, and sit again."""
    workshop.time_passes()
    workshop.sweep()
    model = model or ScriptedModel(GOOD)
    while workshop.sit(model) != "nothing to do":
        pass
    return model


# The queue: emptied, standing still, full


class Queue:
    """A Valkey of the test's own, which may be harmed."""

    def __init__(self, process: psutil.Process, url: str) -> None:
        self.process = process
        self.url = url
        self.redis = Redis.from_url(url, socket_timeout=5)

    @contextmanager
    def emptied(self) -> Iterator[None]:
        """Lose all that is put there meanwhile, and before."""
        yield
        self.redis.flushall()

    @contextmanager
    def still(self) -> Iterator[None]:
        """Let it stand still: it takes connections and answers nothing."""
        self.process.suspend()
        try:
            yield
        finally:
            self.process.resume()

    @contextmanager
    def full(self) -> Iterator[None]:
        """Let it have no memory left, and throw nothing away for more."""
        assert self.redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        self.redis.config_set("maxmemory", "1")
        try:
            yield
        finally:
            self.redis.config_set("maxmemory", "0")

    def taken(self) -> list[list[Any]]:
        """Take all jobs out of the queue; return each one's name, instance, arguments and named arguments."""
        names = (queues.QUEUE, queues.POST)
        ids = [each.decode() for name in names for each in self.redis.lrange(f"rq:queue:{name}", 0, -1)]
        told = [json.loads(zlib.decompress(self.redis.hget(f"rq:job:{each}", "data") or b"")) for each in ids]
        self.redis.flushall()
        return told


@pytest.fixture
def queue() -> Iterator[Queue]:
    with tempfile.TemporaryDirectory(prefix="emeritus-test-", dir="/tmp") as folder:
        data = Path(folder)
        server = subprocess.Popen(valkey.server_command(data), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            valkey.await_ready(valkey.url(data), 10)
            own = Queue(psutil.Process(server.pid), valkey.url(data))
            yield own
            own.redis.close()
        finally:
            server.terminate()
            server.wait(10)


@pytest.fixture
def stage() -> Iterator[Rehearsal]:
    with running() as rehearsal:
        yield rehearsal


@pytest.fixture
def at_work(
    queue: Queue, stage: Rehearsal, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Be a worker process of the installation that has this queue."""
    for name, value in {
        "DATABASE_URL": sqlite_url,
        "EMERITUS_DATA": str(tmp_path),
        "SECRET_KEY": SECRET,
        "REDIS_URL": queue.url,
        "GATHERING_SECONDS": "0",
    }.items():
        monkeypatch.setenv(name, value)
    jobs._settings.cache_clear()
    jobs._site.cache_clear()
    jobs.ask_at(stage.url)
    yield
    jobs._site().database.dispose()
    jobs._settings.cache_clear()
    jobs._site.cache_clear()
    jobs.ask_at(None)


def reader_of(workshop: Workshop, queue: Queue) -> tuple[FlaskClient, str]:
    """Return a browser at the site whose queue this is, and where it sends letters to."""
    chosen = Settings(
        _env_file=None,  # type: ignore[call-arg]
        emeritus_data=workshop.site.settings.data,
        secret_key=SECRET,
        redis_url=queue.url,
        rate_limits="off",
    )
    site = Site(chosen, workshop.site.database, queues.RedisNudges(queue.url), workshop.site.keys, workshop.site.chance)
    workshop.site = site
    with site.database.reading_sessions() as session:
        slug = session.get_one(Essay, workshop.essay_id).slug
    return create_app(site).test_client(), f"/api/v1/essays/{slug}/comments"


@pytest.mark.slow
@pytest.mark.usefixtures("at_work")
@pytest.mark.parametrize("misfortune", [Queue.emptied, Queue.still, Queue.full])
def test_takes_letters_at_once_whatever_the_queue_does_and_answers_them_in_two_sweeps(
    open_workshop: Open, queue: Queue, misfortune: Any
) -> None:
    workshop = open_workshop()
    client, path = reader_of(workshop, queue)
    letters = []
    with misfortune(queue):
        for n in range(3):
            began = time.monotonic()
            sent = client.post(path, json={"author": "Reader", "body": f"Number {n}?", "email": f"r{n}@mail.example"})
            assert sent.status_code == 202
            assert time.monotonic() - began < WITHIN
            with workshop.site.database.reading_sessions() as session:
                letters.append(session.query(Comment.id).filter_by(public_id=sent.get_json()["id"]).scalar())
            began = time.monotonic()
            workshop.approve(workshop.submission(letters[-1]))
            assert time.monotonic() - began < WITHIN
    assert [workshop.request(each).state for each in letters] == ["waiting"] * 3
    queue.taken()  # Whatever got through all the same: two sweeps must be enough without it.
    for _ in range(2):
        jobs.sweep()
        for name, _instance, arguments, _named in queue.taken():
            if name == queues.JOBS["answer_essay"]:
                jobs.answer_essay(*arguments)
    assert_each_is_answered_once(workshop, *letters)


# The database: locked, its sessions ended


@pytest.fixture
def hurried(open_workshop: Open, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A workshop that waits for its database for a moment only, instead of fifteen seconds."""
    pragmas = [each.replace("busy_timeout=15000", "busy_timeout=20") for each in db._PRAGMAS]
    assert pragmas != list(db._PRAGMAS)
    monkeypatch.setattr(db, "_PRAGMAS", tuple(pragmas))
    return open_workshop()


class Lock:
    """Somebody else's write lock on a SQLite file."""

    def __init__(self, path: str) -> None:
        self._other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def take(self) -> None:
        """Lock the database, as a long maintenance would."""
        self._other.execute("BEGIN IMMEDIATE")

    def give(self) -> None:
        """Let it go, if it is held."""
        if self._other.in_transaction:
            self._other.execute("ROLLBACK")

    def close(self) -> None:
        self._other.close()


@pytest.fixture
def lock(sqlite_url: str) -> Iterator[Lock]:
    own = Lock(sqlite_url.removeprefix("sqlite:///"))
    yield own
    own.close()


def test_records_an_answer_once_the_database_is_no_longer_locked(
    hurried: Workshop, lock: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A paid answer waits for the database, through every try but the last."""
    ids = [hurried.asked(f"Number {n}.") for n in range(3)]
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == len(recording.TRY_AGAIN_AFTER):
            lock.give()

    model = ScriptedModel(GOOD, meanwhile=meanwhile(lock.take))
    monkeypatch.setattr(hurried, "sit", sitting_with(hurried, sleep))
    assert hurried.sit(model) == "3 asked"
    assert waits == list(recording.TRY_AGAIN_AFTER)
    assert len(model.requests) == 3
    assert_each_is_answered_once(hurried, *ids)
    assert [made.outcome for made in hurried.generations()] == ["replied"] * 3


def sitting_with(workshop: Workshop, sleep: Callable[[float], Awaitable[None]]) -> Callable[..., str]:
    """Return how to hold a sitting that waits by *sleep*."""
    from workers import sitting

    def sit(model: ScriptedModel, *, at_once: int = 8) -> str:
        return asyncio.run(sitting.answer(workshop.site, workshop.essay_id, model, at_once=at_once, sleep=sleep))

    return sit


def test_loses_one_answer_and_no_letter_when_the_lock_outlasts_every_try(hurried: Workshop, lock: Lock) -> None:
    ids = [hurried.asked(f"Number {n}.") for n in range(3)]

    model = ScriptedModel(GOOD, meanwhile=meanwhile(lock.take, 1))

    async def sleep(seconds: float) -> None:
        if seconds == recording.TRY_AGAIN_AFTER[-1]:
            # After the last try, and before the third letter is begun.
            event.listen(hurried.site.database.writing, "handle_error", lambda _context: lock.give(), once=True)

    with pytest.raises(OperationalError, match="locked"):
        sitting_with(hurried, sleep)(model, at_once=1)
    assert [hurried.request(each).state for each in ids] == ["answered", "asking", "answered"]
    assert [made.ended_at is None for made in hurried.generations()] == [False, True, False]
    recover(hurried)
    assert_each_is_answered_once(hurried, *ids)
    # Asked twice, and both calls are on record.
    assert [made.attempt for made in hurried.generations(ids[1])] == [1, 2]


def test_reaches_one_end_whichever_of_its_steps_finds_the_database_locked(hurried: Workshop, lock: Lock) -> None:
    """At each transaction of a sitting in turn; the lock is gone when the step that found it has failed."""
    event.listen(hurried.site.database.writing, "handle_error", lambda _context: lock.give())
    for step in count(1):
        comment_id = hurried.asked(f"Number {step}.")
        begun = struck = 0

        def strike(_connection: object, _cursor: object, statement: str, *_: object, at: int = step) -> None:
            nonlocal begun, struck
            begun += statement == "BEGIN IMMEDIATE"
            if statement == "BEGIN IMMEDIATE" and begun == at:
                lock.take()
                struck += 1

        event.listen(hurried.site.database.writing, "before_cursor_execute", strike)
        model = ScriptedModel(GOOD)
        try:
            hurried.sit(model)
        except OperationalError:
            # A step before the call is not tried again: nothing is paid for yet.
            assert model.requests == []
        finally:
            event.remove(hurried.site.database.writing, "before_cursor_execute", strike)
            lock.give()
        if not struck:
            break
        if model.requests:
            assert hurried.request(comment_id).state == "answered", step
        recover(hurried)
        assert hurried.request(comment_id).state == "answered", step
        assert len(hurried.replies(comment_id)) == 1, step
        assert [made.outcome for made in hurried.generations(comment_id)][-1] == "replied"
    assert step > 3


def test_reaches_one_end_whichever_of_its_statements_finds_its_session_ended(
    postgresql_url: str, tmp_path: Path
) -> None:
    """Before each statement of a sitting in turn, an administrator ends every session of the database."""
    database = db.connect(postgresql_url)
    workshop = Workshop(database, tmp_path)
    ended = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    calls_lost = 0
    for statement in count(1):
        comment_id = workshop.asked(f"Number {statement}.")
        sent = struck = 0

        def strike(*_: object, at: int = statement) -> None:
            nonlocal sent, struck
            sent += 1
            if sent == at:
                struck += 1
                with owning(postgresql_url) as connection:
                    connection.execute(ended)

        event.listen(database.writing, "before_cursor_execute", strike)
        model = ScriptedModel(GOOD)
        try:
            workshop.sit(model)
        except DBAPIError:
            assert model.requests == [], statement
        finally:
            event.remove(database.writing, "before_cursor_execute", strike)
        if not struck:
            break
        if model.requests:
            # What was paid for is recorded, though the session that was to record it ended.
            assert workshop.request(comment_id).state == "answered", statement
            calls_lost += len(model.requests) - 1
        recover(workshop)
        assert workshop.request(comment_id).state == "answered", statement
        assert len(workshop.replies(comment_id)) == 1, statement
        assert {made.outcome for made in workshop.generations(comment_id)} <= {"replied", None}, statement
    assert statement > 10
    assert calls_lost == 0
    with database.reading_sessions() as session:
        assert len(awaiting_review(session, kind=Kind.REPLY)) == min(len(workshop.replies()), 50)
    database.dispose()


# The disk: full


FULL = '''
"""Hold a sitting of three letters, the disk being full from the second's answer on until {until!r}."""
import asyncio, json, resource, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from ground.workshop import SECRET, ScriptedModel
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError
from bridge import db
from bridge.app import create_app
from bridge.keys import Keys
from bridge.queues import NoNudges
from bridge.records import Essay, ReplyRequest
from bridge.settings import Settings
from bridge.site import Site
from workers import sitting

folder = Path({folder!r})
settings = Settings(_env_file=None, emeritus_data=folder, secret_key=SECRET, rate_limits="off")
site = Site(settings, db.connect({url!r}), NoNudges(), Keys(SECRET))
client = create_app(site).test_client()
told = {{"waits": 0, "raised": None}}


# Who reads an old state has the log only grow.
reader = site.database.reading.connect()
reader.exec_driver_sql("SELECT count(*) FROM comments")


def fill():
    # The log may grow by less than a page, as on a disk with so much room left; or not at all, as by a quota.
    size = (folder / "emeritus.db-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100 if {how!r} == "full" else 1, resource.RLIM_INFINITY))


def free():
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def look():
    """Ask for a page and send a letter while the disk is full."""
    with site.database.reading_sessions() as session:
        slug = session.scalars(select(Essay.slug)).first()
    told["reading"] = client.get(f"/essays/{{slug}}").status_code
    sent = client.post(f"/api/v1/essays/{{slug}}/comments", json={{"author": "Reader", "body": "Now?"}})
    told["sending"] = [sent.status_code, sent.headers.get("Retry-After")]


async def meanwhile(number):
    if number == 1:
        fill()
        look()
    if number == 2:
        free()


async def sleep(seconds):
    told["waits"] += 1
    if {until!r} == "the first try":
        free()
    if {until!r} == "the next letter" and told["waits"] == 3:
        # The last try is still to come; then the third letter begins, and finds room.
        loop = asyncio.get_running_loop()
        step = site.database.writing

        def give(_context):
            free()

        from sqlalchemy import event
        event.listen(step, "handle_error", give)


model = ScriptedModel(meanwhile=meanwhile)
if {until!r} == "the end":
    fill()
try:
    told["said"] = asyncio.run(sitting.answer(site, {essay_id}, model, at_once=1, sleep=sleep))
except OperationalError as error:
    told["raised"] = str(error.orig)
free()
reader.close()
told["calls"] = len(model.requests)
with site.database.reading_sessions() as session:
    told["states"] = list(session.scalars(select(ReplyRequest.state).order_by(ReplyRequest.comment_id)))
site.database.dispose()
print(json.dumps(told))
'''


def sit_while_full(workshop: Workshop, sqlite_url: str, until: str, how: str = "full") -> dict[str, Any]:
    workshop.site.database.dispose()
    script = FULL.format(
        tests=str(Path(__file__).parents[1]),
        folder=str(workshop.site.settings.data),
        url=sqlite_url,
        essay_id=workshop.essay_id,
        until=until,
        how=how,
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as whole:
        assert whole.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    told: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return told


@pytest.mark.slow
@pytest.mark.parametrize("how", ["full", "quota"])
def test_records_an_answer_when_the_disk_has_room_again(workshop: Workshop, sqlite_url: str, how: str) -> None:
    ids = [workshop.asked(f"Number {n}.") for n in range(3)]
    told = sit_while_full(workshop, sqlite_url, "the first try", how)
    assert (told["raised"], told["waits"], told["calls"]) == (None, 1, 3)
    # Readers are told clearly, and go on reading.
    assert (told["reading"], told["sending"]) == (200, [503, "5"])
    assert_each_is_answered_once(workshop, *ids)


@pytest.mark.slow
def test_loses_one_answer_and_no_letter_when_the_disk_stays_full(workshop: Workshop, sqlite_url: str) -> None:
    ids = [workshop.asked(f"Number {n}.") for n in range(3)]
    told = sit_while_full(workshop, sqlite_url, "the next letter")
    assert told["raised"] in {"database or disk is full", "disk I/O error"}
    assert told["states"] == ["answered", "asking", "answered"]
    recover(workshop)
    assert_each_is_answered_once(workshop, *ids)
    assert [made.ended_at is None for made in workshop.generations(ids[1])] == [True, False]


@pytest.mark.slow
def test_asks_nothing_that_it_could_not_write_down(workshop: Workshop, sqlite_url: str) -> None:
    ids = [workshop.asked(f"Number {n}.") for n in range(3)]
    told = sit_while_full(workshop, sqlite_url, "the end")
    assert told["raised"] in {"database or disk is full", "disk I/O error"}
    assert (told["calls"], told["states"]) == (0, ["waiting"] * 3)
    recover(workshop)
    assert_each_is_answered_once(workshop, *ids)


# The clock: a day off


class Clock:
    """The clock of this process, which may be off; the database's own, in the same test, is right."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.off = timedelta(0)
        told = self

        class Shown(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
                return datetime.now(tz) + told.off

        real = time.time
        monkeypatch.setattr(base, "datetime", Shown)
        monkeypatch.setattr(time, "time", lambda: real() + self.off.total_seconds())

    @contextmanager
    def wrong_by(self, off: timedelta) -> Iterator[None]:
        self.off = off
        try:
            yield
        finally:
            self.off = timedelta(0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


a_day_off = pytest.mark.parametrize("off", [timedelta(days=1), timedelta(days=-1)], ids=["ahead", "behind"])


@a_day_off
def test_takes_nobodys_claim_though_its_clock_is_a_day_off(
    any_workshop: Workshop, clock: Clock, off: timedelta
) -> None:
    workshop = any_workshop
    comment_id = workshop.asked()
    rival = ScriptedModel(message("From the rival."))
    seen: list[object] = []

    def rival_comes() -> None:
        # Whose clock is right, then whose is off the other way.
        for other in (timedelta(0), -off):
            with clock.wrong_by(other):
                seen.extend([workshop.sweep(), workshop.sit(rival)])

    with clock.wrong_by(off):
        workshop.sit(ScriptedModel(GOOD, meanwhile=meanwhile(rival_comes)))
    assert seen == [0, "nothing to do"] * 2
    assert workshop.reply_words(comment_id) == (NAME, "I dream of letters.")
    [made] = workshop.generations()
    # Budgets are counted from one midnight to the next, which all workers must agree on.
    assert abs(made.started_at - datetime.now(UTC)) < timedelta(minutes=5)
    assert abs(workshop.replies()[0].created_at - datetime.now(UTC)) < timedelta(minutes=5)


@a_day_off
def test_waits_as_long_as_it_should_though_its_clock_is_a_day_off(
    any_workshop: Workshop, clock: Clock, off: timedelta
) -> None:
    comment_id = any_workshop.asked()
    with clock.wrong_by(off):
        any_workshop.sit(ScriptedModel(ModelBusy("Waiting for the rate limit.", seconds=60)))
    with any_workshop.site.database.reading_sessions() as session:
        at = budgets.clock(session).timestamp()
    until = any_workshop.request(comment_id).not_before
    assert until is not None
    assert at < until <= at + 60
    for other in (timedelta(0), off, -off):
        with clock.wrong_by(other):
            assert any_workshop.sit(ScriptedModel(GOOD)) == "nothing to do"
    recover(any_workshop)
    assert_each_is_answered_once(any_workshop, comment_id)


@a_day_off
def test_opens_no_link_again_that_was_used_or_ran_out(any_workshop: Workshop, clock: Clock, off: timedelta) -> None:
    site = any_workshop.site
    with site.database.sessions.begin() as session:
        accounts.add_moderator(
            session, "cleo@desk.example", role="moderator", password="three-wrong-words", name="Cleo"
        )
        cleo = session.query(User).filter_by(email="cleo@desk.example").one()
        link = accounts.link_to(site.keys, cleo, accounts.RESET, accounts.RESET_FOR)
        ran_out = accounts.link_to(site.keys, cleo, accounts.RESET, timedelta(seconds=-1))
    with site.database.reading_sessions() as session, clock.wrong_by(off):
        assert accounts.opened(session, site.keys, accounts.RESET, ran_out) is None
    with site.database.reading_sessions() as session:
        assert accounts.opened(session, site.keys, accounts.RESET, link) is not None
    with site.database.sessions.begin() as session:
        accounts.set_password(session, cleo.id, accounts.chosen("four-other-words-now"))
    with site.database.reading_sessions() as session, clock.wrong_by(off):
        assert accounts.opened(session, site.keys, accounts.RESET, link) is None


@a_day_off
def test_finds_what_was_erased_during_a_call_though_the_clock_of_the_eraser_is_a_day_off(
    any_workshop: Workshop, clock: Clock, off: timedelta
) -> None:
    workshop = any_workshop
    shown = workshop.asked("My own words.", wants_reply=False)
    comment_id = workshop.asked("Another letter.")

    def erase() -> None:
        with workshop.site.database.reading_sessions() as session:
            public_id = session.get_one(Comment, shown).public_id
        with clock.wrong_by(off):
            erasure.erase_comment(workshop.site, public_id)

    workshop.sit(ScriptedModel(message("As the one before said."), meanwhile=meanwhile(erase)))
    [reply] = workshop.replies(comment_id)
    with workshop.site.database.reading_sessions() as session:
        again = session.execute(text("SELECT submission_id FROM second_readings")).scalars().all()
    assert again == [reply.submission_id]


@a_day_off
def test_finds_a_batch_that_it_created_though_its_clock_is_a_day_off(
    any_workshop: Workshop, clock: Clock, tmp_path: Path, off: timedelta
) -> None:
    workshop = any_workshop
    with workshop.site.database.sessions.begin() as session:
        session.get_one(Voice, workshop.voice_id).calls = "batch"
    ids = [workshop.asked(f"Number {n}.") for n in range(3)]

    def fetch() -> str:
        with workshop.site.database.sessions.begin() as session:
            session.execute(text("UPDATE batches SET asked_at = asked_at - 60"))
        return asyncio.run(batching.fetch(workshop.site, 1, api))

    api = ScriptedBatches(tmp_path / "batches", GOOD)
    api.breaks_off = PassingTrouble("No answer within 120 s.", tries=2)
    api.clock = lambda: datetime.now(UTC)  # The API's own is right.
    with clock.wrong_by(off):
        assert workshop.sit(api) == "1 asked, 2 in a batch"
    api.breaks_off = None
    # Not on its list yet.
    for other in (timedelta(0), off, -off):
        with clock.wrong_by(other):
            api.hidden = True
            assert fetch() == "not found"
            api.hidden = False
    with clock.wrong_by(-off):
        assert fetch() == "2 results"
    assert_each_is_answered_once(workshop, *ids)
    assert len(api.kept()) == 1
    with workshop.site.database.reading_sessions() as session:
        kept = session.get_one(Batch, 1)
    assert all(
        each and abs(each - datetime.now(UTC)) < timedelta(minutes=5) for each in (kept.created_at, kept.ended_at)
    )


def test_finds_a_batch_that_it_created_though_the_clock_of_the_database_was_a_day_ahead(
    workshop: Workshop, tmp_path: Path
) -> None:
    with workshop.site.database.sessions.begin() as session:
        session.get_one(Voice, workshop.voice_id).calls = "batch"
    ids = [workshop.asked(f"Number {n}.") for n in range(3)]
    api = ScriptedBatches(tmp_path / "batches", GOOD)
    api.breaks_off = PassingTrouble("No answer within 120 s.", tries=2)
    api.clock = lambda: datetime.now(UTC) - timedelta(days=1)
    workshop.sit(api)
    with workshop.site.database.sessions.begin() as session:
        session.execute(text("UPDATE batches SET asked_at = asked_at - 60"))
    assert asyncio.run(batching.fetch(workshop.site, 1, api)) == "2 results"
    assert_each_is_answered_once(workshop, *ids)


def test_frees_what_was_claimed_or_put_off_while_the_clock_of_the_database_was_a_day_ahead(
    any_workshop: Workshop,
) -> None:
    put_off, tomorrow, claimed, away, busy, *spent = (any_workshop.asked(f"Number {n}.") for n in range(9))
    with any_workshop.site.database.sessions.begin() as session:
        at = budgets.clock(session)
        midnights = budgets.midnights(at)
        session.get_one(Voice, any_workshop.voice_id).paused_until = at.timestamp() + 86_400
        session.add(
            Batch(
                voice_id=1, essay_id=1, lease="b" * 32, state=BatchState.SENT.value, requests=1, created_at=at, why=None
            )
        )
        for comment_id, how in {
            put_off: {"not_before": at.timestamp() + 86_408},
            tomorrow: {"not_before": budgets.midnights(at + timedelta(days=35))[0]},
            claimed: {"state": "asking", "lease": "c" * 32, "leased_until": at.timestamp() + 86_430},
            # And what is as it should be.
            away: {"state": "asking", "lease": "b" * 32, "leased_until": at.timestamp() + batches.LEASE_SECONDS},
            busy: {"not_before": at.timestamp() + 3600},
            **{each: {"not_before": midnight} for each, midnight in zip(spent, midnights, strict=True)},
        }.items():
            session.execute(update(ReplyRequest).where(ReplyRequest.comment_id == comment_id).values(**how))
    before = [any_workshop.request(each).not_before for each in (busy, *spent)]
    assert any_workshop.sweep() == 1
    assert [any_workshop.request(each).not_before for each in (put_off, tomorrow)] == [None, None]
    assert any_workshop.request(claimed).state == "waiting"
    assert any_workshop.request(away).state == "asking"
    assert [any_workshop.request(each).not_before for each in (busy, *spent)] == before
    assert (any_workshop.voice().paused_until or 0) < at.timestamp() + 900


# A job: five times, late, no longer wanted


def test_does_nothing_more_when_its_job_is_run_five_times(any_workshop: Workshop) -> None:
    ids = [any_workshop.asked(f"Number {n}.") for n in range(2)]
    model = ScriptedModel(GOOD)
    assert [any_workshop.sit(model) for _ in range(5)] == ["2 asked", *["nothing to do"] * 4]
    assert len(model.requests) == len(any_workshop.generations()) == 2
    assert_each_is_answered_once(any_workshop, *ids)


def veto(workshop: Workshop, comment_id: int) -> None:
    [reply] = workshop.replies(comment_id)
    for moderator in workshop.people:
        workshop.reject(reply.submission_id, by=moderator, code="harm", reason=REASON)


def erase(workshop: Workshop, comment_id: int) -> None:
    with workshop.site.database.reading_sessions() as session:
        public_id = session.get_one(Comment, comment_id).public_id
    erasure.erase_comment(workshop.site, public_id)


@pytest.mark.parametrize(
    "happens",
    [
        lambda workshop, comment_id: workshop.approve_reply(comment_id),
        veto,
        lambda workshop, comment_id: workshop.take_back(comment_id),
        erase,
    ],
    ids=["approved", "vetoed", "taken back", "erased"],
)
def test_does_nothing_when_its_job_comes_after_the_answer_was_decided(
    any_workshop: Workshop, happens: Callable[[Workshop, int], None]
) -> None:
    comment_id = any_workshop.asked()
    model = ScriptedModel(GOOD)
    any_workshop.sit(model)
    happens(any_workshop, comment_id)
    before = any_workshop.states()
    recover(any_workshop, model)
    assert (len(model.requests), len(any_workshop.generations())) == (1, 1)
    assert any_workshop.states() == before


@pytest.mark.parametrize(
    "happens",
    [
        lambda workshop, comment_id: workshop.take_back(comment_id),
        erase,
        lambda workshop, comment_id: workshop.withdraw(workshop.submission(comment_id)),
        lambda workshop, _comment_id: workshop.pause(),
    ],
    ids=["taken back", "erased", "taken down", "paused"],
)
def test_asks_nothing_when_its_job_comes_late(any_workshop: Workshop, happens: Callable[[Workshop, int], None]) -> None:
    comment_id = any_workshop.asked()
    happens(any_workshop, comment_id)
    model = ScriptedModel(GOOD)
    recover(any_workshop, model)
    assert (model.requests, any_workshop.generations(), any_workshop.replies()) == ([], [], [])
    assert any_workshop.request(comment_id).state in {"withdrawn", "waiting"}
