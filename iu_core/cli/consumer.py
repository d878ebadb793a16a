"""`iu consumer`: run the route consumers."""

from typing import Annotated

import typer
from rich.console import RenderableType

from consumers.route.progress import Progress
from consumers.route.service import ConsumerService
from consumers.routes import read_routes
from iu_core.cli.context import Context
from iu_core.cli.output import Json, emit, table
from iu_core.database import Role, connect
from iu_core.process_signals import stop_on_signals
from iu_core.telemetry import configure_logs

app = typer.Typer()

RouteCodes = Annotated[
    list[str] | None,
    typer.Argument(help="Routes to consume; default: every registered one.", metavar="[ROUTE]..."),
]
UntilIdle = Annotated[
    bool,
    typer.Option("--until-idle", help="End when every route is idle, held or at the end of the topic."),
]


@app.callback()
def _group() -> None:
    """Keep `run` a command of its own, however many there are."""


@app.command()
def run(routes: RouteCodes = None, until_idle: UntilIdle = False, as_json: Json = False) -> None:
    """Decide on the events of routes until SIGTERM: dry-run or live, as each route stands.

    A route is followed while it runs: disabled it is idle, at a closed gate it holds and loses
    nothing. The first SIGTERM or Ctrl-C finishes the batch at hand, the second aborts.

    Example: iu consumer run structure_reparented --until-idle
    """
    context = Context.current()
    settings, url = context.bus_settings(), context.database_url()
    configure_logs(level=settings.log.level)
    codes = tuple(dict.fromkeys(routes)) if routes else _registered(context)
    service = ConsumerService(settings, url, codes, until_idle=until_idle)
    with stop_on_signals() as stop:
        done = service.run(stop)
    emit(done, as_json=as_json, text=lambda: in_words(done))


def _registered(context: Context) -> tuple[str, ...]:
    with connect(
        context.database_url(),
        Role.READER,
        settings=context.settings.database,
        application_name="iu consumer",
    ) as connection:
        return tuple(route.route_code for route in read_routes(connection))


def in_words(done: tuple[Progress, ...]) -> RenderableType:
    """Return what each route has done, for a person."""
    return table(
        "route", "state", "delivered", "dry-run", "dead letters", "of other routes", "why",
        rows=[
            (one.route_code, one.state, one.delivered, one.planned, one.dead, one.skipped, one.why)
            for one in done
        ],
        unless_zero=("dead letters", "of other routes"),
    )  # fmt: skip
