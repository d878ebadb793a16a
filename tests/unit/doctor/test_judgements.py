"""What each family of checks makes of what it was told: tables, without a server.

Integration tests show that the facts are asked rightly; here stand the cases a server cannot be
brought into at will.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from iu_core.bus.inspection import ClockReading, LogDir, OpenProducer, OpenTransaction, Place
from iu_core.database.migrations import Entry, State
from producers.doctor import clocks, disks, hanging, position, retention, shard_locks, topics, writers
from producers.doctor.finding import Finding, Patience, Severity
from producers.doctor.hanging import Stall
from producers.doctor.retention import Limits, PartitionLife, RoutePosition
from producers.doctor.shard_locks import Holder, Waiting
from producers.doctor.topics import There, Wanted
from producers.doctor.writers import Prepared, Slot, Writer
from producers.relay.topics import CURSOR_CONFIG, EVENTS_CONFIG

NOW = datetime(2026, 1, 1, tzinfo=UTC)
P = Patience()
EVENTS = Place("events", 0)
CURSOR = Place("cursor", 0)


def severities(found: list[Finding]) -> list[str]:
    return [finding.severity.value for finding in found]


# -- transactions of the database -------------------------------------------------------------


def writer(age_s: float | None, blocked: int = 0) -> Writer:
    return Writer(7, "99", "idle in transaction", "psql", "ada", None, "INSERT", age_s, blocked)


@pytest.mark.parametrize(
    ("one", "seen_again", "told"),
    [
        (writer(4.9), {(7, "99")}, 0),
        (writer(5.0), set(), 1),
        (writer(None), set(), 0),
        (writer(None), {(7, "100")}, 0),  # the session is at its next transaction
        (writer(None), {(7, "99")}, 1),
    ],
)
def test_a_writer_is_told_by_its_age_or_where_that_is_hidden_by_outlasting(
    one: Writer, seen_again: set[tuple[int, str]], told: int
) -> None:
    assert len(writers.judge_writers([one], seen_again, "ada", P)) == told


def test_a_prepared_transaction_is_named_for_the_command_that_ends_it() -> None:
    (finding,) = writers.judge_prepared([Prepared("it's", "99", "ada", 3_600.0, 2)], P)
    assert "ROLLBACK PREPARED 'it''s'" in finding.remedy
    assert any(line.startswith("2 sessions") for line in finding.evidence)
    assert writers.judge_prepared([Prepared("young", "99", "ada", 1.0, 0)], P) == []


@pytest.mark.parametrize(
    ("slot", "told"),
    [
        (Slot("s", False, "extended", 2_000_000_000), ["warns"]),
        (Slot("s", True, "extended", 2_000_000_000), []),
        (Slot("s", False, "reserved", 1_000), []),
    ],
)
def test_a_slot_is_told_if_nobody_reads_it_and_much_is_kept(slot: Slot, told: list[str]) -> None:
    assert severities(writers.judge_slots([slot], P)) == told


# -- transactions of the broker ---------------------------------------------------------------


def transaction(
    age_s: float | None = 100.0, state: str = "Ongoing", timeout_s: float = 900, *places: Place
) -> OpenTransaction:
    started = None if age_s is None else NOW - timedelta(seconds=age_s)
    return OpenTransaction("tx", 5, state, int(timeout_s * 1_000), started, frozenset(places or {EVENTS}))


def producer(place: Place = EVENTS, producer_id: int = 5) -> OpenProducer:
    return OpenProducer(place, producer_id, 0, 10, NOW)


STALL = Stall(EVENTS, 10, 12)


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (transaction(), ["stops"]),
        (transaction(age_s=2), []),  # a relay at work
        (transaction(age_s=None), ["stops"]),
        (transaction(age_s=25, timeout_s=30), ["slows"]),  # its time-out ends it soon
        (transaction(age_s=100, timeout_s=30), ["slows"]),  # over: the broker is about to
        (transaction(state="PrepareAbort"), ["stops"]),
    ],
)
def test_an_open_transaction_is_told_by_its_age_and_by_when_the_broker_ends_it(
    one: OpenTransaction, told: list[str]
) -> None:
    found = hanging.judge([STALL], [producer()], [one], NOW, P)
    assert severities(found) == told


def test_a_decided_transaction_is_not_to_be_aborted() -> None:
    (finding,) = hanging.judge([STALL], [producer()], [transaction(state="PrepareCommit")], NOW, P)
    assert "--abort" not in finding.remedy


def test_a_transaction_over_several_partitions_is_told_once() -> None:
    stalls = [STALL, Stall(CURSOR, 3, 4)]
    both = transaction(100.0, "Ongoing", 900, EVENTS, CURSOR)
    (finding,) = hanging.judge(stalls, [producer(), producer(CURSOR)], [both], NOW, P)
    assert sum("committed records end" in line for line in finding.evidence) == 2


@pytest.mark.parametrize(
    "transactions",
    [
        [],
        # The same producer has another transaction open by now, elsewhere.
        [transaction(100.0, "Ongoing", 900, CURSOR)],
    ],
)
def test_what_only_the_leader_knows_hangs(transactions: list[OpenTransaction]) -> None:
    (finding,) = hanging.judge([STALL], [producer()], transactions, NOW, P)
    assert finding.severity is Severity.STOPS
    assert "--abort-transaction events/0/5 " in finding.remedy


def test_a_partition_that_nobody_is_known_to_hold_is_told() -> None:
    assert severities(hanging.judge([STALL], [], [], NOW, P)) == ["slows"]


def test_what_moved_while_it_was_watched_is_no_stall() -> None:
    before = {EVENTS: STALL, CURSOR: Stall(CURSOR, 3, 4)}
    after = {EVENTS: Stall(EVENTS, 10, 99), CURSOR: Stall(CURSOR, 5, 6), Place("new", 0): STALL}
    assert hanging.unmoved(before, after) == [Stall(EVENTS, 10, 99)]


# -- topics -----------------------------------------------------------------------------------

ALL_RIGHTS = frozenset({"DESCRIBE", "READ", "WRITE"})
TOPIC = Wanted("events", 4, EVENTS_CONFIG)


@pytest.mark.parametrize(
    ("there", "published", "told"),
    [
        (There(4, EVENTS_CONFIG, ALL_RIGHTS), True, []),
        (There(4, EVENTS_CONFIG, None), True, []),
        (There(4, {}, None), True, []),  # a broker that tells no settings
        (There(0, {}, ALL_RIGHTS), True, ["stops"]),
        (There(0, {}, ALL_RIGHTS), False, ["stops"]),
        (There(8, EVENTS_CONFIG, ALL_RIGHTS), True, ["stops"]),
        (There(4, {**EVENTS_CONFIG, "retention.ms": "1", "retention.bytes": "1"}, None), True, ["warns"] * 2),
        (There(0, {}, frozenset()), True, ["stops"]),
        (There(4, EVENTS_CONFIG, frozenset({"DESCRIBE", "READ"})), True, ["stops"]),
    ],
)
def test_topics(there: There, published: bool, told: list[str]) -> None:
    assert severities(topics.judge(TOPIC, there, published=published, bootstrap="b:1")) == told


def test_a_topic_that_is_closed_to_us_is_not_called_missing() -> None:
    (finding,) = topics.judge(TOPIC, There(0, {}, frozenset({"READ"})), published=True, bootstrap="b:1")
    assert "does not let us DESCRIBE, WRITE events" in finding.what
    assert "--operation Describe --operation Write --topic events" in finding.remedy


def test_every_setting_the_relay_wants_has_its_cost_told() -> None:
    wanted = set(EVENTS_CONFIG) | set(CURSOR_CONFIG)
    assert wanted == set(topics._COSTS)


# -- locks ------------------------------------------------------------------------------------


def holder(lock: int, silent_s: float | None = 0.1) -> Holder:
    return Holder(lock, 7, "iu-relay-x-0", "ada", None, silent_s)


@pytest.mark.parametrize(
    ("found", "waiting", "told"),
    [
        ([holder(1000)], Waiting(5, 100.0), []),
        ([holder(1000, None)], Waiting(5, 100.0), []),  # hidden: nothing can be said
        ([holder(1000, 1.6)], Waiting(0, None), ["stops"]),
        ([], Waiting(0, None), ["warns"]),
        ([], Waiting(1, 2.0), ["stops"]),
        ([], Waiting(None, None), ["stops"]),  # the broker is away, too
        ([holder(1001)], Waiting(1, 2.0), ["stops"]),  # another shard's
        ([holder(2000), holder(1000)], Waiting(0, None), ["stops"]),
        ([holder(2001), holder(1000)], Waiting(0, None), []),
    ],
)
def test_locks(found: list[Holder], waiting: Waiting, told: list[str]) -> None:
    assert severities(shard_locks.judge(0, found, waiting)) == told


@pytest.mark.parametrize(
    ("before", "after", "waiting", "told"),
    [
        (4, 4, Waiting(2, 10.0), ["stops"]),
        (None, None, Waiting(2, 10.0), ["stops"]),
        (4, 5, Waiting(2, 10.0), []),
        (4, 4, Waiting(0, None), []),
        (4, 4, Waiting(2, 1.0), []),  # just written
    ],
)
def test_progress(before: int | None, after: int | None, waiting: Waiting, told: list[str]) -> None:
    assert severities(shard_locks.judge_progress(0, holder(1000), waiting, before, after, P)) == told


# -- clocks, disks ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reading", "told"),
    [
        (ClockReading(0.5, 0.01), []),
        (ClockReading(1.5, 0.6), []),  # a slow line, not a wrong clock
        (ClockReading(1.5, 0.1), ["ahead of"]),
        (ClockReading(-90.0, 0.1), ["2 min behind"]),
    ],
)
def test_clocks(reading: ClockReading, told: list[str]) -> None:
    found = clocks.judge("PostgreSQL", reading, P)
    assert len(found) == len(told)
    assert all(words in finding.what for words, finding in zip(told, found, strict=True))


def test_events_of_the_future() -> None:
    assert clocks.judge_future(0, None, None) == []
    assert "by up to 1.0 h" in clocks.judge_future(3, str(UUID(int=1)), 3_600.0)[0].what


@pytest.mark.parametrize(
    ("directory", "told"),
    [
        (LogDir(1, "/d", 100 * 10**9, 11 * 10**9, None), []),
        (LogDir(1, "/d", 100 * 10**9, 9 * 10**9, None), ["warns"]),
        (LogDir(1, "/d", 5 * 10**9, 10**9 - 1, None), ["warns"]),
        (LogDir(1, "/d", 100 * 10**9, 0, None), ["stops"]),
        (LogDir(1, "/d", None, None, None), []),  # a broker that does not say
        (LogDir(1, "/d", 100 * 10**9, 50 * 10**9, "KafkaStorageError"), ["stops"]),
    ],
)
def test_disks(directory: LogDir, told: list[str]) -> None:
    assert severities(disks.judge(directory, P)) == told


# -- retention --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "meant"),
    [
        ({"retention.ms": "-1", "retention.bytes": "-1"}, Limits(None, None)),
        ({"retention.ms": "5000"}, Limits(5.0, None)),
        ({"retention.ms": "-1", "retention.bytes": "7"}, Limits(None, 7)),
        ({"cleanup.policy": "compact", "retention.ms": "5000"}, Limits(None, None)),
        ({"cleanup.policy": "compact,delete", "retention.ms": "5000"}, Limits(5.0, None)),
    ],
)
def test_limits(settings: dict[str, str], meant: Limits) -> None:
    assert retention.limits(settings) == meant


def threatened(
    next_offset: int, limited: Limits, written_h_ago: float = 20, size_bytes: int | None = None
) -> list[Finding]:
    life = PartitionLife(10, 110, NOW - timedelta(hours=100), size_bytes)
    written = {(0, next_offset): NOW - timedelta(hours=written_h_ago)}
    position_ = RoutePosition("r", "live", 0, next_offset)
    return retention.judge_threatened([position_], {0: life}, written, limited, NOW, P, "events", "b:1")


def test_time_to_loss_by_age() -> None:
    day = Limits(86_400.0, None)
    (finding,) = threatened(50, day)
    assert "from route r (live) in 4.0 h" in finding.what
    assert "at any moment" in threatened(50, day, written_h_ago=30)[0].what
    assert threatened(110, day) == []  # all is read
    assert threatened(9, day) == []  # lost already: the other judgement
    assert threatened(50, Limits(30 * 86_400.0, None)) == []  # a month off


def test_time_to_loss_by_size_counts_what_is_read_as_free() -> None:
    """1,000 bytes came in 100 h. Half of them are read, so 1,000 more may come: 100 h."""
    (finding,) = threatened(60, Limits(None, 1_500), size_bytes=1_000)
    assert "in 4 days" in finding.what
    assert threatened(60, Limits(None, 1_500), size_bytes=None) == []


def test_lost_records_are_told_by_route_and_partition() -> None:
    positions = [RoutePosition("r", "live", p, 5) for p in (0, 1, 2)] + [RoutePosition("s", "live", 0, 10)]
    lives = {0: PartitionLife(10, 20), 1: PartitionLife(6, 20), 2: PartitionLife(5, 20)}
    (finding,) = retention.judge_lost(positions, lives, "events")
    assert "route r (live)" in finding.what
    assert [line.rsplit(": ", 1)[-1] for line in finding.evidence[:2]] == [
        "5 offsets are gone",
        "1 offsets are gone",
    ]


# -- migrations -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "told"),
    [
        (("applied", "applied"), []),
        (("applied", "pending"), [("warns", "iu db up")]),
        (("pending", "pending"), [("stops", "iu db up")]),
        (("applied", "unknown"), [("warns", "iu db status")]),
    ],
)
def test_migrations(states: tuple[State, ...], told: list[tuple[str, str]]) -> None:
    entries = tuple(Entry(n, f"{n:03}_x", state, None, None) for n, state in enumerate(states, 1))
    found = position.judge_migrations(entries)
    assert [(one.severity.value, one.remedy.split("   #")[0]) for one in found] == told
