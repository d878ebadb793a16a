"""PostgreSQL clusters of a test's own, that can be stopped, copied cold, recovered and followed."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from infra.local import postgres
from infra.local.supervision import Supervision
from infra.local.workplace import Workplace, reachable_directory, unprivileged_account
from iu_core.database.migration_files import read
from iu_core.database.migrations import Migrator
from iu_core.resources import sql_dir
from iu_core.settings import load_settings
from tests.integration.sql.sessions import session
from tests.services import LOG_DIR

DEADLINE_S = 60.0


class Cluster:
    """One data directory and, while it runs, its server."""

    def __init__(
        self, supervision: Supervision, installation: postgres.Installation, place: Workplace
    ) -> None:
        self._supervision = supervision
        self._installation = installation
        self._place = place
        self._server: postgres.PostgresServer | None = None

    @property
    def home(self) -> Path:
        """The directory that holds `data`."""
        root = reachable_directory(self._place.state_dir, unprivileged_account())
        return root / f"postgres-{self._installation.major}"

    @property
    def url(self) -> str:
        """The superuser's URL of the running server, database `postgres`."""
        assert self._server is not None
        return self._server.url

    def start(self) -> str:
        """Start the server, made the first time; return its URL."""
        self._server = postgres.start(self._supervision, self._installation, self._place)
        return self._server.url

    def stop(self) -> None:
        """Stop the server cleanly."""
        assert self._server is not None
        started, self._server = self._server.started, None
        os.kill(started.pid, signal.SIGINT)
        give_up_at = time.monotonic() + DEADLINE_S
        while self._supervision.exit_code(started) is None:
            assert time.monotonic() < give_up_at, "the server has not stopped"
            time.sleep(0.05)

    def copy(self) -> "Cluster":
        """Copy the stopped cluster, file by file."""
        assert self._server is None
        other = Cluster(
            self._supervision,
            self._installation,
            replace(self._place, state_dir=_state_dir(), log_dir=self._place.log_dir / "copy"),
        )
        other.home.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", self.home, other.home], check=True, timeout=DEADLINE_S)
        (other.home / "port").unlink(missing_ok=True)
        self._supervision.remove_at_end(other.home)
        return other

    def configure(self, **settings: str) -> None:
        """Set what the next start reads."""
        lines = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
        with (self.home / "data" / "postgresql.auto.conf").open("a") as file:
            file.write(lines)

    def signal_file(self, name: str) -> None:
        """Leave the file that tells the next start to recover or to follow."""
        self._own(self.home / "data" / name)

    def archive_dir(self) -> Path:
        """Return a directory that the server may archive its log into."""
        archive = self.home / "archive"
        archive.mkdir(exist_ok=True)
        self._own(archive)
        return archive

    def _own(self, path: Path) -> None:
        if not path.exists():
            path.touch(mode=0o600)
        if (account := unprivileged_account()) is not None:
            os.chown(path, account.uid, account.gid)


def _state_dir() -> Path:
    path = Path(tempfile.mkdtemp(prefix="iu-cluster-"))
    path.chmod(0o711)
    return path


@contextmanager
def own_cluster() -> Iterator[Cluster]:
    """Yield a cluster of the newest installation, not started; it and its copies end with the block."""
    place = Workplace(
        _state_dir(), LOG_DIR / "drill", load_settings().services.cache_dir, durable=False, throwaway=True
    )
    installations = sorted(postgres.postgres_versions(), key=lambda each: each.major)
    if not installations:
        pytest.skip("no PostgreSQL installation on this machine: a drill needs clusters of its own")
    found = postgres.usable(installations[-1:], unprivileged_account(), place)
    assert isinstance(found, postgres.Installation), found
    with Supervision() as supervision:
        cluster = Cluster(supervision, found, place)
        supervision.remove_at_end(place.state_dir)
        yield cluster
    shutil.rmtree(place.state_dir, ignore_errors=True)


def migrate(url: str) -> None:
    """Bring the database of `url` up to date."""
    with session(url) as admin:
        Migrator(admin, read(sql_dir())).up()


def make_roles(url: str) -> None:
    """Make the roles that a dump names and does not hold."""
    with psycopg.connect(url) as admin:
        admin.execute((sql_dir() / "roles.sql").read_bytes())


def await_true(url: str, condition: str) -> None:
    """Return once the SQL `condition` holds."""
    give_up_at = time.monotonic() + DEADLINE_S
    while True:
        with session(url) as asking:
            if asking.execute(f"SELECT {condition}".encode()).fetchone() == (True,):
                return
        assert time.monotonic() < give_up_at, f"never held: {condition}"
        time.sleep(0.1)
