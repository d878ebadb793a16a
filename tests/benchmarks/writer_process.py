"""`python -m tests.benchmarks.writer_process …`: events at an even pace, whatever the database says.

An open loop: event k is *due* at start + k / rate, and is sent then or, if its session is still
busy with the one before, as soon as that is over. What it waited for then is counted to it, so
that a stall of the server is seen by every event it delayed, not by one.

Each event is one transaction: the tree's head row is locked and counted up, then the event is
appended, as the structure operations do it. Each session has trees of its own, so that whatever
a writer waits for is not another writer.

Prints one JSON object: {"events": [[event_ref, due_ns, started_ns, committed_ns], …]}, times of
the monotonic clock, which on Linux is the same in every process.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

import psycopg

from iu_core.settings import load_settings

SESSIONS: Final = 16
# By this name the others tell a writer from who holds it up.
APPLICATION: Final = "bench-writer"
APPEND: Final = """
    WITH head AS (
      UPDATE public.iu_tree SET version = version + 1 WHERE tree_id = md5('bench tree ' || %s::text)::uuid
      RETURNING tree_id, version, incarnation
    )
    SELECT public.fn_iu_outbox_append(
             'structure_reparented', tree_id, tree_id, version, incarnation, 'bench.document', 'bench',
             %s,
             jsonb_build_object('unit_id', tree_id, 'iu_code', 'bench.document.s01',
                                'old_parent_id', tree_id, 'old_ordinal', 1,
                                'new_parent_id', tree_id, 'new_ordinal', 2))
      FROM head
"""
# As many random hexadecimal digits as bring a datum to about 300 bytes.
_REASON_DIGITS: Final = 142

Event: TypeAlias = tuple[str, int, int, int]


def reason() -> str:
    """Return a reason that no compression makes much shorter than half."""
    return f"{random.getrandbits(4 * _REASON_DIGITS):0{_REASON_DIGITS}x}"


def main() -> None:
    """Write and print what was written."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=int, required=True, help="events a second")
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--trees", type=int, required=True)
    parser.add_argument("--start-ns", type=int, required=True, help="when the first is due, monotonic clock")
    given = parser.parse_args()
    url = load_settings().database_url or ""
    with ThreadPoolExecutor(SESSIONS) as pool:
        parts = [
            pool.submit(
                _write, url, number, given.trees, _due(given.start_ns, given.rate, given.events, number)
            )
            for number in range(SESSIONS)
        ]
        events = [event for part in parts for event in part.result()]
    sys.stdout.write(json.dumps({"events": events}))


def _due(start_ns: int, rate: int, events: int, session: int) -> Sequence[int]:
    return [start_ns + number * 1_000_000_000 // rate for number in range(session, events, SESSIONS)]


def _write(url: str, session: int, trees: int, due: Sequence[int]) -> list[Event]:
    """Send one event at each moment of `due`, or late; return what was sent."""
    written: list[Event] = []
    own_trees = range(session, trees, SESSIONS)
    with psycopg.connect(url, autocommit=True, application_name=APPLICATION, prepare_threshold=1) as database:
        database.execute("SET ROLE iu_owner")
        for number, due_ns in enumerate(due):
            if (early_ns := due_ns - time.monotonic_ns()) > 0:
                time.sleep(early_ns / 1e9)
            started_ns = time.monotonic_ns()
            row = database.execute(APPEND, (own_trees[number % len(own_trees)], reason())).fetchone()
            committed_ns = time.monotonic_ns()
            assert row is not None
            written.append((str(row[0]), due_ns, started_ns, committed_ns))
    return written


if __name__ == "__main__":
    main()
