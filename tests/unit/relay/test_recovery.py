"""The cursor is found where it is, waited for while it may be on its way, and checked in every field."""

from dataclasses import replace
from uuid import UUID

import pytest

from iu_core.bus.ports import Outgoing, Topic
from iu_core.errors import Misconfigured, Retryable
from producers.relay.cursor import Cursor, Highest, Layout, Origin, encode
from producers.relay.outbox import Identity
from producers.relay.recovery import (
    compare,
    find_cursor,
    holds_events,
    in_force,
    last_cursors,
    last_record,
    refuse,
    refuse_other_layout,
    refuse_sealed,
)
from producers.relay.snapshot import Position, Snapshot
from tests.contract.bus.fake_bus import FakeAdmin, FakeBroker, FakeReader
from tests.unit.relay.test_cursor import CURSOR as WRITTEN

TOPIC = Topic(WRITTEN.topic, WRITTEN.topic_id, 4)
CURSOR = replace(WRITTEN, position=Position(settled=Snapshot.parse("10:15:10,13")))
HERE = Identity(CURSOR.origin, last_id=9, snapshot=Snapshot.parse("15:20:15"))
HIGHEST = Highest(7, UUID(int=7))


def findings(
    cursor: Cursor = CURSOR,
    identity: Identity = HERE,
    event_ref: UUID | None = HIGHEST.event_ref,
    topic: Topic = TOPIC,
    layout: Layout = CURSOR.layout,
) -> set[str]:
    return {finding.thing for finding in compare(cursor, identity, event_ref, topic, layout)}


def origin(**changes: object) -> Identity:
    return replace(HERE, origin=replace(HERE.origin, **changes))  # type: ignore[arg-type]


def test_the_database_and_topic_the_cursor_was_written_for_pass() -> None:
    assert findings() == set()


def test_a_failover_passes() -> None:
    """The same cluster on a newer timeline, where the write-ahead log may have gone back."""
    assert findings(identity=origin(timeline=4, lsn="0/1")) == set()


@pytest.mark.parametrize(
    ("identity", "thing"),
    [
        (origin(system_identifier="8"), "system identifier of the cluster"),
        (origin(database_oid=1), "oid of the database"),
        (origin(outbox_oid=1), "oid of event_outbox"),
        (origin(timeline=2), "timeline"),
        (origin(lsn="1/A8F96AF"), "write-ahead log, at least"),
        (replace(HERE, last_id=6), "last id of event_outbox, at least"),
        (replace(HERE, snapshot=Snapshot.parse("9:14:")), "next transaction id, at least"),
    ],
)
def test_another_database_is_noticed(identity: Identity, thing: str) -> None:
    assert findings(identity=identity) == {thing}


def test_log_positions_are_compared_as_numbers() -> None:
    assert findings(identity=origin(lsn="10/0")) == set()


@pytest.mark.parametrize("event_ref", [None, UUID(int=8)])
def test_a_restore_that_only_the_row_shows_is_noticed(event_ref: UUID | None) -> None:
    assert findings(event_ref=event_ref) == {"event of outbox row 7"}


def test_another_topic_is_noticed() -> None:
    assert findings(topic=replace(TOPIC, topic_id="made again")) == {"topic id"}
    assert findings(topic=replace(TOPIC, partitions=8)) == {"partitions of the topic"}


def test_another_number_of_shards_is_noticed_and_the_epoch_is_the_cursors_to_say() -> None:
    assert findings(layout=replace(CURSOR.layout, epoch=2)) == set()
    assert findings(layout=replace(CURSOR.layout, shards=2)) == {"shards"}
    with pytest.raises(Misconfigured) as raised:
        refuse(compare(CURSOR, HERE, HIGHEST.event_ref, TOPIC, replace(CURSOR.layout, shards=2)))
    assert "IU_RELAY__SHARDS=1" in (raised.value.remedy or "")
    assert "iu relay reshard --to 2" in (raised.value.remedy or "")


def cursors(*layouts: Layout) -> dict[int, Cursor]:
    return {layout.shard: replace(CURSOR, layout=layout) for layout in layouts}


def test_without_a_cursor_the_topic_says_how_many_shards_there_are() -> None:
    refuse_other_layout({}, Layout(4, 2, 1), made_for=2)
    for made_for in (1, 3):
        with pytest.raises(Misconfigured) as raised:
            refuse_other_layout({}, Layout(4, 2, 1), made_for)
        assert f"IU_RELAY__SHARDS={made_for}" in (raised.value.remedy or "")


def test_the_newest_layout_among_all_cursors_counts() -> None:
    """A shard that never published has no cursor of its own, and must not begin in another layout."""
    refuse_other_layout(cursors(Layout(4, 3, 0)), Layout(4, 3, 2), made_for=3)
    with pytest.raises(Misconfigured, match="relayed in 3 shards"):
        refuse_other_layout(cursors(Layout(4, 3, 0)), Layout(4, 2, 1), made_for=3)
    resharded = cursors(Layout(4, 3, 0, epoch=1), Layout(4, 2, 1, epoch=2))
    assert in_force(resharded) == Layout(4, 2, 0, epoch=2)
    refuse_other_layout(resharded, Layout(4, 2, 1), made_for=3)
    with pytest.raises(Misconfigured, match="relayed in 2 shards"):
        refuse_other_layout(resharded, Layout(4, 3, 0), made_for=3)


def test_after_a_reshard_a_shard_without_a_cursor_has_lost_it() -> None:
    with pytest.raises(Misconfigured, match="shard 1 has no cursor"):
        refuse_other_layout(cursors(Layout(4, 2, 0, epoch=2)), Layout(4, 2, 1), made_for=2)


def test_a_sealed_cursor_is_refused_with_the_command_that_goes_on() -> None:
    refuse_sealed(replace(CURSOR, sealed=False))
    with pytest.raises(Misconfigured, match="sealed") as raised:
        refuse_sealed(replace(CURSOR, sealed=True))
    assert "iu relay reshard" in (raised.value.remedy or "")


def test_nothing_published_yet_needs_no_row() -> None:
    assert findings(replace(CURSOR, highest=None), replace(HERE, last_id=0), None) == set()


def test_the_refusal_says_everything_and_what_to_do() -> None:
    elsewhere = replace(HERE, origin=Origin("8", 3, "1/A8F96B0", 5, 6))
    with pytest.raises(Misconfigured) as raised:
        refuse(compare(CURSOR, elsewhere, None, TOPIC, CURSOR.layout))
    assert raised.value.why is not None
    for part in ("found 8", "oid of the database", "oid of event_outbox", "no such row"):
        assert part in raised.value.why
    assert "iu relay rebase" in (raised.value.remedy or "")
    with pytest.raises(Misconfigured) as raised:
        refuse(compare(CURSOR, HERE, HIGHEST.event_ref, replace(TOPIC, topic_id="x"), CURSOR.layout))
    assert "IU_KAFKA__PREFIX" in (raised.value.remedy or "")
    refuse([])


class Bus:
    def __init__(self) -> None:
        self.broker = FakeBroker()
        self.reader = FakeReader(self.broker)
        FakeAdmin(self.broker).create("c", partitions=2, configs={})

    def put(self, value: bytes | None, *, partition: int = 0, commit: bool | None = True) -> None:
        self.broker.begin("tx")
        self.broker.append("tx", [Outgoing("c", partition, b"k", value)])
        if commit is not None:
            self.broker.end("tx", "committed" if commit else "aborted")


def test_the_last_committed_record_is_found_behind_any_number_of_aborted_ones() -> None:
    bus = Bus()
    for number in range(3):
        bus.put(b"%d" % number)
    for _ in range(500):
        bus.put(b"torn", commit=False)
    end = bus.reader.end_offsets("c", committed=True)[0]
    found = last_record(bus.reader, "c", 0, end)
    assert found is not None
    assert found.value == b"2"
    assert last_record(bus.reader, "c", 1, 0) is None


def test_an_onlooker_sees_the_last_committed_cursor_of_each_shard() -> None:
    bus = Bus()
    bus.put(encode(CURSOR))
    bus.put(encode(replace(CURSOR, sequence=42)))
    bus.put(encode(replace(CURSOR, sequence=43)), commit=None)
    found = last_cursors(bus.reader, "c")
    assert {shard: cursor.sequence for shard, cursor in found.items()} == {0: 42}


def test_no_committed_record_is_no_cursor() -> None:
    bus = Bus()
    bus.put(b"torn", commit=False)
    assert find_cursor(bus.reader, "c", 0, timeout_s=0) is None
    assert not holds_events(bus.reader, "c", Layout(2))
    bus.put(b"whole", partition=1)
    assert holds_events(bus.reader, "c", Layout(2))
    assert not holds_events(bus.reader, "c", Layout(2, shards=2, shard=0))


def test_a_commit_on_its_way_is_waited_for() -> None:
    bus = Bus()
    bus.put(encode(CURSOR))
    newest = replace(CURSOR, sequence=42)
    bus.put(encode(newest), commit=None)
    found = find_cursor(
        bus.reader,
        "c",
        0,
        timeout_s=1,
        clock_s=lambda: 0.0,
        sleep_s=lambda _: bus.broker.end("tx", "committed") if "tx" in bus.broker.open else None,
    )
    assert found == newest


def test_without_the_wait_an_older_cursor_would_be_taken() -> None:
    """The test of the test above: what `read_committed` shows at once is one transaction old."""
    bus = Bus()
    bus.put(encode(CURSOR))
    bus.put(encode(replace(CURSOR, sequence=42)), commit=None)
    found = last_record(bus.reader, "c", 0, bus.reader.end_offsets("c", committed=True)[0])
    assert found is not None
    assert found.value == encode(CURSOR)


def test_the_wait_is_bounded() -> None:
    bus, times = Bus(), iter(range(100))
    bus.put(encode(CURSOR), commit=None)
    with pytest.raises(Retryable, match="stays open"):
        find_cursor(
            bus.reader, "c", 0, timeout_s=5, clock_s=lambda: float(next(times)), sleep_s=lambda _: None
        )


def test_a_deleted_cursor_stops_the_relay() -> None:
    bus = Bus()
    bus.put(encode(CURSOR))
    bus.put(None)
    with pytest.raises(Misconfigured, match="was deleted"):
        find_cursor(bus.reader, "c", 0, timeout_s=0)
