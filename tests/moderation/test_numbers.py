"""What was decided, counted by month: on both databases the same."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from ground.vault import LONG, Vault
from sqlalchemy import Select, literal, select

from moderation import appeals, gate, moderators, numbers, takedowns
from moderation.base import Base
from moderation.types import Kind, Verdict

SUBMISSIONS = Base.metadata.tables["submissions"]
MAY = datetime(2026, 5, 31, 23, 0, tzinfo=UTC)
At = Callable[[datetime], None]


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> At:
    """Set the gate's clock."""

    def moment(when: datetime) -> None:
        for module in (gate, takedowns, appeals):
            monkeypatch.setattr(module, "now", lambda: when)

    return moment


def everything() -> Select[int, int]:
    """Return every submission that nothing superseded, all for group 7."""
    newer = select(SUBMISSIONS.c.supersedes).where(SUBMISSIONS.c.supersedes.is_not(None))
    return select(SUBMISSIONS.c.id, literal(7)).where(SUBMISSIONS.c.id.not_in(newer))


def test_counts_each_verdict_in_the_month_of_its_decision(vault: Vault, at: At) -> None:
    at(MAY)
    first, second, third = (vault.comment(str(n)) for n in range(3))
    vault.approve(first)
    at(MAY + timedelta(hours=2))  # June, in UTC, whatever the database's own zone.
    vault.approve(second)
    vault.reject(third, code="spam", reason=None)
    with vault.database.reading_sessions() as session:
        found = numbers.decided(session, everything())
    assert {key: count for key, count in found.items() if key[2] is Kind.COMMENT} == {
        (7, "2026-05", Kind.COMMENT, Verdict.APPROVE, None): 1,
        (7, "2026-06", Kind.COMMENT, Verdict.APPROVE, None): 1,
        (7, "2026-06", Kind.COMMENT, Verdict.REJECT, "spam"): 1,
    }


def test_counts_a_rejection_that_was_appealed_against_and_the_appeal(vault: Vault) -> None:
    comment, other, third, pending = (vault.comment(str(n)) for n in range(4))
    for each in (comment, other, third, pending):
        vault.reject(each, code="off_topic", reason=None)
    with vault.database.sessions.begin() as session:
        granted, refused, gone, _ = [
            appeals.appeal(session, each, words="Read it again.", essay=vault.essay)
            for each in (comment, other, third, pending)
        ]
    vault.approve(granted, by=1)
    vault.reject(refused, by=1, code="off_topic", reason=None)
    vault.withdraw(gone)
    with vault.database.reading_sessions() as session:
        found = numbers.decided(session, everything())
        came_to = numbers.appeals(session)
    assert sum(count for (_, _, _, _, code), count in found.items() if code == "off_topic") == 5
    # The fourth waits, and that is nobody's to know.
    assert (came_to.ended, came_to.granted, came_to.refused, came_to.withdrawn) == (3, 1, 1, 1)


def test_counts_words_that_were_erased(vault: Vault) -> None:
    comment = vault.comment()
    vault.approve(comment)
    before = counted(vault)
    vault.withdraw(comment)
    vault.erase(comment)
    assert counted(vault) == before
    with vault.database.reading_sessions() as session:
        ((_, _, kind, code),) = numbers.taken_down(session, everything())
    assert (kind, code) == (Kind.COMMENT, None)  # By its author, so there is no code.


def counted(vault: Vault) -> dict[tuple[int, str, Kind, Verdict, str | None], int]:
    with vault.database.reading_sessions() as session:
        return numbers.decided(session, everything())


def test_counts_what_was_taken_down_by_its_code(vault: Vault) -> None:
    with vault.database.sessions.begin() as session:
        dora = moderators.add(session, "Dora", "admin")
    comment, pending = vault.comment(), vault.comment("Two.")
    vault.approve(comment)
    vault.withdraw(pending)  # Never posted, so it counts as nothing.
    with vault.database.sessions.begin() as session:
        seen = vault.digest(comment)
        takedowns.take_down(session, comment, moderator=dora, seen=seen, code="abuse", reason=LONG)
    with vault.database.reading_sessions() as session:
        assert [(key[2], key[3], n) for key, n in numbers.taken_down(session, everything()).items()] == [
            (Kind.COMMENT, "abuse", 1)
        ]


@pytest.mark.parametrize(("hours", "median"), [([5], 5), ([1, 9], 5), ([1, 2, 90], 2), ([4, 1, 3, 2], 2.5)], ids=str)
def test_measures_the_median(vault: Vault, at: At, hours: list[int], median: float) -> None:
    begin = datetime(2026, 6, 1, tzinfo=UTC)
    at(begin)
    comments = [vault.comment(str(n)) for n in hours]
    for comment, after in zip(comments, hours, strict=True):
        at(begin + timedelta(hours=after))
        vault.approve(comment)
    with vault.database.reading_sessions() as session:
        found = numbers.time_to_decide(session, everything(), Kind.COMMENT, Verdict.APPROVE)
    assert found == {(7, "2026-06"): pytest.approx(median * 3600, abs=0.01)}


def test_measures_from_a_letter_s_approval_to_its_answer(vault: Vault, at: At) -> None:
    begin = datetime(2026, 6, 1, tzinfo=UTC)
    at(begin)
    comment = vault.comment()
    at(begin + timedelta(hours=1))
    vault.approve(comment)
    at(begin + timedelta(hours=4))
    reply = vault.reply(to=comment)
    at(begin + timedelta(hours=9))
    vault.approve(reply)
    with vault.database.reading_sessions() as session:
        to_answer = numbers.time_to_answer(session, everything())
        to_decide = numbers.time_to_decide(session, everything(), Kind.REPLY, Verdict.APPROVE)
        to_veto = numbers.time_to_decide(session, everything(), Kind.REPLY, Verdict.REJECT)
    assert to_answer == {(7, "2026-06"): pytest.approx(3 * 3600, abs=0.01)}
    assert to_decide == {(7, "2026-06"): pytest.approx(5 * 3600, abs=0.01)}
    assert to_veto == {}


def test_counts_nothing_of_nothing(vault: Vault) -> None:
    nothing = select(SUBMISSIONS.c.id, literal(7)).where(SUBMISSIONS.c.id < 0)
    with vault.database.reading_sessions() as session:
        assert numbers.decided(session, nothing) == {}
        assert numbers.taken_down(session, nothing) == {}
        assert numbers.time_to_decide(session, nothing, Kind.REPLY, Verdict.APPROVE) == {}
        assert numbers.time_to_answer(session, nothing) == {}
        assert numbers.appeals(session).ended == 0
