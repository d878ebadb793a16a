"""The relay of one shard: one step takes what is committed and not published, and publishes it.

Each step is: snapshot → rows of the window → frame → one Kafka transaction with the events, the
dead letters, and the cursor that says so. While there is a backlog the next chunk is read and
framed, in a thread, while this one is being committed; it builds on a cursor that is not committed
yet, and is thrown away with everything else if that commit fails.

The cursor counts as ours only after the commit is acknowledged; a step that fails leaves a relay
that must be thrown away, because only the topic knows whether its last transaction was committed.
Nothing is written to the database, ever.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from iu_core.bus.names import BusNames
from iu_core.bus.ports import Outgoing, Topic, TopicReader, TransactionalPublisher
from iu_core.errors import Fenced, Misconfigured, Terminal
from iu_core.telemetry import get_logger
from producers.relay import cursor as cursors
from producers.relay import recovery
from producers.relay.cursor import Cursor, Layout
from producers.relay.framing import BadRow, Framed, Framer
from producers.relay.outbox import Extent, Identity, OutboxReader, OutboxRow, Plan
from producers.relay.sizing import TransactionSizer
from producers.relay.snapshot import BEGINNING, Position, Snapshot

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did: events published, rows that became dead letters, rows whose tree waits.

    `drained` is false while more is known to be waiting. `newest_us` is when the last row of the chunk
    occurred, in microseconds since 1970-01-01 UTC; None: there was no row.
    """

    published: int
    drained: bool
    dead: int = 0
    waiting: int = 0
    newest_us: int | None = None


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Rows read and framed. `cursor` is the one to be committed with them, or, where nothing is to be
    published, the one before with the position moved."""

    cursor: Cursor
    plan: Plan
    framed: Framed | None
    rows: int
    asked: int
    drained: bool
    more: bool
    began_s: float
    newest_us: int | None = None


class Relay:
    """Publishes one shard; called from one thread. Build, `start` once, `step` until it raises or you stop.

    `read_ahead` reads the next chunk in a thread of its own; `close` ends that before the outbox
    is closed. `observe` is told the name of each stage as it begins; tests die there.
    """

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
        sizer: TransactionSizer,
        recovery_timeout_s: float,
        relay_version: str,
        now: Callable[[], datetime],
        clock_s: Callable[[], float] = time.monotonic,
        read_ahead: bool = True,
        observe: Callable[[str], None] = lambda _stage: None,
    ) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._reader = reader
        self._framer = framer
        self._names = names
        self._topic = topic
        self._layout = layout
        self._sizer = sizer
        self._recovery_timeout_s = recovery_timeout_s
        self._relay_version = relay_version
        self._now = now
        self._clock_s = clock_s
        self._observe = observe
        self._cursor: Cursor | None = None
        self._plan = Plan.TAIL
        self._reading = ThreadPoolExecutor(1, "relay-reading") if read_ahead else None
        self._ahead: Future[_Chunk] | None = None
        self._committed_s = float("-inf")

    @property
    def position(self) -> Position:
        """How far this relay is; ahead of the cursor on the topic by empty windows only."""
        return self._started().position

    @property
    def blocked(self) -> Mapping[UUID, int]:
        """The trees that wait, and the version each waits from."""
        return self._started().blocked

    def start(self, *, resharding: bool = False) -> Cursor:
        """Take the shard over: fence, find the cursor, check it. Returns where publishing starts.

        Raises `Misconfigured` when the cursor belongs to another database or topic, is sealed
        (unless `resharding`), or is missing although events are there; `Retryable` while a
        transaction stays open.
        """
        self._publisher.open()
        self._observe("recovering")
        found = self._find_cursor()
        self._observe("comparing")
        identity = self._outbox.identity()
        if found is None:
            cursor = self._first_cursor(identity)
        else:
            if not resharding:
                recovery.refuse_sealed(found)
            highest = found.highest
            event_ref = None if highest is None else self._outbox.event_ref_of(highest.id)
            recovery.refuse(recovery.compare(found, identity, event_ref, self._topic, self._layout))
            if identity.origin.timeline > found.origin.timeline:
                log.info("failover", timeline=identity.origin.timeline, was=found.origin.timeline)
            cursor = replace(found, origin=identity.origin, relay_version=self._relay_version)
        self._cursor, self._plan = cursor, self._first_plan(cursor.position)
        return cursor

    def step(self) -> Step:
        """Publish one chunk in one transaction.

        Raises `Terminal` when the next row cannot be published and its policy is to halt (the rows
        before it are published), and whatever the publisher and the outbox raise; after a raise this
        relay is spent.
        """
        self._observe("reading")
        chunk = self._next_chunk()
        framed = chunk.framed
        if framed is None:
            self._cursor, self._plan = chunk.cursor, chunk.plan
            return Step(0, drained=True)
        if framed.halt is not None and not framed.writes:
            raise _halt(framed.halt)
        if chunk.more:
            self._read_ahead(chunk)
        if framed.writes:
            self._observe("publishing")
            self._publisher.publish([*framed.sections, *framed.letters, self._note(chunk.cursor)])
            self._observe("published")
            committed_s = self._clock_s()
            if chunk.more:
                # Read ahead, a chunk was begun while the one before it was still being committed.
                self._sizer.note(chunk.asked, committed_s - max(chunk.began_s, self._committed_s))
            self._committed_s = committed_s
        self._cursor, self._plan = chunk.cursor, chunk.plan
        return Step(framed.published, chunk.drained, framed.dead, framed.waiting, chunk.newest_us)

    def close(self) -> None:
        """End reading ahead; what was read is dropped. Idempotent."""
        if self._reading is not None:
            self._reading.shutdown(wait=True, cancel_futures=True)

    def _next_chunk(self) -> _Chunk:
        ahead, self._ahead = self._ahead, None
        return self._read(self._started(), self._plan, self._sizer.rows) if ahead is None else ahead.result()

    def _read_ahead(self, chunk: _Chunk) -> None:
        if self._reading is not None:
            self._ahead = self._reading.submit(self._read, chunk.cursor, chunk.plan, self._sizer.rows)

    def _read(self, before: Cursor, plan: Plan, rows_max: int) -> _Chunk:
        """Read and frame what follows `before`, which need not be committed yet."""
        began_s, position, origin = self._clock_s(), before.position, before.origin
        fresh = position.window is None
        if fresh:
            now, lsn = self._outbox.snapshot(position.settled)
            if now == position.settled:
                return _Chunk(before, plan, None, 0, rows_max, drained=True, more=False, began_s=began_s)
            position, origin = self._open(position, now), replace(origin, lsn=lsn)
        rows = self._outbox.rows(position, plan, rows_max)
        framed = self._framer.frame(rows, before)
        through = framed.halt is None and len(rows) < rows_max
        if framed.last_id is not None:
            position = position.advanced(framed.last_id)
        if through:
            position = position.closed()
        if framed.writes:
            cursor = before.after(
                digests=framed.digests,
                highest=framed.highest,
                blocked=framed.blocked,
                position=position,
                origin=origin,
                at=self._now(),
            )
        else:
            cursor = replace(before, position=position)
        return _Chunk(
            cursor,
            self._next_plan(position, plan, rows, rows_max),
            framed,
            len(rows),
            rows_max,
            # The rest of an older window says nothing about what was committed after it.
            drained=fresh and through and not rows,
            more=not through,
            began_s=began_s,
            newest_us=rows[-1].occurred_us if rows else None,
        )

    def _note(self, cursor: Cursor) -> Outgoing:
        return Outgoing(
            topic=self._names.cursor,
            partition=self._layout.shard,
            key=cursors.key(self._layout),
            value=cursors.encode(cursor),
        )

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
                remedy="compare it with the topic: iu relay rebase",
            ) from error

    def _find_cursor(self) -> Cursor | None:
        return recovery.find_cursor(
            self._reader, self._names.cursor, self._layout.shard, timeout_s=self._recovery_timeout_s
        )

    def _first_cursor(self, identity: Identity) -> Cursor:
        if recovery.holds_events(self._reader, self._names.events, self._layout):
            if self._find_cursor() is not None:
                raise Fenced(
                    f"another relay has begun to publish shard {self._layout.shard}",
                    why="there was no cursor a moment ago, and now there is one",
                    remedy="nothing: the other relay publishes; start this one again to have a standby",
                )
            raise Misconfigured(
                f"{self._names.events} holds events, but {self._names.cursor} holds no cursor",
                why="starting from the beginning would publish every event a second time",
                remedy="iu relay rebase finds out what is published; or restore the cursor topic",
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

    def _next_plan(self, position: Position, plan: Plan, rows: Sequence[OutboxRow], rows_max: int) -> Plan:
        """TAIL, unless a full chunk showed that the window is long and its rows lie together."""
        if position.window is None:
            return Plan.TAIL
        if plan is Plan.SCAN or len(rows) < rows_max:
            return plan
        return choose_plan(self._outbox.extent(position), rows_max)


def choose_plan(extent: Extent, rows_max: int) -> Plan:
    """Return the cheaper plan for the rest of a window.

    SCAN passes every row between the first and the last id once. TAIL collects all ids of the
    window anew for each chunk.
    """
    span = extent.last_id - extent.first_id + 1
    chunks = extent.rows / rows_max
    return Plan.SCAN if chunks > 1 and span <= chunks * extent.rows else Plan.TAIL


def _halt(bad: BadRow) -> Terminal:
    row = bad.row
    event = f"event {row.ref_text.decode()}, {row.event_type} version {row.schema_version}"
    return Terminal(
        f"outbox row {row.id} cannot be published: {bad.detail}",
        why=f"{event}, tree {row.tree_id}; the policy of its event type is to halt",
        remedy="every row before it is published, none after it; release its contract and start the relay, "
        "or let its tree alone wait: IU_RELAY__BAD_ROWS=block_tree",
    )
