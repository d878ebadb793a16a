"""A network that fails between relay, broker and database, played by a proxy: G1, G2, G3, G9.

Connections are cut, reset, delayed, frozen and refused at random moments. A relay that is cut off
from everything while its standby takes over is a zombie of the network's making, and is fenced when
the network comes back. And a commit (EndTxn) is lost on its way: the request, so that nothing is
committed, or the answer, so that it is; the relay cannot tell, and the topic must.
"""

import signal
import time
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.chaos.arena import Arena
from tests.chaos.nursery import Nursery
from tests.chaos.ordeal import FULL, Kept, Ordeal, endured, on_each_path, retire
from tests.chaos.tcp_proxy import Loss, TcpProxy
from tests.integration.relay.relay_process import DEADLINE_S, await_that

CUTS = 60 if FULL else 8
PARTITIONS = 8 if FULL else 1
LOST_COMMITS = 5 if FULL else 1
BOUNDS = {
    "relay__watchdog_ms": "4000",
    "relay__transaction_timeout_ms": "6000",
    "kafka__request_timeout_ms": "2000",
    "database__statement_timeout_ms": "3000",
}

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1_500 if FULL else 280)]


def through(arena: Arena, ordeal: Ordeal) -> Mapping[str, str]:
    """Return the environment of a relay that reaches everything through the proxies."""
    return {
        **ordeal.direct,
        "IU_DATABASE_URL": arena.proxied(ordeal.url),
        "IU_KAFKA_BOOTSTRAP_SERVERS": arena.proxied_bootstrap,
    }


@pytest.fixture(autouse=True)
def whole_network(arena: Arena) -> Iterator[None]:
    """Whatever a test has done to the proxies, the next one finds them open."""
    yield
    for proxy in (arena.kafka_proxy, arena.postgres_proxy):
        proxy.delay_s = 0.0
        proxy.thaw()
        proxy.admit()


def cut(proxy: TcpProxy) -> None:
    proxy.cut()


def reset(proxy: TcpProxy) -> None:
    proxy.cut(reset=True)


def delay(proxy: TcpProxy) -> None:
    proxy.delay_s = 0.05
    time.sleep(0.5)
    proxy.delay_s = 0.0


def freeze(proxy: TcpProxy) -> None:
    proxy.freeze()
    time.sleep(1.0)
    proxy.thaw()


def shut(proxy: TcpProxy) -> None:
    proxy.shut()
    time.sleep(0.5)
    proxy.admit()


HARMS: tuple[Callable[[TcpProxy], None], ...] = (cut, reset, shut, freeze, delay)


@on_each_path
def test_no_cut_of_the_network_skips_repeats_or_disorders_an_event(
    arena: Arena, nursery: Nursery, path: str
) -> None:
    url, prefix = arena.database(), arena.prefix()
    with endured(url, arena.bootstrap, prefix, nursery, "cuts", path=path, settings=BOUNDS) as ordeal:
        kept = Kept(ordeal, through(arena, ordeal))
        kept.await_publishing()
        for number in range(CUTS):
            proxy = (arena.kafka_proxy, arena.postgres_proxy)[number % 2]
            harm = HARMS[number // 2 % len(HARMS)]
            ordeal.rest(0.4)
            harm(proxy)
            kept.await_publishing()
            ordeal.survived[f"{harm.__name__} {'database' if number % 2 else 'broker'}"] += 1
        retire(kept.relay)


@on_each_path
def test_a_relay_cut_off_while_another_took_over_is_fenced(arena: Arena, nursery: Nursery, path: str) -> None:
    url, prefix = arena.database(), arena.prefix()
    with endured(url, arena.bootstrap, prefix, nursery, "partitions", path=path) as ordeal:
        for _ in range(PARTITIONS):
            cut_off = ordeal.relay(environment=through(arena, ordeal))
            cut_off.await_event("started")
            standby = ordeal.relay()
            standby.await_event("standby")
            ordeal.rest(0.5)
            arena.kafka_proxy.freeze()
            arena.postgres_proxy.freeze()
            standby.await_event("started")
            ordeal.rest(0.5)
            arena.kafka_proxy.thaw()
            arena.postgres_proxy.thaw()
            assert cut_off.wait() == 76, cut_off.log
            ordeal.survived["partition"] += 1
            retire(standby)


@on_each_path
def test_a_commit_whose_outcome_nobody_knows_is_found_out_from_the_topic(
    arena: Arena, nursery: Nursery, path: str
) -> None:
    url, prefix = arena.database(), arena.prefix()
    with endured(url, arena.bootstrap, prefix, nursery, "lost commits", path=path, settings=BOUNDS) as ordeal:
        kept = Kept(ordeal, through(arena, ordeal))
        kept.await_publishing()
        for _ in range(LOST_COMMITS):
            for loss in ("request", "answer"):
                for ending in (asks_again, gives_up, is_killed):
                    lose_a_commit(arena, loss)
                    ending(arena, kept)
                    kept.await_publishing()
                    ordeal.survived[f"EndTxn {loss} lost, {ending.__name__}"] += 1
        retire(kept.relay)


def lose_a_commit(arena: Arena, loss: Loss) -> None:
    arena.kafka_proxy.lose_commit(loss)
    assert arena.kafka_proxy.await_loss(DEADLINE_S), "no commit came by"


def asks_again(arena: Arena, kept: Kept) -> None:
    """The connection comes back at once: the client sends its EndTxn again."""
    arena.kafka_proxy.admit()


def gives_up(arena: Arena, kept: Kept) -> None:
    """The broker stays out of reach until the watchdog ends the process with 75."""
    await_that(kept.restart_if_ended, "the watchdog ends the relay")
    arena.kafka_proxy.admit()


def is_killed(arena: Arena, kept: Kept) -> None:
    """The relay dies before it has asked again."""
    kept.relay.send(signal.SIGKILL)
    assert kept.relay.wait() == -signal.SIGKILL
    arena.kafka_proxy.admit()
    kept.replace()


def test_a_database_that_falls_silent_ends_the_relay_with_75(arena: Arena, nursery: Nursery) -> None:
    """No statement time-out helps where the server's answer does not come through: the watchdog does."""
    url, prefix = arena.database(), arena.prefix()
    with endured(url, arena.bootstrap, prefix, nursery, "silence", path="auto", settings=BOUNDS) as ordeal:
        kept = Kept(ordeal, through(arena, ordeal))
        kept.await_publishing()
        arena.postgres_proxy.freeze()
        await_that(lambda: kept.relay.poll() is not None, "the watchdog ends the relay")
        assert kept.relay.wait() == 75, kept.relay.log
        assert "watchdog" in kept.relay.log
        arena.postgres_proxy.thaw()
        kept.replace()
        kept.await_publishing()
        ordeal.survived["silent database"] += 1
        retire(kept.relay)
