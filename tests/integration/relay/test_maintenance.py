"""A command gets the shard from a running relay, and the relay comes back when it is done."""

import signal
import threading
from collections.abc import Iterator

import pytest

from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.names import BusNames
from iu_core.database import Connection, Role
from iu_core.errors import Retryable
from iu_core.settings import Settings
from producers.relay.lock import LOCK_BASE, MAINTENANCE_BASE, PingedSession, ShardLock, holder
from producers.relay.maintenance import maintained
from tests.integration.relay.held_topic import bus_settings, chain_faults
from tests.integration.relay.relay_process import (
    await_that,
    drain,
    relay_environment,
    run_relay,
    running_relay,
)
from tests.integration.sql.sessions import Editor, open_gate, session

ANYWHERE = bus_settings("localhost:1", "")


@pytest.fixture
def onlooker(migrated_url: str) -> Iterator[Connection]:
    with session(migrated_url) as connection:
        yield connection


@pytest.fixture
def settings(kafka_bootstrap: str, bus_prefix: str) -> Iterator[Settings]:
    made = bus_settings(kafka_bootstrap, bus_prefix)
    yield made
    admin, names = KafkaAdmin(made, "tests"), BusNames(bus_prefix)
    admin.delete(list(names.relay_topics))
    admin.close()


def new_lock(url: str, shard: int = 0) -> ShardLock:
    return ShardLock(lambda: session(url, Role.RELAY, name="a-relay"), shard)


def test_inside_the_block_no_relay_gets_the_shard_afterwards_one_does(
    migrated_url: str, onlooker: Connection
) -> None:
    relay = new_lock(migrated_url)
    with maintained(ANYWHERE, migrated_url, [0, 2], application_name="a-command"):
        other = relay.acquire()
        assert other is not None
        assert (other.application, other.maintenance) == ("a-command", True)
        assert other == holder(onlooker, 0)
        assert holder(onlooker, 1) is None
    await_that(lambda: relay.acquire() is None, "the relay has the shard")
    relay.release()


def test_a_holder_is_told_and_the_command_waits_for_it(migrated_url: str) -> None:
    """The relay's own part: it sees that it is wanted, and lets go when it likes."""
    relay, entered = new_lock(migrated_url), threading.Event()
    assert relay.acquire() is None

    def command() -> None:
        with maintained(ANYWHERE, migrated_url, [0]):
            entered.set()

    thread = threading.Thread(target=command)
    thread.start()
    await_that(lambda: relay.wanted, "the relay sees that it is wanted")
    assert not entered.is_set()
    relay.check()  # nothing is lost yet
    relay.release()
    thread.join(10)
    assert entered.is_set()


def test_a_relay_that_does_not_let_go_is_named_and_nothing_stays_held(
    migrated_url: str, onlooker: Connection
) -> None:
    relay = new_lock(migrated_url, 1)
    assert relay.acquire() is None
    with (
        pytest.raises(Retryable, match="shard 1 is held by a-relay"),
        maintained(ANYWHERE, migrated_url, [0, 1], wait_s=0.3),
    ):
        pytest.fail("the relay still holds shard 1")
    assert holder(onlooker, 0) is None
    await_that(lambda: holder(onlooker, 1) is not None, "the relay still holds shard 1")
    relay.release()


def test_of_two_commands_one_waits(migrated_url: str) -> None:
    with (
        maintained(ANYWHERE, migrated_url, [0], application_name="the-first"),
        pytest.raises(Retryable, match="the-first"),
        maintained(ANYWHERE, migrated_url, [0], wait_s=0.2),
    ):
        pytest.fail("two commands hold one shard")


def test_a_frozen_command_keeps_no_relay_out(migrated_url: str, onlooker: Connection) -> None:
    """A session that is not pinged ends, and with it both locks."""
    frozen = PingedSession(lambda: session(migrated_url, Role.RELAY))
    assert frozen.take(MAINTENANCE_BASE, 0)
    assert frozen.take(LOCK_BASE, 0)
    relay = new_lock(migrated_url)
    assert relay.acquire() is not None
    await_that(lambda: relay.acquire() is None, "the relay has the shard")
    relay.release()
    frozen.close()


def test_a_running_relay_steps_aside_and_comes_back(
    migrated_url: str, kafka_bootstrap: str, settings: Settings
) -> None:
    open_gate(migrated_url)
    environment = relay_environment(migrated_url, kafka_bootstrap, settings.kafka.prefix)
    editor = Editor(migrated_url)
    with running_relay(environment) as relay:
        relay.await_event("started")
        editor.add(None)
        with maintained(settings, migrated_url, [0], application_name="a-command"):
            assert relay.await_event("standby")["holder"].startswith("a-command")
            editor.add(None)
            refused = run_relay(environment, "run", "--once")
            assert refused.returncode == 75
            assert "a-command" in refused.stderr
        await_that(lambda: len(relay.all_of("started")) == 2, "the relay is back")
        editor.add(None)
        relay.send(signal.SIGTERM)
        assert relay.wait() == 0, relay.log
    editor.session.close()
    drain(environment)
    assert chain_faults(migrated_url, settings) == []
