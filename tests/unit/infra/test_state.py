"""The record of what was left running: read back whole, and never believed without looking."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.local import keeping, state
from infra.local.endpoints import Choice, Endpoints
from infra.local.launch import Started
from infra.local.stopping import is_running, stop
from iu_core.errors import Misconfigured, Retryable
from iu_core.settings import ServicesSettings, Settings

URL = "postgresql://postgres:x@127.0.0.1:5999/postgres"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(services=ServicesSettings(state_dir=tmp_path, cache_dir=tmp_path / "cache"))


@pytest.fixture
def sleeper() -> Iterator[Started]:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    created = psutil.Process(child.pid).create_time()
    yield Started("postgres-18", child.pid, created, "log", "SIGTERM", 5.0)
    child.kill()
    child.wait()


def _left(*processes: Started) -> state.LeftRunning:
    choices = (Choice("postgres", "process", "PostgreSQL"), Choice("kafka", "process", "Kafka"))
    return state.LeftRunning(
        Endpoints(URL, "127.0.0.1:5998", None, False, choices), processes, None, time.time()
    )


def test_nothing_recorded_is_nothing_running(settings: Settings) -> None:
    assert state.read(settings) is None
    assert keeping.status(settings) == ()


def test_the_record_is_read_back_and_only_ours_to_read(settings: Settings, sleeper: Started) -> None:
    left = _left(sleeper)
    state.save(settings.services.state_dir, left)
    assert state.load(settings.services.state_dir) == left
    assert (settings.services.state_dir / state.FILE).stat().st_mode & 0o077 == 0


def test_a_dead_service_has_no_address(settings: Settings, sleeper: Started) -> None:
    """Kafka is recorded, but no process of that name: it has died."""
    state.save(settings.services.state_dir, _left(sleeper))
    found = state.read(settings)
    assert found is not None
    assert found.database_url == URL
    assert found.kafka_bootstrap_servers is None
    told = {one.service: one.running for one in keeping.status(settings)}
    assert told == {"postgres": True, "kafka": False}


def test_a_pid_that_now_belongs_to_somebody_else_is_not_ours(settings: Settings, sleeper: Started) -> None:
    """Same pid, another time of creation: `down` must not signal it."""
    stranger = Started("postgres-18", sleeper.pid, sleeper.create_time - 3600, "log", "SIGKILL", 1.0)
    state.save(settings.services.state_dir, _left(stranger))
    assert state.read(settings) is None
    assert keeping.down(settings, erase=False).stopped == ()
    assert is_running(sleeper)


def test_down_stops_what_is_recorded_and_forgets_it(settings: Settings, sleeper: Started) -> None:
    state.save(settings.services.state_dir, _left(sleeper))
    assert keeping.down(settings, erase=False).stopped == ("postgres-18",)
    assert not is_running(sleeper)
    assert state.load(settings.services.state_dir) is None
    assert keeping.down(settings, erase=False).stopped == ()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99}', '{"format": 1, "endpoints": {}}'])
def test_a_record_that_cannot_be_read_is_named(settings: Settings, content: str) -> None:
    (settings.services.state_dir / state.FILE).write_text(content)
    with pytest.raises(Misconfigured, match="cannot be read") as raised:
        state.read(settings)
    assert state.FILE in (raised.value.remedy or "")


def test_the_state_directory_is_used_by_one_at_a_time(tmp_path: Path) -> None:
    held = state.lock(tmp_path, timeout_s=0)
    with pytest.raises(Retryable, match="another process"):
        state.lock(tmp_path, timeout_s=0.2)
    os.close(held)
    os.close(state.lock(tmp_path, timeout_s=0))


def test_who_does_not_stop_when_asked_is_killed() -> None:
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
            "print('deaf', flush=True); time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == b"deaf\n"
    deaf = Started("deaf", child.pid, psutil.Process(child.pid).create_time(), "log", "SIGTERM", 0.2)
    begin = time.monotonic()
    assert stop([deaf]) == ("deaf",)
    assert time.monotonic() - begin < 5
    assert not is_running(deaf)
    child.wait()
