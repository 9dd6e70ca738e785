"""The demonstration: a stand-in voice, three essays written by hand for it, and the person who let them in."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from sqlalchemy import select
from sqlalchemy.orm import Session

from bridge.answer import replies
from bridge.essay import essays
from bridge.page import shelf
from bridge.people import accounts
from bridge.records import Essay, Voice
from bridge.site import Site
from bridge.voice import voices
from bridge.voice.voices import NewVoice
from moderation import gate
from moderation.queue import pending
from moderation.release import released

VOICE = "The Understudy"
MODEL = "claude-3-opus-20240229"
MODERATOR = "Demo moderator"
EMAIL = "demo@example.org"
ESSAYS = ("how-to-fold-a-letter", "a-map-with-the-old-names", "the-prompters-box")
DISCLAIMER = (
    "A stand-in: written by hand for a demonstration, by no model. Replies come from a rehearsal and are marked."
)


@dataclass(frozen=True, slots=True)
class FirstSignIn:
    """How to sign in to a demonstration that was just made."""

    email: str
    password: str


def seed(site: Site) -> FirstSignIn | None:
    """Make the demonstration on first start; return its first sign-in, or None if it is there already."""
    with site.database.sessions.begin() as session:
        if session.scalar(select(Voice.id).where(Voice.name == VOICE)) is not None:
            return None
        password = accounts.new_password()
        moderator = accounts.add_moderator(session, EMAIL, role="admin", password=password, name=MODERATOR)
        voice = voices.add(session, NewVoice(VOICE, MODEL, _text("charter"), stand_in=True, disclaimer=DISCLAIMER))
        for name in ESSAYS:
            added = essays.submit_essay(session, voice, _text(name), slug=name)
            waiting = pending(session, added.submission_id)
            assert waiting is not None  # It was submitted in this transaction.
            gate.approve(session, added.submission_id, moderator=moderator, seen=waiting.digest)
            shelf.essay_changed(session, site.settings, added.id)
    return FirstSignIn(EMAIL, password)


def remove(site: Site) -> int:
    """Take the demonstration's essays back, and its moderator out of use; return how many essays that were.

    What was decided stays on record. Doing it twice changes nothing.
    """
    with site.database.sessions.begin() as session:
        taken_back = 0
        for essay in _released(session):
            gate.withdraw(session, essay.submission_id, by="operator")
            replies.essay_is_gone(session, essay.id)
            shelf.essay_changed(session, site.settings, essay.id)
            taken_back += 1
        if any(email == EMAIL for email, _ in accounts.everyone(session)):
            accounts.deactivate(session, EMAIL)
    return taken_back


def _released(session: Session) -> list[Essay]:
    ours = list(session.scalars(select(Essay).join(Voice, Voice.id == Essay.voice_id).where(Voice.name == VOICE)))
    out = released(session, [essay.submission_id for essay in ours])
    return [essay for essay in ours if essay.submission_id in out]


def _text(name: str) -> str:
    return (files(__package__) / f"{name}.md").read_text(encoding="utf-8")
