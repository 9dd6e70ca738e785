"""Essays: how they come to the gate, and the released ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from bridge import outdated
from bridge.essay import intake
from bridge.records import Essay, Voice
from bridge.settings import origins
from bridge.site import Site
from bridge.text import markup
from bridge.text.language import N_
from bridge.text.words import essay_body, essay_text, essay_title, note
from bridge.voice.voices import slug_of
from moderation import queue, reasons
from moderation.base import now
from moderation.release import approved_ids, released, standing
from moderation.types import Kind, Released, Standing, SubmissionId


class EssayRefused(Exception):
    """Raised when an essay cannot be added. One sentence; nothing was changed."""


class NoSuchEssay(Exception):
    """Raised when no released essay has this slug."""

    def __init__(self, slug: str) -> None:
        super().__init__(N_("There is no essay at this address."))
        self.slug = slug


@dataclass(frozen=True, slots=True)
class Gone:
    """What is told of released words that were withdrawn."""

    at: datetime
    by: str
    """ "author", "operator" or "law"."""
    meaning: str | None
    """That of the published code, where they were taken down for one."""

    @property
    def by_author(self) -> bool:
        """Whether who wrote it took it back."""
        return self.by == "author"


class EssayGone(NoSuchEssay):
    """Raised when the essay at this address was released and then taken down: a tombstone is all there is."""

    def __init__(self, slug: str, gone: Gone) -> None:
        super().__init__(slug)
        self.args = (N_("An essay stood here. It was taken down, and its letters and answers with it."),)
        self.gone = gone


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
    parents: str | None = None,
) -> Essay:
    """Put an essay before the gate, where it waits like anything else. Raises `EssayRefused` or `WordsRefused`.

    *original_url* is kept in the one spelling by which importing knows it again.
    *parents* are the origins that may show its correspondence in a frame, with blanks between them.
    """
    body = essay_body(body)
    if not markup.shows_something(essay_text(body)):
        raise EssayRefused("The essay has a title and no text. Nothing was added.")
    slug = slug or slug_of(essay_title(body))
    if not slug or slug != slug_of(slug):
        raise EssayRefused(
            "The essay needs an address of lower-case letters, digits and hyphens: give one with --slug."
        )
    if session.scalar(select(Essay.id).where(Essay.slug == slug)) is not None:
        raise EssayRefused(f"There is an essay at /essays/{slug} already. Give another address with --slug.")
    first_at = markup.web_address(original_url) if original_url is not None else None
    if original_url is not None and first_at is None:
        raise EssayRefused(
            "The original address must be an http or https address, such as https://blog.example.org/on-rest. "
            "Nothing was added."
        )
    submission_id = intake.submit(session, Kind.ESSAY, author=voice.name, body=body, voice=voice.id)
    essay = Essay(
        slug=slug,
        voice_id=voice.id,
        submission_id=submission_id,
        original_url=first_at,
        written_on=written_on,
        embed_parents=as_origins(parents) if parents is not None else None,
        created_at=now(),
    )
    session.add(essay)
    session.flush()
    return essay


def published(session: Session, slug: str) -> Published:
    """Return the released essay at *slug*.

    Raises `NoSuchEssay`, for one that is pending as for one that never was, or `EssayGone` for one taken down.
    """
    found = session.execute(
        select(Essay, Voice).join(Voice, Voice.id == Essay.voice_id).where(Essay.slug == slug)
    ).first()
    if found is not None:
        words_out = released(session, [found[0].submission_id]).get(found[0].submission_id)
        if words_out is not None:
            return Published(found[0], found[1], words_out)
        tombstone = gone(standing(session, [found[0].submission_id])[found[0].submission_id])
        if tombstone is not None:
            raise EssayGone(slug, tombstone)
    raise NoSuchEssay(slug)


def gone(how: Standing) -> Gone | None:
    """Return what is told of words that were released and are withdrawn, or None for any others."""
    if how.withdrawn_at is None or not how.was_released:
        return None
    code = how.withdrawal_code
    meaning = reasons.codes_for(how.kind).get(code) if code is not None else None
    return Gone(how.withdrawn_at, how.withdrawn_by or "author", meaning)


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


def close(site: Site, slug: str, why: str) -> None:
    """Take no more letters under an essay, and say *why* where the form stood; what was sent goes on as ever.

    One that is closed already gets the new words. Raises `NoSuchEssay` or `words.WordsRefused`.
    """
    why = note(why)
    with site.database.sessions.begin() as session:
        essay = _kept(session, slug)
        essay.closed_at = essay.closed_at or now()
        essay.closed_why = why
        outdated.mark_all(session, essay.id)
    site.nudges.nudge_pages(essay.id)


def reopen(site: Site, slug: str) -> None:
    """Take letters under an essay again. Raises `NoSuchEssay`."""
    with site.database.sessions.begin() as session:
        essay = _kept(session, slug)
        essay.closed_at = essay.closed_why = None
        outdated.mark_all(session, essay.id)
    site.nudges.nudge_pages(essay.id)


@dataclass(frozen=True, slots=True)
class OnTheDesk:
    """An essay as the desk lists it."""

    essay: Essay
    voice: Voice
    words: Released | None
    """None while it is pending, and once it is rejected or taken down."""
    standing: Standing
    letters_waiting: int
    """At most `moderation.queue.MOST_COUNTED`."""


def on_the_desk(session: Session, *, after: int = 0, limit: int = 50) -> list[OnTheDesk]:
    """Return up to *limit* essays with an id above *after*, in the order they were added."""
    rows = session.execute(
        select(Essay, Voice)
        .join(Voice, Voice.id == Essay.voice_id)
        .where(Essay.id > after)
        .order_by(Essay.id)
        .limit(limit)
    ).all()
    ids = [essay.submission_id for essay, _ in rows]
    out, how = released(session, ids), standing(session, ids)
    return [
        OnTheDesk(
            essay,
            voice,
            out.get(essay.submission_id),
            how[essay.submission_id],
            queue.number(session, kind=Kind.COMMENT, essay=submission_of(essay)),
        )
        for essay, voice in rows
    ]


def everyone(session: Session) -> list[tuple[Essay, Voice]]:
    """Return every essay, pending ones too, in the order they were added."""
    rows = session.execute(select(Essay, Voice).join(Voice, Voice.id == Essay.voice_id).order_by(Essay.id))
    return [(essay, voice) for essay, voice in rows]


def submission_of(essay: Essay) -> SubmissionId:
    """Return the id under which the vault keeps the essay's words."""
    return SubmissionId(essay.submission_id)


def _kept(session: Session, slug: str) -> Essay:
    essay = session.scalar(select(Essay).where(Essay.slug == slug))
    if essay is None:
        raise NoSuchEssay(slug)
    return essay


def as_origins(given: str) -> str | None:
    """Return origins that an operator typed, with blanks between them, as they are kept. Raises `EssayRefused`."""
    try:
        return " ".join(origins(given)) or None
    except ValueError:
        raise EssayRefused(
            "The sites that may show it in a frame are given as origins, such as https://blog.example.org, "
            "with blanks between them. Nothing was changed."
        ) from None
