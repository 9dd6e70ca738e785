"""The desk's acts, and what a moderator needs to see before one: each is one call, told in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session

from bridge import replies
from bridge.records import Comment, Essay, Generation, Reply, Voice
from bridge.site import Site
from moderation import gate, moderators
from moderation.queue import awaiting_review, pending
from moderation.release import released
from moderation.types import Digest, Kind, Moderator, ModeratorId, Pending, Rejection, Released, SubmissionId, Tray


@dataclass(frozen=True, slots=True)
class Context:
    """One pending submission with what it stands under and what is known about it."""

    pending: Pending
    essay: Essay
    voice: Voice
    essay_words: Released | None
    """None while the essay itself is pending, or no longer public."""
    answers: Released | None
    """The comment that a reply answers, or the reply that a comment answers; None where that is the essay."""
    generation: Generation | None
    proposer: Moderator | None
    comment: Comment | None


def approve(site: Site, submission_id: int, *, moderator: ModeratorId, seen: Digest) -> None:
    """Approve a submission; an approved comment is put to its essay's voice."""
    with site.database.sessions.begin() as session:
        gate.approve(session, submission_id, moderator=moderator, seen=seen)
        essay_id = replies.request_if_comment(session, submission_id)
    # Committed: a worker may look for the request before this line returns.
    if essay_id is not None:
        site.nudges.nudge(essay_id)


def reject(
    site: Site,
    submission_id: int,
    *,
    moderator: ModeratorId,
    seen: Digest,
    code: str,
    reason: str | None = None,
    told: str | None = None,
) -> Rejection:
    """Reject a comment, or propose or confirm the veto of a model's words."""
    with site.database.sessions.begin() as session:
        return gate.reject(
            session,
            submission_id,
            moderator=moderator,
            seen=seen,
            code=code,
            reason=reason,
            told=told,
            quorum=site.settings.veto_quorum,
            lapse=site.settings.lapse,
        )


def waiting(
    session: Session,
    *,
    kind: Kind | None = None,
    essay_slug: str | None = None,
    tray: Tray | None = None,
    after: int = 0,
    limit: int = 100,
) -> list[Context]:
    """Return up to *limit* pending submissions above *after*, oldest first, each with its context."""
    essay: SubmissionId | None = None
    if essay_slug is not None:
        found = session.scalar(select(Essay.submission_id).where(Essay.slug == essay_slug))
        if found is None:
            return []
        essay = SubmissionId(found)
    return in_context(session, awaiting_review(session, kind=kind, essay=essay, tray=tray, after=after, limit=limit))


def one(session: Session, submission_id: int) -> Context | None:
    """Return one pending submission with its context, or None if it awaits no verdict."""
    found = pending(session, submission_id)
    return in_context(session, [found])[0] if found else None


def in_context(session: Session, submissions: Sequence[Pending]) -> list[Context]:
    """Put each of *submissions* beside its essay, what it answers, and how it came about."""
    by_kind: dict[Kind, list[int]] = {kind: [s.id for s in submissions if s.kind is kind] for kind in Kind}
    essays = {e.submission_id: e for e in _found(session, Essay.submission_id, by_kind[Kind.ESSAY])}
    comments = {c.submission_id: c for c in _found(session, Comment.submission_id, by_kind[Kind.COMMENT])}
    answers = {r.submission_id: r for r in _found(session, Reply.submission_id, by_kind[Kind.REPLY])}
    answered = {c.id: c for c in _found(session, Comment.id, [r.comment_id for r in answers.values()])}
    parents = {r.id: r for r in _found(session, Reply.id, [c.parent_id for c in comments.values()])}
    essay_ids = [c.essay_id for c in (*comments.values(), *answered.values())]
    under = {e.id: e for e in _found(session, Essay.id, essay_ids)}
    generations = {g.id: g for g in _found(session, Generation.id, [r.generation_id for r in answers.values()])}
    all_essays = [*essays.values(), *under.values()]
    voices = {v.id: v for v in _found(session, Voice.id, [e.voice_id for e in all_essays])}
    out = released(
        session,
        [
            *(e.submission_id for e in all_essays),
            *(c.submission_id for c in answered.values()),
            *(r.submission_id for r in parents.values()),
        ],
    )
    proposers = moderators.named(session, {s.proposal.moderator for s in submissions if s.proposal})

    found = []
    for submission in submissions:
        reply = answers.get(submission.id)
        comment = answered[reply.comment_id] if reply else comments.get(submission.id)
        essay = under[comment.essay_id] if comment else essays[submission.id]
        if reply and comment:
            above = comment.submission_id
        else:
            above = parents[comment.parent_id].submission_id if comment and comment.parent_id else 0
        found.append(
            Context(
                pending=submission,
                essay=essay,
                voice=voices[essay.voice_id],
                essay_words=out.get(essay.submission_id),
                answers=out.get(above),
                generation=generations[reply.generation_id] if reply else None,
                proposer=proposers[submission.proposal.moderator] if submission.proposal else None,
                comment=comment,
            )
        )
    return found


def _found(session: Session, column: InstrumentedAttribute[int], ids: Iterable[int | None]) -> Sequence[Any]:
    """Return the rows of *column*'s table whose value in it is among *ids*."""
    return session.scalars(select(column.class_).where(column.in_({id_ for id_ in ids if id_ is not None}))).all()
