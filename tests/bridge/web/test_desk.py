"""The desk by plain forms: sign in, read, approve, reject, veto by two, sign out."""

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground.house import (
    ADA,
    BEN,
    PASSWORD,
    REASON,
    SLUG,
    VOICE,
    House,
    Lived,
    desk_of,
    form,
    live,
    sign_in,
    site_over,
    text,
    tree,
)
from werkzeug.test import TestResponse

from bridge.app import create_app
from bridge.letter import comments
from bridge.letter.comments import Letter
from bridge.voice import voices
from moderation.types import State


def read(desk: FlaskClient, submission: int) -> TestResponse:
    page = desk.get(f"/desk/submissions/{submission}")
    assert page.status_code == 200
    return page


def rejection(desk: FlaskClient, submission: int) -> TestResponse:
    return desk.get(f"/desk/submissions/{submission}/rejection")


@pytest.fixture
def ben(app: Flask) -> FlaskClient:
    return desk_of(app, BEN)


@pytest.fixture
def lived(house: House) -> Lived:
    return live(house)


def test_leads_to_sign_in_and_back_to_where_one_was_going(house: House, lived: Lived, app: Flask) -> None:
    client = app.test_client()
    there = f"/desk/submissions/{lived.pending}"
    sent_on = client.get(there)
    asked = form(client.get(sent_on.location), "/sign-in")
    assert asked.submit(client, email=ADA, password=PASSWORD).location == there
    assert client.get(there).status_code == 200


def test_stays_at_sign_in_with_a_wrong_password_and_says_so(app: Flask) -> None:
    client = app.test_client()
    page = sign_in(client, ADA, "wrong-password-here")
    assert page.status_code == 200
    assert [each for each in tree(page).iter() if each.get("role") == "alert"]
    assert "wrong-password-here" not in page.text
    assert client.get("/desk/").status_code == 302


def test_offers_the_sites_own_address_on_another_host(app: Flask) -> None:
    page = app.test_client().get("/desk/sign-in", headers={"Host": "127.0.0.1:8000"})
    assert "http://localhost:8000/desk/sign-in" in [each.get("href") for each in tree(page).iter("a")]


def test_signs_out(desk: FlaskClient) -> None:
    assert form(desk.get("/desk/"), "/sign-out").submit(desk).status_code == 302
    assert desk.get("/desk/").status_code == 302


def test_says_that_nothing_waits(desk: FlaskClient) -> None:
    assert "is waiting" in text(desk.get("/desk/"))


def test_opens_what_waits_longest_and_lists_the_rest(lived: Lived, desk: FlaskClient) -> None:
    page = desk.get("/desk/")
    assert "Neither." in page.text
    assert f"/desk/submissions/{lived.pending}" in page.text


def test_lists_by_kind_and_goes_on_after_a_page(
    house: House, lived: Lived, desk: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Are you there?" not in text(desk.get("/desk/?kind=reply"))
    assert "Neither." not in text(desk.get("/desk/?kind=comment"))
    monkeypatch.setattr("bridge.desk.desk.IN_THE_LIST", 1)
    (later,) = [each.get("href", "") for each in tree(desk.get("/desk/")).iter("a") if "after=" in each.get("href", "")]
    assert "Are you there?" in text(desk.get(later))


def test_shows_all_that_a_verdict_needs(house: House, desk: FlaskClient) -> None:
    house.post("*Do* you dream?", author="Zoë")
    (reply,) = house.answer("I **do** [not](https://a.example/x).", note="Be gentle with this one.")
    page = read(desk, house.submission(reply))
    for shown in (
        "<em>Do</em> you dream?",
        "<strong>do</strong>",
        "Be gentle with this one.",
        "I **do** [not](https://a.example/x).",
        "On rest",
    ):
        assert shown in page.text
    assert "https://a.example/x" in text(page)


def test_says_what_counts_where_an_answer_does_not_tell_its_tokens(house: House, desk: FlaskClient) -> None:
    with house.site.database.sessions.begin() as session:
        voices.set_prices(session, voices.named(session, VOICE), price_in=15.0, price_out=75.0)
    house.post()
    said = {"type": "text", "text": "I do not."}
    (reply,) = house.hear({"content": [said], "stop_reason": "end_turn", "usage": {}})
    assert "Not told. It counts with $" in text(read(desk, house.submission(reply)))


def test_points_out_a_link_that_leads_elsewhere_than_it_says(house: House, desk: FlaskClient) -> None:
    sent = house.send("[good.example](https://evil.example/)")
    assert "good.example leads to https://evil.example/" in text(read(desk, house.submission(sent.public_id)))


def test_approves_what_is_on_the_screen(house: House, lived: Lived, desk: FlaskClient) -> None:
    approval = form(read(desk, lived.pending), "/approval")
    assert approval.fields["digest"] == house.digest(lived.pending)
    done = approval.submit(desk)
    assert done.status_code == 303
    assert house.state(lived.pending) is State.APPROVED
    assert "Approved" in text(desk.get(done.location))


def test_rejects_a_letter_with_a_word_to_its_author(house: House, lived: Lived, desk: FlaskClient) -> None:
    rejecting = form(rejection(desk, lived.pending), "/rejection")
    done = rejecting.submit(desk, reason_code="off_topic", reason="For us.", told="For you.")
    assert done.status_code == 303
    assert house.state(lived.pending) is State.REJECTED
    page = desk.get(f"/letters/{lived.link}").text
    assert "For you." in page
    assert "For us." not in page


@pytest.mark.parametrize(
    "wrong",
    [{}, {"reason_code": "harm"}, {"reason_code": "other"}, {"reason_code": "spam", "reason": "x" * 2001}],
)
def test_keeps_what_was_written_when_a_rejection_lacks_something(
    house: House, lived: Lived, desk: FlaskClient, wrong: dict[str, str]
) -> None:
    rejecting = form(rejection(desk, lived.pending), "/rejection")
    refused = rejecting.submit(desk, None, **({"told": "Kept for you."} | wrong))
    assert refused.status_code == 422
    assert "Kept for you." in refused.text
    assert wrong.get("reason", "") in refused.text
    assert house.state(lived.pending) is State.PENDING
    again = form(refused, "/rejection").submit(desk, reason_code="spam", reason="Now.")
    assert again.status_code == 303
    assert house.state(lived.pending) is State.REJECTED


def test_vetoes_an_answer_by_two(house: House, lived: Lived, desk: FlaskClient, ben: FlaskClient) -> None:
    submission = house.submission(lived.pending_reply)
    short = form(rejection(desk, submission), "/rejection").submit(desk, reason_code="harm", reason="Not nice.")
    assert short.status_code == 422
    assert "40 characters" in text(short)
    proposed = form(short, "/rejection").submit(desk, reason=REASON)
    assert proposed.status_code == 303
    assert "waits for a second moderator" in text(desk.get(proposed.location))
    assert house.state(submission) is State.PENDING
    mine = read(desk, submission)
    assert "You proposed a veto" in text(mine)
    seen = text(read(ben, submission))
    assert "Ada proposed a veto" in seen
    assert REASON in seen
    confirmed = form(rejection(ben, submission), "/rejection").submit(ben)
    assert confirmed.status_code == 303
    assert house.state(submission) is State.REJECTED


def test_takes_no_second_step_by_the_one_who_took_the_first(house: House, lived: Lived, desk: FlaskClient) -> None:
    submission = house.submission(lived.pending_reply)
    rejecting = form(rejection(desk, submission), "/rejection")
    rejecting.submit(desk, reason_code="harm", reason=REASON)
    again = rejecting.submit(desk, reason_code="harm", reason=REASON)
    assert again.status_code == 409
    assert "second moderator" in text(again)
    assert house.state(submission) is State.PENDING


def test_lets_a_second_moderator_approve_instead(
    house: House, lived: Lived, desk: FlaskClient, ben: FlaskClient
) -> None:
    submission = house.submission(lived.pending_reply)
    form(rejection(desk, submission), "/rejection").submit(desk, reason_code="harm", reason=REASON)
    page = read(ben, submission)
    assert "your disagreement is on record" in text(page)
    form(page, "/approval").submit(ben)
    assert house.state(submission) is State.APPROVED


def test_says_what_a_veto_takes_where_one_is_enough(house: House, lived: Lived) -> None:
    alone = create_app(site_over(house.site.database, house.site.settings.data, veto_quorum=1))
    desk = desk_of(alone)
    submission = house.submission(lived.pending_reply)
    form(rejection(desk, submission), "/rejection").submit(desk, reason_code="harm", reason=REASON)
    assert house.state(submission) is State.REJECTED


def test_refuses_an_approval_of_other_words_and_shows_those_that_are_stored(
    house: House, lived: Lived, desk: FlaskClient
) -> None:
    approval = form(read(desk, lived.pending), "/approval")
    for digest in ("0" * 64, "", "é"):
        refused = approval.submit(desk, digest=digest)
        assert refused.status_code == 409
        assert "Nothing was changed" in text(refused)
        assert form(refused, "/approval").fields["digest"] == house.digest(lived.pending)
        assert "Are you there?" in refused.text
    assert house.state(lived.pending) is State.PENDING


def test_refuses_a_verdict_on_words_that_were_replaced_and_has_the_new_ones_waiting(
    house: House, lived: Lived, desk: FlaskClient
) -> None:
    page = read(desk, lived.pending)
    comments.change_comment(house.site, lived.pending_comment, Letter("Reader", "Is anybody there?"))
    refused = form(page, "/approval").submit(desk)
    assert refused.status_code == 409
    assert "changed by" in text(refused)
    newer = house.submission(lived.pending_comment)
    assert house.state(newer) is State.PENDING
    assert "Is anybody there?" in read(desk, newer).text


def test_tells_who_comes_second_that_it_is_decided(
    house: House, lived: Lived, desk: FlaskClient, ben: FlaskClient
) -> None:
    page = read(ben, lived.pending)
    form(read(desk, lived.pending), "/approval").submit(desk)
    refused = form(page, "/approval").submit(ben)
    assert refused.status_code == 409
    assert "Ada has already approved this one. Nothing was changed." in text(refused)


def test_says_that_a_submission_no_longer_waits(house: House, lived: Lived, desk: FlaskClient) -> None:
    house.approve(lived.pending_comment)
    gone = desk.get(f"/desk/submissions/{lived.pending}")
    assert gone.status_code == 410
    assert "no longer awaits a verdict" in text(gone)
    assert "Are you there?" not in gone.text


@pytest.mark.parametrize("submission", ["0", "1000000", "2147483648", "9" * 40, "x"])
def test_finds_no_submission_that_never_was(desk: FlaskClient, submission: str) -> None:
    assert desk.get(f"/desk/submissions/{submission}").status_code in {404, 410}


def test_keeps_the_list_one_was_working_through(lived: Lived, desk: FlaskClient) -> None:
    page = desk.get(f"/desk/submissions/{lived.pending}?kind=comment")
    (approval,) = [each.get("action", "") for each in tree(page).iter("form") if "/approval" in each.get("action", "")]
    assert approval.endswith("?kind=comment")
    csrf = form(page, "/sign-out").fields["csrf_token"]
    digest = next(each.get("value") for each in tree(page).iter("input") if each.get("name") == "digest")
    done = desk.post(approval, data={"csrf_token": csrf, "digest": digest})
    assert done.location.startswith("/desk/?")
    assert "kind=comment" in done.location


def test_approves_an_essay_which_is_then_on_the_site(house: House, desk: FlaskClient) -> None:
    submission = house.essay("second", "# A second one\n\nWords.", released=False)
    assert desk.get("/essays/second").status_code == 404
    form(read(desk, submission), "/approval").submit(desk)
    assert "A second one" in desk.get("/essays/second").text
    assert "A second one" in desk.get("/").text
    assert SLUG in desk.get("/").text


def test_shows_the_new_words_to_who_approved_the_old_ones(house: House, desk: FlaskClient) -> None:
    sent = house.send("As it was.")
    page = read(desk, house.submission(sent.public_id))
    comments.change_comment(house.site, sent.public_id, Letter("Reader", "As it is now."))
    answered = form(page, "/approval").submit(desk)
    assert answered.status_code == 409
    assert "As it is now." in text(answered)
    assert "changed by their author" in text(answered)
    assert form(answered, "/approval").submit(desk).status_code == 303


def test_keeps_the_reason_of_who_rejected_what_was_decided_meanwhile(house: House, desk: FlaskClient) -> None:
    sent = house.send("As it is.")
    asked = rejection(desk, house.submission(sent.public_id))
    house.approve(sent.public_id)
    answered = form(asked, "/rejection").submit(desk, reason_code="other", reason="It speaks of a neighbour.")
    assert answered.status_code == 409
    assert "already approved" in text(answered)
    assert "It speaks of a neighbour." in text(answered)
