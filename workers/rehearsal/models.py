"""The catalogue: what each model allows, as far as a request of ours could meet it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

Lifecycle = Literal["active", "deprecated", "retired"]


@dataclass(frozen=True, slots=True)
class Model:
    """One model. Sizes are in tokens.

    `thinking` are the values of `thinking.type` that it takes; `thinks` whether it does so unasked. `sampling` holds
    under version 2023-06-01 only; `reads_count` says that tokens read from the cache count against the limits.
    """

    id: str
    name: str
    line: str
    context: int
    most_output: int
    cache_minimum: int
    lifecycle: Lifecycle = "active"
    released: date | None = None
    deprecated: date | None = None
    retires: date | None = None
    thinking: frozenset[str] = frozenset({"disabled"})
    thinks: bool = False
    sampling: bool = False
    forced_choice: bool = True
    prefill: bool = False
    newer_fields: bool = True
    reads_count: bool = False

    def info(self) -> dict[str, object]:
        """Return what `GET /v1/models/ID` says."""
        return {
            "type": "model",
            "id": self.id,
            "display_name": self.name,
            # The API itself gives the epoch where it does not know the day.
            "created_at": _midnight(self.released or date(1970, 1, 1)),
            "lifecycle": self.lifecycle,
            "deprecated_at": _midnight(self.deprecated) if self.deprecated else None,
            "retires_at": _midnight(self.retires) if self.retires else None,
            "line": self.line,
            "max_input_tokens": self.context,
            "max_tokens": self.most_output,
            "capabilities": None,
        }


def _midnight(day: date) -> str:
    return f"{day.isoformat()}T00:00:00Z"


def _current(
    model_id: str, name: str, line: str, *, cache_minimum: int, thinking: set[str], forced_choice: bool = True
) -> Model:
    return Model(
        id=model_id,
        name=name,
        line=line,
        context=1_000_000,
        most_output=128_000,
        cache_minimum=cache_minimum,
        thinking=frozenset(thinking),
        thinks=True,
        forced_choice=forced_choice,
    )


# The API's pages "Models overview", "Prompt caching" and "Model deprecations", as of November 2026. The newest come
# first, as in the API's own list.
CATALOGUE: Mapping[str, Model] = {
    model.id: model
    for model in (
        _current(
            "claude-opus-5-5", "Claude Opus 5.5", "opus", cache_minimum=512, thinking={"adaptive"}, forced_choice=False
        ),
        _current(
            "claude-sonnet-5-5",
            "Claude Sonnet 5.5",
            "sonnet",
            cache_minimum=1_024,
            thinking={"adaptive", "between_tools"},
            forced_choice=False,
        ),
        _current("claude-haiku-5-5", "Claude Haiku 5.5", "haiku", cache_minimum=512, thinking={"adaptive", "disabled"}),
        _current(
            "claude-fable-5-1",
            "Claude Fable 5.1",
            "fable",
            cache_minimum=512,
            thinking={"adaptive"},
            forced_choice=False,
        ),
        _current("claude-opus-5", "Claude Opus 5", "opus", cache_minimum=512, thinking={"adaptive", "disabled"}),
        _current(
            "claude-sonnet-5", "Claude Sonnet 5", "sonnet", cache_minimum=1_024, thinking={"adaptive", "disabled"}
        ),
        Model(
            id="claude-3-7-sonnet-20250219",
            name="Claude Sonnet 3.7",
            line="sonnet",
            context=200_000,
            most_output=64_000,
            cache_minimum=1_024,
            lifecycle="retired",
            released=date(2025, 2, 19),
            deprecated=date(2025, 10, 28),
            retires=date(2026, 2, 19),
            thinking=frozenset({"enabled", "disabled"}),
            sampling=True,
            prefill=True,
            newer_fields=False,
        ),
        Model(
            id="claude-3-opus-20240229",
            name="Claude Opus 3",
            line="opus",
            context=200_000,
            most_output=4_096,
            cache_minimum=1_024,
            lifecycle="retired",
            released=date(2024, 2, 29),
            deprecated=date(2025, 6, 30),
            retires=date(2026, 1, 5),
            sampling=True,
            prefill=True,
            newer_fields=False,
            reads_count=True,
        ),
        Model(
            id="claude-3-sonnet-20240229",
            name="Claude Sonnet 3",
            line="sonnet",
            context=200_000,
            most_output=4_096,
            cache_minimum=1_024,
            lifecycle="retired",
            released=date(2024, 2, 29),
            deprecated=date(2025, 1, 21),
            retires=date(2025, 7, 21),
            sampling=True,
            prefill=True,
            newer_fields=False,
            reads_count=True,
        ),
    )
}
