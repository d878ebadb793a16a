"""`iu demo`, the main job on real services, once: its figures, its verdict, and what README says of it."""

import re
from pathlib import Path

import psycopg
from kafka import KafkaAdminClient

from tests.conftest import RunIu

ROOT = Path(__file__).parents[2]
DEMO_TIMEOUT_S = 240.0


def readme_excerpt() -> list[str]:
    """Return the lines README shows of `make demo`, without those that only mark an omission."""
    shown = re.search(r"and ends with:\n\n((?:    .*\n)+)", (ROOT / "README.md").read_text())
    assert shown is not None
    lines = [line.strip() for line in shown[1].splitlines()]
    return [line for line in lines if line and line != "…"]


def test_the_demo_ends_clean_says_what_readme_shows_and_leaves_nothing(
    iu: RunIu, newest_server: str, kafka_bootstrap: str, bus_prefix: str
) -> None:
    """Its figures are those of the reference state, which the demo itself checks; here what is printed."""
    services = {
        "IU_DATABASE_URL": newest_server,
        "IU_KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap,
        "IU_KAFKA__PREFIX": bus_prefix,
    }
    ran = iu("demo", env=services, timeout_s=DEMO_TIMEOUT_S)
    assert ran.exit_code == 0, ran.stderr
    printed = [line.strip() for line in (ran.stderr + ran.stdout).splitlines()]
    excerpt = readme_excerpt()
    assert excerpt[-1] == "verify: clean"
    # Steps are printed with their time, which README leaves out.
    assert [line for line in excerpt if not any(told.startswith(line) for told in printed)] == []
    assert "NOT PROVEN" not in ran.stdout

    # It was let onto somebody's servers: its database and its topics are gone again.
    with psycopg.connect(newest_server) as connection:
        left = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'demo!_%' ESCAPE '!'")
        assert left.fetchall() == []
    admin = KafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    try:
        assert [topic for topic in admin.list_topics() if topic.startswith(bus_prefix)] == []
    finally:
        admin.close()
