"""The past of a submission: everything that happened to it, in order, each thing once, with who and why."""

from datetime import timedelta

import pytest
from ground.vault import LONG, Vault

from moderation import appeals, history, holds, ledger, moderators, rereading, takedowns
from moderation.errors import NoSuchSubmission
from moderation.history import Happened, Past, What
from moderation.types import ModeratorId, State, Verdict


def past(vault: Vault, submission_id: int) -> Past:
    with vault.database.reading_sessions() as session:
        return history.past(session, submission_id)


def whats(vault: Vault, submission_id: int) -> list[What]:
    happened = past(vault, submission_id).happened
    assert [each.at for each in happened] == sorted(each.at for each in happened)
    return [each.what for each in happened]


def only(vault: Vault, submission_id: int, what: What) -> Happened:
    (found,) = [each for each in past(vault, submission_id).happened if each.what is what]
    return found


def admin(vault: Vault) -> ModeratorId:
    with vault.database.sessions.begin() as session:
        return moderators.add(session, "Dora", "admin")


def test_tells_how_words_came_and_who_approved_them(vault: Vault) -> None:
    comment = vault.comment("Do you dream?")
    vault.approve(comment, by=1)
    found = past(vault, comment)
    assert (found.author, found.body, found.state, found.holds) == ("Reader", "Do you dream?", State.APPROVED, True)
    assert found.answers == vault.essay
    assert whats(vault, comment) == [What.SUBMITTED, What.APPROVED]
    approved = only(vault, comment, What.APPROVED)
    assert approved.moderator == vault.people[1]
    assert found.entries == (approved.entry,)
    with vault.database.reading_sessions() as session:
        (entry,) = ledger.newest(session, limit=1)
    assert entry.number == approved.entry
    assert entry.facts()["submission"] == comment


def test_tells_from_both_ends_that_one_version_replaced_another(vault: Vault) -> None:
    older = vault.comment("First thouhgts.")
    newer = vault.comment("First thoughts.", supersedes=older)
    assert whats(vault, older) == [What.SUBMITTED, What.SUPERSEDED]
    assert only(vault, older, What.SUPERSEDED).other == newer
    assert only(vault, newer, What.SUBMITTED).other == older
    assert (past(vault, older).state, past(vault, newer).state) == (State.SUPERSEDED, State.PENDING)


def test_keeps_what_the_desk_sees_apart_from_what_the_author_is_told(vault: Vault) -> None:
    comment = vault.comment("Buy pills.")
    vault.reject(comment, by=2, code="spam", reason="The same as yesterday.", told="No advertising, please.")
    rejected = only(vault, comment, What.REJECTED)
    assert (rejected.code, rejected.reason, rejected.told) == (
        "spam",
        "The same as yesterday.",
        "No advertising, please.",
    )
    assert rejected.moderator == vault.people[2]


@pytest.mark.parametrize(
    ("second", "approves", "what"),
    [(1, True, What.OVERRULED), (0, True, What.TAKEN_BACK), (1, False, What.CONFIRMED)],
)
def test_tells_what_became_of_a_veto(vault: Vault, second: int, approves: bool, what: What) -> None:
    reply = vault.reply()
    vault.reject(reply, by=0, code="harm")
    if approves:
        vault.approve(reply, by=second)
    else:
        vault.reject(reply, by=second, code="broken", reason=None, told="Another time.")
    assert whats(vault, reply) == [What.SUBMITTED, What.VETO_PROPOSED, what]
    proposed, ended = only(vault, reply, What.VETO_PROPOSED), only(vault, reply, what)
    assert (proposed.moderator, proposed.code, proposed.reason) == (vault.people[0], "harm", LONG)
    assert proposed.until is not None
    assert proposed.until - proposed.at == timedelta(days=7)
    assert ended.moderator == vault.people[second]
    assert ended.code == (None if approves else "harm")
    assert past(vault, reply).entries == (proposed.entry, ended.entry)


def test_tells_that_a_proposal_lapsed_though_it_has_no_row(vault: Vault) -> None:
    reply = vault.reply()
    vault.reject(reply, lapse=timedelta(0))
    vault.approve(reply, by=2)
    assert whats(vault, reply) == [What.SUBMITTED, What.VETO_PROPOSED, What.LAPSED, What.APPROVED]
    assert only(vault, reply, What.LAPSED).entry is not None


def test_tells_of_holds_and_that_they_were_let_go(vault: Vault) -> None:
    comment = vault.comment()
    with vault.database.sessions.begin() as session:
        holds.hold(session, comment, moderator=vault.people[0])
    with vault.database.sessions.begin() as session:
        holds.let_go(session, comment, moderator=vault.people[1])
    with vault.database.sessions.begin() as session:
        holds.hold(session, comment, moderator=vault.people[1])
    assert whats(vault, comment) == [What.SUBMITTED, What.HELD, What.LET_GO, What.HELD]
    vault.approve(comment, by=2)
    assert whats(vault, comment) == [What.SUBMITTED, What.HELD, What.LET_GO, What.HELD, What.APPROVED]


def test_does_not_call_it_letting_go_when_its_author_changes_or_takes_back_what_is_held(vault: Vault) -> None:
    changed, gone = vault.comment("One."), vault.comment("Two.")
    with vault.database.sessions.begin() as session:
        holds.hold(session, changed, moderator=vault.people[0])
        holds.hold(session, gone, moderator=vault.people[0])
    vault.comment("One, better.", supersedes=changed)
    vault.withdraw(gone)
    assert whats(vault, changed) == [What.SUBMITTED, What.HELD, What.SUPERSEDED]
    assert whats(vault, gone) == [What.SUBMITTED, What.HELD, What.WITHDRAWN]
    assert only(vault, gone, What.WITHDRAWN).by == "author"


def test_tells_of_a_second_reading_only_once_it_was_given(vault: Vault) -> None:
    comment = vault.comment()
    vault.approve(comment)
    with vault.database.sessions.begin() as session:
        rereading.ask(session, comment)
    assert What.READ_AGAIN not in whats(vault, comment)
    with vault.database.sessions.begin() as session:
        seen, verdict = vault.digest(comment), Verdict.REJECT
        rereading.answer(session, comment, moderator=vault.people[1], seen=seen, verdict=verdict, code="abuse")
    read = only(vault, comment, What.READ_AGAIN)
    assert (read.moderator, read.outcome, read.code) == (vault.people[1], "reject", "abuse")


def test_tells_of_an_appeal_from_both_ends_and_what_came_of_it(vault: Vault) -> None:
    comment = vault.comment("Is it off topic?")
    vault.reject(comment, by=0, code="off_topic", reason=None)
    with vault.database.sessions.begin() as session:
        again = appeals.appeal(session, comment, words="It is not.", essay=vault.essay)
    assert whats(vault, comment) == [What.SUBMITTED, What.REJECTED, What.APPEALED]
    appealed = only(vault, comment, What.APPEALED)
    assert (appealed.said, appealed.other) == ("It is not.", again)
    came = only(vault, again, What.SUBMITTED)
    assert (came.other, came.said, came.outcome) == (comment, "It is not.", "appeal")
    vault.approve(again, by=1)
    ended = only(vault, comment, What.APPEAL_ENDED)
    assert (ended.outcome, ended.moderator, ended.other) == ("approve", vault.people[1], again)


def test_tells_how_released_words_were_taken_down(vault: Vault) -> None:
    dora = admin(vault)
    kept, down = vault.reply("One."), vault.reply("Two.")
    for reply in (kept, down):
        vault.approve(reply)
        with vault.database.sessions.begin() as session:
            seen = vault.digest(reply)
            takedowns.take_down(session, reply, moderator=dora, seen=seen, code="harm", reason=LONG)
    with vault.database.sessions.begin() as session:
        takedowns.keep(session, kept, moderator=vault.people[1])
        seen = vault.digest(down)
        takedowns.take_down(session, down, moderator=vault.people[2], seen=seen, code="harm", reason="So think I.")
    assert whats(vault, kept) == [What.SUBMITTED, What.APPROVED, What.TAKEDOWN_PROPOSED, What.KEPT]
    assert (only(vault, kept, What.KEPT).moderator, only(vault, kept, What.KEPT).outcome) == (
        vault.people[1],
        "another",
    )
    gone = only(vault, down, What.TAKEN_DOWN)
    assert (gone.moderator, gone.code, gone.reason, gone.by) == (vault.people[2], "harm", "So think I.", "operator")
    assert gone.outcome == "confirmed"
    assert past(vault, down).state is State.WITHDRAWN


def test_tells_that_words_were_erased_and_holds_none(vault: Vault) -> None:
    comment = vault.comment("My name is Bob Smith.")
    vault.reject(comment, code="personal_data", reason="Bob Smith lives.", told="No names, please.")
    vault.withdraw(comment, by="law")
    vault.erase(comment)
    found = past(vault, comment)
    assert (found.author, found.body, found.holds) == (None, None, True)
    assert [each.what for each in found.happened][-2:] == [What.WITHDRAWN, What.ERASED]
    assert "Smith" not in repr(found)
    assert len(found.entries) == 3


def test_takes_no_other_submission_for_this_one(vault: Vault) -> None:
    submissions = [vault.comment(str(n)) for n in range(12)]
    for each in submissions:
        vault.approve(each)
    for each in submissions:
        assert len(past(vault, each).entries) == 1


def test_has_no_past_for_what_never_came(vault: Vault) -> None:
    with pytest.raises(NoSuchSubmission):
        past(vault, 999)


def test_lists_what_was_decided_newest_first_a_page_at_a_time(vault: Vault) -> None:
    comments = [vault.comment(str(n)) for n in range(5)]
    for each in comments:
        vault.approve(each, by=1)
    rejected = vault.comment("Buy pills.")
    vault.reject(rejected, code="spam", reason=None)
    vault.withdraw(comments[0])
    reply = vault.reply()
    vault.reject(reply)
    vault.approve(reply, by=2)
    with vault.database.reading_sessions() as session:
        first = history.decided(session, limit=3)
        rest = history.decided(session, before=first[-1].entry, limit=100)
    assert [each.submission_id for each in (first[0], first[2])] == [reply, rejected]
    assert (first[2].verdict, first[2].code, first[2].moderator) == (Verdict.REJECT, "spam", vault.people[0])
    assert (first[0].overrules, first[0].moderator) == (True, vault.people[2])
    assert [each.submission_id for each in rest] == [*reversed(comments), vault.essay]
    assert not any(each.overrules for each in rest)
