"""An essay's correspondence: its released comments, each with its released reply. Everything here is public."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from bridge.essay.essays import Gone, Published, gone, published
from bridge.records import Comment, Essay, Generation, Reply, ReplyRequest, Voice
from bridge.text.language import N_
from bridge.voice.prompt import Exchange
from moderation import moderators
from moderation.release import approved_ids, released, released_at, released_ids, standing
from moderation.types import Released

LETTERS_A_PAGE = 50
READ_AT_MOST = 2000
"""The most comments of one thread that a prompt is made from."""


class NotPublic(Exception):
    """Raised for a comment or reply that is not released, as for one that never was."""

    def __init__(self) -> None:
        super().__init__(N_("There is nothing posted at this address."))


class TakenBack(Exception):
    """Raised for a comment or reply that was released and then withdrawn: a tombstone is all there is."""

    def __init__(self, gone: Gone) -> None:
        back, down = N_("What stood here was taken back."), N_("What stood here was taken down.")
        super().__init__(back if gone.by_author else down)
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
    reply_id: str | None
    """The public id of its reply, posted or taken back; None: there never was one to read."""
    outcome: str | None
    """What a reader is told where there is no reply: "declined", "withheld" or "not_chosen", else None."""
    place: int
    """Which of its essay's letters it was to be posted, from 1."""
    page: int
    """The page of the correspondence on which it stands, from 1."""
    passage: str | None
    """The words of the essay that it is about; None: the whole."""
    passage_block: int | None
    below: list[PostedComment] = field(default_factory=list)
    """What was written in answer to its reply, or further down, on the same page; filled by `conversation` only."""


@dataclass(slots=True)
class AboutBlock:
    """The posted letters about words of one block of an essay, whichever page they stand on."""

    first_id: str
    """The public id of the letter among them that was posted first."""
    first_page: int
    letters: int = 0
    passages: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Counts:
    """How much correspondence an essay has."""

    letters: int
    answered: int


def posted_comments(session: Session, essay_id: int, *, after: int = 0, limit: int = 100) -> list[PostedComment]:
    """Return up to *limit* comments, tombstones among them, whose place is after *after*, oldest first."""
    rows = session.scalars(
        select(Comment).where(Comment.essay_id == essay_id, Comment.place > after).order_by(Comment.place).limit(limit)
    ).all()
    return _posted(session, rows)


def conversation(session: Session, essay_id: int, page: int = 1) -> list[PostedComment]:
    """Return what stands on a page of an essay's correspondence, oldest first, at two levels.

    What was written in answer to a reply stands below the letter that began that exchange, if it is on the same page.
    """
    rows = session.scalars(
        select(Comment).where(Comment.essay_id == essay_id, Comment.page == page).order_by(Comment.place)
    ).all()
    # By the comment that was answered, not by its reply: what answers a withdrawn reply still stands.
    answered = session.execute(
        select(Reply.id, Reply.comment_id).where(Reply.id.in_({row.parent_id for row in rows if row.parent_id}))
    )
    above = {reply_id: comment_id for reply_id, comment_id in answered}  # noqa: C416  (dict() finds no types.)
    begun: dict[int, PostedComment] = {}
    first: list[PostedComment] = []
    for row, posted in zip(rows, _posted(session, rows), strict=True):
        beginning = begun.get(above.get(row.parent_id or 0, 0))
        begun[row.id] = beginning or posted
        (first if beginning is None else beginning.below).append(posted)
    return first


def pages(session: Session, essay_id: int) -> int:
    """Return how many pages an essay's correspondence has, at least one."""
    return session.scalar(select(func.max(Comment.page)).where(Comment.essay_id == essay_id)) or 1


def give_place(session: Session, submission_id: int) -> None:
    """Give what was just approved, if it is a comment, its place and its page, which it keeps. Twice changes nothing.

    What is written in answer stands on the page of what it answers, as long as that page has room. Approvals wait for
    each other at the ledger's head, so no two find the same place free; the index would refuse the second.
    """
    comment = session.scalar(select(Comment).where(Comment.submission_id == submission_id))
    if comment is None or comment.place is not None:
        return
    under = Comment.essay_id == comment.essay_id
    comment.place = 1 + (session.scalar(select(func.max(Comment.place)).where(under)) or 0)
    answered = select(Reply.comment_id).where(Reply.id == comment.parent_id).scalar_subquery()
    page = session.scalar(select(Comment.page).where(Comment.id == answered)) if comment.parent_id else None
    if page is None or _on(session, comment.essay_id, page) >= 2 * LETTERS_A_PAGE:
        page = pages(session, comment.essay_id)
        if _on(session, comment.essay_id, page) >= LETTERS_A_PAGE:
            page += 1
    comment.page = page
    session.flush()


def _on(session: Session, essay_id: int, page: int) -> int:
    """Return how many letters stand on a page."""
    on_it = select(func.count()).where(Comment.essay_id == essay_id, Comment.page == page)
    return session.scalar(on_it) or 0


def counts(session: Session, essay_ids: Collection[int]) -> dict[int, Counts]:
    """Return how many letters and answers stand under each essay; what was taken back is not counted."""
    letters = session.execute(
        select(Comment.essay_id, func.count(), func.count(Reply.id))
        .outerjoin(Reply, (Reply.comment_id == Comment.id) & Reply.submission_id.in_(released_ids()))
        .where(
            # Only what has a place was ever posted: the rest need not be looked up.
            Comment.essay_id.in_(essay_ids),
            Comment.place.is_not(None),
            Comment.submission_id.in_(released_ids()),
        )
        .group_by(Comment.essay_id)
    )
    found = {essay_id: Counts(all_of_them, answered) for essay_id, all_of_them, answered in letters}
    return {essay_id: found.get(essay_id, Counts(0, 0)) for essay_id in essay_ids}


def about_blocks(session: Session, essay_id: int) -> dict[int, AboutBlock]:
    """Return which blocks of an essay posted letters are about, by block; what was taken back is not counted."""
    rows = session.execute(
        select(Comment.passage_block, Comment.passage, Comment.public_id, Comment.page)
        .where(
            Comment.essay_id == essay_id,
            Comment.place.is_not(None),
            Comment.passage.is_not(None),
            Comment.submission_id.in_(released_ids()),
        )
        .order_by(Comment.place)
    )
    found: dict[int, AboutBlock] = {}
    for row in rows:
        about = found.setdefault(row.passage_block, AboutBlock(row.public_id, row.page))
        about.letters += 1
        about.passages.add(row.passage)
    return found


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


def posted_lately(session: Session, essay_id: int, *, limit: int = 100) -> list[PostedComment]:
    """Return the comments with the newest released letters and answers under an essay, in no order.

    What was posted last, of either kind, is among them, *limit* of each at most; so an old letter is where its answer
    is new.
    """
    out = released_at().subquery()
    letters = select(Comment.id).join(out, out.c.submission_id == Comment.submission_id)
    answered = (
        select(Reply.comment_id)
        .join(Comment, Comment.id == Reply.comment_id)
        .join(out, out.c.submission_id == Reply.submission_id)
    )
    ids: set[int] = set()
    for newest in (letters, answered):
        under = newest.where(Comment.essay_id == essay_id)
        ids |= set(session.scalars(under.order_by(out.c.decided_at.desc(), Comment.id.desc()).limit(limit)))
    return _posted(session, session.scalars(select(Comment).where(Comment.id.in_(ids))).all())


def exchanges(session: Session, essay_id: int, *, without: Collection[int] = ()) -> list[Exchange]:
    """Return what is released under an essay as the model may read it, oldest first, but for the comments *without*.

    Only the newest `READ_AT_MOST` comments: more would not fit into a prompt anyway.
    """
    answered = aliased(Reply)
    newest_first = session.execute(
        select(Comment.submission_id, Reply.submission_id, answered.submission_id)
        .outerjoin(Reply, Reply.comment_id == Comment.id)
        .outerjoin(answered, answered.id == Comment.parent_id)
        # Of a letter that was approved and taken down, the answer stays.
        .where(Comment.essay_id == essay_id, Comment.submission_id.in_(approved_ids()), Comment.id.not_in(without))
        .order_by(Comment.id.desc())
        .limit(READ_AT_MOST)
    ).all()
    out = released(session, [each for said, answer, _ in newest_first for each in (said, answer) if each is not None])
    return [
        Exchange(comment=out.get(said), reply=out.get(answer or 0), in_answer_to=in_answer_to)
        for said, answer, in_answer_to in reversed(newest_first)
        if said in out or answer in out
    ]


def _posted(session: Session, comments: Sequence[Comment]) -> list[PostedComment]:
    ids = [comment.id for comment in comments]
    # Only what is told: the rest of a generation is large.
    answers = {
        row.comment_id: row
        for row in session.execute(
            select(
                Reply.comment_id,
                Reply.public_id,
                Reply.submission_id,
                Generation.rehearsed,
                Generation.model_answered,
                Generation.model_asked,
                Generation.started_at,
                Voice.name,
            )
            .join(Generation, Generation.id == Reply.generation_id)
            .join(Voice, Voice.id == Generation.voice_id)
            .where(Reply.comment_id.in_(ids))
        )
    }
    requests = {
        row.comment_id: row
        for row in session.execute(
            select(ReplyRequest.comment_id, ReplyRequest.state, ReplyRequest.chosen_at).where(
                ReplyRequest.comment_id.in_(ids)
            )
        )
    }
    answered = select(Reply.id, Reply.public_id).where(Reply.id.in_({c.parent_id for c in comments if c.parent_id}))
    parents = {id_: public_id for id_, public_id in session.execute(answered)}  # noqa: C416  (dict() finds no types.)
    ours = [*(c.submission_id for c in comments), *(row.submission_id for row in answers.values())]
    out, how = released(session, ours), standing(session, ours)
    people = moderators.named(session, {words.approved_by for words in out.values()})
    posted = []
    for comment in comments:
        request, answer = requests.get(comment.id), answers.get(comment.id)
        reply = reply_gone = None
        if answer is not None:
            reply_gone = gone(how[answer.submission_id])
        if answer is not None and answer.submission_id in out:
            said = out[answer.submission_id]
            reply = PostedReply(
                public_id=answer.public_id,
                words=said,
                voice=answer.name,
                model="rehearsal" if answer.rehearsed else answer.model_answered or answer.model_asked,
                rehearsed=answer.rehearsed,
                asked_at=answer.started_at,
                chosen_at=request.chosen_at if request is not None else None,
                approved_by=people[said.approved_by].name,
                comment_id=comment.public_id,
            )
        state = request.state if request is not None else None
        posted.append(
            PostedComment(
                public_id=comment.public_id,
                words=out.get(comment.submission_id),
                posted_at=comment.created_at,
                gone=gone(how[comment.submission_id]),
                digest=how[comment.submission_id].digest,
                answers=parents.get(comment.parent_id or 0),
                reply=reply,
                reply_gone=reply_gone,
                reply_id=answer.public_id if answer is not None and (reply or reply_gone) else None,
                outcome=state if state in {"declined", "withheld", "not_chosen"} else None,
                place=comment.place or 0,
                page=comment.page or 1,
                passage=comment.passage,
                passage_block=comment.passage_block,
            )
        )
    return posted
