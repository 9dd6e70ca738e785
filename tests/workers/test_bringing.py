"""`emeritus essay import`: from a file and from an address, with a report of each entry."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ground.standing_in import Told, canned, standing_in
from ground.workshop import NAME, SECRET, Workshop
from sqlalchemy import select

from bridge.essay import imported
from bridge.essay.importing import FeedRefused
from bridge.records import Essay
from moderation import queue
from moderation.types import Kind
from workers import bringing, cli, outside

RSS = '<rss version="2.0"><channel><title>Blog</title><link>https://blog.example/</link>{}</channel></rss>'
TEXT = "<description>&lt;p&gt;Words {n}.</description>"
ITEM = "<item><title>On {n}</title><link>https://blog.example/{n}</link>" + TEXT + "</item>"
BAD = "<item><title>Bad</title><link>javascript:alert(1)</link><description>x</description></item>"


def rss(*items: str) -> bytes:
    return RSS.format("".join(items)).encode()


@pytest.fixture
def here(workshop: Workshop, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """The workshop, for the command too; 127.0.0.1 stands for a public address."""
    for name, value in {"DATABASE_URL": sqlite_url, "EMERITUS_DATA": str(tmp_path), "SECRET_KEY": SECRET}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(outside, "PUBLIC", outside.ANYWHERE)
    return workshop


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    written = tmp_path / "feed.xml"
    written.write_bytes(rss(ITEM.format(n="one"), BAD, ITEM.format(n="two"), ITEM.format(n="one")))
    return written


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, ["essay", "import", *map(str, arguments)])


def waiting(workshop: Workshop) -> list[str]:
    with workshop.site.database.reading_sessions() as session:
        return [each.body for each in queue.awaiting_review(session, kind=Kind.ESSAY)]


def test_adds_what_it_can_and_says_what_it_cannot(here: Workshop, feed: Path) -> None:
    result = run(feed, "--voice", NAME, "--json", "--parents", "https://blog.example/")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert [(each["outcome"], each["slug"]) for each in told["entries"]] == [
        ("refused", None),
        ("there already", None),
        ("added", "on-one"),
        ("added", "on-two"),
    ]
    assert waiting(here) == ["# On one\n\nWords one.", "# On two\n\nWords two."]
    with here.site.database.reading_sessions() as session:
        found = session.execute(select(Essay.original_url, Essay.embed_parents).order_by(Essay.id)).all()
    assert [tuple(each) for each in found[1:]] == [
        ("https://blog.example/one", "https://blog.example"),
        ("https://blog.example/two", "https://blog.example"),
    ]


def test_adds_nothing_twice(here: Workshop, tmp_path: Path) -> None:
    (tmp_path / "feed.xml").write_bytes(rss(ITEM.format(n="one")))
    first, second = (run(tmp_path / "feed.xml", "--voice", NAME) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "added          On one: /essays/on-one, submission" in first.output
    assert "there already  On one" in second.output
    assert len(waiting(here)) == 1


def test_changes_nothing_when_it_only_looks(here: Workshop, feed: Path) -> None:
    result = run(feed, "--voice", NAME, "--dry-run")
    assert "would add      On two: /essays/on-two (" in result.output
    assert "added  " not in result.output
    assert waiting(here) == []


def test_puts_no_words_under_a_voice_that_nobody_named(here: Workshop, feed: Path) -> None:
    assert run(feed).exit_code == 2
    assert run(feed, "--voice", "Understudy").exit_code == 1
    assert waiting(here) == []


def test_fetches_a_feed(here: Workshop) -> None:
    with canned(rss(ITEM.format(n="one")), "application/rss+xml") as address:
        assert run(address, "--voice", NAME).exit_code == 0
    assert len(waiting(here)) == 1


def test_calls_no_address_of_its_own_network(
    workshop: Workshop, here: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "PUBLIC", outside.Bounds(permits=outside.is_public, ports=None))
    with standing_in(lambda _: Told(rss(ITEM.format(n="one")))) as server, pytest.raises(FeedRefused):
        bringing.bring_in(here.site, server.url, voice=NAME)
    assert server.asked == []


def test_stops_at_what_a_small_answer_unpacks_to(here: Workshop) -> None:
    packed = gzip.compress(b"\0" * 50_000_000)
    with canned(packed, "application/rss+xml", **{"content_encoding": "gzip"}) as address:
        result = run(address, "--voice", NAME)
    assert (result.exit_code, "larger than" in result.output) == (1, True)


@pytest.mark.parametrize("feed_name", ["file:///etc/passwd", "/nonexistent", "ftp://blog.example/x", "\0"])
def test_opens_only_files_that_are_there(here: Workshop, feed_name: str) -> None:
    with pytest.raises(FeedRefused):
        bringing.bring_in(here.site, feed_name, voice=NAME)


def test_reads_no_file_without_end(here: Workshop) -> None:
    with pytest.raises(FeedRefused, match="larger"):
        bringing.bring_in(here.site, "/dev/zero", voice=NAME)


def test_adds_so_many_and_says_how_many_are_left(
    here: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imported, "MOST_AT_ONCE", 2)
    (tmp_path / "feed.xml").write_bytes(rss(*(ITEM.format(n=number) for number in range(2_000))))
    first = run(tmp_path / "feed.xml", "--voice", NAME)
    assert (first.exit_code, "1998 more are new" in first.output) == (1, True)
    run(tmp_path / "feed.xml", "--voice", NAME)
    assert len(waiting(here)) == 4


def test_says_who_the_feed_says_it_is_by(here: Workshop, tmp_path: Path) -> None:
    author = "<author>ann@blog.example (Ann \x1b[31m)</author></item>".replace("\x1b", "&#27;")
    (tmp_path / "feed.xml").write_bytes(rss(ITEM.format(n="one").replace("</item>", author)))
    output = run(tmp_path / "feed.xml", "--voice", NAME).output
    assert "the feed says it is by ann@blog.example" in output
    assert "\x1b" not in output


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Undo what the command does to the loggers of this process."""
    import logging

    names = ("", "httpx2", "alembic", "rq", "workers.rehearsal")
    before = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    handlers = list(logging.getLogger().handlers)
    yield
    for logger, level in before:
        logger.setLevel(level)
    logging.getLogger().handlers[:] = handlers
