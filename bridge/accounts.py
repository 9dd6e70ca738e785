"""How moderators sign in: Flask-Security's users, and bearer tokens. The gate knows only the moderator behind them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from argon2 import PasswordHasher
from email_validator import EmailNotValidError, validate_email
from sqlalchemy import select
from sqlalchemy.orm import Session

from bridge.keys import fingerprint
from bridge.records import ApiToken, Role, User
from moderation import moderators
from moderation.base import now
from moderation.types import Moderator, ModeratorId

SCOPES = ("full", "read")
TOKEN_DAYS = 365
MEMORY, PASSES = 19456, 2
"""OWASP's parameters for argon2id: 19 MiB, two passes (SECURITY, R4)."""
ARGON2 = {"argon2__memory_cost": MEMORY, "argon2__time_cost": PASSES, "argon2__parallelism": 1}


class AccountRefused(Exception):
    """Raised when an account cannot be made or found. One sentence; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who a bearer token stands for, and whether it may decide."""

    moderator: Moderator
    may_decide: bool


def add_moderator(session: Session, email: str, *, role: str, password: str, name: str | None = None) -> ModeratorId:
    """Make an account and its moderator. Raises `AccountRefused` or `moderators.NameTaken`."""
    address = _address(email)
    if session.scalar(select(User.id).where(User.email == address)) is not None:
        raise AccountRefused(f"{address} is a moderator already. `emeritus moderator list` shows them.")
    moderator = moderators.add(session, name or address.partition("@")[0], role)
    user = User(
        email=address,
        password=hashed(password),
        active=True,
        fs_uniquifier=secrets.token_hex(32),
        moderator_id=moderator,
    )
    user.roles = [_role(session, role)]
    session.add(user)
    session.flush()
    return moderator


def reset_password(session: Session, email: str, password: str) -> None:
    """Give an account a new password and end its sessions. Raises `AccountRefused`."""
    user = _user(session, email)
    user.password = hashed(password)
    # Sessions name this value: a new one ends them all.
    user.fs_uniquifier = secrets.token_hex(32)
    session.flush()


def deactivate(session: Session, email: str) -> None:
    """Take an account out of use: no sign-in, no token, no verdict. Its decisions stay. Raises `AccountRefused`."""
    user = _user(session, email)
    user.active = False
    user.fs_uniquifier = secrets.token_hex(32)
    moderators.deactivate(session, ModeratorId(user.moderator_id))


def moderator_of(session: Session, email: str) -> ModeratorId:
    """Return the moderator behind an address. Raises `AccountRefused`."""
    return ModeratorId(_user(session, email).moderator_id)


def everyone(session: Session) -> list[tuple[str, Moderator]]:
    """Return every account's address with its moderator, in the order they were added."""
    rows = session.execute(select(User.email, User.moderator_id).order_by(User.id)).all()
    people = moderators.named(session, [moderator_id for _, moderator_id in rows])
    return [(email, people[moderator_id]) for email, moderator_id in rows]


def issue_token(session: Session, email: str, *, scope: str = "full", days: int = TOKEN_DAYS) -> str:
    """Make a bearer token and return it; it is kept only as its SHA-256. Raises `AccountRefused`."""
    user = _user(session, email)
    if not user.active:
        raise AccountRefused(f"{user.email} is no longer active.")
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
    return token


@dataclass(frozen=True, slots=True)
class KnownToken:
    """A token as it can be listed: never the token itself."""

    id: int
    email: str
    scope: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None


def tokens(session: Session) -> list[KnownToken]:
    """Return every token that was issued, oldest first."""
    rows = session.execute(select(ApiToken, User.email).join(User, User.id == ApiToken.user_id).order_by(ApiToken.id))
    return [KnownToken(t.id, email, t.scope, t.created_at, t.expires_at, t.revoked_at) for t, email in rows]


def revoke_token(session: Session, token_id: int) -> None:
    """End a token. Raises `AccountRefused`."""
    token = session.get(ApiToken, token_id)
    if token is None:
        raise AccountRefused(f"There is no token {token_id}. `emeritus token list` shows them.")
    token.revoked_at = token.revoked_at or now()


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


def new_password() -> str:
    """Return a password that nobody has to remember: 100 random bits in five groups."""
    letters = "abcdefghjkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(letters) for _ in range(4)) for _ in range(5))


def hashed(password: str) -> str:
    """Return an argon2id hash that Flask-Security verifies."""
    return PasswordHasher(memory_cost=MEMORY, time_cost=PASSES, parallelism=1).hash(password)


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
