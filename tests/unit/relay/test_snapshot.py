"""The snapshot-diff cursor, in a model of PostgreSQL small enough to try thousands of interleavings.

Readers of three kinds run over the same histories. The diff loses and repeats nothing; the two
that people write first, "id > last" and "below xmin, by xid", test this test: they must fail.
"""

import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.relay.snapshot import BEGINNING, Position, Snapshot
from tests.unit.relay.outbox_model import Database, Row

ROWS_MAX = 3
HISTORIES = 300


Reader = Callable[[Database], Iterator[list[Row]]]


def read_by_diff(database: Database) -> Iterator[list[Row]]:
    """What the relay does: yields one chunk a poll."""
    position = Position()
    while True:
        if position.window is None:
            position = position.opened(database.snapshot())
        awaited = [row for row in database.visible if position.awaits(row.xid, row.id)]
        chunk = sorted(awaited, key=lambda row: row.id)[:ROWS_MAX]
        if chunk:
            position = position.advanced(chunk[-1].id)
        if len(chunk) < ROWS_MAX:
            position = position.closed()
        yield chunk


def read_by_id(database: Database) -> Iterator[list[Row]]:
    """Planted fault: id > last."""
    last = 0
    while True:
        chunk = sorted((row for row in database.visible if row.id > last), key=lambda row: row.id)[:ROWS_MAX]
        last = chunk[-1].id if chunk else last
        yield chunk


def read_below_xmin(database: Database) -> Iterator[list[Row]]:
    """Planted fault: everything below xmin, cut and ordered by (xid, id)."""
    last = (0, 0)
    while True:
        xmin = database.snapshot().xmin
        settled = sorted((row.xid, row.id, row) for row in database.visible if row.xid < xmin)
        chunk = [entry[2] for entry in settled if entry[:2] > last][:ROWS_MAX]
        last = (chunk[-1].xid, chunk[-1].id) if chunk else last
        yield chunk


def faults(reader: Reader, seed: int) -> set[str]:
    """Run one history to its end; return which promises the reader broke."""
    database = Database(seed)
    polls, chance = reader(database), random.Random(-seed)
    published: list[Row] = []
    for _ in range(120):
        database.step()
        if chance.random() < 0.4:
            published += next(polls)
    database.finish()
    for _ in range(200):
        published += next(polls)
    broken = set()
    if set(database.visible) - set(published):
        broken.add("skipped")
    if len(published) != len(set(published)):
        broken.add("repeated")
    for tree in database.versions:
        versions = [row.version for row in published if row.tree == tree]
        if versions != list(range(1, len(versions) + 1)):
            broken.add("disordered")
    return broken


def all_faults(reader: Reader) -> set[str]:
    return set().union(*(faults(reader, seed) for seed in range(1, HISTORIES + 1)))


def test_the_diff_of_snapshots_skips_repeats_and_disorders_nothing() -> None:
    assert all_faults(read_by_diff) == set()


def test_reading_by_id_is_caught_skipping() -> None:
    assert "skipped" in all_faults(read_by_id)


def test_cutting_by_xid_is_caught_disordering() -> None:
    assert "disordered" in all_faults(read_below_xmin)


@given(st.integers(1, 2**63 - 1), st.sets(st.integers(0, 50)), st.integers(0, 60))
def test_a_snapshot_survives_being_written_and_read(xmin: int, offsets: set[int], width: int) -> None:
    xip = tuple(sorted(xmin + offset for offset in offsets if offset < width))
    snapshot = Snapshot(xmin, xmin + width, xip)
    assert Snapshot.parse(str(snapshot)) == snapshot


@pytest.mark.parametrize(
    "text",
    ["", "5", "5:4:", "0:4:", "5:9:4", "5:9:9", "5:9:7,6", "5:9:6,6", "5:9:6,", " 5:9:", "5:9:٦", "-5:9:"],
)
def test_what_is_no_snapshot_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="pg_snapshot"):
        Snapshot.parse(text)


def test_a_snapshot_sees_what_was_over() -> None:
    snapshot = Snapshot.parse("10:15:10,13")
    assert [xid for xid in range(8, 18) if snapshot.sees(xid)] == [8, 9, 11, 12, 14]
    assert not BEGINNING.sees(1)


def test_a_window_awaits_what_ended_between_its_snapshots() -> None:
    position = Position(settled=Snapshot.parse("10:15:10,13")).opened(Snapshot.parse("13:20:13,18"))
    assert [xid for xid in range(8, 22) if position.awaits(xid, 1)] == [10, 15, 16, 17, 19]


def test_ids_up_to_the_floor_and_the_last_are_done() -> None:
    opened = Position(floor_id=5).opened(Snapshot.parse("20:20:"))
    assert [row_id for row_id in range(1, 9) if opened.awaits(10, row_id)] == [6, 7, 8]
    assert [row_id for row_id in range(1, 9) if opened.advanced(7).awaits(10, row_id)] == [8]
    assert not opened.closed().awaits(10, 8)


@pytest.mark.parametrize("now", ["9:14:", "9:16:", "10:14:"])
def test_time_does_not_run_backwards(now: str) -> None:
    with pytest.raises(ValueError, match="older"):
        Position(settled=Snapshot.parse("10:15:")).opened(Snapshot.parse(now))


def test_a_window_is_opened_once_advances_upwards_and_is_closed_once() -> None:
    opened = Position().opened(Snapshot.parse("20:20:"))
    with pytest.raises(ValueError, match="open"):
        opened.opened(Snapshot.parse("21:21:"))
    with pytest.raises(ValueError, match="advance"):
        opened.advanced(7).advanced(7)
    with pytest.raises(ValueError, match="no window"):
        opened.closed().closed()
