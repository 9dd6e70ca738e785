"""What goes wrong while twenty letters wait: a killed worker, a queue that is emptied, stopped, full.

Nothing is lost. One installation, whose model takes a second for each answer, goes through all of it and is then
stopped by Ctrl-C.
"""

import re
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from ground.installation import Installation, wait_for

from bridge import queues

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SLUG = "a-map-with-the-old-names"
LETTERS = 20
SWEEP_AND_LEASE = 150
"""Seconds: a lease of 45, then a sweep that comes every minute, then the answers."""


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    started = Installation(tmp_path_factory.mktemp("misfortunes"), {"REHEARSAL_LATENCY": "1", "RATE_LIMITS": "off"})
    started.start()
    try:
        started.admit_moderator()
        yield started
        # Every secret of every story below: none may have been said, by whatever was killed, stopped or full.
        started.stop(signal.SIGINT)
    finally:
        started.destroy()


def send(slow: Installation, mark: str, slug: str = SLUG) -> None:
    """Send twenty letters with *mark* and its number in each, from twenty addresses."""
    for number in range(LETTERS):
        email = f"{mark}.{number}@example.org"
        slow.comment(slug, f"Letter {mark}x{number:02}x waits.", f"Reader {mark} {number}", email=email)


def answered(slow: Installation, mark: str) -> Counter[str]:
    """Count the replies on the desk for each letter with *mark*, by what they quote."""
    replies = slow.waiting(mark, "reply")
    return Counter(found for each in replies for found in set(re.findall(rf"{mark}x\d\dx", each["body"])))


def every_letter(mark: str) -> Counter[str]:
    return Counter(f"{mark}x{number:02}x" for number in range(LETTERS))


def the_worker(slow: Installation) -> psutil.Process | None:
    """Return the worker of sittings itself, without its horses; None while it is being started again."""
    found = slow.processes("workers.cli worker --queue sittings")
    parents = {each.pid: each.parent() for each in found}
    return next((each for each in found if parents[each.pid] not in found), None)


@contextmanager
def suspended(process: psutil.Process | None) -> Iterator[None]:
    """Let a process stand still meanwhile."""
    assert process is not None
    process.suspend()
    try:
        yield
    finally:
        process.resume()


def requests(slow: Installation) -> Counter[str]:
    """Count the requests for a reply in each state."""
    return Counter(dict(slow.ask("SELECT state, count(*) FROM reply_requests GROUP BY state")))


def test_answers_each_letter_once_though_the_worker_is_killed(slow: Installation) -> None:
    mark = slow.mark()
    send(slow, mark)
    worker = the_worker(slow)
    assert worker is not None
    with suspended(worker):  # So that one sitting takes all twenty on.
        assert len(slow.approve_all(mark, "comment")) == LETTERS
    wait_for(lambda: sum(answered(slow, mark).values()) > 1, "the first answers")
    for horse in worker.children():
        horse.suspend()  # It gets no further, and what is checked here is what the worker's death leaves.
    left = requests(slow)
    assert left["asking"] > 1
    worker.kill()
    wait_for(lambda: not worker.is_running() and the_worker(slow), "a new worker")
    wait_for(lambda: answered(slow, mark) == every_letter(mark), "twenty answers", SWEEP_AND_LEASE)
    assert requests(slow) == {"answered": LETTERS}
    assert len(slow.waiting(mark, "reply")) == LETTERS
    # Those that were on their way when it died were asked for again, and every call is on record.
    [(calls,)] = slow.ask("SELECT count(*) FROM generations")
    assert LETTERS < calls <= LETTERS + left["asking"]


def test_answers_all_that_waited_when_the_queue_was_emptied(slow: Installation) -> None:
    mark = slow.mark()
    before = requests(slow)["answered"]
    send(slow, mark, "how-to-fold-a-letter")
    with suspended(the_worker(slow)):  # So that all twenty still wait when the nudges are lost.
        assert len(slow.approve_all(mark, "comment")) == LETTERS
        with slow.redis() as redis:
            # The worker may have taken one before it was suspended; of that, too, nothing is left to read.
            assert redis.llen(f"rq:queue:{queues.QUEUE}") >= LETTERS - 1
            redis.flushall()
    assert requests(slow)["waiting"] == LETTERS
    for _ in range(2):
        with slow.redis() as redis:
            queues.enqueue(queues.queue(redis, queues.POST), "sweep")
            wait_for(lambda: not redis.llen(f"rq:queue:{queues.POST}"), "the sweep to be taken")
    wait_for(lambda: answered(slow, mark) == every_letter(mark), "twenty answers")
    assert requests(slow) == {"answered": before + LETTERS}


def test_takes_letters_and_verdicts_while_the_queue_stands_still_or_is_full(slow: Installation) -> None:
    mark = slow.mark()
    [valkey] = slow.processes("valkey-server")
    with suspended(valkey):
        receive_and_post(slow, f"{mark}a")
    with slow.redis() as redis:
        redis.config_set("maxmemory", "1")
        try:
            receive_and_post(slow, f"{mark}b")
        finally:
            redis.config_set("maxmemory", "0")
    # Started again, it asks for the next minute's sweep now.
    [cron] = slow.processes("workers.cli cron")
    cron.kill()
    wait_for(lambda: len(slow.waiting(mark, "reply")) == 2, "the answers", SWEEP_AND_LEASE)


def receive_and_post(slow: Installation, mark: str) -> None:
    """Send a letter and approve it; neither may wait for the queue."""
    slow.comment(SLUG, f"Does this arrive? {mark}")
    [waits] = slow.waiting(mark, "comment")
    assert slow.approve(waits).status == 201
    assert len([each for each in slow.thread(SLUG) if mark in each["html"]]) == 1


@pytest.mark.parametrize("fault", ["status=500;times=1", "drop;times=1", "bad-json;times=1", "status=401;times=1"])
def test_says_nothing_of_a_letter_when_the_model_fails(slow: Installation, fault: str) -> None:
    mark = slow.mark()
    slow.comment("the-prompters-box", f"What now? {mark}\n\n[[{fault};key={mark[-12:]}]]", f"Ada {mark}")
    slow.approve_all(mark, "comment")
    if fault.startswith("status=401"):
        wait_for(lambda: slow.ask("SELECT 1 FROM voices WHERE paused_at IS NOT NULL"), "the pause of the voice")
    else:
        wait_for(lambda: len(slow.waiting(mark, "reply")) == 1, "the answer after the fault")
    slow.assert_said_no_secret()
