"""Stored pages that are out of date: marked in the transaction that changes what they show, printed anew by a job.

For what takes no words back (`page.shelf` renews those pages at once): until the job comes, the old page serves.
"""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from bridge.records import Comment, Essay, StoredLetters, StoredPage

OUT_OF_DATE = ""
"""The version of no software."""


def locked(session: Session, essay_id: int) -> Essay:
    """Return an essay, and let nobody else renew or mark its pages until this transaction ends."""
    return session.get_one(Essay, essay_id, populate_existing=True, with_for_update={"key_share": True})


def mark_letters(session: Session, comment_id: int) -> None:
    """Mark the page on which a comment stands, if it was posted: readers are told something else of it now."""
    where = session.execute(select(Comment.essay_id, Comment.page).where(Comment.id == comment_id)).one()
    if where.page is None:
        return
    locked(session, where.essay_id)
    for stored in (StoredPage, StoredLetters):
        session.execute(
            update(stored)
            .where(stored.essay_id == where.essay_id, stored.page == where.page)
            .values(version=OUT_OF_DATE)
            .execution_options(synchronize_session=False)
        )


def mark_frames(session: Session, voice_id: int) -> None:
    """Mark what stands around the letters, of all essays of a voice."""
    for essay_id in session.scalars(select(Essay.id).where(Essay.voice_id == voice_id).order_by(Essay.id)).all():
        locked(session, essay_id)
    session.execute(
        update(StoredPage)
        .where(StoredPage.essay_id.in_(select(Essay.id).where(Essay.voice_id == voice_id)), StoredPage.page > 0)
        .values(version=OUT_OF_DATE)
        .execution_options(synchronize_session=False)
    )


def mark_all(session: Session, essay_id: int) -> None:
    """Mark every page of an essay, letters and the API's lists too."""
    locked(session, essay_id)
    for stored in (StoredPage, StoredLetters):
        session.execute(
            update(stored)
            .where(stored.essay_id == essay_id)
            .values(version=OUT_OF_DATE)
            .execution_options(synchronize_session=False)
        )
