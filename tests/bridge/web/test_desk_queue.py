"""What the queue shows to whom: filters, counts, holds, appeals, and the way from one submission to the next."""

import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground.house import BEN, REASON, SLUG, House, bearer, desk_of, form, text, tree
from sqlalchemy import event, select
from werkzeug.test import TestResponse

from bridge.desk import claims, reviews
from bridge.desk.desk import page
from bridge.desk.reviews import Wanted
from bridge.letter import appeals, comments
from bridge.letter.comments import Letter
from bridge.records import Comment
from moderation import gate
from moderation.types import State, Tray


@pytest.fixture
def ben(app: Flask) -> FlaskClient:
    return desk_of(app, BEN)


def letter(house: House, body: str, **more: object) -> int:
    return house.submission(house.send(body, **more).public_id)  # type: ignore[arg-type]


def listed(page: TestResponse) -> list[int]:
    """Return the submissions in the list of a page, in order."""
    return [int(each.get("data-id", "")) for each in tree(page).iter("li") if each.get("data-id")]


def numbers(page: TestResponse) -> dict[str, str]:
    return {each.get("data-number", ""): each.text or "" for each in tree(page).iter("span") if each.get("data-number")}


def opened(page: TestResponse) -> str | None:
    (main,) = tree(page).iter("main")
    return main.get("data-open")


def test_filters_by_essay_voice_and_kind_and_keeps_them_in_every_link(house: House, desk: FlaskClient) -> None:
    house.essay("another")
    first, second = letter(house, "One."), letter(house, "Two.", slug="another")
    assert listed(desk.get("/desk/")) == [first, second]
    assert listed(desk.get("/desk/?essay=another")) == [second]
    assert listed(desk.get(f"/desk/?essay={SLUG}&voice=test-voice&kind=comment")) == [first]
    assert listed(desk.get("/desk/?voice=nobody")) == []
    assert listed(desk.get("/desk/?essay=nowhere")) == []
    page = desk.get("/desk/?essay=another&kind=comment")
    actions = [each.get("action", "") for each in tree(page).iter("form") if "/submissions/" in each.get("action", "")]
    links = [
        each.get("href", "")
        for each in tree(page).iter("a")
        if re.search("/submissions/[0-9]+(\\?|$)", each.get("href", ""))
    ]
    assert actions
    assert links
    assert all("kind=comment&essay=another" in each for each in (*actions, *links))


@pytest.mark.parametrize("query", ["kind=x", "tray=x", "signal=x", "held=x", "after=x", "past=-1", "after=99999999999"])
def test_takes_a_filter_that_names_nothing_for_none(house: House, desk: FlaskClient, query: str) -> None:
    first = letter(house, "One.")
    assert listed(desk.get(f"/desk/?{query}")) == [first]


def test_filters_by_what_was_noticed(house: House, desk: FlaskClient) -> None:
    letter(house, "What a quiet essay.")
    loud = letter(house, "WHY DOES NOBODY EVER ANSWER ME HERE, THIS IS SO VERY RUDE OF YOU ALL")
    page = desk.get("/desk/?signal=capitals")
    assert listed(page) == [loud]
    assert "Capitals" in text(page)


def test_counts_what_waits_for_this_moderator(house: House, desk: FlaskClient, ben: FlaskClient) -> None:
    house.post("Seen.")
    house.answer("An answer.")
    first, second = letter(house, "One."), letter(house, "Two.")
    with house.site.database.sessions.begin() as session:
        gate.sort_into(session, second, Tray.LIKELY_SPAM)
    reviews.hold(house.site, first, moderator=house.ada)
    claims.read(house.site, second, moderator=house.ada)
    mine = numbers(desk.get("/desk/"))
    assert mine == {
        "total": "2",
        "comment": "1",
        "reply": "1",
        "essay": "0",
        "likely_spam": "1",
        "held": "1",
        "claimed": "1",
    }
    assert numbers(ben.get("/desk/")) == mine | {"total": "3", "comment": "2", "claimed": "0"}
    assert listed(desk.get("/desk/?tray=likely_spam")) == [second]
    assert listed(desk.get("/desk/?mine=yes")) == [second]
    assert listed(ben.get("/desk/?mine=yes")) == []


def test_counts_no_further_than_it_must(house: House, desk: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moderation.queue.MOST_COUNTED", 2)
    for number in range(3):
        letter(house, f"Letter {number}.")
    page = desk.get("/desk/")
    assert numbers(page)["total"] == "2+"
    (title,) = tree(page).iter("title")
    assert (title.text or "").startswith("(2+) 2+ letters - Desk - ")


def test_counts_each_kind_in_the_title(house: House, desk: FlaskClient) -> None:
    def title() -> str:
        (found,) = tree(desk.get("/desk/")).iter("title")
        told = desk.get("/desk/state").get_json()["title"]
        assert (found.text or "").startswith(f"{told} - Desk - " if told != "(0)" else "(0) Desk - ")
        return str(told)

    assert title() == "(0)"
    house.post("Seen.")
    house.answer("An answer.")
    house.essay("another", released=False)
    letter(house, "One.")
    assert title() == "(3) 1 letter, 1 answer, 1 essay"
    letter(house, "Two.")
    assert title() == "(4) 2 letters, 1 answer, 1 essay"


def test_says_how_long_the_oldest_has_waited(house: House, desk: FlaskClient) -> None:
    assert "The oldest has waited" not in text(desk.get("/desk/"))
    letter(house, "One.")
    assert "The oldest has waited" in text(desk.get("/desk/"))


def test_puts_what_i_hold_into_its_own_tab_and_names_me_to_the_others(
    house: House, desk: FlaskClient, ben: FlaskClient
) -> None:
    first, second = letter(house, "One."), letter(house, "Two.")
    done = form(desk.get(f"/desk/submissions/{first}"), "/hold").submit(desk)
    page = desk.get(done.location)
    assert "Held. A second reader decides." in text(page)
    assert (listed(page), opened(page)) == ([second], str(second))
    assert listed(desk.get("/desk/?held=yes")) == [first]
    seen = ben.get(f"/desk/submissions/{first}")
    assert listed(seen) == [first, second]
    assert "Ada asks for a second reader" in text(seen)
    let_go = [each for each in tree(desk.get("/desk/?held=yes")).iter("form") if "/hold/end" in each.get("action", "")]
    assert let_go
    form(desk.get(f"/desk/submissions/{first}"), "/hold/end").submit(desk)
    assert listed(desk.get("/desk/")) == [first, second]
    assert house.state(first) is State.PENDING


def test_hands_a_held_one_back_by_another_hold(house: House, desk: FlaskClient, ben: FlaskClient) -> None:
    first = letter(house, "One.")
    reviews.hold(house.site, first, moderator=house.ada)
    form(ben.get(f"/desk/submissions/{first}"), "/hold").submit(ben)
    assert listed(desk.get("/desk/")) == [first]
    assert listed(ben.get("/desk/")) == []


def test_goes_on_to_what_waits_next_after_a_verdict(house: House, desk: FlaskClient) -> None:
    first, second, third = (letter(house, f"Letter {number}.") for number in range(3))
    done = form(desk.get(f"/desk/submissions/{second}"), "/approval").submit(desk)
    page = desk.get(done.location)
    assert (opened(page), listed(page)) == (str(third), [first, third])
    done = form(page, "/approval").submit(desk)
    assert opened(desk.get(done.location)) == str(first)


def test_offers_what_lies_beyond_the_list(house: House, desk: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.desk.desk.IN_THE_LIST", 2)
    ids = [letter(house, f"Letter {number}.") for number in range(5)]
    page = desk.get("/desk/")
    assert listed(page) == ids[:2]
    (later,) = [each.get("href", "") for each in tree(page).iter("a") if each.text == "Later ones"]
    page = desk.get(later)
    assert listed(page) == ids[2:4]
    read = next(
        each.get("href", "") for each in tree(page).iter("a") if f"/submissions/{ids[3]}" in each.get("href", "")
    )
    assert listed(desk.get(read)) == ids[2:4]
    (skip,) = [each.get("href", "") for each in tree(desk.get(read)).iter("a") if each.get("data-key") == "s"]
    assert opened(desk.get(skip)) == str(ids[4])


def test_shows_the_thread_above_and_leaves_out_what_is_posted_no_more(house: House, desk: FlaskClient) -> None:
    _, reply = house.exchange("Do you dream?", "I do not.")
    middle, answer = house.exchange("Not even of tides?", "Of tides, perhaps.", parent=reply)
    last = letter(house, "Which tides?", parent=answer)
    told = text(desk.get(f"/desk/submissions/{last}"))
    for words in ("Do you dream?", "I do not.", "Not even of tides?", "Of tides, perhaps.", "On rest"):
        assert words in told
    with house.site.database.sessions.begin() as session:
        gate.withdraw(session, house.submission(middle.public_id), by="operator")
    told = text(desk.get(f"/desk/submissions/{last}"))
    assert "Not even of tides?" not in told
    assert "A letter that is no longer posted." in told


def test_tells_what_became_of_an_authors_other_letters(house: House, desk: FlaskClient) -> None:
    secret = "a" * 40
    made = [
        comments.receive_comment(house.site, SLUG, Letter("Reader", f"Letter {number}."), author_secret=secret)
        for number in range(5)
    ]
    house.approve(made[0].public_id)
    house.approve(made[1].public_id)
    house.reject(made[2].public_id, code="spam")
    comments.take_back(house.site, made[3].public_id)
    page = desk.get(f"/desk/submissions/{house.submission(made[4].public_id)}")
    terms, facts = (list(tree(page).iter(tag)) for tag in ("dt", "dd"))
    past = {each.text: "".join(fact.itertext()) for each, fact in zip(terms, facts, strict=True)}
    assert [past[name][:2] for name in ("Posted", "Rejected", "Taken back", "Waiting")] == ["2:", "1:", "1:", "0"]
    assert f"/desk/submissions/{house.submission(made[2].public_id)}/history" in page.text
    stranger = letter(house, "Mine alone.")
    assert "None that this site could tie to it." in text(desk.get(f"/desk/submissions/{stranger}"))


def test_shows_an_appeal_and_refuses_who_rejected_the_words(house: House, desk: FlaskClient, ben: FlaskClient) -> None:
    sent = house.send("Once more.")
    submission = house.submission(sent.public_id)
    house.reject(sent.public_id, by=house.ada, code="off_topic", told="It is about tides.")
    appeals.appeal(house.site, sent.public_id, "It is about rest, at its end.")
    again = house.submission(sent.public_id)
    assert again != submission
    seen = ben.get(f"/desk/submissions/{again}")
    for words in (
        "Ada rejected these words before",
        "off_topic",
        "It is about tides.",
        "It is about rest, at its end.",
    ):
        assert words in text(seen)
    mine = desk.get(f"/desk/submissions/{again}")
    assert "You rejected these words before" in text(mine)
    refused = form(mine, "/approval").submit(desk)
    assert refused.status_code == 409
    assert "now it takes another moderator" in text(refused)
    form(seen, "/approval").submit(ben)
    assert house.state(again) is State.APPROVED


def test_sorts_nothing_to_show_its_first_page(house: House) -> None:
    house.post("Seen.")
    house.answer("An answer.")
    letter(house, "One.")
    asked: list[tuple[str, object]] = []
    with house.site.database.reading_sessions() as session:
        connection = session.connection()

        @event.listens_for(connection.engine, "before_cursor_execute")
        def _note(*told: Any) -> None:
            asked.append((told[2], told[3]))

        wanted = Wanted(not_held_by=house.ada)
        page(session, house.ada, wanted)
        plans = [
            (statement, str(row[3]))
            for statement, values in tuple(asked)
            if "waiting" in statement
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)  # type: ignore[call-overload]
        ]
    assert len(plans) > 10
    # A sort, or a look at each of what waits before the first is known, would grow with the queue.
    assert [each for each in plans if "TEMP B-TREE" in each[1]] == []
    assert [each for each in plans if each[1].startswith("SCAN submissions")] == []


def test_tells_programs_the_same(house: House, client: FlaskClient) -> None:
    house.post("Seen.")
    house.answer("An answer.")
    held, claimed = letter(house, "Held."), letter(house, "WHY DOES NOBODY EVER ANSWER ME HERE, IT IS SO VERY RUDE")
    reviews.hold(house.site, held, moderator=house.ada)
    claims.read(house.site, claimed, moderator=house.ben)

    def queue(query: str = "") -> list[dict[str, object]]:
        came = client.get(f"/api/v1/queue?{query}", headers=bearer(house.tokens.ada))
        assert came.status_code == 200
        return came.get_json()["submissions"]  # type: ignore[no-any-return]

    everything = {each["id"]: each for each in queue()}
    assert len(everything) == 3
    assert everything[held]["held"]["moderator"] == "Ada"  # type: ignore[index]
    assert everything[claimed]["claim"]["moderator"] == "Ben"  # type: ignore[index]
    assert everything[claimed]["appealed"] is None
    assert "capitals" in [each["name"] for each in everything[claimed]["signals"]]  # type: ignore[union-attr,attr-defined]
    assert [each["id"] for each in queue("held=true")] == [held]
    assert held not in [each["id"] for each in queue("held=false")]
    assert [each["id"] for each in queue("signal=capitals")] == [claimed]
    assert len(queue("voice=test-voice")) == 3
    assert queue("voice=nobody") == []


def test_holds_and_lets_go_for_programs(house: House, client: FlaskClient) -> None:
    first = letter(house, "One.")
    path, mine = f"/api/v1/submissions/{first}/hold", bearer(house.tokens.ada)
    assert client.post(path, headers=mine).status_code == 201
    assert client.post(path, json={}, headers=mine).status_code == 201
    with house.site.database.reading_sessions() as session:
        assert [each.id for each in reviews.listed(session, reviews.Wanted(held=True))] == [first]
    assert client.delete(path, headers=mine).status_code == 204
    with house.site.database.reading_sessions() as session:
        assert reviews.listed(session, reviews.Wanted(held=True)) == []
    assert client.post(path, headers=bearer(house.tokens.reader)).status_code == 403
    house.approve(_public(house, first))
    assert client.post(path, headers=mine).status_code == 409


def test_keeps_each_moderators_choice_about_keys(house: House, desk: FlaskClient, ben: FlaskClient) -> None:
    def heard(client: FlaskClient) -> str | None:
        (main,) = tree(client.get("/desk/")).iter("main")
        return main.get("data-shortcuts")

    assert (heard(desk), heard(ben)) == ("on", "on")
    assert form(desk.get("/desk/"), "/shortcuts").submit(desk).status_code == 303
    assert (heard(desk), heard(ben)) == ("off", "on")
    form(desk.get("/desk/"), "/shortcuts").submit(desk)
    assert heard(desk) == "on"


def test_answers_the_module_with_what_a_verdict_came_to_or_who_was_first(
    house: House, desk: FlaskClient, ben: FlaskClient
) -> None:
    first = letter(house, "One.")
    asks = {"Accept": "application/json"}
    approval, theirs = (form(each.get(f"/desk/submissions/{first}"), "/approval") for each in (desk, ben))
    done = approval.submit(desk, asks)
    assert (done.status_code, done.get_json()) == (201, {"came_to": "approved"})
    refused = theirs.submit(ben, asks)
    assert refused.status_code == 409
    assert refused.get_json() == {
        "sentence": "Ada has already approved this one. Nothing was changed.",
        "verdict": "approve",
        "mine": False,
    }
    again = approval.submit(desk, asks)
    assert (again.status_code, again.get_json()["mine"]) == (409, True)
    reply = house.answer("An answer.")[0]
    asked = form(desk.get(f"/desk/submissions/{house.submission(reply)}/rejection"), "/rejection")
    short = asked.submit(desk, asks, reason_code="harm", reason="Short.")
    assert (short.status_code, "40 characters" in short.get_json()["sentence"]) == (422, True)
    proposed = asked.submit(desk, asks, reason_code="harm", reason=REASON)
    assert proposed.get_json() == {"came_to": "proposed"}
    twice = asked.submit(desk, asks, reason_code="harm", reason=REASON)
    assert (twice.status_code, twice.get_json()["mine"], twice.get_json()["verdict"]) == (409, True, "proposed")


def _public(house: House, submission: int) -> str:
    with house.site.database.reading_sessions() as session:
        return session.scalars(select(Comment.public_id).where(Comment.submission_id == submission)).one()
