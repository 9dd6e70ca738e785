"""The desk as one moderator sees it: what waits, how many, and one submission with all that stands around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup
from sqlalchemy import select
from sqlalchemy.orm import Session

from bridge.desk import claims, reviews
from bridge.desk.claims import Claimed
from bridge.desk.reviews import Context, Wanted
from bridge.essay import intake
from bridge.letter import erasure
from bridge.records import Comment, Essay, Generation, Reply, Voice
from bridge.text import markup
from moderation import moderators, queue, rereading
from moderation.release import released, standing
from moderation.types import Digest, Kind, Moderator, ModeratorId, Pending, Released, State, Tray

IN_THE_LIST = 50
OF_AN_AUTHOR = 100
"""The most earlier letters of one author that are counted, the newest."""
ABOVE_AT_MOST = 100
"""The most words above a letter that are shown: a thread may be as deep as its writers like."""
SECOND_READINGS = 10
"""Where counting second readings ends."""


@dataclass(frozen=True, slots=True)
class Count:
    """How many there are; with `more`, at least that many."""

    number: int
    more: bool = False

    def __str__(self) -> str:
        """Return it as a page shows it: "12", or "1,000+"."""
        return f"{self.number:,}{'+' if self.more else ''}"


@dataclass(frozen=True, slots=True)
class Numbers:
    """How many wait, by what the desk lists."""

    kinds: dict[Kind, Count]
    total: Count
    likely_spam: Count
    held: Count
    claimed: Count
    oldest: datetime | None
    """When the one that waits longest arrived."""
    again: Count
    """What waits for a second reading by this moderator."""


@dataclass(frozen=True, slots=True)
class Above:
    """Words in the thread above a submission; None where some were that are no longer posted."""

    kind: Kind
    words: Released | None


@dataclass(frozen=True, slots=True)
class Past:
    """What became of an author's other letters, at most `OF_AN_AUTHOR`: their submissions, newest first."""

    released: list[int]
    rejected: list[int]
    withdrawn: list[int]
    waiting: list[int]


@dataclass(frozen=True, slots=True)
class Opened:
    """One submission on the desk, with what a verdict on it needs."""

    context: Context
    above: list[Above]
    past: Past | None
    html: dict[Digest, Markup]
    """Of the essay and of what stands above."""
    own_html: Markup
    """Of the words themselves, with where their links lead."""
    misleading: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Desk:
    """A page of the desk."""

    listed: list[Context]
    more: int | None
    """After which submission the list goes on; None if that was all."""
    opened: Opened | None
    next: int | None
    """What waits after the one that is opened, or first if that is the last; None if nothing else waits."""
    before: int | None
    """What stands before it in the list."""
    numbers: Numbers
    shown: Count
    """How many wait of what was asked for."""
    essays: list[Essay]
    voices: list[Voice]


@dataclass(frozen=True, slots=True)
class Reread:
    """Released words that await a second reading, with what they stand under. Who approved them is not told."""

    words: Released
    essay_words: Released | None
    above: list[Above]
    passage: str | None
    """The words of the essay that the letter is about; None: the whole."""
    voice: Voice
    rehearsed: bool
    since_erased: bool
    """Whether a letter or an answer that it was shown was erased since: it may repeat something of that."""
    html: dict[Digest, Markup]
    waiting: Count


@dataclass(frozen=True, slots=True)
class Waits:
    """How a submission that somebody has on their screen stands now."""

    state: State
    decided_by: Moderator | None
    proposal: int | None
    claim: Claimed | None


@dataclass(frozen=True, slots=True)
class Now:
    """What changes while somebody reads: no words, but who does what."""

    numbers: Numbers
    listed: list[Pending]
    claims: dict[int, Claimed]
    opened: Waits | None


def page(
    session: Session,
    moderator: ModeratorId,
    wanted: Wanted,
    *,
    open_: int | None = None,
    past: int | None = None,
    after: int = 0,
) -> Desk:
    """Return the desk with one submission opened.

    That is *open_* (nothing, if it awaits no verdict), else the first above *past*, else what waits longest. The list
    begins above *after*.
    """
    found = reviews.listed(session, wanted, after=after, limit=IN_THE_LIST + 1)
    in_list = found[:IN_THE_LIST]
    chosen: Pending | None = in_list[0] if in_list else None
    if open_ is not None:
        chosen = queue.pending(session, open_)
    elif past:
        later = reviews.listed(session, wanted, after=past, limit=1)
        chosen = later[0] if later else chosen
    following = reviews.listed(session, wanted, after=chosen.id, limit=1) if chosen else []
    if chosen and not following:
        following = [each for each in reviews.listed(session, wanted, limit=1) if each.id != chosen.id]
    ids = [each.id for each in in_list]
    place = ids.index(chosen.id) if chosen and chosen.id in ids else 0
    essays, voices = _to_choose_from(session, wanted)
    return Desk(
        listed=reviews.in_context(session, in_list, with_words=False),
        more=in_list[-1].id if len(found) > IN_THE_LIST else None,
        opened=_opened(session, chosen) if chosen else None,
        next=following[0].id if following else None,
        before=ids[place - 1] if place else None,
        numbers=numbers(session, moderator),
        shown=_count(reviews.number(session, wanted)),
        essays=essays,
        voices=voices,
    )


def numbers(session: Session, moderator: ModeratorId) -> Numbers:
    """Return how many wait, as *moderator* sees the desk: what they hold waits for somebody else."""
    kinds = {kind: _count(queue.number(session, kind=kind, not_held_by=moderator)) for kind in Kind}
    again = len(rereading.awaiting(session, moderator, limit=SECOND_READINGS))
    return Numbers(
        kinds=kinds,
        total=Count(sum(each.number for each in kinds.values()), any(each.more for each in kinds.values())),
        likely_spam=_count(queue.number(session, tray=Tray.LIKELY_SPAM, not_held_by=moderator)),
        held=_count(queue.number(session, held=True)),
        claimed=_count(queue.number(session, among=claims.claimed_by(moderator), not_held_by=moderator)),
        oldest=queue.oldest(session),
        again=Count(again, again >= SECOND_READINGS),
    )


def now(session: Session, moderator: ModeratorId, wanted: Wanted, *, after: int, open_: int) -> Now:
    """Return how the desk stands: its numbers, what the list that begins above *after* holds, and one submission."""
    in_list = reviews.listed(session, wanted, after=after, limit=IN_THE_LIST)
    return Now(
        numbers=numbers(session, moderator),
        listed=in_list,
        claims=claims.standing(session, [each.id for each in in_list]),
        opened=waits(session, open_) if open_ else None,
    )


def waits(session: Session, submission_id: int) -> Waits | None:
    """Return how a submission stands now, or None if there is none."""
    how = standing(session, [submission_id]).get(submission_id)
    if how is None:
        return None
    person = moderators.named(session, [how.decided_by]).get(how.decided_by) if how.decided_by else None
    found = queue.pending(session, submission_id)
    return Waits(
        state=how.state,
        decided_by=person,
        proposal=found.proposal.id if found and found.proposal else None,
        claim=claims.standing(session, [submission_id]).get(submission_id),
    )


def above(session: Session, comment: Comment, *, itself: bool) -> list[Above]:
    """Return what stands above a comment in its thread, from the essay down; with *itself* the comment is the last.

    Words that are no longer posted are None: nobody who reads the thread sees them either.
    """
    chain: list[tuple[Kind, int]] = [(Kind.COMMENT, comment.submission_id)] if itself else []
    while comment.parent_id is not None and len(chain) < ABOVE_AT_MOST:
        reply, comment = session.execute(
            select(Reply, Comment).join(Comment, Comment.id == Reply.comment_id).where(Reply.id == comment.parent_id)
        ).one()
        chain += [(Kind.REPLY, reply.submission_id), (Kind.COMMENT, comment.submission_id)]
    out = released(session, [submission for _, submission in chain])
    return [Above(kind, out.get(submission)) for kind, submission in reversed(chain)]


def past_of(session: Session, comment: Comment) -> Past:
    """Return what became of the other letters of a comment's author, who is known by their secret alone."""
    ids = session.scalars(
        select(Comment.submission_id)
        .where(Comment.author_digest == comment.author_digest, Comment.id != comment.id)
        .order_by(Comment.id.desc())
        .limit(OF_AN_AUTHOR)
    ).all()
    how = standing(session, ids)
    by_state: dict[State, list[int]] = {state: [each for each in ids if how[each].state is state] for state in State}
    return Past(
        released=by_state[State.APPROVED],
        rejected=by_state[State.REJECTED],
        withdrawn=by_state[State.WITHDRAWN],
        waiting=by_state[State.PENDING],
    )


def letters(session: Session, wanted: Wanted, *, after: int = 0, limit: int) -> tuple[list[Opened], int | None]:
    """Return up to *limit* submissions opened at once, and after which one there are more."""
    found = reviews.listed(session, wanted, after=after, limit=limit + 1)
    opened = [_opened(session, each) for each in found[:limit]]
    return opened, found[limit - 1].id if len(found) > limit else None


def to_reread(session: Session, moderator: ModeratorId) -> Reread | None:
    """Return what waits longest for a second reading by *moderator*, or None."""
    found = rereading.awaiting(session, moderator, limit=SECOND_READINGS)
    if not found:
        return None
    words = found[0]
    reply = session.scalar(select(Reply).where(Reply.submission_id == words.id))
    if reply is not None:
        comment = session.get(Comment, reply.comment_id)
    else:
        comment = session.scalar(select(Comment).where(Comment.submission_id == words.id))
    if comment is not None:
        essay = session.get_one(Essay, comment.essay_id)
        essay_words = released(session, [essay.submission_id]).get(essay.submission_id)
    else:
        essay = session.scalars(select(Essay).where(Essay.submission_id == words.id)).one()
        essay_words = None
    chain = above(session, comment, itself=reply is not None) if comment is not None else []
    return Reread(
        words=words,
        essay_words=essay_words,
        above=chain,
        passage=comment.passage if comment is not None else None,
        voice=session.get_one(Voice, essay.voice_id),
        rehearsed=reply is not None and session.get_one(Generation, reply.generation_id).rehearsed,
        since_erased=bool(erasure.shown_what_is_gone(session, [words.id])),
        html=_html(session, essay_words, chain) | {words.digest: intake.rendered(words, targets=True)},
        waiting=Count(len(found), len(found) >= SECOND_READINGS),
    )


def _opened(session: Session, pending: Pending) -> Opened:
    [context] = reviews.in_context(session, [pending])
    comment = context.comment
    chain = above(session, comment, itself=pending.kind is Kind.REPLY) if comment is not None else []
    return Opened(
        context=context,
        above=chain,
        past=past_of(session, comment) if comment is not None and pending.kind is Kind.COMMENT else None,
        html=_html(session, context.essay_words, chain),
        own_html=intake.rendered(pending, targets=True),
        misleading=markup.misleading_links(pending.body),
    )


def _html(session: Session, essay: Released | None, chain: Sequence[Above]) -> dict[Digest, Markup]:
    return intake.html_of(session, [words for words in (essay, *(each.words for each in chain)) if words is not None])


def _to_choose_from(session: Session, wanted: Wanted) -> tuple[list[Essay], list[Voice]]:
    """Return the essays and voices that a filter may name: the newest hundred essays, and every voice."""
    essays = list(session.scalars(select(Essay).order_by(Essay.id.desc()).limit(100)))
    if wanted.essay is not None and wanted.essay not in {essay.slug for essay in essays}:
        essays += session.scalars(select(Essay).where(Essay.slug == wanted.essay)).all()
    return essays, list(session.scalars(select(Voice).order_by(Voice.name)))


def _count(number: int) -> Count:
    return Count(number, number >= queue.MOST_COUNTED)
