"""One relay after the other over one history, each killed at a chosen step of its cycle.

Outbox and broker are models, so every step between snapshot and acknowledged commit can be
the last one, and the outcome is certain each time. The same promises on real servers, at
random points, are in `tests/chaos`. The planted faults at the end are the tests of this test.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import cycle
from typing import get_args
from uuid import UUID

import pytest

from iu_core.bus.names import BusNames
from iu_core.bus.ports import Outgoing, RecordSection, Topic, TransactionalPublisher
from iu_core.errors import Fenced, Misconfigured, Retryable, Terminal
from iu_core.settings import BadRowPolicy
from producers.relay import dead_letters, topics
from producers.relay.cursor import Cursor, Layout, decode
from producers.relay.framing import Framer, Wire
from producers.relay.outbox import Extent, Plan
from producers.relay.relay import Relay, choose_plan
from producers.relay.sizing import TransactionSizer
from tests.chaos.chain_checker import Row as CheckedRow
from tests.chaos.chain_checker import check
from tests.contract.bus.fake_bus import Crash, FakeAdmin, FakeBroker, FakePublisher, FakeReader
from tests.unit.relay.outbox_model import Database, ModelOutbox, outbox_row

NAMES = BusNames("t.")
LAYOUT = Layout(partitions=2)
CRASHES: tuple[Crash | None, ...] = (*get_args(Crash), None, None)


class AnyContract:
    def wire(self, event_type: str, schema_version: int) -> Wire | None:
        return None if event_type == "unheard_of" else Wire(b"\xc3\x01--------", "urn:avro:x:v1")


class Scene:
    """A database, a broker, and as many relays after each other as a test wants."""

    def __init__(self, seed: int = 1, rows_max: int = 3, *, read_ahead: bool = False) -> None:
        self.database = Database(seed)
        self.outbox = ModelOutbox(self.database)
        self.broker = FakeBroker()
        self.reader = FakeReader(self.broker)
        self.rows_max = rows_max
        self.read_ahead = read_ahead
        self.policy: BadRowPolicy = "block_tree"
        self.topic: Topic = topics.ensure(FakeAdmin(self.broker), NAMES, LAYOUT)

    def write(self, steps: int) -> None:
        for _ in range(steps):
            self.database.step()

    def publisher(self) -> FakePublisher:
        return FakePublisher(self.broker, NAMES.transactional_id("test", 0))

    def relay(
        self,
        publisher: TransactionalPublisher | None = None,
        observe: Callable[[str], None] = lambda _stage: None,
    ) -> Relay:
        return Relay(
            outbox=self.outbox,
            publisher=publisher or self.publisher(),
            reader=self.reader,
            framer=Framer(
                AnyContract(),
                topic=self.topic.name,
                letters_topic=NAMES.relay_dead_letters,
                layout=LAYOUT,
                source="test",
                record_bytes_max=10_000,
                policy=lambda _event_type: self.policy,
            ),
            names=NAMES,
            topic=self.topic,
            layout=LAYOUT,
            sizer=TransactionSizer(target_s=1, rows_max=self.rows_max),
            recovery_timeout_s=0.0,
            relay_version="0",
            now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            clock_s=lambda: 0.0,
            read_ahead=self.read_ahead,
            observe=observe,
        )

    def started(self, publisher: TransactionalPublisher | None = None) -> Relay:
        relay = self.relay(publisher)
        relay.start()
        return relay

    def cursors(self) -> list[Cursor]:
        end = self.reader.end_offsets(NAMES.cursor, committed=True)[0]
        records = self.reader.read(NAMES.cursor, 0, 0, end)
        return [decode(record.value or b"") for record in records]

    def faults(self) -> list[str]:
        ends = self.reader.end_offsets(NAMES.events, committed=True)
        held = {
            partition: self.reader.read(NAMES.events, partition, 0, end) for partition, end in ends.items()
        }
        rows = [(row, outbox_row(row)) for row in self.database.visible]
        expected = [
            CheckedRow(
                UUID(bytes=full.event_ref), full.tree_id, 1, row.version, full.bucket, full.payload_digest
            )
            for row, full in rows
        ]
        return check(held, self.cursors(), expected)


def drain(relay: Relay) -> int:
    """Step until nothing is left; return how many events went out. Bounded."""
    published = 0
    for _ in range(1_000):
        step = relay.step()
        published += step.published
        if step.drained:
            return published
    raise AssertionError("the relay never came to an end")


def kinds(faults: list[str]) -> set[str]:
    return {fault.split(":")[0] for fault in faults}


@pytest.mark.parametrize("seed", range(1, 41))
def test_whatever_step_a_relay_dies_at_the_topic_holds_each_event_once_and_in_order(seed: int) -> None:
    scene, crashes = Scene(seed), cycle(CRASHES)
    for _ in range(40):
        scene.write(6)
        publisher = scene.publisher()
        relay = scene.started(publisher)
        publisher.crash = next(crashes)
        try:
            relay.step()
            relay.step()
        except Retryable:
            continue
    scene.database.finish()
    drain(scene.started())
    assert scene.faults() == []
    assert len(scene.database.visible) > 20


def test_a_relay_resumes_in_the_window_its_predecessor_had_open() -> None:
    scene = Scene(seed=3, rows_max=2)
    scene.write(200)
    first = scene.started()
    first.step()
    window = scene.cursors()[-1].position.window
    assert window is not None
    scene.write(50)
    second = scene.relay()
    assert second.start().position == first.position
    second.step()
    assert scene.cursors()[-1].position.window in (window, None)
    scene.database.finish()
    drain(second)
    assert scene.faults() == []


def test_a_woken_zombie_is_fenced_and_publishes_nothing() -> None:
    scene = Scene(seed=4)
    scene.write(60)
    zombie = scene.started()
    zombie.step()
    successor = scene.started()
    scene.write(60)
    with pytest.raises(Fenced):
        drain(zombie)
    scene.database.finish()
    drain(successor)
    assert scene.faults() == []


def test_a_relay_replaced_during_its_very_first_start_is_fenced_and_not_misconfigured() -> None:
    """It has found no cursor, then events: its successor's, not somebody's who lost the cursor topic."""
    scene = Scene(seed=4)
    scene.write(60)

    def successor_publishes(stage: str) -> None:
        if stage == "comparing":
            scene.started().step()

    with pytest.raises(Fenced, match="another relay has begun"):
        scene.relay(observe=successor_publishes).start()


def test_nothing_new_means_no_transaction() -> None:
    scene = Scene(seed=5)
    relay = scene.started()
    assert relay.step().drained
    assert drain(relay) == 0
    assert scene.cursors() == []
    assert relay.position.settled == scene.outbox.snapshot()[0]


def test_a_bad_row_whose_policy_is_halt_stops_the_relay_after_the_rows_before_it() -> None:
    scene = Scene(seed=6, rows_max=100)
    scene.policy = "halt"
    scene.write(100)
    scene.database.finish()
    ids = sorted(row.id for row in scene.database.visible)
    scene.outbox.bad_ids = {ids[4]}
    for _ in range(3):  # starting it again changes nothing
        with pytest.raises(Terminal, match=f"outbox row {ids[4]} cannot be published: unheard_of") as raised:
            drain(scene.started())
        assert raised.value.remedy
        assert sum(digest.count for digest in scene.cursors()[-1].digests.values()) == 4
    scene.outbox.bad_ids = set()
    drain(scene.started())
    assert scene.faults() == []


def letters(scene: Scene) -> list[dead_letters.DeadLetter]:
    topic = NAMES.relay_dead_letters
    ends = scene.reader.end_offsets(topic, committed=True)
    held = [scene.reader.read(topic, part, 0, end) for part, end in ends.items()]
    return [letter for records in held for letter in dead_letters.assemble(records)]


@pytest.mark.parametrize("crash", CRASHES)
def test_a_bad_row_blocks_its_own_tree_and_no_other(crash: Crash | None) -> None:
    """Its dead letter, the block in the cursor, and the events beside it stand or fall together."""
    scene = Scene(seed=6, rows_max=5)
    scene.write(200)
    scene.database.finish()
    rows = sorted(scene.database.visible, key=lambda row: row.id)
    bad = next(row for row in rows if row.version == 3)
    scene.outbox.bad_ids = {bad.id}
    publisher = scene.publisher()
    first = scene.started(publisher)
    while not first.blocked:
        publisher.crash = crash
        try:
            first.step()
        except Retryable:
            break
    last = scene.started()
    drain(last)
    assert last.blocked == {UUID(int=bad.tree): 3}
    (letter,) = letters(scene)
    assert (letter.outbox_id, letter.tree_id, letter.aggregate_version) == (bad.id, UUID(int=bad.tree), 3)
    assert (letter.reason, letter.policy) == ("unknown_type", "block_tree")
    waiting = [row for row in rows if row.tree == bad.tree and row.version >= 3]
    assert len(waiting) > 1
    assert kinds(scene.faults()) == {"lost"}
    assert len(scene.faults()) == len(waiting)


def test_a_skipped_bad_row_leaves_a_letter_and_a_hole() -> None:
    scene = Scene(seed=6, rows_max=5)
    scene.write(200)
    scene.database.finish()
    bad = next(row for row in sorted(scene.database.visible, key=lambda row: row.id) if row.version == 3)
    scene.outbox.bad_ids, scene.policy = {bad.id}, "skip"
    relay = scene.started()
    drain(relay)
    assert relay.blocked == {}
    assert [letter.outbox_id for letter in letters(scene)] == [bad.id]
    assert kinds(scene.faults()) == {"lost", "disordered"}


@pytest.mark.parametrize("seed", range(1, 9))
def test_reading_ahead_builds_on_what_is_not_committed_and_forgets_it_with_it(seed: int) -> None:
    """The next chunk is read while this one dies in the middle of its commit."""
    scene, crashes = Scene(seed, rows_max=4, read_ahead=True), cycle(CRASHES)
    scene.write(400)
    scene.database.finish()
    for _ in range(60):
        publisher = scene.publisher()
        relay = scene.started(publisher)
        try:
            relay.step()
            publisher.crash = next(crashes)
            relay.step()
        except Retryable:
            continue
        finally:
            relay.close()
    relay = scene.started()
    drain(relay)
    relay.close()
    assert scene.faults() == []
    assert len(scene.database.visible) > 50


def test_events_without_a_cursor_stop_the_relay() -> None:
    scene = Scene(seed=7)
    scene.write(60)
    drain(scene.started())
    del scene.broker.logs[NAMES.cursor]
    topics.ensure(FakeAdmin(scene.broker), NAMES, LAYOUT)
    with pytest.raises(Misconfigured, match="holds no cursor"):
        scene.relay().start()


def test_a_relay_killed_in_its_very_first_transaction_starts_over() -> None:
    scene = Scene(seed=8)
    scene.write(60)
    publisher = scene.publisher()
    relay = scene.started(publisher)
    publisher.crash = "before the commit"
    with pytest.raises(Retryable):
        relay.step()
    assert scene.relay().start().sequence == 0
    scene.database.finish()
    drain(scene.started())
    assert scene.faults() == []


def test_a_foreign_transaction_on_the_cursor_partition_is_waited_for_then_refused() -> None:
    scene = Scene(seed=9)
    scene.broker.begin("somebody else")
    scene.broker.append("somebody else", [Outgoing(NAMES.cursor, 0, b"k", b"v")])
    with pytest.raises(Retryable, match="stays open"):
        scene.relay().start()


def test_a_database_that_went_back_in_time_stops_the_relay() -> None:
    scene = Scene(seed=10)
    scene.write(100)
    relay = scene.started()
    drain(relay)
    scene.outbox.database = Database(seed=10)
    with pytest.raises(Misconfigured, match="back in time"):
        relay.step()
    with pytest.raises(Misconfigured, match="another state of the database"):
        scene.relay().start()


def test_the_first_backlog_walks_the_primary_key_and_the_tail_does_not() -> None:
    scene = Scene(seed=11, rows_max=100)
    scene.write(100)
    relay = scene.started()
    relay.step()
    scene.write(100)
    drain(relay)
    assert scene.outbox.plans[0] is Plan.SCAN
    assert set(scene.outbox.plans[1:]) == {Plan.TAIL}


@pytest.mark.parametrize(
    ("extent", "plan"),
    [
        (Extent(rows=0, first_id=0, last_id=0), Plan.TAIL),
        (Extent(rows=2_000, first_id=1, last_id=2_000), Plan.TAIL),
        (Extent(rows=50_000, first_id=1, last_id=50_000), Plan.SCAN),
        (Extent(rows=50_000, first_id=1, last_id=200_000), Plan.SCAN),
        (Extent(rows=50_000, first_id=1, last_id=1_000_000), Plan.SCAN),
        (Extent(rows=50_000, first_id=1, last_id=2_000_000), Plan.TAIL),
    ],
)
def test_a_long_window_is_scanned_if_its_rows_lie_together(extent: Extent, plan: Plan) -> None:
    assert choose_plan(extent, rows_max=2_000) is plan


class CursorApart:
    """Planted fault: the cursor in a transaction of its own, before or after the events."""

    def __init__(self, inner: FakePublisher, *, cursor_first: bool) -> None:
        self._inner = inner
        self._cursor_first = cursor_first
        self.die_between = False

    def open(self) -> None:
        self._inner.open()

    def publish(self, records: Sequence[Outgoing | RecordSection]) -> None:
        events, cursor = list(records[:-1]), [records[-1]]
        first, second = (cursor, events) if self._cursor_first else (events, cursor)
        self._inner.publish(first)
        if self.die_between:
            raise Retryable("died between")
        self._inner.publish(second)

    def close(self) -> None:
        self._inner.close()


@pytest.mark.parametrize(("cursor_first", "fault"), [(False, "repeated"), (True, "lost")])
def test_a_cursor_outside_the_transaction_is_caught(cursor_first: bool, fault: str) -> None:
    scene = Scene(seed=12)
    scene.write(60)
    publisher = CursorApart(scene.publisher(), cursor_first=cursor_first)
    relay = scene.started(publisher)
    relay.step()
    publisher.die_between = True
    with pytest.raises(Retryable):
        drain(relay)
    scene.database.finish()
    drain(scene.started())
    assert fault in kinds(scene.faults())


class Unfenced(FakePublisher):
    """Planted fault: takes the newest epoch again before each transaction, as no zombie may."""

    def publish(self, records: Sequence[Outgoing | RecordSection]) -> None:
        self._epoch = self._broker.epochs[self._id]
        super().publish(records)


def test_a_relay_that_is_not_fenced_is_caught() -> None:
    scene = Scene(seed=13)
    scene.write(60)
    zombie = scene.started(Unfenced(scene.broker, NAMES.transactional_id("test", 0)))
    successor = scene.started()
    scene.database.finish()
    drain(successor)
    drain(zombie)
    assert {"repeated", "sequence"} <= kinds(scene.faults())
