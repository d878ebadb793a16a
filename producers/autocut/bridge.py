"""Turn a `CutResult` into the operations that build its tree from nothing."""

import uuid
from collections import defaultdict

from producers.autocut.result import CutResult
from producers.structure.operations import AddNewPiece, Piece


def operations_of(cut: CutResult) -> tuple[AddNewPiece, ...]:
    """Return one `AddNewPiece` per piece, parents first, siblings in reading order.

    The ids are made here, because an operation must name the parent that an earlier one makes.
    """
    ids = [uuid.uuid4() for _ in cut.pieces]
    made_under: defaultdict[int | None, int] = defaultdict(int)
    operations: list[AddNewPiece] = []
    for index, piece in enumerate(cut.pieces):
        code = cut.doc_code if piece.parent is None else f"{cut.doc_code}.s{index:03}"
        operations.append(
            AddNewPiece(
                Piece(code, piece.text, ids[index]),
                parent_id=None if piece.parent is None else ids[piece.parent],
                ordinal=made_under[piece.parent],
                doc_code=cut.doc_code,
                lifecycle="enacted",
            )
        )
        made_under[piece.parent] += 1
    return tuple(operations)
