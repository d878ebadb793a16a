"""A database whose old events may all go, until a test makes one of the conditions fail.

The relay's cursors are played: `Yard.bound` is what they would say. Decisions are written into
the ledger as a worker's would stand there.
"""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

from psycopg import sql

from consumers.verify.trees import fold_tree
from iu_core.database import Role
from tests.integration.sql.sessions import Editor, Session, open_gate, session

PRUNE = "SELECT * FROM fn_iu_outbox_prune(%s, %s, %s, %s, %s, %s, %s)"
JUDGE = "SELECT id, held_by FROM fn_iu_outbox_judge(%s, %s, %s, %s, %s, %s, %s)"
DECIDE = """
    INSERT INTO iu_route_attempt (route_code, lane, event_ref, decision, final, topic, partition, "offset",
                                  owner_epoch)
    SELECT event_type, %(lane)s, event_ref, %(decision)s, %(final)s, 't', 0, id, 1
      FROM event_outbox WHERE event_ref = ANY (%(refs)s)
"""


class Row(NamedTuple):
    """What a test looks at of a row of the outbox."""

    id: int
    event_ref: uuid.UUID
    tree_id: uuid.UUID
    version: int


class Batch(NamedTuple):
    """What one call of fn_iu_outbox_prune returns."""

    examined: int
    pruned: int
    last_id: int | None


@dataclass
class Bound:
    """The arguments of a prune that a test may change; by default nothing holds anything."""

    before: str | None
    newest: list[int | None] | None = field(default_factory=list)
    blocked: list[uuid.UUID | None] | None = field(default_factory=list)
    older_than: timedelta | None = timedelta(0)


class Yard:
    """Trees of units with decided events; `owner` may prune, `admin` is a superuser."""

    def __init__(self, url: str, admin: Session, owner: Session, editor: Editor) -> None:
        self.url, self.admin, self.owner, self.editor = url, admin, owner, editor

    def tree(self, events: int, *, decided: bool = True, baseline: bool = True) -> list[Row]:
        """Make a tree of `events` units, and so many events, through with everything."""
        root = self.editor.add(None)
        for _ in range(events - 1):
            self.editor.add(root)
        rows = [row for row in self.rows() if row.tree_id == root]
        if decided:
            self.decide(row.event_ref for row in rows)
        if baseline:
            assert self.take_baseline(root)
        return rows

    def rows(self) -> list[Row]:
        """Return what the outbox holds, by id."""
        found = self.admin.execute(
            "SELECT id, event_ref, aggregate_id, aggregate_version FROM event_outbox ORDER BY id"
        )
        return [Row(*row) for row in found]

    def decide(
        self, refs: Any, decision: str = "sent", *, lane: str = "live", final: bool | None = None
    ) -> None:
        """Write a decision of the route of their type on these events."""
        settled = decision in ("sent", "refused") if final is None else final
        bound = {"refs": list(refs), "decision": decision, "lane": lane, "final": settled}
        self.admin.execute(DECIDE, bound)

    def take_baseline(self, tree_id: uuid.UUID) -> bool:
        """Take a baseline of the tree, as the command does."""
        version, digest = fold_tree(self.admin, tree_id)
        row = self.owner.execute(
            "SELECT fn_iu_tree_baseline_take(%s, %s, %s, 'ada', 'a test')", (tree_id, version, digest)
        ).fetchone()
        return row == (True,)

    def bound(self) -> Bound:
        """Return the bound of a relay that is through with everything."""
        return Bound(str(self.value("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")))

    def prune(
        self,
        bound: Bound | None = None,
        *,
        after_id: int | None = 0,
        window: int | None = 1000,
        limit: int | None = 1000,
        by: Session | None = None,
    ) -> Batch:
        """Prune once."""
        it = bound or self.bound()
        arguments = (it.before, it.newest, it.blocked, it.older_than, after_id, window, limit)
        row = (by or self.owner).execute(PRUNE, arguments).fetchone()
        assert row is not None
        return Batch(*row)

    def judged(self, bound: Bound | None = None, *, with_baselines: bool = False) -> dict[int, str | None]:
        """Return why each row stays, None for one that may go."""
        it = bound or self.bound()
        arguments = (it.before, it.newest, it.blocked, it.older_than, with_baselines, 0, None)
        return dict(self.owner.execute(JUDGE, arguments).fetchall())

    def stubs(self) -> list[tuple[uuid.UUID, int]]:
        """Return (tree, version) of every stub."""
        return self.admin.execute(
            "SELECT aggregate_id, aggregate_version FROM event_outbox_stub ORDER BY 1, 2"
        ).fetchall()

    def value(self, query: str, *arguments: object) -> Any:
        """Return the one value of a query."""
        row = self.admin.execute(query.encode(), arguments).fetchone()
        assert row is not None
        return row[0]

    def behind_guards(self, statement: str, arguments: Sequence[object] = ()) -> None:
        """Run a statement as a superuser with the triggers off."""
        for table in ("event_outbox", "iu_tree_baseline", "iu_route_attempt"):
            self.admin.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER ALL").format(sql.Identifier(table)))
        assert self.admin.execute(statement.encode(), arguments).rowcount > 0
        for table in ("event_outbox", "iu_tree_baseline", "iu_route_attempt"):
            self.admin.execute(sql.SQL("ALTER TABLE {} ENABLE TRIGGER ALL").format(sql.Identifier(table)))


@contextmanager
def made_yard(url: str) -> Iterator[Yard]:
    """Yield a yard on a migrated database."""
    open_gate(url)
    editor = Editor(url)
    with session(url) as admin, session(url, Role.OWNER) as owner, editor.session:
        yield Yard(url, admin, owner, editor)
