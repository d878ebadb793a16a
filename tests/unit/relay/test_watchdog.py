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
        self.happened = threading.Event()

    def __call__(self, doing: str, limit_s: float) -> None:
        assert limit_s == LIMIT_S
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


def test_by_default_it_ends_the_process_with_75_even_while_a_lock_is_awaited() -> None:
    hang = (
        "import threading; from iu_core.bus.watchdog import Watchdog\n"
        "with Watchdog(0.1).guard('waiting for ever'): threading.Event().wait()"
    )
    ended = subprocess.run([sys.executable, "-c", hang], capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.returncode == 75
    assert "waiting for ever took longer than 0.1 s" in ended.stderr
