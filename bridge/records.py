"""The site's tables: who commented on what. No words are here: each points to a submission in the vault."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Any

from flask_security.models import sqla, sqla_v2
from sqlalchemy import (
    JSON,
    CheckConstraint,
    Date,
    Float,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    true,
)
from sqlalchemy.orm import Mapped, mapped_column

from moderation.base import Base, UtcDateTime


class RequestState(StrEnum):
    """How the need for a reply to one approved comment stands."""

    WAITING = "waiting"
    ASKING = "asking"
    ANSWERED = "answered"
    DECLINED = "declined"
    NOT_CHOSEN = "not_chosen"
    WITHHELD = "withheld"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"


class Answering(StrEnum):
    """A voice's way with what waits."""

    EACH = "each"
    CHOSEN = "chosen"
    """It is shown what waits under an essay and picks."""


class Calls(StrEnum):
    """How a voice is called."""

    LIVE = "live"
    BATCH = "batch"
    RULE = "rule"
    """Live where so many wait that the cache pays, else in a batch (MODEL-API, section 2)."""


class Endpoint(StrEnum):
    """Which of the SDK's clients reaches a voice's model."""

    ANTHROPIC = "anthropic"
    """The Messages API, Anthropic's or a compatible server's."""
    BEDROCK = "bedrock"
    VERTEX = "vertex"


class Purpose(StrEnum):
    """What a call to the model was for."""

    REPLY = "reply"
    CHOICE = "choice"
    """The voice was shown what waits under an essay and named those it wishes to answer."""


class BatchState(StrEnum):
    """How a message batch stands."""

    SENDING = "sending"
    """About to be created there; whether it was is not known yet."""
    SENT = "sent"
    ENDED = "ended"
    LOST = "lost"
    """It never came to be, or its results are gone; what was in it waits again."""


class Voice(Base):
    """A retired model that writes here."""

    __tablename__ = "voices"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    slug: Mapped[str] = mapped_column(String(80), unique=True)
    model: Mapped[str] = mapped_column(String(120))
    charter: Mapped[str] = mapped_column(Text)
    disclaimer: Mapped[str] = mapped_column(Text)
    retired_on: Mapped[date | None] = mapped_column(Date)
    stand_in: Mapped[bool] = mapped_column(default=False)
    max_tokens: Mapped[int] = mapped_column(default=1500)
    anthropic_version: Mapped[str | None] = mapped_column(String(32))
    extra_body: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    price_in: Mapped[float | None] = mapped_column(Float)
    """US dollars for a million input tokens, which is millionths of a dollar for one."""
    price_out: Mapped[float | None] = mapped_column(Float)
    paused_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    paused_why: Mapped[str | None] = mapped_column(Text)
    paused_until: Mapped[float | None] = mapped_column(Float)
    """Seconds since 1970 by the database's clock; None while paused: until a person resumes it."""
    failures_in_a_row: Mapped[int] = mapped_column(default=0)
    cost_a_day: Mapped[int | None] = mapped_column()
    """The most it may cost from one UTC midnight to the next, in millionths of a US dollar; None: no bound."""
    cost_a_month: Mapped[int | None] = mapped_column()
    replies_a_day: Mapped[int | None] = mapped_column()
    replies_a_month: Mapped[int | None] = mapped_column()
    replies_a_reader: Mapped[int | None] = mapped_column()
    """To one reader, from one UTC midnight to the next; None: no bound."""
    replies_a_thread: Mapped[int | None] = mapped_column()
    """Under one essay, in the same time."""
    answering: Mapped[str] = mapped_column(String(8), default=Answering.EACH.value, server_default="each")
    calls: Mapped[str] = mapped_column(String(8), default=Calls.LIVE.value, server_default="live")
    about: Mapped[str | None] = mapped_column(Text)
    """What readers are told of it on its own page, in plain words."""
    depth: Mapped[int] = mapped_column(default=10, server_default="10")
    """How many letters deep a conversation is answered: 1 is letters about the essay only."""
    memory_tokens: Mapped[int] = mapped_column(default=6000, server_default="6000")
    """The most tokens of earlier words, correspondence and essays, that a request carries beside what it must."""
    endpoint: Mapped[str] = mapped_column(String(16), default=Endpoint.ANTHROPIC.value, server_default="anthropic")
    base_url: Mapped[str | None] = mapped_column(Text)
    """Of a compatible server; None: as the worker is set."""
    key_name: Mapped[str | None] = mapped_column(String(80))
    """The name of the variable that holds its key in the worker's environment; None: ANTHROPIC_API_KEY."""
    endpoint_options: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """What Bedrock and Vertex need besides, such as a region."""
    calls_at_once: Mapped[int | None] = mapped_column()
    """Over all workers; None: no bound but each worker's own."""
    requests_a_minute: Mapped[int | None] = mapped_column()
    """None: what the API's headers say."""
    input_tokens_a_minute: Mapped[int | None] = mapped_column()
    output_tokens_a_minute: Mapped[int | None] = mapped_column()
    ways_changed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When what its requests say, or where they go, was changed last, by the database's clock; None: never."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Charter(Base):
    """One version of a voice's charter: who set it and since when. The newest is the voice's own."""

    __tablename__ = "charters"

    id: Mapped[int] = mapped_column(primary_key=True)
    voice_id: Mapped[int] = mapped_column(ForeignKey("voices.id"), index=True)
    charter: Mapped[str] = mapped_column(Text)
    moderator_id: Mapped[int | None] = mapped_column(ForeignKey("moderators.id"))
    """None: the operator, at the command line."""
    since: Mapped[datetime] = mapped_column(UtcDateTime)


class Essay(Base):
    """What a voice wrote."""

    __tablename__ = "essays"

    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(String(120), unique=True)
    voice_id: Mapped[int] = mapped_column(ForeignKey("voices.id"), index=True)
    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"), unique=True)
    original_url: Mapped[str | None] = mapped_column(Text)
    written_on: Mapped[date | None] = mapped_column(Date)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    closed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    closed_why: Mapped[str | None] = mapped_column(Text)
    """What readers are told where the form would stand."""
    embed_parents: Mapped[str | None] = mapped_column(Text)
    """The origins that may frame its correspondence besides the site's own list, with blanks between them."""


class Comment(Base):
    """What a reader wrote under an essay, or in answer to a released reply."""

    __tablename__ = "comments"
    __table_args__ = (
        Index("ix_comments_essay_id_id", "essay_id", "id"),
        Index("ix_comments_essay_id_place", "essay_id", "place", unique=True),
        Index("ix_comments_essay_id_page", "essay_id", "page"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(String(32), unique=True)
    essay_id: Mapped[int] = mapped_column(ForeignKey("essays.id"))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("replies.id", use_alter=True), index=True)
    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"), unique=True)
    author_digest: Mapped[str] = mapped_column(String(64), index=True)
    """SHA-256 of the author's secret: it ties one reader's letters together and opens nothing by itself."""
    wants_reply: Mapped[bool] = mapped_column(default=True)
    place: Mapped[int | None] = mapped_column()
    """Which of its essay's letters it was to be posted, from 1, even if it is taken back; None: it never was."""
    page: Mapped[int | None] = mapped_column()
    """On which page of the correspondence it stands, from 1; given with its place, and kept."""
    passage: Mapped[str | None] = mapped_column(Text)
    """The words of the essay that it is about, as they stand there; None: the whole."""
    passage_block: Mapped[int | None] = mapped_column()
    """In which block of the essay's text they stand, from 0."""
    email: Mapped[bytes | None] = mapped_column(LargeBinary)
    """Encrypted under the site's key; of letters before migration 0004, never confirmed, and emptied after 30 days."""
    address_id: Mapped[int | None] = mapped_column(ForeignKey("addresses.id"), index=True)
    """Where its author asked to be told of it."""
    language: Mapped[str | None] = mapped_column(String(16))
    """In which its author read the site."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Address(Base):
    """An e-mail address that somebody gave; nothing but the question is sent to it before its owner says yes."""

    __tablename__ = "addresses"

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    """Keyed, of the address in lower case: the same one is found by it."""
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    """The address, encrypted; emptied by erasure."""
    language: Mapped[str | None] = mapped_column(String(16))
    asked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When its owner was last asked to confirm it."""
    asks: Mapped[int] = mapped_column(default=0)
    """How often they were asked and did not answer."""
    confirmed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    stopped_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When its owner wanted no more mail; it is not asked again before they confirm it anew themselves."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class UsedLink(Base):
    """A signed link that acted; it acts once (SECURITY, R3)."""

    __tablename__ = "used_links"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    used_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PassingKey(Base):
    """A random key that network addresses are hashed under, deleted after a week (SECURITY, O2)."""

    __tablename__ = "passing_keys"

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[bytes] = mapped_column(LargeBinary)
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Block(Base):
    """What an admin does not let through to the main tray: a network, a domain or a word."""

    __tablename__ = "blocks"
    __table_args__ = (
        UniqueConstraint("what", "look"),
        CheckConstraint("what IN ('network', 'domain', 'word')", name="what"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    what: Mapped[str] = mapped_column(String(8))
    value: Mapped[str] = mapped_column(String(320))
    """As it was typed."""
    look: Mapped[str] = mapped_column(String(320))
    """What it is compared by: the network in its one form, the domain as ASCII, the word's skeleton (UTS 39)."""
    why: Mapped[str | None] = mapped_column(Text)
    moderator_id: Mapped[int] = mapped_column(ForeignKey("moderators.id"))
    since: Mapped[datetime] = mapped_column(UtcDateTime)


class StoredPage(Base):
    """A page of a correspondence as readers are sent it: a cache, renewed when what it shows changes."""

    __tablename__ = "stored_pages"
    __table_args__ = (Index("ix_stored_pages_essay_id_page", "essay_id", "page"),)

    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    """Surface, language, slug and number (`page.shelf`)."""
    essay_id: Mapped[int] = mapped_column(ForeignKey("essays.id"))
    page: Mapped[int] = mapped_column()
    """Of the correspondence, from 1; of the API's lists, in hundreds, below 0."""
    version: Mapped[str] = mapped_column(String(64))
    """Of pipeline, templates, assets and catalogues; one that is out of date serves until a job has renewed it."""
    etag: Mapped[str] = mapped_column(String(80))
    body: Mapped[bytes] = mapped_column(LargeBinary)
    """Compressed with gzip."""
    renewed_at: Mapped[datetime] = mapped_column(UtcDateTime)


class StoredLetters(Base):
    """The letters of one page in one language, a piece of what `StoredPage` holds: so a new count prints no letter."""

    __tablename__ = "stored_letters"

    essay_id: Mapped[int] = mapped_column(ForeignKey("essays.id"), primary_key=True, autoincrement=False)
    page: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    language: Mapped[str] = mapped_column(String(16), primary_key=True)
    version: Mapped[str] = mapped_column(String(64))
    deflated: Mapped[bytes] = mapped_column(LargeBinary)
    """Raw DEFLATE blocks that end on a byte, to be put between others."""


class Mention(Base):
    """A link between an essay and a page elsewhere (Webmention): one that we tell of, or one that we were told of."""

    __tablename__ = "mentions"
    __table_args__ = (
        UniqueConstraint("essay_id", "way", "source", "target"),
        Index("ix_mentions_state_id", "state", "id"),
        CheckConstraint("way IN ('in', 'out')", name="way"),
        CheckConstraint("state IN ('waiting', 'done', 'refused')", name="state"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    essay_id: Mapped[int] = mapped_column(ForeignKey("essays.id"))
    way: Mapped[str] = mapped_column(String(4))
    source: Mapped[str] = mapped_column(String(1000))
    target: Mapped[str] = mapped_column(String(1000))
    state: Mapped[str] = mapped_column(String(8))
    why: Mapped[str | None] = mapped_column(Text)
    """For admins, in words, where it was refused."""
    attempts: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[float | None] = mapped_column(Float)
    """Seconds since 1970 by the database's clock."""
    comment_id: Mapped[int | None] = mapped_column(ForeignKey("comments.id"), index=True)
    """What came of one that we were told of."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Reply(Base):
    """What the voice wrote to one comment: at most one, by its unique comment."""

    __tablename__ = "replies"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(String(32), unique=True)
    comment_id: Mapped[int] = mapped_column(ForeignKey("comments.id"), unique=True)
    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"), unique=True)
    generation_id: Mapped[int] = mapped_column(ForeignKey("generations.id"), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ReplyRequest(Base):
    """The need for a reply to one approved comment; its key is the comment."""

    __tablename__ = "reply_requests"
    __table_args__ = (
        Index("ix_reply_requests_state_essay_id", "state", "essay_id", "comment_id"),
        CheckConstraint(
            "state IN ('waiting', 'asking', 'answered', 'declined', 'not_chosen', 'withheld', 'failed', 'withdrawn')",
            name="state",
        ),
    )

    comment_id: Mapped[int] = mapped_column(ForeignKey("comments.id"), primary_key=True, autoincrement=False)
    essay_id: Mapped[int] = mapped_column(ForeignKey("essays.id"))
    state: Mapped[str] = mapped_column(String(16))
    why: Mapped[str | None] = mapped_column(Text)
    """For moderators, in words: why it was declined, withheld, failed, or still waits."""
    attempts: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[float | None] = mapped_column(Float)
    lease: Mapped[str | None] = mapped_column(String(32))
    leased_until: Mapped[float | None] = mapped_column(Float)
    """Seconds since 1970 by the database's clock."""
    chosen_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When a voice that picks its letters chose this one: it is not shown again, only asked."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Generation(Base):
    """One call to the model: written before it is made and completed when it ends. One without an end may be billed."""

    __tablename__ = "generations"
    # What a voice spent this month is summed before each of its calls; the essay asked longest ago comes next.
    __table_args__ = (
        Index("ix_generations_voice_id_started_at", "voice_id", "started_at"),
        Index("ix_generations_essay_id_started_at", "essay_id", "started_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    comment_id: Mapped[int] = mapped_column(ForeignKey("comments.id"), index=True)
    """The comment to be answered; of a choice, the oldest that was shown."""
    essay_id: Mapped[int | None] = mapped_column(ForeignKey("essays.id"))
    """Filled in for every call since migration 0003, and by it for those before."""
    purpose: Mapped[str] = mapped_column(String(8), default=Purpose.REPLY.value, server_default="reply")
    voice_id: Mapped[int] = mapped_column(ForeignKey("voices.id"))
    attempt: Mapped[int] = mapped_column()
    model_asked: Mapped[str] = mapped_column(String(120))
    model_answered: Mapped[str | None] = mapped_column(String(120))
    rehearsed: Mapped[bool] = mapped_column(default=False)
    host: Mapped[str] = mapped_column(String(255))
    sdk_version: Mapped[str] = mapped_column(String(32))
    api_version: Mapped[str] = mapped_column(String(32))
    prompt_version: Mapped[str] = mapped_column(String(32))
    prefix_id: Mapped[int | None] = mapped_column(ForeignKey("prefixes.id"))
    """What it shares with other calls; None: all of it stands in `request`."""
    request: Mapped[bytes] = mapped_column(LargeBinary)
    """The body as sent, zlib-compressed JSON; released words stand in it as their submission's id and digest."""
    request_digest: Mapped[str] = mapped_column(String(64))
    """Keyed SHA-256 of the body as sent."""
    batch_id: Mapped[int | None] = mapped_column(ForeignKey("batches.id"), index=True)
    """The batch that it was sent in; None: it was sent live."""
    custom_id: Mapped[str | None] = mapped_column(String(64))
    """Its name in the batch."""
    response: Mapped[bytes | None] = mapped_column(LargeBinary)
    outcome: Mapped[str | None] = mapped_column(String(32))
    status: Mapped[int | None] = mapped_column()
    """Of an HTTP answer that was an error."""
    error_type: Mapped[str | None] = mapped_column(String(80))
    error_code: Mapped[str | None] = mapped_column(String(80))
    error: Mapped[str | None] = mapped_column(Text)
    note: Mapped[str | None] = mapped_column(Text)
    """What the model wanted moderators to know. Never public."""
    request_id: Mapped[str | None] = mapped_column(String(120))
    message_id: Mapped[str | None] = mapped_column(String(120))
    input_tokens: Mapped[int | None] = mapped_column()
    cache_read_tokens: Mapped[int | None] = mapped_column()
    cache_write_tokens: Mapped[int | None] = mapped_column()
    cache_write_hour_tokens: Mapped[int | None] = mapped_column()
    """Of the ones before, those kept for an hour."""
    output_tokens: Mapped[int | None] = mapped_column()
    cost: Mapped[int | None] = mapped_column()
    """Millionths of a US dollar; None where the voice has no prices."""
    reserved: Mapped[int | None] = mapped_column()
    """The most this call could cost, in the same unit: what it counts for against the budgets until it is settled."""
    price: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """The row of the price table, or of the voice, that `reserved` and `cost` were reckoned with (`voice.prices`)."""
    seconds: Mapped[float | None] = mapped_column(Float)
    """From the request to the end of its answer, by the worker's own clock; None in a batch."""
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Prefix(Base):
    """What the requests of a sitting share, kept once; released words stand in it as a recipe's references."""

    __tablename__ = "prefixes"

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 of `recipe`: the same beginning is kept once."""
    recipe: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Showing(Base):
    """One comment that a voice was shown to choose from, and whether it chose it."""

    __tablename__ = "showings"

    generation_id: Mapped[int] = mapped_column(ForeignKey("generations.id"), primary_key=True, autoincrement=False)
    comment_id: Mapped[int] = mapped_column(
        ForeignKey("comments.id"), primary_key=True, autoincrement=False, index=True
    )
    number: Mapped[int] = mapped_column()
    """By which it was called; from 1."""
    chosen: Mapped[bool | None] = mapped_column()
    """None until the voice has chosen."""


class Batch(Base):
    """Requests sent together at half the price, and fetched when they are answered (MODEL-API, section 3)."""

    __tablename__ = "batches"
    __table_args__ = (Index("ix_batches_state_id", "state", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    voice_id: Mapped[int] = mapped_column(ForeignKey("voices.id"))
    essay_id: Mapped[int] = mapped_column(ForeignKey("essays.id"))
    lease: Mapped[str] = mapped_column(String(32), unique=True)
    """Under which the requests in it are claimed while it is away."""
    remote_id: Mapped[str | None] = mapped_column(String(120), unique=True)
    """What the API calls it; None until that is known."""
    state: Mapped[str] = mapped_column(String(8))
    requests: Mapped[int] = mapped_column()
    why: Mapped[str | None] = mapped_column(Text)
    """For moderators, in words, where something went wrong."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    asked_at: Mapped[float | None] = mapped_column(Float)
    """When the API was last asked how it stands; seconds since 1970 by the database's clock."""
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class IdempotencyKey(Base):
    """One comment received under a key that its sender chose; a repeat finds the first one's answer."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (UniqueConstraint("author_digest", "key_digest"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    author_digest: Mapped[str] = mapped_column(String(64))
    key_digest: Mapped[str] = mapped_column(String(64))
    content_digest: Mapped[str] = mapped_column(String(64))
    """Keyed, so that a short comment cannot be guessed from it."""
    comment_id: Mapped[int] = mapped_column(ForeignKey("comments.id"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Rendering(Base):
    """HTML derived from words, by digest and pipeline version: a cache that may be emptied at any time."""

    __tablename__ = "renderings"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    pipeline: Mapped[str] = mapped_column(String(64), primary_key=True)
    html: Mapped[str] = mapped_column(Text)


class ApiToken(Base):
    """A moderator's bearer token, kept as its SHA-256."""

    __tablename__ = "api_tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    scope: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Claim(Base):
    """Who is reading a pending submission now. Advice to the others: the decision's key decides."""

    __tablename__ = "claims"

    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"), primary_key=True, autoincrement=False)
    moderator_id: Mapped[int] = mapped_column(ForeignKey("moderators.id"), index=True)
    claimed_at: Mapped[datetime] = mapped_column(UtcDateTime)
    until: Mapped[float] = mapped_column(Float)
    """Seconds since 1970 by the database's clock."""


class Signal(Base):
    """Advice about a submission: what was noticed and why. Never a decision."""

    __tablename__ = "signals"
    __table_args__ = (
        UniqueConstraint("submission_id", "name"),
        Index("ix_signals_name_submission_id", "name", "submission_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"))
    name: Mapped[str] = mapped_column(String(32))
    why: Mapped[str] = mapped_column(Text)
    """In words, for moderators; it may quote what the submission says, so erasure removes the row."""
    strong: Mapped[bool] = mapped_column()
    noticed_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ListedWord(Base):
    """A word or phrase that an admin wants moderators to notice."""

    __tablename__ = "listed_words"

    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str] = mapped_column(String(80))
    skeleton: Mapped[str] = mapped_column(String(320), unique=True)
    """What it looks like (UTS 39), so that look-alikes are the same word."""
    moderator_id: Mapped[int] = mapped_column(ForeignKey("moderators.id"))
    listed_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Report(Base):
    """A reader's report of released words, and what became of it."""

    __tablename__ = "reports"
    __table_args__ = (
        Index("ix_reports_closed_at", "closed_at", "id"),
        CheckConstraint("outcome IN ('kept', 'taken_down')", name="outcome"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"), index=True)
    code: Mapped[str] = mapped_column(String(32))
    words: Mapped[str | None] = mapped_column(Text)
    reported_at: Mapped[datetime] = mapped_column(UtcDateTime)
    outcome: Mapped[str | None] = mapped_column(String(16))
    told: Mapped[str | None] = mapped_column(Text)
    """What its reporter is told besides the outcome."""
    moderator_id: Mapped[int | None] = mapped_column(ForeignKey("moderators.id"))
    closed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Outgoing(Base):
    """A mail or a webhook's message on its way out, each sent once at most (SECURITY, section 8)."""

    __tablename__ = "outgoing"
    __table_args__ = (
        Index("ix_outgoing_state_id", "state", "id"),
        CheckConstraint("way IN ('mail', 'webhook')", name="way"),
        CheckConstraint("state IN ('unsent', 'trying', 'sent', 'refused')", name="state"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    way: Mapped[str] = mapped_column(String(8))
    once: Mapped[str] = mapped_column(String(160), unique=True)
    """What it is about and for whom, by ids: the same is not put here twice."""
    comment_id: Mapped[int | None] = mapped_column(ForeignKey("comments.id"), index=True)
    """The letter that it tells of, so that erasure finds it."""
    address_id: Mapped[int | None] = mapped_column(ForeignKey("addresses.id"), index=True)
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    """Address and text, encrypted under the site's key; emptied when it was sent or given up."""
    state: Mapped[str] = mapped_column(String(8))
    attempts: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[float | None] = mapped_column(Float)
    """Seconds since 1970 by the database's clock."""
    why: Mapped[str | None] = mapped_column(Text)
    """For admins: why it was refused, without address or words."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class HouseRule(Base):
    """What an admin decided for the whole desk, such as that everyone signs in with a second factor."""

    __tablename__ = "house_rules"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[str] = mapped_column(String(200))
    moderator_id: Mapped[int] = mapped_column(ForeignKey("moderators.id"))
    since: Mapped[datetime] = mapped_column(UtcDateTime)


# Flask-Security's mixins look for classes of these names, and for the table names set before they are defined.
sqla.FsModels.set_db_info(  # type: ignore[no-untyped-call]
    base_model=Base, user_table_name="users", role_table_name="roles", refresh_table_name="refresh_trackers"
)


class Role(Base, sqla_v2.FsRoleMixin):
    """A role of Flask-Security's: moderator or admin."""

    __tablename__ = "roles"


class FsRefreshTracker(Base, sqla_v2.FsRefreshTrackerMixin):
    """A refresh token's trail, which Flask-Security's user refers to."""

    __tablename__ = "refresh_trackers"


class User(Base, sqla_v2.FsUserMixin):
    """How a moderator signs in. The gate knows only the moderator it points to."""

    __tablename__ = "users"

    moderator_id: Mapped[int] = mapped_column(ForeignKey("moderators.id"), unique=True)
    totp_counter: Mapped[int | None] = mapped_column()
    """The time step of the last code that was accepted: none is taken twice (SECURITY, R4)."""
    told: Mapped[str] = mapped_column(String(8), server_default="never")
    """How often they are written to about what waits: never, at_once, hourly or daily."""
    told_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    shortcuts: Mapped[bool] = mapped_column(server_default=true())
    """Whether the desk listens to single keys (WCAG 2.1.4)."""


class WebAuthn(Base, sqla_v2.FsWebAuthnMixin):
    """A passkey."""

    __tablename__ = "webauthn"
