"""What can be wrong with the bytes of a record, as a closed set, and what a consumer makes of it.

`Undecodable` faults are the record's own: it will never decode, so it goes to the dead letters
and the route goes on. `Holding` faults are ours: a newer symbol, an event we do not serve, a
registry that is away; skipping would make the projection diverge, so the route waits.
Source: design/30, table of decisions.
"""

from typing import ClassVar

from iu_core.errors import Retryable, Terminal


class Undecodable(Terminal):
    """The record itself is at fault: `failed` and dead letter. `reason` names the kind."""

    reason: ClassVar[str] = "undecodable"


class UnknownPrefix(Undecodable):
    """The value begins neither like a registry's record nor like a single object."""

    reason = "unknown_prefix"

    def __init__(self, value: bytes | None) -> None:
        began = (
            "no value"
            if value is None
            else f"{len(value)} bytes, beginning {value[:10].hex(' ') or 'nowhere'}"
        )
        super().__init__(
            "the record is no Avro event",
            why=f"found {began}; expected C3 01 and a fingerprint, or 00 and a registry id",
            remedy="find out who else writes to this topic",
        )


class UnknownFingerprint(Undecodable):
    """A single object whose schema is not among the contracts. `fingerprint` as on the wire."""

    reason = "unknown_fingerprint"

    def __init__(self, fingerprint: bytes) -> None:
        super().__init__(
            "the record was written with a schema that is not ours",
            why=f"no contract has the fingerprint {fingerprint.hex()}",
            remedy="deploy the version that knows the contract, then replay the dead letter",
        )
        self.fingerprint = fingerprint


class UnknownSchemaId(Undecodable):
    """The registry answers, and has no such id or holds a schema under it that is not ours."""

    reason = "unknown_schema_id"

    def __init__(self, schema_id: int, why: str) -> None:
        super().__init__(
            f"the record names registry id {schema_id}, which is no contract of ours",
            why=why,
            remedy="check that the record was written for this environment's registry",
        )
        self.schema_id = schema_id


class Truncated(Undecodable):
    """The datum ends before its schema does."""

    reason = "truncated"

    def __init__(self, record_name: str, length: int) -> None:
        super().__init__(f"the datum of {record_name} ends too early", why=f"it has {length} bytes")


class TrailingBytes(Undecodable):
    """Bytes are left over after the datum."""

    reason = "trailing_bytes"

    def __init__(self, record_name: str, read: int, length: int) -> None:
        super().__init__(
            f"bytes are left over after the datum of {record_name}",
            why=f"the schema accounts for {read} of {length} bytes",
        )


class Malformed(Undecodable):
    """The datum breaks its schema: no UTF-8, a number out of range, bytes no writer makes."""

    reason = "malformed"

    def __init__(self, record_name: str, why: str) -> None:
        super().__init__(f"the datum of {record_name} is malformed", why=why)


class UnknownSymbol(Terminal):
    """A known record holds the symbol UNKNOWN: its writer is ahead of us. Hold and alarm."""

    reason: ClassVar[str] = "unknown_symbol"

    def __init__(self, record_name: str, path: str) -> None:
        super().__init__(
            f"{record_name} holds a symbol that this version does not know",
            why=f"{path} is UNKNOWN",
            remedy="deploy the version that knows the symbol; the route goes on by itself",
        )


class UnknownEventType(Terminal):
    """A known record that is no event of the topic asked for. Hold and alarm."""

    reason: ClassVar[str] = "unknown_event_type"

    def __init__(self, event_type: str, version: int, topic: str) -> None:
        super().__init__(
            f"{event_type} v{version} is no event of topic {topic}",
            why="schemas/contracts.toml does not list it there",
            remedy="list it and deploy, or find out who writes it",
        )


class RegistryUnavailable(Retryable):
    """The id is not known here and the registry cannot be asked now. Hold."""

    reason: ClassVar[str] = "registry_unavailable"

    def __init__(self, schema_id: int, why: str) -> None:
        super().__init__(
            f"registry id {schema_id} is not known here and cannot be looked up",
            why=why,
            remedy="set IU_SCHEMA_REGISTRY_URL, or bring the registry back; the route goes on by itself",
        )
        self.schema_id = schema_id
