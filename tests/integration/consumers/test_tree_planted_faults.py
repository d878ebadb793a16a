"""The tests of the tests for G8: an operation that does not do what its event tells is found by `verify`.

Each fault is planted in one SQL function of a scratch database. The operations then run as ever: all
six kinds, on a tree with a baseline and on one without, through gaps and among deprecated units. What
stands afterwards is no longer what baseline and events give, and `verify` must say so, by that very
rule and no other. Without a fault the same operations leave nothing to find.

The bus is empty here: tree and events both stand in the database.
"""

import re
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from consumers.verify.report import Finding
from consumers.verify.trees import RULE
from consumers.verify.verification import Bus, verify
from iu_core.bus.names import BusNames
from iu_core.database import Role
from tests.contract.bus.fake_bus import FakeAdmin, FakeBroker, FakeReader
from tests.integration.sql.planting import put_instead
from tests.integration.sql.sessions import Editor, fresh_code, fresh_piece, open_gate, session


@dataclass(frozen=True, slots=True)
class Fault:
    """What is put in the place of what, in which function, and the first words of what `verify` tells."""

    guarantee: str
    name: str
    function: str
    text: str
    instead: str
    told: str


FAULTS = (
    Fault(
        "G8",
        "room is made by shifting every sibling behind",
        "fn_iu_tree_make_room",
        "p_ordinal + p_count + row_number() OVER (ORDER BY sibling.ordinal)::integer - 1",
        "sibling.ordinal + p_count",
        r"ordinal of unit",
    ),
    Fault(
        "G8",
        "a move is told one place beside where it went",
        "fn_iu_structure_op_reparent",
        "'new_ordinal', v_ordinal)",
        "'new_ordinal', v_ordinal + 1)",
        r"ordinal of unit",
    ),
    Fault(
        "G8",
        "a new unit is told with the digest of another text",
        "fn_iu_structure_op_add_new_piece",
        "'content_digest', encode(v_unit.content_digest, 'hex'),\n      'content_bytes'",
        "'content_digest', encode(sha256(''), 'hex'),\n      'content_bytes'",
        r"content_digest of unit",
    ),
    Fault(
        "G8",
        "a unit is told to be deprecated and is not",
        "fn_iu_structure_op_deprecate_piece",
        "SET lifecycle = 'deprecated'",
        "SET lifecycle = unit.lifecycle",
        r"lifecycle of unit \S+ \S+: events say deprecated",
    ),
    Fault(
        "G8",
        "a merge tells of its first source only",
        "fn_iu_structure_op_merge",
        "'sources', to_jsonb(p_unit_ids)",
        "'sources', to_jsonb(p_unit_ids[1:1])",
        r"lifecycle of unit \S+ \S+: events say enacted",
    ),
    Fault(
        "G8",
        "a split moves children and does not tell",
        "fn_iu_structure_op_split",
        "'moved_children', v_moved",
        "'moved_children', '[]'::jsonb",
        r"version \d+ \(structure_reparented\): unit \S+ was to leave",
    ),
    Fault(
        "G8",
        "a replacement is told without the lifecycle it has",
        "fn_iu_structure_op_replace",
        "'piece', v_piece,",
        "'piece', v_piece || '{\"lifecycle\": \"draft\"}',",
        r"lifecycle of unit \S+ \S+: events say draft",
    ),
    Fault(
        "G8",
        "a baseline says draft of everything",
        "fn_iu_tree_baseline_load",
        "'lifecycle', unit.lifecycle",
        "'lifecycle', 'draft'",
        r"lifecycle of unit \S+ \S+: events say draft",
    ),
)


def load_baseline(url: str) -> UUID:
    """Load a tree of a root and three children at 0, 1 and 7; return the root."""
    root = uuid4()
    units = [(root, None, 0), (uuid4(), root, 0), (uuid4(), root, 1), (uuid4(), root, 7)]
    loaded = [
        {
            "id": str(unit),
            "iu_code": fresh_code(),
            "parent_id": parent and str(parent),
            "ordinal": ordinal,
            "content": "loaded",
            "lifecycle": "enacted",
        }
        for unit, parent, ordinal in units
    ]
    with session(url, Role.OWNER) as owner:
        owner.execute("SELECT fn_iu_tree_baseline_load(%s, 'ada', 'a test')", (Jsonb(loaded),))
    return root


def operate(editor: Editor, root: UUID) -> None:
    """Run each kind of operation under `root`; a gap is left behind before room is made."""
    one, two, three, four = (editor.add(root) for _ in range(4))
    below = editor.add(one)
    editor.reparent(two, one, 0)
    editor.add(root, ordinal=0)
    pieces = editor.split(one, [fresh_piece(), fresh_piece()]).unit_ids
    editor.reparent(below, pieces[0])
    merged = editor.merge([three, four]).unit_ids[0]
    editor.reparent(pieces[1], root, 0)
    editor.replace(merged)
    editor.deprecate(below)


def verified(url: str) -> tuple[Finding, ...]:
    """Operate, then let `verify` compare what stands with baseline and events."""
    open_gate(url)
    editor = Editor(url)
    with editor.session:
        for root in (load_baseline(url), editor.add(None)):
            operate(editor, root)
    broker, names = FakeBroker(), BusNames("t.")
    admin = FakeAdmin(broker)
    admin.create(names.events, partitions=1, configs={})
    with session(url, Role.READER) as reader:
        report = verify(reader, Bus(FakeReader(broker), admin, names, mock=True), settled=None)
    assert report.trees == 2
    return report.findings


def test_operations_do_what_their_events_tell(migrated_url: str) -> None:
    assert verified(migrated_url) == ()


@pytest.mark.parametrize("fault", FAULTS, ids=[f"{fault.guarantee}: {fault.name}" for fault in FAULTS])
def test_a_planted_fault_is_found_by_verify(migrated_url: str, fault: Fault) -> None:
    with session(migrated_url) as admin:
        put_instead(admin, fault.function, fault.text, fault.instead)
    (found,) = verified(migrated_url)
    assert found.check == RULE
    assert re.match(f"tree [0-9a-f-]+: {fault.told}", found.first), found.first
