"""The pages that links in mail lead to: a button, which alone acts, also for a mail program that presses it itself."""

from xml.etree.ElementTree import Element

import pytest
from flask.testing import FlaskClient
from ground.house import Form, House, tree
from ground.postbag import READER, confirmed, events, path_to, put_down
from sqlalchemy import select, update

from bridge.mail import correspondents
from bridge.mail.correspondents import AddressStanding
from bridge.records import Address, Comment


@pytest.fixture
def asked(house: House) -> House:
    """A house whose reader was asked whether an address is theirs."""
    house.send(email=READER)
    return house


def standing(house: House) -> AddressStanding:
    with house.site.database.reading_sessions() as session:
        return correspondents.standing(session, session.get_one(Comment, 1))


def heading(page: str) -> str:
    [found] = tree(page).iter("h1")
    return "".join(found.itertext())


def path_in(house: House, kind: str) -> str:
    return path_to(kind, put_down(house.site)[0])


def test_changes_nothing_when_a_link_is_opened(asked: House, client: FlaskClient) -> None:
    before = asked.contents()
    for kind in ("confirm", "stop"):
        for method in (client.get, client.head):
            assert method(path_in(asked, kind)).status_code == 200
    assert asked.contents() == before


def test_confirms_when_the_button_is_pressed(asked: House, client: FlaskClient) -> None:
    page = client.get(path_in(asked, "confirm"))
    assert heading(page.text) == "Is this you?"
    yes = next(tree(page).iter("form"))
    answer = Form(yes).submit(client)
    assert answer.status_code == 303
    assert standing(asked) is AddressStanding.CONFIRMED
    assert heading(client.get(answer.location).text) == "You are told by mail"


def test_acts_once_however_often_the_button_is_pressed(asked: House, client: FlaskClient) -> None:
    path, stop = path_in(asked, "confirm"), path_in(asked, "stop")
    assert [client.post(path).status_code for _ in range(2)] == [303, 303]
    client.post(stop)
    client.post(path)
    assert standing(asked) is AddressStanding.STOPPED
    assert heading(client.get(path).text) == "You get no mail"


def test_asks_no_more_who_says_that_it_was_not_them(asked: House, client: FlaskClient) -> None:
    no = list(tree(client.get(path_in(asked, "confirm"))).iter("form"))[1]
    answer = client.post(no.get("action", ""))
    assert heading(answer.text) == "You get no more mail"
    assert standing(asked) is AddressStanding.STOPPED


def test_ends_mail_for_a_mail_program_that_presses_the_button_itself(asked: House, client: FlaskClient) -> None:
    confirmed(asked.site)
    asked.post("Another.", email=READER)
    last = put_down(asked.site)[-1]
    assert last.mail is not None
    address = last.mail.headers["List-Unsubscribe"].strip("<>").removeprefix("http://localhost:8000")
    body = dict([last.mail.headers["List-Unsubscribe-Post"].split("=")])
    for _ in range(2):
        answer = client.post(address, data=body)
        assert answer.status_code == 200
        assert "Set-Cookie" not in answer.headers
    assert standing(asked) is AddressStanding.STOPPED
    asked.post("One more.", email=READER)
    assert events(asked.site) == ["ask", "posted"]


def test_ends_mail_also_to_an_address_that_is_kept_no_longer(asked: House, client: FlaskClient) -> None:
    stop = path_in(asked, "stop")
    with asked.site.database.sessions.begin() as session:
        session.execute(update(Address).values(sealed=None))
    assert heading(client.get(stop).text) == "No more mail?"
    for _ in range(2):
        answer = client.post(stop, data={"List-Unsubscribe": "One-Click"})
        assert (answer.status_code, heading(answer.text)) == (200, "You get no more mail")
        assert not list(tree(answer).iter("form")), "there is no address to take it up again"
    assert heading(client.get(stop).text) == "You get no more mail"
    with asked.site.database.reading_sessions() as session:
        assert session.scalars(select(Address)).one().stopped_at is not None


def test_takes_mail_up_again_for_who_wants_it_after_all(asked: House, client: FlaskClient) -> None:
    stopped = client.post(path_in(asked, "stop"))
    [again] = tree(stopped).iter("form")
    assert client.post(again.get("action", "")).status_code == 303
    assert standing(asked) is AddressStanding.CONFIRMED


def test_refuses_a_button_on_another_site(asked: House, client: FlaskClient) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert client.post(path_in(asked, "confirm"), headers=headers).status_code == 403
        assert client.post(path_in(asked, "stop"), headers=headers).status_code == 403
    assert standing(asked) is AddressStanding.ASKED


def test_tells_unknown_links_from_expired_ones_to_nobody(asked: House, client: FlaskClient) -> None:
    confirm, stop = path_in(asked, "confirm"), path_in(asked, "stop")
    letter = asked.send("Another.").token
    wrong = [
        confirm[:-1],
        stop[:-1],
        confirm.replace("confirm", "stop"),
        stop.replace("stop", "confirm"),
        f"/mail/confirm/{letter}",
        f"/mail/stop/{letter}",
        f"/letters/{confirm.rpartition('/')[2]}",
        f"/letters/{stop.rpartition('/')[2]}",
        "/mail/confirm/1-99999999999-AAAAAAAAAAAAAAAA.AAAA",
    ]
    before = asked.contents()
    for path in wrong:
        assert client.get(path).status_code == 404, path
        if path.startswith("/mail/"):
            assert client.post(path).status_code == 404, path
    assert asked.contents() == before


def test_keeps_links_out_of_caches_and_other_sites(asked: House, client: FlaskClient) -> None:
    for kind in ("confirm", "stop"):
        answer = client.get(path_in(asked, kind))
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert READER not in answer.text


def test_speaks_the_language_of_the_mail(asked: House, client: FlaskClient) -> None:
    page: Element = tree(client.get(path_in(asked, "confirm") + "?lang=ar"))
    assert (page.get("lang"), page.get("dir")) == ("ar", "rtl")
    assert all("lang=ar" in each.get("action", "") for each in page.iter("form"))
