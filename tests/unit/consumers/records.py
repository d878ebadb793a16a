"""Records as the relay writes them, for tests that hand them to a route."""

import hashlib
import random
from dataclasses import replace
from uuid import UUID

from consumers.route.reading import Event
from iu_core.bus.ports import Record
from schemas.catalog import Catalog, Contract
from schemas.codec import encode
from schemas.generated_data import payload

CATALOG = Catalog.bundled()
TOPIC = "iu.structure.events"


def contract_of(event_type: str) -> Contract:
    """Return version 1 of a contract."""
    contract = CATALOG.contract(event_type, 1)
    assert contract is not None
    return contract


def record(
    offset: int = 0, event_type: str = "structure_reparented", *, partition: int = 0, seed: int | None = None
) -> Record:
    """Return a whole, valid record; equal seeds (the offset by default) give equal events."""
    contract = contract_of(event_type)
    body = payload(contract.record, random.Random(offset if seed is None else seed))
    datum = encode(event_type, 1, body)
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", str(body["event_ref"]).encode()),
        ("ce_type", event_type.encode()),
        ("iu_digest", hashlib.sha256(datum).hexdigest().encode()),
    )
    key = str(body["tree_id"]).encode()
    return Record(TOPIC, partition, offset, 1_700_000_000_000 + offset, key, contract.prefix + datum, headers)


def with_header(whole: Record, name: str, value: bytes | None) -> Record:
    """Return `whole` with the header changed, or without it (None)."""
    others = tuple(header for header in whole.headers if header[0] != name)
    return replace(whole, headers=others if value is None else (*others, (name, value)))


def with_datum(whole: Record, datum: bytes, prefix: bytes | None = None) -> Record:
    """Return `whole` with another datum and its true digest."""
    value = ((whole.value or b"")[:10] if prefix is None else prefix) + datum
    digest = hashlib.sha256(datum).hexdigest().encode()
    return with_header(replace(whole, value=value), "iu_digest", digest)


def event(offset: int) -> Event:
    """Return a record as a route that takes it has read it; the payload is not looked at."""
    made = record(offset)
    ref = UUID((made.header("ce_id") or b"").decode())
    return Event(made, ref, {"event_ref": str(ref)}, "fingerprint:00")
