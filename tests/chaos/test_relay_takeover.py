"""How long events wait when the relay's holder is killed, frozen or told to stop: measured, and printed.

From the signal to the successor's first transaction, as a `read_committed` reader sees it. One
writer goes on meanwhile, so there is always something to publish. The bound asserted is only
what tells a takeover from a restart on a busy machine; the promise is 2 s, and the figures of a
quiet one stand in docs/architecture/relay-shards.md.

`IU_TEST_CHAOS=full` strikes ten times each.
"""

import os
import signal
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.kafka_reader import KafkaTopicReader
from iu_core.bus.names import BusNames
from iu_core.settings import Settings
from producers.relay.recovery import last_cursors
from tests.chaos.writers import Writers, plant
from tests.integration.relay.held_topic import bus_settings, chain_faults
from tests.integration.relay.relay_process import (
    DEADLINE_S,
    RelayProcess,
    drain,
    relay_environment,
    started,
)
from tests.integration.sql.sessions import open_gate

STRIKES = 10 if os.environ.get("IU_TEST_CHAOS") == "full" else 2
TAKEOVER_MAX_S = 10.0
ENDS_WITH = {signal.SIGKILL: -signal.SIGKILL, signal.SIGSTOP: 76, signal.SIGTERM: 0}

pytestmark = pytest.mark.chaos


@pytest.fixture
def settings(kafka_bootstrap: str, bus_prefix: str) -> Iterator[Settings]:
    made = bus_settings(kafka_bootstrap, bus_prefix)
    yield made
    admin, names = KafkaAdmin(made, "tests"), BusNames(bus_prefix)
    admin.delete([names.events, names.cursor])
    admin.close()


def sequence(reader: KafkaTopicReader, topic: str) -> int:
    """Return the number of the last transaction that a reader sees."""
    found = last_cursors(reader, topic)
    return found[0].sequence if found else 0


def await_publishing(reader: KafkaTopicReader, topic: str, above: int) -> None:
    give_up_at = time.monotonic() + DEADLINE_S
    while sequence(reader, topic) <= above:
        assert time.monotonic() < give_up_at, "the successor has published nothing"
        time.sleep(0.002)


@pytest.mark.timeout(40 * DEADLINE_S)
def test_a_successor_publishes_soon_after_its_predecessor_was_struck(
    migrated_url: str, kafka_bootstrap: str, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    open_gate(migrated_url)
    environment = relay_environment(migrated_url, kafka_bootstrap, settings.kafka.prefix)
    cursor_topic = BusNames(settings.kafka.prefix).cursor
    took_s: dict[signal.Signals, list[float]] = {number: [] for number in ENDS_WITH}
    with ExitStack() as opened:

        def start() -> RelayProcess:
            relay = RelayProcess(started(environment))
            opened.callback(relay.end)
            return relay

        writers = Writers(migrated_url, plant(migrated_url, 4), count=1, rest_max_s=0.02).start()
        opened.callback(writers.stop)
        reader = KafkaTopicReader(settings, "tests")
        opened.callback(reader.close)
        holder = start()
        holder.await_event("started")
        for number in list(ENDS_WITH) * STRIKES:
            standby = start()
            standby.await_event("standby")
            await_publishing(reader, cursor_topic, sequence(reader, cursor_topic))
            struck_at = time.monotonic()
            holder.send(number)
            first = standby.await_event("started")["sequence"]
            await_publishing(reader, cursor_topic, first)
            took_s[number].append(time.monotonic() - struck_at)
            if number is signal.SIGSTOP:
                holder.send(signal.SIGCONT)
            assert holder.wait() == ENDS_WITH[number], holder.log
            holder = standby
        writers.stop()
        holder.send(signal.SIGTERM)
        assert holder.wait() == 0, holder.log
    drain(environment)
    with capsys.disabled():
        print()  # noqa: T201 - the figures are the point
        for number, each_s in took_s.items():
            print(  # noqa: T201
                f"  {number.name}: {len(each_s)} takeovers, first event after "
                f"{statistics.median(each_s):.2f} s (median), {max(each_s):.2f} s (longest)"
            )
    assert chain_faults(migrated_url, settings) == []
    assert max(max(each_s) for each_s in took_s.values()) < TAKEOVER_MAX_S
