"""`iu op`: the six structure operations, previewed unless --apply."""

import getpass
from pathlib import Path
from typing import Annotated

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
    """Show the tree after the operation, with what comes (+), goes (-) and moves (~) marked."""
    before = {unit.unit_id: unit for unit in preview.before}
    after = {unit.unit_id: unit for unit in preview.after}
    gone = [Text(f"- {unit.iu_code}", style="red") for unit in preview.before if unit.unit_id not in after]
    lines = [_line(unit, before.get(unit.unit_id)) for unit in preview.after]
    return Group(*lines, *gone)


def _line(unit: Unit, was: Unit | None) -> Text:
    place = "  " * unit.depth + unit.iu_code
    if was is None:
        return Text(f"+ {place}", style="green")
    if was.parent_id != unit.parent_id:
        return Text(f"~ {place}", style="yellow")
    return Text(f"  {place}")
