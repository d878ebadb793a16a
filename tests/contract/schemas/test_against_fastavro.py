"""Our codec and plain fastavro agree, each with its own idea of what a time is.

fastavro is used here as a stranger would use it: the contract's file unchanged, a datetime for
a time, bytes for a fixed. What this does not prove: that fastavro is right. One datum worked
out by hand from the specification stands in tests/unit/schemas/test_codec.py.
"""

import io
import random
import secrets
from datetime import UTC, datetime
from typing import Any, assert_never
from uuid import UUID

import fastavro
import pytest

from schemas import golden
from schemas.avro_types import Array, AvroType, Enum, Fixed, Int, Optional, Record, String, TimestampMicros
from schemas.catalog import SCHEMAS_DIR, SINGLE_OBJECT, Catalog, Contract
from schemas.codec import decode, decode_datum, encode
from schemas.generated_data import payload

CATALOG = Catalog.bundled()
EVENTS_OF_EACH = 300


def as_fastavro_takes_it(avro_type: AvroType, value: Any) -> Any:
    match avro_type:
        case TimestampMicros():
            return datetime.strptime(value, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
        case Fixed():
            return UUID(value).bytes if avro_type.is_uuid else bytes.fromhex(value)
        case Array(items=items):
            return [as_fastavro_takes_it(items, item) for item in value]
        case Optional(inner=inner):
            return None if value is None else as_fastavro_takes_it(inner, value)
        case Record(fields=fields):
            return {field.name: as_fastavro_takes_it(field.type, value[field.name]) for field in fields}
        case String() | Int() | Enum():
            return value
        case _:
            assert_never(avro_type)


def stranger(contract: Contract) -> Any:
    return fastavro.schema.load_schema(str(contract.path))


def written_by_fastavro(contract: Contract, body: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    fastavro.schemaless_writer(sink, stranger(contract), as_fastavro_takes_it(contract.record, body))
    return sink.getvalue()


@pytest.mark.parametrize("contract", CATALOG.contracts, ids=lambda contract: contract.event_type)
def test_generated_payloads_have_the_datum_that_fastavro_writes_and_reads(contract: Contract) -> None:
    seed = secrets.randbits(32)
    rng = random.Random(seed)
    for _ in range(EVENTS_OF_EACH):
        body = payload(contract.record, rng)
        datum = encode(contract.event_type, contract.version, body)
        assert datum == written_by_fastavro(contract, body), f"seed {seed}"
        read = fastavro.schemaless_reader(io.BytesIO(datum), stranger(contract), None)
        assert read == as_fastavro_takes_it(contract.record, body), f"seed {seed}"
        assert decode_datum(contract, datum) == body, f"seed {seed}"


@pytest.mark.parametrize("contract", CATALOG.contracts, ids=lambda contract: contract.event_type)
def test_golden_data_is_what_fastavro_writes(contract: Contract) -> None:
    cases = list(golden.cases(golden.folder(SCHEMAS_DIR, contract)))
    assert len(cases) >= golden.CASES_MIN
    for case in cases:
        assert case.datum == written_by_fastavro(contract, case.payload), case.name
        assert decode(contract.prefix + case.datum, CATALOG).payload == case.payload, case.name


@pytest.mark.parametrize("contract", CATALOG.contracts, ids=lambda contract: contract.event_type)
def test_a_stranger_finds_the_schema_by_the_prefix(contract: Contract) -> None:
    """Its reader takes C3 01, then the fingerprint that fastavro computes of the file as it is."""
    canonical = fastavro.schema.to_parsing_canonical_form(stranger(contract))
    told = fastavro.schema.fingerprint(canonical, "CRC-64-AVRO")
    assert contract.prefix == SINGLE_OBJECT + bytes.fromhex(told)
