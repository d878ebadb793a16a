"""The worker against a database, a topic and a clock in memory: the rows of design/30's table it acts on.

A step takes no time of its own: the clock moves by `TICK_S` with every step, so that every wait and
every recheck shows as a number of steps, and no test sleeps.
"""

import itertools
from dataclasses import replace
from uuid import UUID

import pytest

from consumers.route.decide import Switches
from consumers.route.ledger import Ledger
from consumers.route.reading import Reader
from consumers.route.worker import Ports, RouteWorker, Tempo
from iu_core.bus.ports import PositionLost, Record, RecordCorrupt, Topic
from iu_core.errors import Fenced, Refused, Retryable, Terminal
from tests.unit.consumers.fakes import (
    CLOSED,
    OPEN,
    ROUTE,
    TOPIC,
    FakeClock,
    FakeGroup,
    FakeLedger,
    FakeMember,
    FakeTopics,
    poisoned,
    route,
)
from tests.unit.consumers.records import CATALOG, record, with_header

TICK_S = 0.1
ROWS_MAX = 5
STEPS_MAX = 400
AWAY = Retryable("PostgreSQL does not answer", code="57P01")


class Scene:
    """A worker on fakes. `ledger` may be wrapped to plant a fault; `database` is what stands behind it."""

    def __init__(self, *, ledger: Ledger | None = None, database: FakeLedger | None = None) -> None:
        self.database = database or FakeLedger()
        self.group, self.clock = FakeGroup(), FakeClock()
        self.topics = FakeTopics(self.group)
        ports = Ports(
            ledger=ledger or self.database,
            topics=self.topics,
            join=self.group.join,
            read=lambda event_type: Reader(event_type, CATALOG),
            wait=lambda seconds: None,
            clock_s=self.clock,
            random=lambda: 0.0,
        )
        self.worker = RouteWorker(
            ROUTE, ports, Tempo(poll_s=0.1, look_s=0.2), owner="test/1", rows_max=ROWS_MAX
        )

    @property
    def member(self) -> FakeMember:
        return self.group.members[-1]

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.worker.step()
            self.clock.wait(TICK_S)

    def until_settled(self) -> None:
        for _ in range(STEPS_MAX):
            self.steps(1)
            if self.worker.settled():
                return
        raise AssertionError(f"never settled: {self.worker.progress}")

    def refs(self) -> list[str]:
        """Return the events of the route on the topic, partition by partition."""
        ours = [r for log in self.group.logs.values() for r in log if r.header("ce_type") == ROUTE.encode()]
        return [(r.header("ce_id") or b"").decode() for r in ours]

    def sent(self) -> list[str]:
        return self.database.decisions("sent")


def filled(scene: Scene, count: int = 12) -> list[Record]:
    """Put `count` records on both partitions, a third of them of another route; no two are one event."""
    records: list[Record] = []
    seeds = itertools.count()
    while len(records) < count:
        n = len(records)
        event_type = "structure_child_added" if n % 3 == 2 else ROUTE
        made = record(n // 2, event_type, partition=n % 2, seed=next(seeds))
        if ref(made) not in {ref(r) for r in records}:
            records.append(made)
    scene.group.put(*records)
    return records


def ref(of: Record) -> UUID:
    return UUID((of.header("ce_id") or b"").decode())


# --- disabled, dry-run, live ---------------------------------------------------------------


@pytest.mark.parametrize("registered", [None, route(enabled=False)])
def test_a_disabled_or_unknown_route_joins_no_group_and_claims_nothing(registered: object) -> None:
    scene = Scene(database=FakeLedger(route=registered))  # type: ignore[arg-type]
    filled(scene)
    scene.until_settled()
    assert scene.worker.progress.state == "idle"
    assert scene.group.members == []
    assert scene.database.positions == {}


def test_a_live_route_with_open_gates_delivers_each_event_once_and_passes_others_over() -> None:
    scene = Scene()
    filled(scene, 30)
    scene.until_settled()
    assert sorted(scene.sent()) == sorted(scene.refs())
    assert len(scene.database.projection) == len(scene.refs()) == 20
    assert scene.worker.progress.delivered == 20
    assert scene.worker.progress.skipped == 10
    assert scene.worker.progress.state == "live"
    assert scene.member.committed == {0: 15, 1: 15}


@pytest.mark.parametrize(
    ("switches", "gate"), [(OPEN, None), (CLOSED, "kill_switch"), (Switches("true", ""), "allowlist")]
)
def test_dry_run_says_what_the_gates_would_answer_and_delivers_nothing(
    switches: Switches, gate: str | None
) -> None:
    scene = Scene(database=FakeLedger(route=route(mode="plan"), switches=switches))
    filled(scene)
    scene.until_settled()
    rows = [row for row in scene.database.attempts if row["decision"] == "dry_run"]
    assert sorted(row["event_ref"] for row in rows) == sorted(scene.refs())
    assert {row["gate"] for row in rows} == {gate}
    assert {row["lane"] for row in rows} == {"dry_run"}
    assert scene.database.projection == []
    assert scene.database.holds == []


def test_a_running_worker_goes_where_its_route_goes_and_each_lane_keeps_its_place() -> None:
    scene = Scene(database=FakeLedger(route=route(enabled=False)))
    filled(scene)
    scene.steps(5)
    scene.database.route = route(mode="plan")
    scene.steps(10)
    dry = scene.member
    scene.database.route = route()
    scene.steps(10)
    assert (dry.lane, dry.closed, scene.member.lane) == ("dry_run", True, "live")
    assert sorted(scene.sent()) == sorted(scene.refs())
    scene.database.route = route(enabled=False)
    scene.steps(5)
    assert scene.member.closed
    assert scene.worker.progress.state == "idle"
    scene.database.route = route()
    scene.steps(10)
    assert scene.worker.progress.delivered == len(scene.refs())
    assert {lane for lane, _ in scene.database.positions} == {"dry_run", "live"}


def test_offsets_without_records_are_passed_too() -> None:
    scene = Scene()
    filled(scene, 4)
    scene.group.markers = {(0, 2), (1, 2)}
    scene.until_settled()
    scene.steps(2)
    assert {position.next_offset for position in scene.database.positions.values()} == {3}


def test_a_topic_that_is_not_there_yet_is_waited_for() -> None:
    scene = Scene()
    scene.topics.topic = None
    scene.until_settled()
    assert scene.worker.progress.state == "waiting"
    scene.topics.topic = TOPIC
    filled(scene)
    scene.until_settled()
    assert sorted(scene.sent()) == sorted(scene.refs())


# --- holds ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("switches", "gate"),
    [
        (CLOSED, "kill_switch"),
        (Switches(None, ROUTE), "kill_switch"),
        (Switches("TRUE", ROUTE), "kill_switch"),
        (Switches("true", None), "allowlist"),
        (Switches("true", "other"), "allowlist"),
    ],
)
def test_a_closed_gate_holds_everything_in_one_episode_and_opening_it_resumes(
    switches: Switches, gate: str
) -> None:
    scene = Scene(database=FakeLedger(switches=switches))
    filled(scene)
    scene.steps(200)
    assert [hold[0] for hold in scene.database.holds] == [gate]
    assert scene.database.touches < 8, "a hold is reported now and then, not at every look"
    assert scene.member.polls == 199, "the membership is kept by polling"
    assert scene.member.paused == {0, 1}
    assert scene.database.attempts == []
    assert {position.next_offset for position in scene.database.positions.values()} == {0}
    assert scene.worker.settled()
    scene.database.switches = OPEN
    scene.steps(6)
    assert sorted(scene.sent()) == sorted(scene.refs())
    assert scene.worker.progress.state == "live"


def test_a_gate_that_closes_between_look_and_transaction_holds_without_a_trace() -> None:
    scene = Scene()
    scene.steps(3)
    filled(scene)
    scene.database.switches = CLOSED  # the worker's last look says open
    scene.steps(1)
    assert scene.database.attempts == []
    assert scene.database.projection == []
    assert [hold[0] for hold in scene.database.holds] == ["kill_switch"]
    scene.database.switches = OPEN
    scene.steps(8)
    assert sorted(scene.sent()) == sorted(scene.refs())


def test_a_route_for_which_nothing_waits_says_nothing_at_a_closed_gate() -> None:
    scene = Scene(database=FakeLedger(switches=CLOSED))
    scene.until_settled()
    assert scene.database.holds == []


def test_a_refusal_that_the_switches_do_not_explain_holds_in_the_databases_own_words() -> None:
    scene = Scene()
    scene.steps(3)
    filled(scene)
    scene.database.faults.append(Refused("permission denied for function fn_iu_route_deliver", code="42501"))
    scene.steps(1)
    assert scene.database.holds[0][0] == "refused"
    scene.steps(20)
    assert sorted(scene.sent()) == sorted(scene.refs())
    assert scene.worker.progress.state == "live"


def test_a_topic_that_was_made_again_holds_at_the_claim() -> None:
    scene = Scene()
    filled(scene)
    scene.until_settled()
    before = scene.sent()
    scene.topics.topic = Topic(TOPIC.name, "topic-2", 2)
    scene.steps(80)  # longer than the topic is left unasked
    assert scene.database.holds[-1][0] == "topic"
    assert scene.sent() == before
    assert scene.worker.progress.state == "held"


@pytest.mark.parametrize("header", [b"structure_forked", b"\xff"])
def test_a_known_record_of_an_unknown_type_holds_and_what_stands_before_it_lands(header: bytes) -> None:
    scene = Scene()
    scene.group.put(record(0), with_header(record(1), "ce_type", header), record(2))
    scene.steps(20)
    assert scene.sent() == scene.refs()[:1]
    assert scene.worker.progress.state == "held"
    assert [hold[0] for hold in scene.database.holds] == ["schema"]
    assert scene.database.positions["live", 0].next_offset == 1
    assert scene.database.letters == []


@pytest.mark.parametrize(
    ("fault", "gate"), [(PositionLost("out of range"), "topic"), (RecordCorrupt("crc"), "record")]
)
def test_a_lost_position_or_a_corrupt_record_holds_with_a_new_member(fault: Exception, gate: str) -> None:
    scene = Scene()
    filled(scene)
    scene.steps(1)
    first = scene.member
    first.faults.append(fault)
    scene.steps(10)
    assert first.closed
    assert [hold[0] for hold in scene.database.holds] == [gate]
    assert scene.database.attempts == []
    scene.steps(60)
    assert scene.member is not first
    assert sorted(scene.sent()) == sorted(scene.refs())


# --- things that are away ------------------------------------------------------------------


def test_what_is_away_is_waited_for_with_growing_pauses_and_leaves_no_row() -> None:
    scene = Scene()
    scene.steps(3)
    filled(scene)
    scene.database.faults.extend([AWAY] * 6)
    tries, before = [], 6
    for step in range(200):
        scene.steps(1)
        if len(scene.database.faults) < before:
            before = len(scene.database.faults)
            tries.append(step)
    gaps = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert len(tries) == 6
    assert gaps == sorted(gaps)
    assert gaps[-1] > 4 * gaps[0]
    assert sorted(scene.sent()) == sorted(scene.refs())
    assert [row for row in scene.database.attempts if row["decision"] != "sent"] == []
    assert scene.database.holds == []


def test_a_worker_that_waits_for_the_database_keeps_its_membership() -> None:
    scene = Scene()
    scene.steps(3)
    polls = scene.member.polls
    scene.database.faults.extend([AWAY] * 100)
    scene.steps(50)
    assert scene.member.polls >= polls + 40, "every step polls, but those that find the database away"
    assert scene.worker.progress.state == "waiting"
    assert not scene.worker.settled()


def test_any_other_fault_of_the_database_ends_the_process_without_a_dead_letter() -> None:
    scene = Scene()
    scene.steps(3)
    filled(scene)
    scene.database.faults.append(Terminal("relation does not exist", code="42P01"))
    with pytest.raises(Terminal, match="relation does not exist"):
        scene.steps(1)
    assert scene.database.letters == []
    assert scene.database.attempts == []


# --- ownership -----------------------------------------------------------------------------


def test_a_partition_claimed_by_another_is_dropped_and_taken_again_only_if_the_broker_agrees() -> None:
    scene = Scene()
    scene.steps(3)
    filled(scene)
    scene.database.positions["live", 0].owner_epoch += 1
    scene.member.confirm_faults.append(Retryable("the group is rebalancing"))
    scene.steps(2)
    assert scene.database.positions["live", 0].next_offset == 0
    assert scene.member.confirmed == 1
    scene.steps(20)
    assert scene.member.confirmed == 2
    assert sorted(scene.sent()) == sorted(scene.refs())


def test_a_fenced_member_ends_the_process() -> None:
    scene = Scene()
    scene.steps(3)
    filled(scene)
    scene.database.positions["live", 0].owner_epoch += 1
    scene.member.confirm_faults.append(Fenced("a newer member has this name"))
    with pytest.raises(Fenced):
        scene.steps(10)


def test_a_rebalance_takes_and_brings_partitions_without_losing_or_doubling() -> None:
    scene = Scene()
    records = filled(scene, 60)
    scene.steps(4)
    scene.member.lose(0)
    scene.steps(30)
    there = {ref(r) for r in records if r.partition == 1}
    assert {UUID(sent) for sent in scene.sent()} >= {UUID(r) for r in scene.refs()} & there
    scene.member.gain(0)
    scene.until_settled()
    assert sorted(scene.sent()) == sorted(scene.refs())
    assert len(scene.database.projection) == len(scene.refs())


# --- events at fault -----------------------------------------------------------------------


@pytest.mark.parametrize("bad", [{0}, {4}, {2}, {0, 1, 2, 3, 4}, {1, 3}])
@pytest.mark.parametrize(
    ("sqlstate", "decision"),
    [
        ("23514", "failed"),
        ("22P02", "failed"),
        ("IU001", "failed"),
        ("IU020", "refused"),
        ("IU022", "refused"),
    ],
)
def test_the_event_that_the_database_blames_is_kept_whole_and_the_others_land(
    bad: set[int], sqlstate: str, decision: str
) -> None:
    scene = Scene()
    records = [record(n) for n in range(5)]
    scene.group.put(*records)
    scene.database.poison = {ref(records[n]): poisoned(sqlstate) for n in bad}
    scene.until_settled()
    assert scene.sent() == [str(ref(r)) for n, r in enumerate(records) if n not in bad]
    assert scene.database.decisions(decision) == [str(ref(records[n])) for n in sorted(bad)]
    assert [letter["offset"] for letter in scene.database.letters] == sorted(bad)
    assert {letter["sqlstate"] for letter in scene.database.letters} == {sqlstate}
    assert [row["offset"] for row in scene.database.attempts] == [0, 1, 2, 3, 4], "in order"
    assert scene.database.transactions <= 2 * 5 + 1
    assert scene.worker.progress.dead == len(bad)


def test_a_fault_in_the_middle_of_isolating_loses_nothing() -> None:
    scene = Scene()
    records = [record(n) for n in range(5)]
    scene.group.put(*records)
    scene.database.poison = {ref(records[3]): poisoned()}
    scene.steps(2)
    inner = scene.database.deliver
    calls = 0

    def deliver(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise AWAY
        inner(*arguments)  # type: ignore[arg-type]

    scene.database.deliver = deliver  # type: ignore[assignment]
    scene.until_settled()
    assert scene.sent() == [str(ref(r)) for n, r in enumerate(records) if n != 3]
    assert len(scene.database.letters) == 1


def test_a_statement_that_times_out_three_times_is_taken_apart() -> None:
    scene = Scene()
    records = [record(n) for n in range(4)]
    scene.group.put(*records)
    scene.database.poison = {
        ref(records[2]): Retryable("canceling statement due to statement timeout", code="57014")
    }
    scene.until_settled()
    assert scene.sent() == [str(ref(r)) for n, r in enumerate(records) if n != 2]
    assert [letter["sqlstate"] for letter in scene.database.letters] == ["57014"]


def test_bytes_that_nobody_can_read_are_kept_whole_and_the_route_goes_on() -> None:
    scene = Scene()
    bad = replace(
        record(1),
        value=b"\xc3\x01" + b"\x00" * 8 + b"rest",
        key=b"no tree",
        headers=(("ce_type", ROUTE.encode()), ("odd", b"\xff\x00")),
    )
    scene.group.put(record(0), bad, record(2))
    scene.until_settled()
    (letter,) = scene.database.letters
    assert letter["value"] == "wwEAAAAAAAAAAHJlc3Q="
    assert letter["key"] == "bm8gdHJlZQ=="
    assert letter["headers"] == [["ce_type", "c3RydWN0dXJlX3JlcGFyZW50ZWQ="], ["odd", "/wA="]]
    assert (letter["offset"], letter["timestamp_ms"]) == (1, 1_700_000_000_001)
    assert (letter["schema"], letter["event_ref"], letter["tree_id"]) == (
        "fingerprint:0000000000000000",
        None,
        None,
    )
    assert len(scene.sent()) == 2


def test_a_record_of_the_ledger_that_is_refused_stops_the_process() -> None:
    """An undeliverable record that cannot even be written down must not be parted for ever."""
    scene = Scene()
    scene.group.put(replace(record(0), value=b"junk"))
    scene.steps(2)
    scene.database.faults.append(poisoned("22P05"))
    with pytest.raises(Terminal, match="a check is violated"):
        scene.steps(3)


def test_closing_leaves_the_group_and_disconnects() -> None:
    scene = Scene()
    filled(scene)
    scene.until_settled()
    scene.worker.close()
    assert scene.member.closed
    assert scene.database.closed
