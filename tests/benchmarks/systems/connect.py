"""A Kafka Connect worker with Debezium: started here, spoken to over its REST interface."""

import contextlib
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from infra.local import jars
from infra.local.launch import Launch, Started
from infra.local.ports import LOOPBACK, with_free_ports
from iu_core.errors import Misconfigured, Retryable, Terminal
from tests.benchmarks.progress import say
from tests.benchmarks.world import World

_POMS: Final = Path(__file__).parent / "poms"
_READY_S: Final = 90.0
_ANSWER_S: Final = 30.0
_POLL_S: Final = 0.1
# As the script that Kafka ships starts a worker, with the collector for throughput.
_JVM: Final = ("-Xms256M", "-Xmx2G", "-XX:+UseParallelGC")


@dataclass(frozen=True, slots=True)
class Libraries:
    """The jars of the worker, and the folder of plug-ins with Debezium in it."""

    worker: Path
    plugins: Path
    debezium: str


def libraries(world: World) -> Libraries | str:
    """Return the jars, fetched by Maven the first time, or why they cannot be had."""
    debezium = version("debezium")
    worker = jars.resolve_pom(
        _POMS / "connect.xml", f"Connect {version('connect')}", world.supervision, world.place, say
    )
    plugin = jars.resolve_pom(
        _POMS / "debezium.xml", f"Debezium {debezium}", world.supervision, world.place, say
    )
    if isinstance(worker, str):
        return worker
    if isinstance(plugin, str):
        return plugin
    plugins = world.place.state_dir / "plugins"
    plugins.mkdir(exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (plugins / "debezium").symlink_to(plugin, target_is_directory=True)
    return Libraries(worker, plugins, debezium)


def version(pom: str) -> str:
    """Return the version that a file of poms/ names."""
    match = re.search(r"<\w+\.version>([^<]+)</", (_POMS / f"{pom}.xml").read_text())
    if match is None:
        raise Misconfigured(f"{pom}.xml names no version")
    return match[1]


class Worker:
    """A running worker. Exactly once is a matter of the worker, so there is one with and one without."""

    def __init__(self, world: World, found: Libraries, *, exactly_once: bool) -> None:
        self._world = world
        self._name = f"connect-{'exactly-once' if exactly_once else 'default'}"
        self.exactly_once = exactly_once

        def begin(ports: tuple[int, ...]) -> tuple[Started, int]:
            properties = self._properties(found, ports[0])
            started = world.supervision.start(self._launch(found, properties))
            world.supervision.wait_until(started, lambda: _answers(ports[0]), timeout_s=_READY_S)
            return started, ports[0]

        self._started, port = with_free_ports(1, begin)
        self._rest = httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=_ANSWER_S)

    @property
    def pid(self) -> int:
        """The process id of the JVM."""
        return self._started.pid

    def start(self, connector: str, configuration: Mapping[str, str]) -> None:
        """Make a connector and wait until its task runs; raises `Terminal` with its trace if it fails."""
        self._ask("PUT", f"/connectors/{connector}/config", dict(configuration))
        give_up_at = time.monotonic() + _READY_S
        while time.monotonic() < give_up_at:
            answer = self._rest.get(f"/connectors/{connector}/status")
            status = answer.json() if answer.status_code == httpx.codes.OK else {"tasks": []}
            for task in [*status["tasks"], status.get("connector", {})]:
                if task.get("state") == "FAILED":
                    raise Terminal(f"Debezium failed in {self._name}", why=task.get("trace", "")[:2000])
            if status["tasks"] and all(task["state"] == "RUNNING" for task in status["tasks"]):
                return
            time.sleep(_POLL_S)
        raise Terminal(f"no task of {connector} runs", remedy=f"read {self._started.log}")

    def check(self, connector: str) -> None:
        """Raise `Terminal` with its trace if the connector's task has failed."""
        status = self._rest.get(f"/connectors/{connector}/status").json()
        for task in status["tasks"]:
            if task["state"] == "FAILED":
                raise Terminal(f"Debezium failed in {self._name}", why=task.get("trace", "")[:2000])

    def remove(self, connector: str) -> None:
        """Take the connector away; its offsets stay, for one of the same name."""
        self._ask("DELETE", f"/connectors/{connector}")

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> None:
        """Ask until the worker is done with its rebalance, which it answers with 409."""
        give_up_at = time.monotonic() + _READY_S
        while True:
            try:
                answer = self._rest.request(method, path, json=body)
            except httpx.HTTPError as error:
                raise Retryable(f"{self._name} does not answer", why=str(error)) from error
            if answer.status_code != httpx.codes.CONFLICT:
                break
            if time.monotonic() > give_up_at:
                raise Terminal(f"{self._name} rebalances for ever", why=answer.text)
            time.sleep(_POLL_S)
        if answer.is_error:
            raise Terminal(f"{self._name} refuses {method} {path}", why=answer.text[:2000])

    def _properties(self, found: Libraries, port: int) -> Path:
        settings = {
            "bootstrap.servers": self._world.kafka.address,
            "group.id": self._name,
            **{f"{what}.storage.topic": f"{self._name}-{what}" for what in ("config", "offset", "status")},
            **{f"{what}.storage.replication.factor": 1 for what in ("config", "offset", "status")},
            "offset.storage.partitions": 1,
            "status.storage.partitions": 1,
            "exactly.once.source.support": "enabled" if self.exactly_once else "disabled",
            "listeners": f"http://{LOOPBACK}:{port}",
            "plugin.path": found.plugins,
            "plugin.discovery": "service_load",
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
            "producer.linger.ms": 5,
            "producer.batch.size": 1_048_576,
            "producer.compression.type": "lz4",
            # Alone in its group, it has nobody to wait for.
            "scheduled.rebalance.max.delay.ms": 0,
        }
        path = self._world.place.state_dir / f"{self._name}.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        return path

    def _launch(self, found: Libraries, properties: Path) -> Launch:
        log4j = f"-Dlog4j2.configurationFile={jars.RESOURCES / 'log4j2.properties'}"
        return Launch(
            name=self._name,
            argv=(
                *(self._world.java.program, *_JVM, log4j, "-cp", f"{found.worker}/*"),
                *("org.apache.kafka.connect.cli.ConnectDistributed", str(properties)),
            ),
            cwd=str(self._world.place.state_dir),
            log=str(self._world.log(self._name)),
            environment=dict(os.environ),
            grace_s=10.0,
        )


def _answers(port: int) -> bool:
    """Tell whether the worker has joined its group: before that it refuses connectors."""
    try:
        answer = httpx.get(f"http://{LOOPBACK}:{port}/connectors", timeout=5.0)
    except httpx.HTTPError:
        return False
    return answer.status_code == httpx.codes.OK
