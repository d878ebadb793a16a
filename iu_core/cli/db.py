"""`iu db`: the schema of the database."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from iu_core.cli.context import Context
from iu_core.cli.output import Apply, Json, emit, table
from iu_core.database import connect
from iu_core.database.migration_files import SqlFiles, read
from iu_core.database.migrations import Migrator, Moved
from iu_core.database.schema_check import Difference, differences
from iu_core.errors import DifferencesFound
from iu_core.resources import sql_dir

app = typer.Typer()


@contextmanager
def _migrator() -> Iterator[Migrator]:
    context = Context.current()
    files = read(sql_dir())
    url = context.database_url()
    with connect(url, None, settings=context.settings.database, application_name="iu db") as connection:
        yield Migrator(connection, files)


@app.command()
def up(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Run everything, then roll it back.")] = False,
    to: Annotated[int | None, typer.Option(help="Stop after this migration; default: the newest.")] = None,
    as_json: Json = False,
) -> None:
    """Bring the database up to date: roles, pending migrations, registrations.

    Applies at once; running it again changes nothing.

    Example: iu db up --dry-run
    """
    with _migrator() as migrator:
        moved = migrator.up(to=to, rehearse=dry_run)
    emit(moved, as_json=as_json, text=lambda: _story(moved))


@app.command()
def down(
    to: Annotated[int, typer.Option(help="The migration to go back to; 0 is before the first.")],
    apply: Apply = False,
    force_inert: Annotated[
        bool,
        typer.Option(
            "--force-inert", help="Send live routes to dry-run and save the projection before 013 goes."
        ),
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(help="Where --force-inert saves the projection; default: a new file in this folder."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Roll migrations back, newest first. What they made is dropped, with its rows.

    Previews unless --apply: a preview runs everything and rolls it back, so it meets every refusal.

    Example: iu db down --to 12 --apply
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    file = export or Path(f"iu_tree_change_log-{stamp}.jsonl")
    with _migrator() as migrator:
        moved = migrator.down(to=to, rehearse=not apply, force_inert=file if force_inert else None)
    emit(moved, as_json=as_json, text=lambda: _story(moved))


@app.command()
def status(as_json: Json = False) -> None:
    """Show every migration: applied, pending, changed since, or unknown here.

    Example: iu db status --json
    """
    with _migrator() as migrator:
        entries = migrator.status()
    rows = [
        (
            entry.name,
            entry.state,
            f"{entry.applied_at:%Y-%m-%d %H:%M:%S}" if entry.applied_at else None,
            entry.applied_by,
        )
        for entry in entries
    ]
    emit(entries, as_json=as_json, text=lambda: table("migration", "state", "applied (UTC)", "by", rows=rows))


@app.command()
def verify(as_json: Json = False) -> None:
    """Compare the database with the files: migrations, functions, owners, comments, privileges.

    Exit code 65 if they differ.

    Example: iu db verify
    """
    context = Context.current()
    files: SqlFiles = read(sql_dir())
    url = context.database_url()
    with connect(url, None, settings=context.settings.database, application_name="iu db") as connection:
        found = differences(connection, files, sql_dir())
    emit(found, as_json=as_json, text=lambda: _findings(found))
    if found:
        raise DifferencesFound(
            f"the database differs from the files in {len(found)} places",
            why=f"first: {found[0].place}: {found[0].what}",
            remedy="iu db up applies what is pending; for the rest restore the file or write a migration",
        )


def _findings(found: tuple[Difference, ...]) -> RenderableType:
    if not found:
        return Text("The database is what the files say.")
    return table("where", "what", rows=[(each.place, each.what) for each in found])


def _story(moved: Moved) -> RenderableType:
    done = "would be " if moved.rehearsed else ""
    lines = [f"{name}  {done}applied" for name in moved.applied]
    lines += [f"{name}  {done}registered" for name in moved.registered]
    if moved.inert is not None:
        routes = ", ".join(moved.inert.routes) or "no route"
        lines.append(f"{routes}  {done}sent to dry-run")
        where = f" to {moved.inert.file}" if moved.inert.file else ""
        lines.append(f"{moved.inert.rows} rows of the projection  {done}saved{where}")
    lines += [f"{name}  {done}rolled back" for name in moved.rolled_back]
    if not moved.applied and not moved.rolled_back:
        lines.append("Nothing to do.")
    lines.append(f"The database {'would be' if moved.rehearsed else 'is'} at version {moved.version}.")
    if moved.rehearsed and moved.rolled_back:
        lines.append("This was a preview; add --apply to do it.")
    return Text("\n".join(lines))
