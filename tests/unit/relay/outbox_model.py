"""A model of PostgreSQL's transactions over an outbox, and the relay's port onto it.

It has what matters: transactions take an xid at their first write, an id per row, and commit
later or never; the writers of one tree hold its head until they end.
"""

import copy
import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from producers.relay.cursor import Origin
from producers.relay.outbox import Extent, Identity, OutboxRow, Pending, Plan
from producers.relay.snapshot import BEGINNING, Position, Snapshot

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
# As PostgreSQL sends it: microseconds since 2000-01-01, eight bytes.
EPOCH_US = (9_497 * 86_400 * 1_000_000).to_bytes(8, "big")


@dataclass
class Transaction:
    xid: int
    rows: list["Row"] = field(default_factory=list)
    trees: set[int] = field(default_factory=set)
    rows_left: int = 0
    commits: bool = True


@dataclass(frozen=True)
class Row:
    id: int
    xid: int
    tree: int
    version: int
    life: int = 0


class Database:
    """Transactions step at random; `visible` and `snapshot` are what PostgreSQL would answer."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._next_xid, self._next_id = 100, 1
        self.open: list[Transaction] = []
        self.visible: list[Row] = []
        self.versions = dict.fromkeys(range(4), 0)
        self.locked: set[int] = set()
        self.life = 0

    def backup(self, seed: int) -> "Database":
        """Return what a restore brings back: ids and xids are given out again, to other rows."""
        copied = copy.deepcopy(self)
        copied._random = random.Random(seed)
        copied.life += 1
        return copied

    @property
    def last_id(self) -> int:
        """The last id that was taken, as the sequence says."""
        return self._next_id - 1

    def snapshot(self) -> Snapshot:
        xip = tuple(sorted(transaction.xid for transaction in self.open))
        return Snapshot(min(xip, default=self._next_xid), self._next_xid, xip)

    def step(self) -> None:
        """Begin (sometimes with an early xid, long before the first row), write, or end one."""
        choice = self._random.random()
        if choice < 0.35 and len(self.open) < 6:
            began = Transaction(self._next_xid, rows_left=self._random.randint(0, 4))
            began.commits = self._random.random() < 0.8
            self._next_xid += 1
            self.open.append(began)
        elif self.open:
            chosen = self._random.choice(self.open)
            if chosen.rows_left and choice < 0.85:
                self._write(chosen)
            else:
                self._end(chosen)

    def finish(self) -> None:
        while self.open:
            self._end(self.open[0])

    def crash(self) -> None:
        """Lose what is not on disk: open transactions, and every xid after the last that committed rows."""
        self.open.clear()
        self.locked.clear()
        self._next_xid = max((row.xid for row in self.visible), default=99) + 1

    def _write(self, writer: Transaction) -> None:
        free = [tree for tree in self.versions if tree not in self.locked or tree in writer.trees]
        if not free:
            return
        tree = self._random.choice(free)
        self.locked.add(tree)
        writer.trees.add(tree)
        version = self.versions[tree] + sum(row.tree == tree for row in writer.rows) + 1
        writer.rows.append(Row(self._next_id, writer.xid, tree, version, self.life))
        writer.rows_left -= 1
        self._next_id += self._random.randint(1, 2)  # another transaction's rollback burnt one

    def _end(self, ending: Transaction) -> None:
        self.open.remove(ending)
        self.locked -= ending.trees
        if ending.commits:
            self.visible += ending.rows
            for row in ending.rows:
                self.versions[row.tree] = row.version


def tree_id(tree: int) -> UUID:
    return UUID(int=tree)


def event_ref(row: Row) -> UUID:
    return UUID(int=10**6 * (1 + row.life) + row.id)


def envelope(ref: UUID, tree: UUID, rest: bytes = b"") -> bytes:
    """Return a datum that begins as every contract does: event_ref, occurred_at, tree_id."""
    return ref.bytes + b"\x80\x80\xb0\xa8\xe3\x8a\xc6\x06" + tree.bytes + rest


def outbox_row(row: Row, event_type: str = "structure_reparented") -> OutboxRow:
    """Return the row as the relay reads it; its datum says tree and version."""
    ref, tree = event_ref(row), tree_id(row.tree)
    datum = envelope(ref, tree, b"%d:%d" % (row.tree, row.version))
    return OutboxRow(
        id=row.id,
        event_ref=ref.bytes,
        ref_text=str(ref).encode(),
        event_type=event_type,
        schema_version=1,
        tree_text=str(tree).encode(),
        tree_version=row.version,
        incarnation=1,
        bucket=row.tree,
        datum=datum,
        payload_digest=hashlib.sha256(datum).digest(),
        traceparent=None,
        occurred_at=EPOCH_US,
    )


class ModelOutbox:
    """`OutboxReader` on a `Database`. `bad_ids` are rows of an event type nobody released."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.bad_ids: set[int] = set()
        self.plans: list[Plan] = []

    def identity(self) -> Identity:
        return Identity(Origin("7", 1, "0/10", 5, 6), self.database.last_id, self.database.snapshot())

    def event_ref_of(self, row_id: int) -> UUID | None:
        return next((event_ref(row) for row in self.database.visible if row.id == row_id), None)

    def snapshot(self, settled: Snapshot = BEGINNING) -> tuple[Snapshot, str]:
        newest = max((row.xid for row in self.database.visible), default=0)
        return self.database.snapshot().as_of(max(newest, settled.xmax - 1)), "0/10"

    def rows(self, position: Position, plan: Plan, rows_max: int) -> Sequence[OutboxRow]:
        self.plans.append(plan)
        return [
            outbox_row(row, "unheard_of" if row.id in self.bad_ids else "structure_reparented")
            for row in self._awaited(position)[:rows_max]
        ]

    def extent(self, position: Position) -> Extent:
        ids = [row.id for row in self._awaited(position)]
        return Extent(len(ids), min(ids, default=0), max(ids, default=0))

    def pending(self, position: Position | None) -> Pending:
        raise NotImplementedError("asked by `iu relay status` only, never by the relay")

    def close(self) -> None:
        pass

    def _awaited(self, position: Position) -> list[Row]:
        awaited = [row for row in self.database.visible if position.awaits(row.xid, row.id)]
        return sorted(awaited, key=lambda row: row.id)
