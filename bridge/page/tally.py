"""The whole of it: everything that is posted, to be taken along, and how much there is of everything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from bridge.essay import essays, thread
from bridge.page import printing
from bridge.records import Comment, Essay, Generation, Reply, ReplyRequest, RequestState
from moderation import numbers
from moderation.types import Released

A_PAGE = 200


@dataclass(frozen=True, slots=True)
class Tally:
    """How many letters, answers and requests stand in each state, and what the calls cost."""

    letters: dict[str, int]
    answers: dict[str, int]
    requests: dict[str, int]
    calls: int
    calls_without_cost: int
    """Those that are not ended, or whose voice has no prices."""
    cost_usd: float


def tally(session: Session) -> Tally:
    """Count everything, erased words too."""
    letters, answers = (
        {state.value: count for state, count in numbers.states(session, select(table.submission_id)).items()}
        for table in (Comment, Reply)
    )
    requests = dict.fromkeys((state.value for state in RequestState), 0)
    for state, count in session.execute(select(ReplyRequest.state, func.count()).group_by(ReplyRequest.state)):
        requests[state] = count
    calls, with_cost, cost = session.execute(
        select(func.count(), func.count(Generation.cost), func.coalesce(func.sum(Generation.cost), 0))
    ).one()
    return Tally(letters, answers, requests, calls, calls - with_cost, float(cost or 0) / 1_000_000)


def posted(session: Session) -> Iterator[dict[str, Any]]:
    """Yield all words that are posted: each essay, and after it each letter with its answer."""
    for slug in session.scalars(select(Essay.slug).order_by(Essay.id)).all():
        try:
            found = essays.published(session, slug)
        except essays.NoSuchEssay:
            continue
        yield _line(found.words, slug, slug, None, ai=not found.voice.stand_in)
        after = 0
        while page := thread.posted_comments(session, found.essay.id, after=after, limit=A_PAGE):
            for each in page:
                if each.words is not None:
                    yield _line(each.words, each.public_id, slug, each.answers or slug, ai=False)
                if each.reply is not None:
                    told = _line(
                        each.reply.words, each.reply.public_id, slug, each.public_id, ai=not each.reply.rehearsed
                    )
                    yield told | {"model": each.reply.model, "rehearsed": each.reply.rehearsed}
            after = page[-1].place


def _line(words: Released, number: str, slug: str, answers: str | None, *, ai: bool) -> dict[str, Any]:
    return {
        "kind": words.kind.value,
        "id": number,
        "essay": slug,
        "in_reply_to": answers,
        "author": words.author,
        "body": words.body,
        "nonce": words.nonce,
        "in_answer_to": words.in_answer_to,
        "digest": words.digest,
        "submitted_at": words.submitted_at.isoformat(),
        "approved_at": words.approved_at.isoformat(),
        **printing.by_a_model(ai),
    }
