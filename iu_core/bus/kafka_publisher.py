"""Publish batches with kafka-python, each one Kafka transaction: all of it, or none.

Three faults of kafka-python 3.0.12 (read in its source) decide how `publish` is written:

- A batch that outlives `delivery_timeout_ms` only fails its futures; the transaction stays
  healthy, and `commit_transaction` would commit the *rest* of it. A sequence error of a batch
  starts an epoch bump, after which a pending commit "succeeds" without being sent.
  So nothing is committed before every record of it is acknowledged: flush, look at each
  future, then commit. Only the commit itself is then left to go wrong.
- `commit_transaction` and `abort_transaction` wait without a limit: the watchdog's business.
- After a fence `begin_commit` raises a bare KafkaError; the cause is in the transaction manager.

A publisher that has raised is spent. Whether its last transaction was committed is a question
only the topic can answer, so the caller opens a new one and reads the topic.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from kafka import KafkaProducer, errors

from iu_core.bus.kafka_client import producer_options, require_reachable
from iu_core.bus.kafka_errors import translate
from iu_core.bus.ports import Outgoing
from iu_core.bus.watchdog import Watchdog
from iu_core.errors import IUError, Retryable
from iu_core.settings import Settings

_CLOSE_TIMEOUT_S: Final = 1.0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class KafkaPublisher:
    """`TransactionalPublisher` on a Kafka broker; one thread at a time.

    `clock_ms` gives the record timestamp: the time of publishing, because an event's own time
    may be old enough for a time-based retention to delete it at once.
    """

    def __init__(
        self,
        settings: Settings,
        transactional_id: str,
        watchdog: Watchdog,
        clock_ms: Callable[[], int] = _now_ms,
    ) -> None:
        self._settings = settings
        self._options = producer_options(settings, transactional_id)
        self._flush_timeout_s = settings.relay.watchdog_ms / 1_000
        self._watchdog = watchdog
        self._clock_ms = clock_ms
        self._producer: Any = None

    def open(self) -> None:
        """Fence the predecessor and end its open transaction. Idempotent; blocks, bounded."""
        if self._producer is not None:
            return
        try:
            with self._watchdog.guard("opening the transactional producer"):
                require_reachable(self._settings)
                self._producer = KafkaProducer(**self._options)
                self._producer.init_transactions()
        except errors.KafkaError as error:
            raise self._spent(error, "opening the transactional producer") from error

    def publish(self, records: Sequence[Outgoing]) -> None:
        """Publish all of `records` in one committed transaction, or none.

        Blocks until the commit is acknowledged. Raises `Fenced`, or `Retryable` when the
        outcome is unclear: then this publisher is spent, and the truth is on the topic.
        """
        if self._producer is None:
            raise Retryable(
                "this publisher is spent", why="it was never opened, or has failed", remedy="open a new one"
            )
        if not records:
            return
        try:
            with self._watchdog.guard(f"publishing {len(records)} records"):
                self._transact(records)
        except (errors.KafkaError, ValueError) as error:
            raise self._spent(error, f"publishing {len(records)} records") from error

    def close(self) -> None:
        """Abort what is open and disconnect. Idempotent, never raises."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        # An open transaction is ended by the next init_transactions or by its time-out;
        # aborting it here would wait without limit for a broker that may be away.
        with suppress(Exception):
            producer._sender.force_close()  # noqa: SLF001 - close() alone first waits to flush
        with suppress(Exception):
            producer.close(timeout=_CLOSE_TIMEOUT_S)

    def _transact(self, records: Sequence[Outgoing]) -> None:
        producer, timestamp_ms = self._producer, self._clock_ms()
        producer.begin_transaction()
        sent = [
            producer.send(
                record.topic,
                value=record.value,
                key=record.key,
                headers=list(record.headers),
                partition=record.partition,
                timestamp_ms=timestamp_ms,
            )
            for record in records
        ]
        producer.flush(timeout=self._flush_timeout_s)
        for future in sent:
            if not future.succeeded():
                raise future.exception or errors.KafkaTimeoutError("a record was not acknowledged")
        producer.commit_transaction()

    def _spent(self, error: Exception, doing: str) -> IUError:
        """Give the producer up and return `error` as one of ours."""
        cause: BaseException = error
        manager = getattr(self._producer, "_transaction_manager", None)
        if manager is not None and isinstance(manager.last_error, Exception):
            cause = manager.last_error
        self.close()
        return translate(cause, doing)
