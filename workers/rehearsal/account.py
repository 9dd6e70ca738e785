"""What all answers together have cost, for those who measure: tokens by kind, single calls and batches apart."""

import threading
from dataclasses import asdict, dataclass, replace

from workers.rehearsal.usage import Reckoning


@dataclass(frozen=True, slots=True)
class Spent:
    """Calls that were answered, and the tokens that the API would charge for them, each kind at its own price."""

    calls: int = 0
    input_tokens: int = 0
    cache_creation_5m_input_tokens: int = 0
    cache_creation_1h_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What was spent since the rehearsal began."""

    live: Spent = Spent()
    batched: Spent = Spent()

    def told(self) -> dict[str, object]:
        """Return it as `GET /rehearsal/usage` tells it: `{"live": {...}, "batched": {...}}`."""
        return asdict(self)


class Account:
    """Adds up what is spent; safe to read from another thread.

    An answer is charged when its response begins, whether or not it arrives whole; in a batch when it succeeded. What
    was refused, dropped or left hanging costs nothing here.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._usage = Usage()

    def charge(self, reckoning: Reckoning, output_tokens: int, *, batched: bool) -> None:
        """Add one answer."""
        with self._lock:
            if batched:
                self._usage = replace(self._usage, batched=_more(self._usage.batched, reckoning, output_tokens))
            else:
                self._usage = replace(self._usage, live=_more(self._usage.live, reckoning, output_tokens))

    def usage(self) -> Usage:
        """Return what was spent until now."""
        with self._lock:
            return self._usage


def _more(spent: Spent, reckoning: Reckoning, output_tokens: int) -> Spent:
    return Spent(
        calls=spent.calls + 1,
        input_tokens=spent.input_tokens + reckoning.input_tokens,
        cache_creation_5m_input_tokens=spent.cache_creation_5m_input_tokens + reckoning.written_5m,
        cache_creation_1h_input_tokens=spent.cache_creation_1h_input_tokens + reckoning.written_1h,
        cache_read_input_tokens=spent.cache_read_input_tokens + reckoning.read,
        output_tokens=spent.output_tokens + output_tokens,
    )
