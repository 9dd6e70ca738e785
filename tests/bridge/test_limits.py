"""Counting tries: within a bound, in Redis or without it, and by what of an address tells visitors apart."""

import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from limits.errors import StorageError
from redis import Redis

from bridge.limits import Bound, Limits, network
from workers import valkey

TWICE = Bound("test", 2, 3600)


def test_lets_as_many_through_as_the_bound_says() -> None:
    counted = Limits(None)
    assert [counted.take(TWICE, "a") for _ in range(3)] == [True, True, False]
    assert counted.take(TWICE, "b")
    assert counted.take(Bound("other", 2, 3600), "a")


def test_asks_without_counting_and_forgets() -> None:
    counted = Limits(None)
    assert all(counted.left(TWICE, "a") for _ in range(5))
    while counted.take(TWICE, "a"):
        pass
    assert not counted.left(TWICE, "a")
    counted.forget(TWICE, "a")
    assert counted.left(TWICE, "a")


def test_counts_in_memory_while_redis_is_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    counted = Limits(f"unix://{tmp_path / 'nobody.sock'}")
    assert [counted.take(TWICE, "a") for _ in range(3)] == [True, True, False]
    assert not counted.left(TWICE, "a")
    counted.forget(TWICE, "a")
    assert counted.left(TWICE, "a")
    # It is asked once, and then left alone for a while: asking may take half a second.
    assert caplog.text.count("counted in memory") == 1


@pytest.fixture
def served() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A real Valkey on its socket, whose path must be short."""
    with tempfile.TemporaryDirectory(prefix="emeritus-test-", dir="/tmp") as folder:
        server = subprocess.Popen(
            valkey.server_command(Path(folder)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        try:
            valkey.await_ready(valkey.url(Path(folder)), 10)
            yield server, valkey.url(Path(folder))
        finally:
            server.send_signal(signal.SIGCONT)
            server.terminate()
            server.wait(10)


def test_counts_for_every_process_in_redis_and_keeps_on_while_it_hangs(
    served: tuple[subprocess.Popen[bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, url = served
    one, other = Limits(url), Limits(url)
    assert (one.take(TWICE, "a"), other.take(TWICE, "a"), one.take(TWICE, "a")) == (True, True, False)
    assert not other.left(TWICE, "a")
    with Redis.from_url(url) as client:
        assert 0 < client.ttl(client.keys()[0]) <= TWICE.seconds + 1
        client.flushall()
    assert other.take(TWICE, "a")
    server.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    assert one.take(TWICE, "a")
    assert time.monotonic() - began < 4
    server.send_signal(signal.SIGCONT)
    monkeypatch.setattr(one, "_gone_until", 0.0)
    assert (one.take(TWICE, "b"), one.take(TWICE, "b")) == (True, True)
    assert not other.left(TWICE, "b")


def test_goes_back_to_redis_when_it_answers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flaky:
        gone = True

        def hit(self, *_: object) -> bool:
            if self.gone:
                raise StorageError(ConnectionError())
            return False

    counted, flaky = Limits(None), Flaky()
    monkeypatch.setattr(counted, "_shared", flaky)
    assert counted.take(TWICE, "a")
    flaky.gone = False
    assert counted.take(TWICE, "a")
    monkeypatch.setattr(counted, "_gone_until", 0.0)
    assert not counted.take(TWICE, "a")


@pytest.mark.parametrize(
    ("address", "visitor"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::9]", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_takes_a_network_for_a_visitor(address: str | None, visitor: str) -> None:
    assert network(address) == visitor
