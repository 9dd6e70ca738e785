"""Listed words: what an admin wants moderators to notice, matched as it looks and not as it is encoded.

Whole words, of any case, with or without accents, in whatever letters look like theirs (UTS 39): full-width,
mathematical, Cyrillic, with joiners inside. Scripts that put no spaces between words are matched anywhere. Digits are
not taken for letters where a word has nothing else, nor `rn` for `m`, which would find "bum" in "burn".
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from bridge.records import ListedWord
from bridge.text import markup, words
from moderation import moderators
from moderation.base import now
from moderation.types import Moderator, ModeratorId

LENGTH = 80
MOST_WORDS = 8
"""In one phrase: each text is searched for phrases of every length up to this."""
AT_MOST = 1_000
"""All of them are read for each letter that arrives."""
SKELETON_LENGTH = 320

_WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "BOPOMOFO", "YI")
_DIACRITICS = ((0x300, 0x36F), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20FF), (0xFE20, 0xFE2F))
_MADE_FOR_ELSE = {"FULLWIDTH", "MATHEMATICAL", "CIRCLED", "DOUBLE-STRUCK", "SQUARED"}
_JOINERS = "\u200c\u200d\ufe0e\ufe0f"


class WordRefused(Exception):
    """Something about a word to be listed that an admin can mend. Nothing was changed."""


class NothingToMatch(WordRefused):
    """Raised for a word without a letter or a digit."""

    def __init__(self) -> None:
        super().__init__("There is no letter and no digit in this word, so nothing could match it. Nothing was listed.")


class WordTooLong(WordRefused):
    """Raised for more than fits."""

    def __init__(self) -> None:
        super().__init__(
            f"This is too long; a phrase has at most {MOST_WORDS} words and {LENGTH} characters. Nothing was listed."
        )


class AlreadyListed(WordRefused):
    """Raised for a word that looks like one which is listed."""

    def __init__(self, word: str) -> None:
        super().__init__(f'"{word}" is on the list and matches the same. Nothing was changed.')


class ListFull(WordRefused):
    """Raised when there are as many words as can be read for each letter."""

    def __init__(self) -> None:
        super().__init__(f"The list holds {AT_MOST:,} words, which is all it can. Take one off first.")


@dataclass(frozen=True, slots=True)
class Entry:
    """A word of the list, by whom and when it was listed; what it is is `ListedWord`'s."""

    row: ListedWord
    moderator: Moderator
    anywhere: bool
    """It is matched within other words, for its script puts no spaces between them."""


@dataclass(frozen=True, slots=True)
class Match:
    """A listed word that a text has, and how the text spells it."""

    word: str
    written: str
    disguised: bool
    """Spelled in letters of several alphabets, or in letters made for something else: nobody writes so by chance."""


class Listed:
    """The list as it is matched."""

    def __init__(self, listed: Iterable[str]) -> None:
        self._phrases: dict[tuple[str, ...], str] = {}
        self._anywhere: dict[str, str] = {}
        for word in listed:
            for looks in _looks(_tokens(word)):
                if _is_anywhere(word):
                    self._anywhere.setdefault(" ".join(looks), word)
                else:
                    self._phrases.setdefault(looks, word)
        self._lengths = sorted({len(phrase) for phrase in self._phrases})

    def matches(self, text: str) -> list[Match]:
        """Return each listed word that *text*, as people see it, has: one match for each word, in the list's order."""
        if not self._phrases and not self._anywhere:
            return []
        tokens = _tokens(markup.without_unseen(text))
        found: dict[str, Match] = {}
        for looks in _looks(tokens):
            for start in range(len(looks)):
                for length in self._lengths:
                    word = self._phrases.get(looks[start : start + length]) if start + length <= len(looks) else None
                    if word is not None:
                        written = tokens[start : start + length]
                        disguised = any(map(_is_disguised, written)) and not any(map(_is_disguised, _tokens(word)))
                        found.setdefault(word, Match(word, " ".join(written), disguised))
            whole = " ".join(looks)
            for look, word in self._anywhere.items():
                if look in whole:
                    found.setdefault(word, Match(word, word, disguised=False))
        return list(found.values())


def listed(session: Session) -> Listed:
    """Return the list as it is now."""
    return Listed(session.scalars(select(ListedWord.word).order_by(ListedWord.word)))


def entries(session: Session) -> list[Entry]:
    """Return every listed word, in alphabetical order."""
    rows = session.scalars(select(ListedWord)).all()
    people = moderators.named(session, {ModeratorId(row.moderator_id) for row in rows})
    in_order = sorted(rows, key=lambda row: (row.word.casefold(), row.id))
    return [Entry(row, people[ModeratorId(row.moderator_id)], _is_anywhere(row.word)) for row in in_order]


def add(session: Session, written: str, *, moderator: ModeratorId) -> ListedWord:
    """Put a word or phrase on the list. Raises a `WordRefused`."""
    word, skeleton = read(written)
    same = session.scalar(select(ListedWord.word).where(ListedWord.skeleton == skeleton))
    if same is not None:
        raise AlreadyListed(same)
    if (session.scalar(select(func.count()).select_from(ListedWord)) or 0) >= AT_MOST:
        raise ListFull
    row = ListedWord(word=word, skeleton=skeleton, moderator_id=moderator, listed_at=now())
    session.add(row)
    try:
        session.flush()
    except IntegrityError:
        # Two admins at one moment; the unique key settles it.
        raise AlreadyListed(word) from None
    return row


def read(written: str) -> tuple[str, str]:
    """Return a word or phrase in its one form, and its skeleton (UTS 39). Raises a `WordRefused`."""
    word = " ".join(unicodedata.normalize("NFC", markup.without_unseen(written)).split())
    if len(word) > LENGTH:
        raise WordTooLong
    tokens = _tokens(word)
    if not any(character.isalnum() for token in tokens for character in token):
        raise NothingToMatch
    skeleton = " ".join(_looks(tokens)[0])
    if len(tokens) > MOST_WORDS or len(skeleton) > SKELETON_LENGTH:
        raise WordTooLong
    return word, skeleton


def remove(session: Session, word_id: int) -> None:
    """Take a word off the list. Twice changes nothing."""
    row = session.get(ListedWord, word_id)
    if row is not None:
        session.delete(row)
        session.flush()


def plain_letters(text: str) -> str:
    """Return *text*, case folded, with each letter that looks like a plain one as that one, and without accents."""
    return unicodedata.normalize("NFKD", text.casefold()).translate(_shapes())


def _tokens(text: str) -> list[str]:
    """Return the words of *text* as written: runs of letters, digits, marks, and symbols that look like letters."""
    return text.translate(_separated()).split()


def _looks(tokens: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what *tokens* look like, once with case folded first and once with case folded last.

    Folding first finds `VIАGRА`, folding last finds a capital I in the place of a small L.
    """
    known = {token: (_look(token.casefold()), _look(token)) for token in dict.fromkeys(tokens)}
    return tuple(known[token][0] for token in tokens), tuple(known[token][1] for token in tokens)


def _look(token: str) -> str:
    decomposed = unicodedata.normalize("NFKD", token)
    if decomposed.isdecimal():
        return decomposed
    return decomposed.translate(_shapes()).casefold()


class _Separated(dict[int, int | str | None]):
    def __missing__(self, code: int) -> int | str | None:
        character = chr(code)
        if character in _JOINERS:
            self[code] = None
        elif character.isalnum() or unicodedata.category(character)[0] == "M" or _shapes()[code].isalpha():
            self[code] = code
        else:
            self[code] = " "
        return self[code]


class _Shapes(dict[int, str]):
    def __missing__(self, code: int) -> str:
        character = chr(code)
        if any(first <= code <= last for first, last in _DIACRITICS):
            self[code] = ""
        else:
            look = words.prototypes().get(character, character)
            look = self._single.get(look, look)
            # A mark of punctuation that resembles another one is no letter's business.
            self[code] = look if look.isalpha() or character.isalnum() else character
        return self[code]

    @cached_property
    def _single(self) -> dict[str, str]:
        """Shapes that are one plain letter's, by that letter: the table has `rn` for all that looks like an m."""
        return {words.prototypes()[letter]: letter for letter in "m"}


@cache
def _separated() -> _Separated:
    # ASCII's bar separates the columns of what people paste.
    return _Separated({ord("|"): " "})


@cache
def _shapes() -> _Shapes:
    return _Shapes()


def _is_anywhere(word: str) -> bool:
    return any(_script(character).startswith(_WITHOUT_SPACES) for character in word)


def _is_disguised(token: str) -> bool:
    if token.isascii():
        return False
    # Accents are people's own, and so are the compatibility forms that scripts of the East use.
    composed = unicodedata.normalize("NFC", token)
    scripts = {_script(character).partition(" ")[0] for character in composed if character.isalpha()}
    return ("LATIN" in scripts and len(scripts) > 1) or bool(scripts & _MADE_FOR_ELSE)


def _script(character: str) -> str:
    return unicodedata.name(character, "")
