"""The seam on a migrated database of the test's own, once per PostgreSQL found."""

from collections.abc import Iterator

import pytest

from tests.integration.delivery.seam import Seam


@pytest.fixture
def seam(migrated_url_each: str) -> Iterator[Seam]:
    with Seam(migrated_url_each) as seam:
        yield seam
