"""The desk's page of what goes out: admins alone, no address and no words, and a refused message sent again."""

import pytest
from flask.testing import FlaskClient
from ground.house import House, form, text, tree
from sqlalchemy import text as sql
from sqlalchemy import update

from bridge.mail import outbox
from bridge.records import Outgoing
from moderation.base import Base

PAGE = "/desk/outgoing"
MODERATORS = Base.metadata.tables["moderators"]


@pytest.fixture
def admin(house: House, desk: FlaskClient) -> FlaskClient:
    """Ada's browser, after she became an admin."""
    with house.site.database.sessions.begin() as session:
        session.execute(update(MODERATORS).where(MODERATORS.c.id == house.ada).values(role="admin"))
    return desk


def taken(house: House, once: str) -> int:
    """Put a mail out and take it, as a worker does."""
    with house.site.database.sessions.begin() as session:
        outbox.put_mail(
            session,
            house.site.keys,
            once=once,
            to="reader-canary@letters.example",
            subject="Subject-canary",
            text="Text-canary",
        )
        found = outbox.take(session, house.site.keys)
    assert found is not None
    return found.id


def refused(house: House, once: str = "told:7:daily:2026-11-24", *, passing: bool = False) -> int:
    number = taken(house, once)
    with house.site.database.sessions.begin() as session:
        outbox.refused(session, number, why="The mail server answered 550.", passing=passing)
    return number


def state(house: House, number: int) -> str:
    with house.site.database.reading_sessions() as session:
        return session.get_one(Outgoing, number).state


def test_shows_how_what_goes_out_stands(house: House, admin: FlaskClient) -> None:
    left, gone = taken(house, "password link 7 0123456789abcdef"), refused(house)
    later = refused(house, "a mail:3", passing=True)
    with house.site.database.sessions.begin() as session:
        session.execute(sql("UPDATE outgoing SET not_before = 1 WHERE state = 'trying'"))
    page = admin.get(PAGE)
    assert page.status_code == 200
    assert [each.text for each in tree(page).iter("dd")] == ["1", "1", "0", "1"]
    assert f"Mail {left}: password link " in text(page)
    assert f"Mail {gone}: to a moderator, what waits" in text(page)
    assert f"Mail {later}: a mail" in text(page)
    assert "The mail server answered 550." in text(page)
    assert "No mail server is set" in text(page)
    assert "canary" not in page.text
    assert [each.get("action") for each in tree(page).iter("form") if "again" in each.get("action", "")] == [
        f"{PAGE}/{gone}/again"
    ]


def test_says_that_there_is_nothing(admin: FlaskClient) -> None:
    assert text(admin.get(PAGE)).count("None.") == 3


def test_sends_a_refused_one_again(house: House, admin: FlaskClient) -> None:
    number = refused(house)
    answer = form(admin.get(PAGE), "/again").submit(admin)
    assert (answer.status_code, answer.location) == (303, f"{PAGE}?just=again")
    assert state(house, number) == "unsent"
    assert "It is sent again." in text(admin.get(answer.location))


def test_sends_nothing_again_that_was_not_refused(house: House, admin: FlaskClient) -> None:
    number = refused(house)
    again = form(admin.get(PAGE), "/again")
    again.submit(admin)
    answer = again.submit(admin)
    assert answer.status_code == 409
    assert "This message cannot be sent again" in text(answer)
    assert state(house, number) == "unsent"


def test_is_for_admins_alone(house: House, desk: FlaskClient) -> None:
    number = refused(house)
    assert desk.get(PAGE).status_code == 403
    token = form(desk.get("/desk/"), "/sign-out").fields["csrf_token"]
    assert desk.post(f"{PAGE}/{number}/again", data={"csrf_token": token}).status_code == 403
    assert state(house, number) == "refused"
    assert f'href="{PAGE}"' not in desk.get("/desk/").text


def test_is_linked_from_every_page_of_an_admins_desk(admin: FlaskClient) -> None:
    links = [each.get("href") for each in tree(admin.get("/desk/")).iter("a")]
    assert PAGE in links
