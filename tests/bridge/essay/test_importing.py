"""Feeds as strangers write them (SECURITY, Q3), and their entries before the gate."""

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from ground.house import VOICE, House
from sqlalchemy import func, select, update

from bridge.essay import essays, imported, importing
from bridge.essay.imported import Outcome
from bridge.essay.importing import Entry, EntryRefused, FeedRefused
from bridge.records import Essay
from bridge.text import markup, words
from bridge.voice import voices
from moderation.queue import pending

RSS = """<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/" xmlns:dc="http://purl.org/dc/elements/1.1/">
<channel><title>Blog</title><link>https://blog.example/</link>{}</channel></rss>"""
ITEM = """<item><title>On {n}</title><link>https://blog.example/{n}</link><dc:creator>Ann</dc:creator>
<pubDate>Mon, 01 Jan 2024 23:00:00 GMT</pubDate><description>Less.</description>
<content:encoded><![CDATA[<p>All of <em>it</em>.</p>]]></content:encoded></item>"""
ATOM = """<feed xmlns="http://www.w3.org/2005/Atom"><title>Blog</title>
<entry><title type="html">On &lt;i&gt;rest&lt;/i&gt;</title><link href="rest"/><updated>2024-02-03T00:00:00Z</updated>
<content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml"><p>All <a href="/x">of it</a>.</p></div></content>
</entry></feed>"""
ENTRY = Entry("https://blog.example/1", "On one", "<p>Words.</p>", "https://blog.example/1", "Ann", "2024-01-01", False)


def rss(*items: str) -> bytes:
    return RSS.format("".join(items)).encode()


def read(raw: bytes, address: str | None = None) -> list[Entry]:
    return importing.read_feed(raw, address)


def test_reads_rss() -> None:
    [entry] = read(rss(ITEM.format(n="one")))
    assert entry == Entry(
        "https://blog.example/one",
        "On one",
        "<p>All of <em>it</em>.</p>",
        "https://blog.example/one",
        "Ann",
        "2024-01-01",
        False,
    )
    assert importing.written(entry) == ("# On one\n\nAll of *it*.", [])


def test_reads_atom_and_means_relative_links_from_where_it_was_fetched() -> None:
    [entry] = read(ATOM.encode(), "https://blog.example/feed.xml")
    assert (entry.link, entry.title, entry.published) == ("https://blog.example/rest", "On rest", "2024-02-03")
    assert importing.written(entry)[0] == "# On rest\n\nAll [of it](https://blog.example/x)."


BASED = """<feed xmlns="http://www.w3.org/2005/Atom" {feed}><title>Blog</title><entry {entry}><title>On rest</title>
<link href="https://blog.example/2024/one"/><content type="html" {content}>&lt;a href="two.html">Two&lt;/a></content>
</entry></feed>"""


@pytest.mark.parametrize("address", ["https://feeds.example/all?", None])
@pytest.mark.parametrize(
    ("bases", "meant"),
    [
        ({}, "https://blog.example/2024/two.html"),
        ({"feed": "https://cdn.example/posts/"}, "https://cdn.example/posts/two.html"),
        ({"entry": "https://cdn.example/posts/"}, "https://cdn.example/posts/two.html"),
        ({"content": "https://cdn.example/posts/"}, "https://cdn.example/posts/two.html"),
        (
            {"feed": "https://cdn.example/a/", "entry": "posts/", "content": "one/"},
            "https://cdn.example/a/posts/one/two.html",
        ),
        (
            {"feed": "https://cdn.example/a/", "content": "https://other.example/"},
            "https://other.example/two.html",
        ),
        ({"feed": "javascript:alert(1)"}, "https://blog.example/2024/two.html"),
        ({"content": "https://[cdn/"}, "https://blog.example/2024/two.html"),
    ],
)
def test_means_relative_links_from_where_the_feed_says(address: str | None, bases: dict[str, str], meant: str) -> None:
    said = {each: f'xml:base="{bases[each]}"' if each in bases else "" for each in ("feed", "entry", "content")}
    [entry] = read(BASED.format(**said).encode(), address)
    assert importing.written(entry)[0] == f"# On rest\n\n[Two]({meant})"


@pytest.mark.parametrize(
    ("address", "meant"), [("https://feeds.example/all", "https://feeds.example"), (None, "https://blog.example")]
)
def test_means_a_relative_base_from_where_the_feed_stands(address: str | None, meant: str) -> None:
    [entry] = read(BASED.format(feed='xml:base="/posts/"', entry="", content="").encode(), address)
    assert importing.written(entry)[0] == f"# On rest\n\n[Two]({meant}/posts/two.html)"


def test_says_where_a_feed_has_a_summary_only() -> None:
    [entry] = read(
        rss("<item><title>T</title><link>https://blog.example/t</link><description>Less.</description></item>")
    )
    assert importing.written(entry) == ("# T\n\nLess.", ["all but the summary, which is what the feed has"])


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9)
)


@pytest.mark.parametrize(
    "raw",
    [
        f'<?xml version="1.0"?>{BOMB}]><rss><channel><title>&j;</title></channel></rss>'.encode(),
        b'<!DOCTYPE rss SYSTEM "file:///etc/passwd"><rss version="2.0"/>',
        b'\n<!-- <rss> -->\n<!doctype rss [<!ENTITY x SYSTEM "file:///etc/passwd">]><rss version="2.0"/>',
        b"<?a <b> ?><!DOCTYPE x><rss/>",
        b"\xef\xbb\xbf<!DOCTYPE x><rss/>",
        b"\xff\xfe" + "<!DOCTYPE x><rss/>".encode("utf-16-le"),
        b"\xfe\xff" + "<!DOCTYPE x><rss/>".encode("utf-16-be"),
        b'<?xml version="1.0" encoding="windows-1252"?><!DOCTYPE x><rss/>',
    ],
)
def test_reads_no_feed_with_a_document_type(raw: bytes) -> None:
    with pytest.raises(FeedRefused, match="DOCTYPE"):
        read(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"file:///etc/passwd",
        b"/etc/passwd",
        b"https://blog.example/feed",
        b"\x00\x01",
        b"<html><body>hello</body></html>",
        b"<?xml version='1.0'",
        b"<!-- never",
        b'<?xml version="1.0" encoding="utf-7"?>+ADwAIQ-DOCTYPE x>',
        b'<?xml version="1.0" encoding="cp037"?><rss/>',
        '<?xml version="1.0" encoding="utf-8"?><rss version="2.0">\xff</rss>'.encode("latin-1"),
    ],
)
def test_refuses_what_is_no_feed(raw: bytes) -> None:
    with pytest.raises(FeedRefused):
        read(raw)


def test_opens_no_file_and_calls_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    raw = rss(ITEM.format(n="one"))
    (tmp_path / "feed").write_bytes(rss(ITEM.format(n="canary")))

    def refuse(*_: object) -> None:
        raise AssertionError("somebody is called")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert [entry.link for entry in read(raw)] == ["https://blog.example/one"]
    with pytest.raises(FeedRefused):
        read(b"feed")


def test_takes_a_document_type_within_a_text_for_words() -> None:
    item = ITEM.format(n="html").replace("<p>All of", "<p>&lt;!DOCTYPE html&gt;")
    [entry] = read(rss(item))
    assert "<!DOCTYPE html>" in importing.written(entry)[0]


def test_takes_no_end_of_cdata_for_more_than_it_is() -> None:
    hostile = ITEM.format(n="x").replace("<p>All", "]]>]]&gt;<script>alert(1)</script><![CDATA[<script>canary</script>")
    for entry in read(rss(hostile)):
        shown = markup.render(importing.written(entry)[0], "essay")
        assert "<script" not in shown
        assert "alert" not in shown


def test_takes_out_what_would_break_a_feed() -> None:
    body, _ = importing.written(replace(ENTRY, title="On\x0b one\r\n", html="<p>a\x07b\x9fc\ufffed</p>"))
    assert body == "# On one\n\nabcd"
    assert words.essay_body(body) == body


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"title": " "}, "no title"),
        ({"html": ""}, "no text"),
        ({"html": "<script>x</script>"}, "no text"),
        ({"html": "x" * 500_000}, "at most"),
    ],
)
def test_says_why_an_entry_is_no_essay(change: dict[str, Any], why: str) -> None:
    with pytest.raises(EntryRefused, match=why):
        importing.written(replace(ENTRY, **change))


def test_holds_essays_to_the_bounds_of_all_essays() -> None:
    with pytest.raises(words.TooLong):
        importing.written(replace(ENTRY, html="<p>" + "word " * 25_000))


@pytest.mark.parametrize(
    "link", ["", "/rest", "javascript:alert(1)", "mailto:a@b.example", "file:///x", "https://u:p@b.example/"]
)
def test_takes_only_web_addresses_for_links(link: str) -> None:
    with pytest.raises(EntryRefused):
        importing.link_of(replace(ENTRY, link=link))


def add(house: House, entry: Entry = ENTRY, **more: Any) -> imported.Reported:
    body, _ = importing.written(entry)
    return imported.add(house.site, entry, body, **{"voice": VOICE, **more})


def essays_here(house: House) -> int:
    with house.site.database.reading_sessions() as session:
        return session.scalar(select(func.count()).select_from(Essay)) or 0


def test_puts_an_essay_before_the_gate_with_where_it_first_stood(any_house: House) -> None:
    done = add(any_house, parents=["https://blog.example"])
    assert (done.outcome, done.slug) == (Outcome.ADDED, "on-one")
    with any_house.site.database.reading_sessions() as session:
        essay = session.scalars(select(Essay).where(Essay.slug == "on-one")).one()
        waiting = pending(session, essay.submission_id)
    assert waiting is not None
    assert (waiting.author, waiting.body) == (VOICE, "# On one\n\nWords.")
    assert (essay.original_url, str(essay.written_on)) == ("https://blog.example/1", "2024-01-01")
    assert essay.embed_parents == "https://blog.example"


def test_adds_an_essay_once(house: House) -> None:
    add(house)
    assert add(house, replace(ENTRY, title="Another")).outcome is Outcome.THERE_ALREADY
    assert essays_here(house) == 2


@pytest.mark.parametrize("link", ["https://Blog.Example/a b/über", "https://blog.example/a%20b/%C3%BCber"])
def test_adds_no_essay_that_an_operator_added(house: House, link: str) -> None:
    with house.site.database.sessions.begin() as session:
        voice = voices.named(session, VOICE)
        essays.submit_essay(session, voice, "# On one\n\nWords.", original_url="https://Blog.Example/a b/über")
    assert add(house, replace(ENTRY, link=link)).outcome is Outcome.THERE_ALREADY


def test_knows_addresses_that_were_kept_as_they_were_typed(house: House) -> None:
    with house.site.database.sessions.begin() as session:
        session.execute(update(Essay).values(original_url="https://Blog.Example/a b"))
    with house.site.database.reading_sessions() as session:
        assert imported.addresses(session) == {"https://blog.example/a%20b"}


def test_adds_an_essay_once_by_however_many_imports(any_house: House) -> None:
    entries = [replace(ENTRY, title=f"On {each}", link=f"https://blog.example/{each}") for each in range(5)]
    together = Barrier(4)

    def bring(entry: Entry) -> Outcome:
        together.wait(30)
        return add(any_house, entry).outcome

    with ThreadPoolExecutor(4) as threads:
        for entry in entries:
            outcomes = list(threads.map(bring, [entry] * 4))
            assert sorted(outcomes) == [Outcome.ADDED, *[Outcome.THERE_ALREADY] * 3]
    assert essays_here(any_house) == 6


def test_changes_nothing_when_it_only_looks(house: House) -> None:
    looked = add(house, dry_run=True)
    assert (looked.outcome, looked.slug, looked.submission_id) == (Outcome.ADDED, "on-one", None)
    assert essays_here(house) == 1


def test_finds_an_address_that_is_free(house: House) -> None:
    slugs = [
        add(house, replace(ENTRY, title=title, link=f"https://blog.example/{number}/letzte.html")).slug
        for number, title in enumerate(["On rest", "On rest", "安", "安"])
    ]
    assert slugs == ["on-rest-2", "on-rest-3", "letzte", "letzte-2"]


def test_puts_nothing_under_a_voice_that_is_not_here(house: House) -> None:
    with pytest.raises(voices.VoiceRefused):
        add(house, voice="Understudy")
