"""What a letter was written in answer to: said of each beyond two levels, whatever became of the answer."""

from collections.abc import Callable
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import pytest
from flask.testing import FlaskClient
from ground.house import SLUG, House, tree

from bridge.letter import comments

SURFACES = [f"/essays/{SLUG}", f"/essays/{SLUG}/embed"]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Three letters, each in answer to the answer to the one before; public ids."""

    letters: tuple[str, str, str]
    answers: tuple[str, str]


@pytest.fixture
def told(house: House) -> Conversation:
    first, answer = house.exchange("One.", "Answer one.")
    second, further = house.exchange("Two.", "Answer two.", parent=answer)
    third = house.post("Three.", parent=further)
    return Conversation((first.public_id, second.public_id, third.public_id), (answer, further))


def of_letter(page: Element, public_id: str) -> Element:
    """Return a letter as it stands on a page."""
    (letter,) = [each for each in page.iter("article") if each.get("id") == f"letter-{public_id}"]
    return letter


def says(page: Element, public_id: str) -> list[str | None]:
    """Return where a letter on a page leads to what it answers."""
    (who,) = [each for each in of_letter(page, public_id) if each.get("class") == "who"]
    words = {"to an answer above", "to an earlier answer"}
    return [each.get("href") for each in who.iter("a") if "".join(each.itertext()) in words]


def words_at(page: Element, anchor: str) -> str:
    """Return what stands where a link on the page leads."""
    (found,) = [each for each in page.iter() if each.get("id") == anchor]
    return " ".join("".join(found.itertext()).split())


def nothing(house: House, told: Conversation) -> None:
    """Let all of it stand."""


def takes_the_first_answer_down(house: House, told: Conversation) -> None:
    house.take_down(house.submission(told.answers[0]))


def takes_the_further_answer_down(house: House, told: Conversation) -> None:
    house.take_down(house.submission(told.answers[1]))


def takes_both_down(house: House, told: Conversation) -> None:
    for answer in told.answers:
        house.take_down(house.submission(answer))


def takes_the_first_letter_back(house: House, told: Conversation) -> None:
    comments.take_back(house.site, told.letters[0])


def takes_the_second_letter_back(house: House, told: Conversation) -> None:
    comments.take_back(house.site, told.letters[1])


STANDS, ANSWER, LETTER = "Answer two.", "An answer stood here. Taken down", "A letter stood here. Taken back"


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        (nothing, STANDS),
        (takes_the_first_answer_down, STANDS),
        (takes_the_first_letter_back, STANDS),
        (takes_the_further_answer_down, ANSWER),
        (takes_both_down, ANSWER),
        (takes_the_second_letter_back, LETTER),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
@pytest.mark.parametrize("address", SURFACES)
def test_leads_to_the_answer_or_to_what_stands_in_its_place(
    client: FlaskClient,
    house: House,
    told: Conversation,
    address: str,
    event: Callable[[House, Conversation], None],
    shown: str,
) -> None:
    event(house, told)
    page = tree(client.get(address))
    assert says(page, told.letters[2]) == [f"#answer-{told.answers[1]}"]
    assert shown in words_at(page, f"answer-{told.answers[1]}")


@pytest.mark.parametrize("event", [nothing, takes_the_first_answer_down])
@pytest.mark.parametrize("address", SURFACES)
def test_says_nothing_of_what_stands_right_above(
    client: FlaskClient, house: House, told: Conversation, address: str, event: Callable[[House, Conversation], None]
) -> None:
    event(house, told)
    assert says(tree(client.get(address)), told.letters[1]) == []


@pytest.mark.parametrize("event", [nothing, takes_both_down])
@pytest.mark.parametrize("address", SURFACES)
def test_leads_from_a_later_page_to_the_answers_own(
    client: FlaskClient,
    house: House,
    told: Conversation,
    address: str,
    event: Callable[[House, Conversation], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.essay.thread.LETTERS_A_PAGE", 1)
    beyond = house.post("Four.", parent=told.answers[1])
    event(house, told)
    assert says(tree(client.get(f"{address}?page=2")), beyond.public_id) == [f"/replies/{told.answers[1]}"]
    assert client.get(f"/replies/{told.answers[1]}").status_code == (200 if event is nothing else 410)


@pytest.mark.parametrize("event", [nothing, takes_both_down, takes_the_second_letter_back])
def test_tells_programs_which_answer_it_was(
    client: FlaskClient, house: House, told: Conversation, event: Callable[[House, Conversation], None]
) -> None:
    event(house, told)
    posted = client.get(f"/api/v1/essays/{SLUG}/thread").json["comments"]
    assert [each["parent"] for each in posted] == [None, *told.answers]
