"""What a doctor asks of a bus: open transactions, rights, settings, disks and the clock.

Apart from `ports`, because nothing that publishes or consumes needs any of it, and because
a broker may refuse each question (`NotOffered`) without anything being wrong with the events.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from iu_core.errors import Misconfigured


class NotOffered(Misconfigured):
    """The broker does not know this question, or does not let us ask it; nothing follows from it."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A transaction that is not ended, as its coordinator knows it.

    `state` is the broker's word: Ongoing, PrepareCommit, PrepareAbort. `started_at` by the
    coordinator's clock, None if it does not say.
    """

    transactional_id: str
    producer_id: int
    state: str
    timeout_ms: int
    started_at: datetime | None
    places: frozenset[Place]


@dataclass(frozen=True, slots=True)
class OpenProducer:
    """A producer with an open transaction on a partition, as the partition's leader knows it.

    `first_offset` is the transaction's first on this partition; `written_at` the timestamp of
    the producer's newest record.
    """

    place: Place
    producer_id: int
    producer_epoch: int
    first_offset: int
    written_at: datetime


@dataclass(frozen=True, slots=True)
class LogDir:
    """A directory of a broker; bytes None if the broker is too old to say. `error` None is healthy."""

    broker: int
    path: str
    total_bytes: int | None
    usable_bytes: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class ClockReading:
    """How far another clock is ahead of this machine's, in seconds, ± `uncertain_s`."""

    ahead_s: float
    uncertain_s: float


class TransactionInspection(Protocol):
    """Finds transactions that are not ended, and ends one that nobody else will.

    Each call is one look, bounded in time. Raises `NotOffered`, or what every adapter of the bus raises.
    """

    def transactions(self) -> tuple[OpenTransaction, ...]:
        """Return the transactions of the whole cluster that are not ended."""

    def open_producers(self, places: Iterable[Place]) -> tuple[OpenProducer, ...]:
        """Return who has a transaction open on `places`."""

    def abort_at(self, producer: OpenProducer) -> None:
        """Write the end that is missing on the producer's partition: aborted."""


class BusInspection(TransactionInspection, Protocol):
    """Further looks, with the same errors."""

    def settings(self, topic: str) -> Mapping[str, str]:
        """Return every setting of a topic, defaults too; empty if there is no such topic."""

    def rights(self, topic: str) -> frozenset[str] | None:
        """Return what we may do with a topic (READ, WRITE, …); None if the broker does not say."""

    def log_dirs(self) -> tuple[LogDir, ...]:
        """Return the directories of every broker."""

    def sizes(self, topic: str) -> Mapping[int, int]:
        """Return the bytes that each partition takes on disk."""

    def clock(self) -> ClockReading:
        """Compare the clock of the cluster's controller with this machine's."""

    def close(self) -> None:
        """Disconnect. Idempotent."""
