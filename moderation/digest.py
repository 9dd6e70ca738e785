"""The commitment to words: what a moderator approves and what anybody can recompute from released words."""

from __future__ import annotations

import hashlib
import hmac
import secrets

import rfc8785

from moderation.types import Digest, Kind

FORMAT = "emeritus/1"


def new_nonce() -> str:
    """Return 16 random bytes in lower-case hex: without them a short comment could be guessed from its digest."""
    return secrets.token_hex(16)


def commitment(*, kind: Kind, nonce: str, author: str, in_answer_to: Digest | None, body: str) -> Digest:
    """Return SHA-256, in lower-case hex, over the RFC 8785 bytes of the six digest fields (DESIGN, promise 2)."""
    return hash_of(
        {
            "format": FORMAT,
            "kind": kind.value,
            "nonce": nonce,
            "author": author,
            "in_answer_to": in_answer_to,
            "body": body,
        }
    )


def hash_of(fields: dict[str, str | int | None]) -> Digest:
    """Return SHA-256, in lower-case hex, over the RFC 8785 bytes of *fields*."""
    return Digest(hashlib.sha256(rfc8785.dumps(dict(fields))).hexdigest())


def salted(words: dict[str, str | int | None], salt: str) -> Digest:
    """Return an HMAC-SHA-256 of *words* under *salt* (hex), in lower-case hex; without the salt it says nothing."""
    return Digest(hmac.new(bytes.fromhex(salt), rfc8785.dumps(dict(words)), hashlib.sha256).hexdigest())
