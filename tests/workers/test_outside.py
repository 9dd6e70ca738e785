"""Calls to addresses that somebody gave us (SECURITY, Q2): real servers, of which 127.0.0.1 stands for a public one."""

import asyncio
import gzip
import socket
import threading
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest

from workers import outside
from workers.outside import AddressRefused, Bounds, OutsideRefused, TooManyRedirects, TooMuch, Unreachable

PUBLIC, INNER = "127.0.0.1", "127.0.0.2"
"""In these tests: an address of the internet, and one of our own network."""


@dataclass
class Served:
    """A server that answers with *raw* bytes, and remembers what it was asked."""

    port: int
    asked: list[bytes]

    def url(self, path: str = "/", *, host: str = "outside.example") -> str:
        return f"http://{host}:{self.port}{path}"


@contextmanager
def serving(
    *answers: bytes | Callable[[socket.socket], None], address: str = PUBLIC, port: int = 0
) -> Iterator[Served]:
    """Serve *answers*, one a connection and the last again and again."""
    with socket.create_server((address, port)) as listener:
        served = Served(listener.getsockname()[1], [])
        left = list(answers)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(10)
                    served.asked.append(request_on(connection))
                    says = left.pop(0) if len(left) > 1 else left[0]
                    try:
                        says(connection) if callable(says) else connection.sendall(says)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield served
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def request_on(connection: socket.socket) -> bytes:
    """Read one request: its head, and as much body as it announces."""
    read = b""
    while b"\r\n\r\n" not in read:
        more = connection.recv(65536)
        if not more:
            return read
        read += more
    head, _, body = read.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answer(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    """Return an answer as it stands on the wire."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def leads(to: str, status: str = "302 Found") -> bytes:
    return answer(status=status, Location=to)


def names(**hosts: list[str]) -> Callable[[str, int], Awaitable[list[str]]]:
    """Return a resolver that knows these names alone; each time it is asked it says the next address."""

    async def resolve(host: str, _port: int) -> list[str]:
        said = hosts.get(host.partition(".")[0])
        if said is None:
            raise socket.gaierror("nobody knows it")
        return said

    return resolve


WITHIN = Bounds(permits=lambda address: address == PUBLIC, ports=None, resolve=names(outside=[PUBLIC], inner=[INNER]))


def get(url: str, within: Bounds = WITHIN) -> outside.Answer:
    return asyncio.run(outside.get(url, within=within))


def post(url: str, within: Bounds = WITHIN, **more: str) -> outside.Answer:
    return asyncio.run(outside.post(url, body=b"words", headers=more, within=within))


# What is called.


def test_asks_and_hears() -> None:
    with serving(answer(b"heard", Content_Type="text/plain; charset=utf-8")) as served:
        assert get(served.url("/feed?x=1")) == outside.Answer(200, b"heard", "text/plain")
        assert post(served.url("/hook"), **{"X-Emeritus-Signature": "t=1"}).status == 200
    assert served.asked[0].startswith(b"GET /feed?x=1 HTTP/1.1\r\nHost: outside.example")
    assert served.asked[1].startswith(b"POST /hook HTTP/1.1\r\n")
    assert b"X-Emeritus-Signature: t=1\r\n" in served.asked[1]
    assert served.asked[1].endswith(b"\r\n\r\nwords")


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e"],
)
def test_knows_the_addresses_of_the_internet(address: str) -> None:
    assert outside.is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:808:808::",
        "2001::1",
        "2001:db8::1",
        "3fff::1",
        "100::1",
        "fc00::1",
        "fd00::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
        "5f00::1",
        "words",
        "0x7f.1",
        "127.1",
    ],
)
def test_knows_the_addresses_that_are_not(address: str) -> None:
    assert not outside.is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://0x7f.1/",
        "http://0x7f000001/",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://127.0.0.1./",
        "http://134744072/",
        "http://①②⑦.⓪.⓪.①/",
        "http://outside.example:8080/",
        "https://outside.example:22/",
        "http://user@outside.example/",
        "http://user:password@outside.example/",
        "http://:password@outside.example/",
        "ftp://outside.example/",
        "file:///etc/passwd",
        "gopher://outside.example/",
        "//outside.example/",
        "outside.example",
        "http://",
        "http:///",
        "",
        "http://outside example/",
        "http://outside.example%00.other/",
        "http://[::1",
        "http://outside.example:99999/",
    ],
)
def test_calls_nothing_that_is_no_public_address(url: str) -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        raise AssertionError("it was resolved")

    with pytest.raises(AddressRefused):
        get(url, Bounds(resolve=resolve))


def test_calls_ordinary_addresses() -> None:
    for url in ("http://outside.example/", "https://outside.example/x?y", "https://bücher.example/", "http://8.8.8.8/"):
        outside.checked(url)


def test_calls_no_name_with_one_address_that_is_not_public() -> None:
    with serving(answer(b"secret")) as served:
        for addresses in ([INNER], [PUBLIC, INNER], [INNER, PUBLIC], []):
            with pytest.raises(AddressRefused, match="not in the public internet"):
                get(served.url(), replace(WITHIN, resolve=names(outside=addresses)))
    assert served.asked == []


def test_calls_the_address_that_was_looked_at_and_asks_no_second_time() -> None:
    asked = []

    async def rebinding(host: str, _port: int) -> list[str]:
        asked.append(host)
        return [PUBLIC] if len(asked) == 1 else [INNER]

    with serving(answer(b"outer")) as outer, serving(answer(b"secret"), address=INNER, port=outer.port) as inner:
        assert get(outer.url(), replace(WITHIN, resolve=rebinding)).body == b"outer"
    assert asked == ["outside.example"]
    assert inner.asked == []


def test_may_call_the_operators_own_network_when_told_so() -> None:
    with serving(answer(b"inner"), address=INNER) as served:
        url = served.url(host=INNER)
        with pytest.raises(AddressRefused):
            asyncio.run(outside.post(url, body=b"words"))
        assert asyncio.run(outside.post(url, body=b"words", allow_private=True)).body == b"inner"
        assert asyncio.run(outside.get(url, allow_private=True)).body == b"inner"
    with pytest.raises(AddressRefused, match="user name"):
        asyncio.run(outside.get("http://a:b@127.0.0.1/", allow_private=True))


def test_obeys_no_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    with serving(answer(b"straight")) as served, serving(answer(b"proxied")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://{PUBLIC}:{proxy.port}")
        monkeypatch.setenv("http_proxy", f"http://{PUBLIC}:{proxy.port}")
        assert get(served.url()).body == b"straight"


# Where it leads.


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_follows_where_an_address_leads(status: str) -> None:
    with serving(answer(b"there")) as there, serving(leads(there.url("/there"), status)) as here:
        assert get(here.url()).body == b"there"
    assert there.asked[0].startswith(b"GET /there ")


def test_follows_three_times_and_no_more() -> None:
    with serving(leads("/1"), leads("/2"), leads("/3"), answer(b"end")) as served:
        assert get(served.url()).body == b"end"
    assert [asked.split()[1] for asked in served.asked] == [b"/", b"/1", b"/2", b"/3"]
    with serving(leads("/on")) as served, pytest.raises(TooManyRedirects):
        get(served.url())
    assert len(served.asked) == 4


@pytest.mark.parametrize(
    "to",
    ["http://inner.example:{port}/", "http://127.0.0.2:{port}/", "http://2130706434:{port}/", "file:///etc/passwd"],
)
def test_looks_again_at_each_address_that_it_is_led_to(to: str) -> None:
    with serving(answer(b"secret"), address=INNER) as inner:
        with serving(leads(to.format(port=inner.port))) as here, pytest.raises(AddressRefused):
            get(here.url())
        assert inner.asked == []


def test_is_not_led_from_https_to_http(monkeypatch: pytest.MonkeyPatch) -> None:
    async def once(*_: object) -> outside.URL:
        return outside.URL("http://outside.example/")

    monkeypatch.setattr(outside, "_once", once)
    with pytest.raises(AddressRefused, match="https to http"):
        get("https://outside.example/")


def test_sends_words_on_only_where_the_method_is_kept() -> None:
    with serving(answer(b"taken")) as there:
        with serving(leads(there.url(), "307 Temporary")) as here:
            assert post(here.url()).body == b"taken"
        assert there.asked[0].endswith(b"words")
        with serving(leads(there.url(), "302 Found")) as here:
            assert post(here.url()).status == 302
        assert len(there.asked) == 1


# How much, and how long.


def test_unpacks_what_is_packed() -> None:
    with serving(answer(gzip.compress(b"words" * 1000), Content_Encoding="gzip")) as served:
        assert get(served.url()).body == b"words" * 1000


def test_stops_at_two_megabytes_unpacked() -> None:
    bound = outside.MOST_BYTES
    with serving(answer(b"x" * bound), answer(b"x" * (bound + 1))) as served:
        assert len(get(served.url()).body) == bound
        with pytest.raises(TooMuch, match="2,097,152"):
            get(served.url())


def test_never_holds_what_a_gigabyte_of_nothing_unpacks_to(monkeypatch: pytest.MonkeyPatch) -> None:
    pack = zlib.compressobj(9, wbits=31)
    packed = b"".join(pack.compress(bytes(2**20)) for _ in range(1024)) + pack.flush()
    assert len(packed) < 1100 * 1024
    held = []
    real = zlib.decompressobj

    class Counting:
        def __init__(self, wbits: int) -> None:
            self._real = real(wbits)

        def decompress(self, piece: bytes, room: int) -> bytes:
            held.append(len(unpacked := self._real.decompress(piece, room)))
            return unpacked

    monkeypatch.setattr(outside.zlib, "decompressobj", Counting)
    with serving(answer(packed, Content_Encoding="gzip")) as served, pytest.raises(TooMuch):
        get(served.url())
    assert sum(held) == outside.MOST_BYTES + 1


@pytest.mark.parametrize("packing", ["br", "deflate", "zstd", "gzip, gzip"])
def test_unpacks_nothing_that_it_did_not_ask_for(packing: str) -> None:
    with serving(answer(b"words", Content_Encoding=packing)) as served, pytest.raises(TooMuch):
        get(served.url())


def test_takes_no_piece_for_the_whole() -> None:
    whole = gzip.compress(b"words" * 1000)
    with serving(answer(whole[:-9], Content_Encoding="gzip")) as served, pytest.raises(Unreachable, match="too early"):
        get(served.url())
    with serving(answer(b"not packed at all", Content_Encoding="gzip")) as served, pytest.raises(TooMuch):
        get(served.url())
    with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nthree") as served, pytest.raises(Unreachable):
        get(served.url())


def test_gives_up_on_one_that_drips() -> None:
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not stop.wait(0.05):
            connection.sendall(b"x")

    with serving(drip) as served:
        began = time.monotonic()
        try:
            with pytest.raises(Unreachable, match=r"within 0\.5 seconds"):
                get(served.url(), replace(WITHIN, seconds=0.5))
            assert time.monotonic() - began < 5
        finally:
            stop.set()


def test_gives_up_on_one_that_says_nothing() -> None:
    stop = threading.Event()
    with serving(lambda _: stop.wait(10) or None) as served:
        try:
            with pytest.raises(Unreachable):
                get(served.url(), replace(WITHIN, seconds=0.3))
        finally:
            stop.set()


def test_says_in_its_own_words_that_nobody_is_there() -> None:
    with socket.create_server((PUBLIC, 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unreachable) as refused:
        get(f"http://outside.example:{port}/path-canary")
    assert refused.value.passing
    with pytest.raises(Unreachable) as unknown:
        get("http://nobody.example/path-canary")
    for each in (refused, unknown):
        assert "canary" not in f"{each.value} {each.value.__cause__}"
        assert each.value.__suppress_context__


def test_tells_what_may_go_better_later() -> None:
    assert [each.passing for each in (OutsideRefused, AddressRefused, TooManyRedirects, TooMuch, Unreachable)] == [
        False,
        False,
        False,
        False,
        True,
    ]
