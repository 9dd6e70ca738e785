"""The ground under the tests: PostgreSQL and Chromium are real, private, and gone afterwards."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from playwright.sync_api import sync_playwright
from sqlalchemy import create_engine, text

from ground import chromium, postgres

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def cluster() -> Iterator[postgres.Cluster]:
    started = postgres.Cluster()
    yield started
    started.stop()


def ask(url: str, question: str) -> object:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            return connection.execute(text(question)).scalar_one()
    finally:
        engine.dispose()


def run(url: str, *statements: str) -> None:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))
    finally:
        engine.dispose()


def wait_for(told: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 15
    while not told():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


def test_answers(cluster: postgres.Cluster) -> None:
    assert ask(cluster.create_database("answers"), "SELECT 1") == 1


def test_is_a_current_postgresql_in_utf8(cluster: postgres.Cluster) -> None:
    url = cluster.url("postgres")
    assert int(str(ask(url, "SHOW server_version_num"))) >= 180000
    assert ask(url, "SHOW server_encoding") == "UTF8"
    assert ask(url, "SELECT lower('ÄÖ')") == "äö"


def test_listens_on_no_port(cluster: postgres.Cluster) -> None:
    assert ask(cluster.url("postgres"), "SHOW listen_addresses") == ""
    assert cluster.folder.stat().st_mode & 0o777 == 0o700


def test_copies_a_template(cluster: postgres.Cluster) -> None:
    run(cluster.create_database("written"), "CREATE TABLE essay (title text)", "INSERT INTO essay VALUES ('On rest')")
    assert ask(cluster.create_database("copied", template="written"), "SELECT title FROM essay") == "On rest"


def test_copies_who_may_do_what_with_the_database(cluster: postgres.Cluster) -> None:
    run(
        cluster.create_database("guarded"),
        "CREATE ROLE reader LOGIN",
        "CREATE ROLE stranger LOGIN",
        "REVOKE ALL ON DATABASE guarded FROM PUBLIC",
        "GRANT CONNECT ON DATABASE guarded TO reader",
    )
    cluster.create_database("clone", template="guarded")
    with pytest.raises(Exception, match="permission denied to create temporary tables"):
        run(cluster.url("clone", user="reader"), "CREATE TEMP TABLE aside (word text)")
    with pytest.raises(Exception, match="permission denied for database"):
        run(cluster.url("clone", user="stranger"), "SELECT 1")
    # The clone of a database that forbids nothing forbids nothing.
    cluster.create_database("open")
    cluster.create_database("open_clone", template="open")
    run(cluster.url("open_clone", user="stranger"), "CREATE TEMP TABLE aside (word text)")


def test_drops_a_database_in_use(cluster: postgres.Cluster) -> None:
    cluster.create_database("dropped")
    with psycopg.connect(host=str(cluster.folder), user="postgres", dbname="dropped"):
        cluster.drop_database("dropped")
    cluster.drop_database("dropped")
    assert ask(cluster.url("postgres"), "SELECT count(*) FROM pg_database WHERE datname = 'dropped'") == 0


def test_leaves_nothing_when_stopped() -> None:
    started = postgres.Cluster()
    server = int((started.memory / "cluster" / "postmaster.pid").read_text().splitlines()[0])
    started.stop()
    started.stop()
    assert not started.folder.exists()
    assert not started.memory.exists()
    # Where nobody waits for orphans, a trace of the dead stays in the table of processes.
    assert not psutil.pid_exists(server) or psutil.Process(server).status() == psutil.STATUS_ZOMBIE


def test_leaves_nothing_when_the_tests_are_killed() -> None:
    begun = "import signal; from ground import postgres; c = postgres.cluster()"
    code = f"{begun}; print(c.folder, c.memory, flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", code], cwd=TESTS, stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        folder, memory = map(Path, tests.stdout.readline().split())
        assert (memory / "cluster").is_dir()
        tests.send_signal(signal.SIGKILL)
    wait_for(lambda: not folder.exists() and not memory.exists(), "the end of the server")


def test_is_not_changed_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "5433")
    started = postgres.Cluster()
    assert ask(started.create_database("answers"), "SELECT 1") == 1
    started.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has folders that others cannot enter")
def test_starts_from_a_folder_that_only_root_can_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = postgres._binaries().parent.parent
    for name in (installed.name, installed.name + ".libs"):
        shutil.copytree(installed.with_name(name), tmp_path / "private" / name, symlinks=True)
    (tmp_path / "private").chmod(0o700)
    monkeypatch.setattr(postgres, "_binaries", lambda: tmp_path / "private" / installed.name / "pginstall" / "bin")
    started = postgres.Cluster()
    assert ask(started.url("postgres"), "SELECT 1") == 1
    started.stop()
    assert not started.folder.exists()


def test_says_what_a_server_said_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binaries = tmp_path / "package" / "pginstall" / "bin"
    binaries.mkdir(parents=True)
    for name, code in (("postgres", "exit 0"), ("initdb", "echo no room; exit 1")):
        (binaries / name).write_text(f"#!/bin/sh\n{code}\n")
        (binaries / name).chmod(0o755)
    monkeypatch.setattr(postgres, "_binaries", lambda: binaries)
    with pytest.raises(postgres.NoPostgres, match="It said: no room"):
        postgres.Cluster()


def test_shows_a_page() -> None:
    with sync_playwright() as playwright, chromium.launch(playwright) as browser:
        page = browser.new_page()
        page.set_content("<h1>On rest</h1><script>document.title = 'shown'</script>")
        assert page.get_by_role("heading").inner_text() == "On rest"
        assert page.title() == "shown"


def test_takes_the_browser_that_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = tmp_path / "browser"
    told.write_text("#!/bin/sh\necho Chromium 1\n")
    told.chmod(0o755)
    monkeypatch.setenv("CHROMIUM", str(told))
    assert chromium.executable() == str(told)


def test_refuses_another_browser_than_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "absent"))
    with pytest.raises(chromium.NoChromium, match="absent, which does not run"):
        chromium.executable()


def test_passes_over_a_browser_that_does_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, code in (("chromium", 1), ("google-chrome", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert chromium.executable() == str(tmp_path / "google-chrome")


def see_to_it(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TESTS / "ground" / "chromium.py")],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_says_where_the_browser_is_when_run_as_a_program() -> None:
    seen = see_to_it()
    assert seen.returncode == 0
    assert Path(seen.stdout.strip()).is_file()


def test_fails_loudly_without_a_browser(tmp_path: Path) -> None:
    seen = see_to_it(CHROMIUM=str(tmp_path / "absent"))
    assert seen.returncode == 1
    assert seen.stderr == f"CHROMIUM is set to {tmp_path / 'absent'}, which does not run.\n"
