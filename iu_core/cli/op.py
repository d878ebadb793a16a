"""`iu op`: the six structure operations, previewed unless --apply."""

import getpass
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from iu_core.cli.context import Context
from iu_core.cli.output import Apply, Json, Reason, emit, required_reason, stderr
from iu_core.database import Role, connect
from iu_core.errors import Usage
from producers.autocut.markdown import text_of
from producers.structure.operations import (
    AddNewPiece,
    DeprecatePiece,
    Merge,
    Operation,
    Piece,
    Reparent,
    Replace,
    Split,
)
from producers.structure.store import PgStructureStore, Preview, Unit

app = typer.Typer()

UnitName = Annotated[str, typer.Argument(help="An iu_code or a unit's id.", metavar="UNIT")]
At = Annotated[int | None, typer.Option("--at", help="Place among the siblings, from 0; default: last.")]
Actor = Annotated[str | None, typer.Option("--actor", help="Who; default: the user's name.")]
STYLES = {"+": "green", "~": "yellow", " ": ""}
PIECE_HELP = "CODE=FILE: the code of the new unit, and the file with its text (UTF-8)."


class _Run:
    """One call of `iu op`: opens the store, previews or applies, prints."""

    def __init__(self, actor: str | None, reason: str | None, apply: bool, as_json: bool) -> None:
        self._reason = required_reason(reason, "a structure operation")
        self._actor = actor or getpass.getuser()
        self._apply, self._as_json = apply, as_json
        context = Context.current()
        connection = connect(
            context.database_url(),
            Role.EDITOR,
            settings=context.settings.database,
            application_name="iu op",
        )
        self.store = PgStructureStore(connection)

    def __call__(self, operation: Operation) -> None:
        if self._apply:
            enacted = self.store.run_one(operation, actor=self._actor, reason=self._reason)
            emit(
                {"applied": True, "enacted": enacted},
                as_json=self._as_json,
                text=lambda: Text(
                    f"done: version {enacted.aggregate_version} of tree {enacted.tree_id}\n"
                    f"event {enacted.event_ref}\n"
                    f"follow it with: iu explain {enacted.event_ref}"
                ),
            )
            return
        preview = self.store.preview(operation, actor=self._actor, reason=self._reason)
        emit(
            {"applied": False, "before": preview.before, "after": preview.after},
            as_json=self._as_json,
            text=lambda: _difference(preview),
        )
        if not self._as_json:
            stderr.print("nothing is changed yet; do it with: --apply")


@app.command()
def reparent(
    unit: UnitName,
    under: Annotated[str, typer.Option("--under", help="The new parent: an iu_code or an id.")],
    at: At = None,
    actor: Actor = None,
    reason: Reason = None,
    apply: Apply = False,
    as_json: Json = False,
) -> None:
    """Move a unit, with all below it, under another parent of its tree.

    Example: iu op reparent handbook.s012 --under handbook.s003 --reason "belongs to setup" --apply
    """
    run = _Run(actor, reason, apply, as_json)
    run(Reparent(run.store.unit_id(unit), run.store.unit_id(under), at))


@app.command()
def add(
    code: Annotated[str, typer.Argument(help="The new unit's iu_code.")],
    file: Annotated[Path, typer.Option("--file", help="The file with its text (UTF-8).")],
    under: Annotated[str | None, typer.Option("--under", help="The parent; without it a new tree.")] = None,
    at: At = None,
    doc: Annotated[str | None, typer.Option("--doc", help="doc_code; default: the parent's.")] = None,
    enacted: Annotated[bool, typer.Option("--enacted", help="Enacted at once, not a draft.")] = False,
    supersedes: Annotated[list[str] | None, typer.Option("--supersedes", help="A unit it replaces.")] = None,
    actor: Actor = None,
    reason: Reason = None,
    apply: Apply = False,
    as_json: Json = False,
) -> None:
    """Add a unit under a parent, or start a tree.

    Example: iu op add handbook.s040 --under handbook.s003 --file new.md --reason "missing step" --apply
    """
    content = _text(file)
    run = _Run(actor, reason, apply, as_json)
    run(
        AddNewPiece(
            Piece(code, content),
            parent_id=None if under is None else run.store.unit_id(under),
            ordinal=at,
            doc_code=doc,
            lifecycle="enacted" if enacted else "draft",
            supersedes=tuple(run.store.unit_id(name) for name in supersedes or ()),
        )
    )


@app.command()
def deprecate(
    unit: UnitName,
    actor: Actor = None,
    reason: Reason = None,
    apply: Apply = False,
    as_json: Json = False,
) -> None:
    """Take a unit without living children out of use.

    Example: iu op deprecate pilot.iu0.test-002 --reason "scratch" --apply
    """
    run = _Run(actor, reason, apply, as_json)
    run(DeprecatePiece(run.store.unit_id(unit)))


@app.command()
def split(
    unit: UnitName,
    piece: Annotated[list[str], typer.Option("--piece", help=PIECE_HELP + " Twice or more.")],
    children_to: Annotated[
        int | None,
        typer.Option("--children-to", help="Which piece gets the children, from 0; default: last."),
    ] = None,
    actor: Actor = None,
    reason: Reason = None,
    apply: Apply = False,
    as_json: Json = False,
) -> None:
    """Replace a unit by two or more.

    Example: iu op split hb.s3 --piece hb.s3a=a.md --piece hb.s3b=b.md --reason "two subjects" --apply
    """
    pieces = tuple(_piece(words) for words in piece)
    run = _Run(actor, reason, apply, as_json)
    run(Split(run.store.unit_id(unit), pieces, children_to))


@app.command()
def merge(
    units: Annotated[list[str], typer.Argument(help="Two or more units; the first gives the place.")],
    into: Annotated[str, typer.Option("--into", help=PIECE_HELP)],
    actor: Actor = None,
    reason: Reason = None,
    apply: Apply = False,
    as_json: Json = False,
) -> None:
    """Replace two or more units by one.

    Example: iu op merge hb.s3 hb.s4 --into hb.s3m=both.md --reason "one subject" --apply
    """
    piece = _piece(into)
    run = _Run(actor, reason, apply, as_json)
    run(Merge(tuple(run.store.unit_id(name) for name in units), piece))


@app.command()
def replace(
    unit: UnitName,
    by: Annotated[str, typer.Option("--by", help=PIECE_HELP)],
    actor: Actor = None,
    reason: Reason = None,
    apply: Apply = False,
    as_json: Json = False,
) -> None:
    """Put a new unit in the place of another, which it supersedes.

    Example: iu op replace hb.s3 --by hb.s3r=new.md --reason "rewritten" --apply
    """
    piece = _piece(by)
    run = _Run(actor, reason, apply, as_json)
    run(Replace(run.store.unit_id(unit), piece))


def _piece(words: str) -> Piece:
    code, equals, file = words.partition("=")
    if not (code and equals and file):
        raise Usage(f"{words!r} is no piece", why="a piece is written CODE=FILE", remedy="e.g. hb.s3a=a.md")
    return Piece(code, _text(Path(file)))


def _text(file: Path) -> str:
    try:
        return text_of(file.read_bytes(), str(file))
    except OSError as error:
        raise Usage(f"{file} cannot be read", why=error.strerror, remedy="name a readable file") from error


def _difference(preview: Preview) -> RenderableType:
    """Show the tree around the change: what comes (+), goes (-) and moves (~), with the units above
    and beside it; longer stretches that stay as they are become one line."""
    before = {unit.unit_id: unit for unit in preview.before}
    after = {unit.unit_id: unit for unit in preview.after}
    touched = set(preview.enacted.unit_ids)
    marks = {unit.unit_id: _mark(unit, before.get(unit.unit_id), touched) for unit in preview.after}
    shown = _with_surroundings(preview.after, {unit_id for unit_id, mark in marks.items() if mark != " "})
    lines: list[Text] = []
    passed_over = 0
    for unit in preview.after:
        if unit.unit_id not in shown:
            passed_over += 1
            continue
        lines += _gap(passed_over)
        passed_over = 0
        mark = marks[unit.unit_id]
        was = before.get(unit.unit_id, unit).lifecycle
        turned = "" if was == unit.lifecycle else f"  {was} → {unit.lifecycle}"
        lines.append(Text(f"{mark} {'  ' * unit.depth}{unit.iu_code}{turned}", style=STYLES[mark]))
    lines += _gap(passed_over)
    lines += [Text(f"- {unit.iu_code}", style="red") for unit in preview.before if unit.unit_id not in after]
    return Group(*lines)


def _mark(unit: Unit, was: Unit | None, touched: set[UUID]) -> str:
    if was is None:
        return "+"
    return "~" if unit.unit_id in touched or was.parent_id != unit.parent_id else " "


def _with_surroundings(units: tuple[Unit, ...], changed: set[UUID]) -> set[UUID]:
    """Return the changed units, everything above them, and the siblings next to them."""
    by_id = {unit.unit_id: unit for unit in units}
    shown: set[UUID] = set()
    for unit_id in changed:
        siblings = [unit.unit_id for unit in units if unit.parent_id == by_id[unit_id].parent_id]
        place = siblings.index(unit_id)
        shown.update(siblings[max(0, place - 1) : place + 2])
        at: UUID | None = unit_id
        while at in by_id and at not in shown - {unit_id}:
            shown.add(at)
            at = by_id[at].parent_id
    return shown


def _gap(passed_over: int) -> list[Text]:
    return [Text(f"  … {passed_over} more", style="dim")] if passed_over else []
