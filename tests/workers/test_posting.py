"""Sending what waits: a real mail server that takes, refuses, hangs up; files; and the desk's webhook."""

import hashlib
import hmac
import json
import logging
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import pytest
from aiosmtpd.smtp import AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from ground.letterbox import Letterbox, listening
from ground.workshop import SECRET, Workshop
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from bridge import settings
from bridge.keys import Keys
from bridge.mail import outbox
from bridge.mail.outbox import Mail, MailRefused
from bridge.records import Outgoing
from workers import doctor, posting
from workers.posting import Maker
from workers.settings import WorkerSettings

TO = "reader-canary@letters.example"
SUBJECT = "A subject-canary, with Wörter"
TEXT = "Text-canary.\n\n.A line that begins with a dot.\n"
PASSWORD = "p@ss/word-canary"
HOOK_SECRET = "hook-secret-canary-0123456789"


@pytest.fixture
def letterbox() -> Iterator[Letterbox]:
    with listening(Letterbox()) as box:
        yield box


def asked(workshop: Workshop, **given: object) -> WorkerSettings:
    return settings.load(
        WorkerSettings,
        emeritus_data=workshop.site.settings.emeritus_data,
        secret_key=SECRET,
        site_url="https://letters.example.org",
        **given,
    )


def put(workshop: Workshop, once: str = "a mail:1", **more: Any) -> int:
    with workshop.site.database.sessions.begin() as session:
        return outbox.put_mail(
            session, workshop.site.keys, once=once, **{"to": TO, "subject": SUBJECT, "text": TEXT, **more}
        )


def send(workshop: Workshop, **given: object) -> str:
    return posting.send_what_waits(workshop.site, asked(workshop, **given))


def row(workshop: Workshop, number: int) -> Outgoing:
    with workshop.site.database.reading_sessions() as session:
        return session.get_one(Outgoing, number)


def time_passes(workshop: Workshop) -> None:
    with workshop.site.database.sessions.begin() as session:
        session.execute(text("UPDATE outgoing SET not_before = 1 WHERE not_before IS NOT NULL"))


# Mail.


def test_hands_a_mail_to_the_server(workshop: Workshop, letterbox: Letterbox) -> None:
    number = put(workshop, html="<p>Text-canary.</p>", headers={"List-Id": "Letters <letters.example.org>"})
    assert send(workshop, smtp_url=letterbox.url) == "1 sent, 0 not"
    [envelope], [mail] = letterbox.received, letterbox.mails()
    assert (envelope.mail_from, envelope.rcpt_tos) == ("emeritus@letters.example.org", [TO])
    assert (mail["To"], mail["From"], mail["Subject"]) == (TO, "emeritus@letters.example.org", SUBJECT)
    assert (mail["Auto-Submitted"], mail["List-Id"]) == ("auto-generated", "Letters <letters.example.org>")
    assert mail["Message-ID"].endswith("@letters.example.org>")
    assert abs(datetime.now(UTC) - mail["Date"].datetime) < timedelta(minutes=1)
    plain, html = cast(Any, mail).iter_parts()
    assert plain.get_content() == TEXT.replace("\n", "\r\n")
    assert html.get_content_type() == "text/html"
    assert row(workshop, number).state == "sent"
    assert row(workshop, number).sealed is None
    assert send(workshop, smtp_url=letterbox.url) == "0 sent, 0 not"


def test_takes_another_sender(workshop: Workshop, letterbox: Letterbox) -> None:
    put(workshop)
    send(workshop, smtp_url=letterbox.url, mail_from="house@other.example")
    assert letterbox.mails()[0]["From"] == "house@other.example"


def test_tries_again_what_the_server_cannot_take_now(workshop: Workshop, letterbox: Letterbox) -> None:
    letterbox.replies = ["450 Later", "250 OK"]
    number = put(workshop)
    assert send(workshop, smtp_url=letterbox.url) == "0 sent, 1 not"
    assert (row(workshop, number).state, row(workshop, number).why) == ("unsent", "The mail server answered 450.")
    assert send(workshop, smtp_url=letterbox.url) == "0 sent, 0 not"
    time_passes(workshop)
    assert send(workshop, smtp_url=letterbox.url) == "1 sent, 0 not"
    first, second = letterbox.mails()
    assert first["Message-ID"] == second["Message-ID"]


@pytest.mark.parametrize(("rcpt", "data"), [("550 Nobody here", "250 OK"), ("250 OK", "554 No")])
def test_gives_up_what_the_server_refuses(workshop: Workshop, letterbox: Letterbox, rcpt: str, data: str) -> None:
    letterbox.rcpt, letterbox.replies = rcpt, [data]
    number = put(workshop)
    other = put(workshop, "a mail:2")
    assert send(workshop, smtp_url=letterbox.url) == "0 sent, 2 not"
    assert [row(workshop, each).state for each in (number, other)] == ["refused", "refused"]
    assert f"answered {rcpt[:3] if rcpt[0] == '5' else data[:3]}" in str(row(workshop, number).why)


def test_never_sends_again_what_the_server_had_when_it_hung_up(workshop: Workshop, letterbox: Letterbox) -> None:
    letterbox.replies = [None, "250 OK"]
    number = put(workshop)
    assert send(workshop, smtp_url=letterbox.url) == "0 sent, 1 not"
    time_passes(workshop)
    assert send(workshop, smtp_url=letterbox.url) == "0 sent, 0 not"
    assert len(letterbox.received) == 1
    assert row(workshop, number).state == "trying"
    with workshop.site.database.reading_sessions() as session:
        [left] = outbox.left_trying(session)
    assert (left.id, left.may_be_sent_again) == (number, False)
    assert left.why == "The server hung up before it said whether it took this. Perhaps it arrived."


def test_tries_again_where_nobody_listens(workshop: Workshop, letterbox: Letterbox) -> None:
    number = put(workshop)
    assert send(workshop, smtp_url="smtp://127.0.0.1:1") == "0 sent, 1 not"
    assert row(workshop, number).why == "The mail server failed (ConnectionRefusedError) when it was called."
    time_passes(workshop)
    assert send(workshop, smtp_url=letterbox.url) == "1 sent, 0 not"


def test_writes_to_addresses_beyond_ascii_where_the_server_can(workshop: Workshop, letterbox: Letterbox) -> None:
    to = "lese-rübe@bücher.example"
    put(workshop, to=to)
    assert send(workshop, smtp_url=letterbox.url) == "1 sent, 0 not"
    [envelope] = letterbox.received
    assert envelope.rcpt_tos == [to]
    assert f"To: {to}\r\n".encode() in cast(bytes, envelope.content)
    number = put(workshop, "a mail:2", to=to)
    with listening(Letterbox(), enable_SMTPUTF8=False) as plain:
        assert send(workshop, smtp_url=plain.url) == "0 sent, 1 not"
    assert (row(workshop, number).state, row(workshop, number).why) == (
        "refused",
        "The server takes no address with letters beyond ASCII.",
    )


@pytest.mark.parametrize("can", [True, False])
@pytest.mark.parametrize("to", ["max@münchen.example", "Max+brief@MÜNCHEN.example", "max@xn--mnchen-3ya.example"])
def test_writes_to_a_domain_beyond_ascii_by_its_name_in_dns(workshop: Workshop, to: str, can: bool) -> None:
    written = f"{to.partition('@')[0]}@xn--mnchen-3ya.example"
    number = put(workshop, to=to)
    with listening(Letterbox(), enable_SMTPUTF8=can) as box:
        assert send(workshop, smtp_url=box.url) == "1 sent, 0 not"
    [envelope] = box.received
    assert (envelope.rcpt_tos, envelope.smtp_utf8) == ([written], False)
    assert f"To: {written}\r\n".encode() in cast(bytes, envelope.content)
    assert row(workshop, number).state == "sent"


def test_writes_a_file_to_a_domain_beyond_ascii_by_its_name_in_dns(workshop: Workshop) -> None:
    number = put(workshop, to="max@münchen.example")
    assert send(workshop) == "1 sent, 0 not"
    written = (workshop.site.settings.data / "mail" / f"{number}.eml").read_bytes()
    assert b"To: max@xn--mnchen-3ya.example\r\n" in written


@pytest.mark.parametrize("to", ["max@mün--chen-.example", "max@xn--münchen.example"])
def test_writes_to_what_is_no_name_in_dns_as_it_stands(workshop: Workshop, letterbox: Letterbox, to: str) -> None:
    put(workshop, to=to)
    assert send(workshop, smtp_url=letterbox.url) == "1 sent, 0 not"
    assert letterbox.received[0].rcpt_tos == [to]


KILLED = """
import os, sys
from bridge import settings
from bridge.mail import outbox
from bridge.site import open_site
from workers import posting
from workers.settings import WorkerSettings

outbox.sent = lambda *_: os._exit(9)
asked = settings.load(WorkerSettings)
posting.send_what_waits(open_site(asked), asked)
"""


def test_never_sends_again_what_a_killed_worker_had_sent(
    workshop: Workshop, letterbox: Letterbox, sqlite_url: str, tmp_path: Path
) -> None:
    number, other = put(workshop), put(workshop, "a mail:2", to="second@letters.example")
    environment = {
        "DATABASE_URL": sqlite_url,
        "EMERITUS_DATA": str(tmp_path),
        "EMERITUS_ENV_FILE": "/dev/null",
        "SECRET_KEY": SECRET,
        "SMTP_URL": letterbox.url,
    }
    died = subprocess.run([sys.executable, "-c", KILLED], env=environment, capture_output=True, timeout=60, check=False)
    assert died.returncode == 9, died.stderr
    assert row(workshop, number).state == "trying"
    time_passes(workshop)
    assert send(workshop, smtp_url=letterbox.url) == "1 sent, 0 not"
    assert [each.rcpt_tos for each in letterbox.received] == [[TO], ["second@letters.example"]]
    assert [row(workshop, each).state for each in (number, other)] == ["trying", "sent"]


def test_sends_each_mail_once_by_however_many_workers(any_workshop: Workshop, letterbox: Letterbox) -> None:
    for each in range(6):
        put(any_workshop, f"a mail:{each}", to=f"r{each}@letters.example")
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda _: send(any_workshop, smtp_url=letterbox.url), range(3)))
    assert sorted(each.rcpt_tos[0] for each in letterbox.received) == [f"r{each}@letters.example" for each in range(6)]


# TLS and passwords.


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A certificate for 127.0.0.1 that this process trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    at = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(at - timedelta(days=1))
        .not_valid_after(at + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "certificate.pem"
    pem.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    return context


def accepts(_server: Any, _session: Any, _envelope: Any, _mechanism: str, given: LoginPassword) -> AuthResult:
    return AuthResult(success=(given.login, given.password) == (b"house", PASSWORD.encode()), handled=False)


def with_password(box: Letterbox, password: str = "p%40ss%2Fword-canary") -> str:
    return f"smtp://house:{password}@127.0.0.1:{box.port}"


def test_goes_on_in_tls_where_it_is_offered_and_gives_the_password_there(
    workshop: Workshop, tls: ssl.SSLContext
) -> None:
    how = {"tls_context": tls, "require_starttls": True, "authenticator": accepts, "auth_required": True}
    put(workshop)
    with listening(Letterbox(), **how) as box:
        assert send(workshop, smtp_url=with_password(box)) == "1 sent, 0 not"
        wrong = put(workshop, "a mail:2")
        assert send(workshop, smtp_url=with_password(box, "wrong")) == "0 sent, 1 not"
    assert (row(workshop, wrong).state, row(workshop, wrong).why) == (
        "unsent",
        "The mail server does not accept the password (535).",
    )


def test_speaks_tls_from_the_first_byte(workshop: Workshop, tls: ssl.SSLContext) -> None:
    put(workshop)
    with listening(Letterbox(), ssl_context=tls) as box:
        assert send(workshop, smtp_url=f"smtps://127.0.0.1:{box.port}") == "1 sent, 0 not"


@pytest.mark.usefixtures("tls")
def test_speaks_to_no_server_that_it_does_not_trust(
    workshop: Workshop, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    number = put(workshop)
    with listening(Letterbox(), tls_context=tls, authenticator=accepts) as box:
        assert send(workshop, smtp_url=with_password(box)) == "0 sent, 1 not"
        assert box.received == []
    assert "SSLCertVerificationError" in str(row(workshop, number).why)


def test_gives_no_password_in_clear_to_another_machine(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    number = put(workshop)
    with listening(Letterbox(), authenticator=accepts, auth_require_tls=False) as box:
        real = posting.smtplib.SMTP
        monkeypatch.setattr(posting.smtplib, "SMTP", lambda _host, port, **how: real("127.0.0.1", port, **how))
        url = with_password(box).replace("127.0.0.1", "mail.example")
        assert send(workshop, smtp_url=url) == "0 sent, 1 not"
    assert "not sent in clear" in str(row(workshop, number).why)


# Files.


def test_writes_each_mail_to_a_file_where_no_server_is_set(
    workshop: Workshop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    number = put(workshop)
    with caplog.at_level(logging.DEBUG):
        assert send(workshop) == "1 sent, 0 not"
    [file] = (tmp_path / "mail").iterdir()
    assert file.name == f"{number}.eml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    mail = message_from_bytes(file.read_bytes(), policy=policy.default)
    assert (mail["To"], mail["Subject"], cast(Any, mail).get_content()) == (TO, SUBJECT, TEXT.replace("\n", "\r\n"))
    assert f"mail {number} is in {file}" in caplog.text
    assert "canary" not in caplog.text


def test_tries_again_where_a_file_cannot_be_written(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "mail").write_text("in the way")
    number = put(workshop)
    assert send(workshop) == "0 sent, 1 not"
    assert row(workshop, number).state == "unsent"


# No words in logs (O1).


def test_logs_neither_addresses_nor_words(
    workshop: Workshop, letterbox: Letterbox, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        for number, (rcpt, data) in enumerate(
            [("250 OK", "250 OK"), (f"550 {TO} is unknown", "250 OK"), ("250 OK", f"451 {TO}"), ("250 OK", None)]
        ):
            letterbox.rcpt, letterbox.replies = rcpt, [data]
            put(workshop, f"a mail:{number}")
            send(workshop, smtp_url=letterbox.url)
        put(workshop, "a mail:9")
        send(workshop, smtp_url=f"smtp://house:{PASSWORD.replace('@', '%40').replace('/', '%2F')}@127.0.0.1:1")
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith(("mail", "asyncio"))]
    assert len([each for each in ours if each.startswith("message ")]) == 4
    assert not [each for each in ours if "canary" in each]
    with workshop.site.database.reading_sessions() as session:
        standing = outbox.standing(session)
    assert "canary" not in str(standing)


# Q4: however it is written, it goes to one, with the headers it is meant to have.

MAKER = Maker("emeritus@letters.example.org", "letters.example.org", Keys(SECRET))
PIECES = st.sampled_from(
    [
        "=?utf-8?q?",
        "?=",
        "=0d=0aBcc:_v@x",
        "Bcc: v@x",
        "=?",
        "a@b.example",
        "\r\n",
        *'\n\r\0\v\t\u2028\x85 ,;<>@"():=?\\ü字\u202e',
    ]
)
HOSTILE = st.lists(st.one_of(PIECES, st.text(max_size=8)), max_size=12).map("".join)
ORDINARY = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="?"), min_size=1, max_size=12
)


def headers_of(wire: bytes) -> list[str]:
    """Return the names of the headers as they stand on the wire, read by no library."""
    head = wire.partition(b"\r\n\r\n")[0]
    return sorted(line.partition(b":")[0].decode().lower() for line in head.split(b"\r\n") if line[:1] not in b" \t")


@given(to=st.one_of(HOSTILE, st.just("a@one.example")), subject=HOSTILE, listed=st.one_of(st.just("Letters"), HOSTILE))
def test_makes_no_header_of_what_people_wrote(to: str, subject: str, listed: str) -> None:
    try:
        made = MAKER.made(1, Mail(to, subject, TEXT, headers={"List-Id": listed}))
    except MailRefused:
        return
    wire = posting._wire(made)
    own = ["Content-Transfer-Encoding", "Content-Type", "List-Id", *posting._OURS]
    assert headers_of(wire) == sorted(name.lower() for name in own)
    read = message_from_bytes(wire, policy=policy.default)
    assert [f"{each.username}@{each.domain}" for each in read["to"].addresses] == [to]
    assert b"\n" not in wire.replace(b"\r\n", b"")


@given(words=st.lists(ORDINARY, min_size=1, max_size=20))
def test_sends_every_ordinary_subject_as_it_is(words: list[str]) -> None:
    subject = " ".join(words)
    read = message_from_bytes(posting._wire(MAKER.made(1, Mail(TO, subject, TEXT))), policy=policy.default)
    assert read["subject"] == subject


def test_refuses_what_the_library_would_make_another_header_of(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without our own look at the words first, the second one, at what was made of them, still holds.
    monkeypatch.setattr(outbox, "check", lambda _mail: None)
    for subject in ("=?utf-8?q?a=0d=0aBcc:_v@x?=", "a\r\nBcc: v@x", " a"):
        with pytest.raises(MailRefused):
            MAKER.made(1, Mail(TO, subject, TEXT))
    with pytest.raises(MailRefused):
        MAKER.made(1, Mail(TO, SUBJECT, TEXT, headers={"List-Id": "=?utf-8?q?a=0d=0aBcc:_v@x?="}))
    for to in ("a@one.example, b@two.example", "=?utf-8?q?a=0d=0aBcc:_v@x?= <a@one.example>"):
        with pytest.raises(MailRefused):
            MAKER.made(1, Mail(to, SUBJECT, TEXT))


# The webhook.


@dataclass
class Hook:
    """A server that is told what waits: it answers *statuses* in order, the last again and again."""

    statuses: list[int] = field(default_factory=lambda: [200])
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.heard.append((dict(self.headers), body))
            self.send_response(hook.statuses.pop(0) if len(hook.statuses) > 1 else hook.statuses[0])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        hook.url = f"http://127.0.0.1:{server.server_port}/hook-canary"
        yield hook
        server.shutdown()
        thread.join(10)


def put_webhook(workshop: Workshop, once: str = "desk:1") -> int:
    with workshop.site.database.sessions.begin() as session:
        return outbox.put_webhook(session, workshop.site.keys, once=once, payload={"text": "3 wait on the desk"})


def tell(workshop: Workshop, hook: Hook, **given: object) -> str:
    given = {"desk_webhook_secret": HOOK_SECRET, "desk_webhook_private": "on", **given}
    return send(workshop, desk_webhook_url=hook.url, **given)


def test_tells_the_webhook_and_signs_it(workshop: Workshop, hook: Hook) -> None:
    number = put_webhook(workshop)
    assert tell(workshop, hook) == "1 sent, 0 not"
    [(headers, body)] = hook.heard
    assert json.loads(body) == {"text": "3 wait on the desk"}
    assert headers["Content-Type"] == "application/json"
    stamp, _, proof = headers["X-Emeritus-Signature"].partition(",v1=")
    at = stamp.removeprefix("t=")
    assert abs(datetime.now(UTC).timestamp() - int(at)) < 60
    assert proof == hmac.new(HOOK_SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    assert row(workshop, number).state == "sent"


def test_signs_nothing_without_a_secret(workshop: Workshop, hook: Hook) -> None:
    put_webhook(workshop)
    tell(workshop, hook, desk_webhook_secret=None)
    assert "X-Emeritus-Signature" not in hook.heard[0][0]


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_tells_the_webhook_again_later(
    workshop: Workshop, hook: Hook, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    hook.statuses = [status, 204]
    number = put_webhook(workshop)
    assert tell(workshop, hook) == "0 sent, 1 not"
    assert (row(workshop, number).state, row(workshop, number).why) == ("unsent", f"The webhook answered {status}.")
    time_passes(workshop)
    assert tell(workshop, hook) == "1 sent, 0 not"
    assert len(hook.heard) == 2
    assert "canary" not in caplog.text


@pytest.mark.parametrize("status", [400, 404, 410, 302])
def test_gives_up_a_webhook_that_refuses(workshop: Workshop, hook: Hook, status: int) -> None:
    hook.statuses = [status]
    number = put_webhook(workshop)
    tell(workshop, hook)
    assert row(workshop, number).state == "refused"


def test_calls_no_webhook_of_its_own_network_unless_told_so(workshop: Workshop, hook: Hook) -> None:
    number = put_webhook(workshop)
    assert tell(workshop, hook, desk_webhook_private="off") == "0 sent, 1 not"
    assert hook.heard == []
    assert row(workshop, number).state == "refused"
    assert "neither 80 nor 443" in str(row(workshop, number).why)


def test_gives_up_a_webhook_that_is_set_no_more(workshop: Workshop) -> None:
    number = put_webhook(workshop)
    send(workshop)
    assert (row(workshop, number).state, row(workshop, number).why) == (
        "refused",
        "No DESK_WEBHOOK_URL is set any more.",
    )


# What the doctor says.


def test_says_whether_mail_can_be_sent(workshop: Workshop, letterbox: Letterbox) -> None:
    def found(what: Callable[[WorkerSettings], Iterator[doctor.Finding]], **given: object) -> list[doctor.Finding]:
        return list(what(asked(workshop, **given)))

    [none] = found(doctor._mail)
    assert (none.state, "becomes a file" in none.told) == ("note", True)
    [well] = found(doctor._mail, smtp_url=letterbox.url)
    assert well.state == "well"
    assert letterbox.received == []
    [gone] = found(doctor._mail, smtp_url="smtp://house:password-canary@127.0.0.1:1")
    assert (gone.state, "canary" in gone.told) == ("broken", False)
    assert found(doctor._webhook) == []
    url = "http://127.0.0.1:9000/path-canary"
    [private] = found(doctor._webhook, desk_webhook_url=url)
    assert (private.state, "canary" in private.told) == ("broken", False)
    [unsigned] = found(doctor._webhook, desk_webhook_url=url, desk_webhook_private="on")
    assert unsigned.state == "note"
    [signed] = found(doctor._webhook, desk_webhook_url="https://hooks.example/x", desk_webhook_secret=HOOK_SECRET)
    assert signed.state == "well"
