"""RQ's worker and cron, narrowed: they run what `bridge.queues.JOBS` lists, from JSON, and nothing else.

A JSON queue is not safe by itself: a job named `os.system` would be run. So names are resolved from our list alone.
"""

from __future__ import annotations

import logging
import os
import secrets
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry
from rq import Worker
from rq.cron import CronJob, CronScheduler
from rq.job import Job
from rq.queue import Queue
from rq.serializers import JSONSerializer
from sqlalchemy.exc import SQLAlchemyError

from bridge import queues
from bridge.answer import replies
from workers import jobs

log = logging.getLogger(__name__)

SWEEP_EVERY = 60
"""Seconds."""
_FUNCTIONS: dict[str, Callable[..., str]] = {queues.JOBS[name]: getattr(jobs, name) for name in queues.JOBS}


class JobRefused(Exception):
    """Raised when something in the queue is not a job of ours. It is not run."""

    def __init__(self) -> None:
        super().__init__("a job that is not on the list was refused")


class ListedJob(Job):
    """A job of the list, with ids for arguments; whatever else Redis says of it is not believed."""

    @property
    def func(self) -> Callable[..., str]:
        """Return the function of the list. Raises `JobRefused`."""
        arguments = [*self.args, *self.kwargs.values()]
        if self.instance is not None or self.func_name not in _FUNCTIONS:
            raise JobRefused
        if not all(isinstance(argument, int) for argument in arguments):
            raise JobRefused
        return _FUNCTIONS[self.func_name]

    # RQ imports callbacks by name and posts to webhooks, both from what stands in Redis.
    @property
    def success_callback(self) -> None:
        """Never one."""

    @property
    def failure_callback(self) -> None:
        """Never one."""

    @property
    def stopped_callback(self) -> None:
        """Never one."""

    @property
    def webhooks(self) -> list[Any]:
        """Never one."""
        return []

    @webhooks.setter
    def webhooks(self, _given: object) -> None:
        """Take no notice."""


class ListedQueue(Queue):
    """The queue, made of listed jobs."""

    job_class = ListedJob


class ListedCronJob(CronJob):
    """A job of the list at an interval; RQ's own would write pickle and want the function itself."""

    def enqueue(self, connection: Redis) -> Any:
        """Enqueue the job by its name, as a nudge is."""
        queues.enqueue(queues.queue(connection, self.queue_name), self.name)


class ListedWorker(Worker):
    """A worker whose children say in their claims who they are, so that a dead one's are given back at once."""

    _name_of_horses = secrets.token_hex(4)
    _ended: tuple[int | None, int | None] = (None, None)

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        """Be the child that does the job."""
        replies.claims_are_made_by(self._horse(os.getpid()))
        super().main_work_horse(job, queue)

    def wait_for_horse(self) -> tuple[int | None, int | None, Any]:
        """Wait for the child, and remember how it ended."""
        ended = super().wait_for_horse()
        self._ended = ended[:2]
        return ended

    def monitor_work_horse(self, *job: Any) -> None:
        """Wait for the child; if it died, give back what it had claimed, whatever Redis still knows of its job."""
        self._ended = (None, None)
        try:
            super().monitor_work_horse(*job)
        finally:
            pid, status = self._ended
            if pid is not None and status != os.EX_OK:
                self._give_back(pid)

    def _give_back(self, pid: int) -> None:
        try:
            jobs.give_back(self._horse(pid))
        except SQLAlchemyError as error:
            log.warning("claims of a dead process end with their lease: %s", type(error).__name__)

    def _horse(self, pid: int) -> str:
        return f"{self._name_of_horses}{pid:08x}"


def work(redis_url: str, names: Sequence[str] = (queues.POST, queues.QUEUE)) -> None:
    """Work off the queues of *names*, the first before the others, until told to end.

    The SDK is imported by now: each job forks from here and finds it loaded.
    """
    # A retired model's id makes the SDK warn at each call; here that is the point. It blames asyncio, so: by message.
    warnings.filterwarnings("ignore", message="The model .* is deprecated", category=DeprecationWarning)
    connection = Redis.from_url(redis_url, retry=Retry(ExponentialBackoff(), 3))
    where = [
        ListedQueue(name, connection=connection, serializer=JSONSerializer, default_timeout=queues.JOB_TIMEOUT)
        for name in names
    ]
    if queues.POST in names:
        jobs.nudge_sweep(redis_url)
    worker = ListedWorker(
        where,
        connection=connection,
        job_class=ListedJob,
        queue_class=ListedQueue,
        serializer=JSONSerializer,
        log_job_description=False,
    )
    worker.work(logging_level="WARNING")


def keep_time(redis_url: str) -> None:
    """Enqueue the sweep every minute until told to end."""
    scheduler = CronScheduler(Redis.from_url(redis_url), logging_level="WARNING")
    scheduler._cron_jobs.append(
        ListedCronJob(queues.POST, func_name=queues.JOBS["sweep"], interval=SWEEP_EVERY, name="sweep")
    )
    scheduler.start()  # type: ignore[no-untyped-call]
