"""The record as moderators read it: the past of one submission, what was decided lately, and the ledger in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from sqlalchemy import select
from sqlalchemy.orm import Session

from bridge.records import Comment, Essay, Reply, Report, Voice
from bridge.text import markup
from bridge.text.words import essay_text
from moderation import history, ledger, moderators
from moderation.history import Decided, Happened, Past, What
from moderation.ledger import Entry
from moderation.types import Kind, Moderator, ModeratorId

AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class History:
    """One submission with all that happened to it, at the gate and after."""

    past: Past
    happened: Sequence[Happened]
    """Oldest first."""
    html: Markup | None
    """None once the words are erased."""
    essay: Essay | None
    """What it stands under; None if the site knows it no more."""
    voice: Voice | None
    people: dict[int, Moderator]


@dataclass(frozen=True, slots=True)
class Told:
    """One entry of the ledger with the facts in it."""

    entry: Entry
    facts: dict[str, Any]
    """Empty if its bytes are no entry's."""


def one(session: Session, submission_id: int) -> History:
    """Return the history of a submission. Raises `NoSuchSubmission`."""
    past = history.past(session, submission_id)
    happened = sorted([*past.happened, *_reports(session, submission_id)], key=lambda each: each.at)
    essay = _essay(session, past)
    return History(
        past=past,
        happened=happened,
        html=_html(past),
        essay=essay,
        voice=session.get_one(Voice, essay.voice_id) if essay else None,
        people=moderators.named(session, {each.moderator for each in happened if each.moderator is not None}),
    )


def lately(session: Session, *, before: int | None) -> tuple[list[Decided], int | None, dict[int, Moderator]]:
    """Return the decisions before the ledger's entry of that number, newest first, where the next page begins, and who.

    There is a page more if the number for it is not None.
    """
    found = history.decided(session, before=before, limit=AT_ONCE + 1)
    page = found[:AT_ONCE]
    more = page[-1].entry if len(found) > AT_ONCE else None
    return page, more, moderators.named(session, {each.moderator for each in page})


def entries(session: Session, *, before: int | None) -> tuple[list[Told], int | None, dict[int, Moderator]]:
    """Return the ledger's entries with a number below *before*, as `lately` returns decisions."""
    found = ledger.newest(session, before=before, limit=AT_ONCE + 1)
    page = [Told(entry, entry.facts()) for entry in found[:AT_ONCE]]
    more = page[-1].entry.number if len(found) > AT_ONCE else None
    who = {told.facts.get(name) for told in page for name in ("moderator", "by")}
    return page, more, moderators.named(session, {each for each in who if isinstance(each, int)})


def _reports(session: Session, submission_id: int) -> list[Happened]:
    found = []
    for row in session.scalars(select(Report).where(Report.submission_id == submission_id).order_by(Report.id)):
        found.append(Happened(row.reported_at, What.REPORTED, code=row.code, said=row.words))
        if row.closed_at is not None:
            who = ModeratorId(row.moderator_id) if row.moderator_id is not None else None
            closed = Happened(row.closed_at, What.REPORT_CLOSED, who, told=row.told, outcome=row.outcome)
            found.append(closed)
    return found


def _html(past: Past) -> Markup | None:
    if past.body is None:
        return None
    body = essay_text(past.body) if past.kind is Kind.ESSAY else past.body
    return markup.render(body, past.kind.value, targets=True)


def _essay(session: Session, past: Past) -> Essay | None:
    # An earlier version points to a later one, and the last of them is what the site refers to.
    at: Past | None = past
    for _ in range(50):
        if at is None:
            return None
        under = select(Essay).where(Essay.submission_id == at.id)
        if at.kind is Kind.COMMENT:
            under = select(Essay).join(Comment, Comment.essay_id == Essay.id).where(Comment.submission_id == at.id)
        elif at.kind is Kind.REPLY:
            under = select(Essay).join(Comment, Comment.essay_id == Essay.id)
            under = under.join(Reply, Reply.comment_id == Comment.id).where(Reply.submission_id == at.id)
        found = session.scalar(under)
        if found is not None:
            return found
        later = [each.other for each in at.happened if each.what in {What.SUPERSEDED, What.APPEALED} and each.other]
        at = history.past(session, later[0]) if later else None
    return None
