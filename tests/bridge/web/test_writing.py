"""Writing a letter: the form in all its shapes, on the site's pages and in a frame, and nothing lost on the way."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from xml.etree.ElementTree import Element

import pytest
from flask import Flask
from flask.testing import FlaskClient
from ground.house import SLUG, VOICE, House, form, live, text, tree
from sqlalchemy import select
from werkzeug.test import TestResponse

from bridge.app import create_app
from bridge.essay import essays
from bridge.letter import comments
from bridge.letter.comments import Letter
from bridge.page import paths
from bridge.records import Comment
from bridge.text import passages
from bridge.text.words import COMMENT_LENGTH
from bridge.web import arriving, writing
from bridge.web.access import declared, may_be_framed
from moderation import base
from moderation.queue import awaiting_review
from moderation.types import Tray

ESSAY = f"/essays/{SLUG}"
LETTER = {"author": "Reader", "body": "Do you\n\ndream?"}
SENDS = [f"{ESSAY}/comments", f"{ESSAY}/embed/comments"]
FORMS = [f"{ESSAY}/write", f"{ESSAY}/embed/write"]
LONGER = ["/essays/longer/write", "/essays/longer/embed/write"]


@pytest.fixture(params=SENDS)
def send(request: pytest.FixtureRequest) -> str:
    """Where the form posts to: of the page, and of the frame."""
    address: str = request.param
    return address


def waiting_bodies(house: House) -> list[str]:
    with house.site.database.reading_sessions() as session:
        return [each.body for each in awaiting_review(session)]


def comment_rows(house: House) -> list[Comment]:
    with house.site.database.reading_sessions() as session:
        return list(session.scalars(select(Comment).order_by(Comment.id)))


def named(page: TestResponse, name: str) -> Element:
    (found,) = [each for each in tree(page).iter() if each.get("name") == name and each.tag in {"input", "textarea"}]
    return found


def field(page: TestResponse, name: str) -> str:
    """Return what stands in a field of the page's form for a letter."""
    found = named(page, name)
    return (found.text or "") if found.tag == "textarea" else found.get("value", "")


def by_id(page: TestResponse, name: str) -> Element:
    (found,) = [each for each in tree(page).iter() if each.get("id") == name]
    return found


def fresh(client: FlaskClient, of: str = ESSAY) -> str:
    token: str = client.get(f"{of}/form-token").get_json()["token"]
    return token


@pytest.fixture
def blocks(house: House) -> list[str]:
    """The blocks of an essay's text, which is under `LONGER`."""
    there = ["I rest well.", "A second paragraph, " + "and on and on " * 60]
    house.essay("longer", "# Longer\n\nI rest *well*.\n\n" + there[1])
    return [each.strip() for each in there]


@pytest.fixture
def strict(house: House) -> House:
    """A house that limits its readers."""
    chosen = house.site.settings.model_copy(update={"rate_limits": "on"})
    return House(replace(house.site, settings=chosen), house.tokens)


# A letter's way, without JavaScript


def test_takes_a_letter_from_the_essays_form_to_its_authors_page(house: House, client: FlaskClient) -> None:
    essay = client.get(ESSAY)
    filled = form(essay, "/comments")
    assert not {"token", "csrf_token"} & set(filled.fields)
    preview = filled.submit(client, author="Reader", body=LETTER["body"], preview="yes")
    assert preview.status_code == 200
    assert "not sent yet" in text(preview)
    assert waiting_bodies(house) == []
    sent = form(preview, "/comments").submit(client)
    assert sent.status_code == 303
    assert waiting_bodies(house) == ["Do you\n\ndream?"]
    page = client.get(sent.location)
    assert page.status_code == 200
    assert "Do you" in text(page)


@pytest.mark.parametrize("at", FORMS)
def test_takes_a_letter_at_once_from_the_form_on_its_own_page(house: House, client: FlaskClient, at: str) -> None:
    page = client.get(at)
    assert page.headers["Cache-Control"] == "no-store"
    sent = form(page, "/comments").submit(client, **LETTER)
    assert sent.status_code == 303
    assert waiting_bodies(house) == ["Do you\n\ndream?"]


def test_shows_the_same_essay_to_everybody(house: House, app: Flask, desk: FlaskClient) -> None:
    live(house)
    before = app.test_client()
    anybody = before.get(ESSAY).text
    form(before.post(SENDS[0], data=LETTER), "/comments").submit(before)
    assert before.get(ESSAY).text == anybody
    assert desk.get(ESSAY).text == anybody


@pytest.mark.parametrize("of", [ESSAY, f"{ESSAY}/embed"])
def test_sends_at_once_with_the_token_that_the_module_fetched(house: House, client: FlaskClient, of: str) -> None:
    assert client.get(f"{of}/form-token").headers["Cache-Control"] == "no-store"
    assert client.post(f"{of}/comments", data=LETTER | {"token": fresh(client, of)}).status_code == 303
    assert len(waiting_bodies(house)) == 1


def test_takes_a_double_click_for_one_letter(house: House, client: FlaskClient, send: str) -> None:
    preview = form(client.post(send, data=LETTER), "/comments")
    first, second = preview.submit(client), preview.submit(client)
    assert first.location == second.location
    assert len(waiting_bodies(house)) == 1


def test_takes_two_tabs_for_two_letters(house: House, client: FlaskClient, send: str) -> None:
    one, other = (form(client.post(send, data=LETTER | {"body": body}), "/comments") for body in ("One.", "Other."))
    assert one.submit(client).location != other.submit(client).location
    assert waiting_bodies(house) == ["One.", "Other."]


def test_takes_the_same_words_from_two_tabs_for_one_letter(strict: House) -> None:
    house, client = strict, create_app(strict.site).test_client()
    one, other = (form(client.post(SENDS[0], data=LETTER), "/comments") for _ in range(2))
    assert one.submit(client).location == other.submit(client).location
    assert len(waiting_bodies(house)) == 1


def test_shows_other_words_once_more_that_come_with_a_token_that_was_used(
    house: House, client: FlaskClient, send: str
) -> None:
    preview = form(client.post(send, data=LETTER), "/comments")
    preview.submit(client)
    again = preview.submit(client, body="Something else.")
    assert again.status_code == 200
    assert waiting_bodies(house) == ["Do you\n\ndream?"]
    form(again, "/comments").submit(client)
    assert waiting_bodies(house) == ["Do you\n\ndream?", "Something else."]


@pytest.mark.parametrize("since", ["changed", "taken back"])
def test_shows_a_letter_once_more_that_says_something_else_since(
    house: House, client: FlaskClient, send: str, since: str
) -> None:
    filled = form(client.post(send, data=LETTER), "/comments")
    first = filled.submit(client).location
    (kept,) = comment_rows(house)
    if since == "changed":
        comments.change_comment(house.site, kept.public_id, Letter("Reader", "No, do you rest?"))
    else:
        comments.take_back(house.site, kept.public_id)
    asked = filled.submit(client)
    assert (asked.status_code, field(asked, "body")) == (200, LETTER["body"])
    assert "You sent these words before" in text(asked)
    assert len(comment_rows(house)) == 1
    assert form(asked, "/comments").submit(client).location != first
    assert waiting_bodies(house)[-1] == LETTER["body"]


def test_gives_a_program_the_same_receipt_whatever_became_of_its_letter(house: House, client: FlaskClient) -> None:
    def post() -> str:
        told = client.post(
            f"/api/v1{ESSAY}/comments", json=LETTER, headers={"Idempotency-Key": "kYv3-0sXq9_LmZ2pRt8WbA"}
        )
        public_id: str = told.get_json()["id"]
        return public_id

    first = post()
    comments.take_back(house.site, first)
    assert post() == first


@pytest.mark.parametrize("token", ["", "x", "on-rest 1 x.y", "\u00e9"])
def test_shows_a_letter_once_more_that_comes_without_a_token_of_ours(
    house: House, client: FlaskClient, token: str
) -> None:
    again = client.post(SENDS[0], data=LETTER | {"token": token})
    assert (again.status_code, field(again, "body")) == (200, LETTER["body"])
    assert "more than a day" not in text(again)
    assert waiting_bodies(house) == []
    assert form(again, "/comments").submit(client).status_code == 303


def test_shows_a_letter_once_more_whose_token_is_too_old_or_another_essays(
    house: House, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.essay("another")
    token, other = fresh(client), fresh(client, "/essays/another")
    elsewhere = client.post(SENDS[0], data=LETTER | {"token": other})
    assert (elsewhere.status_code, "more than a day" in text(elsewhere)) == (200, False)
    later = base.now() + writing.FORM_TOKEN_LIFE + timedelta(seconds=1)
    monkeypatch.setattr(base, "now", lambda: later)
    again = client.post(SENDS[0], data=LETTER | {"token": token, "email": "ada@example.org"})
    assert again.status_code == 200
    assert "more than a day" in text(again)
    assert (field(again, "body"), field(again, "email")) == (LETTER["body"], "ada@example.org")
    assert waiting_bodies(house) == []
    assert form(again, "/comments").submit(client).status_code == 303


@pytest.mark.parametrize(
    ("wrong", "told", "where"),
    [
        ({"body": "x" * 5001}, "5,001", "body"),
        ({"body": " "}, "nothing to see", "body"),
        ({"author": ""}, "nothing to see", "author"),
        ({"author": "Tеst Vоicе"}, "choose another", "author"),
        ({"body": "> " * 13 + "deep"}, "within each other", "body"),
        ({"email": "not an address"}, "e-mail address", "email"),
    ],
)
@pytest.mark.parametrize("preview", [True, False])
def test_keeps_the_words_when_something_is_wrong_with_them(
    house: House, client: FlaskClient, send: str, wrong: dict[str, str], told: str, where: str, preview: bool
) -> None:
    letter = LETTER | {"no_reply_needed": "yes", "email": "ada@example.org"} | wrong
    token = fresh(client)
    response = client.post(send, data=letter | ({"preview": "yes"} if preview else {"token": token}))
    assert response.status_code == 422
    assert told in text(by_id(response, "refused").text or "")
    assert field(response, "body").strip() == letter["body"].strip()
    assert (field(response, "author"), field(response, "email")) == (letter["author"], letter["email"])
    assert "no_reply_needed" in form(response, "/comments").fields
    # What is wrong is tied to its field, and only to that.
    described = {
        name for name in ("body", "author", "email") if "refused" in named(response, name).get("aria-describedby", "")
    }
    assert described == {where}
    assert named(response, where).get("aria-invalid") == "true"
    assert waiting_bodies(house) == []


def test_takes_what_was_refused_once_it_is_mended(house: House, client: FlaskClient, send: str) -> None:
    refused = client.post(send, data=LETTER | {"email": "nobody", "token": fresh(client)})
    assert form(refused, "/comments").submit(client, email="").status_code == 303
    assert waiting_bodies(house) == ["Do you\n\ndream?"]


def test_keeps_the_words_under_an_essay_that_was_closed_meanwhile(house: House, client: FlaskClient, send: str) -> None:
    token = fresh(client)
    essays.close(house.site, SLUG, why="It is late.")
    response = client.post(send, data=LETTER | {"token": token})
    assert response.status_code == 403
    assert by_id(response, "body").text == LETTER["body"]
    assert "It is late." in text(response)
    assert waiting_bodies(house) == []


def test_gives_the_words_back_where_no_form_can_hold_them(house: House, client: FlaskClient, send: str) -> None:
    token = fresh(client)
    hostile = LETTER | {"token": token, "body": "Mine. </textarea><b id=broken>"}
    refused = [client.post(send, data=hostile, headers={"Origin": "null"})]
    house.take_down(house.submission_of_essay())
    refused.append(client.post(send, data=hostile))
    refused.append(client.post(send.replace(SLUG, "nowhere"), data=hostile))
    assert [each.status_code for each in refused] == [403, 410, 404]
    for each in refused:
        assert by_id(each, "written-1").text == hostile["body"]
        assert 'id="broken"' not in each.text
    assert waiting_bodies(house) == []
    # What another site has sent was written by nobody here.
    for headers in ({"Origin": "https://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}):
        foreign = client.post(send, data=hostile, headers=headers)
        assert (foreign.status_code, "Mine." in foreign.text) == (403, False)


def test_says_so_of_a_form_that_is_too_large_to_be_read(client: FlaskClient, send: str) -> None:
    refused = client.post(send, data=LETTER | {"body": "x" * 2_000_000})
    assert refused.status_code == 413
    assert "written-1" not in refused.text


def test_keeps_the_words_of_who_writes_too_often_and_offers_a_person(strict: House, send: str) -> None:
    house, client = strict, create_app(strict.site).test_client()
    letters = [LETTER | {"body": f"Letter {number}.", "token": fresh(client)} for number in range(8)]
    refused = next(each for each in (client.post(send, data=letter) for letter in letters) if each.status_code != 303)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 0
    before = len(waiting_bodies(house))
    assert field(refused, "body") == f"Letter {before}."
    assert form(refused, "/comments").submit(client, to_a_person="yes").status_code == 303
    assert len(waiting_bodies(house)) == before + 1


def test_names_whom_to_write_to_wherever_a_letter_is_refused(house: House) -> None:
    settings = house.site.settings.model_copy(update={"contact": "people@site.example"})
    client = create_app(replace(house.site, settings=settings)).test_client()
    refused = client.post(SENDS[0], data=LETTER | {"author": VOICE, "token": fresh(client)})
    assert refused.status_code == 422
    assert 'href="mailto:people@site.example"' in refused.text
    assert "to_a_person" not in refused.text
    told = client.post(f"/api/v1{ESSAY}/comments", json=LETTER | {"author": VOICE})
    assert (told.status_code, told.get_json()["contact"]) == (422, "people@site.example")


def likely_spam(house: House) -> list[str]:
    with house.site.database.reading_sessions() as session:
        return [each.body for each in awaiting_review(session, tray=Tray.LIKELY_SPAM)]


def test_counts_how_fast_a_letter_was_written_from_its_forms_beginning(strict: House, send: str) -> None:
    client, begun = create_app(strict.site).test_client(), base.now() - timedelta(minutes=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "now", lambda: begun)
        token = fresh(client)
    over = form(client.post(send, data=LETTER | {"token": token, "preview": "yes"}), "/comments")
    assert over.submit(client).status_code == 303
    assert likely_spam(strict) == []
    hasty = form(client.get(send.replace("comments", "write")), "/comments")
    assert hasty.submit(client, author="Reader", body="At once.").status_code == 303
    assert likely_spam(strict) == ["At once."]


def test_knows_no_beginning_of_a_letter_that_came_without_a_token(strict: House, send: str) -> None:
    client = create_app(strict.site).test_client()
    assert form(client.post(send, data=LETTER), "/comments").submit(client).status_code == 303
    assert likely_spam(strict) == []


# In answer to an answer


def test_takes_a_letter_in_answer_to_an_answer(house: House, client: FlaskClient) -> None:
    _, reply = house.exchange()
    page = client.get(paths.write(SLUG, answering=reply))
    assert "I do not." in text(page)
    assert 'class="label ai"' in page.text
    preview = form(page, "/comments").submit(client, author="Reader", body="Really?", preview="yes")
    sent = form(preview, "/comments").submit(client)
    assert sent.status_code == 303
    with house.site.database.reading_sessions() as session:
        assert awaiting_review(session)[0].in_answer_to == house.digest(house.submission(reply))


def test_takes_no_token_of_a_form_about_something_else(house: House, client: FlaskClient, send: str) -> None:
    (_, one), (_, other) = house.exchange("One.", "First."), house.exchange("Two.", "Second.")
    address = send.replace("comments", "form-token")
    about_one = client.get(f"{address}?answering={one}").get_json()["token"]
    assert len(waiting_bodies(house)) == 0
    for parent in ({"parent": other}, {}):
        shown = client.post(send, data=LETTER | {"token": about_one} | parent)
        assert shown.status_code == 200
        assert field(shown, "token") != about_one
        # Its form was open no day, and says nothing of one.
        assert "more than a day" not in text(shown)
        assert waiting_bodies(house) == []
    assert client.post(send, data=LETTER | {"token": about_one, "parent": one}).status_code == 303
    assert (
        f'data-token="{address}?answering={one}'
        in client.get(f"{send.replace('comments', 'write')}?answering={one}").text
    )


@pytest.mark.parametrize("parent", ["0" * 32, "no answer at all", "\u0660" * 3000])
def test_comes_to_an_end_whatever_is_to_be_answered(house: House, client: FlaskClient, send: str, parent: str) -> None:
    refused = form(client.post(send, data=LETTER | {"parent": parent}), "/comments").submit(client)
    assert refused.status_code == 422
    assert form(refused, "/comments").submit(client).status_code == 303


def test_keeps_the_words_when_what_they_answer_is_not_posted(house: House, client: FlaskClient, send: str) -> None:
    preview = form(client.post(send, data=LETTER | {"parent": "0" * 32}), "/comments")
    response = preview.submit(client)
    assert response.status_code == 422
    assert field(response, "body") == LETTER["body"]
    assert waiting_bodies(house) == []
    # The form no longer says that it is in answer to anything: it can be sent.
    assert form(response, "/comments").submit(client).status_code == 303


@pytest.mark.parametrize("at", FORMS)
def test_writes_about_the_essay_where_the_answer_is_not_posted(house: House, client: FlaskClient, at: str) -> None:
    house.post()
    (unreleased,) = house.answer("Not yet to be seen.")
    page = client.get(f"{at}?answering={unreleased}")
    assert page.status_code == 200
    assert "Not yet to be seen." not in page.text
    assert "parent" not in form(page, "/comments").fields


def test_writes_about_the_essay_where_the_answer_is_anothers(house: House, client: FlaskClient) -> None:
    house.essay("another")
    _, reply = house.exchange(slug="another")
    assert "parent" not in form(client.get(f"{FORMS[0]}?answering={reply}"), "/comments").fields


# About a passage of the essay


@pytest.mark.parametrize("at", LONGER)
def test_writes_about_a_block_of_the_essay(house: House, client: FlaskClient, blocks: list[str], at: str) -> None:
    page = client.get(f"{at}?about=0")
    assert blocks[0] in text(page)
    preview = form(page, "/comments").submit(client, **LETTER, preview="yes")
    assert blocks[0] in text(preview)
    assert form(preview, "/comments").submit(client).status_code == 303
    assert [(each.passage, each.passage_block) for each in comment_rows(house)] == [(blocks[0], 0)]


def test_quotes_as_much_of_a_long_block_as_a_letter_may(house: House, client: FlaskClient, blocks: list[str]) -> None:
    form(client.get(f"{LONGER[0]}?about=1"), "/comments").submit(client, **LETTER)
    (kept,) = comment_rows(house)
    assert kept.passage is not None
    assert blocks[1].startswith(kept.passage + " ")
    assert passages.LENGTH - 20 < len(kept.passage) <= passages.LENGTH


@pytest.mark.parametrize("about", ["x", "-1", "7", "9" * 30, "²"])
def test_writes_about_the_whole_essay_where_there_is_no_such_block(
    client: FlaskClient, blocks: list[str], about: str
) -> None:
    page = client.get(LONGER[0], query_string={"about": about})
    assert page.status_code == 200
    assert "passage" not in form(page, "/comments").fields


def test_writes_about_the_whole_essay_where_its_author_thought_better_of_it(
    house: House, client: FlaskClient, blocks: list[str]
) -> None:
    form(client.get(f"{LONGER[0]}?about=0"), "/comments").submit(client, **LETTER, whole="yes")
    assert [each.passage for each in comment_rows(house)] == [None]


@pytest.mark.parametrize("at", LONGER)
@pytest.mark.parametrize("preview", [True, False])
def test_keeps_the_words_when_the_passage_does_not_stand_in_the_essay(
    house: House, client: FlaskClient, blocks: list[str], at: str, preview: bool
) -> None:
    letter = LETTER | {"passage": "Never written.", "passage_block": "0", "token": fresh(client, "/essays/longer")}
    response = client.post(at.replace("write", "comments"), data=letter | ({"preview": "yes"} if preview else {}))
    assert response.status_code == 422
    assert field(response, "body") == LETTER["body"]
    assert form(response, "/comments").submit(client).status_code == 303
    assert [each.passage for each in comment_rows(house)] == [None]


def test_keeps_the_passage_and_the_address_when_the_words_are_changed(
    house: House, client: FlaskClient, blocks: list[str]
) -> None:
    page = client.get(f"{LONGER[0]}?about=0")
    sent = form(page, "/comments").submit(client, **LETTER, email="ada@example.org")
    change = client.get(f"{sent.location}/change")
    assert blocks[0] in text(change)
    assert form(change, "/change").submit(client, body="Otherwise.").status_code == 303
    (kept,) = comment_rows(house)
    assert (kept.passage, kept.address_id is not None) == (blocks[0], True)
    assert waiting_bodies(house) == ["Otherwise."]


# What else the form asks for


def test_asks_for_no_answer_where_none_is_needed(house: House, client: FlaskClient) -> None:
    preview = client.post(SENDS[0], data=LETTER | {"no_reply_needed": "yes"})
    assert "no_reply_needed" in form(preview, "/comments").fields
    form(preview, "/comments").submit(client)
    assert [each.wants_reply for each in comment_rows(house)] == [False]


def test_takes_an_address_through_the_preview(house: House, client: FlaskClient, send: str) -> None:
    preview = client.post(send, data=LETTER | {"email": " ada@example.org "})
    assert "ada@example.org" in text(preview)
    form(preview, "/comments").submit(client)
    assert [each.address_id is not None for each in comment_rows(house)] == [True]


@pytest.mark.parametrize("at", [ESSAY, *FORMS])
def test_hides_the_bait_from_people(client: FlaskClient, at: str) -> None:
    bait = named(client.get(at), arriving.BAIT)
    assert (bait.get("tabindex"), bait.get("autocomplete"), bait.get("value", "")) == ("-1", "off", "")
    parents = {child: parent for parent in tree(client.get(at)).iter() for child in parent}
    (around,) = [parent for child, parent in parents.items() if child.get("name") == arriving.BAIT]
    assert around.get("aria-hidden") == "true"


def test_says_how_many_characters_the_site_takes(client: FlaskClient) -> None:
    assert by_id(client.get(FORMS[0]), "body").get("data-limit") == str(COMMENT_LENGTH)


# Shown before it is sent


def test_previews_the_words_as_they_will_be_posted(client: FlaskClient, send: str) -> None:
    preview = client.post(send, data={"author": "Zoe\u0308\u200b", "body": "*yes*\u202e"})
    assert "<em>yes</em>" in preview.text
    assert "Zoë" in preview.text
    assert "\u200b" not in preview.text
    assert "\u202e" not in preview.text


def test_shows_words_while_they_are_typed(house: House, client: FlaskClient) -> None:
    shown = client.post("/preview", data={"body": "*yes*\r\n\r\n<b>no</b>"})
    assert shown.status_code == 200
    assert "<em>yes</em>" in shown.text
    assert "<b>" not in shown.text
    assert shown.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in shown.headers
    assert waiting_bodies(house) == []


@pytest.mark.parametrize(("body", "told"), [("", "nothing to see"), ("x" * (COMMENT_LENGTH + 1), "5,001")])
def test_says_while_they_are_typed_what_is_wrong_with_the_words(client: FlaskClient, body: str, told: str) -> None:
    refused = client.post("/preview", data={"body": body})
    assert refused.status_code == 422
    assert told in text(refused)


# In a frame


def test_leads_from_the_frame_to_the_authors_page(house: House, client: FlaskClient) -> None:
    sent = form(client.get(FORMS[1]), "/embed/comments").submit(client, **LETTER)
    assert sent.location.startswith(f"{ESSAY}/embed/sent/")
    assert "Set-Cookie" not in sent.headers
    page = client.get(sent.location)
    assert page.headers["Cache-Control"] == "no-store"
    (link,) = [each for each in tree(page).iter("a") if "/letters/" in each.get("href", "")]
    assert link.get("target") == "_blank"
    assert "Do you" in text(client.get(link.get("href", "")))


def test_reads_no_cookie_in_the_frame(house: House, client: FlaskClient) -> None:
    client.post(SENDS[0], data=LETTER | {"token": fresh(client)})
    client.post(SENDS[1], data=LETTER | {"token": fresh(client)})
    first, second = comment_rows(house)
    assert first.author_digest != second.author_digest


def test_keeps_every_form_of_the_frame_within_it(client: FlaskClient) -> None:
    for page in (client.get(FORMS[1]), client.post(SENDS[1], data=LETTER), client.post(SENDS[1], data={"body": ""})):
        (found,) = tree(page).iter("form")
        assert found.get("action") == f"{ESSAY}/embed/comments?lang=en"
        assert found.get("target") == "_self"


def test_knows_no_receipt_for_another_essay_or_with_a_broken_key(house: House, client: FlaskClient) -> None:
    house.essay("another")
    sent = house.send()
    assert client.get(f"{ESSAY}/embed/sent/{sent.token}").status_code == 200
    assert client.get(f"/essays/another/embed/sent/{sent.token}").status_code == 404
    assert client.get(f"{ESSAY}/embed/sent/x{sent.token}").status_code == 404


def test_lets_only_what_is_under_the_frames_address_be_framed(app: Flask) -> None:
    framed = {rule.rule for rule in app.url_map.iter_rules() if may_be_framed(app, rule.endpoint)}
    assert {f"/essays/<slug>/embed{end}" for end in ("", "/write", "/comments", "/sent/<token>")} <= framed
    assert all(rule.startswith("/essays/<slug>/embed") for rule in framed)
    assert all(declared(app, rule.endpoint) for rule in app.url_map.iter_rules() if rule.rule in framed)


@pytest.mark.parametrize(("at", "leads"), list(zip(SENDS, FORMS, strict=True)))
def test_leads_whoever_loads_the_forms_address_to_the_form(client: FlaskClient, at: str, leads: str) -> None:
    assert client.get(at).location.partition("?")[0] == leads


def test_speaks_in_a_frame_as_the_page_around_it_whatever_the_browser_prefers(
    house: House, client: FlaskClient
) -> None:
    browser = {"Accept-Language": "de"}
    begun = client.get(f"{FORMS[1]}?lang=en", headers=browser)
    blank = form(begun, "/comments")
    shown = client.post(blank.action, data=LETTER, headers=browser)
    assert "Read your letter over" in text(shown)
    filled = form(shown, "/comments")
    sent = filled.submit(client, headers=browser)
    assert "Your letter arrived" in text(client.get(sent.location, headers=browser))
    assert [each.language for each in comment_rows(house)] == ["en"]


# Who may read what


def addresses(element: Element) -> Iterator[str]:
    for each in element.iter():
        yield from (each.get(name, "") for name in ("href", "action", "src") if each.get(name))


def test_never_says_the_key_of_a_letter_on_a_page_for_everybody(house: House, client: FlaskClient) -> None:
    sent = house.send()
    for at in (ESSAY, *FORMS):
        assert not any(sent.token in address for address in addresses(tree(client.get(at))))


def test_reserves_the_names_that_are_spoken_under_here(house: House) -> None:
    with house.site.database.reading_sessions() as session:
        assert VOICE in comments.reserved_names(session)
        assert comments.check(session, Letter("Reader", "x")).author == "Reader"
