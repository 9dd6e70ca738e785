"""What is too large, too deep, cut, or no text at all (SECURITY, R10 and T1)."""

import io

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground.house import SLUG, House, bearer
from werkzeug.test import EnvironBuilder, TestResponse, run_wsgi_app

from bridge.app import MAX_BODY

SEND = f"/api/v1/essays/{SLUG}/comments"
FORM = f"/essays/{SLUG}/comments"


def send(client: FlaskClient, body: bytes) -> TestResponse:
    return client.post(SEND, data=body, content_type="application/json")


def test_takes_64_kib_and_no_more(client: FlaskClient) -> None:
    assert MAX_BODY == 64 * 1024
    whole = b'{"author": "Reader", "body": "' + b"x" * (MAX_BODY - 32) + b'"}'
    assert len(whole) == MAX_BODY
    assert send(client, whole).status_code == 422  # Read, and too many characters.
    assert send(client, whole + b" ").status_code == 413
    form = b"author=Reader&body=" + b"x" * (MAX_BODY - 19)
    assert client.post(FORM, data=form, content_type="application/x-www-form-urlencoded").status_code == 422
    assert client.post(FORM, data=form + b"x", content_type="application/x-www-form-urlencoded").status_code == 413


def test_has_room_for_the_longest_letter_however_it_is_encoded(house: House, client: FlaskClient) -> None:
    words = "\U0001f600" * 5000
    assert client.post(FORM, data={"author": "Reader", "body": words}).status_code == 200
    assert client.post(SEND, json={"author": "Reader", "body": words}).status_code == 202


def test_bounds_calls_with_a_token_too(house: House, client: FlaskClient) -> None:
    headers = bearer(house.tokens.ada)
    assert client.post("/api/v1/submissions/1/approval", json={"x": "x" * MAX_BODY}, headers=headers).status_code == 413


def test_takes_no_crowd_of_fields(client: FlaskClient) -> None:
    crowd = "&".join(f"f{number}=" for number in range(20_000))
    assert len(crowd) > MAX_BODY
    assert client.post(FORM, data=crowd, content_type="application/x-www-form-urlencoded").status_code == 413
    parts = {f"f{number}": "" for number in range(1001)}
    assert client.post(FORM, data=parts, content_type="multipart/form-data").status_code == 413


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b'{"author": "Reader", "body": "\xff"}',
        b'{"author": "Reader", "body": "\xed\xa0\x80"}',
        b'{"author": "Reader", "body": NaN}',
        b'{"author": "Reader", "body": -Infinity}',
        b'{"author": "Reader", "body": Infinity}',
        b"[" * 30_000,
        b'{"a":' * 10_000,
        b"1" * 10_000,
        '{"author": "Reader", "body": "x"}'.encode("utf-16"),
    ],
)
def test_refuses_what_is_no_json(house: House, client: FlaskClient, body: bytes) -> None:
    before = house.contents()
    response = send(client, body)
    assert response.status_code == 400
    assert response.mimetype == "application/problem+json"
    headers = bearer(house.tokens.ada)
    path = "/api/v1/submissions/1/approval"
    assert client.post(path, data=body, content_type="application/json", headers=headers).status_code == 400
    assert house.contents() == before


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"author=Reader&body=\xff", "application/x-www-form-urlencoded"),
        (b"author=Reader&body=%FF", "application/x-www-form-urlencoded"),
        (b"author=Reader&body=%ED%A0%80", "application/x-www-form-urlencoded"),
        (b"author=R%C3&body=x", "application/x-www-form-urlencoded"),
        (
            b'--b\r\nContent-Disposition: form-data; name="body"\r\n\r\n\xff\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
        ),
    ],
)
def test_refuses_a_form_that_is_not_utf_8(house: House, client: FlaskClient, body: bytes, kind: str) -> None:
    before = house.contents()
    assert client.post(FORM, data=body, content_type=kind).status_code == 400
    assert house.contents() == before


@pytest.mark.parametrize("field", ["author", "body"])
def test_tells_a_reader_of_a_broken_character_and_keeps_the_rest(client: FlaskClient, field: str) -> None:
    letter = {"author": "Reader", "body": "My words."} | {field: "My words.\x00"}
    response = client.post(FORM, data=letter)
    assert response.status_code == 422
    assert "My words." in response.text


@pytest.mark.parametrize("field", ["parent", "token", "unheard_of"])
def test_reads_no_form_with_nul_where_no_words_are(client: FlaskClient, field: str) -> None:
    assert client.post(FORM, data={"author": "Reader", "body": "x", field: "\x00"}).status_code == 400


def test_reads_no_address_with_nul(client: FlaskClient) -> None:
    for path in ("/essays/%00", "/comments/%00", "/letters/%00", f"/essays/{SLUG}?answering=%00", "/essays/%ff%00"):
        assert client.get(path).status_code == 404


def test_refuses_a_body_of_unknown_length(house: House, client: FlaskClient) -> None:
    before = house.contents()
    for path in (SEND, FORM, "/desk/sign-in", "/api/v1/queue"):
        response = client.post(path, headers={"Transfer-Encoding": "chunked"})
        assert response.status_code == 411
    assert house.contents() == before


@pytest.mark.parametrize("path", [SEND, FORM])
def test_takes_no_cut_body_for_a_whole_one(house: House, app: Flask, path: str) -> None:
    # As granian passes it: the client went away after three bytes of fifty, and the stream says that it ended well.
    before = house.contents()
    kind = "application/json" if path == SEND else "application/x-www-form-urlencoded"
    builder = EnvironBuilder(path, method="POST", content_type=kind)
    environ = builder.get_environ()
    environ |= {"wsgi.input": io.BytesIO(b"a=b"), "CONTENT_LENGTH": "50", "wsgi.input_terminated": True}
    _, status, _ = run_wsgi_app(app, environ, buffered=True)
    assert status.startswith("400")
    assert house.contents() == before
