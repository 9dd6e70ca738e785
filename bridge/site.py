"""What a site is made of, passed to everything that happens."""

from __future__ import annotations

from dataclasses import dataclass

from bridge import db, queues
from bridge.db import Database
from bridge.keys import Keys
from bridge.queues import Nudges
from bridge.settings import Settings


@dataclass(frozen=True)
class Site:
    """The collaborators of one installation."""

    settings: Settings
    database: Database
    nudges: Nudges
    keys: Keys


def open_site(settings: Settings) -> Site:
    """Return the site that *settings* describe. Nothing is connected yet."""
    return Site(
        settings=settings,
        database=db.connect(settings.database),
        nudges=queues.RedisNudges(settings.redis),
        keys=Keys(settings.key),
    )
