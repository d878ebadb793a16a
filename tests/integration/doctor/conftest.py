"""The ward: see `ward.py`."""

from collections.abc import Iterator

import pytest

from iu_core.bus.kafka_admin import KafkaAdmin
from tests.integration.doctor.ward import Ward
from tests.integration.relay.held_topic import bus_settings
from tests.integration.relay.relay_process import relay_environment
from tests.integration.sql.sessions import open_gate


@pytest.fixture
def ward(migrated_url: str, kafka_bootstrap: str, bus_prefix: str) -> Iterator[Ward]:
    """Make a deployment; its topics are deleted afterwards."""
    open_gate(migrated_url)
    settings = bus_settings(kafka_bootstrap, bus_prefix)
    made = Ward(migrated_url, settings, relay_environment(migrated_url, kafka_bootstrap, bus_prefix))
    yield made
    admin = KafkaAdmin(settings, "tests")
    admin.delete([made.names.events, made.names.cursor])
    admin.close()
