"""Who counts as the same reader: whoever has an author's secret, or wrote from the same confirmed e-mail address.

Anybody can write somebody's address under a letter. So a confirmed one ties only letters that its owner can have meant:
those written before they last confirmed it, and all by the author's secret of one of these.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session, aliased

from bridge.records import Address, Comment


def is_its_owners() -> ColumnElement[bool]:
    """Return the condition under which a comment is by the owner of the address that came with it."""
    meant = aliased(Comment)
    return (
        select(meant.id)
        .join(Address, Address.id == meant.address_id)
        .where(
            meant.address_id == Comment.address_id,
            meant.author_digest == Comment.author_digest,
            meant.created_at <= Address.confirmed_at,
        )
        .correlate(Comment)
        .exists()
    )


def confirmed(session: Session, comments: Sequence[Comment]) -> dict[int, int]:
    """Return the addresses whose owners wrote *comments*, by the comment's id; whether they want mail or not."""
    given = [comment.id for comment in comments if comment.address_id is not None]
    if not given:
        return {}
    rows = session.execute(
        select(Comment.id, Comment.address_id).where(
            Comment.id.in_(given), Comment.address_id.is_not(None), is_its_owners()
        )
    )
    return {comment_id: address_id for comment_id, address_id in rows if address_id is not None}


def by_the_same_reader(session: Session, comments: Sequence[Comment]) -> ColumnElement[bool]:
    """Return the condition under which a comment is by a reader who wrote one of *comments*."""
    same = Comment.author_digest.in_({comment.author_digest for comment in comments})
    addresses = set(confirmed(session, comments).values())
    return or_(same, and_(Comment.address_id.in_(addresses), is_its_owners())) if addresses else same
