"""The batch path: framed records handed to a transactional producer below `send`.

`KafkaProducer.send` costs 25 to 35 µs a record and is the ceiling of everything above it. What it
makes in the end is a `ProducerBatch` in the accumulator; here that is made directly, from records
that are framed already. The client goes on doing what it alone can do: sequence numbers, epochs,
requests, retries, checksums.

It touches names of kafka-python that are private, so it is fenced in: one module, the minor
version pinned, and `unsupported` asks before the first use whether the client is the one read for
this: same version, same names, and a batch of ours byte for byte equal to one of its own. If not,
the publisher sends record by record (`kafka_sends`), slower and just as safe; the conformance
suite runs on both.

Compression happens here, in the caller's thread and outside the interpreter's lock, so that the
client's IO thread finds the batch ready.

Source: kafka-python 3.0.12, `producer/record_accumulator.py`, `append` and
`drain_batches_for_one_node`; `record/default_records.py`.
"""

import time
from collections.abc import Sequence
from typing import Any, Final

import kafka
from kafka import errors
from kafka.codec import lz4_encode
from kafka.producer.producer_batch import FinalState, ProducerBatch
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka.structs import TopicPartition

from iu_core.bus.ports import Outgoing, RecordSection
from iu_core.bus.record_format import sections

KNOWN_MINOR: Final = "3.0."
_MAGIC: Final = 2
_LZ4: Final = DefaultRecordBatchBuilder.CODEC_LZ4
_NAMES: Final = {
    "_accumulator": ("_appends_in_progress", "_batches", "_closed", "_incomplete", "_tp_lock", "config"),
    "_sender": ("wakeup",),
    "_transaction_manager": ("maybe_add_partition_to_transaction",),
}


class _Framed(DefaultRecordBatchBuilder):  # type: ignore[misc]  # the client has no types
    """A batch whose records are framed and compressed already; its header comes when it is drained."""

    def __init__(self, section: RecordSection, timestamp_ms: int, codec: int) -> None:
        super().__init__(_MAGIC, codec, False, -1, -1, -1, 0)
        self._num_records = section.count
        self._last_offset = section.count - 1
        self._first_timestamp = self._max_timestamp = timestamp_ms
        # Not by the builder's own method, which copies the records three times on the way.
        packed = lz4_encode(section.data) if self._compression_type == _LZ4 else section.data
        self._compressed = len(packed) < len(section.data)
        self._buffer += packed if self._compressed else section.data

    def append(self, *_: Any, **__: Any) -> None:
        """Take nothing: the batch is whole, a record that comes later opens the next one."""
        return

    def build(self) -> bytearray:
        self.write_header(self._compressed)
        whole: bytearray = self._buffer
        return whole


def _batch(section: RecordSection, timestamp_ms: int, codec: int) -> Any:
    records = MemoryRecordsBuilder(_MAGIC, codec, 0)
    records._builder = _Framed(section, timestamp_ms, codec)  # noqa: SLF001 - the seam
    records._next_offset = section.count  # noqa: SLF001
    return ProducerBatch(TopicPartition(section.topic, section.partition), records, now=time.monotonic())


class BatchPath:
    """`RecordPath` of `kafka_publisher`: whole sections, below `send`."""

    name: Final = "batches"

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self._codec = producer._accumulator.config["compression_attrs"]  # noqa: SLF001

    def send(self, section: RecordSection, timestamp_ms: int) -> Sequence[Any]:
        """Hand the section to the client; returns the batch, to be asked after a flush.

        Raises `ValueError` if there is no such partition, and errors of kafka-python.
        """
        producer = self._producer
        if section.partition not in producer.partitions_for(section.topic):
            raise ValueError(f"{section.topic} has no partition {section.partition}")
        batch = _batch(section, timestamp_ms, self._codec)
        place, accumulator = batch.topic_partition, producer._accumulator  # noqa: SLF001
        producer._transaction_manager.maybe_add_partition_to_transaction(place)  # noqa: SLF001
        # As `append` does: counted, so that a forced close in another thread misses no batch.
        accumulator._appends_in_progress.increment()  # noqa: SLF001
        try:
            with accumulator._tp_lock(place):  # noqa: SLF001
                if accumulator._closed:  # noqa: SLF001
                    raise errors.IllegalStateError("the producer is closed")
                accumulator._batches[place].append(batch)  # noqa: SLF001
                accumulator._incomplete.add(batch)  # noqa: SLF001
        finally:
            accumulator._appends_in_progress.decrement()  # noqa: SLF001
        producer._sender.wakeup()  # noqa: SLF001
        return (batch,)

    def refusal(self, sent: Any) -> Exception | None:
        """Return why a batch did not arrive, None if the broker has acknowledged it."""
        failure: Exception | None = None
        if not sent.is_done:
            # Only a batch that the broker found too large is cut in two and forgotten like this.
            failure = errors.MessageSizeTooLargeError("the broker takes no batch of this size")
        elif sent.final_state is not FinalState.SUCCEEDED:
            _, _, exception_of = sent.produce_future.value
            failure = exception_of(0)
        return failure


def unsupported(producer: Any) -> str | None:
    """Return why the batch path must not be used with this client, None if it may."""
    version = kafka.__version__
    if not version.startswith(KNOWN_MINOR):
        return f"kafka-python {version} is not {KNOWN_MINOR}x"
    for part, names in _NAMES.items():
        owner = getattr(producer, part, None)
        missing = [name for name in names if not hasattr(owner, name)]
        if missing:
            return f"kafka-python {version} has no {part}.{missing[0]}"
    try:
        return None if _same_bytes() else f"kafka-python {version} frames records differently"
    except Exception as error:
        return f"kafka-python {version} refuses a framed batch: {type(error).__name__}: {error}"


def _same_bytes() -> bool:
    """Return whether a batch of ours equals one that the client makes of the same records."""
    headers = (("ce_id", b"1"), ("long", b"x" * 200))
    sample = [Outgoing("t", 0, b"k", b"v" * size, headers) for size in (0, 1, 70, 9_000)]
    sample += [Outgoing("t", 0, None, b"v"), Outgoing("t", 0, b"k", None)]
    (section,) = sections(sample)
    ours = _batch(section, 1_700_000_000_000, _LZ4).records
    theirs = MemoryRecordsBuilder(_MAGIC, _LZ4, 1_000_000)
    for record in sample:
        theirs.append(1_700_000_000_000, record.key, record.value, list(record.headers))
    for batch in (ours, theirs):
        batch.set_producer_state(7, 3, 11, True)
        batch.close()
    return bytes(ours.buffer()) == bytes(theirs.buffer())
