"""The calls to the model, as moderators read them: for what, when, what each came to and cost; whole, and again.

A call's request is kept as a recipe, which refers to released words. What is shown is put together from it again, and
compared with the keyed digest of what was sent.
"""

from __future__ import annotations

import json
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session, defer

from bridge.answer import replies
from bridge.keys import Keys
from bridge.records import Batch, BatchState, Comment, Essay, Generation, Purpose, Reply, ReplyRequest, Showing, Voice
from bridge.voice import budgets, prompt
from moderation.errors import NoSuchSubmission
from moderation.release import released, standing
from moderation.types import Released

AT_ONCE = 50
ENDED_BATCHES = 20
"""How many of the batches that are over are listed, the newest."""
PUBLIC_ID = 32
"""The hex digits of a comment's or reply's public id."""

_CAME_TO = {
    "replied": "It answered.",
    "declined": "It declined, or said nothing.",
    "withheld": "The API's filter withheld the answer.",
    "note_only": "It left a note to moderators and no answer.",
    "cut": "The answer was cut off.",
    "chose": "It chose among the letters it was shown.",
    "unexpected": "The answer was not one that this site knows how to read.",
    "ModelBusy": "The API asked to wait: its rate limit was reached.",
    "PassingTrouble": "The API failed, was overloaded, or was not reached.",
    "VoiceBlocked": "The API lets nothing through until a person acts.",
    "RequestRefused": "The API refused the request.",
    "LargerThanAMinute": "The API takes less than this from our key in a whole minute.",
    "Unreadable": "What came back could not be read.",
    "BatchLost": "Its batch was lost. It may have been billed.",
    "NotInTheFile": "Its batch came back without an answer to this one.",
}
_OF_A_BATCH = {
    "PassingTrouble": "Its batch brought no answer to it: the API failed, or the batch ended before its turn came."
}


class NoSuchCall(Exception):
    """Raised when no call to the model has this number, or none was made for this letter or answer."""

    def __init__(self) -> None:
        super().__init__("There is no call to a model on record here.")


@dataclass(frozen=True, slots=True)
class Shown:
    """One letter that a voice was shown to choose from."""

    number: int
    chosen: bool | None
    """None until the voice has chosen."""
    submission_id: int
    words: Released | None
    """None if it is no longer posted."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call, as it is on record."""

    made: Generation
    """Of a list, without its request and response."""
    voice: Voice
    batch: Batch | None
    submission_id: int
    """Of the letter that it was made for; of a choice, the oldest that was shown."""
    brought: int | None
    """The submission of the reply that it brought."""
    shown: Sequence[Shown]
    """Of a choice: what was shown, by its number."""

    @property
    def is_choice(self) -> bool:
        """Whether the voice was asked which letters it wishes to answer."""
        return self.made.purpose == Purpose.CHOICE.value

    @property
    def chosen(self) -> int:
        """How many of what was shown it chose."""
        return sum(each.chosen is True for each in self.shown)

    @property
    def came_to(self) -> str:
        """What it came to, in a sentence."""
        if self.made.ended_at is None:
            if self.batch is not None:
                return "It is away in a batch."
            return "No end is on record: it is still open, or its worker died. It may have been billed."
        if self.shown and all(each.chosen is not None for each in self.shown):
            return f"It chose {self.chosen} of {len(self.shown)}."
        outcome = self.made.outcome or "nothing"
        if self.batch is not None and outcome in _OF_A_BATCH:
            return _OF_A_BATCH[outcome]
        return _CAME_TO.get(outcome, f"It is recorded as {outcome}.")


@dataclass(frozen=True, slots=True)
class Missing:
    """Words that were sent and are not posted any more."""

    submission_id: int
    digest: str
    erased: bool


@dataclass(frozen=True, slots=True)
class Whole:
    """A call's request, put together from the record again, and its response."""

    request: dict[str, Any] | None
    """None if it was erased."""
    equal: bool
    """Whether it has the digest of what was sent."""
    missing: Sequence[Missing]
    response: Any
    """None if nothing came back, or it was erased."""

    @property
    def sentence(self) -> str:
        """How what is shown compares with what was sent."""
        if self.request is None:
            return "The request was erased, with a letter that stood in it."
        if self.equal:
            return "This is equal, to the byte, to what was sent: it has the digest that was recorded before the call."
        if self.missing:
            gone = [f"{each.submission_id} ({'erased' if each.erased else 'taken back'})" for each in self.missing]
            return (
                f"The words of {_listed('submission', gone)} are missing, and a sentence stands in their place; "
                "the rest is as it was sent."
            )
        return (
            "This is not equal to what was sent, though no words are missing: since then the record, the words in the "
            "vault or SECRET_KEY were changed."
        )

    @property
    def request_text(self) -> str | None:
        """The request as text."""
        return told(self.request) if self.request is not None else None

    @property
    def response_text(self) -> str | None:
        """The response as text."""
        return told(self.response) if self.response is not None else None


@dataclass(frozen=True, slots=True)
class OfLetter:
    """What was asked of the model for one letter."""

    submission_id: int
    words: Released | None
    """None if it is not posted, or no longer."""
    request: ReplyRequest | None
    waits_until: datetime | None
    """When the request may be asked next, where that is put off."""
    calls: Sequence[Call]
    """The newest first; those too in which it was shown to be chosen."""
    more: int | None
    """Before which number the list goes on; None if that was all."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A batch, and how much of it is back."""

    batch: Batch
    voice: Voice
    essay: Essay
    back: int
    """How many of its calls have an end on record."""
    asked_at: datetime | None
    """When the API was last asked how it stands."""

    @property
    def is_open(self) -> bool:
        """Whether its results are still to come."""
        return self.batch.state in {BatchState.SENDING.value, BatchState.SENT.value}


def of_letter(session: Session, submission_id: int, *, before: int | None = None) -> OfLetter:
    """Return the calls that were made for a letter, which its own words or its answer's name.

    At most `AT_ONCE`, with a number below *before*. Raises `NoSuchSubmission`.
    """
    comment = session.scalar(
        select(Comment)
        .outerjoin(Reply, Reply.comment_id == Comment.id)
        .where(or_(Comment.submission_id == submission_id, Reply.submission_id == submission_id))
    )
    if comment is None:
        if submission_id not in standing(session, [submission_id]):
            raise NoSuchSubmission(submission_id)
        return OfLetter(submission_id, None, None, None, (), None)
    shown_in = select(Showing.generation_id).where(Showing.comment_id == comment.id)
    made = or_(Generation.comment_id == comment.id, Generation.id.in_(shown_in))
    query = _calls().where(made).order_by(Generation.id.desc()).limit(AT_ONCE + 1)
    if before is not None:
        query = query.where(Generation.id < before)
    found = _read(session, query.options(defer(Generation.request), defer(Generation.response)))
    request = session.get(ReplyRequest, comment.id)
    return OfLetter(
        submission_id=comment.submission_id,
        words=released(session, [comment.submission_id]).get(comment.submission_id),
        request=request,
        waits_until=_waits_until(request),
        calls=found[:AT_ONCE],
        more=found[AT_ONCE - 1].made.id if len(found) > AT_ONCE else None,
    )


def one(session: Session, generation_id: int, keys: Keys) -> tuple[Call, Whole]:
    """Return one call. Raises `NoSuchCall`."""
    found = _read(session, _calls().where(Generation.id == generation_id))
    if not found:
        raise NoSuchCall
    return found[0], whole(session, found[0].made, keys)


def behind(session: Session, submission_id: int, keys: Keys) -> tuple[Call, Whole] | None:
    """Return the call that brought a reply; None if no model was called for the words. Raises `NoSuchSubmission`."""
    made = session.scalar(select(Reply.generation_id).where(Reply.submission_id == submission_id))
    if made is None:
        if submission_id not in standing(session, [submission_id]):
            raise NoSuchSubmission(submission_id)
        return None
    return one(session, made, keys)


def named(session: Session, name: str) -> int:
    """Return the number of the call that *name* means: a call's own, or the public id of a reply or a comment.

    A comment's is the call that brought its answer, else the newest that was made for it. Raises `NoSuchCall`.
    """
    if len(name) != PUBLIC_ID:
        number = int(name) if name.isascii() and name.isdigit() and len(name) < 10 else 0
        if session.scalar(select(Generation.id).where(Generation.id == number)) is None:
            raise NoSuchCall
        return number
    answered = select(Reply.generation_id).join(Comment, Comment.id == Reply.comment_id)
    brought = session.scalar(answered.where(or_(Reply.public_id == name, Comment.public_id == name)))
    if brought is not None:
        return brought
    shown_in = select(Showing.generation_id).join(Comment, Comment.id == Showing.comment_id)
    newest = session.scalar(
        select(func.max(Generation.id))
        .join(Comment, Comment.id == Generation.comment_id)
        .where(or_(Comment.public_id == name, Generation.id.in_(shown_in.where(Comment.public_id == name))))
    )
    if newest is None:
        raise NoSuchCall
    return newest


def whole(session: Session, made: Generation, keys: Keys) -> Whole:
    """Put a call's request together from the record again, and compare it with what was sent."""
    response = json.loads(zlib.decompress(made.response)) if made.response else None
    recipe = whole_recipe(session, made)
    if recipe is None:
        return Whole(None, False, (), response)
    ids = prompt.references(recipe)
    answers = session.execute(
        select(Comment.submission_id, Reply.submission_id)
        .join(Reply, Reply.id == Comment.parent_id)
        .where(Comment.submission_id.in_(ids))
    )
    out = released(session, ids)
    request = prompt.rebuilt(recipe, out, {row[0]: row[1] for row in answers}, keys)
    how = standing(session, set(ids) - set(out))
    return Whole(
        request=request,
        equal=keys.keyed_digest("request", json.dumps(request, sort_keys=True)) == made.request_digest,
        missing=[Missing(each, how[each].digest, how[each].erased_at is not None) for each in sorted(how)],
        response=response,
    )


def whole_recipe(session: Session, made: Generation) -> dict[str, Any] | None:
    """Return the recipe of a call's whole request, what it shares with others included; None if it was erased."""
    return replies.recipe(session, made)


def batches(session: Session) -> list[Sent]:
    """Return the batches that are away, the oldest first, and then the newest `ENDED_BATCHES` of the others."""
    is_open = Batch.state.in_([BatchState.SENDING.value, BatchState.SENT.value])
    joined = select(Batch, Voice, Essay).join(Voice, Voice.id == Batch.voice_id).join(Essay, Essay.id == Batch.essay_id)
    found = [
        *session.execute(joined.where(is_open).order_by(Batch.id)),
        *session.execute(joined.where(~is_open).order_by(Batch.id.desc()).limit(ENDED_BATCHES)),
    ]
    ended = session.execute(
        select(Generation.batch_id, func.count())
        .where(Generation.batch_id.in_([batch.id for batch, _, _ in found]), Generation.ended_at.is_not(None))
        .group_by(Generation.batch_id)
    )
    back = {batch_id: number for batch_id, number in ended}  # noqa: C416  (dict() finds no types.)
    return [Sent(batch, voice, essay, back.get(batch.id, 0), _moment(batch.asked_at)) for batch, voice, essay in found]


def told(body: Any) -> str:
    """Return JSON as text to be read; what no screen shows, or what would move its neighbours, stands as its escape."""
    text = json.dumps(body, ensure_ascii=False, indent=2)
    return "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else json.dumps(c)[1:-1] for c in text)


def _calls() -> Select[Generation, Voice, Batch, int, int]:
    return (
        select(Generation, Voice, Batch, Comment.submission_id, Reply.submission_id)
        .join(Voice, Voice.id == Generation.voice_id)
        .join(Comment, Comment.id == Generation.comment_id)
        .outerjoin(Batch, Batch.id == Generation.batch_id)
        .outerjoin(Reply, Reply.generation_id == Generation.id)
    )


def _read(session: Session, query: Select[Generation, Voice, Batch, int, int]) -> list[Call]:
    rows = session.execute(query).all()
    shown = _shown(session, [made.id for made, *_ in rows if made.purpose == Purpose.CHOICE.value])
    return [
        Call(made, voice, batch, letter, brought, shown.get(made.id, ()))
        for made, voice, batch, letter, brought in rows
    ]


def _shown(session: Session, generation_ids: Sequence[int]) -> dict[int, list[Shown]]:
    rows = session.execute(
        select(Showing, Comment.submission_id)
        .join(Comment, Comment.id == Showing.comment_id)
        .where(Showing.generation_id.in_(generation_ids))
        .order_by(Showing.generation_id, Showing.number)
    ).all()
    out = released(session, [submission_id for _, submission_id in rows])
    found: dict[int, list[Shown]] = {}
    for showing, submission_id in rows:
        each = Shown(showing.number, showing.chosen, submission_id, out.get(submission_id))
        found.setdefault(showing.generation_id, []).append(each)
    return found


def _listed(what: str, names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"{what} {names[0]}"
    return f"{what}s {', '.join(names[:-1])} and {names[-1]}"


def _waits_until(request: ReplyRequest | None) -> datetime | None:
    """Return when a request is asked at the earliest; None if now, or if only an admin can tell."""
    if request is None or request.not_before is None or budgets.only_an_admin_ends(request.not_before):
        return None
    return _moment(request.not_before)


def _moment(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None else None
