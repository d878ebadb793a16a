"""The six structure operations as values.

A value says what is wanted, by ids; only the database decides whether it may be, because only
there the tree stands still. `ordinal` counts siblings from 0; None appends.
Source: design/00, "Events and operations"; SQL twins in sql/functions/.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias
from uuid import UUID

Lifecycle: TypeAlias = Literal["draft", "enacted"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A unit to be made: its code, its text, and its id (None: the database makes one)."""

    iu_code: str
    content: str
    unit_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Reparent:
    """Move a unit, with everything below it, under another parent of its tree."""

    unit_id: UUID
    new_parent_id: UUID
    ordinal: int | None = None


@dataclass(frozen=True, slots=True)
class AddNewPiece:
    """Add a unit under `parent_id`; None starts a tree. `doc_code` None takes the parent's."""

    piece: Piece
    parent_id: UUID | None
    ordinal: int | None = None
    doc_code: str | None = None
    lifecycle: Lifecycle = "draft"
    supersedes: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class DeprecatePiece:
    """Take a unit without living children out of use; nothing is deleted."""

    unit_id: UUID


@dataclass(frozen=True, slots=True)
class Split:
    """Replace a unit by two or more; its children go to `pieces[children_to]`, None: the last."""

    unit_id: UUID
    pieces: tuple[Piece, ...]
    children_to: int | None = None


@dataclass(frozen=True, slots=True)
class Merge:
    """Replace two or more units by one, in the place of the first."""

    unit_ids: tuple[UUID, ...]
    piece: Piece


@dataclass(frozen=True, slots=True)
class Replace:
    """Put a new unit in the place of another, which it supersedes."""

    unit_id: UUID
    piece: Piece


Operation: TypeAlias = Reparent | AddNewPiece | DeprecatePiece | Split | Merge | Replace


@dataclass(frozen=True, slots=True)
class Enacted:
    """What an operation made: its row, its event, and the version the tree has now."""

    operation_id: UUID
    event_ref: UUID
    tree_id: UUID
    aggregate_version: int
    unit_ids: tuple[UUID, ...]
