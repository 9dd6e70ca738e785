"""Erasure as it reaches everything that a letter left behind: records, disk, queue, log, and calls on their way."""

import asyncio
import dataclasses
import gzip
import json
import logging
import re
import secrets
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from random import Random
from threading import Barrier, Event
from typing import Any

import psycopg
import pytest
from ground import postgres
from ground.postbag import confirmed, put_down
from ground.workshop import SECRET, ScriptedModel, Workshop, message, notes
from redis import Redis
from sqlalchemy import make_url, select, update

from bridge import db
from bridge.app import create_app
from bridge.letter import appeals, belongings, comments, erased_before, erasure, reports
from bridge.letter.comments import Letter
from bridge.letter.erasure import Erased
from bridge.mail import outbox
from bridge.queues import RedisNudges
from bridge.records import Address, Batch, Calls, Comment, Generation, IdempotencyKey, Mention, Rendering, Signal
from bridge.settings import Settings
from bridge.voice.model import Body, PassingTrouble, RequestRefused
from moderation import ledger, rereading
from moderation import takedowns as vault_takedowns
from moderation.base import Base, now
from moderation.release import standing
from moderation.types import State, Verdict
from workers import jobs

CANARY = "nightingale-4711-heliotrope"
ADDRESS = "heliotrope@reader.example"
KEY = "8f14e45fceea167a5a36dedd4bea2543"
TABLES = Base.metadata.tables


class NoChance(Random):
    """Draws no approval to be read again."""

    def random(self) -> float:
        return 0.999


def installed(workshop: Workshop, url: str, **parts: Any) -> Workshop:
    """Let a workshop's site know where its database is, as an installation's does."""
    data = workshop.site.settings.data
    settings = Settings(_env_file=None, emeritus_data=data, database_url=url, secret_key=SECRET)  # type: ignore[call-arg]
    workshop.site = dataclasses.replace(workshop.site, settings=settings, chance=NoChance(), **parts)
    return workshop


@pytest.fixture
def erasing(any_workshop: Workshop, database_url: str, valkey_url: str) -> Workshop:
    """A workshop on both databases, with a real queue."""
    return installed(any_workshop, database_url, nudges=RedisNudges(valkey_url))


@pytest.fixture
def settled(workshop: Workshop) -> Workshop:
    """The same on SQLite alone, without a queue."""
    workshop.site = dataclasses.replace(workshop.site, chance=NoChance())
    return workshop


def public_id(workshop: Workshop, comment_id: int) -> str:
    with workshop.site.database.reading_sessions() as session:
        return session.get_one(Comment, comment_id).public_id


def erase(workshop: Workshop, comment_id: int) -> Erased:
    return erasure.erase_comment(workshop.site, public_id(workshop, comment_id))


def state(workshop: Workshop, submission_id: int) -> State:
    with workshop.site.database.reading_sessions() as session:
        return standing(session, [submission_id])[submission_id].state


def every_row(workshop: Workshop) -> str:
    """Return all that every table holds, as text; what is compressed is unpacked, and what is encrypted opened."""
    found = []
    with workshop.site.database.reading_sessions() as session:
        for table in TABLES.values():
            for row in session.execute(select(table)):
                found += [_read(workshop, value) if isinstance(value, bytes) else str(value) for value in row]
    return "\n".join(found)


def _read(workshop: Workshop, value: bytes) -> str:
    keys = workshop.site.keys
    if value[:5] == b"gAAAA":  # Fernet's beginning.
        opened = keys.unsealed(outbox.SEALED, value) or keys.decrypted(value)
        assert opened is not None
        return opened
    if value[:1] == b"\x78":
        value = zlib.decompress(value)
    elif value[:2] == b"\x1f\x8b":
        value = gzip.decompress(value)
    else:
        with suppress(zlib.error):
            value = zlib.decompressobj(wbits=-15).decompress(value)
    return value.decode("utf-8", "replace")


def files(workshop: Workshop, url: str) -> bytes:
    """Return every byte that the database keeps of its tables and indexes, catalogue included."""
    if url.startswith("sqlite"):
        folder = workshop.site.settings.data
        return b"".join(path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file())
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as raw:
        raw.execute("CHECKPOINT")
        paths = raw.execute(
            "SELECT pg_relation_filepath(oid) FROM pg_class "
            "WHERE relkind IN ('r', 't', 'i') AND pg_relation_filepath(oid) IS NOT NULL"
        ).fetchall()
        read = [raw.execute("SELECT pg_read_binary_file(%s, true)", path).fetchone() for path in paths]
    return b"".join(each[0] for each in read if each is not None and each[0] is not None)


def verified(workshop: Workshop) -> bool:
    with workshop.site.database.reading_sessions() as session:
        return ledger.verify(session)[1] is None


def a_whole_life(workshop: Workshop) -> int:
    """Have a letter changed, rejected, appealed for, posted, answered, reported and noticed, all with the canary."""
    slug = "on-rest"
    site = workshop.site
    first = Letter(author=f"{CANARY} reader", body=f"First {CANARY}.", email=ADDRESS)
    receipt = comments.receive_comment(site, slug, first, key=KEY)
    confirmed(site, ADDRESS)
    comments.change_comment(site, receipt.public_id, Letter(author=CANARY, body=f"Changed {CANARY}."))
    with site.database.reading_sessions() as session:
        comment_id = session.scalars(select(Comment.id).where(Comment.public_id == receipt.public_id)).one()
    workshop.reject(workshop.submission(comment_id), code="other", reason=f"Why {CANARY}", told=f"Told {CANARY}")
    appeals.appeal(site, receipt.public_id, f"But {CANARY}!")
    submission = workshop.submission(comment_id)
    with site.database.sessions.begin() as session:
        session.add(
            Signal(submission_id=submission, name="links", why=f"It says {CANARY}", strong=False, noticed_at=now())
        )
        comment = session.get_one(Comment, comment_id)
        comment.passage, comment.passage_block = f"Words {CANARY}", 0
        session.add(
            Mention(
                essay_id=comment.essay_id,
                way="in",
                source=f"https://{CANARY}.example/about",
                target=f"https://letters.example.org/essays/on-rest#{CANARY}",
                state="waiting",
                attempts=0,
                comment_id=comment_id,
                created_at=now(),
            )
        )
    workshop.approve(submission, by=workshop.people[1])
    workshop.sit(
        ScriptedModel(PassingTrouble(f"status 500 {CANARY}", error=CANARY), message(f"Yes, {CANARY}.", notes(CANARY)))
    )
    workshop.approve_reply(comment_id)
    reports.receive_report(site, receipt.public_id, "abuse", f"It says {CANARY}.")
    belongings.send_link(site, ADDRESS)
    return comment_id


def tables_with(workshop: Workshop, word: str) -> set[str]:
    """Return which tables hold a word."""
    found = set()
    with workshop.site.database.reading_sessions() as session:
        for name, table in TABLES.items():
            rows = session.execute(select(table)).all()
            values = [
                _read(workshop, value) if isinstance(value, bytes) else str(value) for row in rows for value in row
            ]
            if any(word in value for value in values):
                found.add(name)
    return found


# Everything that is kept


@pytest.mark.parametrize("by", ["on its page", "by mailed link"])
def test_leaves_the_words_in_no_row_no_file_no_queue_and_no_log(
    erasing: Workshop, database_url: str, valkey_url: str, caplog: pytest.LogCaptureFixture, by: str
) -> None:
    caplog.set_level(logging.DEBUG)
    comment_id = a_whole_life(erasing)
    if database_url.startswith("postgresql"):
        owner = db.owner_engine(database_url)
        with owner.begin() as connection:
            connection.exec_driver_sql("ANALYZE")  # As autovacuum would have.
        owner.dispose()
    assert tables_with(erasing, CANARY) >= {
        "submissions",
        "comments",
        "stored_pages",
        "stored_letters",
        "outgoing",
        "mentions",
        "generations",
        "signals",
        "reasons",
        "reports",
        "appeals",
    }
    assert tables_with(erasing, ADDRESS) == {"addresses", "outgoing"}
    assert CANARY.encode() in files(erasing, database_url)
    if by == "on its page":
        erased = erase(erasing, comment_id)
    else:
        [*_, mailed] = put_down(erasing.site)
        assert mailed.mail is not None
        [token] = re.findall(r"/your-letters/(\S+)", mailed.mail.text)
        erased = belongings.erase_opened(erasing.site, token)
    assert erased == Erased(letters=1, answers=1, to_reread=0)
    assert CANARY not in every_row(erasing)
    assert ADDRESS not in every_row(erasing)
    assert verified(erasing)
    assert erasure.clean_disk(erasing.site)
    kept = files(erasing, database_url)
    assert CANARY.encode() not in kept
    assert CANARY.encode()[::-1] not in kept
    with Redis.from_url(valkey_url) as redis:
        assert CANARY.encode() not in b"".join(redis.dump(key) or b"" for key in redis.scan_iter())
    assert CANARY not in caplog.text
    assert verified(erasing)


@pytest.mark.parametrize("calls", [Calls.LIVE, Calls.BATCH])
def test_leaves_nothing_of_what_the_api_said_in_refusing_others(erasing: Workshop, calls: Calls) -> None:
    # What was sent may be repeated in an error, and moderators read it where a letter failed or a voice is paused.
    comment_id = erasing.asked(f"It is {CANARY}.", wants_reply=False)
    other = erasing.asked("And I?")
    refused = RequestRefused(f"The API refused our request: messages.0 {CANARY}", error=f"HTTP 400 {CANARY}")
    erasing.sit(ScriptedModel(refused))
    with erasing.site.database.sessions.begin() as session:
        [made] = session.scalars(select(Generation).where(Generation.comment_id == other))
        if calls is Calls.BATCH:
            batch = Batch(
                voice_id=made.voice_id,
                essay_id=made.essay_id,
                lease=secrets.token_hex(16),
                state="lost",
                requests=1,
                why=str(refused),
                created_at=now(),
            )
            session.add(batch)
            session.flush()
            made.batch_id = batch.id
    assert erasing.voice().paused_why == erasing.request(other).why == str(refused)
    erase(erasing, comment_id)
    assert CANARY not in every_row(erasing)
    assert erasing.voice().paused_why == erasing.request(other).why == "The API refused our request."
    assert erasing.request(other).state == "failed"


def test_leaves_nothing_of_what_the_api_says_in_refusing_others_meanwhile(erasing: Workshop) -> None:
    comment_id = erasing.asked(f"It is {CANARY}.", wants_reply=False)
    others = [erasing.asked(f"And {n}?") for n in range(2)]

    async def meanwhile(number: int) -> None:
        if number == 0:
            await asyncio.to_thread(erase, erasing, comment_id)

    refused = RequestRefused(f"The API refused our request: {CANARY}", error=f"HTTP 400 {CANARY}")
    refused.body = Body({"error": CANARY})
    erasing.sit(ScriptedModel(refused, meanwhile=meanwhile))
    assert erasing.request(others[0]).why == erasing.voice().paused_why == "The API refused our request."
    assert CANARY not in every_row(erasing)


@pytest.mark.parametrize("seed", [24, 52])
def test_leaves_no_copy_that_a_split_page_kept(tmp_path: Path, seed: int) -> None:
    # SQLite overwrites what it deletes where it stands; a page that was split before may hold it once more. With these
    # seeds one does.
    chance = Random(seed)
    path = tmp_path / "split.db"
    raw = sqlite3.connect(path, isolation_level=None)
    raw.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA secure_delete=ON; CREATE TABLE kept (id INTEGER PRIMARY KEY, words)"
    )
    raw.execute("CREATE TABLE named (digest PRIMARY KEY, words)")
    there: dict[int, str] = {}
    gone = []
    raw.execute("BEGIN")
    for number in range(500):
        if chance.random() < 0.7 or not there:
            words = f"{CANARY}-{number:05}-" + "x" * chance.randint(0, 900)
            there[number] = f"{chance.getrandbits(64):016x}"
            raw.execute("INSERT INTO kept VALUES (?, ?)", (number, words))
            raw.execute("INSERT INTO named VALUES (?, ?)", (there[number], words))
        else:
            gone.append(chance.choice(list(there)))
            raw.execute("UPDATE kept SET words = NULL WHERE id = ?", (gone[-1],))
            raw.execute("DELETE FROM named WHERE digest = ?", (there.pop(gone[-1]),))
        if number % 10 == 0:
            raw.execute("COMMIT")
            raw.execute("BEGIN")
    raw.execute("COMMIT")
    assert db.write_anew(f"sqlite:///{path}", [])
    whole = b"".join(each.read_bytes() for each in tmp_path.iterdir())
    assert not [number for number in gone if f"{CANARY}-{number:05}-".encode() in whole]
    raw.close()


def test_keeps_what_it_cost_and_that_it_was(settled: Workshop) -> None:
    comment_id = settled.asked()
    settled.sit(ScriptedModel())
    (before,) = settled.generations(comment_id)
    erase(settled, comment_id)
    (after,) = settled.generations(comment_id)
    for kept in (
        "model_asked",
        "input_tokens",
        "output_tokens",
        "cost",
        "reserved",
        "outcome",
        "started_at",
        "ended_at",
    ):
        assert getattr(after, kept) == getattr(before, kept), kept
    assert (after.request, after.request_digest, after.response) == (b"", "", None)
    assert len(settled.replies(comment_id)) == 1


def test_lets_nobody_guess_a_short_letter_from_what_stays(settled: Workshop) -> None:
    receipt = comments.receive_comment(settled.site, "on-rest", Letter("Reader", "Yes."), key=KEY)
    with settled.site.database.reading_sessions() as session:
        before = session.scalars(select(IdempotencyKey.content_digest)).one()
    erasure.erase_comment(settled.site, receipt.public_id)
    with settled.site.database.reading_sessions() as session:
        (kept,) = session.scalars(select(IdempotencyKey)).all()
        assert session.scalars(select(Rendering).where(Rendering.html.contains("Yes."))).all() == []
    assert kept.content_digest != before
    with pytest.raises(comments.KeyUsedForOtherWords):
        comments.receive_comment(settled.site, "on-rest", Letter("Reader", "Yes."), key=KEY)
    later = comments.receive_comment(settled.site, "on-rest", Letter("Reader", "Yes."), key=KEY[::-1])
    assert later.public_id != receipt.public_id


def test_erases_a_letter_in_any_state(settled: Workshop) -> None:
    waiting, posted, rejected = settled.letter("Waits."), settled.asked("Posted."), settled.letter("Rejected.")
    settled.reject(settled.submission(rejected), code="spam")
    down = settled.asked("Taken down.")
    for by in ("author", "operator"):
        back = settled.asked(f"Back {by}.")
        (settled.take_back if by == "author" else settled.withdraw)(
            back if by == "author" else settled.submission(back)
        )
        assert erase(settled, back).letters == 1
    settled.withdraw(settled.submission(down))
    for comment_id in (waiting, posted, rejected, down):
        assert erase(settled, comment_id).letters == 1
        assert state(settled, settled.submission(comment_id)) is State.WITHDRAWN
    for words in ("Waits.", "Posted.", "Rejected.", "Taken down.", "Taken back."):
        assert words not in every_row(settled)
    assert verified(settled)


def test_erases_a_vetoed_reply_and_leaves_the_veto_on_record(settled: Workshop) -> None:
    comment_id = settled.asked()
    settled.sit(ScriptedModel(message(f"You said {CANARY}.")))
    (reply,) = settled.replies(comment_id)
    why = "It would tell a reader where a private person lives."
    settled.reject(reply.submission_id, code="personal_data", reason=why)
    settled.reject(reply.submission_id, code="personal_data", reason=None, by=settled.people[1])
    erase(settled, comment_id)
    assert CANARY not in every_row(settled)
    assert why not in every_row(settled)
    with settled.site.database.reading_sessions() as session:
        how = standing(session, [reply.submission_id])[reply.submission_id]
    assert (how.reason_code, how.was_released) == ("personal_data", False)
    assert verified(settled)


def test_changes_nothing_the_second_time(erasing: Workshop) -> None:
    comment_id = a_whole_life(erasing)
    erase(erasing, comment_id)
    before = every_row(erasing)
    assert erase(erasing, comment_id) == Erased(0, 0, 0)
    assert every_row(erasing) == before


def test_erases_once_of_many_that_come_at_once(erasing: Workshop) -> None:
    comment_id = erasing.asked(f"I am {CANARY}.")
    erasing.sit(ScriptedModel())
    together = Barrier(6)

    def act(number: int) -> int:
        together.wait()
        if number % 3 == 2:
            erasing.take_back(comment_id)
            return 0
        return erase(erasing, comment_id).letters

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(act, range(6))) == 1
    assert CANARY not in every_row(erasing)
    assert verified(erasing)


def test_finds_no_letter_that_is_not_there(settled: Workshop) -> None:
    with pytest.raises(comments.NoSuchComment):
        erasure.erase_comment(settled.site, "0" * 32)


# Calls on their way


def test_submits_and_keeps_nothing_of_an_answer_that_comes_after(erasing: Workshop) -> None:
    comment_id = erasing.asked(f"I am {CANARY}.")

    async def meanwhile(_: int) -> None:
        erase(erasing, comment_id)

    erasing.sit(ScriptedModel(message(f"Hello, {CANARY}.", notes(CANARY)), meanwhile=meanwhile))
    assert erasing.replies() == []
    assert CANARY not in every_row(erasing)
    (call,) = erasing.generations(comment_id)
    assert (call.outcome, call.output_tokens, call.response, call.note) == ("replied", 10, None, None)
    assert erasing.request(comment_id).state == "withdrawn"
    assert verified(erasing)


def test_keeps_nothing_of_trouble_that_comes_after(settled: Workshop) -> None:
    comment_id = settled.asked(f"I am {CANARY}.")

    async def meanwhile(_: int) -> None:
        erase(settled, comment_id)

    settled.sit(ScriptedModel(PassingTrouble("status 500", error=f"messages.0: {CANARY}"), meanwhile=meanwhile))
    assert CANARY not in every_row(settled)
    assert settled.generations(comment_id)[0].outcome == "PassingTrouble"


def test_makes_no_call_for_an_erased_letter(settled: Workshop) -> None:
    comment_id = settled.asked()
    erase(settled, comment_id)
    model = ScriptedModel()
    settled.sit(model)
    assert model.requests == []


def test_lets_an_erasure_and_an_answer_wait_for_each_other(erasing: Workshop) -> None:
    for number in range(6):
        comment_id = erasing.asked(f"I am {CANARY} {number}.")
        together = Event()

        async def meanwhile(_: int, together: Event = together) -> None:
            together.set()

        def act(comment_id: int = comment_id, together: Event = together) -> None:
            together.wait(10)
            erase(erasing, comment_id)

        with ThreadPoolExecutor(1) as thread:
            acting = thread.submit(act)
            erasing.sit(ScriptedModel(message(f"Hello, {CANARY}.", notes(CANARY)), meanwhile=meanwhile))
            acting.result()
        assert CANARY not in every_row(erasing)
    assert verified(erasing)


# Others' answers


def test_puts_later_answers_that_were_shown_it_on_the_desk_and_leaves_them_posted(erasing: Workshop) -> None:
    before = erasing.asked("Before it.")
    erasing.sit(ScriptedModel(message("To before.")))
    erasing.approve_reply(before)
    first = erasing.asked(f"I am {CANARY}.")
    erasing.sit(ScriptedModel(message("To first.")))
    erasing.approve_reply(first)
    shown, pending, vetoed = erasing.asked("After it."), erasing.asked("After it, too."), erasing.asked("And a third.")
    erasing.sit(ScriptedModel(message("As the letter before said.")))
    erasing.approve_reply(shown)
    (gone,) = erasing.replies(vetoed)
    erasing.reject(gone.submission_id, code="broken", reason="It is no answer at all, and nobody could read it.")
    erasing.reject(gone.submission_id, code="broken", by=erasing.people[1])
    elsewhere = erasing.essay("# On sleep\n\nI sleep.")
    other = erasing.asked("Under another essay.", essay_id=elsewhere)
    erasing.sit(ScriptedModel(message("Elsewhere.")), essay_id=elsewhere)
    erasing.approve_reply(other)
    assert erase(erasing, first).to_reread == 2
    still, later = (erasing.replies(comment_id)[0].submission_id for comment_id in (shown, pending))
    assert state(erasing, still) is State.APPROVED
    with erasing.site.database.reading_sessions() as session:
        assert [each.id for each in rereading.awaiting(session, erasing.people[1])] == [still]
        asked = [still, later, erasing.replies(before)[0].submission_id]
        assert erasure.shown_what_is_gone(session, asked) == {still, later}
    erasing.approve(later)
    with erasing.site.database.reading_sessions() as session:
        assert [each.id for each in rereading.awaiting(session, erasing.people[1])] == [still, later]


def test_has_an_answer_read_again_that_was_read_a_second_time_before(settled: Workshop) -> None:
    first = settled.asked("First.")
    settled.sit(ScriptedModel())
    later = settled.asked("Later.")
    settled.sit(ScriptedModel())
    settled.approve_reply(later)
    (reply,) = settled.replies(later)
    with settled.site.database.sessions.begin() as session:
        rereading.ask_again(session, reply.submission_id)
        words = rereading.awaiting(session, settled.people[1])[0]
        rereading.answer(
            session, reply.submission_id, moderator=settled.people[1], seen=words.digest, verdict=Verdict.APPROVE
        )
        assert rereading.awaiting(session, settled.people[1]) == []
    assert erase(settled, first).to_reread == 1
    with settled.site.database.reading_sessions() as session:
        assert [each.id for each in rereading.awaiting(session, settled.people[1])] == [reply.submission_id]


def test_has_an_answer_read_again_that_was_on_its_way(erasing: Workshop) -> None:
    first = erasing.asked(f"I am {CANARY}.")
    erasing.sit(ScriptedModel(message("To first.")))
    erasing.approve_reply(first)
    later = erasing.asked("After it.")

    async def meanwhile(_: int) -> None:
        assert erase(erasing, first).to_reread == 0

    erasing.sit(ScriptedModel(message("As the letter before said."), meanwhile=meanwhile))
    erasing.approve_reply(later)
    with erasing.site.database.reading_sessions() as session:
        asked = rereading.awaiting(session, erasing.people[1])
    assert [each.id for each in asked] == [erasing.replies(later)[0].submission_id]


def test_asks_for_no_reading_for_a_letter_that_nobody_was_shown(settled: Workshop) -> None:
    waiting = settled.letter("Never posted.")
    settled.asked()
    settled.sit(ScriptedModel())
    assert erase(settled, waiting).to_reread == 0


# By address


def test_finds_the_letters_of_one_address_however_it_is_written(settled: Workshop) -> None:
    ours = [settled.letter(f"Ours {n}.", email=address) for n, address in enumerate((ADDRESS, ADDRESS.upper()))]
    settled.letter("Another's.", email="other@reader.example")
    settled.letter("Nobody's.")
    with settled.site.database.sessions.begin() as session:
        broken = session.get_one(Comment, settled.letter("Under a lost key.", email="lost@reader.example"))
        broken.email = b"not ours"
    found = erasure.letters_of(settled.site, f" {ADDRESS.title()}".strip())
    assert found == [public_id(settled, comment_id) for comment_id in ours]
    for each in found:
        erasure.erase_comment(settled.site, each)
    assert erasure.letters_of(settled.site, ADDRESS) == []
    with pytest.raises(erasure.NotAnAddress):
        erasure.letters_of(settled.site, "no address")


# The disk


def test_says_that_it_is_off_the_disk_only_once_it_is(settled: Workshop, sqlite_url: str) -> None:
    comment_id = settled.letter("Once.")
    assert erasure.clean_disk(settled.site)
    erase(settled, comment_id)
    with settled.site.database.reading_sessions() as session:
        erased_at = standing(session, [settled.submission(comment_id)])[settled.submission(comment_id)].erased_at
    assert not erasure.is_off_the_disk(settled.site, erased_at)
    assert not erasure.is_off_the_disk(settled.site, None)
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM submissions").fetchone()
        assert not erasure.clean_disk(settled.site), "somebody still reads the log"
        assert not erasure.is_off_the_disk(settled.site, erased_at)
        reader.rollback()
    reader.close()
    assert erasure.clean_disk(settled.site)
    assert erasure.is_off_the_disk(settled.site, erased_at)


def test_leaves_the_disk_to_the_next_sweep_while_somebody_sees_old_rows(postgresql_url: str, tmp_path: Path) -> None:
    database = db.connect(postgresql_url)
    workshop = installed(Workshop(database, tmp_path), postgresql_url)
    comment_id = workshop.letter(f"I am {CANARY}.")
    with psycopg.connect(postgresql_url.replace("+psycopg", "")) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM moderators")
        erase(workshop, comment_id)
        assert not erasure.clean_disk(workshop.site)
    assert erasure.clean_disk(workshop.site)
    assert CANARY.encode() not in files(workshop, postgresql_url)
    database.dispose()


def test_writes_the_disk_anew_for_a_part_of_the_time_only(settled: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []

    def write_anew(url: str, tables: Any) -> bool:
        written.append(url)
        return True

    monkeypatch.setattr(db, "write_anew", write_anew)
    seconds = iter([0.0, 10.0, 20.0, 21.0, 30.0, 31.0])
    monkeypatch.setattr(erasure.time, "monotonic", lambda: next(seconds))
    erase(settled, settled.letter("One."))
    assert erasure.clean_disk(settled.site)
    assert erasure.clean_disk(settled.site)
    assert len(written) == 1, "nothing was erased since"
    erase(settled, settled.letter("Two."))
    assert not erasure.clean_disk(settled.site), "it took ten seconds just now"
    assert erasure.clean_disk(settled.site, at_once=True)
    erase(settled, settled.letter("Three."))
    later = now() + timedelta(minutes=2)
    monkeypatch.setattr(erasure, "now", lambda: later)
    assert erasure.clean_disk(settled.site)
    assert len(written) == 3


@pytest.mark.parametrize("lost", ["", "{}", '{"erasures": "x"}', "null"])
def test_writes_the_disk_anew_once_more_where_it_forgot_that_it_did(settled: Workshop, lost: str) -> None:
    erase(settled, settled.letter("One."))
    assert erasure.clean_disk(settled.site)
    kept = settled.site.settings.data / "erasures.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    kept.write_text(lost)
    assert erasure.clean_disk(settled.site)
    assert json.loads(kept.read_text())["erasures"] == 1


def test_writes_the_disk_anew_once_more_where_a_backup_was_put_back(
    settled: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    erase(settled, settled.letter("One."))
    assert erasure.clean_disk(settled.site)
    written: list[Any] = []
    monkeypatch.setattr(db, "write_anew", lambda *_: written.append(1) or True)
    assert erasure.clean_disk(settled.site)
    assert not written
    assert erasure.clean_disk(settled.site, at_once=True, put_back=True)
    assert written, "the backup may be from between the erasure and the writing"


def test_leaves_the_disk_with_the_next_sweep(
    settled: Workshop, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    erase(settled, settled.letter(f"I am {CANARY}."))
    monkeypatch.setattr(jobs, "_site", lambda: settled.site)
    jobs.sweep()
    assert CANARY.encode() not in files(settled, sqlite_url)


def test_lets_proposals_to_take_words_down_lapse(settled: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    comment_id = settled.asked()
    settled.sit(ScriptedModel())
    settled.approve_reply(comment_id)
    (reply,) = settled.replies(comment_id)
    with settled.site.database.sessions.begin() as session:
        session.execute(update(TABLES["moderators"]).values(role="admin"))
        digest = standing(session, [reply.submission_id])[reply.submission_id].digest
        vault_takedowns.take_down(
            session,
            reply.submission_id,
            moderator=settled.people[0],
            seen=digest,
            code="harm",
            reason="It would tell a reader where a private person lives.",
            lapse=timedelta(0),
        )
    monkeypatch.setattr(jobs, "_site", lambda: settled.site)
    assert "1 lapsed proposals" in jobs.sweep()
    assert "0 lapsed proposals" in jobs.sweep()
    assert state(settled, reply.submission_id) is State.APPROVED
    assert verified(settled)


# Backups


Backup = Callable[[], Callable[[], None]]


@pytest.fixture
def back_up(erasing: Workshop, database_url: str, request: pytest.FixtureRequest) -> Iterator[Backup]:
    """Copy the database; what this returns puts the copy in its place."""
    database = erasing.site.database
    if database_url.startswith("postgresql"):
        cluster: postgres.Cluster = request.getfixturevalue("cluster")
        name = str(make_url(database_url).database)
        copies: list[str] = []

        def copy() -> Callable[[], None]:
            database.dispose()  # Nobody may be connected to what is copied.
            copies.append(f"{name}_copy_{len(copies)}")
            kept = copies[-1]
            cluster.create_database(kept, template=name)

            def put_back() -> None:
                database.dispose()
                cluster.drop_database(name)
                cluster.create_database(name, template=kept)

            return put_back

        yield copy
        for each in copies:
            cluster.drop_database(each)
        return

    path = database_url.removeprefix("sqlite:///")

    def copy_file() -> Callable[[], None]:
        kept = sqlite3.connect(":memory:")
        there = sqlite3.connect(path)
        there.backup(kept)
        there.close()

        def put_back() -> None:
            database.dispose()
            for ending in ("", "-wal", "-shm"):
                Path(f"{path}{ending}").unlink(missing_ok=True)
            there = sqlite3.connect(path)
            kept.backup(there)
            there.close()

        return put_back

    yield copy_file


def erase_all(workshop: Workshop, address: str) -> None:
    """Do as `emeritus erase EMAIL` does."""
    for each in erasure.letters_of(workshop.site, address):
        erasure.erase_comment(workshop.site, each)
    with workshop.site.database.sessions.begin() as session:
        kept = erasure.address_of(session, workshop.site.keys, address)
        assert kept is not None
        erasure.forget_address(session, kept.id)


def is_known(workshop: Workshop, address: str) -> bool:
    with workshop.site.database.reading_sessions() as session:
        return erasure.address_of(session, workshop.site.keys, address) is not None


def list_of(workshop: Workshop) -> bytes:
    return erased_before.where(workshop.site).read_bytes()


def test_erases_again_what_a_backup_brings_back(
    erasing: Workshop,
    database_url: str,
    back_up: Backup,
    valkey_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(jobs, "_site", lambda: erasing.site)
    a_whole_life(erasing)
    stays = erasing.asked("This letter stays.", email="stays@reader.example")
    put_back = back_up()
    erase_all(erasing, ADDRESS)
    jobs.sweep()
    assert CANARY.encode() not in files(erasing, database_url)
    listed = list_of(erasing)
    assert erased_before.where(erasing.site).stat().st_mode & 0o777 == 0o600
    assert [json.loads(line)["what"] for line in listed.splitlines()].count("address") == 1
    put_back()
    assert tables_with(erasing, CANARY) >= {"submissions", "stored_pages", "generations", "outgoing", "reports"}
    assert is_known(erasing, ADDRESS)
    caplog.clear()
    jobs.sweep()
    assert "1 letters, 1 answers, 1 addresses" in caplog.text
    assert CANARY not in every_row(erasing)
    assert ADDRESS not in every_row(erasing)
    assert not is_known(erasing, ADDRESS)
    assert is_known(erasing, "stays@reader.example")
    assert erasure.clean_disk(erasing.site, at_once=True), "the sweep has its share of the time for it"
    assert CANARY.encode() not in files(erasing, database_url)
    assert CANARY not in caplog.text
    assert verified(erasing)
    with create_app(erasing.site).test_client() as reader:
        page = reader.get("/essays/on-rest").text
    assert "A letter stood here." in page
    assert "This letter stays." in page
    assert state(erasing, erasing.submission(stays)) is State.APPROVED
    assert list_of(erasing) == listed
    before = every_row(erasing)
    jobs.sweep()
    assert every_row(erasing) == before
    assert list_of(erasing) == listed


def test_erases_what_an_older_backup_has_of_a_letter_that_was_changed_since(erasing: Workshop, back_up: Backup) -> None:
    comment_id = erasing.letter(f"First {CANARY}.")
    put_back = back_up()
    comments.change_comment(erasing.site, public_id(erasing, comment_id), Letter("Reader", f"Changed {CANARY}."))
    later = erasing.letter(f"Later {CANARY}.")
    for each in (comment_id, later):
        erasure.erase_comment(erasing.site, public_id(erasing, each), by="operator")
    assert erased_before.keep(erasing.site) == 3
    put_back()
    found = erased_before.compare(erasing.site)
    assert (len(found.left.letters), found.elsewhere, found.unlisted) == (1, 2, [])
    again = erased_before.erase_again(erasing.site)
    assert again.erased == Erased(letters=1, answers=0, to_reread=0)
    assert CANARY not in every_row(erasing)
    with erasing.site.database.reading_sessions() as session:
        how = standing(session, [erasing.submission(comment_id)])[erasing.submission(comment_id)]
    assert how.withdrawn_by == "operator"
    assert verified(erasing)


def test_erases_a_letter_that_its_author_changed_after_a_backup_was_put_back(
    erasing: Workshop, back_up: Backup
) -> None:
    comment_id = erasing.letter(f"First {CANARY}.")
    put_back = back_up()
    erase(erasing, comment_id)
    erased_before.keep(erasing.site)
    put_back()
    comments.change_comment(erasing.site, public_id(erasing, comment_id), Letter("Reader", f"Changed {CANARY}."))
    assert erased_before.erase_again(erasing.site).erased.letters == 1
    assert CANARY not in every_row(erasing)
    assert verified(erasing)


def test_forgets_no_address_that_was_given_anew_nor_one_that_has_the_number_by_now(
    erasing: Workshop, back_up: Backup
) -> None:
    empty = back_up()
    erasing.letter("First.", email=ADDRESS)
    put_back = back_up()
    erase_all(erasing, ADDRESS)
    erased_before.keep(erasing.site)
    put_back()
    # Its owner writes again before the sweep: the new letter stays, and where its answer is told.
    new = erasing.letter("New.", email=ADDRESS)
    again = erased_before.erase_again(erasing.site)
    assert (again.erased.letters, again.addresses) == (1, 0)
    assert erasure.letters_of(erasing.site, ADDRESS) == [public_id(erasing, new)]
    assert erased_before.compare(erasing.site).left == erased_before.Left({}, [])
    empty()
    other = erasing.letter("Another's.", email="other@reader.example")
    with erasing.site.database.sessions.begin() as session:
        assert session.scalars(select(Address.id)).all() == [1]
        session.get_one(Comment, other).address_id = None
    assert erased_before.erase_again(erasing.site).addresses == 0
    assert is_known(erasing, "other@reader.example")


def test_writes_the_disk_anew_though_as_much_was_erased_again_as_before(
    erasing: Workshop, database_url: str, back_up: Backup
) -> None:
    comment_id = erasing.letter(f"I am {CANARY}.")
    put_back = back_up()
    erase(erasing, comment_id)
    erased_before.keep(erasing.site)
    assert erasure.clean_disk(erasing.site)
    put_back()
    erased_before.erase_again(erasing.site)
    assert erasure.clean_disk(erasing.site, at_once=True)
    assert CANARY.encode() not in files(erasing, database_url)


def test_goes_on_with_the_sweep_where_the_list_cannot_be_kept(
    settled: Workshop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jobs, "_site", lambda: settled.site)
    erased_before.where(settled.site).mkdir()
    erase(settled, settled.letter(f"I am {CANARY}."))
    assert "lost claims" in jobs.sweep()
    assert [record.levelname for record in caplog.records if "erased.jsonl" in record.message] == ["ERROR"]
    assert erasure.clean_disk(settled.site)
    assert CANARY not in every_row(settled)
    erased_before.where(settled.site).rmdir()
    jobs.sweep()
    assert len(list_of(settled).splitlines()) == 1
