"""What goes on the wire is prefix + datum under CloudEvents headers; a bad row is found before."""

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from uuid import UUID

import pytest

from producers.relay.contracts import BundledContracts
from producers.relay.cursor import Layout, Published
from producers.relay.framing import Framer, Wire
from producers.relay.outbox import OutboxRow
from schemas.catalog import Catalog

TREE = UUID("0195f3a0-0000-7000-8000-00000000000A")
ROW = OutboxRow(
    id=5,
    event_ref=UUID(int=105),
    event_type="structure_reparented",
    schema_version=1,
    tree_id=TREE,
    bucket=6,
    datum=b"datum",
    payload_digest=hashlib.sha256(b"datum").digest(),
    headers={"traceparent": "00-ab-cd-01"},
    occurred_at=datetime(2026, 3, 1, 1, 2, 3, 45, tzinfo=timezone(timedelta(hours=2))),
)


class OneContract:
    def wire(self, event_type: str, schema_version: int) -> Wire | None:
        known = (event_type, schema_version) == ("structure_reparented", 1)
        return Wire(b"\xc3\x01prefix", "urn:avro:x:v1") if known else None


def framer(record_bytes_max: int = 10_000) -> Framer:
    layout = Layout(partitions=4)
    return Framer(
        OneContract(),
        topic="events",
        layout=layout,
        source="iu-core/local",
        record_bytes_max=record_bytes_max,
    )


def test_a_row_becomes_a_record_keyed_by_its_tree() -> None:
    framed = framer().frame([ROW])
    (record,) = framed.records
    assert (record.topic, record.partition) == ("events", 2)
    assert record.key == b"0195f3a0-0000-7000-8000-00000000000a"
    assert record.value == b"\xc3\x01prefixdatum"
    assert dict(record.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": str(ROW.event_ref).encode(),
        "ce_type": b"structure_reparented",
        "ce_source": b"iu-core/local",
        "ce_time": b"2026-02-28T23:02:03.000045Z",
        "ce_dataschema": b"urn:avro:x:v1",
        "content-type": b"application/avro",
        "iu_digest": hashlib.sha256(b"datum").hexdigest().encode(),
        "traceparent": b"00-ab-cd-01",
    }
    assert framed.events == [Published(5, ROW.event_ref, 2, ROW.payload_digest)]
    assert framed.bad is None
    assert framed.last_id == 5


def test_a_row_without_a_trace_has_no_such_header() -> None:
    (record,) = framer().frame([replace(ROW, headers={})]).records
    assert "traceparent" not in dict(record.headers)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (replace(ROW, id=7, event_type="unheard_of"), "unheard_of version 1 is not a released contract"),
        (replace(ROW, id=7, schema_version=2), "version 2 is not a released contract"),
        (replace(ROW, id=7, datum=b"rotten"), "digest"),
        (
            replace(ROW, id=7, datum=b"x" * 9_900, payload_digest=hashlib.sha256(b"x" * 9_900).digest()),
            "bytes",
        ),
    ],
)
def test_framing_stops_at_the_first_bad_row_and_names_it(bad: OutboxRow, reason: str) -> None:
    framed = framer().frame([ROW, replace(ROW, id=6), bad, replace(ROW, id=8)])
    assert [event.id for event in framed.events] == [5, 6]
    assert framed.last_id == 6
    assert framed.bad is not None
    assert framed.bad.row is bad
    assert reason in framed.bad.reason


def test_the_largest_record_that_passes_is_smaller_than_the_limit_by_its_own_measure() -> None:
    (record,) = framer().frame([ROW]).records
    size = len(record.key or b"") + len(record.value or b"")
    size += sum(len(name) + len(value) for name, value in record.headers)
    assert framer(size + 256).frame([ROW]).bad is None
    assert framer(size + 255).frame([ROW]).bad is not None


def test_the_released_contracts_are_those_listed_for_the_events_topic() -> None:
    contracts = BundledContracts(Catalog.bundled(), "iu.structure.events")
    wire = contracts.wire("structure_reparented", 1)
    assert wire is not None
    assert wire.prefix[:2] == b"\xc3\x01"
    assert len(wire.prefix) == 10
    assert wire.dataschema == "urn:avro:iu.structure.structure_reparented:v1"
    assert contracts.wire("structure_reparented", 2) is None
    assert contracts.wire("content_revised", 1) is None
    assert BundledContracts(Catalog.bundled(), "other").wire("structure_reparented", 1) is None
