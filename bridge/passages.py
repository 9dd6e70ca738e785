"""Passages: the words of an essay that a letter is about, and where they stand in it."""

from __future__ import annotations

from dataclasses import dataclass

from moderation.types import Released


class PassageRefused(Exception):
    """Raised when the words that a letter is to be about do not stand in its essay. Nothing was changed."""

    def __init__(self) -> None:
        super().__init__("The passage that you chose does not stand in the essay. Choose it again, or leave it out.")


@dataclass(frozen=True, slots=True)
class Passage:
    """Words of an essay, as they are shown there."""

    block: int
    """The block of the essay's text in which they begin and end, from 0."""
    words: str


def check(essay: Released, passage: Passage) -> None:
    """Raise `PassageRefused` unless *passage* stands in *essay* as it is shown."""
    raise PassageRefused
