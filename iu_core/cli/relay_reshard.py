"""`iu relay reshard`: another number of shards."""

from typing import Annotated

import typer

from iu_core.bus.names import BusNames
from iu_core.cli.context import Context
from iu_core.cli.output import Apply, Json, Reason, emit, required_reason, stderr
from iu_core.telemetry import configure_logs, get_logger
from producers.relay import reshard
from producers.relay.contracts import BundledContracts
from schemas.catalog import Catalog

log = get_logger(__name__)

To = Annotated[int, typer.Option("--to", help="The number of shards to have, at most P.", metavar="N")]


def command(to: To, reason: Reason = None, apply: Apply = False, as_json: Json = False) -> None:
    """Change the number of shards while writers go on; previews unless --apply.

    Running relays step aside; nothing is published until it is done, nothing is lost or doubled,
    whenever it is killed. Afterwards start the relays with IU_RELAY__SHARDS=N.

    Example: iu relay reshard --to 3 --reason "two more partitions are hot" --apply
    """
    context = Context.current()
    settings, url = context.bus_settings(), context.database_url()
    why = required_reason(reason, "resharding") if apply else reason
    wanted = reshard.plan(settings, url, to)
    done = None
    if apply and wanted.changes:
        configure_logs(level=settings.log.level)
        # The audit trail (`iu_relay_action`) is written here, before the act.
        log.info("reshard", before=wanted.before.shards, after=to, reason=why)
        contracts = BundledContracts(Catalog.bundled(), BusNames().events)
        done = reshard.apply(settings, url, contracts, wanted)
    emit(
        {
            "before": wanted.before,
            "after": wanted.after if wanted.changes else wanted.before,
            "unfinished": wanted.unfinished,
            "waiting": {shard.shard: shard.pending.events for shard in wanted.status.shards},
            "applied": done is not None,
            "done": done,
        },
        as_json=as_json,
        text=lambda: "\n".join(wanted.in_words() if done is None else _in_words(done)),
    )
    if wanted.changes and not apply and not as_json:
        stderr.print('nothing is changed yet; do it with: --apply --reason "..."')


def _in_words(done: reshard.Resharded) -> list[str]:
    return [
        f"resharded  {done.before.shards} → {done.after.shards} shards, layout epoch {done.after.epoch}",
        f"published  {done.published} events on the way; nothing was published for {done.rested_s:.1f} s",
        f"then       set IU_RELAY__SHARDS={done.after.shards} and start: iu relay run",
    ]
