"""After any withdrawal, takedown or erasure no surface serves what is no longer released: every address is tried."""

from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground.house import SLUG, House, live

from bridge.app import create_app
from bridge.letter import comments, erasure
from bridge.web.access import Access, declared

NAME, LETTER, BELOW, ANSWER = "Canaryname", "canaryletter", "canarybelow", "canaryanswer"
ESSAY = "canaryessay"


@pytest.fixture
def app(house: House) -> Flask:
    return create_app(house.site)


def surfaces(app: Flask, house: House, slug: str) -> Iterator[str]:
    """Yield each address of a reader's, with the essay at *slug* and each letter and answer under it."""
    lived = live(house)
    client = app.test_client()
    listed = client.get(f"/api/v1/essays/{slug}/thread").json or {}
    letters = [each["id"] for each in listed.get("comments", [])]
    answers = [each["reply"]["id"] for each in listed.get("comments", []) if each["reply"]]
    for rule in app.url_map.iter_rules():
        if "GET" not in (rule.methods or set()) or declared(app, rule.endpoint) not in {Access.PUBLIC, Access.AUTHOR}:
            continue
        if rule.endpoint == "static":
            continue
        path = lived.address(rule).replace(SLUG, slug)
        for known, ids in ((lived.comment, letters), (lived.reply, answers)):
            if known in path:
                yield from (path.replace(known, each) for each in ids)
        yield path
        for more in ("lang=de", "lang=ar", "page=1", "limit=50", f"essays={slug}", f"of={slug}", f"url=/essays/{slug}"):
            yield f"{path}?{more}"


def read(client: FlaskClient, addresses: list[str]) -> dict[str, str]:
    """Return what stands at each address, without what only repeats the address."""
    return {each: client.get(each).text.replace(each, "") for each in addresses}


ENDINGS: dict[str, tuple[Callable[[House, str, str], None], list[str]]] = {
    "taken back": (lambda house, letter, _: comments.take_back(house.site, letter), [NAME, LETTER, ANSWER]),
    "erased": (lambda house, letter, _: _erase(house, letter), [NAME, LETTER, ANSWER]),
    "letter taken down": (lambda house, letter, _: house.take_down(house.submission(letter)), [NAME, LETTER]),
    "answer taken down": (lambda house, _, answer: house.take_down(house.submission(answer)), [ANSWER]),
    "essay taken down": (
        lambda house, *_: house.take_down(house.submission_of_essay("of-canaries")),
        [NAME, LETTER, BELOW, ANSWER, ESSAY],
    ),
}


def _erase(house: House, letter: str) -> None:
    erasure.erase_comment(house.site, letter)


@pytest.mark.parametrize("ending", ENDINGS)
def test_serves_nothing_that_is_no_longer_released(house: House, app: Flask, ending: str) -> None:
    house.essay("of-canaries", f"# Of canaries\n\nThey sing, {ESSAY}.")
    sent, answer = house.exchange(LETTER, ANSWER, author=NAME, slug="of-canaries")
    house.post(BELOW, parent=answer, slug="of-canaries")
    addresses = list(dict.fromkeys(surfaces(app, house, "of-canaries")))
    client = app.test_client()
    act, canaries = ENDINGS[ending]
    before = read(client, addresses)
    for canary in canaries:
        assert sum(canary in page for page in before.values()) >= 5, canary
    act(house, sent.public_id, answer)
    after = read(client, addresses)
    assert [(canary, each) for canary in canaries for each, page in after.items() if canary in page] == []
