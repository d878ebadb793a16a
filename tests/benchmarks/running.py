"""One invocation from its first fill to its last run."""

from collections.abc import Sequence

from tests.benchmarks.drains import drain
from tests.benchmarks.loads import Load, fill
from tests.benchmarks.plan import Plan
from tests.benchmarks.results import Results
from tests.benchmarks.systems.limits import NAMES, Limit
from tests.benchmarks.systems.relay import Relay
from tests.benchmarks.systems.subject import Backlog, Subject
from tests.benchmarks.world import World

WARM_UP_ROWS = 20_000
# The large backlog is for what could be slower in the long run, not for every limit again.
_LARGE_LIMITS = ("read", "batched")


def run(world: World, plan: Plan, results: Results) -> None:
    """Run the parts of `plan`, adding to `results` as they come."""
    _warm_up(world, plan)
    if "drain" in plan.parts:
        _drain(world, plan, results, plan.rows, plan.runs, tuple(NAMES))
        if plan.large_runs:
            results.notes.append(
                f"{plan.large_rows:,} rows were drained {plan.large_runs} times only, because of the time."
            )
            _drain(world, plan, results, plan.large_rows, plan.large_runs, _LARGE_LIMITS)


def _subjects(world: World, plan: Plan, limits: Sequence[str]) -> list[Subject]:
    subjects: list[Subject] = [*(Limit(world, kind) for kind in limits), Relay(world)]
    return [subject for subject in subjects if plan.wants(subject.name)]


def _warm_up(world: World, plan: Plan) -> None:
    """One drain of each subject that nobody looks at: caches, and the broker's compiler."""
    load = Load("warm-up", min(WARM_UP_ROWS, plan.rows), transaction_rows=plan.transaction_rows)
    backlog = _backlog(world, load)
    drain(Results([], [], []), "warm-up", backlog, _subjects(world, plan, ("librdkafka",)), 1)


def _drain(world: World, plan: Plan, results: Results, rows: int, runs: int, limits: Sequence[str]) -> None:
    load = Load(f"{rows:,} rows", rows, transaction_rows=plan.transaction_rows)
    backlog = _backlog(world, load)
    part = f"drain: {rows:,} rows, {load.trees} trees, {load.datum_bytes} bytes"
    drain(results, part, backlog, _subjects(world, plan, limits), runs)


def _backlog(world: World, load: Load) -> Backlog:
    url = world.make_database()
    fill(url, load)
    return Backlog(url, load)
