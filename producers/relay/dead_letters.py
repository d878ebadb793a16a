"""The relay's dead letters: outbox rows that cannot be published, kept whole on a topic of their own.

A letter is written in the Kafka transaction that passes its row over, so the topic
`iu.relay.dead-letters` is the truth about what is held back; a table of the database cannot
be, because Kafka and PostgreSQL do not commit together. What became of a letter is a record on
the same topic, a `Resolution`, in the transaction that publishes the row or leaves it out.

A datum may be larger than a record: it is cut into parts, each with all headers of the letter
and `iu_part` = "number/count". One shard writes to a partition, one transaction at a time, so
the parts of a letter stand one behind the other among the committed records.

Header values are ASCII; what is not, is percent-encoded. The table `iu_relay_dead_letter` is a
copy of the topic, filled by `record_all`; all else here is pure.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TypeAlias
from urllib.parse import quote, unquote
from uuid import UUID

import psycopg

from iu_core.bus.ports import Headers, Outgoing, Record, Topic, TopicReader
from iu_core.database import Connection, translate
from iu_core.errors import Terminal

PART_BYTES_MAX: Final = 900_000
# A text for people. Percent-encoding makes up to 12 bytes of a character; a part, its headers
# and this stay below the largest record (topics.RECORD_BYTES_MAX).
TEXT_CHARACTERS_MAX: Final = 2_000

_TIME: Final = "%Y-%m-%dT%H:%M:%S.%fZ"
_PLAIN: Final = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
# Read at once: with parts as large as they may be, some 60 MB.
_READ_OFFSETS: Final = 64

_ENDS: Final = "SELECT e.partition, e.last_offset FROM public.fn_iu_relay_dead_letter_ends(%s) AS e"
_RECORD: Final = """
    SELECT public.fn_iu_relay_dead_letter_record(
        %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_RESOLVE: Final = "SELECT public.fn_iu_relay_dead_letter_resolve(%s, %s, %s, %s, %s, %s)"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a letter stands: offsets of its first and its last part, and when it was written."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int
    at: datetime


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A row of the outbox that was not published, whole, and why.

    `reason` is the value of a `framing.BadReason`, `policy` that of the policy applied; `detail`
    is for people and cut to `TEXT_CHARACTERS_MAX`. `place` is None until it was read from the topic.
    """

    outbox_id: int
    event_ref: UUID
    event_type: str
    schema_version: int
    tree_id: UUID
    aggregate_version: int
    incarnation: int
    occurred_at: datetime
    datum: bytes
    payload_digest: bytes
    reason: str
    detail: str
    policy: str
    place: Place | None = None


class Outcome(StrEnum):
    """What became of a letter's row."""

    PUBLISHED = "published"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Resolution:
    """The end of a letter: `by` is the login that decided, `reason` what it gave as reason.

    `at` is the time of its record; None until it was read from the topic.
    """

    event_ref: UUID
    tree_id: UUID
    incarnation: int
    outcome: Outcome
    by: str
    reason: str
    at: datetime | None = None


Entry: TypeAlias = DeadLetter | Resolution


def records(letter: DeadLetter, topic: str, partition: int) -> list[Outgoing]:
    """Return the letter's parts, in order, for one Kafka transaction. An empty datum has one part."""
    parts = [
        letter.datum[start : start + PART_BYTES_MAX] for start in range(0, len(letter.datum), PART_BYTES_MAX)
    ] or [b""]
    headers: Headers = (
        ("iu_outbox_id", str(letter.outbox_id).encode()),
        ("ce_id", str(letter.event_ref).encode()),
        ("ce_type", _ascii(letter.event_type)),
        ("iu_schema_version", str(letter.schema_version).encode()),
        ("iu_aggregate_version", str(letter.aggregate_version).encode()),
        ("iu_incarnation", str(letter.incarnation).encode()),
        ("ce_time", letter.occurred_at.astimezone(UTC).strftime(_TIME).encode()),
        ("iu_digest", letter.payload_digest.hex().encode()),
        ("iu_reason", _ascii(letter.reason)),
        ("iu_detail", _ascii(letter.detail)),
        ("iu_policy", _ascii(letter.policy)),
    )
    key = str(letter.tree_id).encode()
    return [
        Outgoing(topic, partition, key, part, (*headers, ("iu_part", f"{number}/{len(parts)}".encode())))
        for number, part in enumerate(parts, 1)
    ]


def resolution_record(resolution: Resolution, topic: str, partition: int) -> Outgoing:
    """Return the record that ends a letter; it goes to the letter's own partition, behind it."""
    headers: Headers = (
        ("ce_id", str(resolution.event_ref).encode()),
        ("iu_incarnation", str(resolution.incarnation).encode()),
        ("iu_resolution", resolution.outcome.value.encode()),
        ("iu_resolved_by", _ascii(resolution.by)),
        ("iu_resolution_reason", _ascii(resolution.reason)),
    )
    return Outgoing(topic, partition, str(resolution.tree_id).encode(), b"", headers)


def assemble(records: Iterable[Record]) -> list[DeadLetter]:
    """Return the letters in committed records of one partition, in order; resolutions are left out.

    Raises `Terminal` when a part is missing, or out of place.
    """
    assembler = Assembler()
    entries = [entry for record in records if (entry := assembler.take(record)) is not None]
    assembler.finish()
    return [entry for entry in entries if isinstance(entry, DeadLetter)]


class Assembler:
    """Joins parts, record by record; for the records of one partition in the order of their offsets."""

    def __init__(self) -> None:
        self._parts: list[Record] = []
        self._count = 0

    def take(self, record: Record) -> Entry | None:
        """Return what `record` completes, None if more parts follow. Raises `Terminal` on a gap."""
        if record.header("iu_resolution") is not None:
            if self._parts:
                raise _broken(record, f"part {len(self._parts) + 1} of {self._count} was due")
            return _resolution(record)
        number, count = _part(record)
        due = len(self._parts) + 1
        if number != due or (self._parts and not _belongs(record, count, self._parts[0], self._count)):
            found = f"part {number} of {count} of event {_text(record, 'ce_id')}"
            raise _broken(record, f"{found} stands where part {due} of {self._count or 'a letter'} was due")
        self._parts.append(record)
        self._count = count
        if number < count:
            return None
        parts, self._parts, self._count = self._parts, [], 0
        return _letter(parts)

    def finish(self) -> None:
        """Return if no letter was begun and not completed. Raises `Terminal` otherwise."""
        if self._parts:
            raise _broken(self._parts[-1], f"{len(self._parts)} of {self._count} parts are there")


def record_all(reader: TopicReader, connection: Connection, topic: Topic) -> int:
    """Copy what the table `iu_relay_dead_letter` lacks of `topic`; return how many rows changed.

    Goes on behind the last letter that the table holds of each partition, else from the start of
    the topic. Idempotent, and safe beside another process that does the same. `connection` is in
    autocommit mode and in role `iu_relay`. Raises `Terminal` on a letter that is not whole,
    `Retryable` if a server is away.
    """
    try:
        recorded: dict[int, int] = dict(connection.execute(_ENDS, (topic.topic_id,)).fetchall())
        starts, ends = reader.start_offsets(topic.name), reader.end_offsets(topic.name, committed=True)
        changed = 0
        for partition, end in sorted(ends.items()):
            assembler = Assembler()
            first = max(starts[partition], recorded.get(partition, -1) + 1)
            for low in range(first, end, _READ_OFFSETS):
                for record in reader.read(topic.name, partition, low, min(low + _READ_OFFSETS, end)):
                    if (entry := assembler.take(record)) is not None:
                        changed += _copy(connection, topic.topic_id, entry)
            assembler.finish()
    except psycopg.Error as error:
        raise translate(error) from error
    return changed


def _copy(connection: Connection, topic_id: str, entry: Entry) -> bool:
    match entry:
        case DeadLetter():
            query, values = _RECORD, _letter_values(entry, topic_id)
        case Resolution():
            query = _RESOLVE
            values = (
                entry.event_ref, entry.incarnation, entry.outcome.value, entry.at, entry.by, entry.reason,
            )  # fmt: skip
    return connection.execute(query, values).fetchone() == (True,)


def _letter_values(letter: DeadLetter, topic_id: str) -> tuple[object, ...]:
    if (place := letter.place) is None:
        raise ValueError("only a letter that was read from the topic can be recorded")
    return (
        letter.outbox_id, letter.event_ref, letter.event_type, letter.schema_version, letter.tree_id,
        letter.aggregate_version, letter.incarnation, letter.occurred_at, letter.datum,
        letter.payload_digest, letter.reason, letter.detail, letter.policy, place.topic, topic_id,
        place.partition, place.first_offset, place.last_offset, place.at,
    )  # fmt: skip


def _belongs(record: Record, count: int, first: Record, first_count: int) -> bool:
    same_event = record.header("ce_id") == first.header("ce_id") and record.key == first.key
    return same_event and count == first_count


def _letter(parts: list[Record]) -> DeadLetter:
    first = parts[0]
    try:
        return DeadLetter(
            outbox_id=int(_text(first, "iu_outbox_id")),
            event_ref=UUID(_text(first, "ce_id")),
            event_type=_text(first, "ce_type"),
            schema_version=int(_text(first, "iu_schema_version")),
            tree_id=UUID((first.key or b"").decode("ascii")),
            aggregate_version=int(_text(first, "iu_aggregate_version")),
            incarnation=int(_text(first, "iu_incarnation")),
            occurred_at=datetime.strptime(_text(first, "ce_time"), _TIME).replace(tzinfo=UTC),
            datum=b"".join(part.value or b"" for part in parts),
            payload_digest=bytes.fromhex(_text(first, "iu_digest")),
            reason=_text(first, "iu_reason"),
            detail=_text(first, "iu_detail"),
            policy=_text(first, "iu_policy"),
            place=Place(first.topic, first.partition, first.offset, parts[-1].offset, _time(first)),
        )
    except ValueError as error:
        raise _broken(first, str(error)) from error


def _resolution(record: Record) -> Resolution:
    try:
        return Resolution(
            event_ref=UUID(_text(record, "ce_id")),
            tree_id=UUID((record.key or b"").decode("ascii")),
            incarnation=int(_text(record, "iu_incarnation")),
            outcome=Outcome(_text(record, "iu_resolution")),
            by=_text(record, "iu_resolved_by"),
            reason=_text(record, "iu_resolution_reason"),
            at=_time(record),
        )
    except ValueError as error:
        raise _broken(record, str(error)) from error


def _part(record: Record) -> tuple[int, int]:
    try:
        number, count = map(int, _text(record, "iu_part").split("/"))
    except ValueError as error:
        raise _broken(record, f"iu_part: {error}") from error
    if not 1 <= number <= count:
        raise _broken(record, f"iu_part is {number}/{count}")
    return number, count


def _ascii(text: str) -> bytes:
    # PostgreSQL has no NUL in a text.
    return quote(text[:TEXT_CHARACTERS_MAX].replace("\0", "\ufffd"), safe=_PLAIN, errors="replace").encode(
        "ascii"
    )


def _text(record: Record, header: str) -> str:
    """Return a header's text; raises `ValueError` if it is not there or not ASCII."""
    if (value := record.header(header)) is None:
        raise ValueError(f"it has no header {header}")
    return unquote(value.decode("ascii"), errors="strict")


def _time(record: Record) -> datetime:
    return datetime.fromtimestamp(record.timestamp_ms / 1_000, UTC)


def _broken(record: Record, why: str) -> Terminal:
    return Terminal(
        f"offset {record.offset} of {record.topic}, partition {record.partition}, is not a whole dead letter",
        why=why,
        remedy="somebody else has written to that topic, or it was cut: see what stands there with a "
        "console consumer; only the relay may write to it, and nothing may be deleted from it",
    )
