"""`iu relay rebase`: after a restore, make database and topic one story again."""

from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from iu_core.bus.names import BusNames
from iu_core.cli.context import Context
from iu_core.cli.output import Apply, Json, Reason, emit, required_reason, stderr, table
from iu_core.telemetry import configure_logs
from producers.relay.contracts import BundledContracts
from producers.relay.ghosts import TREES_SHOWN, Comparison, Tree
from producers.relay.rebase import preview, rebase
from producers.relay.rebase_plan import Done, Policy, Preview, require_fits
from schemas.catalog import Catalog

PolicyOption = Annotated[
    Policy | None,
    typer.Option("--policy", help="What becomes of events that are on the topic and not in the database."),
]
AbandonRest = Annotated[
    bool,
    typer.Option("--abandon-rest", help="With adopt: give up the events of trees that cannot be adopted."),
]


def command(
    policy: PolicyOption = None,
    abandon_rest: AbandonRest = False,
    apply: Apply = False,
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Compare topic and database after a restore, and resolve what differs by a policy.

    A preview unless --apply. A running relay steps aside; killed at any moment, the same command
    goes on.

    Example: iu relay rebase --policy abandon --apply --reason "restored last night's dump"
    """
    context, catalog = Context.current(), Catalog.bundled()
    settings, url = context.bus_settings(), context.database_url()
    configure_logs()

    def progress(line: str) -> None:
        if not as_json:
            stderr.print(f"[dim]{line}[/]")

    if not apply or policy is Policy.STOP:
        told = preview(settings, url, catalog, progress)
        emit(_shown(told), as_json=as_json, text=lambda: in_words(told))
        if policy is not None and not told.nothing_to_do:
            require_fits(told, policy, abandon_rest=abandon_rest)
        return
    done = rebase(
        settings,
        url,
        BundledContracts(catalog, BusNames().events),
        catalog,
        policy=policy,
        abandon_rest=abandon_rest,
        reason=required_reason(reason, "a rebase"),
        progress=progress,
    )
    emit(done, as_json=as_json, text=lambda: _done(done))


def _shown(told: Preview) -> dict[str, object]:
    """Return the preview with as many trees as anybody reads, and what each policy does with them."""
    compared = told.compared
    return {
        "topic": told.topic,
        "shards": told.shards,
        "made_again": told.made_again,
        "nothing_to_do": told.nothing_to_do,
        "differences": told.differences,
        "on_the_topic": compared.published,
        "in_the_database": compared.events,
        "ghosts": {
            "events": compared.ghosts,
            "trees": len(compared.trees),
            "first": compared.first_ghost,
            "last": compared.last_ghost,
        },
        "unpublished": {
            "events": compared.unpublished,
            "trees": compared.unpublished_trees,
            "first_id": compared.first_id,
            "last_id": compared.last_id,
            "left_out": compared.left_out,
        },
        "unreadable": compared.unreadable,
        "altered": compared.altered,
        "trees": [_tree(tree) for tree in compared.trees[:TREES_SHOWN]],
        "policies": told.policies,
    }


def _tree(tree: Tree) -> dict[str, object]:
    return {
        "tree_id": tree.tree_id,
        "iu_code": tree.iu_code,
        "ghosts": tree.ghosts,
        "from_version": tree.first_version,
        "to_version": tree.last_version,
        "event_types": tree.event_types,
        "last_valid_version": tree.last_valid_version,
        "version": tree.version,
        "incarnation": tree.incarnation,
        "cannot_be_adopted": tree.obstacle(),
        "incarnation_if_abandoned": tree.next_incarnation,
    }


def in_words(told: Preview) -> RenderableType:
    """Return the preview for a person."""
    if told.nothing_to_do:
        return Text(
            f"nothing to rebase: topic and database agree; unpublished: {_unpublished(told.compared)}"
        )
    parts: list[RenderableType] = [
        Text(f"differs      {difference}", style="yellow") for difference in told.differences
    ]
    compared = told.compared
    parts.append(
        Text(f"compared     {compared.published} events on the topic, {compared.events} in the database")
    )
    parts.append(Text(f"topic only   {_ghosts(compared)}"))
    parts.append(Text(f"database only {_unpublished(compared)}"))
    if compared.unreadable:
        parts.append(Text(f"unreadable   {compared.unreadable} records, left to the consumers"))
    if compared.altered:
        parts.append(Text(f"altered      {compared.altered} records hold other bytes than their rows"))
    if compared.trees:
        parts.append(_trees(compared))
    parts += [Text(f"--policy {policy.value:<10}{effect}") for policy, effect in told.policies.items()]
    return Group(*parts)


def _ghosts(compared: Comparison) -> str:
    first, last = compared.first_ghost, compared.last_ghost
    if first is None or last is None:
        return "no events"
    return (
        f"{compared.ghosts} events of {len(compared.trees)} trees, from {first.occurred_at}"
        f" (event {first.event_ref}) to {last.occurred_at} (event {last.event_ref})"
    )


def _unpublished(compared: Comparison) -> str:
    if not compared.unpublished:
        return "no events"
    return (
        f"{compared.unpublished} events of {compared.unpublished_trees} trees,"
        f" outbox rows {compared.first_id} to {compared.last_id}"
    )


def _trees(compared: Comparison) -> RenderableType:
    shown = compared.trees[:TREES_SHOWN]
    trees = table(
        "tree", "last valid", "here", "on the topic only", "adopt", "abandon",
        rows=[
            (
                tree.iu_code or tree.tree_id,
                tree.last_valid_version,
                "not here" if tree.version is None else f"version {tree.version}",
                f"{tree.first_version} to {tree.last_version}",
                "put back" if (obstacle := tree.obstacle()) is None else f"no: {obstacle}",
                f"incarnation {tree.next_incarnation}",
            )
            for tree in shown
        ],
    )  # fmt: skip
    if len(shown) == len(compared.trees):
        return trees
    return Group(trees, Text(f"and {len(compared.trees) - len(shown)} more trees"))


def _done(done: Done) -> str:
    if not done.floor_id and not done.published:
        return "nothing to rebase: topic and database agree"
    return (
        f"{done.adopted} events put back, {done.abandoned} given up, {done.published} published;"
        f" every row up to {done.floor_id} is settled. Start the relay: iu relay run"
    )
