"""Long threads for measuring: letters and answers that are out, put into the records a thousand at a time.

They are what `reviews.approve` would leave, but for the ledger, which nothing here reads.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from datetime import timedelta

from ground.house import MODEL
from sqlalchemy import Connection, func, insert, select

from bridge.essay.thread import LETTERS_A_PAGE
from bridge.records import Comment, Essay, Generation, Reply
from moderation.base import Base, now
from moderation.digest import commitment, new_nonce
from moderation.types import Digest, Kind

SUBMISSIONS, DECISIONS = Base.metadata.tables["submissions"], Base.metadata.tables["decisions"]
LETTER = "Is a kept thing still a *living* thing? I wonder about it when I read old letters, number {0}. " * 3
ANSWER = "I would say that being tried is one way to answer, and working another. This is answer {0}. " * 4


def fill(connection: Connection, essay: Essay, *, author: str, moderator: int, letters: int) -> None:
    """Put *letters* posted letters, each answered, under an essay that has none."""
    essay_digest = connection.scalar(select(SUBMISSIONS.c.digest).where(SUBMISSIONS.c.id == essay.submission_id))
    submission = (connection.scalar(select(func.max(SUBMISSIONS.c.id))) or 0) + 1
    first = (connection.scalar(select(func.max(Comment.id))) or 0) + 1
    begin = now() - timedelta(days=30)
    rows: dict[str, list[dict[str, object]]] = {"words": [], "verdicts": [], "comments": [], "calls": [], "replies": []}
    for number in range(letters):
        at, key = begin + timedelta(seconds=number), first + number
        letter, reply = submission + 2 * number, submission + 2 * number + 1
        said = {"nonce": new_nonce(), "author": f"Reader {number % 700}", "body": LETTER.format(number)}
        digest = commitment(kind=Kind.COMMENT, in_answer_to=Digest(str(essay_digest)), **said)
        answered = {"nonce": new_nonce(), "author": author, "body": ANSWER.format(number)}
        answer = commitment(kind=Kind.REPLY, in_answer_to=digest, **answered)
        for id_, kind, words, above, own in (
            (letter, "comment", said, essay_digest, digest),
            (reply, "reply", answered, digest, answer),
        ):
            rows["words"].append(
                words | {"id": id_, "kind": kind, "in_answer_to": above, "digest": own, "submitted_at": at}
            )
            rows["verdicts"].append(
                {"submission_id": id_, "verdict": "approve", "moderator_id": moderator, "decided_at": at}
                | {"digest_seen": own}
            )
        rows["comments"].append(
            {"id": key, "public_id": f"{key:032x}", "essay_id": essay.id, "submission_id": letter, "created_at": at}
            | {"author_digest": hashlib.sha256(str(number % 700).encode()).hexdigest(), "wants_reply": True}
            | {"place": number + 1, "page": number // LETTERS_A_PAGE + 1}
        )
        rows["calls"].append(
            {"id": key, "comment_id": key, "essay_id": essay.id, "voice_id": essay.voice_id, "attempt": 1}
            | {"model_asked": MODEL, "model_answered": MODEL, "host": "model.example", "sdk_version": "0"}
            | {"api_version": "0", "prompt_version": "0", "request_digest": "0" * 64, "started_at": at}
            | {"request": zlib.compress(json.dumps([LETTER] * 20).encode()), "rehearsed": False}
        )
        rows["replies"].append(
            {"id": key, "public_id": f"{2**64 + key:032x}", "comment_id": key, "submission_id": reply}
            | {"generation_id": key, "created_at": at}
        )
    tables = (SUBMISSIONS, DECISIONS, Comment.__table__, Generation.__table__, Reply.__table__)
    for table, name in zip(tables, rows, strict=True):
        for start in range(0, len(rows[name]), 1000):
            connection.execute(insert(table), rows[name][start : start + 1000])  # type: ignore[arg-type]
