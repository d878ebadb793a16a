# ruff: noqa: S608 - every text here is a constant, put together from constants
"""The questions `ghosts` asks of the outbox and of its copy of the topic. Values are bound by name.

rebase_topic has one row for each record of the topic (schemas.topic_copy), rebase_ghost one for
each event on it that the database does not have, decoded, and one for each fence.
"""

from typing import Final

from iu_core.bus.names import FENCE_TYPE

# What the database knows of a record's event: it wrote it (and may have pruned it), or it was given up.
_KNOWN: Final = """(
    EXISTS (SELECT FROM public.iu_event AS e WHERE e.event_ref = t.event_ref)
    OR EXISTS (SELECT FROM public.iu_abandoned_event AS a WHERE a.event_ref = t.event_ref))
"""
_FENCE: Final = f"t.ce_type IS NOT DISTINCT FROM '{FENCE_TYPE}'"

CREATE_GHOST: Final = """
    CREATE TEMPORARY TABLE rebase_ghost (
      partition int NOT NULL, "offset" bigint NOT NULL, fence boolean NOT NULL,
      event_ref uuid, tree_id uuid, event_type text, version bigint, incarnation int,
      digest bytea, payload jsonb, traceparent text
    )
"""
COPY_GHOST: Final = "COPY pg_temp.rebase_ghost FROM STDIN"
PREPARE_GHOST: Final = (
    'CREATE INDEX ON pg_temp.rebase_ghost (partition, "offset")',
    "CREATE INDEX ON pg_temp.rebase_ghost (tree_id)",
    "ANALYZE pg_temp.rebase_ghost",
)

# The records to read once more: by partition and offset, a page at a time.
STRANGERS: Final = f"""
    SELECT t."offset"
      FROM pg_temp.rebase_topic AS t
     WHERE t.partition = %(partition)s AND t."offset" > %(above)s
       AND ({_FENCE} OR NOT {_KNOWN})
     ORDER BY t."offset" LIMIT %(page)s
"""
PARTITIONS: Final = "SELECT DISTINCT t.partition FROM pg_temp.rebase_topic AS t ORDER BY 1"

TOTALS: Final = f"""
    SELECT (SELECT count(*) FROM pg_temp.rebase_topic AS t WHERE NOT {_FENCE}),
           (SELECT count(*) FROM pg_temp.rebase_ghost AS g WHERE NOT g.fence),
           (SELECT count(*) FROM pg_temp.rebase_topic AS t WHERE NOT {_FENCE} AND NOT {_KNOWN}
               AND NOT EXISTS (SELECT FROM pg_temp.rebase_ghost AS g
                                WHERE g.partition = t.partition AND g."offset" = t."offset")),
           (SELECT count(*) FROM pg_temp.rebase_topic AS t JOIN public.iu_event AS e USING (event_ref)
             WHERE t.digest IS DISTINCT FROM e.payload_digest),
           (SELECT count(*) FROM public.event_outbox)
"""
FIRST_AND_LAST_GHOST: Final = """
    SELECT g.event_ref, g.event_type, g.tree_id, g.version, g.partition, g."offset",
           g.payload ->> 'occurred_at'
      FROM pg_temp.rebase_ghost AS g WHERE NOT g.fence
       AND g.payload ->> 'occurred_at' = (
           SELECT {which}(h.payload ->> 'occurred_at') FROM pg_temp.rebase_ghost AS h WHERE NOT h.fence)
     ORDER BY g.partition, g."offset" LIMIT 1
"""

# One row for each tree that has ghosts.
TREES: Final = """
    WITH ghost AS (
      SELECT g.tree_id, count(*) AS ghosts, min(g.version) AS first_version, max(g.version) AS last_version,
             min(g.incarnation) AS first_incarnation, max(g.incarnation) AS last_incarnation,
             array_agg(DISTINCT g.event_type ORDER BY g.event_type) AS event_types
        FROM pg_temp.rebase_ghost AS g WHERE NOT g.fence GROUP BY g.tree_id
    )
    SELECT ghost.tree_id, unit.iu_code, ghost.ghosts, ghost.first_version, ghost.last_version,
           ghost.first_incarnation, ghost.last_incarnation, ghost.event_types,
           head.version, head.incarnation,
           (SELECT max(f.incarnation) FROM pg_temp.rebase_ghost AS f
             WHERE f.fence AND f.tree_id = ghost.tree_id)
      FROM ghost
      LEFT JOIN public.iu_tree AS head ON head.tree_id = ghost.tree_id
      LEFT JOIN public.information_unit AS unit ON unit.id = ghost.tree_id
     ORDER BY ghost.ghosts DESC, ghost.tree_id
"""

# A row that is not on the topic although a later one of its tree is was passed over on purpose
# (policy skip), and to publish it now would put it out of order; a blocked one waits for unblock.
LEFT_OUT: Final = """
    CREATE TEMPORARY TABLE rebase_left_out AS
    SELECT e.id
      FROM public.event_outbox AS e
      LEFT JOIN jsonb_each_text(%(blocked)s::jsonb) AS blocked (tree_id, from_version)
             ON blocked.tree_id = e.aggregate_id::text
     WHERE NOT EXISTS (SELECT FROM pg_temp.rebase_topic AS t WHERE t.event_ref = e.event_ref)
       AND (e.aggregate_version >= blocked.from_version::bigint
            OR EXISTS (SELECT FROM public.event_outbox AS later
                         JOIN pg_temp.rebase_topic AS t ON t.event_ref = later.event_ref
                        WHERE later.aggregate_id = e.aggregate_id
                          AND (later.incarnation, later.aggregate_version)
                              > (e.incarnation, e.aggregate_version)))
"""
DROP_LEFT_OUT: Final = "DROP TABLE IF EXISTS pg_temp.rebase_left_out"
_UNPUBLISHED: Final = """
      FROM public.event_outbox AS o
     WHERE NOT EXISTS (SELECT FROM pg_temp.rebase_topic AS t WHERE t.event_ref = o.event_ref)
       AND NOT EXISTS (SELECT FROM pg_temp.rebase_left_out AS l WHERE l.id = o.id)
"""
UNPUBLISHED: Final = f"""
    SELECT count(*), count(DISTINCT o.aggregate_id), min(o.id), max(o.id),
           (SELECT count(*) FROM pg_temp.rebase_left_out) {_UNPUBLISHED}
"""
UNPUBLISHED_ROWS: Final = f"""
    SELECT {{columns}} {_UNPUBLISHED}
       AND o.id > %(above)s AND o.id <= %(through)s
     ORDER BY o.id LIMIT %(rows_max)s
"""
STILL_BLOCKED: Final = """
    SELECT DISTINCT o.aggregate_id
      FROM pg_temp.rebase_left_out AS l JOIN public.event_outbox AS o ON o.id = l.id
"""

# The published row with the highest id in the partitions of a shard.
HIGHEST: Final = """
    SELECT o.id, o.event_ref
      FROM public.event_outbox AS o JOIN pg_temp.rebase_topic AS t ON t.event_ref = o.event_ref
     WHERE (o.bucket %% %(partitions)s) %% %(shards)s = %(shard)s
     ORDER BY o.id DESC LIMIT 1
"""
# Every event of a partition in its order, for a chain that no cursor has kept.
CHAIN: Final = f"""
    SELECT t.partition, t.event_ref, t.digest
      FROM pg_temp.rebase_topic AS t
     WHERE NOT {_FENCE} AND t.event_ref IS NOT NULL AND t.digest IS NOT NULL
     ORDER BY t.partition, t."offset"
"""

# The operations hold the gate's lock shared, so behind this none of them has a tree's head; the
# table's lock keeps out whoever writes without asking.
LOCK: Final = (
    "SET LOCAL lock_timeout = '10s'",
    "SELECT pg_advisory_xact_lock(18773, 2)",
    "LOCK TABLE public.event_outbox IN SHARE MODE",
)
LAST_ROW: Final = "SELECT coalesce(max(o.id), 0) FROM public.event_outbox AS o"
ADOPTABLE: Final = """
    SELECT g.partition, g."offset" FROM pg_temp.rebase_ghost AS g
     WHERE NOT g.fence AND g.tree_id = ANY (%(trees)s)
       AND (g.partition, g."offset") > (%(partition)s, %(above)s)
     ORDER BY g.partition, g."offset" LIMIT %(page)s
"""
ADOPT: Final = """
    SELECT public.fn_iu_rebase_adopt(
             g.event_type, g.payload, g.digest,
             jsonb_strip_nulls(jsonb_build_object('traceparent', g.traceparent)), %(reason)s)
      FROM pg_temp.rebase_ghost AS g
     WHERE g.partition = %(partition)s AND g."offset" = %(offset)s
"""
ABANDON: Final = """
    SELECT public.fn_iu_rebase_abandon(
             %(tree)s, %(seen)s, %(topic)s,
             (SELECT jsonb_agg(jsonb_build_object(
                       'event_ref', g.event_ref, 'event_type', g.event_type, 'version', g.version,
                       'incarnation', g.incarnation, 'partition', g.partition, 'offset', g."offset",
                       'digest', encode(g.digest, 'hex')))
                FROM pg_temp.rebase_ghost AS g WHERE g.tree_id = %(tree)s AND NOT g.fence),
             %(reason)s)
"""
# Fences that are due: those of given-up events on this topic that do not stand on it yet.
FENCES: Final = """
    SELECT a.tree_id, t.partition, a.fenced_by, min(a.version), max(a.version)
      FROM public.iu_abandoned_event AS a
      JOIN pg_temp.rebase_topic AS t ON t.event_ref = a.event_ref
     WHERE NOT EXISTS (SELECT FROM pg_temp.rebase_ghost AS f
                        WHERE f.fence AND f.tree_id = a.tree_id AND f.incarnation = a.fenced_by)
     GROUP BY a.tree_id, t.partition, a.fenced_by
     ORDER BY t.partition, a.tree_id, a.fenced_by
"""
