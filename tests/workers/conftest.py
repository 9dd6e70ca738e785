"""What the tests of the workers share: a workshop on SQLite, one on both databases, a Valkey, settings of nobody's."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ground.workshop import Workshop
from redis import Redis

from bridge import db
from workers import valkey
from workers.settings import WorkerSettings


@pytest.fixture(autouse=True)
def _nobodys_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings of whoever runs the tests out of them; the SDK obeys proxy variables for loopback too."""
    for name in WorkerSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("EMERITUS_ENV_FILE", "/dev/null")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def open_workshop(sqlite_url: str, tmp_path: Path) -> Iterator[Callable[..., Workshop]]:
    """Open a workshop on SQLite with a voice of the test's own."""
    database = db.connect(sqlite_url)
    yield lambda **how: Workshop(database, tmp_path, **how)
    database.dispose()


@pytest.fixture
def workshop(open_workshop: Callable[..., Workshop]) -> Workshop:
    """On SQLite alone: where the databases do not differ."""
    return open_workshop()


@pytest.fixture
def any_workshop(database: db.Database, tmp_path: Path) -> Workshop:
    """On both databases: where the SQL differs or races."""
    return Workshop(database, tmp_path)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[str]:
    """Serve a real Valkey, as `emeritus serve` does; pytest's own folder can be too deep for a socket."""
    with tempfile.TemporaryDirectory(prefix="emeritus-test-", dir="/tmp") as folder:
        data = Path(folder)
        server = subprocess.Popen(valkey.server_command(data), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            valkey.await_ready(valkey.url(data), 10)
            yield valkey.url(data)
        finally:
            server.terminate()
            server.wait(10)


@pytest.fixture
def valkey_url(valkey_server: str) -> str:
    """The address of an empty database of the real Valkey."""
    with Redis.from_url(valkey_server) as client:
        client.flushall()
    return valkey_server
