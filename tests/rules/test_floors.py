"""Imports go down only, and foreign libraries stay in their place: each contract holds, and finds what breaks it."""

import ast
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("bridge", "moderation", "workers")
CONTRACTS = {
    contract["id"]: contract["name"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
}
PLANTED = [
    ("floors", "moderation/planted.py", "from bridge import db"),
    ("floors", "moderation/planted.py", "import workers"),
    ("floors", "bridge/planted.py", "def late() -> None:\n    from workers import valkey"),
    ("rooms", "bridge/text/planted.py", "from bridge.letter import comments"),
    ("rooms", "bridge/mail/planted.py", "from bridge.answer.replies import request"),
    ("rooms", "bridge/letter/planted.py", "from bridge import web"),
    ("vault", "bridge/planted.py", "from moderation.records import Submission"),
    ("vault", "workers/planted.py", "from moderation import records"),
    ("vault", "bridge/web/planted.py", "import moderation.records"),
    ("flask", "workers/planted.py", "import flask"),
    ("flask", "moderation/planted.py", "from flask import request"),
    ("flask", "workers/rehearsal/planted.py", "from werkzeug.exceptions import NotFound"),
    ("flask", "workers/planted.py", "from flask_security import Security"),
    ("anthropic", "bridge/planted.py", "import anthropic"),
    ("anthropic", "moderation/planted.py", "from anthropic.types import Message"),
    ("bleach", "bridge/planted.py", "import bleach"),
    ("bleach", "workers/planted.py", "from nh3 import clean"),
    ("bleach", "moderation/planted.py", "from markdown_it import MarkdownIt"),
    ("bleach", "bridge/web/planted.py", "from bleach.sanitizer import Cleaner"),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("floors")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "static"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.fixture
def clean_copy(copy: Path) -> Iterator[Path]:
    yield copy
    for planted in copy.rglob("planted.py"):
        planted.unlink()


def broken(folder: Path) -> set[str]:
    """Return the ids of the contracts that the code in *folder* breaks."""
    linted = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = linted.stdout.splitlines()
    verdicts = {
        each: word for each, name in CONTRACTS.items() for word in ("KEPT", "BROKEN") if _says(lines, name, word)
    }
    assert set(verdicts) == set(CONTRACTS), linted.stdout + linted.stderr
    return {each for each, word in verdicts.items() if word == "BROKEN"}


def _says(lines: list[str], name: str, word: str) -> bool:
    return any(line.startswith(f"{name} {word}") for line in lines)


def test_keeps_every_contract(clean_copy: Path) -> None:
    assert broken(clean_copy) == set()


def test_has_a_planted_violation_for_every_contract() -> None:
    assert {contract for contract, _, _ in PLANTED} == set(CONTRACTS)


@pytest.mark.parametrize(("contract", "where", "violation"), PLANTED)
def test_finds_a_planted_violation(clean_copy: Path, contract: str, where: str, violation: str) -> None:
    (clean_copy / where).write_text(violation + "\n")
    assert broken(clean_copy) == {contract}


def test_lets_markup_know_bleach(clean_copy: Path) -> None:
    (clean_copy / "bridge" / "planted.py").write_text("from bridge.text import markup\n")
    assert broken(clean_copy) == set()


def imported(path: Path) -> set[str]:
    """Return the top-level packages that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
    return found


def test_builds_the_vault_of_the_standard_library_sqlalchemy_and_rfc8785_only() -> None:
    modules = sorted((ROOT / "moderation").rglob("*.py"))
    foreign = {name for module in modules for name in imported(module)} - set(sys.stdlib_module_names)
    assert foreign == {"moderation", "sqlalchemy", "rfc8785"}


def test_lets_only_markup_make_markup() -> None:
    """A string that templates print as it is comes from one module (SECURITY.md, B1)."""
    makers = set()
    for module in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "Markup":
                makers.add(module.relative_to(ROOT).as_posix())
    assert makers <= {"bridge/text/markup.py"}
