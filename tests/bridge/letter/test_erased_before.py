"""The list of what was erased: what a line says, what mends it, and what strange contents do, which is nothing."""

import dataclasses
import json
import os
import resource
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from ground.house import SECRET_KEY, House
from sqlalchemy import select

from bridge.keys import Keys
from bridge.letter import comments, erased_before, erasure
from bridge.letter.erased_before import ErasedAgain, Left
from bridge.letter.erasure import Erased
from bridge.records import Address, Comment
from moderation import gate, ledger
from moderation.base import now

ADDRESS = "heliotrope@reader.example"
NOTHING = Left({}, [])


def erase(house: House, *words: str, email: str | None = None) -> list[str]:
    """Send letters, erase them, and return their public ids."""
    sent = [house.send(each, email=email).public_id for each in words]
    for public_id in sent:
        erasure.erase_comment(house.site, public_id)
    return sent


def file_of(house: House) -> Path:
    return erased_before.where(house.site)


def left(house: House) -> Left:
    return erased_before.compare(house.site).left


def under_another_key(house: House) -> House:
    return House(dataclasses.replace(house.site, keys=Keys(SECRET_KEY[::-1])), house.tokens)


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Let no file grow above *size*, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heard)


# A line


def test_says_which_and_when_and_nothing_of_the_words(house: House) -> None:
    sent = house.send("I am Heliotrope.", author="Heliotrope", email=ADDRESS)
    digest = house.digest(house.submission(sent.public_id))
    erasure.erase_comment(house.site, sent.public_id, by="operator")
    with house.site.database.sessions.begin() as session:
        address = session.scalars(select(Address)).one()
        kept = address.digest
        erasure.forget_address(session, address.id)
    assert erased_before.keep(house.site) == 2
    letter, forgotten = [json.loads(line) for line in file_of(house).read_text().splitlines()]
    how = comments.held(house.site, sent.public_id).standing
    assert how.erased_at is not None
    assert letter.items() >= {"what": "letter", "digest": digest, "by": "operator"}.items()
    assert letter["at"] == ledger.instant(how.erased_at)
    assert forgotten.items() >= {"what": "address", "number": 1}.items()
    assert set(forgotten) == {"format", "what", "number", "digest", "at", "seal"}
    for known in ("eliotrope", "reader.example", sent.public_id, kept):
        assert known not in file_of(house).read_text()


def test_lists_each_once_and_changes_nothing_the_second_time(any_house: House) -> None:
    erase(any_house, "One.", "Two.", email=ADDRESS)
    assert erased_before.keep(any_house.site) == 2
    first = file_of(any_house).read_bytes()
    assert file_of(any_house).stat().st_mode & 0o777 == 0o600
    assert erased_before.keep(any_house.site) == 0
    erase(any_house, "Three.")
    assert erased_before.keep(any_house.site) == 1
    whole = file_of(any_house).read_bytes()
    assert whole.startswith(first)
    assert len(whole.splitlines()) == 3
    assert erased_before.compare(any_house.site).listed == 3
    assert left(any_house) == NOTHING
    before = any_house.contents()
    assert erased_before.erase_again(any_house.site) == ErasedAgain(Erased(0, 0, 0), 0, 0, 0)
    assert any_house.contents() == before


def test_lists_each_once_of_many_that_come_at_once(house: House) -> None:
    erase(house, "One.", "Two.", "Three.")
    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(lambda _: erased_before.keep(house.site), range(6))) == 3
    assert len(file_of(house).read_bytes().splitlines()) == 3


def test_tells_who_had_the_letter_erased_for_its_earlier_versions_too(house: House) -> None:
    sent = house.send("First.")
    comments.change_comment(house.site, sent.public_id, comments.Letter("Reader", "Second."))
    erasure.erase_comment(house.site, sent.public_id, by="law")
    erased_before.keep(house.site)
    assert [json.loads(line)["by"] for line in file_of(house).read_text().splitlines()] == ["law", "law"]


def test_lists_nothing_that_is_only_taken_back(house: House) -> None:
    comments.take_back(house.site, house.post().public_id)
    house.exchange()
    assert erased_before.keep(house.site) == 0
    assert file_of(house).read_bytes() == b""


# What mends it


def test_mends_a_line_that_broke_off_wherever_it_did(house: House) -> None:
    erase(house, "One.", "Two.", "Three.")
    erased_before.keep(house.site)
    whole = file_of(house).read_bytes()
    begun = whole.rindex(b"\n", 0, -1) + 1
    for end in range(begun, len(whole)):
        file_of(house).write_bytes(whole[:end])
        found = erased_before.compare(house.site)
        assert (found.left, found.listed) == (NOTHING, 3 if end == len(whole) - 1 else 2)
        erased_before.keep(house.site)
        assert file_of(house).read_bytes() == whole, end
        assert erased_before.compare(house.site).unreadable == 0


def test_keeps_a_last_line_that_only_lacks_its_end_though_the_database_does_not_know_it(house: House) -> None:
    erase(house, "One.")
    erased_before.keep(house.site)
    strange = erased_before._sealed(erased_before._letter_line("f" * 64, "author", now()), house.site.keys)
    with file_of(house).open("ab") as file:
        file.write(strange)
    erase(house, "Two.")
    assert erased_before.keep(house.site) == 1
    assert file_of(house).read_bytes().splitlines()[1] == strange
    found = erased_before.compare(house.site)
    assert (found.listed, found.elsewhere, found.unreadable) == (3, 1, 0)


def test_loses_no_line_on_a_full_disk_and_tells_them_when_there_is_room(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    erase(house, "One.", "Two.")
    erased_before.keep(house.site)
    before = file_of(house).read_bytes()
    erase(house, "Three.", "Four.", "Five.")
    for room in (0, 7, 400):
        with files_end_at(len(before) + room):
            assert not erased_before.keep_or_say(house.site)
        assert file_of(house).read_bytes().startswith(before)
    assert "could not be listed" in caplog.text
    assert erased_before.keep_or_say(house.site)
    whole = file_of(house).read_bytes()
    assert whole.startswith(before)
    assert len(whole.splitlines()) == 5
    assert erased_before.compare(house.site).unreadable == 0


@pytest.mark.parametrize("is_there", ["folder", "pipe", "link to nowhere", "device"])
def test_says_what_it_cannot_write_and_stops_no_erasure(
    house: House, caplog: pytest.LogCaptureFixture, is_there: str
) -> None:
    match is_there:
        case "folder":
            file_of(house).mkdir()
        case "pipe":
            os.mkfifo(file_of(house))
        case "link to nowhere":
            file_of(house).symlink_to("no-such-folder/erased.jsonl")
        case _:
            file_of(house).symlink_to("/dev/full")
    (public_id,) = erase(house, "One.")
    erased_before.see_to(house.site)
    (said,) = [record for record in caplog.records if record.name == "bridge.letter.erased_before"]
    assert said.levelname == "ERROR"
    assert str(file_of(house)) in said.message
    assert comments.held(house.site, public_id).standing.erased_at is not None


def test_is_told_again_where_the_file_was_lost(house: House) -> None:
    erase(house, "One.", "Two.")
    erased_before.keep(house.site)
    whole = file_of(house).read_bytes()
    file_of(house).unlink()
    assert erased_before.compare(house.site).listed == 0
    erased_before.keep(house.site)
    assert file_of(house).read_bytes() == whole


# What strange contents do


def hostile(house: House) -> dict[str, bytes]:
    """Return contents of the file, each with the letter's own digest wherever that might help."""
    sent = house.post("It stays.", email=ADDRESS)
    digest = house.digest(house.submission(sent.public_id))
    line = erased_before._letter_line(digest, "author", now())
    ours = erased_before._sealed(line, house.site.keys)
    other = erased_before._sealed(line, Keys(SECRET_KEY[::-1]))
    (address,) = (
        erased_before._sealed(
            {"format": erased_before.FORMAT, "what": "address", "digest": "0" * 64, "number": 1, "at": "now"}, keys
        )
        for keys in (house.site.keys,)
    )
    return {
        "not sealed": json.dumps(line).encode(),
        "under another key": other,
        "another's seal": ours.replace(b'"author"', b'"law"'),
        "blanks in it": ours.replace(b",", b", "),
        "twice a key": ours[:-1] + b',"what":"letter"}',
        "an array": b"[" + ours + b"]",
        "a seal that is a number": json.dumps({**line, "seal": 7}).encode(),
        "a digest that is a list": json.dumps({**line, "digest": [digest], "seal": "0" * 64}).encode(),
        "no digest": b'{"format":"emeritus/erased/1"}',
        "null": b"null",
        "nested": b"[" * 900,
        "huge numbers": b'{"digest":1e999,"number":' + b"9" * 500 + b"}",
        "not UTF-8": b"\xff\xfe" * 100,
        "zeros": b"\0" * 4096,
        "one line of 10 MB": ours * (10_000_000 // len(ours)),
        "10 MB of lines": (b"x" * 99 + b"\n") * 100_000,
        "a number that is another's now": address,
    }


HOSTILE = [
    "not sealed",
    "under another key",
    "another's seal",
    "blanks in it",
    "twice a key",
    "an array",
    "a seal that is a number",
    "a digest that is a list",
    "no digest",
    "null",
    "nested",
    "huge numbers",
    "not UTF-8",
    "zeros",
    "one line of 10 MB",
    "10 MB of lines",
    "a number that is another's now",
]


@pytest.mark.parametrize("ending", [b"\n", b""], ids=["whole", "cut"])
@pytest.mark.parametrize("what", HOSTILE)
def test_erases_nothing_by_strange_contents_and_tells_of_them(house: House, what: str, ending: bytes) -> None:
    contents = hostile(house)
    assert list(contents) == HOSTILE
    erase(house, "Erased.")
    file_of(house).write_bytes(contents[what] + ending)
    before = house.contents()
    assert left(house) == NOTHING
    erased_before.see_to(house.site)
    assert house.contents() == before
    found = erased_before.compare(house.site)
    assert found.unlisted == []
    assert found.listed == (2 if what.startswith("a number") else 1)
    told = {"a number that is another's now": 0, "10 MB of lines": 100_000}.get(what, 1)
    assert found.unreadable == told
    assert found.elsewhere == (1 if what.startswith("a number") else 0)


def test_believes_the_lines_of_one_key_alone_and_tells_all_again_under_a_new_one(house: House) -> None:
    erase(house, "One.", "Two.", email=ADDRESS)
    with house.site.database.sessions.begin() as session:
        erasure.forget_address(session, 1)
    assert erased_before.keep(house.site) == 3
    other = under_another_key(house)
    assert erased_before.compare(other.site).unreadable == 3
    assert erased_before.keep(other.site) == 3
    found = erased_before.compare(other.site)
    assert (found.listed, found.unreadable) == (3, 0), "what is told again is no loss"


def test_reads_lists_of_several_machines_one_behind_the_other(house: House) -> None:
    erase(house, "One.", "Two.")
    erased_before.keep(house.site)
    file_of(house).write_bytes(file_of(house).read_bytes() * 2)
    found = erased_before.compare(house.site)
    assert (found.listed, found.unreadable, found.unlisted) == (2, 0, [])


def test_erases_no_more_than_so_many_at_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = [house.send(f"Letter {number}.").public_id for number in range(3)]
    with house.site.database.reading_sessions() as session:
        stored = {each.public_id: each.submission_id for each in session.scalars(select(Comment))}
    lines = [
        erased_before._sealed(
            erased_before._letter_line(house.digest(stored[each]), "operator", now()), house.site.keys
        )
        for each in sent
    ]
    file_of(house).write_bytes(b"\n".join(lines) + b"\n")
    assert left(house) == Left(dict.fromkeys(sent, "operator"), [])
    monkeypatch.setattr(erased_before, "A_SWEEP", 2)
    erased_before.see_to(house.site)
    assert list(left(house).letters) == sent[2:]
    erased_before.see_to(house.site)
    assert left(house) == NOTHING
    with house.site.database.reading_sessions() as session:
        assert gate.erasures(session)[0] == 3
        assert ledger.verify(session)[1] is None
