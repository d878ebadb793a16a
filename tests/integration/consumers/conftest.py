"""The world of the consumer tests."""

from collections.abc import Iterator

import pytest

from tests.integration.consumers.world import World, made_world


@pytest.fixture
def world(migrated_url: str, kafka_bootstrap: str, bus_prefix: str) -> Iterator[World]:
    """Yield a database, topics and sessions of the test's own; nothing is enabled."""
    with made_world(migrated_url, kafka_bootstrap, bus_prefix) as made:
        yield made
