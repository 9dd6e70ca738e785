"""The moderators' pages: what waits, each submission in its context, and the forms that decide on it."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from bridge import intake, markup, reviews
from bridge.web.access import Access, current_moderator, open_to, site
from bridge.words import essay_title
from moderation import errors, queue, reasons
from moderation.types import Digest, Kind, Tray

desk = Blueprint("desk", __name__, url_prefix="/desk")

IN_THE_LIST = 50
_MEANWHILE = (errors.NotTheWordsStored, errors.NoLongerPending, errors.AlreadyDecided)
"""What can have happened to words between the page and the verdict."""


@desk.get("/")
@open_to(Access.MODERATOR)
def index() -> ResponseReturnValue:
    """Show the queue, with its oldest submission opened."""
    return _page(None)


@desk.get("/submissions/<int(max=2147483647):submission_id>")
@open_to(Access.MODERATOR)
def submission(submission_id: int) -> ResponseReturnValue:
    """Show the queue with one submission opened."""
    return _page(submission_id)


@desk.post("/submissions/<int(max=2147483647):submission_id>/approval")
@open_to(Access.MODERATOR)
def create_approval(submission_id: int) -> ResponseReturnValue:
    """Approve a submission verbatim."""
    seen = Digest(request.form.get("digest", ""))
    try:
        reviews.approve(site(), submission_id, moderator=current_moderator().id, seen=seen)
    except _MEANWHILE as refused:
        return _page(_newer(refused) or submission_id, refused=refused)
    return redirect(_next("approved"), 303)


@desk.get("/submissions/<int(max=2147483647):submission_id>/rejection")
@open_to(Access.MODERATOR)
def rejection_form(submission_id: int) -> ResponseReturnValue:
    """Show the form that rejects a comment, or proposes or confirms a veto."""
    return _page(submission_id, rejecting=True)


@desk.post("/submissions/<int(max=2147483647):submission_id>/rejection")
@open_to(Access.MODERATOR)
def create_rejection(submission_id: int) -> ResponseReturnValue:
    """Reject a comment, or take one step towards vetoing a model's words."""
    try:
        came_to = reviews.reject(
            site(),
            submission_id,
            moderator=current_moderator().id,
            seen=Digest(request.form.get("digest", "")),
            code=request.form.get("reason_code", ""),
            reason=request.form.get("reason") or None,
            told=request.form.get("told") or None,
        )
    except (
        *_MEANWHILE,
        errors.UnknownReasonCode,
        errors.ReasonTooShort,
        errors.ReasonTooLong,
        errors.SecondModeratorNeeded,
    ) as refused:
        return _page(_newer(refused) or submission_id, refused=refused, rejecting=True)
    return redirect(_next(came_to.value), 303)


def _page(
    submission_id: int | None, *, refused: errors.Refused | None = None, rejecting: bool = False
) -> ResponseReturnValue:
    """Show the queue, with one submission opened; a refusal stands above it and its form keeps what was written."""
    kind, tray = _kind(), _tray()
    with site().database.reading_sessions() as session:
        listed = reviews.waiting(session, kind=kind, tray=tray, after=_after(), limit=IN_THE_LIST + 1)
        opened = listed[0] if listed else None
        if submission_id is not None:
            opened = reviews.one(session, submission_id)
        counts = queue.counts(session)
        essay_html = answers_html = None
        if opened is not None and opened.essay_words is not None:
            essay_html = intake.html_of(session, [opened.essay_words])[opened.essay_words.digest]
        if opened is not None and opened.answers is not None:
            answers_html = intake.html_of(session, [opened.answers])[opened.answers.digest]
    page = render_template(
        "desk/queue.html",
        listed=listed[:IN_THE_LIST],
        more=listed[IN_THE_LIST - 1].pending.id if len(listed) > IN_THE_LIST else None,
        opened=opened,
        gone=submission_id is not None and opened is None,
        html=intake.rendered(opened.pending, targets=True) if opened else None,
        essay_html=essay_html,
        answers_html=answers_html,
        title_of=essay_title,
        misleading=markup.misleading_links(opened.pending.body) if opened else [],
        counts=counts,
        total=sum(counts.values()),
        kind=kind,
        tray=tray,
        codes=reasons.codes_for(opened.pending.kind) if opened else {},
        least=reasons.PROPOSAL_REASON_LENGTH,
        quorum=site().settings.veto_quorum,
        refused=refused,
        rejecting=rejecting,
        written=request.form,
        just=request.args.get("just"),
        me=current_moderator(),
    )
    if refused is None:
        return page, 410 if submission_id is not None and opened is None else 200
    return page, 409 if isinstance(refused, (*_MEANWHILE, errors.SecondModeratorNeeded)) else 422


def _newer(refused: errors.Refused) -> int | None:
    """Return the submission that replaced the one that was judged: the desk shows it instead."""
    return refused.superseded_by if isinstance(refused, errors.NoLongerPending) else None


def _next(just: str) -> str:
    kind, tray = _kind(), _tray()
    return url_for("desk.index", kind=kind.value if kind else None, tray=tray.value if tray else None, just=just)


def _kind() -> Kind | None:
    given = request.args.get("kind")
    return Kind(given) if given in set(Kind) else None


def _tray() -> Tray | None:
    given = request.args.get("tray")
    return Tray(given) if given in set(Tray) else None


def _after() -> int:
    given = request.args.get("after", "0")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 10 else 0
