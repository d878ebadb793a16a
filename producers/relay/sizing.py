"""How many rows a transaction takes, steered by how long it should last.

A reader of `read_committed` sees an event when its transaction ends. So a transaction must be
short for latency, and long for throughput, because beginning and committing one costs the same
whatever is in it. While the relay keeps up, the window decides: it holds what was committed since
the last one. While there is a backlog, this does: as many rows as were published in `target_s`
before. Pure; time is an argument.
"""

from typing import Final

ROWS_FIRST: Final = 2_000
ROWS_MIN: Final = 100
# One slow transaction (a flush to disk, a rebalanced broker) must not send the size to the floor.
_STEP: Final = 2


class TransactionSizer:
    """`rows` is the size of the next transaction; `note` what the last one took."""

    def __init__(self, *, target_s: float, rows_max: int) -> None:
        self._target_s = target_s
        self._rows_max = rows_max
        self.rows = min(ROWS_FIRST, rows_max)

    def note(self, rows: int, took_s: float) -> None:
        """Take a full transaction of `rows` rows into account; from the end of the one before to its own."""
        fitting = int(rows * self._target_s / max(took_s, 1e-6))
        bounded = min(max(fitting, self.rows // _STEP), self.rows * _STEP)
        self.rows = min(max(bounded, min(ROWS_MIN, self._rows_max)), self._rows_max)
