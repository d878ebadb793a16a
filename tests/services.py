"""The services the tests run on, whichever way they come; the fixtures are in conftest.py.

What is looked for is what the collected tests ask for: a run of unit tests starts nothing.
Every start goes through `infra.local`, the same as `make demo` and `iu services`; with a Docker
engine the containers are started by pytest-docker from infra/compose.yaml.
"""

import os
import re
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from infra.local import broker, containers, postgres
from infra.local.discovery import Contained, Decision, Given, KafkaProcess, PostgresProcess, choose
from infra.local.endpoints import Service
from infra.local.ports import LOOPBACK, free_ports
from infra.local.supervision import Supervision
from infra.local.workplace import Workplace, unprivileged_account
from iu_core.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
# Logs outlive the run, so that a message can point at them; data does not.
LOG_DIR = ROOT / ".iu" / "test-logs"
GIVEN = "given"
CONTAINER_PASSWORD = uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class TestServices:
    """Where the services of this session are.

    `postgres_urls`: superuser URL of each server by its label: the major version, or `GIVEN` for
    the one that IU_DATABASE_URL names. `choices`: how each was found, in words.
    """

    __test__ = False

    postgres_urls: dict[str, str]
    kafka_bootstrap: str | None
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContainerPorts:
    """The ports on the loopback that the containers are published on."""

    postgres: int
    kafka: int

    def environment(self) -> dict[str, str]:
        """Return the variables that infra/compose.yaml reads."""
        return {
            "POSTGRES_PASSWORD": CONTAINER_PASSWORD,
            "POSTGRES_PORT": str(self.postgres),
            "KAFKA_PORT": str(self.kafka),
        }

    @classmethod
    def free(cls) -> "ContainerPorts":
        """Return ports that are free now."""
        return cls(*free_ports(2))


def postgres_labels() -> tuple[str, ...]:
    """Return the label of every PostgreSQL server the tests run on, the newest last."""
    if "IU_DATABASE_URL" in os.environ:
        return (GIVEN,)
    found = {installation.major for installation in postgres.postgres_versions()}
    return tuple(str(major) for major in sorted(found or {container_major()}))


def container_major() -> int:
    """Return the major version of PostgreSQL that infra/compose.yaml names."""
    match = re.search(r"postgres:(\d+)\}", containers.COMPOSE_FILE.read_text())
    assert match is not None
    return int(match[1])


@contextmanager
def running(
    settings: Settings,
    state_dir: Path,
    wanted: frozenset[Service],
    start_containers: Callable[[ContainerPorts], None],
) -> Iterator[TestServices]:
    """Yield the services `wanted`; all that was started is stopped, also when pytest is killed."""
    place = Workplace(state_dir, LOG_DIR, settings.services.cache_dir, durable=False, throwaway=True)
    with Supervision() as supervision:
        supervision.remove_at_end(state_dir)
        decision = choose(settings, wanted, supervision, place, lambda line: None)
        contained = _contained(decision, supervision, start_containers)
        with ThreadPoolExecutor(max_workers=3) as pool:
            kafka = pool.submit(_kafka, decision, supervision, place, contained)
            servers = {
                label: pool.submit(_postgres, label, decision, supervision, place, contained)
                for label in (postgres_labels() if "postgres" in wanted else ())
            }
            try:
                yield TestServices(
                    {label: server.result() for label, server in servers.items()},
                    kafka.result(),
                    tuple(map(str, decision.choices)),
                )
            except BaseException:
                supervision.stop()
                raise


def _contained(
    decision: Decision, supervision: Supervision, start_containers: Callable[[ContainerPorts], None]
) -> ContainerPorts | None:
    engines = [way.engine for way in decision.ways.values() if isinstance(way, Contained)]
    if not engines:
        return None
    ports = ContainerPorts.free()
    # pytest-docker takes them down itself, unless pytest is killed: then this does.
    project = containers.Project(engines[0].program, project_name(), ports.environment())
    supervision.on_stop(
        project.command("down", "--volumes", "--timeout", "10"),
        {**os.environ, **ports.environment()},
        timeout_s=containers.DOWN_TIMEOUT_S,
    )
    start_containers(ports)
    return ports


def project_name() -> str:
    """Return the name of the compose project of this run."""
    return f"iu-core-test-{os.getpid()}"


def _kafka(
    decision: Decision, supervision: Supervision, place: Workplace, contained: ContainerPorts | None
) -> str | None:
    match decision.ways.get("kafka"):
        case Given(address):
            return address
        case Contained():
            assert contained is not None
            return f"{LOOPBACK}:{contained.kafka}"
        case KafkaProcess(java, libraries):
            return broker.start_kafka(supervision, java, libraries, place).address
        case _:
            # The mock broker proves nothing, so no test runs on it except those about it.
            return None


def _postgres(
    label: str,
    decision: Decision,
    supervision: Supervision,
    place: Workplace,
    contained: ContainerPorts | None,
) -> str:
    way = decision.ways["postgres"]
    if isinstance(way, Given):
        return way.address
    if isinstance(way, Contained) and label == str(container_major()):
        assert contained is not None
        return f"postgresql://postgres:{CONTAINER_PASSWORD}@{LOOPBACK}:{contained.postgres}/postgres"
    assert isinstance(way, Contained | PostgresProcess)
    (installation,) = (one for one in postgres.postgres_versions() if str(one.major) == label)
    usable = postgres.usable([installation], unprivileged_account(), place)
    assert isinstance(usable, postgres.Installation), usable
    return postgres.start(supervision, usable, place).url


def create_database(server: str, template: str) -> str:
    """Make a database of a new name on `server` as a copy of `template`, and return its URL."""
    name = f"iu_test_{uuid.uuid4().hex[:16]}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    return on_database(server, name)


def drop_database(server: str, url: str) -> None:
    """Drop the database of `url`, whoever is still connected to it."""
    name = str(conninfo_to_dict(url)["dbname"])
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def on_database(server: str, name: str) -> str:
    """Return the URL of database `name` on the server of another URL, in the same form."""
    if "://" in server:
        scheme, _, rest = server.partition("://")
        address, _, query = rest.partition("?")
        return f"{scheme}://{address.split('/')[0]}/{name}" + (f"?{query}" if query else "")
    return make_conninfo(server, dbname=name)
