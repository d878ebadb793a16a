"""Bounded sessions in a role, trees to work on, and waiting for a lock instead of for a while."""

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb

from iu_core.database import Role, connect
from iu_core.settings import DatabaseSettings

DEADLINE_S = 10  # when a test gives up, not a measure of speed

Session = psycopg.Connection[tuple[Any, ...]]


def session(url: str, role: Role | None = None, *, name: str = "test") -> Session:
    """Open a session in autocommit mode; no statement and no idling can hang a test."""
    bounds = DatabaseSettings(
        statement_timeout_ms=DEADLINE_S * 1000, idle_in_transaction_timeout_ms=DEADLINE_S * 1000
    )
    return connect(url, role, settings=bounds, application_name=name)


def open_gate(url: str) -> None:
    """Let structure operations run."""
    with session(url, Role.GATEKEEPER) as keeper:
        keeper.execute("SELECT fn_iu_config_set('iu_core.structure_op_enabled', 'true', 'a test')")


def await_blocked(observer: Session, waiter: Session, *, by: Session) -> None:
    """Return once `waiter` waits for a lock that `by` holds or asked for earlier."""
    give_up_at = time.monotonic() + DEADLINE_S
    pids = (by.info.backend_pid, waiter.info.backend_pid)
    while observer.execute("SELECT %s = ANY (pg_blocking_pids(%s))", pids).fetchone() != (True,):
        assert time.monotonic() < give_up_at, f"{waiter.info.backend_pid} never waited"


@dataclass
class Said:
    """What a refusal said; filled in when the block of `refused` has ended."""

    message: str = ""
    detail: str = ""
    hint: str = ""


@contextmanager
def refused(sqlstate: str, case: str = "") -> Iterator[Said]:
    """Expect an error of this SQLSTATE that says what is wrong and what to do next."""
    said = Said()
    with pytest.raises(psycopg.Error) as caught:
        yield said
    words = caught.value.diag
    assert caught.value.sqlstate == sqlstate, f"{case}: {caught.value}"
    assert words.message_primary, case
    assert words.message_hint, f"{case}: what to do next is not said"
    said.message, said.detail = words.message_primary, words.message_detail or ""
    said.hint = words.message_hint


class Done(NamedTuple):
    """A row of an operation."""

    operation_id: uuid.UUID
    event_ref: uuid.UUID
    tree_id: uuid.UUID
    aggregate_version: int
    unit_ids: list[uuid.UUID]


class Editor:
    """The six operations over one session in role iu_editor; codes and reasons are filled in."""

    def __init__(self, url: str, *, name: str = "editor") -> None:
        self.session = session(url, Role.EDITOR, name=name)

    def call(self, function: str, *arguments: object) -> Done:
        """Call one operation with `arguments` as they are."""
        places = ", ".join(["%s"] * len(arguments))
        row = self.session.execute(
            f"SELECT * FROM fn_iu_structure_op_{function}({places})",  # noqa: S608
            arguments,
        ).fetchone()
        assert row is not None
        return Done(*row)

    def add(
        self,
        parent: uuid.UUID | None,
        code: str | None = None,
        *,
        ordinal: int | None = None,
        lifecycle: str | None = "enacted",
        content: str = "text",
        supersedes: Sequence[uuid.UUID] = (),
        unit_id: uuid.UUID | None = None,
    ) -> uuid.UUID:
        """Add a unit and return its id."""
        place = (unit_id, parent, ordinal, code or fresh_code(), None, content, lifecycle, list(supersedes))
        return self.call("add_new_piece", *place, "ada", "a test").unit_ids[0]

    def reparent(self, unit: uuid.UUID, parent: uuid.UUID | None, ordinal: int | None = None) -> Done:
        """Move a unit."""
        return self.call("reparent", unit, parent, ordinal, "ada", "a test")

    def deprecate(self, unit: uuid.UUID) -> Done:
        """Take a unit out of use."""
        return self.call("deprecate_piece", unit, "ada", "a test")

    def split(self, unit: uuid.UUID, pieces: object, children_to: int | None = None) -> Done:
        """Split a unit."""
        return self.call("split", unit, Jsonb(pieces), children_to, "ada", "a test")

    def merge(self, units: Sequence[uuid.UUID | None], piece: object | None = None) -> Done:
        """Merge units."""
        return self.call("merge", list(units), Jsonb(piece or fresh_piece()), "ada", "a test")

    def replace(self, unit: uuid.UUID, piece: object | None = None) -> Done:
        """Replace a unit."""
        return self.call("replace", unit, Jsonb(piece or fresh_piece()), "ada", "a test")

    def children(self, parent: uuid.UUID) -> list[tuple[uuid.UUID, int, str]]:
        """Return (id, ordinal, lifecycle) of the children, in order."""
        return self.session.execute(
            "SELECT id, ordinal, lifecycle FROM information_unit WHERE parent_id = %s ORDER BY ordinal",
            (parent,),
        ).fetchall()


def fresh_code() -> str:
    """Return a code that nobody has."""
    return f"t.{uuid.uuid4().hex}"


def fresh_piece(**keys: object) -> dict[str, object]:
    """Return a piece with a code that nobody has."""
    return {"iu_code": fresh_code(), "content": "piece"} | keys


def event_of(reader: Session, event_ref: uuid.UUID) -> Any:
    """Return the outbox row as a named tuple."""
    with reader.cursor(row_factory=namedtuple_row) as cursor:
        return cursor.execute("SELECT * FROM event_outbox WHERE event_ref = %s", (event_ref,)).fetchone()
