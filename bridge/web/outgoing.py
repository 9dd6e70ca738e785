"""What goes out, for admins: how much waits to be sent, and what did not arrive or perhaps did."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from bridge.mail import outbox
from bridge.web.access import Access, current_moderator, open_to, site

outgoing = Blueprint("outgoing", __name__, url_prefix="/desk/outgoing")


@outgoing.get("")
@open_to(Access.ADMIN)
def index() -> ResponseReturnValue:
    """Show how what goes out stands, without addresses and words."""
    return _page()


@outgoing.post("/<int(max=2147483647):outgoing_id>/again")
@open_to(Access.ADMIN)
def create_attempt(outgoing_id: int) -> ResponseReturnValue:
    """Have a refused message tried again."""
    try:
        outbox.have_sent_again(site(), outgoing_id)
    except outbox.NotToBeSentAgain as refused:
        return _page(refused), 409
    return redirect(url_for("outgoing.index", just="again"), 303)


def _page(refused: Exception | None = None) -> str:
    with site().database.reading_sessions() as session:
        standing = outbox.standing(session)
    return render_template(
        "desk/outgoing.html",
        standing=standing,
        about=outbox.ABOUT,
        has_mail=site().settings.smtp_url is not None,
        most=outbox.LISTED,
        kept=outbox.REFUSED_KEPT.days,
        refused=refused,
        just=request.args.get("just"),
        me=current_moderator(),
    )
