"""Correspondence on other people's pages: who may show it in a frame, and how much of it there is."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from urllib.parse import urlsplit

from sqlalchemy import select
from sqlalchemy.orm import Session

from bridge.essay import essays, thread
from bridge.essay.thread import Counts
from bridge.records import Comment, Essay, Reply
from bridge.settings import Settings, origins
from bridge.site import Site
from moderation.release import approved_ids


@lru_cache(maxsize=1024)
def parents(settings: Settings, own: str | None, original_url: str | None) -> tuple[str, ...]:
    """Return the origins that may show an essay's correspondence in a frame, each once; maybe none.

    They are the site's own list, the essay's *own*, and the origin of the address where it first appeared.
    """
    found = [*(settings.embed_parents or "").split(), *(own or "").split()]
    first = origin_of(original_url) if original_url else None
    return tuple(dict.fromkeys([*found, first] if first else found))


def origin_of(url: str) -> str | None:
    """Return the origin of an address as a policy's source expression, or None if it cannot be one."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna").decode()
        (origin,) = origins(f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else ""))
    except ValueError:
        return None
    return origin


def allow(site: Site, slug: str, own: str | None) -> tuple[str, ...]:
    """Let these origins, with blanks between them, show an essay's correspondence in a frame; return all that may.

    None changes nothing. Raises `essays.NoSuchEssay` or `essays.EssayRefused`.
    """
    # Nothing is printed anew: who may frame a stored page is read beside it.
    kept = essays.as_origins(own) if own is not None else None
    with site.database.reading_sessions() if own is None else site.database.sessions.begin() as session:
        essay = session.scalar(select(Essay).where(Essay.slug == slug))
        if essay is None:
            raise essays.NoSuchEssay(slug)
        if own is not None:
            essay.embed_parents = kept
        return parents(site.settings, essay.embed_parents, essay.original_url)


def counts(session: Session, slugs: Collection[str]) -> dict[str, Counts]:
    """Return how much correspondence each released essay among *slugs* has; all others are absent."""
    found = session.execute(
        select(Essay.id, Essay.slug).where(Essay.slug.in_(slugs), Essay.submission_id.in_(approved_ids()))
    ).all()
    how_many = thread.counts(session, [row.id for row in found])
    return {row.slug: how_many[row.id] for row in found}


def page_of(session: Session, slug: str, public_id: str) -> int | None:
    """Return the page of an essay's correspondence on which a letter or an answer stands, or its tombstone.

    None for one that was never posted, or under another essay.
    """
    answered = select(Reply.comment_id).where(Reply.public_id == public_id, Reply.submission_id.in_(approved_ids()))
    return session.scalar(
        select(Comment.page)
        .join(Essay, Essay.id == Comment.essay_id)
        .where(
            Essay.slug == slug,
            (Comment.public_id == public_id) | Comment.id.in_(answered),
            Comment.submission_id.in_(approved_ids()),
        )
    )
