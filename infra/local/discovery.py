"""Where PostgreSQL and Kafka come from, decided step by step, and the reason for every step not taken.

Order: what the environment names, each address on its own → a Docker engine that can get the
images → processes on this machine → for the broker, a mock that says it is one. The decision
(`choose`) is a value and starts nothing; `infra.local.services` acts on it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from infra.local import broker, containers, jars, postgres
from infra.local.endpoints import Choice, NotTaken, Service
from infra.local.supervision import Supervision
from infra.local.workplace import Workplace, unprivileged_account
from iu_core.errors import Misconfigured
from iu_core.settings import Settings

Progress: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Given:
    """The environment names it."""

    address: str


@dataclass(frozen=True, slots=True)
class Contained:
    """A container of `infra/compose.yaml`."""

    engine: containers.Engine


@dataclass(frozen=True, slots=True)
class PostgresProcess:
    """A PostgreSQL of this machine."""

    installation: postgres.Installation


@dataclass(frozen=True, slots=True)
class KafkaProcess:
    """Apache Kafka on the Java of this machine."""

    java: jars.Java
    libraries: Path


@dataclass(frozen=True, slots=True)
class MockProcess:
    """librdkafka's mock broker."""


Way: TypeAlias = Given | Contained | PostgresProcess | KafkaProcess | MockProcess


@dataclass(frozen=True, slots=True)
class Decision:
    """For each service wanted: the way to it, and the choice in words."""

    ways: Mapping[Service, Way]
    choices: tuple[Choice, ...]


def choose(
    settings: Settings,
    wanted: frozenset[Service],
    supervision: Supervision,
    place: Workplace,
    progress: Progress,
) -> Decision:
    """Decide for every service in `wanted`; may pull images or fetch jars, but starts no service.

    Raises `Misconfigured` with every reason if one of them cannot be had here.
    """
    given: dict[Service, str | None] = {
        "postgres": settings.database_url,
        "kafka": settings.kafka_bootstrap_servers,
        "registry": settings.schema_registry_url,
    }
    ways: dict[Service, Way] = {}
    choices: list[Choice] = []
    for service, address in given.items():
        # A registry is never started here: without one, schemas are named by fingerprint.
        if address is not None and (service in wanted or service == "registry"):
            ways[service] = Given(address)
            choices.append(Choice(service, "environment", _without_password(service, address)))
    missing = [service for service in given if service in wanted - ways.keys() - {"registry"}]
    if missing:
        engine = containers.find_engine(missing, supervision, place, progress)
        for service in missing:
            way, choice = _here(service, engine, supervision, place, progress)
            ways[service] = way
            choices.append(choice)
    return Decision(ways, tuple(choices))


def _here(
    service: Service,
    engine: containers.Engine | str,
    supervision: Supervision,
    place: Workplace,
    progress: Progress,
) -> tuple[Way, Choice]:
    passed = [NotTaken("environment", f"{VARIABLES[service]} is not set")]
    if isinstance(engine, containers.Engine):
        what = f"{engine.images[service]} in Docker {engine.version}"
        return Contained(engine), Choice(service, "docker", what, tuple(passed))
    passed.append(NotTaken("docker", engine))
    if service == "postgres":
        found = postgres.usable(postgres.postgres_versions(), unprivileged_account(), place)
        if isinstance(found, postgres.Installation):
            return PostgresProcess(found), Choice(service, "process", str(found), tuple(passed))
        raise _nothing("PostgreSQL", [*passed, NotTaken("process", found)])
    return _broker_here(passed, supervision, place, progress)


def _broker_here(
    passed: list[NotTaken], supervision: Supervision, place: Workplace, progress: Progress
) -> tuple[Way, Choice]:
    java = jars.find_java()
    libraries = java if isinstance(java, str) else jars.resolve(supervision, place, progress)
    if isinstance(java, jars.Java) and isinstance(libraries, Path):
        what = f"Apache Kafka {jars.kafka_version()} on Java {java.version}"
        return KafkaProcess(java, libraries), Choice("kafka", "process", what, tuple(passed))
    passed.append(NotTaken("process", str(libraries)))
    if broker.mock_is_installed():
        what = "librdkafka's MOCK broker: for a look only, nothing is proven on it"
        return MockProcess(), Choice("kafka", "mock", what, tuple(passed))
    raise _nothing("Kafka", [*passed, NotTaken("mock", "the wheel confluent-kafka is not installed")])


VARIABLES: Mapping[Service, str] = {
    "postgres": "IU_DATABASE_URL",
    "kafka": "IU_KAFKA_BOOTSTRAP_SERVERS",
    "registry": "IU_SCHEMA_REGISTRY_URL",
}


def _nothing(name: str, passed: list[NotTaken]) -> Misconfigured:
    variable = VARIABLES["postgres" if name == "PostgreSQL" else "kafka"]
    return Misconfigured(
        f"no {name} can be had on this machine",
        why="; ".join(f"{step.means}: {step.reason}" for step in passed),
        remedy=f"pip install 'iu-core[local]', or start a Docker engine, or set {variable}",
    )


def _without_password(service: Service, address: str) -> str:
    """Return `address` fit to be printed."""
    if service != "postgres":
        return address
    try:
        parts = conninfo_to_dict(address)
    except ProgrammingError:
        return "what IU_DATABASE_URL says"
    place = f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}"
    return f"{place}/{parts.get('dbname', parts.get('user', ''))}"
