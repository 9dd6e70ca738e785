"""Who counts as the same reader: whoever has an author's secret, or wrote from the same confirmed e-mail address."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from bridge.records import Address, Comment


def confirmed(session: Session, comments: Sequence[Comment]) -> set[int]:
    """Return which addresses of *comments* their owners said are theirs, by id; whether they want mail or not."""
    given = {comment.address_id for comment in comments if comment.address_id is not None}
    if not given:
        return set()
    return set(session.scalars(select(Address.id).where(Address.id.in_(given), Address.confirmed_at.is_not(None))))


def by_the_same_reader(session: Session, comments: Sequence[Comment]) -> ColumnElement[bool]:
    """Return the condition under which a comment is by a reader who wrote one of *comments*."""
    same = Comment.author_digest.in_({comment.author_digest for comment in comments})
    addresses = confirmed(session, comments)
    return or_(same, Comment.address_id.in_(addresses)) if addresses else same
