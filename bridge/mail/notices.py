"""Notices: what readers who asked for it are told by mail of their letters.

Each is put down in the transaction of what it tells, so it is true and told once; it is sent later (`mail.outbox`).
Nothing but the question goes to an address that is not confirmed, and nothing to one whose owner wants no more.
A reader is never told of what they did themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from markupsafe import Markup
from sqlalchemy import select
from sqlalchemy.orm import Session

from bridge.essay import essays, intake
from bridge.essay.essays import Published
from bridge.keys import AUTHOR_LINK
from bridge.mail import links, outbox
from bridge.page import paths
from bridge.page.metadata import AI_SOURCE
from bridge.page.templating import standing_alone
from bridge.records import Address, Comment, Essay, Generation, Reply, ReplyRequest, RequestState, Voice
from bridge.site import Site
from bridge.text import language
from bridge.text.language import gettext
from moderation import appeals, reasons
from moderation.release import released, standing
from moderation.types import Kind, Released, State

log = logging.getLogger(__name__)

CATCH_UP = "confirmed"
"""What the mail after a confirmation is about."""
CAUGHT_UP = 20
"""The most letters, the newest, of which the mail after a confirmation tells."""


class Event(StrEnum):
    """What a reader is told of."""

    POSTED = "posted"
    NOT_POSTED = "not_posted"
    TAKEN_DOWN = "taken_down"
    ANSWERED = "answered"
    DECLINED = "declined"
    NOT_CHOSEN = "not_chosen"
    WITHHELD = "withheld"
    VETOED = "vetoed"


_OF_REQUESTS = {
    RequestState.DECLINED.value: Event.DECLINED,
    RequestState.NOT_CHOSEN.value: Event.NOT_CHOSEN,
    RequestState.WITHHELD.value: Event.WITHHELD,
}


WITH_THE_ESSAY = (Event.POSTED, Event.ANSWERED)
"""What holds only as long as the essay is posted too."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A posted answer as a mail quotes it."""

    words: Released
    html: Markup
    rehearsed: bool
    disclaimer: str
    page: str
    """The address of its own page."""


@dataclass(frozen=True, slots=True)
class Tiding:
    """One thing that happened to a letter, with what is told of it."""

    event: Event
    voice: str
    title: str | None
    """The essay's; None if it is no longer posted."""
    letter: str
    """The address of the author's page."""
    page: str | None = None
    """The address of the letter's own page, while it is posted."""
    meaning: str | None = None
    """That of the published reason."""
    told: str | None = None
    """What a moderator wrote to the author."""
    may_appeal: bool = False
    was_appeal: bool = False
    by_law: bool = False
    answer: Answer | None = None


def ask(session: Session, site: Site, comment: Comment, address: Address) -> bool:
    """Put down the question whether an address is its letter's author's; return whether one can go there.

    The letter's words and the name under it are not in it: somebody else may have written them.
    """
    essay = _essay(session, comment)
    with language.speaking(comment.language or address.language, site.settings.spoken):
        title = essay.title if essay else None
        confirm = links.to_confirm(session, site.keys, address.id)
        stop = links.to_stop(session, site.keys, address.id)
        told = {
            "subject": gettext("Is this you?"),
            "title": title,
            "confirm": _whole(site, paths.confirm_mail(confirm)),
            "stop": _whole(site, paths.stop_mail(stop)),
            "days": links.CONFIRM_LIFE.days,
        }
        return _put(
            session,
            site,
            address,
            once=f"ask:{address.id}:{comment.id}",
            template="confirm",
            told=told,
            headers=_headers(site, stop, comment),
            comment_id=comment.id,
        )


def decided(session: Session, site: Site, submission_id: int) -> bool:
    """Put down what a decision that was just made means to a letter's author; return whether there is mail to send."""
    how = standing(session, [submission_id])[submission_id]
    if how.kind is Kind.COMMENT:
        comment = session.scalar(select(Comment).where(Comment.submission_id == submission_id))
        if comment is None:
            return False
        if how.state is State.APPROVED:
            return _tell(session, site, comment, Event.POSTED, comment.id)
        return how.state is State.REJECTED and _tell(session, site, comment, Event.NOT_POSTED, submission_id)
    if how.kind is Kind.REPLY:
        found = session.execute(
            select(Comment, Reply.id)
            .join(Reply, Reply.comment_id == Comment.id)
            .where(Reply.submission_id == submission_id)
        ).first()
        if found is None:
            return False
        if how.state is State.APPROVED:
            return _tell(session, site, found[0], Event.ANSWERED, found[1])
        return how.state is State.REJECTED and _tell(session, site, found[0], Event.VETOED, found[1])
    return False


def unanswered(session: Session, site: Site, request: ReplyRequest) -> bool:
    """Put down that a voice declined or chose other letters, or that its API's filter withheld an answer."""
    event = _OF_REQUESTS.get(request.state)
    if event is None:
        return False
    return _tell(session, site, session.get_one(Comment, request.comment_id), event, request.comment_id)


def taken_down(session: Session, site: Site, submission_id: int) -> bool:
    """Put down that a letter was just taken down; take back what was to tell of it, of an answer, or of an essay's."""
    comment = session.scalar(select(Comment).where(Comment.submission_id == submission_id))
    if comment is not None:
        outbox.forget_about(session, [comment.id], (Event.POSTED, CATCH_UP))
        return _tell(session, site, comment, Event.TAKEN_DOWN, submission_id)
    answered = select(Reply.comment_id).where(Reply.submission_id == submission_id)
    outbox.forget_about(session, session.scalars(answered).all(), (Event.ANSWERED, CATCH_UP))
    under = select(Comment.id).join(Essay, Essay.id == Comment.essay_id).where(Essay.submission_id == submission_id)
    outbox.forget_about(session, session.scalars(under).all(), (*WITH_THE_ESSAY, CATCH_UP))
    return False


def catch_up(session: Session, site: Site, address: Address) -> bool:
    """Put down, in one mail, what happened to the letters of an address that was just confirmed for the first time."""
    comments = session.scalars(
        select(Comment).where(Comment.address_id == address.id).order_by(Comment.id.desc()).limit(CAUGHT_UP)
    ).all()
    each = [(comment, _happened(session, comment)) for comment in reversed(comments)]
    events = [(comment, event) for comment, event in each if event is not None and _holds(session, comment, event)]
    if not events:
        return False
    # By one letter alone the mail is found with it; one that tells of several is found by its address.
    only = events[0][0] if len(events) == 1 else None
    return _tell_of(session, site, address, events, once=f"{CATCH_UP}:{address.id}:{address.confirmed_at}", only=only)


def ending(site: Site, stop: str) -> dict[str, str]:
    """Return the headers by which a mail program ends all mail to an address, given the token that does (RFC 8058)."""
    return {
        "List-Unsubscribe": f"<{site.settings.address}/mail/stop/{stop}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }


def _happened(session: Session, comment: Comment) -> Event | None:
    """Return the last thing of which its author would have been told; None if nothing happened to a letter yet."""
    how = standing(session, [comment.submission_id])[comment.submission_id]
    if how.state is State.REJECTED:
        return Event.NOT_POSTED
    if how.state is State.WITHDRAWN and how.withdrawn_by != "author":
        return Event.TAKEN_DOWN
    if how.state is not State.APPROVED:
        return None
    reply = session.scalar(select(Reply.submission_id).where(Reply.comment_id == comment.id))
    if reply is not None:
        became = standing(session, [reply])[reply].state
        return {State.APPROVED: Event.ANSWERED, State.REJECTED: Event.VETOED}.get(became, Event.POSTED)
    request = session.get(ReplyRequest, comment.id)
    return _OF_REQUESTS.get(request.state, Event.POSTED) if request is not None else Event.POSTED


def _holds(session: Session, comment: Comment, event: Event) -> bool:
    """Whether what happened is still so for readers: nothing is posted under an essay that was taken down."""
    return event not in WITH_THE_ESSAY or _essay(session, comment) is not None


def _tell(session: Session, site: Site, comment: Comment, event: Event, number: int) -> bool:
    address = _to_tell(session, comment)
    if address is None or not _holds(session, comment, event):
        return False
    return _tell_of(session, site, address, [(comment, event)], once=f"{event}:{number}", only=comment)


def _to_tell(session: Session, comment: Comment) -> Address | None:
    """Return the address at which a letter's author wants to be told of it, if they said so.

    Shared with other tidings, and with nobody who confirms it meanwhile: they wait, and then find what happened here.
    """
    if comment.address_id is None:
        return None
    address = session.get(Address, comment.address_id, with_for_update={"read": True}, populate_existing=True)
    if address is None or address.confirmed_at is None or address.stopped_at is not None or address.sealed is None:
        return None
    return address


def _tell_of(
    session: Session,
    site: Site,
    address: Address,
    events: Sequence[tuple[Comment, Event]],
    *,
    once: str,
    only: Comment | None,
) -> bool:
    spoken_by = events[-1][0].language or address.language
    with language.speaking(spoken_by, site.settings.spoken):
        tidings = [_tiding(session, site, comment, event) for comment, event in events]
        stop = links.to_stop(session, site.keys, address.id)
        subject = _subject(tidings)
        quoted = [tiding.answer for tiding in tidings if tiding.answer is not None]
        headers = _headers(site, stop, only)
        if any(not answer.rehearsed for answer in quoted):
            headers["X-Digital-Source-Type"] = AI_SOURCE
        told = {"subject": subject, "tidings": tidings, "stop": _whole(site, paths.stop_mail(stop))}
        comment_id = only.id if only is not None else None
        return _put(
            session, site, address, once=once, template="notice", told=told, headers=headers, comment_id=comment_id
        )


def _tiding(session: Session, site: Site, comment: Comment, event: Event) -> Tiding:
    how = standing(session, [comment.submission_id])[comment.submission_id]
    essay = _essay(session, comment)
    voice = session.scalars(
        select(Voice).join(Essay, Essay.voice_id == Voice.id).where(Essay.id == comment.essay_id)
    ).one()
    code = {Event.NOT_POSTED: how.reason_code, Event.TAKEN_DOWN: how.withdrawal_code}.get(event)
    return Tiding(
        event=event,
        voice=voice.name,
        title=essay.title if essay else None,
        letter=_whole(site, paths.letter(site.keys.signed(AUTHOR_LINK, comment.public_id))),
        page=_whole(site, paths.comment(comment.public_id)) if how.state is State.APPROVED and essay else None,
        meaning=gettext(reasons.COMMENT_CODES.get(code, code)) if code else None,
        told=how.told if event is Event.NOT_POSTED else None,
        may_appeal=event is Event.NOT_POSTED and appeals.may_appeal(session, comment.submission_id),
        was_appeal=appeals.made(session, comment.submission_id) is not None,
        by_law=how.withdrawn_by == "law",
        answer=_answer(session, site, comment, voice) if event is Event.ANSWERED else None,
    )


def _answer(session: Session, site: Site, comment: Comment, voice: Voice) -> Answer:
    """Return the posted answer to a letter. It is posted: none other reaches a mail."""
    reply, rehearsed = session.execute(
        select(Reply, Generation.rehearsed)
        .join(Generation, Generation.id == Reply.generation_id)
        .where(Reply.comment_id == comment.id)
    ).one()
    words = released(session, [reply.submission_id])[reply.submission_id]
    return Answer(
        words=words,
        html=intake.html_of(session, [words])[words.digest],
        rehearsed=rehearsed,
        disclaimer=voice.disclaimer,
        page=_whole(site, paths.reply(reply.public_id)),
    )


def _subject(tidings: Sequence[Tiding]) -> str:
    """Return what a mail is about; without names and titles where these are nothing that a subject may hold."""
    if len(tidings) > 1:
        return gettext("What happened to your letters")
    (tiding,) = tidings
    answered_by = tiding.answer.words.author if tiding.answer is not None else tiding.voice
    named, plain = {
        Event.POSTED: (gettext("Your letter about “%(title)s” is posted"), gettext("Your letter is posted")),
        Event.NOT_POSTED: (
            gettext("Your letter about “%(title)s” was not posted"),
            gettext("Your letter was not posted"),
        ),
        Event.TAKEN_DOWN: (
            gettext("Your letter about “%(title)s” was taken down"),
            gettext("Your letter was taken down"),
        ),
        Event.ANSWERED: (gettext("%(name)s answered your letter"), gettext("Your letter was answered")),
        Event.DECLINED: (
            gettext("%(name)s chose not to answer your letter"),
            gettext("Your letter will not be answered"),
        ),
        Event.NOT_CHOSEN: (
            gettext("%(name)s chose other letters this time"),
            gettext("Your letter will not be answered"),
        ),
        Event.WITHHELD: (gettext("No answer came to your letter"), gettext("No answer came to your letter")),
        Event.VETOED: (
            gettext("The answer to your letter was not posted"),
            gettext("The answer to your letter was not posted"),
        ),
    }[tiding.event]
    subject = named % {"title": tiding.title or "", "name": answered_by}
    needs_title = "%(title)s" in named
    return subject if outbox.fits_a_subject(subject) and (tiding.title or not needs_title) else plain


def _put(
    session: Session,
    site: Site,
    address: Address,
    *,
    once: str,
    template: str,
    told: Mapping[str, object],
    headers: Mapping[str, str],
    comment_id: int | None,
) -> bool:
    """Render a mail in both its parts and put it down; return False if none can go to this address."""
    to = site.keys.decrypted(address.sealed) if address.sealed is not None else None
    if to is None:
        log.warning("address %s cannot be opened: the site's secret key is another one", address.id)
        return False
    mails = standing_alone()
    try:
        outbox.put_mail(
            session,
            site.keys,
            once=once,
            to=to,
            subject=str(told["subject"]),
            text=mails.get_template(f"mail/{template}.txt").render(**told),
            html=mails.get_template(f"mail/{template}.html").render(**told),
            headers=headers,
            comment_id=comment_id,
            address_id=address.id,
        )
    except outbox.MailRefused:
        # What is told must hold, whatever is wrong with somebody's address.
        log.warning("address %s was not written to: no mail can go there", address.id)
        return False
    return True


def _headers(site: Site, stop: str, comment: Comment | None) -> dict[str, str]:
    """Return the headers by which a mail program ends the mail and keeps a letter's mails together."""
    headers = ending(site, stop)
    if comment is not None:
        host = urlsplit(site.settings.address).hostname or "localhost"
        about = f"<letter-{site.keys.keyed_digest('mails of a letter', comment.public_id)[:32]}@{host}>"
        headers |= {"In-Reply-To": about, "References": about}
    return headers


def _essay(session: Session, comment: Comment) -> Published | None:
    try:
        return essays.published(session, session.get_one(Essay, comment.essay_id).slug)
    except essays.NoSuchEssay:
        return None


def _whole(site: Site, path: str) -> str:
    return f"{site.settings.address}{path}"
