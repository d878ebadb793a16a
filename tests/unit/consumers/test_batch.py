"""What one transaction does with polled records, and how a batch is parted when an event is at fault."""

import base64
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from uuid import UUID

import pytest

from consumers.route.batch import (
    Batch,
    Blame,
    attempts,
    dead_letters,
    halves,
    plan,
    without_its_event,
)
from consumers.route.decide import SUPPORTED_TARGET, Deliver, Hold, Plan
from consumers.route.reading import Blocked, Reading, Skip, Undeliverable
from tests.unit.consumers.records import event, record

DELIVER = Deliver(SUPPORTED_TARGET)
REF = UUID(int=1)


def bad(offset: int, *, ref: UUID | None = None) -> Undeliverable:
    return Undeliverable(record(offset), "failed", "truncated", "cut short", ref, "fingerprint:00")


def planned(readings: Iterable[Reading], offsets: list[int], start: int) -> tuple[Batch, Blocked | None]:
    made = plan(2, start, [record(offset) for offset in offsets], readings)
    return made.batch, made.blocked


def test_a_batch_covers_what_lies_between_its_records_too() -> None:
    # 11 and 14 are markers or aborted records: they were never returned.
    batch, blocked = planned([event(12), Skip(), bad(15)], [12, 13, 15], 10)
    assert (batch.from_offset, batch.next_offset, batch.skipped, blocked) == (10, 16, 1, None)
    assert [item.record.offset for item in batch.items] == [12, 15]
    assert [item.record.offset for item in batch.events] == [12]


def test_a_batch_ends_before_a_record_that_the_route_must_not_pass() -> None:
    stop = Blocked(record(13), "schema", "unknown_symbol", "…")
    read: list[int] = []

    def readings() -> Iterable[Reading]:
        for offset, reading in ((12, event(12)), (13, stop), (14, event(14))):
            read.append(offset)
            yield reading

    batch, blocked = planned(readings(), [12, 13, 14], 12)
    assert (batch.next_offset, blocked) == (13, stop)
    assert read == [12, 13]  # nothing behind it is decided, so nothing behind it is read


def test_a_batch_that_begins_with_such_a_record_is_empty() -> None:
    batch, blocked = planned([Blocked(record(12), "registry", "away", "…")], [12], 12)
    assert (batch.from_offset, batch.next_offset, batch.items) == (12, 12, ())
    assert blocked is not None


@pytest.mark.parametrize("seed", range(50))
def test_halves_lose_nothing_double_nothing_and_leave_no_gap(seed: int) -> None:
    chance = random.Random(seed)
    offsets = sorted(chance.sample(range(100, 200), chance.randint(2, 20)))
    kinds: list[Callable[[int], Reading]] = [event, bad, lambda _: Skip()]
    readings = [chance.choice(kinds)(offset) for offset in offsets]
    readings[0], readings[-1] = event(offsets[0]), event(offsets[-1])
    batch, _ = planned(readings, offsets, 100)
    parts, alone = [batch], list[Batch]()
    while parts:
        part = parts.pop(0)
        if len(part.events) < 2:
            alone.append(part)
            continue
        left, right = halves(part)
        assert 0 < len(left.events) < len(part.events)
        assert 0 < len(right.events) < len(part.events)
        parts[:0] = [left, right]
    assert alone[0].from_offset == 100
    assert alone[-1].next_offset == batch.next_offset
    assert all(left.next_offset == right.from_offset for left, right in pairwise(alone))
    assert [item for part in alone for item in part.items] == list(batch.items)
    assert all(p.from_offset <= i.record.offset < p.next_offset for p in alone for i in p.items)
    assert sum(part.skipped for part in alone) == batch.skipped


@pytest.mark.parametrize(
    ("sqlstate", "decision"),
    [
        ("23505", "failed"),
        ("22P02", "failed"),
        ("IU001", "failed"),
        ("IU020", "refused"),
        ("IU022", "refused"),
        (None, "failed"),
    ],
)
def test_an_event_to_blame_is_kept_whole_in_its_place(sqlstate: str | None, decision: str) -> None:
    culprit = event(13)
    batch, _ = planned([bad(12), culprit, Skip()], [12, 13, 14], 12)
    kept = without_its_event(batch, Blame(sqlstate, "out of range", "the server's words"))
    assert (kept.from_offset, kept.next_offset, kept.events) == (12, 15, ())
    (_, row) = attempts(kept, DELIVER)
    assert (row["decision"], row["offset"], row["event_ref"]) == (decision, 13, str(culprit.event_ref))
    (_, letter) = dead_letters(kept)
    assert (letter["sqlstate"], letter["reason"]) == (sqlstate, "out of range")
    assert base64.b64decode(letter["value"]) == culprit.record.value


def test_a_dead_letter_has_every_byte_of_its_record() -> None:
    """Mutation that turns this red: leave value, key or a header out of `_dead_letter`."""
    whole = replace(
        record(12),
        headers=(("twice", b"\x00\xff"), ("twice", b""), ("n\x00l", b"x")),
        value=bytes(range(256)),
        key=b"\xff not a uuid",
    )
    item = replace(bad(12), record=whole)
    (letter,) = dead_letters(Batch(0, 12, 13, (item,)))
    assert base64.b64decode(letter["value"]) == bytes(range(256))
    assert base64.b64decode(letter["key"]) == b"\xff not a uuid"
    assert [(name, base64.b64decode(value)) for name, value in letter["headers"]] == [
        ("twice", b"\x00\xff"),
        ("twice", b""),
        ("n\\x00l", b"x"),  # jsonb cannot hold U+0000
    ]
    assert letter["timestamp_ms"] == whole.timestamp_ms
    assert letter["tree_id"] is None
    tombstone = replace(item, record=replace(whole, value=None, key=str(REF).encode()))
    (letter,) = dead_letters(Batch(0, 12, 13, (tombstone,)))
    assert (letter["value"], letter["tree_id"]) == (None, str(REF))


def test_each_decision_has_its_row() -> None:
    batch = Batch(0, 12, 20, (event(12), bad(13)))
    sent, failed = attempts(batch, DELIVER)
    assert (sent["decision"], sent["gate"], sent["reason"]) == ("sent", None, None)
    assert (failed["decision"], failed["reason"], failed["event_ref"]) == ("failed", "truncated", None)
    held, failed = attempts(batch, Plan(Hold("kill_switch", "closed")))
    assert (held["decision"], held["gate"], held["reason"]) == ("dry_run", "kill_switch", "closed")
    assert failed["decision"] == "failed"
    passed, _ = attempts(batch, Plan(DELIVER))
    assert (passed["decision"], passed["gate"], passed["reason"]) == ("dry_run", None, "every gate is open")


def test_the_last_event_of_a_batch_is_the_last_that_has_a_name() -> None:
    assert Batch(0, 1, 9, ()).last_event_ref is None
    assert Batch(0, 1, 9, (bad(1, ref=REF), bad(2))).last_event_ref == REF
    assert Batch(0, 1, 9, (bad(1, ref=REF), event(3))).last_event_ref == event(3).event_ref


def test_text_that_jsonb_cannot_hold_is_written_out() -> None:
    item = replace(bad(1), detail="nul \x00, surrogate \ud800, " + "x" * 5_000)
    (letter,) = dead_letters(Batch(0, 1, 2, (item,)))
    text = letter["detail"]["text"]
    assert text.startswith("nul \\x00, surrogate \\ud800, x")
    assert len(text) < 2_100
