"""Moderators who act at once: eight threads start together on both databases, and the database settles it."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest
from ground.vault import Vault, at_once
from sqlalchemy import select, text

from bridge.db import Database, connect, owner_engine
from moderation import gate, moderators
from moderation.base import Base
from moderation.errors import AlreadyDecided, NoLongerPending, Refused, SecondModeratorNeeded
from moderation.types import Kind, ModeratorId, Rejection, State, SubmissionId

EIGHT = 8
DECISIONS = Base.metadata.tables["decisions"]


@pytest.fixture
def crowd(vault: Vault) -> Vault:
    """A vault with eight moderators."""
    with vault.database.sessions.begin() as session:
        vault.people = [moderators.add(session, f"Number {number}", "moderator") for number in range(EIGHT)]
    return vault


def approving(vault: Vault, submission_id: SubmissionId, by: int) -> Callable[[], object]:
    seen = vault.digest(submission_id)
    return lambda: vault.approve(submission_id, by=by, seen=seen)


def rejecting(vault: Vault, submission_id: SubmissionId, by: int) -> Callable[[], object]:
    seen = vault.digest(submission_id)
    return lambda: vault.reject(submission_id, by=by, seen=seen)


def decisions(database: Database) -> dict[int, tuple[str, ModeratorId]]:
    with database.reading_sessions() as session:
        rows = session.execute(select(DECISIONS.c.submission_id, DECISIONS.c.verdict, DECISIONS.c.moderator_id))
        return {row[0]: (row[1], ModeratorId(row[2])) for row in rows}


@pytest.mark.parametrize("again", range(3))
def test_lets_one_of_eight_verdicts_on_a_comment_win(crowd: Vault, again: int) -> None:
    comment = crowd.comment()
    outcomes = at_once(*((approving, rejecting)[by % 2](crowd, comment, by) for by in range(EIGHT)))
    won = [by for by, outcome in enumerate(outcomes) if not isinstance(outcome, Refused)]
    assert len(won) == 1
    told = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert all(type(refusal) is AlreadyDecided for refusal in told)
    verdict, moderator = decisions(crowd.database)[comment]
    assert (verdict, moderator) == (("approve", "reject")[won[0] % 2], crowd.people[won[0]])
    assert {refusal.moderator for refusal in told if isinstance(refusal, AlreadyDecided)} == {f"Number {won[0]}"}
    assert (comment in crowd.released(comment)) == (verdict == "approve")
    assert crowd.verify() is None


def test_settles_approvals_against_vetoes_of_a_reply(crowd: Vault) -> None:
    reply = crowd.reply()
    outcomes = at_once(*((approving, rejecting)[by % 2](crowd, reply, by) for by in range(EIGHT)))
    came_to = Counter(type(outcome) if isinstance(outcome, Refused) else outcome for outcome in outcomes)
    # At most one proposes before the one decision, which is an approval or the second half of a veto.
    assert came_to[AlreadyDecided] >= EIGHT - 2
    assert came_to[None] + came_to[Rejection.DECIDED] == 1
    assert came_to[Rejection.PROPOSED] <= 1
    assert came_to[Rejection.PROPOSED] >= came_to[Rejection.DECIDED]
    assert crowd.state(reply) is (State.APPROVED if came_to[None] else State.REJECTED)
    assert crowd.verify() is None


def test_takes_two_moderators_for_a_veto_even_if_one_presses_eight_times(crowd: Vault) -> None:
    reply = crowd.reply()
    outcomes = at_once(*(rejecting(crowd, reply, 0) for _ in range(EIGHT)))
    came_to = Counter(type(outcome) if isinstance(outcome, Refused) else outcome for outcome in outcomes)
    assert came_to == {Rejection.PROPOSED: 1, SecondModeratorNeeded: EIGHT - 1}
    assert crowd.state(reply) is State.PENDING
    assert crowd.told().count("proposal") == 1


def test_lets_one_of_eight_double_clicks_win(crowd: Vault) -> None:
    comment = crowd.comment()
    outcomes = at_once(*(approving(crowd, comment, 0) for _ in range(EIGHT)))
    assert Counter(type(outcome) for outcome in outcomes) == {type(None): 1, AlreadyDecided: EIGHT - 1}
    assert crowd.told().count("decision") == 2  # The essay's, and this one.


def test_lets_eight_moderators_decide_on_eight_submissions(crowd: Vault) -> None:
    comments = [crowd.comment(f"Number {number}") for number in range(EIGHT)]
    outcomes = at_once(*((approving, rejecting)[by % 2](crowd, comments[by], by) for by in range(EIGHT)))
    assert [type(outcome) for outcome in outcomes if isinstance(outcome, Refused)] == []
    found = decisions(crowd.database)
    assert {comment: found[comment] for comment in comments} == {
        comments[by]: (("approve", "reject")[by % 2], crowd.people[by]) for by in range(EIGHT)
    }
    assert crowd.told() == ["decision"] * (EIGHT + 1)
    assert crowd.verify() is None


@pytest.mark.parametrize("again", range(5))
def test_settles_a_change_against_an_approval(crowd: Vault, again: int) -> None:
    older = crowd.comment("Helo")
    outcomes = at_once(
        *(approving(crowd, older, by) for by in range(4)),
        *(lambda: crowd.comment("Hello", supersedes=older) for _ in range(4)),
    )
    won = [by for by, outcome in enumerate(outcomes) if not isinstance(outcome, Refused)]
    assert len(won) == 1
    told = {type(outcome) for outcome in outcomes if isinstance(outcome, Refused)}
    assert told == {AlreadyDecided if won[0] < 4 else NoLongerPending}
    assert crowd.state(older) is (State.APPROVED if won[0] < 4 else State.SUPERSEDED)
    assert (older in crowd.released(older)) == (won[0] < 4)
    assert crowd.verify() is None


@pytest.mark.parametrize("again", range(5))
def test_settles_a_withdrawal_against_an_approval(crowd: Vault, again: int) -> None:
    comment = crowd.comment()
    outcomes = at_once(
        *(approving(crowd, comment, by) for by in range(4)),
        *(lambda: crowd.withdraw(comment) for _ in range(4)),
    )
    # Withdrawing always succeeds, before the verdict or after it; the words are not out at the end in any case.
    assert outcomes[4:] == [None] * 4
    assert sum(outcome is None for outcome in outcomes[:4]) <= 1
    assert crowd.state(comment) is State.WITHDRAWN
    assert crowd.released(comment) == {}
    assert crowd.told().count("withdrawal") == 1
    assert crowd.verify() is None


@pytest.mark.parametrize("again", range(5))
def test_settles_a_change_against_a_withdrawal(crowd: Vault, again: int) -> None:
    older = crowd.comment("Helo")
    outcomes = at_once(
        *(lambda: crowd.withdraw(older) for _ in range(2)),
        *(lambda: crowd.comment("Hello", supersedes=older) for _ in range(2)),
    )
    assert outcomes[:2] == [None] * 2
    changed = [outcome for outcome in outcomes[2:] if not isinstance(outcome, Refused)]
    assert len(changed) <= 1
    assert crowd.state(older) is State.WITHDRAWN
    assert crowd.verify() is None


def test_erases_once_when_asked_eight_times(crowd: Vault) -> None:
    comment = crowd.comment()
    crowd.withdraw(comment)
    assert at_once(*(lambda: crowd.erase(comment) for _ in range(EIGHT))) == [None] * EIGHT
    assert crowd.told().count("erasure") == 1
    assert crowd.verify() is None


def test_lapses_a_proposal_once(crowd: Vault) -> None:
    reply = crowd.reply()
    crowd.reject(reply, lapse=gate.VETO_LAPSE * 0)

    def sweep() -> list[SubmissionId]:
        with crowd.database.sessions.begin() as session:
            return gate.lapse_proposals(session)

    swept = at_once(*(sweep for _ in range(EIGHT)))
    assert sorted(map(str, swept)) == sorted([str([reply]), *["[]"] * (EIGHT - 1)])
    assert crowd.told().count("lapse") == 1
    assert crowd.verify() is None


def test_takes_eight_submissions_at_once(crowd: Vault) -> None:
    def submit() -> SubmissionId:
        with crowd.database.sessions.begin() as session:
            return gate.submit(session, Kind.ESSAY, author="Understudy", body="# Again")

    found = at_once(*(submit for _ in range(EIGHT)))
    assert len(set(found)) == EIGHT


def test_waits_for_a_change_that_is_not_committed_yet(postgresql_url: str) -> None:
    """A proposal marks the row that says the words wait; that row must not vanish under it."""
    database, owner = connect(postgresql_url), owner_engine(postgresql_url)
    vault = Vault(database)
    comment = vault.comment()
    vault.approve(comment)
    reply = vault.reply("Helo.", to=comment)
    seen = vault.digest(reply)
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with ThreadPoolExecutor(1) as threads, database.sessions() as author:
        gate.submit(author, Kind.REPLY, author="Understudy", body="Hello.", in_answer_to=comment, supersedes=reply)
        verdict = threads.submit(vault.reject, reply, seen=seen)
        deadline = monotonic() + 30
        with owner.connect().execution_options(isolation_level="AUTOCOMMIT") as watch:
            while not watch.scalar(text(blocked)):
                assert monotonic() < deadline, "the verdict did not wait"
        author.commit()
        with pytest.raises(NoLongerPending):
            verdict.result(30)
    assert vault.state(reply) is State.SUPERSEDED
    assert vault.verify() is None
    owner.dispose()
    database.dispose()
