"""The moderators' pages: what waits, each submission in its context, and the forms that decide on it.

The desk's module (static/desk.js) sends the same forms and asks for JSON: then a verdict is answered by what it came
to, or by who was first.
"""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, jsonify, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from bridge.desk import reviews, shortcuts
from bridge.desk.desk import Numbers, page
from bridge.signal.signals import NAMES
from bridge.text.words import essay_text, essay_title, opening
from bridge.web.access import Access, current_moderator, open_to, site
from bridge.web.asked import asked_by, number
from moderation import errors, reasons
from moderation.types import Digest, Kind

desk = Blueprint("desk", __name__, url_prefix="/desk")

_MEANWHILE = (
    errors.NotTheWordsStored,
    errors.NoLongerPending,
    errors.AlreadyDecided,
    errors.AnotherModeratorNeeded,
)
"""What can have happened to words, or to who may judge them, between the page and the verdict."""
_SHOWN = (
    *_MEANWHILE,
    errors.NothingToAnswer,
    errors.UnknownReasonCode,
    errors.ReasonTooShort,
    errors.ReasonTooLong,
    errors.SecondModeratorNeeded,
)
"""The refusals that a page shows above the words; others have a page of their own."""
_INCOMPLETE = (errors.NothingToAnswer, errors.UnknownReasonCode, errors.ReasonTooShort, errors.ReasonTooLong)

TIMES = {"undo": 10, "settle": 1, "beat": 20, "poll": 4, "glance": 60}
"""The module's seconds: how long it holds a verdict, until a card takes one, between two claims, between two looks, and
between two looks at the numbers alone while nobody can see the page."""
_KINDS = {Kind.COMMENT: ("letter", "letters"), Kind.REPLY: ("answer", "answers"), Kind.ESSAY: ("essay", "essays")}


@desk.app_template_filter("essay_opening")
def essay_opening(body: str) -> str:
    """Return an essay's first words, without its title."""
    return opening(essay_text(body), 260)


@desk.get("/")
@open_to(Access.MODERATOR)
def index() -> ResponseReturnValue:
    """Show the queue, opened at its oldest submission, or at the first after another one."""
    return _page(None, past=number("past"))


@desk.get("/submissions/<int(max=2147483647):submission_id>")
@open_to(Access.MODERATOR)
def submission(submission_id: int) -> ResponseReturnValue:
    """Show the queue with one submission opened."""
    return _page(submission_id)


@desk.post("/submissions/<int(max=2147483647):submission_id>/approval")
@open_to(Access.MODERATOR)
def create_approval(submission_id: int) -> ResponseReturnValue:
    """Approve a submission verbatim."""

    def approve() -> str:
        seen = Digest(request.form.get("digest", ""))
        reviews.approve(site(), submission_id, moderator=current_moderator().id, seen=seen)
        return "approved"

    return _done(submission_id, approve)


@desk.get("/submissions/<int(max=2147483647):submission_id>/rejection")
@open_to(Access.MODERATOR)
def rejection_form(submission_id: int) -> ResponseReturnValue:
    """Show the form that rejects a comment, or proposes or confirms a veto."""
    return _page(submission_id, rejecting=True)


@desk.post("/submissions/<int(max=2147483647):submission_id>/rejection")
@open_to(Access.MODERATOR)
def create_rejection(submission_id: int) -> ResponseReturnValue:
    """Reject a comment, or take one step towards vetoing a model's words."""

    def reject() -> str:
        return reviews.reject(
            site(),
            submission_id,
            moderator=current_moderator().id,
            seen=Digest(request.form.get("digest", "")),
            code=request.form.get("reason_code", ""),
            reason=request.form.get("reason") or None,
            told=request.form.get("told") or None,
        ).value

    return _done(submission_id, reject, rejecting=True)


@desk.post("/submissions/<int(max=2147483647):submission_id>/hold")
@open_to(Access.MODERATOR)
def create_hold(submission_id: int) -> ResponseReturnValue:
    """Leave a submission to a second reader."""

    def hold() -> str:
        reviews.hold(site(), submission_id, moderator=current_moderator().id)
        return "held"

    return _done(submission_id, hold)


@desk.post("/submissions/<int(max=2147483647):submission_id>/hold/end")
@open_to(Access.MODERATOR)
def end_hold(submission_id: int) -> ResponseReturnValue:
    """Put a held submission back among the others."""

    def let_go() -> str:
        reviews.let_go(site(), submission_id, moderator=current_moderator().id)
        return "let_go"

    return _done(submission_id, let_go)


@desk.post("/shortcuts")
@open_to(Access.MODERATOR)
def choose_shortcuts() -> ResponseReturnValue:
    """Have the desk listen to single keys, or not."""
    shortcuts.choose(site(), moderator=current_moderator().id, heard=request.form.get("heard") == "yes")
    return redirect(url_for("desk.index", **asked_by(current_moderator()).kept), 303)


def in_a_title(numbers: Numbers) -> str:
    """Return how many wait, as a tab shows it: "(12) 8 letters, 3 answers, 1 essay"."""
    kinds = [
        f"{count} {one if str(count) == '1' else many}"
        for count, (one, many) in ((numbers.kinds[kind], names) for kind, names in _KINDS.items())
        if count.number
    ]
    return f"({numbers.total}) {', '.join(kinds)}".rstrip()


def by_module() -> bool:
    """Whether the desk's module asks, which reads JSON."""
    return request.accept_mimetypes.best == "application/json"


def refusal(refused: errors.Refused) -> ResponseReturnValue:
    """Tell the desk's module what was refused: the sentence, and who was first with what."""
    told: dict[str, object] = {"sentence": str(refused)}
    if isinstance(refused, errors.AlreadyDecided):
        told |= {"verdict": refused.verdict, "mine": refused.moderator == current_moderator().name}
    if isinstance(refused, errors.SecondModeratorNeeded):
        told |= {"verdict": "proposed", "mine": True}
    if isinstance(refused, errors.NoLongerPending) and refused.superseded_by is not None:
        told["newer"] = url_for("desk.submission", submission_id=refused.superseded_by)
    return jsonify(told), 422 if isinstance(refused, _INCOMPLETE) else 409


def _done(submission_id: int, act: Callable[[], str], *, rejecting: bool = False) -> ResponseReturnValue:
    """Do *act*; lead on to what waits next, or show what was refused and keep what was written."""
    try:
        came_to = act()
    except errors.Refused as refused:
        if by_module():
            return refusal(refused)
        if not isinstance(refused, _SHOWN):
            raise
        newer = refused.superseded_by if isinstance(refused, errors.NoLongerPending) else None
        return _page(newer or submission_id, refused=refused, rejecting=rejecting)
    if by_module():
        return jsonify(came_to=came_to), 201
    kept = asked_by(current_moderator()).kept
    return redirect(url_for("desk.index", **kept, past=submission_id, just=came_to), 303)


def _page(
    submission_id: int | None, *, past: int = 0, refused: errors.Refused | None = None, rejecting: bool = False
) -> ResponseReturnValue:
    """Show the queue, with one submission opened; a refusal stands above it and its form keeps what was written."""
    me = current_moderator()
    asked = asked_by(me)
    with site().database.reading_sessions() as session:
        found = page(session, me.id, asked.wanted, open_=submission_id, past=past, after=asked.after)
        heard = shortcuts.heard(session, me.id)
    opened = found.opened
    gone = submission_id is not None and opened is None
    shown = render_template(
        "desk/queue.html",
        desk=found,
        in_title=in_a_title(found.numbers),
        opened=opened,
        gone=gone,
        wanted=asked.wanted,
        kept=asked.kept,
        filters=asked.filters,
        title_of=essay_title,
        names=NAMES,
        codes=reasons.codes_for(opened.context.pending.kind) if opened else {},
        least=reasons.PROPOSAL_REASON_LENGTH,
        quorum=site().settings.veto_quorum,
        refused=refused,
        rejecting=rejecting,
        written=request.form,
        just=request.args.get("just"),
        times=TIMES,
        shortcuts=heard,
        me=me,
    )
    if refused is None:
        return shown, 410 if gone else 200
    return make_response(shown, 422 if isinstance(refused, _INCOMPLETE) else 409)
