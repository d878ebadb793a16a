"""What a metric is: its name, kind, unit and meaning as one value, made into an instrument or a table.

A room lists its metrics as values in one module. The instruments, the page of the docs and the test
that scrapes are all taken from that list, so they cannot differ.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

from iu_core import __version__

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One family as it is scraped; a counter's name ends in _total. `buckets` are upper bounds, ascending."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()

    def counter(self, registry: CollectorRegistry) -> Counter:
        """Register it as a counter."""
        return Counter(self.name, self.meaning, self.labels, registry=registry)

    def gauge(self, registry: CollectorRegistry) -> Gauge:
        """Register it as a gauge."""
        return Gauge(self.name, self.meaning, self.labels, registry=registry)

    def histogram(self, registry: CollectorRegistry) -> Histogram:
        """Register it as a histogram."""
        return Histogram(self.name, self.meaning, self.labels, buckets=self.buckets, registry=registry)


BUILD = Metric("iu_build_info", "gauge", "1", ("version",), "The version that runs")


def new_registry() -> CollectorRegistry:
    """Return a registry of its own that tells the version and the process (memory, CPU, open files)."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    BUILD.gauge(registry).labels(__version__).set(1)
    return registry


def as_markdown(metrics: Iterable[Metric]) -> str:
    """Return the table of the docs."""
    lines = ["| name | kind | unit | labels | meaning |", "|---|---|---|---|---|"]
    lines += [
        f"| `{one.name}` | {one.kind} | {one.unit} | {', '.join(one.labels) or '–'} | {one.meaning} |"
        for one in metrics
    ]
    return "\n".join(lines)
