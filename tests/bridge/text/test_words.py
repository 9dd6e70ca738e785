"""The door for words: one text, one digest; what is refused, and how that is said (SECURITY.md, section 1)."""

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.text import words

EXAMPLES = settings(derandomize=True, deadline=None, max_examples=200)
HOUSE = ["Claude", "Claude Opus 3", "Emeritus", "Maria Mod", "0pen House", "Клод"]

any_text = st.text(
    st.one_of(
        st.characters(codec="utf-8", exclude_characters="\x00"),
        st.sampled_from(
            "a \n\r\té\u0301\u0323\u200b\u200c\u200d\ufe0f\u202e\u2028\U000e0041❤🚀=\u0338\u1100\u1161\u212b*_[]()<>#`-"
        ),
    ),
    max_size=60,
)


def taken(door: str, raw: str) -> str | None:
    """Return what *door* makes of *raw*, or None if it refuses."""
    try:
        if door == "name":
            return words.author_name(raw, reserved=HOUSE)
        return words.comment_body(raw) if door == "comment" else words.essay_body(raw)
    except words.WordsRefused:
        return None


# --- T1: normalise, count, digest -------------------------------------------------------------------------------------


@EXAMPLES
@given(st.sampled_from(["comment", "essay", "name"]), any_text, st.booleans())
def test_gives_back_unchanged_what_it_gave_before(door: str, raw: str, titled: bool) -> None:
    once = taken(door, "# Title\n" + raw if titled and door == "essay" else raw)
    assert once is None or taken(door, once) == once


@EXAMPLES
@given(any_text)
def test_takes_the_same_words_from_a_form_and_from_the_api(raw: str) -> None:
    lines = raw.replace("\r\n", "\n").replace("\r", "\n")
    by_form = lines.replace("\n", "\r\n")
    by_api: str = json.loads(json.dumps(lines))
    assert taken("comment", by_form) == taken("comment", by_api)


@EXAMPLES
@given(any_text)
def test_takes_composed_and_decomposed_letters_as_one_text(raw: str) -> None:
    assert taken("comment", unicodedata.normalize("NFD", raw)) == taken("comment", unicodedata.normalize("NFC", raw))


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        ("a\r\nb\rc\nd", "a\nb\nc\nd"),
        ("\n  a  \n\n", "a"),
        ("a\tb", "a\tb"),
        ("a\x01\x0b\x1b\x7f\x80\x9fb", "ab"),
        ("a\u2028b\u2029c", "abc"),
        ("e\u0301", "é"),
        ("a\u202eb\u202c\u2066c\u2069", "abc"),
        ("a\u200bb\U000e0041\U000e01efc", "abc"),
        ("👩\u200d🚀", "👩\u200d🚀"),
        ("a\ufffeb", "ab"),
    ],
)
def test_normalises_a_comment(raw: str, body: str) -> None:
    assert words.comment_body(raw) == body


@pytest.mark.parametrize("raw", ["a\x00b", "a\ud800", "\udfff\ud800", json.loads('"\\ud800"'), json.loads('"\\u0000"')])
def test_refuses_nul_and_lone_surrogates(raw: str) -> None:
    for door in (words.comment_body, words.essay_body):
        with pytest.raises(words.Unreadable) as refused:
            door("# Title\n" + raw)
        assert refused.value.field == "body"
    with pytest.raises(words.Unreadable) as refused:
        words.author_name(raw, reserved=HOUSE)
    assert refused.value.field == "author"


@pytest.mark.parametrize(
    "raw", ["", " \r\n\t ", "\u200b\u200d", "\u3164", "\u2800\u2800", "\x01", "\U000e0041", "\u2028"]
)
def test_refuses_words_that_leave_nothing_to_see(raw: str) -> None:
    with pytest.raises(words.NothingWritten):
        words.comment_body(raw)
    with pytest.raises(words.NothingWritten):
        words.author_name(raw, reserved=HOUSE)


# --- T4 and T6: bounds ------------------------------------------------------------------------------------------------


def test_counts_characters_after_normalising() -> None:
    assert len(words.comment_body("  " + "é" * 5_000 + "\r\n")) == 5_000
    assert len(words.comment_body("e\u0301" * 5_000)) == 5_000
    assert len(words.comment_body("🚀" * 5_000)) == 5_000
    with pytest.raises(words.TooLong) as refused:
        words.comment_body("a" * 5_001)
    assert (refused.value.length, refused.value.limit) == (5_001, 5_000)


def test_bounds_the_lines_of_a_comment() -> None:
    assert words.comment_body("a\r\n" * 200).count("\n") == 199
    with pytest.raises(words.TooManyLines):
        words.comment_body("a\n" * 201)


@pytest.mark.parametrize(
    "link", ["[a](http://h.example)\n", "<http://h.example> ", "http://h.example ", "<a@h.example> "]
)
def test_bounds_the_links_of_a_comment(link: str) -> None:
    assert words.comment_body(link * 20)
    with pytest.raises(words.TooManyLinks):
        words.comment_body(link * 21)


def test_bounds_the_nesting_of_a_comment() -> None:
    for nest in ("- " * 6, "> " * 12, "> > 1. - > > > > > > "):
        assert words.comment_body(nest + "a")
    for nest in ("- " * 7, "> " * 13, "> " * 20, "- " * 10, "> " * 2_000, "1. " * 100, "- > " * 5):
        with pytest.raises(words.TooDeep):
            words.comment_body(nest + "a")
    for flat in ("- " * 50, "* " * 50, "```\n" + "> " * 50 + "\n```", "*" * 99 + "a" + "*" * 99):
        assert words.comment_body(flat)


def test_bounds_the_combining_marks_in_a_row() -> None:
    above, below = "\u0353", "\u035a"
    assert words.comment_body("a" + above * 8 + "b" + above * 8)
    # Composing takes one of them into the letter.
    assert words.comment_body("e\u0301" + above * 8)
    for flood in (
        above * 9,
        (above + below) * 5,
        "\u0e49" * 9,
        "\u20dd" * 9,
        (above + "\u200d") * 9,
        (above + below) * 2_000,
    ):
        with pytest.raises(words.TooManyMarks):
            words.comment_body("a" + flood)
        with pytest.raises(words.TooManyMarks):
            words.author_name("a" + flood[:60], reserved=HOUSE)
    assert words.comment_body("ဦးသန့်ကြွေး བརྒྱུད་ བསྒྲུབས")


# --- T5: names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("Ada", "Ada"),
        ("  Ada \t Lovelace\u00a0 ", "Ada Lovelace"),
        ("O'Brien-Łukasz 3", "O'Brien-Łukasz 3"),
        ("Claudia", "Claudia"),
        ("Сергей", "Сергей"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("Ada\u202e", "Ada"),
        ("Dress rehearsal", "Dress rehearsal"),
        ("...", "..."),
        ("a" * 80, "a" * 80),
    ],
)
def test_takes_a_name_as_one_line(raw: str, name: str) -> None:
    assert words.author_name(raw, reserved=HOUSE) == name


def test_refuses_a_name_of_two_lines_or_of_81_characters() -> None:
    for raw in ("Ada\nLovelace", "Ada\r\nLovelace", "Ada\rLovelace"):
        with pytest.raises(words.NotOneLine):
            words.author_name(raw, reserved=HOUSE)
    with pytest.raises(words.TooLong):
        words.author_name("a" * 81, reserved=HOUSE)


@pytest.mark.parametrize(
    "name",
    [
        "Claude",
        "Сlaude",
        "claude",
        "CLAUDE",
        "CLАUDE",
        "CIaude",
        "C1aude",
        "C|aude",
        "Ⅽⅼаuⅾе",
        "Ｃｌａｕｄｅ",
        "𝐂𝐥𝐚𝐮𝐝𝐞",
        "C l a u d e",
        "Claude.",
        "«Claude»",
        "Cláude",
        "C\u200dlaude",
        "Clau\u00adde",
        "Cl\u2800aude",
        "Claude 0pus 3",
        "claude-opus-3",
        "Claude Opus З",
        "Еmeritus",
        "Ernеritus",
        "Mаria Mod",
        "Open House",
        "KЛOД",
    ],
)
def test_refuses_a_name_that_looks_like_the_houses(name: str) -> None:
    with pytest.raises(words.NameTaken):
        words.author_name(name, reserved=HOUSE)


def test_refuses_a_name_of_punctuation_only_where_it_is_the_same() -> None:
    assert words.author_name("...", reserved=["!!!"]) == "..."
    with pytest.raises(words.NameTaken):
        words.author_name("!!!", reserved=["!!!"])


@pytest.mark.parametrize(
    "name", ["Ada (rehearsal)", "Ada (REHEARSAL) ", "Ada (rehearsаl)", "Ada （rehearsal）", "Ada [rehearsal]"]
)
def test_refuses_a_name_with_the_mark_of_a_rehearsal(name: str) -> None:
    with pytest.raises(words.MarkedAsRehearsal):
        words.author_name(name, reserved=HOUSE)


@EXAMPLES
@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30))
def test_refuses_each_name_when_it_is_taken(raw: str) -> None:
    name = taken("name", raw)
    if name is not None:
        with pytest.raises(words.NameTaken):
            words.author_name(raw, reserved=[name])


# --- What is said -----------------------------------------------------------------------------------------------------


def refusals() -> dict[str, words.WordsRefused]:
    """Return one of each class of refusal, by what raised it."""
    found: dict[str, words.WordsRefused] = {}
    bodies = ["s3cret\x00", "\u200b", "s3cret" * 900, "s3cret\n" * 201, "<http://s3cret> " * 21, "> " * 13 + "s3cret"]
    for raw in [*bodies, "s3cret" + "\u0353" * 9]:
        with pytest.raises(words.WordsRefused) as refused:
            words.comment_body(raw)
        found[type(refused.value).__name__] = refused.value
    for raw in ("s3cret\nname", "S3cret", "s3cret (rehearsal)"):
        with pytest.raises(words.WordsRefused) as refused:
            words.author_name(raw, reserved=["s3cret"])
        found[type(refused.value).__name__] = refused.value
    with pytest.raises(words.WordsRefused) as refused:
        words.essay_body("s3cret")
    found[type(refused.value).__name__] = refused.value
    return found


def test_says_in_one_sentence_what_is_wrong_and_never_the_words() -> None:
    found = refusals()
    assert set(found) == {refusal.__name__ for refusal in words.WordsRefused.__subclasses__()}
    assert len({refusal.code for refusal in found.values()}) == len(found)
    for refusal in found.values():
        said = str(refusal)
        assert said[0].isupper()
        assert said.endswith(".")
        assert ". " not in said
        assert "please" in said
        assert "3cret" not in said
        assert refusal.field in {"body", "author"}
        assert refusal.code == refusal.code.lower().replace(" ", "-")


# --- The model's words, essays, openings ------------------------------------------------------------------------------


def test_takes_the_models_words_as_returned() -> None:
    returned = "  e\u0301\u200b\u202e\x01\rb\n\n" + "> " * 30 + "\u0353" * 20 + " "
    assert words.model_words(returned) == returned
    assert words.model_words("a\r\nb") == "a\nb"
    assert len(words.model_words("a\r\n" * 10_000)) == 20_000


@pytest.mark.parametrize("returned", ["", " \n\t", "\u200b", "a\x00", "a\ud83d", "a" * 20_001])
def test_tells_a_reply_that_cannot_be_stored(returned: str) -> None:
    with pytest.raises(words.ModelWordsUnreadable) as unreadable:
        words.model_words(returned)
    assert not isinstance(unreadable.value, words.WordsRefused)


def test_reads_an_essays_title_from_its_first_line() -> None:
    body = words.essay_body("\r\n# On *being* asked #1\r\n\r\n\r\n## One\r\ntext\x01\u200b\r\n")
    assert body == "# On *being* asked #1\n\n\n## One\ntext\u200b"
    assert words.essay_title(body) == "On *being* asked #1"
    assert words.essay_text(body) == "## One\ntext\u200b"
    assert words.essay_text(words.essay_body("# Title")) == ""
    assert words.essay_title("# a\u202eb") == "ab"


@pytest.mark.parametrize(
    "body", ["Title\n\ntext", "## Title", "#Title", "#\ntext", "# \n\ntext", "Title\n===", "text\n# Title", "# \u200b"]
)
def test_refuses_an_essay_without_a_title(body: str) -> None:
    with pytest.raises(words.NoTitle):
        words.essay_body(body)


def test_bounds_an_essay_and_its_title() -> None:
    assert words.essay_body("# " + "a" * 200 + "\n" + "> " * 49_000)
    with pytest.raises(words.TooLong) as refused:
        words.essay_body("# " + "a" * 201)
    assert refused.value.limit == 200
    with pytest.raises(words.TooLong) as refused:
        words.essay_body("# a\n" + "a" * 99_997)
    assert (refused.value.length, refused.value.limit) == (100_001, 100_000)


@pytest.mark.parametrize(
    ("body", "length", "first_words"),
    [
        ("short", 160, "short"),
        ("# A *b*\n\n> c [d](http://h.example)\n\n- `e`", 160, "A b c d e"),
        ("abcd efgh ijkl", 14, "abcd efgh ijkl"),
        ("abcd efgh ijkl", 13, "abcd efgh…"),
        ("abcd efgh ijkl", 10, "abcd efgh…"),
        ("abcd efgh ijkl", 9, "abcd…"),
        ("abcd, efgh", 7, "abcd…"),
        ("abcdefgh", 5, "abcd…"),
        ("a\u202eb", 160, "ab"),
        ("---", 160, ""),
        ("[a](http://h.example/" + "x" * 2_000 + ") b", 160, "a b"),
    ],
)
def test_opens_with_the_first_words(body: str, length: int, first_words: str) -> None:
    assert words.opening(body, length) == first_words


@EXAMPLES
@given(any_text, st.integers(min_value=10, max_value=60))
def test_opens_within_the_length_in_one_line(body: str, length: int) -> None:
    opened = words.opening(body, length)
    assert len(opened) <= length
    assert "\n" not in opened


def test_opens_a_long_body_without_reading_it_all() -> None:
    assert words.opening("word " * 20_000) == "word " * 31 + "word…"
    assert len(words.opening("a\n\n" * 30_000)) <= 160
