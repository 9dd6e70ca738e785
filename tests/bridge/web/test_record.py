"""The pages of the record, for moderators, and the numbers and checkpoints that everybody may read."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from ground.house import BEN, REASON, SLUG, House, sign_in, site_over, text, tree
from ground.vault import unlock
from sqlalchemy import update
from werkzeug.test import TestResponse

from bridge import db
from bridge.app import create_app
from bridge.desk import histories
from bridge.letter import comments
from bridge.page import checkpoints, transparency
from bridge.records import Report
from moderation import appeals, gate, holds, ledger
from moderation.base import Base, now
from moderation.release import standing
from moderation.types import AccessEvent, SubmissionId

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(1)> {{ 7 * 191 }}"
LEDGER = Base.metadata.tables["ledger"]


def history(client: FlaskClient, submission_id: int) -> TestResponse:
    return client.get(f"/desk/submissions/{submission_id}/history")


def links(page: TestResponse) -> list[str]:
    return [each.get("href", "") for each in tree(page).iter("a")]


def happened(page: TestResponse) -> list[str]:
    (listed,) = [each for each in tree(page).iter("ol") if each.get("class") == "happened"]
    return [" ".join("".join(each.itertext()).split()) for each in listed]


# One submission's history


def test_tells_a_veto_in_words_with_who_and_why(house: House, desk: FlaskClient) -> None:
    house.post("Do you dream?")
    (reply,) = house.answer("I do not.")
    submission_id = house.submission(reply)
    house.reject(reply, by=house.ada, code="harm", told="It is not for here.")
    house.reject(reply, by=house.ben, code="harm", reason=None)
    page = history(desk, submission_id)
    assert page.status_code == 200
    came, proposed, confirmed = happened(page)
    assert "It came to the gate." in came
    assert "Ada proposed a veto: Could help somebody do serious harm harm. It lapses on" in proposed
    assert f"For the desk{REASON}".replace(" ", "") in proposed.replace(" ", "")
    assert "Written for the author" in proposed  # Who confirms a veto says what is told.
    assert "Ben agreed, and so it was vetoed" in confirmed
    assert "I do not." in text(page)
    assert "It was not posted." in text(page)
    assert house.digest(submission_id) in text(page).replace(" ", "")
    letter = [each for each in links(page) if each.endswith("/history")]
    assert len(letter) == 1
    assert "Ada approved it." in text(desk.get(letter[0]))


def test_leads_from_one_version_to_the_other(house: House, desk: FlaskClient) -> None:
    sent = house.send("First thouhgts.")
    older = house.submission(sent.public_id)
    comments.change_comment(house.site, sent.public_id, comments.Letter("Reader", "First thoughts."))
    newer = house.submission(sent.public_id)
    assert f"/desk/submissions/{newer}/history" in links(history(desk, older))
    assert f"/desk/submissions/{older}/history" in links(history(desk, newer))
    for each in (older, newer):
        assert SLUG in text(history(desk, each))  # Both under the same essay.


def test_tells_of_appeals_holds_and_reports(house: House, desk: FlaskClient) -> None:
    sent = house.send("Is it off topic?")
    first = house.submission(sent.public_id)
    with house.site.database.sessions.begin() as session:
        holds.hold(session, first, moderator=house.ben)
    house.reject(sent.public_id, code="off_topic", reason="Again.", told="It is about something else.")
    with house.site.database.sessions.begin() as session:
        essay = SubmissionId(1)
        again = appeals.appeal(session, first, words="It is not.", essay=essay)
        gate.approve(session, again, moderator=house.ben, seen=standing(session, [again])[again].digest)
        session.add(Report(submission_id=again, code="abuse", words="It is rude.", reported_at=now()))
        closed = {"closed_at": now() + timedelta(seconds=1), "moderator_id": house.ada, "told": "We think not."}
        report = Report(submission_id=again, code="spam", reported_at=now(), outcome="kept", **closed)
        session.add(report)
    told = text(history(desk, first))
    for words in (
        "Ben held it for a second reader.",
        "Ada rejected it: Nothing to do with the essay",
        "The author was told",
        "Its author appealed",
        "It is not.",
        f"Ben granted the appeal: it is posted as submission {again}.",
    ):
        assert words in told
    assert "ended." not in told
    told = text(history(desk, again))
    for words in (
        "It came to the gate again",
        "A reader reported it",
        "The reader said",
        "It is rude.",
        "Ada closed the report: the words stay.",
        "The reader was told",
        "We think not.",
    ):
        assert words in told


def test_shows_that_words_were_erased_and_none_of_them(house: House, desk: FlaskClient) -> None:
    sent = house.post("My name is Bob Smith.")
    submission_id = house.submission(sent.public_id)
    with house.site.database.sessions.begin() as session:
        gate.withdraw(session, submission_id, by="law")
        gate.erase(session, submission_id)
    page = history(desk, submission_id)
    assert page.status_code == 200
    assert "Smith" not in page.text
    assert "They were erased." in text(page)
    assert happened(page)[-1].endswith("Its words were erased.")
    assert "because the law asks for it" in text(page)


def test_says_when_the_words_are_not_those_of_their_digest(house: House, desk: FlaskClient) -> None:
    submission_id = house.submission(house.post("As approved.").public_id)
    engine = db.owner_engine(house.site.database.writing.url.render_as_string(hide_password=False))
    with engine.begin() as connection:
        unlock(connection)
        table = Base.metadata.tables["submissions"]
        connection.execute(update(table).where(table.c.id == submission_id).values(body="Slipped in."))
    engine.dispose()
    assert "they do not fit their digest" in text(history(desk, submission_id))


def test_has_no_history_of_what_is_not_there(desk: FlaskClient) -> None:
    assert history(desk, 9999).status_code == 404
    assert history(desk, 2**31 - 1).status_code == 404
    assert desk.get("/desk/submissions/99999999999/history").status_code == 404


def test_shows_hostile_words_as_words(house: House, desk: FlaskClient) -> None:
    sent = house.send(HOSTILE, author="<b>Reader</b>")
    house.reject(sent.public_id, code="other", reason=HOSTILE, told=HOSTILE)
    for path in (f"/desk/submissions/{house.submission(sent.public_id)}/history", "/desk/decided", "/desk/ledger"):
        page = desk.get(path)
        assert page.status_code == 200
        found = tree(page)
        assert not list(found.iter("img")), path
        assert not [each for each in found.iter("script") if not each.get("src")], path
        assert "1337" not in page.text, path


# What was decided; the ledger


def test_lists_what_was_decided_a_page_at_a_time(
    house: House, desk: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(histories, "AT_ONCE", 3)
    for number in range(4):
        house.post(f"Letter number {number}.")
    rejected = house.send("Buy pills.")
    house.reject(rejected.public_id, code="spam", reason=None)
    page = desk.get("/desk/decided")
    first = happened(page)
    assert len(first) == 3
    assert "Ada rejected letter" in first[0]
    assert "Advertising or unrelated links spam" in first[0]
    assert "Reader: Buy pills." in first[0]
    assert f"/desk/submissions/{house.submission(rejected.public_id)}/history" in links(page)
    (more,) = [each for each in links(page) if "before=" in each]
    rest = happened(desk.get(more))
    assert len(rest) == 3
    assert "Ada approved essay" in rest[-1]
    assert not [each for each in links(desk.get(more)) if "before=" in each]
    assert "Nothing was decided before that" in text(desk.get("/desk/decided?before=1"))
    assert desk.get("/desk/decided?before=nonsense").status_code == 200


def test_shows_the_ledger_in_words_and_as_bytes(house: House, desk: FlaskClient) -> None:
    house.exchange()
    sent = house.send("I take this back.")
    comments.take_back(house.site, sent.public_id)
    with house.site.database.sessions.begin() as session:
        ledger.record_access(session, AccessEvent.ROLE_CHANGED, moderator=house.ben, by=house.ada)
    page = desk.get("/desk/ledger")
    told = happened(page)
    assert "Ben got another role, by Ada." in told[0]
    assert f"The words of submission {house.submission(sent.public_id)} were taken back by its author" in told[1]
    assert "Ada approved submission" in told[2]
    with house.site.database.reading_sessions() as session:
        entries = ledger.newest(session)
    shown = ["".join(each.itertext()) for each in tree(page).iter("pre") if each.get("class") != "code"]
    assert shown == [each.entry for each in entries]
    assert "emeritus ledger verify" in text(page)


def test_has_words_for_every_event(house: House, desk: FlaskClient) -> None:
    with house.site.database.sessions.begin() as session:
        for event in AccessEvent:
            ledger.record_access(session, event, moderator=house.ben)
    told = happened(desk.get("/desk/ledger"))[: len(AccessEvent)]
    for event, words in zip(reversed(AccessEvent), told, strict=True):
        said, _, _ = words.partition("The bytes")
        assert "Ben " in said
        assert f"Ben {event.value}" not in said


@pytest.mark.parametrize(
    "words",
    [
        "{",
        "[]",
        "{}",
        '{"type":"decision"}',
        '{"at":"then","submission":1,"type":"erasure"}',
        '{"at":"2026-01-01T00:00:00Z","submission":1,"type":"kept"}',
        '{"at":"2026-01-01T00:00:00Z","moderator":"x","submission":1,"type":"decision"}',
        '{"at":"2026-01-01T00:00:00Z","by":[1],"moderator":1,"type":"access"}',
        '{"at":"2026-01-01T00:00:00Z","moderator":99,"submission":9999,"type":"decision"}',
    ],
)
def test_shows_a_ledger_that_somebody_spoiled(house: House, desk: FlaskClient, words: str) -> None:
    submission_id = house.submission(house.post().public_id)
    engine = db.owner_engine(house.site.database.writing.url.render_as_string(hide_password=False))
    with engine.begin() as connection:
        unlock(connection)
        connection.execute(update(LEDGER).values(entry=words))
    engine.dispose()
    page = desk.get("/desk/ledger")
    assert page.status_code == 200
    assert ("This entry cannot be read" in text(page)) == ("9999" not in words)
    assert desk.get("/desk/decided").status_code == 200
    assert history(desk, submission_id).status_code == history(desk, 1).status_code == 200


def test_pages_the_ledger(house: House, desk: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "AT_ONCE", 2)
    for number in range(3):
        house.post(f"Letter number {number}.")
    seen: list[str] = []
    path = "/desk/ledger"
    while path:
        page = desk.get(path)
        seen += re.findall(r'id="entry-(\d+)"', page.text)
        path = next((each for each in links(page) if "before=" in each), "")
    with house.site.database.reading_sessions() as session:
        assert [int(number) for number in seen] == [each.number for each in ledger.newest(session)]


def test_shows_none_of_it_to_readers(house: House, client: FlaskClient) -> None:
    submission_id = house.submission(house.post().public_id)
    for path in (f"/desk/submissions/{submission_id}/history", "/desk/decided", "/desk/ledger"):
        asked = client.get(path)
        assert (asked.status_code, asked.location) == (302, f"/desk/sign-in?next={path}")
    assert sign_in(client, BEN).status_code == 302
    assert client.get("/desk/decided").status_code == 200


# For everybody


def test_shows_readers_the_numbers(house: House, client: FlaskClient) -> None:
    house.exchange()
    house.reject(house.send("Buy pills.").public_id, code="spam", reason=None)
    page = client.get("/transparency")
    assert page.status_code == 200
    told = text(page)
    for words in ("In numbers", "takes 2 people who agree", "1 (spam 1)", "Test Voice", "No appeal"):
        assert words in told
    assert "Ada" not in told
    rows = [["".join(cell.itertext()) for cell in row] for row in tree(page).iter("tr")]
    assert rows[1][1:3] == ["1", "1 (spam 1)"]
    (drawn,) = [each for each in tree(page).iter() if each.tag.endswith("svg") and each.get("role")]
    assert "1 asked, 1 answered, 0 declined" in "".join(drawn.itertext())
    named = [each.text for each in drawn if each.tag.endswith("text") and each.get("text-anchor")]
    assert transparency.chart([], now()).names[-1][1] in named
    assert "/transparency" in links(client.get("/"))
    assert "/transparency" in links(client.get("/about"))


def test_says_that_one_moderator_alone_can_veto(house: House) -> None:
    alone = house.site.settings.model_copy(update={"veto_quorum": 1})
    app = create_app(type(house.site)(alone, house.site.database, house.site.nudges, house.site.keys))
    assert "One person alone can keep a model's words from being posted here." in text(
        app.test_client().get("/transparency")
    )


def test_tells_how_often_second_readers_agreed(house: House, client: FlaskClient) -> None:
    house.post("One.")
    found = transparency.counted(house.site)
    assert (found.agreed, found.read_again) == (0, 0)
    assert "No such reading was given yet" in text(client.get("/transparency"))


def test_says_so_where_nothing_happened(house: House, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    at = now()
    house.post()
    monkeypatch.setattr(transparency, "now", lambda: at + timedelta(days=70))
    assert text(client.get("/transparency")).count("Nothing happened.") >= 4


def test_gives_programs_the_numbers(house: House, client: FlaskClient) -> None:
    house.exchange()
    told = client.get("/api/v1/transparency").get_json()
    assert told["veto_quorum"] == 2
    assert told["voices"][0]["months"][0]["answers"]["approved"] == 1
    assert set(told["voices"][0]["months"][0]["median_seconds"]) == {
        "letter_to_approval",
        "letter_to_rejection",
        "approval_to_answer",
        "approval_to_decline",
        "answer_to_approval",
        "answer_to_veto",
    }


def test_publishes_the_newest_checkpoint(house: House, client: FlaskClient, tmp_path: Path) -> None:
    house.exchange()
    assert client.get("/api/v1/ledger/checkpoint").status_code == 404
    assert not checkpoints.where(house.site).exists()
    kept = checkpoints.keep(house.site, at_once=True)
    assert kept is not None
    house.post("Another.")
    given = client.get("/api/v1/ledger/checkpoint")
    assert given.mimetype == "application/json"
    assert given.text == kept.line()
    assert json.loads(given.text)["format"] == "emeritus/checkpoint/1"
    told = text(client.get("/transparency")).replace(" ", "")
    assert kept.digest in told
    assert kept.public_key in told
    (tmp_path / "kept").write_text(given.text * 2)
    assert checkpoints.compare(house.site, against=[tmp_path / "kept"]) == (3, None)


def test_describes_both_to_programs(client: FlaskClient) -> None:
    paths = client.get("/api/v1/openapi.json").get_json()["paths"]
    for path in ("/api/v1/ledger/checkpoint", "/api/v1/transparency"):
        assert set(paths[path]) == {"get"}
        assert "security" not in paths[path]["get"]


def test_has_no_checkpoint_of_nothing(sqlite_url: str, tmp_path: Path) -> None:
    empty = create_app(site_over(db.connect(sqlite_url), tmp_path))
    client = empty.test_client()
    assert client.get("/api/v1/ledger/checkpoint").status_code == 404
    page = client.get("/transparency")
    assert page.status_code == 200
    assert "No voice writes here yet" in text(page)
    assert "There is no checkpoint yet" in text(page)
    empty.extensions["site"].database.dispose()
