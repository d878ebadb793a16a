"""Decide what the consumer of a route does next, from values alone.

The order is the contract: disabled, dry-run lane, gates 1 to 3, deliver. Nothing here
reads a clock, a database or the environment, so each row of the decision table is one
parametrised test. A decision is a value: the ledger, the logs and `iu explain` read
the same one and cannot tell different stories.

A decision saves the database a call that must fail; it permits nothing. A gate may close
a moment later, so the delivering transaction asks all three again, under lock.
"""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

# What a route does with an event whose gates are open: deliver it, or only say so.
Mode: TypeAlias = Literal["live", "plan"]
Gate: TypeAlias = Literal["kill_switch", "allowlist", "target"]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a route delivers: `target_kind` and `target_ref` of `iu_outbound_route`."""

    kind: str
    ref: str


@dataclass(frozen=True, slots=True)
class Route:
    """A registered route, in the mode that its `dry_run` asks for."""

    code: str
    event_type: str
    target: Target
    enabled: bool
    mode: Mode


@dataclass(frozen=True, slots=True)
class Switches:
    """The two `dot_config` values as stored; None where the key is missing or unreadable."""

    delivery_enabled: str | None
    live_routes: str | None


@dataclass(frozen=True, slots=True)
class Idle:
    """The route is disabled or not registered: fetch nothing, claim no partition."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A gate is closed: keep polling, do not advance, lose nothing."""

    gate: Gate
    reason: str


@dataclass(frozen=True, slots=True)
class Deliver:
    """Every gate is open: call the target and commit."""

    target: Target


@dataclass(frozen=True, slots=True)
class Plan:
    """Record what the gates would answer; only the dry-run lane advances."""

    answer: Hold | Deliver


Decision: TypeAlias = Idle | Plan | Hold | Deliver

SUPPORTED_TARGET: Final = Target(kind="sql_function", ref="fn_iu_structure_consumer")


def decide(route: Route | None, switches: Switches) -> Decision:
    """Return the decision that holds for every event of `route` while the inputs stand.

    Inputs:   the route as registered (None: it is not), the switches as stored.
    Outcomes: `Idle` if disabled or not registered; in mode `plan` always `Plan`; else `Hold`
              at the first closed gate, else `Deliver`.
    Errors:   none: a value that makes no sense is a closed gate, not an exception.
    Source:   design/30, "Decisions, in this order".
    """
    if route is None or not route.enabled:
        return Idle()
    answer = ask_gates(route, switches)
    match route.mode:
        case "plan":
            return Plan(answer)
        case "live":
            return answer


def ask_gates(route: Route, switches: Switches) -> Hold | Deliver:
    """Return `Hold` at the first closed gate, `Deliver` when all three are open."""
    # Exactly 'true', as fn_iu_delivery_gate compares it: 'TRUE' and 'true ' are closed.
    if switches.delivery_enabled != "true":
        return Hold("kill_switch", f"iu_core.delivery_enabled is {_as_stored(switches.delivery_enabled)}")
    if route.code not in listed(switches.live_routes):
        return Hold("allowlist", f"{route.code} is not in iu_core.delivery_live_routes")
    if route.target != SUPPORTED_TARGET:
        return Hold("target", f"{route.target.kind} {route.target.ref!r} is not supported")
    return Deliver(route.target)


def listed(live_routes: str | None) -> frozenset[str]:
    """Return the codes in the allowlist, as fn_iu_route_listed reads it: exact, blanks trimmed."""
    return frozenset(code.strip(" ") for code in (live_routes or "").split(",")) - {""}


def _as_stored(value: str | None) -> str:
    return "missing" if value is None else repr(value)
