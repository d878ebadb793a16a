"""Everything the demo stands on, made for it and removed after it.

A database and topics of its own, whatever server they are on: a demo that is pointed at somebody's
database must not touch what is there. Relay and consumers are real processes, started under the
supervisor that ends them even when the demo is killed.
"""

import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from psycopg import sql
from psycopg.conninfo import make_conninfo

from infra.local import services
from infra.local.endpoints import Endpoints
from infra.local.launch import Launch, Started
from infra.local.supervision import Supervision, failed
from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.names import BusNames
from iu_core.cli.context import Context
from iu_core.database import Connection, Role, connect
from iu_core.errors import IUError, Terminal
from iu_core.settings import Settings

POLL_S: Final = 0.1


@dataclass(frozen=True)
class Stage:
    """Where the demo plays. `environment` is what an `iu` in another terminal needs."""

    context: Context
    endpoints: Endpoints
    environment: dict[str, str]
    supervision: Supervision
    logs: Path

    @property
    def is_mock(self) -> bool:
        """Whether the broker is the mock, on which nothing is proven."""
        return self.endpoints.kafka_is_mock

    @contextmanager
    def connection(self, role: Role | None) -> Iterator[Connection]:
        """Open a connection in `role`, for as long as the block lasts."""
        settings = self.context.settings.database
        with connect(
            self.context.database_url(), role, settings=settings, application_name="iu-demo"
        ) as opened:
            yield opened

    def start(self, *words: str) -> Started:
        """Start `iu WORDS` as a process of its own; its log is named after it."""
        name = "-".join(words[:2])
        launch = Launch(
            name,
            (sys.executable, "-m", "iu_core", *words),
            cwd=str(self.logs),
            log=str(self.logs / f"{name}.log"),
            environment={**os.environ, **self.environment},
        )
        return self.supervision.start(launch)

    def await_that(self, reached: Callable[[], bool], *, what: str, by: Started, timeout_s: float) -> None:
        """Wait until `reached()`; raise with the end of the log if `by` ends first or the time is over."""
        deadline = time.monotonic() + timeout_s
        while not reached():
            code = self.supervision.exit_code(by)
            if code is not None:
                raise failed(f"iu {by.name.replace('-', ' ')}", f"exit code {code}", by.log)
            if time.monotonic() > deadline:
                raise Terminal(f"{what} did not happen within {timeout_s:.0f} s", remedy=f"read {by.log}")
            time.sleep(POLL_S)


@contextmanager
def stage(settings: Settings, progress: Callable[[str], None]) -> Iterator[Stage]:
    """Set the stage: services, a fresh database, a fresh topic prefix. All of it goes at the end."""
    work = Path(tempfile.mkdtemp(prefix="iu-demo-"))
    # The database server runs as another user where we are root, and must reach its own folder.
    work.chmod(0o755)
    logs = work / "logs"
    logs.mkdir()
    try:
        with services(settings, state_dir=work, throwaway=True, log_dir=logs, progress=progress) as endpoints:
            name = f"demo_{secrets.token_hex(4)}"
            with _database(settings, endpoints.postgres(), name) as url, Supervision() as supervision:
                prefix = f"{settings.kafka.prefix}{name}."
                environment = endpoints.environment() | {"IU_DATABASE_URL": url, "IU_KAFKA__PREFIX": prefix}
                kafka = settings.kafka.model_copy(update={"prefix": prefix, "mock": endpoints.kafka_is_mock})
                own = settings.model_copy(
                    update={
                        "database_url": url,
                        "kafka_bootstrap_servers": endpoints.kafka(),
                        "kafka": kafka,
                    }
                )
                try:
                    yield Stage(Context(own), endpoints, environment, supervision, logs)
                finally:
                    # First whoever writes to the topics, then the topics.
                    supervision.stop()
                    _delete_topics(own)
    except BaseException:
        progress(f"logs are kept in {logs}")
        raise
    shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _database(settings: Settings, server_url: str, name: str) -> Iterator[str]:
    """Make a database, yield its address, drop it."""
    admin = connect(server_url, None, settings=settings.database, application_name="iu-demo")
    try:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield make_conninfo(server_url, dbname=name)
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    finally:
        admin.close()


def _delete_topics(settings: Settings) -> None:
    names = BusNames(settings.kafka.prefix)
    admin = KafkaAdmin(settings, "iu-demo")
    # A broker that died is why we are here, or goes away next; either way it is not the story's end.
    try:
        with suppress(IUError):
            admin.delete([names.events, names.cursor, names.relay_dead_letters, names.route_dead_letters])
    finally:
        admin.close()
