"""The addresses that templates write are those that the site answers at."""

from collections.abc import Callable

import pytest
from flask import Flask
from ground.house import House

from bridge.app import create_app
from bridge.page import paths
from bridge.text import language

SLUG, ID, TOKEN = "on-rest", "0" * 32, "token.of-a-letter"
GIVEN: dict[str, tuple[object, ...]] = {
    "voice": ("test-voice",),
    "comment": (ID,),
    "reply": (ID,),
    "report": (ID,),
}


def all_of_them() -> dict[str, Callable[..., str]]:
    """Return every address there is, by name."""
    return {
        name: each
        for name, each in vars(paths).items()
        if callable(each) and not name.startswith("_") and each.__module__ == paths.__name__
    }


def arguments(name: str, of: Callable[..., str]) -> tuple[object, ...]:
    """Return what an address is made of."""
    if name in GIVEN:
        return GIVEN[name]
    known = {"slug": SLUG, "token": TOKEN, "public_id": ID}
    wanted = of.__code__.co_varnames[: of.__code__.co_argcount]
    needed = wanted[: len(wanted) - len(of.__defaults__ or ())]
    return tuple(known.get(each, TOKEN) for each in needed)


@pytest.fixture
def app(house: House) -> Flask:
    return create_app(house.site)


@pytest.mark.parametrize("name", all_of_them())
def test_leads_to_something(app: Flask, name: str) -> None:
    address = all_of_them()[name](*arguments(name, all_of_them()[name]))
    at = app.url_map.bind("localhost")
    path = address.partition("#")[0].partition("?")[0]
    assert any(at.test(path, method) for method in ("GET", "POST")), path


def test_names_the_language_where_it_is_not_the_sites_own() -> None:
    with language.speaking("de", ("en", "de")):
        assert paths.essay(SLUG, page=2, anchor="letters") == f"/essays/{SLUG}?page=2&lang=de#letters"
    with language.speaking("en", ("en", "de")):
        assert paths.essay(SLUG, page=2, anchor="letters") == f"/essays/{SLUG}?page=2#letters"


def test_speaks_english_again_when_a_reader_was_answered(app: Flask) -> None:
    assert 'lang="de"' in app.test_client().get("/?lang=de").text
    assert language.tongue() == language.Tongue()
