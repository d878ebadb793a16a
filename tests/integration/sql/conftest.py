"""What holds for the SQL substrate holds on every PostgreSQL found, not only on the newest."""

import pytest


@pytest.fixture
def migrated_url(migrated_url_each: str) -> str:
    """Return the URL of a migrated database, once per PostgreSQL."""
    return migrated_url_each
