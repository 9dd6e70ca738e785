"""Moderators' accounts and the tokens of their programs."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from argon2 import PasswordHasher, extract_parameters
from ground.house import ADA, BEN, CLEO, PASSWORD, VOICE, House, furnish, site_over
from ground.vault import at_once
from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session

from bridge import db
from bridge.people import accounts
from bridge.people.accounts import AccountRefused, Hashed, LastAdmin, NotAnAdmin, SignedOutMeanwhile
from bridge.records import ApiToken, FsRefreshTracker, User, WebAuthn
from moderation import ledger, moderators
from moderation.base import now
from moderation.types import ModeratorId


def promote(house: House, *admins: ModeratorId) -> None:
    with house.site.database.sessions.begin() as session:
        for each in admins:
            accounts.change_role(session, accounts.of_moderator(session, each).id, "admin", by=None)


def number(house: House, email: str) -> int:
    with house.site.database.reading_sessions() as session:
        return session.scalars(select(User.id).where(User.email == email)).one()


def passkey(name: str = "A key") -> WebAuthn:
    return WebAuthn(
        credential_id=name.encode(),
        public_key=b"key",
        sign_count=0,
        backup_state=False,
        device_type="single_device",
        lastuse_datetime=now().replace(tzinfo=None),
        name=name,
        usage="first",
    )


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
    with house.site.database.sessions.begin() as session, pytest.raises(AccountRefused, match="already has this name"):
        accounts.add_moderator(session, "other@desk.example", role="moderator", password=PASSWORD, name="Ada")


@pytest.mark.parametrize(
    "name",
    ["\u0410da", "a d a", VOICE, VOICE.upper(), "Emeritus", "x" * 81, "Two\nlines", "\u202e", "Dora (rehearsal)"],
)
def test_takes_no_name_that_readers_could_take_for_anothers(house: House, name: str) -> None:
    before = house.contents()
    with pytest.raises(AccountRefused, match="Nothing was changed"), house.site.database.sessions.begin() as session:
        accounts.add_moderator(session, "other@desk.example", role="moderator", name=name)
    assert house.contents() == before


def test_looks_at_a_name_from_an_address_as_closely(house: House) -> None:
    with pytest.raises(AccountRefused, match="Choose another name"), house.site.database.sessions.begin() as session:
        accounts.add_moderator(session, "ada@other.example", role="moderator")


def test_takes_what_is_not_seen_out_of_a_name(house: House) -> None:
    with house.site.database.sessions.begin() as session:
        made = accounts.add_moderator(session, "dora@desk.example", role="moderator", name=" Do\u202era  D. ")
        assert moderators.named(session, [made])[made].name == "Dora D."


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


# Acts that were under way


ACTS: dict[str, Callable[[Session, int, ModeratorId], object]] = {
    "change_role": lambda session, other, by: accounts.change_role(session, other, "admin", by=by),
    "deactivate": lambda session, other, by: accounts.deactivate_person(session, other, by=by),
    "remove_factors": lambda session, other, by: accounts.remove_factors(session, other, by=by),
    "require": lambda session, _, by: accounts.require_second_factor(session, True, by=by),
    "add": lambda session, _, by: accounts.add_moderator(session, "eve@desk.example", role="admin", by=by),
    "invite_again": lambda session, other, by: accounts.invited_again(session, other, by=by),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("how", ["demoted", "deactivated"])
def test_lets_nobody_act_who_is_no_admin_any_more(house: House, act: str, how: str) -> None:
    promote(house, house.ada, house.ben)
    ben, cleo = number(house, BEN), number(house, CLEO)
    with house.site.database.sessions.begin() as session:
        if how == "demoted":
            accounts.change_role(session, ben, "moderator", by=house.ada)
        else:
            accounts.deactivate_person(session, ben, by=house.ada)
    before = house.contents()
    with pytest.raises(NotAnAdmin), house.site.database.sessions.begin() as session:
        ACTS[act](session, cleo, house.ben)
    assert house.contents() == before


def test_gives_a_demoted_admin_no_way_to_promote_themselves(any_house: House) -> None:
    promote(any_house, any_house.ada, any_house.ben)
    ben = number(any_house, BEN)
    with any_house.site.database.sessions.begin() as session:
        accounts.change_role(session, ben, "moderator", by=any_house.ada)
    with pytest.raises(NotAnAdmin), any_house.site.database.sessions.begin() as session:
        accounts.change_role(session, ben, "admin", by=any_house.ben)
    with any_house.site.database.reading_sessions() as session:
        assert moderators.named(session, [any_house.ben])[any_house.ben].role == "moderator"


def test_lets_one_of_two_admins_who_demote_each_other_at_once_do_it(any_house: House) -> None:
    promote(any_house, any_house.ada, any_house.ben)
    ada, ben = number(any_house, ADA), number(any_house, BEN)

    def demoting(whom: int, by: ModeratorId) -> Callable[[], object]:
        def act() -> object:
            try:
                with any_house.site.database.sessions.begin() as session:
                    return accounts.change_role(session, whom, "moderator", by=by)
            except AccountRefused as refused:
                return type(refused)

        return act

    told = at_once(demoting(ben, any_house.ada), demoting(ada, any_house.ben))
    assert sorted(told, key=str) in ([None, NotAnAdmin], [NotAnAdmin, None])


CHANGES: dict[str, Callable[[House, Session, int, str], object]] = {
    "password": lambda _, session, ada, named: accounts.set_password(session, ada, Hashed("x"), admitted_as=named),
    "token": lambda _, session, ada, named: accounts.issue_token_to(session, ada, scope="full", admitted_as=named),
    "authenticator": lambda _, session, ada, named: accounts.set_authenticator(
        session, ada, "{}", counter=1, admitted_as=named
    ),
    "passkey": lambda _, session, ada, named: accounts.add_passkey(session, ada, passkey(), admitted_as=named),
    "codes": lambda house, session, ada, named: accounts.new_recovery_codes(
        session, house.site.keys, ada, admitted_as=named
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_nothing_for_a_session_that_a_reset_ended(house: House, change: str) -> None:
    ada = number(house, ADA)
    with house.site.database.sessions.begin() as session:
        named = session.get_one(User, ada).fs_uniquifier
        accounts.reset_password(session, ADA, Hashed("another"))
    before = house.contents()
    with pytest.raises(SignedOutMeanwhile), house.site.database.sessions.begin() as session:
        CHANGES[change](house, session, ada, named)
    assert house.contents() == before
    with house.site.database.sessions.begin() as session:
        CHANGES[change](house, session, ada, session.get_one(User, ada).fs_uniquifier)


# The last admin


def test_counts_no_invitation_for_an_admin_who_is_left(any_house: House) -> None:
    promote(any_house, any_house.ada)
    ada = number(any_house, ADA)
    with any_house.site.database.sessions.begin() as session:
        dora = accounts.add_moderator(session, "dora@desk.example", role="admin", by=any_house.ada)
    for act in (accounts.deactivate_person, lambda *a, by: accounts.change_role(*a, "moderator", by=by)):
        with pytest.raises(LastAdmin), any_house.site.database.sessions.begin() as session:
            act(session, ada, by=any_house.ada)
    with any_house.site.database.sessions.begin() as session:
        accounts.add_passkey(session, accounts.of_moderator(session, dora).id, passkey())
    with any_house.site.database.sessions.begin() as session:
        accounts.deactivate_person(session, ada, by=any_house.ada)


def test_lets_an_invited_admin_be_deactivated(house: House) -> None:
    promote(house, house.ada)
    with house.site.database.sessions.begin() as session:
        accounts.add_moderator(session, "dora@desk.example", role="admin", by=house.ada)
    dora = number(house, "dora@desk.example")
    with house.site.database.sessions.begin() as session:
        accounts.deactivate_person(session, dora, by=house.ada)
        accounts.change_role(session, dora, "moderator", by=house.ada)
    with house.site.database.reading_sessions() as session:
        assert [each.moderator.role for each in accounts.people(session) if each.user_id == dora] == ["moderator"]


# Two at once


def test_makes_one_account_of_invitations_at_the_same_moment(any_house: House) -> None:
    promote(any_house, any_house.ada, any_house.ben)

    def inviting(email: str, by: ModeratorId) -> Callable[[], object]:
        def act() -> object:
            try:
                with any_house.site.database.sessions.begin() as session:
                    return accounts.add_moderator(session, email, role="moderator", by=by)
            except AccountRefused as refused:
                return str(refused)

        return act

    for email in ("dora@desk.example", "eve@desk.example", "fay@desk.example"):
        told = at_once(*(inviting(email, by) for by in (any_house.ada, any_house.ben) * 2))
        refusals = [each for each in told if isinstance(each, str)]
        assert len(refusals) == 3
        assert all(each.startswith(f"{email} is a moderator already") for each in refusals)


def test_forgets_the_sign_ins_that_ran_out_and_no_others(any_house: House) -> None:
    ada, ben = number(any_house, ADA), number(any_house, BEN)
    with any_house.site.database.sessions.begin() as session:
        old = accounts.begin_stay(session, ada)
        session.execute(update(FsRefreshTracker).values(expires_at=FsRefreshTracker.last_used_at))
        new = accounts.begin_stay(session, ben)
    with any_house.site.database.sessions.begin() as session:
        accounts.forget_stays(session)
    with any_house.site.database.reading_sessions() as session:
        assert len(session.scalars(select(FsRefreshTracker)).all()) == 1
        assert accounts.stays(session, ben, new)
        assert not accounts.stays(session, ada, old)


def test_waits_for_nobody_who_ends_sign_ins_of_others(postgresql_url: str, tmp_path: Path) -> None:
    database = db.connect(postgresql_url)
    house = House(site_over(database, tmp_path), furnish(site_over(database, tmp_path)))
    ada, ben = number(house, ADA), number(house, BEN)
    with database.sessions.begin() as session:
        accounts.begin_stay(session, ada)
        session.execute(update(FsRefreshTracker).values(expires_at=FsRefreshTracker.last_used_at))
    with database.sessions.begin() as one, database.sessions.begin() as other:
        one.execute(delete(FsRefreshTracker).where(FsRefreshTracker.user_id == ada))
        other.execute(text("SET LOCAL lock_timeout = '100ms'"))
        accounts.begin_stay(other, ben)
        accounts.forget_stays(other)
    database.dispose()


# Coming back


def test_takes_a_deactivated_moderator_back_with_nothing_of_before(any_house: House) -> None:
    site = any_house.site
    promote(any_house, any_house.ada)
    ben = number(any_house, BEN)
    with site.database.sessions.begin() as session:
        accounts.set_authenticator(session, ben, "{}", counter=1)
        accounts.add_passkey(session, ben, passkey())
        accounts.new_recovery_codes(session, site.keys, ben)
        link = accounts.link_to(site.keys, session.get_one(User, ben), accounts.RESET, timedelta(days=1))
        accounts.deactivate_person(session, ben, by=any_house.ada)
        before = session.get_one(User, ben).fs_uniquifier
    with site.database.sessions.begin() as session:
        accounts.invited_again(session, ben, by=any_house.ada)
    with site.database.reading_sessions() as session:
        user = session.get_one(User, ben)
        person = next(each for each in accounts.people(session) if each.user_id == ben)
        assert (user.active, user.password, user.moderator_id) == (True, None, any_house.ben)
        assert user.fs_uniquifier != before
        assert (person.moderator.active, person.moderator.name, person.moderator.role) == (True, "Ben", "moderator")
        assert (person.has_second_factor, person.recovery_codes, person.tokens) == (False, 0, 0)
        assert accounts.opened(session, site.keys, accounts.RESET, link) is None
        newest = ledger.newest(session, limit=1)[0].facts()
        assert (newest["event"], newest["moderator"], newest["by"]) == ("invited", any_house.ben, any_house.ada)
        assert ledger.verify(session)[1] is None
    assert holder(any_house, any_house.tokens.ben) is None


def test_adds_a_deactivated_moderator_once_more_under_their_name(house: House) -> None:
    with pytest.raises(AccountRefused, match="another name"), house.site.database.sessions.begin() as session:
        accounts.add_moderator(session, CLEO, role="moderator", name="Cleopatra")
    with house.site.database.sessions.begin() as session:
        came_back = accounts.add_moderator(session, CLEO.upper(), role="admin", password=Hashed("new"))
    with house.site.database.reading_sessions() as session:
        user = accounts.of_moderator(session, came_back)
        who = moderators.named(session, [came_back])[came_back]
        assert (user.email, user.active, user.password, [role.name for role in user.roles]) == (
            CLEO,
            True,
            "new",
            ["admin"],
        )
        assert (who.name, who.active, who.role) == ("Cleo", True, "admin")
    assert holder(house, house.tokens.cleo) is None
    with house.site.database.sessions.begin() as session, pytest.raises(AccountRefused, match="moderator already"):
        accounts.add_moderator(session, CLEO, role="moderator")
