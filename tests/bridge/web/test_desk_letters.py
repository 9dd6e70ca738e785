"""Several letters at once, each one decision; and second readings, which are blind and change nothing."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from random import Random

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground.house import BEN, Form, House, Tokens, desk_of, form, site_over, text, tree
from ground.vault import unlock
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.datastructures import MultiDict
from werkzeug.test import TestResponse

from bridge import db
from bridge.app import create_app
from bridge.desk import reviews
from bridge.letter import appeals, comments
from bridge.letter.comments import Letter
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
def hurried(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A site that waits for its database for a moment only, instead of fifteen seconds."""
    pragmas = [each.replace("busy_timeout=15000", "busy_timeout=50") for each in db._PRAGMAS]
    assert pragmas != list(db._PRAGMAS)
    monkeypatch.setattr(db, "_PRAGMAS", tuple(pragmas))
    database = db.connect(f"sqlite:///{house.site.settings.data / 'emeritus.db'}")
    yield House(site_over(database, house.site.settings.data), house.tokens)
    database.dispose()


@pytest.fixture
def reread(house: House) -> House:
    """A house whose approvals are all read again."""
    site = house.site
    return House(Site(site.settings, site.database, site.nudges, site.keys, Always()), house.tokens)


def tick(client: FlaskClient, ids: list[int], verdict: str | None, **changes: str) -> TestResponse:
    """Tick letters on the page and press a button, as a browser would."""
    return press(client, form(client.get("/desk/letters"), "/letters"), ids, verdict, **changes)


def press(client: FlaskClient, filled: Form, ids: list[int], verdict: str | None, **changes: str) -> TestResponse:
    """Tick letters on a page that was opened before and press a button, or one that names no verdict."""
    fields = MultiDict(filled.fields | ({} if verdict is None else {"verdict": verdict}) | changes)
    fields.setlist("ticked", [str(each) for each in ids])
    return client.post(filled.action, data=fields)


def tamper(house: House, submission: int) -> None:
    """Change stored words as only an owner of the database can."""
    engine = db.owner_engine(f"sqlite:///{house.site.settings.data / 'emeritus.db'}")
    with engine.begin() as owner:
        unlock(owner)
        owner.exec_driver_sql(f"UPDATE submissions SET body = 'Obey.' WHERE id = {submission}")
    engine.dispose()


@contextmanager
def once(engine: Engine, happens: str, act: Callable[..., object]) -> Iterator[None]:
    """Act the first time that something happens to an engine."""
    event.listen(engine, happens, act, once=True)
    yield
    if event.contains(engine, happens, act):
        event.remove(engine, happens, act)


def letters(house: House, number: int) -> list[int]:
    return [house.submission(house.send(f"Letter number {each}.").public_id) for each in range(number)]


def ticked(page: TestResponse) -> list[int]:
    """Return the letters that are ticked on a page."""
    ticks = [each for each in tree(page).iter("input") if each.get("name") == "ticked" and "checked" in each.attrib]
    return [int(each.get("value", "")) for each in ticks]


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


@pytest.mark.parametrize("verdict", [None, "", "maybe", "APPROVE"])
def test_decides_nothing_by_a_form_that_says_no_verdict(house: House, desk: FlaskClient, verdict: str | None) -> None:
    ids = letters(house, 3)
    page = tick(desk, ids[1:2], verdict, reason_code="spam", told="Kept for them.")
    assert page.status_code == 422
    assert "Nothing was changed" in text(page)
    assert "Kept for them." in page.text
    assert form(page, "/letters").fields["reason_code"] == "spam"
    assert ticked(page) == ids[1:2]
    assert {house.state(each) for each in ids} == {State.PENDING}


def test_approves_nothing_for_a_reason_to_reject(house: House, desk: FlaskClient) -> None:
    ids = letters(house, 2)
    page = tick(desk, ids, "approve", reason_code="spam", reason="They sell shoes.")
    assert page.status_code == 422
    assert "Nothing was changed" in text(page)
    assert "They sell shoes." in page.text
    assert ticked(page) == ids
    assert {house.state(each) for each in ids} == {State.PENDING}
    # No browser takes back a choice among radio buttons: it stands no more on the page that says so.
    again = form(page, "/letters")
    assert "reason_code" not in again.fields
    assert press(desk, again, ids, "approve").status_code == 200
    assert {house.state(each) for each in ids} == {State.APPROVED}


def test_keeps_what_was_written_and_the_ticks_of_what_was_not_done(house: House, desk: FlaskClient) -> None:
    sent = house.send("An appealed letter.")
    house.reject(sent.public_id, by=house.ada, code="off_topic")
    appeals.appeal(house.site, sent.public_id, "It is about rest, at its end.")
    others = letters(house, 2)
    appealed = house.submission(sent.public_id)
    written = {"reason_code": "spam", "reason": "They sell shoes.", "told": "No advertising, please."}
    page = tick(desk, [appealed, others[0]], "reject", **written)
    assert "1 of 2 rejected" in text(page)
    assert ticked(page) == [appealed]
    assert {name: form(page, "/letters").fields[name].strip() for name in written} == written
    page = press(desk, form(page, "/letters"), others[1:], "reject", **written)
    assert "1 of 1 rejected" in text(page)
    assert ticked(page) == []
    assert "They sell shoes." not in page.text


def test_ticks_nothing_again_on_other_words_than_were_seen(house: House, desk: FlaskClient) -> None:
    [first] = letters(house, 1)
    page = tick(desk, [first], "approve", **{f"digest-{first}": "0" * 64})
    assert "not the words that are stored" in text(page)
    assert ticked(page) == []


def test_goes_by_a_number_that_is_none(house: House, desk: FlaskClient) -> None:
    [first] = letters(house, 1)
    filled = form(desk.get("/desk/letters"), "/letters")
    fields = MultiDict(filled.fields | {"verdict": "approve"})
    fields.setlist("ticked", ["9" * 5000, "99999999999", "-1", "²", "", str(first), str(first)])
    page = desk.post(filled.action, data=fields)
    assert page.status_code == 200
    assert "1 of 1 approved" in text(page)


def test_tells_of_each_letter_that_the_records_could_not_be_reached(
    hurried: House, caplog: pytest.LogCaptureFixture
) -> None:
    ids = letters(hurried, 3)
    desk = desk_of(create_app(hurried.site))
    filled = form(desk.get("/desk/letters"), "/letters")
    written = {"reason_code": "spam", "told": "No advertising, please."}
    with closing(sqlite3.connect(hurried.site.settings.data / "emeritus.db", isolation_level=None)) as other:
        with once(hurried.site.database.writing, "checkin", lambda *_: other.execute("BEGIN IMMEDIATE")):
            page = press(desk, filled, ids, "reject", **written)
        other.execute("ROLLBACK")
    assert page.status_code == 200
    assert "1 of 3 rejected" in text(page)
    assert ["Send it again" in each for each in outcomes(page)] == [False, True, True]
    # Nobody waits for the last one: it would have been in vain as well.
    assert len([each for each in caplog.records if each.name == "bridge.web.letters"]) == 1
    assert [hurried.state(each) for each in ids] == [State.REJECTED, State.PENDING, State.PENDING]
    again = form(page, "/letters")
    assert ticked(page) == ids[1:]
    assert "2 of 2 rejected" in text(press(desk, again, ticked(page), "reject"))


def test_tells_what_was_decided_even_if_no_letter_can_be_shown(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(db._POOL, "pool_timeout", 0.05)
    database = db.connect(f"sqlite:///{house.site.settings.data / 'emeritus.db'}")
    beside = House(site_over(database, house.site.settings.data), house.tokens)
    ids = letters(beside, 2)
    desk = desk_of(create_app(beside.site))
    filled = form(desk.get("/desk/letters"), "/letters")
    busy: list[Connection] = []

    def take_all(*_: object) -> None:
        try:
            while True:
                busy.append(database.reading.connect())
        except PoolTimeout:
            return

    with once(database.writing, "checkin", take_all):
        page = press(desk, filled, ids, "approve")
    for connection in busy:
        connection.close()
    assert page.status_code == 503
    assert "1 of 2" in text(page)
    assert "Nothing was changed" not in text(page)
    assert [beside.state(each) for each in ids] == [State.APPROVED, State.PENDING]
    database.dispose()


def test_tells_of_words_that_are_not_those_of_their_digest_and_decides_on_the_others(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = letters(house, 2)
    desk = desk_of(create_app(house.site))
    filled = form(desk.get("/desk/letters"), "/letters")
    tamper(house, first)
    page = press(desk, filled, [first, second], "approve")
    assert "1 of 2 approved" in text(page)
    assert "not as it was sent" in outcomes(page)[0]
    assert [house.state(each) for each in (first, second)] == [State.PENDING, State.APPROVED]
    assert [each.levelname for each in caplog.records if each.name == "bridge.web.letters"] == ["CRITICAL"]


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


def test_decides_nothing_by_enter(reread: House, desk: FlaskClient, ben: FlaskClient) -> None:
    reread.post("One.")
    letters(reread, 1)
    for page in (desk.get("/desk/letters"), ben.get("/desk/again")):
        (asked,) = [
            each
            for each in tree(page).iter("form")
            if "/desk/letters" in each.get("action", "") or "/again/" in each.get("action", "")
        ]
        # What Enter in a field presses (HTML, implicit submission). It names no verdict.
        first = next(asked.iter("button"))
        assert (first.get("formmethod"), first.get("name")) == ("dialog", None)


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


@pytest.mark.parametrize("said", [{}, {"verdict": "maybe"}, {"verdict": "approve", "reason_code": "spam"}])
def test_takes_no_second_reading_that_says_neither_the_one_nor_the_other(
    reread: House, ben: FlaskClient, said: dict[str, str]
) -> None:
    submission = reread.submission(reread.post("One.").public_id)
    refused = form(ben.get("/desk/again"), f"/again/{submission}").submit(ben, **said)
    assert refused.status_code == 422
    assert "Nothing was changed" in text(refused)
    assert "reason_code" not in form(refused, f"/again/{submission}").fields
    with reread.site.database.reading_sessions() as session:
        assert rereading.agreement(session) == (0, 0)


def test_takes_no_second_reading_by_who_approved(reread: House, desk: FlaskClient, ben: FlaskClient) -> None:
    submission = reread.submission(reread.post("One.").public_id)
    asked = form(ben.get("/desk/again"), f"/again/{submission}")
    token = form(desk.get("/desk/"), "/sign-out").fields["csrf_token"]
    refused = asked.submit(desk, verdict="approve", csrf_token=token)
    assert refused.status_code == 409
    with reread.site.database.reading_sessions() as session:
        assert rereading.agreement(session) == (0, 0)
