"""The desk's page of posted words: what they stand under, what was reported of them, and how they are taken down."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from bridge.desk import takedowns
from bridge.essay import intake
from bridge.text.words import essay_title
from bridge.web.access import Access, current_moderator, open_to, site
from moderation import errors, reasons
from moderation.types import Digest

blueprint = Blueprint("takedowns", __name__, url_prefix="/desk/released")


@blueprint.get("/<int(max=2147483647):submission_id>")
@open_to(Access.MODERATOR)
def show(submission_id: int) -> ResponseReturnValue:
    """Show posted words, with the form that takes them down where this moderator may."""
    return _page(submission_id)


@blueprint.post("/<int(max=2147483647):submission_id>/taking-down")
@open_to(Access.MODERATOR)
def create_taking_down(submission_id: int) -> ResponseReturnValue:
    """Take posted words down, or take one step towards it."""
    try:
        came_to = takedowns.take_down(
            site(),
            submission_id,
            moderator=current_moderator().id,
            seen=Digest(request.form.get("digest", "")),
            code=request.form.get("reason_code", ""),
            reason=request.form.get("reason") or None,
            by=request.form.get("by", ""),
        )
    except (
        errors.UnknownReasonCode,
        errors.ReasonTooShort,
        errors.ReasonTooLong,
        errors.NotTheWordsStored,
        errors.SecondModeratorNeeded,
    ) as refused:
        kept = isinstance(refused, errors.NotTheWordsStored | errors.SecondModeratorNeeded)
        return _page(submission_id, refused=refused), 409 if kept else 422
    return _next(submission_id, came_to.value)


@blueprint.post("/<int(max=2147483647):submission_id>/keeping")
@open_to(Access.MODERATOR)
def create_keeping(submission_id: int) -> ResponseReturnValue:
    """Answer a proposal to take words down with no, or take one's own back."""
    takedowns.keep(site(), submission_id, moderator=current_moderator().id)
    return _next(submission_id, "kept")


def _next(submission_id: int, just: str) -> ResponseReturnValue:
    # What is down has no page here any more, so that is told beside the reports.
    if just == "decided":
        return redirect(url_for("reports.index", just="taken_down"), 303)
    return redirect(url_for("takedowns.show", submission_id=submission_id, just=just), 303)


def _page(submission_id: int, *, refused: errors.Refused | None = None) -> str:
    """Show posted words; a refusal stands above the form, which keeps what was written."""
    with site().database.reading_sessions() as session:
        posted = takedowns.posted(session, submission_id)
        around = [posted.words, *(each for each in (posted.answers, posted.reply) if each is not None)]
        html = intake.html_of(session, around)
    me = current_moderator()
    mine = posted.proposal is not None and posted.proposal.moderator == me.id
    return render_template(
        "desk/released.html",
        posted=posted,
        html=html,
        title_of=essay_title,
        codes=reasons.codes_for(posted.words.kind),
        least=reasons.PROPOSAL_REASON_LENGTH if posted.words.kind.by_model else 1,
        most=reasons.REASON_LENGTH,
        quorum=site().settings.veto_quorum,
        mine=mine,
        may_act=(me.role == "admin" and posted.proposal is None)
        or (posted.proposal is not None and not (mine and site().settings.veto_quorum > 1)),
        refused=refused,
        written=request.form,
        just=request.args.get("just"),
        me=me,
    )
