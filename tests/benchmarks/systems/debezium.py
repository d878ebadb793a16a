"""Debezium's Outbox Event Router on the very same table, tuned as far as its options go.

It reads the WAL through a slot. A slot that was made before the backlog was written keeps it; each
drain gets a copy of that slot, so that one backlog serves every run. The publication holds only the
columns the router needs, which spares it the JSON payload: less work than it would have had.
"""

import itertools
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from iu_core.errors import Terminal
from tests.benchmarks.checking import count
from tests.benchmarks.goals import DEFAULT, EXACTLY_ONCE
from tests.benchmarks.measuring import measured, tree_rss_bytes
from tests.benchmarks.results import Run
from tests.benchmarks.systems.connect import Worker
from tests.benchmarks.systems.live import Running
from tests.benchmarks.systems.subject import Backlog
from tests.benchmarks.watching import SETTLED_S, watch
from tests.benchmarks.world import PARTITIONS, World

HEADER: Final = "id"
PUBLICATION: Final = "bench"
# Made before a backlog is written.
BASE_SLOT: Final = "bench_base"
_COLUMNS: Final = "id, event_ref, event_type, aggregate_id, datum, occurred_at"
_DRAIN_MIN_ROWS_PER_S: Final = 2_000
_SLOT_FREE_S: Final = 30.0
_ROUTER: Final[Mapping[str, str]] = {
    "type": "io.debezium.transforms.outbox.EventRouter",
    "table.field.event.id": "event_ref",
    "table.field.event.key": "aggregate_id",
    "table.field.event.type": "event_type",
    "table.field.event.payload": "datum",
    "table.fields.additional.placement": "event_type:header:ce_type,occurred_at:header:ce_time",
    "route.by.field": "event_type",
    "route.tombstone.on.empty.payload": "false",
}


def prepare(url: str) -> None:
    """Make publication and base slot in a database whose outbox is about to be filled."""
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE public.event_outbox ({_COLUMNS})")
        session.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (slot_of(url),))


def slot_of(url: str) -> str:
    """Return the base slot of a database: slots have one name space for the whole server."""
    return f"{BASE_SLOT}_{conninfo_to_dict(url)['dbname']}"


@dataclass(slots=True)
class Debezium:
    """One worker, and connectors on it, one at a time."""

    world: World
    worker: Worker
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def name(self) -> str:
        """What it is called in the tables."""
        return EXACTLY_ONCE if self.worker.exactly_once else DEFAULT

    def missing(self) -> str | None:
        """Return why it cannot be measured here and now, None if it can."""
        return None

    def configuration(self, url: str, slot: str, topic: str) -> dict[str, str]:
        """Return the settings of a connector that takes what is behind `slot` to `topic`."""
        address = conninfo_to_dict(url)
        router = {**_ROUTER, "route.topic.replacement": topic}
        return {
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "tasks.max": "1",
            "database.hostname": str(address["host"]),
            "database.port": str(address["port"]),
            "database.user": str(address["user"]),
            "database.password": str(address["password"]),
            "database.dbname": str(address["dbname"]),
            "topic.prefix": slot,
            "plugin.name": "pgoutput",
            "publication.name": PUBLICATION,
            "publication.autocreate.mode": "disabled",
            "slot.name": slot,
            "snapshot.mode": "no_data",
            "table.include.list": "public.event_outbox",
            "tombstones.on.delete": "false",
            "binary.handling.mode": "bytes",
            "poll.interval.ms": "5",
            "max.batch.size": "8192",
            "max.queue.size": "32768",
            "statistics.metrics.enabled": "false",
            "exactly.once.support": "required" if self.worker.exactly_once else "requested",
            "transforms": "outbox",
            **{f"transforms.outbox.{name}": value for name, value in router.items()},
        }

    def fresh_slot(self, url: str) -> str:
        """Return a copy of the base slot: it stands where the base slot stood when it was made."""
        mode = "eo" if self.worker.exactly_once else "default"
        slot = f"{slot_of(url)}_{mode}_{next(self._numbers)}"
        with psycopg.connect(url, autocommit=True) as session:
            session.execute("SELECT pg_copy_logical_replication_slot(%s, %s)", (slot_of(url), slot))
        return slot

    def drain(self, backlog: Backlog, part: str) -> Run:
        """Start a connector on a copy of the base slot and watch the topic until all of it is there."""
        rows, slot = backlog.load.rows, self.fresh_slot(backlog.url)
        settings = self.world.settings(backlog.url, self.world.fresh_prefix("debezium"))
        topic = self.world.make_events_topic(settings)
        with measured({**self.world.groups, "own": self.worker.pid}) as used:
            self.worker.start(slot, self.configuration(backlog.url, slot, topic))
            curve = watch(settings, topic, rows, ended=None, timeout_s=60 + rows / _DRAIN_MIN_ROWS_PER_S)
        rss_bytes = tree_rss_bytes(self.worker.pid)
        self.worker.check(slot)
        self.worker.remove(slot)
        _drop_slot(backlog.url, slot)
        found = count(self.world.kafka.address, topic, PARTITIONS, header=HEADER, prefix_bytes=0)
        self.world.delete_topics(settings, [topic])
        figures = {
            "rows_per_s": curve.rate(rows),
            "rows_per_s_with_start": rows / (used.wall_s - SETTLED_S),
            "own_cpu_s_per_million": 1e6 * used.groups["own"] / rows,
            "all_cpu_s_per_million": 1e6 * sum(used.groups.values()) / rows,
            "own_rss_mb": rss_bytes / 1e6,
        }
        return Run(part, self.name, figures, used.foreign_cores, found.faults(rows))


class LiveDebezium:
    """A connector on one database, with one slot and one topic for all its windows."""

    def __init__(self, debezium: Debezium, url: str) -> None:
        self.name = debezium.name
        self._debezium = debezium
        self._url = url
        self._slot = debezium.fresh_slot(url)
        world = debezium.world
        self._topic = world.make_events_topic(world.settings(url, world.fresh_prefix("debezium-live")))

    @contextmanager
    def running(self) -> Iterator[Running]:
        """Start the connector; take it away at the end. It goes on from its offsets the next time."""
        worker = self._debezium.worker
        worker.start(self._slot, self._debezium.configuration(self._url, self._slot, self._topic))
        try:
            yield Running(self._topic, HEADER, worker.pid)
            worker.check(self._slot)
        finally:
            worker.remove(self._slot)


def _drop_slot(url: str, slot: str) -> None:
    """Drop a slot as soon as the connector has let go of it."""
    give_up_at = time.monotonic() + _SLOT_FREE_S
    with psycopg.connect(url, autocommit=True) as session:
        while time.monotonic() < give_up_at:
            try:
                session.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
            except psycopg.errors.ObjectInUse:
                time.sleep(0.1)
            else:
                return
    raise Terminal(f"the slot {slot} stays in use after its connector was removed")
