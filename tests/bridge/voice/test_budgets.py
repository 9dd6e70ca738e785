"""Budgets: reserved at their most before a call, settled by its end, exact at the edge whoever else is calling."""

import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any, TypeVar

import pytest
from ground.house import sent
from ground.postbag import READER, confirmed
from ground.workshop import MODEL, ScriptedModel, Workshop, message
from sqlalchemy import update
from sqlalchemy.orm import Session

from bridge import db
from bridge.answer import replies
from bridge.answer.replies import Claimed, Sitting
from bridge.db import database_time
from bridge.records import Comment, Generation, ReplyRequest, RequestState, Voice
from bridge.voice import budgets, voices
from bridge.voice.budgets import Bounds, BudgetRefused, BudgetSpent
from bridge.voice.model import DEADLINE, ModelBusy, PassingTrouble, RequestRefused, Trouble, VoiceBlocked, read

R = TypeVar("R")
ORIGIN = ScriptedModel().origin(None)
NOON = datetime(2031, 5, 17, 12, tzinfo=UTC)
PRICES = {"price_in": 2.0, "price_out": 10.0}


@pytest.fixture
def open_workshop(database: db.Database, tmp_path: Path) -> Callable[..., Workshop]:
    return lambda **how: Workshop(database, tmp_path, **{**PRICES, **how})


@pytest.fixture
def workshop(open_workshop: Callable[..., Workshop]) -> Workshop:
    """A workshop with prices, on both databases."""
    return open_workshop()


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Set the clock that budgets go by."""
    return lambda moment: monkeypatch.setattr(budgets, "clock", lambda _session: moment)


def step(workshop: Workshop, what: Callable[..., R], *given: Any, **named: Any) -> R:
    with workshop.site.database.sessions.begin() as session:
        return what(session, *given, **named)


def begun(workshop: Workshop, essay_id: int | None = None) -> Sitting:
    sitting = step(workshop, replies.begin_sitting, essay_id or workshop.essay_id)
    assert sitting is not None
    return sitting


def call(workshop: Workshop, sitting: Sitting, claimed: Claimed) -> int:
    made = step(
        workshop,
        replies.begin_generation,
        sitting,
        claimed,
        sent(sitting, claimed, workshop.site.keys),
        ORIGIN,
        workshop.site.keys,
    )
    assert made is not None
    return made


def ended(workshop: Workshop, sitting: Sitting, claimed: Claimed, made: int, **more: Any) -> None:
    said = read(message("I dream.", **more), asked=MODEL, request_id="r", rehearsed=False)
    step(workshop, replies.record_answer, sitting, claimed, made, said, final=True)


def bound(workshop: Workshop, **bounds: int) -> None:
    step(workshop, lambda session: budgets.set_bounds(session, voices.held(session, 1), Bounds(**bounds)))


def most(workshop: Workshop, sitting: Sitting, claimed: Claimed) -> int:
    cost = budgets.greatest_cost(workshop.voice(), sent(sitting, claimed, workshop.site.keys).request)
    assert cost is not None
    return cost


def spent(workshop: Workshop) -> budgets.Spent:
    with workshop.site.database.reading_sessions() as session:
        return budgets.counted(session, workshop.voice_id, at=budgets.clock(session))


# What a call could cost


def test_reckons_the_most_that_a_call_could_cost(sqlite_url: str, tmp_path: Path) -> None:
    database = db.connect(sqlite_url)
    workshop = Workshop(database, tmp_path, price_in=3.0, price_out=15.0)
    request = {"max_tokens": 100, "words": "\u65e5."}
    size = len(json.dumps(request))
    assert size % 2  # Half a token is rounded up.
    expected = math.ceil(1.25 * (size + 1) / 2 * 3 + 100 * 15)
    assert budgets.greatest_cost(workshop.voice(), request) == expected
    assert budgets.greatest_cost(workshop.voice(), request, batched=True) == math.ceil(
        (1.25 * (size + 1) / 2 * 3 + 100 * 15) / 2
    )
    # A marker within what is sent, and not words that look like one.
    marked = request | {"system": [{"type": "text", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}
    words = request | {"system": [{"type": "text", "text": '{"cache_control": {"type": "ephemeral", "ttl": "1h"}}'}]}
    for asked, factor in ((marked, 2), (words, 1.25)):
        tokens = math.ceil(len(json.dumps(asked)) / 2)
        assert budgets.greatest_cost(workshop.voice(), asked) == math.ceil(factor * tokens * 3 + 100 * 15)
    voice = workshop.voice()
    voice.price_in = voice.price_out = None
    assert budgets.greatest_cost(voice, request) == math.ceil(1.25 * (size + 1) / 2 * 15 + 100 * 75)
    voice.model = "no-such-model-0"
    assert budgets.greatest_cost(voice, request) is None
    voice.price_in = 3.0
    voice.price_out = 1e5
    assert budgets.greatest_cost(voice, {"max_tokens": 128_000}) == 2**31 - 1
    database.dispose()


def test_reserves_the_most_before_a_call_and_settles_at_what_it_cost(workshop: Workshop) -> None:
    workshop.asked()
    sitting = begun(workshop)
    (claimed,) = sitting.claimed
    made = call(workshop, sitting, claimed)
    [generation] = workshop.generations()
    reserved = most(workshop, sitting, claimed)
    assert (generation.reserved, generation.cost) == (reserved, None)
    assert (spent(workshop).day.cost, spent(workshop).day.cost_held) == (reserved, reserved)
    ended(workshop, sitting, claimed, made)
    # 1,000 tokens in at 2 and 10 out at 10.
    assert (spent(workshop).day.cost, spent(workshop).day.cost_held) == (2100, 0)
    assert spent(workshop).month == spent(workshop).day


def test_reserves_for_a_call_with_more_room_by_its_extra_body(open_workshop: Callable[..., Workshop]) -> None:
    workshop = open_workshop(extra_body={"max_tokens": 9000})
    workshop.asked()
    sitting = begun(workshop)
    (claimed,) = sitting.claimed
    call(workshop, sitting, claimed)
    [generation] = workshop.generations()
    assert (generation.reserved or 0) > most(workshop, sitting, claimed) + 7000 * 10


def test_counts_a_call_without_an_end_at_its_most_for_good(workshop: Workshop, at: Callable[[datetime], None]) -> None:
    at(NOON)
    workshop.asked()
    sitting = begun(workshop)
    (claimed,) = sitting.claimed
    call(workshop, sitting, claimed)
    workshop.time_passes()
    at(NOON + timedelta(seconds=DEADLINE + 1))
    assert workshop.sweep() == 1
    assert spent(workshop).day == budgets.Counted(most(workshop, sitting, claimed), 0, 0, 0)
    again = begun(workshop)
    made = call(workshop, again, again.claimed[0])
    ended(workshop, again, again.claimed[0], made)
    assert spent(workshop).day == budgets.Counted(most(workshop, sitting, claimed) + 2100, 0, 1, 0)


@pytest.mark.parametrize(
    ("trouble", "counts"),
    [
        (ModelBusy("Busy.", seconds=1), False),
        (RequestRefused("No."), False),
        (VoiceBlocked("No key."), False),
        (PassingTrouble("It broke off."), True),
    ],
)
def test_counts_what_may_have_been_billed_and_not_what_was_refused(
    workshop: Workshop, trouble: Trouble, counts: bool
) -> None:
    workshop.asked()
    sitting = begun(workshop)
    (claimed,) = sitting.claimed
    step(workshop, replies.record_trouble, call(workshop, sitting, claimed), trouble)
    assert spent(workshop).day.cost == (most(workshop, sitting, claimed) if counts else 0)
    assert spent(workshop).day.cost_held == 0


# At the edge


@pytest.mark.parametrize("period", ["day", "month"])
def test_makes_a_call_that_just_fits_and_none_that_does_not(workshop: Workshop, period: str) -> None:
    workshop.asked()
    sitting = begun(workshop)
    (claimed,) = sitting.claimed
    needed = most(workshop, sitting, claimed)
    bound(workshop, **{f"cost_a_{period}": needed - 1})
    with pytest.raises(BudgetSpent) as refused:
        call(workshop, sitting, claimed)
    assert "no room for even one call" in refused.value.why
    assert workshop.generations() == []
    assert workshop.request(claimed.comment_id).attempts == 0
    bound(workshop, **{f"cost_a_{period}": needed})
    call(workshop, sitting, claimed)


def test_makes_a_second_call_only_within_what_the_first_left(workshop: Workshop) -> None:
    for n in range(2):
        workshop.asked(f"Number {n}.")
    sitting = begun(workshop)
    first, second = sitting.claimed
    bound(workshop, cost_a_day=2100 + most(workshop, sitting, second) - 1)
    ended(workshop, sitting, first, call(workshop, sitting, first))
    with pytest.raises(BudgetSpent, match=r"The day's budget is spent; it is asked after midnight UTC\."):
        call(workshop, sitting, second)
    bound(workshop, cost_a_day=2100 + most(workshop, sitting, second))
    call(workshop, sitting, second)


def test_waits_only_a_minute_where_open_calls_hold_the_rest(workshop: Workshop, at: Callable[[datetime], None]) -> None:
    at(NOON)
    for n in range(2):
        workshop.asked(f"Number {n}.")
    sitting = begun(workshop)
    first, second = sitting.claimed
    bound(workshop, cost_a_day=most(workshop, sitting, first) + most(workshop, sitting, second) - 1)
    made = call(workshop, sitting, first)
    with pytest.raises(BudgetSpent, match="still open") as refused:
        call(workshop, sitting, second)
    assert refused.value.until == NOON.timestamp() + 60
    ended(workshop, sitting, first, made)
    call(workshop, sitting, second)


def test_takes_the_longest_wait_of_several_budgets(workshop: Workshop, at: Callable[[datetime], None]) -> None:
    at(NOON)
    workshop.asked()
    sitting = begun(workshop)
    bound(workshop, cost_a_day=0, replies_a_month=0)
    with pytest.raises(BudgetSpent) as refused:
        call(workshop, sitting, sitting.claimed[0])
    assert refused.value.until == datetime(2031, 6, 1, tzinfo=UTC).timestamp() + budgets.ADMINS_SECOND


def test_bounds_a_cost_that_only_the_table_knows(open_workshop: Callable[..., Workshop]) -> None:
    workshop = open_workshop(price_in=None, price_out=None)
    workshop.asked()
    bound(workshop, cost_a_day=1)
    sitting = begun(workshop)
    with pytest.raises(BudgetSpent, match="no room for even one call"):
        call(workshop, sitting, sitting.claimed[0])
    bound(workshop, cost_a_day=most(workshop, sitting, sitting.claimed[0]))
    call(workshop, sitting, sitting.claimed[0])


def test_makes_no_call_where_a_bound_in_dollars_has_no_price_to_go_by(open_workshop: Callable[..., Workshop]) -> None:
    workshop = open_workshop(model="no-such-model-0", price_in=None, price_out=None)
    comment_id = workshop.asked()
    bound(workshop, cost_a_month=1_000_000)
    sitting = begun(workshop)
    with pytest.raises(BudgetSpent, match="No price is known for this voice") as refused:
        call(workshop, sitting, sitting.claimed[0])
    assert refused.value.for_all
    assert left(workshop) == left(workshop, costing=None) == 0
    step(workshop, replies.wait_again, sitting, sitting.claimed[0], refused.value.why, until=refused.value.until)
    # Once it is said what it costs, it is asked.
    with workshop.site.database.sessions.begin() as session:
        voice = voices.held(session, workshop.voice_id)
        voices.set_prices(session, voice, price_in=1, price_out=1)
        assert budgets.put_off_no_longer(session, voice) == [workshop.essay_id]
    sitting = begun(workshop)
    call(workshop, sitting, sitting.claimed[0])
    assert [made.reserved is not None for made in workshop.generations(comment_id)] == [True]


def test_needs_no_price_where_only_replies_are_bounded(open_workshop: Callable[..., Workshop]) -> None:
    workshop = open_workshop(model="no-such-model-0", price_in=None, price_out=None)
    workshop.asked()
    bound(workshop, replies_a_day=1)
    sitting = begun(workshop)
    call(workshop, sitting, sitting.claimed[0])
    assert [made.reserved for made in workshop.generations()] == [None]


def test_waits_for_the_end_of_a_call_whose_letter_was_taken_back(
    workshop: Workshop, at: Callable[[datetime], None]
) -> None:
    at(NOON)
    first_id = workshop.asked("One.")
    workshop.asked("Two.")
    sitting = begun(workshop)
    first, second = sitting.claimed
    costs = most(workshop, sitting, first)
    bound(workshop, cost_a_day=costs * 3 // 2)
    call(workshop, sitting, first)
    workshop.take_back(first_id)
    with pytest.raises(BudgetSpent, match="Calls that are still open") as refused:
        call(workshop, sitting, second)
    assert refused.value.until == NOON.timestamp() + budgets.HELD_SECONDS
    # Nobody hears of it any more: its worker died, and what it cost nobody knows.
    at(NOON + timedelta(seconds=DEADLINE + 1))
    with pytest.raises(BudgetSpent, match="The day's budget is spent"):
        call(workshop, sitting, second)


def test_counts_replies_and_the_calls_that_may_become_some(workshop: Workshop) -> None:
    for n in range(3):
        workshop.asked(f"Number {n}.")
    bound(workshop, replies_a_day=2)
    sitting = begun(workshop)
    first, second, third = sitting.claimed
    ended(workshop, sitting, first, call(workshop, sitting, first))
    made = call(workshop, sitting, second)
    assert (spent(workshop).day.replies, spent(workshop).day.replies_held) == (2, 1)
    with pytest.raises(BudgetSpent, match="still open"):
        call(workshop, sitting, third)
    # Its own earlier call takes no second place: one that broke off is asked again.
    step(workshop, replies.record_trouble, made, PassingTrouble("It broke off."))
    made = call(workshop, sitting, second)
    ended(workshop, sitting, second, made)
    with pytest.raises(BudgetSpent, match="The day's budget is spent"):
        call(workshop, sitting, third)


def test_leaves_the_place_of_a_voice_that_declined_to_others(workshop: Workshop) -> None:
    for n in range(2):
        workshop.asked(f"Number {n}.")
    bound(workshop, replies_a_day=1)
    sitting = begun(workshop)
    first, second = sitting.claimed
    made = call(workshop, sitting, first)
    said = read(message(""), asked=MODEL, request_id="r", rehearsed=False)
    assert step(workshop, replies.record_answer, sitting, first, made, said, final=True) is RequestState.DECLINED
    call(workshop, sitting, second)


# One reader, one essay


def held(workshop: Workshop, claimed: Claimed, **how: Any) -> int | None:
    """Ask the budgets for a call about a comment that is open already or not made yet."""
    request = {"max_tokens": 1, "messages": []}

    def reserve(session: Session) -> int | None:
        voice = voices.held(session, workshop.voice_id)
        at = budgets.clock(session)
        return budgets.reserve(session, voice, request, comment_id=claimed.comment_id, at=at, **how)

    return step(workshop, reserve)


def one_reader(workshop: Workshop, *comment_ids: int) -> None:
    """Have these comments written by one reader."""
    with workshop.site.database.sessions.begin() as session:
        session.execute(update(Comment).where(Comment.id.in_(comment_ids)).values(author_digest="d" * 64))


def left(workshop: Workshop, essay_id: int | None = None, **how: Any) -> int | None:
    def room(session: Session) -> int | None:
        voice = voices.held(session, workshop.voice_id)
        return budgets.room(session, voice, essay_id or workshop.essay_id, at=budgets.clock(session), **how)

    return step(workshop, room)


def test_bounds_what_one_reader_may_have_and_lets_the_others_be_answered(workshop: Workshop) -> None:
    one_reader(workshop, *(workshop.asked(f"Number {n}.") for n in range(3)))
    workshop.asked("Another reader's.")
    bound(workshop, replies_a_reader=2)
    sitting = begun(workshop)
    first, second, third, other = sitting.claimed
    made = call(workshop, sitting, first)
    ended(workshop, sitting, second, call(workshop, sitting, second))
    with pytest.raises(BudgetSpent, match="Calls that are still open hold the rest of what this reader") as refused:
        call(workshop, sitting, third)
    assert not refused.value.for_all
    # Its own open call takes no second place.
    held(workshop, first)
    ended(workshop, sitting, first, made)
    with pytest.raises(BudgetSpent) as refused:
        call(workshop, sitting, third)
    assert refused.value.why == "What this reader may be answered in a day is spent; it is asked after midnight UTC."
    assert not refused.value.for_all
    call(workshop, sitting, other)


def test_knows_a_reader_under_every_essay(workshop: Workshop) -> None:
    second = workshop.essay("# Second\n\nWords.")
    one_reader(workshop, workshop.asked(), workshop.asked(essay_id=second))
    bound(workshop, replies_a_reader=1)
    one, two = begun(workshop), begun(workshop, second)
    ended(workshop, one, one.claimed[0], call(workshop, one, one.claimed[0]))
    with pytest.raises(BudgetSpent, match="this reader"):
        call(workshop, two, two.claimed[0])


def test_knows_a_reader_by_their_confirmed_address(workshop: Workshop) -> None:
    for number in range(2):
        workshop.asked(f"Number {number}.", email=READER)
    confirmed(workshop.site)
    bound(workshop, replies_a_reader=1)
    sitting = begun(workshop)
    first, second = sitting.claimed
    ended(workshop, sitting, first, call(workshop, sitting, first))
    with pytest.raises(BudgetSpent, match="this reader"):
        call(workshop, sitting, second)


def test_bounds_what_may_be_answered_under_one_essay_in_a_day(
    workshop: Workshop, at: Callable[[datetime], None]
) -> None:
    at(NOON)
    second = workshop.essay("# Second\n\nWords.")
    for n in range(2):
        workshop.asked(f"Number {n}.")
    workshop.asked("Elsewhere.", essay_id=second)
    bound(workshop, replies_a_thread=1)
    one, two = begun(workshop), begun(workshop, second)
    ended(workshop, one, one.claimed[0], call(workshop, one, one.claimed[0]))
    with pytest.raises(BudgetSpent, match="under this essay in a day is spent") as refused:
        call(workshop, one, one.claimed[1])
    assert refused.value.for_all
    assert refused.value.until == datetime(2031, 5, 18, tzinfo=UTC).timestamp()
    call(workshop, two, two.claimed[0])
    at(NOON + timedelta(days=1))
    call(workshop, one, one.claimed[1])


def test_says_what_all_would_meet_before_what_one_reader_meets(workshop: Workshop) -> None:
    workshop.asked()
    bound(workshop, replies_a_reader=0, replies_a_day=0)
    sitting = begun(workshop)
    with pytest.raises(BudgetSpent, match="The day's budget") as refused:
        call(workshop, sitting, sitting.claimed[0])
    assert refused.value.for_all


def test_counts_no_answer_of_yesterday_nor_one_of_another_voice(
    workshop: Workshop, at: Callable[[datetime], None]
) -> None:
    at(NOON - timedelta(days=1))
    one_reader(workshop, *(workshop.asked(f"Number {n}.") for n in range(2)))
    sitting = begun(workshop)
    first, second = sitting.claimed
    ended(workshop, sitting, first, call(workshop, sitting, first))
    at(NOON)
    bound(workshop, replies_a_reader=1, replies_a_thread=1)
    assert left(workshop) == 1
    ended(workshop, sitting, second, call(workshop, sitting, second))
    assert left(workshop) == 0
    with workshop.site.database.sessions.begin() as session:
        other = voices.add(session, voices.NewVoice("Understudy", MODEL, "You rest."))
        budgets.set_bounds(session, other, Bounds(replies_a_thread=1))
        assert budgets.room(session, other, workshop.essay_id, at=budgets.clock(session)) == 1


# Choices and batches


def test_holds_the_cost_of_a_choice_and_no_reply(workshop: Workshop) -> None:
    for n in range(2):
        workshop.asked(f"Number {n}.")
    sitting = begun(workshop)
    first, second = sitting.claimed
    made = call(workshop, sitting, first)
    with workshop.site.database.sessions.begin() as session:
        session.get_one(Generation, made).purpose = "choice"
    now = spent(workshop).day
    assert (now.replies, now.replies_held) == (0, 0)
    assert now.cost == now.cost_held == most(workshop, sitting, first)
    bound(workshop, replies_a_day=1, replies_a_thread=1, replies_a_reader=1)
    assert left(workshop) == 1
    call(workshop, sitting, second)
    assert left(workshop) == 0


def test_lets_a_voice_choose_where_no_reply_is_left_but_not_without_money(workshop: Workshop) -> None:
    workshop.asked()
    (claimed,) = begun(workshop).claimed
    bound(workshop, replies_a_day=0, replies_a_month=0, replies_a_thread=0, replies_a_reader=0)
    assert held(workshop, claimed, replies=False) is not None
    with pytest.raises(BudgetSpent):
        held(workshop, claimed)
    bound(workshop, cost_a_day=0)
    with pytest.raises(BudgetSpent):
        held(workshop, claimed, replies=False)


def test_reserves_half_for_a_call_in_a_batch_and_holds_it_until_its_result_is_recorded(workshop: Workshop) -> None:
    for n in range(2):
        workshop.asked(f"Number {n}.")
    sitting = begun(workshop)
    first, second = sitting.claimed
    live, batched = held(workshop, first), held(workshop, first, batched=True)
    assert live is not None
    assert batched == math.ceil(live / 2)
    made = call(workshop, sitting, first)
    bound(workshop, replies_a_day=1)
    with workshop.site.database.sessions.begin() as session:
        sent_off = session.get_one(Generation, made)
        sent_off.custom_id, sent_off.started_at = "rr-1-1", sent_off.started_at - timedelta(hours=1)
    assert spent(workshop).day.replies_held == 1
    with pytest.raises(BudgetSpent, match="still open"):
        held(workshop, second, batched=True)


def test_tells_how_much_room_the_budgets_leave(workshop: Workshop) -> None:
    second = workshop.essay("# Second\n\nWords.")
    for n in range(3):
        workshop.asked(f"Number {n}.")
    sitting = begun(workshop)
    ended(workshop, sitting, sitting.claimed[0], call(workshop, sitting, sitting.claimed[0]))
    call(workshop, sitting, sitting.claimed[1])
    assert left(workshop) is None
    bound(workshop, replies_a_day=10)
    assert left(workshop) == 8
    bound(workshop, replies_a_day=10, replies_a_month=7)
    assert left(workshop) == 5
    bound(workshop, replies_a_day=10, replies_a_thread=3)
    assert (left(workshop), left(workshop, second)) == (1, 3)
    bound(workshop, replies_a_thread=1)
    assert left(workshop) == 0
    cost = spent(workshop).day.cost
    bound(workshop, cost_a_day=cost + 100)
    assert (left(workshop), left(workshop, costing=50), left(workshop, costing=101)) == (None, 2, 0)
    bound(workshop, cost_a_month=cost)
    assert left(workshop) == 0
    # What one reader may have bounds no number of letters.
    bound(workshop, replies_a_reader=1)
    assert left(workshop) is None


# Midnight and the month's end


@pytest.mark.parametrize(
    ("moment", "day", "month"),
    [
        (datetime(2031, 5, 17, tzinfo=UTC), datetime(2031, 5, 18, tzinfo=UTC), datetime(2031, 6, 1, tzinfo=UTC)),
        (
            datetime(2031, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
            datetime(2032, 1, 1, tzinfo=UTC),
            datetime(2032, 1, 1, tzinfo=UTC),
        ),
        (datetime(2032, 2, 28, 5, tzinfo=UTC), datetime(2032, 2, 29, tzinfo=UTC), datetime(2032, 3, 1, tzinfo=UTC)),
    ],
)
def test_knows_when_the_next_day_and_month_begin(moment: datetime, day: datetime, month: datetime) -> None:
    when = budgets.periods(moment)
    assert (when.next_day, when.next_month) == (day, month)
    assert when.day <= moment < when.next_day
    assert when.month == moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def test_begins_anew_at_midnight_and_in_a_new_month(workshop: Workshop, at: Callable[[datetime], None]) -> None:
    last = datetime(2031, 5, 31, 23, 59, 59, tzinfo=UTC)
    at(last - timedelta(days=1))
    for n in range(4):
        workshop.asked(f"Number {n}.")
    sitting = begun(workshop)
    bound(workshop, replies_a_day=1, replies_a_month=2)
    one, two, three, four = sitting.claimed
    ended(workshop, sitting, one, call(workshop, sitting, one))
    with pytest.raises(BudgetSpent) as refused:
        call(workshop, sitting, two)
    assert refused.value.until == datetime(2031, 5, 31, tzinfo=UTC).timestamp()
    at(datetime(2031, 5, 31, tzinfo=UTC))  # The very midnight.
    ended(workshop, sitting, two, call(workshop, sitting, two))
    at(last)
    with pytest.raises(BudgetSpent) as refused:
        call(workshop, sitting, three)
    assert refused.value.until == datetime(2031, 6, 1, tzinfo=UTC).timestamp()
    at(last + timedelta(seconds=1))
    assert spent(workshop).month == budgets.Counted(0, 0, 0, 0)
    ended(workshop, sitting, three, call(workshop, sitting, three))
    with pytest.raises(BudgetSpent, match="The day's"):
        call(workshop, sitting, four)


def test_counts_a_reply_in_the_day_it_came(workshop: Workshop, at: Callable[[datetime], None]) -> None:
    at(NOON)
    for n in range(2):
        workshop.asked(f"Number {n}.")
    sitting = begun(workshop)
    bound(workshop, replies_a_day=1)
    first, second = sitting.claimed
    made = call(workshop, sitting, first)
    at(NOON + timedelta(days=1))
    with pytest.raises(BudgetSpent, match="still open"):
        call(workshop, sitting, second)
    ended(workshop, sitting, first, made)
    with pytest.raises(BudgetSpent, match="The day's budget is spent"):
        call(workshop, sitting, second)


def test_goes_by_the_database_clock(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "now", lambda: datetime.now(UTC) - timedelta(days=40))
    workshop.asked()
    sitting = begun(workshop)
    (claimed,) = sitting.claimed
    ended(workshop, sitting, claimed, call(workshop, sitting, claimed))
    assert spent(workshop).day == budgets.Counted(2100, 0, 1, 0)


# Two workers


@pytest.mark.parametrize("what", ["cost", "replies", "reader"])
def test_lets_only_so_many_of_eight_workers_call_as_the_budget_has_room_for(workshop: Workshop, what: str) -> None:
    essays = [workshop.essay(f"# Number {n}\n\nWords.") for n in range(8)]
    one_reader(workshop, *(workshop.asked(essay_id=essay_id) for essay_id in essays))
    sittings = [begun(workshop, essay_id) for essay_id in essays]
    dearest = max(most(workshop, sitting, sitting.claimed[0]) for sitting in sittings)
    bounds = {"cost": {"cost_a_day": 3 * dearest}, "replies": {"replies_a_day": 3}, "reader": {"replies_a_reader": 3}}
    bound(workshop, **bounds[what])
    together = Barrier(8)

    def work(sitting: Sitting) -> bool:
        together.wait(30)
        try:
            call(workshop, sitting, sitting.claimed[0])
        except BudgetSpent:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(work, sittings))
    assert sum(made) == len(workshop.generations()) == 3
    assert spent(workshop).day.cost <= 3 * dearest
    assert spent(workshop).day.replies == 3


# The bounds themselves


def test_lets_what_a_budget_put_off_be_asked_once_it_is_raised(workshop: Workshop) -> None:
    put_off, busy = workshop.asked("One."), workshop.asked("Two.")
    sitting = begun(workshop)
    first, second = sitting.claimed
    bound(workshop, replies_a_day=0)
    with pytest.raises(BudgetSpent) as refused:
        call(workshop, sitting, first)
    step(workshop, replies.wait_again, sitting, first, refused.value.why, until=refused.value.until)
    step(workshop, replies.wait_again, sitting, second, "Busy.", seconds=3600)
    assert workshop.request(put_off).not_before == refused.value.until
    assert step(workshop, replies.essays_waiting) == []
    freed = step(
        workshop, lambda session: budgets.set_bounds(session, voices.held(session, 1), Bounds(replies_a_day=9))
    )
    assert freed == [workshop.essay_id] == step(workshop, replies.essays_waiting)
    assert (workshop.request(put_off).not_before, workshop.request(put_off).why) == (None, None)
    assert workshop.request(busy).not_before is not None


def test_is_due_at_the_midnight_it_was_put_off_to(workshop: Workshop) -> None:
    workshop.asked()
    with workshop.site.database.sessions.begin() as session:
        session.execute(update(ReplyRequest).values(not_before=database_time() + 3600))
    assert step(workshop, replies.essays_waiting) == []
    workshop.time_passes()
    assert step(workshop, replies.essays_waiting) == [workshop.essay_id]


@pytest.mark.parametrize(
    ("written", "cost"),
    [
        ("", None),
        ("  ", None),
        ("0", 0),
        ("2.5", 2_500_000),
        (" $2.50 ", 2_500_000),
        ("0.000001", 1),
        ("2147", 2_147_000_000),
        ("10.10", 10_100_000),
    ],
)
def test_reads_dollars_as_they_are_written(written: str, cost: int | None) -> None:
    bounds = budgets.read_bounds({"cost_a_day": written, "replies_a_month": written if cost is None else ""})
    assert bounds == Bounds(cost_a_day=cost)
    assert budgets.read_bounds(budgets.written(bounds)) == bounds


@pytest.mark.parametrize(
    "written",
    [
        "-1",
        "2147.000001",
        "99999",
        "1,000",
        "1e3",
        "NaN",
        "inf",
        "2.",
        ".5",
        "2.5.1",
        "1.0000001",
        "\u0662",
        "two",
        "1 2",
    ],
)
def test_refuses_what_is_no_amount(written: str) -> None:
    with pytest.raises(BudgetRefused, match="Nothing was changed") as refused:
        budgets.read_bounds({"cost_a_month": written})
    assert refused.value.field == "cost_a_month"


@pytest.mark.parametrize("field", ["replies_a_day", "replies_a_month", "replies_a_reader", "replies_a_thread"])
@pytest.mark.parametrize("written", ["-1", "1.5", "1000001", "12345678", "\u0662", "many", "1 2"])
def test_refuses_what_is_no_count(written: str, field: str) -> None:
    with pytest.raises(BudgetRefused) as refused:
        budgets.read_bounds({field: written})
    assert refused.value.field == field


def test_reads_every_bound_that_it_writes() -> None:
    bounds = Bounds(1, 2, 3, 4, 5, 6)
    assert budgets.read_bounds(budgets.written(bounds)) == bounds


def test_writes_dollars_to_the_cent_and_small_ones_further() -> None:
    assert [budgets.dollars(cost) for cost in (0, 4_300, 99_999, 100_000, 1_234_560_000)] == [
        "$0.00",
        "$0.0043",
        "$0.1000",
        "$0.10",
        "$1,234.56",
    ]


def test_counts_nothing_of_another_voice(workshop: Workshop) -> None:
    with workshop.site.database.sessions.begin() as session:
        other = voices.add(session, voices.NewVoice("Understudy", MODEL, "You rest.", price_in=1, price_out=1))
        assert budgets.counted(session, other.id, at=budgets.clock(session)).month.cost == 0
    workshop.asked()
    sitting = begun(workshop)
    call(workshop, sitting, sitting.claimed[0])
    with workshop.site.database.reading_sessions() as session:
        nothing = budgets.Counted(0, 0, 0, 0)
        assert budgets.counted(session, other.id, at=budgets.clock(session)) == budgets.Spent(nothing, nothing)
        assert session.get_one(Voice, other.id).cost_a_day is None
        assert session.query(Generation).count() == 1
