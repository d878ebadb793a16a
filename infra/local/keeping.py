"""Services that outlive the command that started them: `iu services up|down|status`."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from infra.local import state
from infra.local.containers import DOWN_TIMEOUT_S
from infra.local.discovery import Progress
from infra.local.endpoints import Endpoints
from infra.local.running import LOCK_TIMEOUT_S, services
from infra.local.stopping import is_running, stop
from infra.local.workplace import reachable_directory, unprivileged_account
from iu_core.errors import Retryable, Terminal
from iu_core.settings import Settings

NAMES = ("postgres", "kafka")


@dataclass(frozen=True, slots=True)
class Up:
    """What `up` found or started. `reused`: they were running already, nothing was started."""

    endpoints: Endpoints
    reused: bool


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One service: `means` says how it was found; `pid` and `log` only for a process of ours."""

    service: str
    running: bool
    means: str
    address: str | None
    pid: int | None
    log: str | None


@dataclass(frozen=True, slots=True)
class Down:
    """What `down` ended. `killed`: those that did not end when asked; `erased`: data removed."""

    stopped: tuple[str, ...]
    killed: tuple[str, ...]
    erased: tuple[str, ...]


def up(settings: Settings, progress: Progress) -> Up:
    """Leave PostgreSQL and Kafka running, recorded in the state directory; reuse those that are.

    Raises what `infra.local.services` raises; then nothing is left running that was not before.
    """
    before = state.load(settings.services.state_dir)
    alive = before is not None and all(map(before.is_alive, NAMES))
    with services(settings, state_dir=settings.services.state_dir, keep=True, progress=progress) as endpoints:
        return Up(endpoints, alive)


def status(settings: Settings) -> tuple[ServiceStatus, ...]:
    """Return each service that was left running here, and whether it still does; empty if none was."""
    left = state.load(settings.services.state_dir)
    if left is None:
        return ()
    found = []
    for choice in left.endpoints.choices:
        if choice.service not in NAMES:
            continue
        process = left.process(choice.service)
        found.append(
            ServiceStatus(
                service=choice.service,
                running=left.is_alive(choice.service),
                means=f"{choice.means}, {choice.what}",
                address=left.address(choice.service),
                pid=process.pid if process else None,
                log=process.log if process else None,
            )
        )
    return tuple(found)


def down(settings: Settings, *, erase: bool) -> Down:
    """End what `up` left running; what the environment named is not touched. Idempotent.

    Only processes that are still the ones recorded are signalled. `erase` removes their data too.
    Raises `Retryable` if another process is using the state directory or compose does not end in
    time, `Terminal` if compose fails.
    """
    state_dir = settings.services.state_dir.resolve()
    held = state.lock(state_dir, timeout_s=LOCK_TIMEOUT_S)
    try:
        left = state.load(state_dir)
        stopped: tuple[str, ...] = ()
        killed: tuple[str, ...] = ()
        if left is not None:
            stopped = tuple(process.name for process in left.processes if is_running(process))
            killed = stop(left.processes)
            if left.project is not None:
                _compose_down(left, erase)
                stopped = (*stopped, f"compose project {left.project.name}")
        state.forget(state_dir)
        return Down(stopped, killed, _erase(state_dir) if erase else ())
    finally:
        os.close(held)


def _compose_down(left: state.LeftRunning, erase: bool) -> None:
    if left.project is None:
        return
    words = ("down", "--timeout", "20", *(("--volumes",) if erase else ()))
    try:
        done = subprocess.run(
            left.project.command(*words),
            env={**os.environ, **left.project.environment},
            capture_output=True,
            text=True,
            timeout=DOWN_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Retryable(
            "docker compose down has not ended in time",
            why=f"waited {DOWN_TIMEOUT_S:.0f} s",
            remedy="iu services down",
        ) from error
    if done.returncode != 0:
        raise Terminal(
            "the containers were not taken down", why=done.stderr.strip()[-500:], remedy="docker ps"
        )


def erasable(settings: Settings) -> tuple[str, ...]:
    """Return the directories that `down(erase=True)` would remove."""
    return tuple(map(str, _data(settings.services.state_dir.resolve())))


def _erase(state_dir: Path) -> tuple[str, ...]:
    gone = _data(state_dir)
    for path in gone:
        shutil.rmtree(path, ignore_errors=True)
    (state_dir / "docker.password").unlink(missing_ok=True)
    return tuple(map(str, gone))


def _data(state_dir: Path) -> list[Path]:
    if not state_dir.exists():
        return []
    homes = {state_dir, reachable_directory(state_dir, unprivileged_account())}
    found = {path for home in homes for path in (*home.glob("postgres-*"), *home.glob("kafka"))}
    return sorted(path for path in found if path.is_dir())
