"""What a reader is refused is told in the reader's language; programs and the desk are told in English."""

from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground.house import SLUG, House, form, site_over, tree
from werkzeug.exceptions import Gone, ImATeapot, RequestedRangeNotSatisfiable, ServiceUnavailable
from werkzeug.test import TestResponse

from bridge import db
from bridge.app import MAX_BODY, create_app
from bridge.letter import comments
from bridge.letter.comments import Receipt
from bridge.web.access import Access, open_to
from moderation import appeals, errors
from moderation.base import now

GERMAN = {"Accept-Language": "de"}
FORM = f"/essays/{SLUG}/comments"
ELSEWHERE = {"Origin": "https://elsewhere.example"}


def alert(page: TestResponse) -> str:
    """Return what stands above a form that was not taken, or in its place."""
    (found,) = [each for each in tree(page).iter() if each.get("role") == "alert"]
    return " ".join("".join(found.itertext()).split())


def refusal(page: TestResponse) -> tuple[str, str]:
    """Return the heading and the sentence of a page that says nothing else."""
    (heading,) = [each.text or "" for each in tree(page).iter("h1")]
    (sentence,) = [each.text or "" for each in tree(page).iter("p") if each.get("class") == "lead"]
    return heading, sentence


def rejected(house: House) -> Receipt:
    sent = house.send("Is this rest?")
    house.reject(sent.public_id, code="off_topic", reason=None)
    return sent


# On an author's page


def test_tells_an_author_of_their_second_appeal(house: House, client: FlaskClient) -> None:
    filled = form(client.get(f"/letters/{rejected(house).token}?lang=de"), "/appeal")
    filled.submit(client, words="Bitte.")
    again = filled.submit(client, words="Noch einmal.")
    assert again.status_code == 409
    assert alert(again) == (
        "Für jeden Brief gibt es einen Einspruch, und er wurde schon erhoben. Nichts wurde geändert. "
        "Was Sie geschrieben haben:"
    )


def test_tells_an_author_that_an_appeal_came_too_late(
    house: House, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = form(client.get(f"/letters/{rejected(house).token}?lang=de"), "/appeal")
    later = now() + appeals.WITHIN + timedelta(seconds=5)
    monkeypatch.setattr(appeals, "now", lambda: later)
    late = filled.submit(client, words="Bitte.")
    assert late.status_code == 409
    assert alert(late) == (
        "Einspruch kann binnen 20 Tagen nach der Entscheidung erhoben werden, und sie sind vorbei. "
        "Nichts wurde geändert. Was Sie geschrieben haben:"
    )


def test_tells_an_author_what_cannot_be_appealed_for(house: House, client: FlaskClient) -> None:
    sent = rejected(house)
    filled = form(client.get(f"/letters/{sent.token}?lang=de"), "/appeal")
    comments.take_back(house.site, sent.public_id)
    assert alert(filled.submit(client, words="Bitte.")).startswith("Dieser Brief wurde zurückgenommen. Nichts")
    filled.action = filled.action.replace(sent.token, house.send().token)
    assert alert(filled.submit(client, words="Bitte.")).startswith(
        "Einspruch ist nur für einen Brief möglich, der nicht veröffentlicht wurde. Nichts"
    )


def test_tells_an_author_that_the_words_of_an_appeal_stay(house: House, client: FlaskClient) -> None:
    sent = house.send("Is this rest?")
    change = form(client.get(f"/letters/{sent.token}/change?lang=de"), "/change")
    house.reject(sent.public_id, code="off_topic", reason=None)
    form(client.get(f"/letters/{sent.token}?lang=de"), "/appeal").submit(client, words="Bitte.")
    refused = change.submit(client, body="Was ist Ruhe?")
    assert refused.status_code == 409
    assert alert(refused).startswith("Ein Einspruch gilt den Worten, die nicht veröffentlicht wurden")


def test_tells_an_author_that_what_they_answer_was_taken_down_meanwhile(house: House, client: FlaskClient) -> None:
    first, reply = house.exchange()
    sent = house.send("Really?", parent=reply)
    change = form(client.get(f"/letters/{sent.token}/change?lang=de"), "/change")
    comments.take_back(house.site, first.public_id)
    refused = change.submit(client, body="Wirklich?")
    assert refused.status_code == 422
    assert alert(refused) == (
        "Worauf diese Worte antworten, ist nicht oder nicht mehr veröffentlicht. "
        "Ihre Worte stehen unten, und nichts ist verloren."
    )


def test_tells_a_reporter_to_say_what_is_wrong(house: House, client: FlaskClient) -> None:
    report = form(client.get(f"/reports?of={SLUG}&lang=de"), "/reports")
    refused = report.submit(client, words="Es stimmt nicht.")
    assert refused.status_code == 422
    assert alert(refused) == (
        "Bitte wählen Sie aus, was daran nicht in Ordnung ist. Nichts wurde gesendet. "
        "Was Sie geschrieben haben, steht unten."
    )
    assert form(refused, "/reports").fields["words"] == "Es stimmt nicht."


# On a page of its own


def test_tells_whose_form_came_from_elsewhere(house: House, client: FlaskClient, desk: FlaskClient) -> None:
    before = house.contents()
    for header in (ELSEWHERE, {"Sec-Fetch-Site": "cross-site"}):
        refused = client.post(FORM, data={"author": "Reader", "body": "x"}, headers=GERMAN | header)
        assert refused.status_code == 403
        assert refusal(refused) == (
            "Von anderswo gesendet",
            "Dieses Formular kam von einer anderen Website. Nichts wurde geändert.",
        )
    refused = desk.post("/desk/sign-out", headers=GERMAN | ELSEWHERE)
    assert refusal(refused) == ("Sent from elsewhere", "This form came from another site. Nothing was changed.")
    assert house.contents() == before


def test_tells_of_a_form_that_cannot_be_read(client: FlaskClient) -> None:
    form_data = "application/x-www-form-urlencoded"
    not_utf_8 = client.post(FORM, data=b"author=R&body=\xff", content_type=form_data, headers=GERMAN)
    assert refusal(not_utf_8) == (
        "Das hat nicht geklappt",
        "Dieses Formular ist kein Text in UTF-8. Nichts wurde geändert.",
    )
    with_nul = client.post(FORM, data={"author": "R", "body": "x", "token": "\x00"}, headers=GERMAN)
    assert refusal(with_nul) == (
        "Das hat nicht geklappt",
        "Dieses Formular lässt sich nicht lesen. Nichts wurde geändert.",
    )


def test_tells_of_a_body_of_unknown_length_or_too_large(client: FlaskClient) -> None:
    unknown = client.post(FORM, headers=GERMAN | {"Transfer-Encoding": "chunked"})
    assert unknown.status_code == 411
    assert refusal(unknown) == (
        "Das hat nicht geklappt",
        "Das kam ohne Angabe seiner Länge und wurde daher nicht gelesen. Nichts wurde geändert.",
    )
    large = client.post(FORM, data={"author": "Reader", "body": "x" * MAX_BODY}, headers=GERMAN)
    assert large.status_code == 413
    assert refusal(large) == (
        "Das hat nicht geklappt",
        "Das ist zu groß, um angenommen zu werden. Ein Brief hat höchstens 5.000 Zeichen.",
    )


def test_tells_of_an_address_that_takes_no_such_request(client: FlaskClient) -> None:
    refused = client.post("/about", headers=GERMAN)
    assert refused.status_code == 405
    assert refusal(refused) == ("Das hat nicht geklappt", "Diese Adresse nimmt Anfragen dieser Art nicht an.")


def test_tells_that_no_voice_is_there(client: FlaskClient) -> None:
    refused = client.get("/voices/nobody", headers=GERMAN)
    assert refused.status_code == 404
    assert refusal(refused) == ("Nicht gefunden", "Unter dieser Adresse gibt es keine Stimme.")


def test_tells_that_the_records_cannot_be_reached(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(db._POOL, "pool_timeout", 0.05)
    database = db.connect(f"sqlite:///{house.site.settings.data / 'emeritus.db'}")
    client = create_app(site_over(database, house.site.settings.data)).test_client()
    busy = [database.reading.connect() for _ in range(db._POOL["pool_size"])]
    refused = client.get("/voices/test-voice", headers=GERMAN)
    assert refused.status_code == 503
    assert refusal(refused) == (
        "Hier ist etwas nicht in Ordnung",
        "Die Aufzeichnungen sind gerade nicht erreichbar. Nichts wurde geändert; bitte senden Sie es gleich noch "
        "einmal.",
    )
    for connection in busy:
        connection.close()
    database.dispose()


@pytest.mark.parametrize(
    ("raised", "sentence"),
    [
        (RequestedRangeNotSatisfiable(), "Diese Anfrage lässt sich so, wie sie gesendet wurde, nicht beantworten."),
        (ImATeapot(), "Diese Anfrage lässt sich so, wie sie gesendet wurde, nicht beantworten."),
        (Gone(), "Diese Anfrage lässt sich so, wie sie gesendet wurde, nicht beantworten."),
        (ServiceUnavailable(), "Hier ist etwas schiefgegangen. Was Sie zuvor gesendet haben, ist sicher."),
        (errors.NotWhatWasReviewed(1), "Hier ist etwas nicht so, wie es geprüft wurde, daher wird es nicht gezeigt."),
        (RecursionError(), "Das ist zu tief verschachtelt, um gelesen zu werden."),
    ],
)
def test_has_a_sentence_for_whatever_else_is_refused(app: Flask, raised: Exception, sentence: str) -> None:
    def refuse() -> str:
        raise raised

    app.add_url_rule("/refuses", "refuses", open_to(Access.PUBLIC)(refuse))
    assert refusal(app.test_client().get("/refuses", headers=GERMAN))[1] == sentence


def test_tells_programs_the_same_in_english(client: FlaskClient) -> None:
    path = f"/api/v1/essays/{SLUG}/comments"
    told = client.post(path, headers=GERMAN | {"Transfer-Encoding": "chunked"}).get_json()
    assert told["title"] == "This came without saying how long it is, so it was not read. Nothing was changed."
