"""Drain one backlog by every subject in turn, again and again: A B C, A B C, never A A B B C C.

So a machine that grows slower in the course of the run does so for everybody.
"""

from collections.abc import Sequence

from tests.benchmarks.progress import say
from tests.benchmarks.results import Absent, Results
from tests.benchmarks.systems.subject import Backlog, Subject


def drain(results: Results, part: str, backlog: Backlog, subjects: Sequence[Subject], runs: int) -> None:
    """Add `runs` runs of each subject to `results`."""
    present = []
    for subject in subjects:
        if (reason := subject.missing()) is None:
            present.append(subject)
        else:
            results.absent.append(Absent(part, subject.name, reason))
            say(f"{part}: {subject.name} left out: {reason}")
    for number in range(1, runs + 1):
        for subject in present:
            run = subject.drain(backlog, part)
            results.runs.append(run)
            foreign = f" ({run.foreign_cores:.2f} foreign cores)" if not run.quiet else ""
            faults = f" FAULTS: {', '.join(run.faults)}" if run.faults else ""
            rate = f"{run.figures['rows_per_s']:,.0f} rows/s"
            say(f"{part}: {number}/{runs} {subject.name}: {rate}{foreign}{faults}")
