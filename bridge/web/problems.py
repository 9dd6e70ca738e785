"""Every refusal as a page, or as problem+json (RFC 9457) under /api: one handler for each class."""

from __future__ import annotations

import logging
from typing import Any

from flask import Flask, Response, current_app, jsonify, make_response, render_template, request
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from bridge import db
from bridge.answer import calls
from bridge.essay import essays, thread
from bridge.letter import admission, comments, reports
from bridge.mail import links
from bridge.text import language, passages, words
from bridge.text.language import N_, gettext
from bridge.voice import voices
from bridge.web.access import SentFromElsewhere, may_be_framed, site
from moderation import errors
from moderation.release import standing

log = logging.getLogger(__name__)

_STATUS: dict[type[Exception], int] = {
    essays.NoSuchEssay: 404,
    links.NoSuchLink: 404,
    essays.EssayGone: 410,
    calls.NoSuchCall: 404,
    comments.NoSuchComment: 404,
    comments.CommentRefused: 422,
    comments.DecidedMeanwhile: 409,
    comments.EssayClosed: 403,
    admission.TooOften: 429,
    admission.NobodyToAsk: 429,
    admission.NetworkBlocked: 403,
    passages.PassageRefused: 422,
    thread.NotPublic: 404,
    thread.TakenBack: 410,
    reports.NoSuchReport: 404,
    reports.ReportClosed: 409,
    voices.NoSuchVoice: 404,
    voices.VoiceRefused: 422,
    words.WordsRefused: 422,
    errors.NoSuchSubmission: 404,
    errors.UnknownModerator: 403,
    errors.UnknownReasonCode: 422,
    errors.ReasonTooShort: 422,
    errors.ReasonTooLong: 422,
    errors.NothingToAnswer: 422,
    errors.AdminNeeded: 403,
    errors.Refused: 409,
}
_SENTENCES = {
    400: N_("This request could not be read."),
    403: N_("This is not open to you."),
    404: N_("There is nothing at this address."),
    405: N_("This address does not take that kind of request."),
    411: N_("This came without saying how long it is, so it was not read. Nothing was changed."),
    413: N_("This is too large to be taken. A letter has 5,000 characters at most."),
    415: N_("The body must be JSON, sent as application/json."),
    500: N_("Something went wrong here. What you sent before is safe."),
}
_REFUSED = N_("This request cannot be answered as it was sent.")
_WORDS = ("body", "words", "reason", "told", "charter")
"""The fields in which people write more than a line."""
_FIELD: dict[type[Exception], str] = {
    comments.NothingToReplyTo: "parent",
    comments.NotAnAddress: "email",
    comments.SecretRefused: "author_secret",
    passages.PassageRefused: "passage",
    errors.UnknownReasonCode: "reason_code",
    errors.ReasonTooShort: "reason",
    errors.ReasonTooLong: "reason",
}


def register(app: Flask) -> None:
    """Give *app* a handler for every refusal."""
    for refusal, status in _STATUS.items():
        app.register_error_handler(refusal, _handler(status))
    app.register_error_handler(CSRFError, _stale_form)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(OperationalError, _database_busy)
    app.register_error_handler(PoolTimeout, _database_busy)
    app.register_error_handler(RecursionError, _too_deep)
    app.register_error_handler(errors.NotWhatWasReviewed, _not_what_was_reviewed)


def status_of(refused: Exception) -> int:
    """Return the status that a refusal is answered with, where a view answers it itself."""
    return next((_STATUS[kind] for kind in type(refused).__mro__ if kind in _STATUS), 500)


def sentence_for(status: int) -> str:
    """Return what a refusal of the framework is called where it gives no reason of its own."""
    return _SENTENCES.get(status, _SENTENCES[500] if status >= 500 else _REFUSED)


def problem(status: int, title: str, **more: Any) -> Response:
    """Return a problem as RFC 9457 has it; *more* are its extension members."""
    response = jsonify({"type": "about:blank", "status": status, "title": title, **more})
    response.status_code = status
    response.mimetype = "application/problem+json"
    return response


def invalid(refused: ValidationError) -> Response:
    """Return what pydantic refused, each error with a JSON pointer to its field."""
    found = [
        {"pointer": "/" + "/".join(str(part) for part in error["loc"]), "detail": error["msg"]}
        for error in refused.errors(include_url=False, include_input=False, include_context=False)
    ]
    return problem(422, "Something in this request cannot be taken.", errors=found)


def _handler(status: int) -> Any:
    def handle(refused: Exception) -> ResponseReturnValue:
        response = make_response(_answer(status, str(refused), refused))
        if (wait := getattr(refused, "retry_after", None)) is not None:
            response.headers["Retry-After"] = str(wait)
        return response

    return handle


def _answer(status: int, sentence: str, refused: Exception) -> ResponseReturnValue:
    if not request.path.startswith("/api/"):
        said = language.worded(refused, sentence)
        if request.endpoint is not None and may_be_framed(current_app, request.endpoint):
            if status == 404 and isinstance(refused, essays.NoSuchEssay):
                # A frame may stand on its page before the essay is approved: what is missing there is the letters.
                said = gettext("No letter is posted yet.")
            return render_template("refused_in_a_frame.html", sentence=said, written=_written(refused)), status
        page = render_template(
            "refused.html", status=status, sentence=said, refused=refused, others=[], written=_written(refused)
        )
        return page, status
    more: dict[str, Any] = {}
    field = refused.field if isinstance(refused, words.WordsRefused) else _FIELD.get(type(refused))
    if field is not None:
        more["errors"] = [{"pointer": f"/{field}", "detail": sentence}]
    if isinstance(refused, words.WordsRefused):
        more["code"] = refused.code
    if isinstance(refused, errors.NotTheWordsStored):
        more["digest"] = refused.stored
    if isinstance(refused, errors.AlreadyDecided | errors.NoLongerPending | errors.SecondModeratorNeeded):
        with site().database.reading_sessions() as session:
            more["digest"] = standing(session, [refused.submission_id])[refused.submission_id].digest
    if isinstance(refused, errors.NoLongerPending):
        more["state"] = refused.state
    if isinstance(refused, errors.NoLongerPending):
        more["superseded_by"] = refused.superseded_by
    if isinstance(refused, errors.AlreadyDecided):
        more |= {"verdict": refused.verdict, "moderator": refused.moderator}
    if isinstance(refused, errors.UnknownReasonCode):
        more["codes"] = list(refused.valid)
    if isinstance(refused, errors.ReasonTooShort):
        more["least_characters"] = refused.needed
    if isinstance(refused, thread.TakenBack | essays.EssayGone):
        more |= {"withdrawn_at": refused.gone.at.isoformat(), "author": None, "html": None}
    if isinstance(refused, admission.NotAdmitted):
        more |= {"retry_after": refused.retry_after, "may_ask_a_person": refused.may_ask_a_person}
    if isinstance(refused, comments.CommentRefused | words.WordsRefused):
        more["contact"] = site().settings.contact
    if isinstance(refused, comments.EssayClosed):
        more["why"] = refused.why
    return problem(status, sentence, **more)


def _written(refused: Exception) -> list[str]:
    """Return the words in the form that was sent: where no view has them any more, this page gives them back.

    Not what another site had sent: nobody wrote it here.
    """
    if request.method != "POST" or (isinstance(refused, SentFromElsewhere) and request.headers.get("Origin") != "null"):
        return []
    try:
        return [words for name in _WORDS if (words := request.form.get(name, "")).strip()]
    except HTTPException:
        return []  # It was too large to be read, or no form.


def _http(refused: HTTPException) -> ResponseReturnValue:
    if refused.response is not None:
        return refused.response
    status = refused.code or 500
    ours = refused.description if refused.description != type(refused).description else None
    answer = make_response(_answer(status, ours or sentence_for(status), refused))
    if isinstance(refused, MethodNotAllowed) and refused.valid_methods:
        answer.headers["Allow"] = ", ".join(sorted(refused.valid_methods))
    if status == 401 and request.path.startswith("/api/"):
        answer.headers["WWW-Authenticate"] = 'Bearer realm="desk"'
    return answer


def _stale_form(refused: CSRFError) -> ResponseReturnValue:
    sentence = "This form is too old, or you signed in again since. Nothing was changed. Load the page and try again."
    return _answer(400, sentence, refused)


def _too_deep(refused: RecursionError) -> ResponseReturnValue:
    return _answer(400, N_("This is nested too deeply to be read."), refused)


def _database_busy(refused: OperationalError | PoolTimeout) -> ResponseReturnValue:
    if isinstance(refused, OperationalError) and not (db.is_busy(refused) or _is_out_of_reach(refused)):
        raise refused
    log.warning("database busy: %s", type(getattr(refused, "orig", refused)).__name__)
    sentence = N_("The records cannot be reached just now. Nothing was changed; please send it again in a moment.")
    response = make_response(_answer(503, sentence, refused))
    response.headers["Retry-After"] = "5"
    return response


def _is_out_of_reach(error: OperationalError) -> bool:
    """Whether the disk takes no more or the server is not there: both may pass."""
    if "disk I/O" in str(error.orig) or "unable to open" in str(error.orig):
        return True
    # psycopg's errors have a state, None where no server answered (PostgreSQL, appendix A). 08 is a lost connection,
    # 40 a transaction that gave way to another, 53 a lack of disk, memory or connections, 57P a server that stops.
    state: str | None = getattr(error.orig, "sqlstate", "")
    return state is None or state.startswith(("08", "40", "53", "57P"))


def _not_what_was_reviewed(refused: errors.NotWhatWasReviewed) -> ResponseReturnValue:
    # The id is logged and the page withheld: words that nobody approved must not be shown, whoever changed them.
    log.critical("stored words are not those of their digest: submission %s", refused.submission_id)
    return _answer(500, N_("Something here is not as it was reviewed, so it is not shown."), refused)
