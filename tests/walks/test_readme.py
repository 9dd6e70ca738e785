"""README tells the truth: `make run` starts what it says, and every command shown beside it runs, in its order."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ground.installation import ROOT, Installation, wait_for

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines() if line]


@pytest.fixture(scope="module")
def made_to_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Type `make run` in the checkout; at the end press Ctrl-C, and see that nothing is left."""
    newcomers = Installation(tmp_path_factory.mktemp("readme"))
    with (newcomers.home / "said").open("wb") as said:
        make = subprocess.Popen(
            ["make", "run"],
            env=newcomers.environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        wait_for(lambda: "Sign in" in newcomers.said, "the first sign-in", 120)
        yield newcomers
        os.killpg(make.pid, signal.SIGINT)
        make.wait(30)
        assert newcomers.processes() == []
    finally:
        newcomers.destroy()
        make.kill()
        make.wait()


def test_prints_the_addresses_and_a_sign_in(made_to_run: Installation) -> None:
    for expected in (f"{made_to_run.address}/\n", f"{made_to_run.address}/desk/\n", "demo@example.org"):
        assert expected in made_to_run.said


# More than fifty commands, each a process of its own.
@pytest.mark.timeout(600)
def test_shows_only_commands_that_run(made_to_run: Installation, tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / "charter.md").write_text("You are a voice in a test.\n")
    (tmp_path / "essay.md").write_text("# A title\n\nWritten by hand for a test.\n")
    walked(made_to_run)
    beside = [command for command in COMMANDS if not command.startswith("make ")]
    assert len(beside) > 8
    for command in beside:
        done = subprocess.run(
            ["bash", "-euc", command],
            env=made_to_run.environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def walked(installation: Installation) -> None:
    """Walk the README's walk as far as the first answer, which its commands look into."""
    installation.admit_moderator()
    mark = installation.mark()
    installation.comment("the-prompters-box", f"Who reads this? {mark}")
    [letter] = installation.waiting(mark, "comment")
    assert installation.approve(letter).status == 201
    wait_for(lambda: installation.waiting(mark, "reply"), "the answer")


def test_names_targets_that_make_has() -> None:
    for target in {command.split()[1] for command in COMMANDS if command.startswith("make ")} | {"check", "help"}:
        assert subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_links_to_what_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []
