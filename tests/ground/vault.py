"""A vault to test with: moderators, a released essay, and the gate's doors, each in a transaction of its own."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from types import SimpleNamespace

from sqlalchemy import Connection, Table, select, text
from sqlalchemy.orm import Session

from bridge.db import Database
from moderation import gate, ledger, moderators, release
from moderation.base import Base
from moderation.errors import Refused
from moderation.records import Submission
from moderation.types import Digest, Kind, Rejection, Released, State, SubmissionId
from moderation.writeonce import VAULT, statements

LONG = "It would tell a reader where a private person lives."
"""A reason that is long enough for a veto's proposal."""


class Vault:
    """A migrated database with three moderators and one released essay."""

    def __init__(self, database: Database, *, people: str = "") -> None:
        """Add the moderators, their names prefixed by *people*, and the essay."""
        self.database = database
        with self.database.sessions.begin() as session:
            self.people = [moderators.add(session, people + name, "moderator") for name in ("Ada", "Ben", "Cleo")]
            self.essay = gate.submit(session, Kind.ESSAY, author="Understudy", body="# On rest\n\nI rest.")
        self.approve(self.essay)

    def comment(self, body: str = "Do you dream?", *, supersedes: SubmissionId | None = None) -> SubmissionId:
        """Submit a comment under the essay."""
        with self.database.sessions.begin() as session:
            return gate.submit(
                session,
                Kind.COMMENT,
                author="Reader",
                body=body,
                in_answer_to=self.essay,
                essay=self.essay,
                supersedes=supersedes,
            )

    def reply(self, body: str = "I do not.", *, to: SubmissionId | None = None) -> SubmissionId:
        """Submit a reply, to a comment that is released for it unless *to* is one."""
        if to is None:
            to = self.comment()
            self.approve(to)
        with self.database.sessions.begin() as session:
            return gate.submit(session, Kind.REPLY, author="Understudy", body=body, in_answer_to=to, essay=self.essay)

    def digest(self, submission_id: int) -> Digest:
        """Return the digest that is stored."""
        with self.database.reading_sessions() as session:
            return Digest(session.scalars(select(Submission.digest).where(Submission.id == submission_id)).one())

    def approve(self, submission_id: int, *, by: int = 0, seen: Digest | None = None) -> None:
        """Approve as moderator number *by*, having seen what is stored."""
        seen = seen or self.digest(submission_id)
        with self.database.sessions.begin() as session:
            gate.approve(session, submission_id, moderator=self.people[by], seen=seen)

    def reject(
        self,
        submission_id: int,
        *,
        by: int = 0,
        seen: Digest | None = None,
        code: str = "personal_data",
        reason: str | None = LONG,
        told: str | None = None,
        quorum: int = 2,
        lapse: timedelta = gate.VETO_LAPSE,
    ) -> Rejection:
        """Reject as moderator number *by*, having seen what is stored."""
        seen = seen or self.digest(submission_id)
        with self.database.sessions.begin() as session:
            return gate.reject(
                session,
                submission_id,
                moderator=self.people[by],
                seen=seen,
                code=code,
                reason=reason,
                told=told,
                quorum=quorum,
                lapse=lapse,
            )

    def withdraw(self, submission_id: int, by: str = "author") -> None:
        """Take words back."""
        with self.database.sessions.begin() as session:
            gate.withdraw(session, submission_id, by=by)

    def erase(self, submission_id: int) -> None:
        """Empty withdrawn words."""
        with self.database.sessions.begin() as session:
            gate.erase(session, submission_id)

    def state(self, submission_id: int) -> State:
        """Return how a submission stands."""
        with self.database.reading_sessions() as session:
            return release.standing(session, [submission_id])[submission_id].state

    def released(self, *submission_ids: int) -> dict[int, Released]:
        """Return the approved among some submissions."""
        with self.database.reading_sessions() as session:
            return release.released(session, submission_ids)

    def verify(self) -> ledger.Broken | None:
        """Return what does not hold in the ledger, if anything."""
        with self.database.reading_sessions() as session:
            return ledger.verify(session)[1]

    def told(self) -> list[str]:
        """Return the types of the ledger's entries, in order."""
        with self.database.reading_sessions() as session:
            return [str(json.loads(entry.entry)["type"]) for entry in ledger.entries(session)]

    def live(self) -> SimpleNamespace:
        """Let everything happen once, so that each table of the vault has two rows or more; return who is who."""
        us = SimpleNamespace(essay=self.essay)
        us.older = self.comment("First thouhgts.")
        us.comment = self.comment("First thoughts.", supersedes=us.older)
        self.approve(us.comment)
        us.reply = self.reply("Second thoughts.", to=us.comment)
        self.reject(us.reply, by=0, reason=LONG)
        self.approve(us.reply, by=1)
        us.vetoed = self.reply()
        self.reject(us.vetoed, by=0)
        self.reject(us.vetoed, by=1, reason=None, told="Another time.")
        us.lapsed = self.reply()
        self.reject(us.lapsed, lapse=timedelta(0))
        self.approve(us.lapsed, by=2)
        us.rejected = self.comment("Buy pills.")
        self.reject(us.rejected, code="spam", reason=None, told="No advertising, please.")
        us.withdrawn = self.comment("I take this back.")
        self.withdraw(us.withdrawn)
        us.first_erased = self.comment("My name is Bob Smth.")
        us.erased = self.comment("My name is Bob Smith.", supersedes=us.first_erased)
        self.approve(us.erased)
        self.withdraw(us.erased, by="law")
        self.erase(us.erased)
        us.pending = self.comment("Are you there?")
        us.proposed = self.reply("Here I am.")
        self.reject(us.proposed)
        return us


def tables() -> list[Table]:
    """Return the write-once tables."""
    return [Base.metadata.tables[name] for name in VAULT]


def contents(connection: Connection) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of the write-once tables."""
    return {
        table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))]
        for table in tables()
    }


def unlock(connection: Connection) -> None:
    """Take the walls down, as only an owner can, for this transaction: triggers, foreign keys and checks."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        connection.exec_driver_sql("PRAGMA ignore_check_constraints=ON")
        for statement in statements("sqlite"):
            connection.exec_driver_sql(f"DROP TRIGGER {statement.split()[2]}")
        return
    for table in [*VAULT, "waiting", "reasons"]:
        connection.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
    checks = "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'c' AND conname LIKE 'ck_%'"
    for table, check in connection.execute(text(checks)).all():
        connection.exec_driver_sql(f'ALTER TABLE {table} DROP CONSTRAINT "{check}"')


def verified(connection: Connection) -> ledger.Broken | None:
    """Return what the ledger finds wrong in the open transaction of *connection*."""
    with Session(connection, join_transaction_mode="create_savepoint") as session:
        return ledger.verify(session)[1]


def at_once(*acts: Callable[[], object]) -> list[object]:
    """Start each act in a thread of its own, all at one moment; return what came of each, refusals too."""
    barrier = Barrier(len(acts))

    def when_all_are_ready(act: Callable[[], object]) -> object:
        barrier.wait(30)
        try:
            return act()
        except Refused as refusal:
            return refusal

    with ThreadPoolExecutor(len(acts)) as threads:
        return list(threads.map(when_all_are_ready, acts))
