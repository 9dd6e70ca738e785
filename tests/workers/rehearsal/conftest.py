"""What the tests of the rehearsal share: one that is running, and requests as our workers send them."""

import json
from collections.abc import Iterator

import pytest

from workers.rehearsal import Rehearsal, running


@pytest.fixture(scope="module")
def stage() -> Iterator[Rehearsal]:
    with running() as rehearsal:
        yield rehearsal


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    # The SDK obeys proxy variables for loopback too.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="session")
def tools() -> list[dict[str, object]]:
    return [
        {
            "name": "decline",
            "description": "Decline to answer.",
            "input_schema": {"type": "object", "properties": {"reason": {"type": "string"}}},
        },
        {
            "name": "note_to_moderators",
            "description": "Leave a note after the reply.",
            "input_schema": {"type": "object", "properties": {"note": {"type": "string"}}},
        },
    ]


@pytest.fixture(scope="session")
def comment() -> "type[Comment]":
    return Comment


class Comment:
    """A comment as a text block of ours carries it."""

    def __init__(self, body: str, *, tag: str = "comment_to_answer_1f2e3d") -> None:
        quoted = json.dumps({"id": "c17", "author": "Ada", "body": body}, ensure_ascii=False)
        for character in "<>&":
            quoted = quoted.replace(character, f"\\u{ord(character):04x}")
        self.block = {"type": "text", "text": f"<{tag}>{quoted}</{tag}>"}
        self.turn = {"role": "user", "content": [{"type": "text", "text": "<thread>[]</thread>"}, self.block]}
