"""Compare `information_unit` with baseline and events, tree by tree (guarantee G8).

Folding begins as early as it can: at the oldest baseline from which on the outbox has every event.
Each later baseline is passed on the way and must be what was folded, so a baseline that was taken
to prune events is held to the events that are still there.

Three sorted streams run side by side, so no more than one tree is in memory at a time.
"""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import psycopg

from consumers.verify.fold import (
    FoldedUnit,
    Tree,
    Unfoldable,
    apply,
    digest_of,
    first_difference,
    tree_of,
)
from consumers.verify.report import Finding
from iu_core.database import Connection, translate
from iu_core.errors import Terminal

RULE: Final = "baseline and events give the tree that stands"
_ROWS_AT_ONCE: Final = 2_000

_BASELINES: Final = """
    SELECT tree_id::text, version, units FROM public.iu_tree_baseline
     WHERE %(tree_id)s::uuid IS NULL OR tree_id = %(tree_id)s ORDER BY tree_id, version
"""
_EVENTS: Final = """
    SELECT aggregate_id::text, aggregate_version, event_type, payload
      FROM public.event_outbox
     WHERE %(tree_id)s::uuid IS NULL OR aggregate_id = %(tree_id)s
     ORDER BY aggregate_id, incarnation, aggregate_version
"""
# The digest is taken anew: a text changed behind the back of its digest must show.
_UNITS: Final = """
    SELECT u.tree_id::text, u.id::text, u.parent_id::text, u.ordinal, u.iu_code, u.lifecycle,
           encode(sha256(convert_to(u.content, 'UTF8')), 'hex'), t.version
      FROM public.information_unit AS u LEFT JOIN public.iu_tree AS t USING (tree_id) ORDER BY u.tree_id
"""


@dataclass(frozen=True, slots=True)
class TreesCompared:
    """How much was compared, and the difference found, if any."""

    trees: int
    units: int
    finding: Finding | None


def compare_trees(connection: Connection) -> TreesCompared:
    """Fold every tree and compare it with what stands; `connection` must be inside a transaction."""
    trees = units = differing = 0
    first: str | None = None
    with ExitStack() as opened:
        baselines, events, stands = (
            _Grouped(opened.enter_context(_streamed(connection, name, query)))
            for name, query in (("baselines", _BASELINES), ("events", _EVENTS), ("units", _UNITS))
        )
        while tree_id := min((s.tree_id for s in (baselines, events, stands) if s.tree_id), default=None):
            standing = stands.take(tree_id)
            difference = _difference(baselines.take(tree_id), events.take(tree_id), standing)
            trees, units = trees + 1, units + len(standing)
            if difference is not None:
                differing += 1
                first = first or f"tree {tree_id}: {difference}"
    return TreesCompared(trees, units, None if first is None else Finding(RULE, differing, first))


def fold_tree(connection: Connection, tree_id: UUID) -> tuple[int, bytes]:
    """Return the version and the baseline digest of a tree as its baseline and events give it.

    Raises `Terminal` if they do not fold, `Retryable` if the database is away.
    """
    wanted = {"tree_id": tree_id}
    try:
        # One snapshot for both: a prune between the two would leave a hole.
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            baselines = connection.execute(_BASELINES, wanted).fetchall()
            events = connection.execute(_EVENTS, wanted).fetchall()
    except psycopg.Error as error:
        raise translate(error) from error
    try:
        folded, version = _folded(baselines, events)
    except Unfoldable as error:
        raise Terminal(
            f"tree {tree_id} cannot be folded from its baseline and events",
            why=str(error),
            remedy="iu verify",
        ) from error
    return version, digest_of(folded)


def _difference(baselines: list[Any], events: list[Any], standing: list[Any]) -> str | None:
    try:
        folded, version = _folded(baselines, events)
    except Unfoldable as error:
        return str(error)
    head = standing[0][7] if standing else None
    if head is not None and head != version:
        return f"its head row says version {head}, the events end at {version}"
    return first_difference(folded, {row[1]: FoldedUnit(*row[1:7]) for row in standing})


def _folded(baselines: list[Any], events: list[Any]) -> tuple[Tree, int]:
    """Return the tree that all `events` give, and its version. Raises `Unfoldable`."""
    folded, version = _beginning(baselines, events)
    later = {at: units for _, at, units in baselines if at > version}
    for _, aggregate_version, event_type, payload in events:
        if aggregate_version <= version:
            continue
        if aggregate_version != version + 1:
            raise Unfoldable(f"version {aggregate_version} follows version {version}")
        try:
            apply(folded, event_type, payload)
        except Unfoldable as error:
            raise Unfoldable(f"version {aggregate_version} ({event_type}): {error}") from error
        version = aggregate_version
        if version in later and (difference := first_difference(folded, tree_of(later.pop(version)))):
            raise Unfoldable(f"its baseline of version {version}: {difference}")
    if later:
        raise Unfoldable(f"it has a baseline of version {max(later)}, the events end at {version}")
    return folded, version


def _beginning(baselines: list[Any], events: list[Any]) -> tuple[Tree, int]:
    """Return where folding begins: the oldest baseline that lacks no event, or before the first event."""
    if not events:
        usable = baselines[-1:]
    else:
        first = events[0][1]
        usable = [baseline for baseline in baselines if baseline[1] >= first - 1]
        if first == 1 and usable and usable[0][1] > 0:
            usable = []
    return (tree_of(usable[0][2]), usable[0][1]) if usable else ({}, 0)


def _streamed(connection: Connection, name: str, query: str) -> psycopg.ServerCursor[tuple[Any, ...]]:
    cursor = connection.cursor(f"verify_{name}")
    cursor.itersize = _ROWS_AT_ONCE
    cursor.execute(query.encode(), {"tree_id": None})
    return cursor


class _Grouped:
    """Rows of a query sorted by their first column, a tree, handed out tree by tree."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self._groups: Iterator[tuple[str, Iterator[Any]]] = itertools.groupby(rows, key=lambda row: row[0])
        self.tree_id: str | None = None
        self._advance()

    def _advance(self) -> None:
        found = next(self._groups, None)
        self.tree_id, self._rows = (None, iter(())) if found is None else found

    def take(self, tree_id: str) -> list[Any]:
        """Return the rows of `tree_id` and go on to the next tree; nothing if the next is another."""
        if self.tree_id != tree_id:
            return []
        rows = list(self._rows)
        self._advance()
        return rows
