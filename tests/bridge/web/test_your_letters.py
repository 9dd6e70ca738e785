"""What a reader is shown of what is kept about them: by a mailed link, as a file, and until they erase it."""

import json

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground.house import House, form, site_over, text, tree
from ground.postbag import READER, confirmed, events, put_down
from sqlalchemy import event

from bridge.app import create_app
from bridge.letter import admission, belongings, comments

OTHER = "somebody-else@letters.example"


def link(house: House) -> str:
    """Return the path of the link that was mailed last."""
    mail = put_down(house.site)[-1].mail
    assert mail is not None
    [line] = [line for line in mail.text.splitlines() if "/your-letters/" in line]
    assert line.startswith(house.site.settings.address)
    return line.removeprefix(house.site.settings.address)


def ask(client: FlaskClient, email: str = READER) -> str:
    answer = form(client.get("/your-letters"), "/your-letters").submit(client, email=email)
    assert answer.status_code == 303
    assert answer.location is not None
    return answer.location


def test_walks_from_the_form_over_the_mail_to_the_file_and_the_erasure(house: House, client: FlaskClient) -> None:
    sent, _ = house.exchange("Do you dream of heliotropes?", email=READER)
    house.send("Somebody else's canary.", email=OTHER)
    assert "Look into your mail" in text(client.get(ask(client)))
    path = link(house)
    page = client.get(path)
    assert "Do you dream of heliotropes?" in text(page)
    assert "canary" not in page.text
    [letter] = [each.get("href") for each in tree(page).iter("a") if "/letters/" in (each.get("href") or "")]
    assert letter == f"/letters/{sent.token}"
    file = form(page, "/file").submit(client)
    assert file.headers["Content-Disposition"] == 'attachment; filename="your-letters.json"'
    assert (file.mimetype, file.headers["Cache-Control"]) == ("application/json", "no-store")
    whole = json.loads(file.data)
    assert [each["id"] for each in whole["letters"]] == [sent.public_id]
    [erase] = [each.get("href") or "" for each in tree(page).iter("a") if (each.get("href") or "").endswith("/erasure")]
    asked = client.get(erase)
    assert "Nobody can bring it back" in text(asked)
    done = form(asked, "/erasure").submit(client)
    assert "Everything is erased" in text(client.get(done.location or ""))
    assert comments.held(house.site, sent.public_id).standing.erased_at is not None
    assert READER not in repr(house.contents())
    for again in (client.get(path), client.get(erase), client.post(f"{path}/file"), client.post(f"{path}/erasure")):
        assert again.status_code == 404


def test_answers_alike_whether_an_address_is_known_or_not(house: House, client: FlaskClient) -> None:
    house.send(email=READER)
    confirmed(house.site)
    answers = []
    for email in (READER, OTHER, *[READER] * belongings.MOST_LINKS):
        answer = client.post("/your-letters", data={"email": email})
        page = client.get(answer.location or "")
        answers.append((answer.status_code, answer.location, answer.data, sorted(answer.headers), page.data))
        assert email not in f"{answer.location} {answer.text} {page.text}"
        assert "Set-Cookie" not in answer.headers
    assert len({repr(each) for each in answers}) == 1
    assert events(house.site) == ["ask"] + ["data"] * belongings.MOST_LINKS


def test_does_as_much_for_an_address_that_is_not_known(house: House, client: FlaskClient) -> None:
    # So that how long it takes does not tell either: the same mail is made, encrypted and written, and taken back.
    house.send(email=READER)
    done: list[list[str]] = []
    for email in (READER, OTHER):
        statements: list[str] = []
        done.append(statements)

        def note(_c: object, _k: object, statement: str, *_: object, statements: list[str] = statements) -> None:
            statements.append(statement.split()[0])

        for engine in (house.site.database.writing, house.site.database.reading):
            event.listen(engine, "before_cursor_execute", note)
        client.post("/your-letters", data={"email": email})
        for engine in (house.site.database.writing, house.site.database.reading):
            event.remove(engine, "before_cursor_execute", note)
    known, unknown = done
    assert known.count("INSERT") == unknown.count("INSERT") == 1


def test_keeps_what_was_typed_where_it_is_no_address(house: House, client: FlaskClient) -> None:
    before = house.contents()
    answer = client.post("/your-letters", data={"email": "reader at letters"})
    assert answer.status_code == 422
    assert "cannot be an e-mail address" in text(answer)
    assert form(answer, "/your-letters").fields["email"] == "reader at letters"
    assert house.contents() == before


def test_asks_for_patience_where_somebody_asks_for_many(house: House) -> None:
    house.send(email=READER)
    site = site_over(house.site.database, house.site.settings.data, rate_limits="on")
    client = create_app(site).test_client()
    statuses = [client.post("/your-letters", data={"email": OTHER}).status_code for _ in range(7)]
    assert statuses == [303] * admission.DATA_REQUESTS.times + [429] * (7 - admission.DATA_REQUESTS.times)


def test_changes_nothing_when_a_link_is_opened(house: House, client: FlaskClient) -> None:
    house.exchange(email=READER)
    ask(client)
    path = link(house)
    before = house.contents()
    for each in (path, f"{path}/erasure", "/your-letters", "/your-letters/asked", "/your-letters/erased"):
        for method in (client.get, client.head):
            assert method(each).status_code == 200
    assert client.get(f"{path}/file").status_code == 405
    assert client.post(f"{path}/file").status_code == 200
    assert house.contents() == before


def test_refuses_a_form_of_another_site(house: House, client: FlaskClient) -> None:
    house.send(email=READER)
    ask(client)
    path = link(house)
    before = house.contents()
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        for each in ("/your-letters", f"{path}/file", f"{path}/erasure"):
            assert client.post(each, headers=headers, data={"email": READER}).status_code == 403
    assert house.contents() == before


def test_shows_hostile_words_as_words(house: House, client: FlaskClient) -> None:
    hostile = "<script>alert(1)</script> \u202e[x](javascript:alert(1))"
    house.send(hostile, author="<img src=x onerror=alert(1)>", email=READER)
    ask(client)
    page = client.get(link(house))
    assert [each for each in tree(page).iter() if each.tag in {"script", "img"}] == []
    assert "<script>alert(1)</script>" in text(page)


@pytest.mark.parametrize("code", ["de", "ar"])
def test_stays_in_the_language_it_was_asked_in(house: House, app: Flask, code: str) -> None:
    house.send(email=READER)
    client = app.test_client()
    answer = client.post(f"/your-letters?lang={code}", data={"email": READER})
    assert answer.location == f"/your-letters/asked?lang={code}"
    assert link(house).endswith(f"?lang={code}")
    assert f'lang="{code}"' in client.get(link(house)).text
