"""One relay per shard: a session advisory lock, held by a session of its own.

The lock is courtesy, not safety: it keeps two relays from fencing each other in turns. Safety
is the producer epoch in Kafka.

A stopped process (SIGSTOP, a frozen machine) must not keep its standby out, so the session
ends itself after `idle_session_timeout` and is pinged from a thread of this process: when the
process stops, so do the pings. Measured: taken over after 1.3 s (design/20).

A second lock per shard says that a command wants to act in the relay's place. A relay asks for
it with each ping and steps aside; see `maintenance`.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import psycopg

from iu_core.database import Connection, translate
from iu_core.errors import Fenced, Retryable

# 18773 is 'IU' in ASCII; 1 and 2 are the gates, a shard's locks are these plus its number.
LOCK_CLASS: Final = 18773
LOCK_BASE: Final = 1_000
MAINTENANCE_BASE: Final = 2_000
IDLE_TIMEOUT_MS: Final = 1_500
PING_S: Final = 0.3

_HOLDER: Final = """
    SELECT l.pid, coalesce(a.application_name, '')
      FROM pg_locks AS l
      LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
     WHERE l.locktype = 'advisory' AND l.granted AND l.mode = 'ExclusiveLock'
       AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
       AND l.classid = %s::bigint::oid AND l.objid = %s::bigint::oid AND l.objsubid = 2
"""
_TAKE: Final = "SELECT pg_try_advisory_lock(%s, %s)"
# Shared and for one statement: it only asks whether somebody holds the lock.
_IS_FREE: Final = "SELECT pg_try_advisory_xact_lock_shared(%s, %s)"


@dataclass(frozen=True, slots=True)
class Holder:
    """The session that holds a shard: a relay, or a command that acts in its place."""

    pid: int
    application: str
    maintenance: bool = False

    def __str__(self) -> str:
        return f"{self.application or 'a session'} (backend {self.pid})"


_LEAVING: Final = Holder(0, "a session that is just leaving")


def holder(connection: Connection, shard: int) -> Holder | None:
    """Return who holds `shard`, None if nobody does. A command counts before the relay it waits for."""
    return _holder(connection, MAINTENANCE_BASE, shard) or _holder(connection, LOCK_BASE, shard)


def _holder(connection: Connection, base: int, shard: int) -> Holder | None:
    try:
        row = connection.execute(_HOLDER, (LOCK_CLASS, base + shard)).fetchone()
    except psycopg.Error as error:
        raise translate(error) from error
    return None if row is None else Holder(row[0], row[1], maintenance=base == MAINTENANCE_BASE)


class PingedSession:
    """A session for advisory locks that ends itself soon after this process stops running.

    `connect` opens it, in autocommit mode; `ask` is run with each ping, from the pinging thread.
    """

    def __init__(
        self, connect: Callable[[], Connection], ask: Callable[[Connection], None] | None = None
    ) -> None:
        self._ask = ask
        self._stop = threading.Event()
        self._lost = threading.Event()
        self._pinger: threading.Thread | None = None
        self._connection = connect()
        try:
            self._connection.execute(f"SET idle_session_timeout = {IDLE_TIMEOUT_MS}")
        except psycopg.Error as error:
            self.close()
            raise translate(error) from error

    @property
    def lost(self) -> bool:
        """Whether a ping has found the session gone, and with it the locks."""
        return self._lost.is_set()

    def take(self, base: int, shard: int) -> bool:
        """Take a lock; false if another session holds it. Does not wait."""
        try:
            return self._connection.execute(_TAKE, (LOCK_CLASS, base + shard)).fetchone() == (True,)
        except psycopg.Error as error:
            raise translate(error) from error

    def holder(self, base: int, shard: int) -> Holder | None:
        """Return who holds a lock."""
        return _holder(self._connection, base, shard)

    def is_free(self, base: int, shard: int) -> bool:
        """Return whether nobody holds a lock."""
        try:
            return is_free(self._connection, base, shard)
        except psycopg.Error as error:
            raise translate(error) from error

    def keep_alive(self) -> None:
        """Ping from now on. Without, the session ends `IDLE_TIMEOUT_MS` after the last statement."""
        self._pinger = threading.Thread(target=self._ping, name="lock-pings", daemon=True)
        self._pinger.start()

    def close(self) -> None:
        """End the session and give its locks back. Idempotent, never raises."""
        self._stop.set()
        pinger, self._pinger = self._pinger, None
        if pinger is not None:
            pinger.join(timeout=2 * PING_S)
        with suppress(psycopg.Error):
            self._connection.close()

    def _ping(self) -> None:
        while not self._stop.wait(PING_S):
            try:
                self._connection.execute("SELECT 1")
                if self._ask is not None:
                    self._ask(self._connection)
            except psycopg.Error:
                self._lost.set()
                return


def is_free(connection: Connection, base: int, shard: int) -> bool:
    """Return whether nobody holds a lock; raises what psycopg raises."""
    return connection.execute(_IS_FREE, (LOCK_CLASS, base + shard)).fetchone() == (True,)


class ShardLock:
    """The relay's lock of one shard. `connect` opens the session; it must be in autocommit mode."""

    def __init__(self, connect: Callable[[], Connection], shard: int) -> None:
        self._connect = connect
        self._shard = shard
        self._session: PingedSession | None = None
        self._wanted = threading.Event()

    def acquire(self, known: Holder | None = None) -> Holder | None:
        """Take the lock: None on success, else who holds it. Does not wait.

        A holder that is `known` is not looked up again: that would read every lock of the server.
        """
        if self._session is None:
            self._session = PingedSession(self._connect, self._ask)
        try:
            if not self._session.is_free(MAINTENANCE_BASE, self._shard):
                leaving = Holder(0, "a command that is just ending", maintenance=True)
                return known or self._session.holder(MAINTENANCE_BASE, self._shard) or leaving
            if not self._session.take(LOCK_BASE, self._shard):
                return known or self._session.holder(LOCK_BASE, self._shard) or _LEAVING
        except Exception:
            self.release()
            raise
        self._wanted.clear()
        self._session.keep_alive()
        return None

    @property
    def wanted(self) -> bool:
        """Whether a command waits for the relay to step aside; noticed within `PING_S`."""
        return self._wanted.is_set()

    def check(self) -> None:
        """Return while the lock is held. Raises `Fenced` if it was lost to another relay,

        `Retryable` if it was lost and no relay has it (the server was restarted).
        """
        if self._session is None or not self._session.lost:
            return
        self.release()
        other = self.acquire()
        self.release()
        if other is not None and not other.maintenance:
            raise Fenced(
                f"the lock of shard {self._shard} was lost, and {other} has taken it",
                why=f"this process did not run for more than {IDLE_TIMEOUT_MS} ms, or its session broke",
                remedy="nothing: the other relay publishes; start this one again to have a standby",
            )
        raise Retryable(
            f"the lock of shard {self._shard} was lost", why="its session broke", remedy="start over"
        )

    def release(self) -> None:
        """Give the lock back by ending its session. Idempotent, never raises."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _ask(self, connection: Connection) -> None:
        if not is_free(connection, MAINTENANCE_BASE, self._shard):
            self._wanted.set()
