"""Webmentions on their way, against a server that stands in for the rest of the world."""

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qs

import pytest
from ground.standing_in import Asked, StandingIn, Told, standing_in
from ground.workshop import Workshop
from sqlalchemy import select
from sqlalchemy import text as sql

from bridge.letter import mentions
from bridge.records import Comment, Mention
from bridge.signal import blocks
from bridge.signal.blocks import What
from moderation.queue import pending
from workers import mentioning, outside

SITE = "https://letters.house.net"
TARGET = "http://localhost:8000/essays/on-rest"
PAGE = f"""<div class="h-entry"><a class="p-author h-card" href="/">Ann</a>
<p class="e-content">I thought of <a href="{TARGET}">it</a>.</p></div>"""


def html(body: str, status: int = 200, **headers: str) -> Told:
    return Told(body.encode(), status, "text/html; charset=utf-8", headers)


@pytest.fixture(autouse=True)
def _everywhere_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let 127.0.0.1 stand for a public address, and count as elsewhere."""
    monkeypatch.setattr(outside, "PUBLIC", outside.ANYWHERE)


def receive(workshop: Workshop, server: StandingIn, path: str = "/1") -> int:
    mentions.receive(workshop.site, server.url + path, TARGET)
    return rows(workshop)[-1].id


def rows(workshop: Workshop) -> list[Mention]:
    with workshop.site.database.reading_sessions() as session:
        return list(session.scalars(select(Mention).order_by(Mention.id)))


def letter(workshop: Workshop) -> tuple[str, str] | None:
    with workshop.site.database.reading_sessions() as session:
        comment = session.scalars(select(Comment)).one_or_none()
        waiting = pending(session, comment.submission_id) if comment else None
    return (waiting.author, waiting.body) if waiting else None


def test_looks_at_the_page_and_puts_what_it_says_before_the_gate(workshop: Workshop) -> None:
    with standing_in(lambda _: html(PAGE)) as server:
        number = receive(workshop, server)
        assert mentioning.see_to(workshop.site, number) == "done"
        assert mentioning.see_to(workshop.site, number) == "nothing to do"
    assert letter(workshop) == ("Ann", f"> I thought of it.\n\n<{server.url}/1>")
    assert [each.method for each in server.asked] == ["GET"]


def test_takes_the_letter_back_when_the_page_is_gone(workshop: Workshop) -> None:
    answers = [html(PAGE), html("", 410)]
    with standing_in(lambda _: answers.pop(0)) as server:
        mentioning.see_to(workshop.site, receive(workshop, server))
        assert mentioning.see_to(workshop.site, receive(workshop, server)) == "refused"
    assert letter(workshop) is None
    assert rows(workshop)[0].why == "The page is gone."


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (html("<p>No link.</p>"), "The page does not link to the essay."),
        (html(PAGE, 403), "It answered 403."),
        (Told(PAGE.encode(), 200, "application/pdf"), "It is neither HTML nor plain text."),
        (html("x" * (mentioning.MOST_BYTES + 1)), "larger than"),
    ],
)
def test_adds_nothing_where_nothing_is(workshop: Workshop, told: Told, why: str) -> None:
    with standing_in(lambda _: told) as server:
        assert mentioning.see_to(workshop.site, receive(workshop, server)) == "refused"
    assert letter(workshop) is None
    assert why in (rows(workshop)[0].why or "")


@pytest.mark.parametrize("blocked", ["short.example", "pills.example"])
def test_takes_nothing_from_a_blocked_domain_wherever_it_stands(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, blocked: str
) -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    def answer(asked: Asked) -> Told:
        there = f"http://www.pills.example:{asked.headers['host'].rpartition(':')[2]}/2"
        return html(PAGE) if asked.path == "/2" else html("", 302, location=there)

    monkeypatch.setattr(outside, "PUBLIC", replace(outside.ANYWHERE, resolve=resolve))
    with standing_in(answer) as server:
        mentions.receive(workshop.site, f"{server.url.replace('127.0.0.1', 'short.example')}/1", TARGET)
        blocks.add(workshop.site, What.DOMAIN, blocked, "", moderator=workshop.people[0])
        assert mentioning.see_to(workshop.site, rows(workshop)[-1].id) == "refused"
    assert letter(workshop) is None
    assert rows(workshop)[-1].why == "Webmentions from this site are not taken."


def test_tries_again_when_the_page_is_not_there_now(workshop: Workshop) -> None:
    answers = [html("", 503), html(PAGE)]
    with standing_in(lambda _: answers.pop(0)) as server:
        number = receive(workshop, server)
        assert mentioning.see_to(workshop.site, number) == "it is tried again"
        assert mentioning.see_to(workshop.site, number) == "nothing to do"
        with workshop.site.database.sessions.begin() as session:
            session.execute(sql("UPDATE mentions SET not_before = 1"))
        assert mentioning.see_to(workshop.site, number) == "done"


def test_calls_nobody_in_its_own_network(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "PUBLIC", outside.Bounds(ports=None))
    with standing_in(lambda _: html(PAGE)) as server:
        assert mentioning.see_to(workshop.site, receive(workshop, server)) == "refused"
    assert server.asked == []


# Out.


def essay_linking_to(workshop: Workshop, address: str) -> int:
    settings = workshop.site.settings.model_copy(update={"site_url": SITE})
    workshop.site = replace(workshop.site, settings=settings)
    workshop.essay(f"# On links\n\n[There]({address}).")
    return rows(workshop)[-1].id


def receiving(page: Callable[[Asked], Told], said: Told | None = None) -> Callable[[Asked], Told]:
    return lambda asked: (said or html("", 202)) if asked.method == "POST" else page(asked)


PAGES: list[Callable[[Asked], Told]] = [
    lambda _: html('<link rel="webmention" href="/wm?x=1">'),
    lambda _: html('<p><a rel="webmention" href="wm?x=1">tell me</a>'),
    lambda _: html("", link='</wm?x=1>; rel="webmention"'),
    lambda _: html("", link='<https://o.example/>; rel="other", </wm?x=1>; rel="x webmention"'),
    lambda asked: (
        Told(b"", 302, headers={"location": "/there/"})
        if asked.path == "/"
        else html('<a rel=webmention href="/wm?x=1">')
    ),
]


@pytest.mark.parametrize("page", PAGES, ids=range(len(PAGES)))
def test_tells_a_page_where_it_wants_to_be_told(workshop: Workshop, page: Callable[[Asked], Told]) -> None:
    with standing_in(receiving(page)) as server:
        number = essay_linking_to(workshop, f"{server.url}/")
        assert mentioning.see_to(workshop.site, number) == "done"
    asked = server.asked[-1]
    assert (asked.method, asked.path) == ("POST", "/wm?x=1")
    assert parse_qs(asked.body.decode()) == {"source": [f"{SITE}/essays/on-links"], "target": [f"{server.url}/"]}


def test_tells_no_page_that_does_not_want_it(workshop: Workshop) -> None:
    with standing_in(lambda _: html("<p>Hello</p>")) as server:
        assert mentioning.see_to(workshop.site, essay_linking_to(workshop, f"{server.url}/")) == "done"
    assert [each.method for each in server.asked] == ["GET"]
    assert rows(workshop)[-1].why == "It takes no webmentions."


@pytest.mark.parametrize(("status", "came"), [(200, "done"), (400, "refused"), (503, "it is tried again")])
def test_hears_what_it_is_answered(workshop: Workshop, status: int, came: str) -> None:
    with standing_in(receiving(PAGES[2], html("", status))) as server:
        assert mentioning.see_to(workshop.site, essay_linking_to(workshop, f"{server.url}/")) == came


def test_tells_nobody_in_its_own_network_though_a_page_says_so(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        standing_in(lambda _: html("")) as inner,
        standing_in(lambda _: html("", link=f'<{inner.url}/>; rel="webmention"')) as server,
    ):
        real = outside.post

        async def post(url: str, **how: object) -> outside.Answer:
            return await real(url, **{**how, "within": outside.Bounds(ports=None)})  # type: ignore[arg-type]

        monkeypatch.setattr(outside, "post", post)
        assert mentioning.see_to(workshop.site, essay_linking_to(workshop, f"{server.url}/")) == "refused"
    assert inner.asked == []
