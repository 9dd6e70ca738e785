"""Taking down released words: an admin begins, and a model's words come down only when a second moderator agrees."""

import json
from datetime import timedelta

import pytest
from ground.vault import LONG, Vault, at_once

from moderation import gate, ledger, moderators, takedowns
from moderation.errors import (
    AdminNeeded,
    NoOpenProposal,
    NoSuchSubmission,
    NothingToAnswer,
    NotReleased,
    NotTheWordsStored,
    ReasonTooShort,
    Refused,
    SecondModeratorNeeded,
    UnknownModerator,
    UnknownReasonCode,
)
from moderation.types import Digest, ModeratorId, Proposal, Rejection, State

ADMIN, ADA, BEN = 3, 0, 1


@pytest.fixture
def vault(vault: Vault) -> Vault:
    """A vault whose fourth person is an admin."""
    with vault.database.sessions.begin() as session:
        vault.people.append(moderators.add(session, "Dora", "admin"))
    return vault


def take_down(
    vault: Vault,
    submission_id: int,
    *,
    by: int = ADMIN,
    seen: Digest | None = None,
    code: str = "personal_data",
    reason: str | None = LONG,
    quorum: int = 2,
    lapse: timedelta = gate.VETO_LAPSE,
) -> Rejection:
    seen = seen or vault.digest(submission_id)
    with vault.database.sessions.begin() as session:
        return takedowns.take_down(
            session,
            submission_id,
            moderator=vault.people[by],
            seen=seen,
            code=code,
            reason=reason,
            quorum=quorum,
            lapse=lapse,
        )


def keep(vault: Vault, submission_id: int, *, by: int = BEN) -> None:
    with vault.database.sessions.begin() as session:
        takedowns.keep(session, submission_id, moderator=vault.people[by])


def proposals(vault: Vault) -> dict[int, Proposal]:
    with vault.database.reading_sessions() as session:
        return {int(id_): proposal for id_, proposal in takedowns.open_takedowns(session).items()}


def newest(vault: Vault) -> dict[str, object]:
    with vault.database.reading_sessions() as session:
        facts: dict[str, object] = json.loads(ledger.entries(session, limit=10_000)[-1].entry)
    return facts


def released_reply(vault: Vault) -> int:
    reply = vault.reply()
    vault.approve(reply)
    return reply


def test_takes_a_comment_down_at_once(vault: Vault) -> None:
    comment = vault.comment()
    vault.approve(comment)
    assert take_down(vault, comment, reason="She asked us to.") is Rejection.DECIDED
    assert vault.released(comment) == {}
    assert vault.state(comment) is State.WITHDRAWN
    told = newest(vault)
    assert (told["type"], told["by"], told["code"], told["moderator"]) == (
        "withdrawal",
        "operator",
        "personal_data",
        vault.people[ADMIN],
    )
    assert vault.verify() is None


def test_takes_a_models_words_down_when_a_second_moderator_agrees(vault: Vault) -> None:
    reply = released_reply(vault)
    assert take_down(vault, reply) is Rejection.PROPOSED
    assert reply in vault.released(reply)
    assert proposals(vault)[reply].reason == LONG
    with pytest.raises(SecondModeratorNeeded):
        take_down(vault, reply)
    assert take_down(vault, reply, by=ADA, code="other", reason=None) is Rejection.DECIDED
    assert vault.released(reply) == {}
    assert proposals(vault) == {}
    assert newest(vault)["code"] == "personal_data"
    assert vault.verify() is None


@pytest.mark.parametrize("by", [BEN, ADMIN], ids=["another", "its proposer"])
def test_keeps_words_when_somebody_will_not_take_them_down(vault: Vault, by: int) -> None:
    reply = released_reply(vault)
    take_down(vault, reply)
    keep(vault, reply, by=by)
    assert reply in vault.released(reply)
    assert proposals(vault) == {}
    assert (newest(vault)["type"], newest(vault)["moderator"]) == ("kept", vault.people[by])
    with pytest.raises(NoOpenProposal):
        keep(vault, reply)
    assert vault.verify() is None


def test_lets_a_proposal_lapse(vault: Vault) -> None:
    reply = released_reply(vault)
    take_down(vault, reply, lapse=timedelta(0))
    assert proposals(vault) == {}
    with pytest.raises(NoOpenProposal):
        keep(vault, reply)
    with vault.database.sessions.begin() as session:
        assert takedowns.lapse_takedowns(session) == [reply]
    assert vault.told()[-1] == "lapse"
    with vault.database.sessions.begin() as session:
        assert takedowns.lapse_takedowns(session) == []
    assert take_down(vault, reply) is Rejection.PROPOSED
    assert vault.verify() is None


def test_puts_a_lapse_on_record_when_it_is_proposed_again(vault: Vault) -> None:
    reply = released_reply(vault)
    take_down(vault, reply, lapse=timedelta(0))
    assert take_down(vault, reply) is Rejection.PROPOSED
    assert vault.told()[-3:] == ["proposal", "lapse", "proposal"]
    assert vault.verify() is None


def test_lets_an_admin_act_alone_where_the_quorum_is_one(vault: Vault) -> None:
    reply = released_reply(vault)
    assert take_down(vault, reply, quorum=1) is Rejection.DECIDED
    assert vault.released(reply) == {}
    assert vault.verify() is None


def test_asks_for_an_admin_to_begin(vault: Vault) -> None:
    comment = vault.comment()
    vault.approve(comment)
    for words in (comment, released_reply(vault), vault.essay):
        with pytest.raises(AdminNeeded):
            take_down(vault, words, by=ADA)
        assert words in vault.released(words)


def test_asks_for_reasons(vault: Vault) -> None:
    comment = vault.comment()
    vault.approve(comment)
    reply = released_reply(vault)
    with pytest.raises(ReasonTooShort, match="some words"):
        take_down(vault, comment, reason=None)
    with pytest.raises(ReasonTooShort, match="40"):
        take_down(vault, reply, reason="Too short.")
    with pytest.raises(UnknownReasonCode):
        take_down(vault, reply, code="spam")
    with pytest.raises(NotTheWordsStored):
        take_down(vault, reply, seen=Digest("0" * 64))
    assert vault.released(comment, reply).keys() == {comment, reply}


def test_takes_down_only_what_is_out(vault: Vault) -> None:
    pending, rejected, withdrawn = vault.comment("1"), vault.comment("2"), vault.comment("3")
    vault.reject(rejected)
    vault.withdraw(withdrawn)
    for words in (pending, rejected, withdrawn):
        with pytest.raises(NotReleased):
            take_down(vault, words)
    with pytest.raises(NoSuchSubmission):
        take_down(vault, 999, seen=Digest("0" * 64))
    with pytest.raises(NoSuchSubmission):
        keep(vault, 999)
    with vault.database.sessions.begin() as session:
        moderators.deactivate(session, vault.people[ADMIN])
    with pytest.raises(UnknownModerator):
        take_down(vault, vault.essay)


def test_ends_a_proposal_with_the_authors_own_withdrawal(vault: Vault) -> None:
    reply = released_reply(vault)
    take_down(vault, reply)
    vault.withdraw(reply)
    assert proposals(vault) == {}
    with pytest.raises(NotReleased):
        take_down(vault, reply, by=BEN)
    assert vault.verify() is None


def test_settles_two_second_moderators_who_answer_at_once(vault: Vault) -> None:
    reply = released_reply(vault)
    take_down(vault, reply)
    seen = vault.digest(reply)
    outcomes = at_once(
        lambda: take_down(vault, reply, by=ADA, seen=seen, reason=None),
        lambda: keep(vault, reply, by=BEN),
        lambda: take_down(vault, reply, by=2, seen=seen, reason=None),
    )
    # Whoever comes after a "no" begins anew, and may not: they are no admins.
    assert sum(not isinstance(outcome, Refused) for outcome in outcomes) == 1
    assert (reply in vault.released(reply)) == (not isinstance(outcomes[1], Refused))
    assert vault.verify() is None


def test_does_not_take_a_reply_down_with_its_comment(vault: Vault) -> None:
    comment = vault.comment()
    vault.approve(comment)
    reply, pending = vault.reply(to=comment), vault.reply()
    vault.approve(reply)
    take_down(vault, comment, reason="She asked us to.")
    assert reply in vault.released(reply)
    assert vault.state(pending) is State.PENDING


@pytest.mark.parametrize("by", ["operator", "law"])
def test_lets_a_reply_out_whose_comment_was_taken_down(vault: Vault, by: str) -> None:
    """Otherwise one admin, by taking the comment down, would have vetoed the reply alone."""
    comment = vault.comment()
    vault.approve(comment)
    reply = vault.reply(to=comment)
    with vault.database.sessions.begin() as session:
        takedowns.take_down(
            session,
            comment,
            moderator=vault.people[ADMIN],
            seen=vault.digest(comment),
            code="personal_data",
            reason="She asked us to.",
            by=by,
        )
    vault.approve(reply)
    assert reply in vault.released(reply)


def test_keeps_a_reply_in_whose_comment_its_author_took_back(vault: Vault) -> None:
    comment = vault.comment()
    vault.approve(comment)
    reply = vault.reply(to=comment)
    vault.withdraw(comment)
    with pytest.raises(NothingToAnswer):
        vault.approve(reply)


def test_knows_nobody_else(vault: Vault) -> None:
    with pytest.raises(UnknownModerator), vault.database.sessions.begin() as session:
        takedowns.keep(session, vault.essay, moderator=ModeratorId(999))
