"""Values: what one run measured, and what several runs say together."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

# A run during which other processes of the machine used more than this is left out.
FOREIGN_CORES_MAX: Final = 0.25


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one subject. `figures`: name → value in the unit that the name ends with.

    `foreign_cores`: CPU that processes outside of the bench used meanwhile, in cores.
    `faults`: what the subject did wrong, such as a record that came twice.
    """

    part: str
    subject: str
    figures: Mapping[str, float]
    foreign_cores: float
    faults: tuple[str, ...] = ()

    @property
    def quiet(self) -> bool:
        """Whether the machine was ours."""
        return self.foreign_cores <= FOREIGN_CORES_MAX


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, smallest and largest of `runs` values; `noisy`: none of the runs was quiet."""

    median: float
    low: float
    high: float
    runs: int
    noisy: bool


@dataclass(frozen=True, slots=True)
class Absent:
    """A subject that could not be measured, and why."""

    part: str
    subject: str
    reason: str


@dataclass(slots=True)
class Results:
    """Everything one invocation measured, in the order of measuring."""

    runs: list[Run]
    absent: list[Absent]
    notes: list[str]

    def of(self, part: str, subject: str) -> list[Run]:
        """Return the runs of one subject in one part."""
        return [run for run in self.runs if run.part == part and run.subject == subject]

    def subjects(self, part: str) -> list[str]:
        """Return the subjects of a part in the order of their first run."""
        return list(dict.fromkeys(run.subject for run in self.runs if run.part == part))

    def spread(self, part: str, subject: str, figure: str) -> Spread | None:
        """Return what the runs of one subject say of one figure, None if they do not have it."""
        return spread(self.of(part, subject), figure)


def spread(runs: Iterable[Run], figure: str) -> Spread | None:
    """Return median and range over the quiet runs, over all of them if none was quiet."""
    having = [run for run in runs if figure in run.figures]
    if not having:
        return None
    quiet = [run for run in having if run.quiet]
    values = [run.figures[figure] for run in (quiet or having)]
    return Spread(statistics.median(values), min(values), max(values), len(values), not quiet)


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value at `share` (0 to 1) of an ascending sequence, by nearest rank."""
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]
