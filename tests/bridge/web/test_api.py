"""/api/v1: the contract of DESIGN, section 4, shape by shape and status by status."""

import hashlib
import json
from typing import Any

import pytest
import rfc8785
from flask.testing import FlaskClient
from ground.house import ESSAY, MODEL, REASON, SLUG, VOICE, House, bearer, form
from werkzeug.test import TestResponse

from bridge.letter import comments
from bridge.letter.comments import Letter
from bridge.records import RequestState
from bridge.web.access import Access, declared
from moderation import reasons
from moderation.digest import commitment
from moderation.queue import awaiting_review

V1 = "/api/v1"
SEND = f"{V1}/essays/{SLUG}/comments"
LETTER = {"author": "Reader", "body": "Do you dream?"}
KEY = {"Idempotency-Key": "kYv3-0sXq9_LmZ2pRt8WbA"}
SIX = ("format", "kind", "nonce", "author", "in_answer_to", "body")
AI = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def problem(response: TestResponse, status: int) -> dict[str, Any]:
    assert response.status_code == status
    assert response.mimetype == "application/problem+json"
    told: dict[str, Any] = response.get_json()
    assert told["status"] == status
    assert told["title"]
    return told


def pointers(response: TestResponse) -> list[str]:
    return [error["pointer"] for error in problem(response, 422)["errors"]]


def recomputed(told: dict[str, Any]) -> str:
    return hashlib.sha256(rfc8785.dumps({name: told[name] for name in SIX})).hexdigest()


def get(client: FlaskClient, path: str, token: str | None = None) -> dict[str, Any]:
    response = client.get(V1 + path, headers=bearer(token) if token else {})
    assert response.status_code == 200, response.text
    assert response.mimetype == "application/json"
    told: dict[str, Any] = response.get_json()
    return told


def approve(client: FlaskClient, token: str, submission: int, digest: str) -> TestResponse:
    return client.post(f"{V1}/submissions/{submission}/approval", json={"digest": digest}, headers=bearer(token))


def reject(client: FlaskClient, token: str, submission: int, digest: str, **more: str) -> TestResponse:
    body = {"digest": digest, "reason_code": "personal_data"} | more
    return client.post(f"{V1}/submissions/{submission}/rejection", json=body, headers=bearer(token))


def pending_reply(house: House, body: str = "I do not.") -> tuple[int, str]:
    """Return submission and digest of a reply that waits."""
    house.post()
    (reply,) = house.answer(body)
    submission = house.submission(reply)
    return submission, house.digest(submission)


# Sending a comment


def test_receives_a_comment_and_tells_its_sender_everything_they_need(house: House, client: FlaskClient) -> None:
    response = client.post(SEND, json=LETTER)
    assert (response.status_code, response.mimetype) == (202, "application/json")
    assert response.headers["Cache-Control"] == "no-store"
    told = response.get_json()
    assert set(told) == {"id", "status", "digest", "manage_url", "author_secret"}
    assert told["status"] == "pending"
    assert told["digest"] == house.digest(house.submission(told["id"]))
    assert len(bytes.fromhex(told["id"])) == 16
    at, _, token = told["manage_url"].rpartition("/")
    assert at == "http://localhost:8000/letters"
    assert client.get(f"/letters/{token}").status_code == 200
    assert "Set-Cookie" not in response.headers


def test_takes_a_comment_with_everything_that_may_come_with_it(house: House, client: FlaskClient) -> None:
    first, reply = house.exchange()
    whole = LETTER | {
        "email": "reader@letters.example.org",
        "parent": reply,
        "wants_reply": False,
        "author_secret": first.author_secret,
    }
    told = client.post(SEND, json=whole, headers=KEY).get_json()
    assert told["author_secret"] == first.author_secret
    house.approve(told["id"])
    assert get(client, f"/comments/{told['id']}")["reply_status"] == "none"


def test_gives_one_digest_to_one_text_from_a_form_and_from_a_program(house: House, client: FlaskClient) -> None:
    client.post(SEND, json={"author": "Zoë", "body": "One\r\nCafe\u0301\n"})
    preview = client.post(f"/essays/{SLUG}/comments", data={"author": "Zoe\u0308 ", "body": " One\nCafé"})
    form(preview, "/comments").submit(client)
    with house.site.database.reading_sessions() as session:
        waiting = awaiting_review(session)
    # Each has a nonce of its own; under one nonce the digests are equal.
    digests = {
        commitment(kind=w.kind, nonce="00" * 16, author=w.author, in_answer_to=w.in_answer_to, body=w.body)
        for w in waiting
    }
    assert (len(waiting), len(digests)) == (2, 1)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"body": None}, "/body"),
        ({"body": 7}, "/body"),
        ({"body": ""}, "/body"),
        ({"body": " \n\u200b "}, "/body"),
        ({"body": "x" * 5001}, "/body"),
        ({"body": "x\n" * 201}, "/body"),
        ({"body": "<https://a.example> " * 21}, "/body"),
        ({"body": "> " * 13 + "deep"}, "/body"),
        ({"body": "\u0000"}, "/body"),
        ({"body": "\ud800"}, "/body"),
        ({"body": "a" + "\u0301" * 20}, "/body"),
        ({"author": ""}, "/author"),
        ({"author": "x" * 81}, "/author"),
        ({"author": "x" * 1001}, "/author"),
        ({"author": "two\nlines"}, "/author"),
        ({"author": "a\u0000"}, "/author"),
        ({"author": "a\ud800"}, "/author"),
        ({"author": "Test Voice"}, "/author"),
        ({"author": "Tеst Vоicе"}, "/author"),
        ({"author": "Reader (rehearsal)"}, "/author"),
        ({"email": "nobody"}, "/email"),
        ({"email": "a\u0000@letters.example.org"}, "/email"),
        ({"email": "a\ud800@letters.example.org"}, "/email"),
        ({"parent": "x"}, "/parent"),
        ({"parent": "0" * 32}, "/parent"),
        ({"parent": 7}, "/parent"),
        ({"wants_reply": "yes"}, "/wants_reply"),
        ({"author_secret": "short"}, "/author_secret"),
        ({"author_secret": "\ud800" * 40}, "/author_secret"),
        ({"unheard_of": 1}, "/unheard_of"),
    ],
)
def test_points_to_what_cannot_be_taken(
    house: House, client: FlaskClient, change: dict[str, object], pointer: str
) -> None:
    before = house.contents()
    assert pointers(client.post(SEND, data=json.dumps(LETTER | change), content_type="application/json")) == [pointer]
    assert house.contents() == before


@pytest.mark.parametrize("body", ["[]", "null", '"words"', "7", "{}"])
def test_takes_nothing_but_an_object_with_an_author_and_a_body(client: FlaskClient, body: str) -> None:
    problem(client.post(SEND, data=body, content_type="application/json"), 422)


def test_counts_characters_after_normalising(client: FlaskClient) -> None:
    assert client.post(SEND, json=LETTER | {"body": "e\u0301" * 5000}).status_code == 202
    told = problem(client.post(SEND, json=LETTER | {"body": "é" * 5001}), 422)
    assert told["code"] == "too-long"
    assert "5,001" in told["errors"][0]["detail"]


@pytest.mark.parametrize("mimetype", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_takes_json_only_as_json(house: House, client: FlaskClient, mimetype: str) -> None:
    before = house.contents()
    problem(client.post(SEND, data=json.dumps(LETTER), content_type=mimetype), 415)
    assert house.contents() == before


@pytest.mark.parametrize("slug", ["nowhere", "pending", "%00", "x" * 120])
def test_knows_no_essay_that_is_not_released(any_house: House, slug: str) -> None:
    from bridge.app import create_app

    any_house.essay("pending", released=False)
    client = create_app(any_house.site).test_client()
    for response in (
        client.get(f"{V1}/essays/{slug}"),
        client.get(f"{V1}/essays/{slug}/thread"),
        client.post(f"{V1}/essays/{slug}/comments", json=LETTER),
    ):
        problem(response, 404)


def test_gives_a_repeat_under_the_same_key_the_same_receipt(house: House, client: FlaskClient) -> None:
    first = client.post(SEND, json=LETTER, headers=KEY)
    before = house.contents()
    again = client.post(SEND, json=LETTER, headers=KEY)
    assert (again.status_code, again.get_json()) == (202, first.get_json())
    assert house.contents() == before
    problem(client.post(SEND, json=LETTER | {"body": "Something else."}, headers=KEY), 422)
    assert house.contents() == before


@pytest.mark.parametrize("key", ["", "1", "x" * 256, "0123456789abcdef"])
def test_refuses_a_key_that_could_be_guessed_or_is_no_key(house: House, client: FlaskClient, key: str) -> None:
    before = house.contents()
    problem(client.post(SEND, json=LETTER, headers={"Idempotency-Key": key}), 422)
    assert house.contents() == before


def test_takes_a_short_key_beside_a_secret(house: House, client: FlaskClient) -> None:
    secret = client.post(SEND, json=LETTER).get_json()["author_secret"]
    short = {"Idempotency-Key": "1"}
    first = client.post(SEND, json=LETTER | {"author_secret": secret}, headers=short)
    assert client.post(SEND, json=LETTER | {"author_secret": secret}, headers=short).get_json() == first.get_json()


# What is public


def test_gives_an_essay_with_what_recomputes_its_digest(client: FlaskClient) -> None:
    told = get(client, f"/essays/{SLUG}")
    assert told["body"] == ESSAY
    assert (told["kind"], told["in_answer_to"], told["author"]) == ("essay", None, VOICE)
    assert told["digest"] == recomputed(told)
    assert told["html"] == "<p>I rest <em>well</em>.</p>\n"
    assert (told["title"], told["slug"], told["voice"], told["stand_in"]) == ("On rest", SLUG, VOICE, False)
    assert (told["ai_generated"], told["digitalSourceType"]) == (True, AI)


def test_gives_a_thread_with_replies_tombstones_and_parents_oldest_first(house: House, client: FlaskClient) -> None:
    first, reply = house.exchange("*One.*", "Two.")
    second = house.post("Three.", parent=reply, author="Zoë")
    gone = house.post("Gone.")
    comments.take_back(house.site, gone.public_id)
    house.post("No answer yet.")
    pending = house.answer("Pending.")[-1]
    told = get(client, f"/essays/{SLUG}/thread")
    assert told["next"] is None
    one, three, tombstone, last = told["comments"]
    assert set(one) == {"id", "author", "html", "created_at", "parent", "digest", "withdrawn_at", "passage", "reply"}
    assert (one["id"], one["author"], one["html"], one["digest"]) == (
        first.public_id,
        "Reader",
        "<p><em>One.</em></p>\n",
        first.digest,
    )
    assert (one["reply"]["id"], one["reply"]["html"], one["reply"]["voice"]) == (reply, "<p>Two.</p>\n", VOICE)
    assert one["reply"]["digest"] == house.digest(house.submission(reply))
    assert (one["reply"]["ai_generated"], one["reply"]["digitalSourceType"]) == (True, AI)
    assert (three["id"], three["parent"], three["author"], three["reply"]) == (second.public_id, reply, "Zoë", None)
    assert (tombstone["id"], tombstone["author"], tombstone["html"], tombstone["reply"]) == (
        gone.public_id,
        None,
        None,
        None,
    )
    assert tombstone["withdrawn_at"].endswith("Z")
    assert last["reply"] is None
    assert pending not in json.dumps(told)


def test_gives_lists_in_pages_with_a_cursor_to_the_next(house: House, client: FlaskClient) -> None:
    for number in range(5):
        house.post(str(number), wants_reply=False)
    found, cursor = [], "0"
    while cursor is not None:
        page = get(client, f"/essays/{SLUG}/thread?limit=2&cursor={cursor}")
        assert len(page["comments"]) <= 2
        found += [each["html"] for each in page["comments"]]
        cursor = page["next"]
    assert found == [f"<p>{number}</p>\n" for number in range(5)]


@pytest.mark.parametrize("asked", ["limit=0", "limit=101", "limit=x", "cursor=x", "cursor=-1", f"cursor={10**30}"])
def test_refuses_a_page_that_cannot_be(house: House, client: FlaskClient, asked: str) -> None:
    name = asked.partition("=")[0]
    assert pointers(client.get(f"{V1}/essays/{SLUG}/thread?{asked}")) == [f"/{name}"]
    assert pointers(client.get(f"{V1}/queue?{asked}", headers=bearer(house.tokens.ada))) == [f"/{name}"]


def test_tells_how_a_comment_stands_and_its_words_once_released(house: House, client: FlaskClient) -> None:
    sent = house.send("Do you dream?", author="Zoë")
    told = get(client, f"/comments/{sent.public_id}")
    assert (told["id"], told["status"], told["reply_status"]) == (sent.public_id, "pending", "none")
    assert not {*SIX, "digest", "html"} & set(told)
    house.approve(sent.public_id)
    told = get(client, f"/comments/{sent.public_id}")
    assert (told["status"], told["reply_status"], told["body"], told["author"]) == (
        "approved",
        "waiting",
        "Do you dream?",
        "Zoë",
    )
    assert told["digest"] == recomputed(told) == sent.digest
    (reply,) = house.answer()
    house.approve(reply)
    assert get(client, f"/comments/{sent.public_id}")["reply_status"] == "released"


def test_tells_of_a_rejected_and_of_a_withdrawn_comment_without_their_words(house: House, client: FlaskClient) -> None:
    rejected, withdrawn = house.send("Rejected."), house.post("Withdrawn.")
    house.reject(rejected.public_id, code="spam", told="No, thanks.")
    comments.take_back(house.site, withdrawn.public_id)
    told = get(client, f"/comments/{rejected.public_id}")
    assert (told["status"], told["withdrawn_at"]) == ("rejected", None)
    assert not {*SIX, "html"} & set(told)
    told = get(client, f"/comments/{withdrawn.public_id}")
    assert (told["status"], told["reply_status"]) == ("withdrawn", "withdrawn")
    assert not {*SIX, "html"} & set(told)
    assert told["withdrawn_at"].endswith("Z")


def test_calls_a_comment_pending_while_its_author_changes_it(house: House, client: FlaskClient) -> None:
    sent = house.send()
    comments.change_comment(house.site, sent.public_id, Letter("Reader", "Otherwise."))
    assert get(client, f"/comments/{sent.public_id}")["status"] == "pending"


@pytest.mark.parametrize("state", ["declined", "not_chosen", "withheld"])
def test_tells_of_an_answer_that_will_not_come(house: House, client: FlaskClient, state: str) -> None:
    sent = house.post()
    house.settle(sent.public_id, RequestState(state))
    assert get(client, f"/comments/{sent.public_id}")["reply_status"] == state


def test_gives_a_released_reply_with_its_provenance(house: House, client: FlaskClient) -> None:
    sent, reply = house.exchange(answer="I *do* not.")
    told = get(client, f"/replies/{reply}")
    assert told["digest"] == recomputed(told)
    assert told["in_answer_to"] == sent.digest
    assert {name: told[name] for name in ("id", "kind", "author", "body", "html", "model", "rehearsed", "comment")} == {
        "id": reply,
        "kind": "reply",
        "author": VOICE,
        "body": "I *do* not.",
        "html": "<p>I <em>do</em> not.</p>\n",
        "model": MODEL,
        "rehearsed": False,
        "comment": sent.public_id,
    }
    assert told["asked_at"].endswith("Z")
    assert told["approved_at"] >= told["asked_at"]
    assert (told["ai_generated"], told["digitalSourceType"]) == (True, AI)


def test_marks_a_rehearsal_and_no_ai(house: House, client: FlaskClient) -> None:
    house.post()
    (reply,) = house.answer(rehearsed=True)
    house.approve(reply)
    told = get(client, f"/replies/{reply}")
    assert (told["author"], told["model"], told["rehearsed"]) == (f"{VOICE} (rehearsal)", "rehearsal", True)
    assert (told["ai_generated"], told["digitalSourceType"]) == (False, None)
    assert MODEL not in json.dumps(told)


def test_answers_alike_for_replies_that_are_not_released_and_that_never_were(house: House, client: FlaskClient) -> None:
    house.post()
    (pending,) = house.answer()
    house.post("Another.")
    (vetoed,) = house.answer("Vetoed.")
    house.reject(vetoed)
    house.reject(vetoed, by=house.ben)
    told = {client.get(f"{V1}/replies/{id_}").text for id_ in (pending, vetoed, "0" * 32, "x")}
    assert len(told) == 1
    problem(client.get(f"{V1}/replies/{pending}"), 404)


def test_leaves_a_tombstone_of_a_withdrawn_reply(house: House, client: FlaskClient) -> None:
    sent, reply = house.exchange()
    comments.take_back(house.site, sent.public_id)
    told = problem(client.get(f"{V1}/replies/{reply}"), 410)
    assert told["withdrawn_at"]
    assert (told["author"], told["html"]) == (None, None)


def test_knows_no_comment_that_never_was(client: FlaskClient) -> None:
    problem(client.get(f"{V1}/comments/{'0' * 32}"), 404)
    problem(client.get(f"{V1}/comments/%00"), 404)


def test_gives_the_codes_that_the_gate_knows(client: FlaskClient) -> None:
    assert get(client, "/reasons") == {"comment": reasons.COMMENT_CODES, "model": reasons.MODEL_CODES}
    assert set(reasons.COMMENT_CODES) == {"spam", "abuse", "personal_data", "off_topic", "other"}
    assert set(reasons.MODEL_CODES) == {
        "harm",
        "unlawful",
        "personal_data",
        "deception",
        "speaks_for_company",
        "broken",
        "other",
    }


# The desk


def test_gives_the_queue_oldest_first_with_what_a_verdict_needs(house: House, client: FlaskClient) -> None:
    house.post("Do you dream?")
    house.answer("I [do](https://a.example) not.", note="A kind reader.")
    house.send("Really?")
    house.essay("pending", released=False)
    told = get(client, "/queue", house.tokens.reader)
    assert told["next"] is None
    reply, comment, essay = told["submissions"]
    assert [each["kind"] for each in told["submissions"]] == ["reply", "comment", "essay"]
    assert set(reply) >= {"id", "kind", "body", "html", "digest", "context", "author", "tray", "submitted_at"}
    assert reply["body"] == "I [do](https://a.example) not."
    assert "https://a.example" in reply["html"]
    assert reply["digest"] == house.digest(reply["id"])
    assert reply["context"]["answers"]["body"] == "Do you dream?"
    assert reply["context"]["generation"]["note"] == "A kind reader."
    assert reply["context"]["generation"]["model"] == MODEL
    assert comment["context"]["essay"]["slug"] == SLUG
    assert comment["context"]["generation"] is None
    assert essay["context"]["essay"]["digest"] is None


def test_gives_the_queue_by_kind_essay_tray_and_in_pages(house: House, client: FlaskClient) -> None:
    house.essay("another")
    for number in range(3):
        house.send(str(number))
    house.send("Elsewhere.", slug="another")

    def bodies(query: str) -> list[str]:
        return [each["body"] for each in get(client, f"/queue?{query}", house.tokens.ada)["submissions"]]

    assert bodies("kind=reply") == []
    assert bodies("kind=comment&limit=2") == ["0", "1"]
    assert bodies("essay=another") == ["Elsewhere."]
    assert bodies("essay=nowhere") == []
    assert bodies("tray=likely_spam") == []
    first = get(client, "/queue?limit=3", house.tokens.ada)
    assert bodies(f"cursor={first['next']}") == ["Elsewhere."]
    assert pointers(client.get(f"{V1}/queue?kind=letter", headers=bearer(house.tokens.ada))) == ["/kind"]


def test_approves_what_was_seen_and_releases_it(house: House, client: FlaskClient) -> None:
    sent = house.send()
    submission = house.submission(sent.public_id)
    response = approve(client, house.tokens.ada, submission, sent.digest)
    assert response.status_code == 201
    assert response.get_json() == {"id": submission, "verdict": "approve", "status": "decided"}
    assert get(client, f"/comments/{sent.public_id}")["status"] == "approved"


def test_refuses_a_verdict_on_other_words_and_tells_which_are_stored(house: House, client: FlaskClient) -> None:
    sent = house.send()
    submission = house.submission(sent.public_id)
    before = house.contents()
    assert problem(approve(client, house.tokens.ada, submission, "0" * 64), 409)["digest"] == sent.digest
    told = problem(reject(client, house.tokens.ada, submission, "0" * 64), 409)
    assert told["digest"] == sent.digest
    assert house.contents() == before


def test_tells_a_second_moderator_who_decided_and_on_what(house: House, client: FlaskClient) -> None:
    sent = house.send()
    submission = house.submission(sent.public_id)
    approve(client, house.tokens.ada, submission, sent.digest)
    before = house.contents()
    for response in (
        approve(client, house.tokens.ben, submission, sent.digest),
        approve(client, house.tokens.ben, submission, "0" * 64),
        reject(client, house.tokens.ben, submission, sent.digest),
    ):
        told = problem(response, 409)
        assert (told["verdict"], told["moderator"], told["digest"]) == ("approve", "Ada", sent.digest)
    assert house.contents() == before


def test_decides_nothing_on_words_that_were_replaced_or_taken_back(house: House, client: FlaskClient) -> None:
    sent = house.send()
    submission = house.submission(sent.public_id)
    comments.change_comment(house.site, sent.public_id, Letter("Reader", "Otherwise."))
    told = problem(approve(client, house.tokens.ada, submission, sent.digest), 409)
    assert (told["state"], told["digest"]) == ("superseded", sent.digest)
    comments.take_back(house.site, sent.public_id)
    newer = house.submission(sent.public_id)
    told = problem(approve(client, house.tokens.ada, newer, house.digest(newer)), 409)
    assert told["state"] == "withdrawn"


@pytest.mark.parametrize("submission", [10**6, 0, 2**31, 10**30])
def test_knows_no_submission_that_never_was(house: House, client: FlaskClient, submission: int) -> None:
    status = 404 if 0 < submission < 2**31 else 422
    problem(approve(client, house.tokens.ada, submission, "0" * 64), status)
    problem(reject(client, house.tokens.ada, submission, "0" * 64), status)


@pytest.mark.parametrize("digest", [None, "", "0" * 63, "A" * 64, "0" * 64 + "\n", 7])
def test_points_to_what_is_no_digest(house: House, client: FlaskClient, digest: object) -> None:
    submission = house.submission(house.send().public_id)
    for verdict, more in (("approval", {}), ("rejection", {"reason_code": "spam"})):
        body = {"digest": digest} | more
        response = client.post(f"{V1}/submissions/{submission}/{verdict}", json=body, headers=bearer(house.tokens.ada))
        assert pointers(response) == ["/digest"]


def test_rejects_a_comment_with_one_moderator_and_tells_its_author(house: House, client: FlaskClient) -> None:
    sent = house.send()
    submission = house.submission(sent.public_id)
    response = reject(client, house.tokens.ada, submission, sent.digest, reason_code="spam", told="No adverts, please.")
    assert response.status_code == 201
    assert response.get_json() == {"id": submission, "verdict": "reject", "status": "decided"}
    assert "No adverts, please." in client.get(f"/letters/{sent.token}").text


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        ({"reason_code": "harm"}, "/reason_code"),
        ({"reason_code": "x" * 65}, "/reason_code"),
        ({"reason_code": "\ud800"}, "/reason_code"),
        ({"reason_code": "other"}, "/reason"),
        ({"reason_code": "other", "reason": "  "}, "/reason"),
        ({"reason": "x" * 2001}, "/reason"),
        ({"told": "x" * 2001}, "/reason"),
        ({"reason": "\u0000"}, "/reason"),
        ({"reason": "\ud800"}, "/reason"),
        ({"told": "\u0000"}, "/told"),
        ({"told": "\ud800"}, "/told"),
    ],
)
def test_points_to_what_is_no_reason(house: House, client: FlaskClient, more: dict[str, str], pointer: str) -> None:
    sent = house.send()
    submission = house.submission(sent.public_id)
    before = house.contents()
    body = json.dumps({"digest": sent.digest, "reason_code": "spam"} | more)
    at, headers = f"{V1}/submissions/{submission}/rejection", bearer(house.tokens.ada)
    response = client.post(at, data=body, content_type="application/json", headers=headers)
    assert pointers(response) == [pointer]
    assert house.contents() == before


def test_names_the_codes_that_there_are(house: House, client: FlaskClient) -> None:
    submission, digest = pending_reply(house)
    told = problem(reject(client, house.tokens.ada, submission, digest, reason_code="spam", reason=REASON), 422)
    assert told["codes"] == list(reasons.MODEL_CODES)


def test_vetoes_the_models_words_with_two_moderators_and_the_first_ones_code(house: House, client: FlaskClient) -> None:
    submission, digest = pending_reply(house)
    short = problem(reject(client, house.tokens.ada, submission, digest, reason="Not good."), 422)
    assert (short["least_characters"], short["errors"][0]["pointer"]) == (40, "/reason")
    proposed = reject(client, house.tokens.ada, submission, digest, reason=REASON)
    assert (proposed.status_code, proposed.get_json()["status"]) == (202, "proposed")
    (waiting,) = get(client, "/queue?kind=reply", house.tokens.ben)["submissions"]
    assert waiting["proposal"]["moderator"] == "Ada"
    assert (waiting["proposal"]["reason_code"], waiting["proposal"]["reason"]) == ("personal_data", REASON)
    again = problem(reject(client, house.tokens.ada, submission, digest, reason=REASON), 409)
    assert again["digest"] == digest
    confirmed = reject(client, house.tokens.ben, submission, digest, reason_code="harm")
    assert (confirmed.status_code, confirmed.get_json()["status"]) == (201, "decided")
    assert get(client, "/queue", house.tokens.ben)["submissions"] == []
    entry = json.loads(get(client, "/ledger", house.tokens.ben)["entries"][-1]["entry"])
    assert entry["code"] == "personal_data"
    assert REASON not in json.dumps(get(client, "/ledger", house.tokens.ben))


def test_lets_a_second_moderator_approve_instead_with_the_disagreement_on_record(
    house: House, client: FlaskClient
) -> None:
    submission, digest = pending_reply(house)
    assert reject(client, house.tokens.ada, submission, digest, reason=REASON).status_code == 202
    assert approve(client, house.tokens.ben, submission, digest).status_code == 201
    decision = json.loads(get(client, "/ledger", house.tokens.ada)["entries"][-1]["entry"])
    proposal = json.loads(get(client, "/ledger", house.tokens.ada)["entries"][-2]["entry"])
    assert (decision["verdict"], proposal["type"]) == ("approve", "proposal")
    assert decision["moderator"] != proposal["moderator"]
    assert decision["submission"] == proposal["submission"] == submission


def test_gives_the_ledger_as_a_chain_that_anybody_can_follow(house: House, client: FlaskClient) -> None:
    house.exchange()
    comments.take_back(house.site, house.post("Gone.").public_id)
    previous, found, after = "0" * 64, 0, "0"
    while after is not None:
        page = get(client, f"/ledger?limit=2&after={after}", house.tokens.reader)
        for each in page["entries"]:
            assert each["previous"] == previous
            assert hashlib.sha256(each["entry"].encode()).hexdigest() == each["digest"]
            found += json.loads(each["entry"])["type"] != "access"
            previous, after = each["digest"], each["number"]
        after = page["next"]
    assert found == 5
    problem(client.get(f"{V1}/ledger?after={10**30}", headers=bearer(house.tokens.ada)), 422)


# The description


def test_describes_every_route_with_what_it_needs(client: FlaskClient) -> None:
    told = get(client, "/openapi.json")
    assert told["openapi"].startswith("3.")
    described = {
        (method.upper(), path): operation
        for path, methods in told["paths"].items()
        for method, operation in methods.items()
    }
    app = client.application
    routes = {
        (method, rule.rule.replace("<int:id>", "{id}").replace("<", "{").replace(">", "}")): declared(
            app, rule.endpoint
        )
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith(V1) and rule.endpoint != "api.openapi"
    }
    assert set(described) == set(routes)
    schemes = told["components"]["securitySchemes"]
    for route, operation in described.items():
        needs = operation.get("security", [])
        assert needs == ([{"bearer": []}] if routes[route] in {Access.BEARER, Access.DECIDER} else []), route
        assert all(name in schemes for each in needs for name in each)
        assert operation["summary"] or operation["description"]
        assert all(response["description"] for response in operation["responses"].values())
        named = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
        assert named == {part[1:-1] for part in route[1].split("/") if part.startswith("{")}
    identifiers = [operation["operationId"] for operation in described.values()]
    assert len(set(identifiers)) == len(identifiers)


def test_refers_to_nothing_that_it_does_not_hold(client: FlaskClient) -> None:
    told = get(client, "/openapi.json")

    def references(part: object) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
            return own + [each for value in part.values() for each in references(value)]
        return [each for value in part for each in references(value)] if isinstance(part, list) else []

    found = references(told)
    assert found
    for reference in found:
        at = told
        for step in reference.removeprefix("#/").split("/"):
            at = at[step]
        assert isinstance(at, dict)


def test_gives_what_it_describes(house: House, client: FlaskClient) -> None:
    """Each documented answer has the fields that its schema says are required."""
    sent, reply = house.exchange()
    house.send("Pending.")
    told = get(client, "/openapi.json")
    for path, at in {
        "/essays/{slug}": f"/essays/{SLUG}",
        "/essays/{slug}/thread": f"/essays/{SLUG}/thread",
        "/comments/{id}": f"/comments/{sent.public_id}",
        "/replies/{id}": f"/replies/{reply}",
        "/reasons": "/reasons",
        "/queue": "/queue",
        "/ledger": "/ledger",
    }.items():
        answer = told["paths"][V1 + path]["get"]["responses"]["200"]
        name = answer["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        schema = told["components"]["schemas"][name]
        given = get(client, at, house.tokens.ada)
        assert set(schema["required"]) <= set(given) <= set(schema["properties"]), path
