"""An essay's correspondence: its released comments, each with its released reply. Everything here is public."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from bridge.essays import Gone, Published, gone, published
from bridge.prompt import Exchange
from bridge.records import Comment, Essay, Generation, Reply, ReplyRequest, Voice
from moderation import moderators
from moderation.release import approved_ids, released, released_ids, standing
from moderation.types import Released

LETTERS_A_PAGE = 50
READ_AT_MOST = 2000
"""The most comments of one thread that a prompt is made from."""


class NotPublic(Exception):
    """Raised for a comment or reply that is not released, as for one that never was."""

    def __init__(self) -> None:
        super().__init__("There is nothing posted at this address.")


class TakenBack(Exception):
    """Raised for a comment or reply that was released and then withdrawn: a tombstone is all there is."""

    def __init__(self, gone: Gone) -> None:
        super().__init__("What stood here was taken back." if gone.by_author else "What stood here was taken down.")
        self.gone = gone


@dataclass(frozen=True, slots=True)
class PostedReply:
    """A released reply with what is public of its provenance."""

    public_id: str
    words: Released
    voice: str
    model: str
    rehearsed: bool
    asked_at: datetime
    chosen_at: datetime | None
    """When its voice chose the letter among others, where it picks what it answers."""
    approved_by: str
    comment_id: str


@dataclass(slots=True)
class PostedComment:
    """A released comment, or the tombstone of one: then `words` is None and `gone` tells of it."""

    public_id: str
    words: Released | None
    posted_at: datetime
    gone: Gone | None
    digest: str
    answers: str | None
    """The public id of the reply that it answers."""
    reply: PostedReply | None
    reply_gone: Gone | None
    """The tombstone of a reply that was released. A comment that was taken down does not take its reply along."""
    outcome: str | None
    """What a reader is told where there is no reply: "declined", "withheld" or "not_chosen", else None."""
    number: int
    below: list[PostedComment] = field(default_factory=list)
    """Comments in answer to the reply, even a withdrawn one, oldest first; filled by `conversation` only."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How much correspondence an essay has."""

    letters: int
    answered: int


def posted_comments(session: Session, essay_id: int, *, after: int = 0, limit: int = 100) -> list[PostedComment]:
    """Return up to *limit* comments, tombstones among them, whose number is above *after*, oldest first."""
    rows = session.scalars(
        select(Comment)
        .where(Comment.essay_id == essay_id, Comment.id > after, Comment.submission_id.in_(approved_ids()))
        .order_by(Comment.id)
        .limit(limit)
    ).all()
    return _posted(session, rows)


def conversation(
    session: Session, essay_id: int, *, after: int = 0, limit: int = LETTERS_A_PAGE
) -> list[PostedComment]:
    """Return up to *limit* comments on the essay itself, each with everything written below it."""
    letters = session.scalars(
        select(Comment)
        .where(
            Comment.essay_id == essay_id,
            Comment.parent_id.is_(None),
            Comment.id > after,
            Comment.submission_id.in_(approved_ids()),
        )
        .order_by(Comment.id)
        .limit(limit)
    ).all()
    posted = _posted(session, letters)
    level = posted
    while level:
        above = {letter.number: letter for letter in level}
        # By the comment that was answered, not by its reply: what answers a withdrawn reply still stands.
        answering = session.execute(
            select(Comment, Reply.comment_id)
            .join(Reply, Reply.id == Comment.parent_id)
            .where(Reply.comment_id.in_(above), Comment.submission_id.in_(approved_ids()))
            .order_by(Comment.id)
        ).all()
        level = _posted(session, [comment for comment, _ in answering])
        for letter, (_, answered) in zip(level, answering, strict=True):
            above[answered].below.append(letter)
    return posted


def counts(session: Session, essay_ids: Collection[int]) -> dict[int, Counts]:
    """Return how many letters and answers stand under each essay; what was taken back is not counted."""
    letters = session.execute(
        select(Comment.essay_id, func.count(), func.count(Reply.id))
        .outerjoin(Reply, (Reply.comment_id == Comment.id) & Reply.submission_id.in_(released_ids()))
        .where(Comment.essay_id.in_(essay_ids), Comment.submission_id.in_(released_ids()))
        .group_by(Comment.essay_id)
    )
    found = {essay_id: Counts(all_of_them, answered) for essay_id, all_of_them, answered in letters}
    return {essay_id: found.get(essay_id, Counts(0, 0)) for essay_id in essay_ids}


def posted_comment(session: Session, public_id: str) -> tuple[PostedComment, Published]:
    """Return a released comment and its essay.

    Raises `NotPublic`, `TakenBack` for a tombstone, or `essays.EssayGone` if that is all there is of the essay.
    """
    comment = session.scalar(
        select(Comment).where(Comment.public_id == public_id, Comment.submission_id.in_(approved_ids()))
    )
    if comment is None:
        raise NotPublic
    (posted,) = _posted(session, [comment])
    under = published(session, session.get_one(Essay, comment.essay_id).slug)
    if posted.gone is not None:
        raise TakenBack(posted.gone)
    return posted, under


def posted_reply(session: Session, public_id: str) -> tuple[PostedReply, PostedComment, Published]:
    """Return a released reply, its comment and its essay. Raises `NotPublic`, `TakenBack` or `essays.EssayGone`."""
    comment = session.scalar(
        select(Comment)
        .join(Reply, Reply.comment_id == Comment.id)
        .where(Reply.public_id == public_id, Reply.submission_id.in_(approved_ids()))
    )
    if comment is None:
        raise NotPublic
    under = published(session, session.get_one(Essay, comment.essay_id).slug)
    (posted,) = _posted(session, [comment])
    if posted.reply_gone is not None:
        raise TakenBack(posted.reply_gone)
    if posted.reply is None:
        raise NotPublic
    return posted.reply, posted, under


def exchanges(session: Session, essay_id: int, *, without: Collection[int] = ()) -> list[Exchange]:
    """Return what is released under an essay as the model may read it, oldest first, but for the comments *without*.

    Only the newest `READ_AT_MOST` comments: more would not fit into a prompt anyway.
    """
    newest_first = session.execute(
        select(Comment, Reply)
        .outerjoin(Reply, Reply.id == Comment.parent_id)
        .where(Comment.essay_id == essay_id, Comment.submission_id.in_(approved_ids()), Comment.id.not_in(without))
        .order_by(Comment.id.desc())
        .limit(READ_AT_MOST)
    ).all()
    rows = newest_first[::-1]
    replies = {
        reply.comment_id: reply.submission_id
        for reply in session.scalars(select(Reply).where(Reply.comment_id.in_([comment.id for comment, _ in rows])))
    }
    out = released(session, [*(comment.submission_id for comment, _ in rows), *replies.values()])
    return [
        Exchange(
            comment=out[comment.submission_id],
            reply=out.get(replies.get(comment.id, 0)),
            in_answer_to=answered.submission_id if answered is not None else None,
        )
        for comment, answered in rows
        if comment.submission_id in out
    ]


def _posted(session: Session, comments: Sequence[Comment]) -> list[PostedComment]:
    ids = [comment.id for comment in comments]
    answers = {
        reply.comment_id: (reply, generation, voice)
        for reply, generation, voice in session.execute(
            select(Reply, Generation, Voice)
            .join(Generation, Generation.id == Reply.generation_id)
            .join(Voice, Voice.id == Generation.voice_id)
            .where(Reply.comment_id.in_(ids))
        )
    }
    requests = {
        request.comment_id: request
        for request in session.scalars(select(ReplyRequest).where(ReplyRequest.comment_id.in_(ids)))
    }
    answered = select(Reply.id, Reply.public_id).where(Reply.id.in_({c.parent_id for c in comments if c.parent_id}))
    parents = {id_: public_id for id_, public_id in session.execute(answered)}  # noqa: C416  (dict() finds no types.)
    out = released(session, [*(c.submission_id for c in comments), *(r.submission_id for r, _, _ in answers.values())])
    how = standing(session, [*(c.submission_id for c in comments), *(r.submission_id for r, _, _ in answers.values())])
    people = moderators.named(session, {words.approved_by for words in out.values()})
    posted = []
    for comment in comments:
        words = out.get(comment.submission_id)
        request = requests.get(comment.id)
        state = request.state if request is not None else None
        reply = reply_gone = None
        if comment.id in answers:
            reply_gone = gone(how[answers[comment.id][0].submission_id])
        if comment.id in answers and answers[comment.id][0].submission_id in out:
            row, generation, voice = answers[comment.id]
            said = out[row.submission_id]
            reply = PostedReply(
                public_id=row.public_id,
                words=said,
                voice=voice.name,
                model="rehearsal" if generation.rehearsed else generation.model_answered or generation.model_asked,
                rehearsed=generation.rehearsed,
                asked_at=generation.started_at,
                chosen_at=request.chosen_at if request is not None else None,
                approved_by=people[said.approved_by].name,
                comment_id=comment.public_id,
            )
        posted.append(
            PostedComment(
                public_id=comment.public_id,
                words=words,
                posted_at=comment.created_at,
                gone=gone(how[comment.submission_id]),
                digest=how[comment.submission_id].digest,
                answers=parents.get(comment.parent_id or 0),
                reply=reply,
                reply_gone=reply_gone,
                outcome=state if state in {"declined", "withheld", "not_chosen"} else None,
                number=comment.id,
            )
        )
    return posted
