"""The desk: holds, claims, signals, reports, appeals, second readings, passkeys, budgets, and what is to be sent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the desk's tables and columns; the write-once triggers stay as they are."""
    op.create_table(
        "ledger_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_ledger_head_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_head")),
    )
    op.execute(
        "INSERT INTO ledger_head (id, number, digest) SELECT 1, number, digest FROM ledger ORDER BY number DESC LIMIT 1"
    )
    op.create_table(
        "outgoing",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("way", sa.String(length=8), nullable=False),
        sa.Column("once", sa.String(length=160), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('unsent', 'trying', 'sent', 'refused')", name=op.f("ck_outgoing_state")),
        sa.CheckConstraint("way IN ('mail', 'webhook')", name=op.f("ck_outgoing_way")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outgoing")),
        sa.UniqueConstraint("once", name=op.f("uq_outgoing_once")),
    )
    op.create_index("ix_outgoing_state_id", "outgoing", ["state", "id"], unique=False)
    op.create_table(
        "appeals",
        sa.Column("submission_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("words", sa.Text(), nullable=True),
        sa.Column("appealed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submissions.id"], name=op.f("fk_appeals_submission_id_submissions")
        ),
        sa.PrimaryKeyConstraint("submission_id", name=op.f("pk_appeals")),
    )
    op.create_table(
        "charters",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("voice_id", sa.Integer(), nullable=False),
        sa.Column("charter", sa.Text(), nullable=False),
        sa.Column("moderator_id", sa.Integer(), nullable=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["moderator_id"], ["moderators.id"], name=op.f("fk_charters_moderator_id_moderators")),
        sa.ForeignKeyConstraint(["voice_id"], ["voices.id"], name=op.f("fk_charters_voice_id_voices")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_charters")),
    )
    op.create_index(op.f("ix_charters_voice_id"), "charters", ["voice_id"], unique=False)
    op.create_table(
        "claims",
        sa.Column("submission_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("moderator_id", sa.Integer(), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["moderator_id"], ["moderators.id"], name=op.f("fk_claims_moderator_id_moderators")),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submissions.id"], name=op.f("fk_claims_submission_id_submissions")
        ),
        sa.PrimaryKeyConstraint("submission_id", name=op.f("pk_claims")),
    )
    op.create_index(op.f("ix_claims_moderator_id"), "claims", ["moderator_id"], unique=False)
    op.create_table(
        "holds",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("submission_id", sa.Integer(), nullable=False),
        sa.Column("moderator_id", sa.Integer(), nullable=False),
        sa.Column("held_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["moderator_id"], ["moderators.id"], name=op.f("fk_holds_moderator_id_moderators")),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name=op.f("fk_holds_submission_id_submissions")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_holds")),
    )
    op.create_index(op.f("ix_holds_submission_id"), "holds", ["submission_id"], unique=False)
    op.create_table(
        "house_rules",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.String(length=200), nullable=False),
        sa.Column("moderator_id", sa.Integer(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["moderator_id"], ["moderators.id"], name=op.f("fk_house_rules_moderator_id_moderators")
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_house_rules")),
    )
    op.create_table(
        "listed_words",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("word", sa.String(length=80), nullable=False),
        sa.Column("skeleton", sa.String(length=320), nullable=False),
        sa.Column("moderator_id", sa.Integer(), nullable=False),
        sa.Column("listed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["moderator_id"], ["moderators.id"], name=op.f("fk_listed_words_moderator_id_moderators")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_listed_words")),
        sa.UniqueConstraint("skeleton", name=op.f("uq_listed_words_skeleton")),
    )
    op.create_table(
        "reports",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("submission_id", sa.Integer(), nullable=False),
        sa.Column("code", sa.String(length=32), nullable=False),
        sa.Column("words", sa.Text(), nullable=True),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("told", sa.Text(), nullable=True),
        sa.Column("moderator_id", sa.Integer(), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("outcome IN ('kept', 'taken_down')", name=op.f("ck_reports_outcome")),
        sa.ForeignKeyConstraint(["moderator_id"], ["moderators.id"], name=op.f("fk_reports_moderator_id_moderators")),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submissions.id"], name=op.f("fk_reports_submission_id_submissions")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reports")),
    )
    op.create_index("ix_reports_closed_at", "reports", ["closed_at", "id"], unique=False)
    op.create_index(op.f("ix_reports_submission_id"), "reports", ["submission_id"], unique=False)
    op.create_table(
        "second_readings",
        sa.Column("submission_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("moderator_id", sa.Integer(), nullable=True),
        sa.Column("verdict", sa.String(length=8), nullable=True),
        sa.Column("reason_code", sa.String(length=32), nullable=True),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("verdict IN ('approve', 'reject')", name=op.f("ck_second_readings_verdict")),
        sa.ForeignKeyConstraint(
            ["moderator_id"], ["moderators.id"], name=op.f("fk_second_readings_moderator_id_moderators")
        ),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submissions.id"], name=op.f("fk_second_readings_submission_id_submissions")
        ),
        sa.PrimaryKeyConstraint("submission_id", name=op.f("pk_second_readings")),
    )
    op.create_index("ix_second_readings_read_at", "second_readings", ["read_at", "submission_id"], unique=False)
    op.create_table(
        "signals",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("submission_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("strong", sa.Boolean(), nullable=False),
        sa.Column("noticed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submissions.id"], name=op.f("fk_signals_submission_id_submissions")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signals")),
        sa.UniqueConstraint("submission_id", "name", name=op.f("uq_signals_submission_id_name")),
    )
    op.create_index("ix_signals_name_submission_id", "signals", ["name", "submission_id"], unique=False)
    op.create_table(
        "open_takedowns",
        sa.Column("submission_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("proposal_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["proposal_id"], ["proposals.id"], name=op.f("fk_open_takedowns_proposal_id_proposals")
        ),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submissions.id"], name=op.f("fk_open_takedowns_submission_id_submissions")
        ),
        sa.PrimaryKeyConstraint("submission_id", name=op.f("pk_open_takedowns")),
    )
    op.create_table(
        "webauthn",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("credential_id", sa.LargeBinary(length=1024), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("sign_count", sa.Integer(), nullable=True),
        sa.Column("transports", sa.UnicodeText(), nullable=True),
        sa.Column("backup_state", sa.Boolean(), nullable=False),
        sa.Column("device_type", sa.String(length=64), nullable=False),
        sa.Column("extensions", sa.String(length=255), nullable=True),
        sa.Column("create_datetime", sa.DateTime(), server_default=sa.func.now(), nullable=False),
        sa.Column("lastuse_datetime", sa.DateTime(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("usage", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_webauthn_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webauthn")),
    )
    op.create_index(op.f("ix_webauthn_credential_id"), "webauthn", ["credential_id"], unique=True)
    op.add_column("essays", sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("essays", sa.Column("closed_why", sa.Text(), nullable=True))
    op.create_index("ix_generations_voice_id_started_at", "generations", ["voice_id", "started_at"], unique=False)
    op.add_column("generations", sa.Column("reserved", sa.Integer(), nullable=True))
    op.add_column("proposals", sa.Column("proposes", sa.String(length=10), server_default="veto", nullable=False))
    op.add_column("users", sa.Column("totp_counter", sa.Integer(), nullable=True))
    op.add_column("users", sa.Column("told", sa.String(length=8), server_default="never", nullable=False))
    op.add_column("users", sa.Column("told_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("users", sa.Column("shortcuts", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.add_column("voices", sa.Column("cost_a_day", sa.Integer(), nullable=True))
    op.add_column("voices", sa.Column("cost_a_month", sa.Integer(), nullable=True))
    op.add_column("voices", sa.Column("replies_a_day", sa.Integer(), nullable=True))
    op.add_column("voices", sa.Column("replies_a_month", sa.Integer(), nullable=True))
    op.add_column("waiting", sa.Column("voice", sa.Integer(), nullable=True))
    op.add_column("waiting", sa.Column("hold_id", sa.Integer(), nullable=True))
    op.create_index("ix_waiting_hold_id", "waiting", ["hold_id", "submission_id"], unique=False)
    op.create_index("ix_waiting_voice", "waiting", ["voice", "submission_id"], unique=False)
    # What waits now gets its voice: an essay's own, or that of the essay it stands under.
    op.execute(
        "UPDATE waiting SET voice = (SELECT voice_id FROM essays "
        "WHERE essays.submission_id = coalesce(waiting.essay, waiting.submission_id))"
    )
    op.add_column("withdrawals", sa.Column("reason_code", sa.String(length=32), nullable=True))
    op.add_column("withdrawals", sa.Column("reason_digest", sa.String(length=64), nullable=True))
    op.add_column("withdrawals", sa.Column("proposal_id", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Refuse: words and decisions are not taken apart."""
    raise NotImplementedError("The vault has no way back; restore a backup instead.")
