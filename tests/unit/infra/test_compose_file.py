"""Container and process run the same Kafka with the same settings, and only the loopback sees them."""

import re
from xml.etree import ElementTree

from infra.local.containers import COMPOSE_FILE
from infra.local.jars import RESOURCES, kafka_version

COMPOSE = COMPOSE_FILE.read_text()
# They say where the node is, which differs between a container and a process.
PLACES = {
    "KAFKA_NODE_ID",
    "KAFKA_CONTROLLER_QUORUM_VOTERS",
    "KAFKA_LISTENERS",
    "KAFKA_ADVERTISED_LISTENERS",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP",
    "KAFKA_INTER_BROKER_LISTENER_NAME",
    "KAFKA_LOG_DIRS",
    "KAFKA_HEAP_OPTS",
}


def _compose_settings() -> dict[str, str]:
    pairs = re.findall(r"^ +(KAFKA_[A-Z_]+): (.+)$", COMPOSE, flags=re.MULTILINE)
    return {name: value.strip('"') for name, value in pairs}


def _process_settings() -> dict[str, str]:
    lines = (RESOURCES / "server.properties").read_text().splitlines()
    pairs = [line.split("=", 1) for line in lines if line and not line.startswith("#")]
    return {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in pairs}


def test_pom_and_compose_name_the_same_kafka() -> None:
    images = re.findall(r"\$\{KAFKA_IMAGE:-apache/kafka:([^}]+)\}", COMPOSE)
    assert images == [kafka_version()]


def test_container_and_process_have_the_same_settings() -> None:
    ours = {name: value for name, value in _process_settings().items() if name not in PLACES}
    theirs = {name: value for name, value in _compose_settings().items() if name not in PLACES}
    assert theirs == ours
    assert ours["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_every_published_port_is_on_the_loopback() -> None:
    published = re.findall(r"ports: \[(.*)\]", COMPOSE)
    assert len(published) == 2
    assert all(port.startswith('"127.0.0.1:') for port in published)


def test_images_are_pinned_official_names() -> None:
    images = re.findall(r"image: \$\{[A-Z_]+:-([^}]+)\}", COMPOSE)
    assert sorted(image.split(":")[0] for image in images) == ["apache/kafka", "postgres"]
    assert all(re.search(r":\d", image) for image in images)


def test_the_pom_names_no_repository() -> None:
    """Where jars come from is the business of the machine's Maven settings."""
    pom = ElementTree.parse(RESOURCES / "pom.xml").getroot()  # noqa: S314 (our own file)
    assert pom.find("repositories") is None
    assert pom.find("pluginRepositories") is None
    assert "://" not in (RESOURCES / "pom.xml").read_text()
