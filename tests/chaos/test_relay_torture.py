"""The relay killed at random points under adversarial writers: G1, G2, G3 and G9 on real servers.

Two relays run at any time, one holding the shard, one standing by. Again and again the holder
is killed (SIGKILL), or frozen (SIGSTOP) until the standby has taken over and then woken as a
zombie, which must find itself fenced and end with 76. Eight writers go on meanwhile. At the end
the topic is read with `read_committed` and held against the outbox by the chain checker.

Seeded, bounded and printed. `IU_TEST_CHAOS=full` (`make chaos`) runs the counts of the issue: 200 kills,
100 on each record path. At every step instead of at random: `test_relay_failpoints.py`; restarts of the
servers and a failing network: `test_relay_restarts.py`, `test_relay_network.py`. Which fault turns
this red is shown by `test_relay_planted_faults.py`.
"""

import signal

import pytest

from tests.chaos.nursery import Nursery
from tests.chaos.ordeal import FULL, Ordeal, endured, on_each_path, retire
from tests.integration.relay.relay_process import RelayProcess, await_that

# On each of the two record paths, so 200 kills in all.
KILLS = 100 if FULL else 10
ZOMBIES = 20 if FULL else 4

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1_500 if FULL else 280)]


class Relays:
    """The holder of the shard and its standbys; the next standby starts while others take over."""

    def __init__(self, ordeal: Ordeal) -> None:
        self._ordeal = ordeal
        self._standbys = [ordeal.relay(), ordeal.relay()]
        self._holder = self._await_holder()

    def strike(self, *, freeze: bool) -> None:
        """Kill or freeze the holder at a random point of its work; let a standby take over."""
        self._standbys[0].await_event("standby")
        self._ordeal.rest(0.6)
        struck = self._holder
        struck.send(signal.SIGSTOP if freeze else signal.SIGKILL)
        self._standbys.append(self._ordeal.relay())
        self._holder = self._await_holder()
        if freeze:
            self._ordeal.rest(0.3)
            struck.send(signal.SIGCONT)
            code = struck.wait()
            assert code == 76, f"a woken zombie ended with {code}:\n{struck.log}"
        else:
            assert struck.wait() == -signal.SIGKILL
        self._ordeal.survived["zombies" if freeze else "kills"] += 1

    def stop(self) -> None:
        """End all as an operator would; each must end with 0."""
        for relay in (*self._standbys, self._holder):
            retire(relay)

    def _await_holder(self) -> RelayProcess:
        def started() -> RelayProcess | None:
            return next((relay for relay in self._standbys if relay.has_said("started")), None)

        await_that(started, "a standby has taken over")
        found = started()
        assert found is not None
        self._standbys.remove(found)
        return found


@on_each_path
def test_no_kill_and_no_freeze_skips_repeats_or_disorders_an_event(
    migrated_url: str, kafka_bootstrap: str, bus_prefix: str, nursery: Nursery, path: str
) -> None:
    with endured(migrated_url, kafka_bootstrap, bus_prefix, nursery, "random points", path=path) as ordeal:
        relays = Relays(ordeal)
        strikes = [False] * KILLS + [True] * ZOMBIES
        ordeal.chance.shuffle(strikes)
        for freeze in strikes:
            relays.strike(freeze=freeze)
        relays.stop()
