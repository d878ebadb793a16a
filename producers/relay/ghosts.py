"""Hold the events topic against the outbox: what is on the one and not on the other.

A *ghost* is an event on the topic that the database neither has nor has given up: it was
published before the restore took it back. The reverse, an event in the outbox and not on the
topic, is unpublished, as after a restore that brought the topic's past back, or simply not yet.

The topic is read once whole, of each record only its identity, and once more where there are
ghosts and fences. All of it lies in temporary tables of the session, so memory is bounded;
compared is in SQL. Changes nothing that outlives the session.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from iu_core.bus.names import FENCE_TYPE
from iu_core.bus.ports import Record, TopicReader
from iu_core.database import Connection
from iu_core.errors import Retryable
from producers.relay import ghosts_queries as queries
from producers.relay.cursor import Digest
from schemas.catalog import Catalog
from schemas.codec import decode, digest
from schemas.errors import RegistryUnavailable, Undecodable, UnknownSymbol
from schemas.topic_copy import copy_topic, records_between

PAGE: Final = 2_000
TREES_SHOWN: Final = 50
# An event of these tells all of its effect; the others carry digests of texts, not the texts.
REDOABLE: Final = frozenset({"structure_reparented", "structure_piece_deprecated"})


@dataclass(frozen=True, slots=True)
class Ghost:
    """An event on the topic that the database does not have."""

    event_ref: UUID
    event_type: str
    tree_id: UUID
    version: int
    partition: int
    offset: int
    occurred_at: str


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree with ghosts: their versions, and how the tree stands here.

    `version` and `incarnation` are None when the tree is not in the database. `fenced` is the
    incarnation of its last fence on the topic, None if it has none.
    """

    tree_id: UUID
    iu_code: str | None
    ghosts: int
    first_version: int
    last_version: int
    first_incarnation: int
    last_incarnation: int
    event_types: tuple[str, ...]
    version: int | None
    incarnation: int | None
    fenced: int | None

    @property
    def last_valid_version(self) -> int:
        """The version that everybody agrees on; 0: there is none."""
        return self.first_version - 1

    @property
    def incarnation_seen(self) -> int:
        """The highest incarnation that was ever published for it."""
        return max(self.last_incarnation, self.fenced or 1)

    @property
    def next_incarnation(self) -> int:
        """The one in which it goes on if its ghosts are given up."""
        return max(self.incarnation_seen, self.incarnation or 1) + 1

    def obstacle(self) -> str | None:
        """Return why its ghosts cannot be adopted, None if they can."""
        if self.version is None or self.incarnation is None:
            return "it is not in the database: it was made after the backup"
        if self.fenced is not None and self.fenced > self.incarnation:
            return f"its events were given up before: a fence of incarnation {self.fenced} is on the topic"
        if others := sorted(set(self.event_types) - REDOABLE):
            return f"{', '.join(others)}: the event has the digest of a text, not the text"
        if self.version >= self.first_version:
            return f"it has moved on since the restore: version {self.first_version} is taken"
        whole = self.last_version - self.first_version + 1 == self.ghosts
        if self.version + 1 != self.first_version or not whole:
            return f"versions are missing between {self.version} and {self.last_version}"
        if not self.first_incarnation == self.last_incarnation == self.incarnation:
            return f"its ghosts are of another incarnation than {self.incarnation}"
        return None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Topic and outbox, held against each other.

    `unreadable`: records that are no event anybody can read, left to the consumers. `altered`:
    events whose record has other bytes than their row. `left_out`: rows that were passed over on
    purpose or wait for `unblock`. Unpublished rows have ids from `first_id` to `last_id`.
    """

    events: int
    published: int
    ghosts: int
    first_ghost: Ghost | None
    last_ghost: Ghost | None
    trees: tuple[Tree, ...]
    unreadable: int
    altered: int
    unpublished: int
    unpublished_trees: int
    first_id: int | None
    last_id: int | None
    left_out: int


def compare(
    connection: Connection,
    reader: TopicReader,
    topic: str,
    ends: Mapping[int, int],
    blocked: Mapping[UUID, int],
    catalog: Catalog,
    progress: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Compare the records below `ends` with the outbox; `blocked` as in the cursors.

    Once per session, which must be in autocommit mode. Raises as `TopicReader.read` and psycopg do.
    """
    progress(f"reading {sum(ends.values())} offsets of {topic}")
    copy_topic(connection, reader, topic, ends, table="rebase_topic")
    _copy_ghosts(connection, reader, topic, catalog)
    progress("comparing with the outbox")
    published, ghosts, unreadable, altered, events = _one(connection, queries.TOTALS)
    unpublished, trees, first_id, last_id, left_out = leave_out(connection, blocked)
    return Comparison(
        events=events,
        published=published,
        ghosts=ghosts,
        first_ghost=_ghost(connection, "min"),
        last_ghost=_ghost(connection, "max"),
        trees=tuple(map(_tree, connection.execute(queries.TREES.encode()).fetchall())),
        unreadable=unreadable,
        altered=altered,
        unpublished=unpublished,
        unpublished_trees=trees,
        first_id=first_id,
        last_id=last_id,
        left_out=left_out,
    )


def leave_out(connection: Connection, blocked: Mapping[UUID, int]) -> tuple[Any, ...]:
    """Note which rows are not to be published; return (rows, trees, first id, last id) of the others."""
    connection.execute(queries.DROP_LEFT_OUT)
    document = json.dumps({str(tree): version for tree, version in blocked.items()})
    connection.execute(queries.LEFT_OUT, {"blocked": document})
    return _one(connection, queries.UNPUBLISHED)


def chains(connection: Connection) -> dict[int, Digest]:
    """Return what a cursor would keep of each partition, computed from the copy of the topic."""
    found: dict[int, Digest] = {}
    with connection.transaction(), connection.cursor("rebase_chain") as rows:
        rows.itersize = PAGE
        rows.execute(queries.CHAIN.encode())
        for partition, event_ref, payload_digest in rows:
            found[partition] = found.get(partition, Digest()).extended(event_ref, payload_digest)
    return found


def _copy_ghosts(connection: Connection, reader: TopicReader, topic: str, catalog: Catalog) -> None:
    """Read the records that the database does not know once more, and decode them."""
    connection.execute(queries.CREATE_GHOST)
    for (partition,) in connection.execute(queries.PARTITIONS).fetchall():
        above = -1
        while True:
            bound = {"partition": partition, "above": above, "page": PAGE}
            wanted = [row[0] for row in connection.execute(queries.STRANGERS.encode(), bound).fetchall()]
            if not wanted:
                break
            above = wanted[-1]
            strangers = frozenset(wanted)
            records = records_between(reader, topic, partition, wanted[0], above + 1)
            _store(connection, (each for each in records if each.offset in strangers), catalog)
    for statement in queries.PREPARE_GHOST:
        connection.execute(statement.encode())


def _store(connection: Connection, records: Iterable[Record], catalog: Catalog) -> None:
    rows = [row for record in records if (row := _row(record, catalog)) is not None]
    with connection.cursor() as cursor, cursor.copy(queries.COPY_GHOST) as copy:
        for row in rows:
            copy.write_row(row)


def _row(record: Record, catalog: Catalog) -> tuple[Any, ...] | None:
    """Return the row of rebase_ghost, None for a record that is no event of the tree of its key."""
    place = (record.partition, record.offset)
    try:
        tree_id = UUID((record.key or b"").decode("ascii"))
        if record.header("ce_type") == FENCE_TYPE.encode():
            incarnation = int(json.loads(record.value or b"")["incarnation"])
            return (*place, True, None, tree_id, None, None, incarnation, None, None, None)
        event_ref = UUID((record.header("ce_id") or b"").decode("ascii"))
        read = decode(record.value, catalog)
    except (ValueError, KeyError, TypeError, Undecodable, UnknownSymbol, RegistryUnavailable):
        return None
    payload = read.payload
    if payload["event_ref"] != str(event_ref) or payload["tree_id"] != str(tree_id):
        return None
    trace = record.header("traceparent")
    return (
        *place,
        False,
        event_ref,
        tree_id,
        read.event_type,
        payload["aggregate_version"],
        payload["incarnation"],
        digest(read.datum),
        json.dumps(payload, ensure_ascii=False),
        None if trace is None else trace.decode("ascii", "replace"),
    )


def _tree(row: tuple[Any, ...]) -> Tree:
    values: list[Any] = list(row)
    values[7] = tuple(values[7])
    return Tree(*values)


def _ghost(connection: Connection, which: str) -> Ghost | None:
    query = queries.FIRST_AND_LAST_GHOST.format(which=which)
    row = connection.execute(query.encode()).fetchone()
    return None if row is None else Ghost(*row)


def _one(connection: Connection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query.encode()).fetchone()
    if row is None:
        raise Retryable("the database returned nothing where one row is certain")
    return row
