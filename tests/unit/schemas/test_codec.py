"""What the codec makes of any bytes: an event, or one fault of a closed set."""

import random
import secrets
import struct
from collections import Counter

import pytest

from iu_core.errors import Retryable, Terminal
from iu_core.events import ContractViolation
from schemas import errors
from schemas.catalog import Catalog, Contract
from schemas.codec import (
    Fingerprint,
    KnownSchemaIds,
    RegistryId,
    decode,
    digest,
    encode,
    split,
)
from schemas.generated_data import payload

CATALOG = Catalog.bundled()


def contract_of(event_type: str) -> Contract:
    contract = CATALOG.contract(event_type, 1)
    assert contract is not None
    return contract


REPARENTED = contract_of("structure_reparented")

# By hand from the Avro specification, not by any encoder: uuids of sixteen equal bytes, zigzag
# varints, length and UTF-8, branch 1 of a union.
PAYLOAD = {
    "event_ref": "01010101-0101-0101-0101-010101010101",
    "occurred_at": "1970-01-01T00:00:00.000064Z",
    "tree_id": "02020202-0202-0202-0202-020202020202",
    "incarnation": 1,
    "aggregate_version": -65,
    "operation_id": "03030303-0303-0303-0303-030303030303",
    "actor": "é",
    "reason": "",
    "doc_code": "D",
    "unit_id": "04040404-0404-0404-0404-040404040404",
    "iu_code": "ab",
    "old_parent_id": "05050505-0505-0505-0505-050505050505",
    "old_ordinal": 0,
    "new_parent_id": "06060606-0606-0606-0606-060606060606",
    "new_ordinal": -1,
}
DATUM = (
    b"\x01" * 16 + b"\x80\x01" + b"\x02" * 16 + b"\x02" + b"\x81\x01" + b"\x03" * 16
    + b"\x04\xc3\xa9" + b"\x00" + b"\x02\x02D" + b"\x04" * 16 + b"\x04ab"
    + b"\x05" * 16 + b"\x00" + b"\x06" * 16 + b"\x01"
)  # fmt: skip
VALUE = REPARENTED.prefix + DATUM


def test_the_datum_is_the_one_the_specification_gives() -> None:
    assert encode("structure_reparented", 1, PAYLOAD) == DATUM
    read = decode(VALUE, CATALOG)
    assert (read.event_type, read.version, read.datum) == ("structure_reparented", 1, DATUM)
    assert list(read.payload.items()) == list(PAYLOAD.items())


def test_a_record_of_a_registry_is_read_by_its_id() -> None:
    value = b"\x00" + struct.pack(">I", 70_000) + DATUM
    assert split(value) == (RegistryId(70_000), DATUM)
    ids = KnownSchemaIds({70_000: REPARENTED.fingerprint})
    assert decode(value, CATALOG, ids).payload == PAYLOAD


def test_split_reads_the_prefix_and_nothing_else() -> None:
    assert split(VALUE) == (Fingerprint(REPARENTED.fingerprint), DATUM)
    assert split(REPARENTED.prefix + b"junk") == (Fingerprint(REPARENTED.fingerprint), b"junk")


@pytest.mark.parametrize(
    "value", [None, b"", b"\xc3", b"\xc3\x01short", b"\x00\x00\x00\x01", b"\xc3\x02" + bytes(20), b"{}"]
)
def test_a_value_without_a_known_prefix_is_undecodable(value: bytes | None) -> None:
    with pytest.raises(errors.UnknownPrefix):
        decode(value, CATALOG)


def test_an_unknown_fingerprint_is_named() -> None:
    with pytest.raises(errors.UnknownFingerprint, match="0807060504030201") as refused:
        decode(b"\xc3\x01\x08\x07\x06\x05\x04\x03\x02\x01" + DATUM, CATALOG)
    assert refused.value.fingerprint == bytes([8, 7, 6, 5, 4, 3, 2, 1])


def test_an_unknown_id_holds_while_no_registry_can_be_asked() -> None:
    with pytest.raises(errors.RegistryUnavailable) as held:
        decode(b"\x00\x00\x00\x00\x09" + DATUM, CATALOG)
    assert held.value.schema_id == 9


class Answering:
    """A registry that answers: `schema` under every id, or nothing."""

    def __init__(self, schema: bytes | None) -> None:
        self._schema = schema

    def fingerprint(self, schema_id: int) -> bytes | None:
        return self._schema


@pytest.mark.parametrize("schema", [None, bytes(8)])
def test_an_id_that_the_registry_does_not_know_or_that_is_not_ours_is_undecodable(
    schema: bytes | None,
) -> None:
    with pytest.raises(errors.UnknownSchemaId):
        decode(b"\x00\x00\x00\x00\x09" + DATUM, CATALOG, Answering(schema))


@pytest.mark.parametrize("length", range(len(DATUM)))
def test_a_datum_cut_anywhere_is_truncated(length: int) -> None:
    with pytest.raises(errors.Truncated):
        decode(REPARENTED.prefix + DATUM[:length], CATALOG)


def test_bytes_after_the_datum_are_refused() -> None:
    with pytest.raises(errors.TrailingBytes, match=f"accounts for {len(DATUM)} of {len(DATUM) + 1} bytes"):
        decode(VALUE + b"\x00", CATALOG)


def _swapped(old: bytes, new: bytes) -> bytes:
    assert DATUM.count(old) == 1
    return REPARENTED.prefix + DATUM.replace(old, new)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (_swapped(b"\x02" * 16 + b"\x02\x81", b"\x02" * 16 + b"\x82\x00\x81"), "spelling"),
        (_swapped(b"\x02\x02D", b"\x01\x02D"), "spelling"),  # a union's branch -1
        (_swapped(b"\x02\x02D", b"\x04\x02D"), "index|range"),
        (_swapped(b"\x04\xc3\xa9", b"\x04\xc3\x28"), "UnicodeDecodeError"),
        (_swapped(b"\x04ab", b"\x04a\x00"), r"iu_code holds U\+0000"),
        (_swapped(b"\x04" * 16 + b"\x04ab", b"\x04" * 16 + b"\x03ab"), "."),  # a length of -2
        (
            _swapped(b"\x02" * 17 + b"\x81", b"\x02" * 16 + b"\x80\x80\x80\x80\x10\x81"),
            "incarnation .* 32 bits",
        ),
        (
            _swapped(b"\x01" * 16 + b"\x80\x01", b"\x01" * 16 + b"\xfe" + b"\xff" * 8 + b"\x01"),
            "occurred_at .* years",
        ),
        (
            _swapped(b"\x01" * 16 + b"\x80\x01", b"\x01" * 16 + b"\xff" * 40 + b"\x01"),
            ".",
        ),  # a number without end
    ],
)
def test_a_datum_that_no_writer_of_ours_makes_is_malformed(value: bytes, why: str) -> None:
    with pytest.raises((errors.Malformed, errors.Truncated), match=why):
        decode(value, CATALOG)


def test_an_array_in_two_blocks_is_malformed_although_avro_allows_it() -> None:
    """The digest stands for the payload, so a payload has one datum."""
    contract = contract_of("structure_child_added")
    body = payload(contract.record, random.Random(4)) | {
        "supersedes": ["00" * 4 + "-0000" * 3 + "-" + "0" * 12] * 2
    }
    datum = encode("structure_child_added", 1, body)
    one_block = b"\x04" + bytes(32) + b"\x00"
    assert datum.endswith(one_block)
    two_blocks = datum.removesuffix(one_block) + b"\x02" + bytes(16) + b"\x02" + bytes(16) + b"\x00"
    with pytest.raises(errors.Malformed, match="spelling"):
        decode(contract.prefix + two_blocks, CATALOG)


def test_the_symbol_unknown_holds_and_names_its_place() -> None:
    contract = contract_of("structure_piece_deprecated")
    datum = encode("structure_piece_deprecated", 1, payload(contract.record, random.Random(5)))
    with pytest.raises(errors.UnknownSymbol, match="old_lifecycle is UNKNOWN"):
        decode(contract.prefix + datum[:-1] + b"\x00", CATALOG)


def test_what_is_undecodable_is_terminal_and_what_may_pass_is_not() -> None:
    """The consumer's table (design/30): dead letter, hold and alarm, hold."""
    dead: set[type[errors.Undecodable]] = {
        errors.UnknownPrefix,
        errors.UnknownFingerprint,
        errors.UnknownSchemaId,
    }
    dead |= {errors.Truncated, errors.TrailingBytes, errors.Malformed}
    assert set(errors.Undecodable.__subclasses__()) == dead
    assert issubclass(errors.RegistryUnavailable, Retryable)
    for alarm in (errors.UnknownSymbol, errors.UnknownEventType):
        assert issubclass(alarm, Terminal)
        assert not issubclass(alarm, errors.Undecodable)
    reasons = [fault.reason for fault in dead]
    reasons += [
        errors.RegistryUnavailable.reason,
        errors.UnknownSymbol.reason,
        errors.UnknownEventType.reason,
    ]
    assert len(set(reasons)) == len(reasons)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"incarnation": 2**40}, "incarnation"),  # fastavro alone writes it
        ({"incarnation": True}, "incarnation"),  # and this, as 1
        ({"aggregate_version": 1.7}, "aggregate_version"),  # and this, as 1
        ({"surplus": 1}, "surplus"),  # and drops this
        ({"actor": "a\x00b"}, "actor"),
        ({"actor": "a\ud800b"}, "actor"),
        ({"event_ref": "A" + 7 * "0" + 3 * "-0000" + "-" + 12 * "0"}, "event_ref"),
        ({"occurred_at": "2026-02-30T00:00:00.000000Z"}, "occurred_at"),
    ],
)
def test_encoding_is_strict_where_fastavro_is_not(change: dict[str, object], fault: str) -> None:
    with pytest.raises(ContractViolation) as refused:
        encode("structure_reparented", 1, PAYLOAD | change)
    assert [told.split(":")[0] for told in refused.value.faults] == [fault]
    assert refused.value.code == "IU021"


def test_encoding_reports_every_fault_and_leaves_the_payload_alone() -> None:
    body = {**PAYLOAD, "actor": 1, "new_ordinal": None}
    before = dict(body)
    with pytest.raises(ContractViolation) as refused:
        encode("structure_reparented", 1, body)
    assert {told.split(":")[0] for told in refused.value.faults} == {"actor", "new_ordinal"}
    assert body == before


@pytest.mark.parametrize(("event", "version"), [("structure_reparented", 2), ("structure_vanished", 1)])
def test_an_unknown_event_or_version_does_not_encode(event: str, version: int) -> None:
    with pytest.raises(ContractViolation, match="no such event or version"):
        encode(event, version, PAYLOAD)


def test_the_digest_is_sha256_of_the_datum_without_prefix() -> None:
    # From `printf 'abc' | sha256sum`.
    assert digest(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest(split(VALUE)[1]) == digest(DATUM)


MUTATIONS = 4_000


def test_no_bytes_whatever_raise_anything_else() -> None:
    """Whole values, broken at random; what still decodes must be the one spelling of its payload."""
    seed = secrets.randbits(32)
    rng = random.Random(seed)
    outcomes: Counter[str] = Counter()
    for _ in range(MUTATIONS):
        contract = rng.choice(CATALOG.contracts)
        value = _mutated(contract, rng)
        try:
            read = decode(value, CATALOG)
        except (errors.Undecodable, errors.UnknownSymbol, errors.RegistryUnavailable) as fault:
            outcomes[fault.reason] += 1
        except Exception as fault:
            raise AssertionError(f"seed {seed}: {value.hex()}") from fault
        else:
            outcomes["decoded"] += 1
            assert encode(read.event_type, read.version, read.payload) == read.datum, f"seed {seed}"
    assert {"decoded", "malformed", "truncated", "trailing_bytes", "unknown_fingerprint"} <= set(outcomes), (
        outcomes
    )


def _mutated(contract: Contract, rng: random.Random) -> bytes:
    if rng.random() < 0.1:
        return contract.prefix + rng.randbytes(rng.randrange(300))
    value = bytearray(contract.prefix + encode(contract.event_type, 1, payload(contract.record, rng)))
    for _ in range(rng.choice((1, 1, 2, 4))):
        # Mostly near the front, where the numbers and lengths are.
        at = rng.randrange(min(len(value), rng.choice((12, 120, 10_000))))
        match rng.randrange(5):
            case 0:
                value[at] = rng.choice((0, 1, 2, 3, 127, 128, 255))
            case 1:
                value[at] ^= 1 << rng.randrange(8)
            case 2:
                del value[at : at + rng.choice((1, 2, 16))]
            case 3:
                value[at:at] = rng.choice((b"\xff", b"\x80", b"\x00")) * rng.choice((1, 9, 10, 20))
            case _:
                value += rng.randbytes(rng.choice((1, 16)))
        if not value:
            break
    return bytes(value)
