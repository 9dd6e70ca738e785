"""Correspondents: the e-mail addresses that readers gave, and whether their owners want mail."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from bridge.keys import Keys
from bridge.records import Address
from moderation.base import now

DIGEST = "e-mail address"
"""The purpose of the key under which an address is found again."""


def given(session: Session, keys: Keys, address: str, language: str | None) -> Address:
    """Return the record of an address that somebody gave; it is made if there is none."""
    digest = keys.keyed_digest(DIGEST, address.casefold())
    kept = session.scalar(select(Address).where(Address.digest == digest))
    if kept is None:
        kept = Address(digest=digest, language=language, asks=0, created_at=now())
        session.add(kept)
    kept.sealed = kept.sealed or keys.encrypted(address)
    session.flush()
    return kept
