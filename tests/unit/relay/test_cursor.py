"""The cursor comes back as it was written, and says by its digests what the topic must hold."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iu_core.errors import Misconfigured
from producers.relay.cursor import (
    Cursor,
    Digest,
    Highest,
    Layout,
    Origin,
    decode,
    encode,
    key,
)
from producers.relay.snapshot import Position, Snapshot

AT = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
ORIGIN = Origin("7711580476797979767", 3, "1/A8F96B0", 16981, 17133)
CURSOR = Cursor(
    sequence=41,
    position=Position(Snapshot.parse("10:15:10,13"), Snapshot.parse("13:20:13,18"), 7, 3),
    layout=Layout(partitions=4),
    origin=ORIGIN,
    topic="iu.structure.events",
    topic_id="872bfcf0-59f3-4d8e-8b44-ebd35e2a6445",
    relay_version="0.1.0",
    at=AT,
    highest=Highest(7, UUID(int=7)),
    digests={0: Digest(2, bytes(range(32))), 3: Digest()},
    blocked={UUID(int=9): 12},
    sealed=True,
)


def test_every_field_survives() -> None:
    assert decode(encode(CURSOR)) == CURSOR


def test_a_cursor_without_history_survives() -> None:
    first = replace(CURSOR, sequence=0, position=Position(), highest=None, digests={}, blocked={})
    assert decode(encode(first)) == first


def test_the_record_is_sorted_json_with_every_field_of_the_design() -> None:
    document = json.loads(encode(CURSOR))
    assert list(document) == sorted(document)
    assert document["format"] == 2
    assert document["window"] == {
        "settled": "10:15:10,13",
        "open": "13:20:13,18",
        "last_id": 7,
        "floor_id": 3,
    }
    assert document["layout"] == {"partitions": 4, "shards": 1, "shard": 0, "epoch": 1}
    assert document["database"] == {
        "system_identifier": "7711580476797979767",
        "timeline": 3,
        "lsn": "1/A8F96B0",
        "database_oid": 16981,
        "outbox_oid": 17133,
    }
    assert document["highest"] == {"id": 7, "event_ref": str(UUID(int=7))}
    assert document["topic"]["id"] == CURSOR.topic_id
    assert document["blocked"] == {str(UUID(int=9)): 12}
    assert document["sealed"] is True
    assert {"incarnation", "relay_version", "at", "sequence", "partitions"} <= set(document)


def test_a_cursor_of_format_1_is_read_as_not_sealed() -> None:
    document = json.loads(encode(CURSOR)) | {"format": 1}
    del document["sealed"]
    assert decode(json.dumps(document).encode()) == replace(CURSOR, sealed=False)


def test_a_shard_has_a_key_of_its_own_for_compaction() -> None:
    assert key(Layout(4, 2, 0)) != key(Layout(4, 2, 1))
    assert key(Layout(4, 2, 1, epoch=1)) == key(Layout(4, 2, 1, epoch=2))


def test_a_digest_counts_and_chains_by_hand() -> None:
    by_hand = hashlib.sha256(bytes(32) + UUID(int=109).bytes + b"\1" * 32).digest()
    assert Digest().extended(UUID(int=109), b"\1" * 32) == Digest(1, by_hand)


def test_the_next_cursor_is_one_transaction_on_and_keeps_where_it_comes_from() -> None:
    digests, blocked = {0: Digest(4, b"\1" * 32)}, {UUID(int=3): 7}
    after = CURSOR.after(
        digests=digests,
        highest=Highest(9, UUID(int=109)),
        blocked=blocked,
        position=Position(),
        origin=ORIGIN,
        at=AT,
    )
    assert (after.sequence, after.digests, after.blocked) == (42, digests, blocked)
    assert (after.highest, after.position) == (Highest(9, UUID(int=109)), Position())
    assert (after.layout, after.topic_id, after.incarnation) == (
        CURSOR.layout,
        CURSOR.topic_id,
        CURSOR.incarnation,
    )
    assert CURSOR.digests[0].count == 2  # the old cursor is untouched


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        encode(CURSOR).replace(b'"format":2', b'"format":3'),
        encode(CURSOR).replace(b'"13:20:13,18"', b'"20:13:"'),
        encode(CURSOR).replace(b'"sequence":41', b'"sequence":"x"'),
        encode(CURSOR).replace(b'"sealed":true', b'"sealed":1'),
        encode(CURSOR).replace(b'"shards":1', b'"shards":1,"more":1'),
        encode(CURSOR)[:-1],
    ],
)
def test_a_cursor_that_is_not_understood_stops_the_relay(value: bytes) -> None:
    with pytest.raises(Misconfigured) as raised:
        decode(value)
    assert raised.value.remedy


@given(st.integers(0, 255), st.integers(1, 16), st.integers(1, 8))
def test_each_bucket_belongs_to_exactly_one_shard(bucket: int, partitions: int, shards: int) -> None:
    partition = Layout(partitions).partition_of(bucket)
    owners = [shard for shard in range(shards) if partition in Layout(partitions, shards, shard).owned()]
    assert len(owners) == 1
    assert owners[0] == partition % shards
