"""Limits as readers and programs meet them: what they are told, what is kept for them, and which address counts."""

import logging
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground.house import SLUG, Form, House, desk_of, form, site_over, text
from redis import Redis
from sqlalchemy import func, select, update
from werkzeug.test import TestResponse

from bridge.app import create_app
from bridge.letter import admission
from bridge.records import Comment, Signal
from bridge.signal import blocks
from bridge.signal.blocks import What
from bridge.text import language
from moderation import base
from moderation.queue import awaiting_review
from moderation.records import ModeratorRow
from moderation.types import Tray
from workers import valkey

API = f"/api/v1/essays/{SLUG}/comments"
CANARY = "203.0.113.177"


@pytest.fixture
def limited(house: House, tmp_path: Path) -> Callable[..., Flask]:
    """Make the application of a site whose limits are on."""

    def make(**settings: object) -> Flask:
        return create_app(site_over(house.site.database, tmp_path, rate_limits="on", **settings))

    return make


def send(client: FlaskClient, body: str = "Do you dream?", *, by: str = "192.0.2.7", **more: object) -> TestResponse:
    sent = {"author": "Reader", "body": body, **more}
    return client.post(API, json=sent, environ_overrides={"REMOTE_ADDR": by})


def written(client: FlaskClient, where: str = "write") -> Form:
    """Return the form for a letter, with its token, as it was begun a minute ago."""
    earlier = base.now() - timedelta(minutes=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "now", lambda: earlier)
        return form(client.get(f"/essays/{SLUG}/{where}"), "/comments")


def letters(house: House) -> int:
    with house.site.database.reading_sessions() as session:
        return session.scalar(select(func.count()).select_from(Comment)) or 0


def test_tells_a_program_when_to_come_again_and_keeps_nothing(house: House, limited: Callable[..., Flask]) -> None:
    client = limited(contact="people@site.example").test_client()
    assert [send(client, f"Letter {n}").status_code for n in range(2)] == [202, 202]
    third = send(client, "Letter 3")
    assert (third.status_code, third.mimetype) == (429, "application/problem+json")
    assert 0 < int(third.headers["Retry-After"]) <= 600
    told = third.get_json()
    assert told["retry_after"] == int(third.headers["Retry-After"])
    assert told["may_ask_a_person"] is True
    assert told["contact"] == "people@site.example"
    assert letters(house) == 2
    assert send(client, "Letter 3", to_a_person=True).status_code == 202
    again = send(client, "Letter 4", to_a_person=True)
    assert (again.status_code, again.get_json()["may_ask_a_person"]) == (429, False)
    assert "or write to people@site.example" in again.get_json()["title"]
    with house.site.database.reading_sessions() as session:
        assert [each.body for each in awaiting_review(session, tray=Tray.LIKELY_SPAM)] == ["Letter 3"]


@pytest.mark.parametrize("where", ["write", "embed/write"])
def test_keeps_a_refused_readers_words_and_offers_a_person(
    house: House, limited: Callable[..., Flask], where: str
) -> None:
    client = limited(contact="https://site.example/people").test_client()
    for number in range(2):
        assert written(client, where).submit(client, author="Reader", body=f"Letter {number}").status_code == 303
    refused = written(client, where).submit(client, author="Reader", body="My third letter, of many words.")
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.headers["Cache-Control"] == "no-store"
    assert "so this one was not sent. Please send it again in" in text(refused)
    assert "Let a person look at it all the same" in text(refused)
    assert 'href="https://site.example/people"' in refused.text
    kept = form(refused, "/comments")
    assert kept.fields["body"].strip() == "My third letter, of many words."
    assert "to_a_person" not in kept.fields
    assert kept.submit(client, to_a_person="yes").status_code == 303
    assert letters(house) == 3


def test_answers_a_second_click_and_a_retry_with_the_first_ones_receipt(
    house: House, limited: Callable[..., Flask]
) -> None:
    client = limited().test_client()
    filled = written(client)
    places = {filled.submit(client, author="Reader", body="Do you dream?").location for _ in range(6)}
    assert len(places) == 1
    assert letters(house) == 1


def test_gives_a_proof_to_solve_with_the_forms_token(limited: Callable[..., Flask]) -> None:
    client = limited().test_client()
    for address in (f"/essays/{SLUG}/form-token", f"/essays/{SLUG}/embed/form-token"):
        told = client.get(address).get_json()
        assert told["challenge"]["parameters"]["data"] == {"essay": SLUG}
    for _ in range(58):
        assert client.get(f"/essays/{SLUG}/form-token").status_code == 200
    assert client.get(f"/essays/{SLUG}/form-token").status_code == 429


def test_changes_nothing_by_a_get(house: House, limited: Callable[..., Flask]) -> None:
    client = limited().test_client()
    before = house.contents()
    client.get(f"/essays/{SLUG}/form-token")
    client.get(f"/essays/{SLUG}/write")
    assert house.contents() == before


def test_bounds_previews_and_reports(house: House, limited: Callable[..., Flask]) -> None:
    posted = house.post()
    client = limited().test_client()
    for _ in range(admission.PREVIEWS.times):
        assert client.post("/preview", data={"body": "Hello."}).status_code == 200
    assert client.post("/preview", data={"body": "Hello."}).status_code == 429
    report = {"of": posted.public_id, "code": "abuse", "words": "It is rude."}
    for _ in range(admission.REPORTS.times - 1):
        assert client.post("/reports", data=report).status_code == 303
    assert client.post("/api/v1/reports", json=report).status_code == 201
    refused = client.post("/reports", data=report)
    assert (refused.status_code, "It is rude." in refused.text) == (429, True)
    assert int(refused.headers["Retry-After"]) > 0
    assert client.post("/api/v1/reports", json=report).status_code == 429


def test_tells_a_blocked_network_what_to_do(house: House, limited: Callable[..., Flask]) -> None:
    app = limited()
    blocks.add(app.extensions["site"], What.NETWORK, "192.0.2.0/24", "", moderator=house.ada)
    client = app.test_client()
    refused = send(client)
    assert (refused.status_code, "Retry-After" in refused.headers) == (403, False)
    assert "try another connection" in refused.get_json()["title"]
    assert send(client, by="198.51.100.7").status_code == 202
    assert send(client, to_a_person=True).status_code == 202


# Which address counts (SECURITY, R8).


@pytest.mark.parametrize("proxies", [0, 1, 2])
@pytest.mark.parametrize("forged", [1, 3])
def test_counts_the_address_that_the_last_trusted_proxy_saw(
    limited: Callable[..., Flask], proxies: int, forged: int
) -> None:
    """A reader forges some hops; each trusted proxy then appends the address that it saw."""
    client = limited(trusted_proxies=proxies).test_client()

    def come(reader: str, invented: int) -> int:
        lied = [f"203.0.113.{invented + each}" for each in range(forged)]
        seen = [reader, "10.0.0.1", "10.0.0.2"][: proxies + 1]
        headers = {"X-Forwarded-For": ", ".join(lied + seen[:-1])}
        sent = {"author": "Reader", "body": f"Letter {invented} of {reader}"}
        return client.post(API, json=sent, headers=headers, environ_overrides={"REMOTE_ADDR": seen[-1]}).status_code

    # Other lies each time, and one reader all the same; and another reader is another one.
    assert [come("192.0.2.7", invented) for invented in (1, 50, 99)] == [202, 202, 429]
    assert come("192.0.2.8", 1) == 202


def test_takes_the_proxys_own_address_where_too_few_hops_are_told(limited: Callable[..., Flask]) -> None:
    client = limited(trusted_proxies=2).test_client()
    for number, status in enumerate((202, 202, 429)):
        headers = {"X-Forwarded-For": f"203.0.113.{number}"}
        sent = {"author": "Reader", "body": f"Letter {number}"}
        assert client.post(API, json=sent, headers=headers).status_code == status


# The same words, and the same key (R9).


def test_answers_the_same_words_of_one_author_with_the_first_ones_receipt(
    house: House, limited: Callable[..., Flask]
) -> None:
    client = limited().test_client()
    first = send(client).get_json()
    mine = {"author_secret": first["author_secret"]}
    second = send(client, "And do you rest?", **mine).get_json()
    assert second["id"] != first["id"]
    assert send(client, "And do you rest?", by="192.0.2.8", **mine).get_json()["id"] == second["id"]
    # Of somebody else they are another letter.
    assert send(client, "And do you rest?", by="192.0.2.8").get_json()["id"] != second["id"]
    assert letters(house) == 3


def test_takes_the_same_words_twice_where_limits_are_off(client: FlaskClient) -> None:
    mine = {"author_secret": send(client).get_json()["author_secret"]}
    assert send(client, **mine).get_json()["id"] != send(client, **mine).get_json()["id"]


@pytest.mark.parametrize("framed", [False, True])
def test_answers_the_same_words_from_another_form_on_a_page(
    house: House, limited: Callable[..., Flask], framed: bool
) -> None:
    client = limited().test_client()
    places = [
        written(client, "embed/write" if framed else "write").submit(client, author="Reader", body="Do you?").location
        for _ in range(2)
    ]
    # A frame has no cookie, so nothing tells its author from another.
    assert letters(house) == len(set(places)) == (2 if framed else 1)


def test_makes_one_letter_of_twenty_at_once_with_one_key(any_house: House) -> None:
    app = create_app(any_house.site)
    headers = {"Idempotency-Key": "0123456789abcdef0123456789abcdef"}

    def come(_: int) -> TestResponse:
        return app.test_client().post(API, json={"author": "Reader", "body": "Do you dream?"}, headers=headers)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(come, range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.get_json()["id"] for answer in answers}) == 1
    assert letters(any_house) == 1
    other = app.test_client().post(API, json={"author": "Reader", "body": "Other words."}, headers=headers)
    assert other.status_code == 422


# Addresses are kept nowhere (O2).


def test_keeps_no_address_in_database_redis_or_log(
    house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with tempfile.TemporaryDirectory(prefix="emeritus-test-", dir="/tmp") as folder:
        server = valkey_in(Path(folder))
        try:
            url = valkey.url(Path(folder))
            site = site_over(house.site.database, tmp_path, rate_limits="on", redis_url=url)
            client = create_app(site).test_client()
            for number, status in enumerate((202, 202, 429)):
                assert send(client, f"Letter {number}", by=CANARY).status_code == status
            assert send(client, "Letter 3", by=CANARY, to_a_person=True).status_code == 202
            client.post("/preview", data={"body": "Hello."}, environ_overrides={"REMOTE_ADDR": CANARY})
            with Redis.from_url(url) as redis:
                kept = list(redis.scan_iter("*"))
                told = b" ".join([*kept, *(redis.dump(key) or b"" for key in kept)])
        finally:
            server.terminate()
            server.wait(10)
    assert len(kept) > 5
    assert CANARY.encode() not in told
    assert CANARY not in caplog.text
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert CANARY.encode() not in file.read_bytes(), file.name


# The desk's page.


def test_blocks_and_unblocks_at_the_desk(house: House, app: Flask) -> None:
    with house.site.database.sessions.begin() as session:
        session.execute(update(ModeratorRow).where(ModeratorRow.id == house.ada).values(role="admin"))
    waiting = house.send("Win at roulette.example now.")
    desk = desk_of(app)
    assert "/desk/blocks" in desk.get("/desk/").text
    added = form(desk.get("/desk/blocks"), "/desk/blocks").submit(
        desk, what="domain", value="roulette.example", why="A flood in May."
    )
    assert (added.status_code, added.location) == (303, "/desk/blocks?just=blocked")
    page = desk.get(added.location)
    assert "roulette.example A flood in May.by Ada on" in text(page)
    with house.site.database.reading_sessions() as session:
        of = select(Signal.name).where(Signal.submission_id == house.submission(waiting.public_id))
        assert "blocked" in session.scalars(of).all()
    again = form(page, "/desk/blocks").submit(desk, what="domain", value="ROULETTE.example", why="Once more.")
    assert (again.status_code, 'value="ROULETTE.example"' in again.text, 'value="Once more."' in again.text) == (
        409,
        True,
        True,
    )
    assert form(page, "/desk/blocks").submit(desk, what="network", value="0.0.0.0/0").status_code == 422
    assert form(page, "/desk/blocks").submit(desk, what="planet", value="x").status_code == 400
    assert form(page, "/removal").submit(desk).location == "/desk/blocks?just=removed"
    assert "roulette.example" not in desk.get("/desk/blocks").text


def test_shows_blocks_to_admins_alone(desk: FlaskClient) -> None:
    assert desk.get("/desk/blocks").status_code == 403


def valkey_in(folder: Path) -> subprocess.Popen[bytes]:
    """Start a real Valkey on its socket, whose path must be short."""
    server = subprocess.Popen(valkey.server_command(folder), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    valkey.await_ready(valkey.url(folder), 10)
    return server


def test_bounds_the_changes_of_a_letter_and_keeps_the_words(house: House, limited: Callable[..., Flask]) -> None:
    client = limited().test_client()
    token = house.send("At first.").token
    path = f"/letters/{token}/change"
    for number in range(20):
        assert client.post(path, data={"author": "Reader", "body": f"Change {number}."}).status_code == 303
    refused = client.post(path, data={"author": "Reader", "body": "One too many."})
    assert refused.status_code == 429
    assert form(refused, "/change").fields["body"].strip() == "One too many."


def test_bounds_what_is_read_over_and_keeps_the_words(house: House, limited: Callable[..., Flask]) -> None:
    client = limited().test_client()
    sent = {"author": "Reader", "body": "Shown, please."}
    answers = [client.post(f"/essays/{SLUG}/comments", data=sent).status_code for _ in range(60)]
    assert answers == [200] * 60
    refused = client.post(f"/essays/{SLUG}/comments", data=sent)
    assert refused.status_code == 429
    assert form(refused, "/comments").fields["body"].strip() == "Shown, please."
    assert letters(house) == 0


@pytest.mark.parametrize("where", ["write", "embed/write"])
def test_bounds_letters_that_cannot_be_taken_as_they_are(
    house: House, limited: Callable[..., Flask], where: str
) -> None:
    client = limited().test_client()
    filled = written(client, where)
    for _ in range(admission.ATTEMPTS.times):
        assert filled.submit(client, author="Reader", body="").status_code == 422
    refused = filled.submit(client, author="Reader", body="And now a good one.")
    assert refused.status_code == 429
    assert form(refused, "/comments").fields["body"].strip() == "And now a good one."
    assert letters(house) == 0


def test_bounds_how_often_own_letters_are_shown(limited: Callable[..., Flask]) -> None:
    client = limited().test_client()
    for number in range(admission.OWN_LETTERS.times):
        asked = client.get(f"/essays/{SLUG}/mine") if number % 2 else client.post(f"/essays/{SLUG}/embed/mine")
        assert asked.status_code == 200
    assert client.get(f"/essays/{SLUG}/mine").status_code == 429
    assert client.post(f"/essays/{SLUG}/embed/mine").status_code == 429


def test_renders_no_letter_anew_for_its_author(
    house: House, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = house.send("Do you *dream*?")
    monkeypatch.setattr("bridge.text.markup.render", pytest.fail)
    assert "<em>dream</em>" in client.get(f"/letters/{sent.token}").text
    assert "<em>dream</em>" in client.post(f"/essays/{SLUG}/embed/mine", data={"key": sent.token}).text


def test_remembers_no_more_of_a_header_than_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(language, "_wanted_most", lambda accepted, _: read.append(accepted) or "en")
    language.chosen(None, "de," * 100_000, ("en", "de"))
    assert [len(each) for each in read] == [512]
