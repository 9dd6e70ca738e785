"""Letters in bulk, and second readings: the desk's pages beside its queue."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from flask import Blueprint, abort, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from bridge.desk import desk, reviews, shortcuts
from bridge.text.words import essay_title
from bridge.web.access import Access, current_moderator, open_to, site
from bridge.web.asked import asked_by, positive
from moderation import errors, reasons
from moderation.types import Digest, Kind, Verdict

log = logging.getLogger(__name__)
letters = Blueprint("letters", __name__, url_prefix="/desk")

A_PAGE = 50
AT_ONCE = 100
"""The most verdicts in one form: more than a page has were not ticked by a person."""
_OUT_OF_REACH = "The records could not be reached, so this one was not decided. Send it again in a moment."
_TAMPERED = "Something here is not as it was sent, so it was not decided. Tell whoever runs this site."


class NoVerdict(errors.Refused):
    """Raised when a form says neither that words are approved nor that they are rejected."""

    def __init__(self) -> None:
        super().__init__("It was not said whether to approve or to reject. Nothing was changed. Press one of the two.")


class ReasonToApprove(errors.Refused):
    """Raised when an approval comes with a reason to reject: one of the two was not meant."""

    def __init__(self) -> None:
        super().__init__(
            "You approved, and chose a reason to reject. Nothing was changed. The reason is not chosen any more: "
            "approve now, or choose one again and reject."
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one verdict of many came to."""

    submission_id: int
    author: str
    refused: str | None
    """Why not, in a sentence; None if it is done."""
    reached: bool = True
    """Whether the records could be reached."""


@letters.get("/letters")
@open_to(Access.MODERATOR)
def index() -> ResponseReturnValue:
    """Show a page of letters with their whole words, to decide on several at once."""
    return _page([], None, [])


@letters.post("/letters")
@open_to(Access.MODERATOR)
def decide() -> ResponseReturnValue:
    """Approve or reject the letters that are ticked: each is one decision, on the words that stood beside its tick."""
    ticked = [each for each in map(positive, dict.fromkeys(request.form.getlist("ticked"))) if each][:AT_ONCE]
    code = request.form.get("reason_code", "")
    reason, told = (request.form.get(name) or None for name in ("reason", "told"))
    try:
        verdict = _verdict()
        if verdict is Verdict.REJECT:
            reasons.check(Kind.COMMENT, code, reason, told, proposes=False, seconds=False)
    except errors.Refused as refused:
        return _page([], refused, ticked), 422
    outcomes: list[Outcome] = []
    for each in ticked:
        # Each would wait in vain as long as the one before it, and so would whoever sent them.
        if outcomes and not outcomes[-1].reached:
            outcomes.append(replace(outcomes[-1], submission_id=each, author=_author(each)))
        else:
            outcomes.append(_one(each, verdict, code, reason, told))
    try:
        return _page(outcomes, None, [each.submission_id for each in outcomes if each.refused])
    except (OperationalError, PoolTimeout):
        if not outcomes:
            raise
        done = sum(each.refused is None for each in outcomes)
        abort(
            503,
            f"{done} of {len(outcomes)} were decided; then the records could not be reached. Open the letters again "
            "in a moment: those that were not decided are still there.",
        )


@letters.get("/again")
@open_to(Access.MODERATOR)
def again() -> ResponseReturnValue:
    """Show posted words to a second reader, who is not told what the first one thought."""
    return _again(None)


@letters.post("/again/<int(max=2147483647):submission_id>")
@open_to(Access.MODERATOR)
def read_again(submission_id: int) -> ResponseReturnValue:
    """Put on record what a second reader would have done."""
    try:
        verdict = _verdict()
        reviews.read_again(
            site(),
            submission_id,
            moderator=current_moderator().id,
            seen=Digest(request.form.get("digest", "")),
            verdict=verdict,
            code=request.form.get("reason_code", "") if verdict is Verdict.REJECT else None,
        )
    except (NoVerdict, ReasonToApprove, errors.UnknownReasonCode) as refused:
        return _again(refused), 422
    except (errors.NothingToReread, errors.AnotherModeratorNeeded, errors.NotTheWordsStored) as refused:
        return _again(refused), 409
    return redirect(url_for("letters.again", just="read"), 303)


def _verdict() -> Verdict:
    """Return which of the two buttons was pressed; what names neither is not taken for one of them."""
    try:
        verdict = Verdict(request.form.get("verdict", ""))
    except ValueError:
        raise NoVerdict from None
    if verdict is Verdict.APPROVE and request.form.get("reason_code"):
        raise ReasonToApprove
    return verdict


def _author(submission_id: int) -> str:
    return request.form.get(f"author-{submission_id}", "")


def _one(submission_id: int, verdict: Verdict, code: str, reason: str | None, told: str | None) -> Outcome:
    me, author = current_moderator().id, _author(submission_id)
    seen = Digest(request.form.get(f"digest-{submission_id}", ""))
    try:
        reviews.decide_letter(
            site(), submission_id, verdict, moderator=me, seen=seen, code=code, reason=reason, told=told
        )
    except errors.Refused as refused:
        return Outcome(submission_id, author, str(refused))
    except errors.NotWhatWasReviewed:
        log.critical("stored words are not those of their digest: submission %s", submission_id)
        return Outcome(submission_id, author, _TAMPERED)
    except (OperationalError, PoolTimeout) as error:
        # Whatever it was, the letters before it are decided, so no page may say that nothing was changed.
        log.warning("letter %s is not decided: %s", submission_id, type(getattr(error, "orig", error)).__name__)
        return Outcome(submission_id, author, _OUT_OF_REACH, reached=False)
    return Outcome(submission_id, author, None)


def _page(outcomes: list[Outcome], refused: errors.Refused | None, again: list[int]) -> str:
    """Show a page of letters. What was not done of *again* is ticked as it was, with what was written for it."""
    me = current_moderator()
    asked = asked_by(me)
    kept = {name: value for name, value in asked.kept.items() if name != "kind"}
    wanted = replace(asked.wanted, kind=Kind.COMMENT)
    with site().database.reading_sessions() as session:
        listed, more = desk.letters(session, wanted, after=asked.after, limit=A_PAGE)
        heard = shortcuts.heard(session, me.id)
    waiting = [each.context.pending for each in listed]
    return render_template(
        "desk/letters.html",
        listed=listed,
        more=more,
        kept=kept,
        filters={name: value for name, value in kept.items() if name != "after"},
        outcomes=outcomes,
        verdict=request.form.get("verdict"),
        refused=refused,
        codes=reasons.COMMENT_CODES,
        title_of=essay_title,
        # Only on the words that were seen: a tick on others is none that a person made.
        ticked={
            each.id for each in waiting if each.id in again and request.form.get(f"digest-{each.id}") == each.digest
        },
        written=_written(refused) if refused or again else {},
        shortcuts=heard,
        me=me,
    )


def _written(refused: errors.Refused | None) -> Mapping[str, str]:
    """Return what was written. A reason that stood in the way of an approval is not chosen again by itself."""
    left_out = {"reason_code"} if isinstance(refused, ReasonToApprove) else set()
    return {name: value for name, value in request.form.items() if name not in left_out}


def _again(refused: errors.Refused | None) -> str:
    me = current_moderator()
    with site().database.reading_sessions() as session:
        found = desk.to_reread(session, me.id)
    return render_template(
        "desk/again.html",
        found=found,
        codes=reasons.codes_for(found.words.kind) if found else {},
        title_of=essay_title,
        refused=refused,
        written=_written(refused),
        just=request.args.get("just"),
        me=me,
    )
