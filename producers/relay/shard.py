"""What the relay of one shard is made of, opened before the shard is taken.

Connecting to the broker and to the database takes half a second, of which a takeover should
see nothing. So everything that needs no lock and fences nobody is opened first: connections,
readers, topics, and a producer that is connected and has not claimed its transactional id.
What may change while a standby waits is asked again after: the cursor, the database's
identity, the topic.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Final

from iu_core import __version__
from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.kafka_publisher import KafkaPublisher
from iu_core.bus.kafka_reader import KafkaTopicReader
from iu_core.bus.names import BusNames
from iu_core.bus.watchdog import Watchdog
from iu_core.database import Connection, Role, connect
from iu_core.errors import Retryable
from iu_core.settings import Settings
from producers.relay import recovery, topics
from producers.relay.cursor import Layout
from producers.relay.framing import Contracts, Framer
from producers.relay.outbox import OutboxReader, PostgresOutbox
from producers.relay.relay import Relay
from producers.relay.sizing import TransactionSizer

# A connection that broke while nobody used it should be found before it is needed.
_REFRESH_S: Final = 5.0


def relay_name(settings: Settings, shard: int) -> str:
    """Return how the relay of a shard names itself to PostgreSQL and Kafka."""
    return f"iu-relay-{settings.relay.cluster}-{shard}"


class Shard:
    """One shard's connections; `close` ends them all. One thread at a time."""

    def __init__(
        self,
        settings: Settings,
        database_url: str,
        contracts: Contracts,
        layout: Layout,
        watchdog: Watchdog,
        *,
        name: str | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.layout = layout
        self.names = BusNames(settings.kafka.prefix)
        self.recovery_timeout_s = settings.relay.watchdog_ms / 2_000
        self._settings = settings
        self._contracts = contracts
        self._watchdog = watchdog
        self._clock_s = clock_s
        self._opened = ExitStack()
        try:
            self._open(database_url, name or relay_name(settings, layout.shard))
        except BaseException:
            self.close()
            raise
        self._refresh_at = clock_s() + _REFRESH_S

    def _open(self, database_url: str, name: str) -> None:
        settings, opened, names = self._settings, self._opened, self.names

        self.connection: Connection = connect(
            database_url, Role.RELAY, settings=settings.database, application_name=name
        )
        opened.callback(self.connection.close)
        self.outbox = PostgresOutbox(self.connection, self.layout)
        self.outbox.identity()
        self._admin = KafkaAdmin(settings, name)
        opened.callback(self._admin.close)
        with self._watchdog.guard("making the topics"):
            topics.ensure(self._admin, names, self.layout)
        self.reader = KafkaTopicReader(settings, name)
        opened.callback(self.reader.close)
        transactional_id = names.transactional_id(settings.relay.cluster, self.layout.shard)
        self.publisher = KafkaPublisher(settings, transactional_id, self._watchdog)
        opened.callback(self.publisher.close)
        self.publisher.prepare([names.events, names.cursor])
        self._ask_broker()

    def check_layout(self) -> None:
        """Raise `Misconfigured` if the cursors on the topic are those of another number of shards."""
        with self._watchdog.guard("reading the cursors"):
            made_for = len(self.reader.start_offsets(self.names.cursor))
            # Every topic of the mock broker has four partitions.
            made_for = self.layout.shards if self._settings.kafka.mock else made_for
            cursors = recovery.last_cursors(self.reader, self.names.cursor)
        recovery.refuse_other_layout(cursors, self.layout, made_for)

    def refresh(self) -> None:
        """Use each connection, unless that was done lately. Raises `Retryable` if one is broken."""
        if self._clock_s() >= self._refresh_at:
            self.outbox.snapshot()
            self._ask_broker()
            self._refresh_at = self._clock_s() + _REFRESH_S

    def _ask_broker(self) -> None:
        with self._watchdog.guard("asking for the end of the cursor topic"):
            for committed in (False, True):
                self.reader.end_offsets(self.names.cursor, committed=committed)
            self._admin.describe(self.names.events)

    def relay(
        self,
        outbox: OutboxReader | None = None,
        observe: Callable[[str], None] = lambda _stage: None,
    ) -> Relay:
        """Return a relay that has not been started; `outbox` in place of the shard's own.

        `observe` is told the name of each stage of a step as it begins.
        """
        settings, names = self._settings, self.names
        with self._watchdog.guard("describing the events topic"):
            if (topic := self._admin.describe(names.events)) is None:
                raise Retryable(f"the topic {names.events} has just gone", remedy="try again")
        relay = Relay(
            outbox=outbox or self.outbox,
            publisher=self.publisher,
            reader=self.reader,
            framer=Framer(
                self._contracts,
                topic=topic.name,
                letters_topic=names.relay_dead_letters,
                layout=self.layout,
                source=f"iu-core/{settings.relay.cluster}",
                record_bytes_max=topics.RECORD_BYTES_MAX,
                policy=lambda event_type: settings.relay.bad_rows_by_type.get(
                    event_type, settings.relay.bad_rows
                ),
            ),
            names=names,
            topic=topic,
            layout=self.layout,
            sizer=TransactionSizer(
                target_s=settings.relay.transaction_target_ms / 1_000, rows_max=settings.relay.rows_max
            ),
            recovery_timeout_s=self.recovery_timeout_s,
            relay_version=__version__,
            now=lambda: datetime.now(UTC),
            observe=observe,
        )
        self._opened.callback(relay.close)
        return relay

    def close(self) -> None:
        """Disconnect. Idempotent."""
        with self._watchdog.guard("disconnecting", step_limit_s(self._settings)):
            self._opened.close()


def step_limit_s(settings: Settings) -> float:
    """Return the limit in seconds of what asks the database and the broker: a statement and a call of each.

    The database ends a statement itself; the watchdog is for a server that does not answer at all.
    """
    return (settings.database.statement_timeout_ms + settings.relay.watchdog_ms) / 1_000


def layout_of(settings: Settings, shard: int) -> Layout:
    """Return the layout that the settings name. The epoch is not theirs to say: the cursor's counts."""
    return Layout(partitions=settings.kafka.partitions, shards=settings.relay.shards, shard=shard)
