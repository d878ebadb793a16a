"""`iu route`: how the routes stand, and turning one on or off."""

from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from consumers import routes
from consumers.routes import LanePosition, RouteState
from iu_core.cli.context import Context
from iu_core.cli.output import Apply, Json, Reason, emit, required_reason, stderr, table
from iu_core.database import Connection, Role, connect

app = typer.Typer()

RouteCode = Annotated[str, typer.Argument(help="A route_code.", metavar="ROUTE")]
STYLES = {"live": "bold green", "held": "bold yellow", "dry-run": "cyan", "disabled": "dim"}


def _connect(role: Role) -> Connection:
    context = Context.current()
    return connect(
        context.database_url(), role, settings=context.settings.database, application_name="iu route"
    )


@app.command("list")
def list_routes(as_json: Json = False) -> None:
    """Show every route: live, held, dry-run or disabled, and why.

    Example: iu route list --json
    """
    with _connect(Role.READER) as connection:
        found = routes.read_routes(connection)
    emit(found, as_json=as_json, text=lambda: overview(found))


@app.command()
def show(route: RouteCode, as_json: Json = False) -> None:
    """Show one route whole: target, gates, holds, positions, counts.

    Example: iu route show structure_reparented
    """
    with _connect(Role.READER) as connection:
        found = routes.read_route(connection, route)
        positions = routes.read_positions(connection, route)
    emit({"route": found, "positions": positions}, as_json=as_json, text=lambda: _whole(found, positions))


@app.command()
def enable(route: RouteCode, reason: Reason = None, apply: Apply = False, as_json: Json = False) -> None:
    """Turn a route live; previews unless --apply. The guard refuses a route that is not allowed.

    Delivery also needs the kill switch open. It starts where its live lane stood, else at the
    earliest event.

    Example: iu route enable structure_reparented --reason "pilot approved" --apply
    """
    why = required_reason(reason, "turning a route live")
    _change(route, enabled=True, dry_run=False, reason=why, apply=apply, as_json=as_json)


@app.command("dry-run")
def dry_run(route: RouteCode, reason: Reason = None, apply: Apply = False, as_json: Json = False) -> None:
    """Let a route decide and record, but deliver nothing; previews unless --apply.

    Example: iu route dry-run structure_reparented --reason "see what it would do" --apply
    """
    why = required_reason(reason, "changing a route")
    _change(route, enabled=True, dry_run=True, reason=why, apply=apply, as_json=as_json)


@app.command()
def disable(route: RouteCode, reason: Reason = None, as_json: Json = False) -> None:
    """Turn a route off, at once. When this returns, nothing of it commits any more.

    Example: iu route disable structure_reparented
    """
    _change(route, enabled=False, dry_run=True, reason=reason or "", apply=True, as_json=as_json)


def overview(found: tuple[RouteState, ...]) -> RenderableType:
    """Return the routes as a table."""
    rows = [
        (
            route.route_code, Text(route.state, style=STYLES[route.state]), route.sent, route.planned,
            route.failed + route.refused, route.dead, route.parked, route.why,
        )
        for route in found
    ]  # fmt: skip
    columns = ("route", "state", "sent", "dry-run", "failed", "dead", "parked", "why")
    return table(*columns, rows=rows, unless_zero=("failed", "dead", "parked"))


def _change(route: str, *, enabled: bool, dry_run: bool, reason: str, apply: bool, as_json: bool) -> None:
    with _connect(Role.READER) as connection:
        before = routes.read_route(connection, route)
    with _connect(Role.GATEKEEPER) as connection:
        routes.set_route(connection, route, enabled=enabled, dry_run=dry_run, reason=reason, apply=apply)
    old = f"enabled={before.enabled} dry_run={before.dry_run}"
    new = f"enabled={enabled} dry_run={dry_run}"
    emit(
        {"route_code": route, "old": old, "new": new, "applied": apply},
        as_json=as_json,
        text=lambda: Text(f"{route}: {old} → {new}"),
    )
    if not apply and not as_json:
        stderr.print("nothing is changed yet; do it with: --apply")


def _whole(route: RouteState, positions: tuple[LanePosition, ...]) -> Group:
    lines = [
        Text.assemble(f"{route.route_code}  ", (route.state, STYLES[route.state]), f"  {route.why}"),
        Text(f"delivers   {route.event_type} to {route.target_kind} {route.target_ref}"),
        Text(f"allowed    {'yes' if route.allowlisted else 'no'} (iu_core.delivery_live_routes)"),
        Text(
            f"decisions  {route.sent} sent, {route.planned} dry-run, {route.refused} refused, "
            f"{route.failed} failed; {route.dead} dead, {route.parked} parked"
        ),
    ]
    if route.opens_with:
        lines.append(Text(f"opens with {route.opens_with}"))
    lines += [
        Text(f"held       lane {hold.lane} since {hold.opened_at:%Y-%m-%d %H:%M:%S} UTC: {hold.reason}")
        for hold in route.holds
    ]
    rows = [
        (place.lane, place.partition, place.start_offset, place.next_offset, place.owner)
        for place in positions
    ]
    return Group(*lines, table("lane", "partition", "began at", "next offset", "owner", rows=rows))
