"""Gather what database and topic know of one event, and tell it.

Reads only, as role iu_reader. The topic is searched from the event's own time on, in the one
partition its tree is on, and never further than `SCAN_OFFSETS_MAX`; a decision on the event says
the offset at once.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import psycopg

from consumers.explain.life import (
    DeadLetter,
    Decision,
    Event,
    Explanation,
    LiveLane,
    Operation,
    Place,
    RouteLife,
    SwitchThen,
    life_on,
)
from consumers.routes import RouteState, read_routes
from iu_core.bus.ports import BusAdmin, Record, TopicReader
from iu_core.database import Connection, translate
from iu_core.errors import Terminal

SCAN_OFFSETS_MAX: Final = 500_000
_CHUNK_OFFSETS: Final = 2_000
# The relay's clock and the database's may differ; a record is looked for from this much earlier on.
_CLOCK_SLACK_MS: Final = 60_000


def explain(
    connection: Connection, reader: TopicReader, admin: BusAdmin, topic: str, event_ref: UUID
) -> Explanation:
    """Return the life of `event_ref`.

    Raises `Terminal` if neither the outbox nor any decision knows it, `Retryable` if the
    database or the broker is away.
    """
    try:
        event, operation, effect_at = _made(connection, event_ref)
        decisions = _decisions(connection, event_ref)
        letters = _letters(connection, event_ref)
        if event is None and not decisions and not letters:
            raise Terminal(
                f"no event {event_ref} is known",
                why="neither the outbox nor any route's decisions have it",
                remedy="it may have been rolled back; `iu op … --apply` prints the reference of what it made",
            )
        place = None if event is None else _place(reader, admin, topic, event, decisions)
        routes = [
            _on_route(connection, route, topic, place, decisions, letters)
            for route in read_routes(connection)
            if _concerns(route, event, decisions, letters)
        ]
    except psycopg.Error as error:
        raise translate(error) from error
    return Explanation(event_ref, event, operation, place, tuple(routes), effect_at)


def _concerns(
    route: RouteState, event: Event | None, decisions: Sequence[Decision], letters: Sequence[DeadLetter]
) -> bool:
    said = {decision.route_code for decision in decisions} | {letter.route_code for letter in letters}
    return route.route_code in said or (event is not None and event.event_type == route.event_type)


def _on_route(
    connection: Connection,
    route: RouteState,
    topic: str,
    place: Place | None,
    decisions: Sequence[Decision],
    letters: Sequence[DeadLetter],
) -> RouteLife:
    lane = None
    if place is not None:
        row = connection.execute(_LIVE_LANE, (route.route_code, topic, place.partition)).fetchone()
        lane = None if row is None else LiveLane(*row)
    return life_on(
        route,
        place,
        lane,
        tuple(decision for decision in decisions if decision.route_code == route.route_code),
        tuple(letter for letter in letters if letter.route_code == route.route_code),
    )


def _made(connection: Connection, event_ref: UUID) -> tuple[Event | None, Operation | None, datetime | None]:
    row = connection.execute(_EVENT, (event_ref,)).fetchone()
    if row is None:
        return None, None, None
    *event, operation_id, kind, iu_code, actor, reason, effect_at = row
    operation = None if operation_id is None else Operation(operation_id, kind, iu_code, actor, reason)
    return Event(*event), operation, effect_at


def _decisions(connection: Connection, event_ref: UUID) -> tuple[Decision, ...]:
    rows = connection.execute(_DECISIONS, (event_ref,)).fetchall()
    return tuple(Decision(*(*row, _switches_at(connection, row[-1]))) for row in rows)


def _switches_at(connection: Connection, at: datetime) -> tuple[SwitchThen, ...]:
    return tuple(SwitchThen(*row) for row in connection.execute(_THEN, (at,)))


def _letters(connection: Connection, event_ref: UUID) -> tuple[DeadLetter, ...]:
    return tuple(DeadLetter(*row) for row in connection.execute(_LETTERS, (event_ref,)))


def _place(
    reader: TopicReader, admin: BusAdmin, topic: str, event: Event, decisions: Sequence[Decision]
) -> Place | None:
    there = admin.describe(topic)
    if there is None:
        return None
    partition = event.bucket % there.partitions
    start = reader.start_offsets(topic)[partition]
    end = reader.end_offsets(topic, committed=True)[partition]
    for decision in decisions:
        # A decision is a hint and no proof: the topic may have been made again since.
        if decision.partition == partition and start <= decision.offset < end:
            found = _find(reader.read(topic, partition, decision.offset, decision.offset + 1), event)
            if found is not None:
                return found
    since_ms = int(event.occurred_at.timestamp() * 1_000) - _CLOCK_SLACK_MS
    first = reader.offset_at(topic, partition, since_ms)
    if first is None:
        return None
    for low in range(max(first, start), min(end, first + SCAN_OFFSETS_MAX), _CHUNK_OFFSETS):
        found = _find(reader.read(topic, partition, low, min(low + _CHUNK_OFFSETS, end)), event)
        if found is not None:
            return found
    return None


def _find(records: Sequence[Record], event: Event) -> Place | None:
    mark = str(event.event_ref).encode()
    for record in records:
        if record.header("ce_id") == mark:
            published_at = datetime.fromtimestamp(record.timestamp_ms / 1_000, UTC)
            return Place(record.topic, record.partition, record.offset, published_at)
    return None


_EVENT: Final = """
    SELECT e.event_ref, e.event_type, e.schema_version, e.aggregate_id, e.aggregate_version,
           e.incarnation, e.bucket, e.occurred_at, e.pruned_at,
           o.id, o.kind, u.iu_code, o.actor, o.reason,
           (SELECT c.delivered_at FROM public.iu_tree_change_log AS c WHERE c.event_ref = e.event_ref)
      FROM public.iu_event AS e
      LEFT JOIN public.iu_structure_operation AS o ON o.event_ref = e.event_ref
      LEFT JOIN public.information_unit AS u ON u.id = o.subject_id
     WHERE e.event_ref = %s
"""
_DECISIONS: Final = """
    SELECT route_code, lane, decision, final, gate, reason, detail, partition, "offset", at
      FROM public.iu_route_attempt WHERE event_ref = %s ORDER BY id
"""
_LETTERS: Final = """
    SELECT id, route_code, lane, state, sqlstate, reason, detail, schema, partition, "offset",
           octet_length(value), created_at
      FROM public.iu_route_dead_letter WHERE event_ref = %s ORDER BY created_at
"""
_LIVE_LANE: Final = """
    SELECT start_offset, next_offset FROM public.iu_route_offset
     WHERE route_code = %s AND lane = 'live' AND topic = %s AND partition = %s
"""
# How both delivery switches stood at a moment: the newest change before it.
_THEN: Final = """
    SELECT DISTINCT ON (key) key, new_value, login, reason, changed_at
      FROM public.dot_config_audit
     WHERE key IN ('iu_core.delivery_enabled', 'iu_core.delivery_live_routes') AND changed_at <= %s
     ORDER BY key, id DESC
"""
