"""docs/faults.md is true: each row names a test that there is, and each fault that can be rehearsed has a row."""

import ast
import re
from pathlib import Path

import pytest

from workers.rehearsal.faults import Kind, parse_fault

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "faults.md").read_text("utf-8")
HEADINGS = ["what happens", "the worker", "a moderator reads", "a reader reads", "test"]
PACE = ("slow", "drip")
"""What the rehearsal can do to the pace alone, which are no kinds of their own."""


def rows() -> list[list[str]]:
    """Return the cells of each row of the page's tables, without the headings."""
    lines = [line for line in PAGE.splitlines() if line.startswith("|") and not line.startswith("|---")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert HEADINGS in cells
    return [row for row in cells if row != HEADINGS]


def asked() -> list[str]:
    """Return the faults that the rows ask the rehearsal for."""
    return [word for row in rows() for word in re.findall(r"`([^`]+)`", row[0])]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_names_a_test_that_there_is(row: list[str]) -> None:
    assert len(row) == len(HEADINGS)
    assert all(row)
    named = re.fullmatch(r"`(test_\w+\.py)::(test_\w+)(?:\[(.+)\])?`", row[4])
    assert named is not None, row[4]
    [file] = (ROOT / "tests").rglob(named[1])
    parsed = ast.parse(file.read_text("utf-8"))
    assert named[2] in {each.name for each in parsed.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    if named[3] is not None:
        words = {each.value for each in ast.walk(parsed) if isinstance(each, ast.Constant)}
        assert named[3] in words, f"{named[1]} has no case {named[3]}"


@pytest.mark.parametrize("word", [*Kind, *PACE])
def test_has_a_row_for_each_fault_that_can_be_rehearsed(word: str) -> None:
    assert [each for each in asked() if re.split("[=;]", each)[0] == word]


@pytest.mark.parametrize("fault", asked())
def test_asks_for_faults_in_the_words_of_the_rehearsal(fault: str) -> None:
    parse_fault(fault)


def test_names_no_fault_twice_with_the_same_end() -> None:
    told = [(row[0], row[1]) for row in rows()]
    assert len(told) == len(set(told))
