"""Who may show an essay's correspondence in a frame, and the numbers that other pages ask for."""

from pathlib import Path

import pytest
from ground.house import SLUG, House

from bridge.essay import embedding, essays
from bridge.essay.essays import EssayRefused, NoSuchEssay
from bridge.letter import comments
from bridge.settings import Settings


def settings(embed_parents: str | None = None) -> Settings:
    return Settings(_env_file=None, emeritus_data=Path("data"), embed_parents=embed_parents)  # type: ignore[call-arg]


def test_allows_nobody_unless_it_is_said() -> None:
    assert embedding.parents(settings(), None, None) == ()


def test_allows_the_sites_list_the_essays_own_and_where_it_first_appeared_each_once() -> None:
    own = "https://b.example https://a.example"
    allowed = embedding.parents(settings("https://a.example"), own, "https://c.example/2024/on-rest?x#y")
    assert allowed == ("https://a.example", "https://b.example", "https://c.example")


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Blog.Example/x", "https://blog.example"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("https://b\u00fccher.example/", "https://xn--bcher-kva.example"),
        ("https://who:what@blog.example/", "https://blog.example"),
        ("https://*/", None),
        ("https://*.example/", None),
        ("https://a.example;script-src *", None),
        ("https://a.example 'self'/", None),
        ("https://[::1]/", None),
        ("https://a.example:99999/", None),
        ("https:///x", None),
        ("ftp://a.example/", None),
        ("", None),
    ],
)
def test_takes_of_an_address_its_origin_and_nothing_that_would_widen_a_policy(url: str, origin: str | None) -> None:
    assert embedding.origin_of(url) == origin


def test_keeps_what_an_operator_allows(house: House) -> None:
    assert embedding.allow(house.site, SLUG, None) == ()
    allowed = ("https://a.example", "http://127.0.0.1:8080")
    assert embedding.allow(house.site, SLUG, "https://A.example/ http://127.0.0.1:8080 https://a.example") == allowed
    assert embedding.allow(house.site, SLUG, None) == allowed
    assert embedding.allow(house.site, SLUG, "") == ()


@pytest.mark.parametrize("wrong", ["*", "a.example", "https://*.example", "https://a.example/blog", "'self'"])
def test_refuses_what_is_no_origin_and_changes_nothing(house: House, wrong: str) -> None:
    embedding.allow(house.site, SLUG, "https://a.example")
    with pytest.raises(EssayRefused):
        embedding.allow(house.site, SLUG, f"https://b.example {wrong}")
    assert embedding.allow(house.site, SLUG, None) == ("https://a.example",)
    with pytest.raises(NoSuchEssay):
        embedding.allow(house.site, "no-such", "https://a.example")


def test_counts_what_is_posted_of_released_essays_only(any_house: House) -> None:
    any_house.exchange()
    withdrawn = any_house.post("Taken back.")
    comments.take_back(any_house.site, withdrawn.public_id)
    any_house.post("Posted.")
    any_house.send("Waits.")
    any_house.essay("pending", released=False)
    with any_house.site.database.reading_sessions() as session:
        found = embedding.counts(session, [SLUG, "pending", "no-such"])
        assert embedding.counts(session, []) == {}
    assert {slug: (each.letters, each.answered) for slug, each in found.items()} == {SLUG: (2, 1)}


def test_finds_the_page_of_what_is_posted_or_was(any_house: House) -> None:
    sent, reply = any_house.exchange()
    waits = any_house.send("Waits.")
    any_house.post("Another, which waits for its answer.")
    (pending_reply,) = any_house.answer("Nobody decided on this.")
    any_house.essay("second")
    with any_house.site.database.reading_sessions() as session:
        for public_id in (sent.public_id, reply):
            assert embedding.page_of(session, SLUG, public_id) == 1
            assert embedding.page_of(session, "second", public_id) is None
        for unknown in (waits.public_id, pending_reply, "0" * 32):
            assert embedding.page_of(session, SLUG, unknown) is None
    comments.take_back(any_house.site, sent.public_id)
    with any_house.site.database.reading_sessions() as session:
        assert embedding.page_of(session, SLUG, sent.public_id) == 1


def test_keeps_the_parents_that_an_essay_was_added_with(house: House) -> None:
    with house.site.database.sessions.begin() as session:
        voice = essays.published(session, SLUG).voice
        added = essays.submit_essay(session, voice, "# On sleep\n\nI do not.", parents="https://a.example/")
        assert added.embed_parents == "https://a.example"
        with pytest.raises(EssayRefused):
            essays.submit_essay(session, voice, "# On walks\n\nI do not.", parents="everywhere")
