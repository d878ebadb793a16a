"""docs/architecture/guarantees.md names tests and planted faults that are there.

The files are parsed and not imported: what a page says must be checkable without any service. That
the tests pass, and that the faults turn them red, is shown by running them.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture" / "guarantees.md"
GUARANTEES = [f"G{number}" for number in range(1, 13)]


@dataclass(frozen=True, slots=True)
class Row:
    """One guarantee as the page has it; tests and faults are written `file::name`."""

    guarantee: str
    promise: str
    kept_in: tuple[str, ...]
    tests: tuple[str, ...]
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Module:
    """What a file of tests defines on its top level, which names it uses, and its `Fault`s by name."""

    defined: frozenset[str]
    used: frozenset[str]
    faults: Mapping[str, str]


def rows(page: str) -> list[Row]:
    """Return the rows of the table; the page has one."""
    lines = [line for line in page.splitlines() if line.startswith("| G")]
    split = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [Row(first, promise, *map(_names, cells)) for first, promise, *cells in split]


def _names(cell: str) -> tuple[str, ...]:
    return tuple(part.strip("`") for part in cell.split("<br>") if part)


@cache
def module(path: str) -> Module:
    """Parse a file of tests."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    return Module(
        frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)),
        frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)),
        {name: guarantee for node in ast.walk(tree) for guarantee, name in _faults(node)},
    )


def _faults(node: ast.AST) -> Iterator[tuple[str, str]]:
    match node:
        case ast.Call(
            func=ast.Name(id="Fault"), args=[ast.Constant(str(guarantee)), ast.Constant(str(name)), *_]
        ):
            yield guarantee, name


def stale(row: Row) -> Iterator[str]:
    """Yield what the row says and is not so."""
    if not (row.promise and row.kept_in and row.tests and row.faults):
        yield f"{row.guarantee} has an empty cell"
    yield from (f"{path} is not there" for path in row.kept_in if not (ROOT / path).is_file())
    for named in (*row.tests, *row.faults):
        path, _, name = named.partition("::")
        if not (path.startswith("tests/") and (ROOT / path).is_file()):
            yield f"{path} is no file of tests"
        elif named in row.tests and not (name.startswith("test_") and name in module(path).defined):
            yield f"{name} is no test in {path}"
        elif named in row.faults and not _is_planted(row.guarantee, module(path), name):
            yield f"{name!r} is no fault of {row.guarantee} that {path} plants"


def _is_planted(guarantee: str, found: Module, name: str) -> bool:
    """Whether `name` is a `Fault` of the guarantee, a test, or a definition that something uses."""
    if name in found.faults:
        return found.faults[name] == guarantee
    return name in found.defined and (name.startswith("test_") or name in found.used)


ROWS = rows(PAGE.read_text("utf-8"))


def test_every_guarantee_has_its_row() -> None:
    assert [row.guarantee for row in ROWS] == GUARANTEES


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.guarantee)
def test_what_a_row_names_is_there(row: Row) -> None:
    assert list(stale(row)) == []


def test_the_architecture_page_leads_here() -> None:
    assert "](docs/architecture/guarantees.md)" in (ROOT / "ARCHITECTURE.md").read_text("utf-8")


SEAM_FAULTS = "tests/integration/delivery/test_planted_faults.py"
RELAY_FAULTS = "tests/chaos/test_relay_planted_faults.py"


@pytest.mark.parametrize(
    ("column", "named", "told"),
    [
        ("kept_in", "sql/functions/fn_iu_gone.sql", "fn_iu_gone.sql is not there"),
        ("tests", f"{RELAY_FAULTS}::test_gone", "test_gone is no test"),
        ("tests", f"{RELAY_FAULTS}::drain", "drain is no test"),
        ("tests", "tests/chaos/test_gone.py::test_x", "is no file of tests"),
        ("faults", f"{RELAY_FAULTS}::Gone", "'Gone' is no fault of G4"),
        ("faults", f"{SEAM_FAULTS}::sent is trusted", "'sent is trusted' is no fault of G4"),
        ("faults", f"{SEAM_FAULTS}::a claim that keeps the epoch", "is no fault of G4"),  # it is one of G9
        ("faults", "", "is no file of tests"),
    ],
)
def test_a_name_that_is_gone_is_told(column: str, named: str, told: str) -> None:
    """The test of the tests above: each of these rows would be red."""
    right = {
        "kept_in": ("schemas/check.py",),
        "tests": (f"{RELAY_FAULTS}::test_g9_a_woken_zombie_is_fenced",),
        "faults": (f"{SEAM_FAULTS}::sent is believed", f"{RELAY_FAULTS}::ReadsById"),
    }
    assert list(stale(Row("G4", "a promise", **right))) == []
    (found,) = stale(Row("G4", "a promise", **right | {column: (named,)}))
    assert told in found


def test_a_row_without_a_fault_and_a_fault_that_nothing_plants_are_told() -> None:
    (found,) = stale(
        Row(
            "G1",
            "a promise",
            ("schemas/check.py",),
            (f"{RELAY_FAULTS}::test_g9_a_woken_zombie_is_fenced",),
            (),
        )
    )
    assert found == "G1 has an empty cell"
    assert not _is_planted("G1", Module(frozenset({"Unused"}), frozenset(), {}), "Unused")
