"""The marks of AI, on every surface that carries an answer or an essay: taken from the URL map, so none is forgotten.

Where a model's words are, a label that people can read and IPTC's term for machines are too (DESIGN, promise 8). Where
no model wrote, neither is, and the label says what it is.
"""

import json
from collections.abc import Iterator, Set
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground.house import SLUG, House, bearer, desk_of, live, tree
from ground.postbag import READER, confirmed, put_down, received
from sqlalchemy import select, update
from werkzeug.test import TestResponse

from bridge.essay import essays
from bridge.letter import comments
from bridge.letter.comments import Letter
from bridge.page import shelf
from bridge.page.metadata import AI_SOURCE
from bridge.records import Essay
from bridge.voice import voices
from bridge.voice.voices import NewVoice
from bridge.web.access import Access, declared, open_to
from moderation import gate
from moderation.base import Base
from moderation.queue import pending

ANSWER = "canaryanswer-heliotrope"
ESSAY = "canaryessay-heliotrope"
PLACES = ("real", "rehearsed")
OPEN = {Access.PUBLIC, Access.AUTHOR, Access.MODERATOR, Access.ADMIN, Access.BEARER}
MODERATORS = Base.metadata.tables["moderators"]


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
        """Whether an answer, or the text of an essay, is in it. A title alone only names what a letter is about."""
        return ANSWER in self.text or ESSAY in self.text

    def labels(self) -> list[str]:
        """Return the labels that people read, in order."""
        if self.kind == "text/html":
            return [
                (each.text or "").strip()
                for each in tree(self.text).iter("span")
                if "label" in each.get("class", "").split()
            ]
        if self.kind == "application/atom+xml":
            return [name for name in ("AI", "REHEARSAL", "STAND-IN") if f"<title>{name}: " in self.text]
        if self.kind == "application/json":
            told = list(of_json(json.loads(self.text)))
            marks = [("REHEARSAL" if each.get("rehearsed") else "AI") for each in told if "rehearsed" in each]
            return marks + [("STAND-IN" if each["stand_in"] else "AI") for each in told if "stand_in" in each]
        return []


def of_json(told: object) -> Iterator[dict[str, object]]:
    """Yield every object in *told*."""
    if isinstance(told, dict):
        yield told
    for each in told.values() if isinstance(told, dict) else told if isinstance(told, list) else ():
        yield from of_json(each)


def surfaces(house: House, app: Flask, place: str, among: Set[Access] = OPEN) -> list[Surface]:
    """Return what every address answers on which there may be an answer, by GET, to whoever may ask."""
    lived = live(house)
    rehearsed = place == "rehearsed"
    with house.site.database.sessions.begin() as session:
        session.execute(update(MODERATORS).where(MODERATORS.c.id == house.ada).values(role="admin"))
        voice = voices.add(session, NewVoice("Understudy", "none", "You are a test.", stand_in=rehearsed))
        added = essays.submit_essay(session, voice, f"# On sleep\n\n{ESSAY}", slug="second")
        waiting = pending(session, added.submission_id)
        assert waiting is not None
        gate.approve(session, waiting.id, moderator=house.ada, seen=waiting.digest)
        shelf.essay_changed(session, house.site.settings, added.id)
        essay_id = added.id
    sent = house.post("Do you dream?", slug="second")
    (reply,) = house.answer(ANSWER, slug="second", rehearsed=rehearsed)
    house.approve(reply)
    house.post("And now?", slug="second", parent=reply)
    (waits,) = house.answer(f"{ANSWER} waits", slug="second", rehearsed=rehearsed)
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
    client, desk = app.test_client(), desk_of(app)
    found = []
    for rule in app.url_map.iter_rules():
        access = declared(app, rule.endpoint)
        if "GET" not in (rule.methods or ()) or access not in among or rule.endpoint in {"static", "security.static"}:
            continue
        private = access in {Access.MODERATOR, Access.ADMIN, Access.BEARER}
        path = lived.address(rule).replace(f"/{SLUG}", "/second").replace("/test-voice", "/understudy")
        for each in (path, f"{path}?essay=second&of={reply}&answering={reply}"):
            answer = (desk if private else client).get(each, headers=bearer(house.tokens.ada), buffered=True)
            if answer.status_code == 200:
                found.append(Surface(rule.endpoint, each, answer, private=private))
    return found


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
"""What carries the words for certain: a test that finds less looks in the wrong places."""


def test_marks_what_a_model_wrote_wherever_it_stands(house: House, app: Flask) -> None:
    found = [each for each in surfaces(house, app, "real") if each.carries]
    assert {each.endpoint for each in found} >= CARRYING
    assert any(each.private for each in found)
    unlabelled = {each.path for each in found if not each.private and "AI" not in each.labels()}
    assert unlabelled == set()
    unmarked = {each.path for each in found if not each.private and AI_SOURCE not in each.text}
    assert unmarked == set()


def test_marks_nothing_that_no_model_wrote(house: House, app: Flask) -> None:
    found = [each for each in surfaces(house, app, "rehearsed") if each.carries]
    assert {each.endpoint for each in found} >= CARRYING
    public = [each for each in found if not each.private]
    assert {each.path for each in public if not {"REHEARSAL", "STAND-IN"} & set(each.labels())} == set()
    # The front page and the site's feed have another voice's essay beside it: `test_feeds` looks at each entry.
    alone = [each for each in public if each.endpoint not in {"pages.index", "around.site_feed"}]
    assert {each.path for each in alone if "AI" in each.labels()} == set()
    assert {each.path for each in alone if AI_SOURCE in each.text} == set()
    assert {each.path for each in alone if '"ai_generated":true' in each.text} == set()


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
    parts = [part for each in mail for part in each.walk() if part.get_content_maintype() == "text"]
    carrying = [part for part in parts if ANSWER in part.get_content()]
    assert {part.get_content_type() for part in carrying} == {"text/plain", "text/html"}
    for part in carrying:
        said = part.get_content()
        label = "AI" if place == "real" else "REHEARSAL"
        assert label in said[: said.index(ANSWER)].replace(AI_SOURCE, "")
        # Plain text has no place for a mark but its label.
        by_machine = part.get_content_type() == "text/html" and place == "real"
        assert (AI_SOURCE in said) == by_machine


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


def test_finds_an_unmarked_surface(house: House, app: Flask) -> None:
    """What somebody adds without a label is found, without being named here."""

    def forgotten() -> str:
        return f"<p>{ANSWER}</p>"

    app.add_url_rule("/forgotten", "forgotten", open_to(Access.PUBLIC)(forgotten))
    found = [each for each in surfaces(house, app, "real", {Access.PUBLIC}) if each.carries]
    assert {each.path.partition("?")[0] for each in found if "AI" not in each.labels()} == {"/forgotten"}
