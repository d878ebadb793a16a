"""The servers a bench runs on: its own, with default durability, stopped by id whatever happens."""

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from infra.local import broker, jars, postgres
from infra.local.supervision import Supervision
from infra.local.workplace import Workplace, unprivileged_account
from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.names import BusNames
from iu_core.database import connect
from iu_core.database.migration_files import read
from iu_core.database.migrations import Migrator
from iu_core.errors import Misconfigured
from iu_core.resources import sql_dir
from iu_core.settings import DatabaseSettings, KafkaSettings, Settings, load_settings
from producers.relay.topics import EVENTS_CONFIG
from tests.benchmarks.progress import say
from tests.services import on_database

PARTITIONS: Final = 4
# Debezium reads the WAL as logical changes; the server is one and the same for every subject.
_LOGICAL: Final = {"wal_level": "logical", "max_replication_slots": "40", "max_wal_senders": "20"}


@dataclass(slots=True)
class World:
    """Running servers. `postgres_pid` and `kafka_pid` are roots of process trees."""

    supervision: Supervision
    place: Workplace
    java: jars.Java
    postgres: postgres.PostgresServer
    kafka: broker.Broker
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def groups(self) -> dict[str, int]:
        """The process trees that every subject shares."""
        return {"postgres": self.postgres.started.pid, "broker": self.kafka.started.pid}

    def fresh_prefix(self, label: str) -> str:
        """Return a prefix of topics that nobody has used: a relay under it starts from the beginning."""
        return f"{label}{next(self._numbers)}."

    def settings(self, url: str, prefix: str) -> Settings:
        """Return the settings of one database and one prefix."""
        return Settings(
            database_url=url,
            kafka_bootstrap_servers=self.kafka.address,
            kafka=KafkaSettings(prefix=prefix, partitions=PARTITIONS),
        )

    def environment(self, url: str, prefix: str) -> dict[str, str]:
        """Return the same for a process."""
        return {
            "IU_DATABASE_URL": url,
            "IU_KAFKA_BOOTSTRAP_SERVERS": self.kafka.address,
            "IU_KAFKA__PREFIX": prefix,
            "IU_KAFKA__PARTITIONS": str(PARTITIONS),
        }

    def log(self, name: str) -> Path:
        """Return the path of the log of `name`."""
        return self.place.log(name)

    def make_events_topic(self, settings: Settings) -> str:
        """Make the events topic of `settings` as the relay makes it; return its name."""
        topic = BusNames(settings.kafka.prefix).events
        admin = KafkaAdmin(settings, "bench")
        try:
            admin.create(topic, partitions=PARTITIONS, configs=EVENTS_CONFIG)
        finally:
            admin.close()
        return topic

    def delete_topics(self, settings: Settings, topics: list[str]) -> None:
        """Delete `topics`: what was measured need not fill the disk and the page cache."""
        admin = KafkaAdmin(settings, "bench")
        try:
            admin.delete(topics)
        finally:
            admin.close()

    def make_database(self) -> str:
        """Make a migrated database of a new name and return its URL, the superuser's."""
        name = f"bench_{next(self._numbers)}"
        with psycopg.connect(self.postgres.url, autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        url = on_database(self.postgres.url, name)
        with connect(url, None, settings=DatabaseSettings(), application_name="bench") as connection:
            Migrator(connection, read(sql_dir())).up()
        return url


@contextmanager
def running(*, peers: bool, major: int | None) -> Iterator[World]:
    """Start PostgreSQL (of `major`, else the first found) and Kafka; yield; stop both.

    Raises `Misconfigured` if this machine has no PostgreSQL, Java or Maven to start them with.
    """
    state_dir = Path(tempfile.mkdtemp(prefix="iu-bench-"))
    state_dir.chmod(0o711)
    place = Workplace(state_dir, Path("build/benchmarks/logs").resolve(), load_settings().services.cache_dir)
    with Supervision() as supervision:
        supervision.remove_at_end(state_dir)
        java = jars.find_java()
        if isinstance(java, str):
            raise Misconfigured("the bench needs a real Kafka", why=java, remedy="install Java 17 or newer")
        libraries = jars.resolve(supervision, place, say)
        if isinstance(libraries, str):
            raise Misconfigured("the bench needs a real Kafka", why=libraries)
        server = postgres.start(
            supervision, _installation(place, major), place, extra=_LOGICAL if peers else {}
        )
        node = broker.start_kafka(supervision, java, libraries, place)
        say(
            f"{server.installation}, Apache Kafka {jars.kafka_version()} on Java {java.version}; logs in "
            f"{os.path.relpath(place.log_dir)}"
        )
        yield World(supervision, place, java, server, node)


def _installation(place: Workplace, major: int | None) -> postgres.Installation:
    found = [one for one in postgres.postgres_versions() if major in (None, one.major)]
    usable = postgres.usable(found, unprivileged_account(), place)
    if isinstance(usable, str):
        raise Misconfigured("the bench needs a PostgreSQL of its own", why=usable, remedy="make setup")
    return usable
