"""What is said when no connection can be had."""

import pytest

from infra.local.ports import free_ports
from iu_core.database import connect
from iu_core.errors import Retryable
from iu_core.settings import DatabaseSettings


def test_a_server_that_is_down_is_told_with_its_address_and_the_cause() -> None:
    """libpq ends with a question, indented, which is no cause."""
    (port,) = free_ports(1)
    with pytest.raises(Retryable) as away:
        connect(
            f"postgresql://nobody@127.0.0.1:{port}/none",
            None,
            settings=DatabaseSettings(),
            application_name="tests",
        )
    assert f"127.0.0.1:{port}/none" in away.value.what
    assert "Connection refused" in (away.value.why or "")
    assert "?" not in (away.value.why or "")
