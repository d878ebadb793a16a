"""What a bench is asked to do, and how long that will take."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Part = Literal["drain", "open-loop", "growth"]
PARTS: Final[tuple[Part, ...]] = ("drain", "open-loop", "growth")

# Seconds a run takes beside what is measured: start, check, connector, catching up.
_DRAIN_EXTRA_S: Final = 4.0
_WINDOW_EXTRA_S: Final = 5.0
_SERVERS_S: Final = 30.0
_PEERS_S: Final = 60.0
_FILL_ROWS_PER_S: Final = 20_000
# Rows a second that every subject surely reaches on two quiet cores.
_DRAIN_ROWS_PER_S: Final = 35_000


@dataclass(frozen=True, slots=True)
class Plan:
    """`rows` and `large_rows` are the backlogs drained `runs` and `large_runs` times (0: not at all).

    `seconds` is the length of one window of the open loop. `systems`: words of which a subject's
    name must contain one; empty: all.
    """

    peers: bool
    parts: frozenset[Part]
    runs: int
    rows: int
    large_rows: int
    large_runs: int
    seconds: float
    rate: int
    systems: tuple[str, ...]
    transaction_rows: int
    out: Path
    write: bool
    postgres: int | None

    def wants(self, name: str) -> bool:
        """Return whether the subject of this name is to be measured."""
        return not self.systems or any(word.lower() in name.lower() for word in self.systems)

    @property
    def growth_rows(self) -> int:
        """Rows of the base case of the growth; the large one has ten times as many."""
        return max(1_000, self.rows // 2)

    def estimate_s(self) -> float:
        """Return about how long it takes on two quiet cores, in seconds."""
        total = _SERVERS_S + (_PEERS_S if self.peers else 0)
        if "drain" in self.parts:
            total += self.rows / _FILL_ROWS_PER_S + self.runs * self._round_s(
                self.rows, 7 if self.peers else 5
            )
            if self.large_runs:
                total += self.large_rows / _FILL_ROWS_PER_S
                total += self.large_runs * self._round_s(self.large_rows, 5 if self.peers else 3)
        if "open-loop" in self.parts:
            windows = 6 if self.peers else 4
            total += self.runs * windows * (self.seconds + _WINDOW_EXTRA_S)
        if "growth" in self.parts:
            rows = self.growth_rows
            total += 13 * rows / _FILL_ROWS_PER_S + self.large_runs * (
                self._round_s(rows, 13) + _DRAIN_EXTRA_S
            )
        return total

    @staticmethod
    def _round_s(rows: int, subjects: int) -> float:
        return subjects * (rows / _DRAIN_ROWS_PER_S + _DRAIN_EXTRA_S)
