"""The relay of one shard: one step takes what is committed and not published, and publishes it.

Each step is: snapshot → rows of the window → frame → one Kafka transaction with the events and
the cursor that says so. The cursor in memory moves only after the commit is acknowledged; a
step that fails leaves a relay that must be thrown away, because only the topic knows whether
its last transaction was committed. Nothing is written to the database, ever.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from iu_core.bus.names import BusNames
from iu_core.bus.ports import Outgoing, Topic, TopicReader, TransactionalPublisher
from iu_core.errors import Misconfigured, Terminal
from iu_core.telemetry import get_logger
from producers.relay import cursor as cursors
from producers.relay import recovery
from producers.relay.cursor import Cursor, Layout, Published
from producers.relay.framing import BadRow, Framer
from producers.relay.outbox import Extent, Identity, OutboxReader, OutboxRow, Plan
from producers.relay.snapshot import BEGINNING, Position, Snapshot

log = get_logger(__name__)

# SCAN reads every row between the first and the last id; above this share of strangers TAIL is better.
_SCAN_WASTE_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did. `drained` is false while more is known to be waiting."""

    published: int
    drained: bool


class Relay:
    """Publishes one shard; single-threaded. Build, `start` once, `step` until it raises or you stop."""

    def __init__(
        self,
        *,
        outbox: OutboxReader,
        publisher: TransactionalPublisher,
        reader: TopicReader,
        framer: Framer,
        names: BusNames,
        topic: Topic,
        layout: Layout,
        rows_max: int,
        recovery_timeout_s: float,
        relay_version: str,
        now: Callable[[], datetime],
    ) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._reader = reader
        self._framer = framer
        self._names = names
        self._topic = topic
        self._layout = layout
        self._rows_max = rows_max
        self._recovery_timeout_s = recovery_timeout_s
        self._relay_version = relay_version
        self._now = now
        self._plan = Plan.TAIL
        self._cursor: Cursor | None = None
        self._position = Position()

    @property
    def position(self) -> Position:
        """How far this relay is; ahead of the cursor on the topic by empty windows only."""
        return self._position

    def start(self) -> Cursor:
        """Take the shard over: fence, find the cursor, check it. Returns where publishing starts.

        Raises `Misconfigured` when the cursor belongs to another database or topic, or is
        missing although events are there; `Retryable` while a transaction stays open.
        """
        self._publisher.open()
        found = recovery.find_cursor(
            self._reader, self._names.cursor, self._layout.shard, timeout_s=self._recovery_timeout_s
        )
        identity = self._outbox.identity()
        if found is None:
            cursor = self._first_cursor(identity)
        else:
            highest = found.highest
            event_ref = None if highest is None else self._outbox.event_ref_of(highest.id)
            recovery.refuse(recovery.compare(found, identity, event_ref, self._topic, self._layout))
            if identity.origin.timeline > found.origin.timeline:
                log.info("failover", timeline=identity.origin.timeline, was=found.origin.timeline)
            cursor = replace(found, origin=identity.origin, relay_version=self._relay_version)
        self._cursor, self._position = cursor, cursor.position
        self._plan = self._first_plan(cursor.position)
        return cursor

    def step(self) -> Step:
        """Publish at most `rows_max` rows in one transaction.

        Raises `Terminal` when the next row cannot be published (the rows before it are), and
        whatever the publisher and the outbox raise; after a raise this relay is spent.
        """
        position, lsn = self._position, None
        fresh = position.window is None
        if fresh:
            now, lsn = self._outbox.snapshot()
            if now == position.settled:
                return Step(0, drained=True)
            position = self._open(position, now)
        rows = self._outbox.rows(position, self._plan, self._rows_max)
        framed = self._framer.frame(rows)
        if framed.bad is not None and not framed.events:
            raise _halt(framed.bad)
        through = framed.bad is None and len(rows) < self._rows_max
        if framed.events:
            position = position.advanced(framed.last_id)
        if through:
            position = position.closed()
        if framed.events:
            self._publish(framed.records, framed.events, position, lsn)
        self._position = position
        self._plan = self._next_plan(position, rows)
        # The rest of an older window says nothing about what was committed after it.
        return Step(len(framed.events), drained=fresh and through and not framed.events)

    def _publish(
        self, records: Sequence[Outgoing], events: Sequence[Published], position: Position, lsn: str | None
    ) -> None:
        before = self._started()
        origin = before.origin if lsn is None else replace(before.origin, lsn=lsn)
        after = before.after(events, position, origin, self._now())
        note = Outgoing(
            topic=self._names.cursor,
            partition=self._layout.shard,
            key=cursors.key(self._layout),
            value=cursors.encode(after),
        )
        self._publisher.publish([*records, note])
        self._cursor = after

    def _started(self) -> Cursor:
        if self._cursor is None:
            raise Terminal("the relay was not started", remedy="call start() before step()")
        return self._cursor

    def _open(self, position: Position, now: Snapshot) -> Position:
        try:
            return position.opened(now)
        except ValueError as error:
            raise Misconfigured(
                "the database went back in time",
                why=str(error),
                remedy="compare it with the topic: iu verify",
            ) from error

    def _first_cursor(self, identity: Identity) -> Cursor:
        if recovery.holds_events(self._reader, self._names.events, self._layout):
            raise Misconfigured(
                f"{self._names.events} holds events, but {self._names.cursor} holds no cursor",
                why="starting from the beginning would publish every event a second time",
                remedy="restore the cursor topic, or use an empty events topic: another IU_KAFKA__PREFIX",
            )
        return Cursor(
            sequence=0,
            position=Position(),
            layout=self._layout,
            origin=identity.origin,
            topic=self._topic.name,
            topic_id=self._topic.topic_id,
            relay_version=self._relay_version,
            at=self._now(),
        )

    @staticmethod
    def _first_plan(position: Position) -> Plan:
        return Plan.SCAN if position.settled == BEGINNING else Plan.TAIL

    def _next_plan(self, position: Position, rows: Sequence[OutboxRow]) -> Plan:
        """TAIL, unless a full chunk showed that the window is long and its rows lie together."""
        if position.window is None:
            return Plan.TAIL
        if self._plan is Plan.SCAN or len(rows) < self._rows_max:
            return self._plan
        return choose_plan(self._outbox.extent(position), self._rows_max)


def choose_plan(extent: Extent, rows_max: int) -> Plan:
    """Return the cheaper plan for the rest of a window."""
    span = extent.last_id - extent.first_id + 1
    dense = extent.rows > rows_max and span <= _SCAN_WASTE_MAX * extent.rows
    return Plan.SCAN if dense else Plan.TAIL


def _halt(bad: BadRow) -> Terminal:
    row = bad.row
    return Terminal(
        f"outbox row {row.id} cannot be published: {bad.reason}",
        why=f"event {row.event_ref}, {row.event_type} version {row.schema_version}, tree {row.tree_id}",
        remedy="every row before it is published, none after it; release its contract, then start the relay",
    )
