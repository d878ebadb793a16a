"""`iu consumer run` as an operator has it: what it prints, what it ends with, and how it is stopped.

The processes are real, and so is what goes away: the database behind a proxy that a test pulls out.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.conftest import RunIu, iu_environment
from tests.integration.consumers.world import DEADLINE_S, World, effects, session_of

ROUTE = "structure_reparented"


@contextmanager
def started(world: World, tmp_path: Path, **changed: str) -> Iterator["subprocess.Popen[str]"]:
    """Run `iu consumer run` until the block ends."""
    with (tmp_path / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "iu_core", "consumer", "run", ROUTE, "--json"],
            env=iu_environment(tmp_path, world.environment | changed),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.communicate(timeout=10)


def await_line(tmp_path: Path, word: str) -> None:
    """Return once the process has said `word`."""
    await_that(lambda: word in (tmp_path / "stderr").read_text(), word)


def await_that(holds: Callable[[], bool], what: str) -> None:
    give_up_at = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < give_up_at, f"never: {what}"
        time.sleep(0.02)


class Proxy:
    """A TCP proxy that can be pulled out and put back; `port` stays the same."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open = threading.Event()
        self._open.set()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def pull_out(self) -> None:
        """Break every connection, and refuse new ones."""
        self._open.clear()
        for end in self._sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def put_back(self) -> None:
        """Let connections through again."""
        self._open.set()

    def close(self) -> None:
        """Stop listening."""
        self.pull_out()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=5)
        for end in (self._listener, *self._sockets):
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if not self._open.is_set():
                    client.close()
                    continue
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                for one, other in ((client, server), (server, client)):
                    pump = threading.Thread(target=self._pump, args=(one, other), daemon=True)
                    self._threads.append(pump)
                    pump.start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxied(world: World) -> Iterator[tuple[Proxy, str]]:
    """A proxy before the database, and the address through it."""
    address = urlsplit(world.url)
    if not address.port:
        pytest.skip("the server of this run listens on a Unix socket only: no proxy fits before it")
    proxy = Proxy((address.hostname or "127.0.0.1", address.port))
    user = f"{address.username}:{address.password}" if address.password else address.username
    netloc = f"{user}@127.0.0.1:{proxy.port}"
    yield proxy, urlunsplit(address._replace(netloc=netloc))
    proxy.close()


def test_sigterm_drains_and_ends_with_0(world: World, tmp_path: Path) -> None:
    world.reparents(30)
    world.relay()
    world.go_live(ROUTE)
    with started(world, tmp_path) as process:
        world.await_that("count(*) > 0 FROM iu_tree_change_log")
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, (tmp_path / "stderr").read_text()
    (done,) = json.loads(out)
    assert done["route_code"] == ROUTE
    assert done["delivered"] == effects(world, [ROUTE])["sent"]
    # It has left its group: the next one has the partitions at once and not after the session.
    begun = time.monotonic()
    assert world.consume(ROUTE)[ROUTE].state == "live"
    assert time.monotonic() - begun < world.settings.consumer.session_timeout_ms / 1_000
    assert len(set(effects(world, [ROUTE]).values())) == 1


def test_a_held_consumer_ends_at_the_first_signal_too(world: World, tmp_path: Path) -> None:
    world.reparents(2)
    world.relay()
    world.allow(ROUTE)
    world.turn_routes(ROUTE, enabled=True, dry_run=False)
    with started(world, tmp_path) as process:
        await_line(tmp_path, "held")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0
    assert json.loads(out)[0]["state"] == "held"


def test_the_second_signal_ends_it_at_once_whatever_it_waits_for(world: World, tmp_path: Path) -> None:
    world.reparents(2)
    world.relay()
    world.go_live(ROUTE)
    waits = "count(*) > 0 FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"
    with session_of(world) as blocker, blocker.transaction(), started(world, tmp_path) as process:
        # The batch waits for a lock that is not given, so the first signal cannot drain.
        blocker.execute("LOCK TABLE iu_tree_change_log IN SHARE MODE")
        world.await_that(waits, f"iu-consumer {ROUTE}")
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=5) != 0
    assert "Traceback" not in (tmp_path / "stderr").read_text()
    world.await_that(f"count(*) = 0 FROM pg_stat_activity WHERE application_name = 'iu-consumer {ROUTE}'")
    world.consume(ROUTE)
    assert set(effects(world, [ROUTE]).values()) == {2}


def test_a_consumer_whose_database_goes_away_waits_and_goes_on(
    world: World, tmp_path: Path, proxied: tuple[Proxy, str]
) -> None:
    proxy, url = proxied
    world.reparents(3)
    world.relay()
    world.go_live(ROUTE)
    with started(world, tmp_path, IU_DATABASE_URL=url) as process:
        world.await_that("count(*) = 3 FROM iu_tree_change_log")
        proxy.pull_out()
        await_line(tmp_path, "waiting")
        world.reparents(4)
        world.relay()
        proxy.put_back()
        world.await_that("count(*) = 7 FROM iu_tree_change_log")
        assert process.poll() is None
    assert set(effects(world, [ROUTE]).values()) == {7}
    assert world.one("SELECT count(*) FROM iu_route_attempt WHERE decision <> 'sent'") == 0
    assert world.one("SELECT count(*) FROM iu_route_hold") == 0


def test_the_summary_names_each_route_and_why_it_stands(world: World, iu: RunIu) -> None:
    world.reparents(3)
    world.relay()
    world.allow(ROUTE)
    world.turn_routes(ROUTE, enabled=True, dry_run=False)
    ran = iu("consumer", "run", "--until-idle", env=world.environment)
    assert ran.exit_code == 0, ran.stderr
    lines = {line.split()[0]: line for line in ran.stdout.splitlines() if line.strip()}
    assert "held" in lines[ROUTE]
    assert "iu_core.delivery_enabled is 'false'" in lines[ROUTE]
    assert "idle" in lines["structure_child_added"]
    world.turn_delivery("true")
    ran = iu("consumer", "run", ROUTE, "--until-idle", "--json", env=world.environment)
    assert [(done["state"], done["delivered"]) for done in json.loads(ran.stdout)] == [("live", 3)]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("words", "changed", "exit_code", "said"),
    [
        (["structure_forked"], {}, 1, "structure_forked"),
        ([], {"IU_DATABASE_URL": "postgresql://postgres@127.0.0.1:{port}/x"}, 75, "does not answer"),
        ([ROUTE], {"IU_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:{port}"}, 75, "Kafka"),
        ([ROUTE], {"IU_CONSUMER__POLL_MS": "soon"}, 78, "IU_CONSUMER__POLL_MS"),
        ([ROUTE], {"IU_CONSUMER__INSTANCE": "a b"}, 78, "IU_CONSUMER__INSTANCE"),
        (["--until-tomorrow"], {}, 2, "No such option"),
    ],
)
def test_what_is_wrong_at_the_start_is_said_at_once_with_its_exit_code(
    world: World, iu: RunIu, words: list[str], changed: dict[str, str], exit_code: int, said: str
) -> None:
    port = str(free_port())
    env = world.environment | {name: value.replace("{port}", port) for name, value in changed.items()}
    ran = iu("consumer", "run", *words, env=env, timeout_s=60)
    assert ran.exit_code == exit_code, ran.stderr
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr
    if exit_code != 2:
        assert "remedy" in ran.stderr
    assert world.one("SELECT count(*) FROM iu_route_offset") == 0


def test_a_stopped_process_holds_no_lock_and_keeps_no_transaction(world: World, tmp_path: Path) -> None:
    """A batch is one message, so wherever SIGSTOP hits, the server is not left waiting for us."""
    world.reparents(200)
    world.relay()
    world.go_live(ROUTE)
    idle = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = %s AND state LIKE 'idle in transaction%%'"
    )
    with started(world, tmp_path, IU_CONSUMER__BATCH_ROWS_MAX="1") as process:
        world.await_that("count(*) > 5 FROM iu_tree_change_log")
        for _ in range(40):
            os.kill(process.pid, signal.SIGSTOP)
            begun = time.monotonic()
            assert world.one(idle, f"iu-consumer {ROUTE}") == 0
            world.turn_delivery("false")
            assert time.monotonic() - begun < 0.5
            world.turn_delivery("true")
            os.kill(process.pid, signal.SIGCONT)
            time.sleep(0.01)
        world.await_that("count(*) = 200 FROM iu_tree_change_log")
    assert set(effects(world, [ROUTE]).values()) == {200}
