"""Appeals: once, within twenty days, to another moderator; the decision that stands is never changed."""

from datetime import timedelta

import pytest
from ground.vault import Vault, at_once

from moderation import appeals, base, moderators, queue, release
from moderation.errors import (
    AnotherModeratorNeeded,
    CannotAppeal,
    NoSuchSubmission,
    NothingToAnswer,
    ReasonTooLong,
    ReasonTooShort,
    Refused,
)
from moderation.records import AppealRow
from moderation.types import Appealed, State, SubmissionId

WORDS = "It is a question and no advertisement."


def appeal(vault: Vault, rejected: int, words: str = WORDS) -> SubmissionId:
    with vault.database.sessions.begin() as session:
        return appeals.appeal(session, rejected, words=words, essay=vault.essay)


def rejected(vault: Vault, *, by: int = 0) -> SubmissionId:
    comment = vault.comment("Buy my book?")
    vault.reject(comment, by=by, code="spam", reason="It sells.", told="No selling here.")
    return comment


def appealed(vault: Vault, submission_id: int) -> Appealed | None:
    with vault.database.reading_sessions() as session:
        found = queue.pending(session, submission_id)
    assert found is not None
    return found.appealed


def may_appeal(vault: Vault, submission_id: int) -> bool:
    with vault.database.reading_sessions() as session:
        return appeals.may_appeal(session, submission_id)


def test_puts_the_same_words_before_another_moderator(vault: Vault) -> None:
    first = rejected(vault)
    assert may_appeal(vault, first)
    again = appeal(vault, first)
    shown = appealed(vault, again)
    assert shown is not None
    assert (shown.rejected, shown.rejected_by, shown.code) == (first, vault.people[0], "spam")
    assert (shown.told, shown.words) == ("No selling here.", WORDS)
    assert vault.digest(again) != vault.digest(first)
    assert vault.state(first) is State.REJECTED
    with pytest.raises(AnotherModeratorNeeded):
        vault.approve(again)
    with pytest.raises(AnotherModeratorNeeded):
        vault.reject(again, code="spam", reason=None)
    vault.approve(again, by=1)
    assert vault.released(first, again).keys() == {again}
    assert vault.released(again)[again].body == "Buy my book?"
    assert vault.verify() is None


def test_lets_a_second_rejection_stand(vault: Vault) -> None:
    again = appeal(vault, rejected(vault))
    vault.reject(again, by=1, code="spam", reason=None)
    assert vault.state(again) is State.REJECTED
    with pytest.raises(CannotAppeal, match="one appeal"):
        appeal(vault, again)
    assert vault.verify() is None


def test_takes_one_appeal(vault: Vault) -> None:
    first = rejected(vault)
    appeal(vault, first)
    assert not may_appeal(vault, first)
    with pytest.raises(CannotAppeal, match="one appeal"):
        appeal(vault, first)


def test_takes_one_of_two_appeals_at_once(vault: Vault) -> None:
    first = rejected(vault)
    outcomes = at_once(*[lambda: appeal(vault, first)] * 4)
    assert sorted(isinstance(outcome, CannotAppeal) for outcome in outcomes) == [False, True, True, True]
    assert vault.verify() is None


def test_hears_an_appeal_for_twenty_days(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    first = rejected(vault)
    later = base.now() + appeals.WITHIN
    monkeypatch.setattr(appeals, "now", lambda: later - timedelta(seconds=5))
    assert may_appeal(vault, first)
    monkeypatch.setattr(appeals, "now", lambda: later + timedelta(seconds=5))
    with pytest.raises(CannotAppeal, match="20 days"):
        appeal(vault, first)


def test_lets_a_sole_moderator_hear_an_appeal(vault: Vault) -> None:
    again = appeal(vault, rejected(vault))
    with vault.database.sessions.begin() as session:
        for other in vault.people[1:]:
            moderators.deactivate(session, other)
    vault.approve(again)
    assert again in vault.released(again)


def test_refuses_an_appeal_for_what_was_not_rejected(vault: Vault) -> None:
    pending, approved, taken_back = vault.comment(), vault.comment("And you?"), rejected(vault)
    vault.approve(approved)
    vault.withdraw(taken_back)
    vetoed = vault.reply()
    vault.reject(vetoed)
    vault.reject(vetoed, by=1)
    for submission_id in (pending, approved, taken_back, vetoed, vault.essay):
        assert not may_appeal(vault, submission_id)
        with pytest.raises(CannotAppeal):
            appeal(vault, submission_id)
    assert not may_appeal(vault, 999)
    with pytest.raises(NoSuchSubmission):
        appeal(vault, 999)


def test_refuses_an_appeal_without_words_or_with_too_many(vault: Vault) -> None:
    first = rejected(vault)
    with pytest.raises(ReasonTooShort):
        appeal(vault, first, " \n")
    with pytest.raises(ReasonTooLong):
        appeal(vault, first, "a" * (appeals.LENGTH + 1))
    assert may_appeal(vault, first)


def test_refuses_an_appeal_under_an_essay_that_was_taken_down(vault: Vault) -> None:
    first = rejected(vault)
    vault.withdraw(vault.essay, by="operator")
    with pytest.raises(NothingToAnswer):
        appeal(vault, first)


def test_keeps_the_words_of_an_appeal_as_they_were(vault: Vault) -> None:
    again = appeal(vault, rejected(vault))
    with pytest.raises(CannotAppeal, match="stay as they were"):
        vault.comment("Read my book.", supersedes=again)
    assert vault.state(again) is State.PENDING


def test_erases_an_appeal_with_all_that_it_was_about(vault: Vault) -> None:
    first = rejected(vault)
    again = appeal(vault, first)
    vault.withdraw(again)
    vault.withdraw(first)
    vault.erase(again)
    with vault.database.reading_sessions() as session:
        assert session.get_one(AppealRow, again).words is None
        how = release.standing(session, [first, again])
    assert [standing.erased_at is None for standing in how.values()] == [False, False]
    assert vault.verify() is None


def test_changes_nothing_when_it_refuses(vault: Vault) -> None:
    first = rejected(vault)
    before = vault.told()
    with pytest.raises(Refused):
        appeal(vault, first, "")
    assert vault.told() == before
    with vault.database.reading_sessions() as session:
        assert queue.awaiting_review(session) == []


def test_asks_for_another_moderator_only_where_an_appeal_is_heard(vault: Vault) -> None:
    older = vault.comment("First thougts.")
    newer = vault.comment("First thoughts.", supersedes=older)
    vault.approve(newer)
    assert newer in vault.released(newer)
