"""The ways of a voice as a person writes them: at the command line and on the desk, in words and numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from enum import StrEnum
from typing import Any, TypeVar

from bridge.records import Answering, Calls, Endpoint
from bridge.voice.voices import OPTIONS_OF, WayRefused, Ways

AT_THE_DESK = (
    "answering",
    "calls",
    "depth",
    "memory_tokens",
    "calls_at_once",
    "requests_a_minute",
    "input_tokens_a_minute",
    "output_tokens_a_minute",
)
"""What an admin sets on a page. Where a voice is asked, and with which key, the operator says at the command line:
whoever may say it could have the key sent to themselves."""

_Choice = TypeVar("_Choice", bound=StrEnum)
_MANDATORY = ("depth", "memory_tokens", "max_tokens")
_OPTIONAL = ("calls_at_once", "requests_a_minute", "input_tokens_a_minute", "output_tokens_a_minute")
_TEXTS = ("anthropic_version", "base_url", "key_name")
_OPTIONS = ("region", "project")


def read(given: Mapping[str, str], before: Ways) -> Ways:
    """Return *before* with what a person wrote in its place; empty is none. Raises `WayRefused`.

    By the names in `Ways`, but for `endpoint_options`, which are written one by one: `region`, `project`. Names that
    are none of these are not looked at. `voices.checked` says which of it may be kept.
    """
    said = {name: value.strip() for name, value in given.items()}
    told: dict[str, Any] = {name: said[name] or None for name in _TEXTS if name in said}
    told |= {name: _count(said[name]) for name in _MANDATORY if name in said}
    told |= {name: _count(said[name]) if said[name] else None for name in _OPTIONAL if name in said}
    for name, kind in (("answering", Answering), ("calls", Calls), ("endpoint", Endpoint)):
        if name in said:
            told[name] = _choice(name, said[name], kind)
    if "disclaimer" in said:
        told["disclaimer"] = said["disclaimer"]
    if "retired_on" in said:
        told["retired_on"] = _day(said["retired_on"])
    if "extra_body" in said:
        told["extra_body"] = _object(said["extra_body"])
    endpoint = told.get("endpoint", before.endpoint)
    # What another endpoint needed goes with it.
    options = {name: value for name, value in (before.endpoint_options or {}).items() if name in OPTIONS_OF[endpoint]}
    options |= {name: said[name] for name in _OPTIONS if name in said}
    told["endpoint_options"] = {name: value for name, value in options.items() if value} or None
    return replace(before, **told)


def written(ways: Ways) -> dict[str, str]:
    """Return *ways* as a person would write them; `read` gives them back."""
    numbers = {name: getattr(ways, name) for name in (*_MANDATORY, *_OPTIONAL)}
    options = ways.endpoint_options or {}
    return {
        "answering": ways.answering.value,
        "calls": ways.calls.value,
        **{name: "" if number is None else str(number) for name, number in numbers.items()},
        "endpoint": ways.endpoint.value,
        **{name: options.get(name, "") for name in _OPTIONS},
        **{name: getattr(ways, name) or "" for name in _TEXTS},
        "extra_body": json.dumps(ways.extra_body, ensure_ascii=False) if ways.extra_body is not None else "",
        "disclaimer": ways.disclaimer,
        "retired_on": ways.retired_on.isoformat() if ways.retired_on is not None else "",
    }


def _count(said: str) -> int:
    """Return the number that was written, or -1, which no number of anything is."""
    return int(said) if said.isascii() and said.isdigit() and len(said) <= 10 else -1


def _choice(field: str, said: str, kind: type[_Choice]) -> _Choice:
    try:
        return kind(said)
    except ValueError:
        raise WayRefused(field, f"Choose one of {', '.join(kind)}.") from None


def _day(said: str) -> date | None:
    try:
        return date.fromisoformat(said) if said else None
    except ValueError:
        raise WayRefused("retired_on", "Write a day such as 2026-01-05.") from None


def _object(said: str) -> dict[str, Any] | None:
    try:
        body = json.loads(said) if said else None
    except (ValueError, RecursionError):
        body = said
    if body is not None and not isinstance(body, dict):
        raise WayRefused("extra_body", 'Write a JSON object, such as {"temperature": 0.7}.')
    return body
