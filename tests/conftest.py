"""Fixtures every test may use.

postgres_url       superuser URL of an empty database of its own; the test runs once per PostgreSQL found
migrated_url       the same, migrated and registered (a copy of a template), on the newest PostgreSQL
migrated_url_each  the same, once per PostgreSQL found
kafka_bootstrap    (session) host:port of a real Kafka broker, shared: use bus_prefix
bus_prefix         a prefix for topics and groups that no other test has
services_env       what a process needs to find `migrated_url`, and Kafka under `bus_prefix` (IU_…)
iu                 runs `iu …` as a user would, and returns exit code, stdout and stderr
postgres_server    (session) superuser URL of the server itself, once per PostgreSQL found
newest_server      (session) superuser URL of the newest server

Services are found as `iu services up` finds them (environment, Docker, processes on this machine),
once per session, and only those that a collected test asks for. They run without fsync: a test that
is about a crash of the database starts a server of its own (`infra.local.services(durable=True)`).

In CI (variable CI set) a skipped test is a failure unless tests/allowed_skips.toml lists it.
"""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Protocol

import pytest
from psycopg.conninfo import conninfo_to_dict

from infra.local.containers import COMPOSE_FILE
from infra.local.endpoints import Service
from iu_core.database import connect
from iu_core.database.migration_files import read
from iu_core.database.migrations import Migrator
from iu_core.resources import sql_dir
from iu_core.settings import DatabaseSettings, load_settings
from tests.services import (
    ROOT,
    ContainerPorts,
    TestServices,
    create_database,
    drop_database,
    postgres_labels,
    project_name,
    running,
)

ALLOWED_SKIPS = Path(__file__).parent / "allowed_skips.toml"
IU_TIMEOUT_S = 120.0
CHOICES = pytest.StashKey[tuple[str, ...]]()


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    """Tell pytest-docker to use the compose file that users have."""
    return str(COMPOSE_FILE)


@pytest.fixture(scope="session")
def docker_compose_project_name() -> str:
    """Name the project so that a killed run can be cleaned up by the supervisor."""
    return project_name()


@pytest.fixture(scope="session")
def docker_setup() -> list[str]:
    """Start what the tests use; images were found to be there before."""
    return ["up --detach --wait --no-build postgres kafka"]


@pytest.fixture(scope="session")
def test_services(request: pytest.FixtureRequest) -> Iterator[TestServices]:
    """Find or start every service that a collected test asks for."""
    asked = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    wanted: set[Service] = set()
    if "postgres_server" in asked or "newest_server" in asked:
        wanted.add("postgres")
    if "kafka_bootstrap" in asked:
        wanted.add("kafka")

    def start_containers(ports: ContainerPorts) -> None:
        # Compose reads them again when pytest-docker takes the project down.
        os.environ.update(ports.environment())
        request.getfixturevalue("docker_services")

    # Not under pytest's own directory: that is closed to the user PostgreSQL runs as.
    state_dir = Path(tempfile.mkdtemp(prefix="iu-tests-"))
    state_dir.chmod(0o711)
    with running(load_settings(), state_dir, frozenset(wanted), start_containers) as services:
        request.config.stash[CHOICES] = services.choices
        yield services


@pytest.fixture(scope="session")
def kafka_bootstrap(test_services: TestServices) -> str:
    """Return host:port of a real broker. Skips where only the mock could be had."""
    if test_services.kafka_bootstrap is None:
        pytest.skip(f"no real Kafka on this machine: {test_services.choices}")
    return test_services.kafka_bootstrap


@pytest.fixture
def bus_prefix() -> str:
    """Return a prefix of topics and groups of this test's own."""
    return f"t{uuid.uuid4().hex[:10]}."


@pytest.fixture(scope="session", params=postgres_labels())
def postgres_server(request: pytest.FixtureRequest, test_services: TestServices) -> str:
    """Return the superuser URL of one server; the test runs once per server."""
    return test_services.postgres_urls[request.param]


@pytest.fixture(scope="session")
def newest_server(test_services: TestServices) -> str:
    """Return the superuser URL of the newest PostgreSQL."""
    return test_services.postgres_urls[postgres_labels()[-1]]


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """Make an empty database; drop it afterwards."""
    url = create_database(postgres_server, "template0")
    yield url
    drop_database(postgres_server, url)


@pytest.fixture(scope="session")
def migrated_template() -> Iterator[Callable[[str], str]]:
    """Return what gives the name of a migrated database on a server, made at the first call."""
    made: dict[str, str] = {}
    broken: dict[str, str] = {}

    def template(server: str) -> str:
        if server in broken:
            pytest.fail(f"the migrations failed before: {broken[server]}")
        if server not in made:
            url = made[server] = create_database(server, "template0")
            try:
                with connect(url, None, settings=DatabaseSettings(), application_name="tests") as connection:
                    Migrator(connection, read(sql_dir())).up()
            except Exception as error:
                broken[server] = str(error)
                raise
        return str(conninfo_to_dict(made[server])["dbname"])

    yield template
    for server, url in made.items():
        drop_database(server, url)


@pytest.fixture
def migrated_url(newest_server: str, migrated_template: Callable[[str], str]) -> Iterator[str]:
    """Make a migrated database on the newest PostgreSQL; drop it afterwards."""
    url = create_database(newest_server, migrated_template(newest_server))
    yield url
    drop_database(newest_server, url)


@pytest.fixture
def migrated_url_each(postgres_server: str, migrated_template: Callable[[str], str]) -> Iterator[str]:
    """Make a migrated database, once per PostgreSQL found; drop it afterwards."""
    url = create_database(postgres_server, migrated_template(postgres_server))
    yield url
    drop_database(postgres_server, url)


@pytest.fixture
def services_env(migrated_url: str, kafka_bootstrap: str, bus_prefix: str) -> dict[str, str]:
    """Return the variables under which a process finds this test's database and topics."""
    return {
        "IU_DATABASE_URL": migrated_url,
        "IU_KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap,
        "IU_KAFKA__PREFIX": bus_prefix,
    }


@dataclass(frozen=True, slots=True)
class Ran:
    """What a finished `iu` left behind."""

    exit_code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """Return standard output as JSON."""
        return json.loads(self.stdout)


class RunIu(Protocol):
    """`iu("db", "up", env=services_env)`; what `env` names is added to an environment without IU_."""

    def __call__(
        self, *words: str, env: Mapping[str, str] | None = None, timeout_s: float = IU_TIMEOUT_S
    ) -> Ran: ...


@pytest.fixture
def iu(tmp_path: Path) -> RunIu:
    """Return what runs the command line in a process of its own, away from the developer's services."""

    def run(*words: str, env: Mapping[str, str] | None = None, timeout_s: float = IU_TIMEOUT_S) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "iu_core", *words],
            env=iu_environment(tmp_path, env or {}),
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


def iu_environment(state_dir: Path, added: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for `iu`: this process's without IU_, wide enough a terminal, and `added`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IU_")}
    own = {"IU_SERVICES__STATE_DIR": str(state_dir), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return kept | own | dict(added)


def allowed_skips() -> list[tuple[str, str]]:
    """Return the pairs (pattern of node ids, reason) of tests that may be skipped in CI."""
    entries = tomllib.loads(ALLOWED_SKIPS.read_text())["skip"]
    return [(entry["tests"], entry["reason"]) for entry in entries]


def _not_allowed(nodeid: str) -> bool:
    return not any(fnmatch(nodeid, pattern) for pattern, _ in allowed_skips())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, turn a skip that is not on the list into a failure: a test that never runs proves nothing."""
    report = yield
    if (
        os.environ.get("CI")
        and report.skipped
        and not hasattr(report, "wasxfail")
        and _not_allowed(item.nodeid)
    ):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, and not on tests/allowed_skips.toml: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole module that skips itself."""
    report = yield
    if os.environ.get("CI") and report.skipped and _not_allowed(collector.nodeid):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, and not on tests/allowed_skips.toml: {report.longrepr}"
    return report


def pytest_report_header() -> str:
    """Say which PostgreSQL versions the tests will run on."""
    return f"postgresql: {', '.join(postgres_labels())}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how the services were found."""
    for choice in terminalreporter.config.stash.get(CHOICES, ()):
        terminalreporter.write_line(choice)
