"""Copy what a comparison needs of the events topic into a temporary table, in bounded memory.

Of each record: where it stands, what it says it is, its key, and the SHA-256 of its datum.
The datum itself is not decoded: equal digests are equal bytes. `iu verify` and `iu relay rebase`
both compare with the outbox from here on in SQL; each names a table of its own.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Final
from uuid import UUID

from psycopg import sql

from iu_core.bus.ports import Record, TopicReader
from iu_core.database import Connection
from schemas.codec import split
from schemas.errors import Undecodable

CHUNK_OFFSETS: Final = 5_000

_CREATE: Final = sql.SQL("""
    CREATE TEMPORARY TABLE {} (
      partition int NOT NULL, "offset" bigint NOT NULL,
      event_ref uuid, tree_id text, digest bytea, ce_type text
    )
""")
_COPY: Final = sql.SQL("COPY pg_temp.{} FROM STDIN")
_INDEX: Final = sql.SQL("CREATE INDEX ON pg_temp.{} (event_ref)")
_ANALYZE: Final = sql.SQL("ANALYZE pg_temp.{}")


def copy_topic(
    connection: Connection, reader: TopicReader, topic: str, ends: Mapping[int, int], *, table: str
) -> int:
    """Copy every committed record below `ends` into the new temporary table `table`; return how many.

    The table lasts as long as the session, or the transaction if that is rolled back. Raises as
    `TopicReader.read`.
    """
    name = sql.Identifier(table)
    connection.execute(_CREATE.format(name))
    starts = reader.start_offsets(topic) if ends else {}
    copied = 0
    with connection.cursor() as cursor, cursor.copy(_COPY.format(name)) as copy:
        for partition, end in sorted(ends.items()):
            for record in records_between(reader, topic, partition, starts[partition], end):
                copy.write_row((partition, record.offset, *_identity(record)))
                copied += 1
    connection.execute(_INDEX.format(name))
    connection.execute(_ANALYZE.format(name))
    return copied


def records_between(
    reader: TopicReader, topic: str, partition: int, start: int, end: int
) -> Iterator[Record]:
    """Yield the committed records with `start` <= offset < `end`, no more than a chunk in memory."""
    for low in range(start, end, CHUNK_OFFSETS):
        yield from reader.read(topic, partition, low, min(low + CHUNK_OFFSETS, end))


def _identity(record: Record) -> tuple[str | None, str | None, bytes | None, str | None]:
    """Return event_ref, tree, digest and type as the record gives them; None where it does not."""
    try:
        event_ref = str(UUID((record.header("ce_id") or b"").decode("ascii")))
    except ValueError:
        event_ref = None
    try:
        digest = hashlib.sha256(split(record.value)[1]).digest()
    except Undecodable:
        digest = None
    return event_ref, _text(record.key), digest, _text(record.header("ce_type"))


def _text(value: bytes | None) -> str | None:
    # A text column takes no NUL.
    return None if value is None else value.decode(errors="replace").replace("\x00", "\ufffd")
