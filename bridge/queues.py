"""The queue in Redis: nudges that say "something may wait". Losing them loses nothing; the sweep finds what waits."""

from __future__ import annotations

import logging
from typing import Protocol

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Queue
from rq.serializers import JSONSerializer

log = logging.getLogger(__name__)

QUEUE = "emeritus"
"""Where sittings wait, which take as long as a model does."""
POST = "emeritus-post"
"""Where all else waits, mail above all: it takes no time, and must not stand behind a sitting."""
JOBS = {
    "answer_essay": "workers.jobs.answer_essay",
    "sweep": "workers.jobs.sweep",
    "send_outgoing": "workers.jobs.send_outgoing",
    "screen_comment": "workers.jobs.screen_comment",
    "look_again": "workers.jobs.look_again",
    "fetch_batch": "workers.jobs.fetch_batch",
    "print_pages": "workers.jobs.print_pages",
    "see_to_mention": "workers.jobs.see_to_mention",
}
"""Every job there is, by the one name it may be enqueued under. Workers refuse any other."""
ASKS = frozenset({"answer_essay", "fetch_batch"})
"""The jobs that speak to a model; only a worker that does them needs its key."""
JOB_TIMEOUT = 20 * 60
"""Seconds after which RQ ends a job; a sitting stops itself well before."""


class Nudges(Protocol):
    """Where a nudge goes."""

    def nudge(self, essay_id: int) -> None:
        """Say that requests may wait under an essay. Never raises: a lost nudge only costs a minute."""

    def nudge_outgoing(self) -> None:
        """Say that mail may wait to be sent. Never raises, as above."""

    def nudge_screening(self, submission_id: int) -> None:
        """Say that the operator's services may look at a letter. Never raises: without it they do not."""

    def nudge_looking_again(self, after: int) -> None:
        """Say that letters above a submission's id are to be compared with the listed words again. Never raises."""

    def nudge_batch(self, batch_id: int) -> None:
        """Say that a batch may have been answered. Never raises: a lost nudge only costs a minute."""

    def nudge_pages(self, essay_id: int) -> None:
        """Say that an essay's stored pages may be out of date. Never raises, as above."""

    def nudge_mention(self, mention_id: int) -> None:
        """Say that a link elsewhere is to be told, or looked at. Never raises, as above."""


class NoNudges:
    """Nudges for a site without Redis: the sweep finds what waits."""

    def nudge(self, essay_id: int) -> None:
        """Leave it to the sweep."""

    def nudge_outgoing(self) -> None:
        """Leave it to the sweep."""

    def nudge_screening(self, submission_id: int) -> None:
        """Leave it: a letter that no service saw waits like any other."""

    def nudge_looking_again(self, after: int) -> None:
        """Leave it: what is noticed is only advice."""

    def nudge_batch(self, batch_id: int) -> None:
        """Leave it to the sweep."""

    def nudge_pages(self, essay_id: int) -> None:
        """Leave it to the sweep."""

    def nudge_mention(self, mention_id: int) -> None:
        """Leave it to the sweep."""


class RedisNudges:
    """Nudges by RQ."""

    def __init__(self, url: str) -> None:
        redis = connection(url)
        self._queue = queue(redis)
        self._post = queue(redis, POST)

    def nudge(self, essay_id: int) -> None:
        """Enqueue a sitting for the essay; log and go on if Redis does not answer within half a second."""
        try:
            enqueue(self._queue, "answer_essay", essay_id)
        except RedisError as error:
            log.warning("no nudge for essay %s, the sweep will find it: %s", essay_id, type(error).__name__)

    def nudge_outgoing(self) -> None:
        """Enqueue the sending of what waits; log and go on if Redis does not answer within half a second."""
        try:
            enqueue(self._post, "send_outgoing")
        except RedisError as error:
            log.warning("no nudge for what goes out, the sweep will find it: %s", type(error).__name__)

    def nudge_screening(self, submission_id: int) -> None:
        """Enqueue the screening of a letter; log and go on, unscreened, if Redis does not answer."""
        try:
            enqueue(self._post, "screen_comment", submission_id)
        except RedisError as error:
            log.warning("submission %s goes unscreened by the services: %s", submission_id, type(error).__name__)

    def nudge_looking_again(self, after: int) -> None:
        """Enqueue another look at what waits; log and go on if Redis does not answer."""
        try:
            enqueue(self._post, "look_again", after)
        except RedisError as error:
            log.warning("letters above %s keep what was noticed: %s", after, type(error).__name__)

    def nudge_batch(self, batch_id: int) -> None:
        """Enqueue a look at how a batch stands; log and go on if Redis does not answer."""
        try:
            enqueue(self._queue, "fetch_batch", batch_id)
        except RedisError as error:
            log.warning("no nudge for batch %s, the sweep comes back to it: %s", batch_id, type(error).__name__)

    def nudge_pages(self, essay_id: int) -> None:
        """Enqueue the printing of an essay's pages; log and go on if Redis does not answer."""
        try:
            enqueue(self._post, "print_pages", essay_id)
        except RedisError as error:
            log.warning("no nudge for the pages of essay %s, the sweep prints them: %s", essay_id, type(error).__name__)

    def nudge_mention(self, mention_id: int) -> None:
        """Enqueue a look at a link elsewhere; log and go on if Redis does not answer."""
        try:
            enqueue(self._post, "see_to_mention", mention_id)
        except RedisError as error:
            log.warning("no nudge for mention %s, the sweep will find it: %s", mention_id, type(error).__name__)


def connection(url: str) -> Redis:
    """Return a connection that gives up after half a second: a page must not hang on a queue."""
    return Redis.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=Retry(NoBackoff(), 0))


def queue(redis: Redis, name: str = QUEUE, *, job_class: type | None = None) -> Queue:
    """Return one of the two queues, with the JSON serializer: nothing in Redis is ever unpickled."""
    return Queue(name, connection=redis, serializer=JSONSerializer, job_class=job_class, default_timeout=JOB_TIMEOUT)


def enqueue(where: Queue, job: str, *ids: int) -> None:
    """Enqueue a job of the list by name, with ids only. Its traces in Redis last a minute at most."""
    # Not unique: RQ's "unique" means "the job's hash exists", which a crash would leave behind for a year.
    where.enqueue(JOBS[job], *ids, result_ttl=0, failure_ttl=60, description=job)
