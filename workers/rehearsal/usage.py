"""Tokens by one fixed estimate, and the prefix cache: what a call writes, what it reads, what it pays in full."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

from workers.rehearsal.validation import MessageRequest

# The tools' own hidden prompt: 530 tokens for Opus 3 (the API's page "Tool use", 2025), here for every model.
TOOLS_TOKENS = 530
BYTES_PER_TOKEN = 4

TTL_SECONDS = {"5m": 300.0, "1h": 3600.0}

# Each marker is compared with what was written at so many blocks up to it (the API's page "Prompt caching").
_LOOKBACK = 20

# When so many prefixes are kept, the expired ones are swept out.
_SWEEP_AT = 1_000


def estimate(size: int) -> int:
    """Return the tokens of *size* bytes of UTF-8, rounded up."""
    return math.ceil(size / BYTES_PER_TOKEN)


def prompt_tokens(request: MessageRequest) -> int:
    """Return the tokens of the whole prompt, as `count_tokens` tells them and `usage` adds up to."""
    return (TOOLS_TOKENS if request.tools else 0) + estimate(sum(block.size for block in request.blocks))


@dataclass(frozen=True, slots=True)
class Reckoning:
    """What one call costs on the way in, as reckoned when it arrived at the time `at`.

    `hit` is the prefix that was read, `writes` those to be written, each with its seconds to live.
    """

    at: float
    input_tokens: int
    read: int
    written_5m: int
    written_1h: int
    hit: bytes | None
    writes: tuple[tuple[bytes, float], ...]

    @property
    def charged(self) -> int:
        """The tokens that are not read from the cache."""
        return self.input_tokens + self.written_5m + self.written_1h

    def usage(self, output_tokens: int, thinking_tokens: int | None, *, batched: bool = False) -> dict[str, object]:
        """Return the `usage` of the API for this call and what it answered."""
        return {
            "input_tokens": self.input_tokens,
            "cache_creation_input_tokens": self.written_5m + self.written_1h,
            "cache_read_input_tokens": self.read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.written_5m,
                "ephemeral_1h_input_tokens": self.written_1h,
            },
            "output_tokens": output_tokens,
            "output_tokens_details": None if thinking_tokens is None else {"thinking_tokens": thinking_tokens},
            "service_tier": "batch" if batched else "standard",
        }


@dataclass(slots=True)
class _Kept:
    seconds: float
    expires: float


class PrefixCache:
    """The prefixes that were written, by digest of model and prefix."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: dict[bytes, _Kept] = {}

    def reckon(self, request: MessageRequest) -> Reckoning:
        """Reckon what a call that arrives now reads and will write; nothing is written yet."""
        now = self._clock()
        digests, tokens = _prefixes(request)
        markers = [i for i, block in enumerate(request.blocks) if block.ttl is not None]
        best = max((self._longest(digests, marker, now) for marker in markers), default=-1)
        read = tokens[best] if best >= 0 else 0
        # Below the model's minimum there is no cache and no error.
        writes = [m for m in markers if m > best and tokens[m] >= request.model.cache_minimum]
        end = tokens[writes[-1]] if writes else read
        # Markers of an hour stand before those of five minutes: the last of them parts what is written.
        hours = [m for m in writes if request.blocks[m].ttl == "1h"]
        hour_end = tokens[hours[-1]] if hours else read
        return Reckoning(
            at=now,
            input_tokens=prompt_tokens(request) - end,
            read=read,
            written_5m=end - hour_end,
            written_1h=hour_end - read,
            hit=digests[best] if best >= 0 else None,
            writes=tuple((digests[m], TTL_SECONDS[request.blocks[m].ttl or "5m"]) for m in writes),
        )

    def begin(self, reckoning: Reckoning) -> None:
        """Make readable what a call writes, and renew what it read: its response begins now.

        Calls that arrived before have reckoned without it. Time to live runs from the call's own start.
        """
        if len(self._kept) >= _SWEEP_AT:
            now = self._clock()
            self._kept = {digest: kept for digest, kept in self._kept.items() if kept.expires > now}
        if reckoning.hit is not None and (read := self._kept.get(reckoning.hit)) is not None:
            read.expires = max(read.expires, reckoning.at + read.seconds)
        for digest, seconds in reckoning.writes:
            known = self._kept.get(digest)
            if known is None or known.expires < reckoning.at + seconds:
                self._kept[digest] = _Kept(seconds, reckoning.at + seconds)

    def _longest(self, digests: list[bytes], marker: int, now: float) -> int:
        for position in range(marker, max(-1, marker - _LOOKBACK), -1):
            kept = self._kept.get(digests[position])
            if kept is not None and kept.expires > now:
                return position
        return -1


def _prefixes(request: MessageRequest) -> tuple[list[bytes], list[int]]:
    """Return digest and tokens of the prompt up to and with each block."""
    digests: list[bytes] = []
    tokens: list[int] = []
    digest = hashlib.sha256(request.model.id.encode())
    hidden = TOOLS_TOKENS if request.tools else 0
    size = 0
    in_messages = False
    for block in request.blocks:
        if not in_messages and block.of_messages:
            # Tool choice and thinking spoil the cache of the messages, and leave that of tools and system alone.
            digest.update(_framed(request.manner))
            in_messages = True
        digest.update(_framed(block.role.encode()))
        digest.update(_framed(block.content))
        size += block.size
        digests.append(digest.digest())
        tokens.append(hidden + estimate(size))
    return digests, tokens


def _framed(part: bytes) -> bytes:
    return len(part).to_bytes(8, "big") + part
