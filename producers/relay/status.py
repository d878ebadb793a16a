"""Where the relay stands, read from the outside: the cursor on the topic, the lock, the outbox.

Reads committed records only and opens no producer, so it fences nobody. What it shows may be
one transaction old.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.kafka_reader import KafkaTopicReader
from iu_core.bus.names import BusNames
from iu_core.bus.ports import TopicReader
from iu_core.database import Role, connect
from iu_core.settings import Settings
from producers.relay import recovery
from producers.relay.cursor import Cursor, Layout, decode
from producers.relay.lock import Holder, holder
from producers.relay.outbox import Pending, PostgresOutbox


@dataclass(frozen=True, slots=True)
class Status:
    """The cursor (None: nothing was ever published), who relays (None: nobody), and what waits.

    `differences` says what the cursor claims that is not so; the relay would not start.
    """

    shard: int
    cursor: Cursor | None
    holder: Holder | None
    pending: Pending
    differences: tuple[str, ...]
    asked_at: datetime

    @property
    def oldest_age_s(self) -> float | None:
        """Age of the oldest unpublished event, in seconds."""
        oldest = self.pending.oldest_at
        return None if oldest is None else max(0.0, (self.asked_at - oldest).total_seconds())

    def in_words(self) -> list[str]:
        """Return the lines `iu relay status` prints."""
        lines = [f"shard {self.shard}   {self._holder_in_words()}"]
        if self.cursor is None:
            lines.append("published  nothing yet")
        else:
            lines += _cursor_in_words(self.cursor)
        age = "" if self.oldest_age_s is None else f", the oldest {self.oldest_age_s:.1f} s old"
        lines.append(f"waiting    {self.pending.events} events{age}")
        return lines + [f"differs    {difference}" for difference in self.differences]

    def _holder_in_words(self) -> str:
        if self.holder is None:
            return "relayed by nobody; start it with: iu relay run"
        return f"{'held by a command:' if self.holder.maintenance else 'relayed by'} {self.holder}"


def _cursor_in_words(cursor: Cursor) -> list[str]:
    position, highest = cursor.position, cursor.highest
    counts = ", ".join(f"{number}: {digest.count}" for number, digest in sorted(cursor.digests.items()))
    total = sum(digest.count for digest in cursor.digests.values())
    until = "" if highest is None else f", up to outbox row {highest.id} (event {highest.event_ref})"
    lines = [
        f"published  {total} events in {cursor.sequence} transactions{until}",
        f"           last at {cursor.at.isoformat(timespec='seconds')} by relay {cursor.relay_version}",
        f"partitions {counts or 'none'} of {cursor.topic} ({cursor.topic_id})",
        f"settled    every transaction that was over in snapshot {position.settled}",
    ]
    if position.window is not None:
        lines.append(f"window     open up to snapshot {position.window}, published to row {position.last_id}")
    origin = cursor.origin
    cluster = f"cluster {origin.system_identifier}, timeline {origin.timeline}"
    lines.append(f"database   oid {origin.database_oid} of {cluster}")
    return lines


def ask(settings: Settings, database_url: str, *, shard: int = 0) -> Status:
    """Return where `shard` stands. Raises `Retryable` if the broker or the database is away."""
    layout = Layout(partitions=settings.kafka.partitions, shard=shard)
    names, name = BusNames(settings.kafka.prefix), "iu-relay-status"
    with ExitStack() as opened:
        connection = connect(database_url, Role.RELAY, settings=settings.database, application_name=name)
        outbox = PostgresOutbox(connection, layout)
        opened.callback(outbox.close)
        admin = KafkaAdmin(settings, name)
        opened.callback(admin.close)
        reader = KafkaTopicReader(settings, name)
        opened.callback(reader.close)
        cursor = read_cursor(reader, names.cursor, shard) if admin.describe(names.cursor) else None
        differences: list[Any] = []
        if cursor is not None and (topic := admin.describe(names.events)) is not None:
            event_ref = None if cursor.highest is None else outbox.event_ref_of(cursor.highest.id)
            differences = recovery.compare(cursor, outbox.identity(), event_ref, topic, layout)
        return Status(
            shard=shard,
            cursor=cursor,
            holder=holder(connection, shard),
            pending=outbox.pending(None if cursor is None else cursor.position),
            differences=tuple(map(str, differences)),
            asked_at=datetime.now(UTC),
        )


def read_cursor(reader: TopicReader, topic: str, shard: int) -> Cursor | None:
    """Return the last committed cursor of `shard` as an onlooker sees it, None if there is none."""
    end = reader.end_offsets(topic, committed=True)[shard]
    last = recovery.last_record(reader, topic, shard, end)
    return None if last is None or last.value is None else decode(last.value)
