"""The list of words that moderators want to notice, for admins: add, take off, and try what it matches."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from bridge.signal import listed, signals
from bridge.web.access import Access, current_moderator, open_to, site

blueprint = Blueprint("signals", __name__, url_prefix="/desk/words")

TRIED = 500
"""The most characters of a text to be tried: it stands in the page's address."""


@blueprint.get("")
@open_to(Access.ADMIN)
def words() -> ResponseReturnValue:
    """Show the list, and what it would match in a text that is tried."""
    return _page()


@blueprint.post("")
@open_to(Access.ADMIN)
def create_word() -> ResponseReturnValue:
    """Put a word or phrase on the list."""
    written = request.form.get("word", "")
    try:
        signals.list_word(site(), written, moderator=current_moderator().id)
    except listed.WordRefused as refused:
        return _page(refused, written), 409 if isinstance(refused, listed.AlreadyListed) else 422
    return redirect(url_for("signals.words", just="listed"), 303)


@blueprint.post("/<int(max=2147483647):word_id>/removal")
@open_to(Access.ADMIN)
def create_removal(word_id: int) -> ResponseReturnValue:
    """Take a word off the list."""
    signals.unlist_word(site(), word_id)
    return redirect(url_for("signals.words", just="removed"), 303)


def _page(refused: Exception | None = None, written: str = "") -> str:
    tried = request.args.get("try", "")[:TRIED]
    with site().database.reading_sessions() as session:
        entries = listed.entries(session)
    matches = listed.Listed(entry.row.word for entry in entries).matches(tried)
    return render_template(
        "desk/words.html",
        entries=entries,
        tried=tried,
        matches=matches,
        most_tried=TRIED,
        length=listed.LENGTH,
        most_words=listed.MOST_WORDS,
        refused=refused,
        written=written,
        just=request.args.get("just"),
        me=current_moderator(),
    )
