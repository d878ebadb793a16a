"""Every refusal of the operations: its code, words that help, and nothing changed."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from psycopg.types.json import Jsonb

from iu_core.database import Role
from tests.integration.sql.sessions import (
    Editor,
    Session,
    fresh_code,
    fresh_piece,
    open_gate,
    refused,
    session,
)

# Everything an operation may write. Equal before and after: nothing was changed.
STATE = """
    SELECT (SELECT jsonb_agg(to_jsonb(u) ORDER BY u.id) FROM information_unit AS u),
           (SELECT jsonb_agg(to_jsonb(t) ORDER BY t.tree_id) FROM iu_tree AS t),
           (SELECT count(*) FROM iu_structure_operation), (SELECT count(*) FROM event_outbox),
           (SELECT count(*) FROM iu_unit_supersedes)
"""


@dataclass(frozen=True, slots=True)
class Ground:
    """The trees that the calls go at.

    root → a → below → deep, root → b, root → gone (deprecated); other, a tree of one; and a third tree
    with adopter → frozen → under_frozen, beside lone.
    """

    root: uuid.UUID
    a: uuid.UUID
    below: uuid.UUID
    deep: uuid.UUID
    b: uuid.UUID
    gone: uuid.UUID
    other: uuid.UUID
    adopter: uuid.UUID
    frozen: uuid.UUID
    under_frozen: uuid.UUID
    lone: uuid.UUID


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


@pytest.fixture
def ground(editor: Editor, migrated_url: str) -> Ground:
    root = editor.add(None, "g.root")
    a, b, gone = editor.add(root, "g.a"), editor.add(root, "g.b"), editor.add(root, "g.gone")
    below = editor.add(a, "g.below")
    deep = editor.add(below, "g.deep")
    editor.deprecate(gone)
    frozen_root, adopter, frozen, under_frozen, lone = (uuid.uuid4() for _ in range(5))
    units = [
        _unit(frozen_root, "f.root", None),
        _unit(adopter, "f.adopter", frozen_root),
        _unit(frozen, "f.frozen", adopter, frozen=True),
        _unit(under_frozen, "f.under", frozen),
        _unit(lone, "f.lone", frozen_root, ordinal=1),
    ]
    with session(migrated_url, Role.OWNER) as owner:
        owner.execute("SELECT fn_iu_tree_baseline_load(%s, 'ada', 'a test')", (Jsonb(units),))
    return Ground(root, a, below, deep, b, gone, editor.add(None), adopter, frozen, under_frozen, lone)


def _unit(
    unit: uuid.UUID, code: str, parent: uuid.UUID | None, *, ordinal: int = 0, frozen: bool = False
) -> dict[str, object]:
    parent_id = None if parent is None else str(parent)
    place: dict[str, object] = {"id": str(unit), "parent_id": parent_id, "ordinal": ordinal}
    return place | {"iu_code": code, "content": "", "lifecycle": "enacted", "frozen": frozen}


Call = Callable[[Editor, Ground], object]
NOBODY = uuid.UUID(int=0)
TWO = [fresh_piece(), fresh_piece()]


def adding(**arguments: object) -> Call:
    """Return a call of add_new_piece that is right but for `arguments`."""

    def call(editor: Editor, ground: Ground) -> object:
        named: dict[str, object] = {
            "unit_id": None,
            "parent": ground.root,
            "ordinal": None,
            "code": fresh_code(),
            "document": None,
            "content": "text",
            "lifecycle": "draft",
            "supersedes": [],
            "actor": "ada",
            "reason": "a test",
        }
        given = {
            key: getattr(ground, value[1:]) if isinstance(value, str) and value.startswith("@") else value
            for key, value in arguments.items()
        }
        assert given.keys() <= named.keys()
        return editor.call("add_new_piece", *(named | given).values())

    return call


CASES: dict[str, tuple[str, Call]] = {
    "unknown unit": ("IU001", lambda e, g: e.reparent(NOBODY, g.a)),
    "unknown parent": ("IU001", lambda e, g: e.reparent(g.a, NOBODY)),
    "no parent": ("IU001", lambda e, g: e.reparent(g.a, None)),
    "unknown parent of a new piece": ("IU001", adding(parent=NOBODY)),
    "unknown predecessor": ("IU001", adding(supersedes=[NOBODY])),
    "no predecessor": ("IU001", adding(supersedes=[None])),
    "unknown unit to deprecate": ("IU001", lambda e, g: e.deprecate(NOBODY)),
    "unknown unit to merge": ("IU001", lambda e, g: e.merge([g.a, NOBODY])),
    "NULL to merge": ("IU002", lambda e, g: e.merge([g.a, None])),
    "unknown unit to split": ("IU001", lambda e, g: e.split(NOBODY, TWO)),
    "unknown unit to replace": ("IU001", lambda e, g: e.replace(NOBODY)),
    "under itself": ("IU002", lambda e, g: e.reparent(g.a, g.a)),
    "under its own child": ("IU002", lambda e, g: e.reparent(g.a, g.below)),
    "under its own descendant": ("IU002", lambda e, g: e.reparent(g.a, g.deep)),
    "one unit to merge": ("IU002", lambda e, g: e.merge([g.a])),
    "nothing to merge": ("IU002", lambda e, g: e.merge([])),
    "the same unit twice": ("IU002", lambda e, g: e.merge([g.a, g.a])),
    "merged into what is below": ("IU002", lambda e, g: e.merge([g.below, g.a])),
    "merged into what is far below": ("IU002", lambda e, g: e.merge([g.deep, g.a])),
    "across trees": ("IU003", lambda e, g: e.reparent(g.a, g.other)),
    "merged across trees": ("IU003", lambda e, g: e.merge([g.a, g.other])),
    "a root moves": ("IU003", lambda e, g: e.reparent(g.root, g.a)),
    "a root is split": ("IU003", lambda e, g: e.split(g.root, TWO)),
    "a root is merged": ("IU003", lambda e, g: e.merge([g.a, g.root])),
    "a root is replaced": ("IU003", lambda e, g: e.replace(g.root)),
    "living children": ("IU004", lambda e, g: e.deprecate(g.a)),
    "a frozen unit is deprecated": ("IU005", lambda e, g: e.deprecate(g.frozen)),
    "a frozen unit moves": ("IU005", lambda e, g: e.reparent(g.frozen, g.lone)),
    "a frozen unit moves across trees": ("IU005", lambda e, g: e.reparent(g.frozen, g.root)),
    "a frozen unit gets a child": ("IU005", adding(parent="@frozen")),
    "a child moves under a frozen unit": ("IU005", lambda e, g: e.reparent(g.lone, g.frozen)),
    "a frozen unit loses a child": ("IU005", lambda e, g: e.reparent(g.under_frozen, g.lone)),
    "a frozen unit is replaced": ("IU005", lambda e, g: e.replace(g.frozen)),
    "a frozen unit is merged": ("IU005", lambda e, g: e.merge([g.lone, g.frozen])),
    "a child of a frozen unit is split": ("IU005", lambda e, g: e.split(g.under_frozen, TWO)),
    "a frozen child would move along": ("IU005", lambda e, g: e.replace(g.adopter)),
    "a frozen child would move along a merge": ("IU005", lambda e, g: e.merge([g.lone, g.adopter])),
    "no actor": ("IU006", adding(actor=" ")),
    "NULL actor": ("IU006", adding(actor=None)),
    "no reason": ("IU006", adding(reason="")),
    "no reason to deprecate": ("IU006", lambda e, g: e.call("deprecate_piece", g.b, "ada", None)),
    "no content": ("IU007", adding(content=None)),
    "content that is no text": ("IU007", lambda e, g: e.replace(g.a, fresh_piece(content=7))),
    "a piece without content": ("IU007", lambda e, g: e.replace(g.a, {"iu_code": "x"})),
    "a piece that is no object": ("IU007", lambda e, g: e.replace(g.a, "piece")),
    "a piece with a key too many": ("IU007", lambda e, g: e.replace(g.a, fresh_piece(lifecycle="draft"))),
    "one piece of a split": ("IU007", lambda e, g: e.split(g.a, [fresh_piece()])),
    "pieces that are no list": ("IU007", lambda e, g: e.split(g.a, fresh_piece())),
    "deprecated twice": ("IU009", lambda e, g: e.deprecate(g.gone)),
    "a deprecated unit moves": ("IU009", lambda e, g: e.reparent(g.gone, g.a)),
    "under a deprecated unit": ("IU009", lambda e, g: e.reparent(g.a, g.gone)),
    "added under a deprecated unit": ("IU009", adding(parent="@gone")),
    "a deprecated unit is merged": ("IU009", lambda e, g: e.merge([g.a, g.gone])),
    "a deprecated unit is split": ("IU009", lambda e, g: e.split(g.gone, TWO)),
    "a deprecated unit is replaced": ("IU009", lambda e, g: e.replace(g.gone)),
    "born deprecated": ("IU009", adding(lifecycle="deprecated")),
    "code taken": ("IU010", adding(code="g.a")),
    "code taken by a deprecated unit": ("IU010", adding(code="g.gone")),
    "code with a blank": ("IU010", adding(code="g a")),
    "code with a line end": ("IU010", adding(code="g\na")),
    "empty code": ("IU010", adding(code="")),
    "no code": ("IU010", adding(code=None)),
    "code too long": ("IU010", adding(code="x" * 201)),
    "document code with a blank": ("IU010", adding(document="d d")),
    "id taken": ("IU010", adding(unit_id="@a")),
    "root id taken": ("IU010", adding(unit_id="@root", parent=None)),
    "id of a child taken for a root": ("IU010", adding(unit_id="@a", parent=None)),
    "code of a piece taken": ("IU010", lambda e, g: e.replace(g.a, fresh_piece(iu_code="g.b"))),
    "code that is no text": ("IU010", lambda e, g: e.replace(g.a, fresh_piece(iu_code=7))),
    "id that is none": ("IU010", lambda e, g: e.replace(g.a, fresh_piece(unit_id="7"))),
    "two pieces of one code": ("IU010", lambda e, g: e.split(g.a, [fresh_piece(iu_code="p")] * 2)),
    "negative ordinal": ("IU011", lambda e, g: e.reparent(g.a, g.b, -1)),
    "ordinal past the end": ("IU011", lambda e, g: e.reparent(g.a, g.b, 1)),
    "ordinal past the end of a new piece": ("IU011", adding(ordinal=4)),
    "ordinal of a root": ("IU011", adding(parent=None, ordinal=1)),
    "no such piece for the children": ("IU011", lambda e, g: e.split(g.a, TWO, 2)),
    "negative piece for the children": ("IU011", lambda e, g: e.split(g.a, TWO, -1)),
}


@pytest.mark.parametrize("sqlstate", sorted({code for code, _ in CASES.values()}))
def test_it_is_refused_and_nothing_is_changed(
    editor: Editor, reader: Session, ground: Ground, sqlstate: str
) -> None:
    """All cases of one code on one ground: what leaves nothing behind cannot disturb the next."""
    before = reader.execute(STATE).fetchone()
    for case, (code, call) in CASES.items():
        if code == sqlstate:
            with refused(sqlstate, case):
                call(editor, ground)
            assert reader.execute(STATE).fetchone() == before, case


def test_a_plan_made_from_another_version_is_refused(editor: Editor, ground: Ground, reader: Session) -> None:
    version = reader.execute("SELECT version FROM iu_tree WHERE tree_id = %s", (ground.root,)).fetchone()
    assert version is not None
    expect = "SELECT set_config('iu.expected_version', %s, true)"
    with editor.session.transaction():
        editor.session.execute(expect, (str(version[0]),))
        editor.reparent(ground.a, ground.root)
    with refused("IU008") as said, editor.session.transaction():
        editor.session.execute(expect, (str(version[0]),))
        editor.reparent(ground.a, ground.root)
    assert f"version {version[0] + 1}" in said.detail
    with refused("IU008"), editor.session.transaction():
        editor.session.execute(expect, ("3",))
        editor.add(None)


@pytest.mark.parametrize("value", ["false", "TRUE", "true ", "", None])
def test_a_gate_that_is_not_exactly_true_is_closed(
    editor: Editor, ground: Ground, migrated_url: str, value: str | None
) -> None:
    with session(migrated_url, Role.GATEKEEPER) as keeper:
        if value is None:
            keeper.execute("DELETE FROM dot_config WHERE key = 'iu_core.structure_op_enabled'")
        else:
            keeper.execute(
                "UPDATE dot_config SET value = %s WHERE key = 'iu_core.structure_op_enabled'", (value,)
            )
    calls: list[Callable[[], object]] = [
        lambda: editor.add(None),
        lambda: editor.reparent(ground.a, ground.b),
        lambda: editor.deprecate(ground.b),
        lambda: editor.split(ground.a, TWO),
        lambda: editor.merge([ground.a, ground.b]),
        lambda: editor.replace(ground.a),
        # Right or wrong, the answer is the same: the gate comes before the words.
        lambda: editor.call("deprecate_piece", None, None, None),
    ]
    for call in calls:
        with refused("42501") as said:
            call()
        assert "iu_core.structure_op_enabled is " in said.detail
        assert "iu gate open structure" in said.hint


def test_a_baseline_that_is_no_tree_is_refused(migrated_url: str) -> None:
    load = "SELECT fn_iu_tree_baseline_load(%s, %s, %s)"
    root, x, y = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    right = [_unit(root, "r", None)]
    ring = [*right, _unit(x, "x", y), _unit(y, "y", x)]
    with session(migrated_url, Role.OWNER) as owner:
        with refused("IU006"):
            owner.execute(load, (Jsonb(right), "", "why"))
        with refused("IU006"):
            owner.execute(load, (Jsonb(right), "ada", None))
        with refused("IU003"):
            owner.execute(load, (Jsonb([*right, _unit(x, "x", None)]), "ada", "why"))
        with refused("IU003"):
            owner.execute(load, (Jsonb([]), "ada", "why"))
        with refused("IU002"):
            owner.execute(load, (Jsonb(ring), "ada", "why"))
        assert owner.execute("SELECT count(*) FROM iu_tree").fetchone() == (0,)
