"""The form for a letter: where it is written, read over, refused with its words kept, and sent.

Every view is there twice: on the site's own pages, and in the frame that other sites show (`framed`). In the frame no
cookie is read or set: the address of the author's page, which its receipt leads to, is all there is.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from flask import Blueprint, jsonify, make_response, redirect, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse

from bridge.essay import essays, thread
from bridge.essay.essays import Published
from bridge.essay.thread import PostedReply
from bridge.keys import fingerprint
from bridge.letter import admission, comments
from bridge.letter.admission import Came
from bridge.letter.comments import CommentRefused, EssayClosed, KeyUsedForOtherWords, Letter, SentBefore
from bridge.page import paths
from bridge.site import Site
from bridge.text import markup, passages, words
from bridge.text.language import tongue, worded
from bridge.text.passages import Passage, PassageRefused
from bridge.text.words import COMMENT_LENGTH, WordsRefused
from bridge.web import arriving, problems
from bridge.web.access import Access, framable, open_to, site
from moderation import base
from moderation.types import Kind

writing = Blueprint("writing", __name__)

FORM_TOKEN = "comment form"  # noqa: S105  (A purpose, not a token.)
FORM_TOKEN_LIFE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is wrong with a letter, as its author is told in their form."""

    sentence: str
    field: str | None
    """The field that it is about; None: none, or the letter as a whole."""
    to_a_person: bool
    """Whether a person can be asked to look at the letter all the same."""
    contact: str | None
    """Where else the people of this site can be reached, if they say so."""


@writing.get("/essays/<slug>/write")
@open_to(Access.PUBLIC)
def write(slug: str) -> ResponseReturnValue:
    """Show the form for a letter: about the essay, about a block of it, or in answer to an answer."""
    return _write(slug, framed=False)


@writing.get("/essays/<slug>/embed/write")
@open_to(Access.PUBLIC)
@framable
def framed_write(slug: str) -> ResponseReturnValue:
    """Show the form for a letter in a frame."""
    return _write(slug, framed=True)


@writing.get("/essays/<slug>/form-token")
@open_to(Access.PUBLIC)
def form_token(slug: str) -> ResponseReturnValue:
    """Give the module a token for the form, while the reader types."""
    return _form_token(slug)


@writing.get("/essays/<slug>/embed/form-token")
@open_to(Access.PUBLIC)
@framable
def framed_form_token(slug: str) -> ResponseReturnValue:
    """Give the module in a frame a token for the form."""
    return _form_token(slug)


@writing.post("/essays/<slug>/comments")
@open_to(Access.PUBLIC)
def create_comment(slug: str) -> ResponseReturnValue:
    """Receive a letter; without a fresh token, or when asked, show it once more before it is sent.

    The token is what tells a double click from two letters, so a form without one is answered by a page that has it.
    """
    return _create_comment(slug, framed=False)


@writing.post("/essays/<slug>/embed/comments")
@open_to(Access.PUBLIC)
@framable
def create_framed_comment(slug: str) -> ResponseReturnValue:
    """Receive a letter from a frame, as from the page."""
    return _create_comment(slug, framed=True)


@writing.get("/essays/<slug>/comments")
@open_to(Access.PUBLIC)
def comments_of(slug: str) -> ResponseReturnValue:
    """Lead whoever loads the form's address again back to the form."""
    return redirect(paths.write(slug))


@writing.get("/essays/<slug>/embed/comments")
@open_to(Access.PUBLIC)
@framable
def framed_comments_of(slug: str) -> ResponseReturnValue:
    """Lead whoever loads the form's address in a frame again back to the form."""
    return redirect(paths.embed_write(slug))


@writing.get("/essays/<slug>/embed/sent/<token>")
@open_to(Access.AUTHOR)
@framable
def framed_sent(slug: str, token: str) -> ResponseReturnValue:
    """Tell in a frame that a letter arrived, and lead to its author's page."""
    public_id = comments.opened_by(site(), token)
    with site().database.reading_sessions() as session:
        found = comments.essay_of(session, public_id, slug)
    return render_template("sent.html", found=found, token=token, framed=True)


@writing.post("/preview")
@open_to(Access.PUBLIC)
def preview() -> ResponseReturnValue:
    """Show how words would be posted, while they are typed. Nothing is kept."""
    return _as_posted()


@writing.post("/essays/<slug>/embed/preview")
@open_to(Access.PUBLIC)
@framable
def framed_preview(slug: str) -> ResponseReturnValue:
    """Show the same in a frame."""
    return _as_posted()


def _as_posted() -> ResponseReturnValue:
    arriving.take(admission.PREVIEWS)
    try:
        body = words.comment_body(request.form.get("body", ""))
    except WordsRefused as refused:
        return _unkept(render_template("_as_posted.html", html=None, refused=refusal(refused)), 422)
    html = markup.render(body, Kind.COMMENT.value)
    return _unkept(render_template("_as_posted.html", html=html, refused=None))


def _write(slug: str, *, framed: bool) -> ResponseReturnValue:
    answering, about = request.args.get("answering") or None, request.args.get("about", "")
    with site().database.reading_sessions() as session:
        found = essays.published(session, slug)
        letter = Letter("", "", parent=answering, passage=_block(found, about))
        page = _form_page(session, found, letter, framed=framed, begun=base.now())
    return _unkept(page)


def _form_token(slug: str) -> ResponseReturnValue:
    arriving.take(admission.FORM_TOKENS)
    least = admission.LEAST_TIME.seconds if site().settings.rate_limits == "on" else 0
    token = _token(slug, request.args.get("answering"), base.now())
    response = jsonify(token=token, challenge=admission.challenge(site(), slug), least_seconds=least)
    response.headers["Cache-Control"] = "no-store"
    return response


def _create_comment(slug: str, *, framed: bool) -> ResponseReturnValue:
    letter = letter_from_form()
    given = request.form.get("token", "")
    key = _key_of(slug, given, letter.parent)
    try:
        if key is None or "preview" in request.form:
            arriving.take(admission.READ_OVER)
            return _preview(slug, letter, given=key, framed=framed, too_old=_is_too_old(slug, given))
        receipt = arriving.receive(
            slug,
            letter,
            came=Came.EMBED if framed else Came.PAGE,
            key=key[0],
            begun_at=key[1],
            author_secret=None if framed else _author_secret(),
        )
    except KeyUsedForOtherWords:
        # Sent, then back to the preview and other words sent from there: another letter, so it is shown once more.
        return _preview(slug, letter, given=key, framed=framed)
    except SentBefore as before:
        return _preview(slug, letter, given=key, framed=framed, before=worded(before))
    except (WordsRefused, CommentRefused, PassageRefused) as refused:
        return _refused(slug, letter, refused, framed=framed, token=given, key=key)
    if framed:
        return redirect(paths.embed_sent(slug, receipt.token), 303)
    response = redirect(paths.letter(receipt.token), 303)
    _remember_author(response, receipt.author_secret)
    return response


def _preview(
    slug: str,
    letter: Letter,
    *,
    given: tuple[str, datetime | None] | None,
    framed: bool,
    too_old: bool = False,
    before: str | None = None,
) -> ResponseReturnValue:
    """Show a letter once more before it is sent, begun when the form was in which it came.

    *before* says what became of the same words, where they were sent before.
    """
    with site().database.reading_sessions() as session:
        found = comments.taking_letters(session, slug)
        checked = comments.check(session, letter)
        if checked.passage is not None:
            passages.check(found.words, checked.passage)
        parent = _parent(session, found, letter.parent)
    page = render_template(
        "preview.html",
        found=found,
        letter=checked,
        parent=parent,
        html=markup.render(checked.body, Kind.COMMENT.value),
        token=_token(slug, checked.parent, given[1] if given is not None else None),
        limit=COMMENT_LENGTH,
        too_old=too_old,
        before=before,
        framed=framed,
    )
    return _unkept(page)


def _refused(
    slug: str,
    letter: Letter,
    refused: Exception,
    *,
    framed: bool,
    token: str,
    key: tuple[str, datetime | None] | None,
) -> ResponseReturnValue:
    """Show the letter still in its form and, above it, what is wrong. Its *token* stays if it has a *key*."""
    begun = key[1] if key is not None else None
    kept = token if key is not None else None
    with site().database.reading_sessions() as session:
        found = essays.published(session, slug)
        page = _form_page(session, found, letter, framed=framed, begun=begun, token=kept, refused=refused)
    response = _unkept(page, 403 if isinstance(refused, EssayClosed) else problems.status_of(refused))
    again = getattr(refused, "retry_after", None)
    if again is not None:
        response.headers["Retry-After"] = str(again)
    return response


def _form_page(
    session: Session,
    found: Published,
    letter: Letter,
    *,
    framed: bool,
    begun: datetime | None,
    token: str | None = None,
    refused: Exception | None = None,
) -> str:
    """Print a form, with a new token unless it keeps one; an answer that is not posted is in no form any more."""
    parent = _parent(session, found, letter.parent)
    if token is None or (parent is None and letter.parent is not None):
        token = _token(found.essay.slug, parent.public_id if parent is not None else None, begun)
    return render_template(
        "write.html",
        found=found,
        letter=letter,
        # Words that do not stand in the essay are left out of the form, so that what is refused can be sent.
        passage=None if isinstance(refused, PassageRefused) else letter.passage,
        parent=parent,
        refused=refusal(refused) if refused is not None else None,
        limit=COMMENT_LENGTH,
        token=token,
        framed=framed,
    )


def _parent(session: Session, found: Published, public_id: str | None) -> PostedReply | None:
    """Return the posted answer that a letter is in answer to, if it stands under this essay."""
    if public_id is None:
        return None
    try:
        reply, _, under = thread.posted_reply(session, public_id)
    except (thread.NotPublic, thread.TakenBack):
        return None
    return reply if under.essay.id == found.essay.id else None


def _block(found: Published, asked: str) -> Passage | None:
    """Return a block of the essay to write about, or as much of its beginning as a letter may quote."""
    if not (asked.isascii() and asked.isdigit() and len(asked) < 6):
        return None
    whole = passages.block(found.words, int(asked))
    if whole is None:
        return None
    begins = whole if len(whole) <= passages.LENGTH else whole[: passages.LENGTH + 1].rpartition(" ")[0]
    return Passage(int(asked), begins or whole[: passages.LENGTH])


def refusal(refused: Exception) -> Refusal:
    """Return what a refused author is told, in what is spoken now."""
    return Refusal(
        sentence=worded(refused),
        field=getattr(refused, "field", None),
        to_a_person=getattr(refused, "may_ask_a_person", False),
        contact=site().settings.contact,
    )


def letter_from_form() -> Letter:
    """Return the letter in the form that was sent, as it was typed."""
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
    quoted, block = request.form.get("passage", ""), request.form.get("passage_block", "")
    if "whole" in request.form:
        return None  # It was about a passage, and its author thought better of it.
    return Passage(int(block), quoted) if quoted and block.isascii() and block.isdigit() and len(block) < 6 else None


def _unkept(page: str, status: int = 200) -> BaseResponse:
    """Return a page with a reader's words or token in it, which no cache may keep."""
    response = make_response(page, status)
    response.headers["Cache-Control"] = "no-store"
    return response


def _token(slug: str, parent: str | None, begun: datetime | None) -> str:
    """Return a token, good for a day, of a form about an essay, or in answer to the answer *parent*.

    It was *begun* at a time, or nobody knows when.
    """
    when = "-" if begun is None else str(int(begun.timestamp()))
    issued = int(base.now().timestamp())
    return site().keys.signed(FORM_TOKEN, f"{slug} {_about(parent)} {issued} {secrets.token_urlsafe(16)} {when}")


def _key_of(slug: str, token: str, parent: str | None) -> tuple[str, datetime | None] | None:
    """Return the idempotency key in a form's token and when its form was begun, if that is known.

    None if the token is not ours, of a form about something else, or too old.
    """
    opened = _opened(slug, token)
    if opened is None or opened[0] != _about(parent) or _is_too_old(slug, token):
        return None
    _, _, key, begun = opened
    return key, None if begun == "-" else _moment(begun)


def _about(parent: str | None) -> str:
    """Return how a token names the answer that its form is in answer to, whatever stands in the form's field."""
    return fingerprint(parent)[:32] if parent else "-"


def _is_too_old(slug: str, token: str) -> bool:
    opened = _opened(slug, token)
    return opened is not None and base.now() - _moment(opened[1]) >= FORM_TOKEN_LIFE


def _opened(slug: str, token: str) -> Sequence[str] | None:
    """Return what a form's token says: in answer to what it is, when it was issued, its key, and its beginning."""
    parts = (site().keys.opened(FORM_TOKEN, token) or "").split(" ")
    return parts[1:] if len(parts) == 5 and parts[0] == slug else None


def _moment(seconds: str) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


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
