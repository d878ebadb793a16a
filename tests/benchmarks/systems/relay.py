"""This relay, as the process that users run."""

from dataclasses import dataclass
from typing import Final

from iu_core.bus.names import BusNames
from schemas.catalog import Catalog
from tests.benchmarks.checking import count
from tests.benchmarks.child import Child
from tests.benchmarks.measuring import measured
from tests.benchmarks.results import Run
from tests.benchmarks.systems.subject import Backlog
from tests.benchmarks.watching import watch
from tests.benchmarks.world import PARTITIONS, World

NAME: Final = "this relay"
HEADER: Final = "ce_id"
_DRAIN_MIN_ROWS_PER_S: Final = 2_000


@dataclass(frozen=True, slots=True)
class Relay:
    """`iu relay run` over `shards` shards, all in one process."""

    world: World
    shards: int = 1

    @property
    def name(self) -> str:
        """What it is called in the tables."""
        return NAME

    def missing(self) -> str | None:
        """Return why it cannot be measured here and now, None if it can."""
        return None

    def environment(self, url: str, prefix: str) -> dict[str, str]:
        """Return the settings of a relay process."""
        shards = {} if self.shards == 1 else {"IU_RELAY__SHARDS": str(self.shards)}
        return self.world.environment(url, prefix) | shards

    def drain(self, backlog: Backlog, part: str) -> Run:
        """Run it until idle under a prefix that has no cursor yet; check what it has published."""
        rows = backlog.load.rows
        prefix = self.world.fresh_prefix("relay")
        settings = self.world.settings(backlog.url, prefix)
        topic = self.world.make_events_topic(settings)
        words = ("iu_core", "relay", "run", "--until-idle", "--json")
        with (
            measured(self.world.groups) as used,
            Child(
                words, environment=self.environment(backlog.url, prefix), log=self.world.log("relay")
            ) as child,
        ):
            curve = watch(
                settings,
                topic,
                rows,
                ended=lambda: child.ended() is not None,
                timeout_s=60 + rows / _DRAIN_MIN_ROWS_PER_S,
            )
            child.answer()
            ended = child.wait()
        prefix_bytes = len(Catalog.bundled().prefix("structure_reparented", 1))
        found = count(self.world.kafka.address, topic, PARTITIONS, header=HEADER, prefix_bytes=prefix_bytes)
        self.world.delete_topics(settings, [topic, BusNames(prefix).cursor])
        figures = {
            "rows_per_s": curve.rate(rows),
            "rows_per_s_with_start": rows / curve.with_start_s,
            "own_cpu_s_per_million": 1e6 * ended.cpu_s / rows,
            "all_cpu_s_per_million": 1e6 * (ended.cpu_s + sum(used.groups.values())) / rows,
            "own_rss_mb": ended.rss_bytes / 1e6,
        }
        return Run(part, self.name, figures, used.foreign_cores, found.faults(rows))
