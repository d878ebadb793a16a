"""The services in containers, on a real engine. Skipped where none answers (see services.md)."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from infra.local import keeping, services, state
from infra.local.containers import PULL_TIMEOUT_S, project_name
from infra.local.ports import kafka_is_ready
from infra.local.waiting import wait_until
from iu_core.settings import ServicesSettings, Settings
from tests.services import ROOT, TestServices

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def engine() -> str:
    program = shutil.which("docker")
    if program is None:
        pytest.skip("no docker on PATH")
    asked = subprocess.run([program, "version"], capture_output=True, check=False, timeout=30)
    if asked.returncode != 0:
        pytest.skip("no Docker engine answers")
    return program


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    made = Settings(services=ServicesSettings(state_dir=tmp_path / "state", cache_dir=tmp_path / "cache"))
    yield made
    keeping.down(made, erase=True)


def _of_project(engine: str, what: str, settings: Settings) -> list[str]:
    """Return the containers ("ps --all") or volumes ("volume ls") that belong to this state directory."""
    name = project_name(settings.services.state_dir)
    told = subprocess.run(
        [engine, *what.split(), "--quiet", "--filter", f"label=com.docker.compose.project={name}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return told.stdout.split()


def _volumes(engine: str) -> set[str]:
    """Return every volume of the engine, nameless ones too."""
    told = subprocess.run(
        [engine, "volume", "ls", "--quiet"], capture_output=True, text=True, check=True, timeout=30
    )
    return set(told.stdout.split())


def _answer(url: str, address: str) -> None:
    with psycopg.connect(url) as connection:
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)
    host, port = address.rsplit(":", 1)
    assert kafka_is_ready(host, int(port))


def test_the_engine_is_chosen_and_everything_is_taken_down(engine: str, settings: Settings) -> None:
    lines: list[str] = []
    with services(
        settings, state_dir=settings.services.state_dir, throwaway=True, progress=lines.append
    ) as endpoints:
        assert [choice.means for choice in endpoints.choices] == ["docker", "docker"]
        _answer(endpoints.postgres(), endpoints.kafka())
        assert len(_of_project(engine, "ps", settings)) == 2
    assert lines[0].startswith("postgres: docker, ")
    assert "environment: IU_DATABASE_URL is not set" in lines[0]
    assert _of_project(engine, "ps --all", settings) == []
    assert _of_project(engine, "volume ls", settings) == []


def test_a_killed_parent_leaves_no_container(engine: str, settings: Settings) -> None:
    program = (
        "import sys, time; from pathlib import Path; from infra.local import services;"
        "from iu_core.settings import load_settings\n"
        "with services(load_settings(), state_dir=Path(sys.argv[1]), throwaway=True) as endpoints:\n"
        "    print('ready', flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(settings.services.state_dir)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    with parent.stdout:
        assert parent.stdout.readline() == "ready\n"
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait(10)
    assert wait_until(lambda: not _of_project(engine, "ps --all", settings), timeout_s=90)
    # The lock is held until the supervisor is through with it, volumes too.
    os.close(state.lock(settings.services.state_dir, timeout_s=60))
    assert _of_project(engine, "volume ls", settings) == []


def test_what_is_left_running_keeps_its_data_until_it_is_erased(engine: str, settings: Settings) -> None:
    volumes_before = _volumes(engine)
    first = keeping.up(settings, lambda line: None)
    with psycopg.connect(first.endpoints.postgres()) as connection:
        connection.execute("CREATE TABLE kept (n int)")
    assert keeping.up(settings, lambda line: None).reused
    assert {one.service: one.running for one in keeping.status(settings)} == {
        "postgres": True,
        "kafka": True,
    }
    keeping.down(settings, erase=False)
    assert _of_project(engine, "ps --all", settings) == []

    again = keeping.up(settings, lambda line: None)
    assert not again.reused
    _answer(again.endpoints.postgres(), again.endpoints.kafka())
    with psycopg.connect(again.endpoints.postgres()) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)

    # A broker that is killed is started again by `up`, with the log it had.
    subprocess.run(
        [engine, "kill", *_of_project(engine, "ps", settings)], check=True, capture_output=True, timeout=60
    )
    assert state.read(settings) is None
    third = keeping.up(settings, lambda line: None)
    _answer(third.endpoints.postgres(), third.endpoints.kafka())

    keeping.down(settings, erase=True)
    assert _volumes(engine) <= volumes_before


def test_an_engine_that_cannot_get_an_image_is_passed_over(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that resolves nowhere: what a machine without a way to the registry sees."""
    monkeypatch.setenv("POSTGRES_IMAGE", "registry.invalid/postgres:18")
    begin = time.monotonic()
    with services(
        settings, wanted={"postgres"}, state_dir=settings.services.state_dir, throwaway=True
    ) as endpoints:
        (choice,) = endpoints.choices
        assert choice.means == "process"
        assert "cannot get registry.invalid/postgres:18" in str(choice)
    assert time.monotonic() - begin < PULL_TIMEOUT_S


def test_the_fixtures_give_containers_where_there_is_an_engine(
    kafka_bootstrap: str, newest_server: str, test_services: TestServices
) -> None:
    assert [choice.split(",")[0] for choice in test_services.choices] == [
        "postgres: docker",
        "kafka: docker",
    ]
    _answer(newest_server, kafka_bootstrap)
