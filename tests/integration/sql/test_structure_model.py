"""Random operations on the database and on a model of it agree, refusals included.

Planted faults it has found: an ancestor check of one level, a shift that moves the whole rest of
the siblings, children moved without regard to the order of the sources. It runs one session, so
it proves nothing about locks: those are in test_structure_races.py.
"""

import contextlib
import copy
from collections.abc import Callable
from uuid import UUID, uuid4

import psycopg
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from psycopg.types.json import Jsonb

from iu_core.database import Role
from tests.integration.sql.model import Model, Refusal, Unit
from tests.integration.sql.sessions import Editor, Session, fresh_code, fresh_piece, open_gate, session

which = st.integers(min_value=0, max_value=10_000)
ordinals = st.none() | st.integers(min_value=-1, max_value=4)
lifecycles = st.sampled_from(["draft", "enacted"])


class Trees(RuleBasedStateMachine):
    """Two trees, one of them loaded with a frozen unit; every step is done twice and compared."""

    editor: Editor
    owner: Session
    reader: Session

    @initialize()
    def plant(self) -> None:
        self.model = Model()
        root, child, frozen, below = (uuid4() for _ in range(4))
        self.model.units = {
            root: Unit(root, None, 0, "enacted"),
            child: Unit(root, root, 3, "draft"),
            frozen: Unit(root, child, 0, "enacted", frozen=True),
            below: Unit(root, frozen, 0, "enacted"),
        }
        loaded = [
            {
                "id": str(unit),
                "iu_code": fresh_code(),
                "parent_id": said.parent and str(said.parent),
                "ordinal": said.ordinal,
                "content": "",
                "lifecycle": said.lifecycle,
                "frozen": said.frozen,
            }
            for unit, said in self.model.units.items()
        ]
        self.owner.execute("SELECT fn_iu_tree_baseline_load(%s, 'ada', 'a test')", (Jsonb(loaded),))
        self.baseline = copy.deepcopy(self.model)
        other = self.editor.add(None)
        self.model.units[other] = Unit(other, None, 0, "enacted")
        self.trees = [root, other]

    def unit(self, index: int) -> UUID:
        """Return one of the units, old ones as likely as new; now and then one that is unknown."""
        known = [*self.model.units, UUID(int=0)]
        return known[index % len(known)]

    def twice(self, in_model: Callable[[], None], in_database: Callable[[], object]) -> None:
        """Run a step on both sides; they must agree on whether it may be, and if not, on why."""
        before = copy.deepcopy(self.model)
        expected = actual = None
        try:
            in_model()
        except Refusal as refusal:
            expected = str(refusal)
            self.model = before
        try:
            in_database()
        except psycopg.Error as error:
            actual = error.sqlstate
        assert actual == expected

    @rule(parent=which, ordinal=ordinals, lifecycle=lifecycles)
    def add(self, parent: int, ordinal: int | None, lifecycle: str) -> None:
        new, under = uuid4(), self.unit(parent)
        self.twice(
            lambda: self.model.add(new, under, ordinal, lifecycle),
            lambda: self.editor.add(under, ordinal=ordinal, lifecycle=lifecycle, unit_id=new),
        )

    @rule(moved=which, parent=which, ordinal=ordinals)
    def reparent(self, moved: int, parent: int, ordinal: int | None) -> None:
        unit, under = self.unit(moved), self.unit(parent)
        self.twice(
            lambda: self.model.reparent(unit, under, ordinal),
            lambda: self.editor.reparent(unit, under, ordinal),
        )

    @rule(ended=which)
    def deprecate(self, ended: int) -> None:
        unit = self.unit(ended)
        self.twice(lambda: self.model.deprecate(unit), lambda: self.editor.deprecate(unit))

    @rule(cut=which, count=st.integers(2, 3), children_to=st.none() | st.integers(-1, 3))
    def split(self, cut: int, count: int, children_to: int | None) -> None:
        unit, new = self.unit(cut), [uuid4() for _ in range(count)]
        self.twice(
            lambda: self.model.split(unit, new, children_to),
            lambda: self.editor.split(unit, [fresh_piece(unit_id=str(piece)) for piece in new], children_to),
        )

    @rule(joined=st.lists(which, min_size=1, max_size=3))
    def merge(self, joined: list[int]) -> None:
        units, new = [self.unit(index) for index in joined], uuid4()
        self.twice(
            lambda: self.model.merge(units, new),
            lambda: self.editor.merge(units, fresh_piece(unit_id=str(new))),
        )

    @rule(ended=which)
    def replace(self, ended: int) -> None:
        unit, new = self.unit(ended), uuid4()
        self.twice(
            lambda: self.model.replace(unit, new),
            lambda: self.editor.replace(unit, fresh_piece(unit_id=str(new))),
        )

    @invariant()
    def database_and_model_are_alike(self) -> None:
        if not hasattr(self, "trees"):
            return
        rows = self.reader.execute(
            "SELECT id, tree_id, parent_id, ordinal, lifecycle, frozen FROM information_unit"
            " WHERE tree_id = ANY (%s)",
            (self.trees,),
        ).fetchall()
        assert {row[0]: Unit(*row[1:]) for row in rows} == self.model.units

    def teardown(self) -> None:
        """Baseline and events, and nothing else, give the tree that stands (G8)."""
        if not hasattr(self, "trees"):
            return
        for tree in self.trees:
            rows = self.reader.execute(
                "SELECT event_type, payload, aggregate_version FROM event_outbox"
                " WHERE aggregate_id = %s ORDER BY aggregate_version",
                (tree,),
            ).fetchall()
            assert [row[2] for row in rows] == list(range(1, len(rows) + 1))
            for kind, payload, _ in rows:
                self.baseline.fold(kind, payload)
        assert self.baseline.units == self.model.units


def test_random_operations_do_what_the_model_does(migrated_url: str) -> None:
    open_gate(migrated_url)
    Trees.editor = Editor(migrated_url)
    Trees.owner = session(migrated_url, Role.OWNER)
    Trees.reader = session(migrated_url, Role.READER)
    with contextlib.ExitStack() as sessions:
        for opened in (Trees.editor.session, Trees.owner, Trees.reader):
            sessions.enter_context(opened)
        run_state_machine_as_test(
            Trees,
            settings=settings(
                max_examples=80,
                stateful_step_count=40,
                deadline=None,
                database=None,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            ),
        )
