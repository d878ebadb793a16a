"""The life of one event as values, and what it comes to on each route. No I/O.

A route's verdict is the first that fits, in the order of `Verdict`'s literals: what has happened
outranks what waits, and of what waits the nearest cause is named.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

from consumers.routes import RouteState

Verdict: TypeAlias = Literal[
    "delivered",  # it has had its effect
    "dead-lettered",  # it could not, and is kept whole
    "refused",  # it may not, and will not
    "parked",  # it waits behind a dead letter of its tree
    "unpublished",  # the relay has not written it yet
    "before start",  # the live lane began after it
    "disabled",  # the route is off
    "dry-run",  # the route only decides
    "held",  # a gate is closed, or the route stands still
    "ahead",  # the route has not come to it yet
    "undecided",  # the route has passed it and said nothing: a fault
]


@dataclass(frozen=True, slots=True)
class Event:
    """The row of the outbox, or the stub that was left of it at `pruned_at`."""

    event_ref: UUID
    event_type: str
    schema_version: int
    tree_id: UUID
    aggregate_version: int
    incarnation: int
    bucket: int
    occurred_at: datetime
    pruned_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """The operation that made it: by whom and why."""

    operation_id: UUID
    kind: str
    iu_code: str | None
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where it stands on the topic."""

    topic: str
    partition: int
    offset: int
    published_at: datetime


@dataclass(frozen=True, slots=True)
class SwitchThen:
    """A switch as it stood at some moment, who had set it so, and why."""

    key: str
    value: str | None
    login: str
    reason: str | None
    since: datetime


@dataclass(frozen=True, slots=True)
class Decision:
    """What a route decided about it, and how the switches stood at that moment."""

    route_code: str
    lane: str
    decision: str
    final: bool
    gate: str | None
    reason: str | None
    detail: object
    partition: int
    offset: int
    at: datetime
    switches: tuple[SwitchThen, ...]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The record kept whole; `value_bytes` is its length."""

    id: UUID
    route_code: str
    lane: str
    state: str
    sqlstate: str | None
    reason: str
    detail: object
    schema: str | None
    partition: int
    offset: int
    value_bytes: int | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class LiveLane:
    """Where the live lane of a route stands in the event's partition; None: never claimed."""

    start_offset: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class RouteLife:
    """What the event has come to on one route; `why` in words, `decisions` oldest first."""

    route_code: str
    verdict: Verdict
    why: str
    decisions: tuple[Decision, ...]
    dead_letters: tuple[DeadLetter, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that is known of an event.

    `event` is None if the outbox has no such event and only records that claim to be it are known.
    `place` is None while it is not published. `effect_at` is when its projection row was made.
    """

    event_ref: UUID
    event: Event | None
    operation: Operation | None
    place: Place | None
    routes: tuple[RouteLife, ...]
    effect_at: datetime | None


def life_on(
    route: RouteState,
    place: Place | None,
    lane: LiveLane | None,
    decisions: tuple[Decision, ...],
    letters: tuple[DeadLetter, ...],
) -> RouteLife:
    """Return what the event has come to on `route`, from what is known of both."""
    live = [decision for decision in decisions if decision.lane == "live"]
    live_letters = [letter for letter in letters if letter.lane == "live"]
    verdict, why = _settled(live, live_letters) or _waiting(route, place, lane, decisions)
    return RouteLife(route.route_code, verdict, why, decisions, letters)


def _settled(live: list[Decision], letters: list[DeadLetter]) -> tuple[Verdict, str] | None:
    if any(decision.decision == "sent" for decision in live):
        return "delivered", "it has had its effect, once"
    for letter in letters:
        code = f" [{letter.sqlstate}]" if letter.sqlstate else ""
        if letter.state == "parked":
            return "parked", "it waits behind a dead letter of its tree"
        refused = any(item.decision == "refused" and item.offset == letter.offset for item in live)
        return (
            "refused" if refused else "dead-lettered",
            f"{letter.reason}{code}; kept whole as dead letter {letter.id} ({letter.state})",
        )
    return None


def _waiting(
    route: RouteState, place: Place | None, lane: LiveLane | None, decisions: tuple[Decision, ...]
) -> tuple[Verdict, str]:
    if place is None:
        return "unpublished", "it is not on the topic yet; the relay publishes it: iu relay status"
    if lane is not None and place.offset < lane.start_offset:
        return "before start", f"the live lane began at offset {lane.start_offset}, after it"
    if lane is not None and place.offset < lane.next_offset:
        return "undecided", "the route has gone past it without a decision: iu verify"
    if not route.enabled:
        turn_on = f'iu route enable {route.route_code} --reason "..." --apply'
        return "disabled", f"the route is off; nothing is lost; turn it on with: {turn_on}"
    if route.dry_run:
        planned = any(decision.decision == "dry_run" for decision in decisions)
        return "dry-run", ("decided, not delivered" if planned else "not decided yet") + f"; {route.why}"
    if route.state == "held":
        goes_on = f"; open it with: {route.opens_with}" if route.opens_with else " when the cause is gone"
        return "held", f"{route.why}; nothing is lost, it goes on by itself{goes_on}"
    behind = place.offset - (lane.next_offset if lane else 0)
    return "ahead", f"the route comes to it in {behind} offsets; is a consumer running? iu consumer run"
