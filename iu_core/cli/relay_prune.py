"""`iu relay prune`: old events leave the outbox, each replaced by its stub."""

import getpass
import re
from datetime import timedelta
from functools import partial
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from consumers.verify.trees import fold_tree
from iu_core.cli.context import Context
from iu_core.cli.output import Apply, Json, Reason, emit, required_reason, stderr, table
from iu_core.database import Role, connect
from iu_core.errors import Terminal, Usage
from iu_core.telemetry import configure_logs
from producers.relay.prune import Preview, Pruned, preview, prune, read_bound, refuse_if_nothing_goes

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
OlderThan = Annotated[str, typer.Option("--older-than", help="The retention: a number with s, m, h, d or w.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Rows of this run at most; default: all.")]


def command(
    older_than: OlderThan = "30d",
    limit: Limit = None,
    reason: Reason = None,
    apply: Apply = False,
    as_json: Json = False,
) -> None:
    """Let events leave the outbox that are published, decided on, and older than the retention.

    May run beside everything else, and be killed: the next run goes on. The preview says what
    stays, and why.

    Example: iu relay prune --older-than 90d --reason "quarterly" --apply
    """
    retention = duration(older_than)
    because = required_reason(reason, "pruning the outbox") if apply else ""
    context = Context.current()
    settings, url = context.bus_settings(), context.database_url()
    configure_logs()
    bound = read_bound(settings, url)
    owner = connect(url, Role.OWNER, settings=settings.database, application_name="iu-relay-prune")
    try:
        found = preview(owner, bound, retention)
        if not apply or not found.rows:
            emit({"applied": False, "preview": found}, as_json=as_json, text=lambda: _foreseen(found))
            refuse_if_nothing_goes(found)
            if not as_json and found.rows:
                stderr.print("nothing is changed yet; do it with: --apply")
            return
        done = prune(
            owner,
            found,
            limit=limit,
            fold=partial(fold_tree, owner),
            actor=getpass.getuser(),
            reason=because,
            progress=(lambda done: None) if as_json else partial(_progress, found),
        )
    finally:
        owner.close()
    emit({"applied": True, "preview": found, "done": done}, as_json=as_json, text=lambda: _done(done))
    if done.left_out:
        raise Terminal(
            f"{len(done.left_out)} trees could get no baseline, so their rows stay",
            why=done.left_out[0],
            remedy="iu verify tells where a tree differs from its events",
        )


def duration(words: str) -> timedelta:
    """Return `30d` and the like as a time. Raises `Usage` on anything else."""
    written = re.fullmatch(r"([0-9]{1,6})([smhdw])", words)
    if written is None:
        raise Usage(
            f"{words!r} is no length of time",
            why="it is written as a number and one of s, m, h, d, w",
            remedy="for instance: --older-than 30d",
        )
    return timedelta(**{_UNITS[written[2]]: int(written[1])})


def _foreseen(found: Preview) -> Group:
    bound = found.bound
    parts: list[RenderableType] = [
        Text(
            f"published  every transaction before {bound.before_xid}, "
            f"by shard {bound.held_back_by} at {bound.written_at:%Y-%m-%d %H:%M:%S} UTC"
        ),
        Text(f"may go     {found.rows} rows older than {timedelta(seconds=found.older_than_s)}"),
    ]
    if found.going:
        parts.append(
            table(
                "event type", "rows", "oldest", "newest",
                rows=[
                    (each.event_type, each.rows, f"{each.oldest_at:%Y-%m-%d}", f"{each.newest_at:%Y-%m-%d}")
                    for each in found.going
                ],
            )
        )  # fmt: skip
    if found.lacking_baseline:
        parts.append(Text(f"before     a baseline of {len(found.lacking_baseline)} trees is taken"))
    for held in found.held:
        parts.append(Text(f"stay       {held.rows} rows: {held.in_words}; first: event {held.example}"))
    return Group(*parts)


def _progress(found: Preview, done: Pruned) -> None:
    stderr.print(f"[dim]{done.rows} of {found.rows} rows, transaction {done.batches}[/]")


def _done(done: Pruned) -> str:
    return f"pruned {done.rows} rows in {done.batches} transactions, took {done.baselines} baselines"
