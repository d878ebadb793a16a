"""What a cutter returns: the document as pieces in reading order, which joined are the document."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CutPiece:
    """A heading with the text up to the next one.

    `level` is 1–6, 0 for the document itself, whose text is what stands before the first heading.
    `start` and `end` are byte offsets in the source; `parent` is an index into `CutResult.pieces`.
    """

    level: int
    title: str
    start: int
    end: int
    parent: int | None
    text: str


@dataclass(frozen=True, slots=True)
class CutResult:
    """A document cut by `cutter`; `pieces[0]` is the document, every parent comes before its children."""

    doc_code: str
    cutter: str
    pieces: tuple[CutPiece, ...]

    def joined(self) -> str:
        """Return the document again, character for character."""
        return "".join(piece.text for piece in self.pieces)
