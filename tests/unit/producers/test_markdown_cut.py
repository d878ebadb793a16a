"""Joined, the pieces are the document; and only what CommonMark calls a heading cuts it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iu_core.errors import Usage
from producers.autocut.markdown import cut_markdown
from producers.autocut.result import CutResult

DOCUMENTS = Path(__file__).parents[4] / "shared" / "data" / "documents"
# First revisions, with the number of headings that a CommonMark parser counts in them (SOURCES.md).
COUNTED = {
    "asyncapi/01.md": 105,
    "contributor-covenant/05.md": 7,
    "eip-1155/12.md": 33,
    "eip-2535/03.md": 32,
    "eip-2535/04.md": 45,
    "jgg/04.md": 188,
    "kep-4603/07.md": 47,
}
LINES = st.sampled_from(
    [
        "# One",
        "## Two",
        "### Three",
        "text",
        "===",
        "---",
        "```",
        "> # quoted",
        "- # item",
        "",
        "  ",
        "<!--",
        "-->",
    ]
)


def titles(cut: CutResult) -> list[tuple[int, str]]:
    return [(piece.level, piece.title) for piece in cut.pieces[1:]]


@given(st.lists(st.tuples(LINES, st.sampled_from(["\n", "\r\n", "\r"])), max_size=30), st.booleans())
def test_joined_pieces_are_the_document(lines: list[tuple[str, str]], end: bool) -> None:
    source = "".join(line + ending for line, ending in lines) + ("" if end else "tail")
    cut = cut_markdown(source.encode(), "doc")
    assert cut.joined() == source
    assert [piece.start for piece in cut.pieces[1:]] == [piece.end for piece in cut.pieces[:-1]]


@given(st.lists(LINES, max_size=30))
def test_a_parent_comes_before_its_child_and_has_a_smaller_level(lines: list[str]) -> None:
    cut = cut_markdown("\n".join(lines).encode(), "doc")
    for index, piece in enumerate(cut.pieces[1:], start=1):
        assert piece.parent is not None
        assert piece.parent < index
        assert cut.pieces[piece.parent].level < piece.level


def test_only_headings_cut() -> None:
    fenced = "```\n# no\n```\n"
    hidden = "> # no\n\n- # no\n\n<!--\n# no\n-->\n\n"
    source = ("---\ntitle: '# no'\n---\npreamble\n\n# A\n\n" + fenced + hidden + "B\n===\n").encode()
    cut = cut_markdown(source, "doc")
    assert titles(cut) == [(1, "A"), (1, "B")]
    assert cut.pieces[0].text == "---\ntitle: '# no'\n---\npreamble\n\n"


def test_jumps_of_level_nest_under_the_nearest_smaller_level() -> None:
    cut = cut_markdown(b"# A\n#### D\n## B\n### C\n# E\n", "doc")
    assert [piece.parent for piece in cut.pieces] == [None, 0, 1, 1, 3, 0]


@pytest.mark.parametrize("name", COUNTED)
def test_real_documents_are_cut_where_a_commonmark_parser_sees_headings(name: str) -> None:
    file = DOCUMENTS / name
    if not file.exists():
        pytest.skip("the real documents are not on this machine")
    cut = cut_markdown(file.read_bytes(), "doc")
    assert len(cut.pieces) - 1 == COUNTED[name]
    assert cut.joined().encode() == file.read_bytes()


@pytest.mark.parametrize(("source", "place"), [(b"ab\xff", "position 2"), (b"a\0b", "position 1")])
def test_what_is_no_text_is_refused_with_its_position(source: bytes, place: str) -> None:
    with pytest.raises(Usage) as refusal:
        cut_markdown(source, "doc")
    assert place in (refusal.value.why or "")
