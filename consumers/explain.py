"""The whole life of one event: operation, outbox, topic, decisions, effect.

Read as role `iu_reader`; changes nothing. Every part is what was written down at the time, so a
story can be told of an event whose gates have changed since.
Source: design/30, "Rebuild, replay, verify", `explain`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import psycopg

from consumers.routes import RouteState, read_routes
from iu_core.bus.names import BusNames
from iu_core.bus.ports import BusAdmin, Record, TopicReader
from iu_core.database import Connection, translate
from iu_core.errors import IUError, Terminal

# A record is younger than its event by the relay's delay; clocks may differ by this much the other way.
_CLOCK_SKEW_MS: Final = 60_000
_CHUNK_OFFSETS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Origin:
    """The operation that made the event, and the outbox row it left."""

    event_ref: UUID
    event_type: str
    tree_id: UUID
    aggregate_version: int
    outbox_id: int
    occurred_at: datetime
    operation: str | None
    subject: str | None
    actor: str | None
    reason: str | None
    bucket: int


@dataclass(frozen=True, slots=True)
class Publication:
    """Where the event stands on the topic; `published_at` is the record's timestamp."""

    topic: str
    partition: int
    offset: int
    published_at: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """One decision, and who had set the kill switch to what at that moment."""

    at: datetime
    lane: str
    decision: str
    final: bool
    gate: str | None
    reason: str | None
    partition: int
    offset: int
    switch_value: str | None
    switch_set_by: str | None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The event as it was kept when it could not be delivered."""

    id: UUID
    lane: str
    state: str
    created_at: datetime
    sqlstate: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class RouteStory:
    """What one route made of the event, in words (`stands`) and in rows."""

    route_code: str
    stands: str
    attempts: tuple[Attempt, ...]
    dead_letters: tuple[DeadLetter, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The story of an event. `publication` is None while it is not on the topic or the broker is away."""

    origin: Origin
    publication: Publication | None
    publication_note: str | None
    projected_at: datetime | None
    routes: tuple[RouteStory, ...]


@dataclass(frozen=True, slots=True)
class Bus:
    """The broker as this module needs it."""

    reader: TopicReader
    admin: BusAdmin
    names: BusNames


def explain(connection: Connection, bus: Bus, event_ref: UUID) -> Explanation:
    """Return the story of `event_ref`. Raises `Terminal` (IU001) if the outbox has no such event.

    A broker that is away costs the part about the topic, not the story.
    """
    try:
        origin = _origin(connection, event_ref)
        attempts = _grouped(connection, _ATTEMPTS, event_ref, Attempt)
        letters = _grouped(connection, _DEAD_LETTERS, event_ref, DeadLetter)
        positions = connection.execute(_POSITIONS, {"topic": bus.names.events}).fetchall()
        projected = connection.execute(_PROJECTED, (event_ref,)).fetchone()
    except psycopg.Error as error:
        raise translate(error) from error
    note: str | None = None
    publication: Publication | None = None
    try:
        publication = _publication(bus, origin)
        note = None if publication else "not published yet: the relay has not reached it"
    except IUError as error:
        note = f"the broker cannot be asked: {error}"
    live = {(code, partition): (start, following) for code, partition, start, following in positions}
    routes = tuple(
        RouteStory(
            route.route_code,
            _stands(
                route,
                attempts.get(route.route_code, ()),
                letters.get(route.route_code, ()),
                publication,
                live.get((route.route_code, publication.partition)) if publication else None,
            ),
            attempts.get(route.route_code, ()),
            letters.get(route.route_code, ()),
        )
        for route in read_routes(connection)
        if route.event_type == origin.event_type
    )
    return Explanation(origin, publication, note, projected[0] if projected else None, routes)


_ORIGIN: Final = """
    SELECT e.event_ref, e.event_type, e.aggregate_id, e.aggregate_version, e.id, e.occurred_at,
           o.kind, u.iu_code, o.actor, o.reason, e.bucket
      FROM public.event_outbox AS e
      LEFT JOIN public.iu_structure_operation AS o ON o.event_ref = e.event_ref
      LEFT JOIN public.information_unit AS u ON u.id = o.subject_id
     WHERE e.event_ref = %s
"""
# The kill switch as it stood: the newest entry of the audit trail before the decision.
_ATTEMPTS: Final = """
    SELECT a.route_code, a.at, a.lane, a.decision, a.final, a.gate, a.reason, a.partition, a."offset",
           s.new_value, s.login
      FROM public.iu_route_attempt AS a
      LEFT JOIN LATERAL (
        SELECT c.new_value, c.login FROM public.dot_config_audit AS c
         WHERE c.key = 'iu_core.delivery_enabled' AND c.changed_at <= a.at
         ORDER BY c.changed_at DESC LIMIT 1) AS s ON true
     WHERE a.event_ref = %s ORDER BY a.at, a.id
"""
_DEAD_LETTERS: Final = """
    SELECT route_code, id, lane, state, created_at, sqlstate, reason
      FROM public.iu_route_dead_letter WHERE event_ref = %s ORDER BY created_at
"""
_POSITIONS: Final = """
    SELECT route_code, partition, start_offset, next_offset
      FROM public.iu_route_offset WHERE lane = 'live' AND topic = %(topic)s
"""
_PROJECTED: Final = "SELECT delivered_at FROM public.iu_tree_change_log WHERE event_ref = %s"


def _origin(connection: Connection, event_ref: UUID) -> Origin:
    row = connection.execute(_ORIGIN, (event_ref,)).fetchone()
    if row is None:
        raise Terminal(
            f"there is no event {event_ref}",
            why="the outbox of this database does not hold it",
            remedy="check the reference, and which database IU_DATABASE_URL names",
            code="IU001",
        )
    return Origin(*row)


def _grouped(
    connection: Connection, query: str, event_ref: UUID, row_type: type[Any]
) -> dict[str, tuple[Any, ...]]:
    """Return the rows of `query` as `row_type`, by their first column, the route."""
    found: dict[str, tuple[Any, ...]] = {}
    for route_code, *row in connection.execute(query.encode(), (event_ref,)):
        found[route_code] = (*found.get(route_code, ()), row_type(*row))
    return found


def _publication(bus: Bus, origin: Origin) -> Publication | None:
    """Find the record: the time of the event gives the place to begin, its header ends the search."""
    topic = bus.admin.describe(bus.names.events)
    if topic is None:
        return None
    partition = origin.bucket % topic.partitions
    since_ms = int(origin.occurred_at.timestamp() * 1_000) - _CLOCK_SKEW_MS
    start = bus.reader.offset_at(topic.name, partition, since_ms)
    if start is None:
        return None
    end = bus.reader.end_offsets(topic.name, committed=True)[partition]
    wanted = str(origin.event_ref).encode()
    for low in range(start, end, _CHUNK_OFFSETS):
        found = _first_with(
            bus.reader.read(topic.name, partition, low, min(low + _CHUNK_OFFSETS, end)), wanted
        )
        if found is not None:
            published_at = datetime.fromtimestamp(found.timestamp_ms / 1_000, UTC)
            return Publication(topic.name, partition, found.offset, published_at)
    return None


def _first_with(records: Sequence[Record], event_ref: bytes) -> Record | None:
    return next((record for record in records if record.header("ce_id") == event_ref), None)


def _stands(
    route: RouteState,
    attempts: Sequence[Attempt],
    letters: Sequence[DeadLetter],
    publication: Publication | None,
    live: tuple[int, int] | None,
) -> str:
    """Say where the event stands on this route; the first rule that fits, as `verify` counts them."""
    if sent := next((attempt for attempt in attempts if attempt.decision == "sent"), None):
        return f"delivered {_clock(sent.at)}"
    if letter := next((letter for letter in letters if letter.lane == "live"), None):
        return f"{letter.state}: {letter.reason} (dead letter {letter.id})"
    if refused := next((a for a in attempts if a.lane == "live" and a.final), None):
        return f"refused {_clock(refused.at)}: {refused.reason}"
    planned = [attempt for attempt in attempts if attempt.decision == "dry_run"]
    beside = f"; dry-run decided {_clock(planned[-1].at)}" if planned else ""
    if publication is None:
        return f"not there yet{beside}"
    if live is not None and publication.offset < live[0]:
        return f"before the start of the live lane, which began at offset {live[0]}{beside}"
    if live is not None and publication.offset < live[1]:
        return f"UNDECIDED: the live lane has passed it, at {live[1]}, and left no decision{beside}"
    behind = "" if live is None else f", {publication.offset - live[1]} offsets after its position {live[1]}"
    hold = next((hold for hold in route.holds if hold.lane == "live"), None)
    if route.state == "held":
        since = "" if hold is None else f" since {_clock(hold.opened_at)}"
        return f"held{since}: {route.why}{behind}{beside}"
    if route.state == "live":
        return f"waiting: the live lane has not reached it{behind}{beside}"
    return f"ahead: the route is {route.state}, {route.why}{beside}"


def _clock(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
