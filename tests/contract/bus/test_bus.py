"""What publisher, reader and admin promise, asked of the fake and of a real broker alike; of the
broker by both paths that records can take through the client, framed batches and plain `send`.

A scenario knows the ports only. Two things it needs from behind them: a producer that dies
with its transaction open, and a topic that is deleted. What this suite does not prove: the
behaviour of a broker that is slow, partitioned or restarted (`tests/chaos`).
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal, Protocol

import pytest
from kafka import KafkaProducer

from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.kafka_client import producer_options
from iu_core.bus.kafka_publisher import KafkaPublisher
from iu_core.bus.kafka_reader import KafkaTopicReader
from iu_core.bus.ports import BusAdmin, Outgoing, TopicReader, TransactionalPublisher
from iu_core.bus.record_format import sections
from iu_core.bus.watchdog import Watchdog
from iu_core.errors import Fenced, Retryable, Terminal
from iu_core.settings import RelaySettings, Settings
from tests.contract.bus.fake_bus import FakeAdmin, FakeBroker, FakePublisher, FakeReader

PARTITIONS = 2


class Admin(BusAdmin, Protocol):
    def delete(self, topics: list[str]) -> None: ...


@dataclass
class Bus:
    """The ports of one broker, with names of this test's own."""

    prefix: str
    admin: Admin
    reader: TopicReader
    new_publisher: Callable[[str], TransactionalPublisher]
    die_in_transaction: Callable[[str, list[Outgoing]], None]
    made: list[str] = field(default_factory=list)

    def topic(self, name: str = "t", partitions: int = PARTITIONS) -> str:
        topic = f"{self.prefix}{name}"
        self.admin.create(topic, partitions=partitions, configs={"retention.ms": "-1"})
        self.made.append(topic)
        return topic

    def opened(self, transactional_id: str = "tx") -> TransactionalPublisher:
        publisher = self.new_publisher(f"{self.prefix}{transactional_id}")
        publisher.open()
        return publisher

    def values(self, topic: str, partition: int = 0) -> list[bytes | None]:
        end = self.reader.end_offsets(topic, committed=True)[partition]
        return [record.value for record in self.reader.read(topic, partition, 0, end)]


def fake_bus(prefix: str) -> Bus:
    broker = FakeBroker()

    def die(transactional_id: str, records: list[Outgoing]) -> None:
        broker.begin(f"{prefix}{transactional_id}")
        broker.append(f"{prefix}{transactional_id}", records)

    return Bus(prefix, FakeAdmin(broker), FakeReader(broker), lambda name: FakePublisher(broker, name), die)


def kafka_bus(prefix: str, bootstrap: str, path: Literal["auto", "send"], opened: ExitStack) -> Bus:
    settings = Settings(kafka_bootstrap_servers=bootstrap, relay=RelaySettings(batch_path=path))
    watchdog = Watchdog(30)
    opened.callback(watchdog.close)
    admin, reader = (
        KafkaAdmin(settings, "contract"),
        KafkaTopicReader(settings, "contract", read_timeout_s=1.0),
    )
    opened.callback(admin.close)
    opened.callback(reader.close)

    def new_publisher(name: str) -> KafkaPublisher:
        publisher = KafkaPublisher(settings, name, watchdog)
        opened.callback(publisher.close)
        return publisher

    def die(transactional_id: str, records: list[Outgoing]) -> None:
        producer = KafkaProducer(**producer_options(settings, f"{prefix}{transactional_id}"))
        producer.init_transactions()
        producer.begin_transaction()
        for record in records:
            producer.send(record.topic, value=record.value, key=record.key, partition=record.partition)
        producer.flush(timeout=10)
        producer._sender.force_close()
        producer.close(timeout=1)

    return Bus(prefix, admin, reader, new_publisher, die)


@pytest.fixture(params=["fake", "kafka, batches", "kafka, send"])
def bus(request: pytest.FixtureRequest) -> Iterator[Bus]:
    prefix = f"contract.{uuid.uuid4().hex[:8]}."
    with ExitStack() as opened:
        if request.param == "fake":
            yield fake_bus(prefix)
            return
        path: Literal["auto", "send"] = "send" if request.param == "kafka, send" else "auto"
        made = kafka_bus(prefix, request.getfixturevalue("kafka_bootstrap"), path, opened)
        yield made
        made.admin.delete(made.made)


def one(topic: str, value: bytes, partition: int = 0) -> Outgoing:
    return Outgoing(topic, partition, b"k", value)


def test_a_batch_is_read_back_whole_and_in_order(bus: Bus) -> None:
    topic, headers = bus.topic(), (("ce_id", b"7"), ("empty", b""))
    bus.opened().publish([Outgoing(topic, 1, b"key", b"%d" % number, headers) for number in range(5)])
    records = bus.reader.read(topic, 1, 0, bus.reader.end_offsets(topic, committed=True)[1])
    assert [record.value for record in records] == [b"0", b"1", b"2", b"3", b"4"]
    assert [record.offset for record in records] == [0, 1, 2, 3, 4]
    assert {(r.topic, r.partition, r.key, r.headers) for r in records} == {(topic, 1, b"key", headers)}
    assert records[0].header("ce_id") == b"7"
    assert records[0].header("other") is None
    assert bus.values(topic, 0) == []


def test_a_record_may_lack_its_value_but_not_both(bus: Bus) -> None:
    topic = bus.topic()
    bus.opened().publish([Outgoing(topic, 0, b"k", None), Outgoing(topic, 0, None, b"v")])
    assert bus.values(topic) == [None, b"v"]


def test_one_transaction_spans_topics_and_partitions(bus: Bus) -> None:
    events, cursor = bus.topic("events"), bus.topic("cursor", partitions=1)
    publisher = bus.opened()
    for number in range(3):
        publisher.publish([one(events, b"%d" % number, number % 2), one(cursor, b"c%d" % number)])
    assert (bus.values(events, 0), bus.values(events, 1)) == ([b"0", b"2"], [b"1"])
    assert bus.values(cursor) == [b"c0", b"c1", b"c2"]


def test_framed_records_and_single_ones_keep_the_order_given(bus: Bus) -> None:
    topic = bus.topic()
    framed = sections([one(topic, b"2"), one(topic, b"3"), one(topic, b"b", 1)])
    bus.opened().publish([one(topic, b"1"), *framed, one(topic, b"4"), one(topic, b"c", 1)])
    assert (bus.values(topic, 0), bus.values(topic, 1)) == ([b"1", b"2", b"3", b"4"], [b"b", b"c"])


def test_a_transaction_of_many_sections_is_read_back_whole_and_in_order(bus: Bus) -> None:
    """More bytes than one request or one section holds, over several transactions."""
    topic, publisher = bus.topic(), bus.opened()
    values = [b"%d " % number * 400 for number in range(3_000)]
    assert len(sections([one(topic, value) for value in values])) > 5
    for start in (0, 1_000, 2_000):
        chunk = values[start : start + 1_000]
        publisher.publish([one(topic, value, number % 2) for number, value in enumerate(chunk)])
    assert bus.values(topic, 0) == values[0::2]
    assert bus.values(topic, 1) == values[1::2]


def test_an_empty_batch_leaves_no_trace(bus: Bus) -> None:
    topic = bus.topic()
    bus.opened().publish([])
    assert bus.reader.end_offsets(topic, committed=False) == {0: 0, 1: 0}


def test_open_is_idempotent_and_an_unopened_publisher_publishes_nothing(bus: Bus) -> None:
    topic = bus.topic()
    publisher = bus.new_publisher(f"{bus.prefix}tx")
    with pytest.raises(Retryable):
        publisher.publish([one(topic, b"x")])
    publisher.open()
    publisher.open()
    publisher.publish([one(topic, b"y")])
    assert bus.values(topic) == [b"y"]


def test_a_newer_publisher_fences_the_older(bus: Bus) -> None:
    topic = bus.topic()
    older = bus.opened()
    older.publish([one(topic, b"1")])
    newer = bus.opened()
    with pytest.raises(Fenced):
        older.publish([one(topic, b"zombie")])
    with pytest.raises(Retryable):
        older.publish([one(topic, b"zombie again")])
    newer.publish([one(topic, b"2")])
    assert bus.values(topic) == [b"1", b"2"]


def test_other_transactional_ids_are_left_alone(bus: Bus) -> None:
    topic = bus.topic()
    first, second = bus.opened("tx-0"), bus.opened("tx-1")
    first.publish([one(topic, b"0")])
    second.publish([one(topic, b"1")])
    assert bus.values(topic) == [b"0", b"1"]


def test_an_open_transaction_holds_the_committed_end_back(bus: Bus) -> None:
    topic = bus.topic()
    bus.opened("whole").publish([one(topic, b"seen")])
    stable = bus.reader.end_offsets(topic, committed=True)[0]
    bus.die_in_transaction("dying", [one(topic, b"unseen")])
    assert bus.reader.end_offsets(topic, committed=True)[0] == stable
    end = bus.reader.end_offsets(topic, committed=False)[0]
    assert end == stable + 1
    with pytest.raises(Retryable):
        bus.reader.read(topic, 0, 0, end)
    assert bus.values(topic) == [b"seen"]


def test_opening_ends_the_open_transaction_of_the_predecessor(bus: Bus) -> None:
    topic = bus.topic()
    bus.die_in_transaction("tx", [one(topic, b"torn"), one(topic, b"torn", 1)])
    successor = bus.opened("tx")
    ends = bus.reader.end_offsets(topic, committed=False)
    successor.publish([one(topic, b"whole")])
    assert bus.reader.end_offsets(topic, committed=True)[1] >= ends[1]
    assert (bus.values(topic, 0), bus.values(topic, 1)) == ([b"whole"], [])


def test_a_range_of_markers_reads_as_nothing(bus: Bus) -> None:
    topic = bus.topic()
    bus.die_in_transaction("tx", [one(topic, b"torn")])
    bus.opened("tx").publish([one(topic, b"whole")])
    end = bus.reader.end_offsets(topic, committed=True)[0]
    assert end == 4  # torn, its marker, whole, its marker
    assert bus.reader.read(topic, 0, 0, 2) == []
    assert bus.reader.read(topic, 0, 3, 4) == []
    assert bus.reader.read(topic, 0, 2, 2) == []
    assert [record.offset for record in bus.reader.read(topic, 0, 1, 3)] == [2]


def test_closing_is_idempotent_and_a_closed_publisher_publishes_nothing(bus: Bus) -> None:
    topic = bus.topic()
    publisher = bus.opened()
    publisher.close()
    publisher.close()
    with pytest.raises(Retryable):
        publisher.publish([one(topic, b"x")])
    assert bus.values(topic) == []


def test_offsets_are_found_by_time(bus: Bus) -> None:
    topic = bus.topic()
    publisher = bus.opened()
    publisher.publish([one(topic, b"1")])
    written_at = bus.reader.read(topic, 0, 0, 1)[0].timestamp_ms
    assert bus.reader.offset_at(topic, 0, written_at) == 0
    assert bus.reader.offset_at(topic, 0, written_at + 60_000) is None
    assert bus.reader.start_offsets(topic) == {0: 0, 1: 0}


def test_making_a_topic_twice_is_once_and_never_with_other_partitions(bus: Bus) -> None:
    topic = bus.topic()
    before = bus.admin.describe(topic)
    assert before is not None
    assert before.partitions == PARTITIONS
    bus.topic()
    assert bus.admin.describe(topic) == before
    with pytest.raises(Terminal):
        bus.admin.create(topic, partitions=PARTITIONS + 1, configs={})


def test_a_topic_made_again_has_another_id(bus: Bus) -> None:
    topic = bus.topic()
    before = bus.admin.describe(topic)
    bus.admin.delete([topic])
    assert bus.admin.describe(topic) is None
    bus.topic()
    after = bus.admin.describe(topic)
    assert before is not None
    assert after is not None
    assert before.topic_id != after.topic_id


def test_an_absent_topic_is_none_to_the_admin_and_an_error_to_the_reader(bus: Bus) -> None:
    assert bus.admin.describe(f"{bus.prefix}absent") is None
    with pytest.raises(Terminal):
        bus.reader.end_offsets(f"{bus.prefix}absent", committed=True)
