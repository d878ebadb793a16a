"""The reference state has the figures of design/00, and is the same each time."""

from producers.reference_state import reference_operations, reference_trees
from producers.structure.operations import DeprecatePiece, Reparent

UNITS = [unit for tree in reference_trees() for unit in tree]


def test_158_units_of_which_60_are_frozen_and_12_are_scratch() -> None:
    frozen = [unit for unit in UNITS if unit.frozen]
    scratch = [unit for unit in UNITS if unit.iu_code.startswith(("pilot.", "test/"))]
    assert (len(UNITS), len(frozen), len(scratch)) == (158, 60, 12)
    assert all(unit.doc_code is None for unit in frozen + scratch)
    assert {unit.lifecycle for unit in frozen} == {"enacted"}


def test_45_reparents_and_the_one_deprecation() -> None:
    operations = reference_operations()
    moves = [op for op in operations if isinstance(op, Reparent)]
    retired = [op for op in operations if isinstance(op, DeprecatePiece)]
    assert (len(moves), len(retired)) == (45, 1)
    code_of = {unit.id: unit.iu_code for unit in UNITS}
    assert code_of[retired[0].unit_id] == "pilot.iu0.test-001"


def test_no_reparent_makes_a_cycle_or_leaves_its_tree() -> None:
    tree_of = {unit.id: number for number, tree in enumerate(reference_trees()) for unit in tree}
    parents = {unit.id: unit.parent_id for unit in UNITS}
    for move in reference_operations():
        if isinstance(move, DeprecatePiece):
            continue
        assert tree_of[move.unit_id] == tree_of[move.new_parent_id]
        parents[move.unit_id] = move.new_parent_id
        above, at = set(), parents[move.unit_id]
        while at is not None:
            assert at != move.unit_id
            assert at not in above
            above.add(at)
            at = parents[at]


def test_two_derivations_are_equal() -> None:
    assert reference_trees() == reference_trees()
    assert reference_operations() == reference_operations()
