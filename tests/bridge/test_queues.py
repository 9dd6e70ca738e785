"""Nudges: by name, with ids only, and never in the way of a page."""

import json
import logging
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from rq.job import Job
from rq.serializers import JSONSerializer

from bridge import queues
from bridge.queues import NoNudges, RedisNudges
from workers import valkey


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="emeritus-test-", dir="/tmp") as folder:
        server = subprocess.Popen(
            valkey.server_command(Path(folder)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        try:
            valkey.await_ready(valkey.url(Path(folder)), 10)
            yield valkey.url(Path(folder))
        finally:
            server.terminate()
            server.wait(10)


@pytest.fixture
def redis(served: str) -> Iterator[Redis]:
    with Redis.from_url(served) as connected:
        connected.flushall()
        yield connected


def test_enqueues_a_sitting_by_name_with_an_id_and_no_more(served: str, redis: Redis) -> None:
    RedisNudges(served).nudge(7)
    (job_id,) = queues.queue(redis).job_ids
    job = Job.fetch(job_id, connection=redis, serializer=JSONSerializer)
    assert (job.func_name, list(job.args), job.kwargs) == ("workers.jobs.answer_essay", [7], {})
    assert job.description == "answer_essay"
    assert (job.result_ttl, job.failure_ttl) == (0, 60)
    # Compressed JSON, and no pickle, which would begin with 0x80.
    stored = redis.hget(f"rq:job:{job_id}", "data")
    assert isinstance(stored, bytes)
    assert json.loads(zlib.decompress(stored)) == ["workers.jobs.answer_essay", None, [7], {}]


def test_enqueues_the_sending_of_what_goes_out(served: str, redis: Redis) -> None:
    RedisNudges(served).nudge_outgoing()
    assert queues.queue(redis).job_ids == []
    (job_id,) = queues.queue(redis, queues.POST).job_ids
    job = Job.fetch(job_id, connection=redis, serializer=JSONSerializer)
    assert (job.func_name, list(job.args), job.description) == ("workers.jobs.send_outgoing", [], "send_outgoing")


def test_enqueues_a_look_at_a_batch(served: str, redis: Redis) -> None:
    RedisNudges(served).nudge_batch(7)
    (job_id,) = queues.queue(redis).job_ids
    job = Job.fetch(job_id, connection=redis, serializer=JSONSerializer)
    assert (job.func_name, list(job.args), job.description) == ("workers.jobs.fetch_batch", [7], "fetch_batch")


def test_lets_nothing_but_what_asks_a_model_wait_where_sittings_do(served: str, redis: Redis) -> None:
    nudges = RedisNudges(served)
    nudges.nudge_outgoing()
    for one_by_id in (nudges.nudge, nudges.nudge_screening, nudges.nudge_looking_again, nudges.nudge_batch):
        one_by_id(7)
    for one_by_id in (nudges.nudge_pages, nudges.nudge_mention):
        one_by_id(7)
    waiting = {
        name: {
            Job.fetch(each, connection=redis, serializer=JSONSerializer).func_name
            for each in queues.queue(redis, name).job_ids
        }
        for name in (queues.QUEUE, queues.POST)
    }
    assert waiting[queues.QUEUE] == {queues.JOBS[name] for name in queues.ASKS}
    assert waiting[queues.POST] == {queues.JOBS[name] for name in set(queues.JOBS) - queues.ASKS - {"sweep"}}


def test_enqueues_nothing_that_is_not_on_the_list(redis: Redis) -> None:
    with pytest.raises(KeyError):
        queues.enqueue(queues.queue(redis), "os.system", 1)
    assert queues.queue(redis).job_ids == []


def test_goes_on_where_nobody_answers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        RedisNudges(f"unix://{tmp_path / 'nobody.sock'}").nudge(7)
        RedisNudges(f"unix://{tmp_path / 'nobody.sock'}").nudge_outgoing()
        RedisNudges(f"unix://{tmp_path / 'nobody.sock'}").nudge_batch(7)
    assert caplog.text.count("the sweep will find it") == 2
    assert caplog.text.count("the sweep comes back to it") == 1


def test_goes_on_where_the_queue_is_full(served: str, redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    redis.config_set("maxmemory", 1)
    try:
        RedisNudges(served).nudge(7)
    finally:
        redis.config_set("maxmemory", 0)
    assert "OutOfMemoryError" in caplog.text


def test_leaves_everything_to_the_sweep_without_redis() -> None:
    NoNudges().nudge(7)
    NoNudges().nudge_outgoing()
    NoNudges().nudge_batch(7)
