"""The watchdog ends what hangs, leaves alone what returns, and is armed for one block at a time."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from iu_core.bus.watchdog import Watchdog

LIMIT_S = 0.2
PATIENCE_S = 5.0


class Expiries:
    def __init__(self) -> None:
        self.seen: list[str] = []
        self.limits_s: list[float] = []
        self.happened = threading.Event()

    def __call__(self, doing: str, limit_s: float) -> None:
        self.limits_s.append(limit_s)
        self.seen.append(doing)
        self.happened.set()


@pytest.fixture
def expiries() -> Expiries:
    return Expiries()


@pytest.fixture
def watchdog(expiries: Expiries) -> Iterator[Watchdog]:
    watchdog = Watchdog(LIMIT_S, expiries)
    yield watchdog
    watchdog.close()


def test_a_block_that_hangs_expires_once_and_by_name(watchdog: Watchdog, expiries: Expiries) -> None:
    with watchdog.guard("committing"):
        assert expiries.happened.wait(PATIENCE_S)
        time.sleep(2 * LIMIT_S)
    assert expiries.seen == ["committing"]
    assert expiries.limits_s == [LIMIT_S]


def test_blocks_that_return_and_idle_time_between_them_do_not_expire(
    watchdog: Watchdog, expiries: Expiries
) -> None:
    for _ in range(4):
        with watchdog.guard("quick"):
            time.sleep(LIMIT_S / 4)
    time.sleep(2 * LIMIT_S)
    assert expiries.seen == []


def test_a_block_that_raises_is_disarmed(watchdog: Watchdog, expiries: Expiries) -> None:
    with pytest.raises(ValueError, match="x"), watchdog.guard("failing"):
        raise ValueError("x")
    time.sleep(2 * LIMIT_S)
    assert expiries.seen == []


def test_a_block_inside_a_block_is_guarded_and_so_is_the_rest(watchdog: Watchdog, expiries: Expiries) -> None:
    with watchdog.guard("outer"):
        with watchdog.guard("inner"):
            pass
        assert expiries.happened.wait(PATIENCE_S)
    assert expiries.seen == ["outer"]


def test_a_block_may_have_a_limit_of_its_own_and_what_is_inside_does_not_change_it(
    watchdog: Watchdog, expiries: Expiries
) -> None:
    with watchdog.guard("long", 20 * LIMIT_S):
        with watchdog.guard("short"):
            pass
        assert not expiries.happened.wait(3 * LIMIT_S)
        with watchdog.guard("hanging"):
            assert expiries.happened.wait(PATIENCE_S)
    assert (expiries.seen, expiries.limits_s) == (["hanging"], [LIMIT_S])


def test_a_thread_stalls_when_a_block_outlives_its_limit_or_no_block_has_begun_for_as_long(
    watchdog: Watchdog,
) -> None:
    seen = []
    with watchdog.guard("long", 20 * LIMIT_S):
        time.sleep(2 * LIMIT_S)
        seen.append(watchdog.stalled)
        with watchdog.guard("short"):
            time.sleep(1.05 * LIMIT_S)
            seen.append(watchdog.stalled)
        seen.append(watchdog.stalled)
    seen.append(watchdog.stalled)
    time.sleep(1.5 * LIMIT_S)
    seen.append(watchdog.stalled)
    with watchdog.guard("at work again"):
        seen.append(watchdog.stalled)
    assert seen == [False, True, False, False, True, False]


def test_by_default_it_ends_the_process_with_75_even_while_a_lock_is_awaited() -> None:
    hang = (
        "import threading; from iu_core.bus.watchdog import Watchdog\n"
        "with Watchdog(0.1).guard('waiting for ever'): threading.Event().wait()"
    )
    ended = subprocess.run([sys.executable, "-c", hang], capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.returncode == 75
    assert "waiting for ever took longer than 0.1 s" in ended.stderr
