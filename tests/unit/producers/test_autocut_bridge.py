"""The operations build the cut's tree: parents first, siblings in order, one text each."""

from producers.autocut.bridge import operations_of
from producers.autocut.markdown import cut_markdown

CUT = cut_markdown(b"front\n# A\n## A1\n## A2\n# B\n", "doc")


def test_every_piece_becomes_one_unit_with_its_text() -> None:
    operations = operations_of(CUT)
    assert [op.piece.content for op in operations] == [piece.text for piece in CUT.pieces]
    assert len({op.piece.iu_code for op in operations}) == len(CUT.pieces)


def test_a_parent_is_made_before_its_children_and_siblings_count_from_nought() -> None:
    operations = operations_of(CUT)
    made = [op.piece.unit_id for op in operations]
    under = [None if op.parent_id is None else made.index(op.parent_id) for op in operations]
    assert under == [None, 0, 1, 1, 0]
    assert [op.ordinal for op in operations] == [0, 0, 0, 1, 1]
