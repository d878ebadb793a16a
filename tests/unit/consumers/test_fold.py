"""Folding events gives the tree they tell of, and an event that cannot follow is said so.

The rule of ordinals is checked here by hand-worked cases; that SQL has the same rule is what
tests/integration/verify proves on real operations.
"""

from typing import Any

import pytest

from consumers.verify.fold import Tree, Unfoldable, apply, first_difference, tree_of

BASELINE = [
    {"id": name, "parent_id": parent, "ordinal": ordinal, "iu_code": name, "lifecycle": "enacted",
     "content_digest": "00"}
    for name, parent, ordinal in [("root", None, 0), ("a", "root", 0), ("b", "root", 1), ("c", "root", 2),
                                  ("f", "root", 5), ("b1", "b", 0)]
]  # fmt: skip


@pytest.fixture
def tree() -> Tree:
    return tree_of(BASELINE)


def places(tree: Tree, parent: str) -> dict[str, int]:
    found = sorted((unit.ordinal, unit.unit_id) for unit in tree.values() if unit.parent_id == parent)
    return {unit_id: ordinal for ordinal, unit_id in found}


def piece(name: str, ordinal: int) -> dict[str, Any]:
    return {
        "unit_id": name, "iu_code": name, "ordinal": ordinal, "lifecycle": "enacted",
        "content_digest": "01", "content_bytes": 1,
    }  # fmt: skip


def moved(name: str, parent: str, ordinal: int) -> dict[str, Any]:
    return {"unit_id": name, "parent_id": parent, "ordinal": ordinal}


def test_an_insertion_shifts_only_the_run_that_is_in_the_way(tree: Tree) -> None:
    apply(tree, "structure_child_added", piece("x", 1) | {"parent_id": "root", "supersedes": []})
    assert places(tree, "root") == {"a": 0, "x": 1, "b": 2, "c": 3, "f": 5}


def test_a_wide_insertion_pushes_past_a_gap_that_is_too_narrow(tree: Tree) -> None:
    pieces = [piece("x", 1), piece("y", 2), piece("z", 3), piece("w", 4)]
    told = {"unit_id": "a", "iu_code": "a", "parent_id": "root", "pieces": pieces, "moved_children": []}
    apply(tree, "structure_piece_split", told)
    assert places(tree, "root") == {"a": 0, "x": 1, "y": 2, "z": 3, "w": 4, "b": 5, "c": 6, "f": 7}
    assert tree["a"].lifecycle == "deprecated"


def test_a_unit_that_leaves_leaves_a_gap(tree: Tree) -> None:
    told = {"unit_id": "b", "iu_code": "b", "old_parent_id": "root", "old_ordinal": 1}
    apply(tree, "structure_reparented", told | {"new_parent_id": "a", "new_ordinal": 0})
    assert places(tree, "root") == {"a": 0, "c": 2, "f": 5}
    assert places(tree, "a") == {"b": 0}


def test_a_move_among_siblings_does_not_shift_the_unit_that_moves(tree: Tree) -> None:
    told = {"unit_id": "c", "iu_code": "c", "old_parent_id": "root", "old_ordinal": 2}
    apply(tree, "structure_reparented", told | {"new_parent_id": "root", "new_ordinal": 0})
    assert places(tree, "root") == {"c": 0, "a": 1, "b": 2, "f": 5}


def test_merge_and_replace_retire_their_sources_and_move_the_children(tree: Tree) -> None:
    told = {"sources": ["b", "c"], "parent_id": "root", "piece": piece("m", 2)}
    apply(tree, "structure_piece_merged", told | {"moved_children": [moved("b1", "m", 0)]})
    assert (tree["b"].lifecycle, tree["c"].lifecycle, tree["b1"].parent_id) == (
        "deprecated",
        "deprecated",
        "m",
    )
    assert places(tree, "root") == {"a": 0, "b": 1, "m": 2, "c": 3, "f": 5}
    told = {"unit_id": "m", "iu_code": "m", "parent_id": "root", "piece": piece("r", 3)}
    apply(tree, "structure_piece_replaced", told | {"moved_children": [moved("b1", "r", 0)]})
    assert tree["b1"].parent_id == "r"
    assert places(tree, "root") == {"a": 0, "b": 1, "m": 2, "r": 3, "c": 4, "f": 5}


@pytest.mark.parametrize(
    ("event_type", "payload", "why"),
    [
        ("structure_piece_deprecated", {"unit_id": "nobody"}, "not in the tree yet"),
        ("structure_child_added", piece("a", 0) | {"parent_id": "root"}, "there already"),
        (
            "structure_reparented",
            {
                "unit_id": "b",
                "old_parent_id": "root",
                "old_ordinal": 4,
                "new_parent_id": "a",
                "new_ordinal": 0,
            },
            "stands at",
        ),
        ("structure_invented", {}, "no structure event"),
    ],
)
def test_an_event_that_cannot_follow_is_refused(
    tree: Tree, event_type: str, payload: dict[str, Any], why: str
) -> None:
    with pytest.raises(Unfoldable, match=why):
        apply(tree, event_type, payload)


def test_the_first_difference_is_told_in_words(tree: Tree) -> None:
    other = tree_of(BASELINE)
    assert first_difference(tree, other) is None
    apply(other, "structure_piece_deprecated", {"unit_id": "b1"})
    assert first_difference(tree, other) == (
        "lifecycle of unit b1 (b1): events say enacted, the tree says deprecated"
    )
    del other["a"]
    assert "does not stand in the tree" in (first_difference(tree, other) or "")
    assert "no event made it" in (first_difference(other, tree) or "")
