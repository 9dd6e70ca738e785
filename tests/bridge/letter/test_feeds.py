"""Feeds: what stands in them, in what order, under what label; and that hostile words leave them well-formed."""

import re
import xml.parsers.expat
from datetime import UTC, datetime

import feedparser
import pytest
from ground.house import SLUG, House
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from bridge.letter import comments, feeds
from bridge.letter.feeds import _Entry, _feed, _html
from bridge.page.metadata import AI_SOURCE
from bridge.records import Voice
from bridge.text.passages import Passage
from bridge.voice import voices

HOSTILE = (
    "<script>window.__ran=1</script>",
    "]]><script>window.__ran=1</script><![CDATA[",
    "&lt;img src=x onerror=alert(1)&gt; &#60;b&#62; &amp;amp;",
    "\"'><svg onload=alert(1)>",
    "<!-- --> <?xml version='1.0'?> <!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]> &y;",
    "</content></entry></feed>",
    "\u202eright to left\u202c \ufeff \ufffe \uffff \U0001f600",
)
C0 = "".join(map(chr, range(32)))


def parsed(body: bytes) -> feedparser.FeedParserDict:
    """Return a feed as its readers read it. Fails if it is not well-formed."""
    xml.parsers.expat.ParserCreate().Parse(body, True)
    read = feedparser.parse(body, sanitize_html=False)
    assert not read.bozo
    return read


def titles(body: bytes) -> list[str]:
    return [entry.title for entry in parsed(body).entries]


def test_gives_the_newest_essays_first(house: House) -> None:
    house.essay("another", "# Another\n\nMore *of it*.")
    read = parsed(feeds.of_site(house.site).body)
    assert [entry.title for entry in read.entries] == ["AI: Another", "AI: On rest"]
    assert read.entries[0].link == f"{house.site.settings.address}/essays/another"
    assert read.entries[0].author == "Test Voice"
    assert "<em>of it</em>" in read.entries[0].content[0].value
    assert read.feed.links[1].rel == "self"


def test_labels_a_passage_and_not_the_letter_around_it(house: House) -> None:
    house.post("Why well?", passage=Passage(0, "rest well"))
    # As readers of feeds show it, who take out what they do not know.
    (entry,) = feedparser.parse(feeds.of_essay(house.site, SLUG).body).entries
    assert "<strong><span>AI</span></strong> <span>rest well</span>" in re.sub(r"(<\w+)[^>]*", r"\1", entry.summary)
    assert entry.title == "A letter by Reader"
    assert "tags" not in entry
    assert AI_SOURCE not in str(entry)


def test_gives_letters_and_answers_by_when_they_were_posted(house: House) -> None:
    first, reply = house.exchange("The first letter.", "The first answer.")
    house.post("In answer.", parent=reply, author="Second")
    read = parsed(feeds.of_essay(house.site, SLUG).body)
    assert [entry.title for entry in read.entries] == [
        "A letter by Second",
        "AI: Test Voice answers Reader",
        "A letter by Reader",
    ]
    address = house.site.settings.address
    assert [entry["thr_in-reply-to"]["ref"] for entry in read.entries] == [
        f"{address}/replies/{reply}",
        f"{address}/comments/{first.public_id}",
        f"{address}/essays/{SLUG}",
    ]


def test_has_an_old_letter_where_its_answer_is_new(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "LETTERS", 2)
    house.post("An old letter.")
    (reply,) = house.answer("A late answer.")
    for number in range(3):
        house.post(f"Letter {number}.", author=f"Reader {number}")
    house.approve(reply)
    assert titles(feeds.of_essay(house.site, SLUG).body) == ["AI: Test Voice answers Reader", "A letter by Reader 2"]


def test_marks_what_a_model_wrote_and_nothing_else(house: House) -> None:
    house.exchange("Do you dream?", "I do not.")
    house.post("And now?")
    (rehearsed,) = house.answer("A rehearsed answer.", rehearsed=True)
    house.approve(rehearsed)
    by_title = {entry.title: entry for entry in parsed(feeds.of_essay(house.site, SLUG).body).entries}
    answer = by_title["AI: Test Voice answers Reader"]
    assert answer["schema_digitalsourcetype"] == AI_SOURCE
    assert {(tag.term, tag.scheme) for tag in answer.tags} >= {
        ("AI", None),
        ("trainedAlgorithmicMedia", AI_SOURCE.removesuffix("trainedAlgorithmicMedia")),
    }
    assert answer.summary == voices.DISCLAIMER
    assert answer.content[0].value.startswith("<p><strong>AI</strong>")
    rehearsal = by_title["REHEARSAL: Test Voice (rehearsal) answers Reader"]
    assert "schema_digitalsourcetype" not in rehearsal
    assert "tags" not in rehearsal
    assert rehearsal.content[0].value.startswith("<p><strong>REHEARSAL</strong> Not written by a model")
    assert voices.DISCLAIMER not in str(rehearsal)
    assert "tags" not in by_title["A letter by Reader"]


def test_labels_a_stand_in_and_gives_it_no_mark(house: House) -> None:
    with house.site.database.sessions.begin() as session:
        session.scalars(select(Voice)).one().stand_in = True
    (entry,) = parsed(feeds.of_site(house.site).body).entries
    assert entry.title == "STAND-IN: On rest"
    assert AI_SOURCE not in str(entry)
    assert voices.DISCLAIMER not in str(entry)


def test_has_nothing_that_was_taken_back(house: House) -> None:
    sent, _ = house.exchange("Canaryone sings.", "Canarytwo answers.", author="Canarythree")
    assert b"Canaryone" in feeds.of_essay(house.site, SLUG).body
    comments.take_back(house.site, sent.public_id)
    assert b"Canary" not in feeds.of_essay(house.site, SLUG).body


def test_tells_an_author_each_step_in_words(house: House) -> None:
    sent = house.send("Do you dream?")
    assert titles(feeds.of_letter(house.site, sent.token).body) == ["It arrived safely"]
    house.approve(sent.public_id)
    (reply,) = house.answer("I do not.")
    waits = feeds.of_letter(house.site, sent.token).body
    assert titles(waits) == ["Test Voice answered", "A person read it and posted it", "It arrived safely"]
    assert b"I do not." not in waits
    house.approve(reply)
    posted = parsed(feeds.of_letter(house.site, sent.token).body)
    assert posted.entries[0].title == "AI: Test Voice answers Reader"
    assert "I do not." in posted.entries[0].content[0].value
    comments.take_back(house.site, sent.public_id)
    gone = feeds.of_letter(house.site, sent.token).body
    assert titles(gone)[0] == "It was taken back"
    assert b"I do not." not in gone


def test_tells_an_author_that_the_voice_declined(house: House) -> None:
    sent = house.post("Do you dream?")
    tool = {"type": "tool_use", "id": "d", "name": "decline", "input": {"reason": "No."}}
    house.hear({"content": [tool], "stop_reason": "tool_use"})
    assert "Test Voice read it and chose not to answer" in titles(feeds.of_letter(house.site, sent.token).body)


def test_opens_no_feed_with_another_link(house: House) -> None:
    house.send()
    with pytest.raises(comments.NoSuchComment):
        feeds.of_letter(house.site, "not-a-token")


@pytest.mark.parametrize("words", HOSTILE)
def test_escapes_hostile_words_once(house: House, words: str) -> None:
    house.exchange(f"Look: {words}", f"I see {words}.", author="R " + words.replace("\n", " ")[:60])
    (answer, letter) = parsed(feeds.of_essay(house.site, SLUG).body).entries
    for entry in (answer, letter):
        html = entry.content[0].value
        assert entry.content[0].type == "text/html"
        assert "&amp;lt;script" not in html.replace("&amp;amp;lt;", "")
        for tag in ("<script", "<svg", "<img", "<!DOCTYPE", "<?xml"):
            assert tag not in html


@given(st.text(), st.text(), st.text(), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_stays_well_formed_whatever_is_written(house: House, title: str, name: str, words: str, ai: bool) -> None:
    told = _Entry(
        id="https://letters.example.org/replies/1",
        title=title + C0 + "x",
        at=datetime(2026, 11, 24, tzinfo=UTC),
        author=name + C0 + "x",
        address="https://letters.example.org/replies/1",
        html=_html(
            label="AI",
            told=words + C0,
            gist=name,
            passage=title,
            voice=Voice(stand_in=not ai),
            address="https://letters.example.org/",
        ),
        summary=words + C0,
        ai=ai,
        answers=("https://letters.example.org/comments/1", "https://letters.example.org/comments/1"),
        via="https://example.org/?a=1&b=\"'<>",
    )
    fed = _feed(
        house.site,
        at="https://letters.example.org/feed.atom",
        title=title + C0 + "x",
        page="https://letters.example.org/",
        entries=[told, told],
    )
    xml.parsers.expat.ParserCreate().Parse(fed.body, True)
