"""What readers meet: essays, letters and answers, and the page on which an author follows their letter."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, current_app, redirect, render_template, request
from flask.typing import ResponseReturnValue

from bridge import db
from bridge.answer import waits
from bridge.essay import essays, intake, thread
from bridge.letter import admission, appeals, comments, erasure
from bridge.letter.comments import CommentRefused, Letter
from bridge.page import paths, printing
from bridge.text import language
from bridge.text.words import COMMENT_LENGTH, NOTE_LENGTH, WordsRefused
from bridge.web import arriving, problems
from bridge.web.access import Access, declared, framable, open_to, site
from bridge.web.stored import NUMBER
from bridge.web.writing import Refusal, letter_from_form, refusal
from moderation import reasons
from moderation.errors import CannotAppeal, NothingToAnswer

pages = Blueprint("pages", __name__)


@pages.app_context_processor
def _around() -> dict[str, Any]:
    """Tell every template the address readers use, and where it is read in other languages.

    What a form was answered with has no such place; the desk and what it signs in with speak English only.
    """
    spoken = site().settings.spoken
    readers = request.method == "GET" and request.endpoint is not None
    translated = readers and declared(current_app, str(request.endpoint)) in {Access.PUBLIC, Access.AUTHOR}
    others = language.others(spoken, request.args) if translated else []
    return {"site_address": site().settings.address, "spoken": spoken, "others": others}


@pages.get("/")
@open_to(Access.PUBLIC)
def index() -> ResponseReturnValue:
    """List the essays, newest first."""
    with site().database.reading_sessions() as session:
        found = essays.all_published(session)
        counts = thread.counts(session, [each.essay.id for each in found])
    return render_template("index.html", essays=found, counts=counts)


@pages.get("/essays/<slug>")
@open_to(Access.PUBLIC)
def essay(slug: str) -> ResponseReturnValue:
    """Show an essay with a page of its correspondence, printed for whoever asks while no stored one is there."""
    return _correspondence(slug, "page")


@pages.get("/essays/<slug>/embed")
@open_to(Access.PUBLIC)
@framable
def framed_essay(slug: str) -> ResponseReturnValue:
    """Show an essay's correspondence alone, for a frame."""
    return _correspondence(slug, "embed")


@pages.get("/letters/<token>")
@open_to(Access.AUTHOR)
def letter(token: str) -> ResponseReturnValue:
    """Show an author how their letter stands. The address is the key to it."""
    return _letter_page(token)


@pages.get("/letters/<token>/change")
@open_to(Access.AUTHOR)
def change_form(token: str) -> ResponseReturnValue:
    """Show the form with which an author changes a letter that nobody has decided on yet."""
    held = comments.held(site(), comments.opened_by(site(), token))
    if held.waiting is None or held.appealed is not None:
        return redirect(paths.letter(token), 303)
    before = Letter(held.waiting.author, held.waiting.body, wants_reply=held.wants_reply)
    return render_template("change.html", held=held, letter=before, token=token, refused=None, limit=COMMENT_LENGTH)


@pages.post("/letters/<token>/change")
@open_to(Access.AUTHOR)
def change(token: str) -> ResponseReturnValue:
    """Replace the words of a letter that nobody has decided on yet."""
    public_id = comments.opened_by(site(), token)
    letter = letter_from_form()
    try:
        arriving.take(admission.CHANGES)
        admission.take(site(), admission.CHANGES, public_id)
        comments.change_comment(site(), public_id, letter)
    except (WordsRefused, CommentRefused, CannotAppeal, NothingToAnswer) as refused:
        held = comments.held(site(), public_id)
        status = problems.status_of(refused)
        page = render_template(
            "change.html", held=held, letter=letter, token=token, refused=refusal(refused), limit=COMMENT_LENGTH
        )
        return page, status
    return redirect(paths.letter(token), 303)


@pages.post("/letters/<token>/withdrawal")
@open_to(Access.AUTHOR)
def create_withdrawal(token: str) -> ResponseReturnValue:
    """Take a letter back, posted or not, and its answer with it."""
    comments.take_back(site(), comments.opened_by(site(), token))
    return redirect(paths.letter(token), 303)


@pages.post("/letters/<token>/appeal")
@open_to(Access.AUTHOR)
def create_appeal(token: str) -> ResponseReturnValue:
    """Ask for another person to read a letter that was not posted."""
    public_id = comments.opened_by(site(), token)
    said = request.form.get("words", "")
    try:
        appeals.appeal(site(), public_id, said)
    except (WordsRefused, CannotAppeal, NothingToAnswer) as refused:
        status = 409 if isinstance(refused, CannotAppeal) else 422
        return _letter_page(token, refused=refusal(refused), written=said), status
    return redirect(paths.letter(token), 303)


@pages.get("/letters/<token>/erasure")
@open_to(Access.AUTHOR)
def erasure_form(token: str) -> ResponseReturnValue:
    """Ask an author once more before their words are erased."""
    held = comments.held(site(), comments.opened_by(site(), token))
    if held.standing.erased_at is not None:
        return redirect(paths.letter(token), 303)
    return render_template("erase.html", held=held, token=token)


@pages.post("/letters/<token>/erasure")
@open_to(Access.AUTHOR)
def create_erasure(token: str) -> ResponseReturnValue:
    """Take a letter back, if it is not, and erase it with its answer."""
    erasure.erase_comment(site(), comments.opened_by(site(), token))
    return redirect(paths.letter(token), 303)


@pages.get("/comments/<public_id>")
@open_to(Access.PUBLIC)
def comment(public_id: str) -> ResponseReturnValue:
    """Show one posted letter, with its answer, at an address of its own."""
    with site().database.reading_sessions() as session:
        posted, under = thread.posted_comment(session, public_id)
        html = printing.letters(session, under, [posted])
    return render_template("comment.html", comment=posted, found=under, html=html)


@pages.get("/replies/<public_id>")
@open_to(Access.PUBLIC)
def reply(public_id: str) -> ResponseReturnValue:
    """Show one posted answer and how it came about."""
    with site().database.reading_sessions() as session:
        posted, to, under = thread.posted_reply(session, public_id)
        html = printing.letters(session, under, [to])
    return render_template("reply.html", reply=posted, comment=to, found=under, html=html)


@pages.get("/healthz")
@open_to(Access.PUBLIC)
def healthz() -> ResponseReturnValue:
    """Answer 200 when the records answer; the supervisor waits for it."""
    with site().database.reading_sessions() as session:
        db.one_word(session)
    return Response("ok\n", mimetype="text/plain")


def _letter_page(token: str, *, refused: Refusal | None = None, written: str = "") -> str:
    """Show an author their letter; a refusal stands above the appeal's form, which keeps what was written."""
    held = comments.held(site(), comments.opened_by(site(), token))
    words = held.words
    with site().database.reading_sessions() as session:
        html = intake.html_of(session, [words])[words.digest] if words else None
    return render_template(
        "letter.html",
        held=held,
        html=html,
        off_the_disk=erasure.is_off_the_disk(site(), held.standing.erased_at),
        token=token,
        waits=waits.usual(site(), held.voice.id),
        codes=reasons.COMMENT_CODES,
        model_codes=reasons.MODEL_CODES,
        appeal_length=NOTE_LENGTH,
        refused=refused,
        written=written,
    )


def _correspondence(slug: str, surface: str) -> str:
    with site().database.reading_sessions() as session:
        found = essays.published(session, slug)
        page = _page()
        if not 1 <= page <= thread.pages(session, found.essay.id):
            raise thread.NotPublic
        return printing.whole(session, site().settings, found, page, surface)


def _page() -> int:
    """Return the number of the page that is asked for; 0, which no page has, for what is no number.

    As a stored page is looked for: what is found by no other address is rendered for none.
    """
    given = (request.args.getlist("page") or ["1"])[-1]
    return int(given) if NUMBER.fullmatch(given) else 0
