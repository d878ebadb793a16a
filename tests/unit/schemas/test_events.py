"""The models take a payload in its one spelling, and name what is wrong with any other."""

import random
import secrets

import pytest

from iu_core.events import EVENTS, ContractViolation, StructureEvent, parse_event
from schemas.catalog import Catalog, Contract
from schemas.generated_data import broken, payload

CONTRACTS = Catalog.bundled().contracts
HEADER = (
    "event_ref",
    "occurred_at",
    "tree_id",
    "incarnation",
    "aggregate_version",
    "operation_id",
    "actor",
    "reason",
    "doc_code",
)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.event_type)
def test_a_valid_payload_comes_back_letter_by_letter_and_in_order(contract: Contract) -> None:
    seed = secrets.randbits(32)
    rng = random.Random(seed)
    for _ in range(50):
        body = payload(contract.record, rng)
        dumped = parse_event(contract.event_type, contract.version, body).model_dump()
        assert list(dumped.items()) == list(body.items()), f"seed {seed}"


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.event_type)
def test_a_payload_broken_in_one_place_is_refused_by_the_name_of_that_place(contract: Contract) -> None:
    seed = secrets.randbits(32)
    body = payload(contract.record, random.Random(seed))
    tried = 0
    for case in broken(contract.record, body):
        with pytest.raises(ContractViolation) as refused:
            parse_event(contract.event_type, contract.version, case.payload)
        place = f"{case.path or 'payload'}: "
        assert any(fault.startswith(place) for fault in refused.value.faults), (seed, case.path, case.fault)
        tried += 1
    assert tried > 100


@pytest.mark.parametrize("text", ["a\x00b", "\x00", "a\ud800b", "\udfff"])
def test_text_that_postgresql_cannot_hold_is_refused(text: str) -> None:
    contract = CONTRACTS[0]
    body = payload(contract.record, random.Random(1)) | {"reason": text}
    with pytest.raises(ContractViolation, match="reason: "):
        parse_event(contract.event_type, contract.version, body)


def test_every_fault_is_told_at_once_with_its_path() -> None:
    contract = next(contract for contract in CONTRACTS if contract.event_type == "structure_piece_merged")
    body = payload(contract.record, random.Random(2))
    body |= {"sources": [1, "x"], "piece": body["piece"] | {"ordinal": None}, "surplus": 0}
    with pytest.raises(ContractViolation) as refused:
        parse_event("structure_piece_merged", 1, body)
    assert {fault.split(": ")[0] for fault in refused.value.faults} == {
        "sources[0]",
        "sources[1]",
        "piece.ordinal",
        "surplus",
    }


def test_every_event_begins_with_the_header_block() -> None:
    assert tuple(StructureEvent.model_fields) == HEADER
    for model in EVENTS.values():
        assert tuple(model.model_fields)[: len(HEADER)] == HEADER


@pytest.mark.parametrize(("event", "version"), [("structure_vanished", 1), ("structure_reparented", 2)])
def test_the_event_type_is_the_tag_and_an_unknown_one_is_refused(event: str, version: int) -> None:
    with pytest.raises(ContractViolation, match=f"no {event} v{version}"):
        parse_event(event, version, {})


def test_a_payload_is_never_taken_for_another_event() -> None:
    """Tagged, not guessed: each model refuses the payload of every other event."""
    bodies = {c.event_type: payload(c.record, random.Random(3)) for c in CONTRACTS}
    for event in bodies:
        for other, body in bodies.items():
            if other != event:
                with pytest.raises(ContractViolation):
                    parse_event(event, 1, body)
