"""The relay as an operator meets it: what it publishes, how it stops, and what it refuses to do.

Real database, real broker, the process itself. Each refusal is checked for its exit code, for a
remedy, and for having left topic and outbox as they were.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.kafka_publisher import KafkaPublisher
from iu_core.bus.names import BusNames
from iu_core.bus.ports import Outgoing
from iu_core.bus.watchdog import Watchdog
from iu_core.settings import Settings
from tests.integration.relay.held_topic import bus_settings, chain_faults, held
from tests.integration.relay.relay_process import (
    await_that,
    drain,
    relay_environment,
    run_relay,
    running_relay,
)
from tests.integration.sql.sessions import Editor, open_gate, session

UNHEARD_OF = """
    INSERT INTO event_outbox (event_ref, event_type, schema_version, aggregate_id, aggregate_version,
                              bucket, incarnation, payload, datum, payload_digest)
    SELECT gen_random_uuid(), 'unheard_of', 1, tree, 1,
           get_byte(sha256(uuid_send(tree)), 0), 1, '{}', 'x', sha256('x')
      FROM gen_random_uuid() AS tree
    RETURNING id
"""


@dataclass
class Stage:
    """One database and one set of topics, and what a relay needs to find them."""

    url: str
    settings: Settings
    environment: dict[str, str]

    @property
    def names(self) -> BusNames:
        return BusNames(self.settings.kafka.prefix)

    def write(self, events: int, trees: int = 3) -> list[UUID]:
        """Add `events` units over `trees` new trees, each a transaction of its own; return the roots."""
        editor = Editor(self.url)
        roots = [editor.add(None) for _ in range(trees)]
        for number in range(events - trees):
            editor.add(roots[number % trees])
        editor.session.close()
        return roots

    def faults(self) -> list[str]:
        return chain_faults(self.url, self.settings)

    def events(self) -> int:
        return sum(len(records) for records in held(self.settings)[0].values())

    def with_settings(self, **settings: str) -> dict[str, str]:
        return self.environment | {f"IU_{name.upper()}": value for name, value in settings.items()}


@pytest.fixture
def stage(migrated_url: str, kafka_bootstrap: str, bus_prefix: str) -> Iterator[Stage]:
    open_gate(migrated_url)
    settings = bus_settings(kafka_bootstrap, bus_prefix)
    made = Stage(migrated_url, settings, relay_environment(migrated_url, kafka_bootstrap, bus_prefix))
    yield made
    admin = KafkaAdmin(settings, "tests")
    admin.delete(list(made.names.relay_topics))
    admin.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def assert_refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "remedy" in done.stderr
    for word in words:
        assert word in done.stderr


def test_everything_committed_is_published_once_over_several_runs(stage: Stage) -> None:
    stage.write(25)
    assert drain(stage.environment)["published"] == 25
    assert drain(stage.environment) == {"sessions": 1, "published": 0, "transactions": 0}
    stage.write(10)
    assert drain(stage.with_settings(relay__rows_max="3"))["transactions"] == 4
    assert stage.faults() == []


def test_the_topics_are_made_with_the_settings_that_keep_events(stage: Stage) -> None:
    drain(stage.environment)
    admin = KafkaAdmin(stage.settings, "tests")
    events, cursor = admin.configs(stage.names.events), admin.configs(stage.names.cursor)
    described = admin.describe(stage.names.events), admin.describe(stage.names.cursor)
    admin.close()
    # cleanup.policy=delete and retention.bytes=-1 are the broker's defaults, too: then not listed.
    assert events["retention.ms"] == "-1"
    assert events.get("cleanup.policy", "delete") == "delete"
    assert events.get("retention.bytes", "-1") == "-1"
    assert cursor["cleanup.policy"] == "compact"
    assert [topic.partitions for topic in described if topic] == [4, 1]


def test_records_are_stamped_with_the_time_of_publishing(stage: Stage) -> None:
    """Not with the event's own: an old one would let a time-based retention delete a backlog."""
    stage.write(3)
    drain(stage.environment)
    topic, cursors = held(stage.settings)
    written_ms = int(cursors[-1].at.timestamp() * 1_000)
    for records in topic.values():
        for record in records:
            assert abs(record.timestamp_ms - written_ms) < 60_000
            assert record.header("ce_time") is not None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_relay_with_0_and_gives_the_shard_back(
    stage: Stage, number: signal.Signals
) -> None:
    with running_relay(stage.environment) as relay:
        relay.await_event("started")
        stage.write(20)
        relay.send(number)
        assert relay.wait() == 0, relay.log
        assert relay.has_said("stopped")
    drain(stage.environment)
    assert stage.faults() == []


def test_a_second_relay_stands_by_and_takes_over(stage: Stage) -> None:
    with running_relay(stage.environment) as first:
        first.await_event("started")
        with running_relay(stage.environment) as second:
            assert "iu-relay-local-0" in second.await_event("standby")["holder"]
            stage.write(10)
            first.send(signal.SIGKILL)
            second.await_event("started")
            stage.write(10)
            second.send(signal.SIGTERM)
            assert second.wait() == 0, second.log
    drain(stage.environment)
    assert stage.faults() == []


def test_a_frozen_relay_is_replaced_and_ends_with_76_when_it_wakes(stage: Stage) -> None:
    with running_relay(stage.environment) as frozen:
        frozen.await_event("started")
        with running_relay(stage.environment) as standby:
            standby.await_event("standby")
            stage.write(10)
            frozen.send(signal.SIGSTOP)
            standby.await_event("started")
            stage.write(10)
            frozen.send(signal.SIGCONT)
            assert frozen.wait() == 76, frozen.log
            standby.send(signal.SIGTERM)
            assert standby.wait() == 0, standby.log
    drain(stage.environment)
    assert stage.faults() == []


def test_a_drain_beside_a_running_relay_says_who_runs(stage: Stage) -> None:
    with running_relay(stage.environment) as relay:
        relay.await_event("started")
        assert_refused(run_relay(stage.environment, "run", "--once"), 75, "iu-relay-local-0")
        relay.send(signal.SIGTERM)
        assert relay.wait() == 0


def test_a_relay_survives_the_loss_of_its_database_sessions(stage: Stage) -> None:
    with running_relay(stage.environment) as relay:
        relay.await_event("started")
        stage.write(10)
        with session(stage.url) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE 'iu-relay-%'"
            )
        relay.await_event("outage")
        stage.write(10)
        relay.send(signal.SIGTERM)
        assert relay.wait() == 0, relay.log
    drain(stage.environment)
    assert stage.faults() == []


def test_a_database_that_is_away_is_75(stage: Stage) -> None:
    away = f"postgresql://postgres@127.0.0.1:{free_port()}/x"
    assert_refused(run_relay(stage.with_settings(database_url=away), "run"), 75, "does not answer")


def test_a_broker_that_is_away_is_75(stage: Stage) -> None:
    away = stage.with_settings(
        kafka_bootstrap_servers=f"127.0.0.1:{free_port()}", kafka__request_timeout_ms="1000"
    )
    assert_refused(run_relay(away, "run"), 75, "Kafka")
    assert_refused(run_relay(away, "status"), 75, "Kafka")


def test_a_database_without_migrations_is_78(stage: Stage) -> None:
    with session(stage.url) as admin:
        admin.execute("ALTER TABLE event_outbox RENAME TO event_outbox_away")
    assert_refused(run_relay(stage.environment, "run", "--once"), 78, "iu db up")


def test_another_number_of_partitions_is_refused_and_nothing_is_published(stage: Stage) -> None:
    stage.write(5)
    drain(stage.environment)
    done = run_relay(stage.with_settings(kafka__partitions="8"), "run", "--once")
    assert_refused(done, 78, "has 4 partitions, 8 are expected", "IU_KAFKA__PARTITIONS=4")
    assert stage.faults() == []


def test_a_topic_made_again_is_78(stage: Stage) -> None:
    stage.write(5)
    drain(stage.environment)
    admin = KafkaAdmin(stage.settings, "tests")
    admin.delete([stage.names.events])
    admin.close()
    stage.write(5)
    assert_refused(run_relay(stage.environment, "run", "--once"), 78, "topic id")
    assert stage.events() == 0


def test_a_lost_cursor_is_78_and_never_a_start_from_the_beginning(stage: Stage) -> None:
    stage.write(5)
    drain(stage.environment)
    admin = KafkaAdmin(stage.settings, "tests")
    admin.delete([stage.names.cursor])
    admin.close()
    assert_refused(run_relay(stage.environment, "run", "--once"), 78, "holds no cursor")
    assert stage.events() == 5


def test_a_restored_database_is_78_and_says_what_differs(stage: Stage) -> None:
    """A dump and restore inside one cluster: identifier and timeline are equal, the LSN is ahead."""
    stage.write(5)
    server, name = stage.url.rsplit("/", 1)
    with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}_old TEMPLATE {name}")  # the backup
    stage.write(5)
    drain(stage.environment)
    restored = f"{server}/{name}_old"
    try:
        done = run_relay(stage.with_settings(database_url=restored), "run", "--once")
        assert_refused(done, 78, "oid of the database", "no such row", "iu relay rebase")
        told = json.loads(run_relay(stage.with_settings(database_url=restored), "status", "--json").stdout)
        assert any("no such row" in difference for difference in told["shards"][0]["differences"])
    finally:
        with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name}_old WITH (FORCE)")
    assert stage.faults() == []


def test_a_row_of_an_unreleased_type_stops_a_relay_told_to_halt_there_by_name(stage: Stage) -> None:
    halting = stage.environment | {"IU_RELAY__BAD_ROWS_BY_TYPE": '{"unheard_of": "halt"}'}
    stage.write(4)
    with session(stage.url) as owner:
        bad = owner.execute(UNHEARD_OF).fetchone()
    assert bad is not None
    stage.write(4)
    for _ in range(2):
        done = run_relay(halting, "run")
        assert_refused(done, 1, f"outbox row {bad[0]} cannot be published", "unheard_of version 1")
        assert stage.events() == 4
    drain(stage.environment)  # the default: its own tree waits
    assert stage.events() == 8


def test_a_cursor_nobody_can_read_is_78(stage: Stage) -> None:
    drain(stage.environment)
    watchdog = Watchdog(30)
    stranger = KafkaPublisher(stage.settings, f"{stage.settings.kafka.prefix}stranger", watchdog)
    stranger.open()
    stranger.publish([Outgoing(stage.names.cursor, 0, b"shard-0", b'{"format":99}')])
    stranger.close()
    watchdog.close()
    assert_refused(run_relay(stage.environment, "run", "--once"), 78, "format 99")


def test_on_the_mock_broker_it_runs_too(stage: Stage, tmp_path: Path) -> None:
    """For the demo on a machine with neither Docker nor Java; it proves nothing else."""
    address = tmp_path / "address"
    mock = subprocess.Popen(
        [sys.executable, "-m", "infra.local.mock_broker", str(address)], stderr=subprocess.DEVNULL
    )
    try:
        await_that(address.exists, "the mock broker answers")
        there = stage.with_settings(kafka_bootstrap_servers=address.read_text().strip(), kafka__mock="true")
        stage.write(12)
        assert drain(there)["published"] == 12
        stage.write(3)
        assert drain(there)["published"] == 3
        told = json.loads(run_relay(there, "status", "--json").stdout)
        assert sum(part["count"] for part in told["shards"][0]["cursor"]["digests"].values()) == 15
    finally:
        mock.terminate()
        mock.wait(10)


def test_the_status_says_in_words_where_the_relay_stands(stage: Stage) -> None:
    before = run_relay(stage.environment, "status")
    assert before.returncode == 0, before.stderr
    assert "nothing yet" in before.stdout
    stage.write(5)
    waiting = json.loads(run_relay(stage.environment, "status", "--json").stdout)
    assert (waiting["shards"][0]["cursor"], waiting["shards"][0]["pending"]["events"]) == (None, 5)
    drain(stage.environment)
    stage.write(3)
    with running_relay(stage.with_settings(database_url=stage.url)) as relay:
        relay.await_event("started")
        said = run_relay(stage.environment, "status").stdout
        assert "relayed by iu-relay-local-0" in said
        relay.send(signal.SIGTERM)
        relay.wait()
    drain(stage.environment)
    told = json.loads(run_relay(stage.environment, "status", "--json").stdout)
    assert told["shards"][0]["holder"] is None
    assert told["shards"][0]["pending"] == {"events": 0, "oldest_at": None}
    assert sum(part["count"] for part in told["shards"][0]["cursor"]["digests"].values()) == 8
    assert told["shards"][0]["differences"] == []


def test_a_wrong_setting_is_78_and_named(stage: Stage) -> None:
    assert_refused(run_relay(stage.with_settings(relay__rows_max="0"), "run"), 78, "IU_RELAY__ROWS_MAX")
    assert os.environ.get("IU_RELAY__ROWS_MAX") is None
