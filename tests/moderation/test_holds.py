"""Holds: a wish for a second reader, which decides nothing and is over with the verdict."""

import pytest
from ground.vault import Vault
from sqlalchemy import select

from moderation import holds, moderators, queue
from moderation.errors import AlreadyDecided, NoLongerPending, NoSuchSubmission, UnknownModerator
from moderation.records import Hold
from moderation.types import Held, ModeratorId, SubmissionId


def hold(vault: Vault, submission_id: int, *, by: int = 0) -> None:
    with vault.database.sessions.begin() as session:
        holds.hold(session, submission_id, moderator=vault.people[by])


def let_go(vault: Vault, submission_id: int, *, by: int = 0) -> None:
    with vault.database.sessions.begin() as session:
        holds.let_go(session, submission_id, moderator=vault.people[by])


def held(vault: Vault, submission_id: int) -> Held | None:
    with vault.database.reading_sessions() as session:
        found = queue.pending(session, submission_id)
    assert found is not None
    return found.held


def waiting(vault: Vault, **chosen: object) -> list[SubmissionId]:
    with vault.database.reading_sessions() as session:
        return [pending.id for pending in queue.awaiting_review(session, **chosen)]  # type: ignore[arg-type]


def rows(vault: Vault) -> list[Hold]:
    with vault.database.reading_sessions() as session:
        return list(session.scalars(select(Hold).order_by(Hold.id)))


def test_leaves_a_held_submission_to_the_others(vault: Vault) -> None:
    one, other = vault.comment(), vault.comment("And you?")
    hold(vault, one)
    assert waiting(vault) == [one, other]
    assert waiting(vault, held=True) == [one]
    assert waiting(vault, held=False) == [other]
    assert waiting(vault, not_held_by=vault.people[0]) == [other]
    assert waiting(vault, not_held_by=vault.people[1]) == [one, other]
    shown = held(vault, one)
    assert shown is not None
    assert shown.moderator == vault.people[0]
    with vault.database.reading_sessions() as session:
        assert queue.number(session, held=True) == 1


def test_holds_once_however_often_it_is_asked_to(vault: Vault) -> None:
    comment = vault.comment()
    hold(vault, comment)
    before = held(vault, comment)
    hold(vault, comment)
    assert held(vault, comment) == before
    assert len(rows(vault)) == 1


def test_hands_a_held_submission_back_when_the_second_reader_holds_it_too(vault: Vault) -> None:
    comment = vault.comment()
    hold(vault, comment)
    hold(vault, comment, by=1)
    shown = held(vault, comment)
    assert shown is not None
    assert shown.moderator == vault.people[1]
    assert waiting(vault, not_held_by=vault.people[0]) == [comment]
    first, second = rows(vault)
    assert first.ended_at is not None
    assert second.ended_at is None


def test_puts_a_held_submission_back_among_the_others(vault: Vault) -> None:
    comment = vault.comment()
    hold(vault, comment)
    let_go(vault, comment, by=1)
    assert held(vault, comment) is None
    let_go(vault, comment)
    assert waiting(vault, held=False) == [comment]


@pytest.mark.parametrize("way", ["approved", "rejected", "withdrawn", "superseded"])
def test_ends_a_hold_when_the_words_leave_the_desk(vault: Vault, way: str) -> None:
    comment = vault.comment()
    hold(vault, comment)
    if way == "approved":
        vault.approve(comment)
    elif way == "rejected":
        vault.reject(comment, by=1)
    elif way == "withdrawn":
        vault.withdraw(comment)
    else:
        vault.comment("Do you dream at night?", supersedes=comment)
    assert [row.ended_at is None for row in rows(vault)] == [False]


def test_says_nothing_of_holds_in_the_ledger(vault: Vault) -> None:
    before = vault.told()
    hold(vault, vault.comment())
    assert vault.told() == before
    assert vault.verify() is None


def test_lets_the_holder_decide_after_all(vault: Vault) -> None:
    comment = vault.comment()
    hold(vault, comment)
    vault.approve(comment)
    assert comment in vault.released(comment)


def test_refuses_to_hold_what_does_not_wait(vault: Vault) -> None:
    approved, withdrawn = vault.comment(), vault.comment("And you?")
    vault.approve(approved)
    vault.withdraw(withdrawn)
    with pytest.raises(AlreadyDecided):
        hold(vault, approved)
    with pytest.raises(NoLongerPending):
        hold(vault, withdrawn)
    with pytest.raises(NoSuchSubmission):
        hold(vault, 999)
    with vault.database.sessions.begin() as session:
        moderators.deactivate(session, vault.people[2])
    with pytest.raises(UnknownModerator):
        hold(vault, vault.comment("Still there?"), by=2)
    with pytest.raises(UnknownModerator), vault.database.sessions.begin() as session:
        holds.let_go(session, approved, moderator=ModeratorId(999))
    assert rows(vault) == []
