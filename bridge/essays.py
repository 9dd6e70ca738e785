"""Essays: how they come to the gate, and the released ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from sqlalchemy import select
from sqlalchemy.orm import Session

from bridge import intake
from bridge.records import Essay, Voice
from bridge.voices import slug_of
from bridge.words import essay_body, essay_text, essay_title
from moderation.base import now
from moderation.release import approved_ids, released
from moderation.types import Kind, Released, SubmissionId


class EssayRefused(Exception):
    """Raised when an essay cannot be added. One sentence; nothing was changed."""


class NoSuchEssay(Exception):
    """Raised when no released essay has this slug."""

    def __init__(self, slug: str) -> None:
        super().__init__("There is no essay at this address.")
        self.slug = slug


@dataclass(frozen=True, slots=True)
class Published:
    """A released essay with the voice that wrote it."""

    essay: Essay
    voice: Voice
    words: Released

    @property
    def title(self) -> str:
        """The title, from the first line of the words under the digest."""
        return essay_title(self.words.body)

    @property
    def text(self) -> str:
        """The words below the title."""
        return essay_text(self.words.body)

    @property
    def minutes(self) -> int:
        """How long it takes to read, at 230 words a minute, in whole minutes."""
        return max(1, round(len(self.words.body.split()) / 230))


def submit_essay(
    session: Session,
    voice: Voice,
    body: str,
    *,
    slug: str | None = None,
    original_url: str | None = None,
    written_on: date | None = None,
) -> Essay:
    """Put an essay before the gate, where it waits like anything else. Raises `EssayRefused` or `WordsRefused`."""
    body = essay_body(body)
    slug = slug or slug_of(essay_title(body))
    if not slug or slug != slug_of(slug):
        raise EssayRefused(
            "The essay needs an address of lower-case letters, digits and hyphens: give one with --slug."
        )
    if session.scalar(select(Essay.id).where(Essay.slug == slug)) is not None:
        raise EssayRefused(f"There is an essay at /essays/{slug} already. Give another address with --slug.")
    if original_url is not None and not original_url.startswith(("https://", "http://")):
        raise EssayRefused("The original address must begin with https:// or http://.")
    submission_id = intake.submit(session, Kind.ESSAY, author=voice.name, body=body, voice=voice.id)
    essay = Essay(
        slug=slug,
        voice_id=voice.id,
        submission_id=submission_id,
        original_url=original_url,
        written_on=written_on,
        created_at=now(),
    )
    session.add(essay)
    session.flush()
    return essay


def published(session: Session, slug: str) -> Published:
    """Return the released essay at *slug*. Raises `NoSuchEssay`, for one that is pending as for one that never was."""
    found = session.execute(
        select(Essay, Voice).join(Voice, Voice.id == Essay.voice_id).where(Essay.slug == slug)
    ).first()
    if found is not None:
        words_out = released(session, [found[0].submission_id]).get(found[0].submission_id)
        if words_out is not None:
            return Published(found[0], found[1], words_out)
    raise NoSuchEssay(slug)


def all_published(session: Session, *, limit: int = 100) -> list[Published]:
    """Return the newest released essays, newest first."""
    found = session.execute(
        select(Essay, Voice)
        .join(Voice, Voice.id == Essay.voice_id)
        .where(Essay.submission_id.in_(approved_ids()))
        .order_by(Essay.id.desc())
        .limit(limit)
    ).all()
    out = released(session, [essay.submission_id for essay, _ in found])
    return [Published(essay, voice, out[essay.submission_id]) for essay, voice in found if essay.submission_id in out]


def everyone(session: Session) -> list[tuple[Essay, Voice]]:
    """Return every essay, pending ones too, in the order they were added."""
    rows = session.execute(select(Essay, Voice).join(Voice, Voice.id == Essay.voice_id).order_by(Essay.id))
    return [(essay, voice) for essay, voice in rows]


def submission_of(essay: Essay) -> SubmissionId:
    """Return the id under which the vault keeps the essay's words."""
    return SubmissionId(essay.submission_id)
