"""Which rows of the outbox are new: the difference of two snapshots of PostgreSQL.

Identity values are handed out before commit, so "id > last" skips rows that commit late. A
snapshot says exactly which transactions are over: those below `xmax` that are not in `xip`.
Take S1, everything published so far was visible in it, and a later S2. A row is new exactly
if its transaction was not over in S1 and is over in S2:

    (xid >= S1.xmax  or  xid in S1.xip)  and  S2 sees xid

The new rows are published ordered by id, in chunks. While that goes on the *window* (S1, S2)
is open and `last_id` says how far it is; a crash resumes in the same window. When it is
through, S2 becomes the next S1.

Why that keeps the order within a tree: a tree's writers hold its head row until they commit,
so of two of its rows the one with the smaller id commits first. Both in one window: ordered by
id. In two windows: the first committed was in the earlier one. Never cut a window by xid: the
order of xids is the order in which transactions began to write, not the order of the lock.

A crash of the database takes numbers back. A transaction that rolled back, or committed nothing,
waits for no write to disk; after a crash its xid may be given out again, to one that commits rows. So
a snapshot is believed only up to the newest xid that is on disk for certain, that of a row we see
(`as_of`). What lies above stays "to come", and loses nothing: no row of it is visible.

Nothing here reads a clock or a database. xids are 64-bit (xid8): they do not wrap around.
Source: design/20, "Reading"; PostgreSQL manual, 9.27 "Transaction ID and Snapshot Information".
"""

import re
from dataclasses import dataclass, replace
from typing import Final

_TEXT: Final = re.compile(r"([0-9]+):([0-9]+):((?:[0-9]+(?:,[0-9]+)*)?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A `pg_snapshot`: over is every xid < `xmin`, open are those in `xip`, future those >= `xmax`."""

    xmin: int
    xmax: int
    xip: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> "Snapshot":
        """Return the snapshot written as `xmin:xmax:xip,xip…`; raises `ValueError` on anything else."""
        if (parts := _TEXT.fullmatch(text)) is None:
            raise ValueError(f"not a pg_snapshot: {text!r}")
        xip = tuple(int(xid) for xid in parts[3].split(",") if xid)
        snapshot = cls(int(parts[1]), int(parts[2]), xip)
        inside = all(snapshot.xmin <= xid < snapshot.xmax for xid in xip)
        if not (0 < snapshot.xmin <= snapshot.xmax and inside and list(xip) == sorted(set(xip))):
            raise ValueError(f"a pg_snapshot that contradicts itself: {text!r}")
        return snapshot

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, self.xip))}"

    def sees(self, xid: int) -> bool:
        """Return whether transaction `xid` was over (committed or rolled back)."""
        return xid < self.xmax and xid not in self.xip

    def as_of(self, xid: int) -> "Snapshot":
        """Return the snapshot in which every transaction after `xid` is still to come."""
        xmax = min(self.xmax, xid + 1)
        return Snapshot(
            min(self.xmin, xmax), xmax, tuple(open_xid for open_xid in self.xip if open_xid < xmax)
        )


BEGINNING: Final = Snapshot(1, 1, ())
"""Before the first transaction: sees nothing."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far the outbox is published.

    `settled` is S1. `window` is S2 while a window is open, else None. Of the open window the
    rows with id <= `last_id` are published. Rows with id <= `floor_id` were settled by id when
    a restored database was rebased; their xids mean nothing.
    """

    settled: Snapshot = BEGINNING
    window: Snapshot | None = None
    last_id: int = 0
    floor_id: int = 0

    @property
    def ids_above(self) -> int:
        """The id that every row still to be published in this window exceeds."""
        return max(self.last_id, self.floor_id)

    def opened(self, now: Snapshot) -> "Position":
        """Open the window up to `now`. Raises `ValueError` if one is open or time ran backwards."""
        if self.window is not None:
            raise ValueError("a window is open already")
        if now.xmax < self.settled.xmax or now.xmin < self.settled.xmin:
            raise ValueError(f"snapshot {now} is older than {self.settled}")
        return replace(self, window=now, last_id=0)

    def advanced(self, last_id: int) -> "Position":
        """Note that the open window is published up to row `last_id`."""
        if self.window is None or last_id <= self.ids_above:
            raise ValueError(f"cannot advance from {self.last_id} to {last_id}")
        return replace(self, last_id=last_id)

    def closed(self) -> "Position":
        """Close the window: all of it is published."""
        if self.window is None:
            raise ValueError("no window is open")
        return replace(self, settled=self.window, window=None, last_id=0)

    def awaits(self, xid: int, row_id: int) -> bool:
        """Return whether the row is still to be published in the open window.

        The SQL of `producers.relay.outbox` says the same; this is what it is tested against.
        """
        if self.window is None:
            return False
        return row_id > self.ids_above and not self.settled.sees(xid) and self.window.sees(xid)
