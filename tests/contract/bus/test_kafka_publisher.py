"""Three faults of kafka-python 3.0.12 that the publisher must not pass on; real broker.

A batch may fail while the client still believes in the transaction; a commit may wait for ever;
after a fence the cause is hidden in a bare error. See `iu_core/bus/kafka_publisher.py`.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from kafka import errors

from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.kafka_publisher import KafkaPublisher
from iu_core.bus.kafka_reader import KafkaTopicReader
from iu_core.bus.ports import Outgoing
from iu_core.bus.watchdog import Watchdog
from iu_core.errors import IUError, Retryable, Terminal
from iu_core.settings import KafkaSettings, Settings

LIMIT_S = 0.5


class Expired(Exception):
    """Stands for the end of the process."""


class Stage:
    def __init__(self, bootstrap: str, opened: ExitStack) -> None:
        self.settings = Settings(kafka_bootstrap_servers=bootstrap)
        self.topic = f"contract.{uuid.uuid4().hex[:8]}"
        self.transactional_id = f"{self.topic}.tx"
        self.expired: list[str] = []
        self.let_go = threading.Event()
        self._opened = opened
        admin = KafkaAdmin(self.settings, "contract")
        opened.callback(admin.close)
        admin.create(self.topic, partitions=2, configs={})
        opened.callback(lambda: admin.delete([self.topic]))

    def expire(self, doing: str, _limit_s: float) -> None:
        self.expired.append(doing)
        self.let_go.set()

    def publisher(self, limit_s: float = 30) -> KafkaPublisher:
        watchdog = Watchdog(limit_s, self.expire)
        self._opened.callback(watchdog.close)
        publisher = KafkaPublisher(self.settings, self.transactional_id, watchdog)
        self._opened.callback(publisher.close)
        publisher.open()
        return publisher

    def values(self) -> list[bytes | None]:
        """Return what `read_committed` shows once the open transaction has been ended."""
        self.publisher()
        reader = KafkaTopicReader(self.settings, "contract")
        self._opened.callback(reader.close)
        ends = reader.end_offsets(self.topic, committed=True)
        return [
            r.value for partition, end in ends.items() for r in reader.read(self.topic, partition, 0, end)
        ]

    def batch(self) -> list[Outgoing]:
        return [Outgoing(self.topic, number % 2, b"k", b"%d" % number) for number in range(4)]


@pytest.fixture
def stage(kafka_bootstrap: str) -> Iterator[Stage]:
    with ExitStack() as opened:
        yield Stage(kafka_bootstrap, opened)


def failing(send: Callable[..., Any], error: Exception) -> Callable[..., Any]:
    """Return `send` whose third record is never acknowledged; the rest is sent as usual."""
    calls = iter(range(100))

    def sometimes(*args: Any, **options: Any) -> Any:
        if next(calls) != 2:
            return send(*args, **options)
        future = send(*args, **options)
        lost = type(future)(future._produce_future, 0, 0, None, 0, 0, 0)
        lost.failure(error)
        return lost

    return sometimes


def test_a_batch_that_failed_is_never_committed_without_its_record(stage: Stage) -> None:
    """The client's own transaction is healthy here: `commit_transaction` would succeed."""
    publisher = stage.publisher()
    publisher._producer.send = failing(publisher._producer.send, errors.KafkaTimeoutError("expired"))
    with pytest.raises(Retryable):
        publisher.publish(stage.batch())
    with pytest.raises(Retryable, match="spent"):
        publisher.publish(stage.batch())
    assert stage.values() == []


def test_the_same_batch_committed_blindly_would_have_lost_a_record(stage: Stage) -> None:
    """The test of the test above: what the client alone does with a transaction like that."""
    publisher = stage.publisher()
    producer, records = publisher._producer, stage.batch()
    producer.begin_transaction()
    for record in records[:2] + records[3:]:
        producer.send(record.topic, value=record.value, key=record.key, partition=record.partition)
    producer.commit_transaction()
    assert len(stage.values()) == len(records) - 1


def test_a_commit_that_never_returns_is_the_watchdogs(stage: Stage) -> None:
    publisher = stage.publisher(LIMIT_S)

    def hang() -> None:
        assert stage.let_go.wait(20 * LIMIT_S)
        raise errors.KafkaError("let go")

    publisher._producer.commit_transaction = hang
    with pytest.raises(Retryable):
        publisher.publish(stage.batch())
    assert stage.expired == ["publishing 4 records"]
    assert stage.values() == []


def test_a_record_the_client_refuses_spends_the_publisher_and_nothing_is_committed(stage: Stage) -> None:
    publisher = stage.publisher()
    for bad in (
        Outgoing(stage.topic, 7, b"k", b"no such partition"),
        Outgoing(stage.topic, 0, None, None),
        Outgoing(stage.topic, 0, b"k", b"x" * 2_000_000),
    ):
        with pytest.raises(IUError) as raised:
            publisher.publish([*stage.batch(), bad])
        assert isinstance(raised.value, Terminal)
        publisher.open()
    assert stage.values() == []


def test_a_broker_that_is_away_is_said_in_bounded_time(stage: Stage) -> None:
    away = stage.settings.model_copy(
        update={"kafka_bootstrap_servers": "127.0.0.1:9", "kafka": KafkaSettings(request_timeout_ms=700)}
    )
    watchdog, began = Watchdog(30), time.monotonic()
    publisher = KafkaPublisher(away, "tx", watchdog)
    reader, admin = KafkaTopicReader(away, "contract"), KafkaAdmin(away, "contract")
    for ask in (
        publisher.open,
        lambda: reader.end_offsets(stage.topic, committed=True),
        lambda: admin.describe(stage.topic),
    ):
        with pytest.raises(Retryable):
            ask()
    publisher.close()
    reader.close()
    admin.close()
    watchdog.close()
    assert time.monotonic() - began < 15
