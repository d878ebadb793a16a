"""Relays and unblockings in turns over one history, each killed where it hurts.

Outbox and broker are models; which rows are bad changes while it goes on. `test_unblock.py` in
tests/integration does a little of the same on real servers. The planted faults at the end are the
tests of this test.
"""

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import get_args
from uuid import UUID

import pytest

from iu_core.errors import Misconfigured, Retryable, Terminal
from producers.relay import recovery
from producers.relay.cursor import Cursor
from producers.relay.dead_letters import Assembler, DeadLetter, Outcome
from producers.relay.framing import Framer
from producers.relay.outbox import OutboxRow
from producers.relay.snapshot import Position
from producers.relay.unblock import Batch, Decision, How, Unblocking
from tests.contract.bus.fake_bus import Crash
from tests.unit.relay.outbox_model import Row, event_ref, outbox_row, tree_id
from tests.unit.relay.test_relay_steps import LAYOUT, NAMES, AnyContract, Scene, drain

CRASHES: tuple[Crash, ...] = get_args(Crash)


class ModelWaiting:
    """`WaitingRows` on the model: what the position has passed, said the other way round than in SQL."""

    def __init__(self, scene: "UnblockScene") -> None:
        self._scene = scene

    def passed(self, tree: UUID, from_version: int, position: Position) -> list[Row]:
        def is_passed(row: Row) -> bool:
            in_window = position.window is not None and position.window.sees(row.xid)
            return position.settled.sees(row.xid) or (in_window and row.id <= position.last_id)

        rows = [
            row
            for row in self._scene.database.visible
            if tree_id(row.tree) == tree and row.version >= from_version and is_passed(row)
        ]
        return sorted(rows, key=lambda row: row.version)

    def rows(self, tree: UUID, from_version: int, position: Position, rows_max: int) -> Sequence[OutboxRow]:
        bad = self._scene.outbox.bad_ids
        return [
            outbox_row(row, "unheard_of" if row.id in bad else "structure_reparented")
            for row in self.passed(tree, from_version, position)[:rows_max]
        ]

    def count(self, tree: UUID, from_version: int, position: Position) -> tuple[int, int | None]:
        rows = self.passed(tree, from_version, position)
        return len(rows), rows[0].version if rows else None


class UnblockScene(Scene):
    """A scene in which blocked trees are let go on."""

    def letters(self) -> dict[UUID, str]:
        """Return the state of each letter, as the table would have it: folded from the topic."""
        states: dict[UUID, str] = {}
        ends = self.reader.end_offsets(NAMES.relay_dead_letters, committed=True)
        for partition, end in ends.items():
            assembler = Assembler()
            for record in self.reader.read(NAMES.relay_dead_letters, partition, 0, end):
                entry = assembler.take(record)
                if isinstance(entry, DeadLetter):
                    states[entry.event_ref] = "blocked"
                elif entry is not None and states[entry.event_ref] == "blocked":
                    states[entry.event_ref] = entry.outcome.value
        return states

    def cursor(self) -> Cursor:
        """Return the last committed cursor."""
        return self.cursors()[-1]

    def unblocking(self, tree: UUID, how: How, rows_max: int = 3) -> Unblocking:
        return Unblocking(
            tree=tree,
            decision=Decision(how, "ada", "a test"),
            waiting=ModelWaiting(self),
            framer=Framer(
                AnyContract(),
                topic=NAMES.events,
                letters_topic=NAMES.relay_dead_letters,
                layout=LAYOUT,
                source="test",
                record_bytes_max=10_000,
            ),
            has_letter=lambda ref, _incarnation: self.letters().get(ref) == "blocked",
            names=NAMES,
            now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            rows_max=rows_max,
        )

    def unblock(
        self, tree: UUID, how: How, *, rows_max: int = 3, crash: Crash | None = None, at: int = 0
    ) -> list[Batch]:
        """Do it; with `crash` it dies at its transaction number `at`, if it comes to it."""
        publisher = self.publisher()
        publisher.open()
        found = recovery.find_cursor(self.reader, NAMES.cursor, 0, timeout_s=0.0)
        assert found is not None
        done = []
        for number, batch in enumerate(self.unblocking(tree, how, rows_max).batches(found)):
            publisher.crash = crash if number == at else None
            publisher.publish(batch.records)
            done.append(batch)
        publisher.close()
        return done

    def versions(self, tree: int) -> list[int]:
        known = {event_ref(row): row.version for row in self.database.visible}
        ends = self.reader.end_offsets(NAMES.events, committed=True)
        return [
            known[UUID((record.header("ce_id") or b"").decode())]
            for partition, end in ends.items()
            for record in self.reader.read(NAMES.events, partition, 0, end)
            if record.key == str(tree_id(tree)).encode()
        ]

    def blocked(self, versions: int, *bad: int) -> int:
        """Write until a tree has so many versions, make some of them bad, relay; return the tree."""
        while max(self.database.versions.values()) < versions:
            self.write(20)
        self.database.finish()
        tree = max(self.database.versions, key=lambda each: self.database.versions[each])
        self.outbox.bad_ids = {
            row.id for row in self.database.visible if row.tree == tree and row.version in bad
        }
        drain(self.started())
        return tree


def wrongs(scene: UnblockScene) -> list[str]:
    """Return every fault that leaving events out on purpose does not explain."""
    left_out = {ref for ref, state in scene.letters().items() if state == Outcome.DISCARDED}
    wrong = [
        fault
        for fault in scene.faults()
        if fault.removeprefix("lost: ") not in map(str, left_out) and not fault.startswith("disordered")
    ]
    for tree in scene.database.versions:
        due = [
            row.version
            for row in sorted(scene.database.visible, key=lambda row: row.version)
            if row.tree == tree and event_ref(row) not in left_out
        ]
        if scene.versions(tree) != due:
            wrong.append(f"tree {tree}: {scene.versions(tree)} instead of {due}")
    return wrong


def live(scene: UnblockScene, seed: int) -> int:
    """Relay, unblock, die and go on for a while, then free every tree; return how many died."""
    chance, died, judged = random.Random(seed), 0, 0
    for _ in range(30):
        scene.write(8)
        for row in scene.database.visible[judged:]:
            if chance.random() < 0.2:
                scene.outbox.bad_ids.add(row.id)
        judged = len(scene.database.visible)
        relay = scene.started()
        for _ in range(chance.randint(0, 4)):
            relay.step()
        if not scene.cursors() or not (waiting := scene.cursor().blocked):
            continue
        tree = chance.choice(sorted(waiting))
        how = chance.choice(list(How))
        if how is How.RETRY:
            mend(scene, tree, waiting[tree])
        try:
            scene.unblock(
                tree,
                how,
                rows_max=chance.randint(1, 3),
                crash=chance.choice((*CRASHES, None)),
                at=chance.randint(0, 2),
            )
        except Retryable:
            died += 1
    scene.database.finish()
    scene.outbox.bad_ids.clear()
    drain(scene.started())
    for tree in list(scene.cursor().blocked):
        scene.unblock(tree, How.RETRY)
    drain(scene.started())
    return died


def mend(scene: UnblockScene, tree: UUID, version: int) -> None:
    scene.outbox.bad_ids -= {
        row.id for row in scene.database.visible if tree_id(row.tree) == tree and row.version == version
    }


@pytest.mark.parametrize("seed", range(1, 31))
def test_whatever_dies_each_event_is_published_once_in_order_or_left_out_on_purpose(seed: int) -> None:
    scene = UnblockScene(seed)
    live(scene, seed)
    assert scene.cursor().blocked == {}
    assert wrongs(scene) == []
    assert "blocked" not in scene.letters().values()


def test_the_histories_do_kill_unblockings_and_leave_events_out() -> None:
    """Else the test above would prove nothing."""
    died, states = 0, set[str]()
    for seed in range(1, 8):
        scene = UnblockScene(seed)
        died += live(scene, seed)
        states |= set(scene.letters().values())
    assert died > 10
    assert states == {"published", "discarded"}


@pytest.mark.parametrize("how", list(How))
@pytest.mark.parametrize("crash", CRASHES)
def test_run_again_it_ends_what_it_began_and_leaves_out_no_second_row(how: How, crash: Crash) -> None:
    for at in range(3):
        scene = UnblockScene()
        tree = scene.blocked(7, 3)
        if how is How.RETRY:
            mend(scene, tree_id(tree), 3)
        with pytest.raises(Retryable):
            scene.unblock(tree_id(tree), how, rows_max=2, crash=crash, at=at)
        if tree_id(tree) in scene.cursor().blocked:
            scene.unblock(tree_id(tree), how, rows_max=2)
        assert scene.cursor().blocked == {}
        assert wrongs(scene) == []
        assert list(scene.letters().values()) == ["published" if how is How.RETRY else "discarded"]


def test_events_and_letters_of_a_batch_are_those_it_names() -> None:
    scene = UnblockScene()
    tree = scene.blocked(8, 2, 5)
    mend(scene, tree_id(tree), 2)
    (batch,) = scene.unblock(tree_id(tree), How.RETRY, rows_max=100)
    assert [event.version for event in batch.published] == [2, 3, 4]
    assert batch.blocked_again is not None
    assert batch.blocked_again.event.version == 5
    assert batch.left_out == []
    assert scene.cursor().blocked == {tree_id(tree): 5}
    assert scene.versions(tree) == [1, 2, 3, 4]
    assert sorted(scene.letters().values()) == ["blocked", "published"]


def test_retry_of_a_bad_row_is_refused_with_its_reason_and_publishes_nothing() -> None:
    scene = UnblockScene()
    tree = scene.blocked(4, 2)
    before = scene.cursors()
    with pytest.raises(Terminal, match="still cannot be published") as caught:
        scene.unblock(tree_id(tree), How.RETRY)
    assert "unknown_type" in (caught.value.why or "")
    assert "--skip" in (caught.value.remedy or "")
    assert scene.cursors() == before


def test_a_tree_that_does_not_wait_is_refused() -> None:
    scene = UnblockScene()
    scene.blocked(4, 2)
    with pytest.raises(Terminal, match="is not blocked"):
        scene.unblock(UUID(int=99), How.SKIP)


def test_a_row_that_is_gone_is_not_jumped_over() -> None:
    """A restored database: publishing the next one would hide the hole for ever."""
    scene = UnblockScene()
    tree = scene.blocked(5, 2)
    scene.database.visible = [row for row in scene.database.visible if (row.tree, row.version) != (tree, 2)]
    before = scene.cursors()
    for how in How:
        with pytest.raises(Misconfigured, match="does not hold version 2"):
            scene.unblock(tree_id(tree), how)
    assert scene.cursors() == before


def test_position_and_other_trees_stay_as_they_are() -> None:
    scene = UnblockScene()
    tree = scene.blocked(4, 2)
    before = scene.cursor()
    mend(scene, tree_id(tree), 2)
    scene.unblock(tree_id(tree), How.RETRY)
    after = scene.cursor()
    assert (after.position, after.layout, after.origin) == (before.position, before.layout, before.origin)
    assert after.sequence == before.sequence + 1
    assert before.highest is not None
    assert after.highest is not None
    assert after.highest.id >= before.highest.id


# Planted faults: each would break a promise of this module.


def test_planted_rows_that_were_not_passed_are_published_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ModelWaiting.passed

    def everything(self: ModelWaiting, tree: UUID, from_version: int, position: Position) -> list[Row]:
        future = Position(settled=self._scene.database.snapshot())
        return real(self, tree, from_version, future)

    monkeypatch.setattr(ModelWaiting, "passed", everything)
    assert any(found(seed) for seed in range(1, 11))


def test_planted_skip_without_looking_for_the_letter_leaves_out_a_second_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = UnblockScene()
    tree = scene.blocked(7, 3)
    with pytest.raises(Retryable):
        scene.unblock(tree_id(tree), How.SKIP, rows_max=2, crash="after the commit", at=0)
    always = Unblocking._batch

    def blind(self: Unblocking, *arguments: object, **named: object) -> Batch:
        self._has_letter = lambda _ref, _incarnation: True
        return always(self, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Unblocking, "_batch", blind)
    scene.unblock(tree_id(tree), How.SKIP, rows_max=2)
    assert 5 not in scene.versions(tree)


def test_planted_one_transaction_without_its_cursor_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Unblocking._batch

    def apart(self: Unblocking, *arguments: object, **named: object) -> Batch:
        batch = real(self, *arguments, **named)  # type: ignore[arg-type]
        return Batch(batch.records[:-1], batch.cursor, batch.published, batch.left_out, batch.blocked_again)

    monkeypatch.setattr(Unblocking, "_batch", apart)
    scene = UnblockScene()
    tree = scene.blocked(7, 3)
    mend(scene, tree_id(tree), 3)
    scene.unblock(tree_id(tree), How.RETRY)
    monkeypatch.undo()
    scene.unblock(tree_id(tree), How.RETRY)
    assert any(fault.startswith("repeated") for fault in scene.faults())


def found(seed: int) -> bool:
    """Return whether a life with this seed ends in a fault, of whichever kind."""
    scene = UnblockScene(seed)
    try:
        live(scene, seed)
    except (Misconfigured, Terminal):
        return True
    return bool(wrongs(scene))
