"""A yard on a migrated database of the test's own, once per PostgreSQL found."""

from collections.abc import Iterator

import pytest

from tests.integration.retention.yard import Yard, made_yard


@pytest.fixture
def yard(migrated_url_each: str) -> Iterator[Yard]:
    with made_yard(migrated_url_each) as yard:
        yield yard
