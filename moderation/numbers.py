"""What was decided, as numbers by month: never a word, and withdrawn and erased submissions still count."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Float, Select, String, Subquery, case, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ColumnElement, FunctionElement

from moderation.records import AppealRow, Decision, Submission, Waiting, Withdrawal
from moderation.types import Kind, State, Verdict

Group = int
"""Whatever the caller counts by: the vault knows no voices."""
Month = str
"""In UTC, as "2026-11"."""


class month_of(FunctionElement[str]):
    """The month of a time, in UTC, as "2026-11"."""

    type = String()
    inherit_cache = True


@compiles(month_of, "sqlite")
def _sqlite_month(element: month_of, compiler: SQLCompiler, **how: Any) -> str:
    return f"substr({compiler.process(element.clauses, **how)}, 1, 7)"  # Times are kept as text, in UTC.


@compiles(month_of, "postgresql")
def _postgresql_month(element: month_of, compiler: SQLCompiler, **how: Any) -> str:
    return f"to_char({compiler.process(element.clauses, **how)} AT TIME ZONE 'UTC', 'YYYY-MM')"


class seconds_between(FunctionElement[float]):
    """The seconds from one time to another."""

    type = Float()
    inherit_cache = True


@compiles(seconds_between, "sqlite")
def _sqlite_seconds(element: seconds_between, compiler: SQLCompiler, **how: Any) -> str:
    begin, end = (compiler.process(each, **how) for each in element.clauses)
    return f"((julianday({end}) - julianday({begin})) * 86400.0)"


@compiles(seconds_between, "postgresql")
def _postgresql_seconds(element: seconds_between, compiler: SQLCompiler, **how: Any) -> str:
    begin, end = (compiler.process(each, **how) for each in element.clauses)
    return f"extract(epoch FROM {end} - {begin})::double precision"


@dataclass(frozen=True, slots=True)
class Appeals:
    """What came of the appeals of authors of rejected comments."""

    granted: int
    refused: int
    withdrawn: int

    @property
    def ended(self) -> int:
        """Those that came to something. How many wait is nobody's to know."""
        return self.granted + self.refused + self.withdrawn


# In what follows *whose* is a query for two columns, the id of a submission and the group that it counts for. What it
# superseded counts with it: a rejection that was appealed against stays a rejection.


def decided(session: Session, whose: Select[int, int]) -> dict[tuple[Group, Month, Kind, Verdict, str | None], int]:
    """Return how many were approved, and rejected by which code, by the month of the decision."""
    of, newer = whose.subquery(), aliased(Submission)
    month = month_of(Decision.decided_at)
    rows = session.execute(
        select(of.c[1], month, Submission.kind, Decision.verdict, Decision.reason_code, func.count())
        .join(Submission, Submission.id == Decision.submission_id)
        .outerjoin(newer, newer.supersedes == Submission.id)
        .join(of, of.c[0] == func.coalesce(newer.id, Submission.id))
        .group_by(of.c[1], month, Submission.kind, Decision.verdict, Decision.reason_code)
    )
    return {
        (group, when, Kind(kind), Verdict(verdict), code): count for group, when, kind, verdict, code, count in rows
    }


def taken_down(session: Session, whose: Select[int, int]) -> dict[tuple[Group, Month, Kind, str | None], int]:
    """Return how many posted words were taken down, by code and month; None for those that their author took back."""
    of = whose.subquery()
    month = month_of(Withdrawal.withdrawn_at)
    code = case((Withdrawal.taken_back_by == "author", None), else_=func.coalesce(Withdrawal.reason_code, "other"))
    rows = session.execute(
        select(of.c[1], month, Submission.kind, code, func.count())
        .join(Submission, Submission.id == Withdrawal.submission_id)
        .join(Decision, Decision.submission_id == Withdrawal.submission_id)
        .join(of, of.c[0] == Withdrawal.submission_id)
        .where(Decision.verdict == Verdict.APPROVE.value)
        .group_by(of.c[1], month, Submission.kind, code)
    )
    return {(group, when, Kind(kind), why): count for group, when, kind, why, count in rows}


def states(session: Session, whose: Select[int]) -> dict[State, int]:
    """Return how many of the submissions in *whose* stand in each state, erased ones among the withdrawn."""
    of = whose.subquery()
    state = case(
        (Withdrawal.submission_id.is_not(None), State.WITHDRAWN.value),
        (Decision.verdict == Verdict.APPROVE.value, State.APPROVED.value),
        (Decision.verdict == Verdict.REJECT.value, State.REJECTED.value),
        (Waiting.submission_id.is_not(None), State.PENDING.value),
        else_=State.SUPERSEDED.value,
    )
    each = (
        select(state.label("state"))
        .select_from(of)
        .outerjoin(Withdrawal, Withdrawal.submission_id == of.c[0])
        .outerjoin(Decision, Decision.submission_id == of.c[0])
        .outerjoin(Waiting, Waiting.submission_id == of.c[0])
        .subquery()
    )
    rows = session.execute(select(each.c.state, func.count()).group_by(each.c.state))
    return dict.fromkeys(State, 0) | {State(found): count for found, count in rows}


def decided_ids() -> Select[int]:
    """Return a query for the ids of all submissions that have their verdict, for use in another."""
    return select(Decision.submission_id)


def time_to_decide(
    session: Session, whose: Select[int, int], kind: Kind, verdict: Verdict
) -> dict[tuple[Group, Month], float]:
    """Return the median seconds from a submission's coming to *verdict* on it, by the month of that."""
    of, newer = whose.subquery(), aliased(Submission)
    return medians(
        session,
        select(
            of.c[1].label("whose"),
            month_of(Decision.decided_at).label("month"),
            seconds_between(Submission.submitted_at, Decision.decided_at).label("seconds"),
        )
        .select_from(Decision)
        .join(Submission, Submission.id == Decision.submission_id)
        .outerjoin(newer, newer.supersedes == Submission.id)
        .join(of, of.c[0] == func.coalesce(newer.id, Submission.id))
        .where(Submission.kind == kind.value, Decision.verdict == verdict.value)
        .subquery(),
    )


def time_to_answer(session: Session, whose: Select[int, int]) -> dict[tuple[Group, Month], float]:
    """Return the median seconds from a comment's approval to its reply's coming, by the month in which that came."""
    of = whose.subquery()
    comment = aliased(Submission)
    return medians(
        session,
        select(
            of.c[1].label("whose"),
            month_of(Submission.submitted_at).label("month"),
            seconds_between(Decision.decided_at, Submission.submitted_at).label("seconds"),
        )
        .select_from(Submission)
        .join(of, of.c[0] == Submission.id)
        .join(comment, comment.digest == Submission.in_answer_to)
        .join(Decision, Decision.submission_id == comment.id)
        .where(Submission.kind == Kind.REPLY.value)
        .subquery(),
    )


def decided_since(
    session: Session, whose: Select[int, int], kind: Kind, since: datetime, *, at_most: int
) -> list[tuple[Group, float]]:
    """Return how many seconds each of the newest verdicts on this kind took, from the submission's coming."""
    of, newer = whose.subquery(), aliased(Submission)
    rows = session.execute(
        select(of.c[1], seconds_between(Submission.submitted_at, Decision.decided_at))
        .select_from(Decision)
        .join(Submission, Submission.id == Decision.submission_id)
        .outerjoin(newer, newer.supersedes == Submission.id)
        .join(of, of.c[0] == func.coalesce(newer.id, Submission.id))
        .where(Submission.kind == kind.value, Decision.decided_at > since)
        .order_by(Decision.decided_at.desc())
        .limit(at_most)
    )
    return [(group, float(seconds)) for group, seconds in rows]


def answered_since(
    session: Session, whose: Select[int, int], since: datetime, *, at_most: int
) -> list[tuple[Group, float]]:
    """Return how many seconds each of the newest replies took to come, from its comment's approval."""
    of, comment = whose.subquery(), aliased(Submission)
    rows = session.execute(
        select(of.c[1], seconds_between(Decision.decided_at, Submission.submitted_at))
        .select_from(Submission)
        .join(of, of.c[0] == Submission.id)
        .join(comment, comment.digest == Submission.in_answer_to)
        .join(Decision, Decision.submission_id == comment.id)
        .where(Submission.kind == Kind.REPLY.value, Submission.submitted_at > since)
        .order_by(Submission.submitted_at.desc())
        .limit(at_most)
    )
    return [(group, float(seconds)) for group, seconds in rows]


def appeals(session: Session) -> Appeals:
    """Return what came of the appeals that ended."""
    made = select(AppealRow.submission_id)
    verdicts = select(Decision.verdict, func.count()).where(Decision.submission_id.in_(made)).group_by(Decision.verdict)
    came_to = {Verdict(verdict): count for verdict, count in session.execute(verdicts)}
    undecided = ~select(Decision.submission_id).where(Decision.submission_id == Withdrawal.submission_id).exists()
    gone = select(func.count()).select_from(Withdrawal).where(Withdrawal.submission_id.in_(made), undecided)
    return Appeals(
        granted=came_to.get(Verdict.APPROVE, 0),
        refused=came_to.get(Verdict.REJECT, 0),
        withdrawn=session.scalar(gone) or 0,
    )


def medians(session: Session, of: Subquery) -> dict[tuple[Group, Month], float]:
    """Return the median of the column `seconds` by `whose` and `month`; SQLite has no function for it."""
    by: list[ColumnElement[Any]] = [of.c.whose, of.c.month]
    ranked = select(
        *by,
        of.c.seconds,
        func.row_number().over(partition_by=by, order_by=of.c.seconds).label("place"),
        func.count().over(partition_by=by).label("all"),
    ).subquery()
    # Of an even number the two in the middle, of an odd one the one: without a division, which each rounds its way.
    middle = (ranked.c.place * 2 >= ranked.c.all) & (ranked.c.place * 2 <= ranked.c.all + 2)
    rows = session.execute(
        select(ranked.c.whose, ranked.c.month, func.avg(ranked.c.seconds))
        .where(middle)
        .group_by(ranked.c.whose, ranked.c.month)
    )
    return {(group, month): float(seconds) for group, month, seconds in rows}
