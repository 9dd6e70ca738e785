"""HTML from elsewhere, put into Markdown that our own pages show with the same words.

Each block is rendered once more by `text.markup` and held against the words it was made of: where a mark in the text
would be taken for markup, more is escaped; where emphasis would not close, it is left out. No word is lost or added in
silence. Reading strangers' HTML takes time and memory, so this belongs into a process that is given little of both.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import urljoin

from bs4 import BeautifulSoup, MarkupResemblesLocatorWarning
from bs4.element import NavigableString, PageElement, Tag

from bridge.text import markup

MOST_HTML = 400_000
"""Characters: four times what an essay may have, before its markup is taken away."""

_SECTIONS = {"p", "div", "section", "article", "main", "header", "footer", "aside", "nav", "address", "center"}
_FIGURES = {"figure", "figcaption", "details", "summary", "dl", "dt", "dd", "blockquote", "pre", "hr", "ul", "ol", "li"}
_TABLES = {"table", "caption", "thead", "tbody", "tfoot", "tr", "td", "th"}
_HEADINGS = {"h1": 2, "h2": 2, "h3": 3, "h4": 4, "h5": 4, "h6": 4}
_BLOCKS = frozenset(_SECTIONS | _FIGURES | _TABLES | set(_HEADINGS))
_EMPHASIS: dict[str, Literal["*", "**"]] = {
    **dict.fromkeys(("em", "i", "cite", "dfn", "var"), "*"),
    **dict.fromkeys(("strong", "b"), "**"),
}
_CODE = frozenset({"code", "kbd", "samp", "tt"})
_TAKEN_OUT = re.compile(r"<(iframe|object|embed|svg|math|video|audio|canvas|form)\b", re.IGNORECASE)
_SPACE = re.compile("[ \t\n\r\f]+")
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_MARKS = re.compile(r"([\\`*_\[\]<])")
_AT_THE_START = re.compile(r"^(?:([#>+=~-])|([0-9]{1,9})(?=[.)]))", re.MULTILINE)


class NotReadable(Exception):
    """Raised when HTML cannot be put into Markdown with all its words. One sentence."""


@dataclass(frozen=True, slots=True)
class Converted:
    """What HTML became, and in words what of it Markdown has no place for."""

    markdown: str
    left_out: list[str]


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where emphasis or a link begins or ends, or a line."""

    what: Literal["*", "**", "link", "end", "break"]
    href: str = ""


@dataclass(frozen=True, slots=True)
class _Code:
    text: str


_Inline = list["str | _Code | _Mark"]


@dataclass(frozen=True, slots=True)
class _Paragraph:
    inline: _Inline
    level: int = 0
    """Of a heading, from 2; 0: it is none."""


@dataclass(frozen=True, slots=True)
class _Quotation:
    blocks: list[_Block]


@dataclass(frozen=True, slots=True)
class _List:
    first: int | None
    """The number of an ordered one's first; None: it has none."""
    points: list[list[_Block]]
    other: bool = False
    """Marked the other way, since another list of its kind ends right before it: the two would be one."""


@dataclass(frozen=True, slots=True)
class _Preformatted:
    text: str


class _Rule:
    pass


_Block = _Paragraph | _Quotation | _List | _Preformatted | _Rule


@dataclass(frozen=True, slots=True)
class _Way:
    """How careful a block is written."""

    escaped: Callable[[str], str]
    starts_escaped: bool
    emphasis: bool


def _marks_escaped(text: str) -> str:
    return _MARKS.sub(r"\\\1", text)


def _all_escaped(text: str) -> str:
    return _PUNCTUATION.sub(r"\\\1", text)


_MOST_CAREFUL = _Way(_all_escaped, starts_escaped=False, emphasis=False)
_WAYS = (
    _Way(str, starts_escaped=False, emphasis=True),
    _Way(_marks_escaped, starts_escaped=True, emphasis=True),
    _Way(str, starts_escaped=False, emphasis=False),
    _Way(_marks_escaped, starts_escaped=True, emphasis=False),
    _MOST_CAREFUL,
)
"""The plainest first: an essay is read by people, and by the voice, as it is written."""


def from_html(html: str, base: str) -> Converted:
    """Return Markdown with the words of *html*, whose relative links are meant from *base*.

    Images become links by their alternative text, tables become lines. Raises `NotReadable`.
    """
    if len(html) > MOST_HTML:
        raise NotReadable(f"It has {len(html):,} characters of HTML; at most {MOST_HTML:,} are read.")
    reading = _Reading(base)
    for tag in _TAKEN_OUT.findall(html):
        reading.counts[f"{tag.lower()}, left out"] += 1
    body = tree(markup.without_danger(html)).body
    blocks = [_settled(block) for block in reading.blocks(body.children if body else ())]
    return Converted("\n\n".join(blocks), reading.told())


def from_text(text: str) -> str:
    """Return Markdown that shows plain *text*, whose paragraphs have empty lines between them."""
    paragraphs = (" ".join(each.split()) for each in re.split(r"\n[ \t]*\n", markup.without_controls(text)))
    return "\n\n".join(_settled(_Paragraph([each])) for each in paragraphs if each)


def tree(html: str | bytes) -> BeautifulSoup:
    """Return HTML as a browser would read it."""
    with warnings.catch_warnings():
        # Text that looks like an address or a file's name is text; nothing is opened.
        warnings.simplefilter("ignore", MarkupResemblesLocatorWarning)
        return BeautifulSoup(html, "html5lib")


def text_of(html: str) -> str:
    """Return the words of *html* in one line."""
    return " ".join(tree(markup.without_danger(html)).get_text().split())


@dataclass
class _Reading:
    """Reads a tree into blocks, and counts what they have no place for."""

    base: str
    counts: Counter[str] = field(default_factory=Counter)

    def told(self) -> list[str]:
        """Say what was counted."""
        return [f"{count} x {what}" for what, count in sorted(self.counts.items())]

    def blocks(self, children: Iterable[PageElement]) -> list[_Block]:
        """Return what stands below one another; text and inline markup between two blocks is a paragraph."""
        found: list[_Block] = []
        loose: _Inline = []

        def settle() -> None:
            found.extend(_Paragraph(each) for each in _paragraphs(loose))
            loose.clear()

        for child in children:
            if isinstance(child, Tag) and (child.name in _BLOCKS or child.find(_is_block)):
                settle()
                for block in self._block(child):
                    before = found[-1] if found else None
                    found.append(_apart(before, block) if isinstance(block, _List) else block)
            else:
                loose.extend(self._inline(child))
        settle()
        return found

    def _block(self, tag: Tag) -> Iterator[_Block]:
        match tag.name:
            case "hr":
                yield _Rule()
            case "pre":
                text = _text(tag).strip("\n")
                if text.strip():
                    yield _Preformatted(text)
            case "blockquote":
                within = self.blocks(tag.children)
                if within:
                    yield _Quotation(within)
            case "ul" | "ol":
                yield from self._list(tag)
            case "table":
                yield from self._table(tag)
            case name if name in _HEADINGS and not tag.find(_is_block):
                inline = _trimmed(self._inlines(tag.children))
                if inline:
                    yield _Paragraph([each for each in inline if not _is_break(each)], _HEADINGS[name])
            case _:
                if tag.name == "a":
                    self.counts["link around whole blocks, its address left out"] += 1
                yield from self.blocks(tag.children)

    def _list(self, tag: Tag) -> Iterator[_Block]:
        points = []
        for child in tag.children:
            within = self.blocks(child.children if isinstance(child, Tag) and child.name == "li" else [child])
            if within:
                points.append(within)
        start = str(tag.get("start") or "1")
        number = int(start) if start.isascii() and start.isdigit() and len(start) < 9 else 1
        if points:
            yield _List(number if tag.name == "ol" else None, points)

    def _table(self, tag: Tag) -> Iterator[_Block]:
        self.counts["table, as lines of text"] += 1
        for caption in tag.find_all("caption"):
            yield from self.blocks(caption.children)
        lines: _Inline = []
        for row in tag.find_all("tr"):
            cells = [_trimmed(self._inlines(cell.children)) for cell in row.find_all(["td", "th"], recursive=False)]
            if any(cells):
                lines += [_Mark("break")] if lines else []
                for number, cell in enumerate(cells):
                    lines += ([" | "] if number else []) + [" " if _is_break(each) else each for each in cell]
        yield from (_Paragraph(each) for each in _paragraphs(lines))

    def _inlines(self, children: Iterable[PageElement]) -> _Inline:
        return [each for child in children for each in self._inline(child)]

    def _inline(self, node: PageElement) -> _Inline:
        if not isinstance(node, Tag):
            return [str(node)] if isinstance(node, NavigableString) else []
        name = node.name
        if name == "br":
            return [_Mark("break")]
        if name == "img":
            return self._image(node)
        if name in _CODE:
            code = _SPACE.sub(" ", _text(node)).strip()
            return [_Code(code)] if code else []
        within = self._inlines(node.children)
        if name in _EMPHASIS:
            return [_Mark(_EMPHASIS[name]), *within, _Mark("end")]
        if name == "a" and node.get("href"):
            href = self._address(str(node["href"]))
            if href is not None:
                bare = [each for each in within if not (isinstance(each, _Mark) and each.what == "break")]
                return [_Mark("link", href), *_without_links(bare), _Mark("end")]
            self.counts["link that leads nowhere, its words kept"] += 1
        if name == "q":
            return ["\u201c", *within, "\u201d"]
        if name in {"sub", "sup"}:
            self.counts["sub- or superscript, as ordinary text"] += 1
        # A block that stands within a line, such as in a table's cell, is words between blanks.
        return [" ", *within, " "] if name in _BLOCKS else within

    def _image(self, node: Tag) -> _Inline:
        alt = " ".join(str(node.get("alt") or "").split())
        if not alt and {str(node.get("width")), str(node.get("height"))} & {"0", "1"}:
            return []  # It counts visitors.
        href = self._address(str(node.get("src") or ""))
        if href is None:
            self.counts["image, its description kept"] += 1
            return [alt]
        self.counts["image, as a link"] += 1
        return [_Mark("link", href), alt or "Image", _Mark("end")]

    def _address(self, href: str) -> str | None:
        try:
            # Nothing at all would be the page itself.
            return markup.address(urljoin(self.base, href.strip())) if href.strip() else None
        except ValueError:
            return None


def _apart(before: _Block | None, block: _List) -> _List:
    alike = isinstance(before, _List) and (before.first is None) == (block.first is None)
    return replace(block, other=not before.other) if alike and isinstance(before, _List) else block


def _is_block(tag: Tag) -> bool:
    return tag.name in _BLOCKS


def _is_break(each: str | _Code | _Mark) -> bool:
    return isinstance(each, _Mark) and each.what == "break"


def _text(tag: Tag) -> str:
    """Return the text of preformatted words, with a line break for each `br`."""
    return "".join(
        "\n" if isinstance(each, Tag) else str(each)
        for each in tag.descendants
        if isinstance(each, NavigableString) or (isinstance(each, Tag) and each.name == "br")
    )


def _without_links(inline: _Inline) -> _Inline:
    """Take links out of what stands in a link, as images' are."""
    kept: _Inline = []
    open_marks: list[bool] = []
    for each in inline:
        if isinstance(each, _Mark) and each.what == "end":
            if not open_marks.pop():
                kept.append(each)
            continue
        if isinstance(each, _Mark) and each.what != "break":
            open_marks.append(each.what == "link")
            if open_marks[-1]:
                continue
        kept.append(each)
    return kept


def _paragraphs(inline: _Inline) -> Iterator[_Inline]:
    """Cut at two breaks in a row, as many a blog has them for paragraphs, where nothing is open."""
    part: _Inline = []
    depth = 0
    breaks = 0
    for each in inline:
        if isinstance(each, _Mark) and each.what != "break":
            depth += -1 if each.what == "end" else 1
        breaks = breaks + 1 if _is_break(each) else breaks if isinstance(each, str) and not each.strip() else 0
        part.append(each)
        if breaks == 2 and depth == 0:
            yield from filter(None, [_trimmed(part)])
            part, breaks = [], 0
    yield from filter(None, [_trimmed(part)])


def _trimmed(inline: _Inline) -> _Inline:
    """Return *inline* with white space as a browser shows it, outside of emphasis, and without empty marks."""
    kept: _Inline = []
    opened: list[_Mark | None] = []
    blank = False
    for each in inline:
        if isinstance(each, str):
            words = _SPACE.sub(" ", each)
            blank = blank or words.startswith(" ")
            if words.strip(" "):
                _put(kept, words.strip(" "), blank=blank)
                blank = words.endswith(" ")
        elif isinstance(each, _Code):
            _put(kept, each, blank=blank)
            blank = False
        elif each.what == "break":
            kept.append(each)
            blank = False
        elif each.what == "end":
            began = opened.pop()
            if began is not None and kept and kept[-1] is began:
                kept.pop()
            elif began is not None:
                kept.append(each)
        elif any(before is not None and before.what == each.what for before in opened):
            opened.append(None)  # Emphasis within its like is emphasis once.
        else:
            mark = _Mark(each.what, each.href)
            opened.append(mark)
            # A blank that follows belongs before it: "a* b*" is no emphasis.
            kept.append(mark)
    while kept and _is_break(kept[-1]):
        kept.pop()
    while kept and _is_break(kept[0]):
        kept.pop(0)
    return kept if any(not isinstance(each, _Mark) for each in kept) else []


def _put(kept: _Inline, words: str | _Code, *, blank: bool) -> None:
    """Add words, and before them, and before the marks that open right there, the blank between them."""
    at = len(kept)
    while at and (mark := kept[at - 1]) and isinstance(mark, _Mark) and mark.what in {"*", "**", "link"}:
        at -= 1
    if blank and at and not _is_break(kept[at - 1]):
        kept.insert(at, " ")
    kept.append(words)


# Blocks as Markdown.


def _settled(block: _Block) -> str:
    """Return the Markdown that shows the words of a block, written as plainly as that goes. Raises `NotReadable`."""
    wanted = _squeezed(_words(block))
    for way in _WAYS:
        written = _written(block, way)
        if _squeezed(markup.plain(written)) == wanted:
            return written
    bare = _Paragraph([" ".join(_words(block).split())])
    written = _written(bare, _MOST_CAREFUL)
    if _squeezed(markup.plain(written)) != wanted:
        raise NotReadable("Not all of its words can be put into Markdown.")
    return written


def _squeezed(text: str) -> str:
    return " ".join(markup.without_unseen(text).split())


def _words(block: _Block) -> str:
    match block:
        case _Paragraph(inline=inline):
            return "".join(
                each if isinstance(each, str) else each.text if isinstance(each, _Code) else "\n" * _is_break(each)
                for each in inline
            )
        case _Quotation(blocks=blocks):
            return "\n".join(map(_words, blocks))
        case _List(points=points):
            return "\n".join(_words(each) for point in points for each in point)
        case _Preformatted(text=text):
            return text
        case _:
            return ""


def _written(block: _Block, way: _Way) -> str:
    match block:
        case _Paragraph(inline=inline, level=level):
            line = _line(inline, way)
            if level:
                return f"{'#' * level} {line}"
            return _AT_THE_START.sub(_escaped_start, line) if way.starts_escaped else line
        case _Quotation(blocks=blocks):
            within = "\n\n".join(_written(each, way) for each in blocks)
            return "\n".join(f"> {line}".rstrip() for line in within.split("\n"))
        case _List():
            return _listed(block, way)
        case _Preformatted(text=text):
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
            return f"{fence}\n{text}\n{fence}"
        case _:
            return "---"


def _listed(block: _List, way: _Way) -> str:
    written = []
    for number, point in enumerate(block.points):
        mark = "-*"[block.other] if block.first is None else f"{block.first + number}{'.)'[block.other]}"
        lines = "\n\n".join(_written(each, way) for each in point).split("\n")
        indented = (f"{' ' * (len(mark) + 1)}{line}".rstrip() for line in lines[1:])
        written.append("\n".join([f"{mark} {lines[0]}", *indented]))
    close = all(len(point) == 1 and isinstance(point[0], _Paragraph) for point in block.points)
    return ("\n" if close else "\n\n").join(written)


def _line(inline: _Inline, way: _Way) -> str:
    parts: list[str] = []
    opened: list[_Mark] = []
    for each in inline:
        if isinstance(each, str):
            parts.append(way.escaped(each))
        elif isinstance(each, _Code):
            parts.append(_code(each.text))
        elif each.what == "break":
            parts.append("\\\n")
        elif each.what == "end":
            mark = opened.pop()
            if mark.what == "link":
                # Parentheses would end the address.
                parts.append(f"]({mark.href.replace('(', '%28').replace(')', '%29')})")
            elif way.emphasis:
                parts.append(mark.what)
        else:
            opened.append(each)
            if each.what == "link":
                parts.append("[")
            elif way.emphasis:
                parts.append(each.what)
    return "".join(parts)


def _code(text: str) -> str:
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    blank = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{blank}{text}{blank}{fence}"


def _escaped_start(match: re.Match[str]) -> str:
    return f"\\{match[1]}" if match[1] else f"{match[2]}\\"
