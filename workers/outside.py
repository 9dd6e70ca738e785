"""Calls to addresses that somebody gave us: never to this machine, its network or a cloud's own (SECURITY, Q2).

The name is resolved once, every address it has must be public, and the connection goes to one of those: a name that
means something else a moment later is not asked again. Each redirect is an address that somebody gave us, too.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

SECONDS = 10.0
MOST_BYTES = 2 * 1024 * 1024
MOST_REDIRECTS = 3
PORTS = frozenset({80, 443})
NO_HEADERS: Mapping[str, str] = MappingProxyType({})

_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\.?")
_A_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label that makes a whole host an IPv4 address to a resolver: `0x7f.1`, `2130706433` (WHATWG's URL, 3.5)."""
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        # Written out, because what `is_global` says depends on the age of Python (3.11.4, 3.12.4).
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
        # Within 2000::/3, which is all of IPv6 that is public: Teredo and its neighbours, documentation, 6to4.
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
    )
)
_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")

Resolve = Callable[[str, int], Awaitable[list[str]]]


class OutsideRefused(Exception):
    """Raised when an address was not called, or not heard to the end. *passing*: it may go better later."""

    passing = False

    def __init__(self, told: str) -> None:
        super().__init__(told)


class AddressRefused(OutsideRefused):
    """Raised for an address that is not to be called: of the wrong kind, or not public."""


class TooManyRedirects(OutsideRefused):
    """Raised when an address leads on and on."""

    def __init__(self) -> None:
        super().__init__(f"It leads on more than {MOST_REDIRECTS} times.")


class TooMuch(OutsideRefused):
    """Raised when an answer is larger than anything that was asked for, or cannot be unpacked."""


class Unreachable(OutsideRefused):
    """Raised when nobody answers, or not in time, or not to the end."""

    passing = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered, unpacked, at most `MOST_BYTES` of it."""

    status: int
    body: bytes
    type: str
    """The media type that it says it has, without parameters; empty if it says none."""
    url: str = field(default="", compare=False)
    """Where it was answered, after all redirects."""
    links: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    """The relation and the absolute address of each of its Link headers."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet's, and no way to another one that is not."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _PUBLIC_V6:
        return False  # With it go ::127.0.0.1, ::ffff:127.0.0.1, 64:ff9b::7f00:1, local ones, multicast.
    return ip.is_global and not any(ip in network for network in _NOT_PUBLIC if network.version == ip.version)


async def resolved(host: str, port: int) -> list[str]:
    """Return every address that *host* has now."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may be called and how long it may take. Tests stand other addresses in for public ones."""

    permits: Callable[[str], bool] = is_public
    ports: frozenset[int] | None = PORTS
    """None: any."""
    resolve: Resolve = resolved
    seconds: float = SECONDS
    most_bytes: int = MOST_BYTES


PUBLIC = Bounds()
ANYWHERE = Bounds(permits=lambda _address: True, ports=None)


def bounds(*, allow_private: bool) -> Bounds:
    """Return what an address may be that the operator set, who may mean one of their own network."""
    return ANYWHERE if allow_private else PUBLIC


async def post(
    url: str,
    *,
    body: bytes,
    headers: Mapping[str, str] = NO_HEADERS,
    allow_private: bool = False,
    within: Bounds = PUBLIC,
) -> Answer:
    """Send *body* to an address, and return what it answers. Only redirects that keep the method are followed.

    *allow_private* is for an address that the operator set. Raises `OutsideRefused`.
    """
    return await _call("POST", url, body, headers, ANYWHERE if allow_private else within)


async def get(
    url: str, *, headers: Mapping[str, str] = NO_HEADERS, allow_private: bool = False, within: Bounds = PUBLIC
) -> Answer:
    """Return what an address answers. Raises `OutsideRefused`."""
    return await _call("GET", url, None, headers, ANYWHERE if allow_private else within)


async def _call(method: str, url: str, body: bytes | None, headers: Mapping[str, str], within: Bounds) -> Answer:
    try:
        async with asyncio.timeout(within.seconds):
            here = checked(url, within)
            for _ in range(MOST_REDIRECTS + 1):
                found = await _once(method, here, body, headers, within)
                if isinstance(found, Answer):
                    return found
                there = checked(str(here.join(found)), within)
                if here.scheme == "https" and there.scheme != "https":
                    raise AddressRefused("It leads from https to http.")
                here = there
            raise TooManyRedirects
    except TimeoutError:
        raise Unreachable(f"It did not answer within {within.seconds:g} seconds.") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # What they say quotes the address, which may be a secret.
        raise Unreachable(f"It could not be reached ({type(error).__name__}).") from None


def checked(url: str, within: Bounds = PUBLIC) -> URL:
    """Return an address that may be called, as far as it can be told without asking. Raises `AddressRefused`."""
    try:
        parsed = URL(url)
        host, port = (parsed.raw_host or "").lower(), parsed.port
    except ValueError:
        raise AddressRefused("It is no address.") from None
    if parsed.scheme not in {"http", "https"} or not host:
        raise AddressRefused("It is no http or https address.")
    if parsed.user is not None or parsed.password is not None:
        raise AddressRefused("It has a user name or a password in it.")
    if within.ports is not None and port not in within.ports:
        raise AddressRefused("Its port is neither 80 nor 443.")
    if _is_ip(host):
        # aiohttp asks no resolver about these, so they are looked at here.
        if not within.permits(host):
            raise AddressRefused("It is not in the public internet.")
    elif not _HOST.fullmatch(host) or _A_NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        raise AddressRefused("Its host is not a name.")
    return parsed


async def _once(method: str, url: URL, body: bytes | None, headers: Mapping[str, str], within: Bounds) -> Answer | URL:
    """Return the answer of one address, or where it leads."""
    connector = aiohttp.TCPConnector(resolver=_OnlyPermitted(within), use_dns_cache=False, force_close=True)
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        # A proxy from the environment would resolve the name again, behind our back.
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None),
    ) as session:
        asked = {"User-Agent": "Emeritus", "Accept-Encoding": "gzip", **headers}
        async with session.request(method, url, data=body, headers=asked, allow_redirects=False) as answer:
            leads = answer.headers.get("Location")
            followed = {307, 308} if method == "POST" else {301, 302, 303, 307, 308}
            if leads is not None and answer.status in followed:
                return URL(leads)
            body = await _unpacked(answer, within)
            return Answer(answer.status, body, answer.content_type or "", str(url), _links(answer))


def _links(answer: aiohttp.ClientResponse) -> tuple[tuple[str, str], ...]:
    try:
        return tuple((rel, str(told["url"])) for rel, told in answer.links.items())
    except (ValueError, KeyError):
        return ()  # Written in a way that nobody can follow.


async def _unpacked(answer: aiohttp.ClientResponse, within: Bounds) -> bytes:
    """Return a body as it was before it was packed, and never more of it in memory than is allowed."""
    packing = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if packing not in {"identity", "", "gzip", "x-gzip"}:
        raise TooMuch("Its answer is packed in a way that nobody asked for.")
    unpack = zlib.decompressobj(wbits=31) if packing.endswith("gzip") else None
    whole = bytearray()
    async for piece in answer.content.iter_chunked(64 * 1024):
        room = within.most_bytes - len(whole) + 1
        try:
            # One byte more than there is room for is enough to know.
            whole += unpack.decompress(piece, room) if unpack is not None else piece[:room]
        except zlib.error:
            raise TooMuch("Its answer cannot be unpacked.") from None
        if len(whole) > within.most_bytes:
            raise TooMuch(f"Its answer is larger than {within.most_bytes:,} bytes.")
    if unpack is not None and not unpack.eof:
        raise Unreachable("Its answer ended too early.")
    return bytes(whole)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


class _OnlyPermitted(AbstractResolver):
    """Resolves a name for one connection; one address among them that is not permitted spoils them all."""

    def __init__(self, within: Bounds) -> None:
        self._within = within

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return every address of *host*. Raises `AddressRefused`."""
        found = await self._within.resolve(host, port)
        if not found or not all(self._within.permits(address) for address in found):
            raise AddressRefused("It is not in the public internet.")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in found
        ]

    async def close(self) -> None:
        """Nothing is open."""
