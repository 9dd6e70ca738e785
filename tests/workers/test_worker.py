"""The queue's walls, with a real Valkey and the very processes that `emeritus serve` starts (SECURITY, Q1)."""

import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import zlib
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest
from ground.workshop import SECRET, Workshop, owning
from redis import Redis

from bridge import db, queues
from workers import valkey, worker
from workers.rehearsal import running

pytestmark = pytest.mark.slow

TRAP = """
import os, pathlib

def spring(*_, **__):
    pathlib.Path(os.environ["TRAP"]).touch()
"""

STOCK = """
import sys
from redis import Redis
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

redis = Redis.from_url(sys.argv[1])
queue = Queue("emeritus", connection=redis, serializer=JSONSerializer)
SimpleWorker([queue], connection=redis, serializer=JSONSerializer).work(burst=True, logging_level="CRITICAL")
"""


class Post:
    """A worker process at its post, and what it may be tricked into."""

    def __init__(self, redis: Redis, url: str, database_url: str, folder: Path, environment: dict[str, str]) -> None:
        self.redis = redis
        self.url = url
        self.database_url = database_url
        self.environment = environment
        self.trap = Path(environment["TRAP"])
        self.folder = folder
        self.done_unasked = 0
        """How many jobs the worker has done before any was put into the queue."""

    def put(self, data: bytes, **fields: str) -> str:
        """Put a job into the queue by hand, as somebody who can write to Redis; return its key."""
        self.trap.unlink(missing_ok=True)
        job = str(uuid.uuid4())
        self.redis.hset(
            f"rq:job:{job}",
            mapping={
                "data": zlib.compress(data),
                "created_at": "2026-11-24T00:00:00.000000Z",
                "enqueued_at": "2026-11-24T00:00:00.000000Z",
                "origin": queues.QUEUE,
                "status": "queued",
                "timeout": "60",
                "result_ttl": "60",
                "failure_ttl": "60",
                **fields,
            },
        )
        self.redis.rpush(f"rq:queue:{queues.QUEUE}", job)
        return f"rq:job:{job}"

    def ended(self, job: str) -> str:
        """Wait until a job is over, and return how it ended."""
        return until(lambda: self._status(job) if self._status(job) in {"finished", "failed", "stopped"} else None)

    def why(self, job: str) -> str:
        """Return the traceback that RQ keeps of a failed job."""
        [(_, kept)] = self.redis.xrange(job.replace("rq:job:", "rq:results:"))
        return zlib.decompress(b64decode(kept[b"exc_string"])).decode()

    def calls(self) -> int:
        """Return how many messages the rehearsal was asked for."""
        with urlopen(f"{self.environment['REHEARSAL_URL']}/rehearsal/calls") as told:
            return int(json.load(told)["messages"])

    def drained(self) -> bool:
        """Say whether nothing waits in the queue and nothing is being done."""
        idle = [self.redis.hget(key, "state") in {b"idle", None} for key in self.redis.smembers("rq:workers")]
        waiting = [self.redis.llen(f"rq:queue:{name}") for name in (queues.QUEUE, queues.POST)]
        return not any(waiting) and all(idle)

    def _status(self, job: str) -> str:
        return (self.redis.hget(job, "status") or b"").decode()


def until(told: Callable[[], Any]) -> Any:
    """Wait for an answer, as long as the test's own time limit allows."""
    while not (answer := told()):
        time.sleep(0.01)
    return answer


@pytest.fixture(scope="module")
def post(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Post]:
    folder = tmp_path_factory.mktemp("post")
    (folder / "trap.py").write_text(TRAP)
    database_url = f"sqlite:///{folder / 'emeritus.db'}"
    (folder / "emeritus.db").write_bytes(sqlite_template.read_bytes())
    with tempfile.TemporaryDirectory(prefix="emeritus-test-", dir="/tmp") as short, running() as stage:
        data = Path(short)
        server = subprocess.Popen(valkey.server_command(data), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            valkey.await_ready(valkey.url(data), 10)
            environment = {
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(folder),
                "NO_PROXY": "127.0.0.1",
                "EMERITUS_ENV_FILE": os.devnull,
                "EMERITUS_DATA": str(folder),
                "DATABASE_URL": database_url,
                "REDIS_URL": valkey.url(data),
                "SECRET_KEY": SECRET,
                "REHEARSAL_URL": stage.url,
                "TRAP": str(folder / "sprung"),
            }
            with (
                Redis.from_url(valkey.url(data)) as redis,
                process("worker", environment, folder / "worker.log"),
            ):
                begun = Post(redis, valkey.url(data), database_url, folder, environment)
                at_post = until(lambda: redis.srandmember("rq:workers"))
                begun.done_unasked = int(until(lambda: redis.hget(at_post, "successful_job_count")))
                yield begun
        finally:
            server.terminate()
            server.wait(10)


@contextmanager
def process(part: str, environment: dict[str, str], log: Path) -> Iterator[None]:
    """Run a part as `emeritus serve` does; what it says goes to *log*."""
    with log.open("wb") as said:
        started = subprocess.Popen(
            [sys.executable, "-m", "workers.cli", part],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
        try:
            yield
        finally:
            started.terminate()
            started.wait(30)


def call(name: str, *arguments: Any, instance: Any = None, **named: Any) -> bytes:
    return json.dumps([name, instance, arguments, named]).encode()


class Sprung:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch $TRAP",)


# What is refused


@pytest.mark.parametrize(
    "data",
    [
        call("os.system", "touch $TRAP"),
        call("trap.spring"),
        call("trap.spring", 1),
        call("subprocess.call", ["touch", "$TRAP"]),
        call("builtins.exec", "import trap; trap.spring()"),
        call("workers.jobs.ask_at", "http://evil.example"),
        call("workers.jobs.nudge_sweep", "redis://evil.example"),
        call("bridge.queues.JOBS"),
        call("answer_essay", 1),
        call("workers.jobs.answer_essay", "1"),
        call("workers.jobs.answer_essay", [1]),
        call("workers.jobs.answer_essay", None),
        call("workers.jobs.answer_essay", essay_id="1"),
        call("workers.jobs.answer_essay", 1.0),
        call("workers.jobs.sweep", instance="a text"),
        call("format", 1, instance="a text {}"),
        call("upper", instance="a text"),
        call(""),
    ],
)
def test_refuses_a_job_that_is_not_on_the_list(post: Post, data: bytes) -> None:
    job = post.put(data)
    assert post.ended(job) == "failed"
    assert "a job that is not on the list was refused" in post.why(job)
    assert not post.trap.exists()


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(("trap.spring", None, (), {})),
        pickle.dumps(Sprung()),
        b"",
        b"null",
        b"[]",
        b'["workers.jobs.sweep", null]',
        b'["workers.jobs.sweep", null, 7, {}]',
        b'["workers.jobs.sweep", null, [], []]',
        b'[{"workers.jobs.sweep": 1}, null, [], {}]',
        b"\xff" * 50,
    ],
)
def test_runs_nothing_that_is_no_job(post: Post, data: bytes) -> None:
    job = post.put(data)
    assert post.ended(job) == "failed"
    assert not post.trap.exists()


def test_goes_on_working_after_all_that(post: Post) -> None:
    for data in (call("os.system", "touch $TRAP"), pickle.dumps(Sprung())):
        post.put(data)
    assert post.ended(post.put(call("workers.jobs.sweep"))) == "finished"


@pytest.mark.parametrize(("name", "ends"), [("workers.jobs.sweep", "finished"), ("os.system", "failed")])
def test_calls_nothing_back(post: Post, name: str, ends: str) -> None:
    kinds = ("success", "failure", "stopped")
    job = post.put(call(name), **{f"{kind}_callback_name": "trap.spring" for kind in kinds})
    assert post.ended(job) == ends
    until(post.drained)
    assert not post.trap.exists()


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """Listen for whoever calls; yield the address and what was called."""
    called: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            called.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", called
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("name", "ends"), [("workers.jobs.sweep", "finished"), ("os.system", "failed")])
def test_calls_no_address_that_stands_in_redis(post: Post, name: str, ends: str) -> None:
    with listening() as (address, called):
        hooks = [{"url": f"{address}/{status}", "job_status": status} for status in ("finished", "failed")]
        assert post.ended(post.put(call(name), webhooks=json.dumps(hooks))) == ends
        until(post.drained)
    assert called == []


def test_would_see_these_traps_spring(post: Post) -> None:
    # RQ's own worker falls into each: else the tests above could not fail.
    url = f"{post.url}?db=2"
    with listening() as (address, called), Redis.from_url(url) as other:
        stock = Post(other, url, post.database_url, post.folder, post.environment)
        hooks = json.dumps([{"url": f"{address}/finished", "job_status": "finished"}])
        for data, fields in (
            (call("os.system", "touch $TRAP"), {}),
            (call("trap.spring"), {}),
            (call("os.getpid"), {"success_callback_name": "trap.spring"}),
            (call("os.getpid"), {"webhooks": hooks}),
        ):
            stock.put(data, **fields)
            subprocess.run([sys.executable, "-c", STOCK, url], env=post.environment, check=True)
            assert stock.trap.exists() or called
    assert called == ["/finished"]


# What stands in Redis


def everything(redis: Redis) -> str:
    """Return whatever Redis holds, keys and values, unpacked where RQ packs it."""
    ways: dict[bytes, Callable[[bytes], Any]] = {
        b"string": redis.get,
        b"hash": redis.hgetall,
        b"list": lambda key: redis.lrange(key, 0, -1),
        b"set": redis.smembers,
        b"zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
        b"stream": redis.xrange,
        b"none": lambda _gone: None,
    }
    held = []

    def unpack(value: Any) -> None:
        if isinstance(value, dict):
            value = [*value.keys(), *value.values()]
        if isinstance(value, list | tuple | set):
            for part in value:
                unpack(part)
        elif isinstance(value, bytes):
            held.append(value.decode(errors="replace"))
            with suppress(zlib.error):
                held.append(zlib.decompress(value).decode(errors="replace"))
            with suppress(ValueError, zlib.error):
                held.append(zlib.decompress(b64decode(value)).decode(errors="replace"))
        else:
            held.append(str(value))

    for key in redis.scan_iter():
        unpack(key)
        unpack(ways[redis.type(key)](key))
    return "\n".join(held)


@pytest.fixture(scope="module")
def walked(post: Post) -> Iterator[Workshop]:
    """A workshop whose nudges reach the worker at its post."""
    database = db.connect(post.database_url)
    yield Workshop(database, post.folder, nudges=queues.RedisNudges(post.url))
    database.dispose()


SECRETS = ("WORDS-CANARY", "NAME-CANARY", "email-canary", "mail.example")


def test_answers_what_a_nudge_asks_for_and_leaves_no_words_in_redis(post: Post, walked: Workshop) -> None:
    comment_id = walked.asked("WORDS-CANARY", author="NAME-CANARY", email="email-canary@mail.example")
    before = everything(post.redis)
    until(lambda: walked.states()[-1] == "answered")
    until(post.drained)
    assert "WORDS-CANARY" in walked.reply_words(comment_id)[1]
    held = before + everything(post.redis) + (post.folder / "worker.log").read_text()
    assert "emeritus" in held
    for secret in SECRETS:
        assert secret not in held


def test_leaves_no_words_in_the_trace_of_a_job_that_failed(post: Post, walked: Workshop) -> None:
    with owning(post.database_url) as connection:
        trap = "WHEN NEW.kind = 'reply' BEGIN SELECT RAISE(ABORT, 'the trap'); END"
        connection.exec_driver_sql(f"CREATE TRIGGER trap BEFORE INSERT ON submissions {trap}")
    try:
        walked.asked("WORDS-CANARY", author="NAME-CANARY", email="email-canary@mail.example")
        until(lambda: "the trap" in everything(post.redis))
        until(post.drained)
    finally:
        with owning(post.database_url) as connection:
            connection.exec_driver_sql("DROP TRIGGER trap")
    held = everything(post.redis) + (post.folder / "worker.log").read_text()
    assert "INSERT INTO submissions" in held
    for secret in SECRETS:
        assert secret not in held
    walked.time_passes()
    assert post.ended(post.put(call("workers.jobs.sweep"))) == "finished"
    until(lambda: walked.states()[-1] == "answered")


def test_gives_back_at_once_what_its_dead_work_horse_had_claimed(post: Post, walked: Workshop) -> None:
    before = post.calls()
    comment_id = walked.asked("Do you dream?\n[[hang;times=1;key=horse]]")
    # The call has arrived, and not only its record: it is the one that hangs.
    until(lambda: post.calls() > before)
    [at_post] = [each for each in psutil.Process().children() if "worker" in each.cmdline()]
    for horse in at_post.children():
        horse.kill()
    # No lease ran out and no sweep came: the clock stands still in this test.
    until(lambda: walked.request(comment_id).state == "answered")
    assert [made.ended_at is None for made in walked.generations(comment_id)] == [True, False]


def test_writes_nudges_as_json_by_name_and_keeps_them_a_minute_at_most(post: Post) -> None:
    with Redis.from_url(f"{post.url}?db=3") as other:
        queues.enqueue(queues.queue(other), "answer_essay", 7)
        [key] = other.scan_iter("rq:job:*")
        held = other.hgetall(key)
    assert json.loads(zlib.decompress(held[b"data"])) == ["workers.jobs.answer_essay", None, [7], {}]
    assert (held[b"description"], held[b"result_ttl"], held[b"failure_ttl"]) == (b"answer_essay", b"0", b"60")


def test_keeps_time_by_a_job_of_the_list(post: Post) -> None:
    url = f"{post.url}?db=4"
    log = post.folder / "cron.log"
    with Redis.from_url(url) as other, process("cron", {**post.environment, "REDIS_URL": url}, log):
        [job] = until(lambda: other.lrange(f"rq:queue:{queues.POST}", 0, -1))
        data = other.hget(f"rq:job:{job.decode()}", "data")
    assert json.loads(zlib.decompress(data or b"")) == ["workers.jobs.sweep", None, [], {}]


def test_sweeps_first_when_it_starts(post: Post) -> None:
    assert post.done_unasked == 1


def test_knows_every_job_of_the_list() -> None:
    assert set(worker._FUNCTIONS) == set(queues.JOBS.values())
    for name, function in worker._FUNCTIONS.items():
        assert name == f"{function.__module__}.{function.__name__}"
