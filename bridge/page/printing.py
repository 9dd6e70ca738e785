"""Printing: a correspondence as HTML and JSON, from what is released, for whoever may read it.

It happens in no request: when a decision changes a page (`page.shelf`), and where a stored page is missing.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from markupsafe import Markup
from sqlalchemy.orm import Session

from bridge.essay import intake, thread
from bridge.essay.essays import Published
from bridge.essay.thread import AboutBlock, Counts, PostedComment
from bridge.page import assets, templating
from bridge.page.metadata import AI_SOURCE
from bridge.records import Voice
from bridge.settings import Settings
from bridge.text import language, markup, passages
from bridge.text.words import COMMENT_LENGTH
from moderation.types import Digest, Released

_HERE = secrets.token_hex(32)
"""Where the letters go in a template: a word that no reader can know."""
_FRAMES = {"page": "essay.html", "embed": "embed.html"}


@dataclass(frozen=True, slots=True)
class Block:
    """A block of an essay's text, and what was written about it."""

    html: Markup
    about: AboutBlock | None
    quoted: str
    """Where in the text that it shows there stand words that letters quote: "4-13 20-24" (`quoted_in`)."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """What stands around the letters of one page of a correspondence."""

    found: Published
    blocks: Sequence[Block]
    """Of the essay's text; none on later pages, which have no essay."""
    counts: Counts
    page: int
    pages: int


@cache
def version(settings: Settings) -> str:
    """Return what tells pages of this version of the software, and of these settings, from those of another."""
    made_of = (markup.PIPELINE, templating.version(), assets.all_versions(), settings.languages, settings.address)
    return hashlib.sha256("\n".join(made_of).encode()).hexdigest()


def sheet(session: Session, found: Published, page: int, *, pages: int, counts: Counts) -> Sheet:
    """Return what stands around the letters of a page of an essay's correspondence."""
    return Sheet(found, _blocks(session, found) if page == 1 else [], counts, page, pages)


def quoted_in(block: Markup, quoted: Iterable[str]) -> str:
    """Return where *quoted* words stand in the text that a block shows: begin and end of each stretch, in order.

    In units of UTF-16, as `passages.js` counts; each white space is one unit. What overlaps is one stretch, so this is
    never long, however many letters there are.
    """
    shown = " ".join(markup.shown_text(block).split())
    stretches: list[tuple[int, int]] = []
    for begin, end in sorted((at, at + len(each)) for each in quoted if (at := shown.find(each)) >= 0):
        before = stretches.pop() if stretches and begin <= stretches[-1][1] else (begin, end)
        stretches.append((before[0], max(before[1], end)))
    return " ".join(f"{_units(shown[:begin])}-{_units(shown[:end])}" for begin, end in stretches)


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _blocks(session: Session, found: Published) -> list[Block]:
    html = intake.html_of(session, [found.words])[found.words.digest]
    about = thread.about_blocks(session, found.essay.id)
    return [
        Block(each, about.get(n), quoted_in(each, about[n].passages) if n in about else "")
        for n, each in enumerate(passages.framed(html))
    ]


def letters(session: Session, found: Published, posted: Sequence[PostedComment]) -> dict[Digest, Markup]:
    """Return the HTML of every letter and answer among *posted*, by digest."""
    return intake.html_of(session, words_of(posted))


def printed_letters(found: Published, posted: Sequence[PostedComment], html: Mapping[Digest, Markup]) -> str:
    """Return the letters of a page, in what is spoken now; the page and the frame have the same."""
    template = templating.standing_alone().get_template("_letters.html")
    return template.render(found=found, letters=posted, html=html)


def printed_around(settings: Settings, of: Sheet, surface: str) -> tuple[str, str]:
    """Return what stands before and after the letters on a page or in a frame, in what is spoken now."""
    whole = (
        templating.standing_alone()
        .get_template(_FRAMES[surface])
        .render(
            found=of.found,
            essay_blocks=of.blocks,
            counts=of.counts,
            page=of.page,
            pages=of.pages,
            letters_here=_HERE,
            limit=COMMENT_LENGTH,
            site_address=settings.address,
            spoken=settings.spoken,
            others=language.others(settings.spoken, {"page": str(of.page)} if of.page > 1 else {}),
            framed=surface == "embed",
        )
    )
    before, _, after = whole.partition(_HERE)
    return before, after


def words_of(posted: Iterable[PostedComment]) -> list[Released]:
    """Return all words among *posted*, those below others too."""
    found = []
    for letter in posted:
        found += [w for w in (letter.words, letter.reply.words if letter.reply else None) if w is not None]
        found += words_of(letter.below)
    return found


def listed(
    found: Published, posted: Sequence[PostedComment], html: Mapping[Digest, Markup], *, following: int | None
) -> dict[str, Any]:
    """Return a page of the API's thread; *following* is the place after which the next one begins."""
    return {
        "comments": [comment_in_thread(comment, html, found.voice) for comment in posted],
        "next": str(following) if following is not None else None,
    }


def comment_in_thread(comment: PostedComment, html: Mapping[Digest, Markup], voice: Voice) -> dict[str, Any]:
    """Return a released comment, or the tombstone of one, as the API's thread shows it; its essay is the *voice*'s."""
    words, reply = comment.words, comment.reply
    return {
        "id": comment.public_id,
        "author": words.author if words else None,
        "html": str(html[words.digest]) if words else None,
        "created_at": moment(comment.posted_at),
        "parent": comment.answers,
        "digest": comment.digest,
        "withdrawn_at": moment(comment.gone.at) if comment.gone else None,
        "passage": passage(comment.passage_block, comment.passage, voice) if comment.passage and words else None,
        "reply": {
            "id": reply.public_id,
            "html": str(html[reply.words.digest]),
            "voice": reply.voice,
            "author": reply.words.author,
            "digest": reply.words.digest,
            "model": reply.model,
            "rehearsed": reply.rehearsed,
            "asked_at": moment(reply.asked_at),
            "approved_at": moment(reply.words.approved_at),
            **by_a_model(not reply.rehearsed),
        }
        if reply is not None
        else None,
    }


def passage(block: int | None, quoted: str, voice: Voice) -> dict[str, Any]:
    """Return words of an essay that a comment is about as the API tells them, marked as the essay is."""
    return {"block": block, "words": quoted, "stand_in": voice.stand_in, **by_a_model(not voice.stand_in)}


def as_json(told: Mapping[str, Any]) -> str:
    """Return JSON as the site writes it: UTF-8, without blanks."""
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def by_a_model(is_so: bool) -> dict[str, Any]:
    """Return the marks that machines read: whether a model wrote it, and the term for that."""
    return {"ai_generated": is_so, "digitalSourceType": AI_SOURCE if is_so else None}


def moment(at: datetime) -> str:
    """Return a moment as the API tells it."""
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def whole(session: Session, settings: Settings, found: Published, page: int, surface: str) -> str:
    """Return a page or frame in what is spoken now, all of it, where no stored one is."""
    posted = thread.conversation(session, found.essay.id, page)
    of = sheet(
        session,
        found,
        page,
        pages=thread.pages(session, found.essay.id),
        counts=thread.counts(session, [found.essay.id])[found.essay.id],
    )
    before, after = printed_around(settings, of, surface)
    return before + printed_letters(found, posted, letters(session, found, posted)) + after
