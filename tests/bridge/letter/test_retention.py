"""What goes by itself: rejected letters after their days, addresses nobody confirmed, links that acted."""

import dataclasses
from collections.abc import Callable
from datetime import timedelta

import pytest
from ground.house import SECRET_KEY, House
from ground.postbag import READER, confirmed
from sqlalchemy import delete, func, select, update

from bridge.keys import Keys
from bridge.letter import appeals, comments, erasure, retention
from bridge.records import Address, Comment, Outgoing, UsedLink
from bridge.settings import Settings
from moderation import appeals as vault_appeals
from moderation import base, gate, ledger
from moderation.base import now
from moderation.release import standing
from moderation.types import State

Passes = Callable[[float], None]


def keeping(house: House, days: int) -> House:
    settings: Settings = house.site.settings.model_copy(update={"keep_rejected": days})
    house.site = dataclasses.replace(house.site, settings=settings)
    return house


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Passes:
    """Let days pass for all that looks at the clock in this process."""

    def pass_(days: float) -> None:
        later = base.now() + timedelta(days=days)
        for module in (retention, vault_appeals, gate, erasure):
            monkeypatch.setattr(module, "now", lambda: later)

    return pass_


def is_erased(house: House, public_id: str) -> bool:
    return comments.held(house.site, public_id).standing.erased_at is not None


def test_erases_a_rejected_letter_after_its_days_and_no_other(any_house: House, passes: Passes) -> None:
    keeping(any_house, 30)
    rejected, waits, posted = (
        any_house.send("Rejected heliotrope."),
        any_house.send("Waits."),
        any_house.post("Posted."),
    )
    any_house.reject(rejected.public_id, code="spam", reason="A heliotrope reason.", told="Told of heliotrope.")
    passes(29.9)
    assert retention.let_go(any_house.site) == 0
    assert "heliotrope" in repr(any_house.contents())
    passes(30.1)
    assert retention.let_go(any_house.site) == 1
    assert "heliotrope" not in repr(any_house.contents())
    assert is_erased(any_house, rejected.public_id)
    assert not is_erased(any_house, waits.public_id)
    assert any_house.state(any_house.submission(posted.public_id)) is State.APPROVED
    submission_id = any_house.submission(rejected.public_id)
    with any_house.site.database.reading_sessions() as session:
        how = standing(session, [submission_id])[submission_id]
        assert (how.reason_code, how.withdrawn_by, how.was_released) == ("spam", "operator", False)
        assert ledger.verify(session)[1] is None
    before = any_house.contents()
    assert retention.let_go(any_house.site) == 0
    assert any_house.contents() == before


def test_keeps_a_letter_as_long_as_its_author_may_appeal(house: House, passes: Passes) -> None:
    keeping(house, 1)
    assert retention.days_rejected(house.site) == vault_appeals.WITHIN.days
    sent = house.send()
    house.reject(sent.public_id, code="spam")
    passes(vault_appeals.WITHIN.days - 0.1)
    assert retention.let_go(house.site) == 0
    passes(vault_appeals.WITHIN.days + 0.1)
    assert retention.let_go(house.site) == 1


def test_keeps_a_letter_whose_appeal_nobody_decided(house: House, passes: Passes) -> None:
    sent = house.send()
    house.reject(sent.public_id, code="spam")
    appeals.appeal(house.site, sent.public_id, "But it is not.")
    passes(400)
    assert retention.let_go(house.site) == 0
    house.reject(sent.public_id, code="spam", by=house.ben)
    passes(800)
    assert retention.let_go(house.site) == 1
    assert is_erased(house, sent.public_id)
    with house.site.database.reading_sessions() as session:
        assert ledger.verify(session)[1] is None


def test_keeps_rejected_letters_for_ever_where_that_is_set(house: House, passes: Passes) -> None:
    keeping(house, 0)
    sent = house.send()
    house.reject(sent.public_id, code="spam")
    passes(5000)
    assert retention.let_go(house.site) == 0
    assert retention.days_rejected(house.site) is None


def test_erases_a_few_at_each_sweep(house: House, passes: Passes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "A_SWEEP", 2)
    for number in range(5):
        house.reject(house.send(f"Letter {number}.").public_id, code="spam")
    passes(91)
    assert [retention.let_go(house.site) for _ in range(4)] == [2, 2, 1, 0]


def test_empties_an_address_that_nobody_confirmed(any_house: House, passes: Passes) -> None:
    sent = any_house.send(email=READER)
    passes(29)
    retention.let_go(any_house.site)
    assert kept(any_house).sealed is not None
    passes(31)
    retention.let_go(any_house.site)
    assert kept(any_house).sealed is None
    assert erasure.letters_of(any_house.site, READER) == [sent.public_id], "its owner still finds the letter"
    erasure.erase_comment(any_house.site, sent.public_id)
    retention.let_go(any_house.site)
    assert kept(any_house).digest.startswith(erasure.FORGOTTEN)
    before = any_house.contents()
    retention.let_go(any_house.site)
    assert any_house.contents() == before


def test_keeps_an_address_that_was_confirmed_or_asked_about_lately(house: House, passes: Passes) -> None:
    house.send(email=READER)
    with house.site.database.sessions.begin() as session:
        session.execute(update(Address).values(created_at=now() - timedelta(days=60)))
    retention.let_go(house.site)
    assert kept(house).sealed is not None, "its owner was asked today"
    confirmed(house.site)
    passes(400)
    retention.let_go(house.site)
    assert kept(house).sealed is not None


def as_before_migration_0004(house: House, sealed: bytes) -> None:
    """Keep an address with each letter, as they were kept before they had records of their own."""
    with house.site.database.sessions.begin() as session:
        session.execute(update(Outgoing).values(address_id=None))
        session.execute(update(Comment).values(email=sealed, address_id=None))
        session.execute(delete(Address))


def sealed_with_letters(house: House) -> int:
    with house.site.database.reading_sessions() as session:
        return session.scalar(select(func.count()).where(Comment.email.is_not(None))) or 0


def test_empties_an_address_from_before_addresses_had_records(any_house: House, passes: Passes) -> None:
    sent = [any_house.send(f"Letter {number}.").public_id for number in range(2)]
    as_before_migration_0004(any_house, any_house.site.keys.encrypted(READER.upper()))
    passes(29)
    retention.let_go(any_house.site)
    assert sealed_with_letters(any_house) == 2
    passes(31)
    retention.let_go(any_house.site)
    assert sealed_with_letters(any_house) == 0
    assert kept(any_house).sealed is None
    assert erasure.letters_of(any_house.site, READER) == sent, "its owner still finds the letters"
    before = any_house.contents()
    retention.let_go(any_house.site)
    assert any_house.contents() == before
    for each in sent:
        erasure.erase_comment(any_house.site, each)
    retention.let_go(any_house.site)
    assert kept(any_house).digest.startswith(erasure.FORGOTTEN)


def test_ties_an_old_letter_to_the_address_that_its_owner_confirmed_since(house: House, passes: Passes) -> None:
    old = house.send("An old letter.").public_id
    as_before_migration_0004(house, house.site.keys.encrypted(READER))
    new = house.send("A new letter.", email=READER).public_id
    confirmed(house.site)
    passes(31)
    retention.let_go(house.site)
    assert sealed_with_letters(house) == 0
    assert kept(house).sealed is not None
    assert kept(house).confirmed_at is not None
    assert erasure.letters_of(house.site, READER) == [old, new]


@pytest.mark.parametrize(
    "sealed", [b"of another key", Keys(SECRET_KEY).encrypted("no address")], ids=["another key", "no address"]
)
def test_empties_an_old_address_that_nobody_can_read(house: House, passes: Passes, sealed: bytes) -> None:
    house.send()
    as_before_migration_0004(house, sealed)
    passes(31)
    retention.let_go(house.site)
    assert sealed_with_letters(house) == 0


def test_forgets_links_that_acted_long_ago(any_house: House) -> None:
    with any_house.site.database.sessions.begin() as session:
        for number, days in enumerate((1, 29, 31, 400)):
            session.add(UsedLink(digest=f"{number:064}", used_at=now() - timedelta(days=days)))
    retention.let_go(any_house.site)
    with any_house.site.database.reading_sessions() as session:
        assert len(session.scalars(select(UsedLink)).all()) == 2


def kept(house: House) -> Address:
    with house.site.database.reading_sessions() as session:
        return session.scalars(select(Address)).one()
