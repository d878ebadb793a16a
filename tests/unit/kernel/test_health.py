"""The HTTP face of a long-running process: three paths, their statuses, and a port that is taken."""

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from infra.local.ports import free_ports
from iu_core.errors import ExitCode, Misconfigured
from iu_core.health import Verdict, serving
from iu_core.metrics import new_registry
from iu_core.settings import HttpSettings

WAIT_S = 10.0


@dataclass
class Worker:
    """Answers as told."""

    is_live: bool = True
    is_ready: bool = False

    def live(self) -> Verdict:
        return Verdict(self.is_live, {"doing": "work"})

    def ready(self) -> Verdict:
        return Verdict(self.is_ready, {"doing": "work"})


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def http(worker: Worker) -> Iterator[httpx.Client]:
    (port,) = free_ports(1)
    with (
        serving(HttpSettings(port=port), worker, new_registry()) as there,
        httpx.Client(base_url=f"http://127.0.0.1:{there}", timeout=WAIT_S, trust_env=False) as client,
    ):
        yield client


def test_each_probe_answers_for_itself_and_says_why(http: httpx.Client, worker: Worker) -> None:
    live, ready = http.get("/livez"), http.get("/readyz")
    assert (live.status_code, live.json()) == (200, {"livez": True, "doing": "work"})
    assert (ready.status_code, ready.json()) == (503, {"readyz": False, "doing": "work"})
    worker.is_live, worker.is_ready = False, True
    assert (http.get("/livez").status_code, http.get("/readyz").status_code) == (503, 200)


def test_metrics_tell_the_version_and_the_process(http: httpx.Client) -> None:
    scraped = http.get("/metrics")
    assert scraped.status_code == 200
    assert scraped.headers["content-type"].startswith("text/plain")
    assert "iu_build_info{version=" in scraped.text
    assert "process_resident_memory_bytes" in scraped.text


def test_nothing_else_is_there_and_nothing_can_be_written(http: httpx.Client) -> None:
    assert http.get("/").status_code == 404
    assert http.get("/livez/x").status_code == 404
    assert http.post("/livez").status_code == 405
    assert http.head("/livez").status_code == 200


def test_a_client_that_says_nothing_keeps_nobody_waiting(http: httpx.Client) -> None:
    with socket.create_connection((http.base_url.host, http.base_url.port or 0)):
        assert http.get("/livez").status_code == 200


def test_without_a_port_nothing_listens(worker: Worker) -> None:
    with serving(HttpSettings(), worker, new_registry()) as port:
        assert port is None


@pytest.mark.parametrize("bind", ["127.0.0.1", "203.0.113.1"])
def test_a_port_that_cannot_be_had_is_78_with_a_remedy(worker: Worker, bind: str) -> None:
    """Taken by another process, or on an address that is not this machine's (a documentation address)."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = HttpSettings(bind=bind, port=taken.getsockname()[1])
        with pytest.raises(Misconfigured) as refused, serving(wanted, worker, new_registry()):
            pass
    assert refused.value.exit_code is ExitCode.CONFIGURATION
    assert "IU_HTTP__PORT" in (refused.value.remedy or "")
    assert json.dumps(refused.value.why) not in ("null", '""')
