"""What waits of a tree is what the position has passed, on a real server as in the model."""

import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from uuid import UUID

import pytest

from iu_core.database import Role
from producers.relay import waiting
from producers.relay.outbox import PostgresOutbox
from producers.relay.snapshot import Position, Snapshot
from producers.relay.waiting import PostgresWaitingRows
from tests.integration.relay.test_outbox_reading import LAYOUT, Writer
from tests.integration.sql.sessions import Editor, Session, open_gate, session

ROWS_MAX = 4


@pytest.fixture
def relay(migrated_url_each: str) -> Iterator[Session]:
    open_gate(migrated_url_each)
    with session(migrated_url_each, Role.RELAY) as made:
        yield made


def committed(url: str) -> list[tuple[UUID, int, int, int]]:
    """Return (tree, version, xid, id) of every visible row."""
    with session(url) as onlooker:
        rows = onlooker.execute(
            "SELECT aggregate_id, aggregate_version, xid::text, id FROM event_outbox ORDER BY 1, 2"
        ).fetchall()
    return [(tree, version, int(xid), row_id) for tree, version, xid, row_id in rows]


def passed(position: Position, xid: int, row_id: int) -> bool:
    window = position.window
    in_window = window is not None and window.sees(xid) and row_id <= position.last_id
    return row_id <= position.floor_id or position.settled.sees(xid) or in_window


@pytest.mark.parametrize("seed", [1, 2])
def test_only_rows_that_the_position_has_passed_wait(
    migrated_url_each: str, relay: Session, seed: int
) -> None:
    """Five writers with early xids, rollbacks and late commits; positions within and between windows."""
    chance, reading, outbox = random.Random(seed), PostgresWaitingRows(relay), PostgresOutbox(relay, LAYOUT)
    snapshots: list[Snapshot] = []
    differing = 0
    with ExitStack() as opened:
        writers = [Writer(migrated_url_each, opened) for _ in range(5)]
        for _ in range(200):
            chance.choice(writers).step(chance)
            if chance.random() < 0.2:
                snapshots.append(outbox.snapshot()[0])
        for writer in writers:
            writer.finish()
    rows = committed(migrated_url_each)
    trees, last = sorted({row[0] for row in rows}), max(row[3] for row in rows)
    for _ in range(60):
        first, second = sorted(chance.sample(range(len(snapshots)), 2))
        position = Position(snapshots[first], floor_id=chance.choice((0, 0, 5)))
        if chance.random() < 0.7:
            position = replace(position, window=snapshots[second], last_id=chance.randint(0, last))
        tree, version = chance.choice(trees), chance.randint(1, 4)
        due = [v for t, v, x, i in rows if t == tree and v >= version and passed(position, x, i)]
        found = reading.rows(tree, version, position, ROWS_MAX)
        assert [row.tree_version for row in found] == due[:ROWS_MAX]
        assert all(row.tree_id == tree for row in found)
        assert reading.count(tree, version, position) == (len(due), due[0] if due else None)
        differing += len(due) < sum(t == tree and v >= version for t, v, _, _ in rows)
    assert differing > 10, "every row had been passed: nothing was shown"


def test_what_is_read_at_once_is_bounded_in_bytes_too_and_is_never_nothing(
    migrated_url_each: str, relay: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = Editor(migrated_url_each)
    with editor.session:
        root = editor.add(None)
        for _ in range(4):
            editor.add(root)
    reading = PostgresWaitingRows(relay)
    now = Position(settled=PostgresOutbox(relay, LAYOUT).snapshot()[0])
    sizes = [len(row.datum) for row in reading.rows(root, 1, now, 100)]
    assert len(sizes) == 5
    for bytes_max, count in ((1, 1), (sizes[0], 1), (sizes[0] + 1, 2), (sum(sizes), 5)):
        monkeypatch.setattr(waiting, "BYTES_MAX", bytes_max)
        assert len(reading.rows(root, 1, now, 100)) == count
