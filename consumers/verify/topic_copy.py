"""Copy what `verify` needs of the events topic into a temporary table, in bounded memory.

Of each record: where it stands, which event it says it is, its key, and the SHA-256 of its datum.
The datum itself is not decoded: equal digests are equal bytes.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Final
from uuid import UUID

from iu_core.bus.ports import Record, TopicReader
from iu_core.database import Connection
from schemas.codec import split
from schemas.errors import Undecodable

CHUNK_OFFSETS: Final = 5_000

CREATE: Final = """
    CREATE TEMPORARY TABLE verify_topic (
      partition int NOT NULL, "offset" bigint NOT NULL, event_ref uuid, tree_id text, digest bytea
    ) ON COMMIT DROP
"""


def copy_topic(connection: Connection, reader: TopicReader, topic: str, ends: Mapping[int, int]) -> int:
    """Copy every committed record below `ends`; return how many. Raises as `TopicReader.read`."""
    connection.execute(CREATE)
    # Without ends there is nothing to read, and perhaps no topic yet.
    starts = reader.start_offsets(topic) if ends else {}
    copied = 0
    with (
        connection.cursor() as cursor,
        cursor.copy("COPY pg_temp.verify_topic FROM STDIN") as copy,
    ):
        for partition, end in sorted(ends.items()):
            for record in _records(reader, topic, partition, starts[partition], end):
                copy.write_row((partition, record.offset, *_identity(record)))
                copied += 1
    connection.execute("CREATE INDEX ON pg_temp.verify_topic (event_ref)")
    connection.execute("ANALYZE pg_temp.verify_topic")
    return copied


def _records(reader: TopicReader, topic: str, partition: int, start: int, end: int) -> Iterator[Record]:
    for low in range(start, end, CHUNK_OFFSETS):
        yield from reader.read(topic, partition, low, min(low + CHUNK_OFFSETS, end))


def _identity(record: Record) -> tuple[str | None, str | None, bytes | None]:
    """Return event_ref, tree and digest as the record itself gives them; None where it does not."""
    try:
        event_ref = str(UUID((record.header("ce_id") or b"").decode("ascii")))
    except ValueError:
        event_ref = None
    try:
        digest = hashlib.sha256(split(record.value)[1]).digest()
    except Undecodable:
        digest = None
    return (
        event_ref,
        None if record.key is None else record.key.decode(errors="replace"),
        digest,
    )
