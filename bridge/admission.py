"""Admission: how a letter came, what that says about it, and which comes too often to be taken now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from bridge.comments import Letter
from bridge.signals import Noticed
from bridge.site import Site


class Came(StrEnum):
    """By which door a letter came."""

    PAGE = "page"
    EMBED = "embed"
    API = "api"


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a request says of itself besides the letter that it carries."""

    came: Came
    network: str = field(repr=False)
    """`limits.network` of the address it came from."""
    begun_at: datetime | None = None
    """When its form was given its token; None where there is none."""
    bait: str = ""
    """What stands in the field that people do not see."""
    proof: str | None = None
    """The proof of work, as the form's module sent it."""
    to_a_person: bool = False
    """Whether its author, once refused, asked that a person looks at it."""


def admit(site: Site, slug: str, letter: Letter, arrival: Arrival) -> Sequence[Noticed]:
    """Return what there is to notice about how a letter came, having counted it."""
    return ()
