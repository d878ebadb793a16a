"""From rows of the outbox to records for the bus: prefix + datum, key, headers.

The datum was encoded when the event was made; nothing is encoded here. Its digest is checked
before it is sent (about 1 µs of 35 a record): a row whose bytes have rotted would be refused
by every consumer for ever, and the relay is the last one that can still name the row.

A row that cannot be sent is found here, before the Kafka transaction begins.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Final, Protocol

from iu_core.bus.ports import Headers, Outgoing
from producers.relay.cursor import Layout, Published
from producers.relay.outbox import OutboxRow

# Attributes, length prefixes and varints of a record in Kafka's format, amply.
_RECORD_OVERHEAD_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Wire:
    """What the contract of an event type and version puts on the wire."""

    prefix: bytes
    dataschema: str


class Contracts(Protocol):
    """The released contracts."""

    def wire(self, event_type: str, schema_version: int) -> Wire | None:
        """Return what goes before the datum, None if the type or version is not released."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be published, and why."""

    row: OutboxRow
    reason: str


@dataclass(frozen=True, slots=True)
class Framed:
    """The rows of a chunk up to the first bad one, as records, and what the cursor keeps of them."""

    records: Sequence[Outgoing]
    events: Sequence[Published]
    bad: BadRow | None

    @property
    def last_id(self) -> int:
        """The id of the last row that was framed."""
        return self.events[-1].id


class Framer:
    """Frames rows for one events topic. `record_bytes_max` bounds key, value and headers together."""

    def __init__(
        self, contracts: Contracts, *, topic: str, layout: Layout, source: str, record_bytes_max: int
    ) -> None:
        self._contracts = contracts
        self._topic = topic
        self._layout = layout
        self._source = source.encode()
        self._record_bytes_max = record_bytes_max

    def frame(self, rows: Sequence[OutboxRow]) -> Framed:
        """Frame `rows` in order, stopping at the first that cannot be published."""
        records: list[Outgoing] = []
        events: list[Published] = []
        for row in rows:
            wire = self._contracts.wire(row.event_type, row.schema_version)
            if wire is None:
                reason = f"{row.event_type} version {row.schema_version} is not a released contract"
                return Framed(records, events, BadRow(row, reason))
            if hashlib.sha256(row.datum).digest() != row.payload_digest:
                return Framed(records, events, BadRow(row, "its datum does not have the digest of the row"))
            record = self._record(row, wire)
            if (size := _size(record)) > self._record_bytes_max:
                reason = f"it takes {size} bytes on the wire, {self._record_bytes_max} are allowed"
                return Framed(records, events, BadRow(row, reason))
            records.append(record)
            events.append(Published(row.id, row.event_ref, record.partition, row.payload_digest))
        return Framed(records, events, None)

    def _record(self, row: OutboxRow, wire: Wire) -> Outgoing:
        return Outgoing(
            topic=self._topic,
            partition=self._layout.partition_of(row.bucket),
            key=str(row.tree_id).encode(),
            value=wire.prefix + row.datum,
            headers=self._headers(row, wire),
        )

    def _headers(self, row: OutboxRow, wire: Wire) -> Headers:
        """CloudEvents 1.0, binary mode over Kafka, plus the digest and the trace."""
        headers: list[tuple[str, bytes]] = [
            ("ce_specversion", b"1.0"),
            ("ce_id", str(row.event_ref).encode()),
            ("ce_type", row.event_type.encode()),
            ("ce_source", self._source),
            ("ce_time", row.occurred_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()),
            ("ce_dataschema", wire.dataschema.encode()),
            ("content-type", b"application/avro"),
            ("iu_digest", row.payload_digest.hex().encode()),
        ]
        if (trace := row.headers.get("traceparent")) is not None:
            headers.append(("traceparent", trace.encode()))
        return tuple(headers)


def _size(record: Outgoing) -> int:
    size = _RECORD_OVERHEAD_BYTES + len(record.key or b"") + len(record.value or b"")
    return size + sum(len(name.encode()) + len(value) for name, value in record.headers)
