"""Pages elsewhere: what they link to and say, read without calling anybody."""

import socket

import pytest

from bridge.essay import elsewhere
from bridge.essay.elsewhere import Page

AT = "https://ann.example/notes/1"
TARGET = "https://letters.example/essays/on-rest"
ENTRY = f"""<div class="h-entry"><a class="p-author h-card" href="https://ann.example/">Ann</a>
<div class="e-content">I thought of <a href="{TARGET}">it</a> often.</div></div>"""


@pytest.fixture(autouse=True)
def _nobody_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("somebody is called")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def read(html: str, **more: bool) -> Page:
    return elsewhere.read_page(html.encode(), address=AT, target=TARGET, **more)


def test_reads_who_wrote_and_what() -> None:
    assert read(ENTRY) == Page(True, "Ann", "I thought of it often.")


@pytest.mark.parametrize(
    "html",
    [
        f'<a href="{TARGET}#letters">x</a>',
        f'<a href="{TARGET}/">x</a>',
        '<base href="https://letters.example/x/"><a href="../essays/on-rest">x</a>',
        f'<img src="{TARGET}">',
        f'<a href=" {TARGET}\n">x</a>',
    ],
)
def test_finds_the_link(html: str) -> None:
    assert read(html).links


@pytest.mark.parametrize(
    "html",
    [
        "",
        TARGET,
        f"<!-- <a href='{TARGET}'> -->",
        f'<a href="{TARGET}-2">x</a>',
        f'<a title="{TARGET}">x</a>',
        '<a href="/essays/on-rest">x</a>',
        '<a href="http://[x">x</a>',
    ],
)
def test_finds_no_link_where_none_is(html: str) -> None:
    assert read(html) == Page(False, None, None)


def test_reads_plain_text() -> None:
    assert read(f"See {TARGET} *now*.", plain=True).links
    assert not read(f"See {TARGET}-2.", plain=True).links


LINK = f'<a href="{TARGET}">x</a>'


@pytest.mark.parametrize(
    ("html", "author", "words"),
    [
        (f"<title>A <b>title</title>{LINK}", None, "A <b>title"),
        (LINK, None, None),
        (f'<div class="h-feed"><div class="h-entry"><p class="p-summary">Short</p>{LINK}</div></div>', None, "Short"),
        (
            f'<div class="h-entry"><span class="p-author">Ben</span><p class="p-name">Name</p>{LINK}</div>',
            "Ben",
            "Name",
        ),
        (
            f'<div class="h-entry"><a class="u-author" href="/ann"></a><p class="e-content">[a](b) *c*</p>{LINK}</div>',
            "https://ann.example/ann",
            r"\[a\](b) \*c\*",
        ),
    ],
)
def test_takes_what_there_is(html: str, author: str | None, words: str | None) -> None:
    assert read(html) == Page(True, author, words)


def test_quotes_no_more_than_the_beginning() -> None:
    said = read(f'<div class="h-entry"><p class="e-content">{"word " * 5_000}</p>{LINK}</div>').words
    assert said is not None
    assert len(said) <= elsewhere.MOST_EXCERPT
    assert said.endswith("word…")


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ('<link rel="webmention" href="/wm"><a rel="webmention" href="/other">', "https://ann.example/wm"),
        ('<a rel="nofollow WebMention" href="wm?x=1">', "https://ann.example/notes/wm?x=1"),
        ('<link rel="webmention" href="">', AT),
        ('<link rel="webmention">', None),
        ('<!-- <link rel="webmention" href="/wm"> -->', None),
        ('<link rel="not-webmention" href="/wm">', None),
        ("", None),
    ],
)
def test_finds_where_webmentions_are_taken(html: str, found: str | None) -> None:
    assert elsewhere.endpoint(html.encode(), AT) == found
