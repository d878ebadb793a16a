"""Every step of the discovery, taken or passed over with its reason, on machines that lack something."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.local import jars, postgres
from infra.local.discovery import Decision, Given, KafkaProcess, MockProcess, PostgresProcess, choose
from infra.local.endpoints import Service
from infra.local.supervision import Supervision
from infra.local.workplace import Workplace, can_reach, unprivileged_account
from iu_core.errors import ExitCode, Misconfigured
from iu_core.settings import Settings
from tests.conftest import iu_environment
from tests.integration.infra.conftest import AddProgram

BOTH: frozenset[Service] = frozenset({"postgres", "kafka"})
JAVA = """echo 'openjdk version "%s" 2025-01-01' >&2"""
# Does what Maven would: makes the directory it is told, one jar in it, and counts its calls.
MAVEN = """
echo called >> "$0.calls"
sleep 0.2
for word in "$@"; do case $word in -DoutputDirectory=*)
    mkdir -p "${word#*=}"; echo jar > "${word#*=}/kafka.jar";; esac; done
"""


@pytest.fixture
def supervision() -> Iterator[Supervision]:
    with Supervision() as made:
        yield made


@pytest.fixture
def place(open_dir: Path) -> Workplace:
    return Workplace(open_dir / "state", open_dir / "logs", open_dir / "cache")


def _choose(supervision: Supervision, place: Workplace, **given: str) -> Decision:
    settings = Settings.model_validate(given)
    return choose(settings, BOTH, supervision, place, lambda line: None)


def _words(decision: Decision, service: str) -> str:
    return next(str(choice) for choice in decision.choices if choice.service == service)


@pytest.mark.usefixtures("bare_path")
def test_each_address_of_the_environment_counts_on_its_own(
    supervision: Supervision, place: Workplace
) -> None:
    decision = _choose(supervision, place, kafka_bootstrap_servers="broker:9092")
    assert decision.ways["kafka"] == Given("broker:9092")
    assert isinstance(decision.ways["postgres"], PostgresProcess)
    assert _words(decision, "kafka") == "kafka: environment, broker:9092"


@pytest.mark.usefixtures("bare_path")
def test_what_the_environment_names_is_told_without_its_password(
    supervision: Supervision, place: Workplace
) -> None:
    decision = _choose(
        supervision,
        place,
        database_url="postgresql://me:s3cret@db.example:5433/hub",
        kafka_bootstrap_servers="broker:9092",
        schema_registry_url="registry:8081",
    )
    assert [str(choice) for choice in decision.choices] == [
        "postgres: environment, db.example:5433/hub",
        "kafka: environment, broker:9092",
        "registry: environment, registry:8081",
    ]


@pytest.mark.usefixtures("bare_path")
def test_without_docker_and_java_the_broker_is_a_mock_that_says_so(
    supervision: Supervision, place: Workplace
) -> None:
    decision = _choose(supervision, place)
    assert decision.ways["kafka"] == MockProcess()
    assert _words(decision, "kafka") == (
        "kafka: mock, librdkafka's MOCK broker: for a look only, nothing is proven on it;"
        " environment: IU_KAFKA_BOOTSTRAP_SERVERS is not set; docker: no docker on PATH;"
        " process: no java on PATH"
    )


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 1", "docker: no engine answers"),
        ('[ "$1" = version ] && echo 26.1', "docker: docker has no compose plugin"),
        (
            'case "$1 $2" in "image "*) exit 1;; "pull "*) echo "dial tcp: no route to host" >&2; exit 1;;'
            ' "compose -f") echo postgres:18;; *) echo 26.1;; esac',
            "docker: the engine cannot get postgres:18: dial tcp: no route to host",
        ),
    ],
)
def test_docker_is_passed_over_with_the_reason(
    script: str, reason: str, supervision: Supervision, place: Workplace, add_program: AddProgram
) -> None:
    add_program("docker", script)
    decision = _choose(supervision, place)
    assert reason in _words(decision, "postgres")
    assert isinstance(decision.ways["postgres"], PostgresProcess)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (JAVA % "11.0.2", "java is 11.0.2, Kafka needs 17 or newer"),
        (JAVA % "1.8.0_412", "java is 1.8.0_412, Kafka needs 17 or newer"),
        ("exit 1", "java does not run"),
        (JAVA % "21.0.1", "there is no mvn on PATH"),
    ],
)
def test_java_is_passed_over_with_the_reason(
    script: str, reason: str, supervision: Supervision, place: Workplace, add_program: AddProgram
) -> None:
    add_program("java", script)
    decision = _choose(supervision, place)
    assert decision.ways["kafka"] == MockProcess()
    assert reason in _words(decision, "kafka")


def test_the_jars_are_fetched_once_and_then_found_offline(
    supervision: Supervision, place: Workplace, add_program: AddProgram
) -> None:
    add_program("java", JAVA % "17.0.15")
    maven = add_program("mvn", MAVEN)
    first = _choose(supervision, place).ways["kafka"]
    assert isinstance(first, KafkaProcess)
    assert [path.name for path in first.libraries.iterdir()] == ["kafka.jar"]
    maven.unlink()
    assert _choose(supervision, place).ways["kafka"] == first


def test_two_that_need_the_jars_at_once_fetch_them_once(place: Workplace, add_program: AddProgram) -> None:
    maven = add_program("mvn", MAVEN)

    def resolve() -> Path | str:
        with Supervision() as own:
            return jars.resolve(own, place, lambda line: None)

    with ThreadPoolExecutor(3) as pool:
        found = {future.result() for future in [pool.submit(resolve) for _ in range(3)]}
    assert found == {place.cache_dir / f"kafka-{jars.kafka_version()}"}
    assert maven.with_name("mvn.calls").read_text() == "called\n"


def test_a_fetch_that_fails_leaves_nothing_and_is_told(
    supervision: Supervision, place: Workplace, add_program: AddProgram
) -> None:
    add_program("java", JAVA % "17.0.15")
    half = MAVEN + "\necho '[ERROR] Failed to execute goal: Could not transfer artifact'; exit 1"
    maven = add_program("mvn", half)
    decision = _choose(supervision, place)
    assert decision.ways["kafka"] == MockProcess()
    assert "Could not transfer artifact" in _words(decision, "kafka")
    assert str(place.log("maven")) in _words(decision, "kafka")
    add_program("mvn", MAVEN)
    assert isinstance(_choose(supervision, place).ways["kafka"], KafkaProcess)
    assert maven.with_name("mvn.calls").read_text() == "called\n" * 2


def test_a_cache_that_cannot_be_made_is_told(
    supervision: Supervision, place: Workplace, add_program: AddProgram
) -> None:
    add_program("java", JAVA % "17.0.15")
    add_program("mvn", MAVEN)
    place.cache_dir.write_text("a file is in the way")
    assert "the jars of Kafka cannot be made" in _words(_choose(supervision, place), "kafka")


def test_without_the_wheel_the_postgresql_on_path_serves(
    supervision: Supervision, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "WHEEL", "no_such_wheel")
    if not postgres.postgres_versions():
        pytest.skip("no PostgreSQL on PATH here")
    way = _choose(supervision, place, kafka_bootstrap_servers="given:9092").ways["postgres"]
    assert isinstance(way, PostgresProcess)
    assert way.installation.source in ("PATH", "pg_config")
    assert way.installation.pg_dump.exists()


def test_a_postgresql_that_is_too_old_is_none(
    add_program: AddProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "WHEEL", "no_such_wheel")
    add_program("postgres", "echo 'postgres (PostgreSQL) 12.3'")
    add_program("initdb", "exit 0")
    assert postgres.postgres_versions() == ()


@pytest.mark.usefixtures("bare_path")
def test_a_machine_that_has_nothing_is_told_what_would_help(
    supervision: Supervision, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "WHEEL", "no_such_wheel")
    with pytest.raises(Misconfigured, match="no PostgreSQL can be had on this machine") as raised:
        _choose(supervision, place)
    assert raised.value.exit_code == ExitCode.CONFIGURATION
    assert raised.value.why == (
        "environment: IU_DATABASE_URL is not set; docker: no docker on PATH;"
        " process: no PostgreSQL 15 or newer: neither the wheel nor on PATH"
    )
    assert "pip install 'iu-core[local]'" in (raised.value.remedy or "")


def test_the_command_says_so_and_exits_78(bare_path: Path, open_dir: Path) -> None:
    program = (
        "import infra.local.postgres as p; p.WHEEL = 'no_such_wheel'\n"
        "from iu_core.cli.main import main; main(['services', 'up'])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=iu_environment(open_dir / "state", {"PATH": str(bare_path)}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == ExitCode.CONFIGURATION
    assert "no PostgreSQL can be had on this machine" in ran.stderr
    assert "remedy: pip install 'iu-core[local]'" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as somebody else")
def test_a_wheel_that_only_root_can_reach_is_copied_to_where_others_can(
    open_dir: Path, place: Workplace, supervision: Supervision
) -> None:
    wheel = postgres.postgres_versions()[0]
    assert wheel.source == "the wheel"
    closed = open_dir / "closed"
    closed.mkdir(mode=0o700)
    real = wheel.bin_dir.parents[2]
    for name in (postgres.WHEEL, f"{postgres.WHEEL}.libs"):
        (closed / name).symlink_to(real / name)
    hidden = postgres.Installation(
        wheel.major, wheel.version, closed / wheel.bin_dir.relative_to(real), wheel.source
    )
    account = unprivileged_account()
    assert not can_reach(hidden.bin_dir, account)
    copied = postgres.usable([hidden], account, place)
    assert isinstance(copied, postgres.Installation)
    assert can_reach(copied.bin_dir, account)
    server = postgres.start(supervision, copied, place)
    assert postgres.accepts(server.url)
    assert postgres.usable([hidden], account, place) == copied
