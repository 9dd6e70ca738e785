"""Erasure: a letter's words leave the site for good, with everything here that was made of them.

First the records, in one transaction; then the disk, where a database keeps what it deleted until its pages are written
anew. Only after that is the author told that it is done.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import tempfile
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from email_validator import EmailNotValidError
from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from bridge import db, migrate
from bridge.answer import replies
from bridge.keys import Keys
from bridge.letter import comments, reports
from bridge.mail import correspondents, outbox
from bridge.page import shelf
from bridge.records import (
    Address,
    Comment,
    Generation,
    IdempotencyKey,
    Mention,
    Outgoing,
    Prefix,
    Rendering,
    Reply,
    Signal,
)
from bridge.site import Site
from bridge.voice import prompt
from moderation import gate, rereading
from moderation.base import now
from moderation.release import standing
from moderation.types import State, SubmissionId

log = logging.getLogger(__name__)

FORGOTTEN = "erased:"
"""What stands before the random digits that take the place of what could be recognised."""
SHARE_OF_THE_TIME = 60
"""The disk is written anew at most for one sixtieth of the time, however often something is erased."""


class NotAnAddress(Exception):
    """Raised when what is to be looked for cannot be an e-mail address."""

    def __init__(self) -> None:
        super().__init__("This cannot be an e-mail address. Nothing was changed.")


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure came to, in numbers."""

    letters: int
    answers: int
    to_reread: int
    """Replies to others that were shown the letter: they stay posted, and a person reads them again."""

    def __add__(self, other: Erased) -> Erased:
        return Erased(self.letters + other.letters, self.answers + other.answers, self.to_reread + other.to_reread)


@dataclass(frozen=True, slots=True)
class Shown:
    """One call to a model that was sent a letter or the answer to it."""

    generation_id: int
    started_at: datetime
    reply: SubmissionId | None
    """What came of it, if that is an answer to somebody else."""


def erase_comment(site: Site, public_id: str, *, by: str = "author") -> Erased:
    """Take a comment back and erase it, its earlier versions and its reply, and what was made of any of them.

    *by* is "author", or "operator" where the site's own rule asks for it (`letter.retention`), or whoever it was the
    first time where a backup brought it back (`letter.erased_before`). Replies that were shown it are put on the desk
    to be read again, and stay posted until then. Doing it twice changes nothing. Raises `comments.NoSuchComment`.
    """
    with site.database.reading_sessions() as session:
        # Read before the one writer's turn: it unpacks what every later call was sent.
        calls = shown(session, public_id)
    shown_to = [each.reply for each in calls if each.reply is not None]
    with site.database.sessions.begin() as session:
        comment, _ = comments.one(session, public_id, to_change=True)
        if standing(session, [comment.submission_id])[comment.submission_id].erased_at is not None:
            return Erased(0, 0, 0)
        if by != "author":
            gate.withdraw(session, comment.submission_id, by=by)  # On record already when the rest goes below.
        reply = comments.withdraw(session, comment)
        versions = gate.erase(session, comment.submission_id)
        if reply is not None:
            # A vetoed one too: it is as likely to repeat what the letter said. The veto stays on record.
            gate.withdraw(session, reply.submission_id, by="author")
            versions += gate.erase(session, reply.submission_id)
        _forget(session, comment, versions, [each.generation_id for each in calls])
        shelf.comment_changed(session, site.settings, comment.id)
        how = standing(session, shown_to)
        shown_to = [each for each in shown_to if how[each].state in {State.PENDING, State.APPROVED}]
        for each in shown_to:
            rereading.ask_again(session, each)
    return Erased(letters=1, answers=0 if reply is None else 1, to_reread=len(shown_to))


def letters_of(site: Site, address: str) -> list[str]:
    """Return the public ids of the comments that came with this e-mail address, confirmed or not.

    Every address is decrypted and compared: two encryptions of one address differ. Raises `NotAnAddress`.
    """
    wanted = _address(address)
    with site.database.reading_sessions() as session:
        kept = session.execute(
            select(Comment.public_id, Comment.email)
            .where(Comment.email.is_not(None))
            .order_by(Comment.id)
            .execution_options(yield_per=500)
        )
        before = [public_id for public_id, sealed in kept if sealed is not None and _is(site.keys, sealed, wanted)]
        given = session.scalars(
            select(Comment.public_id)
            .join(Address, Address.id == Comment.address_id)
            .where(Address.digest == site.keys.keyed_digest(correspondents.DIGEST, wanted))
            .order_by(Comment.id)
        ).all()
        return [*before, *given]


def address_of(session: Session, keys: Keys, address: str) -> Address | None:
    """Return the record of an e-mail address if there is one, emptied or not. Raises `NotAnAddress`."""
    return session.scalar(
        select(Address).where(Address.digest == keys.keyed_digest(correspondents.DIGEST, _address(address)))
    )


def forget_address(session: Session, address_id: int) -> None:
    """Empty what is kept of an address that no letter refers to any more, for who owns it or asked the operator.

    Of one whose owner wanted no more mail the keyed digest stays, by which it is left alone for ever; of any other not
    even that.
    """
    if not _empty_address(session, address_id):
        return
    outbox.forget_address(session, address_id)
    session.execute(update(Outgoing).where(Outgoing.address_id == address_id).values(address_id=None))
    if session.get_one(Address, address_id).stopped_at is None:
        forget_digest(session, address_id)


def forget_digest(session: Session, address_id: int) -> None:
    """Put random digits in the place of what an emptied address is recognised by; who gives it again is a stranger.

    The row stays: links that were mailed name it by its number, which must not become somebody else's.
    """
    session.execute(
        update(Address)
        .where(Address.id == address_id, Address.sealed.is_(None))
        .values(digest=f"{FORGOTTEN}{secrets.token_hex(28)}", asked_at=None, asks=0)
    )


def shown_what_is_gone(session: Session, submission_ids: list[SubmissionId]) -> set[int]:
    """Return those replies among *submission_ids* that were shown a letter or a reply that was erased since."""
    calls = session.execute(
        select(Reply.submission_id, Generation.prefix_id, Generation.request)
        .join(Generation, Generation.id == Reply.generation_id)
        .where(Reply.submission_id.in_(submission_ids))
    )
    references = _References(session)
    told = {submission_id: references.of(prefix, request) for submission_id, prefix, request in calls}
    how = standing(session, {each for references in told.values() for each in references})
    gone = {each for each in how if how[each].erased_at is not None}
    return {submission_id for submission_id, references in told.items() if references & gone}


def clean_disk(site: Site, *, at_once: bool = False, put_back: bool = False) -> bool:
    """Write the database's files anew if they may still hold erased words; return whether they hold none now.

    What could not be done now, or would take more than its share of the time unless it is to be *at_once*, is left to
    the next sweep. Where a backup was *put_back*, what is remembered is of other files, and counts for nothing. Twice
    at once is well: the second only does it again.
    """
    with site.database.reading_sessions() as session:
        number, newest = gate.erasures(session)
    before = _cleaned(site)
    # A backup on which the same was erased again has as many, but not as old.
    if (before.erasures, before.newest) == (number, newest) and not put_back:
        return True
    if not at_once and 0 <= (now() - before.at).total_seconds() < SHARE_OF_THE_TIME * before.seconds:
        return False
    begun = time.monotonic()
    if not db.write_anew(site.settings.database_owner, migrate.WORDS):
        log.warning("erased words are still on the disk: something reads the old pages; the next sweep tries again")
        return False
    _keep(site, _Cleaned(number, newest, now(), time.monotonic() - begun))
    return True


def is_off_the_disk(site: Site, erased_at: datetime | None) -> bool:
    """Whether words were erased and the files written anew since."""
    if erased_at is None:
        return False
    newest = _cleaned(site).newest
    return newest is not None and erased_at <= newest


def shown(session: Session, public_id: str) -> list[Shown]:
    """Return the calls that were sent a comment or its reply, oldest first, but for those that asked for that reply.

    Raises `comments.NoSuchComment`.
    """
    comment, essay = comments.one(session, public_id)
    how = standing(session, [comment.submission_id])[comment.submission_id]
    if not how.was_released or how.decided_at is None:
        return []
    reply = session.scalar(select(Reply.submission_id).where(Reply.comment_id == comment.id))
    ours = {comment.submission_id, reply} - {None}
    # Days before the decision: a call's beginning is told by the database's clock, and ours may be wrong by one.
    since = how.decided_at - timedelta(days=2)
    calls = session.execute(
        select(Generation.id, Generation.started_at, Reply.submission_id, Generation.prefix_id, Generation.request)
        .join(Comment, Comment.id == Generation.comment_id)
        .outerjoin(Reply, Reply.generation_id == Generation.id)
        .where(
            # Under other essays only its own author's letters are answered with it in view (`answer.memory`).
            or_(
                Comment.essay_id == essay.id,
                Comment.author_digest == comment.author_digest,
                Comment.address_id == (comment.address_id or 0),
            ),
            Comment.id != comment.id,
            Generation.started_at >= since,
        )
        .order_by(Generation.id)
        .execution_options(yield_per=50)
    )
    references = _References(session)
    return [
        Shown(number, started_at, SubmissionId(submission_id) if submission_id is not None else None)
        for number, started_at, submission_id, prefix, request in calls
        if references.of(prefix, request) & ours
    ]


def _forget(session: Session, comment: Comment, versions: list[SubmissionId], calls: list[int]) -> None:
    """Empty or delete what the site made of words that the vault just lost; they stood in *calls* for others too."""
    digests = [each.digest for each in standing(session, versions).values()]
    address_id = comment.address_id
    comment.email = comment.address_id = None
    comment.passage = comment.passage_block = None
    replies.forget_refusals(session, comment.id, calls)
    replies.empty_records(session, comment.id)
    reports.forget(session, versions)
    session.execute(delete(Rendering).where(Rendering.digest.in_(digests)))
    session.execute(delete(Signal).where(Signal.submission_id.in_(versions)))
    _forget_mentions(session, comment.id)
    for kept in session.scalars(select(IdempotencyKey).where(IdempotencyKey.comment_id == comment.id)):
        # The row stays, so that a late repeat under its key is no new letter; by nothing in it can words be guessed.
        kept.content_digest = secrets.token_hex(32)
    session.flush()
    if address_id is not None:
        _empty_address(session, address_id)


def _forget_mentions(session: Session, comment_id: int) -> None:
    """Empty where a letter came from that was told of by another site: its page is its author's."""
    for mention in session.scalars(select(Mention).where(Mention.comment_id == comment_id)):
        mention.source, mention.target, mention.why = f"{FORGOTTEN}{secrets.token_hex(32)}", "", None
        if mention.state == "waiting":
            mention.state, mention.not_before, mention.ended_at = "refused", None, now()


def _empty_address(session: Session, address_id: int) -> bool:
    """Empty an address to which no letter refers any more; return whether it is empty now.

    How often its owner was asked stays for a while, or letters that are erased again could have them asked for ever
    (`letter.retention`).
    """
    no_letter = ~select(Comment.id).where(Comment.address_id == address_id).exists()
    session.execute(
        update(Address)
        .where(Address.id == address_id, no_letter)
        .values(sealed=None, language=None, confirmed_at=None)
        .execution_options(synchronize_session=False)
    )
    kept = session.get(Address, address_id, populate_existing=True)
    return kept is not None and kept.sealed is None


class _References:
    """What calls were sent, by the ids of submissions; what many of them share is unpacked once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._shared: dict[int, set[int]] = {}

    def of(self, prefix: int | None, request: bytes) -> set[int]:
        if not request:
            return set()
        if prefix is not None and prefix not in self._shared:
            self._shared[prefix] = self._in(self._session.get_one(Prefix, prefix).recipe)
        return self._in(request) | (self._shared[prefix] if prefix is not None else set())

    def _in(self, packed: bytes) -> set[int]:
        return set(prompt.references(json.loads(zlib.decompress(packed))))


def _address(given: str) -> str:
    try:
        return correspondents.normal(given)
    except EmailNotValidError:
        raise NotAnAddress from None


def _is(keys: Keys, sealed: bytes, wanted: str) -> bool:
    address = keys.decrypted(sealed)
    try:
        return address is not None and correspondents.normal(address) == wanted
    except EmailNotValidError:
        return False


@dataclass(frozen=True, slots=True)
class _Cleaned:
    """What was erased when the files were last written anew, when that was, and how long it took."""

    erasures: int
    newest: datetime | None
    at: datetime
    seconds: float


def _file(site: Site) -> Path:
    return site.settings.data / "erasures.json"


def _cleaned(site: Site) -> _Cleaned:
    """Return what the data folder remembers; nothing, if it remembers nothing: then all is written anew once more."""
    try:
        told = json.loads(_file(site).read_bytes())
        newest = datetime.fromisoformat(told["newest"]) if told["newest"] else None
        return _Cleaned(int(told["erasures"]), newest, datetime.fromisoformat(told["at"]), float(told["seconds"]))
    except (OSError, ValueError, TypeError, KeyError):
        return _Cleaned(0, None, datetime.fromtimestamp(0, now().tzinfo), 0)


def _keep(site: Site, cleaned: _Cleaned) -> None:
    file = _file(site)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    told = {
        "erasures": cleaned.erasures,
        "newest": cleaned.newest.isoformat() if cleaned.newest else None,
        "at": cleaned.at.isoformat(),
        "seconds": cleaned.seconds,
    }
    made, unfinished = tempfile.mkstemp(dir=file.parent, prefix=file.name)  # It makes files with mode 0600.
    try:
        with os.fdopen(made, "w") as whole:
            json.dump(told, whole)
        os.replace(unfinished, file)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(unfinished)
