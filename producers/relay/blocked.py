"""Which trees wait, and for what: the cursors of all shards, joined with their dead letters.

A tree waits if the cursor says so; the letter says why. A blocked version without an open letter
is what an `unblock` leaves that was ended in the middle: everything before it is published.

Reads committed records only and opens no producer, so it fences nobody.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import psycopg

from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.kafka_reader import KafkaTopicReader
from iu_core.bus.names import BusNames
from iu_core.bus.ports import BusAdmin, TopicReader
from iu_core.database import Connection, Role, connect, translate
from iu_core.settings import Settings
from producers.relay import recovery
from producers.relay.cursor import Cursor
from producers.relay.dead_letters import record_all

# The newest open letter that holds the tree back at this version, and what was written behind it.
_WAITING: Final = """
    SELECT asked.tree_id, letter.event_ref, letter.event_type, letter.schema_version, letter.outbox_id,
           letter.recorded_at, letter.reason, letter.detail,
           (SELECT count(*) FROM public.event_outbox AS o
             WHERE o.aggregate_id = asked.tree_id AND o.aggregate_version > asked.version)
      FROM unnest(%s::uuid[], %s::bigint[]) AS asked (tree_id, version)
      LEFT JOIN LATERAL (
            SELECT l.* FROM public.iu_relay_dead_letter AS l
             WHERE l.state = 'blocked' AND l.tree_id = asked.tree_id AND l.aggregate_version = asked.version
             ORDER BY l.incarnation DESC LIMIT 1) AS letter ON true
"""


@dataclass(frozen=True, slots=True)
class Letter:
    """The dead letter a tree waits for. `since` is when the relay met the row."""

    event_ref: UUID
    event_type: str
    schema_version: int
    outbox_id: int
    since: datetime
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class BlockedTree:
    """A tree whose events wait from `from_version` on.

    `letter` is None while an unblocking that was ended in the middle waits to be run again.
    `later_events` counts the committed events of the tree behind that version.
    """

    tree_id: UUID
    shard: int
    from_version: int
    letter: Letter | None
    later_events: int


def blocked_trees(settings: Settings, database_url: str) -> tuple[BlockedTree, ...]:
    """Fill the table of dead letters, then return every tree that waits, the longest first.

    Raises `Retryable` if the broker or the database is away, `Terminal` on a letter that is not whole.
    """
    names, name = BusNames(settings.kafka.prefix), "iu-relay-blocked"
    with ExitStack() as opened:
        admin = KafkaAdmin(settings, name)
        opened.callback(admin.close)
        reader = KafkaTopicReader(settings, name)
        opened.callback(reader.close)
        cursors = newest_cursors(admin, reader, names.cursor)
        with connect(
            database_url, Role.RELAY, settings=settings.database, application_name=name
        ) as connection:
            fill_table(admin, reader, connection, names.relay_dead_letters)
        with connect(
            database_url, Role.READER, settings=settings.database, application_name=name
        ) as connection:
            found = _look_up(connection, cursors)
    return tuple(sorted(found, key=_since))


def newest_cursors(admin: BusAdmin, reader: TopicReader, topic: str) -> list[Cursor]:
    """Return the last committed cursor of each shard, those of the newest layout; empty: none yet."""
    cursors = recovery.last_cursors(reader, topic) if admin.describe(topic) else {}
    layout = recovery.in_force(cursors)
    return [cursor for _, cursor in sorted(cursors.items()) if layout and cursor.layout.epoch == layout.epoch]


def fill_table(admin: BusAdmin, reader: TopicReader, connection: Connection, topic: str) -> int:
    """Copy what the table lacks of the dead-letter topic, if there is one; return how many rows changed."""
    letters = admin.describe(topic)
    return 0 if letters is None else record_all(reader, connection, letters)


def _look_up(connection: Connection, cursors: Sequence[Cursor]) -> list[BlockedTree]:
    asked = {
        tree: (cursor.layout.shard, version) for cursor in cursors for tree, version in cursor.blocked.items()
    }
    try:
        rows = connection.execute(
            _WAITING, (list(asked), [version for _, version in asked.values()])
        ).fetchall()
    except psycopg.Error as error:
        raise translate(error) from error
    return [
        BlockedTree(
            tree_id=tree,
            shard=asked[tree][0],
            from_version=asked[tree][1],
            letter=None if letter[0] is None else Letter(*letter),
            later_events=later,
        )
        for tree, *letter, later in rows
    ]


def _since(tree: BlockedTree) -> tuple[float, UUID]:
    return (0.0 if tree.letter is None else tree.letter.since.timestamp(), tree.tree_id)
