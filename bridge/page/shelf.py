"""The shelf: pages of correspondence as readers are sent them, renewed when what they show changes.

A stored page is a cache of what is released (DESIGN, promise 1). Whatever lets words out or takes them back renews the
pages concerned in its own transaction. What changes less (the outcome of a request, a voice's pause, a new version)
marks them out of date (`bridge.outdated`), and a job prints them anew. A page that is missing is printed for whoever
asks (`web.pages`).
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from markupsafe import Markup
from sqlalchemy import Select, delete, func, select
from sqlalchemy.orm import Session

from bridge import outdated
from bridge.essay import essays, thread
from bridge.essay.essays import Published
from bridge.essay.thread import PostedComment
from bridge.page import packing, printing
from bridge.records import Comment, Essay, Reply, StoredLetters, StoredPage
from bridge.settings import Settings
from bridge.site import Site
from bridge.text import language
from moderation.base import now
from moderation.errors import NotWhatWasReviewed
from moderation.release import released_ids
from moderation.types import Digest

log = logging.getLogger(__name__)

SURFACES = ("page", "embed")
LISTED = 100
"""The comments on a page of the API's thread, which begins after every hundredth place."""


def key(surface: str, slug: str, page: int, code: str) -> str:
    """Return the key of a page or frame in one language."""
    return f"{surface}/{code}/{slug}/{page}"


def list_key(slug: str, after: int) -> str:
    """Return the key of the API's list that begins after a place."""
    return f"thread/{slug}/{after}"


# What happens.


def comment_changed(session: Session, settings: Settings, comment_id: int) -> None:
    """Renew what shows a comment or its reply, as it stands in this transaction. Twice changes nothing.

    Call it after every decision, withdrawal and erasure; one that was never posted is shown nowhere.
    """
    comment = session.get_one(Comment, comment_id)
    if comment.place is None or comment.page is None:
        return
    found = _found(session, comment.essay_id)
    if found is None:
        return
    pages = {comment.page: True, 1: comment.page == 1}
    if comment.page > 1 and _is_new(session, comment):
        pages.setdefault(comment.page - 1, False)  # It leads on to this one now.
    _renew(session, settings, found, pages)
    began = (comment.place - 1) // LISTED * LISTED
    _renew_lists(session, settings, found, {began, began - LISTED} if comment.place == began + 1 else {began})


def essay_changed(session: Session, settings: Settings, essay_id: int) -> None:
    """Renew the first page of an essay that was just let out; take all of one off that is out no longer."""
    found = _found(session, essay_id)
    if found is None:
        return
    _renew(session, settings, found, {1: True})
    _renew_lists(session, settings, found, {0})


def words_changed(session: Session, settings: Settings, submission_id: int) -> None:
    """Renew what shows a submission, whatever it is."""
    essay_id = session.scalar(select(Essay.id).where(Essay.submission_id == submission_id))
    if essay_id is not None:
        essay_changed(session, settings, essay_id)
        return
    comment_id = session.scalar(select(Comment.id).where(Comment.submission_id == submission_id))
    if comment_id is None:
        comment_id = session.scalar(select(Reply.comment_id).where(Reply.submission_id == submission_id))
    if comment_id is not None:
        comment_changed(session, settings, comment_id)


# What a job does.


def out_of_date(session: Session, settings: Settings) -> list[int]:
    """Return the essays of which a page or list is missing, or was printed before what it shows changed."""
    fresh = (
        select(StoredPage.essay_id, func.count().label("stored"))
        .where(StoredPage.version == printing.version(settings))
        .group_by(StoredPage.essay_id)
        .subquery()
    )
    pages, last = func.coalesce(func.max(Comment.page), 1), func.coalesce(func.max(Comment.place), 1)
    wanted = (
        # Nothing is stored beyond the last page and the last list, so their number says whether all are there.
        select(Essay.id, (pages * _copies(settings) + (last - 1) // LISTED + 1).label("stored"))
        .outerjoin(Comment, Comment.essay_id == Essay.id)
        .where(Essay.submission_id.in_(released_ids()))
        .group_by(Essay.id)
        .subquery()
    )
    return list(
        session.scalars(
            select(wanted.c.id)
            .outerjoin(fresh, fresh.c.essay_id == wanted.c.id)
            .where(func.coalesce(fresh.c.stored, 0) < wanted.c.stored)
            .order_by(wanted.c.id)
        )
    )


def bring_up_to_date(site: Site, essay_id: int) -> int:
    """Print the pages and lists of an essay that are missing or old, each in a transaction; return how many that were.

    Twice or halfway dead: what is printed is printed, and what is not is found again.
    """
    settings = site.settings
    with site.database.reading_sessions() as session:
        numbers = session.execute(_fresh(settings, essay_id, StoredPage.page, StoredPage.key)).all()
        fresh = {key for _, key in numbers}
        whole = [page for page, copies in Counter(page for page, _ in numbers).items() if copies >= _copies(settings)]
        old = [page for page in range(1, thread.pages(session, essay_id) + 1) if page not in whole]
        slug = session.get_one(Essay, essay_id).slug
        lists = [after for after in _lists(session, essay_id) if list_key(slug, after) not in fresh]
    for page in old:
        with site.database.sessions.begin() as session:
            found = _found(session, essay_id)
            if found is not None:
                _renew(session, settings, found, {page: _letters_are_old(session, settings, essay_id, page)})
    for after in lists:
        with site.database.sessions.begin() as session:
            found = _found(session, essay_id)
            if found is not None:
                _renew_lists(session, settings, found, {after})
    return len(old) + len(lists)


# What a reader's request does.


@dataclass(frozen=True, slots=True)
class Stored:
    """What is read for a reader: the page, unless they have it, and who may frame it."""

    etag: str
    body: bytes | None
    parents: str | None
    original_url: str | None


READ = (
    "SELECT p.etag, CASE WHEN p.etag = {0} THEN NULL ELSE p.body END, e.embed_parents, e.original_url"
    " FROM stored_pages p JOIN essays e ON e.id = p.essay_id WHERE p.key = {1}"
)
"""The one statement of a reader's request: by the tag of what they have, and the key."""


def read(site: Site, name: str, *, has: str = "") -> Stored | None:
    """Return what is stored under a key, without its body if its tag is what the reader *has*."""
    row = site.database.read_one(READ, has, name)
    if row is None:
        return None
    etag, body, parents, original_url = row
    return Stored(etag, None if body is None else bytes(body), parents, original_url)


# How.


def _renew(session: Session, settings: Settings, found: Published, pages: Mapping[int, bool]) -> None:
    """Print *pages*, each with its letters anew or as they are kept."""
    number, counts = thread.pages(session, found.essay.id), thread.counts(session, [found.essay.id])[found.essay.id]
    try:
        for page, with_letters in pages.items():
            of = printing.sheet(session, found, page, pages=number, counts=counts)
            posted: Sequence[PostedComment] | None = None
            html: Mapping[Digest, Markup] = {}
            for code in settings.spoken:
                with language.speaking(code, settings.spoken):
                    kept = None if with_letters else session.get(StoredLetters, (found.essay.id, page, code))
                    if kept is not None and kept.version == printing.version(settings):
                        letters = kept.deflated
                    else:
                        if posted is None:
                            posted = thread.conversation(session, found.essay.id, page)
                            html = printing.letters(session, found, posted)
                        letters = packing.piece(printing.printed_letters(found, posted, html))
                        session.merge(
                            StoredLetters(
                                essay_id=found.essay.id,
                                page=page,
                                language=code,
                                version=printing.version(settings),
                                deflated=letters,
                            )
                        )
                    for surface in SURFACES:
                        before, after = printing.printed_around(settings, of, surface)
                        whole = packing.joined(before, letters, after)
                        _keep(session, settings, found, key(surface, found.essay.slug, page, code), page, whole)
            _forget_unspoken(session, settings, found, page)
    except (NotWhatWasReviewed, TemplateError) as wrong:
        # What is wrong with one letter, or with a template, must not stop a decision on another, nor an erasure.
        log.error("the pages of essay %s are not printed: %s", found.essay.id, type(wrong).__name__)  # noqa: TRY400
        _forget(session, found.essay.id, pages)


def _renew_lists(session: Session, settings: Settings, found: Published, begins: Iterable[int]) -> None:
    for after in begins:
        if after < 0:
            continue
        try:
            posted = thread.posted_comments(session, found.essay.id, after=after, limit=LISTED + 1)
            page = posted[:LISTED]
            following = after + LISTED if len(posted) > LISTED else None
            told = printing.listed(found, page, printing.letters(session, found, page), following=following)
        except NotWhatWasReviewed as tampered:
            log.error("a list of essay %s is not printed: %s", found.essay.id, tampered)  # noqa: TRY400
            _forget(session, found.essay.id, [-(after // LISTED)])
            continue
        whole = packing.packed(printing.as_json(told))
        _keep(session, settings, found, list_key(found.essay.slug, after), -(after // LISTED), whole)


def _keep(session: Session, settings: Settings, found: Published, name: str, page: int, whole: bytes) -> None:
    etag, version = f'W/"{hashlib.sha256(whole).hexdigest()[:32]}"', printing.version(settings)
    is_there = select(StoredPage.key).where(
        StoredPage.key == name, StoredPage.etag == etag, StoredPage.version == version
    )
    if session.scalar(is_there) is not None:
        return
    session.merge(
        StoredPage(
            key=name,
            essay_id=found.essay.id,
            page=page,
            version=version,
            etag=etag,
            body=whole,
            renewed_at=now(),
        )
    )
    session.flush()


def _forget(session: Session, essay_id: int, pages: Iterable[int] | None = None) -> None:
    for stored in (StoredPage, StoredLetters):
        gone = delete(stored).where(stored.essay_id == essay_id)
        session.execute(gone if pages is None else gone.where(stored.page.in_(pages)))


def _forget_unspoken(session: Session, settings: Settings, found: Published, page: int) -> None:
    """Take a page off in languages that are spoken no more: nobody renews it there, and they may come back."""
    spoken = [key(surface, found.essay.slug, page, code) for surface in SURFACES for code in settings.spoken]
    of_page = (StoredPage.essay_id == found.essay.id, StoredPage.page == page)
    session.execute(delete(StoredPage).where(*of_page, StoredPage.key.not_in(spoken)))
    of_letters = (StoredLetters.essay_id == found.essay.id, StoredLetters.page == page)
    session.execute(delete(StoredLetters).where(*of_letters, StoredLetters.language.not_in(settings.spoken)))


def _found(session: Session, essay_id: int) -> Published | None:
    """Return the essay, or take its pages off the shelf if it is not out, or no longer.

    It is locked until the transaction ends: who prints its pages waits for who prints them now, and then reads what is
    released by then. Else a job could put what it read before a withdrawal over what was printed after it.
    """
    essay = outdated.locked(session, essay_id)
    try:
        return essays.published(session, essay.slug)
    except (essays.NoSuchEssay, NotWhatWasReviewed):
        _forget(session, essay_id)
        return None


def _is_new(session: Session, comment: Comment) -> bool:
    """Whether a comment is the only one on its page, so that the page before has just got a next one."""
    on_it = select(func.count()).where(Comment.essay_id == comment.essay_id, Comment.page == comment.page)
    return session.scalar(on_it) == 1


def _copies(settings: Settings) -> int:
    return len(SURFACES) * len(settings.spoken)


def _fresh(settings: Settings, essay_id: int, *columns: Any) -> Select[Any]:
    version = printing.version(settings)
    return select(*columns).where(StoredPage.essay_id == essay_id, StoredPage.version == version)


def _letters_are_old(session: Session, settings: Settings, essay_id: int, page: int) -> bool:
    kept = session.scalars(
        select(StoredLetters.language).where(
            StoredLetters.essay_id == essay_id,
            StoredLetters.page == page,
            StoredLetters.version == printing.version(settings),
        )
    )
    return not set(settings.spoken) <= set(kept)


def _lists(session: Session, essay_id: int) -> range:
    last = session.scalar(select(func.max(Comment.place)).where(Comment.essay_id == essay_id)) or 1
    return range(0, last, LISTED)
