"""The relay killed at random points under adversarial writers: G1, G2, G3 and G9 on real servers.

Two relays run at any time, one holding the shard, one standing by. Again and again the holder
is killed (SIGKILL), or frozen (SIGSTOP) until the standby has taken over and then woken as a
zombie, which must find itself fenced and end with 76. Eight writers go on meanwhile. At the end
the topic is read with `read_committed` and held against the outbox by the chain checker.

Seeded, bounded and printed. `IU_TEST_CHAOS=full` runs the counts of the issue: 20 kills,
10,000 events and more. Which fault turns this red is shown by `test_relay_planted_faults.py`.
"""

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.names import BusNames
from iu_core.settings import Settings
from tests.chaos.writers import Writers, plant
from tests.integration.relay.held_topic import bus_settings, chain_faults, committed_rows, held
from tests.integration.relay.relay_process import (
    DEADLINE_S,
    RelayProcess,
    await_that,
    drain,
    relay_environment,
    started,
)
from tests.integration.sql.sessions import open_gate

FULL = os.environ.get("IU_TEST_CHAOS") == "full"
KILLS = 20 if FULL else 6
EVENTS_MIN = 10_000 if FULL else 1_500
TREES = 24
SEED = int(os.environ.get("IU_TEST_SEED", "1"))

pytestmark = pytest.mark.chaos


class Relays:
    """The holder of the shard and its standbys; the next standby starts while others take over."""

    def __init__(self, environment: dict[str, str], opened: ExitStack) -> None:
        self._environment = environment
        self._opened = opened
        self._chance = random.Random(SEED)
        self.zombies_fenced = 0
        self.killed = 0
        self._standbys = [self._start(), self._start()]
        self._holder = self._await_holder()

    def strike(self, number: int) -> None:
        """Kill or freeze the holder at a random point of its work; let a standby take over."""
        self._standbys[0].await_event("standby")
        time.sleep(self._chance.random() * 0.6)
        struck, freeze = self._holder, number % 2 == 1
        struck.send(signal.SIGSTOP if freeze else signal.SIGKILL)
        self._standbys.append(self._start())
        self._holder = self._await_holder()
        if freeze:
            time.sleep(self._chance.random() * 0.3)
            struck.send(signal.SIGCONT)
            code = struck.wait()
            assert code == 76, f"a woken zombie ended with {code}:\n{struck.log}"
            self.zombies_fenced += 1
        else:
            assert struck.wait() == -signal.SIGKILL
            self.killed += 1

    def stop(self) -> None:
        """End all as an operator would; each must end with 0."""
        for standby in self._standbys:
            standby.await_event("standby")  # before that, its signal handlers are not in place
        for relay in (*self._standbys, self._holder):
            relay.send(signal.SIGTERM)
            assert relay.wait() == 0, relay.log

    def _await_holder(self) -> RelayProcess:
        def started() -> RelayProcess | None:
            return next((relay for relay in self._standbys if relay.has_said("started")), None)

        await_that(started, "a standby has taken over")
        found = started()
        assert found is not None
        self._standbys.remove(found)
        return found

    def _start(self) -> RelayProcess:
        relay = RelayProcess(started(self._environment))
        self._opened.callback(relay.end)
        return relay


@pytest.fixture
def settings(kafka_bootstrap: str, bus_prefix: str) -> Iterator[Settings]:
    made = bus_settings(kafka_bootstrap, bus_prefix)
    yield made
    admin, names = KafkaAdmin(made, "tests"), BusNames(bus_prefix)
    admin.delete(list(names.relay_topics))
    admin.close()


@pytest.mark.timeout(20 * DEADLINE_S)
def test_no_kill_and_no_freeze_skips_repeats_or_disorders_an_event(
    migrated_url: str, kafka_bootstrap: str, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    open_gate(migrated_url)
    prefix, began = settings.kafka.prefix, time.monotonic()
    # Small transactions: many commits to be killed in, and windows cut into chunks.
    environment = relay_environment(migrated_url, kafka_bootstrap, prefix, relay__rows_max="40")
    trees = plant(migrated_url, TREES)
    with ExitStack() as opened:
        writers = Writers(migrated_url, trees, seed=SEED).start()
        opened.callback(writers.stop)
        relays = Relays(environment, opened)
        for number in range(KILLS):
            relays.strike(number)
        await_that(lambda: writers.committed >= EVENTS_MIN, f"{EVENTS_MIN} events committed")
        writers.stop()
        relays.stop()
    drain(environment)
    rows, (topic, cursors) = committed_rows(migrated_url), held(settings)
    with capsys.disabled():
        print(  # noqa: T201 - the figures are the point
            f"\n  seed {SEED}: {relays.killed} kills and {relays.zombies_fenced} zombies survived; "
            f"{len(rows)} events of {TREES} trees in {len(cursors)} transactions, "
            f"{time.monotonic() - began:.0f} s"
        )
    assert chain_faults(migrated_url, settings) == []
    assert len(rows) == writers.committed + 8 * TREES
    assert len(rows) >= EVENTS_MIN
    assert sum(map(len, topic.values())) == len(rows)
    assert relays.killed + relays.zombies_fenced == KILLS
