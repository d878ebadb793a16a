"""The contracts that ship with the code, parsed once and looked up by event or fingerprint.

Nothing here talks to a registry: a record that carries a fingerprint is resolved offline.
"""

import functools
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from iu_core.errors import Misconfigured
from schemas.avro_types import InvalidSchema, Record, parse
from schemas.conversion import Convert, from_wire, to_wire
from schemas.errors import UnknownEventType

SINGLE_OBJECT: Final = b"\xc3\x01"
FINGERPRINT_BYTES: Final = 8
SCHEMAS_DIR: Final = Path(__file__).parent
_VERSION_NAME: Final = re.compile(r"v([1-9][0-9]*)\.avsc")


@dataclass(frozen=True, slots=True)
class Contract:
    """One version of one event, with what is needed to read and write it.

    `fingerprint` is CRC-64-AVRO of the canonical form, as it stands on the wire (least byte
    first). `bare` is fastavro's parsed schema without logical types.
    """

    event_type: str
    version: int
    path: Path
    text: str
    record: Record
    fingerprint: bytes
    bare: Any = field(repr=False)
    to_wire: Convert = field(repr=False)
    from_wire: Convert = field(repr=False)

    @property
    def prefix(self) -> bytes:
        """The ten bytes before the datum: C3 01 and the fingerprint."""
        return SINGLE_OBJECT + self.fingerprint


@dataclass(frozen=True, slots=True)
class Listing:
    """What `contracts.toml` says of one event on one topic."""

    topic: str
    event_type: str
    record: str
    schema: str
    versions: tuple[int, ...]
    mode: str
    owner: str
    consumers: tuple[str, ...]


class Catalog:
    """Contracts by event and by fingerprint, and which of them may stand on which topic."""

    def __init__(self, contracts: Iterable[Contract], listings: Iterable[Listing]) -> None:
        self._contracts = {(contract.event_type, contract.version): contract for contract in contracts}
        self._by_fingerprint = {contract.fingerprint: contract for contract in self._contracts.values()}
        # A version never renames its record: a new name would be a subject without history.
        self._record_names = {
            contract.event_type: contract.record.full_name for contract in self._contracts.values()
        }
        self._topics: dict[str, dict[str, Listing]] = {}
        for listing in listings:
            self._topics.setdefault(listing.topic, {})[listing.event_type] = listing

    @staticmethod
    @functools.cache
    def bundled() -> "Catalog":
        """Return the catalog of the contracts in this package; read from disk once a process.

        Raises `Misconfigured` if fastavro lacks its compiled half or a contract cannot be read.
        """
        require_compiled_fastavro()
        try:
            listings = load_listings(SCHEMAS_DIR / "contracts.toml")
            contracts = [
                load_contract(path)
                for schema in sorted({listing.schema for listing in listings})
                for path in sorted((SCHEMAS_DIR / schema).glob("v*.avsc"))
            ]
        except (OSError, ValueError, KeyError, InvalidSchema) as error:
            raise Misconfigured(
                "the bundled contracts cannot be read", why=str(error), remedy="iu schemas check"
            ) from error
        return Catalog(contracts, listings)

    @property
    def event_types(self) -> frozenset[str]:
        """Every event type that has a contract, on whatever topic."""
        return frozenset(self._record_names)

    @property
    def contracts(self) -> tuple[Contract, ...]:
        """Every version of every contract."""
        return tuple(self._contracts.values())

    def contract(self, event_type: str, version: int) -> Contract | None:
        """Return the contract of this version of the event, None if there is none."""
        return self._contracts.get((event_type, version))

    def prefix(self, event_type: str, version: int) -> bytes:
        """Return the ten bytes that go before the datum; `KeyError` if there is no such contract."""
        return self._contracts[event_type, version].prefix

    def record_name(self, event_type: str) -> str:
        """Return the full name of the event's record; `KeyError` if there is no such event."""
        return self._record_names[event_type]

    def by_fingerprint(self, value: bytes) -> Contract | None:
        """Return the contract with these eight bytes, as they stand on the wire, or None."""
        return self._by_fingerprint.get(value)

    def topic_events(self, topic: str) -> frozenset[tuple[str, int]]:
        """Return the (event_type, version) that may be written to `topic`, its name without prefix.

        Empty for a topic that is not listed: what is not allowed is not published.
        """
        listed = self._topics.get(topic, {}).values()
        return frozenset((listing.event_type, version) for listing in listed for version in listing.versions)

    def require_listed(self, topic: str, event_type: str, version: int) -> None:
        """Raise `UnknownEventType` unless the event is listed for `topic`, in whatever version."""
        if event_type not in self._topics.get(topic, {}):
            raise UnknownEventType(event_type, version, topic)


def require_compiled_fastavro() -> None:
    """Raise `Misconfigured` if fastavro would run its Python half, some ten times slower."""
    for function in (fastavro.schemaless_reader, fastavro.schemaless_writer):
        if function.__module__.endswith("_py"):
            raise Misconfigured(
                "fastavro is installed without its compiled half",
                why=f"{function.__name__} comes from {function.__module__}",
                remedy="install a binary wheel of fastavro for this interpreter",
            )


def load_listings(path: Path) -> tuple[Listing, ...]:
    """Read `contracts.toml`. Raises `ValueError` or `KeyError` where it is not as its head says."""
    document = tomllib.loads(path.read_text("utf-8"))
    return tuple(
        Listing(
            topic=topic,
            event_type=event_type,
            record=entry["record"],
            schema=entry["schema"],
            versions=tuple(entry["versions"]),
            mode=entry["mode"],
            owner=entry["owner"],
            consumers=tuple(entry["consumers"]),
        )
        for topic, body in document["topics"].items()
        for event_type, entry in body["events"].items()
    )


def load_contract(path: Path) -> Contract:
    """Read `<event_type>/v<N>.avsc`. Raises `InvalidSchema`, or `ValueError` if it is no JSON."""
    text = path.read_text("utf-8")
    schema = json.loads(text)
    record = parse(schema)
    encode, decode = to_wire(record), from_wire(record, record.full_name)
    if encode is None or decode is None:  # a record always converts; said for the type checker
        raise InvalidSchema((), "the contract is not a record")
    return Contract(
        event_type=path.parent.name,
        version=version_of(path),
        path=path,
        text=text,
        record=record,
        fingerprint=bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")),
        bare=fastavro.parse_schema(_without_logical_types(schema)),
        to_wire=encode,
        from_wire=decode,
    )


def version_of(path: Path) -> int:
    """Return N of `v<N>.avsc`. Raises `ValueError` for another name."""
    match = _VERSION_NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path.name} is not named v<N>.avsc")
    return int(match[1])


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, Mapping):
        return {key: _without_logical_types(part) for key, part in schema.items() if key != "logicalType"}
    if isinstance(schema, list):
        return [_without_logical_types(part) for part in schema]
    return schema
