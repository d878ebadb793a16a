"""Two faults that show only when a relay recovers, each turning the chain checker red; real servers.

  fault                                          breaks   the checker says
  cursors of several shards on one partition     G2       repeated
  a snapshot believed beyond what is on disk     G1       lost

The others are in `test_relay_planted_faults.py`.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from uuid import UUID, uuid4

import pytest

from iu_core.bus.kafka_reader import KafkaTopicReader
from iu_core.bus.ports import Outgoing
from iu_core.errors import Retryable
from producers.relay import outbox_queries, recovery
from producers.relay.cursor import Cursor, Layout, decode
from producers.relay.outbox import PostgresOutbox
from producers.relay.snapshot import BEGINNING, Snapshot
from tests.chaos.arena import Arena
from tests.chaos.test_relay_planted_faults import LAYOUT, Stage, append, dies_before_commit, drain
from tests.integration.relay.held_topic import bus_settings
from tests.integration.sql.sessions import open_gate

SHARD_0 = Layout(partitions=2, shards=2, shard=0)
ROLLED_BACK = 4


def staged(url: str, bootstrap: str, prefix: str, opened: ExitStack) -> Stage:
    open_gate(url)
    settings = bus_settings(bootstrap, prefix)
    kafka = settings.kafka.model_copy(update={"partitions": LAYOUT.partitions})
    return Stage(url, settings.model_copy(update={"kafka": kafka}), opened)


@pytest.fixture
def stage(migrated_url: str, kafka_bootstrap: str, bus_prefix: str) -> Iterator[Stage]:
    with ExitStack() as opened:
        yield staged(migrated_url, kafka_bootstrap, bus_prefix, opened)


def tree_of_shard_0() -> UUID:
    return next(tree for tree in iter(uuid4, None) if sha256(tree.bytes).digest()[0] % 2 == 0)


def beside_another_shard(stage: Stage, its_partition: int) -> None:
    """Publish as shard 0, once before and once after another shard has begun to write its cursor."""
    writer, tree, relay = stage.session(), tree_of_shard_0(), stage.relay(layout=SHARD_0)
    append(writer, tree, 1)
    drain(relay)
    other = stage.publisher("shard-1", observe=dies_before_commit)
    other.open()
    with pytest.raises(KeyboardInterrupt):
        other.publish([Outgoing(stage.names.cursor, its_partition, b"shard-1", b"{}")])
    append(writer, tree, 2)
    drain(relay)


def what_is_committed(reader: KafkaTopicReader, topic: str, shard: int, **_: float) -> Cursor | None:
    """Planted: the last cursor that can be read. On a shared partition nobody could wait for more."""
    last = recovery.last_record(reader, topic, shard, reader.end_offsets(topic, committed=True)[shard])
    return None if last is None else decode(last.value or b"")


@pytest.mark.parametrize(
    ("its_partition", "faults"), [(1, set()), (0, {"repeated", "sequence", "disordered", "chain"})]
)
def test_g2_cursors_of_two_shards_on_one_partition_are_caught(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, its_partition: int, faults: set[str]
) -> None:
    """Another shard's open transaction hides a cursor that is committed, and its events come again."""
    beside_another_shard(stage, its_partition)
    monkeypatch.setattr(recovery, "find_cursor", what_is_committed)
    drain(stage.relay(layout=SHARD_0))
    stage.publisher("shard-1").open()  # ends the open transaction, so that everything can be read
    assert stage.faults() == faults


def test_g2_a_cursor_that_cannot_be_read_yet_is_waited_for(stage: Stage) -> None:
    """So with the wait, one shard's hanging transaction would keep another from starting."""
    beside_another_shard(stage, its_partition=0)
    with pytest.raises(Retryable, match="stays open"):
        stage.relay(layout=SHARD_0, recovery_timeout_s=0.3)
    stage.publisher("shard-1").open()
    drain(stage.relay(layout=SHARD_0))
    assert stage.faults() == set()


class BelievesTheSnapshot(PostgresOutbox):
    """Planted: every transaction that is over now will be over after a crash, too."""

    def snapshot(self, settled: Snapshot = BEGINNING) -> tuple[Snapshot, str]:
        text, lsn = self._one(outbox_queries.SNAPSHOT)
        return Snapshot.parse(text), lsn


@pytest.mark.parametrize(
    ("outbox", "faults"), [(PostgresOutbox, set()), (BelievesTheSnapshot, {"lost", "disordered"})]
)
def test_g1_a_transaction_number_that_a_crash_gives_out_again(
    arena: Arena, outbox: type[PostgresOutbox], faults: set[str]
) -> None:
    """Rolled back, published past, forgotten by the crash: the next of its number commits an event."""
    with ExitStack() as opened:
        stage = staged(arena.database(), arena.bootstrap, arena.prefix(), opened)
        editor = stage.editor()
        root = editor.add(None)
        arena.hold_wal_back()
        for _ in range(ROLLED_BACK):
            with editor.session.transaction(force_rollback=True):
                editor.add(root)
        drain(stage.relay(outbox=outbox))
        arena.crash_postgres()
        arena.start_postgres()
        editor = stage.editor()
        for _ in range(ROLLED_BACK + 2):
            editor.add(root)
        drain(stage.relay(outbox=outbox))
        assert stage.faults() == faults
