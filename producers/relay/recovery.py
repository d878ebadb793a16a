"""Find the cursor on the topic, and hold it against the database and the topic at hand.

The order matters. First the publisher is opened: that fences the predecessor and ends its
open transaction. Only then is the end of the cursor partition taken as `read_uncommitted`
sees it, and waited for until `read_committed` has reached it: before that, a cursor whose
commit the predecessor has begun may still be on its way, and an older one would be found.

Every check answers "is this still the outbox, and the topic, that the cursor speaks of?".
A newer timeline of the same cluster with all else equal is a failover: go on.

The layout in force is what the cursors say, never what a setting says: a relay that is told
another number of shards is refused, because it would publish partitions that are not its own.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from iu_core.bus.ports import Record, Topic, TopicReader
from iu_core.errors import Misconfigured, Retryable
from producers.relay.cursor import Cursor, Layout, decode
from producers.relay.outbox import Identity

_STEP_OFFSETS: Final = 64
_SCAN_OFFSETS: Final = 5_000


def find_cursor(
    reader: TopicReader,
    topic: str,
    shard: int,
    *,
    timeout_s: float,
    clock_s: Callable[[], float] = time.monotonic,
    sleep_s: Callable[[float], None] = time.sleep,
) -> Cursor | None:
    """Return the last committed cursor of `shard`, None if there never was one.

    Raises `Retryable` if a transaction stays open on the partition for `timeout_s` seconds.
    """
    end = reader.end_offsets(topic, committed=False)[shard]
    give_up_at = clock_s() + timeout_s
    while (committed := reader.end_offsets(topic, committed=True)[shard]) < end:
        if clock_s() > give_up_at:
            raise Retryable(
                f"a transaction stays open on {topic}, partition {shard}",
                why=f"read_committed ends at {committed}, read_uncommitted at {end}, after {timeout_s:.0f} s",
                remedy="start again after the transaction's time-out; the broker ends it then",
            )
        sleep_s(0.05)
    last = last_record(reader, topic, shard, end)
    if last is None:
        return None
    if last.value is None:
        raise Misconfigured(
            "the relay's cursor was deleted",
            why=f"offset {last.offset} of {topic} is a tombstone",
            remedy="restore the cursor topic; without it the relay cannot know what is published",
        )
    return decode(last.value)


def last_record(reader: TopicReader, topic: str, partition: int, end: int) -> Record | None:
    """Return the last committed record before offset `end`, searching backwards in growing steps."""
    start, step, high = reader.start_offsets(topic)[partition], _STEP_OFFSETS, end
    while high > start:
        low = max(start, high - step)
        if records := reader.read(topic, partition, low, high):
            return records[-1]
        high, step = low, step * 4
    return None


def last_cursors(reader: TopicReader, topic: str) -> dict[int, Cursor]:
    """Return the last committed cursor of each partition that has one, as an onlooker sees it."""
    ends = reader.end_offsets(topic, committed=True)
    lasts = {number: last_record(reader, topic, number, end) for number, end in ends.items()}
    return {number: decode(last.value) for number, last in lasts.items() if last and last.value is not None}


def in_force(cursors: Mapping[int, Cursor]) -> Layout | None:
    """Return the newest layout among the cursors of all shards (as shard 0 sees it), None without any."""
    newest = max(
        (cursor.layout for cursor in cursors.values()), key=lambda layout: layout.epoch, default=None
    )
    return None if newest is None else replace(newest, shard=0)


def refuse_other_layout(cursors: Mapping[int, Cursor], layout: Layout, made_for: int) -> None:
    """Raise `Misconfigured` unless the shards of `layout` are those of the cursors, or of the topic.

    `made_for` is the number of partitions of the cursor topic: while there is no cursor, it alone
    says how many shards the topic was made for.
    """
    there = in_force(cursors)
    shards = made_for if there is None else there.shards
    if shards != layout.shards:
        raise other_shards(shards, layout.shards)
    if there is not None and there.epoch > 1 and layout.shard not in cursors:
        raise Misconfigured(
            f"shard {layout.shard} has no cursor",
            why=f"layout epoch {there.epoch} was made by a reshard, which wrote one for each shard",
            remedy="restore the cursor topic; without it the relay cannot know what is published",
        )


def other_shards(there: int, asked: int) -> Misconfigured:
    """Return the refusal of a relay for `asked` shards where the cursors are those of `there`."""
    return Misconfigured(
        f"the events are relayed in {there} shards, and this relay is set to {asked}",
        why="each partition has one owner; which one, only the cursors say",
        remedy=f"set IU_RELAY__SHARDS={there}; or change it for good: "
        f'iu relay reshard --to {asked} --reason "..."',
    )


def refuse_sealed(cursor: Cursor) -> None:
    """Raise `Misconfigured` if a reshard has begun with this cursor and has not ended."""
    if cursor.sealed:
        raise Misconfigured(
            f"shard {cursor.layout.shard} is sealed: a reshard was begun and has not ended",
            why=f"sealed at {cursor.at.isoformat(timespec='seconds')} in layout epoch {cursor.layout.epoch}",
            remedy='finish it: iu relay reshard --to N --apply --reason "..."',
        )


def holds_events(reader: TopicReader, topic: str, layout: Layout) -> bool:
    """Return whether the shard's partitions hold a committed record. Offsets alone do not tell:

    a relay killed in its very first transaction leaves aborted records and a marker.
    """
    ends, starts = reader.end_offsets(topic, committed=True), reader.start_offsets(topic)
    return any(
        reader.read(topic, partition, low, min(low + _SCAN_OFFSETS, ends[partition]))
        for partition in layout.owned()
        for low in range(starts[partition], ends[partition], _SCAN_OFFSETS)
    )


@dataclass(frozen=True, slots=True)
class Finding:
    """Something the cursor says that is not so: which thing, what was written, what is there."""

    thing: str
    written: object
    found: object

    def __str__(self) -> str:
        return f"{self.thing}: the cursor says {self.written}, found {self.found}"


def compare(
    cursor: Cursor, identity: Identity, event_ref: UUID | None, topic: Topic, layout: Layout
) -> list[Finding]:
    """Return every difference between the cursor and what is there; an empty list means go on.

    `event_ref` is that of the row with the cursor's highest id, None if there is no such row.
    """
    written, here = cursor.origin, identity.origin
    pairs: list[tuple[str, object, object]] = [
        ("topic id", cursor.topic_id, topic.topic_id),
        ("topic", cursor.topic, topic.name),
        ("partitions of the topic", cursor.layout.partitions, topic.partitions),
        ("shards", cursor.layout.shards, layout.shards),
        ("system identifier of the cluster", written.system_identifier, here.system_identifier),
        ("oid of the database", written.database_oid, here.database_oid),
        ("oid of event_outbox", written.outbox_oid, here.outbox_oid),
    ]
    findings = [Finding(thing, said, found) for thing, said, found in pairs if said != found]
    if here.timeline < written.timeline:
        findings.append(Finding("timeline", written.timeline, here.timeline))
    if here.timeline == written.timeline and _lsn(here.lsn) < _lsn(written.lsn):
        findings.append(Finding("write-ahead log, at least", written.lsn, here.lsn))
    if identity.snapshot.xmax < cursor.position.settled.xmax:
        findings.append(
            Finding("next transaction id, at least", cursor.position.settled.xmax, identity.snapshot.xmax)
        )
    if (highest := cursor.highest) is not None:
        if event_ref != highest.event_ref:
            findings.append(
                Finding(f"event of outbox row {highest.id}", highest.event_ref, event_ref or "no such row")
            )
        if identity.last_id < highest.id:
            findings.append(Finding("last id of event_outbox, at least", highest.id, identity.last_id))
    return findings


def refuse(findings: list[Finding]) -> None:
    """Raise `Misconfigured` naming every finding, if there is any."""
    if not findings:
        return
    shards = next((finding for finding in findings if finding.thing == "shards"), None)
    if shards is not None and len(findings) == 1:
        raise other_shards(int(str(shards.written)), int(str(shards.found)))
    topic_changed = any(finding.thing.startswith(("topic", "partitions")) for finding in findings)
    raise Misconfigured(
        "the relay's cursor was written for another topic or another state of the database",
        why="; ".join(str(finding) for finding in findings),
        remedy=(
            "the events topic was made again: point IU_KAFKA__PREFIX at the right one, or publish all"
            " of the outbox again: iu relay rebase --policy republish"
            if topic_changed
            else "connect to the database the cursor names; after a restore: iu relay rebase shows what is"
            " on the topic and not in the database, the reverse, and how to go on"
        ),
    )


def _lsn(text: str) -> int:
    high, low = text.split("/")
    return (int(high, 16) << 32) | int(low, 16)
