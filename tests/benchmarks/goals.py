"""What was set as a goal, and whether the medians of this run reach it."""

from dataclasses import dataclass
from typing import Final

from tests.benchmarks.open_loop import AFTER, BEFORE, WITH_OPEN
from tests.benchmarks.results import Results, Spread, spread
from tests.benchmarks.systems import limits, relay

_BESIDE_DEBEZIUM: Final = {
    "visible_p50_ms": 0.7,
    "visible_p99_ms": 0.7,
    "own_cpu_s_per_100k": 0.6,
    "all_cpu_s_per_100k": 0.8,
    "own_rss_mb": 0.1,
}
_WRITERS_SLOWER_MAX: Final = 1.05
_HELD_SLOWER_MAX: Final = 1.25
EXACTLY_ONCE: Final = "Debezium, exactly once"
DEFAULT: Final = "Debezium, default"


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of the table of goals."""

    what: str
    asked: str
    measured: str
    verdict: str


def judged(results: Results) -> list[Goal]:
    """Return every goal that both of its figures were measured for."""
    found: list[Goal | None] = []
    for part in dict.fromkeys(run.part for run in results.runs):
        if part.startswith("drain"):
            found.append(_ratio(results, part, "rows_per_s", EXACTLY_ONCE, at_least=2.0))
            found.append(_ratio(results, part, "rows_per_s", limits.NAMES["batched"], at_least=0.6))
        if part.startswith("open loop"):
            for figure, at_most in _BESIDE_DEBEZIUM.items():
                found.append(_ratio(results, part, figure, EXACTLY_ONCE, at_most=at_most))
            found += [_writers(results, part), _held(results, part)]
            found += [_none(results, part, figure) for figure in ("lock_waits", "dead_tuples")]
    return [goal for goal in found if goal is not None]


def _ratio(
    results: Results,
    part: str,
    figure: str,
    other: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Goal | None:
    ours, theirs = results.spread(part, relay.NAME, figure), results.spread(part, other, figure)
    if ours is None or theirs is None or not theirs.median:
        return None
    ratio = ours.median / theirs.median
    holds = ratio >= at_least if at_least is not None else at_most is not None and ratio <= at_most
    asked = f"≥ {at_least}" if at_least is not None else f"≤ {at_most}"
    return Goal(
        f"{part}: {figure}, {relay.NAME} / {other}", asked, f"{ratio:.2f}", _verdict(holds, ours, theirs)
    )


def _writers(results: Results, part: str) -> Goal | None:
    """Return whether the writers' commits were as fast with the relay as the two windows without differ."""
    figure = "commit_p50_ms"
    alone = spread([*results.of(part, BEFORE), *results.of(part, AFTER)], figure)
    with_relay = results.spread(part, relay.NAME, figure)
    if alone is None or with_relay is None:
        return None
    at_most = max(alone.high / alone.median, _WRITERS_SLOWER_MAX)
    ratio = with_relay.median / alone.median
    what = f"{part}: {figure} of the writers, with {relay.NAME} / alone"
    return Goal(what, f"≤ {at_most:.2f}", f"{ratio:.2f}", _verdict(ratio <= at_most, alone, with_relay))


def _held(results: Results, part: str) -> Goal | None:
    figure = "visible_p99_ms"
    held, free = (results.spread(part, name, figure) for name in (relay.NAME + WITH_OPEN, relay.NAME))
    if held is None or free is None:
        return None
    ratio = held.median / free.median
    what = f"{part}: {figure} with a transaction open / without"
    return Goal(
        what, f"≤ {_HELD_SLOWER_MAX}", f"{ratio:.2f}", _verdict(ratio <= _HELD_SLOWER_MAX, held, free)
    )


def _none(results: Results, part: str, figure: str) -> Goal | None:
    found = results.spread(part, relay.NAME, figure)
    if found is None:
        return None
    return Goal(f"{part}: {figure}, {relay.NAME}", "0", f"{found.high:.0f}", _verdict(found.high == 0, found))


def _verdict(holds: bool, *figures: Spread) -> str:
    noisy = " (noisy machine)" if any(figure.noisy for figure in figures) else ""
    return ("yes" if holds else "no") + noisy
