"""Which contracts there are, by what they are known on the wire, and where they may stand."""

import dataclasses
from pathlib import Path

import fastavro
import pytest
from fastavro.schema import to_parsing_canonical_form

from iu_core.bus.names import BusNames
from iu_core.errors import Misconfigured
from iu_core.events import EVENTS
from schemas.catalog import Catalog, Contract, load_contract, require_compiled_fastavro, version_of
from schemas.errors import UnknownEventType

CATALOG = Catalog.bundled()
EMPTY = 0xC15D213AA4D7A795


def crc64(text: str) -> int:
    """CRC-64-AVRO as the Avro specification defines it: bit by bit, without a table."""
    fingerprint = EMPTY
    for byte in text.encode():
        fingerprint ^= byte
        for _ in range(8):
            fingerprint = (fingerprint >> 1) ^ (EMPTY if fingerprint & 1 else 0)
    return fingerprint


def test_the_crc_of_this_test_is_that_of_the_specification() -> None:
    assert crc64('"null"') == 0x63DD24E7CC258F8A
    assert crc64('"int"') == 0x7275D51A3F395C8F


@pytest.mark.parametrize("contract", CATALOG.contracts, ids=lambda contract: contract.event_type)
def test_the_prefix_is_that_of_a_single_object(contract: Contract) -> None:
    found = CATALOG.by_fingerprint(contract.fingerprint)
    assert found is contract
    canonical = to_parsing_canonical_form(fastavro.schema.load_schema(str(found.path)))
    assert found.prefix == b"\xc3\x01" + crc64(canonical).to_bytes(8, "little")
    assert CATALOG.prefix(found.event_type, found.version) == found.prefix


def test_there_is_a_contract_for_every_model_and_a_record_name_for_every_event() -> None:
    assert {(c.event_type, c.version) for c in CATALOG.contracts} == set(EVENTS)
    assert CATALOG.event_types == {event for event, _ in EVENTS}
    assert CATALOG.record_name("structure_reparented") == "iu.structure.structure_reparented"
    with pytest.raises(KeyError):
        CATALOG.record_name("structure_vanished")
    with pytest.raises(KeyError):
        CATALOG.prefix("structure_reparented", 2)


def test_a_topic_takes_its_events_and_an_unlisted_topic_none() -> None:
    assert CATALOG.topic_events(BusNames().events) == {(event, 1) for event in CATALOG.event_types}
    assert CATALOG.topic_events(BusNames().cursor) == frozenset()


def test_an_event_that_a_topic_does_not_list_is_refused_by_name() -> None:
    CATALOG.require_listed(BusNames().events, "structure_reparented", 1)
    with pytest.raises(UnknownEventType, match="structure_reparented v1 is no event of topic elsewhere"):
        CATALOG.require_listed("elsewhere", "structure_reparented", 1)


def test_a_fastavro_without_its_compiled_half_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    require_compiled_fastavro()
    from fastavro import _read_py

    monkeypatch.setattr(fastavro, "schemaless_reader", _read_py.schemaless_reader)
    with pytest.raises(Misconfigured, match="compiled half"):
        require_compiled_fastavro()


@pytest.mark.parametrize(
    "name", ["1.avsc", "v0.avsc", "v01.avsc", "v.avsc", "v1.1.avsc", "vx.avsc", "v١.avsc"]
)
def test_a_version_is_a_plain_number(name: str) -> None:
    with pytest.raises(ValueError, match=r"v<N>\.avsc"):
        version_of(Path(name))


def test_contracts_are_values_that_cannot_be_changed() -> None:
    contract = load_contract(CATALOG.contracts[0].path)
    with pytest.raises(dataclasses.FrozenInstanceError):
        contract.version = 2  # type: ignore[misc]
