"""What reached the rehearsal: counted always, kept whole only for tests that run it within themselves."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import overload

# So many different letters are counted apart; beyond, the oldest are forgotten.
_MOST_DIGESTS = 100_000


@dataclass(frozen=True, slots=True)
class Call:
    """One request to POST /v1/messages, or one of a batch that was put to the model.

    `body` is None when it was not JSON. `headers` are in lower case and lack the key. `status` is None as long as
    nothing was answered, and for good when the connection was dropped or left hanging. `digest` is the SHA-256 of the
    comment that was to be answered, as it came (NFC, UTF-8), or of the last text where the request held no comment;
    None when the request was not understood. `custom_id` is that of one in a batch; its status is the one that its
    error has alone, and `headers` are those of the request that made the batch.
    """

    body: object
    headers: Mapping[str, str]
    status: int | None = None
    digest: str | None = None
    custom_id: str | None = None


class Calls(Sequence[Call]):
    """The calls in the order of their arrival; safe to read from another thread."""

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._kept: list[Call] = []
        self._arrived = 0
        self._batches = 0
        self._by_digest: dict[str, int] = {}

    def arrive(self, body: object, headers: Mapping[str, str], custom_id: str | None = None) -> int:
        """Count a call, and return its number."""
        with self._lock:
            number = self._arrived
            self._arrived += 1
            if self._keep:
                self._kept.append(Call(body, headers, custom_id=custom_id))
            return number

    def is_about(self, number: int, digest: str) -> None:
        """Note the digest of the comment that a call asks to answer."""
        with self._lock:
            self._by_digest[digest] = self._by_digest.get(digest, 0) + 1
            if len(self._by_digest) > _MOST_DIGESTS:
                del self._by_digest[next(iter(self._by_digest))]
            if self._keep:
                self._kept[number] = replace(self._kept[number], digest=digest)

    def answered(self, number: int, status: int) -> None:
        """Note the status with which a call is being answered."""
        with self._lock:
            if self._keep:
                self._kept[number] = replace(self._kept[number], status=status)

    def batch_arrives(self) -> None:
        """Count a batch; those in it are counted when they are put to the model."""
        with self._lock:
            self._batches += 1

    def counts(self) -> dict[str, object]:
        """Return `{"messages": N, "batches": N, "by_digest": {DIGEST: N}}`: numbers, and no words."""
        with self._lock:
            return {"messages": self._arrived, "batches": self._batches, "by_digest": dict(self._by_digest)}

    def __len__(self) -> int:
        with self._lock:
            return len(self._kept)

    @overload
    def __getitem__(self, index: int) -> Call: ...
    @overload
    def __getitem__(self, index: slice) -> list[Call]: ...
    def __getitem__(self, index: int | slice) -> Call | list[Call]:
        with self._lock:
            return self._kept[index]
