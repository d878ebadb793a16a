"""How a relay told to stop ends: what it finishes, what it gives up, how long it may take.

A real process, database and broker; the broker is cut off by a proxy that holds everything back. After
each end a relay without a proxy publishes the rest, and the chain checker finds nothing lost, nothing
twice.
"""

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.names import BusNames
from iu_core.settings import Settings
from tests.integration.relay.broker_proxy import BrokerProxy, proxied
from tests.integration.relay.held_topic import bus_settings, chain_faults, held
from tests.integration.relay.relay_process import await_that, drain, relay_environment, running_relay
from tests.integration.sql.sessions import Editor, open_gate

GRACE_S = 2


@dataclass
class Stage:
    """One database, one set of topics, and a broker that can be cut off."""

    url: str
    settings: Settings
    proxy: BrokerProxy
    environment: dict[str, str]

    def behind_the_proxy(self, **settings: str) -> dict[str, str]:
        ours = {"IU_KAFKA_BOOTSTRAP_SERVERS": self.proxy.address}
        return self.environment | ours | {f"IU_{name.upper()}": value for name, value in settings.items()}

    def write(self, events: int) -> None:
        editor = Editor(self.url)
        root = editor.add(None)
        for _ in range(events - 1):
            editor.add(root)
        editor.session.close()

    def published(self) -> int:
        return sum(len(records) for records in held(self.settings)[0].values())

    def assert_nothing_lost(self) -> None:
        drain(self.environment)
        assert chain_faults(self.url, self.settings) == []


@pytest.fixture
def stage(migrated_url: str, kafka_bootstrap: str, bus_prefix: str) -> Iterator[Stage]:
    open_gate(migrated_url)
    settings = bus_settings(kafka_bootstrap, bus_prefix)
    environment = relay_environment(migrated_url, kafka_bootstrap, bus_prefix)
    with proxied(kafka_bootstrap) as proxy:
        yield Stage(migrated_url, settings, proxy, environment)
    admin = KafkaAdmin(settings, "tests")
    admin.delete(list(BusNames(bus_prefix).relay_topics))
    admin.close()


def test_a_backlog_is_left_where_the_transaction_at_hand_ends(stage: Stage) -> None:
    stage.write(300)
    with running_relay(stage.behind_the_proxy(relay__rows_max="1")) as relay:
        relay.await_event("started")
        relay.send(signal.SIGTERM)
        assert relay.wait() == 0, relay.log
        assert relay.await_event("stopped")["published"] < 300
    stage.assert_nothing_lost()


def test_a_broker_that_answers_no_more_is_given_up_and_that_is_no_failure(stage: Stage) -> None:
    """The client's own time-out is shorter than the grace period: the outcome is unclear, and stays so."""
    with running_relay(stage.behind_the_proxy(kafka__request_timeout_ms="1500")) as relay:
        relay.await_event("started")
        stage.proxy.hold()
        stage.write(5)
        stage.proxy.await_held()
        relay.send(signal.SIGTERM)
        assert relay.wait() == 0, relay.log
        assert "Kafka failed while publishing" in relay.await_event("gave up")["what"]
    stage.proxy.release()
    stage.assert_nothing_lost()


def test_the_grace_period_ends_what_still_hangs_with_75(stage: Stage) -> None:
    with running_relay(stage.behind_the_proxy(relay__grace_s=str(GRACE_S))) as relay:
        relay.await_event("started")
        stage.proxy.hold()
        stage.write(5)
        stage.proxy.await_held()
        began_s = time.monotonic()
        relay.send(signal.SIGTERM)
        assert relay.wait() == 75, relay.log
        assert GRACE_S <= time.monotonic() - began_s < GRACE_S + 5
        assert f"longer than {GRACE_S} s, the grace period" in relay.log
    stage.proxy.release()
    stage.assert_nothing_lost()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_ends_it_at_once_with_75(stage: Stage, number: signal.Signals) -> None:
    with running_relay(stage.behind_the_proxy(relay__grace_s="300")) as relay:
        relay.await_event("started")
        stage.proxy.hold()
        stage.write(5)
        stage.proxy.await_held()
        relay.send(signal.SIGTERM)
        time.sleep(0.2)  # two of the same kind at once would be one
        began_s = time.monotonic()
        relay.send(number)
        assert relay.wait() == 75, relay.log
        assert time.monotonic() - began_s < 5
        assert f"a second signal, {number.name}" in relay.log
    stage.proxy.release()
    stage.assert_nothing_lost()


def test_a_commit_that_is_never_answered_is_published_once_all_the_same(stage: Stage) -> None:
    """The broker may have committed before the process ended: then nothing is left to publish."""
    with running_relay(stage.behind_the_proxy(relay__rows_max="1", relay__grace_s=str(GRACE_S))) as relay:
        relay.await_event("started")
        stage.write(40)
        await_that(lambda: stage.published() > 3, "some are published")
        stage.proxy.hold()
        stage.write(4)  # a quick relay may have been through with the others
        stage.proxy.await_held()
        relay.send(signal.SIGTERM)
        assert relay.wait() in (0, 75), relay.log
    stage.proxy.release()
    stage.assert_nothing_lost()


def test_in_an_outage_it_ends_at_once(stage: Stage) -> None:
    with running_relay(stage.behind_the_proxy(kafka__request_timeout_ms="1000")) as relay:
        relay.await_event("started")
        stage.proxy.refuse()
        stage.write(5)
        relay.await_event("outage")
        relay.send(signal.SIGTERM)
        assert relay.wait() == 0, relay.log
    stage.assert_nothing_lost()


def test_a_standby_ends_with_0_and_its_leader_goes_on(stage: Stage) -> None:
    with running_relay(stage.environment) as leader:
        leader.await_event("started")
        with running_relay(stage.behind_the_proxy()) as standby:
            standby.await_event("standby")
            began_s = time.monotonic()
            standby.send(signal.SIGTERM)
            assert standby.wait() == 0, standby.log
            assert time.monotonic() - began_s < 5
        stage.write(5)
        await_that(lambda: stage.published() == 5, "the leader publishes")
        leader.send(signal.SIGTERM)
        assert leader.wait() == 0, leader.log
    stage.assert_nothing_lost()
