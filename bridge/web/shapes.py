"""The shapes of /api/v1, in and out (DESIGN, section 4)."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

LARGEST = 2**31 - 1
"""The largest number that either database keeps in its integer columns."""


def _readable(text: str) -> str:
    """Return *text*, unless it holds what is no character (SECURITY, T1)."""
    if re.search("[\x00\ud800-\udfff]", text):
        raise ValueError("holds a broken character")
    return text


Readable = Annotated[str, AfterValidator(_readable)]
PublicId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
DigestText = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class In(BaseModel):
    """Something that is sent to us; what we do not know is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Addressed(BaseModel):
    """Something in the address."""


class PassageIn(In):
    """The words of the essay that a comment is about."""

    block: int = Field(
        description="In which of the outermost elements of the essay's `html` they stand, from 0.", ge=0, le=LARGEST
    )
    words: Readable = Field(description="As shown there, every white space one blank; 1 to 500 characters.")


class CommentIn(In):
    """A comment. Its words are checked when they are normalised, with the same answer as a form's."""

    author: str = Field(description="The name shown, 1 to 80 characters in one line.", max_length=1000)
    body: str = Field(description="Markdown, 1 to 5,000 characters after normalising.")
    email: Readable | None = Field(None, description="Optional; never shown.", max_length=320)
    parent: PublicId | None = Field(None, description="The id of a released reply that this answers.")
    wants_reply: bool = Field(True, description="Whether the voice is asked for an answer.")
    passage: PassageIn | None = Field(None, description="The words of the essay that it is about; else the whole.")
    author_secret: Readable | None = Field(None, description="From an earlier receipt, to stay the same author.")
    proof: Readable | None = Field(
        None,
        description="The solution of the `challenge` in /essays/{slug}/form-token (ALTCHA, version 2), in base64. "
        "Without it fewer letters are taken.",
        max_length=4096,
    )
    to_a_person: bool = Field(False, description="Once refused with 403 or 429: that a person looks all the same.")


class CommentHeaders(BaseModel):
    """What may come with a comment."""

    idempotency_key: str | None = Field(None, alias="Idempotency-Key", min_length=1, max_length=255)


class ReceiptOut(BaseModel):
    """What the sender of a comment is told."""

    id: str
    status: Literal["pending"]
    digest: str
    manage_url: str = Field(description="The author's page: its address is the key to the comment.")
    author_secret: str


class WordsOut(BaseModel):
    """Released words with the six fields of their digest: SHA-256 over their RFC 8785 bytes."""

    format: Literal["emeritus/1"] = "emeritus/1"
    kind: Literal["essay", "comment", "reply"]
    nonce: str
    author: str
    in_answer_to: str | None
    body: str
    digest: str
    html: str


class EssayOut(WordsOut):
    """A released essay."""

    slug: str
    title: str
    voice: str
    original_url: str | None
    written_on: str | None
    approved_at: str
    stand_in: bool
    disclaimer: str
    closed_at: str | None = Field(description="Since when it takes no letters; null while it does.")
    closed_why: str | None
    ai_generated: bool
    digital_source_type: str | None = Field(alias="digitalSourceType")


class ReplyInThread(BaseModel):
    """A released reply as a thread shows it."""

    id: str
    html: str
    voice: str
    author: str
    digest: str
    model: str
    rehearsed: bool
    asked_at: str
    approved_at: str
    ai_generated: bool
    digital_source_type: str | None = Field(alias="digitalSourceType")


class PassageOut(BaseModel):
    """The words of the essay that a comment is about, and in which block of its text they stand, from 0."""

    block: int
    words: str
    stand_in: bool
    ai_generated: bool = Field(description="Whether a model wrote these words, as it did the essay.")
    digital_source_type: str | None = Field(alias="digitalSourceType")


class CommentInThread(BaseModel):
    """A released comment, or the tombstone of one."""

    id: str
    author: str | None
    html: str | None
    created_at: str
    parent: str | None
    digest: str
    withdrawn_at: str | None
    passage: PassageOut | None = Field(description="The words of the essay that it is about; null: the whole.")
    reply: ReplyInThread | None


class ThreadOut(BaseModel):
    """A page of an essay's correspondence, oldest first."""

    comments: list[CommentInThread]
    next: str | None


class CommentOut(BaseModel):
    """How a comment stands; its words only once they are released."""

    id: str
    status: Literal["pending", "approved", "rejected", "withdrawn"]
    reply_status: str
    withdrawn_at: str | None = None
    format: str | None = None
    kind: str | None = None
    nonce: str | None = None
    author: str | None = None
    in_answer_to: str | None = None
    body: str | None = None
    digest: str | None = None
    html: str | None = None


class ReplyOut(WordsOut):
    """A released reply with its provenance."""

    id: str
    comment: str
    essay: str
    voice: str
    model: str
    rehearsed: bool
    asked_at: str
    approved_at: str
    disclaimer: str
    ai_generated: bool
    digital_source_type: str | None = Field(alias="digitalSourceType")


class ReasonsOut(BaseModel):
    """The published reason codes, each with its meaning."""

    comment: dict[str, str]
    model: dict[str, str]


class QueueQuery(BaseModel):
    """Which pending submissions are wanted."""

    kind: Literal["comment", "reply", "essay"] | None = None
    essay: str | None = Field(None, description="An essay's slug.")
    voice: str | None = Field(None, description="A voice's slug.")
    signal: str | None = Field(None, description="The name of a signal that was noticed.", max_length=32)
    tray: Literal["main", "likely_spam"] | None = None
    held: bool | None = Field(None, description="Whether a moderator asked for a second reader.")
    limit: int = Field(100, ge=1, le=100)
    cursor: int = Field(0, ge=0, le=LARGEST)


class PageQuery(BaseModel):
    """Which page of a list is wanted."""

    limit: int = Field(100, ge=1, le=100)
    cursor: int = Field(0, ge=0, le=LARGEST)


class LedgerQuery(BaseModel):
    """Which entries are wanted."""

    after: int = Field(0, ge=0, le=LARGEST)
    limit: int = Field(100, ge=1, le=100)


class SubmissionOut(BaseModel):
    """A pending submission with its context."""

    id: int
    kind: str
    author: str
    body: str
    html: str
    digest: str
    in_answer_to: str | None
    submitted_at: str
    tray: str
    proposal: dict[str, Any] | None
    held: dict[str, Any] | None = Field(description="Who asked for a second reader, and when.")
    claim: dict[str, Any] | None = Field(description="Who is reading it now, and until when.")
    appealed: dict[str, Any] | None = Field(description="That these words were rejected before, and by whom.")
    signals: list[dict[str, Any]] = Field(description="What was noticed about it. Advice, never a decision.")
    context: dict[str, Any]


class QueueOut(BaseModel):
    """A page of what awaits a verdict, oldest first."""

    submissions: list[SubmissionOut]
    next: str | None


class ApprovalIn(In):
    """An approval of exactly these words."""

    digest: DigestText = Field(description="Of the words that were on your screen.")


class RejectionIn(In):
    """A rejection of a comment, or one half of a veto."""

    digest: DigestText = Field(description="Of the words that were on your screen.")
    reason_code: Readable = Field(max_length=64)
    reason: Readable | None = Field(None, description="For the desk: with `other`, and 40 characters for a proposal.")
    told: Readable | None = Field(None, description="For the author.")


class DecisionOut(BaseModel):
    """What a verdict came to."""

    id: int
    verdict: Literal["approve", "reject"]
    status: Literal["decided", "proposed"]


class HoldOut(BaseModel):
    """That a submission waits for a second reader."""

    id: int
    status: Literal["held"]


class EntryOut(BaseModel):
    """One link of the ledger; `entry` holds the canonical bytes that hash to `digest`."""

    number: int
    previous: str
    digest: str
    entry: str


class LedgerOut(BaseModel):
    """A page of the ledger."""

    entries: list[EntryOut]
    next: str | None


class CheckpointOut(BaseModel):
    """A checkpoint of the ledger: Ed25519 over the RFC 8785 bytes of its first four members, in hex."""

    format: Literal["emeritus/checkpoint/1"]
    number: int = Field(description="Of the ledger's entry whose digest it tells.")
    digest: str
    at: str
    signature: str
    public_key: str


class VoiceNumbersOut(BaseModel):
    """What happened under one voice's essays, month by month, newest first; months with nothing among them."""

    name: str
    stand_in: bool
    months: list[dict[str, Any]]


class TransparencyOut(BaseModel):
    """What was asked, answered, declined, approved and not, in numbers, and how long each took, in seconds."""

    counted_at: str
    veto_quorum: int = Field(description="With 1, one moderator alone can keep a model's words from being posted.")
    second_readings: dict[str, int]
    appeals: dict[str, int]
    voices: list[VoiceNumbersOut]


class ReportIn(In):
    """A report of posted words."""

    of: Readable = Field(description="The id of a comment or reply, or an essay's slug.", max_length=120)
    code: Readable = Field(description="One of the codes at /reasons for that kind of words.", max_length=64)
    words: Readable | None = Field(None, description="What is wrong, in at most 2,000 characters.")


class ReportReceiptOut(BaseModel):
    """What a reporter is told."""

    token: str = Field(description="The key to the report.")
    report_url: str = Field(description="The page that tells what becomes of it.")
    state: Literal["open"] = "open"


class ReportOut(BaseModel):
    """What became of a report: not the words that it is about."""

    state: Literal["open", "kept", "taken_down"]
    code: str
    told: str | None
    reported_at: str
    closed_at: str | None


class ProblemOut(BaseModel):
    """A refusal (RFC 9457)."""

    type: str
    status: int
    title: str
    errors: list[dict[str, str]] = []


class SlugPath(Addressed):
    """An essay's address."""

    slug: str = Field(max_length=120)


class PublicIdPath(Addressed):
    """The id of a comment or reply."""

    id: str = Field(max_length=64)


class ReportPath(Addressed):
    """The key to a report."""

    token: str


class SubmissionPath(Addressed):
    """The id of a submission."""

    id: int = Field(ge=1, le=LARGEST)
