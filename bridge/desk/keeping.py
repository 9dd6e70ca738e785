"""What an admin does about a voice, each one call told in order, and what the desk shows of one."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import and_, case, func, select
from sqlalchemy.orm import Session

from bridge.answer import replies
from bridge.records import Charter, Comment, Essay, Generation, Reply, ReplyRequest, RequestState, Voice
from bridge.site import Site
from bridge.text import markup
from bridge.voice import budgets, prices, voices, ways
from bridge.voice.budgets import Bounds, Spent
from bridge.voice.prices import Price
from bridge.voice.voices import VoiceRefused, Ways
from moderation import moderators
from moderation.release import released
from moderation.types import Moderator, Released

LISTED = (RequestState.WAITING, RequestState.FAILED, RequestState.DECLINED, RequestState.WITHHELD)
"""The requests that the desk lists; of the others it tells how many there are."""
AT_ONCE = 50
VERSIONS_AT_ONCE = 20
WHY_LENGTH = 500


class WhyTooLong(VoiceRefused):
    """Raised for more words about a pause than anyone will read."""

    def __init__(self) -> None:
        super().__init__(f"Please say why in at most {WHY_LENGTH} characters. Nothing was changed.")


@dataclass(frozen=True, slots=True)
class Kept:
    """A voice as the desk shows it."""

    voice: Voice
    answers: bool
    """Whether it may be asked now; it may have a pause that has run out."""
    paused_until: datetime | None
    counts: dict[RequestState, int]
    bounds: Bounds
    spent: Spent
    ways: Ways
    price: Price | None
    """What a call costs now; None where nobody knows: with a bound in dollars none is made then."""
    unpriced: int
    """Calls this month whose cost nobody knew."""
    rehearsed: int
    """Of what counts this month, the part that the rehearsal was asked for: reckoned, and owed to nobody."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a reply, with the comment that it is about."""

    request: ReplyRequest
    submission_id: int
    comment: Released | None
    """None if it is no longer posted."""
    may_be_asked_again: bool


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a charter, and how it differs from the one before it."""

    charter: Charter
    number: int
    by: Moderator | None
    """None: the operator, at the command line."""
    changes: Sequence[tuple[str, str]]
    """Lines in order, each `("same" | "gone" | "new", line)`; empty for the first version."""


def everyone(session: Session) -> list[Kept]:
    """Return all voices, in the order they were added."""
    return [_kept(session, voice) for voice in voices.everyone(session)]


def one(session: Session, slug: str) -> Kept:
    """Return the voice with this address. Raises `voices.NoSuchVoice`."""
    return _kept(session, voices.at(session, slug))


def asked(session: Session, voice: Voice, state: RequestState, *, after: int = 0, limit: int = AT_ONCE) -> list[Asked]:
    """Return up to *limit* of a voice's requests in one state whose comment's id is above *after*, oldest first."""
    found = session.execute(
        select(ReplyRequest, Comment.submission_id, Reply.id)
        .join(Comment, Comment.id == ReplyRequest.comment_id)
        .outerjoin(Reply, Reply.comment_id == ReplyRequest.comment_id)
        .where(
            ReplyRequest.state == state.value,
            ReplyRequest.essay_id.in_(select(Essay.id).where(Essay.voice_id == voice.id)),
            ReplyRequest.comment_id > after,
        )
        .order_by(ReplyRequest.comment_id)
        .limit(limit)
    ).all()
    out = released(session, [submission_id for _, submission_id, _ in found])
    return [
        Asked(
            request,
            submission_id,
            out.get(submission_id),
            state is RequestState.FAILED and reply_id is None and submission_id in out,
        )
        for request, submission_id, reply_id in found
    ]


def history(session: Session, voice: Voice) -> list[Version]:
    """Return every version of a voice's charter, the newest first."""
    kept = voices.charters(session, voice)
    who = moderators.named(session, {each.moderator_id for each in kept if each.moderator_id is not None})
    before: list[Charter | None] = [*kept[1:], None]
    return [
        Version(
            charter=each,
            number=len(kept) - place,
            by=who.get(each.moderator_id) if each.moderator_id is not None else None,
            changes=_changes(earlier.charter, each.charter) if earlier is not None else (),
        )
        for place, (each, earlier) in enumerate(zip(kept, before, strict=True))
    ]


def pause(site: Site, slug: str, *, moderator: Moderator, why: str) -> None:
    """Ask a voice nothing more until a person resumes it; calls that are open are let end. Raises `VoiceRefused`."""
    said = unicodedata.normalize("NFC", markup.without_unseen(why)).strip()
    if len(said) > WHY_LENGTH:
        raise WhyTooLong
    with site.database.sessions.begin() as session:
        voice = voices.held(session, voices.at(session, slug).id)
        voices.pause(session, voice, f"{moderator.name}: {said}" if said else f"{moderator.name} paused it.")


def resume(site: Site, slug: str) -> None:
    """Ask a voice again. Raises `VoiceRefused`."""
    with site.database.sessions.begin() as session:
        voice = voices.held(session, voices.at(session, slug).id)
        voices.resume(session, voice)
        waiting = replies.essays_waiting(session, voice_id=voice.id)
    # Committed: a worker may look for the voice before this line returns.
    _nudge(site, waiting)


def set_bounds(site: Site, slug: str, bounds: Bounds) -> None:
    """Give a voice its budgets; what the earlier ones put off is asked now. Raises `VoiceRefused`."""
    with site.database.sessions.begin() as session:
        voice = voices.held(session, voices.at(session, slug).id)
        waiting = budgets.set_bounds(session, voice, bounds)
    _nudge(site, waiting)


def set_bounds_written(site: Site, slug: str, written: Mapping[str, str]) -> None:
    """Give a voice the budgets that a person wrote. Raises `VoiceRefused`."""
    set_bounds(site, slug, budgets.read_bounds(written))


def set_ways(site: Site, slug: str, written: Mapping[str, str]) -> None:
    """Have a voice asked in the ways that a person wrote, from its next sitting on; the others stay.

    Raises `VoiceRefused`, and `voices.WayRefused` for what cannot be read or kept.
    """
    with site.database.sessions.begin() as session:
        voice = voices.held(session, voices.at(session, slug).id)
        voices.set_ways(session, voice, ways.read(written, voices.ways_of(voice)))
        # It may cost less now than what a budget had no room for.
        waiting = budgets.put_off_no_longer(session, voice)
    _nudge(site, waiting)


def set_ways_at_the_desk(site: Site, slug: str, written: Mapping[str, str]) -> None:
    """Have a voice asked in the ways that an admin wrote; what only the operator says is not looked at."""
    set_ways(site, slug, {name: written[name] for name in ways.AT_THE_DESK if name in written})


def change_charter(site: Site, slug: str, written: str, *, moderator: Moderator, seen: int) -> None:
    """Give a voice a new charter, from its next sitting on. Raises `VoiceRefused`."""
    with site.database.sessions.begin() as session:
        voice = voices.held(session, voices.at(session, slug).id)
        voices.change_charter(session, voice, written, moderator=moderator.id, seen=seen)


def ask_again(site: Site, slug: str, comment_id: int) -> None:
    """Ask once more for a reply that failed. Raises `VoiceRefused`, and `replies.NotToBeAskedAgain`."""
    with site.database.sessions.begin() as session:
        voice = voices.at(session, slug)
        comment = session.get(Comment, comment_id)
        if comment is None or session.get_one(Essay, comment.essay_id).voice_id != voice.id:
            raise replies.NotToBeAskedAgain
        essay_id = replies.ask_again(session, comment_id)
    _nudge(site, [essay_id])


def _nudge(site: Site, essay_ids: Sequence[int]) -> None:
    for essay_id in essay_ids:
        site.nudges.nudge(essay_id)


def _kept(session: Session, voice: Voice) -> Kept:
    states = session.execute(
        select(ReplyRequest.state, func.count())
        .join(Essay, Essay.id == ReplyRequest.essay_id)
        .where(Essay.voice_id == voice.id)
        .group_by(ReplyRequest.state)
    ).all()
    at = budgets.clock(session)
    unpriced = and_(Generation.cost.is_(None), Generation.reserved.is_(None))
    counted = func.coalesce(Generation.cost, Generation.reserved, 0)
    calls = session.execute(
        select(
            func.sum(case((unpriced, 1), else_=0)),
            func.sum(case((Generation.rehearsed, counted), else_=0)),
        ).where(Generation.voice_id == voice.id, Generation.started_at >= budgets.periods(at).month)
    ).one()
    return Kept(
        voice=voice,
        answers=voices.may_be_asked(session, voice),
        paused_until=datetime.fromtimestamp(voice.paused_until, UTC) if voice.paused_until is not None else None,
        counts=dict.fromkeys(RequestState, 0) | {RequestState(state): count for state, count in states},
        bounds=budgets.bounds_of(voice),
        spent=budgets.counted(session, voice.id, at=at),
        ways=voices.ways_of(voice),
        price=prices.of(voice, at),
        unpriced=int(calls[0] or 0),
        rehearsed=int(calls[1] or 0),
    )


def _changes(before: str, after: str) -> list[tuple[str, str]]:
    """Return how *after* came from *before*, line by line."""
    old, new = before.split("\n"), after.split("\n")
    found: list[tuple[str, str]] = []
    for what, old_from, old_to, new_from, new_to in difflib.SequenceMatcher(None, old, new).get_opcodes():
        if what == "equal":
            found += [("same", line) for line in old[old_from:old_to]]
        else:
            found += [("gone", line) for line in old[old_from:old_to]]
            found += [("new", line) for line in new[new_from:new_to]]
    return found
