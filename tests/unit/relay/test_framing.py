"""What goes on the wire is prefix + datum under CloudEvents headers; a bad row is found before."""

import hashlib
from datetime import UTC, datetime
from uuid import UUID

import pytest

from iu_core.bus.ports import Outgoing
from iu_core.bus.record_format import records_of
from iu_core.settings import BadRowPolicy
from producers.relay.contracts import BundledContracts
from producers.relay.cursor import Cursor, Digest, Highest, Layout, Origin
from producers.relay.framing import BadReason, Framed, Framer, Wire
from producers.relay.outbox import OutboxRow
from producers.relay.snapshot import Position
from schemas.catalog import Catalog
from tests.unit.relay.outbox_model import envelope

TREE, OTHER = UUID("0195f3a0-0000-7000-8000-00000000000A"), UUID(int=7)
MICROS = ((9_556 * 86_400 + 23 * 3_600 + 2 * 60 + 3) * 1_000_000 + 45).to_bytes(8, "big")


def row(row_id: int, *, tree: UUID = TREE, version: int = 1, datum: bytes | None = None) -> OutboxRow:
    ref = UUID(int=100 + row_id)
    datum = envelope(ref, tree, b"datum") if datum is None else datum
    return OutboxRow(
        id=row_id,
        event_ref=ref.bytes,
        ref_text=str(ref).encode(),
        event_type="structure_reparented",
        schema_version=1,
        tree_text=str(tree).encode(),
        tree_version=version,
        incarnation=1,
        bucket=6,
        datum=datum,
        payload_digest=hashlib.sha256(datum).digest(),
        traceparent=b"00-ab-cd-01",
        occurred_at=MICROS,
    )


ROW, ROW_REF = row(5), UUID(int=105)
BEFORE = Cursor(
    sequence=3,
    position=Position(),
    layout=Layout(partitions=4),
    origin=Origin("7", 1, "0/10", 5, 6),
    topic="events",
    topic_id="t",
    relay_version="0",
    at=datetime(2026, 1, 1, tzinfo=UTC),
)


class OneContract:
    def wire(self, event_type: str, schema_version: int) -> Wire | None:
        known = (event_type, schema_version) == ("structure_reparented", 1)
        return Wire(b"\xc3\x01prefix", "urn:avro:x:v1") if known else None


def framer(record_bytes_max: int = 10_000, policy: BadRowPolicy = "block_tree") -> Framer:
    return Framer(
        OneContract(),
        topic="events",
        letters_topic="letters",
        layout=Layout(partitions=4),
        source="iu-core/local",
        record_bytes_max=record_bytes_max,
        policy=lambda _event_type: policy,
    )


def records(framed: Framed) -> list[Outgoing]:
    return [record for section in framed.sections for record in records_of(section)]


def test_a_row_becomes_a_record_keyed_by_its_tree() -> None:
    framed = framer().frame([ROW], BEFORE)
    (record,) = records(framed)
    assert (record.topic, record.partition) == ("events", 2)
    assert record.key == b"0195f3a0-0000-7000-8000-00000000000a"
    assert record.value == b"\xc3\x01prefix" + ROW.datum
    assert dict(record.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": ROW.ref_text,
        "ce_type": b"structure_reparented",
        "ce_source": b"iu-core/local",
        "ce_time": b"2026-03-01T23:02:03.000045Z",
        "ce_dataschema": b"urn:avro:x:v1",
        "content-type": b"application/avro",
        "iu_digest": hashlib.sha256(ROW.datum).hexdigest().encode(),
        "traceparent": b"00-ab-cd-01",
    }
    assert len(record.headers) == 9
    assert (framed.published, framed.last_id, framed.halt) == (1, 5, None)


def test_a_row_without_a_trace_has_no_such_header() -> None:
    (record,) = records(framer().frame([ROW._replace(traceparent=None)], BEFORE))
    assert "traceparent" not in dict(record.headers)
    assert len(record.headers) == 8


def test_the_cursor_learns_what_was_framed() -> None:
    known = Digest(4, b"\7" * 32)
    before = BEFORE.after(
        digests={0: known, 2: known},
        highest=Highest(9, UUID(int=9)),
        blocked={OTHER: 3},
        position=BEFORE.position,
        origin=BEFORE.origin,
        at=BEFORE.at,
    )
    framed = framer().frame([ROW, row(6, version=2)], before)
    told = known.extended(UUID(int=105), ROW.payload_digest)
    assert framed.digests == {0: known, 2: told.extended(UUID(int=106), row(6).payload_digest)}
    assert framed.highest == Highest(9, UUID(int=9))
    assert framed.blocked == {OTHER: 3}
    assert framer().frame([row(11)], before).highest == Highest(11, UUID(int=111))


def large(row_id: int) -> OutboxRow:
    return row(row_id, version=2, datum=envelope(UUID(int=100 + row_id), TREE, b"x" * 9_900))


BAD = [
    (row(7, version=2)._replace(event_type="unheard_of"), BadReason.UNKNOWN_TYPE, "not a released contract"),
    (row(7, version=2)._replace(schema_version=2), BadReason.UNKNOWN_TYPE, "version 2"),
    (row(7, version=2)._replace(datum=b"rotten"), BadReason.DIGEST_MISMATCH, "digest"),
    (row(7, version=2, datum=b"of nothing"), BadReason.CONTRACT_VIOLATION, "this event"),
    (row(7, version=2, datum=envelope(UUID(int=107), OTHER)), BadReason.CONTRACT_VIOLATION, "this event"),
    (large(7), BadReason.OVERSIZED, "8976 fit"),
]


@pytest.mark.parametrize(("bad", "reason", "detail"), BAD)
def test_a_bad_row_that_halts_is_named_and_nothing_behind_it_is_looked_at(
    bad: OutboxRow, reason: BadReason, detail: str
) -> None:
    framed = framer(policy="halt").frame([ROW, row(6, tree=OTHER), bad, row(8, version=3)], BEFORE)
    assert framed.published == 2
    assert framed.last_id == 6
    assert framed.halt is not None
    assert (framed.halt.row, framed.halt.reason) == (bad, reason)
    assert detail in framed.halt.detail
    assert framed.letters == []


@pytest.mark.parametrize(("bad", "reason", "detail"), BAD)
def test_a_bad_row_that_blocks_its_tree_is_kept_whole_and_the_others_flow(
    bad: OutboxRow, reason: BadReason, detail: str
) -> None:
    rows = [ROW, bad, row(8, version=3), row(9, tree=OTHER), row(10, version=4)]
    framed = framer().frame(rows, BEFORE)
    assert [dict(record.headers)["ce_id"] for record in records(framed)] == [ROW.ref_text, row(9).ref_text]
    assert (framed.published, framed.dead, framed.waiting, framed.last_id) == (2, 1, 2, 10)
    assert framed.blocked == {TREE: 2}
    assert {(letter.topic, letter.partition) for letter in framed.letters} == {("letters", 2)}
    assert b"".join(letter.value or b"" for letter in framed.letters) == bad.datum
    said = dict(framed.letters[0].headers)
    assert (said["iu_reason"].decode(), said["iu_policy"]) == (reason.value, b"block_tree")
    assert said["iu_digest"] == bad.payload_digest.hex().encode()


def test_a_skipped_row_leaves_a_letter_and_its_tree_goes_on() -> None:
    framed = framer(policy="skip").frame([ROW, BAD[0][0], row(8, version=3)], BEFORE)
    assert (framed.published, framed.dead, framed.waiting, framed.blocked) == (2, 1, 0, {})


def test_the_largest_datum_that_passes_makes_a_record_below_the_limit() -> None:
    largest = row(5, datum=envelope(ROW_REF, TREE, b"x" * (10_000 - 1_024 - 40)))
    (section,) = framer().frame([largest], BEFORE).sections
    assert 9_000 < len(section.data) < 10_000
    above = row(5, datum=largest.datum + b"x")
    assert framer().frame([above], BEFORE).dead == 1


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
