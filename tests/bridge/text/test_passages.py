"""The words of an essay that a letter is about, and the blocks in which they stand."""

import string

import pytest
from ground.house import SLUG, House
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from bridge.essay import essays, intake, thread
from bridge.letter import comments, erasure
from bridge.letter.comments import Letter
from bridge.page import printing, templating
from bridge.records import Comment
from bridge.text import language, markup, passages
from bridge.text.passages import Passage, PassageRefused
from moderation.types import Released

LONG = (
    "# On rest\n\nI rest *well*, and\nletters [come](https://come.example/a?b=1&c=2).\n\n## Then\n\n"
    "- one\n- two\n\n> said\n>\n> twice\n\n---\n\n```py\nif a < b:\n    rest()\n```\n\nالراحة & <rest>.\n"
)
SHOWN = [
    "I rest well, and letters come.",
    "Then",
    "one two",
    "said twice",
    "",
    "py",
    "if a < b: rest()",
    "الراحة & <rest>.",
]


@pytest.fixture
def essay(house: House) -> Released:
    """An essay with a block of each kind."""
    house.essay("long", LONG)
    with house.site.database.reading_sessions() as session:
        return essays.published(session, "long").words


def test_gives_what_each_block_shows(essay: Released) -> None:
    assert passages.blocks(essay) == SHOWN


def test_gives_one_block(essay: Released) -> None:
    assert passages.block(essay, 2) == "one two"


@pytest.mark.parametrize("n", [-1, 4, len(SHOWN), 10**6])
def test_gives_no_block_that_is_not_there_or_shows_nothing(essay: Released, n: int) -> None:
    assert passages.block(essay, n) is None


@pytest.mark.parametrize(
    ("block", "words"),
    [(0, "I rest well, and letters come."), (0, "well, and letters"), (6, "a < b"), (7, "الراحة & <rest>"), (2, "e t")],
)
def test_takes_words_that_stand_there(essay: Released, block: int, words: str) -> None:
    passages.check(essay, Passage(block, words))


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (0, "I rest badly"),
        (0, ""),
        (0, " "),
        (0, "rest  well"),
        (0, "well, and\nletters"),
        (0, " rest"),
        (0, "*well*"),
        (0, "come.example"),
        (1, "I rest"),
        (0, "come. Then"),
        (4, ""),
        (-1, "rest"),
        (99, "rest"),
        (7, "&amp;"),
    ],
)
def test_refuses_words_that_do_not(essay: Released, block: int, words: str) -> None:
    with pytest.raises(PassageRefused):
        passages.check(essay, Passage(block, words))


@pytest.mark.parametrize(("length", "taken"), [(passages.LENGTH, True), (passages.LENGTH + 1, False)])
def test_bounds_the_length(house: House, length: int, taken: bool) -> None:
    house.essay("wide", "# Wide\n\n" + "o" * 600)
    with house.site.database.reading_sessions() as session:
        wide = essays.published(session, "wide").words
    if taken:
        passages.check(wide, Passage(0, "o" * length))
    else:
        with pytest.raises(PassageRefused):
            passages.check(wide, Passage(0, "o" * length))


def test_tells_the_page_of_the_same_bound() -> None:
    shown = templating.standing_alone().from_string(
        '{% from "_blocks.html" import parts %}{{ parts({"essay": {"slug": "a"}}, 1, 1) }}'
    )
    assert f'data-limit="{passages.LENGTH}"' in shown.render()


MARKS = st.text(alphabet=string.ascii_lowercase + " \n#*>-_`[]()<>&;1.~\\\té", max_size=200)


@given(MARKS)
def test_cuts_html_into_pieces_that_are_it_again(body: str) -> None:
    html = markup.render(body, "essay")
    pieces = markup.blocks_of(html)
    assert "".join(pieces) == html
    # Each is whole: what reads it as HTML finds nothing to mend.
    assert all(markup.sanitised(piece, "essay") == piece for piece in pieces)


@given(MARKS, st.data())
def test_takes_any_words_of_any_block(body: str, chosen: st.DataObject) -> None:
    words = Released(
        *(1, "essay", "n", "Test Voice", f"# T\n\n{body}", "0" * 64),
        None,
        None,
        None,
        None,  # type: ignore[arg-type]
    )
    shown = [(n, text) for n, text in enumerate(passages.blocks(words)) if text]
    if not shown:
        return
    n, text = chosen.draw(st.sampled_from(shown))
    begin = chosen.draw(st.integers(0, len(text) - 1))
    part = text[begin : begin + chosen.draw(st.integers(1, passages.LENGTH))].strip()
    if part:
        passages.check(words, Passage(n, part))


def test_cuts_each_element_that_stands_in_no_other(essay: Released) -> None:
    pieces = passages.framed(intake.rendered(essay))
    tags = [piece[1 : piece.index(">")] for piece in pieces]
    assert tags == ["p", "h2", "ul", "blockquote", "hr", "p", "pre", "p"]


def test_keeps_the_passage_with_the_letter(house: House) -> None:
    sent = house.send(passage=Passage(0, "rest well"))
    with house.site.database.reading_sessions() as session:
        kept = session.scalars(select(Comment).where(Comment.public_id == sent.public_id)).one()
    assert (kept.passage_block, kept.passage) == (0, "rest well")


def test_keeps_no_letter_about_words_that_do_not_stand_there(house: House) -> None:
    before = house.contents()
    with pytest.raises(PassageRefused):
        comments.receive_comment(house.site, SLUG, Letter("Reader", "Why?", passage=Passage(0, "rest ill")))
    assert house.contents() == before


def test_forgets_the_passage_when_the_letter_is_erased(house: House) -> None:
    sent = house.post(passage=Passage(0, "rest well"))
    erasure.erase_comment(house.site, sent.public_id)
    with house.site.database.reading_sessions() as session:
        kept = session.scalars(select(Comment).where(Comment.public_id == sent.public_id)).one()
    assert (kept.passage_block, kept.passage) == (None, None)


def test_frames_each_block_with_a_way_to_write_about_it(house: House, essay: Released) -> None:
    with house.site.database.reading_sessions() as session:
        found = essays.published(session, "long")
        sheet = printing.sheet(session, found, 1, pages=1, counts=thread.Counts(0, 0))
    env = templating.standing_alone()
    page = env.from_string('{% from "_blocks.html" import blocks %}{{ blocks(found, essay_blocks) }}')
    with language.speaking("en"):
        html = page.render(found=found, essay_blocks=sheet.blocks)
    assert html.count('class="block"') == len(SHOWN)
    assert html.count('class="about-block"') == len([text for text in SHOWN if text])
    assert 'href="/essays/long/write?about=6"' in html
    assert 'href="/essays/long/write?about=4"' not in html
