import random

import pytest

from workers.rehearsal.faults import Fault, Faults, Kind, UnknownFault, parse_fault, parse_shares, split_letter


class Drawn(random.Random):
    """Chance that draws what it is told to."""

    def __init__(self, *draws: float) -> None:
        super().__init__(0)
        self.draws = list(draws)

    def random(self) -> float:
        return self.draws.pop(0)


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        (
            "status=529; retry-after=1; times=2; key=K",
            Fault(kind=Kind.STATUS, status=529, retry_after="1", times=2, key="K"),
        ),
        ("status=429;code=enforced_spend_limit_reached", Fault(Kind.STATUS, 429, code="enforced_spend_limit_reached")),
        ("slow=2", Fault(slow=2)),
        ("decline; drip=1.5", Fault(Kind.DECLINE, drip=1.5)),
        ("stop=pause_turn", Fault(Kind.STOP, word="pause_turn")),
        ("block=server_tool_use", Fault(Kind.BLOCK, word="server_tool_use")),
        *((kind, Fault(Kind(kind))) for kind in ("drop", "cut", "hang", "html", "bad-json", "holes", "refusal")),
        *(
            (kind, Fault(Kind(kind)))
            for kind in ("max-tokens", "other-model", "expire", "note-only", "silence", "empty")
        ),
    ],
)
def test_reads_the_whole_vocabulary(asked: str, fault: Fault) -> None:
    assert parse_fault(asked) == fault


@pytest.mark.parametrize(
    "asked",
    [
        "",
        "nonsense",
        "Drop",
        "drop=1",
        "status",
        "status=200",
        "status=42",
        "stop",
        "stop=two words",
        "slow=-1",
        "slow=nan",
        "slow=inf",
        "drip=soon",
        "times=2",
        "drop; times=0",
        "drop; hang",
        "drop; retry-after=1",
        "slow=1; slow=2",
        "drop; key=",
    ],
)
def test_refuses_what_is_not_in_the_vocabulary(asked: str) -> None:
    with pytest.raises(UnknownFault):
        parse_fault(asked)


def test_reads_shares_after_the_last_colon() -> None:
    assert parse_shares("status=429;retry-after=1:0.1, drop:0.02") == (
        (Fault(Kind.STATUS, 429, retry_after="1"), 0.1),
        (Fault(Kind.DROP), 0.02),
    )
    assert parse_shares("") == ()


@pytest.mark.parametrize(
    "asked", ["drop", "drop:2", "drop:-1", "drop:nan", "drop:0.6,hang:0.5", "drop:0.1,", "what:0.1"]
)
def test_refuses_shares_that_are_none(asked: str) -> None:
    with pytest.raises(UnknownFault):
        parse_shares(asked)


def test_draws_once_for_all_shares() -> None:
    faults = Faults(parse_shares("drop:0.1,hang:0.2"), Drawn(0.05, 0.1, 0.29, 0.31, 0.99))
    drawn = [faults.by_chance() for _ in range(5)]
    assert [fault and fault.kind for fault in drawn] == [Kind.DROP, Kind.HANG, Kind.HANG, None, None]


@pytest.mark.parametrize(
    ("letter", "words", "kind"),
    [
        ("Hello.\n[[drop]]", "Hello.", Kind.DROP),
        ("Hello.\n\n  [[ stop=strange; times=1 ]] ", "Hello.", Kind.STOP),
        ("[[silence]]", "", Kind.SILENCE),
        ("See\n[[Wiki page]]", "See\n[[Wiki page]]", None),
        ("[[drop]]\nnot the last line", "[[drop]]\nnot the last line", None),
        ("in the middle [[drop]]", "in the middle [[drop]]", None),
    ],
)
def test_takes_a_letters_last_line_only_if_it_asks_for_a_fault(letter: str, words: str, kind: Kind | None) -> None:
    left, fault = split_letter(letter)
    assert (left, fault and fault.kind) == (words, kind)


def test_counts_requests_by_key_whatever_way_they_ask() -> None:
    faults = Faults((), Drawn())
    asked = {"x-rehearsal": "drop; times=2; key=K"}
    other = {"x-rehearsal": "drop; times=2; key=L"}
    letter = parse_fault("drop; times=2; key=K")
    assert faults.by_header(asked) is not None
    assert faults.by_letter(letter, "a letter", continued=False) is not None
    assert faults.by_header(asked) is None
    assert faults.by_header(other) is not None


def test_counts_letters_apart_where_no_key_is_named() -> None:
    faults = Faults((), Drawn())
    fault = parse_fault("drop; times=1")
    answers = [faults.by_letter(fault, letter, continued=False) for letter in ("one", "two", "one")]
    assert [bool(answer) for answer in answers] == [True, True, False]
