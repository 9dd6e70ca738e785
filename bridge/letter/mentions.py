"""Webmentions: pages elsewhere that tell us that they link here, and pages that we tell that an essay links there.

https://www.w3.org/TR/webmention/. What comes in becomes a pending letter at the same gate as any other, in the words of
the page that sent it; it asks for no answer. Nothing here calls anybody: `workers.mentioning` does.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from urllib.parse import urlsplit

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from bridge.db import database_time
from bridge.essay import essays
from bridge.keys import fingerprint
from bridge.letter import admission, comments, erasure
from bridge.letter.comments import CommentRefused, DecidedMeanwhile, Letter
from bridge.records import Comment, Essay, Mention
from bridge.settings import Settings
from bridge.signal import blocks
from bridge.signal.signals import Name, Noticed
from bridge.site import Site
from bridge.text import markup
from bridge.text.words import WordsRefused
from moderation import errors
from moderation.base import now
from moderation.queue import pending
from moderation.release import released, standing
from moderation.types import State

LONGEST = 1000
"""Characters of an address: what a row has room for."""
MOST_TOLD = 50
"""The most pages that are told of one essay."""
MOST_ATTEMPTS = 5
FIRST_WAIT = 600.0
"""Seconds before the second attempt; the wait grows fourfold each time, so that the fifth is after fourteen hours."""
TRYING_TAKES = 300.0
"""Seconds after which an attempt that was not recorded was left by its worker."""
LISTED = 50
IN_AT_ONCE = 2
"""The most pages that are looked at for one sweep. Each may take twenty seconds, in which mail waits behind it, so
whoever sends many waits, and nobody else."""
OUT_AT_ONCE = 20

_SPELLED = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#\\]*)(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_PORTS = {"http": 80, "https": 443}
_SLUG = re.compile(r"/essays/([a-z0-9-]{1,120})/?")
_NOT_PUBLIC = re.compile(r"(.*\.)?(localhost|local|internal|lan|home|test|invalid|example|onion|home\.arpa)")
"""Names that no server elsewhere can call back (RFC 6761, 6762, 8375)."""


class MentionRefused(Exception):
    """Raised for a webmention that is not taken. One sentence, for the program that sent it; nothing was changed."""


class Way(StrEnum):
    """From whom a mention is."""

    IN = "in"
    """A page elsewhere links here."""
    OUT = "out"
    """An essay links elsewhere."""


class MentionState(StrEnum):
    """How a mention stands."""

    WAITING = "waiting"
    DONE = "done"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Taken:
    """A mention that this worker alone sees to now."""

    id: int
    way: Way
    source: str
    target: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Listed:
    """A mention as admins see it."""

    source: str
    target: str
    state: MentionState
    why: str | None
    attempts: int
    created_at: datetime


# In.


def receive(site: Site, source: str, target: str) -> None:
    """Take note that the page at *source* says it links to the essay at *target*; the sweep has it looked at.

    The same once more has the page looked at again, as its author does who changed or deleted it. Raises
    `MentionRefused`.
    """
    source = _checked(site.settings, source)
    slug = _slug(site.settings, target)
    # One spelling for each page and for each essay, so that a page has one letter under it.
    target = f"{site.settings.address}/essays/{slug}"
    with site.database.reading_sessions() as session:
        if blocks.blocks(session).of_host(urlsplit(source).hostname or "") is not None:
            raise MentionRefused("Webmentions from this site are not taken.")
        try:
            essay_id = essays.published(session, slug).essay.id
        except essays.NoSuchEssay:
            raise MentionRefused("The target is no essay that is posted here.") from None
    # No nudge: the sweep gives strangers' pages a little of each minute, and a flood of them no more.
    try:
        _note(site, essay_id, source, target)
    except IntegrityError:
        _note(site, essay_id, source, target)  # Another request was first, and has committed.


def found(site: Site, taken: Taken, *, author: str | None, words: str | None) -> str:
    """Record that a page links here: its letter is put before the gate, or changed while it waits there.

    *words* are Markdown. Return a word for the log. A letter that a person decided on stays as it is, and one that was
    taken down or erased does not come back. So many pages an hour bring one under an essay, and others wait.
    """
    letter = _letter(taken.source, author, words)
    host = urlsplit(taken.source).hostname or ""
    came = [Noticed(Name.WEBMENTION, f"It came as a webmention, from a page at {host}, and is that page's words.")]
    secret = _secret(site, taken.source)
    with site.database.reading_sessions() as session:
        before = _letter_of(session, taken, secret)
        how = standing(session, [before.submission_id])[before.submission_id] if before else None
        waits = pending(session, before.submission_id) if before else None
        public_id = before.public_id if before else None
        slug = session.scalars(select(Essay.slug).join(Mention).where(Mention.id == taken.id)).one()
        letter = _as_taken(session, letter, host)
    was_gone = how is not None and how.withdrawn_by == "author" and how.erased_at is None
    try:
        if public_id is None or was_gone:
            # Counted apart from readers' letters: what pages elsewhere send keeps nobody from writing here.
            admission.take(site, admission.UNDER_AN_ESSAY, f"webmentions of {slug}")
            public_id = comments.receive_comment(site, slug, letter, author_secret=secret, noticed=came).public_id
        elif waits is not None and (waits.author, waits.body) != (letter.author, letter.body):
            comments.change_comment(site, public_id, letter)
    except admission.NothingMoreNow:
        return refuse(site, taken, "Very many pages told of this essay within an hour.", passing=True)
    except DecidedMeanwhile:
        pass  # A person was first, and their decision stands.
    except (CommentRefused, WordsRefused, errors.CannotAppeal, errors.NothingToAnswer, essays.NoSuchEssay) as refused:
        return refuse(site, taken, str(refused))
    return _end(site, taken, public_id=public_id)


def gone(site: Site, taken: Taken, why: str) -> str:
    """Record that a page does not link here, or no longer: its letter is taken back for its author."""
    with site.database.reading_sessions() as session:
        before = _letter_of(session, taken, _secret(site, taken.source))
        how = standing(session, [before.submission_id])[before.submission_id] if before else None
    if before is not None and how is not None and how.state in {State.PENDING, State.APPROVED}:
        comments.take_back(site, before.public_id)
    return refuse(site, taken, why)


# Out.


def essay_released(session: Session, settings: Settings, submission_id: int) -> list[int]:
    """Note down, for an essay that was just approved, the pages that it links to; return the mentions to nudge for.

    None for other words, none twice, and none where nobody elsewhere could call this site back.
    """
    essay = session.scalar(select(Essay).where(Essay.submission_id == submission_id))
    if essay is None or not is_public(settings):
        return []
    words = released(session, [essay.submission_id])[essay.submission_id]
    source = f"{settings.address}/essays/{essay.slug}"
    known = set(session.scalars(select(Mention.target).where(Mention.essay_id == essay.id, Mention.way == Way.OUT)))
    made = []
    for target in _elsewhere(settings, markup.links(words.body))[:MOST_TOLD]:
        if target not in known:
            made.append(_waiting(essay.id, Way.OUT, source, target))
    session.add_all(made)
    session.flush()
    return [each.id for each in made]


def is_public(settings: Settings) -> bool:
    """Whether readers' address was set to one that the rest of the world can call."""
    host = urlsplit(settings.site_url or "").hostname or ""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not _NOT_PUBLIC.fullmatch(host.rstrip("."))


# Either way.


def take(session: Session, mention_id: int) -> Taken | None:
    """Return a mention that is due, to be seen to by this worker alone for a while, or None."""
    row = session.scalar(select(Mention).where(Mention.id == mention_id, _is_due()).with_for_update(skip_locked=True))
    if row is None:
        return None
    row.attempts += 1
    row.not_before = database_time() + TRYING_TAKES
    session.flush()
    return Taken(row.id, Way(row.way), row.source, row.target, row.attempts)


def due(session: Session) -> list[int]:
    """Return the mentions that are to be seen to now, the oldest of each way."""
    found: list[int] = []
    for way, at_once in ((Way.IN, IN_AT_ONCE), (Way.OUT, OUT_AT_ONCE)):
        oldest = select(Mention.id).where(Mention.way == way.value, _is_due()).order_by(Mention.id).limit(at_once)
        found += session.scalars(oldest)
    return found


def told(site: Site, taken: Taken, why: str | None = None) -> str:
    """Record that a page elsewhere was told, or, with *why*, that it takes no webmentions."""
    return _end(site, taken, why=why)


def refuse(site: Site, taken: Taken, why: str, *, passing: bool = False) -> str:
    """Record that nothing came of a mention; a *passing* refusal is tried again, `MOST_ATTEMPTS` times in all."""
    if not passing or taken.attempt >= MOST_ATTEMPTS:
        return _end(site, taken, state=MentionState.REFUSED, why=why)
    with site.database.sessions.begin() as session:
        row = _mine(session, taken)
        if row is not None:
            if _forgotten(site, session, row):
                return MentionState.REFUSED.value
            row.why = why
            row.not_before = database_time() + FIRST_WAIT * 4 ** (taken.attempt - 1)
    return "it is tried again"


def listed(session: Session, way: Way) -> list[Listed]:
    """Return the newest mentions of one way, at most `LISTED`, for admins."""
    rows = session.scalars(select(Mention).where(Mention.way == way.value).order_by(Mention.id.desc()).limit(LISTED))
    return [
        Listed(row.source, row.target, MentionState(row.state), row.why, row.attempts, row.created_at) for row in rows
    ]


def counts(session: Session) -> dict[tuple[Way, MentionState], int]:
    """Return how many mentions there are of each way and state."""
    rows = session.execute(select(Mention.way, Mention.state, func.count()).group_by(Mention.way, Mention.state))
    return {(Way(way), MentionState(state)): number for way, state, number in rows}


def _checked(settings: Settings, source: str) -> str:
    """Return the address of a page that may be looked at, in one spelling. Raises `MentionRefused`."""
    page = _page(source) if len(source) <= LONGEST else None
    if page is None or len(page) > LONGEST:
        raise MentionRefused(f"The source must be an http or https address of at most {LONGEST:,} characters.")
    if urlsplit(page).hostname == urlsplit(settings.address).hostname:
        raise MentionRefused("The source must be a page elsewhere.")
    return page


def _page(source: str) -> str | None:
    """Return an address as what its server is asked: without a fragment, and its host in one spelling.

    None for one that needs more mending than that.
    """
    spelled = _SPELLED.fullmatch(source)
    if spelled is None or not spelled["authority"].isascii():
        return None
    scheme, rest = spelled["scheme"].lower(), spelled["rest"]
    address = f"{scheme}://{spelled['authority'].lower()}{rest}"
    if not markup.is_address(address):
        return None
    try:
        host, port = urlsplit(address).hostname or "", urlsplit(address).port
    except ValueError:  # No port has such a number.
        return None
    where = host.rstrip(".") + (f":{port}" if port not in {None, _PORTS[scheme]} else "")
    asked = rest.partition("#")[0]
    return f"{scheme}://{where}{asked if asked.startswith('/') else f'/{asked}'}"


def _slug(settings: Settings, target: str) -> str:
    """Return the essay that a target is the address of. Raises `MentionRefused`."""
    path = target.partition("#")[0].partition("?")[0].removeprefix(settings.address)
    match = _SLUG.fullmatch(path)
    if not target.startswith(f"{settings.address}/") or match is None:
        raise MentionRefused("The target must be the address of an essay that is posted here.")
    return match[1]


def _note(site: Site, essay_id: int, source: str, target: str) -> None:
    with site.database.sessions.begin() as session:
        if _erased(session, essay_id, _secret(site, source)) is not None:
            raise MentionRefused("No webmentions of this essay are taken from this page any more.")
        row = session.scalar(
            select(Mention)
            .where(
                Mention.essay_id == essay_id,
                Mention.way == Way.IN.value,
                Mention.source == source,
                Mention.target == target,
            )
            .with_for_update()
        )
        if row is None:
            row = _waiting(essay_id, Way.IN, source, target)
            session.add(row)
        elif row.state != MentionState.WAITING.value:
            row.state, row.why, row.attempts, row.not_before, row.ended_at = "waiting", None, 0, None, None


def _waiting(essay_id: int, way: Way, source: str, target: str) -> Mention:
    return Mention(
        essay_id=essay_id,
        way=way.value,
        source=source,
        target=target,
        state=MentionState.WAITING.value,
        attempts=0,
        created_at=now(),
    )


def _is_due() -> ColumnElement[bool]:
    passed = or_(Mention.not_before.is_(None), Mention.not_before <= database_time())
    return and_(Mention.state == MentionState.WAITING.value, passed)


def _mine(session: Session, taken: Taken) -> Mention | None:
    """Return the row of a mention, locked, if it is still this worker's."""
    return session.scalar(
        select(Mention)
        .where(
            Mention.id == taken.id,
            Mention.state == MentionState.WAITING.value,
            Mention.attempts == taken.attempt,
        )
        .with_for_update()
    )


def _end(
    site: Site,
    taken: Taken,
    *,
    state: MentionState = MentionState.DONE,
    why: str | None = None,
    public_id: str | None = None,
) -> str:
    with site.database.sessions.begin() as session:
        row = _mine(session, taken)
        if row is None:
            return "another worker sees to it"
        if _forgotten(site, session, row):
            return MentionState.REFUSED.value
        row.state, row.why, row.not_before, row.ended_at = state.value, why, None, now()
        if public_id is not None:
            row.comment_id = comments.one(session, public_id)[0].id
    return state.value


def _letter(source: str, author: str | None, words: str | None) -> Letter:
    quoted = "".join(f"> {line}\n" for line in words.split("\n")) + "\n" if words else ""
    return Letter(author=author or "", body=f"{quoted}<{source}>", wants_reply=False)


def _as_taken(session: Session, letter: Letter, host: str) -> Letter:
    """Return a letter under a name that may stand there: the page's author's, else the host's."""
    try:
        return comments.check(session, letter)
    except WordsRefused as refused:
        if refused.field != "author":
            return letter  # What is wrong with its words is said where it is put before the gate.
        return Letter(author=host[:80], body=letter.body, wants_reply=False)


def _secret(site: Site, source: str) -> str:
    """Return the author's secret of a page: always the same, and known to nobody else."""
    return site.keys.keyed_digest("webmention", source)


def _letter_of(session: Session, taken: Taken, secret: str) -> Comment | None:
    """Return the letter that came of a page under an essay, the newest if there are several."""
    return _newest(session, session.get_one(Mention, taken.id).essay_id, secret)


def _newest(session: Session, essay_id: int, secret: str) -> Comment | None:
    return session.scalar(
        select(Comment)
        .where(Comment.essay_id == essay_id, Comment.author_digest == fingerprint(secret))
        .order_by(Comment.id.desc())
        .limit(1)
    )


def _erased(session: Session, essay_id: int, secret: str) -> Comment | None:
    """Return the letter that came of a page under an essay if it was erased."""
    letter = _newest(session, essay_id, secret)
    if letter is None or standing(session, [letter.submission_id])[letter.submission_id].erased_at is None:
        return None
    return letter


def _forgotten(site: Site, session: Session, row: Mention) -> bool:
    """End a mention whose letter was erased, and empty where it came from; return whether it was."""
    if row.way != Way.IN.value:
        return False
    letter = _erased(session, row.essay_id, _secret(site, row.source))
    if letter is None:
        return False
    row.comment_id = letter.id
    row.source, row.target, row.why = f"{erasure.FORGOTTEN}{secrets.token_hex(32)}", "", None
    row.state, row.not_before, row.ended_at = MentionState.REFUSED.value, None, now()
    return True


def _elsewhere(settings: Settings, links: Iterable[str]) -> list[str]:
    """Return the addresses among *links* that are pages elsewhere, each once, in order."""
    own = urlsplit(settings.address).hostname
    kept = dict.fromkeys(
        address
        for link in links
        if (address := markup.address(link)) is not None
        and len(address) <= LONGEST
        and address.startswith(("http://", "https://"))
        and urlsplit(address).hostname != own
    )
    return list(kept)
