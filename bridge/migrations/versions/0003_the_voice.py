"""The voice: how it is reached, paced and asked; what it chose; batches; whole records of its calls."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the voice's tables and columns; the write-once triggers stay as they are."""
    op.create_table(
        "prefixes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("recipe", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prefixes")),
        sa.UniqueConstraint("digest", name=op.f("uq_prefixes_digest")),
    )
    op.create_table(
        "batches",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("voice_id", sa.Integer(), nullable=False),
        sa.Column("essay_id", sa.Integer(), nullable=False),
        sa.Column("lease", sa.String(length=32), nullable=False),
        sa.Column("remote_id", sa.String(length=120), nullable=True),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["essay_id"], ["essays.id"], name=op.f("fk_batches_essay_id_essays")),
        sa.ForeignKeyConstraint(["voice_id"], ["voices.id"], name=op.f("fk_batches_voice_id_voices")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
        sa.UniqueConstraint("lease", name=op.f("uq_batches_lease")),
        sa.UniqueConstraint("remote_id", name=op.f("uq_batches_remote_id")),
    )
    op.create_index("ix_batches_state_id", "batches", ["state", "id"], unique=False)
    op.create_table(
        "showings",
        sa.Column("generation_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("comment_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("chosen", sa.Boolean(), nullable=True),
        sa.ForeignKeyConstraint(["comment_id"], ["comments.id"], name=op.f("fk_showings_comment_id_comments")),
        sa.ForeignKeyConstraint(
            ["generation_id"], ["generations.id"], name=op.f("fk_showings_generation_id_generations")
        ),
        sa.PrimaryKeyConstraint("generation_id", "comment_id", name=op.f("pk_showings")),
    )
    op.create_index(op.f("ix_showings_comment_id"), "showings", ["comment_id"], unique=False)

    columns: list[tuple[str, sa.types.TypeEngine[Any], str | None]] = [
        ("replies_a_reader", sa.Integer(), None),
        ("replies_a_thread", sa.Integer(), None),
        ("answering", sa.String(length=8), "each"),
        ("calls", sa.String(length=8), "live"),
        ("depth", sa.Integer(), "10"),
        ("memory_tokens", sa.Integer(), "6000"),
        ("endpoint", sa.String(length=16), "anthropic"),
        ("base_url", sa.Text(), None),
        ("key_name", sa.String(length=80), None),
        ("endpoint_options", sa.JSON(), None),
        ("calls_at_once", sa.Integer(), None),
        ("requests_a_minute", sa.Integer(), None),
        ("input_tokens_a_minute", sa.Integer(), None),
        ("output_tokens_a_minute", sa.Integer(), None),
        ("ways_changed_at", sa.DateTime(timezone=True), None),
    ]
    for name, kind, default in columns:
        op.add_column("voices", sa.Column(name, kind, server_default=default, nullable=default is None))

    op.add_column("reply_requests", sa.Column("chosen_at", sa.DateTime(timezone=True), nullable=True))

    for name, table in (("essay_id", "essays"), ("prefix_id", "prefixes"), ("batch_id", "batches")):
        # By hand: Alembic adds a constraint either without its name, or in a statement that SQLite does not have.
        named = op.f(f"fk_generations_{name}_{table}")
        op.execute(f"ALTER TABLE generations ADD COLUMN {name} INTEGER CONSTRAINT {named} REFERENCES {table} (id)")
    columns = [
        ("purpose", sa.String(length=8), "reply"),
        ("custom_id", sa.String(length=64), None),
        ("status", sa.Integer(), None),
        ("error_type", sa.String(length=80), None),
        ("error_code", sa.String(length=80), None),
        ("cache_write_hour_tokens", sa.Integer(), None),
        ("price", sa.JSON(), None),
        ("seconds", sa.Float(), None),
    ]
    for name, kind, default in columns:
        op.add_column("generations", sa.Column(name, kind, server_default=default, nullable=default is None))
    op.execute(
        "UPDATE generations SET essay_id = (SELECT essay_id FROM comments WHERE comments.id = generations.comment_id)"
    )
    op.create_index(op.f("ix_generations_batch_id"), "generations", ["batch_id"], unique=False)
    op.create_index("ix_generations_essay_id_started_at", "generations", ["essay_id", "started_at"], unique=False)


def downgrade() -> None:
    """Refuse: words and decisions are not taken apart."""
    raise NotImplementedError("The vault has no way back; restore a backup instead.")
