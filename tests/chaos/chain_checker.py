"""Hold the events topic against the outbox and against the relay's own cursor.

Pure: records, cursors and rows come in as values, faults go out as sentences. The order inside
a partition is the order of the records given. Each kind of fault has a word of its own at the
start of the sentence, so that a test can say which promise a planted fault breaks:

  lost, ghost, repeated   the topic holds each committed row exactly once (G1, G2)
  disordered              per tree the versions are 1, 2, 3, …, over incarnations (G3)
  misplaced, altered      partition = bucket mod P; the bytes are those of the row
  chain, sequence         the cursors speak of exactly these events; no transaction is missing
  layout                  the last cursors are those of one layout, and none of them is sealed
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from iu_core.bus.names import FENCE_TYPE
from iu_core.bus.ports import Record
from producers.relay.cursor import Cursor, Digest


@dataclass(frozen=True, slots=True)
class Row:
    """What the checker needs of a committed row of the outbox."""

    event_ref: UUID
    tree_id: UUID
    incarnation: int
    version: int
    bucket: int
    payload_digest: bytes


def check(
    topic: Mapping[int, Sequence[Record]],
    cursors: Sequence[Cursor],
    outbox: Iterable[Row],
    *,
    prefix_bytes: int = 10,
    abandoned: Collection[UUID] = (),
) -> list[str]:
    """Return every fault; an empty list means the promises hold.

    `topic` has all partitions with their committed records from the first offset on, `cursors`
    the committed records of the cursor topic, those of each shard in order. Fences are no events;
    `abandoned` are the events that were given up after a restore.
    """
    fence = FENCE_TYPE.encode()
    topic = {
        partition: [record for record in records if record.header("ce_type") != fence]
        for partition, records in topic.items()
    }
    rows = {row.event_ref: row for row in outbox}
    published = [
        (partition, _event_ref(record), record) for partition in topic for record in topic[partition]
    ]
    times = Counter(event_ref for _, event_ref, _ in published)
    faults = [f"lost: {event_ref}" for event_ref in rows if event_ref not in times]
    faults += [f"ghost: {ref}" for ref in times if ref not in rows and ref not in abandoned]
    faults += [f"repeated: {event_ref}, {count} times" for event_ref, count in times.items() if count > 1]
    known = [(partition, rows[ref], record) for partition, ref, record in published if ref in rows]
    faults += _order(known)
    faults += _content(known, len(topic), prefix_bytes)
    faults += _cursors(topic, cursors)
    return faults


def _order(known: Sequence[tuple[int, Row, Record]]) -> list[str]:
    versions: dict[UUID, list[int]] = defaultdict(list)
    incarnations: dict[UUID, list[int]] = defaultdict(list)
    for _, row, _ in known:
        versions[row.tree_id].append(row.version)
        incarnations[row.tree_id].append(row.incarnation)
    faults = [
        f"disordered: tree {tree}: {_first_break(found)}"
        for tree, found in versions.items()
        if found != list(range(1, len(found) + 1))
    ]
    return faults + [
        f"disordered: tree {tree}: an earlier incarnation comes later"
        for tree, found in incarnations.items()
        if found != sorted(found)
    ]


def _first_break(versions: list[int]) -> str:
    place = next(index for index, version in enumerate(versions) if version != index + 1)
    return f"version {versions[place]} where {place + 1} is due"


def _content(known: Sequence[tuple[int, Row, Record]], partitions: int, prefix_bytes: int) -> list[str]:
    faults = []
    for partition, row, record in known:
        if partition != row.bucket % partitions or record.key != str(row.tree_id).encode():
            faults.append(f"misplaced: {row.event_ref} in partition {partition}, key {record.key!r}")
        datum = (record.value or b"")[prefix_bytes:]
        if hashlib.sha256(datum).digest() != row.payload_digest:
            faults.append(f"altered: {row.event_ref} has other bytes than its row")
        if record.header("iu_digest") != row.payload_digest.hex().encode():
            faults.append(f"altered: {row.event_ref} has another digest header than its row")
    return faults


def _cursors(topic: Mapping[int, Sequence[Record]], cursors: Sequence[Cursor]) -> list[str]:
    shards: dict[int, list[Cursor]] = defaultdict(list)
    for cursor in cursors:
        shards[cursor.layout.shard].append(cursor)
    faults = _sequences(shards) + _layout(shards)
    said: dict[int, Digest] = {}
    for shard in shards.values():
        owned = shard[-1].layout.owned()
        said |= {partition: digest for partition, digest in shard[-1].digests.items() if partition in owned}
    for partition, records in topic.items():
        found = Digest()
        for record in records:
            found = found.extended(
                _event_ref(record), bytes.fromhex((record.header("iu_digest") or b"").decode())
            )
        if found != said.get(partition, Digest()):
            counts = f"{found.count} events, the cursor says {said.get(partition, Digest()).count}"
            faults.append(f"chain: partition {partition} holds {counts}")
    return faults


def _sequences(shards: Mapping[int, Sequence[Cursor]]) -> list[str]:
    """Within a layout epoch a shard counts by one; a reshard goes on above the highest of all shards."""
    highest: dict[int, int] = defaultdict(int)
    for shard in shards.values():
        for cursor in shard:
            highest[cursor.layout.epoch] = max(highest[cursor.layout.epoch], cursor.sequence)
    faults = []
    for number, shard in shards.items():
        epoch, sequence = 1, 0
        for cursor in shard:
            if cursor.layout.epoch != epoch:
                epoch, sequence = cursor.layout.epoch, highest[cursor.layout.epoch - 1]
            sequence += 1
            if cursor.sequence != sequence:
                faults.append(f"sequence: shard {number} has {cursor.sequence} where {sequence} is due")
                break
    return faults


def _layout(shards: Mapping[int, Sequence[Cursor]]) -> list[str]:
    lasts = {number: shard[-1] for number, shard in shards.items()}
    layouts = {(cursor.layout.shards, cursor.layout.epoch) for cursor in lasts.values()}
    faults = [f"layout: the shards are those of {sorted(layouts)}"] if len(layouts) > 1 else []
    faults += [f"layout: shard {number} is sealed" for number, cursor in lasts.items() if cursor.sealed]
    return faults + [
        f"layout: shard {number} speaks of partitions {sorted(strangers)}, which are not its own"
        for number, cursor in lasts.items()
        if (strangers := set(cursor.digests) - set(cursor.layout.owned()))
    ]


def _event_ref(record: Record) -> UUID:
    return UUID((record.header("ce_id") or b"").decode())
