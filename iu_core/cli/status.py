"""`iu status`: on one screen what is on, what moves, what is held and why."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from consumers import switches
from consumers.routes import RouteState, read_routes
from consumers.switches import Gate, Switches
from iu_core.cli import gate, route
from iu_core.cli.context import Context
from iu_core.cli.output import Json, emit, stdout
from iu_core.database import Role, connect
from iu_core.errors import IUError, Retryable
from producers.relay.status import RelayStatus, ask

WATCH_S = 2.0


@dataclass(frozen=True, slots=True)
class Overview:
    """What the screen shows. `relay` is None while it cannot be asked; `relay_fault` says why, and
    `relay_remedy` what to do."""

    switches: Switches
    routes: tuple[RouteState, ...]
    relay: RelayStatus | None
    relay_fault: str | None = None
    relay_remedy: str | None = None


def command(
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every two seconds.")] = False,
    as_json: Json = False,
) -> None:
    """Show gates, routes and relay on one screen; exit 75 if a part cannot be asked.

    Example: iu status --watch
    """
    context = Context.current()
    if watch and not as_json:
        _watch(lambda: screen(overview(context)))
    found = overview(context)
    emit(found, as_json=as_json, text=lambda: screen(found))
    if found.relay is None:
        raise Retryable("the relay's position is not known", why=found.relay_fault, remedy=found.relay_remedy)


def overview(context: Context) -> Overview:
    """Ask database and broker. Raises what the database's connection raises; a broker may be away."""
    url = context.database_url()
    with connect(
        url, Role.READER, settings=context.settings.database, application_name="iu status"
    ) as connection:
        board = switches.read_switches(connection)
        routes = read_routes(connection)
    try:
        return Overview(board, routes, ask(context.bus_settings(), url))
    except IUError as error:
        return Overview(board, routes, None, str(error), error.remedy)


def screen(found: Overview) -> RenderableType:
    """Return the whole screen."""
    return Group(
        _heading("gates"),
        gate.in_words(found.switches),
        _heading("routes"),
        route.overview(found.routes),
        _heading("relay"),
        _relay(found),
        Text(""),
        _verdict(found),
    )


def _heading(words: str) -> Text:
    return Text(f"\n{words.upper()}", style="bold")


def _relay(found: Overview) -> Text:
    if found.relay is None:
        return Text(f"not known: {found.relay_fault}", style="red")
    return Text("\n".join(found.relay.in_words()))


def _verdict(found: Overview) -> Text:
    """Say in one line what an operator wants to know first."""
    delivery = found.switches.gate(Gate.DELIVERY)
    held = [route.route_code for route in found.routes if route.state == "held"]
    live = [route.route_code for route in found.routes if route.state == "live"]
    dead = sum(route.dead + route.parked for route in found.routes)
    parts = [
        f"delivery is {'OPEN' if delivery.is_open else 'CLOSED'}",
        f"{len(live)} live, {len(held)} held",
        f"{dead} dead or parked",
    ]
    if found.relay is not None:
        pending = found.relay.pending.events
        age = found.relay.oldest_age_s
        parts.append(f"{pending} unpublished" + (f", oldest {age:.1f} s" if age is not None else ""))
        if found.relay.neglected:
            parts.append("NOBODY relays")
    troubled = bool(held or dead or found.relay is None or "NOBODY relays" in parts)
    return Text(" · ".join(parts), style="bold yellow" if troubled else "bold")


def _watch(render: Callable[[], RenderableType]) -> None:
    """Redraw until Ctrl-C, which is the way to end it and no fault."""
    try:
        with Live(render(), console=stdout, auto_refresh=False, screen=stdout.is_terminal) as live:
            while True:
                time.sleep(WATCH_S)
                live.update(render(), refresh=True)
    except KeyboardInterrupt:
        raise typer.Exit from None
