"""Tests of the tests: four faults of a worker, planted one by one; each must turn its guarantee's test red.

A planted fault replaces one decision of the consumer by the plausible wrong one. The scenario is the one
that holds the guarantee, run on the whole worker: with the fault it must fail, without it it must not.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from consumers.route import batch as batches
from consumers.route.batch import Batch
from consumers.route.decide import Deliver, Switches
from consumers.route.lane import LaneRun
from consumers.route.ledger import Claim, Place
from iu_core.errors import Refused, Retryable
from tests.unit.consumers.fakes import CLOSED, OPEN, FakeLedger, poisoned
from tests.unit.consumers.records import record
from tests.unit.consumers.test_worker import Scene, filled, ref

Plant = Callable[[pytest.MonkeyPatch], type[FakeLedger]]


def no_fault(patch: pytest.MonkeyPatch) -> type[FakeLedger]:
    return FakeLedger


def attempts_outside_the_transaction(patch: pytest.MonkeyPatch) -> type[FakeLedger]:
    """G4: the effect commits first, decisions and position in a second transaction, which may not come."""

    class TwoTransactions(FakeLedger):
        def deliver(self, place: Place, claim: Claim, batch: Batch, decision: Deliver) -> None:
            for event in batch.events:
                self._ask_gates()
                self.projection.append(event.event_ref)
            self._fail()  # a crash between the two
            self._record(place, claim, batch, decision, self.projection)

    return TwoTransactions


def advance_on_hold(patch: pytest.MonkeyPatch) -> type[FakeLedger]:
    """G5: what was fetched while a gate is closed is not fetched again."""

    def forget(run: LaneRun) -> None:
        for partition, records in run._fetched.items():
            run._claims[partition] = replace(run._claims[partition], next_offset=records[-1].offset + 1)
        run._fetched = {}

    patch.setattr(LaneRun, "put_back", forget)

    class Unfenced(FakeLedger):
        def _record(self, place: Place, claim: Claim, batch: Batch, *rest: object) -> None:
            self.positions[place.lane, batch.partition].next_offset = batch.from_offset
            super()._record(place, claim, batch, *rest)  # type: ignore[arg-type]

    return Unfenced


def swallow_42501(patch: pytest.MonkeyPatch) -> type[FakeLedger]:
    """G6: a refusal is taken for an event's fault, and the batch is recorded as if it had been delivered."""

    class Swallows(FakeLedger):
        def deliver(self, place: Place, claim: Claim, batch: Batch, decision: Deliver) -> None:
            try:
                super().deliver(place, claim, batch, decision)
            except Refused:
                position = self.positions[place.lane, batch.partition]
                self.attempts += [row | {"lane": place.lane} for row in batches.attempts(batch, decision)]
                position.next_offset = batch.next_offset

    return Swallows


def letter_without_bytes(patch: pytest.MonkeyPatch) -> type[FakeLedger]:
    """G7: the dead letter says what went wrong, and has lost the record."""
    whole = batches._dead_letter
    patch.setattr(batches, "_dead_letter", lambda item: whole(item) | {"value": None})
    return FakeLedger


def exactly_once_effect(make: type[FakeLedger]) -> None:
    """G4: a fault between any two steps leaves one projection row and one `sent` per event."""
    scene = Scene(database=make())
    filled(scene)
    scene.steps(3)
    scene.database.faults.append(Retryable("the connection broke", code="08006"))
    scene.until_settled()
    assert len(scene.database.projection) == len(set(scene.database.projection)) == len(scene.refs())
    assert sorted(scene.sent()) == sorted(scene.refs())


def hold_not_drop(make: type[FakeLedger]) -> None:
    """G5: everything that was held is delivered once the gate opens."""
    scene = Scene(database=make(switches=CLOSED))
    filled(scene)
    scene.steps(20)
    scene.database.switches = OPEN
    scene.steps(3)
    scene.until_settled()
    assert sorted(scene.sent()) == sorted(scene.refs())


def nothing_after_the_close(make: type[FakeLedger]) -> None:
    """G5 and G6: a gate that closed since the last look leaves no decision and moves no position."""
    scene = Scene(database=make())
    scene.steps(3)
    filled(scene)
    scene.database.switches = Switches("false", None)
    scene.steps(5)
    assert scene.sent() == []
    assert {position.next_offset for position in scene.database.positions.values()} == {0}


def kept_whole(make: type[FakeLedger]) -> None:
    """G7: what cannot be delivered can be taken from its dead letter, byte for byte."""
    scene = Scene(database=make())
    bad = record(0)
    scene.group.put(bad, record(1))
    scene.database.poison = {ref(bad): poisoned()}
    scene.until_settled()
    (letter,) = scene.database.letters
    assert letter["value"] == batches._base64(bad.value)


@pytest.mark.parametrize(
    ("plant", "guarantee"),
    [
        (attempts_outside_the_transaction, exactly_once_effect),
        (advance_on_hold, hold_not_drop),
        (swallow_42501, nothing_after_the_close),
        (letter_without_bytes, kept_whole),
    ],
)
def test_a_planted_fault_turns_its_guarantee_red(
    plant: Plant, guarantee: Callable[[type[FakeLedger]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    guarantee(no_fault(monkeypatch))
    faulty = plant(monkeypatch)
    with pytest.raises(AssertionError):
        guarantee(faulty)
