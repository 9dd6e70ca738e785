"""A call's request put together from the records once more, and held against what was sent: `emeritus replay`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bridge.answer import calls
from bridge.answer.calls import Call, Whole
from bridge.site import Site


@dataclass(frozen=True, slots=True)
class Replayed:
    """One call's request, as the records give it now."""

    call: Call
    whole: Whole

    @property
    def holds(self) -> bool:
        """Whether it is what was sent, but for words that were taken back or erased since."""
        return self.whole.request is None or self.whole.equal or bool(self.whole.missing)

    def as_record(self) -> dict[str, Any]:
        """Return what a script would read."""
        made = self.call.made
        return {
            "generation": made.id,
            "purpose": made.purpose,
            "attempt": made.attempt,
            "model": made.model_asked,
            "prompt_version": made.prompt_version,
            "started_at": made.started_at.isoformat(),
            "equal": self.whole.equal,
            "erased": self.whole.request is None,
            "missing": [
                {"submission": each.submission_id, "digest": each.digest, "erased": each.erased}
                for each in self.whole.missing
            ],
            "sentence": self.whole.sentence,
            "request": self.whole.request,
        }


def replay(site: Site, name: str) -> Replayed:
    """Rebuild the request of the call that *name* means (`calls.named`), and compare it. Raises `calls.NoSuchCall`."""
    with site.database.reading_sessions() as session:
        return Replayed(*calls.one(session, calls.named(session, name), site.keys))
