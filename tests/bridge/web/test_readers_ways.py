"""What readers ask for by plain forms, and the desk's pages for it: appeals, erasure, closing, reports, taking down."""

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground.house import BEN, REASON, SLUG, House, desk_of, form, text, tree
from sqlalchemy import update
from werkzeug.test import TestResponse

from bridge.desk import takedowns
from bridge.essay import essays
from bridge.letter import comments, erasure, reports
from moderation import appeals, rereading
from moderation.base import Base, now
from moderation.types import State

MODERATORS = Base.metadata.tables["moderators"]
CLOSED = "The voice reads no letters before spring."
HOSTILE = "</textarea><script>alert(1)</script>\n\"'{{ 'sum' ~ 'mer' * 3 }}"


@pytest.fixture
def admin(house: House, desk: FlaskClient) -> FlaskClient:
    """Ada's browser, after she became an admin."""
    with house.site.database.sessions.begin() as session:
        session.execute(update(MODERATORS).where(MODERATORS.c.id == house.ada).values(role="admin"))
    return desk


@pytest.fixture
def ben(app: Flask) -> FlaskClient:
    return desk_of(app, BEN)


def alerts(page: TestResponse) -> list[str]:
    return ["".join(each.itertext()) for each in tree(page).iter() if each.get("role") == "alert"]


def actions(page: TestResponse) -> list[str]:
    return [each.get("action", "") for each in tree(page).iter("form")]


def hrefs(page: TestResponse) -> list[str]:
    return [each.get("href", "") for each in tree(page).iter("a")]


def rejected(house: House) -> comments.Receipt:
    sent = house.send("Is this rest?")
    house.reject(sent.public_id, code="off_topic", told="Please write about the essay.", reason=None)
    return sent


# The author's page: appeals


def test_tells_a_rejected_author_what_was_decided_and_takes_one_appeal(house: House, client: FlaskClient) -> None:
    sent = rejected(house)
    page = client.get(f"/letters/{sent.token}")
    for told in ("Nothing to do with the essay", "Please write about the essay.", "Is this rest?", "until"):
        assert told in text(page), told
    appealed = form(page, "/appeal").submit(client, words="I quote its second line.")
    assert (appealed.status_code, appealed.location) == (303, f"/letters/{sent.token}")
    page = client.get(appealed.location)
    assert "A person other than the first reads it" in text(page)
    assert "I quote its second line." in text(page)
    assert not [each for each in actions(page) if each.endswith("/appeal")]
    assert not [each for each in hrefs(page) if each.endswith("/change")]
    assert client.get(f"/letters/{sent.token}/change").status_code == 303
    assert client.get(f"/api/v1/comments/{sent.public_id}").get_json()["status"] == "pending"
    house.reject(sent.public_id, by=house.ben, code="spam", told="Still no.", reason=None)
    page = client.get(f"/letters/{sent.token}")
    assert "That is final" in text(page)
    assert "Still no." in text(page)
    assert "Please write about the essay." in text(page)


def test_tells_an_author_whose_appeal_was_heard(house: House, client: FlaskClient) -> None:
    sent = rejected(house)
    form(client.get(f"/letters/{sent.token}"), "/appeal").submit(client, words="Please.")
    house.approve(sent.public_id, by=house.ben)
    page = client.get(f"/letters/{sent.token}")
    assert "Another person read it and posted it" in text(page)
    assert "Is this rest?" in text(client.get(f"/essays/{SLUG}"))


def test_keeps_what_an_author_said_for_it_when_that_cannot_be_taken(house: House, client: FlaskClient) -> None:
    sent = rejected(house)
    filled = form(client.get(f"/letters/{sent.token}"), "/appeal")
    long = filled.submit(client, words="x" * 2001)
    assert long.status_code == 422
    assert "2,001" in alerts(long)[0]
    assert form(long, "/appeal").fields["words"] == "x" * 2001
    first, second = (filled.submit(client, words="Please.") for _ in range(2))
    assert first.location == second.location == f"/letters/{sent.token}"
    again = filled.submit(client, words="And again.")
    assert again.status_code == 409
    assert "And again." in text(again)
    assert "it was made" in alerts(again)[0]


def test_offers_no_appeal_when_its_time_is_over(
    house: House, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = rejected(house)
    later = now() + appeals.WITHIN
    monkeypatch.setattr(appeals, "now", lambda: later)
    page = client.get(f"/letters/{sent.token}")
    assert not [each for each in actions(page) if each.endswith("/appeal")]
    assert "Is this rest?" in text(page)


# The author's page: erasure


def test_erases_after_asking_once_more(house: House, client: FlaskClient) -> None:
    sent, reply = house.exchange("My own words.", "An answer to them.")
    page = client.get(f"/letters/{sent.token}")
    (leads,) = [each for each in hrefs(page) if each.endswith("/erasure")]
    before = house.contents()
    asked = client.get(leads)
    assert asked.status_code == 200
    assert house.contents() == before
    done = form(asked, "/erasure").submit(client)
    assert (done.status_code, done.location) == (303, f"/letters/{sent.token}")
    page = client.get(done.location)
    assert "Your words were erased" in text(page)
    assert "They are being removed from the disk" in text(page)
    assert erasure.clean_disk(house.site)
    page = client.get(done.location)
    assert "being removed" not in text(page)
    assert "from the files of its database" in text(page)
    assert client.get(f"/comments/{sent.public_id}").status_code == 410
    assert client.get(f"/replies/{reply}").status_code == 410
    assert client.get(leads).status_code == 303
    assert "My own words." not in repr(house.contents())
    assert "An answer to them." not in repr(house.contents())


def test_offers_to_erase_what_was_taken_back_or_not_posted(house: House, client: FlaskClient) -> None:
    back = house.send("First.")
    form(client.get(f"/letters/{back.token}"), "/withdrawal").submit(client)
    for sent in (back, rejected(house)):
        page = client.get(f"/letters/{sent.token}")
        (leads,) = {each for each in hrefs(page) if each.endswith("/erasure")}
        assert form(client.get(leads), "/erasure").submit(client).status_code == 303
        assert house.state(house.submission(sent.public_id)) is State.WITHDRAWN
        assert "Your words were erased" in text(client.get(f"/letters/{sent.token}"))


# Closing


def close(house: House) -> None:
    essays.close(house.site, SLUG, CLOSED)
    house.print()


def test_takes_no_letter_where_an_essay_is_closed_and_keeps_the_words(house: House, client: FlaskClient) -> None:
    before = form(client.get(f"/essays/{SLUG}"), "/comments")
    preview = form(before.submit(client, author="Reader", body="Written before."), "/comments")
    sent = house.send("Sent before.")
    _, reply = house.exchange()
    close(house)
    page = client.get(f"/essays/{SLUG}")
    assert CLOSED in text(page)
    assert not [each for each in actions(page) if each.endswith("/comments")]
    assert not [each for each in hrefs(page) if "answering=" in each or each == "#write"]
    for filled in (before, preview):
        refused = filled.submit(client, author="Reader", body="Written\n\nbefore.")
        assert refused.status_code == 403
        assert [each.text for each in tree(refused).iter("textarea")] == ["Written\n\nbefore."]
        assert CLOSED in text(refused)
    told = client.post(f"/api/v1/essays/{SLUG}/comments", json={"author": "Reader", "body": "Hello."})
    assert (told.status_code, told.get_json()["why"]) == (403, CLOSED)
    assert client.get(f"/api/v1/essays/{SLUG}").get_json()["closed_why"] == CLOSED
    house.approve(sent.public_id)
    assert "Sent before." in text(client.get(f"/essays/{SLUG}"))
    assert client.get(f"/replies/{reply}").status_code == 200
    essays.reopen(house.site, SLUG)
    assert house.send("After it.").public_id
    assert client.get(f"/api/v1/essays/{SLUG}").get_json()["closed_at"] is None


def test_gives_a_letter_that_was_sent_before_its_receipt_again(house: House, client: FlaskClient) -> None:
    key = {"Idempotency-Key": "8f14e45fceea167a5a36dedd4bea2543"}
    words = {"author": "Reader", "body": "Once."}
    first = client.post(f"/api/v1/essays/{SLUG}/comments", json=words, headers=key).get_json()
    close(house)
    again = client.post(f"/api/v1/essays/{SLUG}/comments", json=words, headers=key)
    assert (again.status_code, again.get_json()["id"]) == (202, first["id"])


def test_lets_admins_close_an_essay_and_open_it_again(house: House, admin: FlaskClient, ben: FlaskClient) -> None:
    house.send()
    house.essay("pending", "# Pending\n\nNot yet.", released=False)
    page = ben.get("/desk/essays")
    assert not [each for each in actions(page) if "/desk/essays" in each]
    assert "1 letter waits" in text(page)
    assert "Waits for its verdict" in text(page)
    page = admin.get("/desk/essays")
    nothing = form(page, f"{SLUG}/closing").submit(admin, words=" ")
    assert nothing.status_code == 422
    assert "Nothing was changed" in alerts(nothing)[0]
    done = form(page, f"{SLUG}/closing").submit(admin, words=CLOSED)
    assert done.status_code == 303
    page = admin.get(done.location)
    assert CLOSED in text(page)
    assert "Closed to letters" in text(page)
    csrf = form(ben.get("/desk/essays"), "/sign-out").fields["csrf_token"]
    for act in ("closing", "opening"):
        refused = ben.post(f"/desk/essays/{SLUG}/{act}", data={"csrf_token": csrf, "words": "Other."})
        assert refused.status_code == 403
    assert form(page, f"{SLUG}/opening").submit(admin).status_code == 303
    assert "Takes letters" in text(admin.get("/desk/essays"))
    csrf = form(page, "/sign-out").fields["csrf_token"]
    missing = admin.post("/desk/essays/no-such/closing", data={"csrf_token": csrf, "words": "Why."})
    assert missing.status_code == 404


# Reports


def test_takes_a_report_from_the_link_under_the_words_to_its_reporters_page(
    house: House, client: FlaskClient, desk: FlaskClient
) -> None:
    sent, reply = house.exchange()
    page = client.get(f"/essays/{SLUG}")
    links = [each for each in hrefs(page) if each.startswith("/reports?of=")]
    assert links == [f"/reports?of={of}" for of in (SLUG, sent.public_id, reply)]
    for link, code in zip(links, ("harm", "abuse", "deception"), strict=True):
        made = form(client.get(link), "/reports").submit(client, code=code, words="It is wrong.")
        assert made.status_code == 303
        page = client.get(made.location)
        assert page.headers["Cache-Control"] == "no-store"
        assert "A person is going to read it" in text(page)
    page = desk.get("/desk/reports")
    assert text(page).count("It is wrong.") == 3
    assert "Reports 3" in text(page)
    kept = form(page, "/1/kept").submit(desk, words="It harms nobody.")
    assert kept.status_code == 303
    with house.site.database.reading_sessions() as session:
        assert reports.number_open(session) == 2
    first = form(client.get(links[0]), "/reports").submit(client, code="harm", words="Other words.")
    assert "It harms nobody." not in text(client.get(first.location))


def test_tells_a_reporter_what_a_moderator_wrote(house: House, client: FlaskClient) -> None:
    sent = house.post()
    token = reports.receive_report(house.site, sent.public_id, "abuse", "Rude.")
    reports.keep_words(house.site, 1, moderator=house.ada, told="Blunt, not abusive.")
    page = client.get(f"/reports/{token}")
    assert "the words stay posted" in text(page)
    assert "Blunt, not abusive." in text(page)
    told = client.get(f"/api/v1/reports/{token}")
    assert told.headers["Cache-Control"] == "no-store"
    assert (told.get_json()["state"], told.get_json()["told"]) == ("kept", "Blunt, not abusive.")


def test_keeps_a_report_on_the_page_that_cannot_be_taken(house: House, client: FlaskClient) -> None:
    sent = house.post()
    empty = form(client.get(f"/reports?of={sent.public_id}"), "/reports")
    refused = empty.submit(client, words="It is rude.")
    assert refused.status_code == 422
    assert alerts(refused)[0].startswith("Please choose what is wrong with it.")
    assert form(refused, "/reports").fields["words"] == "It is rude."
    long = empty.submit(client, code="abuse", words="x" * 2001)
    assert (long.status_code, form(long, "/reports").fields["code"]) == (422, "abuse")
    comments.take_back(house.site, sent.public_id)
    assert empty.submit(client, code="abuse").status_code == 410
    assert client.get("/reports?of=no-such-thing").status_code == 404
    assert "Follow the one" in text(client.get("/reports"))


def test_takes_reports_by_the_api(house: House, client: FlaskClient) -> None:
    sent = house.post()
    made = client.post("/api/v1/reports", json={"of": sent.public_id, "code": "abuse", "words": "Rude."})
    assert made.status_code == 201
    assert made.get_json()["report_url"].endswith(f"/reports/{made.get_json()['token']}")
    told = client.get(f"/api/v1/reports/{made.get_json()['token']}").get_json()
    assert (told["state"], told["code"], told["closed_at"]) == ("open", "abuse", None)
    wrong = client.post("/api/v1/reports", json={"of": sent.public_id, "code": "harm"})
    assert (wrong.status_code, wrong.get_json()["codes"][0]) == (422, "spam")
    assert client.post("/api/v1/reports", json={"of": "nothing", "code": "harm"}).status_code == 404
    for broken in ({"of": "x\u0000", "code": "spam"}, {"of": sent.public_id, "code": "abuse", "words": "x" * 2001}):
        assert client.post("/api/v1/reports", json=broken).status_code in {404, 422}


def test_closes_no_report_twice_or_without_words(house: House, desk: FlaskClient) -> None:
    reports.receive_report(house.site, SLUG, "harm", None)
    filled = form(desk.get("/desk/reports"), "/1/kept")
    nothing = filled.submit(desk, words=" ")
    assert nothing.status_code == 422
    assert filled.submit(desk, words="It stays.").status_code == 303
    assert filled.submit(desk, words="Again.").status_code == 409
    assert "No report is open" in text(desk.get("/desk/reports"))


# Taking down


def shown(house: House, of: str) -> str:
    return f"/desk/released/{house.submission(of)}"


def test_lets_an_admin_take_a_letter_down(house: House, admin: FlaskClient, ben: FlaskClient) -> None:
    sent, reply = house.exchange("Do you dream?", "I do not.")
    page = ben.get(shown(house, sent.public_id))
    assert not [each for each in actions(page) if each.endswith("/taking-down")]
    page = admin.get(shown(house, sent.public_id))
    filled = form(page, "/taking-down")
    short = filled.submit(admin, reason_code="abuse", reason=" ")
    assert short.status_code == 422
    done = filled.submit(admin, reason_code="abuse", reason="It names a neighbour.")
    assert (done.status_code, done.location) == (303, "/desk/reports?just=taken_down")
    assert admin.get(shown(house, sent.public_id)).status_code == 409
    page = admin.get(f"/essays/{SLUG}")
    assert "Taken down by the people who host this site" in text(page)
    assert "Insults, threats or hatred" in text(page)
    assert "I do not." in text(page)
    gone = admin.get(f"/comments/{sent.public_id}")
    assert gone.status_code == 410
    assert "Insults, threats or hatred" in text(gone)
    assert "I do not." in text(admin.get(f"/replies/{reply}"))
    page = admin.get(f"/letters/{sent.token}")
    assert "It was taken down by the people who host this site" in text(page)
    assert [each for each in hrefs(page) if each.endswith("/erasure")]


def test_takes_an_answer_down_by_two_or_keeps_it(house: House, admin: FlaskClient, ben: FlaskClient) -> None:
    sent, reply = house.exchange("Do you dream?", "I do not.")
    at = shown(house, reply)
    short = form(admin.get(at), "/taking-down").submit(admin, reason_code="harm", reason="Too short.")
    assert short.status_code == 422
    assert "40 characters" in alerts(short)[0]
    assert form(short, "/taking-down").fields["reason_code"] == "harm"
    proposed = form(admin.get(at), "/taking-down").submit(admin, reason_code="harm", reason=REASON)
    assert proposed.location == f"{at}?just=proposed"
    page = admin.get(proposed.location)
    assert not [each for each in actions(page) if each.endswith("/taking-down")]
    assert "Take the proposal back" in text(page)
    page = ben.get(at)
    assert REASON in text(page)
    assert "I do not." in text(ben.get(f"/essays/{SLUG}"))
    assert form(page, "/keeping").submit(ben).location == f"{at}?just=kept"
    assert form(page, "/keeping").submit(ben).status_code == 409
    form(admin.get(at), "/taking-down").submit(admin, reason_code="harm", reason=REASON)
    agreed = form(ben.get(at), "/taking-down").submit(ben, reason="")
    assert agreed.status_code == 303
    page = ben.get(f"/essays/{SLUG}")
    assert "I do not." not in text(page)
    assert "An answer stood here. Taken down" in text(page)
    assert "Could help somebody do serious harm" in text(ben.get(f"/letters/{sent.token}"))


def test_leaves_a_tombstone_of_an_essay_and_nothing_of_it_anywhere(
    house: House, admin: FlaskClient, ben: FlaskClient
) -> None:
    sent, reply = house.exchange("Do you dream?", "I do not.")
    house.essay("another")
    with house.site.database.reading_sessions() as session:
        at = f"/desk/released/{essays.published(session, SLUG).words.id}"
    form(admin.get(at), "/taking-down").submit(admin, reason_code="unlawful", reason=REASON, by="law")
    form(ben.get(at), "/taking-down").submit(ben, by="law")
    for path in (f"/essays/{SLUG}", f"/comments/{sent.public_id}", f"/replies/{reply}", f"/reports?of={SLUG}"):
        page = ben.get(path)
        assert page.status_code == 410, path
        assert "An essay stood here" in text(page)
        assert "as the law asks" in text(page)
    for path in (f"/api/v1/essays/{SLUG}", f"/api/v1/essays/{SLUG}/thread", f"/api/v1/replies/{reply}"):
        told = ben.get(path)
        assert (told.status_code, told.get_json()["author"]) == (410, None), path
    told = ben.get(f"/api/v1/comments/{sent.public_id}").get_json()
    assert (told["status"], told.get("body")) == ("approved", None)
    assert SLUG not in ben.get("/").text
    assert "Taken down" in text(admin.get("/desk/essays"))


@pytest.mark.parametrize("act", ["taking-down", "keeping"])
def test_changes_nothing_without_sign_in_or_token(house: House, app: Flask, admin: FlaskClient, act: str) -> None:
    sent, _ = house.exchange()
    at = f"{shown(house, sent.public_id)}/{act}"
    before = house.contents()
    data = {"digest": house.digest(house.submission(sent.public_id)), "reason_code": "spam", "reason": "x"}
    assert app.test_client().post(at, data=data).status_code == 401
    assert admin.post(at, data=data).status_code == 400
    assert house.contents() == before


def test_runs_nothing_of_what_is_written_there(house: House, admin: FlaskClient, ben: FlaskClient) -> None:
    sent, reply = house.exchange()
    refused = rejected(house)
    essays.close(house.site, SLUG, HOSTILE)
    house.print()
    reports.receive_report(house.site, sent.public_id, "abuse", HOSTILE)
    token = reports.receive_report(house.site, reply, "harm", HOSTILE)
    form(admin.get(f"/letters/{refused.token}"), "/appeal").submit(admin, words=HOSTILE)
    pages = [admin.get("/desk/reports"), admin.get("/desk/essays"), admin.get(f"/essays/{SLUG}")]
    takedowns.take_down(
        house.site,
        house.submission(reply),
        moderator=house.ada,
        seen=house.digest(house.submission(reply)),
        code="harm",
        reason=f"{HOSTILE} {REASON}",
        by="operator",
    )
    pages += [ben.get(shown(house, reply)), ben.get(shown(house, sent.public_id)), ben.get(f"/reports/{token}")]
    pages.append(ben.get(f"/letters/{refused.token}"))
    reports.keep_words(house.site, 2, moderator=house.ada, told=HOSTILE)
    pages.append(ben.get(f"/reports/{token}"))
    csrf = form(ben.get("/desk/reports"), "/sign-out").fields["csrf_token"]
    pages.append(ben.post("/reports", data={"of": sent.public_id, "code": HOSTILE, "words": HOSTILE}))
    pages.append(ben.post("/desk/reports/1/kept", data={"csrf_token": csrf, "words": HOSTILE * 80}))
    for page in pages:
        assert page.status_code < 500
        assert "alert(1)" in page.text
        assert not [s for s in tree(page).iter("script") if not s.get("src") and s.get("type") != "application/ld+json"]
        assert "summermermer" not in page.text


def test_tells_who_reads_an_answer_again_that_what_it_was_shown_was_erased(
    house: House, ben: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rereading, "SHARE", 0)  # None but those that this test asks for.
    first, _ = house.exchange("My own words.", "An answer to them.")
    _, later = house.exchange("Another letter.", "As the one before said.")
    with house.site.database.sessions.begin() as session:
        rereading.ask(session, house.submission(later))
    assert "has been erased since" not in text(ben.get("/desk/again"))
    erasure.erase_comment(house.site, first.public_id)
    page = text(ben.get("/desk/again"))
    assert "has been erased since" in page
    assert "As the one before said." in page
