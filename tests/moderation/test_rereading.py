"""Second readings: by another moderator, once, blind to the first verdict, and without effect on the words."""

import pytest
from ground.vault import Vault, at_once

from moderation import rereading
from moderation.errors import (
    AnotherModeratorNeeded,
    NothingToReread,
    NotTheWordsStored,
    Refused,
    UnknownModerator,
    UnknownReasonCode,
)
from moderation.types import Digest, ModeratorId, SubmissionId, Verdict


def asked(vault: Vault, body: str = "Do you dream?") -> SubmissionId:
    comment = vault.comment(body)
    vault.approve(comment)
    with vault.database.sessions.begin() as session:
        rereading.ask(session, comment)
    return comment


def answer(
    vault: Vault,
    submission_id: int,
    *,
    by: int = 1,
    verdict: Verdict = Verdict.APPROVE,
    code: str | None = None,
    seen: Digest | None = None,
) -> None:
    seen = seen or vault.digest(submission_id)
    with vault.database.sessions.begin() as session:
        rereading.answer(session, submission_id, moderator=vault.people[by], seen=seen, verdict=verdict, code=code)


def awaiting(vault: Vault, by: int, *, after: int = 0, limit: int = 50) -> list[SubmissionId]:
    with vault.database.reading_sessions() as session:
        return [words.id for words in rereading.awaiting(session, vault.people[by], after=after, limit=limit)]


def agreement(vault: Vault) -> tuple[int, int]:
    with vault.database.reading_sessions() as session:
        return rereading.agreement(session)


def test_shows_approved_words_to_another_moderator(vault: Vault) -> None:
    one, two = asked(vault), asked(vault, "And you?")
    assert awaiting(vault, 0) == []
    assert awaiting(vault, 1) == [one, two]
    assert awaiting(vault, 1, limit=1) == [one]
    assert awaiting(vault, 1, after=one) == [two]
    vault.withdraw(two)
    assert awaiting(vault, 2) == [one]


def test_counts_who_agrees(vault: Vault) -> None:
    assert agreement(vault) == (0, 0)
    answer(vault, asked(vault))
    answer(vault, asked(vault, "And you?"), verdict=Verdict.REJECT, code="off_topic")
    assert agreement(vault) == (1, 2)
    assert awaiting(vault, 1) == []


def test_changes_nothing_about_the_words(vault: Vault) -> None:
    comment = asked(vault)
    before = vault.told()
    answer(vault, comment, verdict=Verdict.REJECT, code="off_topic")
    assert comment in vault.released(comment)
    assert vault.told() == before
    assert vault.verify() is None


def test_takes_one_of_two_answers_at_once(vault: Vault) -> None:
    comment = asked(vault)
    outcomes = at_once(lambda: answer(vault, comment, by=1), lambda: answer(vault, comment, by=2))
    assert sorted(isinstance(outcome, NothingToReread) for outcome in outcomes) == [False, True]
    assert agreement(vault) == (1, 1)


def test_refuses_what_is_no_second_reading(vault: Vault) -> None:
    comment, never = asked(vault), vault.comment("Never asked.")
    with pytest.raises(AnotherModeratorNeeded):
        answer(vault, comment, by=0)
    with pytest.raises(NothingToReread):
        answer(vault, never)
    with pytest.raises(NotTheWordsStored):
        answer(vault, comment, seen=Digest("0" * 64))
    with pytest.raises(UnknownReasonCode):
        answer(vault, comment, verdict=Verdict.REJECT)
    with pytest.raises(UnknownReasonCode):
        answer(vault, comment, verdict=Verdict.REJECT, code="harm")
    with pytest.raises(Refused, match="no reason code"):
        answer(vault, comment, code="spam")
    with pytest.raises(UnknownModerator), vault.database.sessions.begin() as session:
        rereading.answer(
            session, comment, moderator=ModeratorId(999), seen=vault.digest(comment), verdict=Verdict.APPROVE
        )
    assert agreement(vault) == (0, 0)
    answer(vault, comment)
    with pytest.raises(NothingToReread):
        answer(vault, comment, by=2)


def test_passes_over_what_was_vetoed_after_it_was_asked_for(vault: Vault) -> None:
    vetoed = [vault.reply(f"Number {number}.") for number in range(3)]
    with vault.database.sessions.begin() as session:
        for reply in vetoed:
            rereading.ask_again(session, reply)
    with pytest.raises(NothingToReread):
        answer(vault, vetoed[0], by=2)
    for reply in vetoed:
        vault.reject(reply)
        vault.reject(reply, by=1)
    good = asked(vault)
    assert awaiting(vault, 2, limit=3) == [good]
    with pytest.raises(NothingToReread):
        answer(vault, vetoed[0], by=2)
    assert agreement(vault) == (0, 0)


def test_takes_no_second_reading_of_what_is_out_no_more(vault: Vault) -> None:
    comment = asked(vault)
    vault.withdraw(comment)
    with pytest.raises(NothingToReread):
        answer(vault, comment)
