"""Cookies: none before a letter is sent, their names and flags, and what they open (SECURITY, R5)."""

from http.cookies import Morsel, SimpleCookie

from flask import Flask
from flask.testing import FlaskClient
from ground.house import SLUG, House, desk_of, form, live, sign_in, site_over
from sqlalchemy import distinct, func, select
from werkzeug.test import TestResponse

from bridge.app import create_app
from bridge.records import Comment
from bridge.web.access import Access, declared


def cookies(response: TestResponse) -> list["Morsel[str]"]:
    return [morsel for header in response.headers.getlist("Set-Cookie") for morsel in SimpleCookie(header).values()]


def send(client: FlaskClient, body: str = "Yes.") -> TestResponse:
    preview = client.post(f"/essays/{SLUG}/comments", data={"author": "Reader", "body": body})
    assert cookies(preview) == []
    return form(preview, "/comments").submit(client)


def test_sets_none_on_any_public_page(house: House, app: Flask) -> None:
    lived = live(house)
    client = app.test_client()
    for rule in app.url_map.iter_rules():
        if "GET" in (rule.methods or set()) and declared(app, rule.endpoint) in {Access.PUBLIC, Access.AUTHOR}:
            response = client.get(lived.address(rule), buffered=True)
            assert cookies(response) == [], rule
            public = declared(app, rule.endpoint) is Access.PUBLIC
            assert public == ("Cookie" not in response.headers.get("Vary", "")), rule
    assert cookies(client.get("/nowhere")) == []


def test_sets_the_authors_when_a_letter_is_sent(client: FlaskClient) -> None:
    (author,) = cookies(send(client))
    assert author.key == "__Host-author"
    assert (author["path"], author["domain"], author["samesite"]) == ("/", "", "Lax")
    assert author["secure"]
    assert author["httponly"]
    assert int(author["max-age"]) == 365 * 86400


def test_keeps_one_author_for_all_letters_of_one_browser(house: House, client: FlaskClient) -> None:
    first, second = cookies(send(client, "One.")), cookies(send(client, "Two."))
    assert first[0].value == second[0].value
    with house.site.database.reading_sessions() as session:
        assert session.scalar(select(func.count(distinct(Comment.author_digest)))) == 1
        assert session.scalar(select(func.count(Comment.id))) == 2


def test_sets_the_desks_at_sign_in(app: Flask) -> None:
    client = app.test_client()
    set_there = cookies(sign_in(client))
    assert {each.key for each in set_there} == {"__Host-session", "__Host-device"}
    for each in set_there:
        assert (each["path"], each["domain"], each["samesite"]) == ("/", "", "Lax")
        assert each["secure"]
        assert each["httponly"]


def test_leaves_the_prefix_away_on_http_where_browsers_refuse_it(house: House) -> None:
    elsewhere = site_over(house.site.database, house.site.settings.data, site_url="http://letters.lan:8000")
    client = create_app(elsewhere).test_client()
    (author,) = cookies(send(client))
    assert (author.key, author["secure"]) == ("author", "")
    assert {(each.key, each["secure"]) for each in cookies(sign_in(client))} == {("session", ""), ("device", "")}


def test_has_the_prefix_on_https(house: House) -> None:
    secure = site_over(house.site.database, house.site.settings.data, site_url="https://letters.example.org")
    (author,) = cookies(send(create_app(secure).test_client()))
    assert (author.key, author["secure"]) == ("__Host-author", True)


def test_takes_no_secret_from_a_cookie_that_is_none_of_ours(house: House, client: FlaskClient) -> None:
    for wrong in ("", "short", "x" * 129, "\u00e9" * 40):
        client.set_cookie("__Host-author", wrong)
        assert cookies(send(client))[0].value != wrong


def test_opens_no_desk_with_a_session_that_another_key_signed(house: House, app: Flask) -> None:
    desk = desk_of(app)
    stolen = desk.get_cookie("__Host-session")
    assert stolen is not None
    other = create_app(
        site_over(house.site.database, house.site.settings.data, site_url="http://localhost:8001")
    ).test_client()
    other.set_cookie("__Host-session", stolen.value)
    assert other.get("/desk/").status_code == 200  # The same key.
    body, _, signature = stolen.value.rpartition(".")
    other.set_cookie("__Host-session", f"{body}.{signature[::-1]}")
    assert other.get("/desk/").status_code == 302
