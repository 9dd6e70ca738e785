"""The desk's page of essays: which take letters, how many wait under each; admins close them and open them again."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from bridge.essay import essays
from bridge.text.words import NOTE_LENGTH, WordsRefused, essay_title
from bridge.web.access import Access, current_moderator, open_to, site
from moderation.queue import MOST_COUNTED

blueprint = Blueprint("essays", __name__, url_prefix="/desk/essays")

AT_ONCE = 50


@blueprint.get("")
@open_to(Access.MODERATOR)
def index() -> ResponseReturnValue:
    """Show every essay, and whether it takes letters."""
    return _page()


@blueprint.post("/<slug>/closing")
@open_to(Access.ADMIN)
def create_closing(slug: str) -> ResponseReturnValue:
    """Take no more letters under an essay."""
    why = request.form.get("words", "")
    try:
        essays.close(site(), slug, why)
    except WordsRefused as refused:
        return _page(refused=refused, slug=slug, written=why), 422
    return redirect(url_for("essays.index", just="closed"), 303)


@blueprint.post("/<slug>/opening")
@open_to(Access.ADMIN)
def create_opening(slug: str) -> ResponseReturnValue:
    """Take letters under an essay again."""
    essays.reopen(site(), slug)
    return redirect(url_for("essays.index", just="opened"), 303)


def _page(*, refused: Exception | None = None, slug: str | None = None, written: str = "") -> str:
    """Show the essays; a refusal stands at its essay, whose form keeps what was written."""
    given = request.args.get("after", "0")
    after = int(given) if given.isascii() and given.isdigit() and len(given) < 10 else 0
    with site().database.reading_sessions() as session:
        found = essays.on_the_desk(session, after=after, limit=AT_ONCE + 1)
    listed = found[:AT_ONCE]
    return render_template(
        "desk/essays.html",
        listed=listed,
        more=listed[-1].essay.id if len(found) > AT_ONCE else None,
        title_of=essay_title,
        most_counted=MOST_COUNTED,
        limit=NOTE_LENGTH,
        refused=refused,
        refused_at=slug,
        written=written,
        just=request.args.get("just"),
        me=current_moderator(),
    )
