"""`iu relay blocked` and `iu relay unblock`: trees that wait for a row that cannot be published."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from iu_core.bus.names import BusNames
from iu_core.cli.context import Context
from iu_core.cli.output import Apply, Json, Reason, emit, required_reason, stderr, table
from iu_core.errors import Usage
from iu_core.telemetry import configure_logs
from producers.relay.blocked import BlockedTree, blocked_trees
from producers.relay.contracts import BundledContracts
from producers.relay.unblock import Event, How, LeftOut
from producers.relay.unblock_command import UnblockCommand, Unblocked
from schemas.catalog import Catalog


def blocked(as_json: Json = False) -> None:
    """List the trees whose events wait behind one that cannot be published, and why.

    Fills the table of dead letters from its topic first; changes nothing else, fences nobody.

    Example: iu relay blocked --json
    """
    configure_logs(level="WARNING")
    context = Context.current()
    found = blocked_trees(context.bus_settings(), context.database_url())
    emit(found, as_json=as_json, text=lambda: _trees(found))


def unblock(
    tree: Annotated[UUID, typer.Argument(help="The tree; iu relay blocked shows them.", metavar="TREE")],
    retry: Annotated[bool, typer.Option("--retry", help="Publish the row that blocks it.")] = False,
    skip: Annotated[bool, typer.Option("--skip", help="Leave that row out, for good.")] = False,
    reason: Reason = None,
    apply: Apply = False,
    as_json: Json = False,
) -> None:
    """Publish what waits of a tree, in its order; previews unless --apply.

    A running relay steps aside for it and goes on afterwards. If it is killed, run it again.

    Example: iu relay unblock 0195f3a0-0000-7000-8000-00000000000a --retry --reason "release 12" --apply
    """
    if retry == skip:
        raise Usage(
            "say what to do with the row that blocks the tree",
            why="exactly one of --retry and --skip is needed",
            remedy="--retry publishes it, --skip leaves it out for good",
        )
    why = required_reason(reason, "unblocking a tree")
    configure_logs(level="WARNING")
    context = Context.current()
    command = UnblockCommand(
        context.bus_settings(),
        context.database_url(),
        BundledContracts(Catalog.bundled(), BusNames().events),
        tree=tree,
        how=How.RETRY if retry else How.SKIP,
        reason=why,
    )
    done = command.apply() if apply else command.preview()
    emit(done, as_json=as_json, text=lambda: _story(done))
    if not apply and not as_json:
        stderr.print("nothing is changed yet; do it with: --apply")


def _trees(found: Sequence[BlockedTree]) -> RenderableType:
    if not found:
        return Text("no tree waits")
    columns = ("tree", "shard", "from version", "since (UTC)", "reason", "later events", "detail")
    return table(*columns, rows=[_row(each) for each in found])


def _row(each: BlockedTree) -> tuple[object, ...]:
    place = (each.tree_id, each.shard, each.from_version)
    if (letter := each.letter) is None:
        return *place, None, "unblocking ended in the middle", each.later_events, "run iu relay unblock again"
    detail = f"{letter.detail} (outbox row {letter.outbox_id}, event {letter.event_ref})"
    return *place, f"{letter.since:%Y-%m-%d %H:%M:%S}", letter.reason, each.later_events, detail


def _story(done: Unblocked) -> RenderableType:
    did = "published" if done.applied else "would be published"
    lines: list[RenderableType] = [_event(event, did) for event in done.published]
    lines += [_left_out(left, done.applied) for left in done.left_out]
    if (again := done.blocked_again) is not None:
        waits = f"{done.still_waiting} later events wait behind it"
        verb = "blocks" if done.applied else "would block"
        lines.append(Text(f"version {again.event.version}  {verb} the tree again: {again.detail}; {waits}"))
    else:
        lines.append(Text(f"tree {done.tree_id} {'waits' if done.applied else 'would wait'} no more"))
    counted = f"{len(done.published)} events {did} in {done.transactions} transactions"
    return Group(*lines, Text(counted))


def _event(event: Event, did: str) -> Text:
    return Text(f"version {event.version}  {did}: {event.event_type}, event {event.event_ref}")


def _left_out(left: LeftOut, applied: bool) -> Text:
    verb = "left out" if applied else "would be left out"
    whose = "by the policy of its type" if left.by_policy else "for good"
    event = left.event
    return Text(
        f"version {event.version}  {verb} {whose}: {event.event_type}, event {event.event_ref}: {left.detail}"
    )
