"""Real services, started, left running, killed, and gone."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from infra.local import jars, keeping, running, services, state
from infra.local.endpoints import Endpoints
from infra.local.ports import answers, kafka_is_ready
from infra.local.stopping import is_running
from infra.local.waiting import wait_until
from iu_core.errors import ExitCode, Retryable, Terminal
from iu_core.settings import ServicesSettings, Settings
from tests.conftest import Ran, iu_environment
from tests.integration.infra.conftest import AddProgram
from tests.services import ROOT

pytestmark = pytest.mark.timeout(180)

# Docker is tested in test_containers.py; here it is hidden, so that processes are what is chosen.
NO_DOCKER = {"DOCKER_HOST": "unix:///nowhere"}

PARENT = """
import json, sys, time
from pathlib import Path
from infra.local import services
from iu_core.settings import load_settings
with services(load_settings(), state_dir=Path(sys.argv[1]), throwaway=True) as endpoints:
    print(json.dumps(endpoints.environment()), flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def no_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NO_DOCKER.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def kept(settings: Settings) -> Iterator[Settings]:
    """Give a state directory whose services are ended after the test, whatever it left."""
    yield settings
    keeping.down(settings, erase=True)


def _iu(settings: Settings, *words: str, env: Mapping[str, str] | None = None) -> Ran:
    own = {"IU_SERVICES__CACHE_DIR": str(settings.services.cache_dir), **(env or {})}
    done = subprocess.run(
        [sys.executable, "-m", "iu_core", *words],
        env=iu_environment(settings.services.state_dir, own),
        capture_output=True,
        text=True,
        timeout=120,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@contextmanager
def _parent(settings: Settings) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    own = {"IU_SERVICES__CACHE_DIR": str(settings.services.cache_dir), "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(settings.services.state_dir)],
        env={**os.environ, **own},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    try:
        with parent.stdout:
            yield parent, json.loads(parent.stdout.readline())
    finally:
        parent.kill()
        parent.wait(10)


def _processes_of(directory: Path) -> list[psutil.Process]:
    """Return every process that names `directory` on its command line, and their children."""
    found = [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(directory) in word for word in process.info["cmdline"] or ())
        and process.pid != os.getpid()
    ]
    return found + [child for process in found for child in process.children(recursive=True)]


def _address(endpoints: Mapping[str, str]) -> tuple[str, int]:
    host, port = endpoints["IU_KAFKA_BOOTSTRAP_SERVERS"].split(":")
    return host, int(port)


def test_a_killed_parent_leaves_no_process_no_port_and_no_data(settings: Settings) -> None:
    state_dir = settings.services.state_dir
    with _parent(settings) as (parent, endpoints):
        with psycopg.connect(endpoints["IU_DATABASE_URL"]) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert kafka_is_ready(*_address(endpoints))
        processes = _processes_of(state_dir)
        assert len(processes) >= 4  # the parent, Kafka, the postmaster and its children
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait(10)
        _, alive = psutil.wait_procs(processes, timeout=30)
        assert alive == []
    assert not answers(*_address(endpoints))
    os.close(state.lock(state_dir, timeout_s=10))  # the supervisor is through
    assert sorted(path.name for path in state_dir.iterdir()) == ["lock", "logs"]


def test_two_cannot_use_one_state_directory(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "LOCK_TIMEOUT_S", 0.2)
    state_dir = settings.services.state_dir
    held = state.lock(state_dir, timeout_s=0)
    try:
        with pytest.raises(Retryable, match="another process"), services(settings, state_dir=state_dir):
            pass
    finally:
        os.close(held)


def test_postgresql_has_a_password_and_is_nobodys_superuser_process(settings: Settings) -> None:
    """Whoever shares the machine reaches the port: without the password it must be of no use."""
    with services(
        settings, wanted={"postgres"}, state_dir=settings.services.state_dir, throwaway=True
    ) as endpoints:
        with psycopg.connect(endpoints.postgres()) as connection:
            (password,) = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'")
            (data,) = connection.execute("SHOW data_directory")
            (fsync,) = connection.execute("SHOW fsync")
        assert str(password[0]).startswith("SCRAM-SHA-256")
        assert fsync == ("on",)
        without = endpoints.postgres().replace(endpoints.postgres().split(":")[2].split("@")[0], "wrong")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(without)
        (server,) = [
            process
            for process in _processes_of(Path(data[0]))
            if process.name().startswith("postgres") and "-D" in process.cmdline()
        ]
        assert server.uids().effective != 0
    assert not Path(data[0]).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as somebody else")
def test_a_state_directory_that_only_root_can_reach_is_no_obstacle(
    settings: Settings, open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(open_dir))
    closed = open_dir / "closed"
    closed.mkdir(mode=0o700)
    with services(settings, wanted={"postgres"}, state_dir=closed / "state", throwaway=True) as endpoints:
        with psycopg.connect(endpoints.postgres()) as connection:
            (data,) = connection.execute("SHOW data_directory")
        assert not Path(data[0]).is_relative_to(closed)
    assert not Path(data[0]).exists()


def test_a_broker_that_dies_at_its_start_is_told_and_takes_nothing_with_it(
    settings: Settings, open_dir: Path, add_program: AddProgram
) -> None:
    """PostgreSQL is started at the same time, and must not be left running."""
    asked = """case "$1" in -version) echo 'version "17.0.15"' >&2; exit 0;; esac"""
    add_program("java", f"{asked}\necho 'no memory for the heap'; exit 3")
    cache_dir = open_dir / "cache"
    (cache_dir / f"kafka-{jars.kafka_version()}").mkdir(parents=True)
    own = settings.model_copy(
        update={"services": ServicesSettings(state_dir=open_dir / "state", cache_dir=cache_dir)}
    )
    with pytest.raises(Terminal) as raised, services(own, state_dir=open_dir / "state", throwaway=True):
        pass
    assert "no memory for the heap" in (raised.value.why or "")
    assert "kafka.log" in (raised.value.remedy or "")
    assert (open_dir / "state" / "logs" / "kafka.log").exists()
    assert _processes_of(open_dir / "state") == []


def test_left_running_found_again_half_dead_mended_and_ended(kept: Settings) -> None:
    first = _iu(kept, "services", "up", "--json")
    assert first.exit_code == ExitCode.OK, first.stderr
    assert not first.json()["reused"]
    assert first.stderr.startswith("postgres: process, PostgreSQL")
    endpoints = _read(kept)
    with psycopg.connect(endpoints.postgres()) as connection:
        connection.execute("CREATE TABLE kept (n int)")

    again = _iu(kept, "services", "up", "--json")
    assert again.json()["reused"]
    assert again.json()["endpoints"] == first.json()["endpoints"]

    left = state.load(kept.services.state_dir)
    assert left is not None
    kafka = left.process("kafka")
    assert kafka is not None
    os.kill(kafka.pid, signal.SIGKILL)
    assert wait_until(lambda: not is_running(kafka), timeout_s=10)
    told = {one["service"]: one["running"] for one in _iu(kept, "services", "status", "--json").json()}
    assert told == {"postgres": True, "kafka": False}
    assert "DEAD" in _iu(kept, "services", "status").stdout

    mended = _iu(kept, "services", "up", "--json")
    assert mended.exit_code == ExitCode.OK, mended.stderr
    assert mended.json()["endpoints"]["database_url"] == endpoints.database_url
    with psycopg.connect(_read(kept).postgres()) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)

    preview = _iu(kept, "services", "down", "--erase", "--json")
    assert len(preview.json()["would_erase"]) == 2
    assert state.read(kept) is not None

    down = _iu(kept, "services", "down", "--json")
    assert sorted(down.json()["stopped"])[0] == "kafka"
    assert down.json()["killed"] == []
    assert _processes_of(kept.services.state_dir) == []
    assert state.read(kept) is None
    assert "Nothing was running" in _iu(kept, "services", "down").stdout
    assert "iu services up" in _iu(kept, "services", "status").stdout


def _read(settings: Settings) -> Endpoints:
    found = state.read(settings)
    assert found is not None
    return found


def test_services_left_running_are_used_and_left_alone(kept: Settings) -> None:
    up = keeping.up(kept, lambda line: None)
    lines: list[str] = []
    with services(kept, state_dir=kept.services.state_dir, progress=lines.append) as endpoints:
        assert endpoints == up.endpoints
    assert all(line.endswith("(left running)") for line in lines)
    assert state.read(kept) == up.endpoints


def test_without_docker_and_java_the_mock_is_labelled_everywhere(kept: Settings, bare_path: Path) -> None:
    up = _iu(kept, "services", "up", "--json", env={"PATH": str(bare_path)})
    assert up.exit_code == ExitCode.OK, up.stderr
    assert up.json()["endpoints"]["kafka_is_mock"] is True
    assert "MOCK broker" in up.stderr
    assert "IU_KAFKA__MOCK" in _iu(kept, "services", "up").stdout
    assert "MOCK broker" in _iu(kept, "services", "status").stdout
    host, port = _read(kept).kafka().split(":")
    assert kafka_is_ready(host, int(port))


def test_the_state_directory_cannot_be_made(open_dir: Path) -> None:
    (open_dir / "file").write_text("in the way")
    blocked = Settings(services=ServicesSettings(state_dir=open_dir / "file" / "state"))
    ran = _iu(blocked, "services", "up")
    assert ran.exit_code == ExitCode.CONFIGURATION
    assert "IU_SERVICES__STATE_DIR" in ran.stderr
    assert "Traceback" not in ran.stderr
