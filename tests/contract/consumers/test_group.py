"""What a member of a group promises, asked of the fake and of a real broker alike.

The fake has one member, so what takes two (a share that moves, a name that is taken over) is asked of
the real broker alone. What this suite does not prove: a broker that is away or restarted.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from kafka import KafkaAdminClient, errors
from kafka.admin import MemberToRemove

from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.kafka_group import KafkaGroupMember
from iu_core.bus.kafka_publisher import KafkaPublisher
from iu_core.bus.ports import GroupMember, Outgoing, PositionLost, Record, RecordCorrupt
from iu_core.bus.watchdog import Watchdog
from iu_core.errors import Fenced, Retryable
from iu_core.settings import ConsumerSettings, KafkaSettings, Settings
from tests.unit.consumers.fakes import FakeGroup, FakeMember

DEADLINE_S = 30  # when a test gives up, not a measure of speed
BOTH = frozenset({0, 1})


@dataclass
class Group:
    """A topic of two partitions and the group on it; `put` is one transaction."""

    put: Callable[[int, Sequence[bytes]], None]
    join: Callable[[str | None], GroupMember]
    opened: list[GroupMember] = field(default_factory=list)

    def member(self, instance: str | None = None) -> GroupMember:
        self.opened.append(self.join(instance))
        return self.opened[-1]

    def joined(self, instance: str | None = None) -> GroupMember:
        """Return a member that holds both partitions and has no place in them yet."""
        member = self.member(instance)
        poll_until(member, lambda: member.assigned() == BOTH)
        assert member.joined()
        return member


def poll_until(member: GroupMember, holds: Callable[[], bool]) -> list[Record]:
    """Poll until `holds`; return what came meanwhile."""
    give_up_at = time.monotonic() + DEADLINE_S
    got: list[Record] = []
    while True:
        for records in member.poll(50, 100).values():
            got += records
        if holds():
            return got
        assert time.monotonic() < give_up_at, "never held"


def read(member: GroupMember, count: int) -> list[Record]:
    """Poll until `count` records have come."""
    got: list[Record] = []
    give_up_at = time.monotonic() + DEADLINE_S
    while len(got) < count:
        for records in member.poll(50, 100).values():
            got += records
        assert time.monotonic() < give_up_at, f"{len(got)} of {count}"
    return got


@contextmanager
def polled(member: GroupMember) -> Iterator[list[Record]]:
    """Poll `member` in a thread of its own, as a process of its own would; yield what comes."""
    got: list[Record] = []
    done = threading.Event()

    def run() -> None:
        while not done.is_set():
            for records in member.poll(50, 100).values():
                got.extend(records)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield got
    finally:
        done.set()
        thread.join(timeout=DEADLINE_S)


def quiet(member: GroupMember, polls: int = 6) -> bool:
    """Return whether several polls bring nothing."""
    return all(not member.poll(50, 100) for _ in range(polls))


def values(records: Sequence[Record]) -> list[bytes | None]:
    return [record.value for record in records]


def fake_group() -> Group:
    group = FakeGroup()

    def put(partition: int, payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            group.put(Record("t", partition, group.end(partition), 0, b"k", payload, ()))
        group.markers.add((partition, group.end(partition)))

    return Group(put, lambda instance: FakeMember(group, "live"))


def kafka_group(bootstrap: str, opened: ExitStack) -> Group:
    prefix = f"contract.{uuid.uuid4().hex[:8]}."
    settings = Settings(
        kafka_bootstrap_servers=bootstrap,
        kafka=KafkaSettings(prefix=prefix),
        consumer=ConsumerSettings(session_timeout_ms=6_000),
    )
    topic, watchdog = f"{prefix}t", Watchdog(30)
    opened.callback(watchdog.close)
    admin = KafkaAdmin(settings, "contract")
    opened.callback(admin.close)
    admin.create(topic, partitions=2, configs={})
    opened.callback(admin.delete, [topic])
    publisher = KafkaPublisher(settings, f"{prefix}tx", watchdog)
    publisher.open()
    opened.callback(publisher.close)

    def put(partition: int, payloads: Sequence[bytes]) -> None:
        publisher.publish([Outgoing(topic, partition, b"k", payload) for payload in payloads])

    def join(instance: str | None) -> GroupMember:
        return KafkaGroupMember(
            settings, group=f"{prefix}g", topic=topic, watchdog=watchdog, instance=instance
        )

    return Group(put, join)


@pytest.fixture(params=["fake", "kafka"])
def group(request: pytest.FixtureRequest) -> Iterator[Group]:
    with ExitStack() as opened:
        bootstrap = request.getfixturevalue("kafka_bootstrap") if request.param == "kafka" else None
        made = fake_group() if bootstrap is None else kafka_group(bootstrap, opened)
        try:
            yield made
        finally:
            for member in made.opened:
                member.close()


@pytest.fixture
def kafka(kafka_bootstrap: str) -> Iterator[Group]:
    with ExitStack() as opened:
        made = kafka_group(kafka_bootstrap, opened)
        try:
            yield made
        finally:
            for member in made.opened:
                member.close()


def test_an_assigned_partition_is_silent_until_its_place_is_named(group: Group) -> None:
    group.put(0, [b"a", b"b", b"c"])
    group.put(1, [b"x"])
    member = group.joined()
    assert quiet(member)
    assert member.taken() == BOTH
    member.seek(0, 1)
    assert values(read(member, 2)) == [b"b", b"c"]
    assert member.taken() == {1}
    assert quiet(member)
    member.seek(1, 0)
    assert values(read(member, 1)) == [b"x"]
    assert member.taken() == frozenset()


def test_a_place_may_be_named_again_and_what_was_read_comes_again(group: Group) -> None:
    group.put(0, [b"a", b"b", b"c"])
    member = group.joined()
    for offset, expected in ((0, [b"a", b"b", b"c"]), (0, [b"a", b"b", b"c"]), (2, [b"c"])):
        member.seek(0, offset)
        assert values(read(member, len(expected))) == expected


def test_the_position_goes_past_what_holds_no_record(group: Group) -> None:
    group.put(0, [b"a", b"b"])
    member = group.joined()
    member.seek(0, 0)
    assert [record.offset for record in read(member, 2)] == [0, 1]
    poll_until(member, lambda: member.position(0) == 3)
    group.put(0, [b"c"])
    assert [record.offset for record in read(member, 1)] == [3]


def test_a_paused_partition_is_silent_and_goes_on_where_it_stood(group: Group) -> None:
    group.put(0, [b"a"])
    member = group.joined()
    member.seek(0, 0)
    member.seek(1, 0)
    assert values(read(member, 1)) == [b"a"]
    member.pause(BOTH)
    group.put(0, [b"b"])
    group.put(1, [b"x"])
    assert quiet(member)
    assert member.assigned() == BOTH
    member.resume(frozenset({1}))
    assert values(read(member, 1)) == [b"x"]
    member.resume(BOTH)
    assert values(read(member, 1)) == [b"b"]


def test_a_place_named_while_paused_speaks_at_once(group: Group) -> None:
    group.put(0, [b"a", b"b"])
    member = group.joined()
    member.seek(0, 0)
    member.pause(BOTH)
    member.seek(0, 1)
    assert values(read(member, 1)) == [b"b"]


def test_no_partition_of_others_can_be_sought_and_pausing_it_is_nothing(group: Group) -> None:
    member = group.joined()
    with pytest.raises(Retryable):
        member.seek(7, 0)
    member.pause(frozenset({7}))
    member.resume(frozenset({7}))
    assert member.position(7) is None


def test_a_poll_returns_at_most_what_was_asked_for(group: Group) -> None:
    group.put(0, [b"%d" % number for number in range(10)])
    member = group.joined()
    member.seek(0, 0)
    got: list[Record] = []
    while len(got) < 10:
        fetched: Mapping[int, Sequence[Record]] = member.poll(50, 3)
        assert sum(len(records) for records in fetched.values()) <= 3
        got += [record for records in fetched.values() for record in records]
    assert [record.offset for record in got] == list(range(10))


def test_what_was_committed_to_the_broker_is_never_read_back(group: Group) -> None:
    group.put(0, [b"a", b"b"])
    first = group.joined()
    first.seek(0, 0)
    read(first, 2)
    first.commit({0: 2})
    first.confirm({0: 2})
    first.close()
    second = group.joined()
    assert second.taken() == BOTH
    second.seek(0, 0)
    assert values(read(second, 2)) == [b"a", b"b"]


def test_closing_is_idempotent(group: Group) -> None:
    member = group.joined()
    member.close()
    member.close()


def test_two_members_share_and_what_moves_has_no_place_until_it_is_named(kafka: Group) -> None:
    first = kafka.joined()
    first.seek(0, 0)
    first.seek(1, 0)
    second = kafka.member()
    with polled(first) as firsts:
        poll_until(second, lambda: len(first.assigned()) == len(second.assigned()) == 1)
        assert first.assigned() | second.assigned() == BOTH
        assert first.taken() == frozenset(), "the share that stayed keeps its place"
        assert second.taken() == second.assigned()
        (mine,), (its,) = first.assigned(), second.assigned()
        kafka.put(mine, [b"mine"])
        kafka.put(its, [b"its"])
        second.seek(its, 0)
        assert values(read(second, 1)) == [b"its"]
        poll_until(second, lambda: bool(firsts))
        assert values(firsts) == [b"mine"]
    second.close()
    poll_until(first, lambda: first.assigned() == BOTH)
    assert first.taken() == {its}


def test_members_that_come_and_go_do_not_chase_each_other(kafka: Group) -> None:
    """Three members, polled from three threads: a few generations, then rest (see kafka_group)."""
    members = [kafka.member() for _ in range(3)]
    with ExitStack() as running:
        for member in members[1:]:
            running.enter_context(polled(member))
        poll_until(members[0], lambda: all(member.joined() for member in members))
        for _ in range(60):
            members[0].poll(50, 1)
        assert generation_of(members[0]) < 10
        assert sorted(number for member in members for number in member.assigned()) == sorted(BOTH)


def generation_of(member: GroupMember) -> int:
    number: int = member._consumer.group_metadata().generation_id  # type: ignore[attr-defined]
    return number


def test_a_name_taken_over_fences_the_older_member(kafka: Group) -> None:
    older = kafka.joined("worker-0")
    older.seek(0, 0)
    older.confirm({0: 0})
    newer = kafka.joined("worker-0")
    assert newer.taken() == BOTH
    with pytest.raises(Fenced):
        older.confirm({0: 0})
    newer.confirm({0: 0})


def test_a_member_that_was_put_out_is_told_by_confirm_and_joins_again(
    kafka: Group, kafka_bootstrap: str
) -> None:
    member = kafka.joined("worker-0")
    member.seek(0, 0)
    member.confirm({0: 0})
    group_id = member._consumer.config["group_id"]  # type: ignore[attr-defined]
    admin = KafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    try:
        admin.remove_group_members(group_id, [MemberToRemove(group_instance_id="worker-0")])
    finally:
        admin.close()
    with pytest.raises(Retryable):
        member.confirm({0: 0})
    poll_until(member, lambda: member.joined() and member.taken() == BOTH)
    member.confirm({0: 0})


def test_a_position_that_the_broker_does_not_have_is_said(kafka: Group) -> None:
    member = kafka.joined()
    member.seek(0, 1_000)
    with pytest.raises(PositionLost, match="out of range"):
        poll_until(member, lambda: False)


def test_a_record_with_a_wrong_checksum_is_said(kafka: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    member = kafka.joined()

    def corrupt(*_arguments: Any, **_options: Any) -> None:
        raise errors.CorruptRecordError("Record batch is corrupted")

    monkeypatch.setattr(member._consumer, "poll", corrupt)  # type: ignore[attr-defined]
    with pytest.raises(RecordCorrupt, match="corrupt"):
        member.poll(50, 1)
