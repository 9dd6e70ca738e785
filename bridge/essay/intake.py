"""How the site puts words before the gate: submitted as they are, and their HTML derived beside them."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup
from sqlalchemy import select
from sqlalchemy.orm import Session

from bridge.records import Rendering
from bridge.text import markup
from bridge.text.words import essay_text
from moderation import gate
from moderation.queue import pending
from moderation.types import Digest, Kind, Pending, Rejected, Released, SubmissionId


def submit(
    session: Session,
    kind: Kind,
    *,
    author: str,
    body: str,
    in_answer_to: SubmissionId | None = None,
    essay: SubmissionId | None = None,
    supersedes: SubmissionId | None = None,
    voice: int | None = None,
) -> SubmissionId:
    """Put words before the gate, keep their rendering, and return their id. Raises what `gate.submit` does."""
    submission_id = gate.submit(
        session,
        kind,
        author=author,
        body=body,
        in_answer_to=in_answer_to,
        essay=essay,
        supersedes=supersedes,
        voice=voice,
    )
    keep_rendering(session, submission_id)
    return submission_id


def keep_rendering(session: Session, submission_id: SubmissionId) -> None:
    """Keep the HTML of words that were submitted in this transaction."""
    kept = pending(session, submission_id)
    assert kept is not None
    session.add(Rendering(digest=kept.digest, pipeline=markup.PIPELINE, html=str(rendered(kept))))
    session.flush()


def html_of(session: Session, words: Iterable[Released | Pending | Rejected]) -> dict[Digest, Markup]:
    """Return the HTML of *words* by digest: the kept rendering of this pipeline's version, else a fresh one."""
    by_digest = {each.digest: each for each in words}
    kept = session.execute(
        select(Rendering.digest, Rendering.html).where(
            Rendering.digest.in_(by_digest), Rendering.pipeline == markup.PIPELINE
        )
    )
    found = {Digest(digest): markup.rendered_before(html) for digest, html in kept}
    return {digest: found[digest] if digest in found else rendered(each) for digest, each in by_digest.items()}


def rendered(words: Released | Pending | Rejected, *, targets: bool = False) -> Markup:
    """Render words as every page shows them; an essay without its title, which stands above it.

    With *targets*, as the desk sees them: where a link leads stands beside it.
    """
    body = essay_text(words.body) if words.kind is Kind.ESSAY else words.body
    return markup.render(body, words.kind.value, targets=targets)
