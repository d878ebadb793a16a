"""The relay dies, or is frozen, at every step of its life and of the publish cycle: G1, G2, G3, G9.

A failpoint, not chance: the relay under test sends itself the signal when it begins a stage for the
n-th time (`failing_relay`). Eight writers go on meanwhile, so each death has something at hand,
and the next relay finds what its predecessor left: no transaction, an open one, one whose records
are partly sent, all acknowledged, or a commit that nobody has noted.
"""

import signal

import pytest

from tests.chaos.failing_relay import STAGES, Strike
from tests.chaos.nursery import Nursery
from tests.chaos.ordeal import FULL, Ordeal, await_stopped, endured, on_each_path, retire
from tests.integration.relay.relay_process import await_that

# Once in a session, before it says that it has started.
STARTING = STAGES[: STAGES.index("reading")]
OCCURRENCES = (1, 2, 3, 5, 9) if FULL else (2,)
ZOMBIES = STAGES if FULL else ("fencing", "sending", "acknowledged", "committed")
TIMEOUT_S = 900 if FULL else 240

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(TIMEOUT_S)]


@on_each_path
def test_a_death_at_any_stage_skips_repeats_and_disorders_nothing(
    migrated_url: str, kafka_bootstrap: str, bus_prefix: str, nursery: Nursery, path: str
) -> None:
    with endured(migrated_url, kafka_bootstrap, bus_prefix, nursery, "deaths by stage", path=path) as ordeal:
        for occurrence in OCCURRENCES:
            for stage in STAGES:
                nth = 1 if stage in STARTING else occurrence
                dying = ordeal.relay(Strike(stage, nth, signal.SIGKILL))
                assert dying.wait() == -signal.SIGKILL, f"{stage}: {dying.log}"
                ordeal.survived[stage] += 1


@on_each_path
def test_a_relay_frozen_at_any_stage_is_fenced_when_it_wakes(
    migrated_url: str, kafka_bootstrap: str, bus_prefix: str, nursery: Nursery, path: str
) -> None:
    with endured(migrated_url, kafka_bootstrap, bus_prefix, nursery, "zombies by stage", path=path) as ordeal:
        for stage in ZOMBIES:
            wake_as_a_zombie(ordeal, Strike(stage, 1 if stage in STARTING else 2, signal.SIGSTOP))
            ordeal.survived[stage] += 1


def wake_as_a_zombie(ordeal: Ordeal, strike: Strike) -> None:
    """Let a relay freeze at a stage, another take over, and the first wake up.

    Who wakes before it has fenced anybody fences its successor. Then each of the two may find itself
    replaced; what neither may do is to end in another way.
    """
    zombie = ordeal.relay(strike)
    await_stopped(zombie)
    successor = ordeal.relay()
    successor.await_event("started")
    zombie.send(signal.SIGCONT)
    if strike.stage not in ("locked", "fencing"):
        assert zombie.wait() == 76, f"{strike.stage}: {zombie.log}"
        retire(successor)
        return
    both = (zombie, successor)
    await_that(lambda: any(relay.poll() is not None for relay in both), "one of the two is replaced")
    ended = [relay for relay in both if relay.poll() is not None]
    for relay in ended:
        assert relay.wait() == 76, f"{strike.stage}: {relay.log}"
    for relay in both:
        if relay not in ended:
            relay.send(signal.SIGTERM)
            assert relay.wait() in (0, 76), f"{strike.stage}: {relay.log}"
