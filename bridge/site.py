"""What a site is made of, passed to everything that happens."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random, SystemRandom

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
    chance: Random = field(default_factory=SystemRandom)
    """Draws the approvals that are read again."""


def open_site(settings: Settings) -> Site:
    """Return the site that *settings* describe. Nothing is connected yet."""
    return Site(
        settings=settings,
        database=db.connect(settings.database),
        nudges=queues.RedisNudges(settings.redis),
        keys=Keys(settings.key),
    )
