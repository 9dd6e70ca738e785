"""The outbox: each message is written once, taken by one worker, and never sent again when nobody knows."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from ground.house import SECRET_KEY
from sqlalchemy import select, text, update

from bridge.db import Database
from bridge.keys import Keys
from bridge.mail import outbox
from bridge.mail.outbox import Mail, MailRefused, NotToBeSentAgain, OutgoingState, Taken
from bridge.records import Outgoing
from moderation.base import now

KEYS = Keys(SECRET_KEY)
TO = "reader-canary@letters.example"
SUBJECT = "A subject-canary"
TEXT = "Text-canary."


class Outbox:
    """An outbox, and what happens to what is in it; each in a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def mail(self, once: str = "told:1:daily:2026-11-24", keys: Keys = KEYS) -> int:
        with self.database.sessions.begin() as session:
            return outbox.put_mail(session, keys, once=once, to=TO, subject=SUBJECT, text=TEXT)

    def take(self) -> Taken | None:
        with self.database.sessions.begin() as session:
            return outbox.take(session, KEYS)

    def refuse(self, outgoing_id: int, *, passing: bool) -> None:
        with self.database.sessions.begin() as session:
            outbox.refused(session, outgoing_id, why="The mail server answered 450.", passing=passing)

    def send(self, outgoing_id: int) -> None:
        with self.database.sessions.begin() as session:
            outbox.sent(session, outgoing_id)

    def send_again(self, outgoing_id: int) -> None:
        with self.database.sessions.begin() as session:
            outbox.send_again(session, outgoing_id)

    def doubt(self, outgoing_id: int) -> None:
        with self.database.sessions.begin() as session:
            outbox.in_doubt(session, outgoing_id, why="It hung up.")

    def forget(self) -> None:
        with self.database.sessions.begin() as session:
            outbox.forget_words(session)

    def row(self, outgoing_id: int) -> Outgoing:
        with self.database.reading_sessions() as session:
            return session.get_one(Outgoing, outgoing_id)

    def time_passes(self) -> None:
        with self.database.sessions.begin() as session:
            session.execute(text("UPDATE outgoing SET not_before = 1 WHERE not_before IS NOT NULL"))

    def seconds_to_wait(self, outgoing_id: int) -> float:
        with self.database.reading_sessions() as session:
            wait = Outgoing.not_before - outbox.database_time()
            return float(session.scalars(select(wait).where(Outgoing.id == outgoing_id)).one() or 0)

    def left(self) -> list[int]:
        with self.database.reading_sessions() as session:
            return [each.id for each in outbox.left_trying(session)]


@pytest.fixture
def box(database: Database) -> Iterator[Outbox]:
    return Outbox(database)


# Written once.


def test_keeps_address_and_text_sealed_until_they_are_sent(box: Outbox) -> None:
    number = box.mail()
    kept = box.row(number).sealed
    assert kept is not None
    assert not any(word in kept for word in (b"canary", TO.encode()))
    taken = box.take()
    assert taken is not None
    assert taken.mail == Mail(TO, SUBJECT, TEXT)
    assert "canary" not in repr(taken)
    box.send(number)
    row = box.row(number)
    assert (row.state, row.sealed, row.attempts) == ("sent", None, 1)
    assert row.ended_at is not None


def test_writes_the_same_once(box: Outbox) -> None:
    first = box.mail("told:1:daily:2026-11-24")
    assert box.mail("told:1:daily:2026-11-24") == first
    assert box.mail("told:2:daily:2026-11-24") != first
    box.take()
    box.send(first)
    assert box.mail("told:1:daily:2026-11-24") == first
    assert box.row(first).state == "sent"


def test_writes_the_same_once_when_two_do_at_once(box: Outbox) -> None:
    start = Barrier(4)

    def write(_: int) -> int:
        start.wait(10)
        return box.mail("told:1:daily:2026-11-24")

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(write, range(4)))) == 1


def test_is_gone_with_the_transaction_that_wrote_it(box: Outbox) -> None:
    with box.database.sessions() as session:
        outbox.put_mail(session, KEYS, once="a", to=TO, subject=SUBJECT, text=TEXT)
        session.rollback()
    assert box.take() is None


@pytest.mark.parametrize(
    ("to", "subject", "headers"),
    [
        ("a@one.example, b@two.example", "Subject", {}),
        ("a@one.example\nBcc: b@two.example", "Subject", {}),
        ("=?utf-8?q?a=0d=0aBcc:_v@x?=@one.example", "Subject", {}),
        ("Name <a@one.example>", "Subject", {}),
        ("nobody", "Subject", {}),
        ("", "Subject", {}),
        ("a@one.example", "=?utf-8?q?a=0d=0aBcc:_v@x?=", {}),
        ("a@one.example", "Subject\r\nBcc: b@two.example", {}),
        ("a@one.example", "Sub\x00ject", {}),
        ("a@one.example", "Sub\u2028ject", {}),
        ("a@one.example", "\ud800", {}),
        ("a@one.example", " ", {}),
        ("a@one.example", "Subject", {"Bcc": "b@two.example"}),
        ("a@one.example", "Subject", {"Reply-To": "b@two.example"}),
        ("a@one.example", "Subject", {"X-A: b\r\nBcc": "b@two.example"}),
        ("a@one.example", "Subject", {"List-Id": "=?utf-8?q?a=0d=0aBcc:_v@x?="}),
    ],
)
def test_refuses_what_could_be_read_as_another_header(to: str, subject: str, headers: dict[str, str]) -> None:
    with pytest.raises(MailRefused, match="Nothing was changed"):
        outbox.check(Mail(to, subject, TEXT, headers=headers))


@pytest.mark.parametrize("words", ["\ud800", "a\0b"])
def test_refuses_a_text_that_is_none(words: str) -> None:
    with pytest.raises(MailRefused):
        outbox.check(Mail(TO, SUBJECT, words))
    with pytest.raises(MailRefused):
        outbox.check(Mail(TO, SUBJECT, TEXT, html=words))


# Taken by one.


def test_gives_each_message_to_one_worker(box: Outbox) -> None:
    numbers = [box.mail(f"told:{each}") for each in range(8)]
    start = Barrier(4)

    def work(_: int) -> list[int]:
        start.wait(10)
        mine = []
        while (taken := box.take()) is not None:
            mine.append(taken.id)
        return mine

    with ThreadPoolExecutor(4) as threads:
        took = [number for mine in threads.map(work, range(4)) for number in mine]
    assert sorted(took) == numbers


def test_goes_on_after_one_that_it_cannot_open(box: Outbox) -> None:
    closed = box.mail("a", Keys("another secret key, of another house altogether"))
    readable = box.mail("b")
    taken = box.take()
    assert taken is not None
    assert taken.id == readable
    row = box.row(closed)
    assert (row.state, row.why) == (
        "refused",
        "Its text cannot be opened: the site's secret key is another one.",
    )


# Refused.


def test_tries_again_later_what_was_refused_for_now(box: Outbox) -> None:
    number = box.mail()
    waits = []
    for attempt in range(1, outbox.MOST_ATTEMPTS):
        assert box.take() is not None
        box.refuse(number, passing=True)
        row = box.row(number)
        assert (row.state, row.attempts, row.why) == ("unsent", attempt, "The mail server answered 450.")
        assert box.take() is None  # Its time has not come.
        waits.append(round(box.seconds_to_wait(number), -1))
        box.time_passes()
    assert waits == [60, 120, 240, 480, 960, 1920, 3840, 7680, 14400]
    assert box.take() is not None
    box.refuse(number, passing=True)
    assert box.row(number).state == "refused"
    box.time_passes()
    assert box.take() is None


def test_gives_up_what_was_refused_for_good(box: Outbox) -> None:
    number = box.mail()
    box.take()
    box.refuse(number, passing=False)
    row = box.row(number)
    assert (row.state, row.attempts) == ("refused", 1)
    assert box.take() is None


def test_sends_a_refused_one_again_when_an_admin_says_so(box: Outbox) -> None:
    number = box.mail()
    box.take()
    box.refuse(number, passing=False)
    box.send_again(number)
    taken = box.take()
    assert taken is not None
    assert taken.mail == Mail(TO, SUBJECT, TEXT)
    assert box.row(number).attempts == 1


def test_sends_nothing_else_again(box: Outbox) -> None:
    number = box.mail()
    for happens in (lambda: None, box.take, lambda: box.send(number)):
        happens()
        before = box.row(number).state
        with pytest.raises(NotToBeSentAgain):
            box.send_again(number)
        assert box.row(number).state == before
    with pytest.raises(NotToBeSentAgain):
        box.send_again(4711)


# Left.


def test_never_takes_again_what_a_worker_left(box: Outbox) -> None:
    number = box.mail()
    assert box.take() is not None
    assert box.left() == []  # It may still be at it.
    box.time_passes()
    assert box.left() == [number]
    assert box.take() is None
    assert box.row(number).sealed is not None
    box.forget()
    row = box.row(number)
    assert (row.state, row.sealed) == ("trying", None)
    assert box.left() == [number]


def test_shows_at_once_what_is_in_doubt(box: Outbox) -> None:
    number = box.mail()
    box.take()
    box.doubt(number)
    assert box.left() == [number]
    row = box.row(number)
    assert (row.state, row.why, row.sealed) == ("trying", "It hung up.", None)
    assert box.take() is None


def test_records_nothing_about_what_is_not_being_tried(box: Outbox) -> None:
    number = box.mail()
    box.send(number)
    box.refuse(number, passing=False)
    box.doubt(number)
    assert box.row(number).state == "unsent"
    box.take()
    box.send(number)
    box.refuse(number, passing=True)
    assert box.row(number).state == "sent"


def test_forgets_after_a_week_what_was_refused(box: Outbox) -> None:
    number = box.mail()
    box.take()
    box.refuse(number, passing=False)
    box.forget()
    assert box.row(number).sealed is not None
    with box.database.sessions.begin() as session:
        session.execute(update(Outgoing).values(ended_at=now() - timedelta(days=8)))
    box.forget()
    assert box.row(number).sealed is None
    with pytest.raises(NotToBeSentAgain):
        box.send_again(number)


def test_counts_what_stands_in_each_state(box: Outbox) -> None:
    sent, refused, trying, put_off, waits = [box.mail(f"a mail:{each}") for each in range(5)]
    for _ in range(4):
        assert box.take() is not None
    box.send(sent)
    box.refuse(refused, passing=False)
    box.refuse(put_off, passing=True)
    with box.database.reading_sessions() as session:
        standing = outbox.standing(session)
        assert outbox.is_any_due(session)
    assert standing.counts == {
        OutgoingState.UNSENT: 2,
        OutgoingState.TRYING: 1,
        OutgoingState.SENT: 1,
        OutgoingState.REFUSED: 1,
    }
    assert [each.id for each in standing.refused] == [refused]
    assert [each.id for each in standing.put_off] == [put_off]
    assert standing.left_trying == []
    assert {each.about for each in standing.refused} == {"a mail"}
    assert box.take() is not None
    with box.database.reading_sessions() as session:
        assert not outbox.is_any_due(session)
    assert box.row(trying).state == box.row(waits).state == "trying"
