"""A restored database stops the relay, also when only one row still shows that it was restored (G10).

After a point-in-time restore the work goes on: ids, transaction numbers and log positions are given out
again, and soon they are past those of the cursor. To the relay's window the new rows are then old ones,
published long ago. Only the row with the highest published id is another one than it was.
"""

from uuid import UUID

import pytest

from iu_core.bus.ports import Topic
from iu_core.errors import Misconfigured
from producers.relay import recovery
from producers.relay.cursor import Cursor, Highest, Layout
from producers.relay.outbox import Identity
from producers.relay.recovery import Finding, compare
from tests.unit.relay.test_relay_steps import Scene, drain, kinds

SEEDS = range(1, 11)


def restored(seed: int) -> tuple[Scene, Highest]:
    """Publish everything, restore what stood in the middle, and work until no number is behind the cursor."""
    scene = Scene(seed)
    scene.write(60)
    backup = scene.database.backup(seed=1_000 + seed)
    scene.write(60)
    scene.database.finish()
    drain(scene.started())
    cursor = scene.cursors()[-1]
    assert cursor.highest is not None
    scene.database = scene.outbox.database = backup
    seen = cursor.position.window or cursor.position.settled
    while backup.last_id < cursor.highest.id or backup.snapshot().xmax < seen.xmax:
        scene.write(1)
    backup.finish()
    return scene, cursor.highest


@pytest.mark.parametrize("seed", SEEDS)
def test_a_restore_that_only_one_row_shows_stops_the_relay(seed: int) -> None:
    scene, highest = restored(seed)
    with pytest.raises(Misconfigured, match="another state of the database") as raised:
        scene.relay().start()
    assert (raised.value.why or "").startswith(f"event of outbox row {highest.id}: ")
    assert "; " not in (raised.value.why or ""), "another check has noticed it, too"


def without_the_row(
    cursor: Cursor, identity: Identity, event_ref: UUID | None, topic: Topic, layout: Layout
) -> list[Finding]:
    """Planted: the row with the highest published id is not held against the cursor."""
    said = None if cursor.highest is None else cursor.highest.event_ref
    return compare(cursor, identity, said, topic, layout)


@pytest.mark.parametrize("seed", SEEDS)
def test_without_the_check_of_the_row_a_restore_loses_events(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test of the test above: the relay goes on, and what was written since is never published."""
    scene, _ = restored(seed)
    monkeypatch.setattr(recovery, "compare", without_the_row)
    drain(scene.started())
    assert {"lost", "ghost"} <= kinds(scene.faults())
