"""The desk's pages of calls, of letters that were not chosen, and of batches: all of it there, and as text."""

import json

from flask.testing import FlaskClient
from ground.called import choose, picks, refuse, send_away
from ground.house import House, text, tree
from sqlalchemy import select, update

from bridge.records import Batch, Generation
from bridge.voice import budgets
from bridge.voice.model import RequestRefused

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>"


def links(client: FlaskClient, path: str) -> list[str]:
    return [each.get("href", "") for each in tree(client.get(path)).iter("a")]


def refused() -> RequestRefused:
    trouble = RequestRefused("The API refused our request: tokens", error=f"HTTP 400 {HOSTILE}")
    trouble.status, trouble.error_type, trouble.error_code = 400, "invalid_request_error", "some_code"
    trouble.request_id = "req_refused"
    return trouble


def test_shows_every_call_for_a_letter_and_leads_to_it(house: House, desk: FlaskClient) -> None:
    sent = house.post("Do you dream?")
    submission = house.submission(sent.public_id)
    refuse(house, refused(), wait=-1)
    house.answer("I do not.", note=HOSTILE)
    path = f"/desk/letters/{submission}/calls"
    assert path in links(desk, f"/desk/submissions/{submission}/history")
    page = desk.get(path)
    seen = text(page)
    assert page.status_code == 200
    for told in ("Call 1", "Call 2", "attempt 1", "attempt 2", "It answered.", "The API refused the request.", HOSTILE):
        assert told in seen
    for told in ("HTTP 400", "invalid_request_error", "some_code", "req_refused", "after 1.5 s", "model.example"):
        assert told in seen
    for told in ("2.12.0", "2023-06-01", "7 fresh", "no-such-model-0", "No price was known."):
        assert told in seen
    assert not list(tree(page).iter("img"))
    assert {"/desk/calls/1", "/desk/calls/2"} <= set(links(desk, path))


def test_shows_tokens_cost_and_price_of_a_call(house: House, desk: FlaskClient) -> None:
    house.post()
    house.answer()
    with house.site.database.sessions.begin() as session:
        session.execute(
            update(Generation).values(
                cost=1_234_567,
                reserved=2_000_000,
                price={"model": "test", "since": "2026-01-01", "input": 15.0, "cache_read": None},
                cache_read_tokens=4000,
                cache_write_tokens=900,
                cache_write_hour_tokens=300,
                output_tokens=250,
            )
        )
    seen = text(desk.get("/desk/calls/1"))
    assert "7 fresh, 4,000 read from the cache, 900 written to it, 300 of them for an hour" in seen
    assert budgets.dollars(1_234_567) in seen
    assert f"{budgets.dollars(2_000_000)}, set aside before it was made" in seen
    assert "model test, since 2026-01-01, input 15.0, cache read none" in seen
    with house.site.database.sessions.begin() as session:
        session.execute(update(Generation).values(cost=None, ended_at=None, outcome=None))
    assert f"It counts with {budgets.dollars(2_000_000)}" in text(desk.get("/desk/calls/1"))


def test_shows_one_call_whole_as_text(house: House, desk: FlaskClient) -> None:
    house.post(HOSTILE)
    house.answer(HOSTILE)
    page = desk.get("/desk/calls/1")
    request, response = (json.loads(each.text or "") for each in tree(page).iter("pre"))
    with house.site.database.reading_sessions() as session:
        digest = session.scalars(select(Generation.request_digest)).one()
    assert house.site.keys.keyed_digest("request", json.dumps(request, sort_keys=True)) == digest
    assert response["content"][0]["text"] == HOSTILE
    assert not list(tree(page).iter("img"))
    assert desk.get("/desk/calls/1000000").status_code == 404
    assert desk.get("/desk/letters/1000000/calls").status_code == 404


def test_shows_what_a_voice_was_shown_and_what_it_chose(house: House, desk: FlaskClient) -> None:
    picks(house)
    chosen = house.post("Do you dream?", author="Ann")
    house.post(HOSTILE, author="Bob")
    call = choose(house, [chosen.public_id])
    seen = text(desk.get(f"/desk/calls/{call}"))
    assert "It chose 1 of 2." in seen
    assert "1. Letter by Ann chosen" in seen
    assert "2. Letter by Bob not chosen" in seen
    page = desk.get("/desk/letters/not-chosen")
    assert "Letter by Bob" in text(page)
    assert "Letter by Ann" not in text(page)
    assert "alert(1)" in text(page)
    assert not list(tree(page).iter("img"))
    assert f"Call {call}: it was shown 2 and chose 1" in text(page)
    assert "Letter by Bob" in text(desk.get("/desk/letters/not-chosen?voice=test-voice&essay=on-rest"))
    for query in ("voice=nobody", "essay=none", "before=2"):
        assert "Letter by Bob" not in text(desk.get(f"/desk/letters/not-chosen?{query}"))
    assert desk.get(f"/desk/letters/not-chosen?before={'9' * 5000}").status_code == 200


def test_shows_batches_that_are_away(house: House, desk: FlaskClient) -> None:
    sent = house.post()
    assert text(desk.get("/desk/batches")).count("None.") == 2
    batch = send_away(house)
    seen = text(desk.get("/desk/batches"))
    assert f"Batch {batch}: 1 request, 0 back" in seen
    assert "within a day" in seen
    with house.site.database.sessions.begin() as session:
        session.get_one(Batch, batch).why = HOSTILE
    page = desk.get("/desk/batches")
    assert HOSTILE in text(page)
    assert not list(tree(page).iter("img"))
    letter = text(desk.get(f"/desk/letters/{house.submission(sent.public_id)}/calls"))
    assert f"Batch {batch}" in letter
    assert "rr-1-1" in letter


def test_leads_to_what_concerns_all_voices_from_their_page(desk: FlaskClient) -> None:
    assert {"/desk/letters/not-chosen", "/desk/batches"} <= set(links(desk, "/desk/voices"))


def test_tells_readers_that_a_voice_chose_the_letter_itself(house: House, client: FlaskClient) -> None:
    picks(house)
    sent = house.post()
    choose(house, [sent.public_id])
    (reply,) = house.answer()
    house.approve(reply)
    seen = text(client.get(f"/replies/{reply}"))
    assert "Among the letters that waited, by the model itself" in seen
    for told in (
        "No. The model named here was asked",
        "Asked",
        "Written",
        "by Ada",
        "Nothing. A moderator can approve",
        "Digest",
    ):
        assert told in seen


def test_keeps_all_of_it_from_who_is_not_signed_in(house: House, client: FlaskClient) -> None:
    house.post()
    house.answer()
    for path in ("letters/2/calls", "calls/1", "letters/not-chosen", "batches"):
        assert client.get(f"/desk/{path}").status_code == 302, path
