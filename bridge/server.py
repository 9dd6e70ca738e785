"""The web server: granian, with the bounds that keep slow clients from stopping it."""

from __future__ import annotations

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

from bridge.settings import Settings

HOST = "127.0.0.1"
WORKERS, THREADS = 2, 128
"""Measured (SECURITY, R10): 200 half-sent requests, which stop other servers, leave this one answering."""
HEADERS_WITHIN = 5000
"""Milliseconds in which a request's head must arrive."""


def serve(settings: Settings) -> None:
    """Serve the site on 127.0.0.1 until told to end."""
    Granian(
        "bridge.app:create_app",
        factory=True,
        interface=Interfaces.WSGI,
        address=HOST,
        port=settings.port,
        workers=WORKERS,
        blocking_threads=THREADS,
        http=HTTPModes.http1,
        websockets=False,
        log_access=False,
        log_level=LogLevels.error,
        http1_settings=HTTP1Settings(header_read_timeout=HEADERS_WITHIN),
        respawn_failed_workers=True,
        workers_kill_timeout=10,
    ).serve()
