"""A member of a consumer group on kafka-python, whose positions are the caller's.

Read in the source of kafka-python 3.0.12, and what follows from it:

- Rebalance listeners run on the client's IO thread, where anything that blocks stops the
  heartbeats. Ours only changes memory: it pauses what is newly assigned and gives it a position
  of 0, so that `poll` neither asks for committed offsets nor complains that there are none.
- After a CRC failure the next poll spins for ever. So that member is finished.
- When a newer member has taken our `group.instance.id`, a heartbeat is told so, and nobody
  else: the fenced member keeps its assignment and goes on fetching. Only a commit, waited
  for, brings the error out (`confirm`).
- A join that ends between two polls is thrown away by the next poll, which joins anew: members
  whose polls are shorter than a rebalance chase each other through it without end. So a poll that
  finds itself in one stays in it.
- No deserializer is given: one that raises would spin the same way.
"""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition, errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.structs import MemberState

from iu_core.bus.kafka_client import consumer_options, require_reachable
from iu_core.bus.kafka_errors import translated
from iu_core.bus.kafka_reader import as_record
from iu_core.bus.ports import PositionLost, Record, RecordCorrupt
from iu_core.bus.watchdog import Watchdog
from iu_core.errors import Retryable
from iu_core.settings import Settings

_PARTITION_BYTES_MAX: Final = 4 * 1_048_576
_CLOSE_TIMEOUT_MS: Final = 3_000
# How long a poll stays with a rebalance: a part of what a stop may wait for.
_REBALANCE_S: Final = 1.0
# Between two polls lies the work on a batch: it may retry a statement that runs to its limit.
_STATEMENTS_BETWEEN_POLLS: Final = 4


class KafkaGroupMember:
    """`GroupMember` on a Kafka broker; one thread at a time.

    `instance` makes the membership static: a process that comes back under the same name within
    the session time-out takes its partitions up again without a rebalance.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        group: str,
        topic: str,
        watchdog: Watchdog,
        instance: str | None = None,
    ) -> None:
        self._topic = topic
        self._watchdog = watchdog
        self._timeout_ms = settings.kafka.request_timeout_ms
        self._lock = threading.Lock()
        self._named: set[int] = set()
        self._assigned: frozenset[int] = frozenset()
        statement_ms = settings.database.statement_timeout_ms
        options = consumer_options(settings, instance or group) | {
            "group_id": group,
            "partition_assignment_strategy": [CooperativeStickyAssignor],
            "session_timeout_ms": settings.consumer.session_timeout_ms,
            "heartbeat_interval_ms": max(1, settings.consumer.session_timeout_ms // 5),
            "max_poll_interval_ms": max(60_000, _STATEMENTS_BETWEEN_POLLS * statement_ms),
            "max_partition_fetch_bytes": _PARTITION_BYTES_MAX,
            "fetch_max_wait_ms": 100,
            "retry_backoff_ms": 50,
        }
        # Static members came with Kafka 2.3; the mock broker speaks 2.0.
        if instance is not None and not settings.kafka.mock:
            options["group_instance_id"] = instance
        with translated(f"joining group {group}"):
            require_reachable(settings)
            self._consumer: Any = KafkaConsumer(**options)
            self._consumer.subscribe(topics=[topic], listener=_Memory(self))
            # A member that leads the group divides what it knows: without metadata, nothing at all.
            with watchdog.guard(f"asking for the partitions of {topic}"):
                self._consumer.partitions_for_topic(topic)

    def poll(self, timeout_ms: int, records_max: int) -> Mapping[int, Sequence[Record]]:
        """Return records by partition, after at most `timeout_ms`; keeps the membership."""
        fetched: Mapping[Any, Sequence[Any]] = {}
        with self._watchdog.guard(f"polling {self._topic}"), translated(f"polling {self._topic}"):
            try:
                fetched = self._fetch(timeout_ms, records_max)
            except errors.NoOffsetForPartitionError:
                pass  # assigned just now, and the listener has not given it a position yet
            except errors.OffsetOutOfRangeError as error:
                raise _position_lost(self._topic, error) from error
            except errors.CorruptRecordError as error:
                raise RecordCorrupt(
                    f"a record of {self._topic} is corrupt",
                    why=str(error),
                    remedy="compare the replicas of the partition; nothing is skipped by itself",
                ) from error
            with self._lock:
                self._assigned = frozenset(place.partition for place in self._consumer.assignment())
                self._named &= self._assigned
                named = frozenset(self._named)
        return {
            place.partition: [as_record(raw) for raw in records]
            for place, records in fetched.items()
            if place.partition in named
        }

    def _fetch(self, timeout_ms: int, records_max: int) -> Mapping[Any, Sequence[Any]]:
        """Poll; while a rebalance is under way, poll on rather than turn away from it."""
        give_up_at = time.monotonic() + _REBALANCE_S
        fetched: Mapping[Any, Sequence[Any]] = self._consumer.poll(timeout_ms, max_records=records_max)
        while not fetched and self._consumer.group_metadata().state == MemberState.REBALANCING:
            left_s = give_up_at - time.monotonic()
            if left_s <= 0:
                break
            fetched = self._consumer.poll(round(1_000 * left_s), max_records=records_max)
        return fetched

    def joined(self) -> bool:
        """Return whether the group has given us a share, which may be empty."""
        metadata = self._consumer.group_metadata()
        return bool(metadata.generation_id >= 0 and metadata.state == MemberState.STABLE)

    def assigned(self) -> frozenset[int]:
        """Return the partitions held now; it only changes during `poll`."""
        return self._assigned

    def taken(self) -> frozenset[int]:
        """Return the held partitions whose position has not been named by `seek` yet."""
        with self._lock:
            return self._assigned - self._named

    def seek(self, partition: int, offset: int) -> None:
        """Fetch `partition` from `offset` next. Raises `Retryable` if it is not assigned."""
        place = TopicPartition(self._topic, partition)
        with self._lock:
            try:
                self._consumer.seek(place, offset)
                self._consumer.resume(place)
            except (ValueError, KeyError, errors.IllegalStateError) as error:
                raise Retryable(
                    f"partition {partition} of {self._topic} is not assigned any more", why=str(error)
                ) from error
            self._named.add(partition)

    def position(self, partition: int) -> int | None:
        """Return the offset that is fetched next, None if there is none."""
        with translated(f"asking for the position in {self._topic}"):
            try:
                offset: int | None = self._consumer.position(
                    TopicPartition(self._topic, partition), timeout_ms=self._timeout_ms
                )
            except (KeyError, errors.IllegalStateError, errors.NoOffsetForPartitionError):
                return None
        return offset

    def pause(self, partitions: frozenset[int]) -> None:
        """Deliver nothing from `partitions`, keep the membership."""
        self._on_those_held(self._consumer.pause, partitions)

    def resume(self, partitions: frozenset[int]) -> None:
        """Deliver from `partitions` again; one without a position stays silent."""
        with self._lock:
            named = partitions & self._named
        self._on_those_held(self._consumer.resume, named)

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell the broker how far we are, for lag tools; never blocks, never raises."""
        with suppress(errors.KafkaError, AssertionError):
            self._consumer.commit_async(self._commits(offsets))

    def confirm(self, offsets: Mapping[int, int]) -> None:
        """Ask the broker whether the membership stands, by a commit that waits; bounded."""
        with self._watchdog.guard("confirming the membership"), translated("confirming the membership"):
            self._consumer.commit(self._commits(offsets), timeout_ms=self._timeout_ms)

    def close(self) -> None:
        """Leave the group. Idempotent, never raises."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with self._watchdog.guard("leaving the group"), suppress(Exception):
                consumer.close(autocommit=False, timeout_ms=_CLOSE_TIMEOUT_MS)

    def on_assigned(self, partitions: Iterable[int]) -> None:
        """Keep newly assigned partitions silent until somebody names their position. IO thread."""
        for partition in partitions:
            place = TopicPartition(self._topic, partition)
            self._named.discard(partition)
            self._consumer.pause(place)
            self._consumer.seek(place, 0)

    def on_gone(self, partitions: Iterable[int]) -> None:
        """Forget partitions. IO thread."""
        self._named.difference_update(partitions)

    def _commits(self, offsets: Mapping[int, int]) -> dict[Any, Any]:
        return {
            TopicPartition(self._topic, partition): OffsetAndMetadata(offset, "", -1)
            for partition, offset in offsets.items()
        }

    def _on_those_held(self, change: Any, partitions: frozenset[int]) -> None:
        for partition in partitions & self._assigned:
            # A rebalance on the IO thread may have taken it since the last poll.
            with suppress(KeyError, errors.IllegalStateError):
                change(TopicPartition(self._topic, partition))


class _Memory(ConsumerRebalanceListener):  # type: ignore[misc]
    """Hands changes of the assignment to the member; nothing here may block."""

    def __init__(self, member: KafkaGroupMember) -> None:
        self._member = member

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        self._member.on_assigned(place.partition for place in assigned)

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        self._member.on_gone(place.partition for place in revoked)

    def on_partitions_lost(self, lost: Iterable[Any]) -> None:
        self._member.on_gone(place.partition for place in lost)


def _position_lost(topic: str, error: errors.OffsetOutOfRangeError) -> PositionLost:
    return PositionLost(
        f"our position in {topic} is out of range",
        why=str(error),
        remedy="the events between are in the outbox; `iu verify` says which route misses what",
    )
