"""Where webmentions are taken, and the desk's page of them."""

from __future__ import annotations

from flask import Blueprint, Response, render_template, request
from flask.typing import ResponseReturnValue

from bridge.letter import admission, mentions
from bridge.letter.mentions import MentionRefused, MentionState, Way
from bridge.web import arriving
from bridge.web.access import Access, current_moderator, open_to, site

blueprint = Blueprint("mentions", __name__)


@blueprint.post("/webmention")
@open_to(Access.PUBLIC)
def create_mention() -> ResponseReturnValue:
    """Take note that a page elsewhere says it links to an essay (https://www.w3.org/TR/webmention/)."""
    arriving.take(admission.MENTIONS)
    try:
        mentions.receive(site(), request.form.get("source", ""), request.form.get("target", ""))
    except MentionRefused as refused:
        return Response(f"{refused} Nothing was changed.\n", 400, mimetype="text/plain")
    return Response("It will be looked at, and a person reads what comes of it.\n", 202, mimetype="text/plain")


@blueprint.get("/desk/mentions")
@open_to(Access.ADMIN)
def index() -> ResponseReturnValue:
    """Show which pages say that they link here, and which were told of an essay."""
    with site().database.reading_sessions() as session:
        counts = mentions.counts(session)
        listed = {way: mentions.listed(session, way) for way in Way}
    return render_template(
        "desk/mentions.html",
        counts=counts,
        listed=listed,
        ways=Way,
        states=MentionState,
        most=mentions.LISTED,
        sends=mentions.is_public(site().settings),
        me=current_moderator(),
    )
