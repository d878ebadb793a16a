"""What a command prints: its result to stdout, everything else to stderr."""

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from iu_core.errors import IUError, Usage

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Apply = Annotated[bool, typer.Option("--apply", help="Do it; without this the command only previews.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; kept in the audit trail.")]

# Into a pipe a table is as wide as it needs to be: cut columns cannot be read by the next program.
_PIPE_WIDTH = 400
# Of the last column of a table, which is the one that wraps; and between two columns.
_WRAPPED_WIDTH = 24
_GAP = 2
stdout = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
stderr = Console(stderr=True, soft_wrap=True, highlight=False)


def emit(value: object, *, as_json: bool, text: Callable[[], RenderableType | None]) -> None:
    """Print `value` as JSON, or what `text()` renders for a person."""
    if as_json:
        sys.stdout.write(json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n")
    elif (rendered := text()) is not None:
        stdout.print(rendered)


def required_reason(reason: str | None, act: str) -> str:
    """Return the reason given. Raises `Usage` if it is missing or blank."""
    if reason is None or not reason.strip():
        raise Usage(
            f"{act} needs a reason",
            why="--reason is missing or blank",
            remedy='add --reason "..."; it is kept in the audit trail',
            code="IU006",
        )
    return reason


def plain(value: object) -> Any:
    """Return `value` in terms of JSON: dataclasses as objects, bytes as hex, times as ISO 8601."""
    match value:
        case None | bool() | int() | float() | str():
            return value.value if isinstance(value, Enum) else value
        case Enum():
            return value.value
        case bytes() | memoryview():
            return value.hex()
        case datetime():
            return value.isoformat()
        case UUID() | Path():
            return str(value)
        case Mapping():
            return {str(plain(key)): plain(item) for key, item in value.items()}
        case Sequence() | set() | frozenset():
            return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return str(value)


def table(*columns: str, rows: Sequence[Sequence[object]], unless_zero: Sequence[str] = ()) -> RenderableType:
    """Return a table; columns that hold only numbers are set flush right.

    Nothing is ever cut. On a narrow terminal the last column wraps between words and the others never
    do, because a code or a path broken in two cannot be copied. Columns named in `unless_zero` are left
    out where every cell is 0, and a line beneath says so.
    """
    zero = [
        name
        for index, name in enumerate(columns)
        if name in unless_zero and all(row[index] == 0 for row in rows)
    ]
    shown = [index for index, name in enumerate(columns) if name not in zero]
    made = Table(header_style="bold", box=None, pad_edge=False)
    for index in shown:
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        made.add_column(
            columns[index],
            justify="right" if numeric else "left",
            no_wrap=index != shown[-1],
            overflow="fold",
        )
    cells = [[_cell(row[index]) for index in shown] for row in rows]
    for row_of_cells in cells:
        made.add_row(*row_of_cells)
    lines = [[Text(columns[index]) for index in shown], *cells]
    widths = [max(cell.cell_len for cell in column) for column in zip(*lines, strict=True)]
    longest_word = max(len(word) for line in lines for word in line[-1].plain.split() or [""])
    widths[-1] = min(widths[-1], max(_WRAPPED_WIDTH, longest_word))
    uncut = _Uncut(made, sum(widths) + _GAP * (len(widths) - 1))
    return Group(uncut, Text(f"0 everywhere: {', '.join(zero)}", style="dim")) if zero else uncut


def _cell(value: object) -> Text:
    """Return the cell as plain text: brackets in what the database holds are no markup."""
    if isinstance(value, Text):
        return value
    return Text("–" if value is None else str(value))


@dataclasses.dataclass(frozen=True, slots=True)
class _Uncut:
    """A table that is rather wider than the terminal than it loses a letter."""

    table: Table
    width_min: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(options.max_width, self.width_min)
        yield from console.render(self.table, options.update(max_width=width))


def report(error: IUError, *, as_json: bool) -> None:
    """Print `error` to stderr: what, why, remedy."""
    if as_json:
        fault = {"what": error.what, "why": error.why, "remedy": error.remedy, "code": error.code}
        sys.stderr.write(json.dumps({"error": fault | {"exit_code": int(error.exit_code)}}) + "\n")
        return
    code = f" \\[{error.code}]" if error.code else ""
    stderr.print(f"[bold red]error[/]{code}: ", end="")
    stderr.print(error.what, markup=False)
    for label, line in (("why", error.why), ("remedy", error.remedy)):
        if line:
            stderr.print(f"  [bold]{label}[/]: ", end="")
            stderr.print(line, markup=False)
