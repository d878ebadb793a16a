"""The services in containers, where a Docker engine answers and can get the images."""

import hashlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.local.launch import Launch
from infra.local.ports import LOOPBACK, kafka_is_ready, with_free_ports
from infra.local.postgres import accepts
from infra.local.supervision import Supervision, failed
from infra.local.waiting import wait_until
from infra.local.workplace import Workplace
from iu_core.errors import Terminal

COMPOSE_FILE = Path(__file__).parents[1] / "compose.yaml"
QUESTION_TIMEOUT_S = 15.0
PULL_TIMEOUT_S = 900.0
UP_TIMEOUT_S = 240.0
DOWN_TIMEOUT_S = 90.0
ANSWER_TIMEOUT_S = 60.0
# Compose substitutes the file's variables before it does anything, also when it only lists images.
ANY_PASSWORD = {"POSTGRES_PASSWORD": "unused"}


@dataclass(frozen=True, slots=True)
class Engine:
    """A Docker engine that has the images of the services asked for; `images`: by service."""

    program: str
    version: str
    images: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Project:
    """One compose project of ours: what `docker compose` needs to find it again."""

    program: str
    name: str
    environment: Mapping[str, str]

    def command(self, *words: str) -> tuple[str, ...]:
        """Return the command line of `docker compose` on this project."""
        return (self.program, "compose", "-p", self.name, "-f", str(COMPOSE_FILE), *words)


@dataclass(frozen=True, slots=True)
class Containers:
    """Running containers and where they answer; None for a service that was not asked for."""

    project: Project
    database_url: str | None
    kafka_address: str | None


def find_engine(
    services: Sequence[str], supervision: Supervision, place: Workplace, progress: Callable[[str], None]
) -> Engine | str:
    """Return the engine that has, or was able to pull, the images of `services`, or why there is none."""
    program = shutil.which("docker")
    if program is None:
        return "no docker on PATH"
    version = _ask(program, "version", "--format", "{{.Server.Version}}")
    if version is None:
        return "no engine answers"
    if _ask(program, "compose", "version") is None:
        return "docker has no compose plugin"
    images: dict[str, str] = {}
    for service in services:
        image = _ask(program, "compose", "-f", str(COMPOSE_FILE), "config", "--images", service)
        if not image:
            return "docker compose cannot read infra/compose.yaml"
        images[service] = image
        if _ask(program, "image", "inspect", image) is None:
            progress(f"pulling {image}")
            reason = _pull(program, image, supervision, place)
            if reason is not None:
                return f"the engine cannot get {image}: {reason}"
    return Engine(program, version, images)


def _pull(program: str, image: str, supervision: Supervision, place: Workplace) -> str | None:
    """Pull `image`; return what the engine says if it cannot."""
    pull = Launch(
        name=f"docker pull {image}",
        argv=(program, "pull", "--quiet", image),
        cwd=str(COMPOSE_FILE.parent),
        log=str(place.log("docker")),
        environment=dict(os.environ),
    )
    try:
        supervision.run(pull, timeout_s=PULL_TIMEOUT_S)
    except Terminal as error:
        return (error.why or "").splitlines()[-1]
    return None


def _ask(program: str, *words: str) -> str | None:
    """Return what docker prints, None if it fails or does not answer in time."""
    try:
        told = subprocess.run(
            [program, *words],
            capture_output=True,
            text=True,
            timeout=QUESTION_TIMEOUT_S,
            check=True,
            env={**os.environ, **ANY_PASSWORD},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip()


def start(
    engine: Engine, services: Sequence[str], supervision: Supervision, place: Workplace, *, keep: bool
) -> Containers:
    """Start `services` as one compose project named after the state directory, and wait for them.

    Volumes, and with them the data, stay when it ends, unless `place` is throwaway.
    Raises `Terminal` with the end of what compose said.
    """
    home = place.state_dir.resolve()
    home.mkdir(parents=True, exist_ok=True)
    name = project_name(home)
    password = _password(home / "docker.password")

    def begin(ports: tuple[int, ...]) -> Containers:
        variables = {
            "POSTGRES_PASSWORD": password,
            "POSTGRES_PORT": str(ports[0]),
            "KAFKA_PORT": str(ports[1]),
        }
        project = Project(engine.program, name, variables)
        environment = {**os.environ, **variables}
        if not keep:
            supervision.on_stop(project.command(*down_words(place)), environment, timeout_s=DOWN_TIMEOUT_S)
        supervision.run(
            Launch(
                name="docker compose up",
                argv=project.command("up", "--detach", "--wait", "--no-build", *services),
                cwd=str(home),
                log=str(place.log("docker")),
                environment=environment,
            ),
            timeout_s=UP_TIMEOUT_S,
        )
        return _answering(project, services, ports, password, place)

    return with_free_ports(2, begin)


def project_name(home: Path) -> str:
    """Return the name of the compose project of state directory `home`."""
    return f"iu-core-{hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:12]}"


def down_words(place: Workplace) -> tuple[str, ...]:
    """Return what to tell compose to end the project: with its data if `place` is throwaway."""
    return ("down", "--timeout", "20", *(("--volumes",) if place.throwaway else ()))


def _answering(
    project: Project, services: Sequence[str], ports: tuple[int, ...], password: str, place: Workplace
) -> Containers:
    """Ask each service from outside: a container that calls itself healthy is not yet reachable."""
    url = f"postgresql://postgres:{password}@{LOOPBACK}:{ports[0]}/postgres"
    questions: dict[str, Callable[[], bool]] = {
        "postgres": lambda: accepts(url),
        "kafka": lambda: kafka_is_ready(LOOPBACK, ports[1]),
    }
    for service in services:
        if not wait_until(questions[service], timeout_s=ANSWER_TIMEOUT_S):
            raise failed(
                f"container {service}",
                f"does not answer on its published port after {ANSWER_TIMEOUT_S:.0f} s",
                str(place.log("docker")),
            )
    return Containers(
        project,
        url if "postgres" in services else None,
        f"{LOOPBACK}:{ports[1]}" if "kafka" in services else None,
    )


def _password(file: Path) -> str:
    """Return the superuser's password; the volume keeps the first one it was made with."""
    if not file.exists():
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as made:
            made.write(secrets.token_urlsafe(24))
    return file.read_text().strip()
