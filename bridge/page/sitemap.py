"""What search engines are told of: the pages that are the same for everybody, and nothing that is not released."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from html import escape

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from bridge.page import paths
from bridge.records import Comment, Essay, Reply, Voice
from bridge.settings import Settings
from bridge.text import language
from moderation.release import released_at

MOST = 50_000
"""Addresses of one sitemap (sitemaps.org); its 50 MB hold as many of ours."""
NOT_FOR_ROBOTS = (
    "/desk/",
    "/letters/",
    "/mail/",
    "/reports",
    "/preview",
    "/api/",
    "/essays/*/write",
    "/essays/*/embed",
)
"""What is a form, belongs to one person, or says again what stands elsewhere."""


def sitemap(session: Session, settings: Settings) -> str:
    """Return the sitemap; of letters and answers the newest, if there are more than it may hold."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">',
    ]
    with language.speaking(None, settings.spoken):
        for number, (path, changed) in enumerate(_pages(session)):
            if number == MOST:
                break
            when = f"<lastmod>{changed.isoformat(timespec='seconds')}</lastmod>" if changed is not None else ""
            lines.append(f"<url><loc>{escape(settings.address + path)}</loc>{when}</url>")
    lines.append("</urlset>\n")
    return "\n".join(lines)


def robots(settings: Settings) -> str:
    """Return what robots are asked to leave alone, and where the sitemap is."""
    asked = [f"Disallow: {path}" for path in NOT_FOR_ROBOTS]
    return "\n".join(["User-agent: *", *asked, "", f"Sitemap: {settings.address}/sitemap.xml", ""])


def _pages(session: Session) -> Iterator[tuple[str, datetime | None]]:
    for path in (paths.index(), paths.about(), paths.privacy(), paths.numbers()):
        yield path, None
    for slug in session.scalars(select(Voice.slug).order_by(Voice.id)):
        yield paths.voice(slug), None
    out = released_at().subquery()
    letters = select(Comment.essay_id, Comment.public_id, out.c.decided_at).join(
        out, out.c.submission_id == Comment.submission_id
    )
    answers = (
        select(Comment.essay_id, Reply.public_id, out.c.decided_at)
        .join(Reply, Reply.comment_id == Comment.id)
        .join(out, out.c.submission_id == Reply.submission_id)
    )
    essays = session.execute(
        select(Essay.id, Essay.slug, out.c.decided_at)
        .join(out, out.c.submission_id == Essay.submission_id)
        .order_by(Essay.id.desc())
        .limit(MOST)
    ).all()
    last: dict[int, datetime] = {}
    for what in (letters.subquery(), answers.subquery()):
        newest = session.execute(select(what.c.essay_id, func.max(what.c.decided_at)).group_by(what.c.essay_id))
        for essay_id, at in newest:
            last[essay_id] = max(at, last.get(essay_id, at))
    for essay_id, slug, at in essays:
        yield paths.essay(slug), max(at, last.get(essay_id, at))
    # What stood under an essay that was taken down has no page any more.
    shown = {essay_id for essay_id, _, _ in essays}
    posted = [
        (at, path(public_id))
        for path, query in ((paths.comment, letters), (paths.reply, answers))
        for essay_id, public_id, at in session.execute(query.order_by(out.c.decided_at.desc()).limit(MOST))
        if essay_id in shown
    ]
    for at, path_to in sorted(posted, reverse=True):
        yield path_to, at
