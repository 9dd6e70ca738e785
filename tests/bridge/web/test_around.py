"""The pages around, the feeds as they are sent, and what robots read."""

import os
import xml.parsers.expat
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground.house import SLUG, House, site_over, text, tree
from sqlalchemy import select

from bridge.app import create_app
from bridge.letter import comments
from bridge.page import sitemap, statements
from bridge.page.statements import NoStatement
from bridge.records import Voice
from bridge.voice import voices

LOC = "{http://www.sitemaps.org/schemas/sitemap/0.9}loc"


def served(house: House, **settings: object) -> FlaskClient:
    """Return a browser on the same site under other settings."""
    return create_app(site_over(house.site.database, house.site.settings.data, **settings)).test_client()


# A voice's page.


def test_tells_who_a_voice_is(house: House, client: FlaskClient) -> None:
    house.exchange()
    with house.site.database.sessions.begin() as session:
        voices.set_about(session, voices.at(session, "test-voice"), "It liked <b>long</b> sentences.")
    page = client.get("/voices/test-voice")
    said = text(page)
    assert "AI Test Voice" in said
    assert voices.DISCLAIMER in said
    assert "It liked <b>long</b> sentences." in said
    assert "It is asked." in said
    assert "One letter in all, one answered" in said
    assert "no-such-model-0" in said


def test_says_that_a_paused_voice_is_not_asked_and_not_why(house: House, client: FlaskClient) -> None:
    with house.site.database.sessions.begin() as session:
        voices.pause(session, session.scalars(select(Voice)).one(), "The key canary-heliotrope is bad.")
    said = text(client.get("/voices/test-voice"))
    assert "It is not being asked just now." in said
    assert "canary" not in said


def test_says_of_a_stand_in_that_it_is_no_model(house: House, client: FlaskClient) -> None:
    with house.site.database.sessions.begin() as session:
        session.scalars(select(Voice)).one().stand_in = True
    page = client.get("/voices/test-voice")
    assert "STAND-IN Test Voice" in text(page)
    assert "no-such-model-0" not in page.text
    assert voices.DISCLAIMER not in text(page)
    assert 'class="label ai"' not in page.text


def test_counts_rehearsals_as_what_they_are(house: House, client: FlaskClient) -> None:
    house.post()
    (reply,) = house.answer(rehearsed=True)
    assert "rehearsal" not in text(client.get("/voices/test-voice"))
    house.approve(reply)
    assert "One of the answers under its essays is a rehearsal" in text(client.get("/voices/test-voice"))


def test_lists_no_essay_that_waits(house: House, client: FlaskClient) -> None:
    house.essay("second", "# A canary\n\nMore.", released=False)
    assert "A canary" not in client.get("/voices/test-voice").text


def test_knows_no_other_voice(client: FlaskClient) -> None:
    assert client.get("/voices/nobody").status_code == 404


# Privacy.


def test_says_of_privacy_what_is_set(house: House) -> None:
    plain = text(served(house).get("/privacy"))
    assert "erased after 90 days" in plain
    assert "Anthropic" in plain
    assert "Akismet" not in plain
    assert "have not added a statement of their own yet" in plain
    assert "have not added their imprint yet" in plain
    other = text(served(house, akismet_key="k1", keep_rejected=0, contact="desk@letters.example").get("/privacy"))
    assert "Akismet" in other
    assert "kept until you have them erased" in other
    assert "desk@letters.example" in other


def test_shows_what_the_operator_says(house: House, tmp_path: Path) -> None:
    (tmp_path / "privacy.md").write_text("# Who\n\nWe are *us*. <script>window.__ran=1</script>")
    (tmp_path / "imprint.md").write_text("A street, a city")
    page = served(house, privacy_text=tmp_path / "privacy.md", imprint_text=tmp_path / "imprint.md").get("/privacy")
    assert "<em>us</em>" in page.text
    assert "A street, a city" in text(page)
    assert not [each for each in tree(page).iter("script") if "__ran" in (each.text or "")]
    assert [each.tag for each in tree(page).iter() if each.tag in {"h1"}] == ["h1"]


def test_shows_a_changed_statement_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "imprint.md"
    file.write_text("Before")
    assert "Before" in statements.read(file)
    file.write_text("After!")
    os.utime(file, ns=(1, 1))
    assert "After!" in statements.read(file)


@pytest.mark.parametrize("words", [b"\xff\xfe", b"", b"  \n", b"x" * (statements.LONGEST + 1)])
def test_says_what_is_wrong_with_a_statement(tmp_path: Path, words: bytes) -> None:
    file = tmp_path / "imprint.md"
    file.write_bytes(words)
    with pytest.raises(NoStatement):
        statements.read(file)
    assert statements.shown(file) is None
    assert statements.shown(tmp_path / "nowhere.md") is None
    assert statements.shown(tmp_path) is None


def test_tells_how_it_works_with_the_veto_as_it_is_set(house: House) -> None:
    assert "two people who agree" in text(served(house).get("/about"))
    assert "two people who agree" not in text(served(house, veto_quorum=1).get("/about"))


# Feeds as they are sent.

FEEDS = ["/feed.atom", f"/essays/{SLUG}/feed.atom"]


@pytest.mark.parametrize("address", FEEDS)
def test_sends_a_feed_once_and_then_says_that_nothing_changed(house: House, client: FlaskClient, address: str) -> None:
    house.exchange()
    first = client.get(address)
    assert first.mimetype == "application/atom+xml"
    assert first.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert first.headers["Cache-Control"] == "no-cache"
    again = client.get(address, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize("address", FEEDS)
def test_knows_a_feed_by_no_date(house: House, client: FlaskClient, address: str) -> None:
    # A disclaimer changes, or the software does: the newest decision is as old as before.
    house.exchange()
    first = client.get(address)
    assert "Last-Modified" not in first.headers
    with house.site.database.sessions.begin() as session:
        session.scalars(select(Voice)).one().disclaimer = "Nobody speaks for it."
    tomorrow = {"If-Modified-Since": format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)}
    again = client.get(address, headers=tomorrow)
    assert again.status_code == 200
    assert again.headers["ETag"] != first.headers["ETag"]


def test_changes_the_tag_of_a_feed_when_words_are_taken_back(house: House, client: FlaskClient) -> None:
    sent, _ = house.exchange("Canaryone sings.")
    first = client.get(FEEDS[1])
    comments.take_back(house.site, sent.public_id)
    again = client.get(FEEDS[1], headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 200
    assert "Canaryone" not in again.text


def test_keeps_a_letters_feed_out_of_every_cache(house: House, client: FlaskClient) -> None:
    sent = house.post()
    answer = client.get(f"/letters/{sent.token}/feed.atom")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert client.get(f"/letters/{sent.token}x/feed.atom").status_code == 404
    assert f"/letters/{sent.token}/feed.atom" in client.get(f"/letters/{sent.token}").text


def test_gives_no_feed_of_what_is_not_there(house: House, client: FlaskClient) -> None:
    house.essay("second", released=False)
    assert client.get("/essays/second/feed.atom").status_code == 404
    assert client.get("/essays/nowhere/feed.atom").status_code == 404


# Robots.


def places(client: FlaskClient) -> list[str]:
    answer = client.get("/sitemap.xml")
    xml.parsers.expat.ParserCreate().Parse(answer.data, True)
    return [each.text or "" for each in ElementTree.fromstring(answer.text).iter(LOC)]


def test_tells_robots_of_what_is_released_and_of_nothing_else(house: House, client: FlaskClient) -> None:
    sent, reply = house.exchange()
    waiting = house.send("Are you there?")
    house.essay("second", released=False)
    address = house.site.settings.address
    found = places(client)
    assert {f"{address}/essays/{SLUG}", f"{address}/comments/{sent.public_id}", f"{address}/replies/{reply}"} <= set(
        found
    )
    assert f"{address}/voices/test-voice" in found
    assert not [each for each in found if waiting.public_id in each or "second" in each]
    comments.take_back(house.site, sent.public_id)
    assert not [each for each in places(client) if sent.public_id in each or reply in each]


def test_serves_each_address_of_the_sitemap(house: House, client: FlaskClient) -> None:
    house.exchange()
    address = house.site.settings.address
    assert {client.get(each.removeprefix(address)).status_code for each in places(client)} == {200}


def test_bounds_the_sitemap(house: House, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    house.exchange()
    monkeypatch.setattr(sitemap, "MOST", 3)
    assert len(places(client)) == 3


def test_asks_robots_to_leave_forms_and_letters_alone(client: FlaskClient) -> None:
    told = client.get("/robots.txt")
    assert told.mimetype == "text/plain"
    assert {"Disallow: /desk/", "Disallow: /letters/"} <= set(told.text.splitlines())
    assert told.text.rstrip().endswith("/sitemap.xml")


# What stands in the head of an essay's page.


def test_names_each_page_of_an_essay_once_and_in_each_language(house: House, client: FlaskClient) -> None:
    address = f"{house.site.settings.address}/essays/{SLUG}"
    links = [each.attrib for each in tree(client.get(f"/essays/{SLUG}?lang=de")).iter("link")]
    assert [each["href"] for each in links if each["rel"] == "canonical"] == [f"{address}?lang=de"]
    alternates = {each["hreflang"]: each["href"] for each in links if "hreflang" in each}
    assert alternates == {
        "en": address,
        "de": f"{address}?lang=de",
        "ar": f"{address}?lang=ar",
        "x-default": address,
    }
    feeds = [each["href"] for each in links if each.get("type") == "application/atom+xml"]
    assert feeds == [f"/essays/{SLUG}/feed.atom", "/feed.atom"]


def test_labels_what_messengers_show(house: House, app: Flask) -> None:
    _, reply = house.exchange("Do you dream?", "I do not.")
    client = app.test_client()

    def shown(path: str) -> dict[str, str]:
        metas = tree(client.get(path)).iter("meta")
        return {each.get("property", ""): each.get("content", "") for each in metas}

    essay, answer = shown(f"/essays/{SLUG}"), shown(f"/replies/{reply}")
    assert essay["og:title"] == "AI: On rest"
    assert essay["og:description"] == "AI: I rest well."
    assert answer["og:title"] == "AI: Test Voice"
    assert answer["og:description"] == "AI: I do not."


def test_keeps_a_sitemap_in_one_piece_on_another_database(any_house: House) -> None:
    any_house.exchange()
    with any_house.site.database.reading_sessions() as session:
        assert sitemap.sitemap(session, any_house.site.settings).count("<lastmod>") == 3
