"""Essays published elsewhere, before the gate like any other, each once and with the address it first stood at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from urllib.parse import urlsplit

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from bridge.essay import essays
from bridge.essay.importing import Entry, link_of
from bridge.records import Essay
from bridge.site import Site
from bridge.text import markup, words
from bridge.voice import voices

MOST_AT_ONCE = 500
"""New essays that are added in one go; the next one goes on behind them."""


class Outcome(StrEnum):
    """What became of an entry."""

    ADDED = "added"
    THERE_ALREADY = "there already"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Reported:
    """What became of an entry, for whoever brought the feed."""

    link: str
    title: str
    author: str
    outcome: Outcome
    why: str | None = None
    slug: str | None = None
    submission_id: int | None = None
    left_out: Sequence[str] = field(default=())
    """What Markdown has no place for, in words."""


def addresses(session: Session) -> set[str]:
    """Return where the essays first stood that are here, pending ones and those that were refused too.

    In the spelling of `importing.link_of`.
    """
    # Those that `essay add` was given were once kept as they were typed.
    return {markup.address(each) or each for each in session.scalars(select(Essay.original_url)) if each is not None}


def add(
    site: Site,
    entry: Entry,
    body: str,
    *,
    voice: str,
    parents: Sequence[str] = (),
    left_out: Sequence[str] = (),
    dry_run: bool = False,
) -> Reported:
    """Put an entry before the gate as an essay of the voice of this name, unless one from its address is here.

    With *dry_run* it is put back. Raises `EntryRefused`, `essays.EssayRefused`, `voices.VoiceRefused` or
    `words.WordsRefused`.
    """
    link = link_of(entry)
    with site.database.sessions() as session:
        _one_at_a_time(session)
        if session.scalar(select(Essay.id).where(Essay.original_url == link).limit(1)) is not None:
            return Reported(link, entry.title, entry.author, Outcome.THERE_ALREADY)
        whose = voices.named(session, voice)
        added = essays.submit_essay(
            session,
            whose,
            body,
            slug=_free_slug(session, body, link),
            original_url=link,
            written_on=date.fromisoformat(entry.published) if entry.published else None,
        )
        added.embed_parents = " ".join(parents) or None
        slug, submission_id = added.slug, added.submission_id
        if dry_run:
            session.rollback()
            return Reported(link, entry.title, entry.author, Outcome.ADDED, slug=slug, left_out=tuple(left_out))
        session.commit()
    return Reported(
        link,
        entry.title,
        entry.author,
        Outcome.ADDED,
        slug=slug,
        submission_id=submission_id,
        left_out=tuple(left_out),
    )


def _one_at_a_time(session: Session) -> None:
    """Let imports wait for each other: two may bring the same essay, or want the same slug, at once."""
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer.
        session.execute(text("SELECT pg_advisory_xact_lock(2, 0)"))


def _free_slug(session: Session, body: str, link: str) -> str:
    """Return an address that no essay has: of the title, or of the last part of the link, with a number if need be."""
    last = urlsplit(link).path.rstrip("/").rpartition("/")[2].rpartition(".")
    stem = voices.slug_of(words.essay_title(body)) or voices.slug_of(last[0] or last[2]) or "essay"
    taken = set(session.scalars(select(Essay.slug).where(Essay.slug.startswith(stem, autoescape=True))))
    return next(each for number in range(1, len(taken) + 2) if (each := _numbered(stem, number)) not in taken)


def _numbered(stem: str, number: int) -> str:
    return stem if number == 1 else f"{stem}-{number}"
