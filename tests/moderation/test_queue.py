"""The desk's door: all that waits, oldest first, and nothing else."""

from datetime import timedelta

import pytest
from ground.vault import LONG, Vault

from moderation import gate, queue
from moderation.types import Kind, Pending, SubmissionId, Tray


def waiting(
    vault: Vault,
    *,
    kind: Kind | None = None,
    essay: SubmissionId | None = None,
    tray: Tray | None = None,
    after: int = 0,
    limit: int = 100,
) -> list[SubmissionId]:
    with vault.database.reading_sessions() as session:
        found = queue.awaiting_review(session, kind=kind, essay=essay, tray=tray, after=after, limit=limit)
    return [pending.id for pending in found]


def pending(vault: Vault, submission_id: int) -> Pending | None:
    with vault.database.reading_sessions() as session:
        return queue.pending(session, submission_id)


def test_shows_the_oldest_first_a_page_at_a_time(vault: Vault) -> None:
    comments = [vault.comment(f"Number {number}") for number in range(5)]
    assert waiting(vault) == comments
    assert waiting(vault, limit=2) == comments[:2]
    assert waiting(vault, after=comments[1], limit=2) == comments[2:4]
    assert waiting(vault, after=comments[-1]) == []


def test_shows_everything_the_digest_binds(vault: Vault) -> None:
    comment = vault.comment("Do you dream?")
    shown = pending(vault, comment)
    assert shown is not None
    assert (shown.kind, shown.author, shown.body) == (Kind.COMMENT, "Reader", "Do you dream?")
    assert shown.digest == vault.digest(comment)
    assert shown.in_answer_to == vault.digest(vault.essay)
    assert shown.proposal is None


def test_sorts_by_kind_essay_and_tray(sqlite_vault: Vault) -> None:
    reply = sqlite_vault.reply()
    comment = sqlite_vault.comment()
    with sqlite_vault.database.sessions.begin() as session:
        spam = gate.submit(
            session,
            Kind.COMMENT,
            author="X",
            body="Pills",
            in_answer_to=sqlite_vault.essay,
            essay=sqlite_vault.essay,
            tray=Tray.LIKELY_SPAM,
        )
        essay = gate.submit(session, Kind.ESSAY, author="Understudy", body="# Two")
    assert waiting(sqlite_vault) == [reply, comment, spam, essay]
    assert waiting(sqlite_vault, kind=Kind.COMMENT) == [comment, spam]
    assert waiting(sqlite_vault, kind=Kind.ESSAY) == [essay]
    assert waiting(sqlite_vault, essay=sqlite_vault.essay) == [reply, comment, spam]
    assert waiting(sqlite_vault, tray=Tray.LIKELY_SPAM) == [spam]
    assert waiting(sqlite_vault, kind=Kind.COMMENT, tray=Tray.MAIN) == [comment]


def test_counts_what_waits_by_kind(vault: Vault) -> None:
    vault.reply()
    vault.comment()
    vault.comment()
    with vault.database.reading_sessions() as session:
        assert queue.counts(session) == {Kind.ESSAY: 0, Kind.COMMENT: 2, Kind.REPLY: 1}


@pytest.mark.parametrize("how", ["approved", "rejected", "superseded", "withdrawn"])
def test_drops_what_waits_no_longer(vault: Vault, how: str) -> None:
    comment = vault.comment()
    newer = []
    if how == "approved":
        vault.approve(comment)
    elif how == "rejected":
        vault.reject(comment)
    elif how == "superseded":
        newer = [vault.comment("Better", supersedes=comment)]
    else:
        vault.withdraw(comment)
    assert pending(vault, comment) is None
    assert waiting(vault) == newer


def test_keeps_a_proposed_veto_waiting_with_its_reason(vault: Vault) -> None:
    reply = vault.reply()
    vault.reject(reply, by=2, code="harm")
    shown = pending(vault, reply)
    assert shown is not None
    assert shown.proposal is not None
    assert (shown.proposal.moderator, shown.proposal.code, shown.proposal.reason) == (vault.people[2], "harm", LONG)


def test_shows_only_the_newest_of_several_proposals(sqlite_vault: Vault) -> None:
    reply = sqlite_vault.reply()
    sqlite_vault.reject(reply, by=0, code="harm", lapse=timedelta(0))
    sqlite_vault.reject(reply, by=1, code="broken")
    assert waiting(sqlite_vault) == [reply]
    shown = pending(sqlite_vault, reply)
    assert shown is not None
    assert shown.proposal is not None
    assert shown.proposal.code == "broken"


def test_shows_a_proposal_that_lapsed_as_one_no_more(vault: Vault) -> None:
    """Before the sweep has put it on record, too: what it offers, the gate would refuse."""
    reply = vault.reply()
    vault.reject(reply, lapse=timedelta(0))
    shown = pending(vault, reply)
    assert shown is not None
    assert shown.proposal is None
