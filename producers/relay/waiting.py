"""The rows of a tree that the relay has passed over because an earlier one could not be published.

Passed over is what the position on the topic says is dealt with. The three clauses of `_PASSED`
are its negation turned round: `Position.awaits` is what the relay will still come to, and of such
a row nothing is read here, or it would be published twice.

The rows of one tree are read by version. Over several incarnations their versions go on, so that
one number says from where on a tree waits.
"""
# ruff: noqa: S608 - every text here is a constant, put together from constants

from collections.abc import Sequence
from typing import Any, Final, Protocol
from uuid import UUID

import psycopg

from iu_core.database import Connection, translate
from producers.relay.outbox import OutboxRow
from producers.relay.outbox_queries import COLUMNS
from producers.relay.snapshot import Position

# What is read and framed at once; one row may exceed it alone.
BYTES_MAX: Final = 8_000_000

_PASSED: Final = """
    o.aggregate_id = %(tree)s AND o.aggregate_version >= %(from_version)s
    AND (o.id <= %(floor)s
         OR pg_visible_in_snapshot(o.xid, %(settled)s::pg_snapshot)
         OR (o.id <= %(last_id)s AND pg_visible_in_snapshot(o.xid, %(window)s::pg_snapshot)))
"""
_ROWS: Final = f"""
    WITH passed AS MATERIALIZED (
        SELECT o.id, o.aggregate_version AS version, octet_length(o.datum) AS bytes
          FROM public.event_outbox AS o
         WHERE {_PASSED}
         ORDER BY o.incarnation, o.aggregate_version
         LIMIT %(rows_max)s
    ), chunk AS (
        SELECT p.id, sum(p.bytes) OVER (ORDER BY p.version) - p.bytes AS bytes_before FROM passed AS p
    )
    SELECT {COLUMNS}
      FROM chunk
      JOIN public.event_outbox AS o ON o.id = chunk.id
     WHERE chunk.bytes_before < %(bytes_max)s
     ORDER BY o.incarnation, o.aggregate_version
"""
_COUNT: Final = f"SELECT count(*), min(o.aggregate_version) FROM public.event_outbox AS o WHERE {_PASSED}"


class WaitingRows(Protocol):
    """What waits of one tree. Raises `Retryable` when the database is away."""

    def rows(self, tree: UUID, from_version: int, position: Position, rows_max: int) -> Sequence[OutboxRow]:
        """Return the first rows from that version on, in order; at most `rows_max`, and about 8 MB."""

    def count(self, tree: UUID, from_version: int, position: Position) -> tuple[int, int | None]:
        """Return how many rows wait from that version on, and the version of the first."""


class PostgresWaitingRows:
    """`WaitingRows` on a connection in the role `iu_relay`, in autocommit mode."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def rows(self, tree: UUID, from_version: int, position: Position, rows_max: int) -> Sequence[OutboxRow]:
        """Return the first rows from that version on, in order; at most `rows_max`, and about 8 MB."""
        bound = _bound(tree, from_version, position) | {"rows_max": rows_max, "bytes_max": BYTES_MAX}
        try:
            with self._connection.cursor(binary=True) as cursor:
                return [OutboxRow._make(row) for row in cursor.execute(_ROWS, bound)]
        except psycopg.Error as error:
            raise translate(error) from error

    def count(self, tree: UUID, from_version: int, position: Position) -> tuple[int, int | None]:
        """Return how many rows wait from that version on, and the version of the first."""
        try:
            row = self._connection.execute(_COUNT, _bound(tree, from_version, position)).fetchone()
        except psycopg.Error as error:
            raise translate(error) from error
        return (0, None) if row is None else (row[0], row[1])


def _bound(tree: UUID, from_version: int, position: Position) -> dict[str, Any]:
    return {
        "tree": tree,
        "from_version": from_version,
        "floor": position.floor_id,
        "settled": str(position.settled),
        "last_id": position.last_id,
        "window": str(position.window or position.settled),
    }
