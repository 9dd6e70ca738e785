"""What a sitting writes down, each step in its own transaction, and what it does when the database is not there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from bridge.site import Site

log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")
Sleep = Callable[[float], Awaitable[None]]

TRY_AGAIN_AFTER = (0.5, 2.0, 8.0)
"""Seconds: an answer that was paid for is worth waiting for a database that is busy, full or restarting."""


_threads: WeakKeyDictionary[asyncio.AbstractEventLoop, ThreadPoolExecutor] = WeakKeyDictionary()


async def record(site: Site, step: Callable[Concatenate[Session, _P], _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Run *step* in a transaction of its own, in a thread: a database that waits must not stop the other calls.

    One at a time for each sitting: SQLite has one writer, and who finds it busy sleeps before looking again.
    """

    def run() -> _R:
        with site.database.sessions.begin() as session:
            return step(session, *args, **kwargs)

    loop = asyncio.get_running_loop()
    if loop not in _threads:
        _threads[loop] = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recording")
    return await loop.run_in_executor(_threads[loop], run)


async def record_surely(
    site: Site, sleep: Sleep, step: Callable[Concatenate[Session, _P], _R], *args: _P.args, **kwargs: _P.kwargs
) -> _R:
    """Do the same, and again if the database fails: for steps that may be done twice. The last failure is raised."""
    for seconds in TRY_AGAIN_AFTER:
        try:
            return await record(site, step, *args, **kwargs)
        except (OperationalError, InterfaceError) as error:
            log.warning("%s was not recorded, and is tried again: %s", step.__name__, type(error).__name__)
            await sleep(seconds)
    return await record(site, step, *args, **kwargs)
