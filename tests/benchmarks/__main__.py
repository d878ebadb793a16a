"""`make bench-relay`: the relay beside its limits and its peers, in one run, one at a time.

Progress goes to standard error, the page to standard output and, with --write, to
docs/benchmarks.md; every run of it, also those that were dropped, to results.json.
"""

import argparse
import dataclasses
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from infra.local import jars
from iu_core.errors import IUError
from tests.benchmarks import machine, report
from tests.benchmarks.plan import PARTS, Plan
from tests.benchmarks.progress import say
from tests.benchmarks.results import FOREIGN_CORES_MAX, Results
from tests.benchmarks.running import Bench
from tests.benchmarks.world import World, running

PAGE: Final = Path("docs/benchmarks.md")


def main(words: Sequence[str] | None = None) -> int:
    """Run what the command line asks for and return the exit code."""
    plan = _plan(words)
    # SIGTERM unwinds as Ctrl-C does, so that children and servers are ended by their blocks.
    signal.signal(signal.SIGTERM, _leave)
    minutes = plan.estimate_s() / 60
    say(f"about {minutes:.0f} minutes on two quiet cores; Ctrl-C ends it and stops every server")
    try:
        with running(peers=plan.peers, major=plan.postgres) as world:
            results, whole = Results([], [], []), False
            try:
                Bench(world, plan, results).run()
                whole = True
            finally:
                # What was measured until an interruption is shown, but never written over the page.
                if results.runs:
                    _publish(world, plan, results, write=plan.write and whole)
    except IUError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _plan(words: Sequence[str] | None) -> Plan:
    parser = argparse.ArgumentParser(prog="make bench-relay", description=__doc__)
    add = parser.add_argument
    add("--peers", action="store_true", help="Debezium on Kafka Connect too")
    add("--parts", default=None, help=f"comma-separated: {', '.join(PARTS)}")
    add("--runs", type=int, default=5)
    add("--rows", type=int, default=200_000)
    add("--large-rows", type=int, default=1_000_000)
    add(
        "--large-runs",
        type=int,
        default=None,
        help="also of each case of growth; 0: no large backlog; default as --runs, without peers 0",
    )
    add("--seconds", type=float, default=None, help="length of a window of the open loop")
    add("--rate", type=int, default=1_000, help="events a second of the open loop")
    add("--systems", default="", help="comma-separated parts of names; default: all")
    add("--transaction-rows", type=int, default=100, help="rows the filling transactions of a backlog hold")
    add("--postgres", type=int, default=None, help="major version; default: the first found")
    add("--out", type=Path, default=Path("build/benchmarks"))
    add("--write", action="store_true", help=f"write the page to {PAGE}")
    given = parser.parse_args(words)
    asked = given.parts.split(",") if given.parts else PARTS if given.peers else ("drain", "open-loop")
    if unknown := set(asked) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    return Plan(
        peers=given.peers,
        parts=frozenset(part for part in PARTS if part in asked),
        runs=given.runs,
        rows=given.rows,
        large_rows=given.large_rows,
        large_runs=given.large_runs if given.large_runs is not None else given.runs if given.peers else 0,
        seconds=given.seconds or (15.0 if given.peers else 2.5),
        rate=given.rate,
        systems=tuple(word for word in given.systems.split(",") if word),
        transaction_rows=given.transaction_rows,
        out=given.out,
        write=given.write,
        postgres=given.postgres,
    )


def _publish(world: World, plan: Plan, results: Results, *, write: bool) -> None:
    """Show what there is, keep it in the build directory, and write the page if asked to."""
    dropped = sum(not one.quiet for one in results.runs)
    head = [
        "Written by `make bench-relay`; every figure is the median over the runs, with their range.",
        f"{machine.in_words()}; {world.postgres.installation}; Apache Kafka {jars.kafka_version()} on Java "
        f"{world.java.version}. One subject at a time, rounds A B C, A B C. Backlogs were committed "
        f"{plan.transaction_rows} rows a transaction.",
        f"{dropped} of {len(results.runs)} runs were dropped because processes outside of the bench used "
        f"more than {FOREIGN_CORES_MAX} of a core meanwhile; where all were, all are shown.",
    ]
    text = report.page(results, head)
    plan.out.mkdir(parents=True, exist_ok=True)
    document = {
        "plan": dataclasses.asdict(plan),
        "machine": machine.in_words(),
        **dataclasses.asdict(results),
    }
    (plan.out / "results.json").write_text(json.dumps(document, indent=1, default=_plain))
    (plan.out / "benchmarks.md").write_text(text)
    if write:
        PAGE.write_text(text)
    sys.stdout.write(text)


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else str(value)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
