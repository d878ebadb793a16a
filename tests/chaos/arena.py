"""A database server and a broker that a test may crash and restart, each behind a proxy as well.

PostgreSQL runs durable: what a crash takes back must be what a real one would. The data stays where
it is over a restart, and so do the ports. Both are processes of this machine, also where the other
tests use containers: a crash is a signal.
"""

import os
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.local import broker, jars, postgres
from infra.local.launch import Started
from infra.local.postgres import Installation, PostgresServer
from infra.local.supervision import Supervision
from infra.local.workplace import Workplace, unprivileged_account
from iu_core.database import connect
from iu_core.database.migration_files import read
from iu_core.database.migrations import Migrator
from iu_core.resources import sql_dir
from iu_core.settings import DatabaseSettings, load_settings
from tests.chaos.tcp_proxy import TcpProxy
from tests.integration.sql.sessions import session
from tests.services import LOG_DIR, create_database

END_MAX_S = 30.0
TEMPLATE_SETTINGS = DatabaseSettings()


@dataclass
class Arena:
    """The two servers. `kafka_proxy` and `postgres_proxy` are shut by nobody but the test at hand."""

    kafka_proxy: TcpProxy
    postgres_proxy: TcpProxy
    _supervision: Supervision
    _place: Workplace
    _java: jars.Java
    _libraries: Path
    _installation: Installation
    _kafka: broker.Broker
    _postgres: PostgresServer
    _template: str = ""
    _wal_writer: int | None = None

    @property
    def bootstrap(self) -> str:
        """The broker past the proxy."""
        return self._kafka.address

    @property
    def proxied_bootstrap(self) -> str:
        """The broker through the proxy, which it also names to those who come that way."""
        return f"127.0.0.1:{self.kafka_proxy.port}"

    @property
    def server(self) -> str:
        """URL of the superuser."""
        return self._postgres.url

    def database(self) -> str:
        """Make a migrated database and return its URL, past the proxy."""
        if not self._template:
            url = create_database(self.server, "template0")
            with connect(url, None, settings=TEMPLATE_SETTINGS, application_name="tests") as connection:
                Migrator(connection, read(sql_dir())).up()
            self._template = url.rsplit("/", 1)[1]
        return create_database(self.server, self._template)

    def proxied(self, url: str) -> str:
        """Return a URL of this server as one through the proxy."""
        return url.replace(f":{self._postgres_port}/", f":{self.postgres_proxy.port}/")

    @staticmethod
    def prefix() -> str:
        """Return a prefix of topics that no other test has."""
        return f"t{uuid.uuid4().hex[:10]}."

    def crash_broker(self, number: signal.Signals) -> None:
        """End the broker by a signal, and return when it has ended."""
        os.kill(self._kafka.started.pid, number)
        self._await_end(self._kafka.started)

    def start_broker(self) -> None:
        """Start it again on its data and its ports."""
        address, front = self._kafka.address, self.kafka_proxy.port
        self._kafka = broker.start_kafka(
            self._supervision, self._java, self._libraries, self._place, front=front
        )
        assert self._kafka.address == address, "another process has taken the broker's port"
        self.kafka_proxy.upstream = self._kafka.behind

    def hold_wal_back(self) -> None:
        """Freeze the WAL writer: what no commit waits for is not written until the server crashes."""
        found = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"
        with session(self.server) as admin:
            ((self._wal_writer,),) = admin.execute(found).fetchall()
        os.kill(self._wal_writer, signal.SIGSTOP)

    def crash_postgres(self) -> None:
        """Shut the server down immediately (SIGQUIT): no checkpoint, WAL that is not written is gone."""
        os.kill(self._postgres.started.pid, signal.SIGQUIT)
        if self._wal_writer is not None:  # woken, it would write
            os.kill(self._wal_writer, signal.SIGKILL)
            self._wal_writer = None
        self._await_end(self._postgres.started)

    def start_postgres(self) -> None:
        """Start it again; it recovers from its WAL first."""
        url = self._postgres.url
        self._postgres = postgres.start(self._supervision, self._installation, self._place)
        assert self._postgres.url == url, "another process has taken the server's port"

    @property
    def _postgres_port(self) -> int:
        return int(self._postgres.url.rsplit(":", 1)[1].split("/")[0])

    def _await_end(self, started: Started) -> None:
        give_up_at = time.monotonic() + END_MAX_S
        while self._supervision.exit_code(started) is None:
            assert time.monotonic() < give_up_at, f"{started.name} has not ended"
            time.sleep(0.02)


@contextmanager
def opened_arena() -> Iterator[Arena]:
    """Start both servers and both proxies; skips where this machine cannot run a broker itself."""
    state_dir = Path(tempfile.mkdtemp(prefix="iu-arena-"))
    state_dir.chmod(0o711)
    cache_dir = load_settings().services.cache_dir
    place = Workplace(state_dir, LOG_DIR / "arena", cache_dir, durable=True, throwaway=True)
    with ExitStack() as opened, Supervision() as supervision:
        supervision.remove_at_end(state_dir)
        java = jars.find_java()
        libraries = java if isinstance(java, str) else jars.resolve(supervision, place, lambda _line: None)
        installation = postgres.usable(postgres.postgres_versions(), unprivileged_account(), place)
        if isinstance(java, str) or isinstance(libraries, str) or isinstance(installation, str):
            pytest.skip(f"no servers to crash on this machine: {java}; {libraries}; {installation}")
        kafka_proxy = opened.enter_context(TcpProxy(kafka=True))
        server = postgres.start(supervision, installation, place)
        node = broker.start_kafka(supervision, java, libraries, place, front=kafka_proxy.port)
        kafka_proxy.upstream = node.behind
        postgres_proxy = opened.enter_context(TcpProxy(int(server.url.rsplit(":", 1)[1].split("/")[0])))
        yield Arena(
            kafka_proxy, postgres_proxy, supervision, place, java, libraries, installation, node, server
        )
