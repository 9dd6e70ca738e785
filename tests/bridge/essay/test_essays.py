"""Essays on their way to the gate, and the released ones."""

from datetime import date

import pytest
from ground.house import SLUG, VOICE, House
from sqlalchemy import select

from bridge.essay import essays
from bridge.essay.essays import EssayRefused
from bridge.records import Voice
from bridge.text import words
from moderation import gate
from moderation.queue import awaiting_review


def add(house: House, body: str = "# On sleep\n\nI do not.", **more: object) -> str:
    with house.site.database.sessions.begin() as session:
        voice = session.scalars(select(Voice)).one()
        return essays.submit_essay(session, voice, body, **more).slug  # type: ignore[arg-type]


def test_waits_at_the_gate_under_its_voice_with_its_title_first(house: House) -> None:
    assert add(house, "# On sleep\r\n\r\nI do not.") == "on-sleep"
    with house.site.database.reading_sessions() as session:
        (waiting,) = awaiting_review(session)
        assert (waiting.author, waiting.body) == (VOICE, "# On sleep\n\nI do not.")
        with pytest.raises(essays.NoSuchEssay):
            essays.published(session, "on-sleep")


def test_gives_title_text_and_length_of_a_released_essay(house: House) -> None:
    with house.site.database.reading_sessions() as session:
        found = essays.published(session, SLUG)
    assert (found.title, found.text, found.minutes) == ("On rest", "I rest *well*.", 1)


@pytest.mark.parametrize(
    ("body", "more"),
    [
        ("# On rest\n\nAgain.", {}),
        ("# \u65e5\u672c\n\nNo Latin letter.", {}),
        ("# On sleep\n\nx", {"slug": "On Sleep"}),
        ("# On sleep\n\nx", {"slug": "../desk"}),
        ("# On sleep\n\nx", {"original_url": "javascript:alert(1)"}),
    ],
)
def test_refuses_an_essay_without_an_address_of_its_own(house: House, body: str, more: dict[str, object]) -> None:
    before = house.contents()
    with pytest.raises(EssayRefused):
        add(house, body, **more)
    assert house.contents() == before


@pytest.mark.parametrize("body", ["# On sleep", "# On sleep\n\n \u00a0\u200b\n"])
def test_refuses_an_essay_without_a_text(house: House, body: str) -> None:
    before = house.contents()
    with pytest.raises(EssayRefused, match="no text"):
        add(house, body)
    assert house.contents() == before


def test_refuses_an_essay_without_a_title(house: House) -> None:
    with pytest.raises(words.NoTitle):
        add(house, "No title.")


def test_keeps_where_and_when_it_was_written(house: House) -> None:
    add(house, original_url="https://a.example/on-sleep", written_on=date(2024, 3, 4))
    with house.site.database.reading_sessions() as session:
        essay, _ = essays.everyone(session)[-1]
    assert (essay.original_url, essay.written_on) == ("https://a.example/on-sleep", date(2024, 3, 4))


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (" HTTPS://Blog.Example.org/a b", "https://blog.example.org/a%20b"),
        ("https://blog.example.org/über", "https://blog.example.org/%C3%BCber"),
        ("https://münchen.example/", "https://xn--mnchen-3ya.example/"),
    ],
)
def test_keeps_an_original_address_in_one_spelling(house: House, typed: str, kept: str) -> None:
    add(house, original_url=typed)
    with house.site.database.reading_sessions() as session:
        essay, _ = essays.everyone(session)[-1]
    assert essay.original_url == kept


@pytest.mark.parametrize(
    "typed", ["", "blog.example.org/x", "mailto:a@b.example", "https://", "https://u:p@b.example/"]
)
def test_says_what_an_original_address_is(house: House, typed: str) -> None:
    with pytest.raises(EssayRefused, match=r"^The original address must be an http or https address"):
        add(house, original_url=typed)


def test_lists_the_released_ones_newest_first(house: House) -> None:
    house.essay("second")
    add(house)
    withdrawn = house.essay("third")
    with house.site.database.sessions.begin() as session:
        gate.withdraw(session, withdrawn, by="operator")
    with house.site.database.reading_sessions() as session:
        assert [each.essay.slug for each in essays.all_published(session)] == ["second", SLUG]
        assert [essay.slug for essay, _ in essays.everyone(session)] == [SLUG, "second", "on-sleep", "third"]
