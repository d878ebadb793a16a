"""Read one record for one route: pass it over, take it, keep it as undeliverable, or stop at it.

The header `ce_type` decides whose record it is, undecoded: most records belong to other routes.
What is taken has been checked as far as it can be without the database: the digest that was
taken when the event was made, the one spelling of its datum, and the strict model.

Two kinds of fault. The record's own (bytes nobody can read, a digest that differs) will not
mend: it is kept whole and the route goes on. Ours (a symbol or type from a newer writer, a
registry that is away) will: going on would make the projection diverge, so the route stops there.
Source: design/30, table of decisions; design/40, "Wire".
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

from iu_core.bus.names import FENCE_TYPE, BusNames
from iu_core.bus.ports import Record
from iu_core.errors import IUError
from iu_core.events import ContractViolation, parse_event
from schemas.catalog import Catalog
from schemas.codec import NO_REGISTRY, SchemaIds, SchemaRef, decode_datum, resolve, split
from schemas.errors import RegistryUnavailable, Undecodable, UnknownEventType, UnknownSymbol

DIGEST_DIFFERS: Final = "IU020"
CONTRACT_VIOLATED: Final = "IU021"
# As the catalog names it: an installation's prefix is no part of a contract.
_TOPIC: Final = BusNames().events


@dataclass(frozen=True, slots=True)
class Skip:
    """An event of another route, or a fence, which is no event: not ours to decide."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event of this route, checked. `payload` is that of the outbox, letter by letter."""

    record: Record
    event_ref: UUID
    payload: dict[str, Any]
    schema: str


@dataclass(frozen=True, slots=True)
class Undeliverable:
    """A record that can never be delivered; it goes to the dead letters, whole.

    `reason` names the kind and does not vary by event, `detail` is for people. `sqlstate` is
    what the database said or would say, None where it has no word for it.
    """

    record: Record
    decision: Literal["refused", "failed"]
    reason: str
    detail: str
    event_ref: UUID | None
    schema: str | None
    sqlstate: str | None = None


@dataclass(frozen=True, slots=True)
class Blocked:
    """A record that this version must not go past. `gate` and `reason` name the hold."""

    record: Record
    gate: Literal["schema", "registry"]
    reason: str
    detail: str


Reading: TypeAlias = Skip | Event | Undeliverable | Blocked


class Reader:
    """Reads records for the route of `event_type`; no I/O but what `ids` does for an unknown id."""

    def __init__(self, event_type: str, catalog: Catalog, ids: SchemaIds = NO_REGISTRY) -> None:
        self._event_type = event_type
        self._mark = event_type.encode()
        self._others = frozenset(name.encode() for name in (*catalog.event_types, FENCE_TYPE)) - {self._mark}
        self._catalog = catalog
        self._ids = ids

    def read(self, record: Record) -> Reading:
        """Return what `record` is to this route. Raises nothing, whatever the bytes are."""
        ce_type = record.header("ce_type")
        if ce_type in self._others:
            return Skip()
        try:
            ref, datum = split(record.value)
        except Undecodable as error:
            return _unreadable(record, None, error)
        try:
            if ce_type != self._mark:
                return self._unaddressed(record, ref, ce_type)
            return self._ours(record, ref, datum)
        except Undecodable as error:
            return _unreadable(record, str(ref), error)
        except (UnknownSymbol, UnknownEventType) as error:
            return Blocked(record, "schema", error.reason, _place(record, error))
        except RegistryUnavailable as error:
            return Blocked(record, "registry", error.reason, _place(record, error))

    def _unaddressed(self, record: Record, ref: SchemaRef, ce_type: bytes | None) -> Reading:
        """A record of no event type that we know: its schema says whether it is one of ours after all."""
        contract = resolve(ref, self._catalog, self._ids)
        named = "no ce_type" if ce_type is None else f"ce_type {ce_type.decode(errors='replace')!r}"
        if ce_type is None and contract.event_type != self._event_type:
            return Skip()
        if ce_type is None:
            return _refused(record, ref, "type_missing", f"it is a {contract.event_type}, under {named}")
        raise UnknownEventType(ce_type.decode(errors="replace"), contract.version, record.topic)

    def _ours(self, record: Record, ref: SchemaRef, datum: bytes) -> Reading:
        told, found = record.header("iu_digest"), hashlib.sha256(datum).hexdigest()
        if told is None:
            return _refused(record, ref, "digest_missing", "it has no header iu_digest")
        if told != found.encode():
            return _refused(
                record,
                ref,
                "digest_differs",
                f"iu_digest is {told.decode(errors='replace')}, the datum's SHA-256 is {found}",
            )
        contract = resolve(ref, self._catalog, self._ids)
        if contract.event_type != self._event_type:
            return _refused(
                record,
                ref,
                "type_differs",
                f"its ce_type says {self._event_type}, its schema {contract.event_type}",
            )
        self._catalog.require_listed(_TOPIC, contract.event_type, contract.version)
        payload = decode_datum(contract, datum)
        try:
            event = parse_event(contract.event_type, contract.version, payload)
        except ContractViolation as error:
            detail = "; ".join(error.faults)
            return Undeliverable(
                record,
                "failed",
                "contract_violated",
                detail,
                event_ref_of(record),
                str(ref),
                CONTRACT_VIOLATED,
            )
        event_ref = UUID(event.event_ref)
        if event_ref_of(record) != event_ref:
            return _refused(record, ref, "identity_differs", f"its ce_id is not its event_ref {event_ref}")
        return Event(record, event_ref, payload, str(ref))


def event_ref_of(record: Record) -> UUID | None:
    """Return the event that the header `ce_id` names, None if it names none."""
    return _uuid(record.header("ce_id"))


def tree_id_of(record: Record) -> UUID | None:
    """Return the tree that the key names, None if it names none."""
    return _uuid(record.key)


def _uuid(text: bytes | None) -> UUID | None:
    try:
        return UUID((text or b"").decode("ascii"))
    except ValueError:
        return None


def _refused(record: Record, ref: SchemaRef, reason: str, detail: str) -> Undeliverable:
    return Undeliverable(record, "refused", reason, detail, event_ref_of(record), str(ref), DIGEST_DIFFERS)


def _unreadable(record: Record, schema: str | None, error: Undecodable) -> Undeliverable:
    return Undeliverable(record, "failed", error.reason, str(error), event_ref_of(record), schema)


def _place(record: Record, error: IUError) -> str:
    return f"partition {record.partition}, offset {record.offset}: {error}"
