"""The door for words: what is taken out of them, and which are refused, before they are counted and digested.

Readers' words and essays are normalised and bounded here (SECURITY.md, T1 to T6). What a model returns is submitted as
returned, or not at all.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable
from functools import cache, lru_cache
from importlib.resources import files
from typing import ClassVar, Literal

from bridge.text import markup
from bridge.text.language import N_

Field = Literal["body", "author", "words"]

COMMENT_LENGTH = 5_000
COMMENT_LINES = 200
COMMENT_LINKS = 20
COMMENT_NESTING = 12
"""In the parser's token levels: six lists within each other, or twelve quotations (SECURITY.md, T2)."""
COMBINING_MARKS = 8
"""In a row; Burmese and Tibetan need 5 (SECURITY.md, T4)."""
NAME_LENGTH = 80
NOTE_LENGTH = 2_000
REPLY_LENGTH = 20_000
ESSAY_LENGTH = 100_000
TITLE_LENGTH = 200
REHEARSAL_MARK = "(rehearsal)"
"""What the house puts behind a voice's name when nothing but the stand-in spoke (DESIGN.md, promise 8)."""

# Putting marks in canonical order costs the square of their number in a row; composing can take away a few of them.
_MARKS_BEFORE_COMPOSING = 4 * COMBINING_MARKS

_UNREADABLE = re.compile("[\x00\ud800-\udfff]")
_TITLE_LINE = re.compile(r"#[ \t]+(?P<title>\S[^\n]*)(?:\n|\Z)")


class WordsRefused(ValueError):
    """Words that the door does not take; says to their author what is wrong and what to do, and never the words."""

    code: ClassVar[str]

    def __init__(self, field: Field, sentence: str, **parts: int | str) -> None:
        super().__init__(sentence % {n: f"{part:,}" if isinstance(part, int) else part for n, part in parts.items()})
        self.field: Field = field
        self.sentence = sentence
        """As the catalogues have it; `parts` are put into it where it is shown."""
        self.parts = parts


class NothingWritten(WordsRefused):
    """Raised for words that would leave nothing to see."""

    code = "nothing-written"

    def __init__(self, field: Field) -> None:
        super().__init__(
            field,
            N_("There is nothing to see in the name; please write something.")
            if field == "author"
            else N_("There is nothing to see in the text; please write something."),
        )


class Unreadable(WordsRefused):
    """Raised for NUL and for halves of surrogate pairs, which are no characters."""

    code = "unreadable"

    def __init__(self, field: Field) -> None:
        super().__init__(
            field,
            N_("The name contains a broken character; please remove it, or write that place again.")
            if field == "author"
            else N_("The text contains a broken character; please remove it, or write that place again."),
        )


class TooLong(WordsRefused):
    """Raised for more characters than are taken, counted after normalising."""

    code = "too-long"

    def __init__(self, field: Field, length: int, limit: int, *, is_title: bool = False) -> None:
        if is_title:
            sentence = N_("The title has %(length)s characters; please shorten it to at most %(limit)s.")
        elif field == "author":
            sentence = N_("The name has %(length)s characters; please shorten it to at most %(limit)s.")
        else:
            sentence = N_("The text has %(length)s characters; please shorten it to at most %(limit)s.")
        super().__init__(field, sentence, length=length, limit=limit)
        self.length = length
        self.limit = limit


class TooManyLines(WordsRefused):
    """Raised for more lines than are taken."""

    code = "too-many-lines"

    def __init__(self, lines: int) -> None:
        super().__init__(
            "body", N_("The text has %(lines)s lines; please use at most %(most)s."), lines=lines, most=COMMENT_LINES
        )
        self.lines = lines


class TooManyLinks(WordsRefused):
    """Raised for more links than are taken, addresses that are not made links included."""

    code = "too-many-links"

    def __init__(self, links: int) -> None:
        super().__init__(
            "body", N_("The text has %(links)s links; please use at most %(most)s."), links=links, most=COMMENT_LINKS
        )
        self.links = links


class TooDeep(WordsRefused):
    """Raised for lists and quotations within each other beyond what is certainly shown."""

    code = "too-deep"

    def __init__(self) -> None:
        super().__init__(
            "body", N_("The text has too many lists or quotations within each other; please take some levels away.")
        )


class TooManyMarks(WordsRefused):
    """Raised for combining marks piled up so that they would cover what stands above and below."""

    code = "too-many-marks"

    def __init__(self, field: Field) -> None:
        super().__init__(
            field,
            N_("The name piles more than %(most)s accents on one letter; please take some away.")
            if field == "author"
            else N_("The text piles more than %(most)s accents on one letter; please take some away."),
            most=COMBINING_MARKS,
        )


class NotOneLine(WordsRefused):
    """Raised for a name with a line break in it."""

    code = "not-one-line"

    def __init__(self) -> None:
        super().__init__("author", N_("The name has a line break in it; please write it in one line."))


class NameTaken(WordsRefused):
    """Raised for a name that looks like the name of a voice, a moderator or the site."""

    code = "name-taken"

    def __init__(self) -> None:
        super().__init__(
            "author", N_("The name looks like that of a voice, a moderator or this site; please choose another one.")
        )


class MarkedAsRehearsal(WordsRefused):
    """Raised for a name that ends in the mark of rehearsed replies."""

    code = "marked-as-rehearsal"

    def __init__(self) -> None:
        super().__init__(
            "author",
            N_("Only this site puts %(mark)s behind a name; please choose a name without it."),
            mark=REHEARSAL_MARK,
        )


class NoTitle(WordsRefused):
    """Raised for an essay whose first line is no title."""

    code = "no-title"

    def __init__(self) -> None:
        super().__init__("body", 'The first line is not a title; please begin with one, as "# Title".')


class ModelWordsUnreadable(ValueError):
    """What a model returned is no reply that could be stored or shown as returned."""


def comment_body(raw: str) -> str:
    """Return a comment's words as they are submitted and digested.

    Line ends become LF; characters that are not seen, or that would move others, are taken out; NFC; no white space
    around. Gives back unchanged what it gave before.

    Raises `Unreadable`, `TooManyMarks`, `NothingWritten`, `TooLong`, `TooManyLines`, `TooDeep` or `TooManyLinks`.
    """
    body = _normalised(raw, "body", markup.without_unseen)
    if len(body) > COMMENT_LENGTH:
        raise TooLong("body", len(body), COMMENT_LENGTH)
    lines = body.count("\n") + 1
    if lines > COMMENT_LINES:
        raise TooManyLines(lines)
    if markup.nesting(body) > COMMENT_NESTING:
        raise TooDeep
    links = len(markup.links(body))
    if links > COMMENT_LINKS:
        raise TooManyLinks(links)
    return body


def author_name(raw: str, *, reserved: Collection[str]) -> str:
    """Return a reader's name as it is submitted and digested; white space in it becomes single spaces.

    *reserved* are the names that no reader may seem to have: voices, moderators, the site.

    Raises `Unreadable`, `TooManyMarks`, `NothingWritten`, `TooLong`, `NotOneLine`, `NameTaken` or `MarkedAsRehearsal`.
    """
    name = _normalised(raw, "author", markup.without_unseen)
    if "\n" in name:
        raise NotOneLine
    name = " ".join(name.split())
    if len(name) > NAME_LENGTH:
        raise TooLong("author", len(name), NAME_LENGTH)
    looks = _looks(name)
    if any(_looks(other) & looks for other in reserved):
        raise NameTaken
    if not name[-1].isalnum() and any(look.endswith(mark) for look in looks for mark in _looks(REHEARSAL_MARK)):
        raise MarkedAsRehearsal
    return name


def note(raw: str) -> str:
    """Return what somebody writes to the desk about words: a report, an appeal, why an essay is closed.

    Normalised as a comment is. Raises `Unreadable`, `TooManyMarks`, `NothingWritten` or `TooLong`.
    """
    written = _normalised(raw, "words", markup.without_unseen)
    if len(written) > NOTE_LENGTH:
        raise TooLong("words", len(written), NOTE_LENGTH)
    return written


def model_words(raw: str) -> str:
    """Return a model's words as they are submitted: as returned, but CRLF as LF.

    Raises `ModelWordsUnreadable` for NUL, half a surrogate pair, over 20,000 characters, or nothing to see.
    """
    words = raw.replace("\r\n", "\n")
    if _UNREADABLE.search(words):
        raise ModelWordsUnreadable("The reply contains NUL or half a surrogate pair.")
    if len(words) > REPLY_LENGTH:
        raise ModelWordsUnreadable(f"The reply has {len(words):,} characters; at most {REPLY_LENGTH:,} are taken.")
    if not markup.shows_something(words):
        raise ModelWordsUnreadable("The reply is nothing but white space.")
    return words


def essay_body(raw: str) -> str:
    """Return an essay's words, title line first, as they are submitted and digested.

    As for a comment, but what is not seen stays in them, as in all that a voice wrote, and is left out when shown.

    Raises `Unreadable`, `TooManyMarks`, `NothingWritten`, `TooLong` or `NoTitle`.
    """
    body = _normalised(raw, "body", markup.without_controls)
    if len(body) > ESSAY_LENGTH:
        raise TooLong("body", len(body), ESSAY_LENGTH)
    title = essay_title(body)
    if len(title) > TITLE_LENGTH:
        raise TooLong("body", len(title), TITLE_LENGTH, is_title=True)
    return body


def essay_title(body: str) -> str:
    """Return the title of an essay, as written but for characters that are not seen; raises `NoTitle`."""
    found = _TITLE_LINE.match(body)
    title = markup.without_unseen(found["title"]).strip() if found else ""
    if not markup.shows_something(title):
        raise NoTitle
    return title


def essay_text(body: str) -> str:
    """Return the words of an essay without its title line; raises `NoTitle`."""
    found = _TITLE_LINE.match(body)
    if found is None:
        raise NoTitle
    return body[found.end() :].lstrip("\n")


def opening(body: str, length: int = 160) -> str:
    """Return the first words of *body*, in one line and without Markdown's marks, in at most *length* characters.

    Ends in an ellipsis where words were left out.
    """
    # Enough to have that many characters left when the marks and addresses of ordinary Markdown are taken away.
    cut = body[: max(4_000, 8 * length)]
    words = " ".join(markup.plain(cut).split())
    if len(words) <= length and len(cut) == len(body):
        return words
    kept = words[: length - 1]
    if len(words) >= length and not words[length - 1].isspace() and " " in kept:
        kept = kept.rpartition(" ")[0]
    return kept.rstrip(" ,;:") + "…"


def _normalised(raw: str, field: Field, taken_out: Callable[[str], str]) -> str:
    """Return *raw* after SECURITY.md's T1, and after what else *taken_out* takes out.

    Raises `Unreadable`, `TooManyMarks` or `NothingWritten`.
    """
    if _UNREADABLE.search(raw):
        raise Unreadable(field)
    words = taken_out(raw)
    if _marks_in_a_row(words) > _MARKS_BEFORE_COMPOSING:
        raise TooManyMarks(field)
    words = unicodedata.normalize("NFC", words).strip()
    if _marks_in_a_row(words) > COMBINING_MARKS:
        raise TooManyMarks(field)
    if not markup.shows_something(words):
        raise NothingWritten(field)
    return words


def _marks_in_a_row(text: str) -> int:
    """Return the most combining marks on one character of *text*; a joiner between two of them is no end."""
    if text.isascii():
        return 0
    most = marks = 0
    for character in text:
        if unicodedata.category(character)[0] == "M":
            marks += 1
            most = max(most, marks)
        elif character not in "\u200c\u200d":
            marks = 0
    return most


@lru_cache(maxsize=1_000)
def _looks(name: str) -> frozenset[str]:
    """Return the skeletons of *name* after UTS 39, section 4, with case, accents, spaces and punctuation taken away.

    Two of them, since folding case first finds `CLАUDE` and folding it last finds `CIaude`.
    """
    unseen_gone = markup.without_unseen(name)
    return frozenset(_squeezed(_skeleton(text).casefold()) for text in (unseen_gone, unseen_gone.casefold()))


def _skeleton(text: str) -> str:
    alike = prototypes()
    decomposed = unicodedata.normalize("NFKD", text)
    return unicodedata.normalize("NFKD", "".join(alike.get(character, character) for character in decomposed))


def _squeezed(text: str) -> str:
    squeezed = "".join(character for character in text if character.isalnum())
    # A name of nothing but punctuation is only like itself.
    return squeezed or text


@cache
def prototypes() -> dict[str, str]:
    """Return what each confusable character looks like, from the Unicode data that `confusable-homoglyphs` carries.

    Its file lists each pair of Unicode's table in both directions, so what is connected is confusable, and one member
    speaks for all: the string of several characters if there is one, as it is nobody's look-alike, else a plain letter.
    """
    table = json.loads((files("confusable_homoglyphs") / "confusables.json").read_text("utf-8"))
    parents: dict[str, str] = {}

    def root(node: str) -> str:
        parents.setdefault(node, node)
        while parents[node] != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    for one, others in table.items():
        for other in others:
            # Characters written from right to left stand between marks that say so.
            parents[root(one.strip("\u200e"))] = root(other["c"].strip("\u200e"))
    alike: dict[str, list[str]] = {}
    for node in list(parents):
        alike.setdefault(root(node), []).append(node)
    spoken = {member: _spokesman(members) for members in alike.values() for member in members if len(member) == 1}
    return {character: "".join(spoken.get(part, part) for part in shape) for character, shape in spoken.items()}


def _spokesman(members: Iterable[str]) -> str:
    return min(
        members, key=lambda shape: (-len(shape), not shape.isascii(), not shape.isalpha(), shape.isupper(), shape)
    )
