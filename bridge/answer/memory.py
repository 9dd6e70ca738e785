"""What a voice may be given to read for its next answers: only released words, and of other threads only its reader's.

How much of it finds room is `voice.prompt`'s to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import case, select
from sqlalchemy.orm import Session, aliased

from bridge.essay import thread
from bridge.records import Answering, Comment, Essay, Reply, Voice
from bridge.voice import readers
from bridge.voice.prompt import Asked, Exchange, Told
from moderation.release import approved_ids, released
from moderation.types import Released

EARLIER_ESSAYS = 20
EARLIER_EXCHANGES = 20
"""The most of each, the newest, that are looked at: more finds no room anyway."""
MOST_ABOVE = 100
"""How far a conversation is followed upwards."""


def told(session: Session, essay: Essay, voice: Voice, essay_out: Released, *, without: Sequence[int]) -> Told:
    """Return what all requests under an essay share; the comments *without* are those to be answered."""
    earlier = session.scalars(
        select(Essay.submission_id)
        .where(Essay.voice_id == voice.id, Essay.id < essay.id, Essay.submission_id.in_(approved_ids()))
        .order_by(Essay.id.desc())
        .limit(EARLIER_ESSAYS)
    ).all()
    out = released(session, earlier)
    return Told(
        model=voice.model,
        max_tokens=voice.max_tokens,
        charter=voice.charter,
        chooses=voice.answering == Answering.CHOSEN.value,
        essay=essay_out,
        earlier_essays=[out[each] for each in earlier if each in out],
        thread=thread.exchanges(session, essay.id, without=without),
        memory=voice.memory_tokens,
    )


def asked(session: Session, essay: Essay, comments: Sequence[Comment]) -> dict[int, Asked]:
    """Return what is asked for each of *comments*, by its id; one that is not released is absent."""
    above = _above(session, comments)
    before = _before(session, essay, comments)
    parents = [comment.parent_id for comment in comments if comment.parent_id is not None]
    rows = session.execute(select(Reply.id, Reply.submission_id).where(Reply.id.in_(parents)))
    answers = {reply_id: submission_id for reply_id, submission_id in rows}  # noqa: C416  (dict() finds no types.)
    out = released(session, [comment.submission_id for comment in comments])
    return {
        comment.id: Asked(
            comment=out[comment.submission_id],
            in_answer_to=answers.get(comment.parent_id or 0),
            above=above.get(comment.id, ()),
            before=before.get(comment.id, ()),
            about=comment.passage,
        )
        for comment in comments
        if comment.submission_id in out
    }


def depth(session: Session, comment: Comment, *, at_most: int) -> int:
    """Return how deep in a conversation a comment is: 1 about the essay itself, 2 in answer to a reply to such a one.

    Not followed beyond *at_most* + 1.
    """
    found, parent_id = 1, comment.parent_id
    while parent_id is not None and found <= at_most:
        found += 1
        parent_id = session.scalar(
            select(Comment.parent_id).join(Reply, Reply.comment_id == Comment.id).where(Reply.id == parent_id)
        )
    return found


def _above(session: Session, comments: Sequence[Comment]) -> dict[int, list[Exchange]]:
    """Return the conversations that *comments* go on, by the comment's id: exchanges, the nearest first."""
    climbing = {comment.id: comment.parent_id for comment in comments if comment.parent_id is not None}
    found: dict[int, list[Exchange]] = {}
    answered = aliased(Reply)
    for _ in range(MOST_ABOVE):
        if not climbing:
            break
        rows = session.execute(
            select(Reply.id, Comment.parent_id, Comment.submission_id, Reply.submission_id, answered.submission_id)
            .join(Comment, Comment.id == Reply.comment_id)
            .outerjoin(answered, answered.id == Comment.parent_id)
            .where(Reply.id.in_(set(climbing.values())))
        ).all()
        level = {row[0]: row[1:] for row in rows}
        out = released(session, [each for _, said, answer, _ in level.values() for each in (said, answer)])
        for comment_id, reply_id in climbing.items():
            _, said, answer, in_answer_to = level[reply_id]
            if said in out or answer in out:
                found.setdefault(comment_id, []).append(Exchange(out.get(said), out.get(answer), in_answer_to))
        climbing = {
            comment_id: above for comment_id, reply_id in climbing.items() if (above := level[reply_id][0]) is not None
        }
    return found


def _before(session: Session, essay: Essay, comments: Sequence[Comment]) -> Mapping[int, list[Exchange]]:
    """Return exchanges under the voice's other essays with the author of each of *comments*, the newest first.

    By the id of the comment. Their author is who has the same secret, or owns the confirmed address of both.
    """
    answered = aliased(Reply)
    rows = session.execute(
        select(
            Comment.author_digest,
            case((readers.is_its_owners(), Comment.address_id)),
            Comment.submission_id,
            Reply.submission_id,
            answered.submission_id,
        )
        .join(Reply, Reply.comment_id == Comment.id)
        .join(Essay, Essay.id == Comment.essay_id)
        .outerjoin(answered, answered.id == Comment.parent_id)
        .where(
            readers.by_the_same_reader(session, comments),
            Comment.essay_id != essay.id,
            Essay.voice_id == essay.voice_id,
            Comment.submission_id.in_(approved_ids()),
            Reply.submission_id.in_(approved_ids()),
        )
        .order_by(Comment.id.desc())
        .limit(EARLIER_EXCHANGES * len(comments))
    ).all()
    out = released(session, [each for _, _, said, answer, _ in rows for each in (said, answer)])
    addresses = readers.confirmed(session, comments)
    found: dict[int, list[Exchange]] = {}
    for comment in comments:
        theirs = found.setdefault(comment.id, [])
        for author, address, said, answer, in_answer_to in rows:
            same = author == comment.author_digest or (address is not None and address == addresses.get(comment.id))
            if same and said in out and answer in out and len(theirs) < EARLIER_EXCHANGES:
                theirs.append(Exchange(out[said], out[answer], in_answer_to))
    return found
