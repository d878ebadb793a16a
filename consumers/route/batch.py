"""Plan what one transaction does with the records of one partition, from values alone.

A batch covers a range of offsets and holds, of the records in it, those that this route must
decide: events to deliver and records to keep as undeliverable. Records of other routes only
move its end. It ends before a record that the route must not go past.

When the database blames an event, nobody knows which: the batch is parted in two until the
event stands alone, is then kept as a dead letter, and the others land. Each part is a batch
of its own, in order and without a gap, so each has its transaction and its compare-and-set.
"""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

from consumers.route.decide import Deliver, Hold, Plan
from consumers.route.reading import Blocked, Event, Reading, Skip, Undeliverable, tree_id_of
from iu_core.bus.ports import Headers, Record

Item: TypeAlias = Event | Undeliverable
# Rows for fn_iu_route_record, in terms of JSON.
Row: TypeAlias = dict[str, Any]

_TEXT_MAX: Final = 2_000
_REFUSED: Final = ("IU020", "IU022")


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of `partition` with `from_offset` <= offset < `next_offset`; items in their order."""

    partition: int
    from_offset: int
    next_offset: int
    items: tuple[Item, ...]
    skipped: int = 0

    @property
    def events(self) -> tuple[Event, ...]:
        """What can be delivered."""
        return tuple(item for item in self.items if isinstance(item, Event))

    @property
    def last_event_ref(self) -> UUID | None:
        """The last event decided here; finds the place again if offsets are lost."""
        return next((item.event_ref for item in reversed(self.items) if item.event_ref), None)


@dataclass(frozen=True, slots=True)
class Planned:
    """What to do with polled records: a batch, and what stands right after it, if anything."""

    batch: Batch
    blocked: Blocked | None


@dataclass(frozen=True, slots=True)
class Blame:
    """What the database said of a batch that it would not take."""

    sqlstate: str | None
    reason: str
    detail: str | None


def plan(partition: int, from_offset: int, records: Sequence[Record], readings: Iterable[Reading]) -> Planned:
    """Return the batch that `readings` (one per record, read only as far as needed) make.

    Gaps between the offsets are markers and aborted records: there is nothing to decide.
    """
    items: list[Item] = []
    skipped, next_offset = 0, from_offset
    blocked: Blocked | None = None
    for record, reading in zip(records, readings, strict=False):
        match reading:
            case Blocked():
                blocked, next_offset = reading, max(next_offset, record.offset)
                break
            case Skip():
                skipped += 1
            case Event() | Undeliverable():
                items.append(reading)
        next_offset = record.offset + 1
    return Planned(Batch(partition, from_offset, next_offset, tuple(items), skipped), blocked)


def halves(batch: Batch) -> tuple[Batch, Batch]:
    """Part a batch of two or more events so that each part has an event less than all.

    The records passed over are counted with the first part.
    """
    events = batch.events
    cut = events[len(events) // 2].record.offset
    left = tuple(item for item in batch.items if item.record.offset < cut)
    right = tuple(item for item in batch.items if item.record.offset >= cut)
    return (
        Batch(batch.partition, batch.from_offset, cut, left, batch.skipped),
        Batch(batch.partition, cut, batch.next_offset, right),
    )


def without_its_event(batch: Batch, blame: Blame) -> Batch:
    """Return `batch`, of a single event, with that event as undeliverable.

    IU020 (payload or digest is not the one written) and IU022 (given up after a restore) are
    `refused`: delivering it again would be refused again. Everything else has `failed`.
    Source: design/30, table of decisions.
    """
    (event,) = batch.events
    letter = Undeliverable(
        record=event.record,
        decision="refused" if blame.sqlstate in _REFUSED else "failed",
        reason=blame.reason,
        detail=blame.detail or blame.reason,
        event_ref=event.event_ref,
        schema=event.schema,
        sqlstate=blame.sqlstate,
    )
    items = tuple(letter if item is event else item for item in batch.items)
    return Batch(batch.partition, batch.from_offset, batch.next_offset, items, batch.skipped)


def attempts(batch: Batch, decision: Deliver | Plan) -> list[Row]:
    """Return one decision per item: the rows `p_attempts` of fn_iu_route_record."""
    return [_attempt(item, decision) for item in batch.items]


def dead_letters(batch: Batch) -> list[Row]:
    """Return each undeliverable record whole: the rows `p_dead_letters` of fn_iu_route_record."""
    return [_dead_letter(item) for item in batch.items if isinstance(item, Undeliverable)]


def _attempt(item: Item, decision: Deliver | Plan) -> Row:
    made: Literal["dry_run", "sent", "refused", "failed"]
    gate: str | None = None
    reason: str | None = None
    detail: Row | None = None
    match item, decision:
        case Undeliverable(), _:
            made, reason, detail = item.decision, item.reason, {"text": _storable(item.detail)}
        case Event(), Deliver():
            made = "sent"
        case Event(), Plan(answer=Hold() as hold):
            made, gate, reason = "dry_run", hold.gate, hold.reason
        case Event(), Plan(answer=Deliver()):
            made, reason = "dry_run", "every gate is open"
    return {
        "event_ref": None if item.event_ref is None else str(item.event_ref),
        "offset": item.record.offset,
        "decision": made,
        "gate": gate,
        "reason": reason,
        "detail": detail,
    }


def _dead_letter(item: Undeliverable) -> Row:
    record, tree_id = item.record, tree_id_of(item.record)
    return {
        "event_ref": None if item.event_ref is None else str(item.event_ref),
        "tree_id": None if tree_id is None else str(tree_id),
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key": _base64(record.key),
        "value": _base64(record.value),
        "headers": _headers(record.headers),
        "schema": item.schema,
        "sqlstate": item.sqlstate,
        "reason": item.reason,
        "detail": {"text": _storable(item.detail)},
    }


def _headers(headers: Headers) -> list[list[str]]:
    return [[_storable(name), base64.b64encode(value).decode("ascii")] for name, value in headers]


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode("ascii")


def _storable(text: str) -> str:
    """Return `text` as jsonb can hold it (U+0000 and lone surrogates written out), and not without end."""
    return text[:_TEXT_MAX].encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
