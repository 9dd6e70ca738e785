"""The files in `static/`, each under an address that changes when it does, so that browsers may keep it for good."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "static"
KEPT = "public, max-age=31536000, immutable"
"""How long a browser may keep what came from an address with its version."""


@cache
def version(name: str) -> str:
    """Return what tells one content of the file *name* from another, in 8 hex digits."""
    return hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()[:8]


def asset(name: str) -> str:
    """Return the address of the file *name* as it is now."""
    return f"/static/{name}?v={version(name)}"


@cache
def packed(name: str) -> bytes:
    """Return the file *name* as a gzip file."""
    return gzip.compress((FOLDER / name).read_bytes(), mtime=0)


@cache
def all_versions() -> str:
    """Return one digest over every file, in hex."""
    whole = hashlib.sha256()
    for file in sorted(each for each in FOLDER.iterdir() if each.is_file()):
        whole.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return whole.hexdigest()
