"""Kafka as processes on this machine: Apache Kafka on Java, or librdkafka's mock broker."""

import importlib.util
import os
import shutil
import sys
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path
from string import Template

from infra.local.jars import RESOURCES, Java
from infra.local.launch import Launch, Started
from infra.local.ports import LOOPBACK, kafka_is_ready, with_free_ports
from infra.local.supervision import PACKAGE_ROOT, Supervision
from infra.local.workplace import Workplace
from iu_core.errors import Terminal

FORMAT_TIMEOUT_S = 60.0
READY_TIMEOUT_S = 90.0
MOCK_READY_TIMEOUT_S = 20.0
MOCK_WHEEL = "confluent_kafka"


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker; `address` is host:port, `behind` the port that its front, if any, forwards to."""

    address: str
    started: Started
    behind: int | None = None


def start_kafka(
    supervision: Supervision, java: Java, jars: Path, place: Workplace, *, front: int | None = None
) -> Broker:
    """Start one KRaft node with its data in `place`; formatted the first time, found again later.

    `front` is a port of the loopback where a proxy listens: whoever comes through it to the port
    `Broker.behind` is told to connect to the front again, not past it.

    Raises `Terminal` with the end of its log.
    """
    home = (place.state_dir / "kafka").resolve()
    home.mkdir(parents=True, exist_ok=True)
    if place.throwaway:
        supervision.remove_at_end(home)
    port_file = home / "ports"
    preferred = tuple(map(int, port_file.read_text().split())) if port_file.exists() else ()

    def begin(ports: tuple[int, ...]) -> Broker:
        properties = _write_properties(home, ports, front)
        if not (home / "data" / "meta.properties").exists():
            _format(supervision, java, jars, home, properties, place)
        started = supervision.start(_node(java, jars, home, properties, place))
        supervision.wait_until(started, lambda: kafka_is_ready(LOOPBACK, ports[0]), timeout_s=READY_TIMEOUT_S)
        port_file.write_text(" ".join(map(str, ports)))
        return Broker(f"{LOOPBACK}:{ports[0]}", started, None if front is None else ports[2])

    return with_free_ports(2 if front is None else 3, begin, preferred=preferred)


def _write_properties(home: Path, ports: tuple[int, ...], front: int | None) -> Path:
    if "," in str(home):
        raise Terminal(
            "Kafka cannot keep its data in a directory with a comma in its name",
            why=str(home),
            remedy="set IU_SERVICES__STATE_DIR to another directory",
        )
    template = Template((RESOURCES / "server.properties").read_text())
    properties = home / "server.properties"
    properties.write_text(
        template.substitute(
            names="names",
            broker_port=ports[0],
            controller_port=ports[1],
            data_dir=home / "data",
            front_listener="" if front is None else f",FRONT://{LOOPBACK}:{ports[2]}",
            front_address="" if front is None else f",FRONT://{LOOPBACK}:{front}",
        )
    )
    return properties


def _format(
    supervision: Supervision, java: Java, jars: Path, home: Path, properties: Path, place: Workplace
) -> None:
    # Left over from a format that was interrupted: without meta.properties it holds nothing.
    shutil.rmtree(home / "data", ignore_errors=True)
    cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    tool = ("kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(properties))
    supervision.run(
        Launch(
            name="format of kafka",
            argv=(java.program, *_jvm_options("-Xmx128m"), "-cp", f"{jars}/*", *tool),
            cwd=str(home),
            log=str(place.log("kafka")),
            environment=dict(os.environ),
        ),
        timeout_s=FORMAT_TIMEOUT_S,
    )


def _node(java: Java, jars: Path, home: Path, properties: Path, place: Workplace) -> Launch:
    return Launch(
        name="kafka",
        argv=(
            *(java.program, *_jvm_options("-Xmx512m"), "-XX:+UseSerialGC", "-cp", f"{jars}/*"),
            *("kafka.Kafka", str(properties)),
        ),
        cwd=str(home),
        log=str(place.log("kafka")),
        environment=dict(os.environ),
        stop_signal="SIGTERM",
        grace_s=20.0,
    )


def _jvm_options(heap: str) -> tuple[str, ...]:
    return (heap, f"-Dlog4j2.configurationFile={RESOURCES / 'log4j2.properties'}")


def mock_is_installed() -> bool:
    """Tell whether the wheel that carries the mock broker is here."""
    return importlib.util.find_spec(MOCK_WHEEL) is not None


def start_mock(supervision: Supervision, place: Workplace) -> Broker:
    """Start librdkafka's mock broker. It keeps nothing, and proves nothing.

    Raises `Terminal` with the end of its log.
    """
    place.state_dir.mkdir(parents=True, exist_ok=True)
    address_file = place.state_dir.resolve() / "mock-broker.address"
    address_file.unlink(missing_ok=True)
    started = supervision.start(
        Launch(
            name="mock-broker",
            argv=(sys.executable, "-m", "infra.local.mock_broker", str(address_file)),
            cwd=str(PACKAGE_ROOT),
            log=str(place.log("mock-broker")),
            environment=dict(os.environ),
            grace_s=5.0,
        )
    )
    supervision.wait_until(started, address_file.exists, timeout_s=MOCK_READY_TIMEOUT_S)
    return Broker(address_file.read_text().strip(), started)
