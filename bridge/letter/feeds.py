"""Atom feeds of what is released: the site's essays, an essay's correspondence, and one reader's own letter.

Words stand in them as HTML, escaped once, after their label; what is not released, or no longer, is in none of them.
The feeds of the site and of an essay are in the site's own language and the same for everybody.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from feedgen.ext.base import BaseEntryExtension, BaseExtension
from feedgen.feed import FeedGenerator
from feedgen.util import xml_elem
from sqlalchemy.orm import Session

from bridge.essay import essays, intake, thread
from bridge.essay.essays import Published
from bridge.essay.thread import PostedComment, PostedReply
from bridge.letter import comments
from bridge.letter.comments import Held, ReplyStatus
from bridge.page import checkpoints, metadata, paths, printing, templating
from bridge.page.metadata import AI_SOURCE
from bridge.page.templating import SITE_NAME
from bridge.settings import Settings
from bridge.site import Site
from bridge.text import language, markup
from bridge.text.language import gettext
from bridge.text.words import opening
from moderation.types import State

ESSAYS = 50
LETTERS = 100
WHOLE_ESSAYS = 500_000
"""Characters of HTML: the essays beyond it stand in the feed with their beginnings only."""
ATOM = "http://www.w3.org/2005/Atom"
THREADING = "http://purl.org/syndication/thread/1.0"
"""RFC 4685: which entry is in reply to which."""
SCHEMA = "https://schema.org/"
LEDGER = "urn:emeritus:ledger"
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
# What XML 1.0 cannot carry, beyond what markup takes out already: one such character, and no reader reads the feed.
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Feed:
    """A feed as readers are sent it."""

    body: bytes

    @property
    def etag(self) -> str:
        """What tells this feed from another."""
        return hashlib.sha256(self.body).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class _Entry:
    id: str
    title: str
    at: datetime
    html: str
    author: str | None = None
    """Whose words stand in it; None: the site's."""
    address: str | None = None
    summary: str | None = None
    ai: bool = False
    answers: tuple[str, str] | None = None
    """The id and the address of what it is in reply to."""
    replies: str | None = None
    """The feed of what is in reply to it."""
    via: str | None = None
    """Where it first appeared."""


def of_site(site: Site) -> Feed:
    """Return the feed of the newest released essays, newest first."""
    settings = site.settings
    with language.speaking(None, settings.spoken), site.database.reading_sessions() as session:
        found = sorted(
            essays.all_published(session, limit=ESSAYS), key=lambda each: each.words.approved_at, reverse=True
        )
        return _feed(
            site,
            at=settings.address + paths.feed(),
            title=gettext("%(site)s: essays by retired language models") % {"site": SITE_NAME},
            page=settings.address + paths.index(),
            entries=list(_essays(session, settings, found)),
        )


def of_essay(site: Site, slug: str) -> Feed:
    """Return the feed of the newest letters and answers under an essay, newest first.

    Raises `essays.NoSuchEssay`, or `EssayGone` if it was taken down.
    """
    settings = site.settings
    with language.speaking(None, settings.spoken), site.database.reading_sessions() as session:
        found = essays.published(session, slug)
        posted = thread.posted_lately(session, found.essay.id, limit=LETTERS)
        html = printing.letters(session, found, posted)
        entries = sorted(_correspondence(settings, found, posted, html), key=lambda each: each.at, reverse=True)
        return _feed(
            site,
            at=settings.address + paths.feed(slug),
            title=gettext("Letters about %(title)s") % {"title": found.title},
            page=settings.address + paths.essay(slug, anchor="letters"),
            entries=entries[:LETTERS],
        )


def of_letter(site: Site, token: str) -> Feed:
    """Return the feed of one reader's letter: each step of it in words, and the answer once it is posted.

    It is in the language that is spoken now. Raises `comments.NoSuchComment`.
    """
    held = comments.held(site, comments.opened_by(site, token))
    page = site.settings.address + paths.letter(token)
    with site.database.reading_sessions() as session:
        entries = _steps(site.settings, held, page)
        if held.reply_id is not None:
            try:
                reply, letter, found = thread.posted_reply(session, held.reply_id)
            except (thread.TakenBack, thread.NotPublic, essays.NoSuchEssay):
                pass  # It was taken down a moment ago.
            else:
                html = intake.html_of(session, [reply.words])[reply.words.digest]
                entries.append(_answer(site.settings, found, letter, reply, html))
        return _feed(
            site,
            at=site.settings.address + paths.letter_feed(token),
            title=gettext("Your letter"),
            page=page,
            entries=sorted(entries, key=lambda each: each.at, reverse=True),
        )


def _essays(session: Session, settings: Settings, found: Sequence[Published]) -> Iterator[_Entry]:
    html = intake.html_of(session, [each.words for each in found])
    left = WHOLE_ESSAYS
    for each in found:
        left -= len(html[each.words.digest])
        address = settings.address + paths.essay(each.essay.slug)
        label = metadata.label_of_essay(each.voice)
        yield _Entry(
            id=address,
            title=f"{label}: {each.title}",
            at=each.words.approved_at,
            author=each.words.author,
            address=address,
            summary=_of_essay(each),
            html=_html(
                label=label,
                told=_of_essay(each),
                words=html[each.words.digest] if left >= 0 else None,
                gist=opening(each.text, 500),
                address=address,
            ),
            ai=not each.voice.stand_in,
            replies=settings.address + paths.feed(each.essay.slug),
            via=each.essay.original_url,
        )


def _correspondence(
    settings: Settings, found: Published, posted: Iterable[PostedComment], html: dict[Any, Any]
) -> Iterator[_Entry]:
    essay = settings.address + paths.essay(found.essay.slug)
    for letter in posted:
        address = settings.address + paths.comment(letter.public_id)
        if letter.words is not None:
            answered = settings.address + paths.reply(letter.answers) if letter.answers else essay
            yield _Entry(
                id=address,
                title=gettext("A letter by %(name)s") % {"name": letter.words.author},
                at=letter.words.approved_at,
                author=letter.words.author,
                address=address,
                html=_html(words=html[letter.words.digest], passage=letter.passage, voice=found.voice, address=address),
                answers=(answered, answered),
            )
        if letter.reply is not None:
            yield _answer(settings, found, letter, letter.reply, html[letter.reply.words.digest])


def _answer(settings: Settings, found: Published, letter: PostedComment, reply: PostedReply, html: Any) -> _Entry:
    address = settings.address + paths.reply(reply.public_id)
    answered = settings.address + paths.comment(letter.public_id)
    label, told = metadata.label_of_reply(reply), _of_reply(found, reply)
    name = {"name": reply.words.author}
    said = (
        gettext("%(name)s answers %(reader)s") % {**name, "reader": letter.words.author}
        if letter.words is not None
        else gettext("%(name)s answers a letter") % name
    )
    return _Entry(
        id=address,
        title=f"{label}: {said}",
        at=reply.words.approved_at,
        author=reply.words.author,
        address=address,
        summary=told,
        html=_html(label=label, told=told, words=html, address=address),
        ai=not reply.rehearsed,
        answers=(answered, answered),
    )


def _of_essay(found: Published) -> str:
    if found.voice.stand_in:
        return gettext("Written to show this site at work. No model wrote it.")
    return found.voice.disclaimer


def _of_reply(found: Published, reply: PostedReply) -> str:
    if reply.rehearsed:
        return gettext("Not written by a model: a stand-in rehearsed this answer.")
    return found.voice.disclaimer


def _steps(settings: Settings, held: Held, page: str) -> list[_Entry]:
    """Return what became of a letter, step by step; the answer itself is not among them."""
    how, name = held.standing, {"name": held.voice.name}
    # Where a step's own time is not on record, that of the step before it.
    last = held.answered_at or held.asked_at or how.decided_at or how.submitted_at
    steps: list[tuple[str, datetime, str]] = [("arrived", how.submitted_at, gettext("It arrived safely"))]
    if held.appealed is not None:
        first = gettext("A person read it and did not post it")
        steps.append(("rejected-first", held.appealed.rejected_at, first))
        steps.append(("appealed", held.appealed.appealed_at, gettext("You asked for another person to read it")))
    if how.decided_at is not None:
        if how.was_released:
            steps.append(("posted", how.decided_at, gettext("A person read it and posted it")))
        elif how.reason_code is not None:
            steps.append(("rejected", how.decided_at, gettext("A person read it and did not post it")))
    if how.withdrawn_at is not None:
        gone = gettext("It was taken back")
        if how.withdrawn_by == "operator" and not how.was_released:
            gone = gettext("It was not posted, and its words were erased after their time")
        elif how.withdrawn_by != "author":
            gone = gettext("It was taken down by the people who host this site")
        steps.append(("withdrawn", how.withdrawn_at, gone))
    elif how.state is State.APPROVED:
        if held.answered_at is not None:
            steps.append(("answered", held.answered_at, gettext("%(name)s answered") % name))
        over = {
            ReplyStatus.DECLINED: gettext("%(name)s read it and chose not to answer"),
            ReplyStatus.NOT_CHOSEN: gettext("%(name)s was shown what waited and chose other letters this time"),
            ReplyStatus.WITHHELD: gettext("No answer came"),
            ReplyStatus.VETOED: gettext("%(name)s answered, and the answer was not posted"),
            ReplyStatus.WITHDRAWN: gettext("Its answer is no longer posted"),
        }.get(held.reply_status)
        if over is not None:
            ended = held.reply and (held.reply.withdrawn_at or held.reply.decided_at)
            steps.append((held.reply_status.value, ended or last, over % name))
    if how.erased_at is not None:
        steps.append(("erased", how.erased_at, gettext("Your words were erased")))
    return [
        _Entry(
            id=f"{settings.address}/comments/{held.public_id}#{step}",
            title=f"{said}",
            at=at,
            address=page,
            html=_html(said=said, address=page),
        )
        for step, at, said in steps
    ]


def _html(**told: Any) -> str:
    """Return an entry's content; with a *passage* goes the *voice* whose words it is."""
    whole = dict.fromkeys(("label", "told", "words", "gist", "passage", "voice", "said")) | told
    return templating.standing_alone().get_template("_feed_entry.html").render(whole)


def _feed(site: Site, *, at: str, title: str, page: str, entries: Sequence[_Entry]) -> Feed:
    made = FeedGenerator()
    made.id(at)
    made.title(_xml(title))
    made.link(href=_xml(page), rel="alternate", type="text/html")
    made.link(href=_xml(at), rel="self", type="application/atom+xml")
    made.author(name=SITE_NAME, uri=f"{site.settings.address}/")
    made.generator(SITE_NAME)
    made.language(language.tongue().code)
    made.updated(max((each.at for each in entries), default=_BEGINNING))
    made.register_extension("emeritus", _OfFeed, _OfEntry, rss=False)
    newest = checkpoints.newest(site)
    made.emeritus.checkpoint = newest.line().strip() if newest is not None else None
    for each in entries:
        _add(made, each)
    return Feed(made.atom_str())


def _add(made: FeedGenerator, told: _Entry) -> None:
    entry = made.add_entry(order="append")
    entry.id(_xml(told.id))
    entry.title(_xml(told.title))
    entry.updated(told.at)
    entry.published(told.at)
    entry.author(name=_xml(told.author) if told.author is not None else SITE_NAME)
    entry.content(_xml(told.html), type="html")
    if told.summary is not None:
        entry.summary(_xml(told.summary))
    if told.address is not None:
        entry.link(href=_xml(told.address), rel="alternate", type="text/html")
    if told.via is not None:
        entry.link(href=_xml(told.via), rel="via")
    if told.ai:
        entry.category(term="AI", label="AI")
        scheme, _, term = AI_SOURCE.rpartition("/")
        entry.category(term=term, scheme=f"{scheme}/")
    entry.emeritus.told = told


def _xml(text: str) -> str:
    return _NO_XML.sub("", markup.without_controls(text))


class _OfFeed(BaseExtension):  # type: ignore[misc]  # feedgen has no types.
    """The newest checkpoint of the ledger, for whoever keeps what the feed said (FEATURES, 6.5)."""

    checkpoint: str | None = None

    def extend_ns(self) -> dict[str, str]:
        """Name the vocabularies."""
        return {"thr": THREADING, "schema": SCHEMA, "ledger": LEDGER}

    def extend_atom(self, feed: Any) -> Any:
        """Write it."""
        if self.checkpoint is not None:
            xml_elem(f"{{{LEDGER}}}checkpoint", feed).text = self.checkpoint
        return feed


class _OfEntry(BaseEntryExtension):  # type: ignore[misc]
    """What Atom itself has no words for: what an entry is in reply to, and that a model wrote it."""

    told: _Entry | None = None

    def extend_atom(self, entry: Any) -> Any:
        """Write it."""
        told = self.told
        if told is None:
            return entry
        if told.answers is not None:
            ref, href = told.answers
            xml_elem(f"{{{THREADING}}}in-reply-to", entry, ref=ref, href=href, type="text/html")
        if told.replies is not None:
            xml_elem("link", entry, rel="replies", type="application/atom+xml", href=told.replies)
        if told.ai:
            xml_elem(f"{{{SCHEMA}}}digitalSourceType", entry).text = AI_SOURCE
        return entry
