"""Readers' reports of released words: received, shown at the desk beside the words, closed, and told of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from bridge.essay import essays, thread
from bridge.essay.essays import Published
from bridge.records import Comment, Essay, Reply, Report, Voice
from bridge.site import Site
from bridge.text import words
from bridge.text.language import N_
from bridge.voice.voices import REHEARSAL_MARK
from moderation import ledger, reasons, takedowns
from moderation.base import now
from moderation.release import released
from moderation.types import Kind, ModeratorId, Proposal, Released, SubmissionId

REPORT_LINK = "report"
"""The purpose of the link on which a reporter sees what became of it."""
SAME_WITHIN = timedelta(hours=1)
"""How long the same report of the same words is one report: a form is easily sent twice."""
MOST_COUNTED = 100


class NoSuchReport(Exception):
    """Raised when no report has this id, or the link to it is not whole."""

    def __init__(self) -> None:
        super().__init__(N_("There is no report at this address."))


class ReportClosed(Exception):
    """Raised when somebody closed the report before."""

    def __init__(self) -> None:
        super().__init__("This report was closed already, by somebody else or with the words. Nothing was changed.")


class Outcome(StrEnum):
    """What can become of a report."""

    KEPT = "kept"
    TAKEN_DOWN = "taken_down"


@dataclass(frozen=True, slots=True)
class Reported:
    """Released words that a reader may report, and where they stand."""

    of: str
    """What names them in an address: the essay's slug, or the public id of a comment or reply."""
    words: Released
    essay: Published
    rehearsed: bool = False
    """Whether it is a reply that no model wrote."""


@dataclass(frozen=True, slots=True)
class Made:
    """One report as its reporter may see it: not the words it is about, which may be gone."""

    kind: Kind
    report: Report
    meaning: str


@dataclass(frozen=True, slots=True)
class Open:
    """One report as the desk shows it."""

    report: Report
    meaning: str
    words: Released | None
    """None if they were taken back or down in the meantime, before reports about them were closed with them."""
    essay: Essay
    voice: Voice
    essay_words: Released | None
    answers: Released | None
    """The comment that a reported reply answers, or the reply that a comment answers."""
    rehearsed: bool
    """Whether a reply in it was written by no model."""
    proposal: Proposal | None
    """That of taking the words down, while it is open."""


def about(session: Session, of: str) -> Reported:
    """Return the released words that *of* names: a comment's or reply's public id, or an essay's slug.

    Raises `thread.NotPublic`, `thread.TakenBack` or `essays.EssayGone`.
    """
    if session.scalar(select(Reply.id).where(Reply.public_id == of)) is not None:
        reply, _, under = thread.posted_reply(session, of)
        return Reported(of, reply.words, under, reply.rehearsed)
    if session.scalar(select(Comment.id).where(Comment.public_id == of)) is not None:
        comment, under = thread.posted_comment(session, of)
        if comment.words is None:
            raise thread.NotPublic
        return Reported(of, comment.words, under)
    try:
        found = essays.published(session, of)
    except essays.EssayGone:
        raise
    except essays.NoSuchEssay:
        # Told in the same words as for what waits or was not posted.
        raise thread.NotPublic from None
    return Reported(of, found.words, found)


def receive_report(site: Site, of: str, code: str, written: str | None) -> str:
    """Keep a report of released words, and return the signed part of the address that tells what becomes of it.

    The same report of the same words within the hour, still open, is the same report. Raises what `about` raises,
    `UnknownReasonCode`, or `words.WordsRefused` for what was written.
    """
    said = words.note(written) if written and written.strip() else None
    with site.database.sessions.begin() as session:
        # What is taken back or down meanwhile is so before or after this: a report of it is closed with it.
        ledger.take_head(session)
        reported = about(session, of)
        reasons.known(reported.words.kind, code)
        # So that the second click of a double one finds the first one's report.
        session.scalar(select(Essay.id).where(Essay.id == reported.essay.essay.id).with_for_update())
        report = session.scalar(
            select(Report).where(
                Report.submission_id == reported.words.id,
                Report.code == code,
                Report.words.is_(None) if said is None else Report.words == said,
                Report.closed_at.is_(None),
                Report.reported_at > now() - SAME_WITHIN,
            )
        )
        if report is None:
            report = Report(submission_id=reported.words.id, code=code, words=said, reported_at=now())
            session.add(report)
            session.flush()
        return site.keys.signed(REPORT_LINK, str(report.id))


def made(site: Site, token: str) -> Made:
    """Return the report that a reporter's link opens. Raises `NoSuchReport`."""
    number = site.keys.opened(REPORT_LINK, token)
    if number is None:
        raise NoSuchReport
    with site.database.reading_sessions() as session:
        report = session.get(Report, int(number))
        if report is None:
            raise NoSuchReport
        kind = _kind_of(session, report.submission_id)
    return Made(kind, report, reasons.codes_for(kind).get(report.code, report.code))


def open_reports(session: Session, *, after: int = 0, limit: int = 50) -> list[Open]:
    """Return up to *limit* open reports with an id above *after*, oldest first, each beside the words it is about."""
    rows = session.scalars(
        select(Report).where(Report.closed_at.is_(None), Report.id > after).order_by(Report.id).limit(limit)
    ).all()
    return _beside_their_words(session, rows)


def reports_about(session: Session, submission_id: int) -> list[Report]:
    """Return all reports of a submission, oldest first."""
    return list(session.scalars(select(Report).where(Report.submission_id == submission_id).order_by(Report.id)))


def number_open(session: Session) -> int:
    """Return how many reports are open, at most `MOST_COUNTED`."""
    some = select(Report.id).where(Report.closed_at.is_(None)).limit(MOST_COUNTED)
    return session.scalar(select(func.count()).select_from(some.subquery())) or 0


def keep_words(site: Site, report_id: int, *, moderator: ModeratorId, told: str) -> None:
    """Close a report whose words stay posted, with what its reporter is told.

    Raises `NoSuchReport`, `ReportClosed`, or `words.WordsRefused` for what they are told.
    """
    told = words.note(told)
    with site.database.sessions.begin() as session:
        report = session.get(Report, report_id, with_for_update=True)
        if report is None:
            raise NoSuchReport
        if report.closed_at is not None:
            raise ReportClosed
        kept = report.submission_id in released(session, [report.submission_id])
        report.outcome, report.told = (Outcome.KEPT if kept else Outcome.TAKEN_DOWN).value, told
        report.moderator_id, report.closed_at = moderator, now()


def close_about(session: Session, submission_id: int, *, moderator: ModeratorId | None = None) -> None:
    """Close the open reports of words that are no longer posted, taken down by *moderator* or back by their author."""
    session.execute(
        update(Report)
        .where(Report.submission_id == submission_id, Report.closed_at.is_(None))
        .values(outcome=Outcome.TAKEN_DOWN.value, moderator_id=moderator, closed_at=now())
    )


def forget(session: Session, submission_ids: Sequence[SubmissionId]) -> None:
    """Take the words out of all reports of erased words: they are likely to quote them."""
    session.execute(update(Report).where(Report.submission_id.in_(submission_ids)).values(words=None, told=None))


def _beside_their_words(session: Session, rows: Sequence[Report]) -> list[Open]:
    ids = [row.submission_id for row in rows]
    replies = {
        reply.submission_id: (reply, comment)
        for reply, comment in session.execute(
            select(Reply, Comment).join(Comment, Comment.id == Reply.comment_id).where(Reply.submission_id.in_(ids))
        )
    }
    comments = {
        comment.submission_id: (comment, above)
        for comment, above in session.execute(
            select(Comment, Reply.submission_id)
            .outerjoin(Reply, Reply.id == Comment.parent_id)
            .where(Comment.submission_id.in_(ids))
        )
    }
    of_essays = {e.submission_id: e for e in session.scalars(select(Essay).where(Essay.submission_id.in_(ids)))}
    essay_ids = {comment.essay_id for _, comment in replies.values()} | {c.essay_id for c, _ in comments.values()}
    under = {essay.id: essay for essay in session.scalars(select(Essay).where(Essay.id.in_(essay_ids)))}
    above = {
        **{submission: comment.submission_id for submission, (_, comment) in replies.items()},
        **{submission: answered for submission, (_, answered) in comments.items() if answered is not None},
    }
    all_essays = [*of_essays.values(), *under.values()]
    voices = {v.id: v for v in session.scalars(select(Voice).where(Voice.id.in_({e.voice_id for e in all_essays})))}
    out = released(session, [*ids, *above.values(), *(essay.submission_id for essay in all_essays)])
    proposals = takedowns.open_takedowns(session, ids)
    found = []
    for row in rows:
        if row.submission_id in replies:
            essay = under[replies[row.submission_id][1].essay_id]
        elif row.submission_id in comments:
            essay = under[comments[row.submission_id][0].essay_id]
        else:
            essay = of_essays[row.submission_id]
        kind = Kind.COMMENT if row.submission_id in comments else Kind.REPLY
        in_sight = [out.get(row.submission_id), out.get(above.get(row.submission_id, 0))]
        found.append(
            Open(
                report=row,
                meaning=reasons.codes_for(kind).get(row.code, row.code),
                words=in_sight[0],
                essay=essay,
                voice=voices[essay.voice_id],
                essay_words=out.get(essay.submission_id),
                answers=in_sight[1],
                rehearsed=any(each is not None and is_rehearsed(each) for each in in_sight),
                proposal=proposals.get(row.submission_id),
            )
        )
    return found


def is_rehearsed(words: Released) -> bool:
    """Whether these are the words of a reply that no model wrote: its author's name says so, under the digest."""
    return words.kind is Kind.REPLY and words.author.endswith(REHEARSAL_MARK)


def _kind_of(session: Session, submission_id: int) -> Kind:
    for kind, table in ((Kind.COMMENT, Comment), (Kind.REPLY, Reply)):
        if session.scalar(select(table.id).where(table.submission_id == submission_id)) is not None:
            return kind
    return Kind.ESSAY
