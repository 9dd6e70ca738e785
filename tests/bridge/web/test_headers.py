"""The headers of every answer, by address and by status (SECURITY, B2)."""

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground.house import SLUG, House, bearer, desk_of, live, site_over
from sqlalchemy import text
from werkzeug.test import TestResponse

from bridge import db, outdated
from bridge.app import create_app
from bridge.letter import comments
from bridge.web.access import SAFE, Access, declared
from moderation.writeonce import statements

PAGE = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
}
DATA = {"default-src 'none'", "frame-ancestors 'none'"}


def hold(response: TestResponse, *, private: bool = False) -> None:
    """Hold an answer against its surface's set."""
    elsewhere = response.request.path in {"/embed.js", "/counts.js", "/api/v1/counts"} and response.status_code < 400
    headers = response.headers
    policy = {each.strip() for each in headers["Content-Security-Policy"].split(";")}
    assert policy == (PAGE if response.mimetype == "text/html" else DATA)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == ("cross-origin" if elsewhere else "same-origin")
    assert ("Access-Control-Allow-Origin" in headers) == (elsewhere and response.mimetype == "application/json")
    assert len(headers.getlist("Content-Security-Policy")) == 1
    if private:
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"
    elif elsewhere:
        assert headers["Cache-Control"].startswith("public, max-age=")
    else:
        assert headers["Cache-Control"] in {"no-cache", "no-store"}


def test_gives_each_address_the_headers_of_its_surface(house: House, app: Flask) -> None:
    lived = live(house)
    client, desk = app.test_client(), desk_of(app)
    seen = set()
    for rule in app.url_map.iter_rules():
        if "GET" not in (rule.methods or set()) or rule.endpoint == "security.static":
            continue  # The latter's addresses are the site's own.
        private = declared(app, rule.endpoint) is not Access.PUBLIC
        for who in (client, desk):
            response = who.get(lived.address(rule), headers=bearer(house.tokens.ada), buffered=True)
            hold(response, private=private)
            seen.add(response.mimetype)
    assert seen >= {"text/html", "application/json", "text/plain", "text/css"}


def test_gives_each_form_and_call_the_headers_of_its_surface(house: House, app: Flask, client: FlaskClient) -> None:
    lived = live(house)
    for rule in app.url_map.iter_rules():
        for method in (rule.methods or set()) - SAFE:
            response = client.open(lived.address(rule), method=method, data={"author": "Reader", "body": "Yes."})
            hold(response, private=declared(app, rule.endpoint) is not Access.PUBLIC)


def test_keeps_receipts_out_of_every_cache(client: FlaskClient) -> None:
    sent = client.post(f"/api/v1/essays/{SLUG}/comments", json={"author": "Reader", "body": "Yes."})
    assert sent.headers["Cache-Control"] == "no-store"
    assert client.get(f"/essays/{SLUG}/form-token").headers["Cache-Control"] == "no-store"


REFUSALS: dict[int, Callable[[FlaskClient, str], TestResponse]] = {
    400: lambda client, at: client.post(at, data=b"\xff", content_type="application/json"),
    401: lambda client, at: client.get("/api/v1/queue"),
    403: lambda client, at: client.post(at, json={}, headers={"Origin": "https://evil.example"}),
    404: lambda client, at: client.get(at.replace(SLUG, "nowhere").removesuffix("/comments")),
    405: lambda client, at: client.delete(at),
    411: lambda client, at: client.post(at, headers={"Transfer-Encoding": "chunked"}),
    413: lambda client, at: client.post(at, data=b"x" * 70_000, content_type=kind_of(at)),
    415: lambda client, at: client.post(at, data=b"x", content_type="text/plain"),
    422: lambda client, at: client.post(at, **{"json" if "/api/" in at else "data": {"author": "", "body": ""}}),
}


def kind_of(at: str) -> str:
    return "application/json" if at.startswith("/api/") else "application/x-www-form-urlencoded"


@pytest.mark.parametrize("status", sorted(REFUSALS))
def test_refuses_a_program_with_a_problem_and_its_headers(client: FlaskClient, status: int) -> None:
    response = REFUSALS[status](client, f"/api/v1/essays/{SLUG}/comments")
    assert response.status_code == status
    assert response.mimetype == "application/problem+json"
    assert response.get_json()["status"] == status
    hold(response, private=status == 401)


@pytest.mark.parametrize("status", [403, 404, 405, 411, 413, 422])
def test_refuses_a_reader_with_a_page_and_its_headers(client: FlaskClient, status: int) -> None:
    response = REFUSALS[status](client, f"/essays/{SLUG}/comments")
    assert response.status_code == status
    assert response.mimetype == "text/html"
    hold(response)


def test_tells_which_methods_an_address_takes(client: FlaskClient) -> None:
    assert set(client.delete(f"/essays/{SLUG}").headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert set(client.get(f"/letters/{SLUG}/withdrawal").headers["Allow"].split(", ")) == {"OPTIONS", "POST"}


def test_refuses_with_headers_where_something_was_taken_back(house: House, client: FlaskClient) -> None:
    sent, reply = house.exchange()
    comments.take_back(house.site, sent.public_id)
    for path in (f"/comments/{sent.public_id}", f"/replies/{reply}", f"/api/v1/replies/{reply}"):
        response = client.get(path)
        assert response.status_code == 410
        hold(response)


def test_shows_no_words_that_nobody_approved_and_has_headers_there_too(
    house: House, client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    sent = house.post("As approved.")
    engine = db.owner_engine(f"sqlite:///{house.site.settings.data / 'emeritus.db'}")
    with engine.begin() as owner:
        for statement in statements("sqlite"):
            owner.exec_driver_sql(f"DROP TRIGGER {statement.split()[2]}")
        owner.execute(text("UPDATE submissions SET body = 'Slipped in.' WHERE body = 'As approved.'"))
    engine.dispose()
    # What was stored before holds the words that were approved; what is printed now has none to show.
    stored = [f"/essays/{SLUG}", f"/essays/{SLUG}/embed", f"/api/v1/essays/{SLUG}/thread"]
    assert [client.get(path).status_code for path in stored] == [200] * 3
    with house.site.database.sessions.begin() as session:
        outdated.mark_all(session, 1)
    house.print()
    for path in (*stored, f"/comments/{sent.public_id}"):
        response = client.get(path)
        assert response.status_code == 500
        assert "Slipped in." not in response.text
        hold(response)
    assert f"submission {house.submission(sent.public_id)}" in caplog.text
    assert "Slipped in." not in caplog.text


def test_keeps_to_https_where_the_site_is_on_it(house: House, client: FlaskClient) -> None:
    assert "Strict-Transport-Security" not in client.get("/").headers
    data = house.site.settings.data
    secure = create_app(site_over(house.site.database, data, site_url="https://letters.example.org")).test_client()
    for path in ("/", "/nowhere", "/api/v1/reasons", "/desk/sign-in"):
        assert secure.get(path).headers["Strict-Transport-Security"].startswith("max-age=31536000")


def test_believes_as_many_proxies_as_it_was_told_of(house: House) -> None:
    forged = {
        "X-Forwarded-Host": "evil.example, evil.example",
        "X-Forwarded-Proto": "https",
        "Origin": "http://localhost",
    }
    path, letter = f"/essays/{SLUG}/comments", {"author": "Reader", "body": "Yes."}
    data = house.site.settings.data
    direct = create_app(house.site).test_client()
    behind = create_app(site_over(house.site.database, data, trusted_proxies=1)).test_client()
    assert direct.post(path, data=letter, headers=forged).status_code == 200
    assert behind.post(path, data=letter, headers=forged).status_code == 403
    assert behind.post(path, data=letter, headers=forged | {"Origin": "https://evil.example"}).status_code == 200
