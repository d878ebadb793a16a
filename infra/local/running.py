"""Start what was chosen, and see to it that it ends."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from infra.local import broker, containers, postgres, state
from infra.local.discovery import (
    Contained,
    Decision,
    Given,
    KafkaProcess,
    MockProcess,
    PostgresProcess,
    Progress,
    Way,
    choose,
)
from infra.local.endpoints import Endpoints, Service
from infra.local.launch import Started
from infra.local.stopping import stop
from infra.local.supervision import Supervision
from infra.local.workplace import Workplace
from iu_core.settings import Settings

# A killed predecessor's supervisor may still be stopping its services.
LOCK_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class _Begun:
    address: str
    started: Started | None = None


@contextlib.contextmanager
def services(
    settings: Settings,
    *,
    wanted: Set[Service] = frozenset({"postgres", "kafka"}),
    state_dir: Path,
    keep: bool = False,
    throwaway: bool = False,
    durable: bool = True,
    log_dir: Path | None = None,
    progress: Progress = lambda line: None,
) -> Iterator[Endpoints]:
    """Find or start the services and yield where they are.

    On leaving, and also when this process is killed, what was started is stopped, unless `keep`:
    then it stays, recorded in `state_dir` for `state.read`, and is ended by `iu services down`.
    Services that are already recorded there as running are used and left alone.
    `throwaway` removes their data at the end (logs stay); `durable=False` saves PostgreSQL its fsync.

    Each choice is told to `progress` as one line. Raises `Misconfigured` if a service cannot be had,
    `Retryable` if another process uses `state_dir`, `Terminal` with the end of the log if one that
    was started does not come up.
    """
    state_dir = state_dir.resolve()
    place = Workplace(
        state_dir, log_dir or state_dir / "logs", settings.services.cache_dir, durable, throwaway
    )
    held = state.lock(state_dir, timeout_s=LOCK_TIMEOUT_S)
    try:
        left = _still_running(state_dir, frozenset(wanted))
        if left is not None:
            for choice in left.choices:
                progress(f"{choice} (left running)")
            os.close(held)
            held = -1
            yield left
            return
        with Supervision(detached=keep, inherit=held) as supervision:
            decision = choose(settings, frozenset(wanted), supervision, place, progress)
            for choice in decision.choices:
                progress(str(choice))
            begun, project = _begin(decision, supervision, place, keep)
            endpoints = _endpoints(settings, decision, begun)
            if keep:
                processes = tuple(one.started for one in begun.values() if one.started)
                state.save(state_dir, state.LeftRunning(endpoints, processes, project, time.time()))
                supervision.keep()
            yield endpoints
    finally:
        if held >= 0:
            os.close(held)


def _still_running(state_dir: Path, wanted: frozenset[Service]) -> Endpoints | None:
    left = state.load(state_dir)
    if left is None:
        return None
    if all(left.is_alive(service) for service in wanted - {"registry"}):
        return left.endpoints
    # Half of them has died: the other half holds the data that the new ones need.
    stop(left.processes)
    state.forget(state_dir)
    return None


def _begin(
    decision: Decision, supervision: Supervision, place: Workplace, keep: bool
) -> tuple[dict[Service, _Begun], containers.Project | None]:
    """Start every service at the same time; if one fails, all are stopped and its error is raised."""
    begun: dict[Service, _Begun] = {}
    contained: list[Service] = []
    tasks: dict[Service, Callable[[], _Begun]] = {}
    engine: containers.Engine | None = None
    for service, way in decision.ways.items():
        match way:
            case Given(address):
                begun[service] = _Begun(address)
            case Contained(engine):
                contained.append(service)
            case PostgresProcess() | KafkaProcess() | MockProcess():
                tasks[service] = _starter(way, supervision, place)
    project = None
    if engine is not None:
        ran = containers.start(engine, contained, supervision, place, keep=keep)
        project = ran.project
        addresses = {"postgres": ran.database_url, "kafka": ran.kafka_address}
        begun |= {service: _Begun(addresses[service] or "") for service in contained}
    with ThreadPoolExecutor(max_workers=2) as pool:
        futures = {service: pool.submit(task) for service, task in tasks.items()}
        try:
            begun |= {service: future.result() for service, future in futures.items()}
        except BaseException:
            # Ends the processes the other threads wait for, so that leaving the pool is quick.
            supervision.stop()
            raise
    return begun, project


def _starter(way: Way, supervision: Supervision, place: Workplace) -> Callable[[], _Begun]:
    def task() -> _Begun:
        match way:
            case PostgresProcess(installation):
                server = postgres.start(supervision, installation, place)
                return _Begun(server.url, server.started)
            case KafkaProcess(java, libraries):
                node = broker.start_kafka(supervision, java, libraries, place)
                return _Begun(node.address, node.started)
            case MockProcess():
                mock = broker.start_mock(supervision, place)
                return _Begun(mock.address, mock.started)
            case Given() | Contained():
                raise TypeError(f"{way} is no process")

    return task


def _endpoints(settings: Settings, decision: Decision, begun: dict[Service, _Begun]) -> Endpoints:
    kafka = decision.ways.get("kafka")
    addresses = {service: one.address for service, one in begun.items()}
    return Endpoints(
        database_url=addresses.get("postgres"),
        kafka_bootstrap_servers=addresses.get("kafka"),
        schema_registry_url=addresses.get("registry"),
        kafka_is_mock=isinstance(kafka, MockProcess) or (isinstance(kafka, Given) and settings.kafka.mock),
        choices=decision.choices,
    )
