"""How moderators sign in: Flask-Security's users, and bearer tokens. The gate knows only the moderator behind them."""

from __future__ import annotations

import secrets
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

from argon2 import PasswordHasher
from email_validator import EmailNotValidError, validate_email
from sqlalchemy import CursorResult, delete, func, select, update
from sqlalchemy.orm import Session

from bridge.db import database_time
from bridge.keys import Keys, fingerprint
from bridge.letter.comments import reserved_names
from bridge.records import ApiToken, Claim, FsRefreshTracker, HouseRule, Role, User, WebAuthn
from bridge.text import words
from moderation import ledger, moderators
from moderation.base import now
from moderation.types import AccessEvent, Moderator, ModeratorId

SCOPES = ("full", "read")
TOKEN_DAYS = 365
TOLD = ("never", "at_once", "hourly", "daily")
"""How often a moderator may want to be told what waits."""
PASSWORD_LENGTH = 12
LONGEST_PASSWORD = 1000
STAY = timedelta(days=7)
"""How long a sign-in lasts at most."""
INVITED_FOR, RESET_FOR = timedelta(days=7), timedelta(hours=1)
"""How long the link of an invitation, and that of a new password, can be used."""
CODES = 10
"""How many recovery codes are made at a time."""
MEMORY, PASSES = 19456, 2
"""OWASP's parameters for argon2id: 19 MiB, two passes (SECURITY, R4)."""
ARGON2 = {"argon2__memory_cost": MEMORY, "argon2__time_cost": PASSES, "argon2__parallelism": 1}
INVITATION, RESET = "invitation", "new password"
"""The purposes of the links that are sent by mail: the one opens nothing of the other."""
_EVERYONE_NEEDS_A_FACTOR = "second_factor"


class AccountRefused(Exception):
    """Raised when an account cannot be made, found or changed. One sentence; nothing was changed."""


class LastAdmin(AccountRefused):
    """Raised when nobody would be left who may change accounts."""

    def __init__(self) -> None:
        super().__init__("This is the last active admin. Nothing was changed. Make somebody else an admin first.")


class NoSuchPerson(AccountRefused):
    """Raised when no account has this id."""

    def __init__(self) -> None:
        super().__init__("There is no such person here. Nothing was changed.")


class NotAnAdmin(AccountRefused):
    """Raised when who asks for an admin's act is none any more, whatever they were when they asked."""

    def __init__(self) -> None:
        super().__init__("You are no longer an admin here. Nothing was changed. Ask another admin to do it.")


class SignedOutMeanwhile(AccountRefused):
    """Raised when an account's sessions ended between a request's arrival and what it would have changed."""

    def __init__(self) -> None:
        super().__init__("You were signed out meanwhile. Nothing was changed. Sign in and try again.")


class NoSuchToken(AccountRefused):
    """Raised when there is no such token, or it is another person's."""

    def __init__(self, token_id: int) -> None:
        super().__init__(f"There is no token {token_id}. `emeritus token list` shows them.")


class PasswordRefused(AccountRefused):
    """Raised when a password cannot be taken. Says why, never what it was."""


@dataclass(frozen=True, slots=True)
class Hashed:
    """A password's hash. It is made before a transaction begins: others would wait for it."""

    hash: str


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who a bearer token stands for, and whether it may decide."""

    moderator: Moderator
    may_decide: bool


@dataclass(frozen=True, slots=True)
class Person:
    """An account as an admin sees it."""

    user_id: int
    email: str
    moderator: Moderator
    has_password: bool
    authenticator: bool
    passkeys: int
    recovery_codes: int
    signed_in_at: datetime | None
    tokens: int

    @property
    def has_second_factor(self) -> bool:
        """Whether their password alone does not sign them in."""
        return self.authenticator or self.passkeys > 0


@dataclass(frozen=True, slots=True)
class Passkey:
    """A passkey as it can be listed."""

    id: int
    name: str
    added_at: datetime
    used_at: datetime


@dataclass(frozen=True, slots=True)
class KnownToken:
    """A token as it can be listed: never the token itself."""

    id: int
    email: str
    scope: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None

    @property
    def ended(self) -> bool:
        """Whether it opens nothing any more."""
        return self.revoked_at is not None or self.expires_at <= now()


@dataclass(frozen=True, slots=True)
class Own:
    """A moderator's own account."""

    person: Person
    passkeys: list[Passkey]
    tokens: list[KnownToken]
    told: str
    shortcuts: bool


# Accounts


def add_moderator(
    session: Session,
    email: str,
    *,
    role: str,
    password: str | Hashed | None = None,
    name: str | None = None,
    by: ModeratorId | None = None,
) -> ModeratorId:
    """Make an account and its moderator, or take one that was deactivated into use again. Raises `AccountRefused`.

    Without a password nobody signs in with it before an invitation is used. Who comes back keeps the name that stands
    with their decisions, and nothing that signed them in before.
    """
    address = _address(email)
    # Of two admins who invite the same person at once, the second finds them here.
    ledger.take_head(session)
    _ask_whether_admin(session, by)
    known = session.scalar(select(User).where(User.email == address))
    if known is not None and known.active:
        raise AccountRefused(f"{address} is a moderator already. `emeritus moderator list` shows them.")
    if known is not None:
        moderator = ModeratorId(known.moderator_id)
        if name is not None and name != moderators.named(session, [moderator])[moderator].name:
            raise AccountRefused(
                f"{address} was a moderator here under another name, which stands with what they decided. Nothing was "
                "changed. Leave the name out."
            )
        _take_back(session, known, by=by)
        known.password = None if password is None else _hash_of(password)
        _give_role(session, known, role, by=by)
        return moderator
    moderator = moderators.add(session, _name(session, name or address.partition("@")[0]), role)
    user = User(
        email=address,
        password=None if password is None else _hash_of(password),
        active=True,
        fs_uniquifier=_uniquifier(),
        moderator_id=moderator,
    )
    user.roles = [_role(session, role)]
    session.add(user)
    session.flush()
    ledger.record_access(session, AccessEvent.INVITED, moderator=moderator, by=by)
    return moderator


def invited_again(session: Session, user_id: int, *, by: ModeratorId) -> User:
    """Return an account for which another invitation may be sent: nobody has set a password for it.

    One that was deactivated is in use again, with nothing that signed its owner in before. Raises `AccountRefused`.
    """
    user = _locked(session, user_id)
    _ask_whether_admin(session, by)
    if not user.active:
        _take_back(session, user, by=by)
    elif user.password is not None:
        raise AccountRefused("This person has set a password already. No mail was sent.")
    return user


def set_password(
    session: Session,
    user_id: int,
    password: Hashed,
    *,
    by: ModeratorId | None = None,
    admitted_as: str | None = None,
) -> str:
    """Give an account another password. Its sessions end, and its links from mail; return what new sessions name.

    *admitted_as*, here and below, is what the session named that asks for it: where sessions have ended since, as after
    a reset, `SignedOutMeanwhile` is raised.
    """
    user = _locked(session, user_id, admitted_as=admitted_as)
    user.password = password.hash
    _end_everything(session, user)
    ledger.record_access(session, AccessEvent.PASSWORD_CHANGED, moderator=ModeratorId(user.moderator_id), by=by)
    return user.fs_uniquifier


def reset_password(session: Session, email: str, password: str | Hashed, *, factors: bool = False) -> None:
    """Give an account a new password and end its sessions; *factors* go too, if asked. Raises `AccountRefused`."""
    user = _user(session, email)
    set_password(session, user.id, Hashed(_hash_of(password)))
    if factors:
        remove_factors(session, user.id)


def deactivate(session: Session, email: str) -> None:
    """Take an account out of use: no sign-in, no token, no verdict. Its decisions stay. Raises `AccountRefused`.

    This is the operator's: it does not ask whether an admin is left, since the command line can add one.
    """
    _deactivate(session, _user(session, email), by=None)


def deactivate_person(session: Session, user_id: int, *, by: ModeratorId) -> None:
    """Take an account out of use, as an admin. Raises `LastAdmin`, `NoSuchPerson` or `NotAnAdmin`."""
    user = _locked(session, user_id)
    _ask_whether_admin(session, by)
    _keep_an_admin(session, user)
    _deactivate(session, user, by=by)


def change_role(session: Session, user_id: int, role: str, *, by: ModeratorId | None) -> None:
    """Make somebody a moderator or an admin. Raises `LastAdmin`, `NoSuchPerson`, `NotAnAdmin` or `AccountRefused`."""
    if role not in moderators.ROLES:
        raise AccountRefused(f"There is no role of this name; there are {' and '.join(moderators.ROLES)}.")
    user = _locked(session, user_id)
    _ask_whether_admin(session, by)
    if role != "admin":
        _keep_an_admin(session, user)
    _give_role(session, user, role, by=by)


def sign_out_everywhere(session: Session, user_id: int, *, by: ModeratorId | None = None) -> None:
    """End every session of an account, and every link that was sent for it."""
    user = _locked(session, user_id)
    _end_everything(session, user)
    ledger.record_access(session, AccessEvent.SIGNED_OUT_EVERYWHERE, moderator=ModeratorId(user.moderator_id), by=by)


def set_told(session: Session, user_id: int, told: str) -> None:
    """Say how often a moderator wants to be told what waits. Raises `AccountRefused`."""
    if told not in TOLD:
        raise AccountRefused("Choose one of the listed ways of being told. Nothing was changed.")
    session.get_one(User, user_id).told = told


def set_shortcuts(session: Session, user_id: int, on: bool) -> None:
    """Say whether the desk listens to single keys."""
    session.get_one(User, user_id).shortcuts = on


def moderator_of(session: Session, email: str) -> ModeratorId:
    """Return the moderator behind an address. Raises `AccountRefused`."""
    return ModeratorId(_user(session, email).moderator_id)


def of_moderator(session: Session, moderator: ModeratorId) -> User:
    """Return the account of a moderator."""
    return session.scalars(select(User).where(User.moderator_id == moderator)).one()


def find(session: Session, email: str) -> User | None:
    """Return the active account of an address, or None: also for what is no address."""
    try:
        user = _user(session, email)
    except AccountRefused:
        return None
    return user if user.active else None


def plain(email: str) -> str:
    """Return an address as accounts have it, however it is written; what is no address, without white space around."""
    try:
        return _address(email.strip())
    except AccountRefused:
        return email.strip().lower()


def everyone(session: Session) -> list[tuple[str, Moderator]]:
    """Return every account's address with its moderator, in the order they were added."""
    return [(person.email, person.moderator) for person in people(session)]


def people(session: Session) -> list[Person]:
    """Return every account, in the order they were added."""
    passkeys: dict[int, int] = dict(session.execute(_count_of(WebAuthn.user_id)).all())
    living = _count_of(ApiToken.user_id).where(ApiToken.revoked_at.is_(None), ApiToken.expires_at > now())
    issued: dict[int, int] = dict(session.execute(living).all())
    users = session.scalars(select(User).order_by(User.id)).all()
    known = moderators.named(session, [user.moderator_id for user in users])
    return [
        Person(
            user_id=user.id,
            email=user.email,
            moderator=known[user.moderator_id],
            has_password=user.password is not None,
            authenticator=_has_authenticator(user),
            passkeys=passkeys.get(user.id, 0),
            recovery_codes=len(user.mf_recovery_codes or []),
            signed_in_at=_aware(user.current_login_at) if user.current_login_at else None,
            tokens=issued.get(user.id, 0),
        )
        for user in users
    ]


def own(session: Session, user_id: int) -> Own:
    """Return an account as its moderator sees it."""
    user = session.get_one(User, user_id)
    keys = session.scalars(select(WebAuthn).where(WebAuthn.user_id == user_id).order_by(WebAuthn.id))
    return Own(
        person=next(person for person in people(session) if person.user_id == user_id),
        passkeys=[Passkey(k.id, k.name, _aware(k.create_datetime), _aware(k.lastuse_datetime)) for k in keys],
        tokens=[token for token in tokens(session, user_id=user_id) if not token.ended],
        told=user.told,
        shortcuts=user.shortcuts,
    )


# The second factor


def needs_second_factor(session: Session) -> bool:
    """Return whether an admin decided that everyone signs in with a second factor."""
    rule = session.get(HouseRule, _EVERYONE_NEEDS_A_FACTOR)
    return rule is not None and rule.value == "yes"


def require_second_factor(session: Session, needed: bool, *, by: ModeratorId) -> None:
    """Decide whether everyone needs a second factor. Raises `NotAnAdmin`."""
    ledger.take_head(session)
    _ask_whether_admin(session, by)
    if needs_second_factor(session) == needed:
        return
    rule = session.get(HouseRule, _EVERYONE_NEEDS_A_FACTOR) or HouseRule(name=_EVERYONE_NEEDS_A_FACTOR)
    rule.value, rule.moderator_id, rule.since = "yes" if needed else "no", by, now()
    session.add(rule)
    session.flush()
    ledger.record_access(session, AccessEvent.RULE_CHANGED, moderator=by, by=by)


def lacks_second_factor(session: Session, user_id: int) -> bool:
    """Return whether the rule asks for a second factor that this account does not have."""
    if not needs_second_factor(session):
        return False
    user = session.get_one(User, user_id)
    return not _has_authenticator(user) and not session.scalar(
        select(func.count()).select_from(WebAuthn).where(WebAuthn.user_id == user_id)
    )


def set_authenticator(
    session: Session, user_id: int, secret: str, *, counter: int, admitted_as: str | None = None
) -> None:
    """Keep the encrypted *secret* of an authenticator that showed a right code, the one of the time step *counter*."""
    user = _locked(session, user_id, admitted_as=admitted_as)
    user.tf_primary_method, user.tf_totp_secret, user.totp_counter = "authenticator", secret, counter
    session.flush()
    ledger.record_access(session, AccessEvent.FACTOR_ADDED, moderator=ModeratorId(user.moderator_id))


def take_code(session: Session, user_id: int, counter: int) -> bool:
    """Mark the code of a time step as used; return False if that one or a later one was used before."""
    # One statement, so that of two requests with the same code one is too late.
    taken = session.execute(
        update(User)
        .where(User.id == user_id, (User.totp_counter.is_(None)) | (User.totp_counter < counter))
        .values(totp_counter=counter)
    )
    return cast("CursorResult[None]", taken).rowcount == 1


def remove_authenticator(session: Session, user_id: int, *, by: ModeratorId | None = None) -> None:
    """Forget an authenticator. Twice is once."""
    user = _locked(session, user_id)
    if not _has_authenticator(user):
        return
    _forget_authenticator(user)
    session.flush()
    ledger.record_access(session, AccessEvent.FACTOR_REMOVED, moderator=ModeratorId(user.moderator_id), by=by)


def add_passkey(session: Session, user_id: int, passkey: WebAuthn, *, admitted_as: str | None = None) -> None:
    """Keep a passkey that its device proved to hold."""
    user = _locked(session, user_id, admitted_as=admitted_as)
    passkey.user_id = user_id
    session.add(passkey)
    session.flush()
    ledger.record_access(session, AccessEvent.FACTOR_ADDED, moderator=ModeratorId(user.moderator_id))


def remove_passkey(session: Session, user_id: int, passkey_id: int) -> None:
    """Forget a passkey of this account. One that is not there, or another's, is left as it is."""
    user = _locked(session, user_id)
    found = session.get(WebAuthn, passkey_id)
    if found is None or found.user_id != user_id:
        return
    session.delete(found)
    session.flush()
    ledger.record_access(session, AccessEvent.FACTOR_REMOVED, moderator=ModeratorId(user.moderator_id))


def remove_factors(session: Session, user_id: int, *, by: ModeratorId | None = None) -> None:
    """Forget authenticator, passkeys and recovery codes of somebody who lost them; their sessions end."""
    user = _locked(session, user_id)
    _ask_whether_admin(session, by)
    _forget_factors(session, user)
    _end_everything(session, user)
    ledger.record_access(session, AccessEvent.FACTOR_REMOVED, moderator=ModeratorId(user.moderator_id), by=by)


def new_recovery_codes(session: Session, keys: Keys, user_id: int, *, admitted_as: str | None = None) -> list[str]:
    """Make recovery codes and return them, this once; they are kept as keyed digests. Earlier ones end."""
    codes = ["-".join(secrets.token_hex(2) for _ in range(4)) for _ in range(CODES)]
    user = _locked(session, user_id, admitted_as=admitted_as)
    user.mf_recovery_codes = [_code_digest(keys, user_id, code) for code in codes]
    session.flush()
    ledger.record_access(session, AccessEvent.FACTOR_ADDED, moderator=ModeratorId(user.moderator_id))
    return codes


def use_recovery_code(session: Session, keys: Keys, user_id: int, code: str) -> bool:
    """Use a recovery code up; return False if it is none of the account's, or was used before."""
    # Read under the lock: of two requests with the same code one finds it gone.
    user = _locked(session, user_id)
    kept, digest = list(user.mf_recovery_codes or []), _code_digest(keys, user_id, code)
    if digest not in kept:
        return False
    kept.remove(digest)
    user.mf_recovery_codes = kept
    session.flush()
    ledger.record_access(session, AccessEvent.RECOVERY_CODE_USED, moderator=ModeratorId(user.moderator_id))
    return True


# Links that are sent by mail


def link_to(keys: Keys, user: User, purpose: str, lasts: timedelta) -> str:
    """Return a token that lets *user*'s password be set once, for *purpose*, while it *lasts*."""
    until = int((now() + lasts).timestamp())
    return keys.signed(purpose, f"{user.id}.{until}.{_state(keys, user)}")


def opened(session: Session, keys: Keys, purpose: str, token: str, *, locked: bool = False) -> User | None:
    """Return whose token this is, or None: unknown, expired, used, or made for another purpose.

    With *locked*, in a transaction that will use it, nobody else can use it in between.
    """
    told = (keys.opened(purpose, token) or "").split(".")
    if len(told) != 3 or not told[0].isdigit():
        return None
    # By whichever clock is ahead: one that was set back must not make young again what ran out.
    if int(told[1]) <= max(now().timestamp(), session.scalar(select(database_time())) or 0):
        return None
    if locked:
        ledger.take_head(session)
    user = session.get(User, int(told[0]))
    # A password that was set since has another hash, so that each token is used once.
    return user if user is not None and user.active and told[2] == _state(keys, user) else None


# Stays: sign-ins that have not ended


def begin_stay(session: Session, user_id: int) -> str:
    """Note a sign-in and return the secret that its cookie carries."""
    key, at = secrets.token_urlsafe(24), _naive()
    session.add(
        FsRefreshTracker(
            user_id=user_id, refresh_family=fingerprint(key), gen=0, name="desk", last_used_at=at, expires_at=at + STAY
        )
    )
    session.flush()
    return key


def stays(session: Session, user_id: int, key: object) -> bool:
    """Return whether the sign-in with this secret has neither ended nor run out."""
    if not isinstance(key, str):
        return False
    found = select(FsRefreshTracker.id).where(
        FsRefreshTracker.refresh_family == fingerprint(key),
        FsRefreshTracker.user_id == user_id,
        FsRefreshTracker.expires_at > _naive(),
    )
    return session.scalar(found) is not None


def end_stay(session: Session, key: str) -> None:
    """End one sign-in: a copy of its cookie opens nothing any more."""
    session.execute(delete(FsRefreshTracker).where(FsRefreshTracker.refresh_family == fingerprint(key)))


def forget_stays(session: Session) -> None:
    """Forget the sign-ins that ran out: they open nothing, and were whose they were."""
    # What somebody else is deleting is left to them: two who delete many rows in two orders wait for each other.
    ran_out = select(FsRefreshTracker.id).where(FsRefreshTracker.expires_at <= _naive())
    free = ran_out.with_for_update(skip_locked=True)
    session.execute(delete(FsRefreshTracker).where(FsRefreshTracker.id.in_(free)))


def arrived(session: Session, user_id: int) -> str:
    """Note that somebody signed in, in the ledger too; return the secret of their stay."""
    user = _locked(session, user_id)
    user.last_login_at, user.current_login_at = user.current_login_at, _naive()
    user.login_count = (user.login_count or 0) + 1
    ledger.record_access(session, AccessEvent.SIGNED_IN, moderator=ModeratorId(user.moderator_id))
    return begin_stay(session, user_id)


# Tokens of programs


def issue_token(session: Session, email: str, *, scope: str = "full", days: int = TOKEN_DAYS) -> str:
    """Make a bearer token and return it; it is kept only as its SHA-256. Raises `AccountRefused`."""
    return issue_token_to(session, _user(session, email).id, scope=scope, days=days)


def issue_token_to(
    session: Session, user_id: int, *, scope: str, days: int = TOKEN_DAYS, admitted_as: str | None = None
) -> str:
    """Make a bearer token of an account and return it, this once. Raises `AccountRefused`."""
    user = _locked(session, user_id, admitted_as=admitted_as)
    if not user.active:
        raise AccountRefused(f"{user.email} is no longer active.")
    if scope not in SCOPES:
        raise AccountRefused(f"There is no scope of this name; there are {' and '.join(SCOPES)}. No token was made.")
    token = "emr_" + secrets.token_urlsafe(32)
    session.add(
        ApiToken(
            user_id=user.id,
            digest=fingerprint(token),
            scope=scope,
            created_at=now(),
            expires_at=now() + timedelta(days=days),
        )
    )
    session.flush()
    ledger.record_access(session, AccessEvent.TOKEN_ISSUED, moderator=ModeratorId(user.moderator_id))
    return token


def tokens(session: Session, *, user_id: int | None = None) -> list[KnownToken]:
    """Return every token that was issued, or those of one account, oldest first."""
    rows = select(ApiToken, User.email).join(User, User.id == ApiToken.user_id).order_by(ApiToken.id)
    if user_id is not None:
        rows = rows.where(ApiToken.user_id == user_id)
    return [
        KnownToken(t.id, email, t.scope, t.created_at, t.expires_at, t.revoked_at) for t, email in session.execute(rows)
    ]


def revoke_token(session: Session, token_id: int, *, of: int | None = None) -> None:
    """End a token; with *of*, only one of that account. Raises `NoSuchToken`."""
    ledger.take_head(session)
    token = session.get(ApiToken, token_id)
    if token is None or (of is not None and token.user_id != of):
        raise NoSuchToken(token_id)
    if token.revoked_at is not None:
        return
    token.revoked_at = now()
    session.flush()
    moderator = session.get_one(User, token.user_id).moderator_id
    ledger.record_access(session, AccessEvent.TOKEN_REVOKED, moderator=ModeratorId(moderator))


def bearer(session: Session, token: str) -> Bearer | None:
    """Return who *token* stands for, or None if it is unknown, ended, or its moderator is no longer active."""
    # Found by its hash: a comparison that stops early would tell nothing about the token.
    found = session.execute(
        select(ApiToken, User).join(User, User.id == ApiToken.user_id).where(ApiToken.digest == fingerprint(token))
    ).first()
    if found is None:
        return None
    kept, user = found
    moderator = moderators.named(session, [user.moderator_id])[user.moderator_id]
    if kept.revoked_at is not None or kept.expires_at <= now() or not user.active or not moderator.active:
        return None
    return Bearer(moderator, may_decide=kept.scope == "full")


# Passwords


def new_password() -> str:
    """Return a password that nobody has to remember: 100 random bits in five groups."""
    letters = "abcdefghjkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(letters) for _ in range(4)) for _ in range(5))


def chosen(password: str) -> Hashed:
    """Return the hash of a password that somebody chose. Raises `PasswordRefused`."""
    if len(password) < PASSWORD_LENGTH:
        raise PasswordRefused(f"A password has at least {PASSWORD_LENGTH} characters. Nothing was changed.")
    if len(password) > LONGEST_PASSWORD:
        raise PasswordRefused(f"A password has at most {LONGEST_PASSWORD:,} characters. Nothing was changed.")
    return Hashed(hashed(password))


def hashed(password: str) -> str:
    """Return an argon2id hash that Flask-Security verifies."""
    # Flask-Security compares in this form: one password, however its accents were typed.
    plain = unicodedata.normalize("NFKD", password)
    return PasswordHasher(memory_cost=MEMORY, time_cost=PASSES, parallelism=1).hash(plain)


def _hash_of(password: str | Hashed) -> str:
    return password.hash if isinstance(password, Hashed) else hashed(password)


def _deactivate(session: Session, user: User, *, by: ModeratorId | None) -> None:
    moderator = ModeratorId(user.moderator_id)
    user.active = False
    _end_everything(session, user)
    session.execute(delete(Claim).where(Claim.moderator_id == moderator))
    moderators.deactivate(session, moderator)
    ledger.record_access(session, AccessEvent.DEACTIVATED, moderator=moderator, by=by)


def _take_back(session: Session, user: User, *, by: ModeratorId | None) -> None:
    # Whoever had their password, a device or a token when they left must not be let in by their coming back.
    user.active, user.password = True, None
    _forget_factors(session, user)
    session.execute(
        update(ApiToken).where(ApiToken.user_id == user.id, ApiToken.revoked_at.is_(None)).values(revoked_at=now())
    )
    _end_everything(session, user)
    moderator = ModeratorId(user.moderator_id)
    moderators.reactivate(session, moderator)
    ledger.record_access(session, AccessEvent.INVITED, moderator=moderator, by=by)


def _give_role(session: Session, user: User, role: str, *, by: ModeratorId | None) -> None:
    moderator = ModeratorId(user.moderator_id)
    if moderators.named(session, [moderator])[moderator].role == role:
        return
    moderators.set_role(session, moderator, role)
    user.roles = [_role(session, role)]
    ledger.record_access(session, AccessEvent.ROLE_CHANGED, moderator=moderator, by=by)


def _ask_whether_admin(session: Session, by: ModeratorId | None) -> None:
    """Raise `NotAnAdmin` unless *by* is an active admin now that the head is taken. The command line is nobody's."""
    if by is None:
        return
    found = moderators.named(session, [by]).get(by)
    if found is None or not found.active or found.role != "admin":
        raise NotAnAdmin


def _keep_an_admin(session: Session, user: User) -> None:
    admins = {each.id for each in moderators.everyone(session) if each.active and each.role == "admin"}
    if user.moderator_id not in admins:
        return
    # An invitation that nobody used is no admin who could let anybody in.
    with_passkey = select(WebAuthn.user_id).where(WebAuthn.user_id == User.id).exists()
    sign_in = set(session.scalars(select(User.moderator_id).where(User.password.is_not(None) | with_passkey)))
    if not (admins & sign_in) - {user.moderator_id}:
        raise LastAdmin


def _name(session: Session, name: str) -> str:
    """Return a moderator's name as it will stand with their decisions. Raises `AccountRefused`."""
    try:
        return words.author_name(name, reserved=reserved_names(session))
    except words.NameTaken:
        raise AccountRefused(
            "A voice, another moderator or this site already has this name, or one that looks like it. Nothing was "
            "changed. Choose another name."
        ) from None
    except words.WordsRefused as refused:
        raise AccountRefused(f"{refused} Nothing was changed.") from None


def _end_everything(session: Session, user: User) -> None:
    # Sessions name this value, and links are bound to it: a new one ends them all.
    user.fs_uniquifier = _uniquifier()
    session.execute(delete(FsRefreshTracker).where(FsRefreshTracker.user_id == user.id))
    session.flush()


def _has_authenticator(user: User) -> bool:
    return bool(user.tf_totp_secret and user.tf_primary_method)


def _forget_authenticator(user: User) -> None:
    user.tf_primary_method = user.tf_totp_secret = user.totp_counter = None


def _forget_factors(session: Session, user: User) -> None:
    _forget_authenticator(user)
    user.mf_recovery_codes = None
    session.execute(delete(WebAuthn).where(WebAuthn.user_id == user.id))


def _code_digest(keys: Keys, user_id: int, code: str) -> str:
    # People type what they wrote down: case, spaces and dashes are no part of it.
    plain = "".join(letter for letter in code.lower() if letter.isalnum())
    return keys.keyed_digest("recovery code", f"{user_id} {plain}")


def _state(keys: Keys, user: User) -> str:
    return keys.keyed_digest("state of an account", f"{user.fs_uniquifier} {user.password}")


def _uniquifier() -> str:
    return secrets.token_hex(32)


def _count_of(column: object):  # type: ignore[no-untyped-def]  # What SQLAlchemy calls it depends on the column.
    return select(column, func.count()).group_by(column)  # type: ignore[call-overload]


def _naive() -> datetime:
    """Return this moment as Flask-Security's tables keep it: UTC that does not say so."""
    return now().replace(tzinfo=None)


def _aware(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC)


def _locked(session: Session, user_id: int, *, admitted_as: str | None = None) -> User:
    """Return an account for a change that the ledger tells of. Raises `NoSuchPerson` or `SignedOutMeanwhile`."""
    # The head first, always: two admins who demote each other do it one after the other, and never wait for each other.
    ledger.take_head(session)
    user = session.get(User, user_id, populate_existing=True)
    if user is None:
        raise NoSuchPerson
    if admitted_as is not None and user.fs_uniquifier != admitted_as:
        raise SignedOutMeanwhile
    return user


def _user(session: Session, email: str) -> User:
    user = session.scalar(select(User).where(User.email == _address(email)))
    if user is None:
        raise AccountRefused(f"There is no moderator {email}. `emeritus moderator list` shows them.")
    return user


def _role(session: Session, name: str) -> Role:
    role = session.scalar(select(Role).where(Role.name == name))
    if role is None:
        role = Role(name=name)
        session.add(role)
    return role


def _address(email: str) -> str:
    try:
        # Sign-in finds an address however it is written, so two that differ only in case are one.
        return validate_email(email, check_deliverability=False).normalized.lower()
    except EmailNotValidError as refused:
        raise AccountRefused(f"{email} cannot be an e-mail address: {refused}") from None
