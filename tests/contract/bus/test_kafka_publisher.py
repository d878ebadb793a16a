"""Three faults of kafka-python 3.0.12 that the publisher must not pass on; real broker.

A batch may fail while the client still believes in the transaction; a commit may wait for ever;
after a fence the cause is hidden in a bare error. See `iu_core/bus/kafka_publisher.py`.
"""

import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Literal

import pytest
from kafka import errors

from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.kafka_publisher import KafkaPublisher
from iu_core.bus.kafka_reader import KafkaTopicReader
from iu_core.bus.ports import Outgoing
from iu_core.bus.watchdog import Watchdog
from iu_core.errors import Fenced, IUError, Retryable, Terminal
from iu_core.settings import KafkaSettings, RelaySettings, Settings

LIMIT_S = 0.5


class Expired(Exception):
    """Stands for the end of the process."""


class Stage:
    def __init__(self, bootstrap: str, path: Literal["auto", "send"], opened: ExitStack) -> None:
        self.settings = Settings(kafka_bootstrap_servers=bootstrap, relay=RelaySettings(batch_path=path))
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

    def await_refusal(self, publisher: KafkaPublisher) -> None:
        """Return once the client has left its transaction over an answer of the broker."""
        manager, give_up_at = publisher._producer._transaction_manager, time.monotonic() + 10
        while manager._current_state.name == "IN_TRANSACTION":
            assert time.monotonic() < give_up_at
            time.sleep(0.01)

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


@pytest.fixture(params=["auto", "send"])
def stage(kafka_bootstrap: str, request: pytest.FixtureRequest) -> Iterator[Stage]:
    with ExitStack() as opened:
        yield Stage(kafka_bootstrap, request.param, opened)


def fail_one(producer: Any, error: Exception) -> None:
    """Let the second batch that is drained fail in the client as one does that has outlived its time.

    The other batches are sent and acknowledged as usual, whichever path the records take.
    """
    accumulator, batches = producer._accumulator, iter(range(100))
    drain = accumulator.drain_batches_for_one_node

    def drained(*args: Any, **options: Any) -> Any:
        kept = []
        for batch in drain(*args, **options):
            if next(batches) != 1:
                kept.append(batch)
                continue
            batch.complete_exceptionally(error, lambda _: error)
            accumulator.deallocate(batch)
        return kept

    accumulator.drain_batches_for_one_node = drained


def test_a_batch_that_failed_is_never_committed_without_its_record(stage: Stage) -> None:
    """The client's own transaction is healthy here: `commit_transaction` would succeed."""
    publisher = stage.publisher()
    fail_one(publisher._producer, errors.KafkaTimeoutError("expired"))
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


def test_a_fence_met_between_two_sections_is_told_as_a_fence(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first section is refused with the old epoch; the client then refuses the second itself."""
    zombie = stage.publisher()
    zombie.publish(stage.batch())
    stage.publisher().publish(stage.batch())
    path = zombie._path
    assert path is not None
    send, sections_sent = path.send, iter(range(100))

    def slowly(*section: Any) -> Any:
        if next(sections_sent) == 1:
            stage.await_refusal(zombie)
        return send(*section)

    zombie._path = type(
        "Slow", (), {"name": path.name, "send": staticmethod(slowly), "refusal": path.refusal}
    )()
    with pytest.raises(Fenced):
        zombie.publish(stage.batch())


def test_the_fast_path_is_taken_where_the_client_is_the_one_it_knows(stage: Stage) -> None:
    assert stage.publisher().path == ("send" if stage.settings.relay.batch_path == "send" else "batches")


@pytest.mark.parametrize("stage", ["auto"], indirect=True)
@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("kafka.__version__", "3.1.0"),
        ("iu_core.bus.kafka_batches._NAMES", {"_sender": ("wake_up",)}),
        ("iu_core.bus.kafka_batches._batch", lambda *_: None),
        ("iu_core.bus.record_format.VARINTS", tuple(b"\0" for _ in range(4_096))),
    ],
)
def test_with_any_other_client_records_go_through_send_and_arrive(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, place: str, value: object
) -> None:
    """Another version, a private name that is gone, a batch that cannot be made, other bytes."""
    with monkeypatch.context() as patch:
        patch.setattr(place, value)
        publisher = stage.publisher()
    assert publisher.path == "send"
    publisher.publish(stage.batch())
    assert sorted(value or b"" for value in stage.values()) == [b"0", b"1", b"2", b"3"]


def test_a_batch_that_the_broker_finds_too_large_is_terminal_and_nothing_is_committed(stage: Stage) -> None:
    """The client cuts such a batch in two and forgets it; a topic with a smaller limit than ours."""
    admin = KafkaAdmin(stage.settings, "contract")
    narrow = f"{stage.topic}.narrow"
    admin.create(narrow, partitions=1, configs={"max.message.bytes": "2000"})
    publisher = stage.publisher()
    noise = [random.Random(number).randbytes(900) for number in range(20)]
    with pytest.raises(IUError):
        publisher.publish([Outgoing(narrow, 0, b"k", value) for value in [*noise, b"x" * 3_000]])
    stage.publisher()
    reader = KafkaTopicReader(stage.settings, "contract")
    try:
        end = reader.end_offsets(narrow, committed=True)[0]
        assert reader.read(narrow, 0, 0, end) == []
    finally:
        reader.close()
        admin.delete([narrow])
        admin.close()
