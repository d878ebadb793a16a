"""What was set as a goal, and whether the medians of this run reach it."""

from dataclasses import dataclass
from typing import Final

from tests.benchmarks.results import Results, Spread
from tests.benchmarks.systems import limits, relay

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


def _verdict(holds: bool, *figures: Spread) -> str:
    noisy = " (noisy machine)" if any(figure.noisy for figure in figures) else ""
    return ("yes" if holds else "no") + noisy
