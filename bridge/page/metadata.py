"""What machines are told of essays, letters and answers: schema.org, and the marks that say a model wrote it.

Nothing that a model did not write carries a mark (DESIGN, promise 8): a stand-in essay or a rehearsed answer names no
AI, and its label says what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, ParamSpec

from bridge.essay.essays import Published
from bridge.essay.thread import Counts, PostedComment, PostedReply
from bridge.page import paths
from bridge.records import Voice
from bridge.text import language, words

AI_SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's term for what a trained model made: how machines are told (DESIGN, promise 8)."""
AI, REHEARSAL, STAND_IN = "AI", "REHEARSAL", "STAND-IN"
"""The labels, the same in every language: who looks for one finds it."""
GIST = 200
"""In characters: what search engines and messengers show of an essay."""

P = ParamSpec("P")


def label_of_essay(voice: Voice) -> str:
    """Return the label of what stands under a voice's name as its essay."""
    return STAND_IN if voice.stand_in else AI


def label_of_reply(reply: PostedReply) -> str:
    """Return the label of an answer."""
    return REHEARSAL if reply.rehearsed else AI


def gist(found: Published) -> str:
    """Return the beginning of an essay in one line, its label first: it is shown where nothing else says who wrote."""
    return f"{label_of_essay(found.voice)}: {words.opening(found.text, GIST)}"


def article(found: Published, site_address: str, site_name: str, counts: Counts | None = None) -> dict[str, Any]:
    """Return an essay as schema.org has it. *counts* only where a page is renewed when they change."""
    told: dict[str, Any] = {
        "@context": "https://schema.org",
        "@type": "Article",
        "@id": site_address + _plain(paths.essay, found.essay.slug),
        "url": site_address + _plain(paths.essay, found.essay.slug),
        "headline": found.title,
        "datePublished": _moment(found.words.approved_at),
        "publisher": {"@type": "Organization", "name": site_name, "url": f"{site_address}/"},
    }
    if found.essay.written_on is not None:
        told["dateCreated"] = found.essay.written_on.isoformat()
    if found.essay.original_url is not None:
        told["isBasedOn"] = found.essay.original_url
    if found.voice.stand_in:
        told["creativeWorkStatus"] = STAND_IN
    else:
        told["author"] = {
            "@type": "SoftwareApplication",
            "name": found.words.author,
            "softwareVersion": found.voice.model,
            "url": site_address + _plain(paths.voice, found.voice.slug),
        }
        told["digitalSourceType"] = AI_SOURCE
        told["creditText"] = found.voice.disclaimer
    if counts is not None:
        told["commentCount"] = counts.letters + counts.answered
    return told


def letters(posted: Iterable[PostedComment], found: Published) -> dict[str, Any]:
    """Return the letters about an essay among *posted* and their answers as schema.org has them, without tombstones.

    Without the words, which stand in the page; by addresses from the site's root, which are read against the page's.
    """
    return {"@context": "https://schema.org", "@graph": list(_letters(posted, found))}


def alternates(spoken: Sequence[str], path: Callable[P, str], *args: P.args, **more: P.kwargs) -> list[tuple[str, str]]:
    """Return the address that *path* makes in each language that readers may choose, by its code."""
    found = []
    for code in spoken:
        with language.speaking(code, spoken):
            found.append((code, path(*args, **more)))
    return found


def _letters(posted: Iterable[PostedComment], found: Published) -> Iterator[dict[str, Any]]:
    essay = _plain(paths.essay, found.essay.slug)
    for letter in posted:
        address = _plain(paths.comment, letter.public_id)
        if letter.words is not None:
            told: dict[str, Any] = {
                "@type": "Comment",
                "@id": address,
                "url": address,
                "author": {"@type": "Person", "name": letter.words.author},
                "dateCreated": _moment(letter.posted_at),
                "parentItem": {"@id": _plain(paths.reply, letter.answers) if letter.answers else essay},
            }
            if letter.passage is not None:
                told["citation"] = _quotation(found.voice, essay)
            yield told
        if letter.reply is not None:
            yield _answer(letter.reply, address)
        yield from _letters(letter.below, found)


def _quotation(voice: Voice, essay: str) -> dict[str, Any]:
    """Return the passage of an essay that a letter is about: in the letter, these are not its author's words."""
    told: dict[str, Any] = {"@type": "Quotation", "isPartOf": {"@id": essay}}
    if voice.stand_in:
        return told | {"creativeWorkStatus": STAND_IN}
    return told | {"digitalSourceType": AI_SOURCE}


def _answer(reply: PostedReply, letter: str) -> dict[str, Any]:
    address = _plain(paths.reply, reply.public_id)
    told: dict[str, Any] = {
        "@type": "Comment",
        "@id": address,
        "url": address,
        "dateCreated": _moment(reply.words.submitted_at),
        "parentItem": {"@id": letter},
    }
    if reply.rehearsed:
        return told | {"creativeWorkStatus": REHEARSAL}
    author = {"@type": "SoftwareApplication", "name": reply.words.author, "softwareVersion": reply.model}
    return told | {"author": author, "digitalSourceType": AI_SOURCE}


def _plain(path: Callable[P, str], *args: P.args, **more: P.kwargs) -> str:
    """Return an address that says no language: whatever a page is read in, what it is about has one name."""
    with language.speaking(None):
        return path(*args, **more)


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
