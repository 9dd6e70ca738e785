"""What the desk's module asks while somebody reads: whose claim stands, what changed, and the whole call on demand."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from flask import Blueprint, Response, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from bridge.answer import calls
from bridge.desk import claims, desk
from bridge.desk.claims import Claimed
from bridge.desk.desk import Numbers, Waits
from bridge.voice import budgets
from bridge.web.access import Access, current_moderator, open_to, site
from bridge.web.asked import asked_by, number
from bridge.web.desk import by_module, in_a_title, refusal
from moderation import errors
from moderation.types import Moderator, State

reading = Blueprint("reading", __name__, url_prefix="/desk")


@reading.post("/submissions/<int(max=2147483647):submission_id>/claim")
@open_to(Access.MODERATOR)
def create_claim(submission_id: int) -> ResponseReturnValue:
    """Say that one is reading a submission, or still is, or takes it over."""
    me = current_moderator()
    try:
        claim = claims.read(site(), submission_id, moderator=me.id, take_over=request.form.get("take_over") == "yes")
    except (errors.AlreadyDecided, errors.NoLongerPending) as refused:
        # Nothing is lost: whoever reads it is told what became of it.
        return refusal(refused) if by_module() else _back(submission_id)
    return jsonify(_claim(claim, me)) if by_module() else _back(submission_id)


@reading.post("/submissions/<int(max=2147483647):submission_id>/claim/end")
@open_to(Access.MODERATOR)
def end_claim(submission_id: int) -> ResponseReturnValue:
    """Say that one reads a submission no more."""
    claims.let_go(site(), submission_id, moderator=current_moderator().id)
    return ("", 204) if by_module() else _back(submission_id)


@reading.get("/state")
@open_to(Access.MODERATOR)
def state() -> ResponseReturnValue:
    """Tell what waits and who reads what, for the page that the module shows; 304 if that is known already."""
    me = current_moderator()
    asked = asked_by(me)
    with site().database.reading_sessions() as session:
        now = desk.now(session, me.id, asked.wanted, after=asked.after, open_=number("open"))
    told = {
        "title": in_a_title(now.numbers),
        "numbers": _numbers(now.numbers),
        "listed": [
            {
                "id": each.id,
                "claim": _claim(now.claims.get(each.id), me),
                "marks": f"{int(each.held is not None)}{int(each.proposal is not None)}",
            }
            for each in now.listed
        ],
        "open": _waits(now.opened, me) if now.opened else None,
    }
    answer = Response(json.dumps(told), mimetype="application/json")
    answer.set_etag(hashlib.sha256(answer.get_data()).hexdigest()[:32])
    return answer.make_conditional(request)


@reading.get("/submissions/<int(max=2147483647):submission_id>/call")
@open_to(Access.MODERATOR)
def call(submission_id: int) -> ResponseReturnValue:
    """Show the whole request and response behind a reply."""
    with site().database.reading_sessions() as session:
        call, whole = calls.behind(session, submission_id, site().keys) or (None, None)
    return render_template(
        "desk/call.html",
        submission_id=submission_id,
        call=call,
        whole=whole,
        dollars=budgets.dollars,
        me=current_moderator(),
    )


def _back(submission_id: int) -> ResponseReturnValue:
    kept = asked_by(current_moderator()).kept
    return redirect(url_for("desk.submission", submission_id=submission_id, **kept), 303)


def _numbers(numbers: Numbers) -> dict[str, str]:
    told = {
        "total": numbers.total,
        **{kind.value: count for kind, count in numbers.kinds.items()},
        "likely_spam": numbers.likely_spam,
        "held": numbers.held,
        "claimed": numbers.claimed,
        "again": numbers.again,
    }
    return {name: str(count) for name, count in told.items()}


def _claim(claim: Claimed | None, me: Moderator) -> dict[str, Any] | None:
    if claim is None:
        return None
    # In whole minutes: a claim that is only renewed is no news to the others, and its page answers 304.
    return {"by": claim.moderator.name, "mine": claim.moderator.id == me.id, "until": f"{claim.until:%H:%M} UTC"}


def _waits(waits: Waits, me: Moderator) -> dict[str, Any]:
    who = "You" if waits.decided_by is not None and waits.decided_by.id == me.id else None
    who = who or (waits.decided_by.name if waits.decided_by else "Somebody")
    said = {
        State.PENDING: None,
        State.APPROVED: f"{who} approved this one.",
        State.REJECTED: f"{who} rejected this one.",
        State.SUPERSEDED: "Its author changed these words.",
        State.WITHDRAWN: "These words were taken back.",
    }[waits.state]
    return {
        "pending": waits.state is State.PENDING,
        "said": said,
        "proposal": waits.proposal or 0,
        "claim": _claim(waits.claim, me),
    }
