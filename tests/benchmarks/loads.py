"""Outboxes to be drained: real events of real trees, filled without a constraint switched off.

Every row is a `structure_reparented` whose datum the SQL encoder makes; the reason is as long as
it takes to bring the datum to the size wanted, and random: with "why why why" in its place Kafka's
compression and PostgreSQL's would make little of it. Two sessions fill at once, each the trees of its
own, so that ids ascend with versions inside a tree, as the head lock makes it in production.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from tests.benchmarks.progress import say

_SESSIONS: Final = 2

_TREES: Final = """
    INSERT INTO public.iu_tree (tree_id, version)
    SELECT md5('bench tree ' || number)::uuid, 0 FROM generate_series(0, %(trees)s - 1) AS number
"""
# Row n of the session belongs to tree n mod its trees; version n div its trees + 1.
_EVENTS: Final = """
    WITH made AS MATERIALIZED (
      SELECT public.fn_iu_uuid_v7() AS event_ref,
             md5('bench tree ' || (n %% %(trees)s * %(sessions)s + %(session)s))::uuid AS tree_id,
             n / %(trees)s + 1 AS version,
             left(reason.text, %(reason_bytes)s) AS reason,
             clock_timestamp() AS at
        FROM generate_series(%(first)s::bigint, %(last)s) AS n,
             LATERAL (SELECT string_agg(md5(n || '.' || part), '') AS text
                        FROM generate_series(1, %(reason_bytes)s / 32 + 1) AS part) AS reason
    ), told AS MATERIALIZED (
      SELECT made.*, jsonb_build_object(
               'event_ref', event_ref,
               'occurred_at', to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
               'tree_id', tree_id, 'incarnation', 1, 'aggregate_version', version,
               'operation_id', event_ref, 'actor', 'bench', 'reason', reason,
               'doc_code', 'bench.document', 'unit_id', tree_id, 'iu_code', 'bench.document.s01',
               'old_parent_id', tree_id, 'old_ordinal', 1, 'new_parent_id', event_ref, 'new_ordinal', 2
             ) AS payload
        FROM made
    ), encoded AS MATERIALIZED (
      SELECT told.*, public.fn_iu_avro_structure_reparented_v1(payload) AS datum FROM told
    )
    INSERT INTO public.event_outbox
           (event_ref, event_type, schema_version, aggregate_id, aggregate_version, bucket, incarnation,
            payload, datum, payload_digest, occurred_at)
    SELECT event_ref, 'structure_reparented', 1, tree_id, version,
           get_byte(sha256(uuid_send(tree_id)), 0), 1, payload, datum, sha256(datum), at
      FROM encoded
     ORDER BY version
"""
# Bytes of a datum whose reason is empty, with a two-byte length of the reason.
_EMPTY_DATUM_BYTES: Final = 158


@dataclass(frozen=True, slots=True)
class Load:
    """Rows over trees; `datum_bytes` each, give or take a few; `transaction_rows` committed at a time."""

    rows: int
    trees: int = 200
    datum_bytes: int = 300
    transaction_rows: int = 100

    @property
    def name(self) -> str:
        """The load in words, for the title of a table."""
        return f"{self.rows:,} rows, {self.trees:,} trees, {self.datum_bytes:,} bytes"


def fill(url: str, load: Load) -> float:
    """Fill the outbox of an empty database as its superuser; return the bytes of WAL that took.

    The commits need not reach the disk one by one here: this is not what is measured.
    """
    started = time.monotonic()
    with psycopg.connect(url, autocommit=True) as session:
        wal_before = wal_bytes(session)
        session.execute("SET ROLE iu_owner")
        session.execute(_TREES, {"trees": load.trees})
    with ThreadPoolExecutor(_SESSIONS) as pool:
        for part in [pool.submit(_fill_part, url, load, number) for number in range(_SESSIONS)]:
            part.result()
    with psycopg.connect(url, autocommit=True) as session:
        written = wal_bytes(session) - wal_before
        session.execute(
            "UPDATE public.iu_tree AS tree SET version = made.version FROM (SELECT aggregate_id,"
            " max(aggregate_version) AS version FROM public.event_outbox GROUP BY 1) AS made"
            " WHERE tree.tree_id = made.aggregate_id"
        )
        session.execute("VACUUM (ANALYZE) public.event_outbox")
        session.execute("CHECKPOINT")
        found = session.execute(
            "SELECT count(*), avg(octet_length(datum))::integer FROM public.event_outbox"
        ).fetchone()
    took_s = time.monotonic() - started
    assert found is not None
    assert found[0] == load.rows, found
    say(f"filled an outbox: {load.name} ({found[1]} on average) in {took_s:.0f} s")
    return written


def wal_bytes(session: psycopg.Connection[Any]) -> float:
    """Return how much WAL the server has written in its life, in bytes."""
    row = session.execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8").fetchone()
    assert row is not None
    return float(row[0])


def _fill_part(url: str, load: Load, number: int) -> None:
    rows = load.rows // _SESSIONS + (load.rows % _SESSIONS if number == 0 else 0)
    with psycopg.connect(url, autocommit=True, application_name=f"bench-fill-{number}") as session:
        session.execute("SET ROLE iu_owner")
        session.execute("SET synchronous_commit = off")
        for first in range(0, rows, load.transaction_rows):
            session.execute(
                _EVENTS,
                {
                    "trees": load.trees // _SESSIONS,
                    "sessions": _SESSIONS,
                    "session": number,
                    "first": first,
                    "last": min(first + load.transaction_rows, rows) - 1,
                    "reason_bytes": max(1, load.datum_bytes - _EMPTY_DATUM_BYTES),
                },
            )
