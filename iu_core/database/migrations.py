"""The runner of migrations: up, down, status.

Each migration runs in one transaction together with its row in the ledger, so what failed in
the middle has left nothing, and what is in the ledger has run whole. Before anything is done
the files of what was applied are compared with their checksums: a file that was edited since
no longer tells what the database is.

One runner at a time per database, held by an advisory lock of the session. Every wait is
bounded. Looked at and not taken: yoyo, dbmate, alembic, sqitch; see docs/architecture/migrations.md.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, TypeAlias

import psycopg

from iu_core.database.connection import Connection
from iu_core.database.inert import Inert, make_inert
from iu_core.database.migration_files import Migration, Registration, Script, SqlFiles
from iu_core.database.sqlstates import translate
from iu_core.errors import Misconfigured, Refused, Retryable, Usage

State: TypeAlias = Literal["applied", "pending", "changed", "unknown"]

# 18773 is 'IU' in ASCII; 1 and 2 are the gates.
_RUNNER_LOCK: Final = (18773, 3)
_SEAM: Final = 13  # the migration whose rollback is refused while the seam is in use


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the runner may wait or work, in milliseconds."""

    runner_wait_ms: int = 10_000
    lock_timeout_ms: int = 5_000
    statement_timeout_ms: int = 600_000


@dataclass(frozen=True, slots=True)
class Applied:
    """A row of the ledger."""

    number: int
    name: str
    checksum: str
    rollback_checksum: str
    applied_by: str
    applied_at: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """One migration as file and database see it; `applied_*` None if it is pending."""

    number: int
    name: str
    state: State
    applied_at: datetime | None
    applied_by: str | None


@dataclass(frozen=True, slots=True)
class Moved:
    """What `up` or `down` did, or would do; `version` is the number the database stands at."""

    version: int
    rehearsed: bool
    applied: tuple[str, ...] = ()
    registered: tuple[str, ...] = ()
    rolled_back: tuple[str, ...] = ()
    inert: Inert | None = None


class Migrator:
    """Moves one database between versions of the files given.

    `connection` is in autocommit mode, acts as its login, and is used by nobody else meanwhile.
    All methods raise `Misconfigured` (tampered or unknown files), `Refused` (the login lacks a
    right), `Retryable` (another runner, a lock, the server), `Terminal` (a script failed).
    """

    def __init__(self, connection: Connection, files: SqlFiles, *, limits: Limits | None = None) -> None:
        self._connection = connection
        self._files = files
        self._limits = limits or Limits()

    def status(self) -> tuple[Entry, ...]:
        """Return every migration that is in the files or in the ledger, by number."""
        with _translated():
            applied = {row.number: row for row in self._applied()}
        files = {migration.number: migration for migration in self._files.migrations}
        return tuple(
            _entry(number, files.get(number), applied.get(number)) for number in sorted(files | applied)
        )

    def up(self, *, to: int | None = None, rehearse: bool = False) -> Moved:
        """Apply what is pending up to `to` (None: all), then every registration that stands on it.

        `rehearse` runs all of it in one transaction and rolls that back.
        """
        target = self._files.newest if to is None else to
        self._known_version(target)
        with self._alone(), self._rehearsal(rehearse):
            self._prepare()
            version = len(self._checked())
            pending = [m for m in self._files.migrations if version < m.number <= target]
            for migration in pending:
                self._apply(migration)
            version = max(version, target)
            registrations = [r for r in self._files.registrations if r.requires <= version]
            for registration in registrations:
                self._register(registration)
        return Moved(
            version,
            rehearse,
            applied=tuple(migration.up.name for migration in pending),
            registered=tuple(registration.up.name for registration in registrations),
        )

    def down(self, *, to: int, rehearse: bool, force_inert: Path | None = None) -> Moved:
        """Roll back to version `to`, newest first, each with the registrations that stand on it.

        `rehearse` runs all of it in one transaction and rolls that back, so a preview meets
        every refusal that the real run would meet. With `force_inert` the routes go to dry-run
        first, and the rows of the projection to that file; a rehearsal writes no file.
        """
        self._known_version(to)
        inert: Inert | None = None
        with self._alone(), self._rehearsal(rehearse):
            version = len(self._checked())
            steps = [m for m in reversed(self._files.migrations) if to < m.number <= version]
            for migration in steps:
                with self._connection.transaction():
                    if force_inert is not None and migration.number == _SEAM:
                        inert = make_inert(self._connection, None if rehearse else force_inert)
                    self._revert(migration)
        return Moved(
            min(version, to), rehearse, rolled_back=tuple(step.down.name for step in steps), inert=inert
        )

    def _apply(self, migration: Migration) -> None:
        with self._connection.transaction():
            self._run(migration.up)
            self._connection.execute(
                "INSERT INTO public.iu_schema_migration (number, name, checksum, rollback_checksum)"
                " VALUES (%s, %s, %s, %s)",
                (migration.number, migration.up.name, migration.up.checksum, migration.down.checksum),
            )

    def _register(self, registration: Registration) -> None:
        with self._connection.transaction():
            self._run(registration.up)

    def _revert(self, migration: Migration) -> None:
        for registration in reversed(self._files.registrations):
            if registration.requires == migration.number:
                self._run(registration.down)
        self._run(migration.down)
        self._connection.execute(
            "DELETE FROM public.iu_schema_migration WHERE number = %s", (migration.number,)
        )

    def _run(self, script: Script) -> None:
        with _translated(script):
            self._connection.execute(script.body.encode())

    def _prepare(self) -> None:
        with self._connection.transaction():
            encoding = self._connection.execute("SHOW server_encoding").fetchone()
            if encoding != ("UTF8",):
                raise Misconfigured(
                    "the database does not store UTF-8",
                    why=f"server_encoding is {encoding and encoding[0]}",
                    remedy="CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0",
                )
            self._make_roles()
            if not self._has_ledger():
                self._connection.execute(self._files.ledger.encode())

    def _make_roles(self) -> None:
        try:
            self._connection.execute(self._files.roles.encode())
        except psycopg.errors.InsufficientPrivilege as error:
            login = self._connection.info.user
            raise Refused(
                f"login {login!r} may not prepare this database",
                why=f"roles.sql: {error.diag.message_primary}",
                remedy="as an administrator, in this database: run sql/roles.sql, then"
                f' GRANT iu_owner TO "{login}"',
                code=error.sqlstate,
            ) from error

    def _has_ledger(self) -> bool:
        found = self._connection.execute("SELECT to_regclass('public.iu_schema_migration') IS NOT NULL")
        return found.fetchone() == (True,)

    def _applied(self) -> list[Applied]:
        if not self._has_ledger():
            return []
        rows = self._connection.execute(
            "SELECT number, name, checksum, rollback_checksum, applied_by, applied_at"
            " FROM public.iu_schema_migration ORDER BY number"
        )
        return [Applied(*row) for row in rows]

    def _checked(self) -> list[Applied]:
        """Return the ledger; raises `Misconfigured` unless it is a prefix of the files, untouched."""
        applied = self._applied()
        for expected, row in enumerate(applied, start=1):
            if row.number != expected:
                raise Misconfigured(
                    f"migration {expected:03} is missing in the database",
                    why=f"its ledger goes on with {row.name}",
                    remedy="restore iu_schema_migration from a backup",
                )
        for row, migration in zip(applied, self._files.migrations, strict=False):
            _refuse_changed(row, migration)
        if len(applied) > self._files.newest:
            raise Misconfigured(
                f"the database has {applied[-1].name}, which this release does not know",
                why=f"the newest file here is number {self._files.newest:03}",
                remedy="use the release that applied it, or a newer one",
            )
        return applied

    def _known_version(self, version: int) -> None:
        if not 0 <= version <= self._files.newest:
            raise Usage(
                f"there is no migration {version}",
                why=f"they are numbered 1 to {self._files.newest}; 0 is before the first",
                remedy="iu db status",
            )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the runner's lock, with this runner's time-outs in place of the session's."""
        with _translated():
            self._connection.execute(
                "SELECT set_config('lock_timeout', %s, false), set_config('statement_timeout', %s, false),"
                " set_config('idle_in_transaction_session_timeout', '60s', false)",
                (f"{self._limits.runner_wait_ms}ms", f"{self._limits.statement_timeout_ms}ms"),
            )
            try:
                self._connection.execute("SELECT pg_advisory_lock(%s, %s)", _RUNNER_LOCK)
            except psycopg.errors.LockNotAvailable as error:
                raise self._occupied() from error
            self._connection.execute(
                "SELECT set_config('lock_timeout', %s, false)", (f"{self._limits.lock_timeout_ms}ms",)
            )
        try:
            with _translated():
                yield
        finally:
            # A connection that broke has given the lock back by itself.
            with suppress(psycopg.Error):
                self._connection.execute("SELECT pg_advisory_unlock(%s, %s)", _RUNNER_LOCK)

    def _occupied(self) -> Retryable:
        row = self._connection.execute(
            "SELECT activity.pid, activity.usename, activity.application_name, activity.state_change"
            "  FROM pg_locks AS held JOIN pg_stat_activity AS activity USING (pid)"
            " WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 2"
            "   AND held.classid = %s AND held.objid = %s"
            "   AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            _RUNNER_LOCK,
        ).fetchone()
        holder = (
            f"process {row[0]} ({row[1]}, {row[2]}) since {row[3]:%H:%M:%S}" if row else "it has just ended"
        )
        return Retryable(
            "another `iu db` is at work on this database",
            why=holder,
            remedy="wait for it, then run the same command again",
            code="55P03",
        )

    @contextmanager
    def _rehearsal(self, rehearse: bool) -> Iterator[None]:
        if not rehearse:
            yield
            return
        with self._connection.transaction(force_rollback=True):
            yield


def _entry(number: int, migration: Migration | None, applied: Applied | None) -> Entry:
    name = migration.up.name if migration is not None else applied.name if applied is not None else ""
    if applied is None:
        return Entry(number, name, "pending", None, None)
    state: State = "applied"
    if migration is None:
        state = "unknown"
    elif changed_files(applied, migration):
        state = "changed"
    return Entry(number, name, state, applied.applied_at, applied.applied_by)


def changed_files(applied: Applied, migration: Migration) -> tuple[Script, ...]:
    """Return the files of `migration` that are not those that were `applied`."""
    changed = []
    if (applied.name, applied.checksum) != (migration.up.name, migration.up.checksum):
        changed.append(migration.up)
    if applied.rollback_checksum != migration.down.checksum:
        changed.append(migration.down)
    return tuple(changed)


def _refuse_changed(applied: Applied, migration: Migration) -> None:
    for script in changed_files(applied, migration):
        then = applied.checksum if script is migration.up else applied.rollback_checksum
        raise Misconfigured(
            f"{script.name} was changed after it was applied",
            why=f"applied {applied.applied_at:%Y-%m-%d %H:%M:%S} as {applied.name} with sha256 {then[:12]}…,"
            f" the file has {script.checksum[:12]}…",
            remedy="restore the file (git checkout) and put the change into a new migration",
        )


@contextmanager
def _translated(script: Script | None = None) -> Iterator[None]:
    """Raise errors of psycopg as ours, with the file and line of `script`."""
    try:
        yield
    except psycopg.Error as error:
        ours = translate(error)
        if script is not None:
            ours.what = f"{script.name}{_line(script, error)}: {ours.what}"
            ours.remedy = ours.remedy or "nothing of this file was kept; correct the cause and run again"
        elif isinstance(ours, Refused):
            ours.remedy = ours.remedy or "use a login that is a member of iu_owner"
        raise ours from error


def _line(script: Script, error: psycopg.Error) -> str:
    position = error.diag.statement_position
    if position is None:
        return ""
    return f" line {script.body.count(chr(10), 0, int(position) - 1) + 1}"
