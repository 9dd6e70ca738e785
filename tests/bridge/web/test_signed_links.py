"""Signed links, each against each address that takes one (SECURITY, R3): an address that is added is tested unnamed."""

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground.house import House, Lived, live
from ground.postbag import READER
from sqlalchemy import select
from werkzeug.routing import Rule

from bridge.letter import belongings
from bridge.mail import links
from bridge.records import Address
from bridge.web.access import SAFE

KINDS = ("letter", "report", "confirm", "stop", "belongings", "reset", "invitation")
BY_LINK = {"token", "reset", "invitation"}
"""The arguments of addresses that are signed; `test_knows_every_argument` holds them against the map."""
PLAIN = {
    "slug",
    "voice",
    "comment_id",
    "generation_id",
    "outgoing_id",
    "word_id",
    "block_id",
    "report_id",
    "filename",
    "user_id",
    "passkey_id",
    "token_id",
    "submission_id",
    "public_id",
    "id",
    "number",
    "batch_id",
    "mention_id",
}
"""The arguments that open nothing by themselves."""


def by_link(app: Flask) -> Iterator[tuple[Rule, str]]:
    """Yield each route with a signed argument, with each of its methods.

    What Flask-Security calls a token is a step of a sign-in that the browser's session is in, and no link.
    """
    for rule in app.url_map.iter_rules():
        if rule.arguments & BY_LINK and not rule.endpoint.startswith("security."):
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield rule, method


def kinds(lived: Lived) -> dict[str, str]:
    """Return one token of each kind that is signed for an address."""
    return {name: getattr(lived, {"letter": "link"}.get(name, name)) for name in KINDS}


def own_kind(rule: Rule) -> str:
    """Return the kind of link that leads to a route."""
    if "reset" in rule.arguments or "invitation" in rule.arguments:
        return "reset" if "reset" in rule.arguments else "invitation"
    for beginning, kind in (
        ("/mail/confirm/", "confirm"),
        ("/mail/stop/", "stop"),
        ("/your-letters/", "belongings"),
        ("/reports/", "report"),
        ("/api/v1/reports/", "report"),
    ):
        if rule.rule.startswith(beginning):
            return kind
    return "letter"


def address(lived: Lived, rule: Rule, token: str) -> str:
    """Return the address of a route with another token than its own."""
    own = kinds(lived)[own_kind(rule)]
    whole = lived.address(rule)
    assert own in whole, rule
    return whole.replace(own, token)


def refusals(rule: Rule) -> set[int]:
    """Return how a route may answer a link that is not its own."""
    # A form that sets a password is refused without its CSRF token before anybody looks at the link.
    return {400, 404, 410} if rule.arguments & {"reset", "invitation"} else {404}


def test_knows_every_argument(app: Flask) -> None:
    found = {argument for rule in app.url_map.iter_rules() for argument in rule.arguments}
    assert found - BY_LINK <= PLAIN, "say whether the new one is signed, in one of the two"
    assert found >= BY_LINK


def test_opens_each_route_by_its_own_kind_of_link_alone(house: House, app: Flask, client: FlaskClient) -> None:
    lived = live(house)
    before = house.contents()
    tried = 0
    for rule, method in by_link(app):
        for kind, token in kinds(lived).items():
            if kind == own_kind(rule):
                continue
            answer = client.open(address(lived, rule, token), method=method)
            assert answer.status_code in refusals(rule), (rule, method, kind)
            tried += 1
    assert tried > 60
    assert house.contents() == before


def test_answers_unknown_cut_and_expired_links_alike(
    house: House, app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived = live(house)
    with house.site.database.reading_sessions() as session:
        late = links._time(session) + timedelta(days=4000).total_seconds()
    monkeypatch.setattr(links, "_time", lambda session: late)
    for rule, method in by_link(app):
        kind = own_kind(rule)
        own = kinds(lived)[kind]
        wrong = [own[:-1], own[:-2] + ("AA" if own[-2:] != "AA" else "BB"), "1-9-A.B", own.partition(".")[0], "x" * 500]
        if kind in {"confirm", "stop", "belongings"}:
            wrong.append(own)
        answers = set()
        for token in wrong:
            path = address(lived, rule, token)
            answer = client.open(path, method=method)
            # The links to other languages repeat the address; apart from it the pages are one.
            answers.add((answer.status_code, answer.text.replace(path, "")))
        assert len(answers) == 1, (rule, method)


def test_changes_nothing_when_a_link_is_followed(house: House, app: Flask, client: FlaskClient) -> None:
    lived = live(house)
    before = house.contents()
    opened = 0
    for rule, method in by_link(app):
        if method in SAFE:
            for ask in (client.get, client.head):
                assert ask(lived.address(rule)).status_code in {200, 302, 303}, rule
            opened += 1
    assert opened >= 9
    assert house.contents() == before


def test_lets_no_cache_keep_what_a_link_opens_and_tells_no_other_site(
    house: House, app: Flask, client: FlaskClient
) -> None:
    lived = live(house)
    for rule, method in by_link(app):
        if method in SAFE:
            answer = client.open(lived.address(rule), method=method)
            assert answer.headers["Cache-Control"] == "no-store", rule
            assert answer.headers["Referrer-Policy"] == "same-origin", rule


def test_writes_no_link_into_a_log(
    house: House, app: Flask, client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    lived = live(house)
    for rule, method in by_link(app):
        client.open(lived.address(rule), method=method, data={"email": READER})
        client.open(lived.address(rule)[:-1], method=method)
    for token in kinds(lived).values():
        assert token not in caplog.text
        assert token.rpartition(".")[2] not in caplog.text
    assert READER not in caplog.text


def test_says_nothing_of_an_address_in_its_link(house: House) -> None:
    house.send(email=READER)
    with house.site.database.reading_sessions() as session:
        address_id = session.scalars(select(Address.id)).one()
        made: list[Callable[[], str]] = [
            lambda: links.to_confirm(session, house.site.keys, address_id),
            lambda: links.to_stop(session, house.site.keys, address_id),
            lambda: links.made(session, house.site.keys, belongings.OPEN, address_id, life=belongings.LIFE),
        ]
        for make in made:
            first, second = make(), make()
            assert first != second, "no two are alike"
            assert READER not in first
            assert READER.partition("@")[0] not in first


def test_acts_once_where_a_link_acts(house: House, client: FlaskClient) -> None:
    house.send(email=READER)
    with house.site.database.reading_sessions() as session:
        keys = house.site.keys
        confirm = links.to_confirm(session, keys, 1)
        opens = links.made(session, keys, belongings.OPEN, 1, life=belongings.LIFE)
    assert client.post(f"/mail/confirm/{confirm}").status_code == 303
    before = house.contents()
    client.post(f"/mail/confirm/{confirm}")
    assert house.contents() == before
    assert client.post(f"/your-letters/{opens}/erasure").status_code == 303
    before = house.contents()
    assert client.post(f"/your-letters/{opens}/erasure").status_code == 404
    assert house.contents() == before
