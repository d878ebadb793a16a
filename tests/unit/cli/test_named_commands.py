"""A message names commands that can be typed: they exist, and those that want a reason have one.

Looked at are the strings of the Python packages (not their docstrings) and every HINT in sql/. What
a command does is not proven here.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup

from iu_core.cli.main import build

ROOT = Path(__file__).parents[3]
PACKAGES = ("consumers", "infra", "iu_core", "producers", "schemas")
# A command stands at the start, in backticks, or after a word or mark that leads to it.
NAMED = re.compile(
    r"(?:^|`|: |with |\(|, then |; |[?] |see |Use )iu ([a-z-]+)(?: ([a-z-]+))?([^\n`;]*)", re.MULTILINE
)
# Frozen in 012, and read by no face: the worker holds and does not print it.
FROZEN = {"iu route dry-run %s"}
# Its preview compares and asks for no reason; what a message names is the preview.
PREVIEWED = {("relay", "rebase")}


def docstrings(tree: ast.Module) -> set[int]:
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, owners) and node.body and isinstance(node.body[0], ast.Expr)
    }


def strings(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    passed_over = docstrings(tree)
    inner: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inner |= {id(value) for value in node.values}
            yield "".join(
                str(value.value) if isinstance(value, ast.Constant) else "VALUE" for value in node.values
            )
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in passed_over | inner
        ):
            yield node.value


def messages() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for text in strings(path):
                yield str(path.relative_to(ROOT)), text
    for path in sorted((ROOT / "sql").rglob("*.sql")):
        for line in path.read_text().splitlines():
            if "HINT" in line or "format('" in line:
                for text in re.findall(r"'((?:[^']|'')*)'", line):
                    yield str(path.relative_to(ROOT)), text


@pytest.fixture(scope="module")
def tree() -> TyperGroup:
    command = typer.main.get_command(build())
    assert isinstance(command, TyperGroup)
    return command


def test_every_command_that_a_message_names_can_be_typed(tree: TyperGroup) -> None:
    found = 0
    for where, text in messages():
        for match in NAMED.finditer(text):
            group, word, rest = match.groups()
            assert group in tree.commands, f"{where}: {match[0]!r}"
            found += 1
            command = tree.commands[group]
            if not (isinstance(command, TyperGroup) and word):
                continue
            assert word in command.commands, f"{where}: {match[0]!r}"
            excused = (group, word) in PREVIEWED or f"iu {group} {word}{rest}" in FROZEN
            if wants_reason(command.commands[word]) and not excused:
                assert "--reason" in rest, f"{where}: {match[0]!r}"
    assert found > 40


def wants_reason(command: Any) -> bool:
    """A command that previews has --apply; those that say no at once take a reason or none."""
    options = {name for parameter in command.params for name in parameter.opts}
    return {"--apply", "--reason"} <= options
