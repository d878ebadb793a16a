"""Read partitions by offset with kafka-python, outside of any group.

The end as `read_committed` and as `read_uncommitted` sees it are two questions that take two
consumers, because the isolation level is the consumer's. The second is made when first asked.

That a range is read to its end shows in the consumer's *position*, not in the records it
returned: markers and aborted records take offsets and are never returned.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition

from iu_core.bus.kafka_client import consumer_options, require_reachable
from iu_core.bus.kafka_errors import translated
from iu_core.bus.ports import Record
from iu_core.errors import Misconfigured, Retryable
from iu_core.settings import Settings

_POLL_MS: Final = 10
_RECORDS_MAX: Final = 10_000
_PARTITION_BYTES_MAX: Final = 8 * 1_048_576


class KafkaTopicReader:
    """`TopicReader` on a Kafka broker; one thread at a time. `read_timeout_s` bounds one `read`."""

    def __init__(self, settings: Settings, client_id: str, *, read_timeout_s: float = 10.0) -> None:
        self._settings = settings
        self._options = consumer_options(settings, client_id) | {
            "group_id": None,
            "fetch_max_wait_ms": 50,
            "max_partition_fetch_bytes": _PARTITION_BYTES_MAX,
        }
        self._timeout_ms = settings.kafka.request_timeout_ms
        self._read_timeout_s = read_timeout_s
        self._consumers: dict[bool, Any] = {}

    def end_offsets(self, topic: str, *, committed: bool) -> Mapping[int, int]:
        """Return the end of each partition, as `read_committed` or `read_uncommitted` sees it."""
        with translated(f"asking for the end of {topic}"):
            consumer = self._consumer(committed=committed)
            offsets = consumer.end_offsets(self._partitions(topic, committed=committed), self._timeout_ms)
        return {place.partition: offset for place, offset in offsets.items()}

    def start_offsets(self, topic: str) -> Mapping[int, int]:
        """Return the first offset that each partition still holds."""
        with translated(f"asking for the start of {topic}"):
            consumer = self._consumer(committed=True)
            offsets = consumer.beginning_offsets(self._partitions(topic), self._timeout_ms)
        return {place.partition: offset for place, offset in offsets.items()}

    def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int | None:
        """Return the first offset whose record is as young as `timestamp_ms`, None past the end."""
        place = TopicPartition(topic, partition)
        with translated(f"looking up a time in {topic}"):
            found = self._consumer(committed=True).offsets_for_times({place: timestamp_ms}, self._timeout_ms)
        offset: int | None = found[place].offset if found.get(place) is not None else None
        return None if offset is None or offset < 0 else offset

    def read(self, topic: str, partition: int, start: int, end: int) -> Sequence[Record]:
        """Return the committed records with `start` <= offset < `end`, in order; bounded wait.

        Offsets taken by markers and aborted records are left out. Raises `Retryable` when
        `end` is not reached in time.
        """
        if start >= end:
            return []
        place = TopicPartition(topic, partition)
        give_up_at = time.monotonic() + self._read_timeout_s
        records: list[Record] = []
        with translated(f"reading {topic}, partition {partition}"):
            consumer = self._consumer(committed=True)
            consumer.assign([place])
            consumer.seek(place, start)
            while (position := consumer.position(place, self._timeout_ms)) is None or position < end:
                if time.monotonic() > give_up_at:
                    raise Retryable(
                        f"{topic}, partition {partition}, was not read to its end in time",
                        why=f"stopped at offset {position} of {end} after {self._read_timeout_s:.0f} s",
                        remedy="a transaction may be open on the partition: try again after its time-out",
                    )
                fetched = consumer.poll(_POLL_MS, max_records=_RECORDS_MAX).get(place, ())
                records += [as_record(raw) for raw in fetched if raw.offset < end]
        return records

    def close(self) -> None:
        """Disconnect. Idempotent."""
        while self._consumers:
            _, consumer = self._consumers.popitem()
            with suppress(Exception):
                consumer.close(autocommit=False, timeout_ms=1_000)

    def _consumer(self, *, committed: bool) -> Any:
        if committed not in self._consumers:
            require_reachable(self._settings)
            level = "read_committed" if committed else "read_uncommitted"
            self._consumers[committed] = KafkaConsumer(**self._options | {"isolation_level": level})
        return self._consumers[committed]

    def _partitions(self, topic: str, *, committed: bool = True) -> list[TopicPartition]:
        partitions = self._consumer(committed=committed).partitions_for_topic(topic)
        if not partitions:
            raise Misconfigured(
                f"the topic {topic} is not there",
                why="the broker does not know it",
                remedy="it is made by: iu relay run",
            )
        return [TopicPartition(topic, partition) for partition in sorted(partitions)]


def as_record(raw: Any) -> Record:
    """Return a ConsumerRecord of kafka-python as ours; a header without value reads as empty."""
    return Record(
        topic=raw.topic,
        partition=raw.partition,
        offset=raw.offset,
        timestamp_ms=raw.timestamp,
        key=raw.key,
        value=raw.value,
        headers=tuple((name, value or b"") for name, value in raw.headers),
    )
