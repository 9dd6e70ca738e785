"""The block list: networks whose letters are not taken, and domains and words that send a letter to the likely spam.

Nothing is dropped for it. Whoever writes from a blocked network is told so, and may ask that a person looks all the
same (`letter.admission`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import idna
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from bridge.db import Database
from bridge.records import Block
from bridge.signal import listed
from bridge.signal.listed import Listed
from bridge.site import Site
from bridge.text import markup
from moderation import moderators
from moderation.base import now
from moderation.types import Moderator, ModeratorId

AT_MOST = 1_000
"""All of them are read for each letter that arrives."""
WHY_LENGTH = 300
VALUE_LENGTH = 253
"""As long as a domain's name can be."""
WIDEST = {4: 8, 6: 16}
"""The shortest prefix, by IP version: what is wider is most of the world, and a slip."""
NARROWEST_V6 = 64
"""Whoever has one address of a /64 has all of them, and they are told apart by no more (`limits.network`)."""
KEPT_FOR = timedelta(seconds=5)
"""How long a process answers from the networks that it read."""

_DOMAIN = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9-]{2,63}")
_BETWEEN = re.compile(r"[^\w.-]+")


class What(StrEnum):
    """What can be blocked, each with what it is called on the desk."""

    label: str

    def __new__(cls, value: str, label: str) -> What:
        """Give each kind its label."""
        made = str.__new__(cls, value)
        made._value_ = value
        made.label = label
        return made

    NETWORK = "network", "Network"
    DOMAIN = "domain", "Domain"
    WORD = "word", "Word or phrase"


class BlockRefused(Exception):
    """Something about a block that an admin can mend. Nothing was changed."""


class NotANetwork(BlockRefused):
    """Raised for what is neither an address nor a network."""

    def __init__(self) -> None:
        super().__init__(
            "This is not a network. Write an address, such as 192.0.2.7, or a network, such as 192.0.2.0/24 or "
            "2001:db8::/48. Nothing was blocked."
        )


class NetworkTooWide(BlockRefused):
    """Raised for a network that is a large part of the world."""

    def __init__(self, version: int) -> None:
        super().__init__(
            f"This network is too wide: a block has /{WIDEST[version]} at the widest. Nothing was blocked."
        )


class NetworkTooNarrow(BlockRefused):
    """Raised for less of IPv6 than readers are told apart by."""

    def __init__(self, network: str) -> None:
        super().__init__(
            f"Readers with IPv6 are told apart by the first half of their address alone. Block {network} if you mean "
            "everybody in it. Nothing was blocked."
        )


class NotADomain(BlockRefused):
    """Raised for what cannot be a domain."""

    def __init__(self) -> None:
        super().__init__("This is not a domain. Write it like casino.example, without http. Nothing was blocked.")


class CannotMatch(BlockRefused):
    """Raised for a word that the list of words would not take either."""

    def __init__(self, refused: listed.WordRefused) -> None:
        super().__init__(str(refused).replace("Nothing was listed.", "Nothing was blocked."))


class AlreadyBlocked(BlockRefused):
    """Raised for what is blocked, in this form or one that matches the same."""

    def __init__(self, value: str) -> None:
        super().__init__(f'"{value}" is blocked already, and matches the same. Nothing was changed.')


class WhyTooLong(BlockRefused):
    """Raised for a reason that does not fit."""

    def __init__(self) -> None:
        super().__init__(f"The reason is too long; it has {WHY_LENGTH} characters at most. Nothing was blocked.")


class TooManyBlocks(BlockRefused):
    """Raised when there are as many as can be read for each letter."""

    def __init__(self) -> None:
        super().__init__(f"The list holds {AT_MOST:,} blocks, which is all it can. Take one off first.")


@dataclass(frozen=True, slots=True)
class Entry:
    """A block, and by whom."""

    row: Block
    moderator: Moderator


class Blocks:
    """The blocked domains and words as they are matched."""

    def __init__(self, domains: Iterable[str], words: Iterable[str]) -> None:
        self._domains = {look: domain for domain in domains for look in _domain_looks(domain)}
        self._words = Listed(words)

    def of_host(self, host: str) -> str | None:
        """Return the blocked domain that *host* is, is under, or looks like; or None."""
        if not self._domains:
            return None
        for look in _domain_looks(host):
            parts = look.split(".")
            for start in range(len(parts) - 1):
                found = self._domains.get(".".join(parts[start:]))
                if found is not None:
                    return found
        return None

    def found_in(self, body: str, author: str) -> list[str]:
        """Return each blocked domain and word, as it was typed, that a letter or its author's name has."""
        found: dict[str, None] = {}
        seen = f"{author}\n{markup.plain(body)}"
        if self._domains:
            for host in dict.fromkeys([*_hosts(markup.links(body)), *_written_hosts(seen)]):
                if (domain := self.of_host(host)) is not None:
                    found[domain] = None
        found |= dict.fromkeys(match.word for match in self._words.matches(seen))
        return list(found)


def blocks(session: Session) -> Blocks:
    """Return the blocked domains and words as they are now."""
    rows = session.execute(
        select(Block.what, Block.look, Block.value).where(Block.what != What.NETWORK.value).order_by(Block.id)
    ).all()
    return Blocks(
        (look for what, look, _ in rows if what == What.DOMAIN), (value for what, _, value in rows if what == What.WORD)
    )


def blocks_network(site: Site, network: str) -> bool:
    """Return whether a visitor's network (`limits.network`) is blocked, as of a few seconds ago at most."""
    known = _networks.get(site.database)
    if known is None or not timedelta(0) <= now() - known.at <= KEPT_FOR:
        with site.database.reading_sessions() as session:
            looks = session.scalars(select(Block.look).where(Block.what == What.NETWORK.value)).all()
        known = _Networks(tuple(ipaddress.ip_network(look) for look in looks), now())
        _networks[site.database] = known
    if not known.all:
        return False
    try:
        asked = ipaddress.ip_network(network)
    except ValueError:
        return False
    return any(_within(asked, each) for each in known.all)


def entries(session: Session) -> list[Entry]:
    """Return every block, the newest first."""
    rows = session.scalars(select(Block).order_by(Block.since.desc(), Block.id.desc())).all()
    people = moderators.named(session, {ModeratorId(row.moderator_id) for row in rows})
    return [Entry(row, people[ModeratorId(row.moderator_id)]) for row in rows]


def add(site: Site, what: What, written: str, why: str, *, moderator: ModeratorId) -> str:
    """Block something, and return it as it is kept. Raises a `BlockRefused`."""
    value, look = _read(what, written.strip())
    reason = " ".join(why.replace("\x00", "").split())
    if len(reason) > WHY_LENGTH:
        raise WhyTooLong
    with site.database.sessions.begin() as session:
        _add(session, Block(what=what.value, value=value, look=look, why=reason or None, moderator_id=moderator))
    _networks.pop(site.database, None)
    return value


def remove(site: Site, block_id: int) -> None:
    """Take a block off the list. Twice changes nothing."""
    with site.database.sessions.begin() as session:
        row = session.get(Block, block_id)
        if row is not None:
            session.delete(row)
    _networks.pop(site.database, None)


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class _Networks:
    all: tuple[Network, ...]
    at: datetime


_networks: WeakKeyDictionary[Database, _Networks] = WeakKeyDictionary()


def _add(session: Session, block: Block) -> None:
    same = session.scalar(select(Block.value).where(Block.what == block.what, Block.look == block.look))
    if same is not None:
        raise AlreadyBlocked(same)
    if (session.scalar(select(func.count()).select_from(Block)) or 0) >= AT_MOST:
        raise TooManyBlocks
    block.since = now()
    session.add(block)
    try:
        session.flush()
    except IntegrityError:
        # Two admins at one moment; the unique key settles it.
        raise AlreadyBlocked(block.value) from None


def _read(what: What, written: str) -> tuple[str, str]:
    """Return what was typed in its one form, and what it is compared by. Raises a `BlockRefused`."""
    if what is What.WORD:
        try:
            return listed.read(written)
        except listed.WordRefused as refused:
            raise CannotMatch(refused) from None
    if what is What.DOMAIN:
        domain = _ascii(markup.without_unseen(written).removeprefix("*.").removeprefix("@").rstrip("."))
        # The end of a domain is never a number: that would be an address.
        if domain is None or not _DOMAIN.fullmatch(domain) or domain.rpartition(".")[2].isdigit():
            raise NotADomain
        return markup.without_unseen(written)[:320], domain
    network = str(_network(written))
    return network, network


def _network(written: str) -> Network:
    try:
        found = ipaddress.ip_network(written.strip("[]"), strict=False)
    except ValueError:
        raise NotANetwork from None
    if isinstance(found, ipaddress.IPv6Network):
        mapped = found.network_address.ipv4_mapped
        if mapped is not None and found.prefixlen >= 96:
            found = ipaddress.IPv4Network((mapped, found.prefixlen - 96), strict=False)
    if found.prefixlen < WIDEST[found.version]:
        raise NetworkTooWide(found.version)
    if isinstance(found, ipaddress.IPv6Network) and found.prefixlen > NARROWEST_V6:
        raise NetworkTooNarrow(str(found.supernet(new_prefix=NARROWEST_V6)))
    return found


def _within(asked: Network, block: Network) -> bool:
    if isinstance(asked, ipaddress.IPv4Network) and isinstance(block, ipaddress.IPv4Network):
        return asked.subnet_of(block)
    if isinstance(asked, ipaddress.IPv6Network) and isinstance(block, ipaddress.IPv6Network):
        return asked.subnet_of(block)
    return False


def _ascii(domain: str) -> str | None:
    """Return a domain as DNS has it, or None if it cannot be one."""
    if not domain or len(domain) > VALUE_LENGTH:
        return None
    if domain.isascii():
        return domain.lower()  # Also with an underscore, which IDNA refuses and names of hosts may have.
    try:
        return idna.encode(domain, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        return None


def _domain_looks(domain: str) -> Sequence[str]:
    """Return what a domain is compared by: as DNS has it, and as its letters look (UTS 39)."""
    plain = _ascii(domain.rstrip("."))
    if plain is None:
        return ()
    try:
        shown = idna.decode(plain)
    except (idna.IDNAError, UnicodeError):
        shown = plain
    return plain, listed.plain_letters(shown)


def _hosts(links: Iterable[str]) -> list[str]:
    found = []
    for link in links:
        try:
            parts = urlsplit(link)
            host = parts.hostname or ""
        except ValueError:
            continue
        if parts.scheme == "mailto":
            host = parts.path.rpartition("@")[2]
        elif not parts.scheme and not parts.netloc:
            host = link.partition("/")[0]
        if host:
            found.append(host)
    return found


def _written_hosts(text: str) -> list[str]:
    """Return what stands in *text* and may be a domain, without an address around it."""
    return [part.strip(".-_") for part in _BETWEEN.split(text) if "." in part.strip(".")]
