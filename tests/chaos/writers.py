"""Writers that make life hard for an outbox relay, through real structure operations.

Each writer loops over transactions in one of these manners, chosen by a seeded generator:

  early xid    takes its xid, lets others pass, then writes: small xid, large ids
  late commit  writes, lets others pass, then commits: its ids turn up behind larger ones
  savepoints   writes, rolls back to a savepoint, writes again
  rolled back  writes and rolls the whole of it back: ids are burnt
  batch        many operations in one transaction
  two trees    operations on two trees in one transaction, locked in order of id

The database decides how they interleave; what is committed is counted by the caller.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

import psycopg

from iu_core.database import Verdict, classify
from iu_core.errors import Retryable
from tests.integration.sql.sessions import Editor

PAUSE_MAX_S = 0.02
RECONNECT_S = 0.1
BATCH_MAX = 12


@dataclass(frozen=True)
class Tree:
    """A root with containers below it and leaves that move between them."""

    root: UUID
    containers: tuple[UUID, ...]
    leaves: tuple[UUID, ...]


def plant(url: str, trees: int) -> list[Tree]:
    """Make trees of a root, three containers and four leaves; 8 events each, one transaction a tree."""
    editor, made = Editor(url, name="planter"), []
    for _ in range(trees):
        with editor.session.transaction():
            root = editor.add(None)
            containers = tuple(editor.add(root) for _ in range(3))
            leaves = tuple(editor.add(containers[0]) for _ in range(4))
        made.append(Tree(root, containers, leaves))
    editor.session.close()
    return sorted(made, key=lambda tree: tree.root)


@dataclass
class Writers:
    """`count` threads over `trees` until `stop`; `committed` counts events whose commit returned.

    A writer whose session breaks connects again; `broken` counts those, and for each of them one
    transaction may be committed that nobody has counted.

    After each transaction a writer rests for up to `rest_max_s`: eight restless ones make 1,200
    events a second and leave the relays no processor to be killed on.
    """

    url: str
    trees: list[Tree]
    count: int = 8
    seed: int = 1
    rest_max_s: float = 0.1
    committed: int = 0
    retried: int = 0
    broken: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _count_lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)
    _faults: list[BaseException] = field(default_factory=list)

    def start(self) -> "Writers":
        """Start every writer."""
        for number in range(self.count):
            thread = threading.Thread(target=self._guarded, args=(number,), name=f"writer-{number}")
            self._threads.append(thread)
            thread.start()
        return self

    def stop(self) -> None:
        """Let every writer finish its transaction; raise what one of them met."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        for fault in self._faults:
            raise fault

    def _guarded(self, number: int) -> None:
        try:
            _Writer(self, number).run(self._stop)
        except BaseException as fault:
            self._faults.append(fault)

    def note(self, events: int) -> None:
        """Count the events of a transaction that is committed."""
        with self._count_lock:
            self.committed += events


class _Writer:
    def __init__(self, writers: Writers, number: int) -> None:
        self._writers = writers
        self._chance = random.Random(1_000 * writers.seed + number)
        self._name = f"writer-{number}"
        self._editor = Editor(writers.url, name=self._name)
        self._manners: list[Callable[[], int]] = [
            self._early_xid,
            self._late_commit,
            self._savepoints,
            self._batch,
            self._batch,
            self._two_trees,
        ]

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            rolls_back = self._chance.random() < 0.12
            try:
                with self._editor.session.transaction(force_rollback=rolls_back):
                    events = self._chance.choice(self._manners)()
            except psycopg.Error as error:
                # What writers may do to each other: deadlock over a savepoint's lock.
                if classify(error) is not Verdict.RETRY:
                    raise
                if self._editor.session.closed:
                    self._writers.broken += 1
                    self._connect_again(stop)
                else:
                    self._writers.retried += 1
                continue
            self._writers.note(0 if rolls_back else events)
            stop.wait(self._chance.random() * self._writers.rest_max_s)
        self._editor.session.close()

    def _connect_again(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._editor = Editor(self._writers.url, name=self._name)
            except Retryable:
                stop.wait(RECONNECT_S)
            else:
                return

    def _early_xid(self) -> int:
        self._editor.session.execute("SELECT pg_current_xact_id()")
        self._pause()
        return self._change(self._tree(), self._chance.randint(1, 3))

    def _late_commit(self) -> int:
        events = self._change(self._tree(), self._chance.randint(1, 3))
        self._pause()
        return events

    def _savepoints(self) -> int:
        tree = self._tree()
        events = self._change(tree, 1)
        with self._editor.session.transaction(force_rollback=True):
            self._change(tree, self._chance.randint(1, 2))
        with self._editor.session.transaction():
            return events + self._change(tree, 1)

    def _batch(self) -> int:
        return self._change(self._tree(), self._chance.randint(4, BATCH_MAX))

    def _two_trees(self) -> int:
        first, second = sorted(self._chance.sample(self._writers.trees, 2), key=lambda tree: tree.root)
        events = self._change(first, 2)
        self._pause()
        return events + self._change(second, 2)

    def _change(self, tree: Tree, operations: int) -> int:
        for _ in range(operations):
            if self._chance.random() < 0.93:
                target = self._chance.choice((tree.root, *tree.containers))
                self._editor.reparent(self._chance.choice(tree.leaves), target)
            else:
                self._editor.add(self._chance.choice(tree.containers))
        return operations

    def _tree(self) -> Tree:
        return self._chance.choice(self._writers.trees)

    def _pause(self) -> None:
        time.sleep(self._chance.random() * PAUSE_MAX_S)
