"""Sending what waits in the outbox: mail by SMTP, and the desk's webhook.

Each message is taken and committed, sent with no transaction open, and recorded. If it runs twice, each takes what the
other has not. If it dies between sending and recording, the message stays *trying* and is not sent again: a person who
is written to twice minds more than a desk that shows one in doubt.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import os
import re
import smtplib
import ssl
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from email import message_from_string, policy
from email.header import Header
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

import idna

from bridge.keys import Keys
from bridge.mail import outbox
from bridge.mail.outbox import Mail, MailRefused, Taken
from bridge.site import Site
from moderation.base import now
from workers import outside
from workers.settings import WorkerSettings

log = logging.getLogger(__name__)

AT_ONCE = 500
"""The most messages that one job sends; the sweep asks for more."""
TIME = 10 * 60.0
"""Seconds after which a job takes no further message: well before RQ ends it."""
SMTP_TIMEOUT = 30.0
SIGNATURE = "X-Emeritus-Signature"
_PASSING_STATUS = {408, 425, 429}
_OURS = ("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version")
_ON_ONE_LINE = ("list-", "x-", "in-reply-to", "references")
_OF_BODIES = ("Content-Type", "Content-Transfer-Encoding")


class NotTaken(Exception):
    """Raised when the other side did not take a message. *passing*: it may later. Worded for admins."""

    def __init__(self, told: str, *, passing: bool) -> None:
        super().__init__(told)
        self.passing = passing


class InDoubt(Exception):
    """Raised when the other side had the whole message and did not say whether it took it."""

    def __init__(self) -> None:
        super().__init__("The server hung up before it said whether it took this. Perhaps it arrived.")


class Post(Protocol):
    """What carries mail."""

    def carry(self, outgoing_id: int, mail: Mail) -> None:
        """Hand over one mail. Raises `NotTaken`, `InDoubt` and `MailRefused`."""


def send_what_waits(site: Site, asked: WorkerSettings) -> str:
    """Send every message that is due, one after the other; return how many were sent and how many were not."""
    post = the_post(site, asked)
    until = time.monotonic() + TIME
    sent = others = 0
    while sent + others < AT_ONCE and time.monotonic() < until:
        with site.database.sessions.begin() as session:
            taken = outbox.take(session, site.keys)
        if taken is None:
            break
        # Committed: from here on it is tried, and if this process ends now it is not tried again.
        if _send(site, asked, post, taken):
            sent += 1
        else:
            others += 1
    return f"{sent} sent, {others} not"


def the_post(site: Site, asked: WorkerSettings) -> Post:
    """Return what carries mail here: the operator's server, or files where none is set."""
    maker = Maker(asked.sender, urlsplit(asked.address).hostname or "localhost", site.keys)
    return SmtpPost(asked.smtp_url, maker) if asked.smtp_url is not None else FilePost(asked.data / "mail", maker)


def _send(site: Site, asked: WorkerSettings, post: Post, taken: Taken) -> bool:
    try:
        if taken.mail is not None:
            post.carry(taken.id, replace(taken.mail, to=_as_servers_take_it(taken.mail.to)))
        else:
            _tell_webhook(asked, taken)
    except InDoubt as doubt:
        log.warning("message %s: nobody knows whether it was taken; it is not sent again", taken.id)
        with site.database.sessions.begin() as session:
            outbox.in_doubt(session, taken.id, why=str(doubt))
        return False
    except (NotTaken, MailRefused) as refusal:
        passing = isinstance(refusal, NotTaken) and refusal.passing
        log.warning("message %s was not taken%s", taken.id, ", and is tried again later" if passing else "")
        with site.database.sessions.begin() as session:
            outbox.refused(session, taken.id, why=str(refusal), passing=passing)
        return False
    with site.database.sessions.begin() as session:
        outbox.sent(session, taken.id)
    return True


# Mail.


def _as_servers_take_it(address: str) -> str:
    """Return an address as every mail server takes it: its domain as DNS has it.

    As it stands where its local part is not ASCII, for which there is no other way than SMTPUTF8.
    """
    local, _, domain = address.rpartition("@")
    if not local.isascii() or domain.isascii():
        return address
    try:
        return f"{local}@{idna.encode(domain, uts46=True).decode('ascii')}"
    except idna.IDNAError:
        return address


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes a mail of what is to be said: from whom, and under which host and keys its id is made."""

    sender: str
    host: str
    keys: Keys

    def made(self, outgoing_id: int, mail: Mail) -> EmailMessage:
        """Return a mail to one recipient, with the headers it is meant to have and no others.

        Raises `MailRefused`, also where it would be read otherwise than it was meant (SECURITY, Q4).
        """
        outbox.check(mail)
        # Seven bits, which every server takes as they are.
        made = EmailMessage(policy=policy.SMTP.clone(cte_type="7bit"))
        try:
            made["From"] = self.sender
            made["To"] = mail.to
            made["Subject"] = mail.subject
            made["Date"] = format_datetime(now())
            # The same at each attempt, so that a server which took an earlier one can tell.
            made["Message-ID"] = f"<{self.keys.keyed_digest('message id', str(outgoing_id))[:32]}@{self.host}>"
            # RFC 3834: so that nobody's absence is answered to us.
            made["Auto-Submitted"] = "auto-generated"
            for name, value in mail.headers.items():
                made[name] = value
            made.set_content(mail.text)
            if mail.html is not None:
                made.add_alternative(mail.html, subtype="html")
        except (ValueError, UnicodeError, LookupError, IndexError):
            # The email package's own ways to say that it cannot.
            raise MailRefused("a mail cannot be made of it") from None
        _as_it_was_meant(made, mail)
        return made


def _as_it_was_meant(made: EmailMessage, mail: Mail) -> None:
    """Read a mail as its recipient's server will, and refuse it unless it has one recipient and our headers alone."""
    read = message_from_string(_wire(made).decode(), policy=policy.default)
    names = sorted(name.lower() for name in read.keys())  # noqa: SIM118  (A header that stands twice counts twice.)
    meant = sorted(name.lower() for name in (*_OURS, *mail.headers))
    if [name for name in names if name not in {each.lower() for each in _OF_BODIES}] != meant:
        raise MailRefused("its headers would be read otherwise than they are meant")
    (to,) = read.get_all("to", [])
    if [f"{each.username}@{each.domain}" for each in to.addresses] != [mail.to] or read["subject"] != mail.subject:
        raise MailRefused("its address or subject would be read otherwise than it is meant")
    if any(str(read[name]) != value for name, value in mail.headers.items()):
        raise MailRefused("its headers would be read otherwise than they are meant")


class _WholeHeaders(EmailPolicy):
    """The library's policy for SMTP, which loses blanks where it folds a subject, with the older way to fold those.

    It also encodes an address that is longer than a line as if it were text, and no mail program undoes that: so
    addresses and ids stay on their one line, which may have 998 characters (RFC 5322).
    """

    def fold_binary(self, name: str, value: str) -> bytes:
        """Return a header as it stands on the wire."""
        if name.lower().startswith(_ON_ONE_LINE) and str(value).isascii() and len(name) + len(value) < 990:
            return f"{name}: {value}\r\n".encode("ascii")
        if name.lower() != "subject":
            return super().fold_binary(name, value)
        subject = str(value)
        plain = subject.isascii() and len(subject) <= 60
        written = subject if plain else Header(subject, "utf-8", header_name=name).encode(linesep="\r\n")
        return f"{name}: {written}\r\n".encode("ascii")


_TO_ASCII = _WholeHeaders(linesep="\r\n", cte_type="7bit")
_TO_OTHERS = _WholeHeaders(linesep="\r\n", utf8=True)


def _wire(made: EmailMessage) -> bytes:
    return made.as_bytes(policy=_TO_ASCII if _address_is_ascii(made) else _TO_OTHERS)


def _address_is_ascii(made: EmailMessage) -> bool:
    return all(address.addr_spec.isascii() for address in made["To"].addresses)


class FilePost:
    """The twin for a house without a mail server: each mail becomes a file that only its owner reads."""

    def __init__(self, folder: Path, maker: Maker) -> None:
        self._folder = folder
        self._maker = maker

    def carry(self, outgoing_id: int, mail: Mail) -> None:
        """Write the mail to `ID.eml`, all of it or nothing; log the file's name."""
        made = _wire(self._maker.made(outgoing_id, mail))
        where = self._folder / f"{outgoing_id}.eml"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, unfinished = tempfile.mkstemp(dir=self._folder)  # It makes files with mode 0600.
            with os.fdopen(descriptor, "wb") as file:
                file.write(made)
            os.replace(unfinished, where)
        except OSError as error:
            raise NotTaken(f"Its file could not be written ({type(error).__name__}).", passing=True) from None
        log.info("no SMTP_URL: mail %s is in %s", outgoing_id, where)


class SmtpPost:
    """Mail by the operator's server."""

    def __init__(self, url: str, maker: Maker) -> None:
        self._url = url
        self._maker = maker

    def carry(self, outgoing_id: int, mail: Mail) -> None:
        """Hand one mail to the server, which says whether it takes it."""
        made = self._maker.made(outgoing_id, mail)
        wire = re.sub(rb"(?m)^\.", b"..", _wire(made))
        options = [] if _address_is_ascii(made) else ["SMTPUTF8", "BODY=8BITMIME"]
        with connected(self._url) as server:
            if options and not server.has_extn("smtputf8"):
                raise NotTaken("The server takes no address with letters beyond ASCII.", passing=False)
            with _said("before it had the message"):
                _expect(server.mail(self._maker.sender, options), 250)
                _expect(server.rcpt(mail.to), 250, 251)
                _expect(server.docmd("DATA"), 354)
            try:
                server.send(wire + (b"" if wire.endswith(b"\r\n") else b"\r\n") + b".\r\n")
                answered = server.getreply()
            except (OSError, smtplib.SMTPException):
                # It may have the whole of it, and be about to deliver it.
                raise InDoubt from None
            _expect(answered, 250)


@contextmanager
def connected(url: str) -> Iterator[smtplib.SMTP]:
    """Yield a mail server that has greeted us and knows who we are. Raises `NotTaken`, never with what the URL holds.

    What it is sent with a password is never sent in the clear, unless to this machine itself.
    """
    parts = urlsplit(url)
    host, with_tls = parts.hostname or "", parts.scheme == "smtps"
    port = parts.port or (465 if with_tls else 587 if parts.username else 25)
    local = host in {"localhost", "127.0.0.1", "::1"}
    with _said("when it was called"):
        context = ssl.create_default_context()
        if with_tls:
            server: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=SMTP_TIMEOUT, context=context)
        else:
            server = smtplib.SMTP(host, port, timeout=SMTP_TIMEOUT)
    try:
        with _said("when it was greeted"):
            server.ehlo_or_helo_if_needed()
            if not with_tls and server.has_extn("starttls"):
                server.starttls(context=context)
                server.ehlo()
                with_tls = True
            if parts.username:
                if not with_tls and not local:
                    raise NotTaken(
                        "The mail server offers no TLS, and the password is not sent in clear.", passing=True
                    )
                server.login(unquote(parts.username), unquote(parts.password or ""))
        yield server
    finally:
        # The answer to the message counts; how the server takes leave does not.
        with suppress(OSError, smtplib.SMTPException):
            server.quit()
        server.close()


@contextmanager
def _said(when: str) -> Iterator[None]:
    """Turn what smtplib raises into `NotTaken`. What servers say quotes addresses, so only their numbers are kept."""
    try:
        yield
    except smtplib.SMTPAuthenticationError as error:
        # A password that is wrong now is put right by a person, and the mail can wait for that.
        raise NotTaken(f"The mail server does not accept the password ({error.smtp_code}).", passing=True) from None
    except smtplib.SMTPResponseException as error:
        raise NotTaken(
            f"The mail server said {error.smtp_code} {when}.", passing=not 500 <= error.smtp_code < 600
        ) from None
    except smtplib.SMTPNotSupportedError:
        raise NotTaken("The mail server knows no way to take a password.", passing=True) from None
    except (smtplib.SMTPException, OSError, UnicodeError) as error:
        told = "did not answer in time" if isinstance(error, TimeoutError) else f"failed ({type(error).__name__})"
        raise NotTaken(f"The mail server {told} {when}.", passing=True) from None


def _expect(answered: tuple[int, bytes], *codes: int) -> None:
    if answered[0] not in codes:
        raise NotTaken(f"The mail server answered {answered[0]}.", passing=not 500 <= answered[0] < 600)


# The desk's webhook.


def signature(secret: str, body: bytes, *, at: int) -> str:
    """Return what proves that *body* is ours, and when it was sent: `t=SECONDS,v1=HEX`, over `SECONDS.BODY`."""
    made = hmac.new(secret.encode(), str(at).encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={made}"


def _tell_webhook(asked: WorkerSettings, taken: Taken) -> None:
    if asked.desk_webhook_url is None:
        raise NotTaken("No DESK_WEBHOOK_URL is set any more.", passing=False)
    body = json.dumps(taken.payload or {}).encode()
    headers = {"Content-Type": "application/json", **_signed(asked, body)}
    private = asked.desk_webhook_private == "on"
    try:
        answer = asyncio.run(outside.post(asked.desk_webhook_url, body=body, headers=headers, allow_private=private))
    except outside.OutsideRefused as refusal:
        raise NotTaken(f"The webhook was not reached. {refusal}", passing=refusal.passing) from None
    if not 200 <= answer.status < 300:
        passing = answer.status >= 500 or answer.status in _PASSING_STATUS
        raise NotTaken(f"The webhook answered {answer.status}.", passing=passing)


def _signed(asked: WorkerSettings, body: bytes) -> Mapping[str, str]:
    if asked.desk_webhook_secret is None:
        return {}
    return {SIGNATURE: signature(asked.desk_webhook_secret, body, at=int(now().timestamp()))}
