"""What the operator says in their own words: who they are (the imprint), and what they keep and why.

Files of Markdown that the settings name; read when a page is shown, so that a change needs no restart.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from markupsafe import Markup

from bridge.text import markup

LONGEST = 200_000
"""Bytes; a longer file is some other file."""


class NoStatement(Exception):
    """Raised for a file that cannot be shown. One sentence that says why; for the operator, not for readers."""


def shown(file: Path | None) -> Markup | None:
    """Return a statement as readers are shown it; None where none is set, or its file cannot be read."""
    try:
        return read(file) if file is not None else None
    except NoStatement:
        return None


def read(file: Path) -> Markup:
    """Return the statement in *file* as HTML, as an essay is rendered. Raises `NoStatement`."""
    try:
        kept = file.stat()
        if not file.is_file() or kept.st_size > LONGEST:
            raise NoStatement(f"{file} is no text file of at most {LONGEST:,} bytes.")
        return _rendered(file, kept.st_mtime_ns, kept.st_size)
    except UnicodeDecodeError:
        raise NoStatement(f"{file} is not UTF-8 text.") from None
    except OSError as refused:
        raise NoStatement(f"{file} cannot be read: {refused.strerror}.") from None


@lru_cache(maxsize=8)
def _rendered(file: Path, changed: int, size: int) -> Markup:
    """Return the file's text as HTML; *changed* and *size* tell one version of it from another."""
    text = markup.without_unseen(file.read_text(encoding="utf-8-sig"))
    if not markup.shows_something(text):
        raise NoStatement(f"{file} is empty.")
    return markup.render(text, "essay")
