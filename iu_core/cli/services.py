"""`iu services`: PostgreSQL and Kafka for this machine."""

import shlex
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from infra.local import keeping
from iu_core.cli.context import Context
from iu_core.cli.output import Apply, Json, emit, stderr, table

app = typer.Typer()


@app.command()
def up(as_json: Json = False) -> None:
    """Start PostgreSQL and Kafka, or find them, and leave them running.

    Looked for in this order: what IU_DATABASE_URL and IU_KAFKA_BOOTSTRAP_SERVERS name; a Docker
    engine; processes on this machine; a mock broker, labelled.

    Example: iu services up
    """
    done = keeping.up(Context.current().settings, progress=lambda line: stderr.print(line, markup=False))
    emit(done, as_json=as_json, text=lambda: _story(done))


def _story(done: keeping.Up) -> RenderableType:
    # Lines and no table: an address that a column breaks in two cannot be pasted.
    exports = [
        Text(f"  export {name}={shlex.quote(value)}") for name, value in done.endpoints.environment().items()
    ]
    head = "were running already" if done.reused else "are running"
    return Group(
        f"The services {head}; every command finds them by itself. A new database needs: iu db up",
        "For other programs:",
        *exports,
    )


@app.command()
def status(as_json: Json = False) -> None:
    """Say which of the services left here still run.

    Example: iu services status
    """
    found = keeping.status(Context.current().settings)
    emit(found, as_json=as_json, text=lambda: _table(found))


def _table(found: tuple[keeping.ServiceStatus, ...]) -> RenderableType:
    if not found:
        return "No services were left running here. Start them: iu services up"
    rows = [
        [one.service, "running" if one.running else "DEAD", one.address, one.pid, one.means, one.log]
        for one in found
    ]
    return table("service", "state", "address", "pid", "found as", "log", rows=rows)


@app.command()
def down(
    erase: Annotated[bool, typer.Option("--erase", help="Remove their data too; previewed.")] = False,
    apply: Apply = False,
    as_json: Json = False,
) -> None:
    """Stop what `iu services up` left running; their data stays unless --erase --apply.

    Services that the environment names are not touched.

    Example: iu services down
    """
    settings = Context.current().settings
    if erase and not apply:
        would = {"would_erase": keeping.erasable(settings)}
        emit(
            would,
            as_json=as_json,
            text=lambda: "\n".join(
                ["Would stop the services and remove:", *would["would_erase"], "Do it: --apply"]
            ),
        )
        return
    done = keeping.down(settings, erase=erase)
    emit(done, as_json=as_json, text=lambda: _ended(done))


def _ended(done: keeping.Down) -> str:
    lines = [f"stopped {name}" + (" (killed)" if name in done.killed else "") for name in done.stopped]
    lines += [f"removed {path}" for path in done.erased]
    return "\n".join(lines) or "Nothing was running."
