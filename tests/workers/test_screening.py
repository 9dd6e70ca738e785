"""Services that look at letters: what they are told, what their answers become, and that none of them is needed."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from ground.house import SLUG, House, Tokens, furnish, site_over
from ground.workshop import SECRET

from bridge import db, queues
from bridge.db import Database
from bridge.letter import comments
from bridge.letter.comments import Letter
from bridge.signal import signals
from bridge.signal.signals import Name, Noticed
from moderation import queue
from moderation.types import State, Tray
from workers import outside, screening
from workers.settings import WorkerSettings

KEY = "canary0key"
HOOK_SECRET = "screening-canary-9f2c"
WORDS = "A letter of canary words."


@dataclass
class Service:
    """A service that answers *status* and *body*, doing what it is to do *meanwhile* first."""

    status: int = 200
    body: bytes = b'{"spam": false}'
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    meanwhile: list[object] = field(default_factory=list)
    stalled: threading.Event | None = None
    url: str = ""


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            service.heard.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
            for act in service.meanwhile:
                assert callable(act)
                act()
            if service.stalled is not None:
                service.stalled.wait(30)
                return
            self.send_response(service.status)
            self.send_header("Content-Length", str(len(service.body)))
            self.end_headers()
            self.wfile.write(service.body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        service.url = f"http://127.0.0.1:{server.server_port}/path-canary"
        yield service
        if service.stalled is not None:
            service.stalled.set()
        server.shutdown()
        thread.join(10)


@pytest.fixture
def place(sqlite_url: str, tmp_path: Path) -> Iterator[House]:
    database: Database = db.connect(sqlite_url)
    site = site_over(database, tmp_path)
    tokens: Tokens = furnish(site)
    yield House(site, tokens)
    database.dispose()


@pytest.fixture
def akismet(service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(screening, "AKISMET", service.url)
    monkeypatch.setattr(outside, "PUBLIC", outside.ANYWHERE)
    real = outside.post

    async def post(url: str, **how: object) -> outside.Answer:
        return await real(url, **{**how, "allow_private": True})  # type: ignore[arg-type]

    monkeypatch.setattr(outside, "post", post)
    return service


def asked(house: House, **given: object) -> WorkerSettings:
    return WorkerSettings(  # type: ignore[call-arg]
        _env_file=None, emeritus_data=house.site.settings.data, secret_key=SECRET, **given
    )


def screen(house: House, letter: str, **given: object) -> str:
    submission_id = house.submission(letter)
    return asyncio.run(screening.screen(house.site, asked(house, **given), submission_id))


def by_service(house: House, letter: str, service: Service, **given: object) -> str:
    return screen(house, letter, **{"screening_url": service.url, "screening_private": "on", **given})


def kept(house: House, letter: str) -> list[Noticed]:
    submission_id = house.submission(letter)
    with house.site.database.reading_sessions() as session:
        found = signals.signals_of(session, [submission_id]).get(submission_id, [])
    return [each for each in found if each.name in {Name.AKISMET, Name.SERVICE}]


def tray(house: House, letter: str) -> Tray:
    with house.site.database.reading_sessions() as session:
        found = queue.pending(session, house.submission(letter))
    assert found is not None
    return found.tray


def send(house: House, **more: object) -> str:
    return house.send(WORDS, author="Ann", **more).public_id


def test_tells_the_service_the_words_and_the_name_and_signs_it(place: House, service: Service) -> None:
    letter = send(place, email="ann-canary@mail.example")
    by_service(place, letter, service, screening_secret=HOOK_SECRET)
    [(headers, body)] = service.heard
    assert json.loads(body) == {
        "id": place.submission(letter),
        "author": "Ann",
        "body": WORDS,
        "essay": f"http://localhost:8000/essays/{SLUG}",
    }
    stamp, _, proof = headers["X-Emeritus-Signature"].partition(",v1=")
    signed = f"{stamp.removeprefix('t=')}.".encode() + body
    assert proof == hmac.new(HOOK_SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert b"ann-canary" not in body


def test_keeps_what_the_service_says_and_sorts_by_it(place: House, service: Service) -> None:
    letter = send(place)
    service.body = json.dumps({"spam": True, "why": "Seen\n a \u202ethousand times."}).encode()
    by_service(place, letter, service)
    assert kept(place, letter) == [Noticed(Name.SERVICE, "Seen a thousand times.", strong=True)]
    assert tray(place, letter) is Tray.LIKELY_SPAM
    assert place.state(place.submission(letter)) is State.PENDING


def test_keeps_a_word_about_what_is_no_spam_and_takes_a_second_answer_for_the_first(
    place: House, service: Service
) -> None:
    letter = send(place)
    service.body = b'{"spam": true}'
    by_service(place, letter, service)
    service.body = json.dumps({"spam": False, "why": "x" * 300}).encode()
    by_service(place, letter, service)
    [noticed] = kept(place, letter)
    assert (noticed.strong, noticed.why) == (False, "x" * 199 + "…")
    assert tray(place, letter) is Tray.MAIN
    service.body = b'{"spam": false, "why": ""}'
    by_service(place, letter, service)
    assert kept(place, letter) == []


ABSURD = [
    b"",
    b"true",
    b"[]",
    b"{}",
    b'{"spam": "true"}',
    b'{"spam": 1}',
    b'{"spam": true, "why": ["a"]}',
    b"\xff\xfe",
    b"[" * 100_000,
    b"x" * (outside.MOST_BYTES + 1),
]


@pytest.mark.parametrize("body", ABSURD, ids=range(len(ABSURD)))
def test_takes_no_nonsense_for_an_answer(
    place: House, service: Service, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    letter = send(place)
    service.body = body
    with caplog.at_level(logging.DEBUG):
        assert by_service(place, letter, service) == "0 noticed, 1 said nothing"
    assert kept(place, letter) == []
    assert tray(place, letter) is Tray.MAIN
    assert f"submission {place.submission(letter)} was not screened by service" in caplog.text
    assert "canary" not in caplog.text


@pytest.mark.parametrize("status", [204, 302, 404, 500, 503])
def test_lets_a_letter_wait_when_a_service_fails(place: House, service: Service, status: int) -> None:
    letter = send(place)
    service.status, service.body = status, b'{"spam": true}' if status != 204 else b""
    assert by_service(place, letter, service) == "0 noticed, 1 said nothing"
    assert (kept(place, letter), tray(place, letter)) == ([], Tray.MAIN)


def test_lets_a_letter_wait_when_nobody_answers(place: House, service: Service) -> None:
    letter = send(place)
    service.url = "http://127.0.0.1:1/path-canary"
    assert by_service(place, letter, service) == "0 noticed, 1 said nothing"


def test_waits_for_no_service_for_long(place: House, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    letter = send(place)
    service.stalled = threading.Event()
    monkeypatch.setattr(outside, "ANYWHERE", outside.Bounds(permits=lambda _: True, ports=None, seconds=0.2))
    assert by_service(place, letter, service) == "0 noticed, 1 said nothing"


def test_calls_no_service_in_a_private_network_unless_told_so(place: House, service: Service) -> None:
    letter = send(place)
    assert by_service(place, letter, service, screening_private="off") == "0 noticed, 1 said nothing"
    assert service.heard == []


def test_tells_akismet_the_words_and_the_name_and_no_more(place: House, akismet: Service) -> None:
    letter = send(place, email="ann-canary@mail.example")
    akismet.body = b"true"
    screen(place, letter, akismet_key=KEY)
    [(_, body)] = akismet.heard
    assert {name: value for name, [value] in parse_qs(body.decode()).items()} == {
        "api_key": KEY,
        "blog": "http://localhost:8000",
        "user_ip": "127.0.0.1",
        "permalink": f"http://localhost:8000/essays/{SLUG}",
        "comment_type": "comment",
        "comment_author": "Ann",
        "comment_content": WORDS,
        "blog_charset": "UTF-8",
    }
    assert kept(place, letter) == [Noticed(Name.AKISMET, "Akismet takes it for spam.", strong=True)]
    assert tray(place, letter) is Tray.LIKELY_SPAM


@pytest.mark.parametrize(("body", "said"), [(b"false", "0 noticed, 0 said"), (b"invalid", "0 noticed, 1 said")])
def test_keeps_nothing_of_akismets_other_answers(place: House, akismet: Service, body: bytes, said: str) -> None:
    letter = send(place)
    akismet.body = body
    assert screen(place, letter, akismet_key=KEY).startswith(said)
    assert kept(place, letter) == []


def test_tells_nobody_of_what_waits_no_more(place: House, service: Service) -> None:
    decided = send(place)
    place.approve(decided)
    assert by_service(place, decided, service) == "it waits no more"
    assert (
        asyncio.run(screening.screen(place.site, asked(place, screening_url=service.url), 4711)) == "it waits no more"
    )
    assert service.heard == []


def test_keeps_nothing_about_what_was_decided_meanwhile(place: House, service: Service) -> None:
    letter = send(place)
    service.body = b'{"spam": true}'
    service.meanwhile = [lambda: comments.take_back(place.site, letter)]
    assert by_service(place, letter, service) == "it was decided meanwhile"
    assert kept(place, letter) == []


def test_holds_no_transaction_while_it_waits(place: House, service: Service) -> None:
    letter = send(place)
    service.meanwhile = [lambda: send(place)]
    assert by_service(place, letter, service) == "0 noticed, 0 said nothing"


# Nudged.


class Noted(queues.NoNudges):
    """Nudges that remember which letters were to be screened, and whether they were committed by then."""

    def __init__(self) -> None:
        self.house: House | None = None
        self.told: list[tuple[int, bool]] = []

    def nudge_screening(self, submission_id: int) -> None:
        assert self.house is not None
        with self.house.site.database.reading_sessions() as session:
            self.told.append((submission_id, queue.pending(session, submission_id) is not None))


@pytest.mark.parametrize("given", [{"akismet_key": KEY}, {"screening_url": "https://screen.example/"}])
def test_is_asked_for_after_the_commit_where_a_service_is_set(
    place: House, tmp_path: Path, given: dict[str, str]
) -> None:
    noted = Noted()
    place.site = site_over(place.site.database, tmp_path, nudges=noted, **given)
    noted.house = place
    letter = send(place)
    first = place.submission(letter)
    comments.change_comment(place.site, letter, Letter("Ann", "Other words."))
    assert noted.told == [(first, True), (place.submission(letter), True)]


def test_is_not_asked_for_where_none_is_set(place: House, tmp_path: Path) -> None:
    noted = Noted()
    place.site = site_over(place.site.database, tmp_path, nudges=noted)
    send(place)
    assert noted.told == []
