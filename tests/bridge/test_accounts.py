"""Moderators' accounts and the tokens of their programs."""

from datetime import timedelta

import pytest
from argon2 import PasswordHasher, extract_parameters
from ground.house import ADA, BEN, CLEO, PASSWORD, House
from sqlalchemy import select, update

from bridge import accounts
from bridge.accounts import AccountRefused
from bridge.records import ApiToken, User
from moderation import moderators
from moderation.base import now
from moderation.moderators import NameTaken


def holder(house: House, token: str) -> str | None:
    with house.site.database.reading_sessions() as session:
        found = accounts.bearer(session, token)
        return found.moderator.name if found else None


def test_makes_an_account_whose_password_is_kept_as_argon2id(house: House) -> None:
    with house.site.database.reading_sessions() as session:
        kept = session.scalars(select(User.password).where(User.email == ADA)).one()
    assert kept is not None
    assert PasswordHasher().verify(kept, PASSWORD)
    made = extract_parameters(kept)
    assert (made.type.name, made.memory_cost, made.time_cost) == ("ID", 19456, 2)


def test_refuses_a_second_account_for_an_address_however_it_is_written(house: House) -> None:
    with house.site.database.sessions.begin() as session, pytest.raises(AccountRefused):
        accounts.add_moderator(session, "Ada@DESK.example", role="admin", password=PASSWORD, name="Another")


@pytest.mark.parametrize("email", ["ada", "ada@", "a b@desk.example", "ada@desk.example\nBcc: x@desk.example"])
def test_refuses_what_is_no_address(house: House, email: str) -> None:
    with house.site.database.sessions.begin() as session, pytest.raises(AccountRefused):
        accounts.add_moderator(session, email, role="moderator", password=PASSWORD)


def test_refuses_a_name_that_another_moderator_has(house: House) -> None:
    with house.site.database.sessions.begin() as session, pytest.raises(NameTaken):
        accounts.add_moderator(session, "other@desk.example", role="moderator", password=PASSWORD, name="Ada")


def test_names_a_moderator_after_their_address_unless_told(house: House) -> None:
    with house.site.database.sessions.begin() as session:
        made = accounts.add_moderator(session, "dora@desk.example", role="admin", password=PASSWORD)
    with house.site.database.reading_sessions() as session:
        assert moderators.named(session, [made])[made].name == "dora"


def test_gives_a_new_password_and_ends_the_old_sessions(house: House) -> None:
    with house.site.database.sessions.begin() as session:
        before = session.scalars(select(User.fs_uniquifier).where(User.email == ADA)).one()
        accounts.reset_password(session, ADA, "quite-another-one")
        user = session.scalars(select(User).where(User.email == ADA)).one()
    assert user.fs_uniquifier != before
    assert PasswordHasher().verify(user.password or "", "quite-another-one")


def test_makes_passwords_of_a_hundred_bits(house: House) -> None:
    made = {accounts.new_password() for _ in range(100)}
    assert len(made) == 100
    assert all(len(password) == 24 for password in made)


def test_lists_everyone_with_their_standing(house: House) -> None:
    with house.site.database.reading_sessions() as session:
        assert [(email, who.active) for email, who in accounts.everyone(session)] == [
            (ADA, True),
            (BEN, True),
            (CLEO, False),
        ]


def test_knows_a_token_and_keeps_only_its_digest(house: House) -> None:
    assert holder(house, house.tokens.ada) == "Ada"
    assert house.tokens.ada.startswith("emr_")
    assert len(house.tokens.ada) == 4 + 43
    assert house.tokens.ada not in repr(house.contents())
    assert house.tokens.ada.encode() not in (house.site.settings.data / "emeritus.db").read_bytes()


def test_lets_a_reading_token_decide_nothing(house: House) -> None:
    with house.site.database.reading_sessions() as session:
        reader, full = accounts.bearer(session, house.tokens.reader), accounts.bearer(session, house.tokens.ada)
    assert reader is not None
    assert not reader.may_decide
    assert full is not None
    assert full.may_decide


@pytest.mark.parametrize(
    "token", ["", "emr_", "emr_" + "A" * 43, "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")]
)
def test_knows_no_other_token(house: House, token: str) -> None:
    assert holder(house, token) is None


def test_ends_a_token_when_it_is_revoked(house: House) -> None:
    with house.site.database.sessions.begin() as session:
        accounts.revoke_token(session, accounts.tokens(session)[0].id)
    assert holder(house, house.tokens.ada) is None
    with house.site.database.sessions.begin() as session, pytest.raises(AccountRefused):
        accounts.revoke_token(session, 10**6)


def test_ends_a_token_when_its_time_is_over(house: House) -> None:
    with house.site.database.sessions.begin() as session:
        session.execute(update(ApiToken).values(expires_at=now() - timedelta(seconds=1)))
    assert holder(house, house.tokens.ada) is None


def test_ends_every_token_of_a_moderator_who_is_no_longer_active(house: House) -> None:
    assert holder(house, house.tokens.cleo) is None
    with house.site.database.sessions.begin() as session, pytest.raises(AccountRefused):
        accounts.issue_token(session, CLEO)


def test_knows_no_account_that_was_never_made(house: House) -> None:
    with house.site.database.sessions.begin() as session:
        for act in (accounts.issue_token, accounts.deactivate, accounts.moderator_of):
            with pytest.raises(AccountRefused):
                act(session, "nobody@desk.example")
