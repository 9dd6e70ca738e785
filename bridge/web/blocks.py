"""The block list, for admins: networks, domains and words, with who blocked them, when and why."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest

from bridge.signal import blocks, signals
from bridge.signal.blocks import BlockRefused, What
from bridge.web.access import Access, current_moderator, open_to, site

blueprint = Blueprint("blocks", __name__, url_prefix="/desk/blocks")


@blueprint.get("")
@open_to(Access.ADMIN)
def index() -> ResponseReturnValue:
    """Show the list."""
    return _page()


@blueprint.post("")
@open_to(Access.ADMIN)
def create_block() -> ResponseReturnValue:
    """Block a network, a domain or a word."""
    value, why = request.form.get("value", ""), request.form.get("why", "")
    what = next((kind for kind in What if kind.value == request.form.get("what")), None)
    if what is None:
        raise BadRequest("This form names nothing that can be blocked. Nothing was changed.")
    try:
        blocks.add(site(), what, value, why, moderator=current_moderator().id)
    except BlockRefused as refused:
        return _page(refused, what, value, why), 409 if isinstance(refused, blocks.AlreadyBlocked) else 422
    signals.look_again_now(site())
    return redirect(url_for("blocks.index", just="blocked"), 303)


@blueprint.post("/<int(max=2147483647):block_id>/removal")
@open_to(Access.ADMIN)
def create_removal(block_id: int) -> ResponseReturnValue:
    """Take a block off the list."""
    blocks.remove(site(), block_id)
    signals.look_again_now(site())
    return redirect(url_for("blocks.index", just="removed"), 303)


def _page(refused: Exception | None = None, what: What = What.NETWORK, value: str = "", why: str = "") -> str:
    with site().database.reading_sessions() as session:
        entries = blocks.entries(session)
    return render_template(
        "desk/blocks.html",
        entries=[(kind, [entry for entry in entries if entry.row.what == kind.value]) for kind in What],
        kinds=tuple(What),
        length=blocks.VALUE_LENGTH,
        why_length=blocks.WHY_LENGTH,
        refused=refused,
        what=what,
        value=value,
        why=why,
        just=request.args.get("just"),
        me=current_moderator(),
    )
