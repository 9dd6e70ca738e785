"""Taking down released words, at the desk: an admin begins, and for a model's words a second moderator agrees."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from bridge.answer import replies
from bridge.essay.essays import Published
from bridge.letter import reports
from bridge.mail import notices
from bridge.page import shelf
from bridge.records import Comment, Essay, Reply, Report, Voice
from bridge.site import Site
from moderation import moderators, takedowns
from moderation.errors import NoSuchSubmission, NotReleased
from moderation.release import released, standing
from moderation.types import Digest, Moderator, ModeratorId, Proposal, Rejection, Released, SubmissionId

REASONS = ("operator", "law")
"""For whom words are taken down: for the people who host them, or because the law asks for it."""


@dataclass(frozen=True, slots=True)
class Posted:
    """Released words with what an admin needs to see before taking them down."""

    words: Released
    voice: Voice
    rehearsed: bool
    """Whether the reply among these words was written by no model."""
    essay: Published | None
    """None if the essay is no longer posted."""
    answers: Released | None
    reply: Released | None
    """The reply to a comment: it stays posted, for taking it down has a bar of its own."""
    proposal: Proposal | None
    proposer: Moderator | None
    reports: list[Report]


def posted(session: Session, submission_id: int) -> Posted:
    """Return released words in their context. Raises `NoSuchSubmission` or `NotReleased`."""
    words = released(session, [submission_id]).get(submission_id)
    if words is None:
        if submission_id not in standing(session, [submission_id]):
            raise NoSuchSubmission(submission_id)
        raise NotReleased(SubmissionId(submission_id))
    essay, above, below = _around(session, submission_id)
    around = released(session, [each for each in (essay.submission_id, above, below) if each is not None])
    essay_words = around.get(essay.submission_id)
    voice = session.get_one(Voice, essay.voice_id)
    in_sight = (words, around.get(above or 0), around.get(below or 0))
    proposal = takedowns.open_takedowns(session, [submission_id]).get(submission_id)
    return Posted(
        words=words,
        voice=voice,
        rehearsed=any(each is not None and reports.is_rehearsed(each) for each in in_sight),
        essay=Published(essay, voice, essay_words) if essay_words else None,
        answers=in_sight[1],
        reply=in_sight[2],
        proposal=proposal,
        proposer=moderators.named(session, [proposal.moderator])[proposal.moderator] if proposal else None,
        reports=reports.reports_about(session, submission_id),
    )


def take_down(
    site: Site, submission_id: int, *, moderator: ModeratorId, seen: Digest, code: str, reason: str | None, by: str
) -> Rejection:
    """Take released words down, or take one step towards it; say which it came to.

    A comment's request for a reply ends; a reply that came stays, posted or pending. Reports of the words are closed.
    Raises what `moderation.takedowns.take_down` raises.
    """
    with site.database.sessions.begin() as session:
        comment = session.scalar(
            select(Comment).where(Comment.submission_id == submission_id).with_for_update(of=Comment, key_share=True)
        )
        if comment is not None:
            # Before the ledger's head is taken, as when its author takes it back; a refusal undoes it.
            replies.no_longer_asked(session, comment.id)
        came_to = takedowns.take_down(
            session,
            submission_id,
            moderator=moderator,
            seen=seen,
            code=code,
            reason=reason,
            by=by if by in REASONS else REASONS[0],
            quorum=site.settings.veto_quorum,
            lapse=site.settings.lapse,
        )
        if came_to is Rejection.DECIDED:
            reports.close_about(session, submission_id, moderator=moderator)
            essay_id = session.scalar(select(Essay.id).where(Essay.submission_id == submission_id))
            if essay_id is not None:
                replies.essay_is_gone(session, essay_id)
            shelf.words_changed(session, site.settings, submission_id)
        tells = came_to is Rejection.DECIDED and notices.taken_down(session, site, submission_id)
    if tells:
        site.nudges.nudge_outgoing()
    return came_to


def keep(site: Site, submission_id: int, *, moderator: ModeratorId) -> None:
    """Answer a proposal to take words down with no; by its own proposer that takes it back.

    Raises what `moderation.takedowns.keep` raises.
    """
    with site.database.sessions.begin() as session:
        takedowns.keep(session, submission_id, moderator=moderator)


def _around(session: Session, submission_id: int) -> tuple[Essay, int | None, int | None]:
    """Return the essay, and the submissions of what these words answer and of the reply to them."""
    essay = session.scalar(select(Essay).where(Essay.submission_id == submission_id))
    if essay is not None:
        return essay, None, None
    comment = session.scalar(select(Comment).where(Comment.submission_id == submission_id))
    if comment is not None:
        above = session.get(Reply, comment.parent_id) if comment.parent_id is not None else None
        below = session.scalar(select(Reply.submission_id).where(Reply.comment_id == comment.id))
        return session.get_one(Essay, comment.essay_id), above.submission_id if above else None, below
    answered = session.scalars(
        select(Comment).join(Reply, Reply.comment_id == Comment.id).where(Reply.submission_id == submission_id)
    ).one()
    return session.get_one(Essay, answered.essay_id), answered.submission_id, None
