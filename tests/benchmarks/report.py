"""The results as a page: one table a part, every figure as median and range."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.benchmarks.goals import Goal, judged
from tests.benchmarks.results import Results, Spread


@dataclass(frozen=True, slots=True)
class Column:
    """A figure and how it is shown."""

    figure: str
    title: str
    digits: int = 0


DRAIN: Final = (
    Column("rows_per_s", "rows/s"),
    Column("rows_per_s_with_start", "rows/s, start included"),
    Column("own_cpu_s_per_million", "own CPU-s per million", 1),
    Column("all_cpu_s_per_million", "all CPU-s per million", 1),
    Column("own_rss_mb", "own memory, MB"),
)
OPEN_LOOP: Final = (
    Column("visible_p50_ms", "commit → visible p50, ms", 1),
    Column("visible_p99_ms", "p99", 1),
    Column("visible_max_ms", "max", 1),
    Column("plain_p50_ms", "uncorrected p50, ms", 1),
    Column("plain_p99_ms", "p99", 1),
    Column("own_cpu_s_per_100k", "own CPU-s per 100k", 1),
    Column("all_cpu_s_per_100k", "all CPU-s per 100k", 1),
    Column("own_rss_mb", "own memory, MB"),
    Column("commit_p50_ms", "writers' commit p50, ms", 2),
    Column("commit_p99_ms", "p99", 1),
    Column("events_per_s", "events/s"),
    Column("lock_waits", "lock waits"),
    Column("dead_tuples", "dead tuples"),
    Column("wal_mb_per_million", "WAL, MB per million"),
)
GROWTH: Final = (*DRAIN, Column("wal_mb_per_million", "WAL of writing, MB per million"))
COLUMNS: Final[dict[str, Sequence[Column]]] = {"drain": DRAIN, "growth": GROWTH, "open loop": OPEN_LOOP}


def page(results: Results, head: Sequence[str]) -> str:
    """Return the whole page in Markdown; `head` is what goes before the tables."""
    parts = list(dict.fromkeys(run.part for run in results.runs))
    sections = ["# Benchmarks", *head]
    sections += [section for part in parts for section in _section(results, part)]
    goals = judged(results)
    if goals:
        sections += ["## Goals", _goals(goals)]
    if results.notes or results.absent:
        absent = [f"{one.part}: {one.subject} was not measured: {one.reason}." for one in results.absent]
        sections += ["## Notes", "\n".join(f"- {note}" for note in [*results.notes, *absent])]
    return "\n\n".join(sections) + "\n"


def _section(results: Results, part: str) -> Iterable[str]:
    columns = [
        column
        for column in COLUMNS[part.split(":")[0]]
        if any(column.figure in run.figures for run in results.runs if run.part == part)
    ]
    yield f"## {part[0].upper()}{part[1:]}"
    lines = [
        "| | " + " | ".join(column.title for column in columns) + " | runs | faults |",
        "|---|" + "---|" * (len(columns) + 2),
    ]
    for subject in results.subjects(part):
        runs = results.of(part, subject)
        quiet = sum(run.quiet for run in runs)
        cells = [_cell(results.spread(part, subject, column.figure), column.digits) for column in columns]
        count = f"{quiet or len(runs)}" + (
            f" (+{len(runs) - quiet} dropped)" if 0 < quiet < len(runs) else ""
        )
        noisy = "" if quiet else ", none of them quiet"
        faults = "; ".join(dict.fromkeys(fault for run in runs for fault in run.faults)) or "none"
        lines.append(f"| {subject} | " + " | ".join(cells) + f" | {count}{noisy} | {faults} |")
    yield "\n".join(lines)


def _cell(found: Spread | None, digits: int) -> str:
    if found is None:
        return "–"
    if found.runs == 1:
        return f"{found.median:,.{digits}f}"
    return f"{found.median:,.{digits}f} ({found.low:,.{digits}f}–{found.high:,.{digits}f})"


def _goals(goals: Sequence[Goal]) -> str:
    lines = ["| goal | asked | measured | holds |", "|---|---|---|---|"]
    lines += [f"| {goal.what} | {goal.asked} | {goal.measured} | {goal.verdict} |" for goal in goals]
    return "\n".join(lines)
