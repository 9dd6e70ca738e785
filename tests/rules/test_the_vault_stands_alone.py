"""DESIGN, section 3: moderation/ knows the standard library, SQLAlchemy and rfc8785, and nothing else."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

VAULT = Path(__file__).parents[2] / "moderation"
ALLOWED = {*sys.stdlib_module_names, "moderation", "sqlalchemy", "rfc8785"}


@pytest.mark.parametrize("module", sorted(VAULT.rglob("*.py")), ids=lambda path: path.stem)
def test_imports_nothing_else(module: Path) -> None:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 0]
    assert {name.partition(".")[0] for name in names} <= ALLOWED
