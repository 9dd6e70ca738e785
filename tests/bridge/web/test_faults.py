"""When the records cannot be reached: a clear 503, no half write, and no words in any log (SECURITY, 8 and O1)."""

import logging
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from ground.house import (
    ADA,
    PASSWORD,
    REASON,
    SLUG,
    House,
    bearer,
    desk_of,
    form,
    furnish,
    live,
    sign_in,
    site_over,
)
from sqlalchemy import text as sql
from sqlalchemy.exc import IntegrityError

from bridge import db
from bridge.app import create_app
from bridge.letter import comments
from bridge.letter.comments import Letter
from bridge.web.access import Access, open_to

LETTER = {"author": "Reader", "body": "Do you dream?"}
SEND = f"/api/v1/essays/{SLUG}/comments"


@pytest.fixture
def hurried(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A site that waits for its database for a moment only, instead of fifteen seconds."""
    pragmas = [each.replace("busy_timeout=15000", "busy_timeout=50") for each in db._PRAGMAS]
    assert pragmas != list(db._PRAGMAS)
    monkeypatch.setattr(db, "_PRAGMAS", tuple(pragmas))
    database = db.connect(f"sqlite:///{house.site.settings.data / 'emeritus.db'}")
    yield House(site_over(database, house.site.settings.data), house.tokens)
    database.dispose()


def test_asks_to_send_again_while_the_database_is_locked_and_writes_nothing_by_halves(hurried: House) -> None:
    app = create_app(hurried.site)
    client, desk = app.test_client(), desk_of(app)
    sent = hurried.send("As it was.")
    submission = hurried.submission(sent.public_id)
    token = client.get(f"/essays/{SLUG}/form-token").get_json()["token"]
    change = form(client.get(f"/letters/{sent.token}/change"), "/change")
    take_back = form(client.get(f"/letters/{sent.token}"), "/withdrawal")
    approval = form(desk.get("/desk/"), "/approval")
    before = hurried.contents()
    with closing(sqlite3.connect(hurried.site.settings.data / "emeritus.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        decided = {"digest": sent.digest}
        answers = [
            client.post(SEND, json=LETTER),
            client.post(f"/api/v1/submissions/{submission}/approval", json=decided, headers=bearer(hurried.tokens.ada)),
            client.post(f"/essays/{SLUG}/comments", data=LETTER | {"token": token}),
            change.submit(client, body="As it should be."),
            take_back.submit(client),
            approval.submit(desk),
        ]
        for answer in answers:
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "5"
            assert "Nothing was changed" in answer.text
            assert "set-cookie" not in answer.headers
        assert answers[0].mimetype == "application/problem+json"
        assert "Do you dream?</textarea>" in answers[2].text
        assert "As it should be.</textarea>" in answers[3].text
        # Reading goes on.
        assert client.get(f"/essays/{SLUG}").status_code == 200
        assert client.get("/healthz").status_code == 200
        other.execute("ROLLBACK")
    assert hurried.contents() == before
    assert approval.submit(desk).status_code == 303


def test_asks_to_send_again_while_every_connection_is_in_use(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(db._POOL, "pool_timeout", 0.05)
    database = db.connect(f"sqlite:///{house.site.settings.data / 'emeritus.db'}")
    client = create_app(site_over(database, house.site.settings.data)).test_client()
    busy = [database.reading.connect() for _ in range(db._POOL["pool_size"])]
    response = client.get(f"/essays/{SLUG}")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
    for connection in busy:
        connection.close()
    assert client.get(f"/essays/{SLUG}").status_code == 200
    database.dispose()


def test_goes_on_when_postgresql_has_ended_its_connections(postgresql_url: str, tmp_path: Path) -> None:
    database = db.connect(postgresql_url)
    site = site_over(database, tmp_path)
    House(site, furnish(site)).send()
    client = create_app(site).test_client()
    assert client.post(SEND, json=LETTER).status_code == 202
    engine = db.owner_engine(postgresql_url)
    with engine.begin() as owner:
        ended = owner.execute(
            sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        ).all()
    engine.dispose()
    assert ended
    assert client.get(f"/essays/{SLUG}").status_code == 200
    assert client.post(SEND, json=LETTER).status_code == 202
    database.dispose()


def test_asks_to_send_again_while_postgresql_is_not_there(postgresql_url: str, tmp_path: Path) -> None:
    database = db.connect(postgresql_url)
    site = site_over(database, tmp_path)
    furnish(site)
    app = create_app(site)
    gone = db.connect(f"postgresql+psycopg://postgres@/emeritus?host={tmp_path}&port=5432")
    app.extensions["site"] = site_over(gone, tmp_path)
    client = app.test_client()
    for answer in (client.get(f"/essays/{SLUG}"), client.post(SEND, json=LETTER), client.get("/healthz")):
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    app.extensions["site"] = site
    assert client.post(SEND, json=LETTER).status_code == 202
    gone.dispose()
    database.dispose()


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from ground.house import SLUG, site_over
from bridge import db
from bridge.app import create_app

folder = Path({folder!r})
database = db.connect(f"sqlite:///{{folder / 'emeritus.db'}}")
client = create_app(site_over(database, folder)).test_client()
letter = {{"author": "Reader", "body": "word " * 900}}
assert client.get(f"/essays/{{SLUG}}").status_code == 200
# Files may grow no more: the kernel refuses each write beyond, as a full disk does.
wal = folder / "emeritus.db-wal"
resource.setrlimit(resource.RLIMIT_FSIZE, (max(wal.stat().st_size, 40_000), resource.RLIM_INFINITY))
statuses = []
for _ in range(30):
    answer = client.post(f"/api/v1/essays/{{SLUG}}/comments", json=letter)
    statuses.append(answer.status_code)
    if answer.status_code != 202:
        break
print(statuses[-1], answer.headers.get("Retry-After"), statuses.count(202))
print(client.get(f"/essays/{{SLUG}}").status_code, client.get("/healthz").status_code)
"""


def test_says_so_when_the_disk_is_full_and_goes_on_reading(house: House) -> None:
    folder = house.site.settings.data
    tests = str(Path(__file__).parents[2])
    ran = subprocess.run(
        [sys.executable, "-c", FULL.format(tests=tests, folder=str(folder))],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    status, retry, taken = ran.stdout.splitlines()[0].split()
    assert (status, retry) == ("503", "5")
    assert ran.stdout.splitlines()[1] == "200 200"
    with closing(sqlite3.connect(folder / "emeritus.db")) as whole:
        assert whole.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert whole.execute("SELECT count(*) FROM comments").fetchone() == (int(taken),)
        assert whole.execute("SELECT count(*) FROM waiting").fetchone() == (int(taken),)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


# Nothing of what people write is in a log


def test_logs_no_words_no_addresses_and_no_tokens(hurried: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    app = create_app(hurried.site)
    client, desk = app.test_client(), desk_of(app)
    lived = live(hurried)
    secrets = [hurried.tokens.ada, PASSWORD, ADA, lived.link]
    words = [f"canary{number}" for number in range(9)]
    api = {"author": words[0], "body": words[1], "email": f"{words[2]}@letters.example.org"}
    key = {"Idempotency-Key": f"{words[3]}-0sXq9_LmZ2pRt8WbA"}
    sent = client.post(SEND, json=api, headers=key)
    client.post(SEND, json=api | {"body": words[4]}, headers=key)
    receipt = sent.get_json()
    secrets += [receipt["author_secret"], receipt["manage_url"].rpartition("/")[2]]
    client.post(SEND, json=api | {"author": f"{words[0]}\n"})
    client.post(SEND, json=api | {"body": words[1] * 1000})
    client.post(SEND, data=f'{{"body": "{words[1]}', content_type="application/json")
    client.post(SEND, data=words[1], content_type="text/plain")
    client.post(f"/essays/{SLUG}/comments", data={"author": words[0], "body": words[1], "parent": words[5]})
    form(client.post(f"/essays/{SLUG}/comments", data={"author": words[0], "body": words[1]}), "/comments").submit(
        client
    )
    client.get(f"/essays/{words[5]}", query_string={"answering": words[5]})
    client.get(f"/letters/{words[5]}")
    client.get("/api/v1/queue", headers=bearer(f"emr_{words[6]}"))
    sign_in(app.test_client(), f"{words[2]}@desk.example", words[7])
    submission = hurried.submission(receipt["id"])
    csrf = form(desk.get("/desk/"), "/sign-out").fields["csrf_token"]
    rejecting = {"csrf_token": csrf, "digest": "0" * 64, "reason_code": "spam", "reason": words[8], "told": words[8]}
    at = f"/desk/submissions/{submission}/rejection"
    desk.post(at, data=rejecting)
    desk.post(at, data=rejecting | {"digest": receipt["digest"], "reason_code": words[8]})
    desk.post(at, data=rejecting | {"csrf_token": words[8]})
    with closing(sqlite3.connect(hurried.site.settings.data / "emeritus.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert client.post(SEND, json=api).status_code == 503
        assert desk.post(at, data=rejecting | {"digest": receipt["digest"]}).status_code == 503
    desk.post(at, data=rejecting | {"digest": receipt["digest"]})
    comments.take_back(hurried.site, lived.pending_comment)
    assert "database busy" in caplog.text
    for secret in (*words, *secrets, REASON):
        assert secret not in caplog.text, secret


def test_logs_no_parameters_of_a_statement_that_fails(any_house: House, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody foresaw ends as a 500 with its traceback in the log, and still without the words."""
    caplog.set_level(logging.DEBUG)
    app = create_app(any_house.site)

    canary = "can" + "ary"  # A traceback quotes the source, which is not what is looked for.

    def fail(token: str) -> str:
        with any_house.site.database.sessions.begin() as session:
            session.execute(sql("INSERT INTO voices (name) VALUES (:name)"), {"name": token})
        return ""

    app.add_url_rule("/fail/<token>", "fail", open_to(Access.AUTHOR)(fail))
    client: FlaskClient = app.test_client()
    response = client.get(f"/fail/{canary}")
    assert response.status_code == 500
    assert canary not in response.text
    assert "IntegrityError at fail" in caplog.text
    assert "test_faults.py" in caplog.text
    assert canary not in caplog.text


def test_keeps_nothing_of_a_letter_whose_key_fails_to_be_kept(house: House) -> None:
    engine = db.owner_engine(f"sqlite:///{house.site.settings.data / 'emeritus.db'}")
    with engine.begin() as owner:
        owner.execute(sql("CREATE TRIGGER fail BEFORE INSERT ON idempotency_keys BEGIN SELECT RAISE(ABORT, 'no'); END"))
    engine.dispose()
    before = house.contents()
    with pytest.raises(IntegrityError):
        comments.receive_comment(house.site, SLUG, Letter("Reader", "Once."), key="kYv3-0sXq9_LmZ2pRt8WbA")
    assert house.contents() == before
