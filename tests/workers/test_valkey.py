"""The embedded Valkey: the real server, on a private socket and nowhere else."""

import os
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from redis import Redis

from workers import valkey


@contextmanager
def serving(data: Path) -> Iterator[psutil.Process]:
    server = subprocess.Popen(valkey.server_command(data), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        valkey.await_ready(valkey.url(data), 10)
        yield psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
def short() -> Iterator[Path]:
    """A data folder whose socket has room beside it; pytest's own can be deep."""
    with tempfile.TemporaryDirectory(prefix="emeritus-test-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def deep(short: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder too deep for a socket; the folder for temporary files is the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    data = short / ("deep" * 20) / "data"
    data.mkdir(parents=True)
    return data


def test_answers_on_a_private_socket_and_no_port(short: Path) -> None:
    with serving(short) as server:
        with Redis.from_url(valkey.url(short)) as client:
            assert client.ping()
        assert valkey.socket_path(short) == short.resolve() / "valkey.sock"
        mode = valkey.socket_path(short).stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o700
        assert server.net_connections(kind="inet") == []
        assert server.net_connections(kind="unix") != []


def test_keeps_what_it_holds_over_a_restart(short: Path) -> None:
    with serving(short), Redis.from_url(valkey.url(short)) as client:
        client.set("counter", 7)
    with serving(short), Redis.from_url(valkey.url(short)) as client:
        assert client.get("counter") == b"7"
    assert [path.name for path in short.iterdir()] == ["valkey"]
    assert (short / "valkey").stat().st_mode & 0o777 == 0o700


def test_starts_over_a_socket_that_a_killed_server_left(short: Path) -> None:
    with serving(short) as server:
        server.kill()
        server.wait(10)
    assert valkey.socket_path(short).exists()
    with serving(short):
        assert valkey.answers(valkey.url(short))


def test_clears_away_a_socket_that_a_killed_server_left(deep: Path) -> None:
    with serving(deep) as server:
        server.kill()
        server.wait(10)
    folder = valkey.socket_path(deep).parent
    valkey.clear_away(deep)
    assert not folder.exists()


def test_serves_a_deep_data_folder_through_a_short_one(deep: Path) -> None:
    socket = valkey.socket_path(deep)
    with serving(deep):
        assert socket == valkey.socket_path(deep)
        assert socket.is_socket()
        assert socket.parent.stat().st_mode & 0o777 == 0o700
        assert not (deep / "valkey.sock").exists()
        assert (deep / "valkey").is_dir()


def test_gives_each_deep_folder_a_socket_of_its_own(deep: Path) -> None:
    assert valkey.socket_path(deep) != valkey.socket_path(deep.parent)


def test_finds_a_short_path_where_temporary_files_lie_deep(deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    try:
        assert len(os.fsencode(valkey.socket_path(deep))) <= valkey.LONGEST_SOCKET_PATH
        assert valkey.socket_path(deep).parent.parent == Path("/tmp")
    finally:
        valkey.clear_away(deep)


def open_to_others(folder: Path) -> None:
    folder.chmod(0o755)


def a_link(folder: Path) -> None:
    target = folder.with_name("elsewhere")
    folder.rename(target)
    folder.symlink_to(target)


def a_file(folder: Path) -> None:
    folder.rmdir()
    folder.touch(0o600)


def anothers(folder: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a folder away")
    os.chown(folder, 65534, -1)


@pytest.mark.parametrize("spoil", [open_to_others, a_link, a_file, anothers])
def test_refuses_a_short_folder_that_others_reach(deep: Path, spoil: Callable[[Path], None]) -> None:
    spoil(valkey.socket_path(deep).parent)
    with pytest.raises(valkey.SocketFolderUnsafe, match="must belong to this user alone"):
        valkey.socket_path(deep)


def test_writes_its_address_for_this_user_alone(short: Path) -> None:
    valkey.write_url(short)
    valkey.write_url(short)
    written = short / "valkey.url"
    assert written.read_text() == valkey.url(short) + "\n"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert [path.name for path in short.iterdir()] == ["valkey.url"]


def test_leaves_no_half_written_address(short: Path) -> None:
    (short / "valkey.url").mkdir()
    with pytest.raises(IsADirectoryError):
        valkey.write_url(short)
    assert [path.name for path in short.iterdir()] == ["valkey.url"]


def test_escapes_a_folder_with_an_odd_name(short: Path) -> None:
    data = short / "50% of my data?#"
    data.mkdir()
    with serving(data):
        assert valkey.answers(valkey.url(data))
        assert valkey.socket_path(data).is_socket()


def test_clears_away_what_stands_only_while_it_runs(short: Path, deep: Path) -> None:
    for data in (short, deep):
        valkey.write_url(data)
        valkey.clear_away(data)
        valkey.clear_away(data)
        assert not (data / "valkey.url").exists()
    assert [path.name for path in short.iterdir()] == ["deep" * 20]


def test_says_when_nobody_answers(short: Path) -> None:
    assert not valkey.answers(valkey.url(short))
    with pytest.raises(valkey.ValkeySilent, match=r"^Valkey did not answer within 0\.05 s\.$"):
        valkey.await_ready(valkey.url(short), 0.05)


def test_refuses_a_machine_without_a_binary(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Plan9")
    with pytest.raises(valkey.NoValkey, match="set REDIS_URL to a server of yours"):
        valkey.server_command(short)
