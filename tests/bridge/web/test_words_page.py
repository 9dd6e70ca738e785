"""The page of listed words: for admins, by plain forms, and nothing is changed by looking."""

from __future__ import annotations

import re

import pytest
from flask.testing import FlaskClient
from ground.house import ADA, House
from sqlalchemy import update

from bridge.signal import listed
from moderation.records import ModeratorRow


@pytest.fixture
def admins(house: House) -> None:
    with house.site.database.sessions.begin() as session:
        session.execute(update(ModeratorRow).where(ModeratorRow.id == house.ada).values(role="admin"))
    assert ADA


def words(house: House) -> list[str]:
    with house.site.database.reading_sessions() as session:
        return [entry.row.word for entry in listed.entries(session)]


def token(desk: FlaskClient) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', desk.get("/desk/words").text)
    assert found is not None
    return found[1]


@pytest.mark.usefixtures("admins")
def test_lists_a_word_and_takes_it_off(house: House, desk: FlaskClient) -> None:
    csrf = token(desk)
    added = desk.post("/desk/words", data={"csrf_token": csrf, "word": "casino-canary"})
    assert (added.status_code, added.location) == (303, "/desk/words?just=listed")
    assert words(house) == ["casino-canary"]
    page = desk.get("/desk/words?just=listed").text
    [removal] = re.findall(r'action="(/desk/words/\d+/removal)"', page)
    assert "by <bdi>Ada</bdi>" in page
    assert desk.post(removal, data={"csrf_token": csrf}).status_code == 303
    assert words(house) == []
    assert desk.post(removal, data={"csrf_token": csrf}).status_code == 303


@pytest.mark.usefixtures("admins")
def test_refuses_what_is_listed_and_keeps_what_was_written(house: House, desk: FlaskClient) -> None:
    csrf = token(desk)
    desk.post("/desk/words", data={"csrf_token": csrf, "word": "casino"})
    again = desk.post("/desk/words", data={"csrf_token": csrf, "word": "CASIN\u041e"})
    assert again.status_code == 409
    assert 'value="CASIN\u041e"' in again.text
    assert "matches the same. Nothing was changed." in again.text
    assert desk.post("/desk/words", data={"csrf_token": csrf, "word": "--"}).status_code == 422
    assert words(house) == ["casino"]


@pytest.mark.usefixtures("admins")
def test_shows_what_a_text_would_match(desk: FlaskClient) -> None:
    csrf = token(desk)
    desk.post("/desk/words", data={"csrf_token": csrf, "word": "casino"})
    page = desk.get("/desk/words", query_string={"try": "A c\u0430sino <b>"}).text
    assert "<bdi>c\u0430sino</bdi>, with letters of other alphabets in it" in page
    assert 'value="A c\u0430sino &lt;b&gt;"' in page
    assert "Nothing on the list matches this text." in desk.get("/desk/words?try=casinos").text


@pytest.mark.usefixtures("admins")
def test_lists_nothing_without_the_token(house: House, desk: FlaskClient) -> None:
    assert desk.post("/desk/words", data={"word": "casino"}).status_code == 400
    assert words(house) == []


def test_is_for_admins(house: House, desk: FlaskClient, client: FlaskClient) -> None:
    assert desk.get("/desk/words").status_code == 403
    assert desk.post("/desk/words", data={"word": "casino"}).status_code == 403
    assert client.get("/desk/words").status_code == 302
    assert "/desk/words" not in desk.get("/desk/").text
    assert words(house) == []


@pytest.mark.usefixtures("admins")
def test_filters_the_queue_by_what_was_noticed(house: House, desk: FlaskClient) -> None:
    desk.post("/desk/words", data={"csrf_token": token(desk), "word": "casino"})
    house.send("A casino of canary-one.")
    house.send("Do you dream of canary-two?")
    page = desk.get("/desk/?signal=listed_word").text
    assert "canary-one" in page
    assert "canary-two" not in page
    assert "Listed word" in page
