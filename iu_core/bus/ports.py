"""What the system asks of a bus, as values and protocols; no broker library is named here.

Adapters raise `Retryable` (broker away), `Fenced` (a newer producer epoch) or `Terminal`;
no other exception crosses these ports. Each call that talks to a broker is bounded in time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from iu_core.errors import Terminal

Headers: TypeAlias = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Record:
    """A record as the broker holds it; `timestamp_ms` is Unix time in milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    def header(self, name: str) -> bytes | None:
        """Return the value of the first header called `name`."""
        return next((value for header, value in self.headers if header == name), None)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to be published to `topic`, `partition`."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class RecordSection:
    """Records of one partition, framed already: the records of one batch in Kafka's format v2.

    Made by `iu_core.bus.record_format`; `data` is uncompressed, of at most `SECTION_BYTES_MAX` bytes.
    """

    topic: str
    partition: int
    count: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the broker describes it; `topic_id` changes when it is deleted and made again."""

    name: str
    topic_id: str
    partitions: int


class PositionLost(Terminal):
    """The broker no longer has the offset we stand at, or does not have it yet."""


class RecordCorrupt(Terminal):
    """The bytes the broker holds do not match their checksum."""


class TransactionalPublisher(Protocol):
    """Publishes batches, each one Kafka transaction, under one transactional id."""

    def open(self) -> None:
        """Fence the predecessor and end its open transaction. Idempotent; blocks, bounded."""

    def publish(self, records: Sequence[Outgoing | RecordSection]) -> None:
        """Publish all of `records` in one committed transaction, or none.

        Records of one partition keep the order given, whichever form they come in. Blocks until the
        commit is acknowledged. Raises `Fenced`, or `Retryable` when the outcome is unclear: then
        this publisher is spent, and the truth is on the topic.
        """

    def close(self) -> None:
        """Abort what is open and disconnect. Idempotent, never raises."""


class TopicReader(Protocol):
    """Reads partitions by offset, outside of any group."""

    def end_offsets(self, topic: str, *, committed: bool) -> Mapping[int, int]:
        """Return the end of each partition, as `read_committed` or `read_uncommitted` sees it."""

    def start_offsets(self, topic: str) -> Mapping[int, int]:
        """Return the first offset that each partition still holds."""

    def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int | None:
        """Return the first offset whose record is as young as `timestamp_ms`, None past the end."""

    def read(self, topic: str, partition: int, start: int, end: int) -> Sequence[Record]:
        """Return the committed records with `start` <= offset < `end`, in order; bounded wait.

        Offsets taken by markers and aborted records are left out. Raises `Retryable` when
        `end` is not reached in time.
        """

    def close(self) -> None:
        """Disconnect. Idempotent."""


class BusAdmin(Protocol):
    """Makes and describes topics."""

    def create(self, topic: str, *, partitions: int, configs: Mapping[str, str]) -> None:
        """Make `topic` unless it is there. Raises `Terminal` if its partition count differs."""

    def describe(self, topic: str) -> Topic | None:
        """Return the topic, None when there is none."""

    def close(self) -> None:
        """Disconnect. Idempotent."""


class GroupMember(Protocol):
    """A member of one consumer group on one topic; positions are the caller's.

    The broker's committed offsets are never read: a newly assigned partition delivers
    nothing until `seek` names its position.
    """

    def poll(self, timeout_ms: int, records_max: int) -> Mapping[int, Sequence[Record]]:
        """Return records by partition, after `timeout_ms` at most (a rebalance may take a second).

        Keeps the membership. Raises `PositionLost` or `RecordCorrupt`; after either the member
        must be closed.
        """

    def joined(self) -> bool:
        """Return whether the group has given us a share, which may be empty."""

    def assigned(self) -> frozenset[int]:
        """Return the partitions held now; it only changes during `poll`."""

    def taken(self) -> frozenset[int]:
        """Return the held partitions whose position has not been named by `seek` yet."""

    def seek(self, partition: int, offset: int) -> None:
        """Fetch `partition` from `offset` next. Raises `Retryable` if it is not assigned."""

    def position(self, partition: int) -> int | None:
        """Return the offset that is fetched next, None if there is none.

        It also goes past markers and aborted records, which are never returned.
        """

    def pause(self, partitions: frozenset[int]) -> None:
        """Deliver nothing from `partitions`, keep the membership."""

    def resume(self, partitions: frozenset[int]) -> None:
        """Deliver from `partitions` again."""

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell the broker how far we are, for lag tools; never blocks, never raises."""

    def confirm(self, offsets: Mapping[int, int]) -> None:
        """Ask the broker whether the membership stands, by a commit that waits; bounded.

        A member that was stopped for a while may not know that its partitions went to another.
        Raises `Retryable` if it does not stand (a poll joins again), `Fenced` if a newer member
        has this one's name.
        """

    def close(self) -> None:
        """Leave the group. Idempotent, never raises."""
