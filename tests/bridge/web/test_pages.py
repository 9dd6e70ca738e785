"""What readers meet: a letter's way by plain forms, its author's page in every state, and hostile words everywhere."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground.house import (
    CLEO,
    ESSAY,
    MODEL,
    PASSWORD,
    REASON,
    SLUG,
    VOICE,
    House,
    Lived,
    bearer,
    desk_of,
    form,
    live,
    sign_in,
    text,
    tree,
)
from markupsafe import Markup
from sqlalchemy import update
from werkzeug.test import TestResponse

from bridge.answer import waits
from bridge.answer.waits import Waits
from bridge.essay import essays
from bridge.letter import belongings, comments, reports
from bridge.mail import correspondents, links
from bridge.mail.correspondents import AddressStanding
from bridge.page import checkpoints, printing
from bridge.page.metadata import AI_SOURCE
from bridge.people import accounts
from bridge.records import RequestState, Voice
from bridge.text import markup
from bridge.text.passages import Passage
from bridge.voice import voices
from bridge.voice.voices import NewVoice
from bridge.web.access import Access, declared
from moderation import base, gate
from moderation.queue import awaiting_review, pending
from moderation.types import Pending, State

WRITE = f"/essays/{SLUG}/comments"
LETTER = {"author": "Reader", "body": "Do you\n\ndream?"}


def waiting_bodies(house: House) -> list[str]:
    with house.site.database.reading_sessions() as session:
        return [each.body for each in awaiting_review(session)]


def field(page: TestResponse, name: str) -> str:
    """Return what stands in a field of the page's form for a letter."""
    (found,) = [each for each in tree(page).iter() if each.get("name") == name and each.tag in {"input", "textarea"}]
    return (found.text or "") if found.tag == "textarea" else found.get("value", "")


# The author's page


def test_changes_a_letter_while_it_waits(house: House, client: FlaskClient) -> None:
    sent = house.send("Frist.", wants_reply=False)
    before = house.submission(sent.public_id)
    asked = form(client.get(f"/letters/{sent.token}/change"), "/change")
    assert (asked.fields["body"], asked.fields["author"]) == ("Frist.", "Reader")
    assert "no_reply_needed" in asked.fields
    assert asked.submit(client, body="First.\n\nSecond.").location == f"/letters/{sent.token}"
    assert house.state(before) is State.SUPERSEDED
    assert waiting_bodies(house) == ["First.\n\nSecond."]
    assert "First." in text(client.get(f"/letters/{sent.token}"))


def test_keeps_the_words_of_a_change_that_comes_too_late(house: House, client: FlaskClient) -> None:
    sent = house.send("As it was.")
    asked = form(client.get(f"/letters/{sent.token}/change"), "/change")
    house.approve(sent.public_id)
    response = asked.submit(client, body="As it should be.")
    assert response.status_code == 409
    assert field(response, "body") == "As it should be."
    assert waiting_bodies(house) == []
    assert client.get(f"/letters/{sent.token}/change").location == f"/letters/{sent.token}"


def test_keeps_the_words_of_a_change_that_is_refused(house: House, client: FlaskClient) -> None:
    sent = house.send("As it was.")
    asked = form(client.get(f"/letters/{sent.token}/change"), "/change")
    response = asked.submit(client, body="x" * 5001)
    assert response.status_code == 422
    assert field(response, "body") == "x" * 5001
    assert waiting_bodies(house) == ["As it was."]


def test_keeps_the_words_of_a_change_whose_answer_is_gone(house: House, client: FlaskClient) -> None:
    first, reply = house.exchange()
    sent = house.send("Really?", parent=reply)
    asked = form(client.get(f"/letters/{sent.token}/change"), "/change")
    comments.take_back(house.site, first.public_id)
    response = asked.submit(client, body="Truly?")
    assert response.status_code == 422
    assert field(response, "body") == "Truly?"


@pytest.mark.parametrize("posted", [False, True])
def test_takes_a_letter_back_at_the_press_of_a_button(house: House, client: FlaskClient, posted: bool) -> None:
    sent = house.post() if posted else house.send()
    page = client.get(f"/letters/{sent.token}")
    taken = form(page, "/withdrawal")
    for _ in range(2):
        assert taken.submit(client).location == f"/letters/{sent.token}"
    assert house.state(house.submission(sent.public_id)) is State.WITHDRAWN
    after = client.get(f"/letters/{sent.token}")
    assert "taken back" in text(after)
    assert "Do you dream?" not in after.text
    assert client.get(f"/comments/{sent.public_id}").status_code == (410 if posted else 404)


def test_takes_back_what_was_not_posted_from_a_page_loaded_before(house: House, client: FlaskClient) -> None:
    sent = house.send()
    taken = form(client.get(f"/letters/{sent.token}"), "/withdrawal")
    house.reject(sent.public_id, code="spam")
    assert taken.submit(client).status_code == 303
    assert house.state(house.submission(sent.public_id)) is State.WITHDRAWN


def rejected(house: House) -> str:
    sent = house.send("My words.")
    house.reject(sent.public_id, code="off_topic", told="Please write about the essay.", reason="Desk only.")
    return sent.token


def unwanted(house: House) -> str:
    return house.post("My words.", wants_reply=False).token


def asked(house: House) -> str:
    return house.post("My words.").token


def answered(house: House) -> str:
    sent = house.post("My words.")
    house.answer("Hidden answer.")
    return sent.token


def posted(house: House) -> str:
    return house.exchange("My words.", "Shown answer.")[0].token


def vetoed(house: House) -> str:
    sent = house.post("My words.")
    (reply,) = house.answer("Hidden answer.")
    house.reject(reply)
    house.reject(reply, by=house.ben)
    return sent.token


def declined(house: House) -> str:
    sent = house.post("My words.")
    house.hear({"content": [], "stop_reason": "end_turn"})
    return sent.token


def not_chosen(house: House) -> str:
    sent = house.post("My words.")
    house.settle(sent.public_id, RequestState.NOT_CHOSEN)
    return sent.token


def withheld(house: House) -> str:
    sent = house.post("My words.")
    house.hear({"content": [], "stop_reason": "refusal"})
    return sent.token


@pytest.mark.parametrize(
    ("lived", "told"),
    [
        (lambda house: house.send("My words.").token, "A person is going to read it"),
        (rejected, "The reason: Nothing to do with the essay"),
        (rejected, "Please write about the essay."),
        (unwanted, "You asked for no answer"),
        (asked, f"{VOICE} is asked"),
        (answered, "A person is going to read the answer"),
        (posted, "Read the answer"),
        (vetoed, "the answer was not posted"),
        (declined, "chose not to answer"),
        (not_chosen, "was shown what waited and chose other letters this time"),
        (withheld, "No answer came"),
    ],
)
def test_tells_an_author_how_their_letter_stands(
    house: House, client: FlaskClient, lived: Callable[[House], str], told: str
) -> None:
    page = client.get(f"/letters/{lived(house)}")
    assert page.status_code == 200
    assert told in text(page)
    assert "My words." in text(page)
    for hidden in ("Hidden answer.", "Desk only.", REASON, "Ada"):
        assert hidden not in text(page)


def test_dates_each_step_that_is_done(house: House, client: FlaskClient) -> None:
    steps = [each for each in tree(client.get(f"/letters/{posted(house)}")).iter("li") if each.get("class") == "done"]
    assert len(steps) == 4
    for step in steps:
        (at,) = step.iter("time")
        assert datetime.fromisoformat(at.get("datetime", "")) <= base.now()


def test_says_how_long_each_step_usually_takes_or_that_it_cannot_say(
    house: House, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = house.send()
    assert text(client.get(f"/letters/{sent.token}")).count("We cannot say yet how long that takes.") == 3
    measured = Waits(letter=5 * 3600, answer=90, verdict=2 * 86400)
    monkeypatch.setattr(waits, "usual", lambda site, voice_id: measured)
    told = text(client.get(f"/letters/{sent.token}"))
    for span in ("5 hours", "2 minutes", "2 days"):
        assert f"That usually takes about {span}." in told


@pytest.mark.parametrize(
    ("standing", "told"), [("asked", "confirm it"), ("confirmed", "told by e-mail"), ("stopped", "wants no mail")]
)
def test_says_how_the_authors_address_stands(
    house: House, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, standing: str, told: str
) -> None:
    sent = house.send(email="ada@example.org")
    monkeypatch.setattr(correspondents, "standing", lambda session, comment: AddressStanding(standing))
    page = client.get(f"/letters/{sent.token}")
    assert told in text(page)
    assert "ada@example.org" not in page.text
    comments.take_back(house.site, sent.public_id)
    assert told not in text(client.get(f"/letters/{sent.token}"))


def test_opens_an_authors_page_on_another_device_and_keeps_it_out_of_indexes(house: House, app: Flask) -> None:
    sent = house.send()
    page = app.test_client().get(f"/letters/{sent.token}")
    assert page.status_code == 200
    assert page.headers["Cache-Control"] == "no-store"
    assert [each.get("content") for each in tree(page).iter("meta") if each.get("name") == "robots"] == ["noindex"]


def test_shows_an_author_the_passage_that_they_wrote_about(house: House, client: FlaskClient) -> None:
    sent = house.send(passage=Passage(0, "I rest"))
    (quoted,) = tree(client.get(f"/letters/{sent.token}")).iter("blockquote")
    assert "".join(quoted.itertext()) == "AI I rest"


@pytest.mark.parametrize("path", ["/letters/x", "/letters/x/change", "/comments/x", "/replies/x", "/essays/x", "/x"])
def test_knows_no_page_that_is_not_there(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 404


# What is posted


def test_lists_essays_and_leads_to_them(client: FlaskClient) -> None:
    page = client.get("/")
    assert "On rest" in text(page)
    links = [each.get("href") for each in tree(page).iter("a")]
    assert f"/essays/{SLUG}" in links


@pytest.mark.parametrize("rehearsed", [False, True])
def test_says_beside_the_digest_too_who_wrote_an_answer(house: House, client: FlaskClient, rehearsed: bool) -> None:
    house.post("Do you dream?")
    (reply,) = house.answer("I do not.", rehearsed=rehearsed)
    house.approve(reply)
    (fields,) = [each for each in tree(client.get(f"/replies/{reply}")).iter("details") if each.get("class") == "check"]
    labels = [each.text for each in fields.iter("span") if "label" in each.get("class", "").split()]
    marks = [each.get("content") for each in fields.iter("meta") if each.get("itemprop") == "digitalSourceType"]
    assert labels == ["REHEARSAL" if rehearsed else "AI"]
    assert marks == ([] if rehearsed else [AI_SOURCE])
    assert ("itemscope" in fields.attrib, fields.get("data-ai")) == (True, None if rehearsed else "true")


def test_shows_letters_and_answers_with_who_wrote_them(house: House, client: FlaskClient) -> None:
    sent, reply = house.exchange("*Do* you dream?", "I do **not**.", author="Zoë")
    for path in (f"/essays/{SLUG}", f"/comments/{sent.public_id}", f"/replies/{reply}"):
        page = client.get(path)
        assert "<em>Do</em> you dream?" in page.text
        assert "I do <strong>not</strong>." in page.text
        assert {"Zoë", VOICE, "AI"} <= {(each.text or "").strip() for each in tree(page).iter()}
    assert client.get("/essays/nowhere").status_code == 404


def test_shows_how_an_answer_came_about(house: House, client: FlaskClient) -> None:
    _, reply = house.exchange()
    page = text(client.get(f"/replies/{reply}"))
    assert MODEL in page
    assert "by Ada" in page
    assert house.digest(house.submission(reply)) in page


def test_goes_on_to_later_letters(house: House, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.essay.thread.LETTERS_A_PAGE", 2)
    for number in range(5):
        house.post(f"letter{number}", wants_reply=False)
    path: str | None = f"/essays/{SLUG}"
    found = []
    while path is not None:
        page = client.get(path)
        found += re.findall(r"letter\d", page.text)
        later = [each.get("href", "") for each in tree(page).iter("a") if each.get("rel") == "next"]
        path = later[0].partition("#")[0] if later else None
    assert found == [f"letter{number}" for number in range(5)]


@pytest.mark.parametrize("page", ["x", "-1", "0", "2", "9" * 30, "²", "٣"])
def test_has_no_page_of_a_strange_number(house: House, client: FlaskClient, page: str) -> None:
    house.post("The first letter.")
    assert client.get(f"/essays/{SLUG}", query_string={"page": page}).status_code == 404


def test_answers_that_it_is_well(client: FlaskClient) -> None:
    assert client.get("/healthz").text == "ok\n"


# A new version of the pipeline (SECURITY, T9)


def surfaces(house: House, lived: Lived) -> list[str]:
    essay = f"/essays/{SLUG}"
    return [
        essay,
        f"/comments/{lived.comment}",
        f"/replies/{lived.reply}",
        f"/letters/{lived.link}",
        f"/api/v1{essay}",
        f"/api/v1{essay}/thread",
        f"/api/v1/comments/{lived.comment}",
        f"/api/v1/replies/{lived.reply}",
        "/api/v1/queue",
        "/desk/",
        f"/desk/submissions/{lived.pending}",
    ]


def test_shows_old_words_by_new_rules_everywhere(
    house: House, desk: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived = live(house)
    before, kept = markup.render, set(surfaces(house, lived)[-3:]) | {f"/letters/{lived.link}"}

    def by_new_rules(body: str, kind: markup.Kind, *, targets: bool = False) -> Markup:
        return before(body, kind, targets=targets) + Markup("<hr>")

    def shown() -> set[str]:
        headers = bearer(house.tokens.ada)
        return {at for at in surfaces(house, lived) if re.search("<hr>", desk.get(at, headers=headers).text)}

    assert shown() == set()
    monkeypatch.setattr(markup, "render", by_new_rules)
    # Without a new version, what was rendered before is shown; what nobody but its author or the desk sees is fresh.
    assert shown() <= kept
    monkeypatch.setattr(markup, "PIPELINE", f"{markup.PIPELINE}-next")
    monkeypatch.setattr(printing, "version", lambda settings: "next")
    house.print()
    assert shown() == set(surfaces(house, lived))


# Hostile words (SECURITY, B1)

HOSTILE = [
    '"><script>alert(1)</script><img src=//evil.example onerror=alert(1)>',
    "</textarea></title></style><svg onload=alert(1)>",
    "' autofocus onfocus='alert(1)' x='{{7*7}}q${7*7}",
    "[x](javascript:alert(1)) ![y](https://evil.example/p.png) <a href=data:text/html,x>",
    "<base href=//evil.example><meta http-equiv=refresh content=0><iframe src=//evil.example>",
]


def harmless(page: TestResponse | str) -> None:
    """Hold a page against what its browser would run or fetch."""
    html = page if isinstance(page, str) else page.text
    for node in tree(html).iter():
        tag = str(node.tag)
        assert tag not in {"iframe", "object", "embed", "svg", "math", "img", "style", "audio", "video"}
        assert tag != "base" or set(node.attrib) == {"target"}, "addresses would be read from elsewhere"
        for name, value in node.attrib.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in {"style", "srcdoc", "ping", "http-equiv", "formaction"}, (tag, name)
            if tag == "link" and node.get("rel") in {"canonical", "alternate"}:
                assert re.match(r"(http://localhost:8000)?/(?!/)", value) or name != "href", (tag, name, value)
            elif name in {"src", "action"} or (name == "href" and tag == "link"):
                assert re.match(r"/(?!/)", value), (tag, name, value)
            if name == "href":
                assert re.match(r"(/(?!/)|#|\?|https?://|mailto:)", value), (tag, value)
        if tag == "script" and node.get("type") == "application/ld+json":
            json.loads(node.text or "")  # It says something to machines and runs nothing.
        elif tag == "script":
            assert node.get("type") == "module" or node.get("src", "").startswith("/static/theme.js")
            assert not (node.text or "").strip()
    assert "49q$" not in html, "a template ran"
    assert "}q49" not in html, "a template ran"


@pytest.fixture(params=HOSTILE)
def beset(request: pytest.FixtureRequest, house: House) -> tuple[House, Lived, list[str]]:
    """A site with a hostile string in every text that a reader, a model, a moderator or an operator writes."""
    hostile: str = request.param
    site = house.site
    with site.database.sessions.begin() as session:
        accounts.add_moderator(
            session, "dora@desk.example", role="admin", password=PASSWORD, name=f"Dora {hostile}"[:80]
        )
        dora = accounts.moderator_of(session, "dora@desk.example")
        voice = voices.add(session, NewVoice(f"V {hostile}"[:80], MODEL, hostile, disclaimer=hostile))
        added = essays.submit_essay(
            session,
            voice,
            f"# T {hostile}\n\n{hostile}",
            slug="hostile",
            original_url=f"https://a.example/{hostile}",
        )
        waiting = pending(session, added.submission_id)
        assert waiting is not None
        gate.approve(session, waiting.id, moderator=dora, seen=waiting.digest)
    author = hostile[:80]
    sent = house.send(hostile, author=author, slug="hostile")
    house.approve(sent.public_id, by=dora)
    (reply,) = house.answer(hostile, slug="hostile", note=hostile)
    house.approve(reply, by=dora)
    house.send(hostile, author=author, slug="hostile", parent=reply)
    told = house.send(hostile, author=author, slug="hostile")
    house.reject(told.public_id, by=dora, code="other", reason=hostile, told=hostile)
    house.post("An answer is to be vetoed.", slug="hostile")
    (proposed,) = house.answer(hostile, slug="hostile", note=hostile)
    house.reject(proposed, by=dora, reason=f"{hostile} {REASON}")
    with site.database.sessions.begin() as session:
        session.execute(update(Voice).values(paused_at=base.now(), paused_why=hostile))
    waiting_letter = house.send(hostile, author=author, slug="hostile")
    checkpoints.keep(site, at_once=True)
    with site.database.reading_sessions() as session:
        ben = accounts.of_moderator(session, house.ben)
    with site.database.sessions.begin() as session:
        address = correspondents.given(session, site.keys, "reader@letters.example", None)
        confirm, stop = links.to_confirm(session, site.keys, address.id), links.to_stop(session, site.keys, address.id)
        opens = links.made(session, site.keys, belongings.OPEN, address.id, life=belongings.LIFE)
    lived = Lived(
        comment=sent.public_id,
        reply=reply,
        link=waiting_letter.token,
        reset=accounts.link_to(site.keys, ben, accounts.RESET, accounts.RESET_FOR),
        invitation=accounts.link_to(site.keys, ben, accounts.INVITATION, accounts.INVITED_FOR),
        pending=house.submission(proposed),
        pending_comment=waiting_letter.public_id,
        pending_reply=proposed,
        posted=house.submission(sent.public_id),
        report=reports.receive_report(site, sent.public_id, "other", hostile),
        confirm=confirm,
        stop=stop,
        belongings=opens,
    )
    return house, lived, [f"/letters/{told.token}", "/essays/hostile", f"/essays/hostile/write?answering={reply}"]


def everywhere(app: Flask, lived: Lived) -> Iterator[str]:
    for rule in app.url_map.iter_rules():
        if "GET" in (rule.methods or set()) and declared(app, rule.endpoint) is not Access.NOBODY:
            # The letter that waits was written under the other essay.
            yield lived.address(rule).replace(f"/{SLUG}/embed/sent/", "/hostile/embed/sent/")


def test_runs_and_fetches_nothing_of_what_people_and_models_write(
    beset: tuple[House, Lived, list[str]], app: Flask
) -> None:
    house, lived, more = beset
    desk = desk_of(app, "dora@desk.example")
    shown = 0
    queue = [f"/desk/submissions/{each.id}" for each in waiting(house)]
    for path in (*everywhere(app, lived), *more, *queue, *(f"{at}/rejection" for at in queue)):
        response = desk.get(path, headers=bearer(house.tokens.ada), buffered=True)
        assert response.status_code in {200, 302}, path
        if response.mimetype == "text/html":
            harmless(response)
            shown += "alert(1)" in response.text or "evil.example" in response.text
        elif response.mimetype == "application/json":
            for html in html_in(response.get_json()):
                harmless(html)
    assert shown >= 8


def waiting(house: House) -> list[Pending]:
    with house.site.database.reading_sessions() as session:
        return awaiting_review(session)


def html_in(told: object) -> Iterator[str]:
    """Yield each value named `html`, at any depth."""
    if isinstance(told, dict):
        yield from (value for name, value in told.items() if name == "html" and isinstance(value, str))
    for part in told.values() if isinstance(told, dict) else told if isinstance(told, list) else []:
        yield from html_in(part)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_runs_nothing_of_what_a_form_sends_back(house: House, app: Flask, hostile: str) -> None:
    client, desk = app.test_client(), desk_of(app)
    sent = house.send()
    csrf = form(desk.get("/desk/"), "/sign-out").fields["csrf_token"]
    at = f"/desk/submissions/{house.submission(sent.public_id)}/rejection"
    everything = {"author": hostile, "body": hostile * 80, "parent": hostile, "token": hostile, "email": hostile}
    for response in (
        client.post(WRITE, data=everything),
        client.post(WRITE, data=everything | {"body": hostile, "author": hostile[:80]}),
        client.post(f"/letters/{sent.token}/change", data=everything),
        client.get("/desk/sign-in", query_string={"next": hostile}, follow_redirects=True),
        sign_in(client, hostile, hostile),
        sign_in(client, CLEO, hostile),
        desk.get("/desk/", query_string={"kind": hostile, "tray": hostile, "after": hostile, "just": hostile}),
        desk.post(
            at, data={"csrf_token": csrf, "digest": hostile, "reason_code": hostile, "reason": hostile, "told": hostile}
        ),
        client.get("/essays/" + hostile.replace("/", "")),
        client.get(f"/essays/{SLUG}", query_string={"page": hostile}),
        client.get(f"/essays/{SLUG}/write", query_string={"answering": hostile, "about": hostile}),
        client.post("/preview", data={"body": hostile}),
        client.post(f"/essays/{SLUG}/embed/comments", data=everything | {"body": hostile, "author": hostile[:80]}),
    ):
        assert response.status_code < 500
        harmless(response)


def test_holds_pages_against_what_would_run() -> None:
    """The check above must see what it is for."""
    for hostile in (*HOSTILE[:2], HOSTILE[4], "<p onclick=x>", '<a href="javascript:x">', "<script>x</script>", "49q$"):
        with pytest.raises(AssertionError):
            harmless(f"<p>{hostile}</p>")


def test_shows_the_essay_that_is_released(client: FlaskClient) -> None:
    assert ESSAY.partition("\n\n")[2].replace("*well*", "<em>well</em>") in client.get(f"/essays/{SLUG}").text
