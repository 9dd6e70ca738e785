"""A reader's own letters that nobody else can see: by their browser's cookie, and in a frame by their keys."""

from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from ground.house import SLUG, House, form, text, tree
from werkzeug.test import TestResponse

from bridge.letter import own_letters
from bridge.letter.comments import Receipt
from bridge.text.passages import Passage
from bridge.web.writing import author_cookie
from moderation import base

MINE = f"/essays/{SLUG}/mine"
BY_KEYS = f"/essays/{SLUG}/embed/mine"
FROM_FRAME = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}


def own(page: TestResponse) -> list[str]:
    """Return the public ids of the letters on a page."""
    return [each.attrib["data-own"] for each in tree(page).iter("article") if "data-own" in each.attrib]


def with_cookie(client: FlaskClient, house: House, secret: str) -> FlaskClient:
    """Let a browser have an author's secret."""
    client.set_cookie(author_cookie(house.site), secret)
    return client


def by_keys(client: FlaskClient, *keys: str, slug: str = SLUG) -> TestResponse:
    """Ask as the module in a frame does."""
    return client.post(f"/essays/{slug}/embed/mine", data={"key": list(keys)}, headers=FROM_FRAME)


@pytest.fixture
def waiting(house: House) -> Receipt:
    """A letter that waits."""
    return house.send("Will you see this letter?", passage=Passage(0, "rest well"))


def test_shows_a_letter_that_waits_to_its_author(client: FlaskClient, house: House, waiting: Receipt) -> None:
    page = with_cookie(client, house, waiting.author_secret).get(MINE)
    assert own(page) == [waiting.public_id]
    assert "Will you see this letter?" in text(page)
    assert "rest well" in text(page)
    assert "A person is going to read it." in text(page)
    assert f"/letters/{waiting.token}/change" in page.text


@pytest.mark.parametrize("secret", ["", "x", "guessed-secret-of-nobody-in-particular-at-all", "é" * 40])
def test_shows_it_to_nobody_else(client: FlaskClient, house: House, waiting: Receipt, secret: str) -> None:
    page = with_cookie(client, house, secret).get(MINE)
    assert own(page) == []
    assert "Will you see this letter?" not in page.text


def test_shows_it_under_its_own_essay_only(client: FlaskClient, house: House, waiting: Receipt) -> None:
    house.essay("another")
    assert own(with_cookie(client, house, waiting.author_secret).get("/essays/another/mine")) == []
    assert own(by_keys(client, waiting.token, slug="another")) == []


def test_says_where_it_belongs(client: FlaskClient, house: House) -> None:
    _, reply = house.exchange()
    sent = house.send("And at night?", parent=reply)
    page = with_cookie(client, house, sent.author_secret).get(MINE)
    assert f'data-answers="{reply}"' in page.text


def test_leaves_out_what_everybody_sees(client: FlaskClient, house: House, waiting: Receipt) -> None:
    house.approve(waiting.public_id)
    assert own(with_cookie(client, house, waiting.author_secret).get(MINE)) == []


def test_tells_of_a_letter_that_was_not_posted(client: FlaskClient, house: House, waiting: Receipt) -> None:
    house.reject(waiting.public_id)
    page = with_cookie(client, house, waiting.author_secret).get(MINE)
    assert own(page) == [waiting.public_id]
    assert "A person read it and did not post it. The reason: Private facts about a person." in text(page)
    assert f"/letters/{waiting.token}/change" not in page.text


def test_forgets_a_letter_that_was_not_posted_in_time(
    client: FlaskClient, house: House, waiting: Receipt, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.reject(waiting.public_id)
    monkeypatch.setattr(own_letters, "now", lambda: base.now() + own_letters.REMEMBERED + timedelta(minutes=1))
    assert own(with_cookie(client, house, waiting.author_secret).get(MINE)) == []


def test_leaves_out_what_was_taken_back(client: FlaskClient, house: House, waiting: Receipt) -> None:
    client.post(f"/letters/{waiting.token}/withdrawal", headers=FROM_FRAME)
    assert own(with_cookie(client, house, waiting.author_secret).get(MINE)) == []


def test_tells_that_another_person_reads_an_appeal(client: FlaskClient, house: House, waiting: Receipt) -> None:
    house.reject(waiting.public_id)
    form(client.get(f"/letters/{waiting.token}"), "/appeal").submit(client, words="It is about the essay.")
    page = with_cookie(client, house, waiting.author_secret).get(MINE)
    assert "Another person is going to read it." in text(page)
    assert f"/letters/{waiting.token}/change" not in page.text


def test_shows_the_newest_words_of_a_letter_that_was_changed(
    client: FlaskClient, house: House, waiting: Receipt
) -> None:
    form(client.get(f"/letters/{waiting.token}/change"), "/change").submit(client, body="Other words entirely.")
    page = with_cookie(client, house, waiting.author_secret).get(MINE)
    assert "Other words entirely." in text(page)
    assert "Will you see this letter?" not in page.text


def test_opens_the_letters_whose_keys_come_from_a_frame(client: FlaskClient, house: House, waiting: Receipt) -> None:
    other = house.send("By somebody else.", author="Other")
    page = by_keys(client, waiting.token, "no-such-key", other.token, waiting.token[:-1])
    assert own(page) == [waiting.public_id, other.public_id]


def test_opens_nothing_in_a_frame_by_a_cookie(client: FlaskClient, house: House, waiting: Receipt) -> None:
    assert own(by_keys(with_cookie(client, house, waiting.author_secret))) == []


def test_looks_at_few_keys(client: FlaskClient, house: House, waiting: Receipt) -> None:
    assert own(by_keys(client, waiting.token, *["no-such-key"] * own_letters.AT_MOST)) == []


def test_may_stand_in_a_frame_with_the_keys_only(client: FlaskClient, waiting: Receipt) -> None:
    assert client.get(MINE).headers["X-Frame-Options"] == "DENY"
    assert client.get(BY_KEYS).status_code == 405


@pytest.mark.parametrize("way", ["page", "frame"])
def test_is_kept_by_no_cache(client: FlaskClient, house: House, waiting: Receipt, way: str) -> None:
    page = client.get(MINE) if way == "page" else by_keys(client, waiting.token)
    assert page.headers["Cache-Control"] == "no-store"


def test_answers_no_other_site(client: FlaskClient, waiting: Receipt) -> None:
    sent = client.post(BY_KEYS, data={"key": waiting.token}, headers={"Sec-Fetch-Site": "cross-site"})
    assert sent.status_code == 403


@pytest.mark.parametrize("address", ["/essays/no-such-essay/mine", "/essays/unread/mine"])
def test_knows_no_essay_that_is_not_out(client: FlaskClient, house: House, address: str) -> None:
    house.essay("unread", released=False)
    assert client.get(address).status_code == 404


def test_changes_nothing(client: FlaskClient, house: House, waiting: Receipt) -> None:
    before = house.contents()
    with_cookie(client, house, waiting.author_secret).get(MINE)
    by_keys(client, waiting.token)
    assert house.contents() == before
