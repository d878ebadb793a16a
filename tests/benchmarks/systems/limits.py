"""The limits beside which a relay is measured; what each does stands in `limit_process`."""

from dataclasses import dataclass
from typing import Final

from schemas.catalog import Catalog
from tests.benchmarks.checking import count
from tests.benchmarks.child import Child
from tests.benchmarks.measuring import measured
from tests.benchmarks.results import Run
from tests.benchmarks.systems.subject import Backlog
from tests.benchmarks.world import PARTITIONS, World

TRANSACTION_ROWS: Final = 8_000
# Their rates do not depend on how long they run, and the time is short.
ROWS_MAX: Final = {"send": 50_000, "batched": 100_000, "librdkafka": 100_000}
NAMES: Final = {
    "read": "limit: psycopg, binary read only",
    "send": "limit: kafka-python send()",
    "batched": "limit: kafka-python, own batches below send()",
    "librdkafka": "limit: librdkafka",
}


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit; `kind` is a key of `NAMES`."""

    world: World
    kind: str

    @property
    def name(self) -> str:
        """What it is called in the tables."""
        return NAMES[self.kind]

    def missing(self) -> str | None:
        """Return why it cannot be measured here and now, None if it can."""
        return None

    def drain(self, backlog: Backlog, part: str) -> Run:
        """Run it over the rows of `backlog`; it times itself, without its start and preparation."""
        rows = min(backlog.load.rows, ROWS_MAX.get(self.kind, backlog.load.rows))
        prefix = self.world.fresh_prefix(f"limit-{self.kind}-")
        settings = self.world.settings(backlog.url, prefix)
        topic = self.world.make_events_topic(settings)
        words = ("tests.benchmarks.limit_process", self.kind, str(rows), str(TRANSACTION_ROWS))
        environment = self.world.environment(backlog.url, prefix)
        with (
            measured(self.world.groups) as used,
            Child(words, environment=environment, log=self.world.log(f"limit-{self.kind}")) as child,
        ):
            took = child.answer()
        faults: tuple[str, ...] = ()
        if self.kind != "read":
            prefix_bytes = len(Catalog.bundled().prefix("structure_reparented", 1))
            faults = count(
                self.world.kafka.address, topic, PARTITIONS, header="ce_id", prefix_bytes=prefix_bytes
            ).faults(rows)
        self.world.delete_topics(settings, [topic])
        figures = {
            "rows_per_s": took["rows"] / took["elapsed_s"],
            "own_cpu_s_per_million": 1e6 * took["cpu_s"] / took["rows"],
        }
        return Run(part, self.name, figures, used.foreign_cores, faults)
