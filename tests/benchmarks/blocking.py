"""Does a writer wait for a lock that somebody else than a writer holds? Asked 20 times a second."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg

from tests.benchmarks.writer_process import APPLICATION

_EVERY_S: Final = 0.05
_WAITING: Final = """
    SELECT count(*) FILTER (WHERE EXISTS (
             SELECT FROM unnest(pg_blocking_pids(waiter.pid)) AS blocker
               JOIN pg_stat_activity AS holder ON holder.pid = blocker
              WHERE holder.application_name <> %(writer)s))
      FROM pg_stat_activity AS waiter
     WHERE waiter.application_name = %(writer)s AND waiter.wait_event_type = 'Lock'
"""


@dataclass(slots=True)
class Waits:
    """How often it was asked, and how many waiting writers were found in all."""

    samples: int = 0
    found: int = 0


@contextmanager
def watched(url: str) -> Iterator[Waits]:
    """Sample while the block runs."""
    waits, stop = Waits(), threading.Event()

    def sample() -> None:
        with psycopg.connect(url, autocommit=True, application_name="bench-watch") as session:
            while not stop.wait(_EVERY_S):
                row = session.execute(_WAITING, {"writer": APPLICATION}).fetchone()
                waits.samples += 1
                waits.found += row[0] if row is not None else 0

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield waits
    finally:
        stop.set()
        thread.join(10)
