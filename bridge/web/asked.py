"""What a page of the desk is asked to show: the filters in its address, kept in every link and form of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import request

from bridge.desk.reviews import Wanted
from bridge.signal.signals import NAMES
from moderation.types import Kind, Moderator, Tray

LARGEST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Asked:
    """The filters of one request."""

    wanted: Wanted
    kept: dict[str, Any]
    """The same as parameters of an address, with where the list begins."""
    filters: dict[str, Any]
    """The same without where the list begins."""
    after: int


def asked_by(moderator: Moderator) -> Asked:
    """Read the filters; what names nothing is not asked for. What *moderator* holds waits in its own tab."""
    kind, tray, signal = (request.args.get(name) for name in ("kind", "tray", "signal"))
    held = request.args.get("held") == "yes"
    mine = request.args.get("mine") == "yes"
    wanted = Wanted(
        kind=Kind(kind) if kind in set(Kind) else None,
        essay=request.args.get("essay") or None,
        voice=request.args.get("voice") or None,
        signal=signal if signal in NAMES else None,
        tray=Tray(tray) if tray in set(Tray) else None,
        held=True if held else None,
        not_held_by=None if held else moderator.id,
        claimed_by=moderator.id if mine else None,
    )
    filters = {
        "kind": wanted.kind.value if wanted.kind else None,
        "essay": wanted.essay,
        "voice": wanted.voice,
        "signal": wanted.signal,
        "tray": wanted.tray.value if wanted.tray else None,
        "held": "yes" if held else None,
        "mine": "yes" if mine else None,
    }
    given = {name: value for name, value in filters.items() if value is not None}
    after = number("after")
    return Asked(wanted, given | ({"after": str(after)} if after else {}), given, after)


def number(name: str) -> int:
    """Return the parameter *name* as the number of a submission, or 0."""
    return positive(request.args.get(name, "0"))


def positive(given: str) -> int:
    """Return what a browser sent as the number of a submission, or 0 if it is none."""
    # Looked at before it is read: Python refuses to read thousands of digits.
    return int(given) if given.isascii() and given.isdigit() and len(given) < 11 and int(given) <= LARGEST else 0
