"""Ask the outbox now and then what waits, for the metrics: in a thread and on a connection of its own.

The relay never waits for it. It asks at most once in `backlog_sample_s`, and so seldom that it takes
at most a twentieth of the time, however long the answer takes under a large backlog. A shard that
stands by is not sampled: the process that publishes it tells. In an outage of the broker it goes on,
from the position last known, because that is when somebody looks.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from iu_core.database import Connection, Role, connect, translate
from iu_core.errors import IUError
from iu_core.settings import Settings
from iu_core.telemetry import get_logger
from producers.relay.outbox import Backlog, PostgresOutbox
from producers.relay.shard import layout_of
from producers.relay.snapshot import Position
from producers.relay.telemetry import RelayTelemetry

log = get_logger(__name__)

ROWS_MAX: Final = 250_000
_STATEMENT_TIMEOUT_MS: Final = 5_000
_SHARE: Final = 20
# A limit saves work only if the rows come in order, by the index (xid, id). Before a first backlog the
# planner would rather sort the whole table, with several processes.
_BY_INDEX: Final = (
    "SET max_parallel_workers_per_gather = 0; SET enable_seqscan = off; SET enable_bitmapscan = off;"
    " SET enable_sort = off"
)


class BacklogSampler:
    """Samples the shards of `telemetry` into its metrics; `run` until stopped, in a thread."""

    def __init__(
        self,
        settings: Settings,
        database_url: str,
        telemetry: RelayTelemetry,
        *,
        clock_s: Callable[[], float] = time.monotonic,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._database_url = database_url
        self._telemetry = telemetry
        self._clock_s = clock_s
        self._now_s = now_s
        self._interval_s = float(settings.relay.backlog_sample_s)
        self._found: dict[int, tuple[Backlog, float]] = {}
        self._connection: Connection | None = None

    def run(self, stop: threading.Event) -> None:
        """Sample until `stop`. A database that is away is tried again at the next turn."""
        pause_s = min(1.0, self._interval_s)
        while not stop.wait(pause_s):
            began_s = self._clock_s()
            self.sample()
            pause_s = max(self._interval_s, _SHARE * (self._clock_s() - began_s))
        self._disconnect()

    def sample(self) -> None:
        """Ask once for each shard that this process publishes. Never raises `IUError`."""
        for shard, one in self._telemetry.shards.items():
            if (position := one.position) is None:
                self._forget(shard)
                continue
            try:
                self._note(shard, self._ask(shard, position))
            except IUError as error:
                log.debug("no sample of the backlog", shard=shard, what=error.what, why=error.why)
                self._disconnect()

    def _ask(self, shard: int, position: Position) -> Backlog:
        if self._connection is None:
            self._connection = self._connect()
        outbox = PostgresOutbox(self._connection, layout_of(self._settings, shard))
        return outbox.backlog(position, ROWS_MAX)

    def _connect(self) -> Connection:
        settings = self._settings.database
        timeout_ms = min(settings.statement_timeout_ms, _STATEMENT_TIMEOUT_MS)
        connection = connect(
            self._database_url,
            Role.RELAY,
            settings=settings.model_copy(update={"statement_timeout_ms": timeout_ms}),
            application_name=f"iu-relay-{self._settings.relay.cluster}-metrics",
        )
        try:
            connection.execute(_BY_INDEX)
        except psycopg.Error as error:
            connection.close()
            raise translate(error) from error
        return connection

    def _note(self, shard: int, found: Backlog) -> None:
        metrics, label = self._telemetry.metrics, str(shard)
        if shard not in self._found:
            metrics.oldest_age.labels(label).set_function(lambda: self._oldest_age_s(shard))
        self._found[shard] = (found, self._clock_s())
        metrics.pending.labels(label).set(found.events)
        metrics.sampled.labels(label).set(self._now_s())

    def _oldest_age_s(self, shard: int) -> float:
        """As sampled; older by the time that has passed once the next sample is overdue."""
        found, sampled_at_s = self._found.get(shard, (Backlog(0, 0.0), 0.0))
        if not found.events:
            return 0.0
        overdue_s = self._clock_s() - sampled_at_s - 2 * self._interval_s
        return found.oldest_age_s + max(0.0, overdue_s)

    def _forget(self, shard: int) -> None:
        if self._found.pop(shard, None) is not None:
            metrics = self._telemetry.metrics
            for gauge in (metrics.pending, metrics.oldest_age, metrics.sampled):
                gauge.remove(str(shard))

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


@contextmanager
def sampled(settings: Settings, database_url: str, telemetry: RelayTelemetry) -> Iterator[None]:
    """Sample within the block, if anybody can see it: only while HTTP is on. Does not wait at the end."""
    stop = threading.Event()
    if settings.http.port:
        sampler = BacklogSampler(settings, database_url, telemetry)
        threading.Thread(target=sampler.run, args=(stop,), name="backlog", daemon=True).start()
    try:
        yield
    finally:
        stop.set()
