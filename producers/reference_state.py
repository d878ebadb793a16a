"""The reference state of design/00: 158 units, and the 46 operations that are run on them.

60 frozen enacted units and 12 scratch units (`pilot.*`, `test/*`) stand outside any document,
each a tree of its own; the other 86 form four documents. 45 reparents inside the documents and
one deprecation, of `pilot.iu0.test-001`, follow. Everything is derived from fixed seeds, so two
loads are equal; ids come from the codes. The predecessor shows 45 events for its 46 operations,
one reparent of its history having none; here every operation has its event.
"""

import random
import uuid
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Final

from psycopg.types.json import Jsonb

from iu_core.database import Connection
from producers.structure.operations import DeprecatePiece, Reparent
from producers.structure.store import translated

# Units per document; together 86.
DOCUMENTS: Final = {"dieu44.charter": 31, "dieu44.delivery": 24, "dieu44.rollout": 19, "dieu44.glossary": 12}
FROZEN: Final = 60
SCRATCH: Final = tuple(f"pilot.iu0.test-{n:03}" for n in range(1, 8)) + tuple(
    f"test/scratch-{n:02}" for n in range(1, 6)
)
REPARENTS: Final = 45
_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "iu-core/reference-state")


@dataclass(frozen=True, slots=True)
class ReferenceUnit:
    """One unit as it is loaded; field names are those of `fn_iu_tree_baseline_load`."""

    id: uuid.UUID
    iu_code: str
    doc_code: str | None
    parent_id: uuid.UUID | None
    ordinal: int
    content: str
    lifecycle: str
    frozen: bool


def reference_trees() -> tuple[tuple[ReferenceUnit, ...], ...]:
    """Return every tree, each with its root first and parents before children."""
    documents = tuple(_document(code, size) for code, size in DOCUMENTS.items())
    frozen = tuple((_lone(f"law.frozen-{n:02}", "enacted", frozen=True),) for n in range(1, FROZEN + 1))
    scratch = tuple((_lone(code, "draft", frozen=False),) for code in SCRATCH)
    return documents + frozen + scratch


def reference_operations() -> tuple[Reparent | DeprecatePiece, ...]:
    """Return 45 legal reparents, spread over the documents, and the one deprecation."""
    chance = random.Random(45)  # noqa: S311 - a fixed sequence, not a secret
    parents: dict[uuid.UUID, uuid.UUID | None] = {}
    trees: list[list[uuid.UUID]] = []
    for tree in reference_trees():
        if len(tree) > 1:
            trees.append([unit.id for unit in tree])
            parents |= {unit.id: unit.parent_id for unit in tree}
    moves: list[Reparent | DeprecatePiece] = []
    while len(moves) < REPARENTS:
        members = trees[len(moves) % len(trees)]
        unit, target = chance.sample(members[1:], 1)[0], chance.choice(members)
        if target == parents[unit] or unit in _ancestors_and_self(target, parents):
            continue
        parents[unit] = target
        moves.append(Reparent(unit, target))
    moves.append(DeprecatePiece(_id_of(SCRATCH[0])))
    return tuple(moves)


def load(connection: Connection, *, actor: str, reason: str) -> int:
    """Load every tree with its baseline, in one transaction, as `iu_owner`; return the number of units.

    Raises `Terminal` if a unit of that code is there already.
    """
    loaded = 0
    with translated(), connection.transaction():
        for tree in reference_trees():
            connection.execute(
                "SELECT public.fn_iu_tree_baseline_load(%s, %s, %s)",
                (Jsonb([_json(unit) for unit in tree]), actor, reason),
            )
            loaded += len(tree)
    return loaded


def _document(doc_code: str, size: int) -> tuple[ReferenceUnit, ...]:
    """Return a tree of `size` units at most three levels deep."""
    chance = random.Random(doc_code)  # noqa: S311 - a fixed sequence, not a secret
    root = replace(_lone(doc_code, "enacted", frozen=False), doc_code=doc_code)
    units, depth = [root], {root.id: 0}
    children: defaultdict[uuid.UUID, int] = defaultdict(int)
    for number in range(1, size):
        parent = chance.choice([unit for unit in units if depth[unit.id] < 3])
        code = f"{doc_code}.s{number:02}"
        unit = replace(
            _lone(code, "enacted", frozen=False),
            doc_code=doc_code,
            parent_id=parent.id,
            ordinal=children[parent.id],
        )
        children[parent.id] += 1
        depth[unit.id] = depth[parent.id] + 1
        units.append(unit)
    return tuple(units)


def _lone(code: str, lifecycle: str, *, frozen: bool) -> ReferenceUnit:
    return ReferenceUnit(
        _id_of(code), code, None, None, 0, f"# {code}\n\nText of {code}.\n", lifecycle, frozen
    )


def _id_of(code: str) -> uuid.UUID:
    return uuid.uuid5(_NAMESPACE, code)


def _ancestors_and_self(unit: uuid.UUID, parents: dict[uuid.UUID, uuid.UUID | None]) -> set[uuid.UUID]:
    above: set[uuid.UUID] = set()
    at: uuid.UUID | None = unit
    while at is not None:
        above.add(at)
        at = parents[at]
    return above


def _json(unit: ReferenceUnit) -> dict[str, object]:
    named = {name: getattr(unit, name) for name in ReferenceUnit.__dataclass_fields__}
    return named | {"id": str(unit.id), "parent_id": None if unit.parent_id is None else str(unit.parent_id)}
