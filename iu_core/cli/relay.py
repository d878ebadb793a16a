"""`iu relay`: run the outbox relay, say where it stands, and what is done in its place."""

from typing import Annotated

import typer

from iu_core.bus.names import BusNames
from iu_core.cli import relay_prune, relay_rebase, relay_reshard
from iu_core.cli.context import Context
from iu_core.cli.output import Json, emit
from iu_core.cli.relay_blocked import blocked, unblock
from iu_core.process_signals import stop_on_signals
from iu_core.telemetry import configure_logs
from producers.relay.contracts import BundledContracts
from producers.relay.status import RelayStatus, ask
from producers.relay.supervisor import Supervisor, chosen_shards
from schemas.catalog import Catalog

app = typer.Typer()
app.command()(blocked)
app.command()(unblock)
app.command("reshard")(relay_reshard.command)
app.command("prune")(relay_prune.command)
app.command("rebase")(relay_rebase.command)

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

    Stands by for each shard that another process relays. The first SIGTERM or Ctrl-C finishes
    the transactions at hand, the second aborts.

    Example: iu relay run --shard 0 --shard 1
    """
    context = Context.current()
    settings = context.bus_settings()
    configure_logs()
    contracts = BundledContracts(Catalog.bundled(), BusNames().events)
    relays = Supervisor(
        settings,
        context.database_url(),
        contracts,
        shards=chosen_shards(settings, shard or ()),
        until_idle=until_idle,
    )
    with stop_on_signals() as stop:
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
