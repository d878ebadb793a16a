"""What one record is to one route: passed over, taken, kept as undeliverable, or stopped at.

Each fault is planted into a record that was good, one at a time, so the row says which check
found it. That the payload is the one the operation wrote only the database can tell.
"""

import io
import random
from dataclasses import replace
from typing import Any

import pytest
from fastavro import schemaless_writer

from consumers.route.reading import Blocked, Event, Reader, Skip, Undeliverable
from iu_core.bus.ports import Record
from iu_core.events import ContractViolation
from schemas.catalog import Contract
from schemas.codec import KnownSchemaIds, decode
from tests.unit.consumers.records import CATALOG, contract_of, record, with_datum, with_header

READER = Reader("structure_reparented", CATALOG)
GOOD = record(7)
DATUM = (GOOD.value or b"")[10:]
OTHER = record(8, "structure_child_added")
FINGERPRINT = contract_of("structure_reparented").prefix


def test_an_event_of_the_route_is_taken_with_the_payload_of_the_outbox() -> None:
    reading = READER.read(GOOD)
    assert isinstance(reading, Event)
    assert reading.payload == decode(GOOD.value, CATALOG).payload
    assert str(reading.event_ref) == reading.payload["event_ref"]
    assert reading.record == GOOD
    assert reading.schema == f"fingerprint:{FINGERPRINT[2:].hex()}"


def test_an_event_of_another_route_is_passed_over_undecoded() -> None:
    assert READER.read(OTHER) == Skip()
    # Not even looked at: nonsense under another route's name is that route's to keep.
    assert READER.read(replace(OTHER, value=b"nonsense")) == Skip()


def test_a_fence_is_passed_over_by_its_header() -> None:
    """A route that stopped at one, or kept it as a dead letter, would do so on every partition."""
    fence = replace(GOOD, value=b'{"tree_id":"x"}', headers=(("ce_type", b"iu.relay.fence"),))
    assert READER.read(fence) == Skip()


def test_a_registry_id_reads_as_its_fingerprint_does() -> None:
    ids = KnownSchemaIds({42: FINGERPRINT[2:]})
    coded = with_datum(GOOD, DATUM, prefix=b"\x00\x00\x00\x00\x2a")
    reading = Reader("structure_reparented", CATALOG, ids).read(coded)
    assert isinstance(reading, Event)
    assert reading.schema == "registry-id:42"


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (replace(GOOD, value=None), "unknown_prefix"),
        (replace(GOOD, value=b""), "unknown_prefix"),
        (replace(GOOD, value=b"not avro at all"), "unknown_prefix"),
        (with_datum(GOOD, DATUM, prefix=b"\xc3\x01" + bytes(8)), "unknown_fingerprint"),
        (with_datum(GOOD, DATUM[:-1]), "truncated"),
        (with_datum(GOOD, b""), "truncated"),
        (with_datum(GOOD, DATUM + b"\x00"), "trailing_bytes"),
    ],
)
def test_bytes_that_nobody_can_read_have_failed(broken: Record, reason: str) -> None:
    reading = READER.read(broken)
    assert isinstance(reading, Undeliverable)
    assert (reading.decision, reading.reason) == ("failed", reason)
    assert reading.record == broken
    assert reading.detail
    assert reading.event_ref is not None  # its header still says whose decision this is


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (with_header(GOOD, "iu_digest", b"00" * 32), "digest_differs"),
        (with_header(GOOD, "iu_digest", b"\xff\xfe"), "digest_differs"),
        (with_header(GOOD, "iu_digest", None), "digest_missing"),
        # One changed byte in the datum, under the digest of what it was.
        (replace(GOOD, value=(GOOD.value or b"")[:-1] + b"\x7e"), "digest_differs"),
        (with_header(OTHER, "ce_type", b"structure_reparented"), "type_differs"),
        (with_header(GOOD, "ce_id", record(9).header("ce_id")), "identity_differs"),
        (with_header(GOOD, "ce_id", None), "identity_differs"),
        (with_header(GOOD, "ce_type", None), "type_missing"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(broken: Record, reason: str) -> None:
    reading = READER.read(broken)
    assert isinstance(reading, Undeliverable)
    assert (reading.decision, reading.reason, reading.sqlstate) == ("refused", reason, "IU020")


def test_an_event_type_that_this_version_does_not_know_stops_the_route() -> None:
    reading = READER.read(with_header(GOOD, "ce_type", b"structure_turned_inside_out"))
    assert isinstance(reading, Blocked)
    assert (reading.gate, reading.reason) == ("schema", "unknown_event_type")
    assert "offset 7" in reading.detail


def test_a_symbol_that_this_version_does_not_know_stops_the_route() -> None:
    added = record(3, "structure_child_added")
    contract, body = contract_of("structure_child_added"), decode(added.value, CATALOG).payload
    reading = Reader("structure_child_added", CATALOG).read(
        with_datum(added, _written(contract, body | {"lifecycle": "UNKNOWN"}))
    )
    assert isinstance(reading, Blocked)
    assert (reading.gate, reading.reason) == ("schema", "unknown_symbol")


def test_a_registry_that_is_away_stops_the_route_at_an_id_not_seen_before() -> None:
    reading = READER.read(with_datum(GOOD, DATUM, prefix=b"\x00\x00\x00\x00\x2a"))
    assert isinstance(reading, Blocked)
    assert (reading.gate, reading.reason) == ("registry", "registry_unavailable")


def test_a_payload_outside_its_model_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def narrower(event_type: str, version: int, payload: dict[str, Any]) -> None:
        raise ContractViolation(f"{event_type} v{version}", ("unit_id: wrong",))

    monkeypatch.setattr("consumers.route.reading.parse_event", narrower)
    reading = READER.read(GOOD)
    assert isinstance(reading, Undeliverable)
    assert (reading.decision, reading.reason, reading.sqlstate) == ("failed", "contract_violated", "IU021")
    assert reading.detail == "unit_id: wrong"


@pytest.mark.parametrize("seed", range(200))
def test_whatever_the_bytes_are_reading_raises_nothing(seed: int) -> None:
    chance = random.Random(seed)
    value = bytearray(GOOD.value or b"")
    for _ in range(chance.randint(1, 4)):
        value[chance.randrange(len(value))] = chance.randrange(256)
    cut = bytes(value[: chance.randint(0, len(value))])
    for broken in (replace(GOOD, value=cut), with_datum(GOOD, cut[10:], prefix=cut[:10])):
        assert isinstance(READER.read(broken), Skip | Event | Undeliverable | Blocked)


def _written(contract: Contract, body: dict[str, Any]) -> bytes:
    """Encode past the model, which would refuse the symbol."""
    sink = io.BytesIO()
    schemaless_writer(sink, contract.bare, contract.to_wire(body))
    return sink.getvalue()
