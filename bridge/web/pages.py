"""What readers meet: essays, letters and answers, and the page on which an author follows their letter."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

from flask import Blueprint, Response, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse

from bridge import appeals, comments, db, erasure, essays, intake, markup, thread
from bridge.admission import Came
from bridge.comments import CommentRefused, DecidedMeanwhile, EssayClosed, KeyUsedForOtherWords, Letter
from bridge.essays import Published
from bridge.language import tongue
from bridge.passages import Passage
from bridge.site import Site
from bridge.thread import PostedComment
from bridge.web import arriving
from bridge.web.access import Access, open_to, site
from bridge.words import COMMENT_LENGTH, NOTE_LENGTH, WordsRefused
from moderation import base, reasons
from moderation.errors import CannotAppeal, NothingToAnswer
from moderation.types import Kind, Released

pages = Blueprint("pages", __name__)

FORM_TOKEN = "comment form"  # noqa: S105  (A purpose, not a token.)
FORM_TOKEN_LIFE = timedelta(days=1)


@pages.app_context_processor
def _address() -> dict[str, str]:
    """Tell every template the address readers use: what is quoted or offered there must be absolute."""
    return {"site_address": site().settings.address}


@pages.get("/")
@open_to(Access.PUBLIC)
def index() -> ResponseReturnValue:
    """List the essays, newest first."""
    with site().database.reading_sessions() as session:
        found = essays.all_published(session)
        counts = thread.counts(session, [each.essay.id for each in found])
    return render_template("index.html", essays=found, counts=counts)


@pages.get("/about")
@open_to(Access.PUBLIC)
def about() -> ResponseReturnValue:
    """Tell how a letter becomes an answer, and who decides what."""
    return render_template("about.html", quorum=site().settings.veto_quorum, reasons=reasons)


@pages.get("/essays/<slug>")
@open_to(Access.PUBLIC)
def essay(slug: str) -> ResponseReturnValue:
    """Show an essay, its correspondence, and the form for a letter."""
    answering = request.args.get("answering") or None
    with site().database.reading_sessions() as session:
        found = essays.published(session, slug)
        return _essay_page(session, found, Letter("", "", parent=answering), after=_page())


@pages.get("/essays/<slug>/form-token")
@open_to(Access.PUBLIC)
def form_token(slug: str) -> ResponseReturnValue:
    """Give the module a token for the form, while the reader types."""
    response = jsonify(token=_new_token(slug))
    response.headers["Cache-Control"] = "no-store"
    return response


@pages.post("/essays/<slug>/comments")
@open_to(Access.PUBLIC)
def create_comment(slug: str) -> ResponseReturnValue:
    """Receive a letter; without a fresh token, or when asked, show it once more before it is sent.

    The token is what tells a double click from two letters, so a form without one is answered by a page that has it.
    """
    letter = _letter_from_form()
    key = _key_of(slug, request.form.get("token", ""))
    try:
        if key is None or "preview" in request.form:
            return _preview(slug, letter)
        receipt = arriving.receive(
            slug,
            letter,
            came=Came.PAGE,
            key=key[0],
            begun_at=key[1],
            author_secret=_author_secret(),
            same_words_once=True,
        )
    except KeyUsedForOtherWords:
        # Sent, then back to the preview and other words sent from there: another letter, so it is shown once more.
        return _preview(slug, letter)
    except (WordsRefused, CommentRefused) as refused:
        return _refused(slug, letter, refused)
    response = redirect(url_for("pages.letter", token=receipt.token), 303)
    _remember_author(response, receipt.author_secret)
    return response


@pages.get("/essays/<slug>/comments")
@open_to(Access.PUBLIC)
def comments_of(slug: str) -> ResponseReturnValue:
    """Lead whoever loads the form's address again back to the essay."""
    return redirect(url_for("pages.essay", slug=slug))


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
        return redirect(url_for("pages.letter", token=token), 303)
    before = Letter(held.waiting.author, held.waiting.body, wants_reply=held.wants_reply)
    return render_template("change.html", held=held, letter=before, token=token, refused=None, limit=COMMENT_LENGTH)


@pages.post("/letters/<token>/change")
@open_to(Access.AUTHOR)
def change(token: str) -> ResponseReturnValue:
    """Replace the words of a letter that nobody has decided on yet."""
    public_id = comments.opened_by(site(), token)
    letter = _letter_from_form()
    try:
        comments.change_comment(site(), public_id, letter)
    except (WordsRefused, CommentRefused, CannotAppeal, NothingToAnswer) as refused:
        held = comments.held(site(), public_id)
        status = 409 if isinstance(refused, DecidedMeanwhile | CannotAppeal) else 422
        page = render_template(
            "change.html", held=held, letter=letter, token=token, refused=refused, limit=COMMENT_LENGTH
        )
        return page, status
    return redirect(url_for("pages.letter", token=token), 303)


@pages.post("/letters/<token>/withdrawal")
@open_to(Access.AUTHOR)
def create_withdrawal(token: str) -> ResponseReturnValue:
    """Take a letter back, posted or not, and its answer with it."""
    comments.take_back(site(), comments.opened_by(site(), token))
    return redirect(url_for("pages.letter", token=token), 303)


@pages.post("/letters/<token>/appeal")
@open_to(Access.AUTHOR)
def create_appeal(token: str) -> ResponseReturnValue:
    """Ask for another person to read a letter that was not posted."""
    public_id = comments.opened_by(site(), token)
    said = request.form.get("words", "")
    try:
        appeals.appeal(site(), public_id, said)
    except (WordsRefused, CannotAppeal, NothingToAnswer) as refused:
        return _letter_page(token, refused=refused, written=said), 409 if isinstance(refused, CannotAppeal) else 422
    return redirect(url_for("pages.letter", token=token), 303)


@pages.get("/letters/<token>/erasure")
@open_to(Access.AUTHOR)
def erasure_form(token: str) -> ResponseReturnValue:
    """Ask an author once more before their words are erased."""
    held = comments.held(site(), comments.opened_by(site(), token))
    if held.standing.erased_at is not None:
        return redirect(url_for("pages.letter", token=token), 303)
    return render_template("erase.html", held=held, token=token)


@pages.post("/letters/<token>/erasure")
@open_to(Access.AUTHOR)
def create_erasure(token: str) -> ResponseReturnValue:
    """Take a letter back, if it is not, and erase it with its answer."""
    erasure.erase_comment(site(), comments.opened_by(site(), token))
    return redirect(url_for("pages.letter", token=token), 303)


@pages.get("/comments/<public_id>")
@open_to(Access.PUBLIC)
def comment(public_id: str) -> ResponseReturnValue:
    """Show one posted letter, with its answer, at an address of its own."""
    with site().database.reading_sessions() as session:
        posted, under = thread.posted_comment(session, public_id)
        html = intake.html_of(session, _words_of([posted]))
    return render_template("comment.html", comment=posted, found=under, html=html)


@pages.get("/replies/<public_id>")
@open_to(Access.PUBLIC)
def reply(public_id: str) -> ResponseReturnValue:
    """Show one posted answer and how it came about."""
    with site().database.reading_sessions() as session:
        posted, to, under = thread.posted_reply(session, public_id)
        html = intake.html_of(session, _words_of([to]))
    return render_template("reply.html", reply=posted, comment=to, found=under, html=html)


@pages.get("/healthz")
@open_to(Access.PUBLIC)
def healthz() -> ResponseReturnValue:
    """Answer 200 when the records answer; the supervisor waits for it."""
    with site().database.reading_sessions() as session:
        db.one_word(session)
    return Response("ok\n", mimetype="text/plain")


def _letter_page(token: str, *, refused: Exception | None = None, written: str = "") -> str:
    """Show an author their letter; a refusal stands above the appeal's form, which keeps what was written."""
    held = comments.held(site(), comments.opened_by(site(), token))
    return render_template(
        "letter.html",
        held=held,
        html=intake.rendered(held.words) if held.words else None,
        off_the_disk=erasure.is_off_the_disk(site(), held.standing.erased_at),
        token=token,
        codes=reasons.COMMENT_CODES,
        model_codes=reasons.MODEL_CODES,
        appeal_length=NOTE_LENGTH,
        refused=refused,
        written=written,
    )


def _essay_page(
    session: Session, found: Published, letter: Letter, *, after: int = 0, refused: Exception | None = None
) -> str:
    letters = thread.conversation(session, found.essay.id, after=after, limit=thread.LETTERS_A_PAGE + 1)
    page = letters[: thread.LETTERS_A_PAGE]
    parent = None
    if letter.parent is not None:
        try:
            parent, _, _ = thread.posted_reply(session, letter.parent)
        except (thread.NotPublic, thread.TakenBack):
            parent = None
    return render_template(
        "essay.html",
        found=found,
        letters=page,
        counts=thread.counts(session, [found.essay.id])[found.essay.id],
        html=intake.html_of(session, [found.words, *_words_of(page)]),
        more=page[-1].number if len(letters) > thread.LETTERS_A_PAGE else None,
        first_page=after == 0,
        letter=letter,
        parent=parent,
        refused=refused,
        limit=COMMENT_LENGTH,
    )


def _preview(slug: str, letter: Letter) -> ResponseReturnValue:
    with site().database.reading_sessions() as session:
        found = comments.taking_letters(session, slug)
        checked = comments.check(session, letter)
    html = markup.render(checked.body, Kind.COMMENT.value)
    return render_template(
        "preview.html", found=found, letter=checked, html=html, token=_new_token(slug), limit=COMMENT_LENGTH
    )


def _refused(slug: str, letter: Letter, refused: Exception) -> ResponseReturnValue:
    """Show the essay again with the letter still in its form and, above it, what is wrong."""
    status = 403 if isinstance(refused, EssayClosed) else 422
    with site().database.reading_sessions() as session:
        return _essay_page(session, essays.published(session, slug), letter, refused=refused), status


def _letter_from_form() -> Letter:
    return Letter(
        author=request.form.get("author", ""),
        body=request.form.get("body", ""),
        parent=request.form.get("parent") or None,
        wants_reply="no_reply_needed" not in request.form,
        email=request.form.get("email", "").strip() or None,
        passage=_passage_from_form(),
        language=tongue().code,
    )


def _passage_from_form() -> Passage | None:
    words, block = request.form.get("passage", ""), request.form.get("passage_block", "")
    return Passage(int(block), words) if words and block.isascii() and block.isdigit() and len(block) < 6 else None


def _words_of(letters: list[PostedComment]) -> list[Released]:
    """Return all words on the page, through every level."""
    found = []
    for letter in letters:
        found += [w for w in (letter.words, letter.reply.words if letter.reply else None) if w is not None]
        found += _words_of(letter.below)
    return found


def _page() -> int:
    given = request.args.get("after", "0")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 10 else 0


def _new_token(slug: str) -> str:
    issued = int(base.now().timestamp())
    return site().keys.signed(FORM_TOKEN, f"{slug} {issued} {secrets.token_urlsafe(16)}")


def _key_of(slug: str, token: str) -> tuple[str, datetime] | None:
    """Return the idempotency key in a form's token and when that was issued.

    None if the token is not ours, not this essay's, or too old.
    """
    opened = (site().keys.opened(FORM_TOKEN, token) or "").split(" ")
    if len(opened) != 3 or opened[0] != slug:
        return None
    issued = datetime.fromtimestamp(int(opened[1]), UTC)
    return (opened[2], issued) if base.now() - issued < FORM_TOKEN_LIFE else None


def _author_secret() -> str | None:
    secret = request.cookies.get(author_cookie(site()), "")
    return secret if 32 <= len(secret) <= 128 and secret.isascii() else None


def _remember_author(response: BaseResponse, secret: str) -> None:
    """Keep the author's secret in the browser: no cookie before a comment is sent, and it opens nothing but that."""
    response.set_cookie(
        author_cookie(site()),
        secret,
        max_age=timedelta(days=365),
        path="/",
        secure=cookies_are_secure(site()),
        httponly=True,
        samesite="Lax",
    )


def cookies_are_secure(site: Site) -> bool:
    """Whether cookies can be Secure: on https, and where browsers take http as trustworthy, on this machine."""
    address = site.settings.address
    host = address.partition("://")[2].partition(":")[0]
    return address.startswith("https://") or host in {"localhost", "127.0.0.1"}


def author_cookie(site: Site) -> str:
    """Return the name of the author's cookie."""
    return "__Host-author" if cookies_are_secure(site) else "author"
