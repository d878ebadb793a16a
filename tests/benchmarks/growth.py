"""What happens to a drain of this relay when one thing grows and the others stay.

Cases: ten times the rows, the trees, the bytes; four shards instead of one, in one process.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.benchmarks.loads import Load
from tests.benchmarks.progress import say
from tests.benchmarks.results import Absent, Results
from tests.benchmarks.systems.relay import Relay
from tests.benchmarks.systems.subject import Backlog
from tests.benchmarks.world import World


@dataclass(frozen=True, slots=True)
class Case:
    """One load drained over `shards`."""

    name: str
    load: Load
    shards: int = 1


def cases(base: Load) -> list[Case]:
    """Return the base case and what grows from it."""
    return [
        Case(f"base: {base.name}, 1 shard", base),
        Case("rows × 10", replace(base, rows=10 * base.rows)),
        Case("trees × 10", replace(base, trees=10 * base.trees)),
        Case("bytes × 10", replace(base, datum_bytes=10 * base.datum_bytes)),
        Case("shards × 4", base, shards=4),
    ]


def grow(world: World, results: Results, base: Load, backlog: Callable[[Load], Backlog], runs: int) -> None:
    """Add `runs` drains of each case to `results`; `backlog` fills an outbox, or has it already."""
    part = "growth: one thing at a time"
    filled: list[tuple[Case, Relay, Backlog]] = []
    for case in cases(base):
        relay = Relay(world, shards=case.shards)
        if (reason := relay.missing()) is not None:
            results.absent.append(Absent(part, case.name, reason))
        else:
            filled.append((case, relay, backlog(case.load)))
    for number in range(1, runs + 1):
        for case, relay, outbox in filled:
            run = relay.drain(outbox, part)
            figures = {**run.figures, "wal_mb_per_million": outbox.wal_bytes / case.load.rows}
            results.runs.append(replace(run, subject=case.name, figures=figures))
            say(f"{part}: {number}/{runs} {case.name}: {run.figures['rows_per_s']:,.0f} rows/s")
