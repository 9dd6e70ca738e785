"""The desk's pages of what a model was asked: every call for a letter, one call whole, what was not chosen, batches."""

from __future__ import annotations

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from bridge.answer import calls as made
from bridge.answer import unchosen
from bridge.answer.unchosen import Wanted
from bridge.text.words import essay_title
from bridge.voice import budgets
from bridge.web.access import Access, current_moderator, open_to, site
from bridge.web.asked import positive

calls = Blueprint("calls", __name__, url_prefix="/desk")


@calls.get("/letters/<int(max=2147483647):submission_id>/calls")
@open_to(Access.MODERATOR)
def of_letter(submission_id: int) -> ResponseReturnValue:
    """List every call to the model that was made for a letter, with or without an answer."""
    with site().database.reading_sessions() as session:
        before = positive(request.args.get("before", "")) or None
        found = made.of_letter(session, submission_id, before=before)
    return render_template(
        "desk/calls.html",
        found=found,
        earlier=before is not None,
        dollars=budgets.dollars,
        me=current_moderator(),
    )


@calls.get("/calls/<int(max=2147483647):generation_id>")
@open_to(Access.MODERATOR)
def one(generation_id: int) -> ResponseReturnValue:
    """Show one call whole: all that is recorded of it, its request and its response."""
    with site().database.reading_sessions() as session:
        call, whole = made.one(session, generation_id, site().keys)
    return render_template("desk/call.html", call=call, whole=whole, dollars=budgets.dollars, me=current_moderator())


@calls.get("/letters/not-chosen")
@open_to(Access.MODERATOR)
def not_chosen() -> ResponseReturnValue:
    """List the letters that a voice was shown and did not choose, with their words."""
    wanted = Wanted(request.args.get("voice") or None, request.args.get("essay") or None)
    with site().database.reading_sessions() as session:
        page = unchosen.page(session, wanted, before=positive(request.args.get("before", "")) or None)
    return render_template(
        "desk/not_chosen.html", page=page, wanted=wanted, title_of=essay_title, me=current_moderator()
    )


@calls.get("/batches")
@open_to(Access.MODERATOR)
def batches() -> ResponseReturnValue:
    """List the batches that are away, and those that came back last."""
    with site().database.reading_sessions() as session:
        listed = made.batches(session)
    return render_template("desk/batches.html", listed=listed, me=current_moderator())
