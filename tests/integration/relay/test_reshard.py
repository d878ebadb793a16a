"""Another number of shards while writers go on, and a reshard that dies at each of its steps.

Real database, real broker. The chain checker reads everything at the end: nothing is lost,
nothing is doubled, and the cursors of every epoch follow on each other.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.kafka_publisher import KafkaPublisher
from iu_core.bus.names import BusNames
from iu_core.bus.watchdog import Watchdog
from iu_core.errors import Fenced
from iu_core.settings import Settings
from producers.relay import reshard
from producers.relay.contracts import BundledContracts
from schemas.catalog import Catalog
from tests.chaos.writers import Writers, plant
from tests.integration.relay.held_topic import bus_settings, chain_faults, committed_rows, held
from tests.integration.relay.relay_process import (
    DEADLINE_S,
    await_that,
    drain,
    relay_environment,
    run_relay,
    running_relay,
)
from tests.integration.sql.sessions import open_gate

# Carries the command out, and kills itself the n-th time a stage begins.
DIES = """
import os, signal, sys
from iu_core.cli.context import Context
from iu_core.bus.names import BusNames
from producers.relay import reshard
from producers.relay.contracts import BundledContracts
from schemas.catalog import Catalog

def dies(stage, left=[int(sys.argv[3])]):
    left[0] -= stage == sys.argv[2]
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)

context = Context.current()
settings, url = context.bus_settings(), context.database_url()
contracts = BundledContracts(Catalog.bundled(), BusNames().events)
reshard.apply(settings, url, contracts, reshard.plan(settings, url, int(sys.argv[1])), observe=dies)
"""


@dataclass
class Stage:
    """One database and one set of topics."""

    url: str
    settings: Settings
    environment: dict[str, str]

    @property
    def names(self) -> BusNames:
        return BusNames(self.settings.kafka.prefix)

    def of_shards(self, shards: int) -> dict[str, str]:
        return self.environment | {"IU_RELAY__SHARDS": str(shards)}

    def reshard(self, to: int, *words: str) -> "subprocess.CompletedProcess[str]":
        return run_relay(self.environment, "reshard", "--to", str(to), *words)

    def resharded(self, to: int) -> dict[str, object]:
        done = self.reshard(to, "--apply", "--reason", "a test", "--json")
        assert done.returncode == 0, done.stderr
        told: dict[str, object] = json.loads(done.stdout)
        return told

    def dies(self, to: int, stage: str, occurrence: int = 1) -> None:
        """Reshard in a process that kills itself as `stage` begins."""
        done = subprocess.run(
            [sys.executable, "-c", DIES, str(to), stage, str(occurrence)],
            env=self.environment | {"PYTHONPATH": os.getcwd()},
            capture_output=True,
            text=True,
            timeout=2 * DEADLINE_S,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr

    def layouts(self) -> set[tuple[int, int]]:
        """Return (shards, epoch) of the last cursor of every partition of the cursor topic."""
        lasts = {cursor.layout.shard: cursor.layout for cursor in held(self.settings)[1]}
        return {(layout.shards, layout.epoch) for layout in lasts.values()}

    def faults(self) -> list[str]:
        return chain_faults(self.url, self.settings)


@pytest.fixture
def stage(migrated_url: str, kafka_bootstrap: str, bus_prefix: str) -> Iterator[Stage]:
    open_gate(migrated_url)
    settings = bus_settings(kafka_bootstrap, bus_prefix)
    made = Stage(migrated_url, settings, relay_environment(migrated_url, kafka_bootstrap, bus_prefix))
    yield made
    admin = KafkaAdmin(settings, "tests")
    admin.delete([made.names.events, made.names.cursor])
    admin.close()


@pytest.mark.timeout(10 * DEADLINE_S)
def test_from_one_shard_to_three_to_two_while_writers_go_on(stage: Stage) -> None:
    """A running relay steps aside, comes back to another layout, and ends with 78 and the remedy."""
    writers = Writers(stage.url, plant(stage.url, 12), count=4, rest_max_s=0.2).start()
    try:
        for before, after in ((1, 3), (3, 2)):
            with running_relay(stage.of_shards(before)) as relay:
                await_that(lambda n=before: len(relay.all_of("started")) == n, "all shards run")
                so_far = writers.committed
                await_that(lambda n=so_far: writers.committed > n + 50, "writers go on")
                stage.resharded(after)
                assert relay.wait() == 78, relay.log
                assert f"IU_RELAY__SHARDS={after}" in relay.log
            so_far = writers.committed
            await_that(lambda n=so_far: writers.committed > n + 50, "writers go on")
            drain(stage.of_shards(after))
    finally:
        writers.stop()
    drain(stage.of_shards(2))
    assert stage.layouts() == {(2, 3)}
    assert stage.faults() == []
    assert len(committed_rows(stage.url)) == writers.committed + 8 * 12
    refused = run_relay(stage.of_shards(3), "run", "--once", "--shard", "2")
    assert refused.returncode == 78, refused.stderr
    assert "IU_RELAY__SHARDS=2" in refused.stderr


@pytest.mark.timeout(10 * DEADLINE_S)
def test_whatever_step_it_dies_at_it_is_begun_again_and_nothing_is_lost_or_doubled(stage: Stage) -> None:
    trees = plant(stage.url, 6)
    drain(stage.of_shards(1))
    stage.resharded(2)
    writers = Writers(stage.url, trees, count=2, rest_max_s=0.3).start()
    try:
        for step, occurrence in (("claiming", 1), ("draining", 1), ("sealing", 1), ("sealing", 2)):
            stage.dies(3, step, occurrence)
            assert stage.layouts() == {(2, 2)}
        # One shard is sealed, the other is not: only a reshard goes on.
        refused = run_relay(stage.of_shards(2), "run", "--once")
        assert refused.returncode == 78, refused.stderr
        assert "iu relay reshard" in refused.stderr
        assert "sealed" in run_relay(stage.of_shards(2), "status").stdout
        stage.dies(3, "installing")
        assert stage.layouts() == {(2, 2)}
        assert "unfinished" in stage.reshard(3).stdout
        stage.dies(3, "installed")
        assert stage.layouts() == {(3, 3)}
    finally:
        writers.stop()
    drain(stage.of_shards(3))
    assert stage.faults() == []


def test_a_reshard_that_died_can_be_given_up_by_going_back(stage: Stage) -> None:
    plant(stage.url, 4)
    drain(stage.of_shards(1))
    stage.dies(3, "installing")
    assert stage.resharded(1)["applied"] is True
    plant(stage.url, 4)
    drain(stage.of_shards(1))
    assert stage.layouts() == {(1, 2)}
    assert stage.faults() == []


@pytest.mark.parametrize("stage_name", ["sealing", "installing"])
def test_whoever_takes_a_shard_over_meanwhile_fences_the_reshard(stage: Stage, stage_name: str) -> None:
    """The locks are courtesy. A relay that got in all the same is not published around."""
    plant(stage.url, 4)
    drain(stage.of_shards(1))
    watchdog = Watchdog(30)
    usurper = KafkaPublisher(stage.settings, stage.names.transactional_id("local", 0), watchdog)
    contracts = BundledContracts(Catalog.bundled(), BusNames().events)
    wanted = reshard.plan(stage.settings, stage.url, 2)
    with pytest.raises(Fenced, match="shard 0"):
        reshard.apply(
            stage.settings,
            stage.url,
            contracts,
            wanted,
            observe=lambda name: usurper.open() if name == stage_name else None,
        )
    usurper.close()
    watchdog.close()
    plant(stage.url, 4)
    stage.resharded(2)
    drain(stage.of_shards(2))
    assert stage.faults() == []


def test_the_preview_changes_nothing_and_says_who_gets_what(stage: Stage) -> None:
    plant(stage.url, 4)
    never = stage.reshard(2)
    assert never.returncode == 78
    assert "IU_RELAY__SHARDS=2" in never.stderr
    drain(stage.of_shards(1))
    plant(stage.url, 1)
    before = held(stage.settings)
    said = stage.reshard(3)
    assert said.returncode == 0, said.stderr
    for words in (
        "1 shards (epoch 1) → 3 shards (epoch 2)",
        "partitions 0, 1, 2, 3 → partitions 0, 3",
        "none → partitions 2",
        "8 events wait",
        "IU_RELAY__SHARDS=3",
    ):
        assert words in said.stdout
    assert "nothing is changed yet" in said.stderr
    assert held(stage.settings) == before
    assert "nothing to change" in stage.reshard(1).stdout
    assert json.loads(stage.reshard(3, "--json").stdout)["waiting"] == {"0": 8}


def test_wrong_words_are_2(stage: Stage) -> None:
    drain(stage.of_shards(1))
    for words, says in (
        (("--to", "5"), "5 shards cannot share 4 partitions"),
        (("--to", "2", "--apply"), "--reason"),
    ):
        done = run_relay(stage.environment, "reshard", *words)
        assert done.returncode == 2, done.stderr
        assert says in done.stderr
