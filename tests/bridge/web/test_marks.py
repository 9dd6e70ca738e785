"""The marks of AI, on every surface that carries an answer or an essay: taken from the URL map, so none is forgotten.

Where a model's words are, a label that people can read and IPTC's term for machines are too (DESIGN, promise 8). Where
no model wrote, neither is, and the label says what it is.
"""

import json
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground.house import SLUG, House, bearer, desk_of, form, live, tree
from ground.postbag import READER, confirmed, put_down, received
from sqlalchemy import select, update
from werkzeug.test import TestResponse

from bridge.essay import essays
from bridge.letter import comments
from bridge.letter.comments import Letter
from bridge.letter.feeds import ATOM, SCHEMA
from bridge.page import shelf
from bridge.page.metadata import AI_SOURCE
from bridge.records import Essay
from bridge.text.passages import Passage
from bridge.voice import voices
from bridge.voice.voices import NewVoice
from bridge.web.access import Access, declared, open_to
from bridge.web.writing import author_cookie
from moderation import gate
from moderation.base import Base
from moderation.queue import pending

ANSWER = "canaryanswer-heliotrope"
ESSAY = "canaryessay-heliotrope"
PASSAGE = "canarypassage-heliotrope"
"""Words of the essay that letters quote."""
CANARIES = (ANSWER, ESSAY, PASSAGE)
LABELS = ("AI", "REHEARSAL", "STAND-IN")
PLACES = ("real", "rehearsed")
OPEN = {Access.PUBLIC, Access.AUTHOR, Access.MODERATOR, Access.ADMIN, Access.BEARER}
MODERATORS = Base.metadata.tables["moderators"]


@dataclass(frozen=True, slots=True)
class Words:
    """Words of a voice's, wherever they stand, with what is said of them there and of nothing else."""

    where: str
    labels: tuple[str, ...]
    """What people read before the words."""
    marked: bool
    """Whether machines are told that a model wrote them."""


class Surface:
    """What one address answers."""

    def __init__(self, endpoint: str, path: str, answer: TestResponse, *, private: bool) -> None:
        self.endpoint = endpoint
        self.path = path
        self.kind = answer.mimetype
        self.text = answer.text
        self.private = private
        """Whether only moderators see it."""

    @property
    def carries(self) -> bool:
        """Whether an answer or words of an essay are in it. A title alone only names what a letter is about."""
        return any(each in self.text for each in CANARIES)

    def words(self) -> list[Words]:
        """Return every place in which words of a voice's stand on it, in order."""
        if self.kind == "text/html":
            return list(of_html(self.text))
        if self.kind == "application/atom+xml":
            return list(of_feed(self.text))
        if self.kind == "application/json":
            return list(of_json(json.loads(self.text)))
        return [Words(self.kind, (), marked=False)] if self.carries else []


def of_html(html: str) -> Iterator[Words]:
    """Yield the words of a voice's on a page: its text, and what its head says of it.

    A label and a mark are theirs if they belong to the same item of microdata, the innermost around the words.
    """
    page = tree(html)
    above = {child: parent for parent in page.iter() for child in parent}
    labels: dict[Element | None, list[str]] = {}
    for each in page.iter():
        item = item_of(each, above)
        said = (each.text or "").strip()
        if "label" in each.get("class", "").split() and said in LABELS:
            labels.setdefault(item, []).append(said)
        if each.tag == "meta" and holds_one(each.get("content", "")):
            said = each.get("content", "").partition(": ")[0]
            where = f"meta {each.get('name') or each.get('property')}"
            yield Words(where, (said,) if said in LABELS else (), marked=AI_SOURCE in json.dumps(of_machines(page)))
        elif each.tag not in {"script", "title"} and holds_one(own_text(each)):
            # Of no item, nothing is said: what is at the head of a page is not said of everything on it.
            marked = item is not None and any(
                meta.get("itemprop") == "digitalSourceType"
                and meta.get("content") == AI_SOURCE
                and item_of(meta, above) is item
                for meta in item.iter("meta")
            )
            where = f"{each.tag} {each.get('class', '')}".strip()
            yield Words(where, tuple(labels.get(item, ())) if item is not None else (), marked=marked)


def item_of(element: Element, above: Mapping[Element, Element]) -> Element | None:
    """Return the innermost item of microdata around an element, or the element if it is one; None if there is none."""
    found: Element | None = element
    while found is not None and "itemscope" not in found.attrib:
        found = above.get(found)
    return found


def own_text(element: Element) -> str:
    """Return the text that stands in an element and in none below it."""
    return (element.text or "") + "".join(child.tail or "" for child in element)


def holds_one(text: str) -> bool:
    """Whether a canary is in *text*."""
    return any(each in text for each in CANARIES)


def of_feed(xml: str) -> Iterator[Words]:
    """Yield the words of a voice's in a feed. A passage is marked within the entry, which is a reader's."""
    for entry in ElementTree.fromstring(xml).iter(f"{{{ATOM}}}entry"):
        content = entry.findtext(f"{{{ATOM}}}content", "")
        if ANSWER not in content and ESSAY not in content:
            yield from of_html(content)
            continue
        title = entry.findtext(f"{{{ATOM}}}title", "").partition(": ")[0]
        begins = re.match(r"\s*<p><strong>([A-Z-]+)</strong>", content)
        both = title in LABELS and begins is not None and begins[1] == title
        by_category = any(AI_SOURCE.endswith(f"/{each.get('term')}") for each in entry.iter(f"{{{ATOM}}}category"))
        by_term = entry.findtext(f"{{{SCHEMA}}}digitalSourceType") == AI_SOURCE
        assert by_category == by_term
        yield Words(f"entry {entry.findtext(f'{{{ATOM}}}id')}", (title,) if both else (), marked=by_term)


def of_json(told: object) -> Iterator[Words]:
    """Yield the objects in *told* that hold words of a voice's."""
    if isinstance(told, dict) and any(holds_one(each) for each in told.values() if isinstance(each, str)):
        said = ["REHEARSAL" if told["rehearsed"] else "AI"] if "rehearsed" in told else []
        said += ["STAND-IN" if told["stand_in"] else "AI"] if "stand_in" in told else []
        marks = (told.get("ai_generated"), told.get("digitalSourceType"))
        yield Words(", ".join(told), tuple(said), marked=marks == (True, AI_SOURCE))
    for each in told.values() if isinstance(told, dict) else told if isinstance(told, list) else ():
        yield from of_json(each)


def of_machines(page: Element) -> list[dict[str, object]]:
    """Return what a page tells machines as JSON-LD."""
    told = [each.text or "" for each in page.iter("script") if each.get("type") == "application/ld+json"]
    return [json.loads(each) for each in told]


def surfaces(house: House, app: Flask, place: str, among: Set[Access] = OPEN) -> list[Surface]:
    """Return what every address answers on which there may be words of a voice's, by GET, to whoever may ask."""
    lived = live(house)
    rehearsed = place == "rehearsed"
    with house.site.database.sessions.begin() as session:
        session.execute(update(MODERATORS).where(MODERATORS.c.id == house.ada).values(role="admin"))
        voice = voices.add(session, NewVoice("Understudy", "none", "You are a test.", stand_in=rehearsed))
        added = essays.submit_essay(session, voice, f"# On sleep\n\n{ESSAY}\n\nI say {PASSAGE}.", slug="second")
        waiting = pending(session, added.submission_id)
        assert waiting is not None
        gate.approve(session, waiting.id, moderator=house.ada, seen=waiting.digest)
        shelf.essay_changed(session, house.site.settings, added.id)
        essay_id = added.id
    about = Passage(1, PASSAGE)
    sent = house.post("Do you dream?", slug="second", passage=about)
    (reply,) = house.answer(ANSWER, slug="second", rehearsed=rehearsed)
    house.approve(reply)
    house.post("And now?", slug="second", parent=reply)
    (waits,) = house.answer(f"{ANSWER} waits", slug="second", rehearsed=rehearsed)
    alone = house.post("What is that?", slug="second", passage=about, wants_reply=False)
    unread = house.send("Is it so?", slug="second", passage=about)
    with house.site.database.reading_sessions() as session:
        assert session.scalars(select(Essay.id).where(Essay.slug == "second")).one() == essay_id
    lived = replace(
        lived,
        comment=sent.public_id,
        reply=reply,
        link=sent.token,
        posted=house.submission(reply),
        pending=house.submission(waits),
    )
    # A letter with an answer, one that is posted without one, and one that waits.
    lives = (lived, replace(lived, comment=alone.public_id, link=alone.token), replace(lived, link=unread.token))
    client, desk = app.test_client(), desk_of(app)
    client.set_cookie(author_cookie(house.site), unread.author_secret)
    found = {}
    for rule in app.url_map.iter_rules():
        access = declared(app, rule.endpoint)
        if "GET" not in (rule.methods or ()) or access not in among or rule.endpoint in {"static", "security.static"}:
            continue
        private = access in {Access.MODERATOR, Access.ADMIN, Access.BEARER}
        for each in lives:
            path = each.address(rule).replace(f"/{SLUG}", "/second").replace("/test-voice", "/understudy")
            for whole in (path, f"{path}?essay=second&of={reply}&answering={reply}", f"{path}?about=1"):
                if whole in found:
                    continue
                answer = (desk if private else client).get(whole, headers=bearer(house.tokens.ada), buffered=True)
                if answer.status_code == 200:
                    found[whole] = Surface(rule.endpoint, whole, answer, private=private)
    return list(found.values())


CARRYING = {
    "pages.index",
    "pages.essay",
    "pages.framed_essay",
    "pages.comment",
    "pages.reply",
    "api.get_thread",
    "api.get_reply",
    "api.get_essay",
    "around.site_feed",
    "around.essay_feed",
    "around.letter_feed",
    "around.voice",
}
"""What carries an answer or an essay for certain: a test that finds less looks in the wrong places."""
QUOTING = {
    "pages.essay",
    "pages.framed_essay",
    "pages.comment",
    "pages.reply",
    "pages.letter",
    "pages.change_form",
    "mine.index",
    "writing.write",
    "writing.framed_write",
    "api.get_thread",
    "around.essay_feed",
}
"""What carries a passage for certain."""
TELLING = {"pages.essay", "pages.framed_essay", "pages.comment", "pages.reply"}
"""What says in JSON-LD, too, who wrote the letters and answers on it."""


def test_marks_what_a_model_wrote_wherever_it_stands(house: House, app: Flask) -> None:
    found = [each for each in surfaces(house, app, "real") if each.carries]
    assert {each.endpoint for each in found} >= CARRYING | QUOTING
    assert {each.endpoint for each in found if PASSAGE in each.text} >= QUOTING
    assert any(each.private for each in found)
    public = [each for each in found if not each.private]
    assert {each.path for each in public if not each.words()} == set(), "words that were not found"
    every = [(each.path, words) for each in public for words in each.words()]
    assert [(path, words) for path, words in every if "AI" not in words.labels] == []
    assert [(path, words) for path, words in every if not words.marked] == []


def test_marks_nothing_that_no_model_wrote(house: House, app: Flask) -> None:
    found = [each for each in surfaces(house, app, "rehearsed") if each.carries]
    assert {each.endpoint for each in found} >= CARRYING | QUOTING
    public = [each for each in found if not each.private]
    every = [(each.path, words) for each in public for words in each.words()]
    assert [(path, words) for path, words in every if not {"REHEARSAL", "STAND-IN"} & set(words.labels)] == []
    assert [(path, words) for path, words in every if "AI" in words.labels or words.marked] == []
    # The front page and the site's feed have another voice's essay beside it.
    alone = [each for each in public if each.endpoint not in {"pages.index", "around.site_feed"}]
    assert {each.path for each in alone if AI_SOURCE in each.text} == set()
    assert {each.path for each in alone if 'data-ai="true"' in each.text} == set()
    assert {each.path for each in alone if '"ai_generated":true' in each.text} == set()


@pytest.mark.parametrize("place", PLACES)
def test_tells_machines_of_each_answer_and_passage_on_a_page(house: House, app: Flask, place: str) -> None:
    found = [each for each in surfaces(house, app, place, {Access.PUBLIC}) if each.endpoint in TELLING]
    assert {each.endpoint for each in found} == TELLING
    answers, quotations = 0, 0
    for each in found:
        page = tree(each.text)
        told = {one["@id"]: one for whole in of_machines(page) for one in graph(whole) if "@id" in one}
        for answer in page.iter("div"):
            if "answer" in answer.get("class", "").split():
                answers += 1
                assert says_who_wrote(told[f"/replies/{answer.get('id', '').removeprefix('answer-')}"], place), (
                    each.path
                )
        for letter in page.iter("article"):
            if any(child.get("class") == "passage" for child in letter):
                quotations += 1
                quotation = told[f"/comments/{letter.get('id', '').removeprefix('letter-')}"]["citation"]
                assert says_who_wrote(quotation, place), each.path
                assert quotation["isPartOf"] == {"@id": "/essays/second"}
    assert (answers > len(TELLING), quotations > len(TELLING)) == (True, True)


def graph(told: dict[str, object]) -> list[dict[str, Any]]:
    """Return what one script of JSON-LD tells of: itself, or what is in its graph."""
    among = told.get("@graph", [told])
    assert isinstance(among, list)
    return among


def says_who_wrote(told: Mapping[str, object], place: str) -> bool:
    """Whether machines are told that a model wrote it, or in rehearsal that none did."""
    marks = (told.get("digitalSourceType"), told.get("creativeWorkStatus"))
    return marks == (AI_SOURCE, None) if place == "real" else marks[0] is None and marks[1] in LABELS


@pytest.mark.parametrize("place", PLACES)
def test_marks_a_passage_while_its_letter_is_written(house: House, app: Flask, place: str) -> None:
    surfaces(house, app, place, set())
    client = app.test_client()
    filled = form(client.get("/essays/second/write?about=1"), "/comments")
    read_over = filled.submit(client, author="Reader", body="Is it so?", preview="yes")
    refused = filled.submit(client, author="Reader", body="")
    assert (read_over.status_code, refused.status_code) == (200, 422)
    for page in (read_over, refused):
        (words,) = of_html(page.text)
        assert (words.labels, words.marked) == ((("AI",), True) if place == "real" else (("STAND-IN",), False))


@pytest.mark.parametrize("place", PLACES)
def test_labels_the_words_on_the_desk(house: House, app: Flask, place: str) -> None:
    shown = [each for each in surfaces(house, app, place, {Access.MODERATOR}) if each.private and ANSWER in each.text]
    pages = [each for each in shown if each.endpoint == "desk.submission"]
    assert pages
    wanted = "AI" if place == "real" else "REHEARSAL"
    assert {each.path for each in pages if wanted not in each.text} == set()


@pytest.mark.parametrize("place", PLACES)
def test_marks_an_answer_in_mail_in_both_of_its_parts(house: House, place: str) -> None:
    first = house.send("A first letter.", email=READER)
    confirmed(house.site)
    comments.take_back(house.site, first.public_id)
    letter = Letter("Reader", "Do you dream?", email=READER)
    sent = comments.receive_comment(house.site, SLUG, letter)
    house.approve(sent.public_id)
    (reply,) = house.answer(ANSWER, rehearsed=place == "rehearsed")
    house.approve(reply)
    mail = [received(house.site, put) for put in put_down(house.site) if put.mail is not None]
    parts = [(each, part) for each in mail for part in each.walk() if part.get_content_maintype() == "text"]
    carrying = [(each, part) for each, part in parts if ANSWER in part.get_content()]
    assert {part.get_content_type() for _, part in carrying} == {"text/plain", "text/html"}
    label = "AI" if place == "real" else "REHEARSAL"
    for whole, part in carrying:
        said = part.get_content()
        # Plain text has no place for a mark: the mail's head has it, for both parts.
        assert whole["X-Digital-Source-Type"] == (AI_SOURCE if place == "real" else None)
        if part.get_content_type() == "text/html":
            assert [(words.labels, words.marked) for words in of_html(said)] == [((label,), place == "real")]
        else:
            assert label in said[: said.index(ANSWER)].splitlines()
            assert AI_SOURCE not in said


def test_leaves_no_essay_page_without_its_json(house: House, client: FlaskClient) -> None:
    house.exchange("Do you dream?", "</script><script>window.__ran=1</script>", author="</script><b>")
    page = client.get(f"/essays/{SLUG}")
    told = [
        json.loads(each.text or "") for each in tree(page).iter("script") if each.get("type") == "application/ld+json"
    ]
    article = next(each for each in told if each.get("@type") == "Article")
    assert article["digitalSourceType"] == AI_SOURCE
    assert article["author"]["@type"] == "SoftwareApplication"
    assert article["commentCount"] == 2
    letter, answer = next(each["@graph"] for each in told if "@graph" in each)
    assert letter["author"] == {"@type": "Person", "name": "</script><b>"}
    assert answer["digitalSourceType"] == AI_SOURCE
    assert answer["parentItem"] == {"@id": letter["@id"]}
    assert "__ran" not in json.dumps(told)


MARKED = f"""<div itemscope itemtype="https://schema.org/Comment">
  <meta itemprop="digitalSourceType" content="{AI_SOURCE}"><span class="label ai">AI</span> <p>{ANSWER}</p></div>"""


@pytest.mark.parametrize(
    ("beside", "missing"),
    [
        (f"<p>{ANSWER}</p>", {"label", "mark"}),
        (f"<blockquote itemscope>{PASSAGE}</blockquote>", {"label", "mark"}),
        (MARKED.replace("<meta", "<link"), {"mark"}),
        (MARKED.replace("label ai", "ai"), {"label"}),
        (MARKED.replace("</p>", f'</p><div itemscope itemprop="comment">{PASSAGE}</div>'), {"label", "mark"}),
        (MARKED.replace(f"<p>{ANSWER}</p>", "").replace("<span", f"<p>{ANSWER}</p><span"), {"label"}),
    ],
)
def test_finds_unmarked_words_beside_marked_ones(beside: str, missing: set[str]) -> None:
    first, *more = of_html(MARKED + beside)
    assert (first.labels, first.marked) == (("AI",), True)
    unlabelled, unmarked = any("AI" not in each.labels for each in more), any(not each.marked for each in more)
    assert (unlabelled, unmarked) == ("label" in missing, "mark" in missing)


def test_finds_an_unmarked_surface(house: House, app: Flask) -> None:
    """What somebody adds without a label is found, without being named here, though marked words stand beside it."""

    def forgotten() -> str:
        return f"{MARKED}<p>{ANSWER}</p>"

    app.add_url_rule("/forgotten", "forgotten", open_to(Access.PUBLIC)(forgotten))
    found = [each for each in surfaces(house, app, "real", {Access.PUBLIC}) if each.carries]
    every = [(each.path.partition("?")[0], words) for each in found for words in each.words()]
    assert {path for path, words in every if "AI" not in words.labels} == {"/forgotten"}
    assert {path for path, words in every if not words.marked} == {"/forgotten"}
