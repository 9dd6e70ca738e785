"""Passages: the words of an essay that a letter is about, and where they stand in it.

An essay's text is cut into blocks: its paragraphs, headings, lists and quotations, in order. A passage stands in one of
them, as it is shown there, each white space being one blank.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from markupsafe import Markup

from bridge.text import markup
from bridge.text.language import N_
from bridge.text.words import essay_text
from moderation.types import Digest, Kind, Released

LENGTH = 500
"""The most characters of a passage."""


class PassageRefused(Exception):
    """Raised when the words that a letter is to be about do not stand in its essay. Nothing was changed."""

    field: ClassVar[str] = "passage"

    def __init__(self) -> None:
        super().__init__(
            N_("The passage that you chose does not stand in the essay. Choose it again, or write about the whole.")
        )


@dataclass(frozen=True, slots=True)
class Passage:
    """Words of an essay, as they are shown there."""

    block: int
    """The block of the essay's text in which they begin and end, from 0."""
    words: str


def framed(html: Markup) -> list[Markup]:
    """Return the HTML of an essay, as its page shows it, cut into its blocks."""
    return markup.blocks_of(html)


def blocks(words: Released) -> list[str]:
    """Return the text that each block of an essay shows, in order; a rule shows none."""
    return list(_shown(words.digest, words.body))


def block(words: Released, n: int) -> str | None:
    """Return the text that one block of an essay shows; None if there is no such block or it shows nothing."""
    shown = _shown(words.digest, words.body)
    return (shown[n] or None) if 0 <= n < len(shown) else None


def check(essay: Released, passage: Passage) -> None:
    """Raise `PassageRefused` unless *passage* stands in *essay* as it is shown.

    The essay is rendered for it once: whoever checks within a transaction has checked before it, too.
    """
    within = block(essay, passage.block)
    if within is None or not 1 <= len(passage.words) <= LENGTH or passage.words not in within:
        raise PassageRefused
    if passage.words != _collapsed(passage.words):
        raise PassageRefused


@lru_cache(maxsize=64)
def _shown(digest: Digest, body: str) -> tuple[str, ...]:
    html = markup.render(essay_text(body), Kind.ESSAY.value)
    return tuple(_collapsed(markup.shown_text(each)) for each in markup.blocks_of(html))


def _collapsed(text: str) -> str:
    return " ".join(text.split())
