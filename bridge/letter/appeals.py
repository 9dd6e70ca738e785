"""An author's appeal: the letter that was not posted goes before another person, once."""

from __future__ import annotations

from bridge.essay import intake
from bridge.essay.essays import submission_of
from bridge.letter import comments
from bridge.signal import signals
from bridge.site import Site
from bridge.text import words
from moderation import appeals


def appeal(site: Site, public_id: str, said: str) -> None:
    """Put a rejected comment's words before another moderator, with what its author *said* for them.

    From then on the comment is what becomes of the appeal. The same form sent twice is one appeal. Raises
    `comments.NoSuchComment`, `words.WordsRefused`, or the gate's `CannotAppeal` or `NothingToAnswer`.
    """
    said = words.note(said)
    with site.database.sessions.begin() as session:
        comment, essay = comments.one(session, public_id, to_change=True)
        made = appeals.made(session, comment.submission_id)
        if made is not None and made.words == said:
            return
        again = appeals.appeal(
            session, comment.submission_id, words=said, essay=submission_of(essay), voice=essay.voice_id
        )
        comment.submission_id = again
        intake.keep_rendering(session, again)
        signals.look_at_letter(session, comment)
