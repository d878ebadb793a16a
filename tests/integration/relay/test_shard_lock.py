"""One relay a shard: the second waits, a frozen holder loses the lock, a lost lock is noticed."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from iu_core.database import Connection, Role
from iu_core.errors import Fenced, Retryable
from producers.relay.lock import IDLE_TIMEOUT_MS, PingedSession, ShardLock, holder
from tests.integration.relay.relay_process import await_that
from tests.integration.sql.sessions import session

NewLock = Callable[..., ShardLock]


@pytest.fixture
def new_lock(migrated_url: str) -> Iterator[NewLock]:
    with ExitStack() as opened:

        def make(shard: int = 0, name: str = "relay") -> ShardLock:
            lock = ShardLock(lambda: session(migrated_url, Role.RELAY, name=name), shard)
            opened.callback(lock.release)
            return lock

        yield make


@pytest.fixture
def onlooker(migrated_url: str) -> Iterator[Connection]:
    with session(migrated_url) as connection:
        yield connection


def terminate(onlooker: Connection, shard: int = 0) -> None:
    found = holder(onlooker, shard)
    assert found is not None
    onlooker.execute("SELECT pg_terminate_backend(%s, 5000)", (found.pid,))


def check_for_a_while(lock: ShardLock) -> None:
    """Check until the loss is noticed: the holder's next ping meets it."""
    for _ in range(100):
        lock.check()
        time.sleep(0.02)


def test_a_shard_has_one_holder_at_a_time_and_says_who(new_lock: NewLock, onlooker: Connection) -> None:
    first, second = new_lock(name="iu-relay-a"), new_lock(name="iu-relay-b")
    assert holder(onlooker, 0) is None
    assert first.acquire() is None
    other = second.acquire()
    assert other is not None
    assert other.application == "iu-relay-a"
    assert other == holder(onlooker, 0)
    first.release()
    await_that(lambda: second.acquire() is None, "the second has the lock")
    second.check()


def test_other_shards_are_free(new_lock: NewLock) -> None:
    assert new_lock(0).acquire() is None
    assert new_lock(1).acquire() is None


def test_a_pinged_lock_outlives_the_idle_time_out(new_lock: NewLock, onlooker: Connection) -> None:
    lock = new_lock()
    lock.acquire()
    onlooker.execute("SELECT pg_sleep(%s)", (1.5 * IDLE_TIMEOUT_MS / 1_000,))
    lock.check()
    assert holder(onlooker, 0) is not None


def test_a_lock_that_is_not_pinged_is_lost(
    new_lock: NewLock, onlooker: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happens to a frozen process: the server ends its session, a standby gets in."""
    monkeypatch.setattr(PingedSession, "_ping", lambda _: None)
    frozen, standby = new_lock(), new_lock()
    frozen.acquire()
    assert standby.acquire() is not None
    await_that(lambda: standby.acquire() is None, "the standby has the lock")


def test_a_lock_lost_to_another_relay_is_a_fence(new_lock: NewLock, onlooker: Connection) -> None:
    zombie, standby = new_lock(name="zombie"), new_lock(name="standby")
    zombie.acquire()
    terminate(onlooker)
    await_that(lambda: standby.acquire() is None, "the standby has the lock")
    with pytest.raises(Fenced, match="standby"):
        check_for_a_while(zombie)


def test_a_lock_that_nobody_took_is_a_reason_to_start_over(new_lock: NewLock, onlooker: Connection) -> None:
    lock = new_lock()
    lock.acquire()
    terminate(onlooker)
    with pytest.raises(Retryable, match="was lost"):
        check_for_a_while(lock)
