"""What is said when no connection can be had."""

import pytest

from infra.local.ports import free_ports
from iu_core.database import connect
from iu_core.errors import IUError, Misconfigured, Retryable
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


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:s3cr%zzet@127.0.0.1:{port}/none",
        "postgresql://u:s3cr et@127.0.0.1:{port}/none",
        "postgresql://u:s3cr@et@127.0.0.1:{port}/none",
        "postgresql://u:s3cr/et@127.0.0.1:{port}/none",
        "postgresql://u:12/s3cret@127.0.0.1:{port}/none",
        "postgresql:/u:s3cret@127.0.0.1:{port}/none",
        "u:s3cret@127.0.0.1:{port}/none",
        "host=127.0.0.1 port={port} password=s3cr et",
    ],
)
def test_an_address_that_is_none_is_refused_and_nothing_of_it_is_repeated(url: str) -> None:
    """What libpq quotes of a wrong address may be the password, or half of it."""
    (port,) = free_ports(1)
    with pytest.raises(Misconfigured) as refused:
        connect(url.format(port=port), None, settings=DatabaseSettings(), application_name="tests")
    told = f"{refused.value.what} {refused.value.why} {refused.value.remedy}"
    assert "s3cr" not in told
    assert '"et"' not in told


@pytest.mark.parametrize("password", ["s3cret", "s3cr?et", "s3cr#et", "s3cr%40et"])
def test_a_password_is_never_told(password: str) -> None:
    (port,) = free_ports(1)
    url = f"postgresql://u:{password}@127.0.0.1:{port}/none"
    with pytest.raises(IUError) as away:
        connect(url, None, settings=DatabaseSettings(), application_name="tests")
    assert "s3cr" not in f"{away.value.what} {away.value.why} {away.value.remedy}"
