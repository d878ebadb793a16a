"""The cursor: what the relay of one shard knows, as one record on the compacted cursor topic.

It travels in the same Kafka transaction as the events it speaks of, so it is committed exactly
when they are. It describes itself: whoever reads it can tell which database, which outbox and
which topic it belongs to, and whether they are still the ones it was written for.

Two things make a torn or doubled write visible. `sequence` counts the shard's committed
transactions. And for each partition `count` and `chain` cover every event ever published to
it: chain' = SHA-256(chain + event_ref (16 bytes) + payload_digest (32 bytes)), from 32 zero
bytes on. Reading a partition from its start recomputes both, whatever the transactions were.

Encoded as JSON with sorted keys, UTF-8; `format` says how to read the rest.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from iu_core.errors import Misconfigured
from producers.relay.snapshot import Position, Snapshot

FORMAT: Final = 2
# Format 1 had no `sealed`: nothing could be resharded then.
_READABLE: Final = (1, FORMAT)
CHAIN_START: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Layout:
    """P partitions over N shards; this is `shard`. `epoch` grows with every reshard."""

    partitions: int
    shards: int = 1
    shard: int = 0
    epoch: int = 1

    def partition_of(self, bucket: int) -> int:
        """Return the partition of a row's bucket. Source: design/00, "Bucket"."""
        return bucket % self.partitions

    def owned(self) -> tuple[int, ...]:
        """Return the partitions of this shard."""
        return tuple(p for p in range(self.partitions) if p % self.shards == self.shard)


@dataclass(frozen=True, slots=True)
class Origin:
    """The database the events come from, at the time of writing."""

    system_identifier: str
    timeline: int
    lsn: str
    database_oid: int
    outbox_oid: int


@dataclass(frozen=True, slots=True)
class Highest:
    """The published row with the highest id: found again only in the very same outbox."""

    id: int
    event_ref: UUID


@dataclass(frozen=True, slots=True)
class Digest:
    """How many events a partition holds, and the chain over them."""

    count: int = 0
    chain: bytes = CHAIN_START

    def extended(self, event_ref: UUID, payload_digest: bytes) -> "Digest":
        """Return the digest with one more event."""
        return Digest(self.count + 1, hashlib.sha256(self.chain + event_ref.bytes + payload_digest).digest())


@dataclass(frozen=True, slots=True)
class Cursor:
    """The state of one shard after its transaction number `sequence`. `at` is the writing time, UTC."""

    sequence: int
    position: Position
    layout: Layout
    origin: Origin
    topic: str
    topic_id: str
    relay_version: str
    at: datetime
    incarnation: int = 1
    highest: Highest | None = None
    digests: Mapping[int, Digest] = field(default_factory=dict)
    # tree → the version from which on its events wait for a dead letter to be resolved.
    blocked: Mapping[UUID, int] = field(default_factory=dict)
    # A reshard is under way: no relay goes on from here, only `iu relay reshard`.
    sealed: bool = False

    def after(
        self,
        *,
        digests: Mapping[int, Digest],
        highest: Highest | None,
        blocked: Mapping[UUID, int],
        position: Position,
        origin: Origin,
        at: datetime,
    ) -> "Cursor":
        """Return the cursor of the next transaction; `digests` and the rest are as they stand after it."""
        return replace(
            self,
            sequence=self.sequence + 1,
            digests=digests,
            highest=highest,
            blocked=blocked,
            position=position,
            origin=origin,
            at=at,
        )


def key(layout: Layout) -> bytes:
    """Return the record key of a shard's cursor; compaction keeps the last record of each key."""
    return f"shard-{layout.shard}".encode()


def encode(cursor: Cursor) -> bytes:
    """Return the record value."""
    position, origin, highest = cursor.position, cursor.origin, cursor.highest
    document = {
        "format": FORMAT,
        "relay_version": cursor.relay_version,
        "at": cursor.at.isoformat(),
        "sequence": cursor.sequence,
        "window": {
            "settled": str(position.settled),
            "open": None if position.window is None else str(position.window),
            "last_id": position.last_id,
            "floor_id": position.floor_id,
        },
        "layout": {
            "partitions": cursor.layout.partitions,
            "shards": cursor.layout.shards,
            "shard": cursor.layout.shard,
            "epoch": cursor.layout.epoch,
        },
        "database": {
            "system_identifier": origin.system_identifier,
            "timeline": origin.timeline,
            "lsn": origin.lsn,
            "database_oid": origin.database_oid,
            "outbox_oid": origin.outbox_oid,
        },
        "topic": {"name": cursor.topic, "id": cursor.topic_id},
        "incarnation": cursor.incarnation,
        "highest": None if highest is None else {"id": highest.id, "event_ref": str(highest.event_ref)},
        "partitions": {
            str(partition): {"count": digest.count, "chain": digest.chain.hex()}
            for partition, digest in cursor.digests.items()
        },
        "blocked": {str(tree): version for tree, version in cursor.blocked.items()},
        "sealed": cursor.sealed,
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def decode(value: bytes) -> Cursor:
    """Return the cursor in a record value; raises `Misconfigured` if it cannot be understood."""
    try:
        return _decoded(json.loads(value))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Misconfigured(
            "the relay's cursor cannot be read",
            why=f"{type(error).__name__}: {error} in {value[:80]!r}",
            remedy="run the relay version that wrote it, or restore the cursor topic; never delete it",
        ) from error


def _decoded(document: Mapping[str, Any]) -> Cursor:
    if document["format"] not in _READABLE:
        raise ValueError(f"format {document['format']!r}, this relay reads up to {FORMAT}")
    window, highest, database = document["window"], document["highest"], document["database"]
    return Cursor(
        sequence=int(document["sequence"]),
        position=Position(
            settled=Snapshot.parse(window["settled"]),
            window=None if window["open"] is None else Snapshot.parse(window["open"]),
            last_id=int(window["last_id"]),
            floor_id=int(window["floor_id"]),
        ),
        layout=Layout(**{name: int(number) for name, number in document["layout"].items()}),
        origin=Origin(
            system_identifier=str(database["system_identifier"]),
            timeline=int(database["timeline"]),
            lsn=str(database["lsn"]),
            database_oid=int(database["database_oid"]),
            outbox_oid=int(database["outbox_oid"]),
        ),
        topic=str(document["topic"]["name"]),
        topic_id=str(document["topic"]["id"]),
        relay_version=str(document["relay_version"]),
        at=datetime.fromisoformat(document["at"]),
        incarnation=int(document["incarnation"]),
        highest=None if highest is None else Highest(int(highest["id"]), UUID(highest["event_ref"])),
        digests={
            int(partition): Digest(int(entry["count"]), bytes.fromhex(entry["chain"]))
            for partition, entry in document["partitions"].items()
        },
        blocked={UUID(tree): int(version) for tree, version in document["blocked"].items()},
        sealed=document["format"] > 1 and _flag(document["sealed"]),
    )


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"neither true nor false: {value!r}")
    return value
