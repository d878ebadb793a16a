"""The bound of a prune is that of the slowest shard, and is not known before every shard has a cursor."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from iu_core.bus.names import BusNames
from iu_core.bus.ports import Outgoing
from iu_core.cli.relay_prune import duration
from iu_core.errors import ExitCode, IUError, Usage
from producers.relay.cursor import Cursor, Highest, Layout, encode
from producers.relay.prune import Bound, Going, Held, Preview, bound_of, read_cursors, refuse_if_nothing_goes
from producers.relay.snapshot import Position, Snapshot
from tests.contract.bus.fake_bus import FakeAdmin, FakeBroker, FakePublisher, FakeReader
from tests.unit.relay.test_cursor import CURSOR

NAMES = BusNames()
TREE, OTHER = UUID(int=1), UUID(int=2)
BOUND = Bound(10, (7,), (), 0, datetime(2026, 1, 1, tzinfo=UTC))


def shard(number: int, settled: str, *, shards: int = 2, epoch: int = 1, window: str | None = None) -> Cursor:
    opened = None if window is None else Snapshot.parse(window)
    return replace(
        CURSOR,
        layout=Layout(partitions=4, shards=shards, shard=number, epoch=epoch),
        position=Position(settled=Snapshot.parse(settled), window=opened),
        highest=Highest(70 + number, UUID(int=70 + number)),
        blocked={},
        sealed=False,
    )


class Stage:
    """A cursor topic with `partitions`, and what was written to it."""

    def __init__(self, partitions: int | None) -> None:
        self.broker = FakeBroker()
        if partitions is not None:
            FakeAdmin(self.broker).create(NAMES.cursor, partitions=partitions, configs={})

    def write(self, *written: Cursor) -> "Stage":
        for cursor in written:
            publisher = FakePublisher(self.broker, "a relay")
            publisher.open()
            publisher.publish([Outgoing(NAMES.cursor, cursor.layout.shard, b"k", encode(cursor))])
        return self

    def read(self) -> tuple[Cursor, ...]:
        return read_cursors(FakeReader(self.broker), FakeAdmin(self.broker), NAMES)


def test_the_slowest_shard_gives_the_bound() -> None:
    """By S1, its oldest transaction still open, not by the window in progress."""
    first = replace(shard(0, "30:50:30,40"), blocked={TREE: 5})
    second = replace(shard(1, "20:60:20", window="90:90:"), blocked={OTHER: 2, TREE: 9})
    bound = bound_of([first, second])
    assert (bound.before_xid, bound.held_back_by) == (20, 1)
    assert (bound.newest_ids, bound.blocked_trees) == ((70, 71), (TREE, OTHER))


def test_a_shard_that_has_published_nothing_has_no_newest_row() -> None:
    assert bound_of([replace(shard(0, "30:50:", shards=1), highest=None)]).newest_ids == ()


def test_every_shard_of_the_newest_layout_is_read() -> None:
    stage = Stage(2).write(shard(0, "10:10:"), shard(1, "20:20:"), shard(0, "30:30:"))
    assert [cursor.position.settled.xmin for cursor in stage.read()] == [30, 20]


def test_cursors_of_an_older_layout_do_not_count() -> None:
    """Four shards became two: the last words of shards 2 and 3 stay on the topic for ever."""
    old = [shard(number, "10:10:", shards=4) for number in range(4)]
    stage = Stage(4).write(*old, *(shard(number, "50:50:", epoch=2) for number in range(2)))
    assert [cursor.layout.epoch for cursor in stage.read()] == [2, 2]


@pytest.mark.parametrize(
    ("stage", "exit_code"),
    [
        (Stage(None), ExitCode.FAULT),
        (Stage(2), ExitCode.FAULT),
        (Stage(2).write(shard(1, "10:10:")), ExitCode.FAULT),
        (Stage(1).write(replace(shard(0, "10:10:", shards=1), sealed=True)), ExitCode.CONFIGURATION),
    ],
    ids=["no topic", "empty topic", "a shard without a cursor", "half of a reshard"],
)
def test_a_shard_without_a_cursor_is_refused(stage: Stage, exit_code: ExitCode) -> None:
    with pytest.raises(IUError) as caught:
        stage.read()
    assert caught.value.exit_code == exit_code
    assert caught.value.remedy


def found(*held: Held, going: int = 0) -> Preview:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    goes = (Going("structure_reparented", going, at, at),) if going else ()
    return Preview(BOUND, 0.0, goes, held, ())


@pytest.mark.parametrize(
    ("held", "exit_code"),
    [
        ((Held("undecided", 9, TREE), Held("too_young", 1, OTHER)), ExitCode.REFUSED),
        ((Held("too_young", 9, TREE), Held("undecided", 1, OTHER)), ExitCode.FAULT),
        ((Held("unsettled", 1, TREE),), ExitCode.FAULT),
        ((Held("blocked", 1, TREE),), ExitCode.FAULT),
    ],
)
def test_what_holds_most_rows_gives_the_exit_code_and_all_of_it_is_said(
    held: tuple[Held, ...], exit_code: ExitCode
) -> None:
    with pytest.raises(IUError) as caught:
        refuse_if_nothing_goes(found(*held))
    assert caught.value.exit_code == exit_code
    for each in held:
        assert each.in_words in (caught.value.why or "")
        assert str(each.example) in (caught.value.why or "")


def test_a_run_with_something_to_do_or_nothing_at_all_is_not_refused() -> None:
    refuse_if_nothing_goes(found(Held("undecided", 9, TREE), going=1))
    refuse_if_nothing_goes(found())


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("0s", timedelta(0)),
        ("90m", timedelta(minutes=90)),
        ("30d", timedelta(days=30)),
        ("2w", timedelta(14)),
    ],
)
def test_a_length_of_time_is_a_number_and_a_unit(words: str, meant: timedelta) -> None:
    assert duration(words) == meant


@pytest.mark.parametrize("words", ["", "d", "30", "-1d", "1.5d", "30 days", "30D", "9999999d", "٣d"])
def test_anything_else_is_no_length_of_time(words: str) -> None:
    with pytest.raises(Usage):
        duration(words)
