"""`iu relay`: run the outbox relay, and say where it stands."""

from typing import Annotated

import typer

from iu_core.bus.names import BusNames
from iu_core.cli import relay_rebase
from iu_core.cli.context import Context
from iu_core.cli.output import Json, emit
from iu_core.process_signals import stop_on_signals
from iu_core.telemetry import configure_logs
from producers.relay.contracts import BundledContracts
from producers.relay.service import RelayService
from producers.relay.status import Status, ask
from schemas.catalog import Catalog

app = typer.Typer()
app.command("rebase")(relay_rebase.command)

UntilIdle = Annotated[
    bool,
    typer.Option("--until-idle", "--once", help="Publish what is committed by now, then end."),
]


@app.command()
def run(until_idle: UntilIdle = False, as_json: Json = False) -> None:
    """Publish committed events to Kafka until SIGTERM, exactly once and in order per tree.

    The first SIGTERM or Ctrl-C finishes the transaction at hand, the second aborts.

    Example: iu relay run --until-idle
    """
    context = Context.current()
    settings = context.bus_settings()
    configure_logs()
    contracts = BundledContracts(Catalog.bundled(), BusNames().events)
    service = RelayService(settings, context.database_url(), contracts, until_idle=until_idle)
    with stop_on_signals() as stop:
        done = service.run(stop)
    emit(
        done,
        as_json=as_json,
        text=lambda: f"published {done.published} events in {done.transactions} transactions",
    )


@app.command()
def status(as_json: Json = False) -> None:
    """Say in words how far the relay is, who runs it, and what waits.

    Changes nothing and fences nobody.

    Example: iu relay status --json
    """
    context = Context.current()
    found = ask(context.bus_settings(), context.database_url())
    emit(found, as_json=as_json, text=lambda: _words(found))


def _words(found: Status) -> str:
    return "\n".join(found.in_words())
