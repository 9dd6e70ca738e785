"""Reports: a reader says that posted words should not be; the desk reads them and says what became of it."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from bridge.essay import intake
from bridge.letter import admission, reports
from bridge.page import paths
from bridge.text.language import N_
from bridge.text.words import NOTE_LENGTH, WordsRefused, essay_title
from bridge.web import arriving
from bridge.web.access import Access, current_moderator, open_to, site
from moderation import reasons
from moderation.errors import UnknownReasonCode

blueprint = Blueprint("reports", __name__)

AT_ONCE = 30


class NothingChosen(Exception):
    """What a reporter is told whose form names none of the reasons that it offers. Programs are told the codes."""

    def __init__(self) -> None:
        super().__init__(N_("Please choose what is wrong with it. Nothing was sent."))


@blueprint.app_context_processor
def _number() -> dict[str, object]:
    """Give every page of the desk a way to tell how many reports are open."""
    return {"open_reports": _open_reports}


@blueprint.get("/reports")
@open_to(Access.PUBLIC)
def report_form() -> ResponseReturnValue:
    """Show the form with which a reader reports posted words; without any, say where to find it."""
    of = request.args.get("of")
    return _form(of) if of else render_template("report.html", reported=None)


@blueprint.post("/reports")
@open_to(Access.PUBLIC)
def create_report() -> ResponseReturnValue:
    """Receive a report."""
    of = request.form.get("of", "")
    try:
        arriving.take(admission.REPORTS)
        token = reports.receive_report(site(), of, request.form.get("code", ""), request.form.get("words"))
    except UnknownReasonCode:
        return _form(of, refused=NothingChosen()), 422
    except WordsRefused as refused:
        return _form(of, refused=refused), 422
    except admission.NothingMoreNow as refused:
        return _form(of, refused=refused), 429, {"Retry-After": str(refused.retry_after)}
    return redirect(paths.reported(token), 303)


@blueprint.get("/reports/<token>")
@open_to(Access.AUTHOR)
def report(token: str) -> ResponseReturnValue:
    """Tell a reporter what became of their report. The address is the key to it."""
    return render_template("reported.html", made=reports.made(site(), token))


@blueprint.get("/desk/reports")
@open_to(Access.MODERATOR)
def index() -> ResponseReturnValue:
    """Show the open reports, oldest first, each beside the words it is about."""
    return _page()


@blueprint.post("/desk/reports/<int(max=2147483647):report_id>/kept")
@open_to(Access.MODERATOR)
def create_closing(report_id: int) -> ResponseReturnValue:
    """Close a report whose words stay posted."""
    told = request.form.get("words", "")
    try:
        reports.keep_words(site(), report_id, moderator=current_moderator().id, told=told)
    except WordsRefused as refused:
        return _page(refused=refused, report_id=report_id, written=told), 422
    return redirect(url_for("reports.index", just="kept"), 303)


def _form(of: str, *, refused: Exception | None = None) -> str:
    with site().database.reading_sessions() as session:
        reported = reports.about(session, of)
        html = intake.html_of(session, [reported.words])[reported.words.digest]
    return render_template(
        "report.html",
        reported=reported,
        html=html,
        codes=reasons.codes_for(reported.words.kind),
        limit=NOTE_LENGTH,
        refused=refused,
        written=request.form,
    )


def _page(*, refused: Exception | None = None, report_id: int | None = None, written: str = "") -> str:
    """Show the open reports; a refusal stands at its report, whose form keeps what was written."""
    given = request.args.get("after", "0")
    after = int(given) if given.isascii() and given.isdigit() and len(given) < 10 else 0
    with site().database.reading_sessions() as session:
        found = reports.open_reports(session, after=after, limit=AT_ONCE + 1)
        listed = found[:AT_ONCE]
        words = [each for one in listed for each in (one.words, one.answers) if each is not None]
        html = intake.html_of(session, words)
    return render_template(
        "desk/reports.html",
        listed=listed,
        more=listed[-1].report.id if len(found) > AT_ONCE else None,
        html=html,
        title_of=essay_title,
        limit=NOTE_LENGTH,
        refused=refused,
        refused_at=report_id,
        written=written,
        just=request.args.get("just"),
        me=current_moderator(),
    )


def _open_reports() -> int:
    with site().database.reading_sessions() as session:
        return reports.number_open(session)
