"""`iu gate`: the switches. Saying no is immediate; saying yes is previewed and wants a reason."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Group
from rich.text import Text

from consumers import switches
from consumers.routes import read_routes, unknown_route
from consumers.switches import Change, Gate, Switches
from iu_core.cli.context import Context
from iu_core.cli.output import Apply, Json, Reason, emit, required_reason, stderr
from iu_core.database import Connection, Role, connect

app = typer.Typer()

Which = Annotated[Gate, typer.Argument(help="delivery: the kill switch; structure: the operations.")]
RouteCode = Annotated[str, typer.Argument(help="A route_code; iu route list shows them.", metavar="ROUTE")]


@contextmanager
def _connection(role: Role) -> Iterator[Connection]:
    context = Context.current()
    url, settings = context.database_url(), context.settings.database
    with connect(url, role, settings=settings, application_name="iu gate") as connection:
        yield connection


@app.command()
def status(as_json: Json = False) -> None:
    """Show every gate, and the routes that may go live.

    Example: iu gate status --json
    """
    with _connection(Role.READER) as connection:
        found = switches.read_switches(connection)
    emit(found, as_json=as_json, text=lambda: in_words(found))


@app.command("open")
def open_gate(
    gate: Which = Gate.DELIVERY, reason: Reason = None, apply: Apply = False, as_json: Json = False
) -> None:
    """Open a gate; previews unless --apply.

    Example: iu gate open delivery --reason "release 12 approved" --apply
    """
    why = required_reason(reason, "opening a gate")
    with _connection(Role.GATEKEEPER) as connection:
        before = switches.read_switches(connection).gate(gate)
        if apply:
            switches.open_gate(connection, gate, why)
    emit(
        {"gate": gate, "key": gate.key, "old": before.value, "new": "true", "applied": apply},
        as_json=as_json,
        text=lambda: Text(
            f"{gate}: {gate.key} {'was' if apply else 'is'} {_stored(before.value)}, "
            f"{'is now' if apply else 'would be'} 'true'"
        ),
    )
    _say_preview(apply, as_json)


@app.command()
def close(gate: Which = Gate.DELIVERY, reason: Reason = None, as_json: Json = False) -> None:
    """Close a gate, at once. When this returns, nothing that passed it commits any more.

    Example: iu gate close
    """
    with _connection(Role.GATEKEEPER) as connection:
        took_ms = round(switches.close_gate(connection, gate, reason), 1)
    emit(
        {"gate": gate, "key": gate.key, "new": "false", "applied": True, "took_ms": took_ms},
        as_json=as_json,
        text=lambda: Text(f"{gate}: closed after {took_ms} ms; nothing passes it from here on"),
    )


@app.command()
def allow(route: RouteCode, reason: Reason = None, apply: Apply = False, as_json: Json = False) -> None:
    """Put a route on the list of those that may go live; previews unless --apply.

    Example: iu gate allow structure_reparented --reason "pilot approved" --apply
    """
    why = required_reason(reason, "allowing a route")
    with _connection(Role.GATEKEEPER) as connection:
        _require_registered(route)
        before = switches.read_switches(connection).live_routes
        if apply:
            switches.allow(connection, route, why)
    after = tuple(sorted({*before, route}))
    emit(
        {"key": switches.ALLOWLIST_KEY, "old": before, "new": after, "applied": apply},
        as_json=as_json,
        text=lambda: Text(f"{switches.ALLOWLIST_KEY}: {_list(before)} → {_list(after)}"),
    )
    _say_preview(apply, as_json)


@app.command()
def revoke(route: RouteCode, reason: Reason = None, as_json: Json = False) -> None:
    """Take a route off the list, at once and as finally as a close.

    Example: iu gate revoke structure_reparented
    """
    with _connection(Role.GATEKEEPER) as connection:
        before = switches.read_switches(connection).live_routes
        switches.revoke(connection, route, reason)
    after = tuple(code for code in before if code != route)
    emit(
        {"key": switches.ALLOWLIST_KEY, "old": before, "new": after, "applied": True},
        as_json=as_json,
        text=lambda: Text(f"{switches.ALLOWLIST_KEY}: {_list(before)} → {_list(after)}"),
    )


@app.command()
def history(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many changes, newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """Show who changed which switch or route, when, and why.

    Example: iu gate history --limit 5
    """
    with _connection(Role.READER) as connection:
        found = switches.history(connection, limit)
    emit(found, as_json=as_json, text=lambda: Group(*(line for change in found for line in _told(change))))


def in_words(found: Switches) -> Group:
    """Return gates and allowlist for a person."""
    lines = [
        Text.assemble(
            f"{state.gate:<10}",
            ("OPEN  ", "bold green") if state.is_open else ("CLOSED", "bold red"),
            f"  {state.gate.key} is {_stored(state.value)}",
        )
        for state in found.gates
    ]
    return Group(*lines, Text(f"may go live: {_list(found.live_routes)}"))


def _require_registered(route: str) -> None:
    with _connection(Role.READER) as connection:
        codes = [state.route_code for state in read_routes(connection)]
    if route not in codes:
        raise unknown_route(route, codes)


def _told(change: Change) -> tuple[Text, Text]:
    when = f"{change.changed_at:%Y-%m-%d %H:%M:%S} UTC"
    who = f"{change.login} ({change.application_name})" if change.application_name else change.login
    role = f" as {change.role}" if change.role else ""
    why = f", because {change.reason}" if change.reason else ""
    return (
        Text.assemble(
            f"{when}  ", (change.subject, "bold"), f"  {_stored(change.old)} → {_stored(change.new)}"
        ),
        Text(f"  by {who}{role}{why}", style="dim"),
    )


def _stored(value: str | None) -> str:
    return "missing" if value is None else repr(value)


def _list(codes: tuple[str, ...]) -> str:
    return ", ".join(codes) or "none"


def _say_preview(apply: bool, as_json: bool) -> None:
    if not apply and not as_json:
        stderr.print("nothing is changed yet; do it with: --apply")
