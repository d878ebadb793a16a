"""The registered routes: how each stands and why, and changing that."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import psycopg

from consumers.route.decide import Gate as GateName
from consumers.route.decide import Hold as ClosedGate
from consumers.route.decide import Route, Target, ask_gates, listed
from consumers.route.decide import Switches as StoredSwitches
from iu_core.database import Connection, translate
from iu_core.errors import Terminal

State: TypeAlias = Literal["live", "held", "dry-run", "disabled"]


@dataclass(frozen=True, slots=True)
class OpenHold:
    """An episode in which the route stands still: since when, at which gate, why."""

    lane: str
    gate: str
    reason: str
    opened_at: datetime
    touched_at: datetime


@dataclass(frozen=True, slots=True)
class LanePosition:
    """Where one lane stands in one partition; `next_offset` is the first not decided yet."""

    lane: str
    topic: str
    partition: int
    start_offset: int
    next_offset: int
    owner: str
    recorded_at: datetime | None


@dataclass(frozen=True, slots=True)
class RouteState:
    """A route as it stands. `why` says what a gate would answer where it is not simply live.

    `opens_with` is the command that opens the closed gate; None where none is closed, or no command
    opens it. Counts are of decisions in the ledger; `dead` and `parked` of records that wait for somebody.
    """

    route_code: str
    event_type: str
    target_kind: str
    target_ref: str
    enabled: bool
    dry_run: bool
    allowlisted: bool
    state: State
    why: str
    opens_with: str | None
    holds: tuple[OpenHold, ...]
    sent: int
    planned: int
    refused: int
    failed: int
    dead: int
    parked: int
    last_decision_at: datetime | None


def read_routes(connection: Connection, stored: StoredSwitches | None = None) -> tuple[RouteState, ...]:
    """Return every route, by code; as role `iu_reader`. `stored` None reads the switches too."""
    switches = stored or _stored_switches(connection)
    try:
        rows = connection.execute(_ROUTES).fetchall()
        episodes = connection.execute(_HOLDS).fetchall()
    except psycopg.Error as error:
        raise translate(error) from error
    holds: dict[str, list[OpenHold]] = {}
    for route_code, *episode in episodes:
        holds.setdefault(route_code, []).append(OpenHold(*episode))
    return tuple(_state_of(row, switches, tuple(holds.get(row[0], ()))) for row in rows)


def read_route(connection: Connection, route_code: str) -> RouteState:
    """Return one route. Raises `Terminal` naming the registered ones if there is no such route."""
    routes = read_routes(connection)
    for route in routes:
        if route.route_code == route_code:
            return route
    raise unknown_route(route_code, [route.route_code for route in routes])


def unknown_route(route_code: str, registered: list[str]) -> Terminal:
    """Return the error for a code that no route has."""
    return Terminal(
        f"there is no route {route_code!r}",
        why=f"registered are: {', '.join(registered) or 'none'}",
        remedy="codes are exact and case-sensitive; iu route list shows them",
    )


def read_positions(connection: Connection, route_code: str) -> tuple[LanePosition, ...]:
    """Return where both lanes of a route stand, by partition."""
    try:
        rows = connection.execute(_POSITIONS, (route_code,)).fetchall()
    except psycopg.Error as error:
        raise translate(error) from error
    return tuple(LanePosition(*row) for row in rows)


def set_route(
    connection: Connection, route_code: str, *, enabled: bool, dry_run: bool, reason: str, apply: bool
) -> None:
    """Set a route's state, as role `iu_gatekeeper`; without `apply` everything is rolled back.

    A change that closes is final when this returns, as `consumers.switches.close_gate` is.
    Raises `Refused` if the guard says no, `Terminal` for an unknown route or a missing reason.
    """
    try:
        with connection.transaction(force_rollback=not apply):
            connection.execute("SELECT set_config('iu.reason', %s, true)", (reason,))
            done = connection.execute(
                "UPDATE public.iu_outbound_route SET enabled = %s, dry_run = %s WHERE route_code = %s",
                (enabled, dry_run, route_code),
            )
            if done.rowcount == 0:
                codes = connection.execute("SELECT route_code FROM public.iu_outbound_route ORDER BY 1")
                raise unknown_route(route_code, [code for (code,) in codes])
    except psycopg.Error as error:
        raise translate(error) from error


_ROUTES: Final = """
    SELECT r.route_code, r.event_type, r.target_kind, r.target_ref, r.enabled, r.dry_run,
           coalesce(a.sent, 0), coalesce(a.planned, 0), coalesce(a.refused, 0), coalesce(a.failed, 0),
           coalesce(d.dead, 0), coalesce(d.parked, 0), a.last_at
      FROM public.iu_outbound_route AS r
      LEFT JOIN (SELECT route_code, count(*) FILTER (WHERE decision = 'sent') AS sent,
                        count(*) FILTER (WHERE decision = 'dry_run') AS planned,
                        count(*) FILTER (WHERE decision = 'refused') AS refused,
                        count(*) FILTER (WHERE decision = 'failed') AS failed, max(at) AS last_at
                   FROM public.iu_route_attempt GROUP BY route_code) AS a USING (route_code)
      LEFT JOIN (SELECT route_code, count(*) FILTER (WHERE state = 'dead') AS dead,
                        count(*) FILTER (WHERE state = 'parked') AS parked
                   FROM public.iu_route_dead_letter GROUP BY route_code) AS d USING (route_code)
     ORDER BY r.route_code
"""
_HOLDS: Final = """
    SELECT route_code, lane, gate, reason, opened_at, touched_at
      FROM public.iu_route_hold WHERE closed_at IS NULL ORDER BY route_code, lane
"""
_POSITIONS: Final = """
    SELECT lane, topic, partition, start_offset, next_offset, owner, recorded_at
      FROM public.iu_route_offset WHERE route_code = %s ORDER BY lane, topic, partition
"""


def _stored_switches(connection: Connection) -> StoredSwitches:
    try:
        rows = connection.execute("SELECT key, value FROM public.dot_config").fetchall()
    except psycopg.Error as error:
        raise translate(error) from error
    values: dict[str, str] = dict(rows)
    return StoredSwitches(values.get("iu_core.delivery_enabled"), values.get("iu_core.delivery_live_routes"))


def _state_of(row: tuple[Any, ...], switches: StoredSwitches, holds: tuple[OpenHold, ...]) -> RouteState:
    code, event_type, kind, ref, enabled, dry_run, *counts = row
    route = Route(str(code), str(event_type), Target(str(kind), str(ref)), bool(enabled), "live")
    answer = ask_gates(route, switches)
    closed = answer.reason if isinstance(answer, ClosedGate) else None
    opens_with = _opens(answer.gate, route.code) if isinstance(answer, ClosedGate) else None
    state: State
    if not enabled:
        state, why = "disabled", "its consumers fetch nothing"
    elif dry_run:
        state, why = "dry-run", f"live it would hold: {closed}" if closed else "live it would deliver"
    elif closed:
        state, why = "held", closed
    elif live := next((hold for hold in holds if hold.lane == "live"), None):
        state, why = "held", f"{live.gate}: {live.reason}"
    else:
        state, why = "live", "every gate is open"
    return RouteState(
        route.code, route.event_type, route.target.kind, route.target.ref,
        bool(enabled), bool(dry_run), route.code in listed(switches.live_routes), state, why, opens_with,
        holds, *counts,
    )  # fmt: skip


def _opens(gate: GateName, route_code: str) -> str | None:
    match gate:
        case "kill_switch":
            return 'iu gate open delivery --reason "..." --apply'
        case "allowlist":
            return f'iu gate allow {route_code} --reason "..." --apply'
        case "target":
            return None
