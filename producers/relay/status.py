"""Where the relay stands, read from the outside: the cursor on the topic, the lock, the outbox.

Reads committed records only and opens no producer, so it fences nobody. What it shows may be
one transaction old.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.kafka_reader import KafkaTopicReader
from iu_core.bus.names import BusNames
from iu_core.bus.ports import Topic
from iu_core.database import Connection, Role, connect
from iu_core.settings import Settings
from producers.relay import recovery
from producers.relay.cursor import Cursor, Layout
from producers.relay.lock import Holder, holder
from producers.relay.outbox import Pending, PostgresOutbox
from producers.relay.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """The cursor (None: nothing was ever published), who relays (None: nobody), and what waits.

    `differences` says what the cursor claims that is not so; the relay would not start.
    """

    shard: int
    cursor: Cursor | None
    holder: Holder | None
    pending: Pending
    differences: tuple[str, ...]

    def in_words(self, asked_at: datetime) -> list[str]:
        """Return the lines `iu relay status` prints of this shard."""
        lines = [f"shard {self.shard}   {self._holder_in_words()}"]
        if self.cursor is None:
            lines.append("published  nothing yet")
        else:
            lines += _cursor_in_words(self.cursor)
        age_s = _age_s(self.pending, asked_at)
        age = "" if age_s is None else f", the oldest {age_s:.1f} s old"
        lines.append(f"waiting    {self.pending.events} events{age}")
        return lines + [f"differs    {difference}" for difference in self.differences]

    def _holder_in_words(self) -> str:
        if self.holder is None:
            return "relayed by nobody; start it with: iu relay run"
        return f"{'held by a command:' if self.holder.maintenance else 'relayed by'} {self.holder}"


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """Every shard of the layout in force: what the cursors say or, without any, their topic.

    `cursor_partitions` is 0 while there is no cursor topic; then the settings say the layout.
    """

    layout: Layout
    configured_shards: int
    cursor_partitions: int
    shards: tuple[ShardStatus, ...]
    asked_at: datetime

    @property
    def settled(self) -> Snapshot | None:
        """The newest snapshot of which every shard says that all of it is published."""
        found = [shard.cursor.position.settled for shard in self.shards if shard.cursor is not None]
        if len(found) < len(self.shards):
            return None
        # Snapshots of one database include each other: of two the older one sees less.
        return min(found, key=lambda snapshot: (snapshot.xmax, -len(snapshot.xip)))

    @property
    def floor_id(self) -> int:
        """The row up to which every shard settled by id, because the database was restored; else 0."""
        return min((shard.cursor.position.floor_id for shard in self.shards if shard.cursor), default=0)

    @property
    def published(self) -> int:
        """How many events the cursors speak of."""
        cursors = [shard.cursor for shard in self.shards if shard.cursor is not None]
        return sum(digest.count for cursor in cursors for digest in cursor.digests.values())

    @property
    def pending(self) -> Pending:
        """What waits in all shards together."""
        oldest = [shard.pending.oldest_at for shard in self.shards if shard.pending.oldest_at is not None]
        return Pending(sum(shard.pending.events for shard in self.shards), min(oldest, default=None))

    @property
    def oldest_age_s(self) -> float | None:
        """Age of the oldest unpublished event, in seconds."""
        return _age_s(self.pending, self.asked_at)

    @property
    def neglected(self) -> bool:
        """Whether events wait in a shard that nobody relays."""
        return any(shard.pending.events and shard.holder is None for shard in self.shards)

    def in_words(self) -> list[str]:
        """Return the lines `iu relay status` prints."""
        lines = [line for shard in self.shards for line in shard.in_words(self.asked_at)]
        if self.configured_shards != self.layout.shards:
            lines.append(
                f"differs    IU_RELAY__SHARDS is {self.configured_shards}, the cursor topic is that of "
                f"{self.layout.shards} shards; to change it: "
                f'iu relay reshard --to {self.configured_shards} --reason "..."'
            )
        return lines


def _age_s(pending: Pending, asked_at: datetime) -> float | None:
    oldest = pending.oldest_at
    return None if oldest is None else max(0.0, (asked_at - oldest).total_seconds())


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
    if cursor.sealed:
        lines.append(
            'sealed     by a reshard that has not ended; finish it: iu relay reshard --to N --reason "..."'
        )
    if cursor.blocked:
        lines.append(f"blocked    {len(cursor.blocked)} trees wait for a dead letter")
    origin = cursor.origin
    cluster = f"cluster {origin.system_identifier}, timeline {origin.timeline}"
    lines.append(f"database   oid {origin.database_oid} of {cluster}")
    return lines


def ask(settings: Settings, database_url: str) -> RelayStatus:
    """Return where the relay stands. Raises `Retryable` if the broker or the database is away."""
    names, name = BusNames(settings.kafka.prefix), "iu-relay-status"
    with ExitStack() as opened:
        connection = connect(database_url, Role.RELAY, settings=settings.database, application_name=name)
        opened.callback(connection.close)
        admin = KafkaAdmin(settings, name)
        opened.callback(admin.close)
        reader = KafkaTopicReader(settings, name)
        opened.callback(reader.close)
        topic, cursor_topic = admin.describe(names.events), admin.describe(names.cursor)
        cursors = {} if cursor_topic is None else recovery.last_cursors(reader, names.cursor)
        layout = recovery.in_force(cursors)
        if layout is None:
            # Every topic of the mock broker has four partitions, whatever it was made for.
            made_for = None if settings.kafka.mock or cursor_topic is None else cursor_topic.partitions
            layout = Layout(settings.kafka.partitions, made_for or settings.relay.shards)
        return RelayStatus(
            layout=layout,
            configured_shards=settings.relay.shards,
            cursor_partitions=0 if cursor_topic is None else cursor_topic.partitions,
            shards=tuple(_shard(connection, topic, cursors, layout, shard) for shard in range(layout.shards)),
            asked_at=datetime.now(UTC),
        )


def _shard(
    connection: Connection, topic: Topic | None, cursors: Mapping[int, Cursor], layout: Layout, shard: int
) -> ShardStatus:
    ours = replace(layout, shard=shard)
    outbox, cursor = PostgresOutbox(connection, ours), cursors.get(shard)
    differences: list[str] = []
    if cursor is not None and topic is not None:
        event_ref = None if cursor.highest is None else outbox.event_ref_of(cursor.highest.id)
        differences = [
            str(finding) for finding in recovery.compare(cursor, outbox.identity(), event_ref, topic, ours)
        ]
    return ShardStatus(
        shard=shard,
        cursor=cursor,
        holder=holder(connection, shard),
        pending=outbox.pending(None if cursor is None else cursor.position),
        differences=tuple(differences),
    )
