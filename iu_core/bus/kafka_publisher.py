"""Publish batches with kafka-python, each one Kafka transaction: all of it, or none.

How records get to the client is a path: `kafka_batches` hands over framed sections below `send`,
`kafka_sends` goes record by record. The fast one is taken where the client is the one it knows.
What follows holds on both.

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

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from kafka import KafkaProducer, errors

from iu_core.bus import kafka_batches
from iu_core.bus.kafka_batches import BatchPath
from iu_core.bus.kafka_client import producer_options, require_reachable
from iu_core.bus.kafka_errors import translate
from iu_core.bus.kafka_sends import SendPath
from iu_core.bus.ports import Outgoing, RecordSection
from iu_core.bus.record_format import SECTION_BYTES_MAX, sections
from iu_core.bus.watchdog import Watchdog
from iu_core.errors import IUError, Retryable
from iu_core.settings import Settings

log = logging.getLogger(__name__)

_CLOSE_TIMEOUT_S: Final = 1.0
_REFUSAL_WAIT_S: Final = 0.5


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class RecordPath(Protocol):
    """How a section gets into the producer's open transaction. Raises errors of kafka-python."""

    @property
    def name(self) -> str:
        """What logs call it."""

    def send(self, section: RecordSection, timestamp_ms: int) -> Sequence[Any]:
        """Hand the section over; returns what `refusal` can be asked about after a flush."""

    def refusal(self, sent: Any) -> Exception | None:
        """Return why it did not arrive, None if the broker has acknowledged it."""


class KafkaPublisher:
    """`TransactionalPublisher` on a Kafka broker; one thread at a time.

    `clock_ms` gives the record timestamp: the time of publishing, because an event's own time
    may be old enough for a time-based retention to delete it at once.
    `observe` is told the name of each stage as it begins; tests die there.
    """

    def __init__(
        self,
        settings: Settings,
        transactional_id: str,
        watchdog: Watchdog,
        clock_ms: Callable[[], int] = _now_ms,
        observe: Callable[[str], None] = lambda _stage: None,
    ) -> None:
        self._settings = settings
        self._options = producer_options(settings, transactional_id)
        self._flush_timeout_s = settings.relay.watchdog_ms / 1_000
        self._watchdog = watchdog
        self._clock_ms = clock_ms
        self._observe = observe
        self._producer: Any = None
        self._path: RecordPath | None = None

    @property
    def path(self) -> str | None:
        """The path records take, None while not open."""
        return None if self._path is None else self._path.name

    def prepare(self, topics: Sequence[str]) -> None:
        """Connect, and learn where the partitions of `topics` are; fences nobody. Idempotent; bounded.

        Saves 200 ms of a takeover: `open` then takes about 30 ms, and the first `publish` no more
        than any other. Not part of the port.
        """
        try:
            with self._watchdog.guard("connecting the transactional producer"):
                self._connect()
                for topic in topics:
                    self._producer.partitions_for(topic)
        except errors.KafkaError as error:
            raise self._spent(error, "connecting the transactional producer") from error

    def open(self) -> None:
        """Fence the predecessor and end its open transaction. Idempotent; blocks, bounded."""
        if self._path is not None:
            return
        try:
            with self._watchdog.guard("opening the transactional producer"):
                self._connect()
                self._observe("fencing")
                self._producer.init_transactions()
                self._observe("fenced")
                self._path = self._chosen_path()
        except errors.KafkaError as error:
            raise self._spent(error, "opening the transactional producer") from error

    def publish(self, records: Sequence[Outgoing | RecordSection]) -> None:
        """Publish all of `records` in one committed transaction, or none.

        Records of one partition keep the order given, whichever form they come in. Blocks until the
        commit is acknowledged. Raises `Fenced`, or `Retryable` when the outcome is unclear: then
        this publisher is spent, and the truth is on the topic.
        """
        if self._path is None:
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
        producer, self._producer, self._path = self._producer, None, None
        if producer is None:
            return
        # An open transaction is ended by the next init_transactions or by its time-out;
        # aborting it here would wait without limit for a broker that may be away.
        with suppress(Exception):
            producer._sender.force_close()  # noqa: SLF001 - close() alone first waits to flush
        with suppress(Exception):
            producer.close(timeout=_CLOSE_TIMEOUT_S)

    def _connect(self) -> None:
        if self._producer is None:
            require_reachable(self._settings)
            self._producer = KafkaProducer(**self._options)

    def _chosen_path(self) -> RecordPath:
        if self._settings.relay.batch_path == "send":
            return SendPath(self._producer)
        if (reason := kafka_batches.unsupported(self._producer)) is not None:
            log.warning("records go one by one through send: %s", reason)
            return SendPath(self._producer)
        return BatchPath(self._producer)

    def _transact(self, records: Sequence[Outgoing | RecordSection]) -> None:
        producer, path, timestamp_ms = self._producer, self._path, self._clock_ms()
        assert path is not None  # noqa: S101 - open() sets it with the producer
        producer.begin_transaction()
        self._observe("begun")
        sent: list[Any] = []
        for section in sections(records):
            if len(section.data) > SECTION_BYTES_MAX:
                raise errors.MessageSizeTooLargeError(
                    f"a record of {len(section.data)} bytes; {SECTION_BYTES_MAX} are allowed"
                )
            self._observe("sending")
            try:
                sent += path.send(section, timestamp_ms)
            except errors.KafkaError as error:
                raise self._first_refusal(path, sent) or error from error
        self._observe("sent")
        producer.flush(timeout=self._flush_timeout_s)
        for one in sent:
            if (refusal := path.refusal(one)) is not None:
                raise refusal
        self._observe("acknowledged")
        producer.commit_transaction()
        self._observe("committed")

    def _first_refusal(self, path: RecordPath, sent: Sequence[Any]) -> Exception | None:
        """Return what the broker said to an earlier part of the transaction, None if nothing yet.

        A fenced client learns it from the answer to a batch, begins to look for a new epoch, and
        refuses the next record for that: the answer is the cause, and it is a moment behind.
        """
        give_up_at = time.monotonic() + _REFUSAL_WAIT_S
        while sent and time.monotonic() < give_up_at:
            for one in sent:
                if one.is_done and (refusal := path.refusal(one)) is not None:
                    return refusal
            time.sleep(0.005)
        return None

    def _spent(self, error: Exception, doing: str) -> IUError:
        """Give the producer up and return `error` as one of ours."""
        cause: BaseException = error
        manager = getattr(self._producer, "_transaction_manager", None)
        if manager is not None and isinstance(manager.last_error, Exception):
            cause = manager.last_error
        self.close()
        return translate(cause, doing)
