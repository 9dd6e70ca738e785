"""Signed checkpoints of the ledger: a chain by itself misses a tail that was cut and a rewrite of all of it.

A checkpoint says which digest the entry of one number had, under a key that is derived from the site's secret key.
They are appended to `checkpoints.jsonl` in the data folder, a line each, and the newest is published, so that anybody
may keep one. Whoever rewrites the database would have to rewrite them too, wherever they are kept.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from bridge.keys import Keys
from bridge.site import Site
from moderation import ledger
from moderation.base import now
from moderation.ledger import Broken
from moderation.types import Digest

FORMAT = "emeritus/checkpoint/1"
PURPOSE = "ledger checkpoints"
EVERY = timedelta(hours=1)
"""How old the last checkpoint is at least before the sweep makes another."""
_FIELDS = {"format", "number", "digest", "at", "signature", "public_key"}


class CheckpointRefused(Exception):
    """Raised when there is nothing to make a checkpoint of, or a file that holds none was given."""


class LedgerNoLongerFits(CheckpointRefused):
    """Raised when the ledger contradicts its last checkpoint: signing what it says now would cover that up."""

    def __init__(self, broken: Broken) -> None:
        super().__init__(
            f"The ledger does not fit its last checkpoint: {broken.where} {broken.what}. No checkpoint was made. "
            "Run `emeritus ledger verify`."
        )
        self.broken = broken


class NothingToSign(CheckpointRefused):
    """Raised while the ledger is empty."""

    def __init__(self) -> None:
        super().__init__("The ledger is empty, so there is nothing to make a checkpoint of.")


class NoCheckpoints(CheckpointRefused):
    """Raised when a file that somebody kept holds no checkpoint that can be read."""

    def __init__(self, file: Path) -> None:
        super().__init__(f"{file} holds no checkpoint that can be read. Nothing was compared with it.")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the digest of one entry was at a time, and who says so."""

    number: int
    digest: Digest
    at: str
    """RFC 3339, in UTC."""
    signature: str
    """Ed25519 over `signed_bytes`, 128 hex digits."""
    public_key: str
    """64 hex digits."""

    def signed_bytes(self) -> bytes:
        """Return the RFC 8785 bytes that the signature is over."""
        return rfc8785.dumps({"format": FORMAT, "number": self.number, "digest": self.digest, "at": self.at})

    def line(self) -> str:
        """Return it as it is kept and published: one line of JSON."""
        told = {**json.loads(self.signed_bytes()), "signature": self.signature, "public_key": self.public_key}
        return rfc8785.dumps(told).decode() + "\n"

    def is_signed(self) -> bool:
        """Whether the signature is that of the key it names."""
        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.public_key))
            key.verify(bytes.fromhex(self.signature), self.signed_bytes())
        except (ValueError, InvalidSignature):
            return False
        return True


def public_key(keys: Keys) -> str:
    """Return the key that this site's checkpoints are signed with, in hex."""
    return _key(keys).public_key().public_bytes_raw().hex()


def where(site: Site) -> Path:
    """Return the file that this site keeps its checkpoints in."""
    return site.settings.data / "checkpoints.jsonl"


def keep(site: Site, *, at_once: bool = False) -> Checkpoint | None:
    """Sign the ledger's head and append it to the file; None if the last one is of this head, or younger than `EVERY`.

    With *at_once* its age does not matter. Twice at once is well: the second waits, and finds the first one's. Raises
    `LedgerNoLongerFits` where the last one is no part of the ledger, and `NothingToSign` with *at_once* alone.
    """
    with _appending(where(site)) as file:
        last = _last(file)
        # Read under the file's lock, so that no two processes append out of order.
        with site.database.reading_sessions() as session:
            heads = ledger.newest(session, limit=1)
            broken = next(_unlike([last] if last else [], ledger.digests(session, [last.number] if last else [])), None)
        if broken:
            raise LedgerNoLongerFits(broken)
        if not heads:
            if at_once:
                raise NothingToSign
            return None
        head = heads[0]
        if last is not None and last.number == head.number:
            return None
        if last is not None and not at_once and now() - datetime.fromisoformat(last.at) < EVERY:
            return None
        made = _signed(site.keys, head.number, head.digest)
        file.append(made.line())
    return made


def newest(site: Site) -> Checkpoint | None:
    """Return the last checkpoint that was kept, or None before the first."""
    found = [each for each in _read(where(site)) if isinstance(each, Checkpoint)]
    return found[-1] if found else None


def compare(site: Site, *, against: Sequence[Path] = (), key: str | None = None) -> tuple[int, Broken | None]:
    """Hold the ledger against every checkpoint kept here and in the files *against*; return how many, and a break.

    Each must be signed by this site's key, or by *key*, for those from before the secret key was changed. The break is
    the first in the order of the ledger. Raises `NoCheckpoints` for a file of *against* that holds none.
    """
    own = where(site)
    known = {public_key(site.keys), (key or "").lower()}
    # The files before the ledger: what they tell of was committed before.
    found: list[tuple[str, Checkpoint | None]] = []
    for file in (own, *against):
        lines = list(_read(file))
        if file is not own and not any(lines):
            raise NoCheckpoints(file)
        found += [(f"{file.name}, line {number}", each) for number, each in enumerate(lines, start=1)]
    for place, each in found:
        if each is None:
            return len(found), Broken(place, "holds no checkpoint that can be read")
        if not each.is_signed():
            return len(found), Broken(place, "holds a checkpoint that its key did not sign")
        if each.public_key not in known:
            what = "holds a checkpoint under another key than this site's: its secret key was changed, or it is forged"
            return len(found), Broken(place, what)
    kept = sorted((each for _, each in found if each is not None), key=lambda each: each.number)
    with site.database.reading_sessions() as session:
        there = ledger.digests(session, [each.number for each in kept])
    return len(kept), next(_unlike(kept, there), None)


def _unlike(kept: Iterable[Checkpoint], there: dict[int, Digest]) -> Iterator[Broken]:
    """Name the stretch of the ledger, up to each of *kept* in turn, that is not what it was."""
    held = 0
    for each in kept:
        stretch = f"ledger entry {each.number}"
        if held and each.number > held + 1:
            stretch = f"ledger entries {held + 1} to {each.number}"
        if each.number not in there:
            yield Broken(
                stretch,
                f"were cut: a checkpoint of {each.at} tells of {each.number}"
                if " to " in stretch
                else f"was cut: a checkpoint of {each.at} tells of it",
            )
        elif there[each.number] != each.digest:
            yield Broken(stretch, f"{'were' if ' to ' in stretch else 'was'} rewritten after {each.at}")
        held = each.number


def _signed(keys: Keys, number: int, digest: Digest) -> Checkpoint:
    blank = Checkpoint(number, digest, ledger.instant(now()), "", public_key(keys))
    signature = _key(keys).sign(blank.signed_bytes()).hex()
    return Checkpoint(blank.number, blank.digest, blank.at, signature, blank.public_key)


def _key(keys: Keys) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(keys.derived(PURPOSE))


class _File:
    """The open, locked file of checkpoints."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        whole = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        self.lines = whole.splitlines(keepends=True)

    def append(self, line: str) -> None:
        """Add one line, on the disk when this returns. A last line that broke off half-written is dropped first."""
        end = sum(len(each) for each in self.lines if each.endswith(b"\n"))
        os.ftruncate(self._descriptor, end)
        sent = line.encode()
        if os.write(self._descriptor, sent) != len(sent):
            raise OSError(f"only a part of the checkpoint at {end} was written")
        os.fsync(self._descriptor)


@contextmanager
def _appending(file: Path) -> Iterator[_File]:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # Let go when it is closed, also by a process that is killed.
        yield _File(descriptor)
    finally:
        os.close(descriptor)


def _last(file: _File) -> Checkpoint | None:
    whole = [line for line in file.lines if line.endswith(b"\n")]
    return _parsed(whole[-1]) if whole else None


def _read(file: Path) -> Iterator[Checkpoint | None]:
    """Yield what each line of *file* holds, None for a line that holds no checkpoint; nothing if there is no file.

    What follows the last newline counts only if it is whole: it may be a line that is being written.
    """
    try:
        whole = file.read_bytes()
    except FileNotFoundError:
        return
    for line in whole.splitlines(keepends=True):
        found = _parsed(line)
        if line.strip() and (found is not None or line.endswith(b"\n")):
            yield found


def _parsed(line: bytes) -> Checkpoint | None:
    try:
        told = json.loads(line)
        fits = set(told) == _FIELDS and told["format"] == FORMAT and datetime.fromisoformat(told["at"]).tzinfo
        fits = fits and type(told["number"]) is int and 0 < told["number"] < 2**31
        texts = [told[name] for name in ("digest", "signature", "public_key")]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not fits or not all(isinstance(each, str) and re.fullmatch("[0-9a-f]{64,128}", each) for each in texts):
        return None
    return Checkpoint(told["number"], Digest(told["digest"]), told["at"], told["signature"], told["public_key"])
