"""The vault's tables. Private to `moderation`: everyone else asks the gate, the queue and release."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, String, Text, event
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.schema import Table

from moderation import writeonce
from moderation.base import Base, UtcDateTime
from moderation.digest import commitment
from moderation.types import Digest, Kind

# Keys of the vault are Integer: SQLite takes nothing wider for a rowid, and REPLACE could reach the hidden
# rowid of a table whose key is text.


class ModeratorRow(Base):
    """A person who decides. How they sign in is the site's affair."""

    __tablename__ = "moderators"
    __table_args__ = (CheckConstraint("role IN ('moderator', 'admin')", name="role"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Submission(Base):
    """Words as they reached the gate. Write-once; erasure empties body, author and nonce together."""

    __tablename__ = "submissions"
    __table_args__ = (
        CheckConstraint("id > 0", name="id"),
        CheckConstraint("kind IN ('essay', 'comment', 'reply')", name="kind"),
        CheckConstraint(
            "(nonce IS NULL) = (author IS NULL) AND (author IS NULL) = (body IS NULL)", name="erased_together"
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    kind: Mapped[str] = mapped_column(String(8))
    nonce: Mapped[str | None] = mapped_column(String(32))
    author: Mapped[str | None] = mapped_column(Text)
    body: Mapped[str | None] = mapped_column(Text)
    in_answer_to: Mapped[str | None] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    supersedes: Mapped[int | None] = mapped_column(ForeignKey("submissions.id"), unique=True)
    submitted_at: Mapped[datetime] = mapped_column(UtcDateTime)

    def recomputed(self) -> Digest | None:
        """Return the commitment to the words as they are stored now, or None if they were erased."""
        if self.nonce is None or self.author is None or self.body is None:
            return None
        return commitment(
            kind=Kind(self.kind),
            nonce=self.nonce,
            author=self.author,
            in_answer_to=Digest(self.in_answer_to) if self.in_answer_to else None,
            body=self.body,
        )


class Waiting(Base):
    """One row for each undecided submission, gone in the transaction of its decision, supersession or withdrawal."""

    __tablename__ = "waiting"
    __table_args__ = (
        Index("ix_waiting_kind", "kind", "submission_id"),
        Index("ix_waiting_essay", "essay", "submission_id"),
        Index("ix_waiting_tray", "tray", "submission_id"),
        Index("ix_waiting_voice", "voice", "submission_id"),
        Index("ix_waiting_hold_id", "hold_id", "submission_id"),
    )

    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"), primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(8))
    essay: Mapped[int | None] = mapped_column(ForeignKey("submissions.id"))
    tray: Mapped[str] = mapped_column(String(16))
    proposal_id: Mapped[int | None] = mapped_column(ForeignKey("proposals.id"))
    voice: Mapped[int | None] = mapped_column()
    """Whose essay it stands under, by the site's number: the vault knows no voices."""
    # No foreign key, here and in Withdrawal: SQLite can add none to a table that stands.
    hold_id: Mapped[int | None] = mapped_column()


class Hold(Base):
    """One moderator's wish for a second reader. No verdict, and nothing of the vault."""

    __tablename__ = "holds"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"), index=True)
    moderator_id: Mapped[int] = mapped_column(ForeignKey("moderators.id"))
    held_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Decision(Base):
    """The one verdict on a submission; its key is the submission. Write-once."""

    __tablename__ = "decisions"
    __table_args__ = (
        CheckConstraint("submission_id > 0", name="submission_id"),
        CheckConstraint("verdict IN ('approve', 'reject')", name="verdict"),
        CheckConstraint("(verdict = 'reject') = (reason_code IS NOT NULL)", name="reason_code"),
    )

    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"), primary_key=True, autoincrement=False)
    verdict: Mapped[str] = mapped_column(String(8))
    moderator_id: Mapped[int] = mapped_column(ForeignKey("moderators.id"))
    decided_at: Mapped[datetime] = mapped_column(UtcDateTime)
    digest_seen: Mapped[str] = mapped_column(String(64))
    reason_code: Mapped[str | None] = mapped_column(String(32))
    reason_digest: Mapped[str | None] = mapped_column(String(64))
    proposal_id: Mapped[int | None] = mapped_column(ForeignKey("proposals.id"))


class ProposalRow(Base):
    """The first half of a veto, or of taking down a model's words. Write-once: what became of it the ledger tells."""

    __tablename__ = "proposals"
    __table_args__ = (CheckConstraint("id > 0", name="id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"), index=True)
    moderator_id: Mapped[int] = mapped_column(ForeignKey("moderators.id"))
    proposed_at: Mapped[datetime] = mapped_column(UtcDateTime)
    lapses_at: Mapped[datetime] = mapped_column(UtcDateTime)
    digest_seen: Mapped[str] = mapped_column(String(64))
    reason_code: Mapped[str] = mapped_column(String(32))
    reason_digest: Mapped[str] = mapped_column(String(64))
    proposes: Mapped[str] = mapped_column(String(10), server_default="veto")
    """"veto", of pending words, or "withdrawal", of released ones."""


class OpenTakedown(Base):
    """Released words that a moderator proposed to take down, until a second one agrees or not, or it lapses."""

    __tablename__ = "open_takedowns"

    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"), primary_key=True, autoincrement=False)
    proposal_id: Mapped[int] = mapped_column(ForeignKey("proposals.id"))


class Withdrawal(Base):
    """The taking back of words, pending or released. Write-once."""

    __tablename__ = "withdrawals"
    __table_args__ = (
        CheckConstraint("submission_id > 0", name="submission_id"),
        CheckConstraint("taken_back_by IN ('author', 'operator', 'law')", name="taken_back_by"),
    )

    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"), primary_key=True, autoincrement=False)
    taken_back_by: Mapped[str] = mapped_column(String(8))
    moderator_id: Mapped[int | None] = mapped_column(ForeignKey("moderators.id"))
    withdrawn_at: Mapped[datetime] = mapped_column(UtcDateTime)
    reason_code: Mapped[str | None] = mapped_column(String(32))
    reason_digest: Mapped[str | None] = mapped_column(String(64))
    proposal_id: Mapped[int | None] = mapped_column()


class Erasure(Base):
    """When the words of a withdrawn submission were erased: the row that the triggers ask for. Write-once."""

    __tablename__ = "erasures"
    __table_args__ = (CheckConstraint("submission_id > 0", name="submission_id"),)

    submission_id: Mapped[int] = mapped_column(
        ForeignKey("withdrawals.submission_id"), primary_key=True, autoincrement=False
    )
    erased_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ReasonRow(Base):
    """The free text of a decision or proposal, apart from the record so that erasure can empty it."""

    __tablename__ = "reasons"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"), index=True)
    proposal_id: Mapped[int | None] = mapped_column(ForeignKey("proposals.id"), unique=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    salt: Mapped[str | None] = mapped_column(String(32))
    reason: Mapped[str | None] = mapped_column(Text)
    told: Mapped[str | None] = mapped_column(Text)


class AppealRow(Base):
    """What the author of a rejected comment said for it when it came to the gate again, as the submission named."""

    __tablename__ = "appeals"

    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"), primary_key=True, autoincrement=False)
    words: Mapped[str | None] = mapped_column(Text)
    appealed_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SecondReading(Base):
    """An approval that another moderator is shown blind, and what they would have done. It changes nothing."""

    __tablename__ = "second_readings"
    __table_args__ = (
        Index("ix_second_readings_read_at", "read_at", "submission_id"),
        CheckConstraint("verdict IN ('approve', 'reject')", name="verdict"),
    )

    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"), primary_key=True, autoincrement=False)
    asked_at: Mapped[datetime] = mapped_column(UtcDateTime)
    moderator_id: Mapped[int | None] = mapped_column(ForeignKey("moderators.id"))
    verdict: Mapped[str | None] = mapped_column(String(8))
    reason_code: Mapped[str | None] = mapped_column(String(32))
    read_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class LedgerEntry(Base):
    """One link of the chain: the canonical bytes that were hashed, as text. Write-once."""

    __tablename__ = "ledger"
    __table_args__ = (CheckConstraint("number > 0", name="number"), {"sqlite_autoincrement": True})

    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    previous: Mapped[str] = mapped_column(String(64), unique=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    entry: Mapped[str] = mapped_column(Text)


class LedgerHead(Base):
    """Which entry is the newest, kept apart from the chain: what is cut off its end, or added by hand, is missed."""

    __tablename__ = "ledger_head"
    __table_args__ = (CheckConstraint("id = 1", name="one"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(Integer)
    digest: Mapped[str] = mapped_column(String(64))


@event.listens_for(Base.metadata, "after_create")
def _create_triggers(_metadata: object, connection: Connection, tables: list[Table] | None = None, **_: object) -> None:
    """Give `create_all` the migration's triggers, so that a schema made either way is the same."""
    if tables and "submissions" in {table.name for table in tables}:
        for statement in writeonce.statements(connection.dialect.name):
            connection.exec_driver_sql(statement)
