"""A yard on a migrated database of the test's own, once per PostgreSQL found; a world with a broker."""

from collections.abc import Iterator

import pytest

from tests.integration.consumers.world import World, made_world
from tests.integration.retention.yard import Yard, made_yard


@pytest.fixture
def yard(migrated_url_each: str) -> Iterator[Yard]:
    with made_yard(migrated_url_each) as yard:
        yield yard


@pytest.fixture
def world(migrated_url: str, kafka_bootstrap: str, bus_prefix: str) -> Iterator[World]:
    with made_world(migrated_url, kafka_bootstrap, bus_prefix) as made:
        yield made
