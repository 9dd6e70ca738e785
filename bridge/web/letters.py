"""Letters in bulk, and second readings: the desk's pages beside its queue."""

from __future__ import annotations

from dataclasses import dataclass, replace

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from bridge import desk, reviews, shortcuts
from bridge.web.access import Access, current_moderator, open_to, site
from bridge.web.asked import asked_by
from bridge.words import essay_title
from moderation import errors, reasons
from moderation.types import Digest, Kind, Verdict

letters = Blueprint("letters", __name__, url_prefix="/desk")

A_PAGE = 50
AT_ONCE = 100
"""The most verdicts in one form: more than a page has were not ticked by a person."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one verdict of many came to."""

    submission_id: int
    author: str
    refused: str | None
    """Why not, in a sentence; None if it is done."""


@letters.get("/letters")
@open_to(Access.MODERATOR)
def index() -> ResponseReturnValue:
    """Show a page of letters with their whole words, to decide on several at once."""
    return _page([], None)


@letters.post("/letters")
@open_to(Access.MODERATOR)
def decide() -> ResponseReturnValue:
    """Approve or reject the letters that are ticked: each is one decision, on the words that stood beside its tick."""
    verdict = Verdict.REJECT if request.form.get("verdict") == Verdict.REJECT.value else Verdict.APPROVE
    code = request.form.get("reason_code", "")
    reason, told = (request.form.get(name) or None for name in ("reason", "told"))
    if verdict is Verdict.REJECT:
        try:
            reasons.check(Kind.COMMENT, code, reason, told, proposes=False, seconds=False)
        except errors.Refused as refused:
            return _page([], refused), 422
    ticked = [int(each) for each in request.form.getlist("ticked") if each.isascii() and each.isdigit()]
    return _page([_one(each, verdict, code, reason, told) for each in ticked[:AT_ONCE] if each < 2**31], None)


@letters.get("/again")
@open_to(Access.MODERATOR)
def again() -> ResponseReturnValue:
    """Show posted words to a second reader, who is not told what the first one thought."""
    return _again(None)


@letters.post("/again/<int(max=2147483647):submission_id>")
@open_to(Access.MODERATOR)
def read_again(submission_id: int) -> ResponseReturnValue:
    """Put on record what a second reader would have done."""
    rejects = request.form.get("verdict") == Verdict.REJECT.value
    try:
        reviews.read_again(
            site(),
            submission_id,
            moderator=current_moderator().id,
            seen=Digest(request.form.get("digest", "")),
            verdict=Verdict.REJECT if rejects else Verdict.APPROVE,
            code=request.form.get("reason_code", "") if rejects else None,
        )
    except errors.UnknownReasonCode as refused:
        return _again(refused), 422
    except (errors.NothingToReread, errors.AnotherModeratorNeeded, errors.NotTheWordsStored) as refused:
        return _again(refused), 409
    return redirect(url_for("letters.again", just="read"), 303)


def _one(submission_id: int, verdict: Verdict, code: str, reason: str | None, told: str | None) -> Outcome:
    me, seen = current_moderator().id, Digest(request.form.get(f"digest-{submission_id}", ""))
    author = request.form.get(f"author-{submission_id}", "")
    try:
        reviews.decide_letter(
            site(), submission_id, verdict, moderator=me, seen=seen, code=code, reason=reason, told=told
        )
    except errors.Refused as refused:
        return Outcome(submission_id, author, str(refused))
    return Outcome(submission_id, author, None)


def _page(outcomes: list[Outcome], refused: errors.Refused | None) -> str:
    me = current_moderator()
    asked = asked_by(me)
    kept = {name: value for name, value in asked.kept.items() if name != "kind"}
    wanted = replace(asked.wanted, kind=Kind.COMMENT)
    with site().database.reading_sessions() as session:
        listed, more = desk.letters(session, wanted, after=asked.after, limit=A_PAGE)
        heard = shortcuts.heard(session, me.id)
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
        written=request.form,
        shortcuts=heard,
        me=me,
    )


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
        written=request.form,
        just=request.args.get("just"),
        me=me,
    )
