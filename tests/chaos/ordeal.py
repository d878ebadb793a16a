"""A database under adversarial writers, relays that come to harm, and the reckoning afterwards.

What every torture test of the relay shares: `endured` runs the writers for the length of a block, in
which the test does harm; then everything left is drained, the topic is read with `read_committed`
and held against the outbox by the chain checker, and what was survived is printed, by kind.

The two record paths: `IU_TEST_CHAOS=full` runs each test on both; otherwise relays take turns.
"""

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Final

import psutil
import pytest

from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.kafka_reader import KafkaTopicReader
from iu_core.bus.names import BusNames
from iu_core.errors import IUError
from tests.chaos.failing_relay import Strike
from tests.chaos.nursery import Nursery
from tests.chaos.writers import Writers, plant
from tests.integration.relay.held_topic import bus_settings, chain_faults, committed_rows, held
from tests.integration.relay.relay_process import RelayProcess, await_that, relay_environment
from tests.integration.sql.sessions import open_gate

FULL: Final = os.environ.get("IU_TEST_CHAOS") == "full"
SEED: Final = int(os.environ.get("IU_TEST_SEED", "1"))
TREES: Final = 24
# Values of `Ordeal.path`; "turns" lets relays alternate.
PATHS: Final = ("auto", "send") if FULL else ("turns",)
# Small transactions: many commits to be killed in, and windows cut into chunks.
ROWS_MAX: Final = "40"
# What shows that a relay has recovered: twice as many offsets, because each commit has a marker.
COMMITS: Final = 8
# How long a writer rests after each transaction, at most: what it takes, the relays and servers lack.
REST_MAX_S: Final = 0.1 if FULL else 0.2
RECOVERY_MAX_S: Final = 90.0

on_each_path = pytest.mark.parametrize("path", PATHS)


@dataclass
class Ordeal:
    """Where relays run and what they survived. `direct` is the environment without any proxy."""

    url: str
    direct: Mapping[str, str]
    writers: Writers
    survived: Counter[str] = field(default_factory=Counter)
    chance: random.Random = field(default_factory=lambda: random.Random(SEED))
    _nursery: Nursery = field(kw_only=True)
    _opened: ExitStack = field(kw_only=True)
    _paths: Iterator[str] = field(kw_only=True)

    def relay(
        self, strike: Strike | None = None, environment: Mapping[str, str] | None = None
    ) -> RelayProcess:
        """Start a relay; it is ended with the ordeal at the latest."""
        chosen = {**(environment or self.direct), "IU_RELAY__BATCH_PATH": next(self._paths)}
        relay = RelayProcess(self._nursery.birth(chosen, strike))
        self._opened.callback(relay.end)
        return relay

    def await_events(self, count: int) -> None:
        """Return once the writers have committed `count` more events."""
        wanted = self.writers.committed + count
        await_that(lambda: self.writers.committed >= wanted, f"{count} more events committed")

    def rest(self, seconds: float) -> None:
        """Let a random part of `seconds` pass."""
        time.sleep(self.chance.random() * seconds)


class Kept:
    """A relay that is started again when it ends with 75, as a supervisor would; anything else fails.

    Whether it publishes is asked of the broker, past every proxy.
    """

    def __init__(self, ordeal: Ordeal, environment: Mapping[str, str]) -> None:
        self._ordeal = ordeal
        self._environment = environment
        self.restarts = 0
        self.relay = ordeal.relay(environment=environment)

    def await_publishing(self) -> None:
        """Return once `COMMITS` more transactions are on the topic, starting it again as needed."""
        before: int | None = None
        give_up_at = time.monotonic() + RECOVERY_MAX_S
        while True:
            now = _commits(self._ordeal.direct)
            before = now if before is None else before
            if before is not None and now is not None and now >= before + COMMITS:
                return
            assert time.monotonic() < give_up_at, f"it does not publish again:\n{self.relay.log[-3_000:]}"
            self.restart_if_ended()
            time.sleep(0.1)

    def restart_if_ended(self) -> bool:
        """Start it again if it has ended; returns whether it had."""
        if (code := self.relay.poll()) is None:
            return False
        assert code == 75, f"it ended with {code}:\n{self.relay.log[-3_000:]}"
        self.restarts += 1
        self.relay = self._ordeal.relay(environment=self._environment)
        return True

    def replace(self) -> None:
        """Start another one after the test has ended it."""
        self.relay = self._ordeal.relay(environment=self._environment)


def _commits(environment: Mapping[str, str]) -> int | None:
    """Return how far the cursor partition is as `read_committed` sees it, None if nobody answers."""
    prefix = environment["IU_KAFKA__PREFIX"]
    reader = KafkaTopicReader(bus_settings(environment["IU_KAFKA_BOOTSTRAP_SERVERS"], prefix), "onlooker")
    try:
        return reader.end_offsets(BusNames(prefix).cursor, committed=True)[0]
    except IUError:
        return None
    finally:
        reader.close()


@contextmanager
def endured(
    url: str,
    bootstrap: str,
    prefix: str,
    nursery: Nursery,
    what: str,
    *,
    path: str,
    rest_max_s: float = REST_MAX_S,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Ordeal]:
    """Run writers for the block, drain what they left, and hold the topic against the outbox.

    `rest_max_s`: how long a writer rests, at most; `settings` are further IU_
    names of the relays, lower case.
    """
    open_gate(url)
    began = time.monotonic()
    direct = relay_environment(url, bootstrap, prefix, relay__rows_max=ROWS_MAX, **(settings or {}))
    trees = plant(url, TREES)
    bus = bus_settings(bootstrap, prefix)
    try:
        with ExitStack() as opened:
            writers = Writers(url, trees, seed=SEED, rest_max_s=rest_max_s)
            paths = cycle(("auto", "send") if path == "turns" else (path,))
            ordeal = Ordeal(url, direct, writers, _nursery=nursery, _opened=opened, _paths=paths)
            opened.callback(writers.stop)
            writers.start()
            yield ordeal
            writers.stop()
        _drain(nursery, direct)
        rows, (topic, cursors) = committed_rows(url), held(bus)
        survived = ", ".join(f"{count} {kind}" for kind, count in sorted(ordeal.survived.items()))
        sys.__stdout__.write(  # type: ignore[union-attr]
            f"\n  {what} ({path}, seed {SEED}): survived {survived}; {len(rows)} events in"
            f" {len(cursors)} transactions, {time.monotonic() - began:.0f} s\n"
        )
        assert chain_faults(url, bus) == []
        assert sum(map(len, topic.values())) == len(rows)
        counted = writers.committed + 8 * TREES
        assert len(rows) >= counted if writers.broken else len(rows) == counted
        assert sum(ordeal.survived.values()) > 0
    finally:
        admin = KafkaAdmin(bus, "tests")
        admin.delete(list(BusNames(prefix).relay_topics))
        admin.close()


def _drain(nursery: Nursery, environment: Mapping[str, str]) -> None:
    draining = RelayProcess(nursery.birth(environment, None, ("relay", "run", "--until-idle")))
    try:
        assert draining.wait() == 0, draining.log
    finally:
        draining.end()


def await_stopped(relay: RelayProcess) -> None:
    """Return once the relay has been stopped by a signal (its own, at a stage)."""

    def stopped() -> bool:
        assert relay.poll() is None, f"it ended with {relay.poll()} instead:\n{relay.log}"
        return bool(psutil.Process(relay.pid).status() == psutil.STATUS_STOPPED)

    await_that(stopped, "the relay stops at its stage")


def retire(relay: RelayProcess) -> None:
    """End a running relay as an operator would."""
    await_that(lambda: relay.has_said("started") or relay.has_said("standby"), "its handlers are in place")
    relay.send(signal.SIGTERM)
    assert relay.wait() == 0, relay.log
