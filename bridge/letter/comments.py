"""What happens to a comment on its reader's side: received, looked up, changed, taken back."""

from __future__ import annotations

import math
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar

import rfc8785
from email_validator import EmailNotValidError, validate_email
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from bridge.answer import awaiting, replies
from bridge.answer.awaiting import Awaited
from bridge.essay import essays, intake
from bridge.essay.essays import Published
from bridge.keys import AUTHOR_LINK, Keys, fingerprint, new_secret
from bridge.letter import reports
from bridge.mail import correspondents, outbox
from bridge.mail.correspondents import AddressStanding
from bridge.page import shelf
from bridge.page.templating import SITE_NAME
from bridge.records import Comment, Essay, IdempotencyKey, Reply, ReplyRequest, Voice
from bridge.signal import signals
from bridge.signal.signals import Noticed
from bridge.site import Site
from bridge.text import passages, words
from bridge.text.language import N_
from bridge.text.passages import Passage
from moderation import appeals, gate, moderators
from moderation.base import now
from moderation.errors import AlreadyDecided, NoLongerPending
from moderation.queue import pending
from moderation.release import released, standing
from moderation.types import Appealed, Digest, Kind, Pending, Rejected, Released, Standing, State, SubmissionId

SAME_WORDS_WITHIN = timedelta(hours=1)
"""How long the same words by the same author under the same essay are the same letter."""
LOOKED_AT = 100
"""The most letters of that time that are compared: more are taken from nobody."""
KEY_BITS = 128
"""What a key without an author's secret must be able to carry (SECURITY, R9)."""


class CommentRefused(Exception):
    """Something about a comment that its reader can mend. Nothing was changed."""

    field: ClassVar[str | None] = None
    """The field of the form that it is about."""


class NoSuchComment(Exception):
    """Raised when no comment has this id, or the link to it is not whole."""

    def __init__(self) -> None:
        super().__init__(N_("There is no letter at this address."))


class NothingToReplyTo(CommentRefused):
    """Raised when `parent` is not a released reply under this essay."""

    def __init__(self) -> None:
        super().__init__(N_("The answer you are writing to is not posted here, or no longer."))


class KeyTooWeak(CommentRefused):
    """Raised when an Idempotency-Key without an author's secret could be guessed: its answer opens the letter."""

    def __init__(self) -> None:
        super().__init__("Without author_secret, Idempotency-Key must carry 128 random bits, as 32 hex digits do.")


class KeyUsedForOtherWords(CommentRefused):
    """Raised when the same key comes with another comment."""

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used for another comment. Nothing was changed; use a fresh key.")


class SentBefore(CommentRefused):
    """Raised when a letter comes again with its key and says something else by now, or was taken back."""

    def __init__(self) -> None:
        super().__init__(N_("You sent these words before, and then changed your letter or took it back."))


class SecretRefused(CommentRefused):
    """Raised when an author's secret is not one of ours."""

    def __init__(self) -> None:
        super().__init__("This author_secret is not one that this site gave out.")


class NotAnAddress(CommentRefused):
    """Raised when the e-mail address cannot be one."""

    field = "email"

    def __init__(self) -> None:
        super().__init__(N_("This e-mail address cannot be right. Mend it, or leave it out: you need none."))


class DecidedMeanwhile(CommentRefused):
    """Raised when an author changes a letter that no longer waits."""

    def __init__(self) -> None:
        super().__init__(
            N_("Your letter no longer waits for a person, so it cannot be changed. Your new words are below.")
        )


class EssayClosed(CommentRefused):
    """Raised when a letter comes under an essay that takes none any more, or not now."""

    def __init__(self, why: str | None) -> None:
        super().__init__(N_("This essay takes no letters now, so yours was not sent."))
        self.why = why


class ReplyStatus(StrEnum):
    """What became of the wish for an answer, as its reader is told."""

    NONE = "none"
    WAITING = "waiting"
    RELEASED = "released"
    DECLINED = "declined"
    NOT_CHOSEN = "not_chosen"
    WITHHELD = "withheld"
    VETOED = "vetoed"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Letter:
    """A comment as its reader sent it, before anything was checked."""

    author: str
    body: str
    parent: str | None = None
    wants_reply: bool = True
    email: str | None = None
    passage: Passage | None = None
    """The words of the essay that it is about; None: the whole."""
    language: str | None = None
    """In which its author reads the site."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the sender of a comment is told."""

    public_id: str
    digest: Digest
    token: str
    """The signed part of the address of the author's page."""
    author_secret: str


@dataclass(frozen=True, slots=True)
class Held:
    """One comment as its author sees it."""

    public_id: str
    essay: Published | None
    standing: Standing
    reply_status: ReplyStatus
    awaited: Awaited
    """How its answer stands while there is none."""
    voice: Voice
    wants_reply: bool
    passage: Passage | None
    """The words of the essay that it is about; None: the whole."""
    waiting: Pending | None
    out: Released | None
    rejected: Rejected | None
    """Its words, where they were not posted."""
    appealed: Appealed | None
    """What was decided at first, once its author asked for another person."""
    may_appeal: bool
    reply: Standing | None
    reply_id: str | None
    asked_at: datetime | None
    answered_at: datetime | None
    mail: AddressStanding
    """Whether its author is told by mail."""

    @property
    def words(self) -> Pending | Released | Rejected | None:
        """What was written, while it is not taken back."""
        return self.waiting or self.out or (self.rejected if self.standing.state is State.REJECTED else None)

    @property
    def appeal_until(self) -> datetime | None:
        """When the time for an appeal is over, while there is time for one."""
        decided_at = self.standing.decided_at
        return decided_at + appeals.WITHIN if self.may_appeal and decided_at is not None else None


def check(session: Session, letter: Letter) -> Letter:
    """Return the letter as it would reach the gate, normalised. Raises `words.WordsRefused`."""
    return Letter(
        author=words.author_name(letter.author, reserved=reserved_names(session)),
        body=words.comment_body(letter.body),
        parent=letter.parent,
        wants_reply=letter.wants_reply,
        email=_address(letter.email) if letter.email else None,
        passage=letter.passage,
        language=letter.language,
    )


def reserved_names(session: Session) -> list[str]:
    """Return the names that no reader may write under: the voices', the moderators' and the site's."""
    voices = session.scalars(select(Voice.name)).all()
    return [SITE_NAME, *voices, *(m.name for m in moderators.everyone(session))]


def receive_comment(
    site: Site,
    slug: str,
    letter: Letter,
    *,
    key: str | None = None,
    author_secret: str | None = None,
    as_it_stands: bool = False,
    same_words_once: bool = False,
    noticed: Sequence[Noticed] = (),
) -> Receipt:
    """Receive a comment under a released essay that takes letters and put it before the gate.

    *noticed* is what was noticed about how it came (`letter.admission`); what is strong among it sorts the letter.

    With *key*, a repeat of the same letter by the same author receives the first one's receipt and adds nothing; with
    *as_it_stands* only while that still says so: who changed it or took it back may mean another letter, and is asked
    (`SentBefore`). With *same_words_once* that holds for another key too, within the hour: a browser that goes back may
    load the form again. Raises `words.WordsRefused`, `essays.NoSuchEssay`, or a `CommentRefused`.
    """
    if author_secret is not None and not (32 <= len(author_secret) <= 128 and author_secret.isascii()):
        raise SecretRefused
    if key is not None and author_secret is None and _bits_at_most(key) < KEY_BITS:
        raise KeyTooWeak
    secret = author_secret or _first_secret(site.keys, slug, key)
    with site.database.reading_sessions() as session:
        letter = check(session, letter)
        if letter.passage is not None:
            # It renders the essay, which no other writer should wait for; within the transaction it is looked up.
            passages.check(essays.published(session, slug).words, letter.passage)
    told = {"as_it_stands": as_it_stands, "same_words_once": same_words_once}
    try:
        return _receive(site, slug, letter, key, secret, **told, noticed=noticed)
    except IntegrityError:
        if key is None:
            raise
        # Another request with this key was first. It has committed, so this time its row is found.
        return _receive(site, slug, letter, key, secret, **told, noticed=noticed)


def _receive(
    site: Site,
    slug: str,
    letter: Letter,
    key: str | None,
    secret: str,
    *,
    as_it_stands: bool,
    same_words_once: bool,
    noticed: Sequence[Noticed],
) -> Receipt:
    author_digest = fingerprint(secret)
    with site.database.sessions.begin() as session:
        _one_at_a_time(session, author_digest)
        if key is not None:
            earlier = _earlier(session, site.keys, author_digest, key, slug, letter)
            if earlier is not None:
                if as_it_stands and not _still_says(session, earlier, letter):
                    raise SentBefore
                return _receipt(session, site.keys, earlier, secret)
        earlier = _said_already(session, author_digest, slug, letter) if same_words_once else None
        if earlier is None:
            comment = _put_before_the_gate(session, site.keys, slug, letter, key, author_digest, noticed)
            asked = correspondents.ask(session, site, comment)
        else:
            comment = earlier
            asked = _asked_now(session, site, comment, letter)
        receipt = _receipt(session, site.keys, comment, secret)
    # Committed: a worker may look for either before this line returns.
    if earlier is None:
        screening_wanted(site, comment.submission_id)
    if asked:
        site.nudges.nudge_outgoing()
    return receipt


def _put_before_the_gate(
    session: Session,
    keys: Keys,
    slug: str,
    letter: Letter,
    key: str | None,
    author_digest: str,
    noticed: Sequence[Noticed],
) -> Comment:
    essay = taking_letters(session, slug)
    parent = _parent(session, essay, letter.parent) if letter.parent else None
    if letter.passage is not None:
        passages.check(essay.words, letter.passage)
    submission_id = intake.submit(
        session,
        Kind.COMMENT,
        author=letter.author,
        body=letter.body,
        in_answer_to=SubmissionId(parent.submission_id) if parent else essay.words.id,
        essay=essay.words.id,
        voice=essay.voice.id,
    )
    comment = Comment(
        public_id=secrets.token_hex(16),
        essay_id=essay.essay.id,
        parent_id=parent.id if parent else None,
        submission_id=submission_id,
        author_digest=author_digest,
        wants_reply=letter.wants_reply,
        passage=letter.passage.words if letter.passage else None,
        passage_block=letter.passage.block if letter.passage else None,
        language=letter.language,
        created_at=now(),
    )
    if letter.email is not None:
        comment.address_id = correspondents.given(session, keys, letter.email, letter.language).id
    session.add(comment)
    session.flush()
    signals.look_at_letter(session, comment, came=noticed)
    if key is not None:
        session.add(
            IdempotencyKey(
                author_digest=author_digest,
                key_digest=fingerprint(key),
                content_digest=_content_digest(keys, slug, letter),
                comment_id=comment.id,
                created_at=now(),
            )
        )
        session.flush()
    return comment


def _asked_now(session: Session, site: Site, comment: Comment, letter: Letter) -> bool:
    """Take the address of a letter that was sent again to be told of it: that much is new. Return as `ask` does."""
    if letter.email is None or comment.address_id is not None:
        return False
    comment.address_id = correspondents.given(session, site.keys, letter.email, letter.language).id
    session.flush()
    return correspondents.ask(session, site, comment)


def essay_of(session: Session, public_id: str, slug: str) -> Published:
    """Return the essay under which a comment was written, if it is *slug*.

    Raises `NoSuchComment`, or `essays.EssayGone` if the essay is posted no longer.
    """
    _, essay = one(session, public_id)
    if essay.slug != slug:
        raise NoSuchComment
    return essays.published(session, slug)


def taking_letters(session: Session, slug: str) -> Published:
    """Return a released essay that letters can be written about. Raises `essays.NoSuchEssay` or `EssayClosed`."""
    essay = essays.published(session, slug)
    if essay.essay.closed_at is not None:
        raise EssayClosed(essay.essay.closed_why)
    return essay


def change_comment(site: Site, public_id: str, letter: Letter) -> None:
    """Replace a pending comment's words by new ones: a new submission, and the old one is superseded.

    Raises `words.WordsRefused`, `NoSuchComment`, `DecidedMeanwhile`, or the gate's `NothingToAnswer` or `CannotAppeal`.
    """
    with site.database.reading_sessions() as session:
        letter = check(session, letter)
    with site.database.sessions.begin() as session:
        comment, essay = one(session, public_id, to_change=True)
        came = signals.came_with(session, comment.submission_id)
        parent = session.get(Reply, comment.parent_id) if comment.parent_id else None
        try:
            comment.submission_id = intake.submit(
                session,
                Kind.COMMENT,
                author=letter.author,
                body=letter.body,
                in_answer_to=SubmissionId(parent.submission_id if parent else essay.submission_id),
                essay=SubmissionId(essay.submission_id),
                voice=essay.voice_id,
                supersedes=SubmissionId(comment.submission_id),
            )
        except (AlreadyDecided, NoLongerPending):
            # Who decided is for the desk to know.
            raise DecidedMeanwhile from None
        comment.wants_reply = letter.wants_reply
        signals.look_at_letter(session, comment, came=came)
        submission_id = comment.submission_id
    screening_wanted(site, submission_id)


def screening_wanted(site: Site, submission_id: int) -> None:
    """Have a letter that was committed screened by the operator's services, if there are any."""
    if site.settings.screens:
        site.nudges.nudge_screening(submission_id)


def take_back(site: Site, public_id: str) -> None:
    """Take a comment back, and with it its reply and the request for one. Twice changes nothing.

    Raises `NoSuchComment`.
    """
    with site.database.sessions.begin() as session:
        comment, _ = one(session, public_id, to_change=True)
        withdraw(session, comment)
        shelf.comment_changed(session, site.settings, comment.id)


def withdraw(session: Session, comment: Comment) -> Reply | None:
    """Take back, for its author, a comment that `one` locked; return its reply, which goes along unless vetoed."""
    # First, for it waits until an answer that is just being recorded is recorded: then its reply is found below.
    replies.no_longer_wanted(session, comment.id)
    gate.withdraw(session, comment.submission_id, by="author")
    reports.close_about(session, comment.submission_id)
    outbox.forget(session, comment.id)
    reply = session.scalar(select(Reply).where(Reply.comment_id == comment.id))
    if reply is not None and standing(session, [reply.submission_id])[reply.submission_id].state != State.REJECTED:
        gate.withdraw(session, reply.submission_id, by="author")
        reports.close_about(session, reply.submission_id)
    return reply


def held(site: Site, public_id: str) -> Held:
    """Return a comment as its author may see it. Raises `NoSuchComment`."""
    with site.database.reading_sessions() as session:
        comment, essay = one(session, public_id)
        reply = session.scalar(select(Reply).where(Reply.comment_id == comment.id))
        all_stand = standing(session, [comment.submission_id, *([reply.submission_id] if reply else [])])
        how = all_stand[comment.submission_id]
        request = session.get(ReplyRequest, comment.id)
        reply_status = _reply_status(session, how, reply, request)
        voice = session.get_one(Voice, essay.voice_id)
        try:
            under = essays.published(session, essay.slug)
        except essays.NoSuchEssay:
            under = None
        return Held(
            public_id=comment.public_id,
            essay=under,
            standing=how,
            reply_status=reply_status,
            awaited=awaiting.awaited(session, comment, voice, request, posted=how.was_released),
            voice=voice,
            wants_reply=comment.wants_reply,
            passage=Passage(comment.passage_block or 0, comment.passage) if comment.passage else None,
            waiting=pending(session, comment.submission_id),
            out=released(session, [comment.submission_id]).get(comment.submission_id),
            rejected=appeals.rejected(session, comment.submission_id),
            appealed=appeals.made(session, comment.submission_id),
            may_appeal=appeals.may_appeal(session, comment.submission_id),
            reply=all_stand[reply.submission_id] if reply else None,
            reply_id=reply.public_id if reply and reply_status is ReplyStatus.RELEASED else None,
            asked_at=request.created_at if request else None,
            answered_at=reply.created_at if reply else None,
            mail=correspondents.standing(session, comment),
        )


def opened_by(site: Site, token: str) -> str:
    """Return the public id of the comment that an author's link opens. Raises `NoSuchComment`."""
    public_id = site.keys.opened(AUTHOR_LINK, token)
    if public_id is None:
        raise NoSuchComment
    return public_id


def one(session: Session, public_id: str, *, to_change: bool = False) -> tuple[Comment, Essay]:
    """Return a comment and its essay, locked if it is *to_change*. Raises `NoSuchComment`."""
    query = select(Comment, Essay).join(Essay, Essay.id == Comment.essay_id).where(Comment.public_id == public_id)
    if to_change:
        # Two acts of one author wait for each other, or one would act on words that the other replaced.
        query = query.with_for_update(of=Comment, key_share=True)
    row = session.execute(query).first()
    if row is None:
        raise NoSuchComment
    return row[0], row[1]


def _reply_status(session: Session, how: Standing, reply: Reply | None, request: ReplyRequest | None) -> ReplyStatus:
    if how.state is State.WITHDRAWN and request is not None:
        return ReplyStatus.WITHDRAWN
    if request is None:
        return ReplyStatus.NONE
    if reply is not None:
        return {
            State.PENDING: ReplyStatus.WAITING,
            State.APPROVED: ReplyStatus.RELEASED,
            State.REJECTED: ReplyStatus.VETOED,
            State.SUPERSEDED: ReplyStatus.WAITING,
            State.WITHDRAWN: ReplyStatus.WITHDRAWN,
        }[standing(session, [reply.submission_id])[reply.submission_id].state]
    return {
        "declined": ReplyStatus.DECLINED,
        "not_chosen": ReplyStatus.NOT_CHOSEN,
        "withheld": ReplyStatus.WITHHELD,
        "withdrawn": ReplyStatus.WITHDRAWN,
    }.get(request.state, ReplyStatus.WAITING)


def _parent(session: Session, essay: Published, public_id: str) -> Reply:
    reply = session.scalar(
        select(Reply)
        .join(Comment, Comment.id == Reply.comment_id)
        .where(Reply.public_id == public_id, Comment.essay_id == essay.essay.id)
    )
    if reply is None or reply.submission_id not in released(session, [reply.submission_id]):
        raise NothingToReplyTo
    return reply


def _said_already(session: Session, author_digest: str, slug: str, letter: Letter) -> Comment | None:
    """Return the letter of the last hour by the same author that says the same now, unless it was taken back.

    By what it says now: one that was changed since is another letter.
    """
    sent = session.scalars(
        select(Comment)
        .join(Essay, Essay.id == Comment.essay_id)
        .where(
            Essay.slug == slug, Comment.author_digest == author_digest, Comment.created_at > now() - SAME_WORDS_WITHIN
        )
        .order_by(Comment.id)
        .limit(LOOKED_AT)
    ).all()
    parents = select(Reply.id, Reply.public_id).where(Reply.id.in_({each.parent_id for each in sent if each.parent_id}))
    answered = {reply_id: public_id for reply_id, public_id in session.execute(parents)}  # noqa: C416
    passage = (letter.passage.words, letter.passage.block) if letter.passage else (None, None)
    for each in sent:
        if (
            _still_says(session, each, letter)
            and answered.get(each.parent_id or 0) == letter.parent
            and (each.passage, each.passage_block) == passage
        ):
            return each
    return None


def _still_says(session: Session, comment: Comment, letter: Letter) -> bool:
    """Return whether a letter says now what *letter* says; one that was taken back says nothing."""
    how = standing(session, [comment.submission_id])[comment.submission_id]
    says = _words(session, comment.submission_id) if how.state is not State.WITHDRAWN else None
    return says is not None and (says.author, says.body) == (letter.author, letter.body)


def _words(session: Session, submission_id: int) -> Pending | Released | Rejected | None:
    return (
        pending(session, submission_id)
        or released(session, [submission_id]).get(submission_id)
        or appeals.rejected(session, submission_id)
    )


def _one_at_a_time(session: Session, author_digest: str) -> None:
    """Let two letters of one author wait for each other: two tabs may send the same words at once."""
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer.
        session.execute(text("SELECT pg_advisory_xact_lock(1, hashtext(:who))"), {"who": author_digest})


def _earlier(session: Session, keys: Keys, author_digest: str, key: str, slug: str, letter: Letter) -> Comment | None:
    kept = session.scalar(
        select(IdempotencyKey).where(
            IdempotencyKey.author_digest == author_digest, IdempotencyKey.key_digest == fingerprint(key)
        )
    )
    if kept is None:
        return None
    if kept.content_digest != _content_digest(keys, slug, letter):
        raise KeyUsedForOtherWords
    return session.get_one(Comment, kept.comment_id)


def _bits_at_most(key: str) -> float:
    """Return the most random bits that *key* can carry, going by the characters it is made of."""
    if len(set(key)) < 8:
        return 0  # Of 128 random bits in hex, a run of so few different digits comes up once in ten million.
    digits = key.replace("-", "")  # As in a UUID; in other alphabets the hyphen is a character like any.
    if digits.isdecimal():
        return len(digits) * math.log2(10)
    if set(digits) <= set(string.hexdigits):
        return len(digits) * 4
    return len(key) * 6


def _address(given: str) -> str:
    try:
        return validate_email(given, check_deliverability=False).normalized
    except EmailNotValidError:
        raise NotAnAddress from None


def _first_secret(keys: Keys, slug: str, key: str | None) -> str:
    """Return a new author's secret; with a key always the same one, so that a repeat is given it again."""
    return keys.keyed_digest("author's secret", f"{slug}\n{key}") if key is not None else new_secret()


def _content_digest(keys: Keys, slug: str, letter: Letter) -> str:
    content: list[Any] = [slug, letter.author, letter.body, letter.parent, letter.wants_reply, letter.email]
    if letter.passage is not None:
        content.append([letter.passage.block, letter.passage.words])
    return keys.keyed_digest("comment under a key", rfc8785.dumps(content).decode())


def _receipt(session: Session, keys: Keys, comment: Comment, secret: str) -> Receipt:
    digest = standing(session, [comment.submission_id])[comment.submission_id].digest
    return Receipt(comment.public_id, digest, keys.signed(AUTHOR_LINK, comment.public_id), secret)
