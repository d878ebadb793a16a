"""The relay as a process: lock, sessions, outages.

A *session* is everything between taking the shard's lock and the first fault: connection,
producer, cursor. After a fault nothing of it is reused, because only the topic knows what was
committed. What comes next depends on the fault:

  Retryable, before the first session stood   raise: whoever starts us is told what is missing
  Retryable, later                            a new session after a pause; raise at `outage_max_s`
  Fenced, Misconfigured, Terminal             raise
  a library call that hangs                   the watchdog ends the process with 75

No fault: a command that asks for the shard (`maintenance`) gets it after the transaction at
hand, and the relay stands by until it is given back.
"""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
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
from iu_core.telemetry import get_logger
from producers.relay import topics
from producers.relay.cursor import Layout
from producers.relay.framing import Contracts, Framer
from producers.relay.lock import ShardLock
from producers.relay.outbox import PostgresOutbox
from producers.relay.relay import Relay
from producers.relay.sizing import TransactionSizer

log = get_logger(__name__)

_LOCK_POLL_S: Final = 0.1
_PAUSE_MIN_S: Final = 0.05
_PAUSE_MAX_S: Final = 2.0
_REPORT_S: Final = 30.0


@dataclass(slots=True)
class Progress:
    """What a service has done so far; read by whoever runs it in a thread."""

    sessions: int = 0
    published: int = 0
    transactions: int = 0


class RelayService:
    """Relays one shard until stopped. With `until_idle`: until all that is committed is published.

    `observe` is told the name of each stage as it begins, in whichever part; tests die there.
    """

    def __init__(
        self,
        settings: Settings,
        database_url: str,
        contracts: Contracts,
        *,
        shard: int = 0,
        until_idle: bool = False,
        clock_s: Callable[[], float] = time.monotonic,
        observe: Callable[[str], None] = lambda _stage: None,
    ) -> None:
        self._settings = settings
        self._database_url = database_url
        self._contracts = contracts
        self._layout = Layout(partitions=settings.kafka.partitions, shard=shard)
        self._names = BusNames(settings.kafka.prefix)
        self._until_idle = until_idle
        self._clock_s = clock_s
        self._observe = observe
        self._name = f"iu-relay-{settings.relay.cluster}-{shard}"
        self.progress = Progress()

    def run(self, stop: threading.Event) -> Progress:
        """Relay until `stop` is set (the transaction at hand is finished) or there is nothing left.

        Raises the errors of the module's table.
        """
        watchdog = Watchdog(self._settings.relay.watchdog_ms / 1_000)
        failing_since: float | None = None
        pause_s = _PAUSE_MIN_S
        try:
            while not stop.is_set():
                sessions = self.progress.sessions
                try:
                    if self._session(stop, watchdog):
                        break
                except Retryable as error:
                    if self.progress.sessions > sessions or failing_since is None:
                        failing_since, pause_s = self._clock_s(), _PAUSE_MIN_S
                    out_s = self._clock_s() - failing_since
                    never_stood = self.progress.sessions == 0
                    if never_stood or self._until_idle or out_s > self._settings.relay.outage_max_s:
                        raise
                    log.warning("outage", what=error.what, why=error.why, out_s=round(out_s, 1))
                    stop.wait(pause_s)
                    pause_s = min(2 * pause_s, _PAUSE_MAX_S)
        finally:
            watchdog.close()
        log.info("stopped", shard=self._layout.shard, published=self.progress.published)
        return self.progress

    def _connect(self) -> Connection:
        return connect(
            self._database_url, Role.RELAY, settings=self._settings.database, application_name=self._name
        )

    def _session(self, stop: threading.Event, watchdog: Watchdog) -> bool:
        """Take the shard and publish until there is nothing left to do; closes all it opened, in reverse.

        Returns false if it has stepped aside for a command and wants the shard back.
        """
        with ExitStack() as opened:
            # A statement is bounded by the server; one whose server is cut off without a word, by this.
            silence = Watchdog(self._settings.relay.watchdog_ms / 1_000 + self._statement_timeout_s)
            opened.callback(silence.close)
            lock = ShardLock(self._connect, self._layout.shard)
            opened.callback(lock.release)
            if not self._await_lock(lock, silence, stop):
                return True
            self._observe("locked")
            relay = self._build(opened, watchdog)
            with watchdog.guard("taking the shard over"):
                cursor = relay.start()
            self.progress.sessions += 1
            log.info(
                "started",
                shard=self._layout.shard,
                sequence=cursor.sequence,
                position=str(cursor.position.settled),
            )
            return self._publish(relay, lock, silence, stop)

    @property
    def _statement_timeout_s(self) -> float:
        return self._settings.database.statement_timeout_ms / 1_000

    def _await_lock(self, lock: ShardLock, silence: Watchdog, stop: threading.Event) -> bool:
        """Wait as a standby until the lock is ours; False if stopped first."""
        announced = False
        while True:
            with silence.guard("asking for the lock"):
                other = lock.acquire()
            if other is None:
                return True
            if self._until_idle:
                raise Retryable(
                    f"shard {self._layout.shard} is being relayed by {other}",
                    why="one relay at a time holds a shard",
                    remedy="let that one do it, or stop it first",
                )
            if not announced:
                log.info("standby", shard=self._layout.shard, holder=str(other))
                announced = True
            if stop.wait(_LOCK_POLL_S):
                return False

    def _build(self, opened: ExitStack, watchdog: Watchdog) -> Relay:
        settings, layout = self._settings, self._layout
        outbox = PostgresOutbox(self._connect(), layout)
        opened.callback(outbox.close)
        admin = KafkaAdmin(settings, self._name)
        opened.callback(admin.close)
        with watchdog.guard("making the topics"):
            topic = topics.ensure(admin, self._names, layout)
        reader = KafkaTopicReader(settings, self._name)
        opened.callback(reader.close)
        transactional_id = self._names.transactional_id(settings.relay.cluster, layout.shard)
        publisher = KafkaPublisher(settings, transactional_id, watchdog, observe=self._observe)
        opened.callback(publisher.close)
        relay = Relay(
            outbox=outbox,
            publisher=publisher,
            reader=reader,
            framer=Framer(
                self._contracts,
                topic=topic.name,
                letters_topic=self._names.relay_dead_letters,
                layout=layout,
                source=f"iu-core/{settings.relay.cluster}",
                record_bytes_max=topics.RECORD_BYTES_MAX,
                policy=lambda event_type: settings.relay.bad_rows_by_type.get(
                    event_type, settings.relay.bad_rows
                ),
            ),
            names=self._names,
            topic=topic,
            layout=layout,
            sizer=TransactionSizer(
                target_s=settings.relay.transaction_target_ms / 1_000, rows_max=settings.relay.rows_max
            ),
            recovery_timeout_s=settings.relay.watchdog_ms / 2_000,
            relay_version=__version__,
            now=lambda: datetime.now(UTC),
            observe=self._observe,
        )
        opened.callback(relay.close)
        return relay

    def _publish(self, relay: Relay, lock: ShardLock, silence: Watchdog, stop: threading.Event) -> bool:
        """Step until `stop`, or until a command wants the shard: then return false.

        Polls quickly after work, ever more slowly without.
        """
        shortest_s = self._settings.relay.poll_min_ms / 1_000
        longest_s = max(shortest_s, self._settings.relay.poll_max_ms / 1_000)
        wait_s, report_at = shortest_s, self._clock_s() + _REPORT_S
        while not stop.is_set():
            with silence.guard("asking for the lock"):
                lock.check()
            if lock.wanted:
                log.info("stepping aside", shard=self._layout.shard)
                return False
            with silence.guard("one step of the relay"):
                step = relay.step()
            if step.published:
                self.progress.published += step.published
                self.progress.transactions += 1
                wait_s = shortest_s
            elif step.drained:
                if self._until_idle:
                    return True
                stop.wait(wait_s)
                wait_s = min(1.5 * wait_s, longest_s)
            if self._clock_s() >= report_at:
                report_at = self._clock_s() + _REPORT_S
                log.info(
                    "progress", published=self.progress.published, transactions=self.progress.transactions
                )
        return True
