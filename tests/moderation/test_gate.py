"""The gate: what comes in stays as it came, each submission gets one verdict, and each refusal changes nothing."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from ground.vault import LONG, Vault
from sqlalchemy import func, select

from moderation import gate, ledger, moderators, queue, reasons, release
from moderation.errors import (
    AlreadyDecided,
    NoLongerPending,
    NoSuchSubmission,
    NothingToAnswer,
    NotTheWordsStored,
    ReasonTooLong,
    ReasonTooShort,
    Refused,
    SecondModeratorNeeded,
    UnknownModerator,
    UnknownReasonCode,
)
from moderation.records import ReasonRow, Submission, Waiting
from moderation.types import Digest, Kind, ModeratorId, Rejection, State, SubmissionId, Tray, Verdict

WRONG = Digest("0" * 64)
NOBODY = ModeratorId(999)
AWKWARD = "  𝄞 Zoë\te\u0301 'quoted' \"twice\" \\ %s :name {x} <b>\n\n-- ; DROP TABLE submissions \u2028 "


def stored(vault: Vault, submission_id: int) -> Submission:
    with vault.database.reading_sessions() as session:
        return session.get_one(Submission, submission_id)


def waiting(vault: Vault) -> list[SubmissionId]:
    with vault.database.reading_sessions() as session:
        return [pending.id for pending in queue.awaiting_review(session)]


def free_text(vault: Vault, submission_id: int) -> list[tuple[str | None, str | None, str | None]]:
    with vault.database.reading_sessions() as session:
        rows = session.scalars(select(ReasonRow).where(ReasonRow.submission_id == submission_id).order_by(ReasonRow.id))
        return [(row.reason, row.told, row.salt) for row in rows]


# What comes in


def test_keeps_words_exactly_as_given(vault: Vault) -> None:
    comment = vault.comment(AWKWARD)
    vault.approve(comment)
    assert vault.released(comment)[comment].body == AWKWARD


def test_puts_words_on_the_desk_and_not_in_public(vault: Vault) -> None:
    comment = vault.comment()
    assert waiting(vault) == [comment]
    assert vault.released(comment) == {}


def test_changes_nothing_when_the_caller_rolls_back(vault: Vault) -> None:
    with vault.database.sessions() as session:
        gate.submit(session, Kind.ESSAY, author="Understudy", body="# No")
        session.rollback()
    assert waiting(vault) == []


@pytest.mark.parametrize(("kind", "answers"), [(kind, answers) for kind in Kind for answers in (None, *Kind)])
def test_lets_each_kind_answer_only_its_own(sqlite_vault: Vault, kind: Kind, answers: Kind | None) -> None:
    comment = sqlite_vault.comment()
    sqlite_vault.approve(comment)
    reply = sqlite_vault.reply(to=comment)
    sqlite_vault.approve(reply)
    answered = {None: None, Kind.ESSAY: sqlite_vault.essay, Kind.COMMENT: comment, Kind.REPLY: reply}[answers]
    right = (kind, answers) in {
        (Kind.ESSAY, None),
        (Kind.COMMENT, Kind.ESSAY),
        (Kind.COMMENT, Kind.REPLY),
        (Kind.REPLY, Kind.COMMENT),
    }
    with sqlite_vault.database.sessions() as session:
        if right:
            assert gate.submit(session, kind, author="A", body="B", in_answer_to=answered)
        else:
            with pytest.raises(NothingToAnswer):
                gate.submit(session, kind, author="A", body="B", in_answer_to=answered)


@pytest.mark.parametrize("becomes", ["pending", "rejected", "withdrawn", "missing"])
def test_lets_nothing_answer_words_that_are_not_public(sqlite_vault: Vault, becomes: str) -> None:
    comment = SubmissionId(999) if becomes == "missing" else sqlite_vault.comment()
    if becomes == "rejected":
        sqlite_vault.reject(comment)
    if becomes == "withdrawn":
        sqlite_vault.approve(comment)
        sqlite_vault.withdraw(comment)
    with pytest.raises(NothingToAnswer) as refusal:
        sqlite_vault.reply(to=comment)
    assert refusal.value.answered == comment


def test_binds_an_answer_to_the_digest_of_what_it_answers(vault: Vault) -> None:
    reply = vault.reply()
    vault.approve(reply)
    with vault.database.reading_sessions() as session:
        comment = session.scalars(select(Submission).where(Submission.kind == "comment")).one()
        assert vault.released(reply)[reply].in_answer_to == comment.digest


# Superseding


def test_replaces_a_pending_version_by_a_new_submission(vault: Vault) -> None:
    older = vault.comment("Helo")
    newer = vault.comment("Hello", supersedes=older)
    assert waiting(vault) == [newer]
    assert vault.state(older) is State.SUPERSEDED
    assert stored(vault, older).body == "Helo"


def test_refuses_a_verdict_on_a_version_that_was_superseded_meanwhile(vault: Vault) -> None:
    older = vault.comment("Helo")
    seen = vault.digest(older)
    newer = vault.comment("Hello", supersedes=older)
    with pytest.raises(NoLongerPending) as refusal:
        vault.approve(older, seen=seen)
    assert refusal.value.state is State.SUPERSEDED
    with pytest.raises(NotTheWordsStored):
        vault.approve(newer, seen=seen)
    assert vault.released(older, newer) == {}


@pytest.mark.parametrize("how", ["approved", "rejected"])
def test_supersedes_no_decided_words(vault: Vault, how: str) -> None:
    comment = vault.comment()
    vault.approve(comment) if how == "approved" else vault.reject(comment)
    with pytest.raises(AlreadyDecided, match=f"Ada has already {how} this one"):
        vault.comment("Better", supersedes=comment)
    assert waiting(vault) == []


def test_supersedes_no_withdrawn_words(sqlite_vault: Vault) -> None:
    comment = sqlite_vault.comment()
    sqlite_vault.withdraw(comment)
    with pytest.raises(NoLongerPending) as refusal:
        sqlite_vault.comment("Better", supersedes=comment)
    assert refusal.value.state is State.WITHDRAWN


def test_supersedes_a_version_once(vault: Vault) -> None:
    older = vault.comment("Helo")
    vault.comment("Hello", supersedes=older)
    with pytest.raises(NoLongerPending):
        vault.comment("Hallo", supersedes=older)


def test_supersedes_nothing_that_never_was(sqlite_vault: Vault) -> None:
    with pytest.raises(NoSuchSubmission):
        sqlite_vault.comment(supersedes=SubmissionId(999))


# One verdict


def test_releases_what_was_approved(vault: Vault) -> None:
    comment = vault.comment("Do you dream?")
    vault.approve(comment, by=1)
    shown = vault.released(comment)[comment]
    assert (shown.body, shown.author, shown.approved_by) == ("Do you dream?", "Reader", vault.people[1])
    assert waiting(vault) == []


def test_keeps_a_rejected_comment_in(vault: Vault) -> None:
    comment = vault.comment()
    assert vault.reject(comment, code="spam", reason=None) is Rejection.DECIDED
    assert vault.state(comment) is State.REJECTED
    assert vault.released(comment) == {}


@pytest.mark.parametrize("verdict", Verdict)
def test_tells_three_refusals_apart(vault: Vault, verdict: Verdict) -> None:
    act = vault.approve if verdict is Verdict.APPROVE else vault.reject
    comment = vault.comment()
    with pytest.raises(NotTheWordsStored) as wrong:
        act(comment, seen=WRONG)
    assert wrong.value.stored == vault.digest(comment)
    vault.people.append(NOBODY)
    with pytest.raises(UnknownModerator) as unknown:
        act(comment, by=3)
    assert unknown.value.moderator_id == NOBODY
    assert waiting(vault) == [comment]
    vault.approve(comment)
    with pytest.raises(AlreadyDecided, match="Ada has already approved this one") as second:
        act(comment, by=1)
    assert second.value.verdict is Verdict.APPROVE
    assert vault.told() == ["decision", "decision"]


@pytest.mark.parametrize("verdict", Verdict)
def test_refuses_a_moderator_who_was_deactivated(sqlite_vault: Vault, verdict: Verdict) -> None:
    comment = sqlite_vault.comment()
    with sqlite_vault.database.sessions.begin() as session:
        moderators.deactivate(session, sqlite_vault.people[1])
    with pytest.raises(UnknownModerator):
        sqlite_vault.approve(comment, by=1) if verdict is Verdict.APPROVE else sqlite_vault.reject(comment, by=1)
    assert waiting(sqlite_vault) == [comment]


def test_refuses_a_verdict_on_nothing(sqlite_vault: Vault) -> None:
    with pytest.raises(NoSuchSubmission):
        sqlite_vault.approve(999, seen=WRONG)


def test_refuses_a_second_verdict_by_the_same_moderator(vault: Vault) -> None:
    comment = vault.comment()
    vault.approve(comment)
    with pytest.raises(AlreadyDecided):
        vault.approve(comment)
    with pytest.raises(AlreadyDecided):
        vault.reject(comment)


def test_records_a_verdict_in_the_ledger_with_what_was_seen(vault: Vault) -> None:
    comment = vault.comment()
    vault.reject(comment, by=1, code="other", reason="Not here.", told="Sorry.")
    with vault.database.reading_sessions() as session:
        entry = json.loads(ledger.entries(session)[-1].entry)
    assert entry["verdict"] == "reject"
    assert entry["code"] == "other"
    assert entry["moderator"] == vault.people[1]
    assert entry["digest_seen"] == entry["digest"] == vault.digest(comment)
    assert "Not here." not in str(entry)
    assert "Sorry." not in str(entry)


# Codes and reasons


@pytest.mark.parametrize("code", [*reasons.COMMENT_CODES])
def test_takes_the_published_codes_for_a_comment(sqlite_vault: Vault, code: str) -> None:
    assert sqlite_vault.reject(sqlite_vault.comment(), code=code) is Rejection.DECIDED


@pytest.mark.parametrize("code", [*reasons.MODEL_CODES])
def test_takes_the_published_codes_for_a_models_words(sqlite_vault: Vault, code: str) -> None:
    assert sqlite_vault.reject(sqlite_vault.reply(), code=code) is Rejection.PROPOSED


@pytest.mark.parametrize("code", ["harm", "broken", "SPAM", "", "nonsense"])
def test_refuses_another_code_for_a_comment(sqlite_vault: Vault, code: str) -> None:
    with pytest.raises(UnknownReasonCode) as refusal:
        sqlite_vault.reject(sqlite_vault.comment(), code=code)
    assert refusal.value.valid == ("spam", "abuse", "personal_data", "off_topic", "other")


@pytest.mark.parametrize("code", ["spam", "abuse", "off_topic", "Harm", ""])
def test_refuses_another_code_for_a_models_words(sqlite_vault: Vault, code: str) -> None:
    with pytest.raises(UnknownReasonCode) as refusal:
        sqlite_vault.reject(sqlite_vault.reply(), code=code)
    assert refusal.value.valid == (
        "harm",
        "unlawful",
        "personal_data",
        "deception",
        "speaks_for_company",
        "broken",
        "other",
    )


@pytest.mark.parametrize("reason", [None, "", "   "])
def test_asks_for_words_with_the_code_other(sqlite_vault: Vault, reason: str | None) -> None:
    comment = sqlite_vault.comment()
    with pytest.raises(ReasonTooShort):
        sqlite_vault.reject(comment, code="other", reason=reason)
    assert waiting(sqlite_vault) == [comment]
    assert sqlite_vault.reject(comment, code="other", reason="x") is Rejection.DECIDED


def test_asks_for_forty_characters_with_a_proposal(sqlite_vault: Vault) -> None:
    reply = sqlite_vault.reply()
    for short in (None, "x" * 39, " " * 20 + "x" * 39 + " " * 20):
        with pytest.raises(ReasonTooShort) as refusal:
            sqlite_vault.reject(reply, reason=short)
        assert refusal.value.needed == 40
    assert sqlite_vault.reject(reply, reason="x" * 40) is Rejection.PROPOSED


@pytest.mark.parametrize("which", ["reason", "told"])
def test_refuses_a_reason_that_nobody_will_read(sqlite_vault: Vault, which: str) -> None:
    comment = sqlite_vault.comment()
    with pytest.raises(ReasonTooLong):
        sqlite_vault.reject(comment, **{which: "x" * 2001})  # type: ignore[arg-type]
    assert sqlite_vault.reject(comment, **{which: "x" * 2000}) is Rejection.DECIDED  # type: ignore[arg-type]


# Vetoes


@pytest.mark.parametrize("kind", [Kind.ESSAY, Kind.REPLY])
def test_vetoes_a_models_words_with_two_moderators(vault: Vault, kind: Kind) -> None:
    if kind is Kind.REPLY:
        words = vault.reply()
    else:
        with vault.database.sessions.begin() as session:
            words = gate.submit(session, Kind.ESSAY, author="Understudy", body="# Two")
    assert vault.reject(words, by=0, code="harm") is Rejection.PROPOSED
    assert vault.state(words) is State.PENDING
    with pytest.raises(SecondModeratorNeeded) as refusal:
        vault.reject(words, by=0, code="harm")
    assert refusal.value.submission_id == words
    assert vault.reject(words, by=1, code="broken", reason=None) is Rejection.DECIDED
    with vault.database.reading_sessions() as session:
        standing = release.standing(session, [words])[words]
    assert standing.state is State.REJECTED
    assert standing.reason_code == "harm"
    assert vault.verify() is None


def test_shows_a_proposal_on_the_desk(vault: Vault) -> None:
    reply = vault.reply()
    vault.reject(reply, by=1, code="harm", reason=LONG)
    with vault.database.reading_sessions() as session:
        pending = queue.pending(session, reply)
    assert pending is not None
    assert pending.proposal is not None
    assert (pending.proposal.moderator, pending.proposal.code, pending.proposal.reason) == (
        vault.people[1],
        "harm",
        LONG,
    )
    assert pending.proposal.lapses_at - pending.proposal.proposed_at == timedelta(days=7)


@pytest.mark.parametrize("by", [0, 1])
def test_lets_proposer_or_second_approve_instead_on_record(vault: Vault, by: int) -> None:
    reply = vault.reply()
    vault.reject(reply, by=0)
    vault.approve(reply, by=by)
    assert reply in vault.released(reply)
    with vault.database.reading_sessions() as session:
        proposal, decision = (json.loads(entry.entry) for entry in ledger.entries(session)[-2:])
    assert (proposal["type"], proposal["moderator"]) == ("proposal", vault.people[0])
    assert (decision["verdict"], decision["moderator"]) == ("approve", vault.people[by])
    assert decision["proposal"] == proposal["proposal"]
    assert vault.verify() is None


def test_asks_the_second_moderator_for_the_digest_too(sqlite_vault: Vault) -> None:
    reply = sqlite_vault.reply()
    sqlite_vault.reject(reply, by=0)
    with pytest.raises(NotTheWordsStored):
        sqlite_vault.reject(reply, by=1, seen=WRONG)
    assert sqlite_vault.state(reply) is State.PENDING


def test_does_not_count_a_second_who_was_deactivated(sqlite_vault: Vault) -> None:
    reply = sqlite_vault.reply()
    sqlite_vault.reject(reply, by=0)
    with sqlite_vault.database.sessions.begin() as session:
        moderators.deactivate(session, sqlite_vault.people[1])
    with pytest.raises(UnknownModerator):
        sqlite_vault.reject(reply, by=1)
    assert sqlite_vault.state(reply) is State.PENDING


def test_vetoes_at_once_where_the_quorum_is_one(vault: Vault) -> None:
    reply = vault.reply()
    with pytest.raises(ReasonTooShort):
        vault.reject(reply, quorum=1, reason="Too short.")
    assert vault.reject(reply, quorum=1) is Rejection.DECIDED
    assert vault.state(reply) is State.REJECTED


def test_lets_a_proposal_lapse_and_another_begin(vault: Vault) -> None:
    reply = vault.reply()
    vault.reject(reply, by=0, code="harm", lapse=timedelta(0))
    # The second comes too late: theirs is a new proposal, and so needs its own reason.
    with pytest.raises(ReasonTooShort):
        vault.reject(reply, by=1, code="broken", reason=None)
    assert vault.reject(reply, by=1, code="broken") is Rejection.PROPOSED
    assert vault.reject(reply, by=0, reason=None) is Rejection.DECIDED
    with vault.database.reading_sessions() as session:
        assert release.standing(session, [reply])[reply].reason_code == "broken"
    assert vault.told()[-4:] == ["proposal", "lapse", "proposal", "decision"]
    assert vault.verify() is None


def test_lets_the_same_moderator_propose_again_after_a_lapse(sqlite_vault: Vault) -> None:
    reply = sqlite_vault.reply()
    sqlite_vault.reject(reply, by=0, lapse=timedelta(0))
    assert sqlite_vault.reject(reply, by=0) is Rejection.PROPOSED


def test_sweeps_lapsed_proposals_off_the_desk_once(vault: Vault) -> None:
    lapsed, open_still = vault.reply("Yes."), vault.reply("No.")
    vault.reject(lapsed, lapse=timedelta(0))
    vault.reject(open_still)
    for expected in ([lapsed], []):
        with vault.database.sessions.begin() as session:
            assert gate.lapse_proposals(session) == expected
    with vault.database.reading_sessions() as session:
        found = {pending.id: pending.proposal for pending in queue.awaiting_review(session)}
    assert found[lapsed] is None
    assert found[open_still] is not None
    assert vault.told().count("lapse") == 1
    assert vault.verify() is None


@pytest.mark.parametrize(
    ("later", "outcome"),
    [
        (timedelta(days=-1), Rejection.DECIDED),
        (timedelta(days=1), Rejection.DECIDED),
        (timedelta(days=7), Rejection.PROPOSED),
    ],
)
def test_bears_a_clock_that_jumps(
    sqlite_vault: Vault, monkeypatch: pytest.MonkeyPatch, later: timedelta, outcome: Rejection
) -> None:
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
    reply = sqlite_vault.reply()
    monkeypatch.setattr(gate, "now", lambda: noon)
    sqlite_vault.reject(reply, by=0)
    monkeypatch.setattr(gate, "now", lambda: noon + later)
    assert sqlite_vault.reject(reply, by=1) is outcome
    assert sqlite_vault.verify() is None


# Taking back


def test_takes_pending_words_off_the_desk(vault: Vault) -> None:
    comment = vault.comment()
    vault.withdraw(comment)
    assert waiting(vault) == []
    assert vault.state(comment) is State.WITHDRAWN
    with pytest.raises(NoLongerPending) as refusal:
        vault.approve(comment)
    assert refusal.value.state is State.WITHDRAWN
    assert vault.released(comment) == {}


def test_takes_released_words_out_of_public(vault: Vault) -> None:
    comment = vault.comment()
    vault.approve(comment)
    vault.withdraw(comment)
    assert vault.released(comment) == {}
    with vault.database.reading_sessions() as session:
        assert release.standing(session, [comment])[comment].was_released
    assert vault.verify() is None


def test_takes_words_back_once(sqlite_vault: Vault) -> None:
    comment = sqlite_vault.comment()
    sqlite_vault.withdraw(comment)
    sqlite_vault.withdraw(comment)
    assert sqlite_vault.told().count("withdrawal") == 1


def test_takes_back_a_reply_with_an_open_proposal(vault: Vault) -> None:
    reply = vault.reply()
    vault.reject(reply)
    vault.withdraw(reply)
    assert vault.state(reply) is State.WITHDRAWN
    assert vault.verify() is None


def test_lets_rejected_words_be_taken_back_and_erased(vault: Vault) -> None:
    comment = vault.comment()
    vault.reject(comment)
    vault.withdraw(comment)
    vault.erase(comment)
    assert vault.state(comment) is State.WITHDRAWN
    assert vault.told()[-3:] == ["decision", "withdrawal", "erasure"]
    assert vault.verify() is None


def test_has_nothing_to_take_back_where_nothing_is(vault: Vault) -> None:
    with pytest.raises(NoSuchSubmission):
        vault.withdraw(999)


# Erasure


def test_erases_withdrawn_words_and_what_was_written_about_them(vault: Vault) -> None:
    oldest = vault.comment("My name is Bob Smt")
    older = vault.comment("My name is Bob Smth", supersedes=oldest)
    comment = vault.comment("My name is Bob Smith", supersedes=older)
    before = {each: vault.digest(each) for each in (oldest, older, comment)}
    vault.approve(comment)
    vault.withdraw(comment)
    vault.erase(comment)
    for each, digest in before.items():
        row = stored(vault, each)
        assert (row.nonce, row.author, row.body) == (None, None, None)
        assert (row.digest, row.kind) == (digest, "comment")
        assert row.in_answer_to == vault.digest(vault.essay)
    assert vault.released(oldest, older, comment) == {}
    assert vault.verify() is None


def test_erases_the_free_text_of_reasons_but_not_the_record(vault: Vault) -> None:
    reply = vault.reply("Bob Smith lives here.")
    vault.reject(reply, lapse=timedelta(0), told="Bob")
    vault.approve(reply, by=1)
    assert len(free_text(vault, reply)) == 1
    vault.withdraw(reply)
    vault.erase(reply)
    assert free_text(vault, reply) == [(None, None, None)]
    assert vault.verify() is None


def test_leaves_other_words_whole(sqlite_vault: Vault) -> None:
    mine, theirs = sqlite_vault.comment("Mine"), sqlite_vault.comment("Theirs")
    for each in (mine, theirs):
        sqlite_vault.approve(each)
        sqlite_vault.withdraw(each)
    sqlite_vault.erase(mine)
    assert stored(sqlite_vault, theirs).body == "Theirs"


def test_erases_once(vault: Vault) -> None:
    comment = vault.comment()
    vault.withdraw(comment)
    vault.erase(comment)
    told = vault.told()
    vault.erase(comment)
    assert vault.told() == told
    assert told[-2:] == ["withdrawal", "erasure"]


@pytest.mark.parametrize("state", ["pending", "approved", "missing"])
def test_erases_only_what_was_withdrawn(vault: Vault, state: str) -> None:
    comment = vault.comment()
    if state == "approved":
        vault.approve(comment)
    with pytest.raises(NoSuchSubmission if state == "missing" else Refused):
        vault.erase(999 if state == "missing" else comment)
    assert stored(vault, comment).body == "Do you dream?"
    assert vault.told() == ["decision"] * (2 if state == "approved" else 1)


# Trays


def test_keeps_words_of_every_tray_waiting(vault: Vault) -> None:
    comment = vault.comment()
    with vault.database.sessions.begin() as session:
        gate.sort_into(session, comment, Tray.LIKELY_SPAM)
    assert waiting(vault) == [comment]
    with vault.database.reading_sessions() as session:
        assert session.scalar(select(Waiting.tray)) == "likely_spam"
        assert session.scalar(select(func.count()).select_from(Waiting)) == 1
    vault.approve(comment)
    assert comment in vault.released(comment)


def test_approves_no_reply_whose_comment_was_taken_back(vault: Vault) -> None:
    comment = vault.comment()
    vault.approve(comment)
    reply = vault.reply(to=comment)
    vault.withdraw(comment)
    with pytest.raises(NothingToAnswer):
        vault.approve(reply)
    assert vault.state(reply) is State.PENDING
