"""A broker in a dictionary: transactions, epochs, markers and both isolation levels; nothing else.

It is held to the real broker by `test_bus.py`. What it cannot show: time-outs, rebalances,
retention, and anything that happens between two of the publisher's steps on the wire.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from iu_core.bus.ports import Outgoing, Record, RecordSection, Topic
from iu_core.bus.record_format import records_of, sections
from iu_core.errors import Fenced, Misconfigured, Retryable, Terminal

Crash = Literal["before the send", "before the commit", "after the commit"]


@dataclass
class _Transaction:
    state: Literal["open", "committed", "aborted"] = "open"
    places: set[tuple[str, int]] = field(default_factory=set)


@dataclass
class _Entry:
    transaction: _Transaction
    record: Record | None  # None: a marker


@dataclass
class _Log:
    topic_id: str
    partitions: list[list[_Entry]]


class FakeBroker:
    """Holds topics and transactions; `clock_ms` is the timestamp of the next record."""

    def __init__(self) -> None:
        self.logs: dict[str, _Log] = {}
        self.epochs: dict[str, int] = {}
        self.open: dict[str, _Transaction] = {}
        self.clock_ms = 1_000

    def log(self, topic: str) -> _Log:
        if topic not in self.logs:
            raise Misconfigured(f"the topic {topic} is not there")
        return self.logs[topic]

    def begin(self, transactional_id: str) -> int:
        """End the open transaction of `transactional_id` and return its new epoch."""
        if transactional_id in self.open:
            self.end(transactional_id, "aborted")
        self.epochs[transactional_id] = self.epochs.get(transactional_id, 0) + 1
        return self.epochs[transactional_id]

    def append(self, transactional_id: str, records: Sequence[Outgoing | RecordSection]) -> None:
        transaction = self.open.setdefault(transactional_id, _Transaction())
        for record in (record for section in sections(records) for record in records_of(section)):
            log = self.log(record.topic).partitions[record.partition]
            transaction.places.add((record.topic, record.partition))
            at = (record.topic, record.partition, len(log), self.clock_ms)
            log.append(_Entry(transaction, Record(*at, record.key, record.value, record.headers)))

    def end(self, transactional_id: str, state: Literal["committed", "aborted"]) -> None:
        transaction = self.open.pop(transactional_id)
        transaction.state = state
        for topic, partition in sorted(transaction.places):
            self.log(topic).partitions[partition].append(_Entry(transaction, None))


class FakePublisher:
    """`TransactionalPublisher` on a `FakeBroker`; `crash` makes the next publish die at that point."""

    def __init__(self, broker: FakeBroker, transactional_id: str) -> None:
        self._broker = broker
        self._id = transactional_id
        self._epoch: int | None = None
        self.crash: Crash | None = None

    def open(self) -> None:
        if self._epoch is None:
            self._epoch = self._broker.begin(self._id)

    def publish(self, records: Sequence[Outgoing | RecordSection]) -> None:
        if self._epoch is None:
            raise Retryable("this publisher is spent")
        if self._epoch != self._broker.epochs[self._id]:
            self._epoch = None
            raise Fenced("a newer producer has this transactional id")
        if not records:
            return
        if self.crash != "before the send":
            self._broker.append(self._id, records)
        if self.crash != "before the send" and self.crash != "before the commit":
            self._broker.end(self._id, "committed")
        if self.crash is not None:
            self._epoch = None
            raise Retryable(f"died {self.crash}")

    def close(self) -> None:
        if self._epoch is not None and self._id in self._broker.open:
            self._broker.end(self._id, "aborted")
        self._epoch = None


class FakeReader:
    """`TopicReader` on a `FakeBroker`."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker

    def end_offsets(self, topic: str, *, committed: bool) -> Mapping[int, int]:
        return {
            number: self._stable_end(log) if committed else len(log)
            for number, log in enumerate(self._broker.log(topic).partitions)
        }

    def start_offsets(self, topic: str) -> Mapping[int, int]:
        return dict.fromkeys(range(len(self._broker.log(topic).partitions)), 0)

    def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int | None:
        records = [entry.record for entry in self._broker.log(topic).partitions[partition] if entry.record]
        return next((record.offset for record in records if record.timestamp_ms >= timestamp_ms), None)

    def read(self, topic: str, partition: int, start: int, end: int) -> Sequence[Record]:
        log = self._broker.log(topic).partitions[partition]
        if start < end and self._stable_end(log) < end:
            raise Retryable(f"{topic}, partition {partition}, was not read to its end in time")
        return [e.record for e in log[start:end] if e.record and e.transaction.state == "committed"]

    def close(self) -> None:
        pass

    @staticmethod
    def _stable_end(log: list[_Entry]) -> int:
        opened = (offset for offset, entry in enumerate(log) if entry.transaction.state == "open")
        return next(opened, len(log))


class FakeAdmin:
    """`BusAdmin` on a `FakeBroker`."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker

    def create(self, topic: str, *, partitions: int, configs: Mapping[str, str]) -> None:
        log = self._broker.logs.setdefault(topic, _Log(str(uuid.uuid4()), [[] for _ in range(partitions)]))
        if len(log.partitions) != partitions:
            raise Terminal(f"{topic} has {len(log.partitions)} partitions, {partitions} are expected")

    def describe(self, topic: str) -> Topic | None:
        log = self._broker.logs.get(topic)
        return None if log is None else Topic(topic, log.topic_id, len(log.partitions))

    def delete(self, topics: list[str]) -> None:
        for topic in topics:
            self._broker.logs.pop(topic, None)

    def close(self) -> None:
        pass
