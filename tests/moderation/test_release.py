"""The way out: approved words, checked against the digest that was approved, and nothing else."""

from types import SimpleNamespace

import pytest
from ground.vault import Vault, unlock
from sqlalchemy import select

from bridge import db
from moderation import release
from moderation.errors import NotWhatWasReviewed
from moderation.records import Submission
from moderation.types import Standing, State


def standing(vault: Vault, *submission_ids: int) -> dict[int, Standing]:
    with vault.database.reading_sessions() as session:
        return release.standing(session, submission_ids)


def everything(vault: Vault) -> list[int]:
    with vault.database.reading_sessions() as session:
        return list(session.scalars(select(Submission.id)))


def states(us: SimpleNamespace) -> dict[int, State]:
    return {
        us.essay: State.APPROVED,
        us.older: State.SUPERSEDED,
        us.comment: State.APPROVED,
        us.reply: State.APPROVED,
        us.vetoed: State.REJECTED,
        us.lapsed: State.APPROVED,
        us.rejected: State.REJECTED,
        us.withdrawn: State.WITHDRAWN,
        us.first_erased: State.WITHDRAWN,
        us.erased: State.WITHDRAWN,
        us.pending: State.PENDING,
        us.proposed: State.PENDING,
    }


def test_lets_out_the_approved_and_nothing_else(vault: Vault) -> None:
    expected = states(vault.live())
    out = vault.released(*expected, 999, -1)
    assert set(out) == {each for each, state in expected.items() if state is State.APPROVED}
    everyone = vault.released(*everything(vault))
    with vault.database.reading_sessions() as session:
        approved = set(session.scalars(release.approved_ids()))
    assert set(everyone) < approved  # The query counts words that were withdrawn later.
    assert all(standing(vault, each)[each].state is State.APPROVED for each in everyone)


def test_tells_how_each_stands(vault: Vault) -> None:
    us = vault.live()
    expected = states(us)
    found = standing(vault, *expected, 999)
    assert {each: how.state for each, how in found.items()} == expected
    assert found[us.erased].was_released
    assert not found[us.withdrawn].was_released
    assert (found[us.rejected].reason_code, found[us.rejected].told) == ("spam", "No advertising, please.")
    assert (found[us.vetoed].reason_code, found[us.vetoed].told) == ("personal_data", "Another time.")
    assert found[us.erased].withdrawn_at is not None
    assert found[us.pending].decided_at is None


def test_asks_for_many_at_once(sqlite_vault: Vault) -> None:
    comment = sqlite_vault.comment()
    sqlite_vault.approve(comment)
    assert set(sqlite_vault.released(*range(1, 2000))) == {sqlite_vault.essay, comment}
    assert set(standing(sqlite_vault, *range(1, 2000))) == {sqlite_vault.essay, comment}


@pytest.mark.parametrize(
    "change",
    [
        "body = body || ' '",
        "author = 'Understudy'",
        "nonce = '00000000000000000000000000000000'",
        "kind = 'essay'",
        "in_answer_to = NULL",
        "digest = '0000000000000000000000000000000000000000000000000000000000000000'",
        "body = NULL, author = NULL, nonce = NULL",
    ],
)
def test_lets_out_no_words_that_were_changed_behind_its_back(sqlite_url: str, change: str) -> None:
    database = db.connect(sqlite_url)
    vault = Vault(database)
    comment = vault.comment()
    vault.approve(comment)
    owner = db.owner_engine(sqlite_url)
    with owner.begin() as connection:
        unlock(connection)
        connection.exec_driver_sql(f"UPDATE submissions SET {change} WHERE id = {comment}")
    owner.dispose()
    with pytest.raises(NotWhatWasReviewed) as refusal:
        vault.released(vault.essay, comment)
    assert refusal.value.submission_id == comment
    assert "dream" not in str(refusal.value)
    database.dispose()


def test_lets_out_no_words_and_digest_that_were_changed_together(sqlite_url: str) -> None:
    database = db.connect(sqlite_url)
    vault = Vault(database)
    comment, other = vault.comment("Yes."), vault.comment("No.")
    vault.approve(comment)
    owner = db.owner_engine(sqlite_url)
    with owner.begin() as connection:
        unlock(connection)
        # The pending words, with their own nonce and digest, in the place of the approved ones.
        connection.exec_driver_sql(f"UPDATE submissions SET id = 999 WHERE id = {comment}")
        connection.exec_driver_sql(f"UPDATE submissions SET id = {comment} WHERE id = {other}")
        connection.exec_driver_sql(f"UPDATE submissions SET id = {other} WHERE id = 999")
    owner.dispose()
    with pytest.raises(NotWhatWasReviewed):
        vault.released(comment)
    database.dispose()


def test_approves_no_words_that_were_changed_while_they_waited(sqlite_url: str) -> None:
    database = db.connect(sqlite_url)
    vault = Vault(database)
    comment = vault.comment("Yes.")
    seen = vault.digest(comment)
    owner = db.owner_engine(sqlite_url)
    with owner.begin() as connection:
        unlock(connection)
        connection.exec_driver_sql(f"UPDATE submissions SET body = 'No.' WHERE id = {comment}")
    owner.dispose()
    with pytest.raises(NotWhatWasReviewed):
        vault.approve(comment, seen=seen)
    assert vault.state(comment) is State.PENDING
    database.dispose()
