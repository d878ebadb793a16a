"""What a bench is asked to do, and how long that will take."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Part = Literal["drain", "open-loop", "growth"]
PARTS: Final[tuple[Part, ...]] = ("drain", "open-loop", "growth")

# Seconds a run takes beside what is measured: start, check, connector, catching up.
_DRAIN_EXTRA_S: Final = 3.0
_WINDOW_EXTRA_S: Final = 4.0
_SERVERS_S: Final = 25.0
_PEERS_S: Final = 60.0
_FILL_ROWS_PER_S: Final = 20_000
# Rows a second of a middling subject on two quiet cores.
_DRAIN_ROWS_PER_S: Final = 50_000


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
        filled, total = 0, _SERVERS_S + (_PEERS_S if self.peers else 0)
        if "drain" in self.parts:
            filled += self.rows
            # Most limits take a part of the rows; Debezium is two subjects.
            total += self.runs * self._drains_s(self.rows, 6 if self.peers else 4)
            if self.large_runs:
                filled += self.large_rows
                total += self.large_runs * self._drains_s(self.large_rows, 4 if self.peers else 2)
        if "open-loop" in self.parts:
            windows = 6 if self.peers else 4
            total += self.runs * windows * (self.seconds + _WINDOW_EXTRA_S)
        if "growth" in self.parts:
            rows = self.growth_rows
            # The base twice (shards), ten times the rows, of the trees, of the bytes.
            filled += 23 * rows
            total += max(1, self.large_runs) * (self._drains_s(23 * rows, 1) + 4 * _DRAIN_EXTRA_S)
        return total + filled / _FILL_ROWS_PER_S

    @staticmethod
    def _drains_s(rows: int, subjects: int) -> float:
        return subjects * (rows / _DRAIN_ROWS_PER_S + _DRAIN_EXTRA_S)
