"""The record: what happened to each submission, what was decided lately, the ledger; and for readers, the numbers."""

from __future__ import annotations

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from bridge.desk import histories
from bridge.page import checkpoints, transparency
from bridge.text.words import essay_title, opening
from bridge.web.access import Access, current_moderator, open_to, site
from moderation import reasons
from moderation.types import Kind

record = Blueprint("record", __name__)


@record.get("/desk/submissions/<int(max=2147483647):submission_id>/history")
@open_to(Access.MODERATOR)
def history(submission_id: int) -> ResponseReturnValue:
    """Show all that happened to one submission."""
    with site().database.reading_sessions() as session:
        found = histories.one(session, submission_id)
    codes = reasons.codes_for(found.past.kind)
    return render_template("desk/history.html", found=found, codes=codes, title_of=essay_title, me=current_moderator())


@record.get("/desk/decided")
@open_to(Access.MODERATOR)
def decided() -> ResponseReturnValue:
    """List what was decided, newest first."""
    with site().database.reading_sessions() as session:
        listed, more, people = histories.lately(session, before=_before())
    return render_template(
        "desk/decided.html",
        listed=listed,
        more=more,
        people=people,
        earlier=_before() is not None,
        codes={kind: reasons.codes_for(kind) for kind in Kind},
        title_of=essay_title,
        opening=opening,
        me=current_moderator(),
    )


@record.get("/desk/ledger")
@open_to(Access.MODERATOR)
def ledger() -> ResponseReturnValue:
    """Show the ledger's entries, newest first, in words and as the bytes that were hashed."""
    with site().database.reading_sessions() as session:
        listed, more, people = histories.entries(session, before=_before())
    return render_template(
        "desk/ledger.html",
        listed=listed,
        more=more,
        people=people,
        earlier=_before() is not None,
        checkpoint=checkpoints.newest(site()),
        me=current_moderator(),
    )


@record.get("/transparency")
@open_to(Access.PUBLIC)
def numbers() -> ResponseReturnValue:
    """Show readers what was asked, answered, declined, approved and not, and how long each took."""
    found = transparency.counted(site())
    return render_template(
        "transparency.html",
        found=found,
        chart=transparency.chart(found.voices, found.at),
        months_drawn=transparency.MONTHS_DRAWN,
        duration=transparency.duration,
        name_of=transparency.name_of,
        codes=(("letters", reasons.COMMENT_CODES), ("answers and essays", reasons.MODEL_CODES)),
        quorum=site().settings.veto_quorum,
        checkpoint=checkpoints.newest(site()),
    )


def _before() -> int | None:
    given = request.args.get("before", "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 10 else None
