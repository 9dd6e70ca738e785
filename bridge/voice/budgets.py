"""What a voice may cost and how often it may answer, from one UTC midnight to the next and in a calendar month.

The most that a call could cost is reserved before it is made, in the transaction that records it, and settled by the
record of its end. A call that died without an end stays counted at its most: it may have been billed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, or_, select, true, update
from sqlalchemy.orm import Session

from bridge.db import database_time
from bridge.records import Batch, Comment, Essay, Generation, Purpose, Reply, ReplyRequest, RequestState, Voice
from bridge.voice import prices, readers
from bridge.voice.model import DEADLINE
from bridge.voice.voices import VoiceRefused

BYTES_A_TOKEN = 2
"""Of a request's JSON, for the most tokens it can be. English has about four, other scripts escape to six or more."""
HELD_SECONDS = 60
"""How long a request waits where only calls that are still open hold what it would need."""
ADMINS_SECOND = 1.0
"""Seconds after midnight to which is put off what only an admin can make room for: so it is told from other waits."""
MOST_COST = 2_147_000_000
"""In millionths of a US dollar: what the column holds, in whole dollars."""
MOST_REPLIES = 1_000_000

NO_PRICE = (
    "No price is known for this voice, so no budget in dollars can be kept; it waits until an admin says what it costs."
)

_DOLLARS = re.compile(r"\$?\s*([0-9]{1,4})(?:\.([0-9]{1,6}))?", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,7}", re.ASCII)


class BudgetSpent(Exception):
    """Raised when a call could exceed a budget. It is not made; the request waits *until* then."""

    def __init__(self, why: str, until: float, *, for_all: bool = True) -> None:
        super().__init__(why)
        self.why = why
        self.until = until
        """Seconds since 1970 by the database's clock."""
        self.for_all = for_all
        """Whether others under the same essay would be refused as well; not where one reader's answers are bounded."""


class BudgetRefused(VoiceRefused):
    """Raised for a bound that cannot be read. One sentence; nothing was changed."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(f"{sentence} Nothing was changed.")
        self.field = field


@dataclass(frozen=True, slots=True)
class Bounds:
    """A voice's budgets; None is no bound. Costs are in millionths of a US dollar."""

    cost_a_day: int | None = None
    cost_a_month: int | None = None
    replies_a_day: int | None = None
    replies_a_month: int | None = None
    replies_a_reader: int | None = None
    """To one reader, from one UTC midnight to the next. Who leaves out the secret of earlier letters is another one."""
    replies_a_thread: int | None = None
    """Under one essay, in the same time."""


BOUNDS = tuple(each.name for each in fields(Bounds))


@dataclass(frozen=True, slots=True)
class Periods:
    """The day and the month that a moment is in, in UTC, and when the next ones begin."""

    day: datetime
    month: datetime
    next_day: datetime
    next_month: datetime


@dataclass(frozen=True, slots=True)
class Counted:
    """What counts against a budget in one period: all of it, and the part of it that open calls only hold."""

    cost: int
    cost_held: int
    replies: int
    replies_held: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What counts against a voice's budgets today and this month."""

    day: Counted
    month: Counted


def periods(at: datetime) -> Periods:
    """Return the day and the month that *at* is in."""
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    month = day.replace(day=1)
    return Periods(day, month, day + timedelta(days=1), (month + timedelta(days=32)).replace(day=1))


def clock(session: Session) -> datetime:
    """Return the time by the database's clock: all workers must agree on when midnight is."""
    return datetime.fromtimestamp(session.scalar(select(database_time())) or 0, UTC)


def greatest_cost(
    voice: Voice, request: Mapping[str, Any], *, batched: bool = False, at: datetime | None = None
) -> int | None:
    """Return the most a call could cost in millionths of a US dollar; None where no price is known.

    Estimated from above: a token for every two bytes of the request's JSON, all of them written to the cache for as
    long as the request wants them kept, and as many tokens of answer as it leaves room for. *at* is when the call is
    made: now, unless it is told.
    """
    price = prices.of(voice, at or datetime.now(UTC))
    if price is None:
        return None
    tokens = math.ceil(len(json.dumps(request).encode()) / BYTES_A_TOKEN)
    most = price.greatest(tokens, int(request["max_tokens"]), batched=batched, for_an_hour=_keeps_for_an_hour(request))
    return min(most, 2**31 - 1)  # The column's most; no budget reaches as far.


def reserve(
    session: Session,
    voice: Voice,
    request: Mapping[str, Any],
    *,
    comment_id: int,
    at: datetime,
    batched: bool = False,
    replies: bool = True,
) -> int | None:
    """Return what to reserve for a call about one comment, or raise `BudgetSpent`.

    The caller holds the voice's row (`voices.held`) until its record of the call is committed: two workers must not
    both find the last of a budget. A call that brings no answer to a reader, not *replies*, is bound in dollars only.
    """
    most = greatest_cost(voice, request, batched=batched, at=at)
    bounds = bounds_of(voice)
    if bounds == Bounds():
        return most
    spent = counted(session, voice.id, at=at, without=comment_id)
    found = _of_cost(spent, bounds, most, at)
    if replies:
        found += _of_replies(spent, bounds, at)
        found += _of_comment(session, voice, bounds, comment_id, at)
    # The longest wait; of equal ones, one that others would meet as well.
    longest = max(found, key=lambda each: (each.until, each.for_all), default=None)
    if longest is not None:
        raise longest
    return most


def room(session: Session, voice: Voice, essay_id: int, *, at: datetime, costing: int | None = None) -> int | None:
    """Return how many more letters under an essay the budgets would let a voice answer now; None: no bound.

    A bound in dollars allows as many as *costing*, the most that one could cost, goes into what is left; without it,
    none where nothing is left and any number else; none at all where no price is known. What one reader may have is
    not counted: they are many.
    """
    bounds = bounds_of(voice)
    if bounds == Bounds():
        return None
    spent = counted(session, voice.id, at=at)
    left = [
        bound - used
        for bound, used in (
            (bounds.replies_a_day, spent.day.replies),
            (bounds.replies_a_month, spent.month.replies),
        )
        if bound is not None
    ]
    if bounds.replies_a_thread is not None:
        left.append(bounds.replies_a_thread - sum(_answered(session, voice, Comment.essay_id == essay_id, at)))
    is_priced = prices.of(voice, at) is not None
    for bound, used in ((bounds.cost_a_day, spent.day.cost), (bounds.cost_a_month, spent.month.cost)):
        if bound is None:
            continue
        if costing and is_priced:
            left.append((bound - used) // costing)
        elif bound <= used or not is_priced:
            left.append(0)
    return max(0, min(left)) if left else None


def counted(session: Session, voice_id: int, *, at: datetime, without: int | None = None) -> Spent:
    """Return what counts against a voice's budgets at a moment.

    Calls that are open for the comment *without* hold no reply of others: it is answered once, however often asked.
    One that lets the voice choose holds its cost and no reply; one in a batch is open until its result is recorded. A
    call whose letter was taken back meanwhile holds no reply, and its cost until it ends.
    """
    when = periods(at)
    without_end: ColumnElement[bool] = Generation.ended_at.is_(None)
    if without is not None:
        without_end = and_(without_end, Generation.comment_id != without)
    is_open = and_(without_end, ReplyRequest.state == RequestState.ASKING.value)
    under_way = Generation.started_at >= at - timedelta(seconds=DEADLINE)
    is_away = Generation.batch_id.in_(select(Batch.id).where(Batch.ended_at.is_(None)))
    holds_cost = or_(is_open, and_(without_end, or_(under_way, is_away)))
    cost = func.coalesce(Generation.cost, Generation.reserved, 0)
    today = Generation.started_at >= when.day
    calls = (
        select(
            func.sum(case((today, cost), else_=0)).label("day"),
            func.sum(case((and_(today, holds_cost), cost), else_=0)).label("day_held"),
            func.sum(cost).label("month"),
            func.sum(case((holds_cost, cost), else_=0)).label("month_held"),
        )
        .outerjoin(ReplyRequest, ReplyRequest.comment_id == Generation.comment_id)
        .where(Generation.voice_id == voice_id, Generation.started_at >= when.month)
        .subquery()
    )
    replies = (
        select(
            func.sum(case((Reply.created_at >= when.day, 1), else_=0)).label("day"),
            func.count().label("month"),
        )
        .join(Generation, Generation.id == Reply.generation_id)
        .where(Generation.voice_id == voice_id, Reply.created_at >= when.month)
        .subquery()
    )
    asking = (
        select(func.count(Generation.comment_id.distinct()).label("replies"))
        .join(ReplyRequest, ReplyRequest.comment_id == Generation.comment_id)
        .where(Generation.voice_id == voice_id, is_open, Generation.purpose == Purpose.REPLY.value)
        .subquery()
    )
    # One statement: a reply that is submitted between two of them would be counted in neither or in both.
    together = calls.join(replies, true()).join(asking, true())
    row = session.execute(select(calls, replies.c.day, replies.c.month, asking.c.replies).select_from(together)).one()
    cost_day, cost_day_held, cost_month, cost_month_held, day, month, held = (int(number or 0) for number in row)
    return Spent(
        Counted(cost_day, cost_day_held, day + held, held), Counted(cost_month, cost_month_held, month + held, held)
    )


def bounds_of(voice: Voice) -> Bounds:
    """Return a voice's budgets."""
    return Bounds(**{name: getattr(voice, name) for name in BOUNDS})


def set_bounds(session: Session, voice: Voice, bounds: Bounds) -> list[int]:
    """Give a voice its budgets; return the essays under which letters wait that a budget put off and need not wait."""
    for name, bound in asdict(bounds).items():
        setattr(voice, name, bound)
    session.flush()
    return put_off_no_longer(session, voice)


def put_off_no_longer(session: Session, voice: Voice) -> list[int]:
    """Let what a voice's budgets put off be asked now; return the essays under which it waits."""
    freed = session.execute(
        update(ReplyRequest)
        .where(
            ReplyRequest.essay_id.in_(select(Essay.id).where(Essay.voice_id == voice.id)),
            ReplyRequest.state == RequestState.WAITING.value,
            ReplyRequest.not_before.in_(midnights(clock(session))),
        )
        .values(not_before=None, why=None)
        .returning(ReplyRequest.essay_id)
        .execution_options(synchronize_session=False)
    )
    return sorted(set(freed.scalars()))


def midnights(at: datetime) -> list[float]:
    """Return until when a budget puts off at a moment; nothing else does to the very second of one of these."""
    when = periods(at)
    return [
        midnight.timestamp() + after for midnight in (when.next_day, when.next_month) for after in (0, ADMINS_SECOND)
    ]


def only_an_admin_ends(not_before: float) -> bool:
    """Whether what is put off to this moment waits for an admin, and not for a new day."""
    return not_before % 86_400 == ADMINS_SECOND


def read_bounds(written: Mapping[str, str]) -> Bounds:
    """Return the budgets that a person wrote, in dollars and replies; empty is no bound. Raises `BudgetRefused`."""
    return Bounds(
        cost_a_day=_cost("cost_a_day", written.get("cost_a_day", "")),
        cost_a_month=_cost("cost_a_month", written.get("cost_a_month", "")),
        replies_a_day=_count("replies_a_day", written.get("replies_a_day", "")),
        replies_a_month=_count("replies_a_month", written.get("replies_a_month", "")),
        replies_a_reader=_count("replies_a_reader", written.get("replies_a_reader", "")),
        replies_a_thread=_count("replies_a_thread", written.get("replies_a_thread", "")),
    )


def written(bounds: Bounds) -> dict[str, str]:
    """Return *bounds* as a person would write them; `read_bounds` gives them back."""
    return {
        name: "" if bound is None else _decimal(bound) if name.startswith("cost") else str(bound)
        for name, bound in asdict(bounds).items()
    }


def dollars(cost: int) -> str:
    """Return millionths of a US dollar as dollars, to the cent, or further where it is less than ten of them."""
    return f"${cost / 1_000_000:,.2f}" if cost >= 100_000 or cost == 0 else f"${cost / 1_000_000:.4f}"


def _of_cost(spent: Spent, bounds: Bounds, most: int | None, at: datetime) -> list[BudgetSpent]:
    when = periods(at)
    if most is None:
        if bounds.cost_a_day is None and bounds.cost_a_month is None:
            return []
        return [BudgetSpent(NO_PRICE, when.next_day.timestamp() + ADMINS_SECOND)]
    return [
        *_refused("the day's budget", spent.day.cost, spent.day.cost_held, most, bounds.cost_a_day, at, when.next_day),
        *_refused(
            "the month's budget",
            spent.month.cost,
            spent.month.cost_held,
            most,
            bounds.cost_a_month,
            at,
            when.next_month,
        ),
    ]


def _of_replies(spent: Spent, bounds: Bounds, at: datetime) -> list[BudgetSpent]:
    when = periods(at)
    day, month = spent.day, spent.month
    return [
        *_refused("the day's budget", day.replies, day.replies_held, 1, bounds.replies_a_day, at, when.next_day),
        *_refused(
            "the month's budget", month.replies, month.replies_held, 1, bounds.replies_a_month, at, when.next_month
        ),
    ]


def _of_comment(session: Session, voice: Voice, bounds: Bounds, comment_id: int, at: datetime) -> Sequence[BudgetSpent]:
    """Return why the reader who wrote a comment, or the essay it stands under, must wait for more answers today."""
    if bounds.replies_a_reader is None and bounds.replies_a_thread is None:
        return []
    comment, found, midnight = session.get_one(Comment, comment_id), list[BudgetSpent](), periods(at).next_day
    if bounds.replies_a_thread is not None:
        answered, held = _answered(session, voice, Comment.essay_id == comment.essay_id, at, without=comment_id)
        found += _refused(
            "what may be answered under this essay in a day",
            answered + held,
            held,
            1,
            bounds.replies_a_thread,
            at,
            midnight,
        )
    if bounds.replies_a_reader is not None:
        same = readers.by_the_same_reader(session, [comment])
        answered, held = _answered(session, voice, same, at, without=comment_id)
        found += _refused(
            "what this reader may be answered in a day",
            answered + held,
            held,
            1,
            bounds.replies_a_reader,
            at,
            midnight,
            for_all=False,
        )
    return found


def _answered(
    session: Session, voice: Voice, of: ColumnElement[bool], at: datetime, *, without: int | None = None
) -> tuple[int, int]:
    """Return how many comments like these a voice answered today, and how many more it is being asked about.

    The caller holds the voice's row: an answer that is recorded between the two would be counted in neither.
    """
    answered = session.scalar(
        select(func.count())
        .select_from(Reply)
        .join(Comment, Comment.id == Reply.comment_id)
        .join(Essay, Essay.id == Comment.essay_id)
        .where(of, Essay.voice_id == voice.id, Reply.created_at >= periods(at).day)
    )
    asked = (
        select(func.count(Generation.comment_id.distinct()))
        .join(Comment, Comment.id == Generation.comment_id)
        .join(ReplyRequest, ReplyRequest.comment_id == Generation.comment_id)
        .where(
            of,
            Generation.voice_id == voice.id,
            Generation.ended_at.is_(None),
            Generation.purpose == Purpose.REPLY.value,
            ReplyRequest.state == RequestState.ASKING.value,
        )
    )
    held = session.scalar(asked.where(Generation.comment_id != without) if without is not None else asked)
    return answered or 0, held or 0


def _refused(
    what: str,
    used: int,
    held: int,
    adds: int,
    bound: int | None,
    at: datetime,
    next_one: datetime,
    *,
    for_all: bool = True,
) -> list[BudgetSpent]:
    """Return why *adds* more would exceed *bound* and until when it waits; nothing if it would not."""
    if bound is None or used + adds <= bound:
        return []
    if adds <= bound and used - held + adds <= bound:
        why = f"Calls that are still open hold the rest of {what}; it is asked when they have ended."
        return [BudgetSpent(why, at.timestamp() + HELD_SECONDS, for_all=for_all)]
    what = what[0].upper() + what[1:]
    if adds > bound:
        why = f"{what} has no room for even one call like this; it waits until an admin raises it."
        # A call that is larger than the bound itself says nothing of smaller ones.
        return [BudgetSpent(why, next_one.timestamp() + ADMINS_SECOND, for_all=for_all and adds == 1)]
    after = "after midnight UTC" if next_one == periods(at).next_day else "when the next month begins, at midnight UTC"
    return [BudgetSpent(f"{what} is spent; it is asked {after}.", next_one.timestamp(), for_all=for_all)]


def _keeps_for_an_hour(part: object) -> bool:
    """Whether a part of a request has a marker that keeps what stands before it for an hour."""
    if isinstance(part, Mapping):
        marker = part.get("cache_control")
        marked = isinstance(marker, Mapping) and marker.get("ttl") == "1h"
        return marked or any(_keeps_for_an_hour(each) for each in part.values())
    return isinstance(part, list | tuple) and any(_keeps_for_an_hour(each) for each in part)


def _cost(field: str, written_as: str) -> int | None:
    if not written_as.strip():
        return None
    read = _DOLLARS.fullmatch(written_as.strip())
    cost = int(read[1]) * 1_000_000 + int((read[2] or "").ljust(6, "0")) if read else MOST_COST + 1
    if cost > MOST_COST:
        raise BudgetRefused(field, "Write an amount in dollars such as 2.50, at most 2,147 and without a comma.")
    return cost


def _count(field: str, written_as: str) -> int | None:
    if not written_as.strip():
        return None
    count = int(written_as) if _COUNT.fullmatch(written_as.strip()) else MOST_REPLIES + 1
    if count > MOST_REPLIES:
        raise BudgetRefused(field, f"Write a whole number of answers, at most {MOST_REPLIES:,} and without a comma.")
    return count


def _decimal(cost: int) -> str:
    whole, rest = divmod(cost, 1_000_000)
    return f"{whole}.{f'{rest:06}'.rstrip('0').ljust(2, '0')}"
