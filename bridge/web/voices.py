"""The desk's pages of voices: how each answers, what it costs and has waiting for it; admins change all of it.

Moderators read what admins decide.
"""

from __future__ import annotations

from collections.abc import Mapping

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from bridge.answer.replies import NotToBeAskedAgain
from bridge.desk import keeping
from bridge.desk.keeping import Kept
from bridge.records import RequestState
from bridge.voice import budgets, ways
from bridge.voice.voices import CHARTER_LENGTH, CharterChanged, CharterRefused, WayRefused
from bridge.web.access import Access, current_moderator, open_to, site

voices = Blueprint("voices", __name__, url_prefix="/desk/voices")

NOTHING: Mapping[str, str] = {}


@voices.get("")
@open_to(Access.MODERATOR)
def index() -> ResponseReturnValue:
    """Show every voice: whether it answers, what waits for it, what it costs."""
    with site().database.reading_sessions() as session:
        kept = keeping.everyone(session)
    return render_template("desk/voices.html", kept=kept, dollars=budgets.dollars, me=current_moderator())


@voices.get("/<voice>")
@open_to(Access.MODERATOR)
def voice(voice: str) -> ResponseReturnValue:
    """Show one voice, with one list of its requests."""
    return _page(voice)


@voices.post("/<voice>/pause")
@open_to(Access.ADMIN)
def create_pause(voice: str) -> ResponseReturnValue:
    """Stop asking a voice, in effect before its next call."""
    try:
        keeping.pause(site(), voice, moderator=current_moderator(), why=request.form.get("why", ""))
    except keeping.WhyTooLong as refused:
        return _page(voice, refused=refused, written=request.form), 422
    return _back(voice, "paused")


@voices.post("/<voice>/resumption")
@open_to(Access.ADMIN)
def create_resumption(voice: str) -> ResponseReturnValue:
    """Ask a voice again."""
    keeping.resume(site(), voice)
    return _back(voice, "resumed")


@voices.post("/<voice>/budgets")
@open_to(Access.ADMIN)
def create_budgets(voice: str) -> ResponseReturnValue:
    """Bound what a voice costs and how often it answers."""
    try:
        keeping.set_bounds_written(site(), voice, request.form)
    except budgets.BudgetRefused as refused:
        return _page(voice, refused=refused, written=request.form), 422
    return _back(voice, "bounded")


@voices.post("/<voice>/ways")
@open_to(Access.ADMIN)
def create_ways(voice: str) -> ResponseReturnValue:
    """Have a voice asked in another way, from its next sitting on."""
    try:
        keeping.set_ways_at_the_desk(site(), voice, request.form)
    except WayRefused as refused:
        return _page(voice, refused=refused, written=request.form), 422
    return _back(voice, "set")


@voices.post("/<voice>/requests/<int(max=2147483647):comment_id>/again")
@open_to(Access.ADMIN)
def create_asking(voice: str, comment_id: int) -> ResponseReturnValue:
    """Ask once more for a reply that failed."""
    try:
        keeping.ask_again(site(), voice, comment_id)
    except NotToBeAskedAgain as refused:
        return _page(voice, refused=refused), 409
    return _back(voice, "asked")


@voices.get("/<voice>/charter")
@open_to(Access.MODERATOR)
def charter(voice: str) -> ResponseReturnValue:
    """Show a voice's charter and what it was before."""
    return _charter_page(voice)


@voices.post("/<voice>/charter")
@open_to(Access.ADMIN)
def create_charter(voice: str) -> ResponseReturnValue:
    """Give a voice a new charter."""
    seen = _number(request.form.get("seen", ""))
    written = request.form.get("charter", "")
    try:
        keeping.change_charter(site(), voice, written, moderator=current_moderator(), seen=seen)
    except CharterRefused as refused:
        return _charter_page(voice, refused=refused, written=written), 409 if isinstance(
            refused, CharterChanged
        ) else 422
    return redirect(url_for("voices.charter", voice=voice, just="changed"), 303)


def _page(slug: str, *, refused: Exception | None = None, written: Mapping[str, str] = NOTHING) -> str:
    """Show one voice; a refusal stands above its form, which keeps what was written."""
    field = getattr(refused, "field", None)
    with site().database.reading_sessions() as session:
        kept = keeping.one(session, slug)
        state = _state(kept)
        after = _number(request.args.get("after", ""))
        listed = keeping.asked(session, kept.voice, state, after=after, limit=keeping.AT_ONCE + 1)
    return render_template(
        "desk/voice.html",
        kept=kept,
        state=state,
        states=keeping.LISTED,
        listed=listed[: keeping.AT_ONCE],
        more=listed[keeping.AT_ONCE - 1].request.comment_id if len(listed) > keeping.AT_ONCE else None,
        refused=refused,
        field=field,
        refused_in="ways" if field in ways.AT_THE_DESK else "budgets" if field in budgets.BOUNDS else "page",
        why=written.get("why", ""),
        bounds=written if isinstance(refused, budgets.BudgetRefused) else budgets.written(kept.bounds),
        ways=written if isinstance(refused, WayRefused) else ways.written(kept.ways),
        why_length=keeping.WHY_LENGTH,
        dollars=budgets.dollars,
        just=request.args.get("just"),
        me=current_moderator(),
    )


def _charter_page(slug: str, *, refused: CharterRefused | None = None, written: str | None = None) -> str:
    with site().database.reading_sessions() as session:
        kept = keeping.one(session, slug)
        versions = keeping.history(session, kept.voice)
    below = _number(request.args.get("below", "")) or len(versions) + 1
    older = [each for each in versions if each.number < below]
    return render_template(
        "desk/charter.html",
        voice=kept.voice,
        newest=versions[0],
        versions=older[: keeping.VERSIONS_AT_ONCE],
        more=older[keeping.VERSIONS_AT_ONCE - 1].number if len(older) > keeping.VERSIONS_AT_ONCE else None,
        most=CHARTER_LENGTH,
        refused=refused,
        written=written,
        just=request.args.get("just"),
        me=current_moderator(),
    )


def _back(slug: str, just: str) -> ResponseReturnValue:
    return redirect(url_for("voices.voice", voice=slug, just=just), 303)


def _state(kept: Kept) -> RequestState:
    """Return which requests are to be listed: those asked for, else those that failed, else those that wait."""
    given = request.args.get("list")
    if given in set(keeping.LISTED):
        return RequestState(given)
    return RequestState.FAILED if kept.counts[RequestState.FAILED] else RequestState.WAITING


def _number(given: str) -> int:
    return int(given) if given.isascii() and given.isdigit() and len(given) < 10 else 0
