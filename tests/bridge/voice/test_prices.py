"""Prices: a row of the table by model and day, or a voice's own, reckoned to the millionth of a dollar."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from bridge.records import Voice
from bridge.voice import prices
from bridge.voice.model import Usage
from workers.rehearsal.models import CATALOGUE

OPUS = "claude-3-opus-20240229"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
USED = Usage(fresh=150, cache_read=5600, cache_written=0, cache_written_for_an_hour=0, output=250)


def voice(model: str = OPUS, price_in: float | None = None, price_out: float | None = None, **more: str) -> Voice:
    return Voice(model=model, price_in=price_in, price_out=price_out, **{"endpoint": "anthropic", **more})


def price(model: str = OPUS, at: datetime = NOW) -> prices.Price:
    found = prices.of(voice(model), at)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("model", "each_in", "each_out", "read"),
    [
        (OPUS, "15", "75", "0.1"),
        ("claude-opus-5-5", "4", "20", "0.05"),
        ("claude-sonnet-5-5", "2", "10", "0.05"),
        ("claude-haiku-5-5", "0.10", "0.50", "0.1"),
        ("claude-fable-5-1", "10", "50", "0.025"),
    ],
)
def test_knows_the_prices_that_are_published(model: str, each_in: str, each_out: str, read: str) -> None:
    found = price(model)
    assert (found.input, found.output, found.cache_read) == (Decimal(each_in), Decimal(each_out), Decimal(read))
    assert (found.cache_write, found.cache_write_hour, found.batch) == (Decimal("1.25"), 2, Decimal("0.5"))
    assert found.model == model


def test_has_a_row_for_every_model_that_the_rehearsal_knows() -> None:
    assert [model for model in CATALOGUE if prices.row(model, NOW.date()) is None] == []


def test_says_of_every_row_where_it_was_read_and_makes_sense_of_it() -> None:
    rows = prices.table()
    assert len({(each.model, each.since) for each in rows}) == len(rows)
    for each in rows:
        assert each.since is not None
        assert each.source
        assert 0 < each.input < each.output
        assert each.cache_read < 1 < each.cache_write < each.cache_write_hour
        assert 0 < each.batch < 1
        assert (each.long_prompt is None) is (each.long_input is None) is (each.long_output is None)


def test_goes_by_the_newest_row_that_is_not_after_the_day() -> None:
    last = datetime(2026, 10, 6, 23, 59, 59, tzinfo=UTC)
    assert price("claude-sonnet-5-5", last).cache_read == Decimal("0.1")
    assert price("claude-sonnet-5-5", datetime(2026, 10, 7, tzinfo=UTC)).cache_read == Decimal("0.05")
    # By the day in UTC, whatever the zone it is told in.
    assert price("claude-sonnet-5-5", datetime.fromisoformat("2026-10-07T01:00:00+02:00")).cache_read == Decimal("0.1")
    assert prices.of(voice(), datetime(2024, 2, 28, tzinfo=UTC)) is None


def test_knows_no_price_of_a_model_that_is_not_in_the_table_nor_of_another_cloud() -> None:
    assert prices.of(voice("no-such-model-0"), NOW) is None
    assert prices.of(voice("claude-opus-5-5", endpoint="vertex"), NOW) is None
    assert prices.of(voice("claude-opus-5-5", endpoint="bedrock"), NOW) is None


def test_lets_the_voices_own_prices_win_with_the_models_factors() -> None:
    own = prices.of(voice("claude-opus-5-5", 3, 12.5), NOW)
    assert own is not None
    assert (own.input, own.output, own.cache_read) == (3, Decimal("12.5"), Decimal("0.05"))
    assert (own.since, own.source) == (None, prices.OF_ITS_OWN)
    other = prices.of(voice("no-such-model-0", 1, 1, endpoint="vertex"), NOW)
    assert other is not None
    assert other.cache_read == Decimal("0.1")
    # One of the two says nothing.
    half = prices.of(voice("claude-opus-5-5", 3), NOW)
    assert half is not None
    assert half.input == 4


def test_reckons_the_case_that_is_worked_out_in_our_notes() -> None:
    # MODEL-API, section 2: 1,000 replies in sittings of 20, first one, then 19; Opus 3: $34.23; Opus 5.5: $8.06.
    wrote = Usage(fresh=150, cache_read=0, cache_written=5600, cache_written_for_an_hour=0, output=250)
    for model, live in ((OPUS, 34.23), ("claude-opus-5-5", 8.06)):
        found = price(model)
        assert round((50 * found.cost(wrote) + 950 * found.cost(USED)) / 1e6, 2) == live
    naive = Usage(fresh=5750, cache_read=0, cache_written=0, cache_written_for_an_hour=0, output=250)
    assert price().cost(naive) * 1000 == 105_000_000
    assert price().cost(naive, batched=True) * 1000 == 52_500_000


def test_rounds_up_once_and_exactly() -> None:
    haiku = price("claude-haiku-5-5")
    one = Usage(fresh=1, cache_read=0, cache_written=0, cache_written_for_an_hour=0, output=0)
    assert haiku.cost(one) == 1
    # In floats a tenth three times is more than three tenths, and would be rounded up to the next.
    many = Usage(fresh=30, cache_read=0, cache_written=0, cache_written_for_an_hour=0, output=14)
    assert haiku.cost(many) == 10
    hour = Usage(fresh=0, cache_read=0, cache_written=30, cache_written_for_an_hour=10, output=0)
    assert price().cost(hour) == 15 * (20 * 1.25 + 10 * 2)
    assert price().cost(hour, batched=True) == 338


def test_costs_more_where_a_prompt_is_long() -> None:
    haiku = price("claude-haiku-5-5")
    short = Usage(fresh=50_000, cache_read=50_000, cache_written=0, cache_written_for_an_hour=0, output=1000)
    assert haiku.cost(short) == 5000 + 500 + 500
    long = Usage(fresh=50_000, cache_read=50_001, cache_written=0, cache_written_for_an_hour=0, output=1000)
    assert haiku.cost(long) == 25_000 + 2501 + 2500
    assert haiku.greatest(100_001, 0) > 4 * haiku.greatest(100_000, 0)


def test_reckons_the_most_as_if_all_of_it_were_written_to_the_cache() -> None:
    found = price()
    assert found.greatest(1000, 10) == 1250 * 15 + 10 * 75
    assert found.greatest(1000, 10, for_an_hour=True) == 2000 * 15 + 10 * 75
    assert found.greatest(1000, 10, batched=True, for_an_hour=True) == (2000 * 15 + 10 * 75) / 2


@pytest.mark.parametrize("found", [*prices.table(), prices.of(voice("no-such-model-0", 0.3, 1.5), NOW)])
def test_keeps_a_price_on_record_and_reads_it_back(found: prices.Price) -> None:
    record = found.as_record()
    assert prices.recorded(record) == found
    assert record.get("since") == (found.since.isoformat() if isinstance(found.since, date) else None)


def test_reads_no_price_where_none_is_kept() -> None:
    assert prices.recorded(None) is None
