"""The relay as a sidecar: what it answers over HTTP in each state, and what it never tells."""

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from infra.local.ports import free_ports
from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.names import BusNames
from iu_core.settings import Settings
from producers.relay import metrics
from tests.integration.relay.broker_proxy import proxied
from tests.integration.relay.held_topic import bus_settings
from tests.integration.relay.relay_process import await_that, relay_environment, run_relay, running_relay
from tests.integration.sql.sessions import Editor, open_gate

PASSWORD = "s3same-never-tell"


@dataclass
class Stage:
    """One database, one set of topics, and a relay's environment with a port and a sample every second."""

    url: str
    settings: Settings
    environment: dict[str, str]
    http: "Sidecar"

    def write(self, events: int) -> None:
        editor = Editor(self.url)
        root = editor.add(None)
        for _ in range(events - 1):
            editor.add(root)
        editor.session.close()


@dataclass
class Sidecar:
    """What stands at a port."""

    port: int

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=10, trust_env=False)

    def ready(self) -> tuple[int, str]:
        """Return the status of /readyz and the state of the first shard; (0, "") if nobody answers."""
        try:
            answer = self.get("/readyz")
        except httpx.HTTPError:
            return 0, ""
        told: dict[str, Any] = answer.json()
        return answer.status_code, told["shards"][0]["state"]

    def sample(self, series: str) -> float | None:
        """Return the value of a series as /metrics writes it, None if it is not there."""
        found = re.search(rf"^{re.escape(series)} (\S+)$", self.get("/metrics").text, re.MULTILINE)
        return None if found is None else float(found[1])


@pytest.fixture
def stage(migrated_url: str, kafka_bootstrap: str, bus_prefix: str) -> Iterator[Stage]:
    open_gate(migrated_url)
    settings, (port,) = bus_settings(kafka_bootstrap, bus_prefix), free_ports(1)
    environment = relay_environment(
        migrated_url, kafka_bootstrap, bus_prefix, http__port=str(port), relay__backlog_sample_s="1"
    )
    yield Stage(migrated_url, settings, environment, Sidecar(port))
    admin = KafkaAdmin(settings, "tests")
    admin.delete(list(BusNames(bus_prefix).relay_topics))
    admin.close()


def test_a_publishing_relay_is_ready_and_tells_every_metric(stage: Stage) -> None:
    stage.write(12)
    with running_relay(stage.environment):
        await_that(lambda: stage.http.ready() == (200, "publishing"), "ready")
        published = 'iu_events_published_total{shard="0"}'
        await_that(lambda: stage.http.sample(published) == 12, "all published")
        await_that(lambda: stage.http.sample('iu_outbox_pending_events{shard="0"}') == 0, "sampled")
        scraped = stage.http.get("/metrics").text
        for metric in metrics.ALL:
            kind = re.search(rf"^# TYPE {metric.name} (\w+)$", scraped, re.MULTILINE)
            assert kind is not None, metric.name
            assert kind[1] == metric.kind
            assert re.search(rf'^{metric.name}\w*{{[^}}]*shard="0"', scraped, re.MULTILINE), metric.name
        assert stage.http.sample('iu_relay_state{shard="0",state="publishing"}') == 1
        assert stage.http.sample('iu_outbox_oldest_age_seconds{shard="0"}') == 0
        assert stage.http.sample('iu_relay_transaction_rows_sum{shard="0"}') == 12
        transactions = stage.http.sample('iu_relay_transactions_total{shard="0"}')
        assert stage.http.sample('iu_relay_publish_lag_seconds_count{shard="0"}') == transactions
        assert stage.http.sample('iu_relay_transaction_seconds_count{shard="0"}') == transactions
        paths = [
            stage.http.sample(f'iu_relay_path_info{{path="{way}",shard="0"}}') for way in ("batches", "send")
        ]
        assert sum(value or 0 for value in paths) == 1


def test_a_standby_is_ready_says_so_and_tells_no_backlog(stage: Stage) -> None:
    (port,) = free_ports(1)
    with running_relay(stage.environment):
        await_that(lambda: stage.http.ready() == (200, "publishing"), "ready")
        standby = Sidecar(port)
        with running_relay(stage.environment | {"IU_HTTP__PORT": str(port)}):
            await_that(lambda: standby.ready() == (200, "standby"), "standing by")
            assert standby.get("/livez").status_code == 200
            assert standby.sample('iu_relay_state{shard="0",state="standby"}') == 1
            assert standby.sample('iu_outbox_pending_events{shard="0"}') is None


def test_in_an_outage_it_lives_is_not_ready_and_goes_on_counting_what_waits(
    stage: Stage, kafka_bootstrap: str
) -> None:
    with proxied(kafka_bootstrap) as proxy:
        away = {"IU_KAFKA_BOOTSTRAP_SERVERS": proxy.address, "IU_KAFKA__REQUEST_TIMEOUT_MS": "1000"}
        with running_relay(stage.environment | away) as relay:
            await_that(lambda: stage.http.ready() == (200, "publishing"), "ready")
            proxy.refuse()
            stage.write(5)
            relay.await_event("outage")
            await_that(lambda: stage.http.ready() == (503, "outage"), "not ready")
            assert stage.http.get("/livez").status_code == 200
            await_that(lambda: stage.http.sample('iu_outbox_pending_events{shard="0"}') == 5, "what waits")
            assert (stage.http.sample('iu_outbox_oldest_age_seconds{shard="0"}') or 0) > 0


def test_a_port_that_is_taken_is_78_before_anything_is_opened(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", stage.http.port)):
        done = run_relay(stage.environment, "run", "--until-idle")
    assert done.returncode == 78, done.stderr
    assert "IU_HTTP__PORT" in done.stderr
    assert "started" not in done.stderr


def test_without_a_port_nothing_listens(stage: Stage) -> None:
    with running_relay(stage.environment | {"IU_HTTP__PORT": "0"}) as relay:
        relay.await_event("started")
        assert not relay.has_said("serving")
        assert stage.http.ready() == (0, "")


def test_the_password_of_the_database_is_told_nowhere(stage: Stage) -> None:
    """Neither in the log at its most talkative, nor over HTTP, nor when the address is refused."""
    parts = urlsplit(stage.url)
    password, place = parts.password or PASSWORD, stage.url.rpartition("@")[2]
    url = f"postgresql://{parts.username}:{password}@{place}" if parts.password is None else stage.url
    talkative = stage.environment | {"IU_DATABASE_URL": url, "IU_LOG__LEVEL": "debug"}
    stage.write(3)
    with running_relay(talkative) as relay:
        await_that(lambda: stage.http.ready() == (200, "publishing"), "ready")
        await_that(lambda: stage.http.sample('iu_outbox_pending_events{shard="0"}') == 0, "sampled")
        told = [stage.http.get(path).text for path in ("/livez", "/readyz", "/metrics")]
        relay.end()
        assert password not in "\n".join([relay.log, *told])
    (closed,) = free_ports(1)
    away, unescaped, not_let_in = (
        f"postgresql://u:{PASSWORD}@127.0.0.1:{closed}/x",
        f"postgresql://u:{PASSWORD}/x@{place}",
        f"postgresql://nobody:{PASSWORD}@{place}",
    )
    for wrong in (away, unescaped, not_let_in):
        done = run_relay(talkative | {"IU_DATABASE_URL": wrong}, "run")
        assert done.returncode in (75, 78), done.stderr
        assert PASSWORD not in done.stdout + done.stderr


def test_every_line_of_the_log_is_json(stage: Stage) -> None:
    with running_relay(stage.environment | {"IU_LOG__LEVEL": "debug"}) as relay:
        await_that(lambda: stage.http.ready() == (200, "publishing"), "ready")
        relay.end()
        for line in relay.all_of("started") + relay.all_of("serving"):
            assert {"event", "level", "timestamp", "logger"} <= set(line)
        assert json.dumps(relay.all_of("started"))
