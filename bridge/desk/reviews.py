"""The desk's acts, and what a moderator needs to see before one: each is one call, told in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session

from bridge.answer import replies
from bridge.desk import claims
from bridge.desk.claims import Claimed
from bridge.essay import thread
from bridge.letter import mentions
from bridge.mail import notices
from bridge.page import shelf
from bridge.records import Claim, Comment, Essay, Generation, Purpose, Reply, Voice
from bridge.signal import signals
from bridge.signal.signals import Noticed
from bridge.site import Site
from moderation import gate, holds, moderators, queue, rereading
from moderation.errors import Refused
from moderation.release import released, standing
from moderation.types import (
    Digest,
    Kind,
    Moderator,
    ModeratorId,
    Pending,
    Rejection,
    Released,
    Tray,
    Verdict,
)


class NotALetter(Refused):
    """Raised when a model's words are among those to be decided on at once."""

    def __init__(self) -> None:
        super().__init__("Only letters are decided on several at once. Nothing was changed.")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which of what waits a moderator wants to see; what is None is not asked for."""

    kind: Kind | None = None
    essay: str | None = None
    """A slug, like `voice`."""
    voice: str | None = None
    signal: str | None = None
    tray: Tray | None = None
    held: bool | None = None
    not_held_by: ModeratorId | None = None
    claimed_by: ModeratorId | None = None


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
    notes: Sequence[str]
    """What the voice noted for moderators in its calls about what a reply answers, oldest first."""
    proposer: Moderator | None
    comment: Comment | None
    signals: Sequence[Noticed]
    claim: Claimed | None
    holder: Moderator | None
    """Who wants a second reader."""
    rejecter: Moderator | None
    """Who rejected these words before their author appealed."""


def approve(site: Site, submission_id: int, *, moderator: ModeratorId, seen: Digest) -> None:
    """Approve a submission; an approved comment is put to its essay's voice. Some are shown to a second reader."""
    with site.database.sessions.begin() as session:
        gate.approve(session, submission_id, moderator=moderator, seen=seen)
        claims.end(session, submission_id)
        if site.chance.random() < rereading.SHARE:
            rereading.ask(session, submission_id)
        essay_id = replies.request_if_comment(session, submission_id)
        thread.give_place(session, submission_id)
        shelf.words_changed(session, site.settings, submission_id)
        tells = notices.decided(session, site, submission_id)
        told = mentions.essay_released(session, site.settings, submission_id)
    # Committed: a worker may look for the request before this line returns.
    if essay_id is not None:
        site.nudges.nudge(essay_id)
    if tells:
        site.nudges.nudge_outgoing()
    for mention_id in told:
        site.nudges.nudge_mention(mention_id)


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
        came_to = gate.reject(
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
        # A proposal waits for somebody else to read it, so whoever made it reads it no more.
        claims.end(session, submission_id)
        tells = came_to is Rejection.DECIDED and notices.decided(session, site, submission_id)
    # Committed, as above.
    if tells:
        site.nudges.nudge_outgoing()
    return came_to


def decide_letter(
    site: Site,
    submission_id: int,
    verdict: Verdict,
    *,
    moderator: ModeratorId,
    seen: Digest,
    code: str,
    reason: str | None,
    told: str | None,
) -> None:
    """Decide on a letter among many. Raises `NotALetter` for other words, else what `approve` and `reject` raise."""
    with site.database.reading_sessions() as session:
        how = standing(session, [submission_id]).get(submission_id)
    # What a submission is never changes, so it needs no lock.
    if how is not None and how.kind is not Kind.COMMENT:
        raise NotALetter
    if verdict is Verdict.APPROVE:
        approve(site, submission_id, moderator=moderator, seen=seen)
    else:
        reject(site, submission_id, moderator=moderator, seen=seen, code=code, reason=reason, told=told)


def hold(site: Site, submission_id: int, *, moderator: ModeratorId) -> None:
    """Leave a submission to a second reader, and stop reading it. Raises what `holds.hold` does."""
    with site.database.sessions.begin() as session:
        holds.hold(session, submission_id, moderator=moderator)
        claims.end(session, submission_id)


def let_go(site: Site, submission_id: int, *, moderator: ModeratorId) -> None:
    """Put a held submission back among the others. Raises what `holds.let_go` does."""
    with site.database.sessions.begin() as session:
        holds.let_go(session, submission_id, moderator=moderator)


def read_again(
    site: Site, submission_id: int, *, moderator: ModeratorId, seen: Digest, verdict: Verdict, code: str | None = None
) -> None:
    """Put on record what a second reader would have done, and nothing else. Raises what `rereading.answer` does."""
    with site.database.sessions.begin() as session:
        rereading.answer(session, submission_id, moderator=moderator, seen=seen, verdict=verdict, code=code)


def waiting(session: Session, wanted: Wanted | None = None, *, after: int = 0, limit: int = 100) -> list[Context]:
    """Return up to *limit* pending submissions above *after*, oldest first, each with its context."""
    return in_context(session, listed(session, wanted, after=after, limit=limit))


def listed(session: Session, wanted: Wanted | None = None, *, after: int = 0, limit: int = 100) -> list[Pending]:
    """Return the same without their contexts."""
    asked = _asked(session, wanted or Wanted())
    return queue.awaiting_review(session, **asked, after=after, limit=limit) if asked is not None else []


def following(session: Session, wanted: Wanted, submission_id: int) -> int | None:
    """Return the id of what waits next after *submission_id*, or None if that was the last."""
    found = listed(session, wanted, after=submission_id, limit=1)
    return found[0].id if found else None


def number(session: Session, wanted: Wanted) -> int:
    """Return how many are wanted, at most `queue.MOST_COUNTED`."""
    asked = _asked(session, wanted)
    return queue.number(session, **asked) if asked is not None else 0


def one(session: Session, submission_id: int) -> Context | None:
    """Return one pending submission with its context, or None if it awaits no verdict."""
    found = queue.pending(session, submission_id)
    return in_context(session, [found])[0] if found else None


def in_context(session: Session, submissions: Sequence[Pending], *, with_words: bool = True) -> list[Context]:
    """Put each of *submissions* beside its essay, what it answers, and how it came about.

    Without words, for a list, the essay's words and what is answered are left out: checking them takes time.
    """
    by_kind: dict[Kind, list[int]] = {kind: [s.id for s in submissions if s.kind is kind] for kind in Kind}
    essays = {e.submission_id: e for e in _found(session, Essay.submission_id, by_kind[Kind.ESSAY])}
    comments = {c.submission_id: c for c in _found(session, Comment.submission_id, by_kind[Kind.COMMENT])}
    answers = {r.submission_id: r for r in _found(session, Reply.submission_id, by_kind[Kind.REPLY])}
    answered = {c.id: c for c in _found(session, Comment.id, [r.comment_id for r in answers.values()])}
    parents = {r.id: r for r in _found(session, Reply.id, [c.parent_id for c in comments.values()])}
    essay_ids = [c.essay_id for c in (*comments.values(), *answered.values())]
    under = {e.id: e for e in _found(session, Essay.id, essay_ids)}
    generations = {g.id: g for g in _found(session, Generation.id, [r.generation_id for r in answers.values()])}
    notes = _notes(session, answered)
    all_essays = [*essays.values(), *under.values()]
    voices = {v.id: v for v in _found(session, Voice.id, [e.voice_id for e in all_essays])}
    wanted_words = [
        *(e.submission_id for e in all_essays),
        *(c.submission_id for c in answered.values()),
        *(r.submission_id for r in parents.values()),
    ]
    out = released(session, wanted_words if with_words else ())
    noticed = signals.signals_of(session, [s.id for s in submissions])
    reading = claims.standing(session, [s.id for s in submissions])
    people = moderators.named(
        session,
        {s.proposal.moderator for s in submissions if s.proposal}
        | {s.held.moderator for s in submissions if s.held}
        | {s.appealed.rejected_by for s in submissions if s.appealed},
    )

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
                notes=notes.get(reply.comment_id, []) if reply else [],
                proposer=people[submission.proposal.moderator] if submission.proposal else None,
                comment=comment,
                signals=noticed.get(submission.id, []),
                claim=reading.get(submission.id),
                holder=people[submission.held.moderator] if submission.held else None,
                rejecter=people[submission.appealed.rejected_by] if submission.appealed else None,
            )
        )
    return found


def _notes(session: Session, comment_ids: Iterable[int]) -> dict[int, list[str]]:
    """Return the voice's notes by the comment that it was asked to answer; those it left none about are absent.

    A note may come alone, and the reply by the next call.
    """
    found: dict[int, list[str]] = {}
    called = (
        select(Generation.comment_id, Generation.note)
        .where(
            Generation.comment_id.in_(list(comment_ids)),
            Generation.purpose == Purpose.REPLY.value,
            Generation.note.is_not(None),
        )
        .order_by(Generation.id)
    )
    for comment_id, note in session.execute(called):
        found.setdefault(comment_id, []).append(str(note))
    return found


def _asked(session: Session, wanted: Wanted) -> dict[str, Any] | None:
    """Return *wanted* as the vault knows it, or None if it names something that there is not."""
    asked: dict[str, Any] = {
        "kind": wanted.kind,
        "tray": wanted.tray,
        "held": wanted.held,
        "not_held_by": wanted.not_held_by,
    }
    if wanted.essay is not None:
        asked["essay"] = session.scalar(select(Essay.submission_id).where(Essay.slug == wanted.essay))
    if wanted.voice is not None:
        asked["voice"] = session.scalar(select(Voice.id).where(Voice.slug == wanted.voice))
    if (wanted.essay and asked["essay"] is None) or (wanted.voice and asked["voice"] is None):
        return None
    if wanted.claimed_by is not None:
        asked["among"] = claims.claimed_by(wanted.claimed_by)
        if wanted.signal is not None:
            asked["among"] = asked["among"].where(Claim.submission_id.in_(signals.with_signal(wanted.signal)))
    elif wanted.signal is not None:
        asked["among"] = signals.with_signal(wanted.signal)
    return asked


def _found(session: Session, column: InstrumentedAttribute[int], ids: Iterable[int | None]) -> Sequence[Any]:
    """Return the rows of *column*'s table whose value in it is among *ids*."""
    return session.scalars(select(column.class_).where(column.in_({id_ for id_ in ids if id_ is not None}))).all()
