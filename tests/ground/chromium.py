"""A real Chromium for tests: finds one, installs one if there is none, and opens it so that it keeps to itself.

Run as a program, as the Makefile does, it sees to it that there is one.
"""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

from playwright.sync_api import Browser, Playwright, expect

NAMES = ("chromium", "chromium-browser", "google-chrome")

# A test that passes only where Chromium can call home is no test, and QUIC gets past a proxy's rules.
QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)

# Playwright says where its own download is, or would be; asked in a process of its own, because one process cannot
# have two Playwrights open at once.
ASK_PLAYWRIGHT = """
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    print(playwright.chromium.executable_path)
"""


PATIENCE = 15.0
"""How long a test waits for what a page does, in seconds; Playwright's own five are few on a busy machine."""
expect.set_options(timeout=1000 * PATIENCE)


class NoChromium(Exception):
    """Raised when there is no Chromium that runs; worded for whoever ran the tests."""


def executable() -> str | None:
    """Return the path of a Chromium that runs, or None: $CHROMIUM, one on PATH, or Playwright's own download.

    Raises `NoChromium` if $CHROMIUM is set and does not run, rather than take another than the one asked for.
    """
    chosen = os.environ.get("CHROMIUM")
    if chosen:
        if not _runs(chosen):
            raise NoChromium(f"CHROMIUM is set to {chosen}, which does not run.")
        return chosen
    return next((path for path in _candidates() if _runs(path)), None)


def ensure() -> str:
    """Return the path of a Chromium that runs, installing one if there is none. Raises `NoChromium`."""
    found = executable()
    for command in _installers():
        if found is not None:
            break
        print(f"There is no Chromium yet. Running: {' '.join(command)}", file=sys.stderr, flush=True)
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, timeout=600, check=False)
        except subprocess.TimeoutExpired:
            print("It took longer than ten minutes and was stopped.", file=sys.stderr, flush=True)
        _runs.cache_clear()
        found = executable()
    if found is None:
        raise NoChromium(
            "There is no Chromium for the browser tests and none could be installed: "
            "install the package chromium, or set CHROMIUM to the path of one."
        )
    return found


def launch(playwright: Playwright) -> Browser:
    """Open a Chromium without a window. Raises `NoChromium` if there is none."""
    path = executable()
    if path is None:
        raise NoChromium("There is no Chromium for the browser tests: run `make test`, or set CHROMIUM.")
    # Chromium refuses to run its sandbox as root.
    return playwright.chromium.launch(
        executable_path=path, args=[*QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    )


def _candidates() -> Iterator[str]:
    """Yield what may be a Chromium, the quickest to find first."""
    for name in NAMES:
        path = shutil.which(name)
        if path is not None:
            yield path
    asked = subprocess.run([sys.executable, "-c", ASK_PLAYWRIGHT], capture_output=True, text=True, check=False)
    if asked.returncode == 0:
        yield asked.stdout.strip()


@functools.cache
def _runs(path: str) -> bool:
    """Say whether *path* is a program that tells its version: Ubuntu's `chromium-browser` is a script that cannot."""
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _installers() -> Iterator[list[str]]:
    """Yield the commands that may install one; only root can install what Chromium leans on without being asked."""
    root = os.geteuid() == 0
    yield [sys.executable, "-m", "playwright", "install", *(["--with-deps"] if root else []), "chromium"]
    if root and shutil.which("apt-get"):
        yield ["/bin/sh", "-c", "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y chromium"]


if __name__ == "__main__":
    try:
        print(ensure())
    except NoChromium as missing:
        sys.exit(str(missing))
