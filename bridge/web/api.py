"""/api/v1: the contract for programs. Described by its own OpenAPI document; refusals are problem+json."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask import Response, current_app, jsonify
from flask_openapi3 import APIBlueprint
from markupsafe import Markup
from pydantic import BaseModel
from sqlalchemy.orm import Session
from werkzeug.exceptions import NotFound

from bridge.desk import reviews
from bridge.desk.reviews import Context
from bridge.essay import essays, intake, thread
from bridge.letter import admission, comments, reports
from bridge.letter.admission import Came
from bridge.letter.comments import Letter
from bridge.page import checkpoints, printing, transparency
from bridge.text.passages import Passage
from bridge.text.words import essay_text, essay_title, opening
from bridge.web import arriving, shapes
from bridge.web.access import Access, current_moderator, open_to, site
from moderation import ledger, reasons
from moderation.digest import FORMAT
from moderation.types import Digest, Kind, Rejection, Released, State, Tray

_REFUSALS: Any = {str(status): shapes.ProblemOut for status in (400, 403, 404, 415, 422, 503)}
_BEARER: list[dict[str, list[str]]] = [{"bearer": []}]
_SECURED: Any = {**_REFUSALS, "401": shapes.ProblemOut}

api = APIBlueprint("api", __name__, url_prefix="/api/v1", doc_ui=True)


@api.get("/openapi.json", doc_ui=False)
@open_to(Access.PUBLIC)
def openapi() -> Response:
    """Give this description."""
    return jsonify(current_app.api_doc)  # type: ignore[attr-defined]


@api.post("/essays/<slug>/comments", responses={"202": shapes.ReceiptOut, "429": shapes.ProblemOut, **_REFUSALS})
@open_to(Access.PUBLIC)
def create_comment(path: shapes.SlugPath, header: shapes.CommentHeaders, body: shapes.CommentIn) -> Response:
    """Send a comment under an essay. It waits for a person before anybody else sees it."""
    passage = Passage(body.passage.block, body.passage.words) if body.passage is not None else None
    letter = Letter(body.author, body.body, body.parent, body.wants_reply, body.email, passage)
    receipt = arriving.receive(
        path.slug,
        letter,
        came=Came.API,
        key=header.idempotency_key,
        author_secret=body.author_secret,
        proof=body.proof,
        to_a_person=body.to_a_person,
    )
    manage_url = f"{site().settings.address}/letters/{receipt.token}"
    told = shapes.ReceiptOut(
        id=receipt.public_id,
        status="pending",
        digest=receipt.digest,
        manage_url=manage_url,
        author_secret=receipt.author_secret,
    )
    response = _json(told, 202)
    response.headers["Cache-Control"] = "no-store"
    return response


@api.get("/essays/<slug>", responses={"200": shapes.EssayOut, **_REFUSALS})
@open_to(Access.PUBLIC)
def get_essay(path: shapes.SlugPath) -> Response:
    """Give a released essay with the fields of its digest."""
    with site().database.reading_sessions() as session:
        found = essays.published(session, path.slug)
        html = intake.html_of(session, [found.words])[found.words.digest]
    return _json(
        shapes.EssayOut(
            **_words(found.words, html),
            slug=found.essay.slug,
            title=found.title,
            voice=found.voice.name,
            original_url=found.essay.original_url,
            written_on=found.essay.written_on.isoformat() if found.essay.written_on else None,
            approved_at=_time(found.words.approved_at),
            stand_in=found.voice.stand_in,
            disclaimer=found.voice.disclaimer,
            closed_at=_time(found.essay.closed_at) if found.essay.closed_at else None,
            closed_why=found.essay.closed_why,
            **printing.by_a_model(not found.voice.stand_in),
        )
    )


@api.get("/essays/<slug>/thread", responses={"200": shapes.ThreadOut, **_REFUSALS})
@open_to(Access.PUBLIC)
def get_thread(path: shapes.SlugPath, query: shapes.PageQuery) -> Response:
    """Give an essay's released comments, each with its released reply, oldest first."""
    # What is stored is answered before the request comes here (`web.stored`): this is for other limits and cursors.
    with site().database.reading_sessions() as session:
        found = essays.published(session, path.slug)
        posted = thread.posted_comments(session, found.essay.id, after=query.cursor, limit=query.limit + 1)
        page = posted[: query.limit]
        following = page[-1].place if len(posted) > query.limit else None
        told = printing.listed(found, page, printing.letters(session, found, page), following=following)
    return Response(printing.as_json(told), mimetype="application/json")


@api.get("/comments/<id>", responses={"200": shapes.CommentOut, **_REFUSALS})
@open_to(Access.PUBLIC)
def get_comment(path: shapes.PublicIdPath) -> Response:
    """Tell how a comment stands, and its words once they are released."""
    held = comments.held(site(), path.id)
    status = State.PENDING if held.standing.state is State.SUPERSEDED else held.standing.state
    gone = held.standing.withdrawn_at
    told: dict[str, Any] = {
        "id": held.public_id,
        "status": status.value,
        "reply_status": held.reply_status.value,
        "withdrawn_at": _time(gone) if gone else None,
    }
    if held.out is not None and held.essay is not None:
        with site().database.reading_sessions() as session:
            told |= _words(held.out, intake.html_of(session, [held.out])[held.out.digest])
    return jsonify(told)


@api.get("/replies/<id>", responses={"200": shapes.ReplyOut, "410": shapes.ProblemOut, **_REFUSALS})
@open_to(Access.PUBLIC)
def get_reply(path: shapes.PublicIdPath) -> Response:
    """Give a released reply with its provenance."""
    with site().database.reading_sessions() as session:
        reply, comment, essay = thread.posted_reply(session, path.id)
        html = intake.html_of(session, [reply.words])[reply.words.digest]
    return _json(
        shapes.ReplyOut(
            **_words(reply.words, html),
            id=reply.public_id,
            comment=comment.public_id,
            essay=essay.essay.slug,
            voice=reply.voice,
            model=reply.model,
            rehearsed=reply.rehearsed,
            asked_at=_time(reply.asked_at),
            approved_at=_time(reply.words.approved_at),
            disclaimer=essay.voice.disclaimer,
            **printing.by_a_model(not reply.rehearsed),
        )
    )


@api.post(
    "/reports",
    responses={"201": shapes.ReportReceiptOut, "410": shapes.ProblemOut, "429": shapes.ProblemOut, **_REFUSALS},
)
@open_to(Access.PUBLIC)
def create_report(body: shapes.ReportIn) -> Response:
    """Report posted words. The desk reads it beside them."""
    arriving.take(admission.REPORTS)
    token = reports.receive_report(site(), body.of, body.code, body.words)
    told = shapes.ReportReceiptOut(token=token, report_url=f"{site().settings.address}/reports/{token}")
    response = _json(told, 201)
    response.headers["Cache-Control"] = "no-store"
    return response


@api.get("/reports/<token>", responses={"200": shapes.ReportOut, **_REFUSALS})
@open_to(Access.AUTHOR)
def get_report(path: shapes.ReportPath) -> Response:
    """Tell what became of a report."""
    report = reports.made(site(), path.token).report
    told = {
        "state": report.outcome or "open",
        "code": report.code,
        "told": report.told,
        "reported_at": _time(report.reported_at),
        "closed_at": _time(report.closed_at) if report.closed_at else None,
    }
    return _json(shapes.ReportOut.model_validate(told))


@api.get("/reasons", responses={"200": shapes.ReasonsOut})
@open_to(Access.PUBLIC)
def get_reasons() -> Response:
    """Give the codes by which words may be rejected."""
    return _json(shapes.ReasonsOut(comment=reasons.COMMENT_CODES, model=reasons.MODEL_CODES))


@api.get("/queue", security=_BEARER, responses={"200": shapes.QueueOut, **_SECURED})
@open_to(Access.BEARER)
def get_queue(query: shapes.QueueQuery) -> Response:
    """Give what awaits a verdict, oldest first."""
    with site().database.reading_sessions() as session:
        found = reviews.waiting(
            session,
            reviews.Wanted(
                kind=Kind(query.kind) if query.kind else None,
                essay=query.essay,
                voice=query.voice,
                signal=query.signal,
                tray=Tray(query.tray) if query.tray else None,
                held=query.held,
            ),
            after=query.cursor,
            limit=query.limit + 1,
        )
        page = found[: query.limit]
        told = [_submission(session, context) for context in page]
    return _json(shapes.QueueOut(submissions=told, next=str(page[-1].pending.id) if len(found) > query.limit else None))


@api.post(
    "/submissions/<int:id>/approval",
    security=_BEARER,
    responses={"201": shapes.DecisionOut, "409": shapes.ProblemOut, **_SECURED},
)
@open_to(Access.DECIDER)
def create_approval(path: shapes.SubmissionPath, body: shapes.ApprovalIn) -> Response:
    """Approve a submission verbatim."""
    reviews.approve(site(), path.id, moderator=current_moderator().id, seen=Digest(body.digest))
    return _json(shapes.DecisionOut(id=path.id, verdict="approve", status="decided"), 201)


@api.post(
    "/submissions/<int:id>/rejection",
    security=_BEARER,
    responses={"201": shapes.DecisionOut, "202": shapes.DecisionOut, "409": shapes.ProblemOut, **_SECURED},
)
@open_to(Access.DECIDER)
def create_rejection(path: shapes.SubmissionPath, body: shapes.RejectionIn) -> Response:
    """Reject a comment, or take one step towards vetoing a model's words."""
    came_to = reviews.reject(
        site(),
        path.id,
        moderator=current_moderator().id,
        seen=Digest(body.digest),
        code=body.reason_code,
        reason=body.reason,
        told=body.told,
    )
    told = shapes.DecisionOut(id=path.id, verdict="reject", status=came_to.value)
    return _json(told, 202 if came_to is Rejection.PROPOSED else 201)


@api.post(
    "/submissions/<int:id>/hold",
    security=_BEARER,
    responses={"201": shapes.HoldOut, "409": shapes.ProblemOut, **_SECURED},
)
@open_to(Access.DECIDER)
def create_hold(path: shapes.SubmissionPath) -> Response:
    """Leave a submission to a second reader. No verdict, and no reason needed."""
    reviews.hold(site(), path.id, moderator=current_moderator().id)
    return _json(shapes.HoldOut(id=path.id, status="held"), 201)


@api.delete(
    "/submissions/<int:id>/hold",
    security=_BEARER,
    responses={"204": None, "409": shapes.ProblemOut, **_SECURED},
)
@open_to(Access.DECIDER)
def end_hold(path: shapes.SubmissionPath) -> Response:
    """Put a held submission back among the others."""
    reviews.let_go(site(), path.id, moderator=current_moderator().id)
    return Response(status=204)


@api.get("/ledger", security=_BEARER, responses={"200": shapes.LedgerOut, **_SECURED})
@open_to(Access.BEARER)
def get_ledger(query: shapes.LedgerQuery) -> Response:
    """Give the account of what was decided, oldest first."""
    with site().database.reading_sessions() as session:
        found = ledger.entries(session, after=query.after, limit=query.limit + 1)
    page = found[: query.limit]
    told = [shapes.EntryOut(number=e.number, previous=e.previous, digest=e.digest, entry=e.entry) for e in page]
    return _json(shapes.LedgerOut(entries=told, next=str(page[-1].number) if len(found) > query.limit else None))


@api.get("/ledger/checkpoint", responses={"200": shapes.CheckpointOut, "404": shapes.ProblemOut})
@open_to(Access.PUBLIC)
def get_checkpoint() -> Response:
    """Give the newest checkpoint of the ledger, for anybody to keep: a line of JSON, as `ledger verify` reads it."""
    found = checkpoints.newest(site())
    if found is None:
        raise NotFound("There is no checkpoint of the ledger yet.")
    return Response(found.line(), mimetype="application/json")


@api.get("/transparency", responses={"200": shapes.TransparencyOut, **_REFUSALS})
@open_to(Access.PUBLIC)
def get_transparency() -> Response:
    """Give what was asked, answered, declined, approved and not, per voice and month, in numbers."""
    found = transparency.counted(site())
    return _json(shapes.TransparencyOut.model_validate(transparency.told(site(), found)))


def _json(told: BaseModel, status: int = 200) -> Response:
    return Response(told.model_dump_json(by_alias=True), status, mimetype="application/json")


def _words(words: Released, html: Markup) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "kind": words.kind.value,
        "nonce": words.nonce,
        "author": words.author,
        "in_answer_to": words.in_answer_to,
        "body": words.body,
        "digest": words.digest,
        "html": str(html),
    }


def _submission(session: Session, context: Context) -> shapes.SubmissionOut:
    pending = context.pending
    return shapes.SubmissionOut(
        id=pending.id,
        kind=pending.kind.value,
        author=pending.author,
        body=pending.body,
        html=str(intake.rendered(pending, targets=True)),
        digest=pending.digest,
        in_answer_to=pending.in_answer_to,
        submitted_at=_time(pending.submitted_at),
        tray=pending.tray.value,
        proposal=_proposal(context),
        held=_held(context),
        claim=_claim(context),
        appealed=_appealed(context),
        signals=[{"name": each.name, "why": each.why, "strong": each.strong} for each in context.signals],
        context=_context(context),
    )


def _proposal(context: Context) -> dict[str, Any] | None:
    proposal = context.pending.proposal
    if proposal is None or context.proposer is None:
        return None
    return {
        "moderator": context.proposer.name,
        "reason_code": proposal.code,
        "reason": proposal.reason,
        "proposed_at": _time(proposal.proposed_at),
        "lapses_at": _time(proposal.lapses_at),
    }


def _held(context: Context) -> dict[str, Any] | None:
    held = context.pending.held
    if held is None or context.holder is None:
        return None
    return {"moderator": context.holder.name, "held_at": _time(held.held_at)}


def _claim(context: Context) -> dict[str, Any] | None:
    if context.claim is None:
        return None
    return {"moderator": context.claim.moderator.name, "until": _time(context.claim.until)}


def _appealed(context: Context) -> dict[str, Any] | None:
    appealed = context.pending.appealed
    if appealed is None or context.rejecter is None:
        return None
    return {
        "rejected": appealed.rejected,
        "moderator": context.rejecter.name,
        "reason_code": appealed.code,
        "told": appealed.told,
        "words": appealed.words,
        "appealed_at": _time(appealed.appealed_at),
    }


def _context(context: Context) -> dict[str, Any]:
    told: dict[str, Any] = {
        "essay": {
            "slug": context.essay.slug,
            "title": essay_title(context.essay_words.body) if context.essay_words else None,
            "opening": opening(essay_text(context.essay_words.body), 500) if context.essay_words else None,
            "digest": context.essay_words.digest if context.essay_words else None,
        },
        "voice": context.voice.name,
        "answers": None,
        "passage": None,
        "generation": None,
    }
    if context.comment is not None and context.comment.passage is not None:
        told["passage"] = printing.passage(context.comment.passage_block, context.comment.passage, context.voice)
    if context.answers is not None:
        above = context.answers
        told["answers"] = {"kind": above.kind.value, "author": above.author, "body": above.body, "digest": above.digest}
    if context.generation is not None:
        made = context.generation
        told["generation"] = {
            "model": "rehearsal" if made.rehearsed else made.model_answered,
            "rehearsed": made.rehearsed,
            "attempt": made.attempt,
            "asked_at": _time(made.started_at),
            "input_tokens": made.input_tokens,
            "cache_read_tokens": made.cache_read_tokens,
            "cache_write_tokens": made.cache_write_tokens,
            "output_tokens": made.output_tokens,
            "cost_usd": made.cost / 1_000_000 if made.cost is not None else None,
            "note": "\n".join(context.notes) or None,
        }
    return told


def _time(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
