"""Fixtures of the torture tests."""

from collections.abc import Iterator

import pytest

from tests.chaos.nursery import Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Return what forks relays."""
    with Nursery() as made:
        yield made
