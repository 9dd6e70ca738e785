"""A reader's own letters under an essay: for the module that puts them in their place, and as a page of their own."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from bridge.essay import essays
from bridge.essay.essays import Published
from bridge.letter import admission, own_letters
from bridge.letter.own_letters import OwnLetter
from bridge.web import arriving
from bridge.web.access import Access, framable, open_to, site
from bridge.web.writing import author_cookie

mine = Blueprint("mine", __name__)


@mine.get("/essays/<slug>/mine")
@open_to(Access.AUTHOR)
def index(slug: str) -> ResponseReturnValue:
    """Show the letters of whoever has this browser's cookie that are not posted. Nobody else's cookie shows any."""
    arriving.take(admission.OWN_LETTERS)
    with site().database.reading_sessions() as session:
        found = essays.published(session, slug)
        secret = request.cookies.get(author_cookie(site()), "")
        own = own_letters.by_secret(session, site().keys, found.essay.id, secret)
    return _page(found, own, framed=False)


@mine.post("/essays/<slug>/embed/mine")
@open_to(Access.AUTHOR)
@framable
def framed_index(slug: str) -> ResponseReturnValue:
    """Show in a frame, which has no cookie, the letters whose keys are sent along. It changes nothing.

    The keys come in the body: an address would be logged.
    """
    arriving.take(admission.OWN_LETTERS)
    with site().database.reading_sessions() as session:
        found = essays.published(session, slug)
        own = own_letters.by_keys(session, site().keys, found.essay.id, request.form.getlist("key"))
    return _page(found, own, framed=True)


def _page(found: Published, own: Sequence[OwnLetter], *, framed: bool) -> str:
    return render_template("mine.html", found=found, own=own, framed=framed)
