"""Listed words: matched as they look, whole, and in scripts without spaces anywhere."""

import sys
from collections.abc import Callable
from itertools import pairwise

import pytest

from bridge.db import Database
from bridge.signal import listed
from bridge.signal.listed import Listed
from moderation import moderators
from moderation.types import ModeratorId

LIST = Listed(["viagra", "free money", "casino", "赌场", "カジノ", "bum", "loo", "Straße", "cafe", "сало"])


def found(text: str) -> list[str]:
    return [each.word for each in LIST.matches(text)]


@pytest.mark.parametrize(
    ("text", "disguised"),
    [
        ("Buy VIAGRA now", False),
        ("viagra!", False),
        ("_viagra_", False),
        ("v\u0456\u0430gr\u0430", True),  # Cyrillic.
        ("V\u0406\u0410GR\u0410", True),  # Cyrillic capitals.
        ("\uff56\uff49\uff41\uff47\uff52\uff41", True),  # Full-width.
        ("\U0001d42f\U0001d422\U0001d41a\U0001d420\U0001d42b\U0001d41a", True),  # Mathematical bold.
        ("vi\u200bagra", False),  # A zero-width space.
        ("vi\u200c\u200dagra", False),  # Joiners.
        ("vi\u00adagra", False),  # A soft hyphen.
        ("vi\u0301agr\u0308a", False),  # Combining marks.
        ("v\u20dai\u20daagra", False),  # Enclosing ones.
        ("viagr\u03b1", True),  # Greek.
    ],
)
def test_finds_a_word_in_whatever_letters_look_like_it(text: str, disguised: bool) -> None:
    [match] = LIST.matches(text)
    assert (match.word, match.disguised) == ("viagra", disguised)


def test_finds_a_capital_in_the_place_of_a_small_letter() -> None:
    assert [each.word for each in Listed(["hello"]).matches("heIlo HELLO")] == ["hello"]


@pytest.mark.parametrize(
    "text", ["viagras", "aviagra", "via gra", "burn the loom", "100 of them", "cost 100", "саломея"]
)
def test_finds_no_part_of_a_word_and_no_number(text: str) -> None:
    assert found(text) == []


def test_finds_phrases_across_marks_and_lines() -> None:
    assert found("FREE,\n money") == ["free money"]
    assert found("free good money") == []


def test_finds_words_of_scripts_without_spaces_anywhere() -> None:
    assert found("网上赌场好") == ["赌场"]
    assert found("オンラインカジノへ") == ["カジノ"]
    assert found("ｵﾝﾗｲﾝｶｼﾞﾉ") == ["カジノ"]
    assert found("赌 场") == []


def test_leaves_accents_and_case_to_their_writers() -> None:
    assert found("STRASSE, CAFÉ") == ["cafe", "Straße"] or found("STRASSE, CAFÉ") == ["Straße", "cafe"]
    assert found("Сало") == ["сало"]


def test_finds_a_word_with_the_joiners_of_its_script_or_without() -> None:
    assert (
        len(
            Listed(["\u0645\u06cc\u062e\u0648\u0627\u0647\u0645"]).matches(
                "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
            )
        )
        == 1
    )


def test_says_how_it_is_written() -> None:
    [match] = LIST.matches("the c\u0430sino")
    assert match.written == "c\u0430sino"


@pytest.fixture
def admin(database: Database) -> ModeratorId:
    with database.sessions.begin() as session:
        return moderators.add(session, "Ada", "admin")


def test_lists_a_word_once_however_it_is_spelled(database: Database, admin: ModeratorId) -> None:
    with database.sessions.begin() as session:
        assert listed.add(session, "  Free   Money ", moderator=admin).word == "Free Money"
    with pytest.raises(listed.AlreadyListed, match="Free Money"), database.sessions.begin() as session:
        listed.add(session, "fr\u0435\u0435 m\u043eney", moderator=admin)
    with database.reading_sessions() as session:
        [entry] = listed.entries(session)
    assert (entry.row.word, entry.moderator.name, entry.anywhere) == ("Free Money", "Ada", False)


def test_takes_a_word_off_and_nothing_the_second_time(database: Database, admin: ModeratorId) -> None:
    with database.sessions.begin() as session:
        row = listed.add(session, "casino", moderator=admin)
    for _ in range(2):
        with database.sessions.begin() as session:
            listed.remove(session, row.id)
    with database.reading_sessions() as session:
        assert listed.entries(session) == []


@pytest.mark.parametrize(
    ("written", "refusal"),
    [
        ("", listed.NothingToMatch),
        ("--- !", listed.NothingToMatch),
        ("\u200b", listed.NothingToMatch),
        ("\u0301", listed.NothingToMatch),
        ("a" * 81, listed.WordTooLong),
        ("a b c d e f g h i", listed.WordTooLong),
        ("\ufdfa" * 80, listed.WordTooLong),
    ],
)
def test_refuses_what_cannot_be_matched(
    database: Database, admin: ModeratorId, written: str, refusal: type[listed.WordRefused]
) -> None:
    with pytest.raises(refusal), database.sessions.begin() as session:
        listed.add(session, written, moderator=admin)


def test_ends_the_list_where_reading_it_would_take_long(
    database: Database, admin: ModeratorId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listed, "AT_MOST", 1)
    with database.sessions.begin() as session:
        listed.add(session, "casino", moderator=admin)
        with pytest.raises(listed.ListFull):
            listed.add(session, "viagra", moderator=admin)


def steps(act: Callable[[], object]) -> int:
    """Return how many bytecode instructions *act* takes, in our own code."""
    counted = 0

    def trace(frame: object, event: str, _: object) -> object:
        nonlocal counted
        frame.f_trace_opcodes = True  # type: ignore[attr-defined]
        counted += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        act()
    finally:
        sys.settrace(before)
    return counted


@pytest.mark.parametrize("text", ["a " * 2500, "v\u0456agra " * 714, "free " * 1000, "a" * 5000])
def test_takes_time_in_proportion_to_the_text(text: str) -> None:
    LIST.matches(text)
    taken = [steps(lambda length=length: LIST.matches(text[:length])) for length in (1250, 2500, 5000)]  # type: ignore[misc]
    assert all(after <= 2.2 * before + 500 for before, after in pairwise(taken)), taken
