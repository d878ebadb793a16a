"""Let a blocked tree go on: publish what waits of it, in the relay's place.

    maintained ─► open producer ─► find cursor ─► letters to the table ─► audit row
      └─► ┌ rows of the tree from the blocked version on ─► frame ─► one Kafka transaction: ┐
          └ events + the letter's resolution + further letters + the cursor ◄───────────────┘

Only rows that the relay's position has passed are taken; what is committed later follows, because
the relay starts again from the very cursor that is written here. The position does not move.

A long queue takes several transactions. After each the cursor says from which version on the tree
still waits, so a run that was killed is resumed by the same command. A resumed run finds no open
letter at that version: then nothing is tried again or left out, the rest is published.

    --retry  the row is published; refused, with nothing changed, while it is still bad
    --skip   the row is left out for good, and its letter is `discarded`
    a further bad row blocks the tree again from there, with a letter of its own; where the policy
    of its event type is `skip` it is left out, and publishing goes on
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol
from uuid import UUID

from iu_core.bus.names import BusNames
from iu_core.bus.ports import Outgoing, Record, RecordSection
from iu_core.errors import Misconfigured, Terminal
from producers.relay import cursor as cursors
from producers.relay import dead_letters
from producers.relay.cursor import Cursor, Layout
from producers.relay.dead_letters import DeadLetter, Outcome, Resolution
from producers.relay.framing import Framed
from producers.relay.outbox import OutboxRow
from producers.relay.waiting import WaitingRows

# Rows of one transaction: a waiting queue has no haste, and the shard's other trees wait for it.
ROWS_MAX: Final = 2_000


class How(StrEnum):
    """What to do with the row that blocks the tree."""

    RETRY = "retry"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Event:
    """A waiting row."""

    version: int
    event_ref: UUID
    event_type: str
    outbox_id: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A waiting row that is not published, and why; `by_policy` if nobody asked for it."""

    event: Event
    reason: str
    detail: str
    by_policy: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """How to unblock, who says so (a login), and why."""

    how: How
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """One Kafka transaction: what it publishes and the cursor that is committed with it.

    `blocked_again` is the row that ends the work before everything is published.
    """

    records: Sequence[Outgoing | RecordSection]
    cursor: Cursor
    published: Sequence[Event]
    left_out: Sequence[LeftOut]
    blocked_again: LeftOut | None = None


class Frames(Protocol):
    """The part of `framing.Framer` that is needed here; its policy must never be `halt`."""

    def frame(self, rows: Sequence[OutboxRow], before: Cursor) -> Framed:
        """Frame `rows` in order; `before` is the cursor of everything published before them."""


class Unblocking:
    """What has to be published for one tree, transaction by transaction. Pure but for `waiting`.

    `has_letter(event_ref, incarnation)` says whether an open dead letter of that event is known.
    """

    def __init__(
        self,
        *,
        tree: UUID,
        decision: Decision,
        waiting: WaitingRows,
        framer: Frames,
        has_letter: Callable[[UUID, int], bool],
        names: BusNames,
        now: Callable[[], datetime],
        rows_max: int = ROWS_MAX,
    ) -> None:
        self._tree = tree
        self._decision = decision
        self._waiting = waiting
        self._framer = framer
        self._has_letter = has_letter
        self._names = names
        self._now = now
        self._rows_max = rows_max

    def batches(self, cursor: Cursor) -> Iterator[Batch]:
        """Yield the transactions in order; each is framed for the moment the one before is committed.

        Raises `Terminal` if the tree is not blocked, or the row that blocks it is still bad on
        `How.RETRY`; `Misconfigured` if its row is not where the cursor says.
        """
        if (from_version := cursor.blocked.get(self._tree)) is None:
            raise not_blocked(self._tree)
        first: int | None = from_version
        following = from_version
        while True:
            rows = self._waiting.rows(self._tree, following, cursor.position, self._rows_max)
            if not rows or (first is not None and rows[0].tree_version != first):
                raise self._row_missing(following, rows)
            _, after = self._waiting.count(self._tree, rows[-1].tree_version + 1, cursor.position)
            batch = self._batch(cursor, rows, after, is_first=first is not None)
            yield batch
            if batch.blocked_again is not None or after is None:
                return
            cursor, following, first = batch.cursor, after, None

    def _batch(
        self, before: Cursor, rows: Sequence[OutboxRow], following: int | None, *, is_first: bool
    ) -> Batch:
        layout, head = before.layout, rows[0]
        others = {tree: version for tree, version in before.blocked.items() if tree != self._tree}
        free = replace(before, blocked=others)
        left_out: list[LeftOut] = []
        resolved: list[Outgoing] = []
        if is_first and self._has_letter(UUID(bytes=head.event_ref), head.incarnation):
            resolved.append(self._resolution(head, layout))
            match self._decision.how:
                case How.RETRY:
                    self._refuse_if_bad(head, free)
                case How.SKIP:
                    rows = rows[1:]
                    left_out.append(LeftOut(event_of(head), "discarded", self._decision.reason, False))
        framed = self._framer.frame(rows, free)
        if framed.halt is not None:
            raise ValueError("no row may halt an unblocking")
        until = framed.blocked.get(self._tree)
        dead = {letter.event_ref: letter for letter in _as_read(framed.letters)}
        blocked = dict(framed.blocked)
        if until is None and following is not None:
            blocked[self._tree] = following
        cursor = before.after(
            digests=framed.digests,
            highest=framed.highest,
            blocked=blocked,
            position=before.position,
            origin=before.origin,
            at=self._now(),
        )
        published, again = [], None
        for row in rows:
            letter = dead.get(UUID(bytes=row.event_ref))
            if letter is None and (until is None or row.tree_version < until):
                published.append(event_of(row))
            elif letter is not None and row.tree_version == until:
                again = LeftOut(event_of(row), letter.reason, letter.detail, False)
            elif letter is not None:
                left_out.append(LeftOut(event_of(row), letter.reason, letter.detail, True))
        note = Outgoing(self._names.cursor, layout.shard, cursors.key(layout), cursors.encode(cursor))
        return Batch([*framed.sections, *resolved, *framed.letters, note], cursor, published, left_out, again)

    def _resolution(self, row: OutboxRow, layout: Layout) -> Outgoing:
        match self._decision.how:
            case How.RETRY:
                outcome = Outcome.PUBLISHED
            case How.SKIP:
                outcome = Outcome.DISCARDED
        ended = Resolution(
            event_ref=UUID(bytes=row.event_ref),
            tree_id=self._tree,
            incarnation=row.incarnation,
            outcome=outcome,
            by=self._decision.by,
            reason=self._decision.reason,
        )
        partition = layout.partition_of(row.bucket)
        return dead_letters.resolution_record(ended, self._names.relay_dead_letters, partition)

    def _refuse_if_bad(self, row: OutboxRow, free: Cursor) -> None:
        for letter in _as_read(self._framer.frame([row], free).letters):
            raise Terminal(
                f"outbox row {row.id} still cannot be published: {letter.detail}",
                why=f"{letter.reason}: event {letter.event_ref}, {letter.event_type} version "
                f"{letter.schema_version}, version {letter.aggregate_version} of tree {self._tree}; "
                "nothing was changed",
                remedy="install the release that has its contract and try again, or leave the event out "
                f'for good: iu relay unblock {self._tree} --skip --reason "..."',
            )

    def _row_missing(self, due: int, rows: Sequence[OutboxRow]) -> Misconfigured:
        there = f"the first there is version {rows[0].tree_version}" if rows else "there is none"
        return Misconfigured(
            f"the outbox does not hold version {due} of tree {self._tree}, which the cursor says waits",
            why=f"of that tree, from that version on, and passed by the relay, {there}",
            remedy="the database was restored, or rows were removed by hand: compare first: iu verify",
        )


def not_blocked(tree: UUID) -> Terminal:
    """Return the error that says that there is nothing to do for `tree`."""
    return Terminal(
        f"tree {tree} is not blocked",
        why="no cursor of the relay names it",
        remedy="see those that are: iu relay blocked",
    )


def event_of(row: OutboxRow) -> Event:
    """Return what a person wants to know of a row."""
    return Event(row.tree_version, UUID(bytes=row.event_ref), row.event_type, row.id)


def _as_read(letters: Sequence[Outgoing]) -> list[DeadLetter]:
    return dead_letters.assemble(
        Record(each.topic, each.partition, offset, 0, each.key, each.value, each.headers)
        for offset, each in enumerate(letters)
    )
