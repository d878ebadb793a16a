"""Fixtures of the torture tests."""

from collections.abc import Iterator

import pytest

from tests.chaos.arena import Arena, opened_arena
from tests.chaos.nursery import Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Return what forks relays."""
    with Nursery() as made:
        yield made


@pytest.fixture(scope="session")
def arena() -> Iterator[Arena]:
    """Return servers that a test may crash, and proxies before them."""
    with opened_arena() as made:
        yield made
