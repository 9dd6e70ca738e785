"""Several letters at once, each one decision; and second readings, which are blind and change nothing."""

from random import Random

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground.house import BEN, House, Tokens, desk_of, form, text, tree
from werkzeug.datastructures import MultiDict
from werkzeug.test import TestResponse

from bridge import comments, reviews
from bridge.comments import Letter
from bridge.site import Site
from moderation import rereading
from moderation.errors import UnknownModerator
from moderation.types import ModeratorId, State


class Always(Random):
    """Chance that always says yes."""

    def random(self) -> float:
        """Return the least there is."""
        return 0.0


@pytest.fixture
def ben(app: Flask) -> FlaskClient:
    return desk_of(app, BEN)


@pytest.fixture
def reread(house: House) -> House:
    """A house whose approvals are all read again."""
    site = house.site
    return House(Site(site.settings, site.database, site.nudges, site.keys, Always()), house.tokens)


def tick(client: FlaskClient, ids: list[int], verdict: str, **changes: str) -> TestResponse:
    """Tick letters on the page and press a button, as a browser would."""
    filled = form(client.get("/desk/letters"), "/letters")
    fields = MultiDict(filled.fields | {"verdict": verdict} | changes)
    fields.setlist("ticked", [str(each) for each in ids])
    return client.post(filled.action, data=fields)


def letters(house: House, number: int) -> list[int]:
    return [house.submission(house.send(f"Letter number {each}.").public_id) for each in range(number)]


def outcomes(page: TestResponse) -> list[str]:
    return [
        " ".join("".join(each.itertext()).split())
        for each in tree(page).iter("li")
        if "No. " in "".join(each.itertext())
    ]


def test_shows_whole_letters_and_nothing_that_a_model_wrote(house: House, desk: FlaskClient) -> None:
    house.post("Seen.")
    house.answer("An answer.")
    first = house.submission(house.send("A **whole** letter.\n\n" + "On and on. " * 50 + "The end.").public_id)
    page = desk.get("/desk/letters")
    assert "The end." in text(page)
    assert "<strong>whole</strong>" in page.text
    assert "An answer." not in page.text
    fields = form(page, "/letters").fields
    assert fields[f"digest-{first}"] == house.digest(first)


def test_decides_on_those_that_are_ticked_each_by_its_own_digest(house: House, desk: FlaskClient) -> None:
    ids = letters(house, 4)
    page = tick(desk, ids[:2], "approve")
    assert page.status_code == 200
    assert "2 of 2 approved" in text(page)
    page = tick(desk, ids[2:3], "reject", reason_code="spam", told="No advertising, please.")
    assert "1 of 1 rejected" in text(page)
    assert [house.state(each) for each in ids] == [State.APPROVED, State.APPROVED, State.REJECTED, State.PENDING]


def test_tells_of_each_what_it_came_to(house: House, desk: FlaskClient) -> None:
    sent = [house.send(f"Letter number {number}.", author=f"Reader {number}") for number in range(4)]
    ids = [house.submission(each.public_id) for each in sent]
    filled = form(desk.get("/desk/letters"), "/letters")
    house.reject(sent[1].public_id, by=house.ben, code="spam")
    comments.change_comment(house.site, sent[2].public_id, Letter("Reader 2", "Changed."))
    fields = MultiDict(filled.fields | {"verdict": "approve", f"digest-{ids[3]}": "0" * 64})
    fields.setlist("ticked", [*map(str, ids), "1000000", "x"])
    page = desk.post(filled.action, data=fields)
    told = outcomes(page)
    assert "Reader 0: approved." in told[0]
    assert "Ben has already rejected this one. Nothing was changed." in told[1]
    assert "changed by their author" in told[2]
    assert "not the words that are stored" in told[3]
    assert "There is no such submission." in told[4]
    assert "1 of 5 approved" in text(page)
    assert [house.state(each) for each in (ids[0], ids[3])] == [State.APPROVED, State.PENDING]


@pytest.mark.parametrize("wrong", [{}, {"reason_code": "harm"}, {"reason_code": "other"}])
def test_rejects_nothing_without_a_reason_that_holds_for_all(
    house: House, desk: FlaskClient, wrong: dict[str, str]
) -> None:
    ids = letters(house, 2)
    page = tick(desk, ids, "reject", told="Kept for them.", **wrong)
    assert page.status_code == 422
    assert "Kept for them." in page.text
    assert {house.state(each) for each in ids} == {State.PENDING}


def test_decides_on_no_models_words_among_letters(house: House, desk: FlaskClient) -> None:
    house.post("Seen.")
    (reply,) = house.answer("An answer.")
    submission = house.submission(reply)
    [first] = letters(house, 1)
    page = tick(desk, [submission, first], "approve", **{f"digest-{submission}": house.digest(submission)})
    assert "Only letters are decided on several at once." in text(page)
    assert house.state(submission) is State.PENDING
    assert house.state(first) is State.APPROVED


def test_goes_on_after_a_page_of_letters(house: House, desk: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.web.letters.A_PAGE", 2)
    letters(house, 3)
    (later,) = [each.get("href", "") for each in tree(desk.get("/desk/letters")).iter("a") if each.text == "Later ones"]
    page = text(desk.get(later))
    assert "Letter number 2." in page
    assert "Letter number 1." not in page


# Second readings


def test_asks_for_a_second_reading_of_the_share_that_chance_draws(house: House, tokens: Tokens) -> None:
    class Drawn(Random):
        """Chance in a known order: just below the share, and just at it."""

        drawn = iter([rereading.SHARE - 1e-9, rereading.SHARE])

        def random(self) -> float:
            """Return the next."""
            return next(self.drawn)

    site = house.site
    drawing = House(Site(site.settings, site.database, site.nudges, site.keys, Drawn()), tokens)
    first, _ = drawing.post("Drawn."), drawing.post("Not drawn.")
    with site.database.reading_sessions() as session:
        waiting = rereading.awaiting(session, house.ben)
    assert [each.id for each in waiting] == [house.submission(first.public_id)]


@pytest.fixture
def tokens(house: House) -> Tokens:
    return house.tokens


def test_asks_for_none_when_the_approval_was_refused(reread: House) -> None:
    sent = reread.send()
    with pytest.raises(UnknownModerator):
        reviews.approve(reread.site, reread.submission(sent.public_id), moderator=ModeratorId(10**6), seen=sent.digest)
    with reread.site.database.reading_sessions() as session:
        assert rereading.awaiting(session, reread.ben) == []


def test_shows_a_second_reader_the_words_and_not_who_approved_them(
    reread: House, desk: FlaskClient, ben: FlaskClient
) -> None:
    reread.post("Do you dream?")
    (reply,) = reread.answer("I do not.")
    reread.approve(reply)
    assert "wait for a second reading" not in text(desk.get("/desk/"))
    assert "2 wait for a second reading" in text(ben.get("/desk/"))
    page = ben.get("/desk/again")
    assert "Do you dream?" in text(page)
    assert "Ada" not in text(page)
    assert "Nothing waits for a second reading by you" in text(desk.get("/desk/again"))


def test_notes_what_a_second_reader_would_have_done_and_changes_nothing(reread: House, ben: FlaskClient) -> None:
    first, second = reread.post("One."), reread.post("Two.")
    ids = [reread.submission(each.public_id) for each in (first, second)]
    asked = form(ben.get("/desk/again"), f"/again/{ids[0]}")
    refused = asked.submit(ben, verdict="reject")
    assert refused.status_code == 422
    assert asked.submit(ben, verdict="reject", reason_code="off_topic").status_code == 303
    again = asked.submit(ben, verdict="approve")
    assert (again.status_code, "no longer" in text(again)) == (409, True)
    form(ben.get("/desk/again"), f"/again/{ids[1]}").submit(ben, verdict="approve")
    with reread.site.database.reading_sessions() as session:
        assert rereading.agreement(session) == (1, 2)
    assert {reread.state(each) for each in ids} == {State.APPROVED}
    assert "Nothing waits" in text(ben.get("/desk/again"))


def test_takes_no_second_reading_by_who_approved(reread: House, desk: FlaskClient, ben: FlaskClient) -> None:
    submission = reread.submission(reread.post("One.").public_id)
    asked = form(ben.get("/desk/again"), f"/again/{submission}")
    token = form(desk.get("/desk/"), "/sign-out").fields["csrf_token"]
    refused = asked.submit(desk, verdict="approve", csrf_token=token)
    assert refused.status_code == 409
    with reread.site.database.reading_sessions() as session:
        assert rereading.agreement(session) == (0, 0)
