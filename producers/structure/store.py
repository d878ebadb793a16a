"""Run structure operations on PostgreSQL, as role `iu_editor`.

Every operation is one call of its SQL function: gate, lock of the tree's head row, checks,
writes, event, all in the caller's transaction. A preview is the real call, rolled back, so it
meets every refusal that the operation would meet and can promise nothing that it would not do.
It leaves no row; it does take the tree's lock for a moment and burns identity values.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from iu_core.database import Connection, translate
from iu_core.errors import Terminal
from producers.structure.operations import (
    AddNewPiece,
    DeprecatePiece,
    Enacted,
    Merge,
    Operation,
    Piece,
    Reparent,
    Replace,
    Split,
)


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit as it stands; `depth` is 0 at the root of what was asked for."""

    unit_id: UUID
    iu_code: str
    parent_id: UUID | None
    ordinal: int
    lifecycle: str
    depth: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What an operation would do: the tree as living units in reading order, before and after."""

    enacted: Enacted
    before: tuple[Unit, ...]
    after: tuple[Unit, ...]


class PgStructureStore:
    """Runs operations over one connection, which must be in autocommit mode."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def unit_id(self, code_or_id: str) -> UUID:
        """Return the id of the unit called `code_or_id` (an iu_code or an id). Raises `Terminal`."""
        try:
            column, key = "id", str(UUID(code_or_id))
        except ValueError:
            column, key = "iu_code", code_or_id
        query = sql.SQL("SELECT id FROM public.information_unit WHERE {} = %s").format(sql.Identifier(column))
        with translated():
            row = self._connection.execute(query, (key,)).fetchone()
        if row is None:
            raise Terminal(
                f"there is no unit {code_or_id!r}",
                why="neither an iu_code nor an id of information_unit",
                remedy="check the spelling; codes are case-sensitive",
                code="IU001",
            )
        found: UUID = row[0]
        return found

    def run(
        self,
        operations: Iterable[Operation],
        *,
        actor: str,
        reason: str,
        progress: Callable[[Enacted], None] = lambda _: None,
    ) -> tuple[Enacted, ...]:
        """Run `operations` in order in one transaction; `progress` hears of each before the commit.

        All or nothing. Raises `Refused` behind a closed gate, `Terminal` with the IU code of the
        check that said no, `Retryable` if the database is away or the transaction lost a race.
        """
        done: list[Enacted] = []
        with translated(), self._connection.transaction():
            for operation in operations:
                done.append(self._call(operation, actor, reason))
                progress(done[-1])
        return tuple(done)

    def run_one(self, operation: Operation, *, actor: str, reason: str) -> Enacted:
        """Run one operation in a transaction of its own; raises as `run`."""
        (enacted,) = self.run((operation,), actor=actor, reason=reason)
        return enacted

    def preview(self, operation: Operation, *, actor: str, reason: str) -> Preview:
        """Run `operation`, look at the tree, roll back; raises as `run`."""
        with translated(), self._connection.transaction(force_rollback=True):
            anchor = _anchor(operation)
            before = () if anchor is None else self._living(self._tree_of(anchor))
            enacted = self._call(operation, actor, reason)
            return Preview(enacted, before, self._living(enacted.tree_id))

    def _call(self, operation: Operation, actor: str, reason: str) -> Enacted:
        function, arguments = _call_of(operation)
        places = ", ".join(["%s"] * (len(arguments) + 2))
        row = self._connection.execute(
            # `function` is one of six names below, never input.
            f"SELECT operation_id, event_ref, tree_id, aggregate_version, unit_ids"  # noqa: S608
            f" FROM public.fn_iu_structure_op_{function}({places})",
            (*arguments, actor, reason),
        ).fetchone()
        if row is None:
            raise Terminal(f"fn_iu_structure_op_{function} returned no row")
        return Enacted(row[0], row[1], row[2], row[3], tuple(row[4]))

    def _tree_of(self, unit_id: UUID) -> UUID:
        row = self._connection.execute(
            "SELECT tree_id FROM public.information_unit WHERE id = %s", (unit_id,)
        ).fetchone()
        if row is None:
            raise Terminal(f"there is no unit {unit_id}", code="IU001")
        tree_id: UUID = row[0]
        return tree_id

    def _living(self, tree_id: UUID) -> tuple[Unit, ...]:
        rows = self._connection.execute(
            """WITH RECURSIVE walk AS (
                 SELECT id, iu_code, parent_id, ordinal, lifecycle, 0 AS depth, ARRAY[0] AS place
                   FROM public.information_unit WHERE id = %s
                 UNION ALL
                 SELECT u.id, u.iu_code, u.parent_id, u.ordinal, u.lifecycle,
                        w.depth + 1, w.place || u.ordinal
                   FROM public.information_unit AS u JOIN walk AS w ON u.parent_id = w.id
                  WHERE u.lifecycle <> 'deprecated')
               SELECT id, iu_code, parent_id, ordinal, lifecycle, depth FROM walk ORDER BY place""",
            (tree_id,),
        ).fetchall()
        return tuple(Unit(*row) for row in rows)


@contextmanager
def translated() -> Iterator[None]:
    """Raise errors of psycopg as ours."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error) from error


def _anchor(operation: Operation) -> UUID | None:
    """Return a unit that stands in the operation's tree already, None when it starts a tree."""
    match operation:
        case AddNewPiece():
            return operation.parent_id
        case Merge():
            return operation.unit_ids[0]
        case Reparent() | DeprecatePiece() | Split() | Replace():
            return operation.unit_id


def _call_of(operation: Operation) -> tuple[str, Sequence[Any]]:
    """Return the name of the SQL function behind `fn_iu_structure_op_` and its arguments."""
    match operation:
        case Reparent(unit_id, new_parent_id, ordinal):
            return "reparent", (unit_id, new_parent_id, ordinal)
        case AddNewPiece(piece, parent_id, ordinal, doc_code, lifecycle, supersedes):
            place = (piece.unit_id, parent_id, ordinal, piece.iu_code, doc_code, piece.content)
            return "add_new_piece", (*place, lifecycle, list(supersedes))
        case DeprecatePiece(unit_id):
            return "deprecate_piece", (unit_id,)
        case Split(unit_id, pieces, children_to):
            return "split", (unit_id, Jsonb([_json(piece) for piece in pieces]), children_to)
        case Merge(unit_ids, piece):
            return "merge", (list(unit_ids), Jsonb(_json(piece)))
        case Replace(unit_id, piece):
            return "replace", (unit_id, Jsonb(_json(piece)))


def _json(piece: Piece) -> dict[str, str]:
    named = {"iu_code": piece.iu_code, "content": piece.content}
    return named if piece.unit_id is None else named | {"unit_id": str(piece.unit_id)}
