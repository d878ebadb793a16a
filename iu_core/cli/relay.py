"""`iu relay`: run the outbox relay, and say where it stands."""

from typing import Annotated

import typer

from iu_core.bus.names import BusNames
from iu_core.cli import relay_reshard
from iu_core.cli.context import Context
from iu_core.cli.output import Json, emit
from iu_core.health import serving
from iu_core.process_signals import drain_on_signals
from iu_core.telemetry import configure_logs
from producers.relay.backlog import sampled
from producers.relay.contracts import BundledContracts
from producers.relay.status import RelayStatus, ask
from producers.relay.supervisor import Supervisor, chosen_shards
from producers.relay.telemetry import RelayTelemetry
from schemas.catalog import Catalog

app = typer.Typer()
app.command("reshard")(relay_reshard.command)

UntilIdle = Annotated[
    bool,
    typer.Option("--until-idle", "--once", help="Publish what is committed by now, then end."),
]
Shards = Annotated[
    list[int] | None,
    typer.Option("--shard", min=0, help="Relay this shard only; several times for several. All if left out."),
]


@app.command()
def run(shard: Shards = None, until_idle: UntilIdle = False, as_json: Json = False) -> None:
    """Publish committed events to Kafka until SIGTERM, exactly once and in order per tree.

    Stands by for each shard that another process relays, so any number of copies may run: as a
    sidecar of every writer, or as a deployment of its own.

    IU_HTTP__PORT=9464 (and IU_HTTP__BIND=0.0.0.0 in a container) opens /livez, /readyz and
    /metrics. The first SIGTERM or Ctrl-C drains: the transactions at hand are finished or given
    up, and it ends with 0; after IU_RELAY__GRACE_S seconds, or at the second signal, it ends at
    once with 75. What is not published then is published by the next relay, exactly once.

    Example: IU_HTTP__PORT=9464 iu relay run --shard 0 --shard 1
    """
    context = Context.current()
    settings, database_url = context.bus_settings(), context.database_url()
    configure_logs(level=settings.log.level)
    contracts = BundledContracts(Catalog.bundled(), BusNames().events)
    shards = chosen_shards(settings, shard or ())
    telemetry = RelayTelemetry(settings, shards)
    relays = Supervisor(
        settings, database_url, contracts, shards=shards, until_idle=until_idle, telemetry=telemetry
    )
    with (
        drain_on_signals(settings.relay.grace_s) as stop,
        serving(settings.http, telemetry, telemetry.registry),
        sampled(settings, database_url, telemetry),
    ):
        done = relays.run(stop)
    emit(
        done,
        as_json=as_json,
        text=lambda: f"published {done.published} events in {done.transactions} transactions",
    )


@app.command()
def status(as_json: Json = False) -> None:
    """Say in words, shard by shard, how far the relay is, who runs it, and what waits.

    Changes nothing and fences nobody.

    Example: iu relay status --json
    """
    context = Context.current()
    found = ask(context.bus_settings(), context.database_url())
    emit(found, as_json=as_json, text=lambda: _words(found))


def _words(found: RelayStatus) -> str:
    return "\n".join(found.in_words())
