"""Fold a tree's events over its baseline: pure, one tree at a time.

Guarantee G8 says that what comes out equals `information_unit`: structure, lifecycle and content
digests. An event says where units land; how it shifts their siblings is a fixed rule, the one of
`sql/functions/fn_iu_tree_make_room.sql`, applied here to the fold's own state. So an event that
was lost, doubled or swapped shows as a unit that stands elsewhere.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class FoldedUnit:
    """A unit as far as events tell of it. `content_digest` is lower-case hex."""

    unit_id: str
    parent_id: str | None
    ordinal: int
    iu_code: str
    lifecycle: str
    content_digest: str


Tree: TypeAlias = dict[str, FoldedUnit]
Payload: TypeAlias = Mapping[str, Any]


class Unfoldable(Exception):
    """An event that cannot follow what was folded before it; the text says why."""


def tree_of(units: Iterable[Payload]) -> Tree:
    """Return the tree of a baseline's `units`."""
    return {unit["id"]: FoldedUnit(unit["id"], *(unit[name] for name in _BASELINE_FIELDS)) for unit in units}


_BASELINE_FIELDS = ("parent_id", "ordinal", "iu_code", "lifecycle", "content_digest")


def digest_of(tree: Tree) -> bytes:
    """Return the digest of a baseline of `tree`. Source: sql/functions/fn_iu_tree_baseline_digest.sql."""
    lines = (
        "\t".join(
            (
                unit.unit_id,
                unit.parent_id or "",
                str(unit.ordinal),
                unit.iu_code,
                unit.lifecycle,
                unit.content_digest,
            )
        )
        for _, unit in sorted(tree.items())
    )
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).digest()


def apply(tree: Tree, event_type: str, payload: Payload) -> None:
    """Change `tree` as the event did. Raises `Unfoldable`."""
    match event_type:
        case "structure_reparented":
            _reparent(tree, payload)
        case "structure_child_added":
            _add(tree, payload)
        case "structure_piece_deprecated":
            _deprecate(tree, payload["unit_id"])
        case "structure_piece_split":
            _recut(tree, [payload["unit_id"]], payload["parent_id"], payload["pieces"], payload)
        case "structure_piece_replaced":
            _recut(tree, [payload["unit_id"]], payload["parent_id"], [payload["piece"]], payload)
        case "structure_piece_merged":
            _recut(tree, payload["sources"], payload["parent_id"], [payload["piece"]], payload)
        case _:
            raise Unfoldable(f"{event_type} is no structure event")


def first_difference(folded: Tree, stands: Tree) -> str | None:
    """Return the first difference between two trees in words, None if they are equal."""
    for unit_id in sorted(folded.keys() | stands.keys()):
        made, standing = folded.get(unit_id), stands.get(unit_id)
        if made == standing:
            continue
        if made is None:
            code = standing.iu_code if standing else unit_id
            return f"unit {code} ({unit_id}) stands in the tree, but no baseline and no event made it"
        if standing is None:
            return f"unit {made.iu_code} ({unit_id}) was made by the events, but does not stand in the tree"
        for name in ("parent_id", "ordinal", "lifecycle", "content_digest", "iu_code"):
            told, found = getattr(made, name), getattr(standing, name)
            if told != found:
                return f"{name} of unit {made.iu_code} ({unit_id}): events say {told}, the tree says {found}"
    return None


def _unit(tree: Tree, unit_id: str) -> FoldedUnit:
    try:
        return tree[unit_id]
    except KeyError:
        raise Unfoldable(f"unit {unit_id} is not in the tree yet") from None


def _reparent(tree: Tree, payload: Payload) -> None:
    unit = _unit(tree, payload["unit_id"])
    stood = (unit.parent_id, unit.ordinal)
    told = (payload["old_parent_id"], payload["old_ordinal"])
    if stood != told:
        raise Unfoldable(f"unit {unit.iu_code} was to leave {told}, but stands at {stood}")
    parent, ordinal = payload["new_parent_id"], payload["new_ordinal"]
    _unit(tree, parent)
    _make_room(tree, parent, ordinal, 1, moving=unit.unit_id)
    tree[unit.unit_id] = replace(unit, parent_id=parent, ordinal=ordinal)


def _add(tree: Tree, payload: Payload) -> None:
    parent = payload["parent_id"]
    if parent is not None:
        _unit(tree, parent)
        _make_room(tree, parent, payload["ordinal"], 1)
    _insert(tree, parent, payload)


def _deprecate(tree: Tree, unit_id: str) -> None:
    tree[unit_id] = replace(_unit(tree, unit_id), lifecycle="deprecated")


def _recut(
    tree: Tree, sources: list[str], parent: str, pieces: list[dict[str, Any]], payload: Payload
) -> None:
    """Put `pieces` after the first source, retire the sources, move the children that are named."""
    _make_room(tree, parent, pieces[0]["ordinal"], len(pieces))
    for piece in pieces:
        _insert(tree, parent, piece)
    for source in sources:
        _deprecate(tree, source)
    for moved in payload["moved_children"]:
        child = _unit(tree, moved["unit_id"])
        tree[child.unit_id] = replace(child, parent_id=moved["parent_id"], ordinal=moved["ordinal"])


def _insert(tree: Tree, parent: str | None, told: Payload) -> None:
    unit_id = told["unit_id"]
    if unit_id in tree:
        raise Unfoldable(f"unit {told['iu_code']} ({unit_id}) is there already")
    tree[unit_id] = FoldedUnit(
        unit_id, parent, told["ordinal"], told["iu_code"], told["lifecycle"], told["content_digest"]
    )


def _make_room(tree: Tree, parent: str, ordinal: int, count: int, moving: str | None = None) -> None:
    """Shift the run of siblings that is in the way of `count` units at `ordinal`."""
    siblings = sorted(
        (unit for unit in tree.values() if unit.parent_id == parent and unit.ordinal >= ordinal),
        key=lambda unit: unit.ordinal,
    )
    free = ordinal + count
    for sibling in siblings:
        if sibling.unit_id == moving:
            continue
        if sibling.ordinal >= free:
            break
        tree[sibling.unit_id] = replace(sibling, ordinal=free)
        free += 1
