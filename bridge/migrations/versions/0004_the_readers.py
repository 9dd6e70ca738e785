"""The readers: where a letter stands, whom to tell of it, stored pages, what is kept out, mentions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_LETTERS_A_PAGE = 50


def upgrade() -> None:
    """Add the readers' tables and columns; the write-once triggers stay as they are."""
    op.create_table(
        "addresses",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("language", sa.String(length=16), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("asks", sa.Integer(), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_addresses")),
        sa.UniqueConstraint("digest", name=op.f("uq_addresses_digest")),
    )
    op.create_table(
        "used_links",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_used_links")),
    )
    op.create_table(
        "passing_keys",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_passing_keys")),
    )
    op.create_table(
        "blocks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("what", sa.String(length=8), nullable=False),
        sa.Column("value", sa.String(length=320), nullable=False),
        sa.Column("look", sa.String(length=320), nullable=False),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("moderator_id", sa.Integer(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("what IN ('network', 'domain', 'word')", name=op.f("ck_blocks_what")),
        sa.ForeignKeyConstraint(["moderator_id"], ["moderators.id"], name=op.f("fk_blocks_moderator_id_moderators")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blocks")),
        sa.UniqueConstraint("what", "look", name=op.f("uq_blocks_what_look")),
    )
    op.create_table(
        "stored_pages",
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("essay_id", sa.Integer(), nullable=False),
        sa.Column("page", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("etag", sa.String(length=80), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["essay_id"], ["essays.id"], name=op.f("fk_stored_pages_essay_id_essays")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_stored_pages")),
    )
    op.create_index("ix_stored_pages_essay_id_page", "stored_pages", ["essay_id", "page"], unique=False)
    op.create_table(
        "stored_letters",
        sa.Column("essay_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("page", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("language", sa.String(length=16), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("deflated", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["essay_id"], ["essays.id"], name=op.f("fk_stored_letters_essay_id_essays")),
        sa.PrimaryKeyConstraint("essay_id", "page", "language", name=op.f("pk_stored_letters")),
    )
    op.create_table(
        "mentions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("essay_id", sa.Integer(), nullable=False),
        sa.Column("way", sa.String(length=4), nullable=False),
        sa.Column("source", sa.String(length=1000), nullable=False),
        sa.Column("target", sa.String(length=1000), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=True),
        sa.Column("comment_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("way IN ('in', 'out')", name=op.f("ck_mentions_way")),
        sa.CheckConstraint("state IN ('waiting', 'done', 'refused')", name=op.f("ck_mentions_state")),
        sa.ForeignKeyConstraint(["comment_id"], ["comments.id"], name=op.f("fk_mentions_comment_id_comments")),
        sa.ForeignKeyConstraint(["essay_id"], ["essays.id"], name=op.f("fk_mentions_essay_id_essays")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mentions")),
        sa.UniqueConstraint("essay_id", "way", "source", "target", name=op.f("uq_mentions_essay_id_way_source_target")),
    )
    op.create_index(op.f("ix_mentions_comment_id"), "mentions", ["comment_id"], unique=False)
    op.create_index("ix_mentions_state_id", "mentions", ["state", "id"], unique=False)

    op.add_column("voices", sa.Column("about", sa.Text(), nullable=True))
    op.add_column("essays", sa.Column("embed_parents", sa.Text(), nullable=True))
    op.add_column("comments", sa.Column("place", sa.Integer(), nullable=True))
    op.add_column("comments", sa.Column("page", sa.Integer(), nullable=True))
    op.add_column("comments", sa.Column("passage", sa.Text(), nullable=True))
    op.add_column("comments", sa.Column("passage_block", sa.Integer(), nullable=True))
    op.add_column("comments", sa.Column("language", sa.String(length=16), nullable=True))
    for table, name, other in (
        ("comments", "address_id", "addresses"),
        ("outgoing", "address_id", "addresses"),
        ("outgoing", "comment_id", "comments"),
    ):
        # By hand: Alembic adds a constraint either without its name, or in a statement that SQLite does not have.
        named = op.f(f"fk_{table}_{name}_{other}")
        op.execute(f"ALTER TABLE {table} ADD COLUMN {name} INTEGER CONSTRAINT {named} REFERENCES {other} (id)")
        op.create_index(op.f(f"ix_{table}_{name}"), table, [name], unique=False)
    _give_places()
    op.create_index("ix_comments_essay_id_place", "comments", ["essay_id", "place"], unique=True)
    op.create_index("ix_comments_essay_id_page", "comments", ["essay_id", "page"], unique=False)


def _give_places() -> None:
    """Give every letter that was ever posted its place, in the order they came, and a page by it.

    What is written in answer stands on the page of what it answers, as long as that page has room.
    """
    posted = (
        op.get_bind()
        .execute(
            sa.text(
                "SELECT c.id, c.essay_id, r.comment_id FROM comments c"
                " JOIN decisions d ON d.submission_id = c.submission_id AND d.verdict = 'approve'"
                " LEFT JOIN replies r ON r.id = c.parent_id ORDER BY c.essay_id, c.id"
            )
        )
        .all()
    )
    places: dict[int, int] = {}
    pages: dict[int, int] = {}
    held: dict[tuple[int, int], int] = {}
    newest: dict[int, int] = {}
    for comment, essay, above in posted:
        places[essay] = places.get(essay, 0) + 1
        page = pages.get(above, 0)
        if page == 0 or held[essay, page] >= 2 * _LETTERS_A_PAGE:
            page = newest.get(essay, 1)
            if held.get((essay, page), 0) >= _LETTERS_A_PAGE:
                page += 1
            newest[essay] = page
        pages[comment] = page
        held[essay, page] = held.get((essay, page), 0) + 1
        op.get_bind().execute(
            sa.text("UPDATE comments SET place = :place, page = :page WHERE id = :comment"),
            {"place": places[essay], "page": page, "comment": comment},
        )


def downgrade() -> None:
    """Refuse: words and decisions are not taken apart."""
    raise NotImplementedError("The vault has no way back; restore a backup instead.")
