"""Readers' mail by a real mail server: what is told arrives once, whoever dies, and no name becomes a header."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from email.headerregistry import Address as InHeader
from typing import Any, cast

import pytest
from ground.letterbox import Letterbox, listening
from ground.postbag import READER, confirmed, events, put_down, received
from ground.workshop import SECRET, ScriptedModel, Workshop, declines, message
from hypothesis import HealthCheck, example, given
from hypothesis import settings as bounds
from hypothesis import strategies as st
from sqlalchemy import select, text, update

from bridge import settings
from bridge.essay.essays import EssayRefused, Published
from bridge.mail import notices, outbox
from bridge.records import Address, Comment, Voice
from bridge.text.words import WordsRefused
from workers import posting
from workers.settings import WorkerSettings

ENCODED = "=?utf-8?q?a=0d=0aBcc:_victim@x.example?="


@pytest.fixture
def letterbox() -> Iterator[Letterbox]:
    with listening(Letterbox()) as box:
        yield box


@pytest.fixture
def told(workshop: Workshop) -> Workshop:
    """A workshop with a reader who confirmed their address and whose letter waits."""
    workshop.letter("Do you dream?", email=READER)
    confirmed(workshop.site)
    return workshop


def send(workshop: Workshop, letterbox: Letterbox) -> str:
    asked = settings.load(
        WorkerSettings, emeritus_data=workshop.site.settings.emeritus_data, secret_key=SECRET, smtp_url=letterbox.url
    )
    return posting.send_what_waits(workshop.site, asked)


def time_passes(workshop: Workshop) -> None:
    with workshop.site.database.sessions.begin() as session:
        session.execute(text("UPDATE outgoing SET not_before = 1 WHERE not_before IS NOT NULL"))


def subjects(letterbox: Letterbox) -> list[str]:
    return [str(mail["Subject"]) for mail in letterbox.mails()]


def test_tells_the_whole_walk_of_a_letter(told: Workshop, letterbox: Letterbox) -> None:
    told.approve(told.submission(1))
    told.sit(ScriptedModel(message("I dream of letters.")))
    assert send(told, letterbox) == "2 sent, 0 not"
    told.approve_reply(1)
    assert send(told, letterbox) == "1 sent, 0 not"
    assert subjects(letterbox) == [
        "Is this you?",
        "Your letter about “On rest” is posted",
        "Test Voice answered your letter",
    ]
    assert all(each.rcpt_tos == [READER] for each in letterbox.received)
    last = cast(Any, letterbox.mails()[-1])
    assert "I dream of letters." in last.get_body(("plain",)).get_content()
    assert "I dream of letters." in last.get_body(("html",)).get_content()


def test_tells_that_a_voice_chose_other_letters(any_workshop: Workshop) -> None:
    with any_workshop.site.database.sessions.begin() as session:
        session.execute(update(Voice).values(answering="chosen"))
    comment_id = any_workshop.letter("Do you dream?", email=READER)
    confirmed(any_workshop.site)
    any_workshop.approve(any_workshop.submission(comment_id))
    any_workshop.sit(ScriptedModel(message(declines(), stop="tool_use")))
    assert any_workshop.request(comment_id).state == "not_chosen"
    assert events(any_workshop.site) == ["ask", "posted", "not_chosen"]


def test_writes_the_addresses_by_which_mail_ends_on_one_line(told: Workshop, letterbox: Letterbox) -> None:
    told.approve(told.submission(1))
    send(told, letterbox)
    [wire] = [cast(bytes, each.content) for each in letterbox.received[1:]]
    head = wire.partition(b"\r\n\r\n")[0]
    assert re.search(rb"\r\nList-Unsubscribe: <http://localhost:8000/mail/stop/[\w.-]+>\r\n", head)
    assert re.search(rb"\r\nReferences: <letter-[0-9a-f]{32}@localhost>\r\n", head)
    assert b"=?" not in head.replace(b"=?utf-8?", b"", 1).partition(b"Subject:")[0]


def test_sends_nothing_after_its_reader_ended_it_or_took_the_letter_back(told: Workshop, letterbox: Letterbox) -> None:
    told.approve(told.submission(1))
    told.take_back(1)
    assert send(told, letterbox) == "0 sent, 0 not"
    assert letterbox.received == []


def test_gives_up_what_was_in_hand_when_it_became_moot(told: Workshop) -> None:
    told.approve(told.submission(1))
    with listening(Letterbox(["451 later"], meanwhile=lambda: told.take_back(1))) as box:
        assert send(told, box).startswith("0 sent")
        time_passes(told)
        before = len(box.received)
        send(told, box)
        assert len(box.received) == before
    assert {each.state for each in put_down(told.site)} == {"refused"}
    assert all(each.mail is None for each in put_down(told.site))


# Each event at most once, whoever is killed.

KILLED = """
import os, sys
from bridge import settings
from bridge.mail import outbox
from bridge.site import open_site
from workers import posting
from workers.settings import WorkerSettings

asked = settings.load(WorkerSettings)
posting.send_what_waits(open_site(asked), asked)
"""


def sends_and_is_killed(workshop: Workshop, sqlite_url: str, box: Letterbox) -> int:
    """Run a worker that the mail server kills as soon as it has a mail, before it says so; return how it ended."""
    environment = {
        "DATABASE_URL": sqlite_url,
        "EMERITUS_DATA": str(workshop.site.settings.emeritus_data),
        "EMERITUS_ENV_FILE": os.devnull,
        "SECRET_KEY": SECRET,
        "SMTP_URL": box.url,
    }
    with subprocess.Popen([sys.executable, "-c", KILLED], env=environment, stderr=subprocess.DEVNULL) as worker:
        box.meanwhile = lambda: os.kill(worker.pid, signal.SIGKILL)
        return worker.wait(60)


def test_tells_each_event_once_although_the_worker_is_killed_between_send_and_record(
    told: Workshop, letterbox: Letterbox, sqlite_url: str
) -> None:
    assert send(told, letterbox) == "1 sent, 0 not"
    told.approve(told.submission(1))
    assert sends_and_is_killed(told, sqlite_url, letterbox) == -signal.SIGKILL
    told.sit(ScriptedModel(message("I dream of letters.")))
    told.approve_reply(1)
    time_passes(told)
    assert sends_and_is_killed(told, sqlite_url, letterbox) == -signal.SIGKILL
    letterbox.meanwhile = None
    for _ in range(2):
        time_passes(told)
        send(told, letterbox)
    assert subjects(letterbox) == [
        "Is this you?",
        "Your letter about “On rest” is posted",
        "Test Voice answered your letter",
    ]
    assert [each.state for each in put_down(told.site)] == ["sent", "trying", "trying"]


@pytest.mark.parametrize("step", ["take", "carry", "sent"])
def test_loses_or_repeats_nothing_more_than_it_must_at_each_step(
    told: Workshop, letterbox: Letterbox, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """As a signal that cannot be caught."""

    def dies(*_: object, **__: object) -> None:
        raise Killed

    send(told, letterbox)
    told.approve(told.submission(1))
    where: Any = posting.SmtpPost if step == "carry" else outbox
    monkeypatch.setattr(where, step, dies)
    with pytest.raises(Killed):
        send(told, letterbox)
    monkeypatch.undo()
    time_passes(told)
    send(told, letterbox)
    # Before it was committed that it is tried, it is sent later; afterwards never again, for nobody knows.
    assert subjects(letterbox).count("Your letter about “On rest” is posted") == (0 if step == "carry" else 1)
    assert put_down(told.site)[-1].state == ("sent" if step == "take" else "trying")


def test_tells_once_what_is_told_twice(told: Workshop) -> None:
    told.approve(told.submission(1))
    with told.site.database.sessions.begin() as session:
        for _ in range(3):
            notices.decided(session, told.site, told_submission(session))
    assert events(told.site) == ["ask", "posted"]


def told_submission(session: Any) -> int:
    return int(session.scalars(select(Comment.submission_id)).one())


# Q4: no name, title or address becomes a header, and none loses the notice.


@pytest.mark.parametrize("title", [ENCODED, "a =? b", "On “rest” ü 字", "a\u202eb", "x" * 110, "Bcc: v@x.example"])
def test_tells_of_essays_whatever_they_are_called(told: Workshop, letterbox: Letterbox, title: str) -> None:
    try:
        essay_id = told.essay(f"# {title}\n\nWords.")
    except (EssayRefused, WordsRefused):
        pytest.skip("no essay can be called so")
    told.asked("About that one.", essay_id=essay_id, email=READER)
    assert send(told, letterbox).endswith("0 not")
    mail = letterbox.mails()[-1]
    assert mail["Bcc"] is None
    assert str(mail["Subject"]).startswith("Your letter")


PIECES = st.sampled_from(
    [ENCODED, "=?utf-8?q?", "?=", "=?", "\r\n", "\r\nBcc: v@x", "%(name)s", "%", "{{ 7 }}", "<b>", "\u2028", "\u202e"]
)
HOSTILE = st.lists(st.one_of(PIECES, st.text(max_size=10)), min_size=1, max_size=8).map("".join)
MEANT = sorted(
    [
        *("from", "to", "subject", "date", "message-id", "auto-submitted", "mime-version", "content-type"),
        *("list-unsubscribe", "list-unsubscribe-post", "in-reply-to", "references"),
    ]
)


@bounds(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=HOSTILE, title=HOSTILE, to=st.one_of(st.just(READER), HOSTILE, st.emails()))
@example(name=ENCODED, title=ENCODED, to=READER)
@example(name="a\r\nBcc: v@x.example", title="", to=READER)
@example(name="Name", title="Title", to=f"{READER}, victim@x.example")
def test_makes_no_header_of_names_titles_and_addresses(told: Workshop, name: str, title: str, to: str) -> None:
    site = told.site
    before = len(put_down(site))
    # What no gate lets through and no database keeps; all else could come from somewhere one day.
    name, title = (words.replace("\0", "")[:80] for words in (name, title))
    with pytest.MonkeyPatch.context() as patch, site.database.sessions.begin() as session:
        comment = session.get_one(Comment, 1)
        patch.setattr(notices, "_essay", lambda *_: cast(Published, type("Titled", (), {"title": title})))
        session.execute(update(Voice).values(name=name))
        session.execute(update(Address).values(sealed=site.keys.encrypted(to.encode(errors="replace").decode())))
        session.expire_all()
        is_put = []
        for event in notices.Event:
            if event is notices.Event.ANSWERED:
                continue
            is_put.append(notices._tell(session, site, comment, event, 1_000_000 + before))
            session.execute(text("UPDATE outgoing SET once = once || ':' || id"))
    assert len(set(is_put)) == 1, "what is told of lost a notice, and not the address"
    assert is_put[0] or to != READER
    for put in put_down(site)[before:]:
        assert put.mail is not None
        mail = received(site, put)
        assert sorted(each.lower() for each in mail.keys()) == MEANT  # noqa: SIM118  (Twice counts twice.)
        [recipient] = cast("tuple[InHeader, ...]", mail["to"].addresses)
        assert f"{recipient.username}@{recipient.domain}" == put.mail.to == to
        assert mail["subject"] == put.mail.subject
