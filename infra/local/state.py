"""What `iu services up` left running: written down, read back, and checked against the machine."""

import dataclasses
import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local.containers import Project
from infra.local.endpoints import Endpoints, endpoints_from_json, endpoints_to_json
from infra.local.launch import Started
from infra.local.ports import answers
from infra.local.stopping import is_running
from iu_core.errors import Misconfigured, Retryable
from iu_core.settings import Settings

FORMAT = 1
FILE = "services.json"
LOCK_POLL_S = 0.1
# What the processes of a service are called.
NAMES = {"postgres": ("postgres-",), "kafka": ("kafka", "mock-broker")}


@dataclass(frozen=True, slots=True)
class LeftRunning:
    """The state file: addresses, processes (or a compose project), when it began (Unix seconds)."""

    endpoints: Endpoints
    processes: tuple[Started, ...]
    project: Project | None
    begun_at: float

    def is_alive(self, service: str) -> bool:
        """Tell whether `service` (postgres, kafka) still runs; one named by the environment is taken to."""
        address = self.address(service)
        means = next((one.means for one in self.endpoints.choices if one.service == service), None)
        if address is None or means is None:
            return False
        if means == "environment":
            return True
        if means == "docker":
            host, _, port = address.rpartition(":")
            return answers(host, int(port))
        process = self.process(service)
        return process is not None and is_running(process)

    def process(self, service: str) -> Started | None:
        """Return the process of `service`, None if it is not a process of ours."""
        return next((one for one in self.processes if one.name.startswith(NAMES[service])), None)

    def address(self, service: str) -> str | None:
        """Return host:port of `service`, None if it was not among those asked for."""
        url = self.endpoints.database_url
        if service == "postgres":
            return url.rsplit("@", 1)[-1].split("/")[0] if url else None
        return self.endpoints.kafka_bootstrap_servers


def read(settings: Settings) -> Endpoints | None:
    """Return the services left running here, None if there are none; a dead one has address None."""
    left = load(settings.services.state_dir)
    if left is None:
        return None
    alive = {service: left.is_alive(service) for service in ("postgres", "kafka")}
    if not any(alive.values()):
        return None
    return dataclasses.replace(
        left.endpoints,
        database_url=left.endpoints.database_url if alive["postgres"] else None,
        kafka_bootstrap_servers=left.endpoints.kafka_bootstrap_servers if alive["kafka"] else None,
    )


def load(state_dir: Path) -> LeftRunning | None:
    """Return the state file of `state_dir`, None if there is none. Raises `Misconfigured` if unreadable."""
    file = state_dir / FILE
    try:
        value = json.loads(file.read_text())
        if value["format"] != FORMAT:
            raise ValueError(f"format {value['format']}, this version reads {FORMAT}")
        return LeftRunning(
            endpoints=endpoints_from_json(value["endpoints"]),
            processes=tuple(Started(**process) for process in value["processes"]),
            project=Project(**value["project"]) if value["project"] else None,
            begun_at=value["begun_at"],
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Misconfigured(
            "the record of the local services cannot be read",
            why=f"{file}: {error}",
            remedy=f"stop what it names by hand, then remove {file}",
        ) from error


def save(state_dir: Path, left: LeftRunning) -> None:
    """Write the state file, whole or not at all; only we may read it, for it holds a password."""
    value: dict[str, Any] = {
        "format": FORMAT,
        "endpoints": endpoints_to_json(left.endpoints),
        "processes": [dataclasses.asdict(process) for process in left.processes],
        "project": dataclasses.asdict(left.project) if left.project else None,
        "begun_at": left.begun_at,
    }
    unfinished = state_dir / f".{FILE}.{os.getpid()}"
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(value, file, indent=2)
    unfinished.replace(state_dir / FILE)


def forget(state_dir: Path) -> None:
    """Remove the state file."""
    (state_dir / FILE).unlink(missing_ok=True)


def lock(state_dir: Path, *, timeout_s: float) -> int:
    """Return a descriptor that holds the lock of `state_dir`; close it to let go.

    The supervisor inherits it, so the lock lasts until the services have ended, whatever became of
    who asked for them. Raises `Retryable` if another process holds it for longer than `timeout_s`,
    `Misconfigured` if the directory cannot be made or written.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
        descriptor = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Misconfigured(
            f"the state directory {state_dir} cannot be used",
            why=str(error),
            remedy="set IU_SERVICES__STATE_DIR to a directory that can be written",
        ) from error
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise Retryable(
                    "another process is using these local services",
                    why=f"it holds {state_dir / 'lock'}",
                    remedy="wait for it to end, or set IU_SERVICES__STATE_DIR to another directory",
                ) from None
            time.sleep(LOCK_POLL_S)
