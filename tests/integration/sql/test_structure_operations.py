"""Each of the six operations does what design/00 says: tree, event, record, in one commit."""

import hashlib
import json
import uuid
from collections.abc import Iterator

import pytest
from psycopg.types.json import Jsonb

from iu_core.database import Role
from tests.integration.sql.sessions import (
    Editor,
    Session,
    event_of,
    fresh_code,
    fresh_piece,
    open_gate,
    session,
)

HEADER = {
    "event_ref",
    "occurred_at",
    "tree_id",
    "incarnation",
    "aggregate_version",
    "operation_id",
    "actor",
    "reason",
    "doc_code",
}


@pytest.fixture
def editor(migrated_url: str) -> Iterator[Editor]:
    open_gate(migrated_url)
    editor = Editor(migrated_url)
    with editor.session:
        yield editor


@pytest.fixture
def reader(migrated_url: str) -> Iterator[Session]:
    with session(migrated_url, Role.READER) as reader:
        yield reader


def body(event: object) -> dict[str, object]:
    return {key: value for key, value in event.payload.items() if key not in HEADER}  # type: ignore[attr-defined]


def test_a_new_tree_starts_at_version_one_with_its_event(editor: Editor, reader: Session) -> None:
    text = "Grüße\n"
    done = editor.call(
        "add_new_piece", None, None, None, "doc.root", "doc", text, "enacted", [], " ada ", " first "
    )
    event = event_of(reader, done.event_ref)
    assert done.aggregate_version == 1
    assert done.unit_ids == [done.tree_id]
    assert event.event_type == "structure_child_added"
    assert (event.aggregate_id, event.aggregate_version, event.incarnation) == (done.tree_id, 1, 1)
    assert event.bucket == hashlib.sha256(done.tree_id.bytes).digest()[0]
    assert event.payload_digest == hashlib.sha256(event.datum).digest()
    assert body(event) == {
        "unit_id": str(done.tree_id),
        "iu_code": "doc.root",
        "parent_id": None,
        "ordinal": 0,
        "lifecycle": "enacted",
        "content_digest": hashlib.sha256(text.encode()).hexdigest(),
        "content_bytes": len(text.encode()),
        "supersedes": [],
    }
    assert set(event.payload) - set(body(event)) == HEADER
    assert (event.payload["actor"], event.payload["reason"]) == ("ada", "first")
    assert event.payload["doc_code"] == "doc"
    assert event.payload["occurred_at"] == f"{event.occurred_at:%Y-%m-%dT%H:%M:%S.%f}Z"
    row = reader.execute(
        "SELECT kind, tree_id, subject_id, actor, reason, status, event_ref, aggregate_version"
        "  FROM iu_structure_operation WHERE id = %s",
        (done.operation_id,),
    ).fetchone()
    kind = "add_new_piece"
    assert row == (kind, done.tree_id, done.tree_id, "ada", "first", "enacted", done.event_ref, 1)


def test_a_child_takes_the_document_of_its_parent_and_goes_to_the_end(
    editor: Editor, reader: Session
) -> None:
    root = editor.call(
        "add_new_piece", None, None, None, fresh_code(), "doc", "", "draft", [], "a", "b"
    ).tree_id
    first, second = editor.add(root), editor.add(root, lifecycle=None)
    assert editor.children(root) == [(first, 0, "enacted"), (second, 1, "draft")]
    own = editor.call(
        "add_new_piece", None, root, None, fresh_code(), "other", "", "draft", [], "a", "b"
    ).unit_ids[0]
    documents = reader.execute("SELECT id, doc_code FROM information_unit").fetchall()
    assert dict(documents) == {root: "doc", first: "doc", second: "doc", own: "other"}


def test_what_comes_in_shifts_only_the_run_that_is_in_its_way(editor: Editor) -> None:
    root = editor.add(None)
    a, b, c, d = (editor.add(root) for _ in range(4))
    elsewhere = editor.add(a)
    editor.reparent(c, elsewhere)  # leaves a gap at 2
    new = editor.add(root, ordinal=0)
    places = {unit: ordinal for unit, ordinal, _ in editor.children(root)}
    assert places == {new: 0, a: 1, b: 2, d: 3}
    editor.split(a, [fresh_piece(), fresh_piece()])
    assert [ordinal for _, ordinal, _ in editor.children(root)] == [0, 1, 2, 3, 4, 5]
    assert [unit for unit, _, _ in editor.children(root)][-2:] == [b, d]


def test_a_move_carries_old_and_new_place(editor: Editor, reader: Session) -> None:
    root = editor.add(None)
    a, b = editor.add(root), editor.add(root)
    below = editor.add(a)
    done = editor.reparent(a, b)
    event = event_of(reader, done.event_ref)
    assert event.event_type == "structure_reparented"
    code = reader.execute("SELECT iu_code FROM information_unit WHERE id = %s", (a,)).fetchone()
    assert code is not None
    assert body(event) == {
        "unit_id": str(a),
        "iu_code": code[0],
        "old_parent_id": str(root),
        "old_ordinal": 0,
        "new_parent_id": str(b),
        "new_ordinal": 0,
    }
    assert editor.children(root) == [(b, 1, "enacted")], "a removal leaves a gap"
    assert editor.children(a) == [(below, 0, "enacted")], "what hangs below goes along"
    assert done.unit_ids == [a]


@pytest.mark.parametrize(
    ("moved", "to", "expected"),
    [
        (2, 0, {2: 0, 0: 1, 1: 2, 3: 3}),
        (0, 2, {1: 1, 0: 2, 2: 3, 3: 4}),
        (1, 1, {0: 0, 1: 1, 2: 2, 3: 3}),
        (3, None, {0: 0, 1: 1, 2: 2, 3: 3}),
        (0, None, {1: 1, 2: 2, 3: 3, 0: 4}),
    ],
)
def test_a_move_under_the_same_parent_takes_out_first_and_then_puts_in(
    editor: Editor, moved: int, to: int | None, expected: dict[int, int]
) -> None:
    root = editor.add(None)
    units = [editor.add(root) for _ in range(4)]
    editor.reparent(units[moved], root, to)
    assert {units.index(unit): ordinal for unit, ordinal, _ in editor.children(root)} == expected


def test_a_deprecated_unit_keeps_its_place(editor: Editor, reader: Session) -> None:
    root = editor.add(None)
    a, b = editor.add(root), editor.add(root)
    done = editor.deprecate(a)
    event = event_of(reader, done.event_ref)
    assert event.event_type == "structure_piece_deprecated"
    assert event.payload["old_lifecycle"] == "enacted"
    assert (event.payload["parent_id"], event.payload["ordinal"]) == (str(root), 0)
    new = editor.add(root, ordinal=0)
    assert editor.children(root) == [(new, 0, "enacted"), (a, 1, "deprecated"), (b, 2, "enacted")]
    lone = editor.add(None)
    assert event_of(reader, editor.deprecate(lone).event_ref).payload["parent_id"] is None


@pytest.mark.parametrize(("children_to", "adopter"), [(None, 2), (0, 0)])
def test_a_split_puts_pieces_after_its_source_and_hands_the_children_on(
    editor: Editor, reader: Session, children_to: int | None, adopter: int
) -> None:
    root = editor.add(None)
    source, after = editor.add(root, lifecycle="draft"), editor.add(root)
    kept, gone, last = (editor.add(source) for _ in range(3))
    editor.deprecate(gone)
    chosen = uuid.uuid4()
    pieces = [fresh_piece(content="one"), fresh_piece(unit_id=str(chosen)), fresh_piece(content="")]
    done = editor.split(source, pieces, children_to)
    assert len(done.unit_ids) == 3
    assert done.unit_ids[1] == chosen
    assert editor.children(root) == [
        (source, 0, "deprecated"),
        *((unit, place, "draft") for place, unit in enumerate(done.unit_ids, start=1)),
        (after, 4, "enacted"),
    ]
    assert editor.children(done.unit_ids[adopter]) == [(kept, 0, "enacted"), (last, 1, "enacted")]
    assert editor.children(source) == [(gone, 1, "deprecated")]
    event = event_of(reader, done.event_ref)
    assert event.event_type == "structure_piece_split"
    assert [piece["ordinal"] for piece in event.payload["pieces"]] == [1, 2, 3]
    assert [piece["content_bytes"] for piece in event.payload["pieces"]] == [3, 5, 0]
    assert event.payload["moved_children"] == [
        {"unit_id": str(unit), "parent_id": str(done.unit_ids[adopter]), "ordinal": place}
        for place, unit in enumerate((kept, last))
    ]
    edges = reader.execute(
        "SELECT successor_id, predecessor_id, operation_id FROM iu_unit_supersedes"
    ).fetchall()
    assert sorted(edges) == sorted((unit, source, done.operation_id) for unit in done.unit_ids)


def test_a_merge_takes_the_place_of_the_first_and_the_children_of_all(
    editor: Editor, reader: Session
) -> None:
    root = editor.add(None)
    a, b, c = (editor.add(root) for _ in range(3))
    a_child, b_child = editor.add(a), editor.add(b)
    nested = editor.add(c, lifecycle="draft")
    under_nested = editor.add(nested)
    done = editor.merge([b, a, nested])
    (piece,) = done.unit_ids
    assert editor.children(root) == [
        (a, 0, "deprecated"),
        (b, 1, "deprecated"),
        (piece, 2, "draft"),
        (c, 3, "enacted"),
    ]
    assert [unit for unit, _, _ in editor.children(piece)] == [b_child, a_child, under_nested]
    event = event_of(reader, done.event_ref)
    assert event.event_type == "structure_piece_merged"
    assert event.payload["sources"] == [str(b), str(a), str(nested)]
    assert event.payload["parent_id"] == str(root)
    assert event.payload["piece"]["ordinal"] == 2
    assert [child["ordinal"] for child in event.payload["moved_children"]] == [0, 1, 2]
    predecessors = reader.execute("SELECT predecessor_id FROM iu_unit_supersedes").fetchall()
    assert sorted(row[0] for row in predecessors) == sorted([a, b, nested])


def test_a_child_that_is_merged_with_its_parent_goes_out_of_use_where_it_is(editor: Editor) -> None:
    root = editor.add(None)
    parent = editor.add(root)
    child = editor.add(parent)
    grandchild = editor.add(child)
    (piece,) = editor.merge([parent, child]).unit_ids
    assert editor.children(parent) == [(child, 0, "deprecated")]
    assert editor.children(piece) == [(grandchild, 0, "enacted")]


def test_a_replacement_stands_right_after_what_it_replaces(editor: Editor, reader: Session) -> None:
    root = editor.add(None)
    a, b = editor.add(root), editor.add(root)
    child = editor.add(a)
    done = editor.replace(a)
    (piece,) = done.unit_ids
    assert editor.children(root) == [(a, 0, "deprecated"), (piece, 1, "enacted"), (b, 2, "enacted")]
    assert editor.children(piece) == [(child, 0, "enacted")]
    event = event_of(reader, done.event_ref)
    assert event.event_type == "structure_piece_replaced"
    assert event.payload["unit_id"] == str(a)
    assert event.payload["piece"]["unit_id"] == str(piece)


def test_a_piece_goes_to_another_tree_by_add_with_supersedes(editor: Editor, reader: Session) -> None:
    old, new = editor.add(None), editor.add(None)
    moved = editor.add(new, supersedes=[old, old])
    edges = reader.execute("SELECT successor_id, predecessor_id FROM iu_unit_supersedes").fetchall()
    assert edges == [(moved, old)]
    payload = reader.execute(
        "SELECT payload -> 'supersedes' FROM event_outbox WHERE payload ->> 'unit_id' = %s", (str(moved),)
    ).fetchone()
    assert payload == ([str(old)],)


def test_arguments_keep_digests_and_no_text(editor: Editor, reader: Session) -> None:
    root = editor.add(None, content="a secret of the root")
    unit = editor.add(root)
    editor.replace(unit, fresh_piece(content="a secret of the piece"))
    kept = json.dumps(reader.execute("SELECT arguments FROM iu_structure_operation").fetchall())
    assert "secret" not in kept
    assert hashlib.sha256(b"a secret of the root").hexdigest() in kept
    assert hashlib.sha256(b"a secret of the piece").hexdigest() in kept


def test_tree_operation_and_event_commit_together_or_not_at_all(editor: Editor, reader: Session) -> None:
    counts = (
        "SELECT (SELECT count(*) FROM event_outbox), (SELECT count(*) FROM iu_structure_operation),"
        " (SELECT count(*) FROM information_unit), (SELECT sum(version) FROM iu_tree),"
        " (SELECT count(DISTINCT xid) FROM event_outbox)"
    )
    with editor.session.transaction(force_rollback=True):
        root = editor.add(None)
        editor.add(root)
        assert reader.execute(counts).fetchone() == (0, 0, 0, None, 0)
    assert reader.execute(counts).fetchone() == (0, 0, 0, None, 0)
    with editor.session.transaction():
        editor.add(editor.add(None))
    assert reader.execute(counts).fetchone() == (2, 2, 2, 2, 1)


def test_the_trace_of_the_caller_travels_in_the_headers(editor: Editor, reader: Session) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    editor.add(None)
    with editor.session.transaction():
        editor.session.execute("SELECT set_config('iu.traceparent', %s, true)", (trace,))
        editor.add(None)
    rows = reader.execute("SELECT headers FROM event_outbox ORDER BY id").fetchall()
    assert rows == [({},), ({"traceparent": trace},)]


def test_a_baseline_can_be_digested_again_from_its_comment(migrated_url: str) -> None:
    """The recipe in the COMMENT, carried out in another language, gives the same bytes."""
    root, child = uuid.uuid4(), uuid.uuid4()
    units = [
        {
            "id": str(child),
            "iu_code": "b.ö",
            "parent_id": str(root),
            "ordinal": 7,
            "content": "c",
            "lifecycle": "draft",
            "frozen": True,
        },
        {"id": str(root), "iu_code": "b", "ordinal": 0, "content": "", "lifecycle": "enacted"},
    ]
    with session(migrated_url, Role.OWNER) as owner:
        loaded = owner.execute(
            "SELECT fn_iu_tree_baseline_load(%s, 'ada', 'a test')", (Jsonb(units),)
        ).fetchone()
        assert loaded == (root,)
        row = owner.execute("SELECT version, units, digest FROM iu_tree_baseline").fetchone()
        head = owner.execute("SELECT tree_id, version, incarnation FROM iu_tree").fetchall()
    assert row is not None
    assert head == [(root, 0, 1)]
    assert [unit["id"] for unit in row[1]] == sorted([str(root), str(child)])
    fields = ("id", "parent_id", "ordinal", "iu_code", "lifecycle", "content_digest")
    lines = "".join(
        "\t".join("" if unit[name] is None else str(unit[name]) for name in fields) + "\n" for unit in row[1]
    )
    assert row[0] == 0
    assert row[2] == hashlib.sha256(lines.encode()).digest()
