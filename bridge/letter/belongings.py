"""Belongings: what is kept about an e-mail address and of the letters that came with it, for their owner alone.

They prove that the address is theirs by a link that is mailed to it. The link names the address by number, works for an
hour, and shows as often as it is opened; what it erases, it erases once (SECURITY, R3).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from email_validator import EmailNotValidError, validate_email
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from bridge.essay import essays
from bridge.keys import AUTHOR_LINK, Keys, fingerprint
from bridge.letter import erasure
from bridge.letter.erasure import Erased
from bridge.mail import correspondents, links, notices, outbox
from bridge.mail.correspondents import AddressStanding
from bridge.mail.links import NoSuchLink
from bridge.page import paths, printing
from bridge.page.templating import standing_alone
from bridge.records import (
    Address,
    Comment,
    Essay,
    Generation,
    Outgoing,
    Reply,
    ReplyRequest,
    Showing,
    Signal,
    Voice,
)
from bridge.site import Site
from bridge.text import language
from bridge.text.language import N_, gettext
from moderation import history
from moderation.base import now
from moderation.history import Happened, Past, What
from moderation.release import released, standing
from moderation.types import State

OPEN = "what is kept about an address"
"""The purpose of the link by which the owner of an address sees what is kept."""
LIFE = timedelta(hours=1)
FORMAT = "emeritus/belongings/1"
MOST_LINKS = 3
"""So many links are mailed to one address in a day, whoever asks for them."""
RARELY = timedelta(days=30)
"""How long no second link goes to an address whose owner wants no mail, or never said that they want any."""
NOT_HERE = (
    "Reports that readers wrote of these letters: they are theirs. What moderators noted for each other.",
    "An answer that is not posted: nobody but moderators reads it before that. That there is one is told.",
    "Why something was noticed about a letter, word for word: it would tell how to go unnoticed.",
    "The text of mail: it is deleted when it was sent.",
    "The network that a letter came from: only counters hold it, as a digest whose key is deleted after a week.",
    "Letters that were erased, or came without an address or with another: nothing here ties them to this one.",
    "Backups, and what the maker of a model keeps of a request: the site's page on privacy tells of both.",
)
"""What an export has not, in words."""

_TOLD = {
    What.SUBMITTED: "sent",
    What.SUPERSEDED: "changed",
    What.APPROVED: "approved",
    What.OVERRULED: "approved",
    What.TAKEN_BACK: "approved",
    What.REJECTED: "rejected",
    What.CONFIRMED: "rejected",
    What.APPEALED: "appealed",
    What.WITHDRAWN: "withdrawn",
    What.TAKEN_DOWN: "withdrawn",
    What.ERASED: "erased",
}
"""What is told of what happened to a letter; what moderators did among each other is not."""


class NoAddress(Exception):
    """Raised when what was typed cannot be an e-mail address."""

    def __init__(self) -> None:
        super().__init__(N_("This cannot be an e-mail address. Nothing was sent. Check it, and send it again."))


@dataclass(frozen=True, slots=True)
class KeptLetter:
    """One letter as its owner's list has it."""

    words: str | None
    name: str | None
    """None once they are erased."""
    title: str | None
    """The essay's; None if it is no longer posted."""
    state: State
    was_released: bool
    sent_at: datetime
    token: str
    """The signed part of the address of the author's page."""
    is_answered: bool
    """Whether an answer to it is posted."""


@dataclass(frozen=True, slots=True)
class Belongings:
    """What a mailed link opens."""

    standing: AddressStanding
    letters: Sequence[KeptLetter]
    """Newest first."""


@dataclass(frozen=True, slots=True)
class ToErase:
    """One letter that would go with an address, without its words."""

    public_id: str
    essay: str
    state: State
    sent_at: datetime
    has_answer: bool


def to_erase(site: Site, email: str) -> list[ToErase] | None:
    """Return the letters that would go with an address; None if nothing is kept. Raises `erasure.NotAnAddress`."""
    public_ids = erasure.letters_of(site, email)
    with site.database.reading_sessions() as session:
        kept = erasure.address_of(session, site.keys, email)
        comments = _comments(session, public_ids)
        # Of one who wants no mail the digest stays, and is no letter.
        if not comments and (kept is None or (kept.sealed is None and kept.stopped_at is not None)):
            return None
        how = standing(session, [comment.submission_id for comment in comments])
        return [
            ToErase(
                comment.public_id,
                session.get_one(Essay, comment.essay_id).slug,
                how[comment.submission_id].state,
                comment.created_at,
                session.scalar(select(Reply.id).where(Reply.comment_id == comment.id)) is not None,
            )
            for comment in comments
        ]


def send_link(site: Site, typed: str) -> None:
    """Mail the link to whoever owns an address, if anything is kept about it; say nothing either way.

    For an address that is not known the same is done, and taken back. Raises `NoAddress`.
    """
    try:
        given = validate_email(typed.strip(), check_deliverability=False).normalized
    except EmailNotValidError:
        raise NoAddress from None
    address_id, to = _known(site, given)
    with site.database.reading_sessions() as session:
        token = links.made(session, site.keys, OPEN, address_id or 0, life=LIFE)
        stop = links.to_stop(session, site.keys, address_id or 0)
    subject = gettext("Your letters")
    told = {
        "subject": subject,
        "link": f"{site.settings.address}{paths.your_letters(token)}",
        "stop": f"{site.settings.address}{paths.stop_mail(stop)}",
        "minutes": LIFE // timedelta(minutes=1),
    }
    mails = standing_alone()
    text, html = (mails.get_template(f"mail/your_letters.{kind}").render(**told) for kind in ("txt", "html"))
    with site.database.sessions.begin() as session:
        trial = session.begin_nested()
        may_go = address_id is not None and _may_be_sent(session, address_id)
        try:
            outbox.put_mail(
                session,
                site.keys,
                once=f"data:{address_id or 0}:{fingerprint(token)}",
                to=to,
                subject=subject,
                text=text,
                html=html,
                headers=notices.ending(site, stop),
                address_id=address_id,
            )
        except outbox.MailRefused:
            may_go = False  # An address to which no mail can go: nobody is to learn that from the answer.
        (trial.commit if may_go else trial.rollback)()
    site.nudges.nudge_outgoing()


def opened(site: Site, token: str) -> Belongings:
    """Return what a mailed link opens; nothing is changed. Raises `NoSuchLink`."""
    address, public_ids = _opened(site, token)
    with site.database.reading_sessions() as session:
        kept = session.get_one(Address, address)
        found = [_letter(session, site.keys, comment) for comment in _comments(session, public_ids)]
        return Belongings(correspondents.standing_of(kept), list(reversed(found)))


def export_opened(site: Site, token: str) -> dict[str, Any]:
    """Return all that is kept about the address that a mailed link is about, for JSON. Raises `NoSuchLink`."""
    address, public_ids = _opened(site, token)
    return _export(site, address, public_ids)


def erase_opened(site: Site, token: str) -> Erased:
    """Erase every letter of the address that a mailed link is about, and the address; the link ends.

    Halfway dead, the link still works and finds what is left. Raises `NoSuchLink`.
    """
    address, public_ids = _opened(site, token)
    erased = Erased(0, 0, 0)
    for public_id in public_ids:
        erased += erasure.erase_comment(site, public_id)
    with site.database.sessions.begin() as session:
        links.use(session, token)
        erasure.forget_address(session, address)
    return erased


def export(site: Site, email: str) -> dict[str, Any] | None:
    """Return all that is kept about an address, for JSON; None if nothing is. Raises `erasure.NotAnAddress`."""
    public_ids = erasure.letters_of(site, email)
    with site.database.reading_sessions() as session:
        kept = erasure.address_of(session, site.keys, email)
        address = kept.id if kept is not None else None
    if address is None and not public_ids:
        return None
    return _export(site, address, public_ids, email=email)


def _known(site: Site, given: str) -> tuple[int | None, str]:
    """Return the number of an address about which something is kept, None if nothing is, and how it is written to."""
    public_ids = erasure.letters_of(site, given)
    with site.database.reading_sessions() as session:
        kept = erasure.address_of(session, site.keys, given)
        if kept is not None and (public_ids or kept.sealed is not None):
            # As it came with the letter, whatever else is held to be the same.
            return kept.id, (site.keys.decrypted(kept.sealed) if kept.sealed is not None else None) or given
    if not public_ids:
        return None, given
    with site.database.sessions.begin() as session:
        # Letters from before addresses had records of their own.
        return correspondents.given(session, site.keys, given, language.tongue().code).id, given


def _may_be_sent(session: Session, address_id: int) -> bool:
    """Whether one more link may go to an address now; locked, so that two at once are counted."""
    kept = session.get(Address, address_id, with_for_update={"key_share": True}, populate_existing=True)
    if kept is None:
        return False
    wanted = correspondents.standing_of(kept) is AddressStanding.CONFIRMED
    sent = session.scalar(
        select(func.count()).where(
            Outgoing.address_id == address_id,
            Outgoing.once.startswith("data:", autoescape=True),
            Outgoing.created_at > now() - (timedelta(days=1) if wanted else RARELY),
        )
    )
    return (sent or 0) < (MOST_LINKS if wanted else 1)


def _opened(site: Site, token: str) -> tuple[int, list[str]]:
    """Return the number of the address that a link is about, and its letters. Raises `NoSuchLink`."""
    with site.database.reading_sessions() as session:
        address = session.get(Address, links.opened(session, site.keys, OPEN, token))
        if address is None or links.is_used(session, token):
            raise NoSuchLink
        email = site.keys.decrypted(address.sealed) if address.sealed is not None else None
        by_number = select(Comment.public_id).where(Comment.address_id == address.id).order_by(Comment.id)
        public_ids = list(session.scalars(by_number)) if email is None else []
    if email is not None:
        public_ids = erasure.letters_of(site, email)
    return address.id, public_ids


def _comments(session: Session, public_ids: Iterable[str]) -> list[Comment]:
    wanted = list(public_ids)
    found: list[Comment] = []
    for start in range(0, len(wanted), 500):
        found += session.scalars(select(Comment).where(Comment.public_id.in_(wanted[start : start + 500])))
    return sorted(found, key=lambda comment: comment.id)


def _letter(session: Session, keys: Keys, comment: Comment) -> KeptLetter:
    past = history.past(session, comment.submission_id)
    reply = session.scalar(select(Reply.submission_id).where(Reply.comment_id == comment.id))
    return KeptLetter(
        words=past.body,
        name=past.author,
        title=_title(session, comment),
        state=past.state,
        was_released=standing(session, [past.id])[past.id].was_released,
        sent_at=comment.created_at,
        token=keys.signed(AUTHOR_LINK, comment.public_id),
        is_answered=reply is not None and reply in released(session, [reply]),
    )


def _title(session: Session, comment: Comment) -> str | None:
    try:
        return essays.published(session, session.get_one(Essay, comment.essay_id).slug).title
    except essays.NoSuchEssay:
        return None


# The whole of it, as JSON.


def _export(site: Site, address: int | None, public_ids: Sequence[str], *, email: str | None = None) -> dict[str, Any]:
    with site.database.reading_sessions() as session:
        kept = session.get(Address, address) if address is not None else None
        comments = _comments(session, public_ids)
        sealed = site.keys.decrypted(kept.sealed) if kept is not None and kept.sealed is not None else None
        return {
            "format": FORMAT,
            "site": site.settings.address,
            "made_at": _at(now()),
            "address": {
                "email": sealed or email,
                "mail": correspondents.standing_of(kept).value,
                "language": kept.language if kept else None,
                "given_at": _at(kept.created_at) if kept else None,
                "asked_at": _at(kept.asked_at) if kept else None,
                "asked": kept.asks if kept else 0,
                "confirmed_at": _at(kept.confirmed_at) if kept else None,
                "stopped_at": _at(kept.stopped_at) if kept else None,
            },
            "letters": [_whole_letter(session, site, comment) for comment in comments],
            "mail": _mail(session, address, [comment.id for comment in comments]),
            "not_here": list(NOT_HERE),
        }


def _whole_letter(session: Session, site: Site, comment: Comment) -> dict[str, Any]:
    essay, voice = session.execute(
        select(Essay, Voice).join(Voice, Voice.id == Essay.voice_id).where(Essay.id == comment.essay_id)
    ).one()
    answers = session.scalar(select(Reply.public_id).where(Reply.id == comment.parent_id))
    versions = _versions(session, comment.submission_id)
    submissions = [version.id for version in versions]
    whole = site.settings.address
    return {
        "id": comment.public_id,
        "author_page": f"{whole}{paths.letter(site.keys.signed(AUTHOR_LINK, comment.public_id))}",
        "essay": essay.slug,
        "voice": voice.name,
        "in_answer_to": answers,
        "state": versions[-1].state.value,
        "posted_at": f"{whole}{paths.comment(comment.public_id)}" if versions[-1].state is State.APPROVED else None,
        "place": comment.place,
        "about_passage": comment.passage,
        "about_passage_by": _marks_of_essay(voice) if comment.passage is not None else None,
        "wants_reply": comment.wants_reply,
        "language": comment.language,
        "sent_at": _at(comment.created_at),
        "author_digest": comment.author_digest,
        "versions": [_version(version) for version in versions],
        "noticed": [
            {"what": signal.name, "at": _at(signal.noticed_at)}
            for signal in session.scalars(
                select(Signal).where(Signal.submission_id.in_(submissions)).order_by(Signal.noticed_at, Signal.name)
            )
        ],
        "answer": _answer(session, site, comment),
        "asking": _asking(session, comment),
        "shown_to_models": _shown_in(session, comment),
    }


def _versions(session: Session, submission_id: int) -> list[Past]:
    """Return a letter's words as they stand and as they stood before each change and appeal, oldest first."""
    found = [history.past(session, submission_id)]
    while (older := _older(found[-1])) is not None:
        found.append(history.past(session, older))
    return list(reversed(found))


def _older(past: Past) -> int | None:
    return next((each.other for each in past.happened if each.what is What.SUBMITTED), None)


def _version(past: Past) -> dict[str, Any]:
    return {
        "digest": past.digest,
        "name": past.author,
        "words": past.body,
        "sent_at": _at(past.submitted_at),
        "state": past.state.value,
        "happened": [_event(each) for each in past.happened if each.what in _TOLD],
    }


def _event(each: Happened) -> dict[str, Any]:
    told = {
        "at": _at(each.at),
        "what": _TOLD[each.what],
        "code": each.code,
        "told": each.told,
        "said": each.said,
        "by": each.by,
        "ledger_entry": each.entry,
    }
    return {name: value for name, value in told.items() if value is not None}


def _answer(session: Session, site: Site, comment: Comment) -> dict[str, Any] | None:
    reply = session.scalar(select(Reply).where(Reply.comment_id == comment.id))
    if reply is None:
        return None
    how = standing(session, [reply.submission_id])[reply.submission_id]
    told = {"state": how.state.value, "written_at": _at(reply.created_at), "code": how.reason_code}
    words = released(session, [reply.submission_id]).get(reply.submission_id)
    if words is None:
        return told
    page = f"{site.settings.address}{paths.reply(reply.public_id)}"
    return told | {
        "id": reply.public_id,
        "name": words.author,
        "words": words.body,
        "digest": words.digest,
        "approved_at": _at(words.approved_at),
        "posted_at": page,
        **_marks(session, reply),
    }


def _marks(session: Session, reply: Reply) -> dict[str, Any]:
    """Return what says that no person wrote an answer (DESIGN, promise 8)."""
    rehearsed = session.get_one(Generation, reply.generation_id).rehearsed
    return {"rehearsed": rehearsed, **printing.by_a_model(not rehearsed)}


def _marks_of_essay(voice: Voice) -> dict[str, Any]:
    """Return the same of words of an essay that a letter quotes."""
    return {"voice": voice.name, "stand_in": voice.stand_in, **printing.by_a_model(not voice.stand_in)}


def _asking(session: Session, comment: Comment) -> dict[str, Any] | None:
    request = session.get(ReplyRequest, comment.id)
    if request is None:
        return None
    return {"state": request.state, "since": _at(request.created_at), "changed_at": _at(request.changed_at)}


def _shown_in(session: Session, comment: Comment) -> list[dict[str, Any]]:
    """Return the calls to a model that were sent a letter, to answer it or another, or to choose."""
    shown = select(Showing.generation_id).where(Showing.comment_id == comment.id)
    own = session.execute(
        select(Generation.id, Generation.started_at)
        .where(or_(Generation.comment_id == comment.id, Generation.id.in_(shown)))
        .order_by(Generation.id)
    )
    calls = {number: started_at for number, started_at in own}  # noqa: C416  (dict() finds no types.)
    calls |= {each.generation_id: each.started_at for each in erasure.shown(session, comment.public_id)}
    return [{"call": number, "at": _at(calls[number])} for number in sorted(calls)]


def _mail(session: Session, address: int | None, comment_ids: Sequence[int]) -> list[dict[str, Any]]:
    found: dict[int, Outgoing] = {}
    for start in range(0, max(1, len(comment_ids)), 500):
        whose = Outgoing.comment_id.in_(comment_ids[start : start + 500])
        rows = session.scalars(select(Outgoing).where(or_(whose, Outgoing.address_id == (address or 0))))
        found |= {row.id: row for row in rows}
    return [
        {
            "about": _about(found[number].once),
            "state": found[number].state,
            "written_at": _at(found[number].created_at),
            "ended_at": _at(found[number].ended_at),
        }
        for number in sorted(found)
    ]


def _about(once: str) -> str:
    word = once.partition(":")[0]
    return outbox.ABOUT.get(word, word)


def _at(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None
