"""The six structure events as payloads: what stands in `event_outbox.payload`, checked strictly.

A payload is JSON and says each thing in one spelling: a UUID in lower case, a digest in
lower-case hex, a time in UTC with six digits. The fields hold just that text, so a payload
that passes here comes back from its Avro datum letter by letter. Nothing is coerced: 1.0, "1"
and true are no integers, a missing key and an unknown key are faults.

These models, the contracts in `schemas/structure/` and the SQL encoders made from those hold
one truth three times; `iu schemas check` compares them. Source: design/00, design/40.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from iu_core.errors import Terminal

UUID_PATTERN: Final = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
DIGEST_PATTERN: Final = r"^[0-9a-f]{64}$"
TIMESTAMP_PATTERN: Final = (
    r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z$"
)
TEXT_PATTERN: Final = r"^[^\x00]*$"  # PostgreSQL's text and jsonb cannot hold U+0000


def _existing_time(text: str) -> str:
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"no such time: {error}") from None
    return text


Text = Annotated[str, StringConstraints(pattern=TEXT_PATTERN)]
UuidText = Annotated[str, StringConstraints(pattern=UUID_PATTERN)]
DigestText = Annotated[str, StringConstraints(pattern=DIGEST_PATTERN)]
TimestampText = Annotated[str, StringConstraints(pattern=TIMESTAMP_PATTERN), AfterValidator(_existing_time)]
Int32 = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
# UNKNOWN is what an older reader sees in place of a newer symbol; nobody writes it.
Lifecycle: TypeAlias = Literal["draft", "enacted", "deprecated"]


class ContractViolation(Terminal):
    """A payload does not fit the contract of its event. `faults` names each field and its fault."""

    def __init__(self, event: str, faults: tuple[str, ...]) -> None:
        super().__init__(
            f"the payload is no {event}",
            why="; ".join(faults),
            remedy="correct the producer: nothing was encoded",
            code="IU021",
        )
        self.faults = faults


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class StructureEvent(_Strict):
    """The header block: the first nine fields of every event."""

    event_type: ClassVar[str]
    version: ClassVar[int]

    event_ref: UuidText
    occurred_at: TimestampText
    tree_id: UuidText
    incarnation: Int32
    aggregate_version: Int64
    operation_id: UuidText
    actor: Text
    reason: Text
    doc_code: Text | None


class Piece(_Strict):
    """A unit made by a split, a merge or a replacement."""

    unit_id: UuidText
    iu_code: Text
    ordinal: Int32
    lifecycle: Lifecycle
    content_digest: DigestText
    content_bytes: Int64


class MovedChild(_Strict):
    """A child that went to a new parent."""

    unit_id: UuidText
    parent_id: UuidText
    ordinal: Int32


class StructureReparented(StructureEvent):
    """A unit got another parent or another place."""

    event_type: ClassVar[str] = "structure_reparented"
    version: ClassVar[int] = 1

    unit_id: UuidText
    iu_code: Text
    old_parent_id: UuidText
    old_ordinal: Int32
    new_parent_id: UuidText
    new_ordinal: Int32


class StructureChildAdded(StructureEvent):
    """A new unit was added; `parent_id` is None for the root of a new tree."""

    event_type: ClassVar[str] = "structure_child_added"
    version: ClassVar[int] = 1

    unit_id: UuidText
    iu_code: Text
    parent_id: UuidText | None
    ordinal: Int32
    lifecycle: Lifecycle
    content_digest: DigestText
    content_bytes: Int64
    supersedes: list[UuidText]


class StructurePieceDeprecated(StructureEvent):
    """A unit without living children was deprecated and keeps its place."""

    event_type: ClassVar[str] = "structure_piece_deprecated"
    version: ClassVar[int] = 1

    unit_id: UuidText
    iu_code: Text
    parent_id: UuidText | None
    ordinal: Int32
    old_lifecycle: Lifecycle


class StructurePieceSplit(StructureEvent):
    """Pieces took the place of a unit."""

    event_type: ClassVar[str] = "structure_piece_split"
    version: ClassVar[int] = 1

    unit_id: UuidText
    iu_code: Text
    parent_id: UuidText
    pieces: list[Piece]
    moved_children: list[MovedChild]


class StructurePieceMerged(StructureEvent):
    """One piece took the place of several units."""

    event_type: ClassVar[str] = "structure_piece_merged"
    version: ClassVar[int] = 1

    sources: list[UuidText]
    parent_id: UuidText
    piece: Piece
    moved_children: list[MovedChild]


class StructurePieceReplaced(StructureEvent):
    """One piece took the place of one unit."""

    event_type: ClassVar[str] = "structure_piece_replaced"
    version: ClassVar[int] = 1

    unit_id: UuidText
    iu_code: Text
    parent_id: UuidText
    piece: Piece
    moved_children: list[MovedChild]


EVENTS: Final[Mapping[tuple[str, int], type[StructureEvent]]] = {
    (model.event_type, model.version): model
    for model in (
        StructureReparented,
        StructureChildAdded,
        StructurePieceDeprecated,
        StructurePieceSplit,
        StructurePieceMerged,
        StructurePieceReplaced,
    )
}


def parse_event(event_type: str, version: int, payload: Mapping[str, Any]) -> StructureEvent:
    """Return `payload` as the model of its event; the event type is the tag, never guessed.

    Raises `ContractViolation` that names every fault, also for an unknown event or version.
    """
    model = EVENTS.get((event_type, version))
    if model is None:
        raise ContractViolation(f"{event_type} v{version}", ("no such event or version",))
    try:
        return model.model_validate(payload)
    except ValidationError as error:
        raise ContractViolation(f"{event_type} v{version}", _faults(error)) from None


def _faults(error: ValidationError) -> tuple[str, ...]:
    return tuple(f"{_path(fault['loc'])}: {fault['msg']}" for fault in error.errors(include_url=False))


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{part}"
    return path or "payload"
