"""How a result is laid out for a person: nothing is cut, whatever the width of the terminal."""

import io

import pytest
from rich.console import Console, RenderableType
from rich.text import Text

from iu_core.cli.output import table

ROWS = [
    ("structure_piece_deprecated", Text("held", style="bold"), 1, 0, "iu_core.delivery_enabled is 'false'"),
    ("structure_reparented", Text("dry-run"), 45, 0, "live it would deliver"),
]
COLUMNS = ("route", "state", "sent", "dead", "why")


def printed(what: RenderableType, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, soft_wrap=True)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


@pytest.mark.parametrize("width", [20, 60, 80, 100, 400])
def test_no_cell_is_cut_and_only_the_last_column_wraps(width: int) -> None:
    shown = printed(table(*COLUMNS, rows=ROWS), width)
    assert "…" not in shown
    for route, state, *_ in ROWS:
        assert f"{route}" in shown
        assert f"{state}" in shown
    for word in ["iu_core.delivery_enabled", "is", "'false'", "live", "it", "would", "deliver"]:
        assert word in shown


def test_a_path_in_the_last_column_stays_whole() -> None:
    path = "/var/lib/iu/" + "deep/" * 12 + "kafka.log"
    assert path in printed(table("service", "log", rows=[("kafka", path)]), 40)


def test_a_column_of_nothing_but_zero_is_left_out_and_said_so() -> None:
    shown = printed(table(*COLUMNS, rows=ROWS, unless_zero=("sent", "dead")), 100)
    assert shown == (
        "route                       state    sent  why\n"
        "structure_piece_deprecated  held        1  iu_core.delivery_enabled is 'false'\n"
        "structure_reparented        dry-run    45  live it would deliver\n"
        "0 everywhere: dead"
    )


def test_a_zero_is_shown_where_another_row_has_more() -> None:
    shown = printed(table("route", "dead", rows=[("a", 0), ("b", 2)], unless_zero=("dead",)), 80)
    assert shown == "route  dead\na         0\nb         2"


def test_brackets_are_text_and_none_is_a_dash() -> None:
    shown = printed(table("what", "why", rows=[("[red]", None)]), 80)
    assert shown == "what   why\n[red]  –"


def test_a_table_without_rows_has_its_heads() -> None:
    assert printed(table("what", "dead", rows=[], unless_zero=()), 80) == "what  dead"
