"""What a page of the desk asks while somebody reads: claims by forms, the state with its ETag, the whole call."""

import json
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground.house import BEN, House, desk_of, form, text, tree
from ground.workshop import unpacked
from sqlalchemy import select
from werkzeug.test import TestResponse

from bridge.desk import reviews
from bridge.letter import comments
from bridge.letter.comments import Letter
from bridge.records import Generation
from moderation import gate

ASKS = {"Accept": "application/json"}


@pytest.fixture
def ben(app: Flask) -> FlaskClient:
    return desk_of(app, BEN)


def letter(house: House, body: str = "Do you dream?") -> int:
    return house.submission(house.send(body).public_id)


def claim(client: FlaskClient, submission: int, **changes: str) -> TestResponse:
    return form(client.get(f"/desk/submissions/{submission}"), "/claim").submit(client, **changes)


def state(client: FlaskClient, query: str = "") -> dict[str, Any]:
    came = client.get(f"/desk/state?{query}")
    assert came.status_code == 200
    return came.get_json()  # type: ignore[no-any-return]


def test_claims_by_a_button_and_shows_it_to_the_others(house: House, desk: FlaskClient, ben: FlaskClient) -> None:
    first = letter(house)
    assert "Read this one" in text(desk.get(f"/desk/submissions/{first}"))
    assert claim(desk, first).location == f"/desk/submissions/{first}"
    assert "You, until" in text(desk.get(f"/desk/submissions/{first}"))
    seen = text(ben.get(f"/desk/submissions/{first}"))
    assert "Ada is reading this, until" in seen
    assert "Take it over" in seen
    claim(ben, first)
    assert "Ben is reading this, until" in text(desk.get(f"/desk/submissions/{first}"))
    form(ben.get(f"/desk/submissions/{first}"), "/claim/end").submit(ben)
    assert "Nobody has said so." in text(ben.get(f"/desk/submissions/{first}"))


def test_tells_the_module_whose_claim_stands(house: House, desk: FlaskClient, ben: FlaskClient) -> None:
    first = letter(house)
    asked, theirs = (form(each.get(f"/desk/submissions/{first}"), "/claim") for each in (desk, ben))
    assert asked.submit(desk, ASKS).get_json()["mine"] is True
    told = theirs.submit(ben, ASKS).get_json()
    assert (told["by"], told["mine"]) == ("Ada", False)
    assert theirs.submit(ben, ASKS, take_over="yes").get_json()["mine"] is True
    ended = form(desk.get(f"/desk/submissions/{first}"), "/claim/end").submit(desk, ASKS)
    assert ended.status_code == 204
    assert state(desk)["listed"][0]["claim"]["by"] == "Ben"


def test_claims_nothing_that_was_decided_meanwhile(house: House, desk: FlaskClient) -> None:
    sent = house.send()
    submission = house.submission(sent.public_id)
    asked = form(desk.get(f"/desk/submissions/{submission}"), "/claim")
    house.approve(sent.public_id, by=house.ben)
    refused = asked.submit(desk, ASKS)
    assert (refused.status_code, "Ben has already approved" in refused.get_json()["sentence"]) == (409, True)
    assert asked.submit(desk).status_code == 303


def test_answers_304_until_something_changes(house: House, desk: FlaskClient) -> None:
    first = letter(house)
    came = desk.get(f"/desk/state?open={first}")
    tag = came.headers["ETag"]
    same = desk.get(f"/desk/state?open={first}", headers={"If-None-Match": tag})
    assert (same.status_code, same.data) == (304, b"")
    assert same.headers["Cache-Control"] == "no-store"
    letter(house, "Another.")
    changed = desk.get(f"/desk/state?open={first}", headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != tag
    assert changed.get_json()["numbers"]["total"] == "2"
    assert "Another." not in changed.text


def test_tells_of_the_open_one_what_became_of_it(house: House, desk: FlaskClient, ben: FlaskClient) -> None:
    approved, rejected, changed, back = (house.send(f"Letter {number}.") for number in range(4))
    ids = [house.submission(each.public_id) for each in (approved, rejected, changed, back)]
    assert [state(desk, f"open={each}")["open"]["pending"] for each in ids] == [True] * 4
    house.approve(approved.public_id, by=house.ben)
    house.reject(rejected.public_id, by=house.ada)
    comments.change_comment(house.site, changed.public_id, Letter("Reader", "Changed."))
    comments.take_back(house.site, back.public_id)
    assert [state(desk, f"open={each}")["open"]["said"] for each in ids] == [
        "Ben approved this one.",
        "You rejected this one.",
        "Its author changed these words.",
        "These words were taken back.",
    ]
    assert state(desk, "open=1000000")["open"] is None
    assert state(desk, "open=x")["open"] is None


def test_lists_what_the_page_lists(house: House, desk: FlaskClient, ben: FlaskClient) -> None:
    first, second = letter(house, "One."), letter(house, "Two.")
    reviews.hold(house.site, second, moderator=house.ben)
    assert [(each["id"], each["marks"]) for each in state(desk)["listed"]] == [(first, "00"), (second, "10")]
    assert [each["id"] for each in state(desk, f"after={first}")["listed"]] == [second]
    assert [each["id"] for each in state(ben)["listed"]] == [first]
    assert [each["id"] for each in state(ben, "held=yes")["listed"]] == [second]
    page = desk.get("/desk/")
    assert [each.get("data-marks") for each in tree(page).iter("li") if each.get("data-id")] == ["00", "10"]


def test_shows_the_whole_call_as_it_was_sent(house: House, desk: FlaskClient) -> None:
    _, answer = house.exchange("Do you <b>dream</b>?", "I do not.")
    house.post("Not even of tides?", parent=answer, author="<i>Zoë</i>")
    (reply,) = house.answer("Of tides, perhaps.")
    page = desk.get(f"/desk/submissions/{house.submission(reply)}/call")
    request, response = (json.loads(each.text or "") for each in tree(page).iter("pre"))
    with house.site.database.reading_sessions() as session:
        made = session.scalars(select(Generation).order_by(Generation.id.desc()).limit(1)).one()
    assert made.request_digest == house.site.keys.keyed_digest("request", json.dumps(request, sort_keys=True))
    assert response == unpacked(made.response)
    assert "equal, to the byte, to what was sent" in text(page)
    assert not list(tree(page).iter("i"))


def test_says_where_words_are_missing_from_a_call(house: House, desk: FlaskClient) -> None:
    first = house.post("Do you dream?")
    house.answer("I do not.")
    house.post("Not even of tides?")
    (reply,) = house.answer("Of tides, perhaps.")
    with house.site.database.sessions.begin() as session:
        gate.withdraw(session, house.submission(first.public_id), by="operator")
    page = text(desk.get(f"/desk/submissions/{house.submission(reply)}/call"))
    assert "Words that are no longer posted" in page
    assert "Do you dream?" not in page
    gone = house.submission(first.public_id)
    assert f"The words of submission {gone} (taken back) are missing" in page


def test_says_that_no_model_was_called_for_a_letter(house: House, desk: FlaskClient) -> None:
    page = desk.get(f"/desk/submissions/{letter(house)}/call")
    assert (page.status_code, "No model was called" in text(page)) == (200, True)
    assert desk.get("/desk/submissions/1000000/call").status_code == 404
