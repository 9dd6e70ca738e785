"""Where webmentions are taken, and the desk's page of them."""

from dataclasses import replace

import pytest
from flask.testing import FlaskClient
from ground.house import SLUG, House, text
from sqlalchemy import select, update

from bridge.app import create_app
from bridge.letter import mentions
from bridge.records import Mention
from moderation.base import Base

MODERATORS = Base.metadata.tables["moderators"]
SOURCE = "https://ann.example/notes/1"
TARGET = f"http://localhost:8000/essays/{SLUG}"


@pytest.fixture
def admin(house: House, desk: FlaskClient) -> FlaskClient:
    """Ada's browser, after she became an admin."""
    with house.site.database.sessions.begin() as session:
        session.execute(update(MODERATORS).where(MODERATORS.c.id == house.ada).values(role="admin"))
    return desk


def sources(house: House) -> list[str]:
    with house.site.database.reading_sessions() as session:
        return list(session.scalars(select(Mention.source)))


def test_takes_a_webmention(house: House, client: FlaskClient) -> None:
    answer = client.post("/webmention", data={"source": SOURCE, "target": TARGET})
    assert (answer.status_code, answer.mimetype) == (202, "text/plain")
    assert sources(house) == [SOURCE]


@pytest.mark.parametrize("sent", [{}, {"source": SOURCE}, {"source": SOURCE, "target": "https://x.example/"}])
def test_says_what_it_does_not_take(house: House, client: FlaskClient, sent: dict[str, str]) -> None:
    answer = client.post("/webmention", data=sent)
    assert (answer.status_code, answer.mimetype) == (400, "text/plain")
    assert "Nothing was changed." in answer.text
    assert sources(house) == []


def test_takes_so_many_from_one_network(house: House) -> None:
    limited = house.site.settings.model_copy(update={"rate_limits": "on"})
    client = create_app(replace(house.site, settings=limited)).test_client()
    statuses = [client.post("/webmention", data={}).status_code for _ in range(61)]
    assert statuses == [400] * 60 + [429]


def test_changes_nothing_by_a_get(client: FlaskClient) -> None:
    assert client.get("/webmention").status_code == 405


def test_says_in_an_essays_page_where_it_takes_them(client: FlaskClient) -> None:
    assert '<link rel="webmention" href="/webmention">' in client.get(f"/essays/{SLUG}").text


def test_shows_admins_what_became_of_them(house: House, admin: FlaskClient) -> None:
    mentions.receive(house.site, SOURCE, TARGET)
    with house.site.database.sessions.begin() as session:
        taken = mentions.take(session, session.scalars(select(Mention.id)).one())
    assert taken is not None
    mentions.refuse(house.site, taken, "The page is gone.")
    page = admin.get("/desk/mentions")
    assert page.status_code == 200
    assert SOURCE in text(page)
    assert "The page is gone." in text(page)
    assert "No page is told" in text(page)


def test_shows_them_to_admins_alone(desk: FlaskClient) -> None:
    assert desk.get("/desk/mentions").status_code == 403
