"""Several shards: in one process and in several, what one of them does to the others, and what it refuses."""

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.kafka_publisher import KafkaPublisher
from iu_core.bus.names import BusNames
from iu_core.bus.watchdog import Watchdog
from iu_core.settings import Settings
from tests.integration.relay.held_topic import bus_settings, chain_faults, held
from tests.integration.relay.relay_process import (
    RelayProcess,
    await_that,
    drain,
    relay_environment,
    run_relay,
    running_relay,
)
from tests.integration.sql.sessions import Editor, open_gate


@dataclass
class Stage:
    """One database, one set of topics, and the environment of a relay of two shards."""

    url: str
    settings: Settings
    environment: dict[str, str]

    def of_shards(self, shards: int) -> dict[str, str]:
        return self.environment | {"IU_RELAY__SHARDS": str(shards)}

    def write(self, trees: int) -> None:
        """Add trees of two events each; their partitions are as random as their ids."""
        editor = Editor(self.url)
        for _ in range(trees):
            editor.add(editor.add(None))
        editor.session.close()

    def faults(self) -> list[str]:
        return chain_faults(self.url, self.settings)

    def status(self, shards: int = 2) -> dict[str, object]:
        told: dict[str, object] = json.loads(run_relay(self.of_shards(shards), "status", "--json").stdout)
        return told


@pytest.fixture
def stage(migrated_url: str, kafka_bootstrap: str, bus_prefix: str) -> Iterator[Stage]:
    open_gate(migrated_url)
    settings = bus_settings(kafka_bootstrap, bus_prefix)
    environment = relay_environment(migrated_url, kafka_bootstrap, bus_prefix, relay__shards="2")
    yield Stage(migrated_url, settings, environment)
    admin, names = KafkaAdmin(settings, "tests"), BusNames(bus_prefix)
    admin.delete([names.events, names.cursor])
    admin.close()


def shards_of(relay: RelayProcess, event: str) -> set[int]:
    return {line["shard"] for line in relay.all_of(event)}


def test_two_shards_of_one_process_publish_every_partition_once(stage: Stage) -> None:
    stage.write(20)
    done = drain(stage.environment)
    assert (done["sessions"], done["published"]) == (2, 40)
    topic, cursors = held(stage.settings)
    assert {cursor.layout.shard: set(cursor.digests) for cursor in cursors} == {0: {0, 2}, 1: {1, 3}}
    assert all(topic.values())
    assert stage.faults() == []
    told = stage.status()
    assert [shard["shard"] for shard in told["shards"]] == [0, 1]  # type: ignore[attr-defined]


def test_one_process_a_shard_and_neither_waits_for_the_other(stage: Stage) -> None:
    with (
        running_relay(stage.environment, "--shard", "0") as first,
        running_relay(stage.environment, "--shard", "1") as second,
    ):
        first.await_event("started")
        second.await_event("started")
        stage.write(5)
        for relay in (first, second):
            relay.send(signal.SIGTERM)
            assert relay.wait() == 0, relay.log
        assert (shards_of(first, "started"), shards_of(second, "started")) == ({0}, {1})
    drain(stage.environment)
    assert stage.faults() == []


def test_a_standby_for_all_shards_takes_over_the_one_that_is_free(stage: Stage) -> None:
    with running_relay(stage.environment, "--shard", "1") as single:
        single.await_event("started")
        with running_relay(stage.environment) as both:
            await_that(lambda: shards_of(both, "started") == {0}, "shard 0 is relayed")
            await_that(lambda: shards_of(both, "standby") == {1}, "shard 1 is stood by for")
            stage.write(5)
            single.send(signal.SIGKILL)
            await_that(lambda: shards_of(both, "started") == {0, 1}, "shard 1 is taken over")
            stage.write(5)
            both.send(signal.SIGTERM)
            assert both.wait() == 0, both.log
    drain(stage.environment)
    assert stage.faults() == []


def test_the_end_of_one_shard_is_the_end_of_the_process_after_the_others_have_finished(stage: Stage) -> None:
    watchdog = Watchdog(30)
    names = BusNames(stage.settings.kafka.prefix)
    usurper = KafkaPublisher(stage.settings, names.transactional_id("local", 1), watchdog)
    with running_relay(stage.environment) as relay:
        await_that(lambda: shards_of(relay, "started") == {0, 1}, "both run")
        usurper.open()
        stage.write(20)
        assert relay.wait() == 76, relay.log
        assert shards_of(relay, "failed") == {1}
        assert shards_of(relay, "stopped") == {0}
    usurper.close()
    watchdog.close()
    drain(stage.environment)
    assert stage.faults() == []


def test_another_number_of_shards_is_78_whether_or_not_there_is_a_cursor(stage: Stage) -> None:
    drain(stage.environment)  # makes the topics, and nothing else
    for shards in (1, 3):
        done = run_relay(stage.of_shards(shards), "run", "--once")
        assert done.returncode == 78, done.stderr
        assert "IU_RELAY__SHARDS=2" in done.stderr
    stage.write(10)
    drain(stage.environment)
    for shards in (1, 3):
        done = run_relay(stage.of_shards(shards), "run", "--once")
        assert done.returncode == 78, done.stderr
        assert f"iu relay reshard --to {shards}" in done.stderr
    assert "IU_RELAY__SHARDS is 1" in run_relay(stage.of_shards(1), "status").stdout
    assert stage.faults() == []


def test_a_shard_that_there_is_not_is_a_wrong_word(stage: Stage) -> None:
    done = run_relay(stage.environment, "run", "--shard", "2")
    assert done.returncode == 2
    assert "0 to 1" in done.stderr
