"""Compare `information_unit` with baseline and events, tree by tree (guarantee G8).

Three sorted streams run side by side, so no more than one tree is in memory at a time.
"""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from consumers.verify.fold import FoldedUnit, Tree, Unfoldable, apply, first_difference, tree_of
from consumers.verify.report import Finding
from iu_core.database import Connection

RULE: Final = "baseline and events give the tree that stands"
_ROWS_AT_ONCE: Final = 2_000

# The newest baseline: what lies before it is not folded.
_BASELINES: Final = """
    SELECT DISTINCT ON (tree_id) tree_id::text, version, units
      FROM public.iu_tree_baseline ORDER BY tree_id, version DESC
"""
_EVENTS: Final = """
    SELECT aggregate_id::text, aggregate_version, event_type, payload
      FROM public.event_outbox ORDER BY aggregate_id, incarnation, aggregate_version
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


def _difference(baseline: list[Any], events: list[Any], standing: list[Any]) -> str | None:
    folded: Tree = tree_of(baseline[0][2]) if baseline else {}
    version = baseline[0][1] if baseline else 0
    for _, aggregate_version, event_type, payload in events:
        if baseline and aggregate_version <= baseline[0][1]:
            continue
        if aggregate_version != version + 1:
            return f"version {aggregate_version} follows version {version}"
        try:
            apply(folded, event_type, payload)
        except Unfoldable as error:
            return f"version {aggregate_version} ({event_type}): {error}"
        version = aggregate_version
    head = standing[0][7] if standing else None
    if head is not None and head != version:
        return f"its head row says version {head}, the events end at {version}"
    return first_difference(folded, {row[1]: FoldedUnit(*row[1:7]) for row in standing})


def _streamed(connection: Connection, name: str, query: str) -> psycopg.ServerCursor[tuple[Any, ...]]:
    cursor = connection.cursor(f"verify_{name}")
    cursor.itersize = _ROWS_AT_ONCE
    cursor.execute(query.encode())
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
