"""Read and write the value of a record: a prefix that names the schema, then the datum.

The first bytes decide. `C3 01` and eight bytes of fingerprint is Avro's single object, resolved
offline; `00` and a four-byte id is a registry's. Whatever else is undecodable, and so is a
datum that its schema accounts for in part, or that no writer of ours makes: fastavro reads an
enum index of -1, a number in more bytes than it needs, an array in blocks. So what was read is
written again and must come out the same; then equal payloads have equal datums, and the
digest of a datum stands for its payload.

Writing is strict by `iu_core.events`: fastavro alone would cut 1.7 to 1, write 2^40 into an
int, take True for 1 and drop a field it does not know.
"""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from fastavro import schemaless_reader, schemaless_writer

from iu_core.events import ContractViolation, parse_event
from schemas.catalog import FINGERPRINT_BYTES, SINGLE_OBJECT, Catalog, Contract
from schemas.errors import (
    Malformed,
    RegistryUnavailable,
    TrailingBytes,
    Truncated,
    UnknownFingerprint,
    UnknownPrefix,
    UnknownSchemaId,
)

REGISTRY_MAGIC: Final = b"\x00"
REGISTRY_HEADER_BYTES: Final = 5
SINGLE_OBJECT_HEADER_BYTES: Final = len(SINGLE_OBJECT) + FINGERPRINT_BYTES


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A schema named by its CRC-64-AVRO, eight bytes as on the wire."""

    value: bytes

    def __str__(self) -> str:
        return f"fingerprint:{self.value.hex()}"


@dataclass(frozen=True, slots=True)
class RegistryId:
    """A schema named by the id that some registry gave it."""

    value: int

    def __str__(self) -> str:
        return f"registry-id:{self.value}"


SchemaRef: TypeAlias = Fingerprint | RegistryId


@dataclass(frozen=True, slots=True)
class Decoded:
    """An event as it was read. `payload` is that of the outbox, letter by letter."""

    event_type: str
    version: int
    datum: bytes
    payload: dict[str, Any]


class SchemaIds(Protocol):
    """What the registry of this environment calls our schemas."""

    def fingerprint(self, schema_id: int) -> bytes | None:
        """Return the fingerprint of the schema with this id, None if the registry has no such id.

        Known ids are answered from memory; others may block, bounded. Raises
        `RegistryUnavailable` if the id is not known and the registry cannot be asked.
        """


@dataclass(frozen=True, slots=True)
class KnownSchemaIds:
    """Ids known beforehand, and no registry to ask for others."""

    fingerprints: Mapping[int, bytes]

    def fingerprint(self, schema_id: int) -> bytes:
        """Return the fingerprint of a known id, else raise `RegistryUnavailable`."""
        known = self.fingerprints.get(schema_id)
        if known is None:
            raise RegistryUnavailable(schema_id, "no registry is configured")
        return known


NO_REGISTRY: Final = KnownSchemaIds({})


def split(value: bytes | None) -> tuple[SchemaRef, bytes]:
    """Return what names the schema, and the datum after it, undecoded.

    Raises `UnknownPrefix` for anything else, a missing value (a tombstone) included.
    """
    if value is not None:
        if value[:2] == SINGLE_OBJECT and len(value) >= SINGLE_OBJECT_HEADER_BYTES:
            return Fingerprint(value[2:SINGLE_OBJECT_HEADER_BYTES]), value[SINGLE_OBJECT_HEADER_BYTES:]
        if value[:1] == REGISTRY_MAGIC and len(value) >= REGISTRY_HEADER_BYTES:
            return RegistryId(int.from_bytes(value[1:REGISTRY_HEADER_BYTES])), value[REGISTRY_HEADER_BYTES:]
    raise UnknownPrefix(value)


def resolve(ref: SchemaRef, catalog: Catalog, ids: SchemaIds = NO_REGISTRY) -> Contract:
    """Return the contract that `ref` names.

    Raises `UnknownFingerprint`, `UnknownSchemaId` or `RegistryUnavailable`.
    """
    match ref:
        case Fingerprint(value):
            contract = catalog.by_fingerprint(value)
            if contract is None:
                raise UnknownFingerprint(value)
            return contract
        case RegistryId(schema_id):
            found = ids.fingerprint(schema_id)
            if found is None:
                raise UnknownSchemaId(schema_id, "the registry has no such id")
            contract = catalog.by_fingerprint(found)
            if contract is None:
                raise UnknownSchemaId(
                    schema_id, f"its schema has the fingerprint {found.hex()}, unknown here"
                )
            return contract


def decode(value: bytes | None, catalog: Catalog, ids: SchemaIds = NO_REGISTRY) -> Decoded:
    """Read one record's value. Its event is named by its schema, never by a header.

    Raises a fault of `schemas.errors`: an `Undecodable`, `UnknownSymbol` or
    `RegistryUnavailable`; nothing else, whatever the bytes are.
    """
    ref, datum = split(value)
    contract = resolve(ref, catalog, ids)
    return Decoded(contract.event_type, contract.version, datum, decode_datum(contract, datum))


def decode_datum(contract: Contract, datum: bytes) -> dict[str, Any]:
    """Return the payload that `datum`, without prefix, holds. Raises as `decode` does."""
    name = contract.record.full_name
    source = io.BytesIO(datum)
    try:
        bare = schemaless_reader(source, contract.bare, None)
    except (ArithmeticError, EOFError, LookupError, MemoryError, TypeError, ValueError) as error:
        # A number that ends too early is an IndexError in fastavro, and so is a symbol or a
        # branch that there is not; only in the first case has everything been read.
        if isinstance(error, EOFError | IndexError) and source.tell() == len(datum):
            raise Truncated(name, len(datum)) from None
        raise Malformed(name, f"{type(error).__name__}: {error}") from None
    if source.tell() != len(datum):
        raise TrailingBytes(name, source.tell(), len(datum))
    try:
        written = _write(contract, bare)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise Malformed(name, f"{type(error).__name__}: {error}") from None
    if written != datum:
        raise Malformed(name, "it is not the one spelling that a writer of ours makes")
    payload: dict[str, Any] = contract.from_wire(bare)
    return payload


def encode(
    event_type: str, version: int, payload: Mapping[str, Any], catalog: Catalog | None = None
) -> bytes:
    """Return the datum of `payload`, without prefix: the bytes the SQL encoder makes.

    Raises `ContractViolation` that names every fault of the payload, or the unknown event.
    """
    contract = (catalog or Catalog.bundled()).contract(event_type, version)
    if contract is None:
        raise ContractViolation(f"{event_type} v{version}", ("no such event or version",))
    return encode_with(contract, payload)


def encode_with(contract: Contract, payload: Mapping[str, Any]) -> bytes:
    """Return the datum of `payload` under `contract`. Raises `ContractViolation` as `encode` does."""
    parse_event(contract.event_type, contract.version, payload)
    try:
        return _write(contract, contract.to_wire(payload))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        # Only where model and contract have drifted apart: what one takes the other cannot write.
        event = f"{contract.event_type} v{contract.version}"
        raise ContractViolation(event, (f"the contract cannot hold it: {error}",)) from None


def digest(datum: bytes) -> bytes:
    """Return SHA-256 of the datum: `payload_digest` of the outbox, `iu_digest` on the record."""
    return hashlib.sha256(datum).digest()


def _write(contract: Contract, bare: Any) -> bytes:
    sink = io.BytesIO()
    schemaless_writer(sink, contract.bare, bare)
    return sink.getvalue()
