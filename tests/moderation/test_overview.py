"""What waits on the desk, in numbers and times."""

from datetime import timedelta

from ground.vault import LONG, Vault

from moderation import holds, moderators, takedowns
from moderation.overview import Overview, overview
from moderation.types import Kind


def seen(vault: Vault) -> Overview:
    with vault.database.reading_sessions() as session:
        return overview(session)


def test_has_nothing_to_tell_of_an_empty_desk(vault: Vault) -> None:
    assert seen(vault) == Overview(dict.fromkeys(Kind, 0), 0, 0, None, 0, None)
    assert seen(vault).is_empty
    vault.approve(vault.comment())
    assert seen(vault).is_empty


def test_counts_what_waits_and_knows_the_oldest_and_the_newest(vault: Vault) -> None:
    first, _, last = vault.comment(), vault.comment("Do you sleep?"), vault.reply()
    with vault.database.sessions.begin() as session:
        holds.hold(session, first, moderator=vault.people[0])
    found = seen(vault)
    assert (found.waiting[Kind.COMMENT], found.waiting[Kind.REPLY], found.held) == (2, 1, 1)
    assert found.number == sum(found.waiting.values())
    assert found.newest_id == last
    assert found.oldest_at is not None
    assert found.newest_at is not None
    assert found.oldest_at < found.newest_at
    vault.approve(last)
    assert seen(vault).newest_id < last


def test_counts_the_proposals_that_lapse_within_a_day(vault: Vault) -> None:
    with vault.database.sessions.begin() as session:
        admin = moderators.add(session, "Dora", "admin")
    soon, later, out = vault.reply(), vault.reply("Never."), vault.reply("Seldom.")
    vault.approve(out)
    for reply, lapse in ((soon, timedelta(hours=23)), (later, timedelta(hours=25))):
        vault.reject(reply, code="harm", lapse=lapse)
    assert seen(vault).lapsing == 1
    with vault.database.sessions.begin() as session:
        takedowns.take_down(
            session,
            out,
            moderator=admin,
            seen=vault.digest(out),
            code="personal_data",
            reason=LONG,
            quorum=2,
            lapse=timedelta(hours=1),
        )
    assert seen(vault).lapsing == 2
    vault.approve(soon, by=1)
    assert seen(vault).lapsing == 1
