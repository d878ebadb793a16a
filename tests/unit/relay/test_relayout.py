"""The cursors of another number of shards: everything a cursor keeps has exactly one new owner."""

import hashlib
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iu_core.errors import Misconfigured, Terminal
from producers.relay.cursor import Cursor, Digest, Highest, Layout
from producers.relay.relayout import partition_of_tree, relaid
from producers.relay.snapshot import Position, Snapshot
from tests.unit.relay.test_cursor import AT
from tests.unit.relay.test_cursor import CURSOR as WRITTEN

REST = Position(Snapshot.parse("10:15:10,13"), floor_id=3)
TREES = [UUID(int=number) for number in range(40)]


def sealed(partitions: int, shards: int) -> list[Cursor]:
    """Cursors at rest, with a different digest in each partition and every tree of TREES blocked."""
    made = []
    for shard in range(shards):
        layout = Layout(partitions, shards, shard, epoch=7)
        made.append(
            replace(
                WRITTEN,
                sequence=100 + shard,
                position=REST,
                layout=layout,
                highest=Highest(1_000 + shard, UUID(int=shard)),
                digests={p: Digest(p + 1, bytes([p]) * 32) for p in layout.owned()},
                blocked={
                    tree: tree.int for tree in TREES if partition_of_tree(layout, tree) in layout.owned()
                },
                sealed=True,
            )
        )
    return made


@given(
    st.integers(1, 12).flatmap(
        lambda partitions: st.tuples(
            st.just(partitions), st.integers(1, partitions), st.integers(1, partitions)
        )
    )
)
def test_whatever_the_numbers_each_partition_and_each_tree_goes_to_its_owner(
    shape: tuple[int, int, int],
) -> None:
    partitions, before, after = shape
    old = sealed(partitions, before)
    new = relaid(old, after, before, AT)
    assert [cursor.layout.shard for cursor in new] == list(range(max(before, after)))
    for cursor in new[:after]:
        assert set(cursor.digests) == set(cursor.layout.owned())
        assert all(partition_of_tree(cursor.layout, tree) in cursor.layout.owned() for tree in cursor.blocked)
    for retired in new[after:]:
        assert (retired.digests, retired.blocked) == ({}, {})
    assert {p: d for c in new for p, d in c.digests.items()} == {
        p: d for c in old for p, d in c.digests.items()
    }
    assert {t: v for c in new for t, v in c.blocked.items()} == {tree: tree.int for tree in TREES}


def test_what_is_of_the_whole_goes_to_every_shard() -> None:
    old = sealed(4, 3)
    for cursor in relaid(old, 2, 5, AT):
        assert replace(cursor.layout, shard=0) == Layout(4, 2, 0, epoch=8)
        assert cursor.sequence == 103
        assert cursor.position == REST
        assert cursor.highest == Highest(1_002, UUID(int=2))
        assert not cursor.sealed


def test_a_shard_that_published_nothing_is_no_hindrance() -> None:
    old = sealed(4, 2)
    old[0] = replace(old[0], highest=None, digests={}, blocked={})
    new = relaid(old, 1, 2, AT)
    assert new[0].highest == Highest(1_001, UUID(int=1))
    assert set(new[0].digests) == {1, 3}


def test_a_tree_lies_where_its_bucket_does() -> None:
    """Source of the rule: design/00, "Bucket"; the first byte of the SHA-256 of the tree's id."""
    tree = UUID("6f1c2b1e-6a0a-4d6a-9f5a-0d8e3c1b7a55")
    assert partition_of_tree(Layout(256), tree) == hashlib.sha256(tree.bytes).digest()[0]


@pytest.mark.parametrize(
    "change",
    [
        {"sealed": False},
        {"position": replace(REST, settled=Snapshot.parse("10:16:10,13"))},
    ],
)
def test_shards_that_are_not_at_rest_at_one_snapshot_are_refused(change: dict[str, object]) -> None:
    """Else what one has published and another has not would be skipped or doubled."""
    first, second = sealed(4, 2)
    with pytest.raises(Terminal, match="not at rest"):
        relaid([first, replace(second, **change)], 1, 2, AT)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"topic_id": "another"},
        {"incarnation": 2},
        {"position": replace(REST, floor_id=4)},
        {"position": REST.opened(Snapshot.parse("13:20:13"))},
    ],
)
def test_shards_of_two_minds_are_refused(change: dict[str, object]) -> None:
    first, second = sealed(4, 2)
    with pytest.raises(Misconfigured, match="one outbox and one topic"):
        relaid([first, replace(second, **change)], 1, 2, AT)  # type: ignore[arg-type]
