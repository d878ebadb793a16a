"""Cut Markdown at its headings.

Headings come from a CommonMark parser with their line numbers, never from a pattern: a `#` in a
fence, a comment, a quote, a list item or front matter is none, and `===` under a paragraph is
one. Only headings at the top level of the document cut it. Source: design/45, "Cutting".
"""

import re
from typing import Final

from markdown_it import MarkdownIt
from mdit_py_plugins.front_matter import front_matter_plugin

from iu_core.errors import Usage
from producers.autocut.result import CutPiece, CutResult

CUTTER: Final = "markdown/1"
# The line ends that markdown-it counts: it turns each of these into one newline before it parses.
_LINE_END: Final = re.compile(r"\r\n|\n|\r")


def cut_markdown(source: bytes, doc_code: str) -> CutResult:
    """Cut `source` (UTF-8) into pieces. Raises `Usage` at bytes that are no text, with their position."""
    text = text_of(source, doc_code)
    line_starts = [0, *(match.end() for match in _LINE_END.finditer(text))]
    headings = _headings(text)
    bounds = [0, *(line_starts[line] for line, _, _ in headings), len(text)]
    levels = [0, *(level for _, level, _ in headings)]
    titles = [doc_code, *(title for _, _, title in headings)]

    pieces: list[CutPiece] = []
    open_headings: list[int] = []  # from the document down to the heading that is open now
    at_byte = 0
    for index, (level, title) in enumerate(zip(levels, titles, strict=True)):
        while open_headings and pieces[open_headings[-1]].level >= level:
            open_headings.pop()
        part = text[bounds[index] : bounds[index + 1]]
        size = len(part.encode())
        parent = open_headings[-1] if open_headings else None
        pieces.append(CutPiece(level, title, at_byte, at_byte + size, parent, part))
        open_headings.append(index)
        at_byte += size
    return CutResult(doc_code, CUTTER, tuple(pieces))


def text_of(source: bytes, name: str) -> str:
    """Return `source` as text. Raises `Usage` naming the first byte that is not UTF-8, or a NUL."""
    try:
        text = source.decode()
    except UnicodeDecodeError as error:
        raise Usage(
            f"{name} is not UTF-8 text",
            why=f"byte 0x{source[error.start]:02x} at position {error.start}: {error.reason}",
            remedy="convert the file to UTF-8 (iconv -t utf-8) and try again",
            code="IU007",
        ) from error
    if (position := source.find(b"\0")) >= 0:
        raise Usage(
            f"{name} holds a NUL byte",
            why=f"at position {position}; PostgreSQL stores no NUL in text",
            remedy="remove it",
            code="IU007",
        )
    return text


def _headings(text: str) -> list[tuple[int, int, str]]:
    """Return (line, level, title) of every top-level heading; lines count from 0."""
    tokens = MarkdownIt("commonmark").enable("table").use(front_matter_plugin).parse(text)
    return [
        (token.map[0], int(token.tag[1:]), tokens[index + 1].content)
        for index, token in enumerate(tokens)
        if token.type == "heading_open" and token.level == 0 and token.map is not None
    ]
