"""The fixtures themselves: what a test relies on when it names one."""

import psycopg
import pytest

from infra.local.ports import kafka_is_ready
from tests.conftest import RunIu


def _tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
        return {name for (name,) in rows}


def test_an_empty_database_is_empty(postgres_url: str) -> None:
    assert _tables(postgres_url) == set()


def test_a_migrated_database_has_the_tables_and_the_closed_switches(migrated_url_each: str) -> None:
    assert {"information_unit", "event_outbox", "iu_outbound_route"} <= _tables(migrated_url_each)
    with psycopg.connect(migrated_url_each) as connection:
        rows = connection.execute("SELECT key, value FROM public.dot_config").fetchall()
    assert ("iu_core.structure_op_enabled", "false") in rows


@pytest.mark.parametrize("turn", [1, 2])
def test_no_test_sees_what_another_left(turn: int, migrated_url: str) -> None:
    """Both turns make the same table; the second would fail in the database of the first."""
    with psycopg.connect(migrated_url) as connection:
        connection.execute("CREATE TABLE left_behind (turn int)")


def test_kafka_is_a_real_broker(kafka_bootstrap: str) -> None:
    host, port = kafka_bootstrap.rsplit(":", 1)
    assert kafka_is_ready(host, int(port))


def test_iu_runs_away_from_the_developers_environment(iu: RunIu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IU_DATABASE_URL", "postgresql://nowhere.invalid/x")
    ran = iu("db", "status")
    assert ran.exit_code == 78
    assert "IU_DATABASE_URL is not set" in ran.stderr
