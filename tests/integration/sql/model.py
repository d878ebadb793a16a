"""A tree of units in plain Python: what the operations should do, in the slowest obvious way.

Written from design/00 and the rule for ordinals, not from the SQL. `Refusal` carries the code of
the first check that says no; the order of checks is part of what is promised.
"""

from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID


class Refusal(Exception):
    """The operation is refused with this code."""


@dataclass(frozen=True)
class Unit:
    """What the structure says of a unit."""

    tree: UUID
    parent: UUID | None
    ordinal: int
    lifecycle: str
    frozen: bool = False


@dataclass
class Model:
    """Units by id."""

    units: dict[UUID, Unit] = field(default_factory=dict)

    def children(self, parent: UUID) -> list[UUID]:
        """Return all children, in order."""
        return sorted((u for u in self.units if self.units[u].parent == parent), key=self._ordinal)

    def living(self, parent: UUID) -> list[UUID]:
        """Return the children that are not deprecated, in order."""
        return [u for u in self.children(parent) if self.units[u].lifecycle != "deprecated"]

    def above(self, unit: UUID) -> list[UUID]:
        """Return the unit and everything above it."""
        parent = self.units[unit].parent
        return [unit] if parent is None else [unit, *self.above(parent)]

    def add(self, new: UUID, parent: UUID, ordinal: int | None, lifecycle: str) -> None:
        self._named([parent])
        self._refuse_deprecated(parent)
        place = self._place(parent, ordinal, moving=None)
        self._make_room(parent, place, 1)
        self.units[new] = Unit(self.units[parent].tree, parent, place, lifecycle)

    def reparent(self, unit: UUID, parent: UUID, ordinal: int | None) -> None:
        self._named([unit, parent])
        self._refuse_deprecated(unit)
        self._refuse_deprecated(parent)
        old = self.units[unit].parent
        if old is None:
            raise Refusal("IU003")
        self._refuse_frozen([old])
        if unit in self.above(parent):
            raise Refusal("IU002")
        place = self._place(parent, ordinal, moving=unit)
        kept = self.units.pop(unit)
        self._make_room(parent, place, 1)
        self.units[unit] = replace(kept, parent=parent, ordinal=place)

    def deprecate(self, unit: UUID) -> None:
        self._named([unit])
        self._refuse_deprecated(unit)
        if self.living(unit):
            raise Refusal("IU004")
        self.units[unit] = replace(self.units[unit], lifecycle="deprecated")

    def split(self, unit: UUID, pieces: list[UUID], children_to: int | None) -> None:
        self._named([unit])
        self._source(unit)
        if children_to is not None and not 0 <= children_to < len(pieces):
            raise Refusal("IU011")
        adopter = pieces[-1 if children_to is None else children_to]
        self._take_over([unit], pieces, adopter, self.units[unit].lifecycle)

    def merge(self, sources: list[UUID], piece: UUID) -> None:
        if len(set(sources)) < max(2, len(sources)):
            raise Refusal("IU002")
        self._named(sources)
        for source in sources:
            self._source(source)
        if set(self.above(sources[0])[1:]) & set(sources):
            raise Refusal("IU002")
        draft = any(self.units[source].lifecycle == "draft" for source in sources)
        self._take_over(sources, [piece], piece, "draft" if draft else "enacted")

    def replace(self, unit: UUID, piece: UUID) -> None:
        self._named([unit])
        self._source(unit)
        self._take_over([unit], [piece], piece, self.units[unit].lifecycle)

    def fold(self, kind: str, event: dict[str, Any]) -> None:
        """Apply an event: what it says and, for shifted siblings, the rule; nothing is checked."""
        match kind:
            case "structure_child_added":
                self._put(event, event["parent_id"], UUID(event["tree_id"]))
            case "structure_reparented":
                unit, parent = UUID(event["unit_id"]), UUID(event["new_parent_id"])
                kept = self.units.pop(unit)
                self._make_room(parent, event["new_ordinal"], 1)
                self.units[unit] = replace(kept, parent=parent, ordinal=event["new_ordinal"])
            case "structure_piece_deprecated":
                self._end(event["unit_id"])
            case "structure_piece_split" | "structure_piece_merged" | "structure_piece_replaced":
                pieces = event.get("pieces") or [event["piece"]]
                self._make_room(UUID(event["parent_id"]), pieces[0]["ordinal"], len(pieces))
                for piece in pieces:
                    self._put(piece, event["parent_id"], UUID(event["tree_id"]), shift=False)
                for source in event.get("sources") or [event["unit_id"]]:
                    self._end(source)
                for child in event["moved_children"]:
                    moved = UUID(child["unit_id"])
                    self.units[moved] = replace(
                        self.units[moved], parent=UUID(child["parent_id"]), ordinal=child["ordinal"]
                    )
            case _:
                raise AssertionError(kind)

    def _put(self, said: dict[str, Any], parent: str | None, tree: UUID, *, shift: bool = True) -> None:
        above = None if parent is None else UUID(parent)
        if shift and above is not None:
            self._make_room(above, said["ordinal"], 1)
        self.units[UUID(said["unit_id"])] = Unit(tree, above, said["ordinal"], said["lifecycle"])

    def _end(self, unit: str) -> None:
        self.units[UUID(unit)] = replace(self.units[UUID(unit)], lifecycle="deprecated")

    def _take_over(self, sources: list[UUID], pieces: list[UUID], adopter: UUID, lifecycle: str) -> None:
        first = self.units[sources[0]]
        assert first.parent is not None
        moving = [child for s in sources for child in self.living(s) if child not in sources]
        self._refuse_frozen(moving)
        self._make_room(first.parent, first.ordinal + 1, len(pieces))
        for place, piece in enumerate(pieces, start=first.ordinal + 1):
            self.units[piece] = Unit(first.tree, first.parent, place, lifecycle)
        for source in sources:
            self.units[source] = replace(self.units[source], lifecycle="deprecated")
        for place, child in enumerate(moving):
            self.units[child] = replace(self.units[child], parent=adopter, ordinal=place)

    def _make_room(self, parent: UUID, ordinal: int, count: int) -> None:
        """Walk the siblings upwards; each moves to the higher of its own and its predecessor's next."""
        previous = ordinal + count - 1
        for sibling in self.children(parent):
            own = self.units[sibling].ordinal
            if own >= ordinal:
                previous = max(own, previous + 1)
                self.units[sibling] = replace(self.units[sibling], ordinal=previous)

    def _place(self, parent: UUID, ordinal: int | None, *, moving: UUID | None) -> int:
        others = [self.units[u].ordinal for u in self.children(parent) if u != moving]
        own = [self.units[u].ordinal for u in self.children(parent) if u == moving]
        end = max(others, default=-1) + 1
        if ordinal is None:
            return end
        if not 0 <= ordinal <= max([end, *own]):
            raise Refusal("IU011")
        return ordinal

    def _named(self, units: list[UUID]) -> None:
        if not self.units.keys() >= set(units):
            raise Refusal("IU001")
        self._refuse_frozen(units)
        if len({self.units[unit].tree for unit in units}) > 1:
            raise Refusal("IU003")

    def _source(self, unit: UUID) -> None:
        self._refuse_deprecated(unit)
        parent = self.units[unit].parent
        if parent is None:
            raise Refusal("IU003")
        self._refuse_frozen([parent])

    def _refuse_frozen(self, units: list[UUID]) -> None:
        if any(self.units[unit].frozen for unit in units):
            raise Refusal("IU005")

    def _refuse_deprecated(self, unit: UUID) -> None:
        if self.units[unit].lifecycle == "deprecated":
            raise Refusal("IU009")

    def _ordinal(self, unit: UUID) -> int:
        return self.units[unit].ordinal
