"""Turns words as submitted into the HTML that people are shown; the only module that knows bleach.

Markdown becomes tokens, tokens become HTML, bleach and then nh3 pass that HTML through one allow-list, and what nh3
returns is `Markup`. What a moderator sees must be all that the model reads, so whatever CommonMark would hide is
switched off (references, entities, images) or written out (titles, info strings, targets of links without text).
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence, Set
from html import unescape
from importlib.metadata import version
from threading import local
from types import SimpleNamespace
from typing import Any, Literal, cast
from urllib.parse import quote

import bleach
import idna
import nh3
from markdown_it import MarkdownIt, helpers
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup

Kind = Literal["comment", "reply", "essay"]

RULES = 2
"""Raised with every change below that changes what is shown."""

PIPELINE = "-".join(
    [
        str(RULES),
        *(version(library) for library in ("markdown-it-py", "bleach", "nh3")),
        unicodedata.unidata_version,
    ]
)
"""The version of the rendering; HTML cached under another one is out of date."""

TAGS = frozenset({"p", "br", "em", "strong", "a", "ul", "ol", "li", "blockquote", "code", "pre", "hr"})
ESSAY_TAGS = TAGS | {"h2", "h3", "h4"}
ATTRIBUTES: Mapping[str, Set[str]] = {"a": frozenset({"href"}), "ol": frozenset({"start"})}
SCHEMES = frozenset({"http", "https", "mailto"})
REL = "nofollow ugc noopener"

# CommonMark's preset. Blocks below it are silently left out by the parser, and 1,000 is a RecursionError.
MAX_NESTING = 20

# Emphasis within emphasis is bounded by nothing in the parser; beyond this it is shown without further emphasis.
MAX_EMPHASIS = 12

# SECURITY.md, T6: at most 8 times the source (5.9 measured). The slack lets very short words have tags at all.
MAX_GROWTH = 8
GROWTH_SLACK = 400

# bleach looks for each element among its siblings, so its cost grows with their square (measured: 100,000 characters of
# one-line quotations 9.5 s, cut up 0.8 s). It is given whole blocks, about this many characters at a time, and a single
# block with more tags than that is shown as it was written; no comment within the bounds of `words` can have so many.
PIECE = 4_000
MAX_TAGS = 4_000

# Default_Ignorable_Code_Point of Unicode 17 but the joiners and U+FE0E/F, which are sometimes seen (below).
_IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# C0 but tab and line feed, DEL, C1, line and paragraph separators, surrogates, interlinear annotation marks, and the
# noncharacters, which are no XML: one of them, like one C0, would break a feed.
_CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufff9-\ufffb\ufdd0-\ufdef" + "".join(
    chr(plane + 0xFFFE) + chr(plane + 0xFFFF) for plane in range(0, 0x110000, 0x10000)
)
_LINE_END = re.compile(r"\r\n?")
_UNSEEN = re.compile(f"[{_CONTROL}{_IGNORABLE}]")
_CONTROLS = re.compile(f"[{_CONTROL}]")
_SELECTOR = re.compile("[\ufe0e\ufe0f]")
_JOINER = re.compile("[\u200c\u200d]")
# Drawn as nothing though Unicode calls them symbols: the empty braille cell and a null notehead.
_BLANK_SYMBOLS = frozenset("\u2800\U0001d159")
# Emoji whose category is not "symbol, other" or "symbol, mathematical".
_EMOJI_PUNCTUATION = frozenset("\u203c\u2049\u2139\u3030\u303d")


def without_controls(text: str) -> str:
    """Return *text* with CRLF and CR as LF, and without control characters and noncharacters (SECURITY.md, T1)."""
    return _CONTROLS.sub("", _LINE_END.sub("\n", text))


def without_unseen(text: str) -> str:
    """Return *text* also without what shows nothing or moves its neighbours (SECURITY.md, T2 and T3).

    Joiners stay between letters and between emoji, a presentation selector stays right behind an emoji: there they
    are seen.
    """
    text = _UNSEEN.sub("", _LINE_END.sub("\n", text))
    if text.isascii():
        return text
    # Selectors first: whether a joiner stands behind an emoji depends on which of them were left.
    return _JOINER.sub(_joiner_if_seen, _SELECTOR.sub(_selector_if_seen, text))


def _selector_if_seen(match: re.Match[str]) -> str:
    text, at = match.string, match.start()
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    keycap = before != "" and before in "0123456789#*" and after == "\u20e3"
    return match[0] if keycap or _is_emoji(before) else ""


def _joiner_if_seen(match: re.Match[str]) -> str:
    text, at = match.string, match.start()
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    if _is_letter(before) and _is_letter(after):
        return match[0]
    emoji_before = _is_emoji(before) or before == "\ufe0f" or "\U0001f3fb" <= before <= "\U0001f3ff"
    return match[0] if emoji_before and _is_emoji(after) else ""


def _is_letter(character: str) -> bool:
    return bool(character) and unicodedata.category(character)[0] in "LM"


def _is_emoji(character: str) -> bool:
    return bool(character) and (unicodedata.category(character) in {"So", "Sm"} or character in _EMOJI_PUNCTUATION)


def shows_something(text: str) -> bool:
    """Return whether *text* would leave a mark on the page."""
    return any(
        unicodedata.category(character)[0] not in "ZM"
        and unicodedata.category(character) not in {"Cc", "Cf", "Cs"}
        and character not in _BLANK_SYMBOLS
        for character in without_unseen(text)
    )


# What may follow a host unencoded (RFC 3986, reserved and unreserved, and "%" of what is encoded already).
_PATH = "!#$%&'()*+,./:;=?@_~[]-"
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_WEB = re.compile(
    rf"https?://(?P<host>{_LABEL}(?:\.{_LABEL})*)\.?(?::[0-9]{{1,5}})?(?:[/?#][A-Za-z0-9{re.escape(_PATH)}]*)?"
)
_MAIL = re.compile(rf"mailto:[A-Za-z0-9.!$*+/=^_`{{|}}~-]+@(?P<host>{_LABEL}(?:\.{_LABEL})+)")
_AUTHORITY = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#\\]*)(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_BARE_ADDRESS = re.compile(r"https?://[^\s<>\"]+", re.IGNORECASE)
_NAMED_HOST = re.compile(r"(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W\d_]{2,}")
_DOTTED = re.compile(r"[\w.-]+")
# RFC 1035: a longer name is no host, and encoding it would only cost time.
_MAX_HOST = 253


def is_address(href: str) -> bool:
    """Return whether *href* may stand in a link: `http(s)://host` or `mailto:` one address (SECURITY.md, T8).

    False for user information, a backslash or `%5C` in the host, a query to `mailto:`, a scheme without `//`, anything
    relative, and hosts that are not punycode.
    """
    found = _WEB.fullmatch(href) or _MAIL.fullmatch(href)
    return found is not None and len(found["host"]) <= _MAX_HOST


def _punycode(host: str) -> str | None:
    """Return *host* as browsers look it up, or None where it cannot be a host."""
    if len(host) > _MAX_HOST:
        return None
    if host.isascii():
        return host.lower()
    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError:
        return None


def _with_punycode(address: str) -> tuple[str, str]:
    """Split a web *address* into scheme and punycode host, and the rest as written; ("", address) if it is none."""
    parts = _AUTHORITY.fullmatch(address)
    if parts is None:
        return "", address
    host, colon, port = parts["authority"].partition(":")
    found = _punycode(host)
    if found is None:
        return "", address
    return f"{parts['scheme'].lower()}://{found}{colon}{port}", parts["rest"]


def _title_as_written(string: str, start: int, maximum: int, prev_state: Any = None) -> Any:
    """Find a link's title without resolving the entities in it, which could be characters that show nothing."""
    title = helpers.parseLinkTitle(string, start, maximum, prev_state)
    if title.ok:
        title.str = string[start + 1 : title.pos - 1]
    return title


class _CommonMark(MarkdownIt):
    """CommonMark without HTML, images, reference definitions and entities."""

    def __init__(self) -> None:
        super().__init__("commonmark", {"html": False, "maxNesting": MAX_NESTING}, renderer_cls=_AsShown)
        # An entity may be a character that shows nothing; as written, people and the model read the same.
        self.disable(["reference", "image", "entity"])
        self.helpers = cast(
            Any,
            SimpleNamespace(
                parseLinkLabel=helpers.parseLinkLabel,
                parseLinkDestination=helpers.parseLinkDestination,
                parseLinkTitle=_title_as_written,
            ),
        )
        # The rulers compile themselves on first use, which two threads must not do at once.
        self.parse("- > *compiled*")

    def validateLink(self, url: str) -> bool:
        return is_address(url)

    def normalizeLink(self, url: str) -> str:
        head, rest = _with_punycode(url)
        return head + quote(rest, safe=_PATH) if head else url

    def normalizeLinkText(self, url: str) -> str:
        return "".join(_with_punycode(url))


class _AsShown(RendererHTML):
    """Writes HTML from tokens that `_spell_out` has seen; `env["kind"]` is the kind of the words."""

    def heading_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        opening, _ = _heading_tags(tokens[idx], tokens[idx + 1], env["kind"])
        return opening

    def heading_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        _, closing = _heading_tags(tokens[idx], tokens[idx - 1], env["kind"])
        return closing

    def em_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return "" if tokens[idx].level >= MAX_EMPHASIS else self.renderToken(tokens, idx, options, env)

    # The four of them begin and end at the same level, so that each tag left out takes its partner with it.
    em_close = strong_open = strong_close = em_open

    def softbreak(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        # Letters have lines: verses, addresses, a name under them. Essays are written with lines of any length.
        return "\n" if env["kind"] == "essay" else self.hardbreak(tokens, idx, options, env)

    def list_item_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return self.renderToken(tokens, idx, options, env) + escapeHtml(tokens[idx].meta.get("number", ""))

    def link_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return "" if tokens[idx].meta.get("unlinked") else self.renderToken(tokens, idx, options, env)

    def link_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        meta = tokens[idx].meta
        return escapeHtml(meta["inside"]) + ("" if meta["unlinked"] else "</a>") + escapeHtml(meta["behind"])

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        info = tokens[idx].info.strip()
        named = f"<p><code>{escapeHtml(info)}</code></p>\n" if info else ""
        return f"{named}<pre><code>{escapeHtml(tokens[idx].content)}</code></pre>\n"


def _heading_tags(heading: Token, inline: Token, kind: Kind) -> tuple[str, str]:
    if not inline.content:
        return "<p>", "</p>\n"
    if kind != "essay":
        return "<p><strong>", "</strong></p>\n"
    # The page's h1 is the essay's title, so the first level within it is the second.
    level = min(max(int(heading.tag[1:]), 2), 4)
    return f"<h{level}>", f"</h{level}>\n"


_COMMONMARK = _CommonMark()


def _spell_out(tokens: list[Token], *, targets: bool) -> None:
    """Note in *tokens* what CommonMark would not show: numbers out of order, titles, targets of links without text.

    With *targets* also the targets of links whose text is something else.
    """
    numbering: list[tuple[int, int]] = []
    for token in tokens:
        if token.type == "ordered_list_open":
            start = token.attrGet("start")
            first = 1 if start is None else int(start)
            numbering.append((first, first))
        elif token.type == "ordered_list_close":
            numbering.pop()
        elif token.type == "list_item_open" and token.info:
            first, due = numbering[-1]
            # Browsers count by themselves: any other number would be read by the model and seen by nobody.
            if int(token.info) not in (first, due):
                token.meta["number"] = f"{token.info}{token.markup} "
            numbering[-1] = (first, due + 1)
        elif token.type == "inline" and token.children:
            _spell_out_links(token.children, targets=targets)


def _spell_out_links(children: list[Token], *, targets: bool) -> None:
    opened: list[tuple[Token, list[str]]] = []
    for token in children:
        if token.type == "link_open":
            # CommonMark: a link in a link, as `<https://...>` within `[...]`, leaves the outer one mere text.
            for outer, _ in opened:
                outer.meta["unlinked"] = True
            opened.append((token, []))
        elif token.type == "link_close":
            opening, texts = opened.pop()
            text, href = "".join(texts), str(opening.attrs["href"])
            title = str(opening.attrs.pop("title", ""))
            unlinked = bool(opening.meta.get("unlinked"))
            empty = not shows_something(text)
            spelled = not empty and (unlinked or (targets and not _says(text, href)))
            token.meta["unlinked"] = unlinked
            token.meta["inside"] = href if empty else ""
            token.meta["behind"] = (f" ({href})" if spelled else "") + (f" ({title})" if title else "")
        else:
            for _, texts in opened:
                texts.append(token.content)


def _says(text: str, href: str) -> bool:
    """Return whether a link's *text* is its target."""
    return _COMMONMARK.normalizeLink(text.strip()) == href or f"mailto:{text.strip()}" == href


_CONTAINERS = frozenset({"blockquote_open", "list_item_open"})


def _depth(tokens: list[Token]) -> int:
    return max((token.level + 1 for token in tokens if token.type in _CONTAINERS), default=0)


_cleaners = local()


def _bleach(kind: Kind) -> bleach.Cleaner:
    """Return this thread's cleaner: one is costly to make, and bleach says it may not be shared."""
    tags = _tags(kind)
    cleaners = cast(dict[frozenset[str], bleach.Cleaner], _cleaners.__dict__)
    if tags not in cleaners:
        cleaners[tags] = bleach.Cleaner(
            tags=tags, attributes={tag: sorted(names) for tag, names in ATTRIBUTES.items()}, protocols=SCHEMES
        )
    return cleaners[tags]


def _last_check(tag: str, attribute: str, value: str) -> str | None:
    """Return *value* if it may stand in *attribute*; None removes it.

    Also removes title and lang, which nh3 allows on every tag unless it is told otherwise.
    """
    if (tag, attribute) == ("a", "href"):
        return value if is_address(value) else None
    if (tag, attribute) == ("a", "rel"):
        return REL
    if (tag, attribute) == ("ol", "start"):
        return value if re.fullmatch("[0-9]{1,9}", value) else None
    return None


def _nh3(tags: Set[str]) -> nh3.Cleaner:
    return nh3.Cleaner(
        tags=set(tags),
        attributes={tag: set(names) for tag, names in ATTRIBUTES.items()},
        attribute_filter=_last_check,
        url_schemes=set(SCHEMES),
        url_relative="deny",
        link_rel=REL,
    )


_NH3 = {tags: _nh3(tags) for tags in (TAGS, ESSAY_TAGS)}


def _tags(kind: Kind) -> frozenset[str]:
    return ESSAY_TAGS if kind == "essay" else TAGS


def sanitised(html: str, kind: Kind) -> Markup:
    """Pass *html* through bleach and then nh3, with one allow-list, and check each link once more.

    A fixed point: what this returns, it returns unchanged. Raw HTML must meet `nh3` first, for bleach's cost grows with
    the square of its nesting (SECURITY.md, T6); `render` gives this only its own output.
    """
    return _last_word(_bleach(kind).clean(html), kind)


def _last_word(html: str, kind: Kind) -> Markup:
    return Markup(_NH3[_tags(kind)].clean(html))  # noqa: S704 - Here HTML becomes safe, and nowhere else.


def render(body: str, kind: Kind, *, targets: bool = False) -> Markup:
    """Return *body* as the HTML that people are shown; refuses nothing.

    Characters that show nothing are left out. Words nested too deeply to be parsed, and words whose HTML would be over
    8 times their length, are shown as they were written, in one `pre`. An essay's title line is the page's to show:
    give this `words.essay_text`. With *targets*, as for the desk, a link whose text is not its target is followed by
    the target in parentheses, so that each word which the model reads is visible text.
    """
    text = without_unseen(body)
    tokens = _COMMONMARK.parse(text)
    if _depth(tokens) < MAX_NESTING:
        _spell_out(tokens, targets=targets)
        blocks = [_COMMONMARK.renderer.render(block, _COMMONMARK.options, {"kind": kind}) for block in _blocks(tokens)]
        if all(block.count("<") <= MAX_TAGS for block in blocks):
            html = _last_word("".join(_bleach(kind).clean(piece) for piece in _pieces(blocks)), kind)
            if len(html) <= MAX_GROWTH * len(text) + GROWTH_SLACK:
                return html
    return sanitised(f"<pre><code>{escapeHtml(text)}</code></pre>\n", kind)


_ELSEWHERE = nh3.Cleaner(
    tags=set(ESSAY_TAGS)
    | {"h1", "h5", "h6", "div", "section", "article", "main", "header", "footer", "aside", "nav", "address", "center"}
    | {"figure", "figcaption", "details", "summary", "dl", "dt", "dd", "img", "q"}
    | {"table", "caption", "thead", "tbody", "tfoot", "tr", "td", "th", "b", "i", "cite", "dfn", "var", "kbd", "samp"}
    | {"tt", "sub", "sup"},
    # Else the words within would be left, which are no words.
    clean_content_tags={"script", "style", "template", "title", "noscript", "noembed", "noframes", "iframe", "object"}
    | {"svg", "math", "video", "audio", "canvas", "select", "textarea", "button"},
    attributes={"a": {"href"}, "ol": {"start"}, "img": {"alt", "src", "width", "height"}},
    url_schemes={"http", "https", "mailto"},
    url_relative="pass_through",
    link_rel=None,
)
"""Passes what `text.foreign` can put into Markdown, more than any page shows; titles and lang go with the rest."""


def without_danger(html: str) -> str:
    """Return HTML from elsewhere as nh3 leaves it, to be read and never to be shown: it is no `Markup`.

    Its cost grows with nesting (SECURITY.md, T6): call it where time is limited.
    """
    return _ELSEWHERE.clean(html)


def address(url: str) -> str | None:
    """Return *url* as it would stand in a link, or None where none may lead there (SECURITY.md, T8)."""
    found = _COMMONMARK.normalizeLink(url.strip())
    return found if is_address(found) else None


def web_address(url: str) -> str | None:
    """Return *url* as `address` does, or None where it is no http or https address."""
    found = address(url)
    return found if found is not None and found.startswith(("http://", "https://")) else None


def rendered_before(html: str) -> Markup:
    """Return HTML that `render` made earlier and the records kept: nothing else may be given to this."""
    return Markup(html)  # noqa: S704 - It was safe when it was kept.


_TAG = re.compile(r"<(?P<end>/?)(?P<name>[a-z][a-z0-9]*)[^<>]*>")
"""A tag of what nh3 wrote: elsewhere it escapes both brackets, and no address in a link may hold one."""
_VOID = frozenset({"br", "hr"})


def blocks_of(html: Markup) -> list[Markup]:
    """Cut HTML that `render` made into the elements that stand in no other; joined, they are *html* again.

    What stands between two of them goes with the one before it.
    """
    ends: list[int] = []
    depth = 0
    for tag in _TAG.finditer(html):
        if tag["end"]:
            depth -= 1
        elif tag["name"] not in _VOID:
            depth += 1
        if depth == 0 and (tag["end"] or tag["name"] == "hr"):
            ends.append(tag.end())
    # The last one has all that is left; text without any element is one block.
    begins = [0, *(_behind_blanks(html, end) for end in ends[:-1])]
    cuts = zip(begins, [*begins[1:], len(html)], strict=True)
    return [html[begin:end] for begin, end in cuts if begin < end]


def _behind_blanks(html: str, at: int) -> int:
    while at < len(html) and html[at].isspace():
        at += 1
    return at


def shown_text(html: Markup) -> str:
    """Return the text that HTML made by `render` shows, as a browser's `textContent` has it."""
    return unescape(_TAG.sub("", str(html)))


def _blocks(tokens: list[Token]) -> Iterator[list[Token]]:
    """Cut *tokens* into blocks that stand in no other."""
    block: list[Token] = []
    for token in tokens:
        block.append(token)
        if token.level == 0 and token.nesting <= 0:
            yield block
            block = []


def _pieces(blocks: list[str]) -> Iterator[str]:
    """Join *blocks* into pieces of at least `PIECE` characters, the last one excepted."""
    piece: list[str] = []
    length = 0
    for block in blocks:
        piece.append(block)
        length += len(block)
        if length >= PIECE:
            yield "".join(piece)
            piece, length = [], 0
    yield "".join(piece)


def nesting(body: str) -> int:
    """Return the deepest token level of *body*: 1 for each quotation and 2 for each list around a block.

    At `MAX_NESTING` the parser stops, so what is nested deeper counts as about that.
    """
    return _depth(_COMMONMARK.parse(without_unseen(body)))


def links(body: str) -> list[str]:
    """Return each address in *body*, in order: targets of links, and web addresses in the text outside of them."""
    found: list[str] = []
    within = 0
    for token in _inline(body):
        within += token.nesting if token.type in {"link_open", "link_close"} else 0
        if token.type == "link_open":
            found.append(str(token.attrs["href"]))
        elif not within:
            found.extend(_BARE_ADDRESS.findall(token.content))
    return found


def misleading_links(body: str) -> list[tuple[str, str]]:
    """Return text and target of each link in *body* whose text names a host that is not the target's."""
    found: list[tuple[str, str]] = []
    opened: list[tuple[str, list[str]]] = []
    for token in _inline(body):
        if token.type == "link_open":
            opened.append((str(token.attrs["href"]), []))
        elif token.type == "link_close":
            href, texts = opened.pop()
            text = "".join(texts)
            target = _WEB.fullmatch(href) or _MAIL.fullmatch(href)
            # Words first, hosts among them second: one pattern searched in a long word would cost its square.
            named = {
                _punycode(word.strip(".-")) for word in _DOTTED.findall(text) if _NAMED_HOST.fullmatch(word.strip(".-"))
            }
            if target is not None and named - {target["host"], target["host"].removeprefix("www.")}:
                found.append((text, href))
        else:
            for _, texts in opened:
                texts.append(token.content)
    return found


def plain(body: str) -> str:
    """Return the words of *body* without Markdown's marks, a line for each block."""
    tokens = _COMMONMARK.parse(without_unseen(body))
    _spell_out(tokens, targets=False)
    lines: list[str] = []
    for token in tokens:
        if token.type == "inline":
            lines.append("".join(_plain_inline(child) for child in token.children or []))
        elif token.content:
            lines.append(token.content)
    return "\n".join(line.strip("\n") for line in lines if line.strip())


def _plain_inline(token: Token) -> str:
    if token.type in {"softbreak", "hardbreak"}:
        return "\n"
    return str(token.meta["inside"]) if token.type == "link_close" else token.content


def _inline(body: str) -> Iterator[Token]:
    for token in _COMMONMARK.parse(without_unseen(body)):
        if token.children:
            yield from token.children
        elif token.content:
            yield token
