"""Broker and database restart, or crash, under a relay that drains and writers that write: G1, G2, G3.

The relay sits the outage out with new sessions of its own, or ends with 75 and is started again as
a supervisor would. The database is shut down immediately: what it had not written is gone, and
transaction numbers are given out again.
"""

import signal

import pytest

from tests.chaos.arena import Arena
from tests.chaos.nursery import Nursery
from tests.chaos.ordeal import FULL, Kept, endured, on_each_path, retire

HARMS = (
    ("database crash", "broker stop", "database crash", "broker kill") * 3
    if FULL
    else ("database crash", "broker kill", "database crash")
)
# A broker needs its seconds of processor time to come up, so the writers leave it some.
REST_MAX_S = 0.4
# Short enough that an outage of seconds is one to the relay, too.
BOUNDS = {
    "relay__watchdog_ms": "8000",
    "relay__transaction_timeout_ms": "10000",
    "kafka__request_timeout_ms": "3000",
}

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1_500 if FULL else 280)]


@on_each_path
def test_no_restart_of_broker_or_database_skips_repeats_or_disorders_an_event(
    arena: Arena, nursery: Nursery, path: str
) -> None:
    url, prefix = arena.database(), arena.prefix()
    with endured(
        url, arena.bootstrap, prefix, nursery, "restarts", path=path, rest_max_s=REST_MAX_S, settings=BOUNDS
    ) as ordeal:
        kept = Kept(ordeal, ordeal.direct)
        kept.await_publishing()
        for harm in HARMS:
            ordeal.rest(0.5)
            if harm == "database crash":
                arena.crash_postgres()
                ordeal.rest(1)
                arena.start_postgres()
            else:
                arena.crash_broker(signal.SIGTERM if harm == "broker stop" else signal.SIGKILL)
                ordeal.rest(1)
                arena.start_broker()
            kept.await_publishing()
            ordeal.survived[harm] += 1
        retire(kept.relay)
