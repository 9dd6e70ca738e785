"""A letter, over the API: sent, screened, answered, screened, posted; and what no raw SQL can change."""

import hashlib
import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from ground.installation import Installation, wait_for

pytestmark = pytest.mark.slow

SLUG = "how-to-fold-a-letter"
SIX = ("format", "kind", "nonce", "author", "in_answer_to", "body")


def recomputed(told: dict[str, Any]) -> str:
    """Compute a digest as a stranger would, from what is public."""
    six = {name: told[name] for name in SIX}
    canonical = json.dumps(six, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def test_tells_the_walk_of_one_comment_and_its_reply(installation: Installation) -> None:
    mark = installation.mark()
    email = f"{mark}@example.org"
    sent = installation.comment(SLUG, f"Is a kept letter *read*? {mark}", f"Ada {mark}", email=email)
    comment = f"/api/v1/comments/{sent['id']}"
    letter = f"/letters/{sent['manage_url'].rpartition('/')[2]}"

    assert installation.call("GET", comment).json["status"] == "pending"
    assert mark not in installation.call("GET", comment).text
    assert mark not in installation.call("GET", f"/essays/{SLUG}").text
    assert mark in installation.call("GET", letter).text

    [waits] = installation.waiting(mark, "comment")
    assert waits["digest"] == sent["digest"]
    wrong = installation.approve(waits, digest="0" * 64)
    assert (wrong.status, wrong.json["digest"]) == (409, sent["digest"])
    assert installation.approve(waits).status == 201
    assert installation.approve(waits).status == 409

    [reply] = wait_for(lambda: installation.waiting(mark, "reply"), "the reply")
    [posted] = [each for each in installation.thread(SLUG) if each["id"] == sent["id"]]
    assert posted["reply"] is None
    assert installation.call("GET", comment).json["reply_status"] == "waiting"
    assert installation.approve(reply).status == 201

    [posted] = [each for each in installation.thread(SLUG) if each["id"] == sent["id"]]
    assert mark in posted["html"]
    assert mark in posted["reply"]["html"]
    assert installation.call("GET", comment).json["reply_status"] == "released"
    told = installation.call("GET", f"/api/v1/replies/{posted['reply']['id']}").json
    assert recomputed(told) == told["digest"] == reply["digest"]
    assert told["in_answer_to"] == sent["digest"]
    assert told["model"] == "rehearsal"
    assert told["rehearsed"] is True
    assert told["author"].endswith("(rehearsal)")
    essay = installation.call("GET", f"/api/v1/essays/{SLUG}").json
    assert recomputed(essay) == essay["digest"] == installation.call("GET", comment).json["in_answer_to"]
    # The name, told to machines once more; the letter; and what the rehearsal repeats of it.
    assert installation.call("GET", f"/essays/{SLUG}").text.count(mark) == 4
    assert email not in installation.call("GET", comment).text + installation.call("GET", letter).text


def test_refuses_who_has_no_token_and_words_that_are_too_many(installation: Installation) -> None:
    assert installation.call("GET", "/api/v1/queue").status == 401
    assert installation.call("POST", "/api/v1/submissions/1/approval", {"digest": "0" * 64}).status == 401
    assert installation.call("GET", "/api/v1/queue", token="wrong" * 8).status == 401
    long = installation.call("POST", f"/api/v1/essays/{SLUG}/comments", {"author": "Ada", "body": "y" * 5001})
    assert long.status == 422
    assert long.headers["Content-Type"] == "application/problem+json"
    assert [each["pointer"] for each in long.json["errors"]] == ["/body"]
    assert installation.waiting("yyyyy") == []


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE submissions SET body='x'",
        "UPDATE submissions SET body=NULL, author=NULL, nonce=NULL",
        "DELETE FROM submissions",
        "REPLACE INTO submissions SELECT * FROM submissions LIMIT 1",
        "UPDATE decisions SET verdict='reject'",
        "DELETE FROM ledger",
    ],
)
def test_keeps_words_and_verdicts_from_raw_sql(installation: Installation, attack: str) -> None:
    before = installation.ask("SELECT count(*) FROM submissions")
    with (
        closing(sqlite3.connect(installation.data / "emeritus.db", timeout=20)) as database,
        pytest.raises(sqlite3.Error, match="write-once"),
    ):
        database.execute(attack)
    assert installation.ask("SELECT count(*) FROM submissions") == before
