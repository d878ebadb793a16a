"""Read the outbox on the primary: snapshots, the rows of a window, and which database this is.

Two plans answer the same question. TAIL collects the few rows of a small window through the
index (xid, id); one `OR … ORDER BY id LIMIT` in their place walks the primary key (500 times
slower at 500k rows, design/20). SCAN walks the primary key on purpose: right for the first
backlog and for a long window whose rows lie together.

The questions themselves stand in `outbox_queries`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

import psycopg

from iu_core.database import Connection, translate
from iu_core.errors import Misconfigured, Retryable
from producers.relay import outbox_queries
from producers.relay.cursor import Layout, Origin
from producers.relay.snapshot import BEGINNING, Position, Snapshot

# 2000-01-01, where PostgreSQL counts from, in microseconds of Unix time.
_POSTGRES_EPOCH_US: Final = 946_684_800_000_000


class OutboxRow(NamedTuple):
    """One row of `event_outbox` as the wire needs it, without its payload: the datum is what is published.

    Bytes wherever bytes are what goes out; the server writes the two names out (`ref_text`,
    `tree_text`, ASCII) more cheaply than Python would. `occurred_at` is microseconds since 2000-01-01
    UTC in eight bytes, big-endian, as PostgreSQL sends it.
    """

    id: int
    event_ref: bytes
    ref_text: bytes
    event_type: str
    schema_version: int
    tree_text: bytes
    tree_version: int
    incarnation: int
    bucket: int
    datum: bytes
    payload_digest: bytes
    traceparent: bytes | None
    occurred_at: bytes

    @property
    def tree_id(self) -> UUID:
        """The tree."""
        return UUID(self.tree_text.decode())

    @property
    def occurred_us(self) -> int:
        """When the event was made, in microseconds since 1970-01-01 UTC."""
        return int.from_bytes(self.occurred_at, "big", signed=True) + _POSTGRES_EPOCH_US


@dataclass(frozen=True, slots=True)
class Identity:
    """Which database this is, and how far it has come. `last_id` is the identity's last value."""

    origin: Origin
    last_id: int
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Extent:
    """What is still to be published of a window: number of rows, smallest and largest id."""

    rows: int
    first_id: int
    last_id: int


@dataclass(frozen=True, slots=True)
class Pending:
    """What is committed and not published: number of events, and when the oldest occurred."""

    events: int
    oldest_at: datetime | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """`Pending` for a dashboard: counted up to a limit; the age in seconds, by the server's clock."""

    events: int
    oldest_age_s: float


class Plan(Enum):
    """How the rows of a window are looked up."""

    TAIL = "tail"
    SCAN = "scan"


class OutboxReader(Protocol):
    """What the relay asks of the database. Every call is bounded by the statement time-out.

    Raises `Retryable` when the database is away or busy, `Misconfigured` when it is not ours.
    """

    def identity(self) -> Identity:
        """Say which database this is. Raises `Misconfigured` on a standby or without an outbox."""

    def event_ref_of(self, row_id: int) -> UUID | None:
        """Return the event_ref of a row, None if there is none of that id."""

    def snapshot(self, settled: Snapshot = BEGINNING) -> tuple[Snapshot, str]:
        """Return the current snapshot as of the newest row, and the LSN up to which the WAL is flushed.

        What lies after the newest row, or after `settled` if there is no row any more, a crash may
        take back: it counts as still to come.
        """

    def rows(self, position: Position, plan: Plan, rows_max: int) -> Sequence[OutboxRow]:
        """Return the next rows of the open window, by id; fewer than `rows_max` means the last."""

    def extent(self, position: Position) -> Extent:
        """Return how much of the open window is still to be published."""

    def pending(self, position: Position | None) -> Pending:
        """Return what is committed by now and not published; None: nothing ever was."""

    def close(self) -> None:
        """Disconnect. Idempotent."""


class PostgresOutbox:
    """`OutboxReader` on a connection in the role `iu_relay`, in autocommit mode."""

    def __init__(self, connection: Connection, layout: Layout) -> None:
        self._connection = connection
        self._layout = layout
        with _translated():
            connection.execute(outbox_queries.BY_INDEX)
        self._seen, self._newest = "", 0

    def identity(self) -> Identity:
        """Say which database this is. Raises `Misconfigured` on a standby or without an outbox."""
        with _translated():
            standby, outbox_oid, database_oid, system_identifier = self._one(outbox_queries.PLACE)
            if outbox_oid is None:
                raise Misconfigured(
                    "there is no event_outbox", why="this database is not migrated", remedy="iu db up"
                )
            if standby:
                raise Misconfigured(
                    "this is a standby",
                    why="its snapshots leave out transactions in progress: events would be lost",
                    remedy="let IU_DATABASE_URL name the primary (target_session_attrs=read-write)",
                )
            timeline, last_id = self._one(outbox_queries.PROGRESS)
            text, lsn = self._one(outbox_queries.SNAPSHOT)
        origin = Origin(system_identifier, int(timeline, 16), lsn, database_oid, outbox_oid)
        return Identity(origin, last_id, Snapshot.parse(text))

    def event_ref_of(self, row_id: int) -> UUID | None:
        """Return the event_ref of a row, None if there is none of that id."""
        with _translated():
            found = self._connection.execute(outbox_queries.EVENT_REF, (row_id,)).fetchone()
        return None if found is None else found[0]

    def snapshot(self, settled: Snapshot = BEGINNING) -> tuple[Snapshot, str]:
        """Return the current snapshot as of the newest row, and the LSN up to which the WAL is flushed.

        What lies after the newest row, or after `settled` if there is no row any more, a crash may
        take back: it counts as still to come.
        """
        with _translated():
            text, lsn, newest = self._one(outbox_queries.SNAPSHOT_AND_NEWEST, {"before": self._seen})
        if text != self._seen:
            self._seen, self._newest = text, newest or 0
        return Snapshot.parse(text).as_of(max(self._newest, settled.xmax - 1)), lsn

    def rows(self, position: Position, plan: Plan, rows_max: int) -> Sequence[OutboxRow]:
        """Return the next rows of the open window, by id; fewer than `rows_max` means the last."""
        query = outbox_queries.TAIL if plan is Plan.TAIL else outbox_queries.SCAN
        bound = self._parameters(position) | {"rows_max": rows_max}
        with _translated(), self._connection.cursor(binary=True, row_factory=_outbox_row) as cursor:
            return cursor.execute(query, bound).fetchall()

    def extent(self, position: Position) -> Extent:
        """Return how much of the open window is still to be published."""
        with _translated():
            return Extent(*self._one(outbox_queries.EXTENT, self._parameters(position)))

    def pending(self, position: Position | None) -> Pending:
        """Return what is committed by now and not published; None: nothing ever was."""
        position = position or Position()
        bound = self._parameters(position) | {"floor": position.floor_id}
        with _translated():
            return Pending(*self._one(outbox_queries.PENDING, bound))

    def backlog(self, position: Position, rows_max: int) -> Backlog:
        """Return what is committed by now and not published, counted no further than `rows_max`."""
        bound = self._parameters(position) | {"floor": position.floor_id, "rows_max": rows_max}
        with _translated():
            return Backlog(*self._one(outbox_queries.BACKLOG, bound))

    def close(self) -> None:
        """Disconnect. Idempotent."""
        self._connection.close()

    def _one(self, query: str, bound: dict[str, Any] | None = None) -> tuple[Any, ...]:
        row = self._connection.execute(query, bound).fetchone()
        if row is None:
            raise Retryable("the database returned nothing where one row is certain")
        return row

    def _parameters(self, position: Position) -> dict[str, Any]:
        window = position.window or position.settled
        return {
            "settled_xmax": str(position.settled.xmax),
            "settled_xip": [str(xid) for xid in position.settled.xip],
            "window": str(window),
            "window_xmax": str(window.xmax),
            "above": position.ids_above,
            "partitions": self._layout.partitions,
            "shards": self._layout.shards,
            "shard": self._layout.shard,
        }


def _outbox_row(_: Any) -> Callable[[Sequence[Any]], OutboxRow]:
    return OutboxRow._make


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate in ("42501", "42P01"):
            raise Misconfigured(
                "the relay may not read the outbox",
                why=error.diag.message_primary,
                remedy="iu db up, which also sets the rights of iu_relay",
                code=error.sqlstate,
            ) from error
        raise translate(error) from error
