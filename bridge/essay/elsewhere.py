"""Pages elsewhere: whether they link here, who wrote them and what they say, and where they take webmentions.

https://www.w3.org/TR/webmention/ and https://microformats.org/wiki/h-entry. Nothing here calls anybody: what is to be
read is given as bytes. It is a stranger's, so this belongs into a process with little time and memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import mf2py
from bs4 import BeautifulSoup

from bridge.text import foreign, markup

MOST_EXCERPT = 500
"""Characters of a page's own words that are quoted."""
_LINKS = {"a": "href", "area": "href", "link": "href", "img": "src", "video": "src", "audio": "src", "source": "src"}
"""Where a page can name another (Webmention, 3.2.2), besides `blockquote` and the like, which nobody follows."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a page elsewhere says."""

    links: bool
    """It links to what was asked for."""
    author: str | None
    words: str | None
    """The beginning of what it says, in one line of Markdown; its title if it marks nothing as its words."""


def read_page(raw: bytes, *, address: str, target: str, plain: bool = False) -> Page:
    """Read the page that stands at *address* and should link to *target*; *plain*: it is text and no HTML."""
    if plain:
        text = raw.decode("utf-8", "replace")
        return Page(target in text.split(), None, _opening(text))
    soup = foreign.tree(raw)
    base = _base(soup, address)
    wanted = _same(target)
    found = any(_same(_joined(base, str(tag[_LINKS[tag.name]]))) == wanted for tag in soup.find_all(_names_another))
    if not found:
        return Page(links=False, author=None, words=None)
    title = soup.title.get_text() if soup.title else ""
    entry = next(_entries(mf2py.parse(doc=soup, url=address).get("items")), {})
    said = _first_text(entry.get("content")) or _first_text(entry.get("summary")) or _first_text(entry.get("name"))
    return Page(links=True, author=_first_text(entry.get("author")), words=_opening(said or title))


def endpoint(raw: bytes, address: str) -> str | None:
    """Return where a page says that it takes webmentions: its first `<link>` or `<a>` of that kind; None: nowhere."""
    soup = foreign.tree(raw)
    base = _base(soup, address)
    for tag in soup.find_all(["link", "a"], href=True):
        if "webmention" in {str(each).lower() for each in tag.get_attribute_list("rel")}:
            return _joined(base, str(tag["href"]))
    return None


def _names_another(tag: Any) -> bool:
    return tag.name in _LINKS and bool(tag.get(_LINKS[tag.name]))


def _base(soup: BeautifulSoup, address: str) -> str:
    base = soup.find("base", href=True)
    return _joined(address, str(base["href"])) if base is not None else address


def _joined(base: str, href: str) -> str:
    try:
        return urljoin(base, href.strip())
    except ValueError:
        return ""


def _same(address: str) -> str:
    """Return what two spellings of an address share."""
    return (markup.address(address.partition("#")[0]) or address).rstrip("/")


def _entries(items: object) -> Iterator[dict[str, Any]]:
    """Yield the properties of every h-entry, those of a feed's or a card's children too, in the order of the page."""
    for each in items if isinstance(items, list) else ():
        if not isinstance(each, dict):
            continue
        properties = each.get("properties")
        if "h-entry" in (each.get("type") or ()) and isinstance(properties, dict):
            yield properties
        yield from _entries(each.get("children"))


def _first_text(values: object) -> str | None:
    """Return the first text among a property's values: of a card its name, of other microformats their value."""
    for each in values if isinstance(values, list) else ():
        found: object = each
        if isinstance(each, dict):
            properties = each.get("properties")
            found = _first_text(properties.get("name")) if isinstance(properties, dict) else each.get("value")
        if isinstance(found, str) and found.strip():
            return found
    return None


def _opening(text: str) -> str | None:
    # Long words are cut as well: a page could be one.
    words = " ".join(markup.without_unseen(text[: 20 * MOST_EXCERPT]).replace("\x00", "").split())
    if len(words) > MOST_EXCERPT:
        cut = words[: MOST_EXCERPT - 1]
        words = (cut.rpartition(" ")[0] or cut).rstrip(" ,;:") + "…"
    return foreign.from_text(words) if markup.shows_something(words) else None
