"""One relay per shard: a session advisory lock, held by a session of its own.

The lock is courtesy, not safety: it keeps two relays from fencing each other in turns. Safety
is the producer epoch in Kafka.

A stopped process (SIGSTOP, a frozen machine) must not keep its standby out, so the session
ends itself after `idle_session_timeout` and is pinged from a thread of this process: when the
process stops, so do the pings. Measured: taken over after 1.3 s (design/20).
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import psycopg

from iu_core.database import Connection, translate
from iu_core.errors import Fenced, Retryable

# 18773 is 'IU' in ASCII; 1 and 2 are the gates, a shard's lock is 1000 + its number.
LOCK_CLASS: Final = 18773
LOCK_BASE: Final = 1_000
IDLE_TIMEOUT_MS: Final = 1_500
PING_S: Final = 0.3

_HOLDER: Final = """
    SELECT l.pid, coalesce(a.application_name, '')
      FROM pg_locks AS l
      LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
     WHERE l.locktype = 'advisory' AND l.granted
       AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
       AND l.classid = %s::bigint::oid AND l.objid = %s::bigint::oid AND l.objsubid = 2
"""


@dataclass(frozen=True, slots=True)
class Holder:
    """The session that holds a shard's lock."""

    pid: int
    application: str

    def __str__(self) -> str:
        return f"{self.application or 'a session'} (backend {self.pid})"


def holder(connection: Connection, shard: int) -> Holder | None:
    """Return who holds the lock of `shard`, None if nobody does."""
    try:
        row = connection.execute(_HOLDER, (LOCK_CLASS, LOCK_BASE + shard)).fetchone()
    except psycopg.Error as error:
        raise translate(error) from error
    return None if row is None else Holder(*row)


class ShardLock:
    """The lock of one shard. `connect` opens the session; it must be in autocommit mode."""

    def __init__(self, connect: Callable[[], Connection], shard: int) -> None:
        self._connect = connect
        self._shard = shard
        self._connection: Connection | None = None
        self._stop = threading.Event()
        self._lost = threading.Event()
        self._pinger: threading.Thread | None = None

    def acquire(self) -> Holder | None:
        """Take the lock: None on success, else who holds it. Does not wait."""
        if self._connection is None:
            self._connection = self._connect()
        try:
            self._connection.execute(f"SET idle_session_timeout = {IDLE_TIMEOUT_MS}")
            taken = self._connection.execute(
                "SELECT pg_try_advisory_lock(%s, %s)", (LOCK_CLASS, LOCK_BASE + self._shard)
            ).fetchone()
            if taken != (True,):
                return holder(self._connection, self._shard) or Holder(0, "a session that is just leaving")
        except psycopg.Error as error:
            self._drop()
            raise translate(error) from error
        self._lost.clear()
        self._stop.clear()
        self._pinger = threading.Thread(target=self._ping, name="shard-lock", daemon=True)
        self._pinger.start()
        return None

    def check(self) -> None:
        """Return while the lock is held. Raises `Fenced` if it was lost to another relay,

        `Retryable` if it was lost and nobody has it (the server was restarted).
        """
        if not self._lost.is_set():
            return
        self.release()
        if (other := self.acquire()) is not None:
            self.release()
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
        self._stop.set()
        if self._pinger is not None:
            self._pinger.join(timeout=2 * PING_S)
            self._pinger = None
        self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _ping(self) -> None:
        connection = self._connection
        while connection is not None and not self._stop.wait(PING_S):
            try:
                connection.execute("SELECT 1")
            except psycopg.Error:
                self._lost.set()
                return
