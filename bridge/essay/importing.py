"""Essays published elsewhere, as a feed has them: read, and put into our own Markdown.

feedparser gets bytes only, for a string it would take as a file's name or an address and open it (SECURITY, Q3), and a
feed with a document type is not read at all: entities are declared there. `read_feed` and `written` work on what
strangers wrote, so they belong into a process with little time and memory (`workers.apart`), which starts sooner the
less is imported here.
"""

from __future__ import annotations

import io
import re
import time
from dataclasses import dataclass
from datetime import date
from html import escape
from typing import Any
from urllib.parse import urljoin

from bridge.text import markup, words

_ENCODINGS = re.compile(
    r"utf-?8|utf-?16(-?(le|be))?|us-ascii|ascii|iso-?8859-?\d{1,2}|latin-?1|windows-?125\d|cp125\d|koi8-[ru]|gb2312|gbk"
    r"|gb18030|big5|euc-jp|euc-kr|shift_?jis",
    re.IGNORECASE,
)
"""What a feed may be written in: nothing in which "<!DOCTYPE" could be hidden from who looks for it."""
_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_DECLARED = re.compile(rb"\s*<\?xml[^>]{0,200}?\bencoding\s*=\s*[\"']([A-Za-z0-9_.:-]{1,40})[\"']")
_DECLARATION = re.compile(r"\s*<\?xml\b.*?\?>", re.DOTALL)


class FeedRefused(Exception):
    """Raised when nothing can be read from a feed. One sentence; nothing was changed."""


class EntryRefused(Exception):
    """Raised when one entry of a feed cannot become an essay. One sentence."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a feed, as it says itself."""

    link: str
    title: str
    html: str
    base: str
    """What the relative links in `html` are meant from."""
    author: str
    published: str | None
    """A day, as 2024-05-01."""
    is_summary: bool
    """The feed has no more of it than a summary."""


def read_feed(raw: bytes, address: str | None = None) -> list[Entry]:
    """Return the entries of an RSS or Atom feed, in its order.

    Relative links are meant from where `xml:base` says; without one, those to entries from *address* and those within
    an entry from its own link. Raises `FeedRefused`.
    """
    # Imported here, and below: who only adds what was read needs no reader.
    import feedparser

    text = _decoded(raw)
    _refuse_document_type(text)
    whole = _DECLARATION.sub("", text, count=1).encode()
    headers = {"content-type": "application/xml; charset=utf-8"} | ({"content-location": address} if address else {})
    # In a stream, for even bytes would be tried as the name of a file.
    read = feedparser.parse(
        io.BytesIO(whole), response_headers=headers, sanitize_html=False, resolve_relative_uris=False
    )
    if not read.get("version") and not read.entries:
        raise FeedRefused("This is no RSS or Atom feed. Nothing was added.")
    return [_entry(each, address or "") for each in read.entries]


def written(entry: Entry) -> tuple[str, list[str]]:
    """Return an entry as an essay's words, title line first, and what of it Markdown has no place for.

    Raises `EntryRefused` or `words.WordsRefused`.
    """
    from bridge.text import foreign

    if not entry.title.strip():
        raise EntryRefused("It has no title.")
    if not entry.html.strip():
        raise EntryRefused("The feed has no text of it.")
    try:
        text = foreign.from_html(entry.html, entry.base)
    except foreign.NotReadable as refused:
        raise EntryRefused(str(refused)) from None
    if not text.markdown.strip():
        raise EntryRefused("The feed has no text of it.")
    title = " ".join(markup.without_controls(entry.title).split())
    left_out = [*text.left_out, *(["all but the summary, which is what the feed has"] if entry.is_summary else [])]
    return words.essay_body(f"# {title}\n\n{text.markdown}"), left_out


def link_of(entry: Entry) -> str:
    """Return the address of an entry in the form that it is kept in. Raises `EntryRefused`."""
    found = markup.web_address(entry.link)
    if found is None:
        raise EntryRefused("Its link is no http or https address.")
    return found


def _decoded(raw: bytes) -> str:
    mark = next(((mark, encoding) for mark, encoding in _MARKS if raw.startswith(mark)), None)
    declared = _DECLARED.match(raw)
    encoding = mark[1] if mark else declared[1].decode("ascii") if declared else "utf-8"
    if not _ENCODINGS.fullmatch(encoding):
        raise FeedRefused("This feed is not written in an encoding that is read here. Nothing was added.")
    try:
        return raw[len(mark[0]) if mark else 0 :].decode(encoding)
    except (UnicodeDecodeError, LookupError):
        raise FeedRefused(f"This feed is not the {encoding} text that it says it is. Nothing was added.") from None


def _refuse_document_type(text: str) -> None:
    """Look at what stands before the first element, the only place where a document type is one."""
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if text.startswith("<?", at):
            close = "?>"
        elif text.startswith("<!--", at):
            close, at = "-->", at + 4
        elif text.startswith("<!", at):
            raise FeedRefused("This feed has a document type (DOCTYPE), which can declare anything. Nothing was added.")
        elif re.match(r"<[A-Za-z_]", text[at : at + 2]):
            return
        else:
            raise FeedRefused("This is no RSS or Atom feed. Nothing was added.")
        end = text.find(close, at)
        if end < 0:
            raise FeedRefused("This is no RSS or Atom feed. Nothing was added.")
        at = end + len(close)


def _entry(each: Any, address: str) -> Entry:
    """Return what feedparser found of one entry; every part of it may be missing, or of another kind."""
    from bridge.text import foreign

    title = each.get("title_detail") or {}
    said = _str(title.get("value"))
    html, base, is_summary = _words(each)
    link = _str(each.get("link"))
    when = each.get("published_parsed") or each.get("updated_parsed")
    return Entry(
        link=link,
        title=foreign.text_of(said) if title.get("type") in {"text/html", "application/xhtml+xml"} else said,
        html=html,
        base=_base(base, link, address),
        author=" ".join(_str(each.get("author")).split())[:200],
        published=_day(when),
        is_summary=is_summary,
    )


def _words(each: Any) -> tuple[str, str, bool]:
    """Return the HTML of an entry, its base, and whether it is only a summary."""
    whole = [found for found in each.get("content") or () if _str(found.get("value")).strip()]
    whole.sort(key=lambda found: found.get("type") == "text/plain")
    detail = whole[0] if whole else each.get("summary_detail") or {}
    said = _str(detail.get("value"))
    if detail.get("type") == "text/plain":
        said = "".join(f"<p>{escape(part)}</p>" for part in re.split(r"\n[ \t]*\n", said) if part.strip())
    return said, _str(detail.get("base")), not whole and bool(said)


def _base(said: str, link: str, address: str) -> str:
    """Return what an entry's relative links are meant from: the feed's `xml:base` (RFC 4287, 2), or its own link."""
    own = link or address
    # Where there is no `xml:base`, feedparser has the feed's address, put together anew.
    if said in {"", urljoin(address, address)}:
        return own
    try:
        base = urljoin(own, said)
    except ValueError:
        return own
    return base if markup.web_address(base) is not None else own


def _str(found: object) -> str:
    return found if isinstance(found, str) else ""


def _day(when: object) -> str | None:
    if not isinstance(when, time.struct_time):
        return None
    try:
        return date(when.tm_year, when.tm_mon, when.tm_mday).isoformat()
    except ValueError:
        return None
