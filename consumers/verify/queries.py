"""The checks that are one query each: how many rows break the rule, and the first of them in words.

Every query returns (count, first case). All of them run in one REPEATABLE READ snapshot that is
younger than the end of the topic they compare with: so each record on the topic has its row.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Check:
    """A rule, and the query for the rows that break it."""

    rule: str
    query: str


ON_TOPIC: Final = (
    Check(
        "every record of the topic is an event of the outbox",
        """SELECT count(*), min(format('partition %s, offset %s: %s', t.partition, t."offset",
                         coalesce('event ' || t.event_ref, 'a record without a ce_id that is one')))
             FROM pg_temp.verify_topic AS t
            WHERE t.ce_type IS DISTINCT FROM 'iu.relay.fence'
              AND NOT EXISTS (SELECT FROM public.event_outbox AS e WHERE e.event_ref = t.event_ref)
              AND NOT EXISTS (SELECT FROM public.iu_abandoned_event AS a WHERE a.event_ref = t.event_ref)""",
    ),
    Check(
        "no event is on the topic twice",
        """SELECT count(*), min(format('event %s, %s times', event_ref, times))
             FROM (SELECT event_ref, count(*) AS times FROM pg_temp.verify_topic
                    WHERE event_ref IS NOT NULL GROUP BY event_ref HAVING count(*) > 1) AS twice""",
    ),
    Check(
        "a record holds the bytes that the operation wrote, under its tree's key",
        """SELECT count(*), min(format('event %s at partition %s, offset %s',
                                     e.event_ref, t.partition, t."offset"))
             FROM pg_temp.verify_topic AS t JOIN public.event_outbox AS e ON e.event_ref = t.event_ref
            WHERE t.digest IS DISTINCT FROM e.payload_digest
               OR t.tree_id IS DISTINCT FROM e.aggregate_id::text""",
    ),
    Check(
        "the stored digest is that of the stored datum",
        """SELECT count(*), min(format('event %s', event_ref))
             FROM public.event_outbox WHERE payload_digest <> sha256(datum)""",
    ),
    Check(
        "the versions of a tree follow one another on one partition, without a hole",
        """SELECT count(*), min(format('tree %s: version %s at partition %s, offset %s follows %s',
                         aggregate_id, aggregate_version, partition, "offset", before))
             FROM (SELECT e.aggregate_id, e.aggregate_version, t.partition, t."offset",
                          format('version %s', lag(e.aggregate_version) OVER tree) AS before,
                          e.aggregate_version - coalesce(lag(e.aggregate_version) OVER tree,
                            (SELECT max(b.version) FROM public.iu_tree_baseline AS b
                              WHERE b.tree_id = e.aggregate_id
                                AND b.version < e.aggregate_version), 0) AS step,
                          t.partition <> coalesce(lag(t.partition) OVER tree, t.partition) AS elsewhere,
                          e.incarnation < coalesce(lag(e.incarnation) OVER tree, 1) AS earlier
                     FROM pg_temp.verify_topic AS t
                     JOIN public.event_outbox AS e ON e.event_ref = t.event_ref
                   WINDOW tree AS (PARTITION BY e.aggregate_id ORDER BY t.partition, t."offset")) AS steps
            WHERE step <> 1 OR elsewhere OR earlier""",
    ),
    # What reads the topic alone learns only from the fence that the events before it are void.
    Check(
        "behind each event that was given up stands the fence of its tree, and no other fence is there",
        """SELECT count(*), min(what)
             FROM (SELECT 'event ' || a.event_ref || ': no fence' AS what
                     FROM public.iu_abandoned_event AS a
                     JOIN pg_temp.verify_topic AS t ON t.event_ref = a.event_ref
                    WHERE NOT EXISTS (SELECT FROM pg_temp.verify_topic AS f
                                       WHERE f.ce_type = 'iu.relay.fence' AND f.tree_id = t.tree_id
                                         AND f.partition = t.partition AND f."offset" > t."offset")
                   UNION ALL
                   SELECT format('partition %s, offset %s', f.partition, f."offset")
                     FROM pg_temp.verify_topic AS f
                    WHERE f.ce_type = 'iu.relay.fence'
                      AND NOT EXISTS (SELECT FROM public.iu_abandoned_event AS a
                                       WHERE a.tree_id::text = f.tree_id)) AS broken""",
    ),
)

# settled: the snapshot up to which the relay's cursor says that everything is published; up to
# row floor by id, because there a rebase has found the xids of another history.
SKIPPED: Final = Check(
    "what the relay's cursor calls published is on the topic",
    """SELECT count(*), min('event ' || e.event_ref || ', outbox row ' || e.id)
         FROM public.event_outbox AS e
        WHERE (e.id <= %(floor)s OR pg_visible_in_snapshot(e.xid, %(settled)s::text::pg_snapshot))
          AND NOT EXISTS (SELECT FROM pg_temp.verify_topic AS t WHERE t.event_ref = e.event_ref)""",
)

ON_DECISIONS: Final = (
    Check(
        "one `sent` per route and event",
        """SELECT count(*), min(format('route %s, event %s', route_code, event_ref))
             FROM (SELECT route_code, event_ref FROM public.iu_route_attempt WHERE decision = 'sent'
                    GROUP BY route_code, event_ref HAVING count(*) > 1) AS twice""",
    ),
    Check(
        "one projection row per event",
        """SELECT count(*), min(format('event %s', event_ref))
             FROM (SELECT event_ref FROM public.iu_tree_change_log
                    GROUP BY event_ref HAVING count(*) > 1) AS twice""",
    ),
    Check(
        "every `sent` has its projection row",
        """SELECT count(*), min(format('route %s, event %s', a.route_code, a.event_ref))
             FROM public.iu_route_attempt AS a
            WHERE a.decision = 'sent'
              AND NOT EXISTS (SELECT FROM public.iu_tree_change_log AS c WHERE c.event_ref = a.event_ref)""",
    ),
    Check(
        "every projection row has its `sent`",
        """SELECT count(*), min(format('event %s', c.event_ref))
             FROM public.iu_tree_change_log AS c
            WHERE NOT EXISTS (SELECT FROM public.iu_route_attempt AS a
                               WHERE a.event_ref = c.event_ref AND a.decision = 'sent')""",
    ),
    Check(
        "a projection row says what its event says",
        """SELECT count(*), min(format('event %s', c.event_ref))
             FROM public.iu_tree_change_log AS c LEFT JOIN public.event_outbox AS e USING (event_ref)
            WHERE c.payload IS DISTINCT FROM e.payload""",
    ),
    Check(
        "an event that was given up is in no outbox and had no effect",
        """SELECT count(*), min(format('event %s', a.event_ref))
             FROM public.iu_abandoned_event AS a
            WHERE EXISTS (SELECT FROM public.event_outbox AS e WHERE e.event_ref = a.event_ref)
               OR EXISTS (SELECT FROM public.iu_tree_change_log AS c WHERE c.event_ref = a.event_ref)
               OR EXISTS (SELECT FROM public.iu_route_attempt AS d
                           WHERE d.event_ref = a.event_ref AND d.decision = 'sent')""",
    ),
    # Before it was given up such an event had `failed` as unknown: that decision stands, too.
    Check(
        "an event that was given up and that the live lane has passed has a decision",
        """SELECT count(*), min(format('route %s, event %s', r.route_code, a.event_ref))
             FROM public.iu_abandoned_event AS a
             JOIN public.iu_outbound_route AS r ON r.event_type = a.event_type
             JOIN pg_temp.verify_topic AS t ON t.event_ref = a.event_ref
             JOIN public.iu_route_offset AS p ON p.route_code = r.route_code AND p.lane = 'live'
                  AND p.topic = a.topic AND p.partition = t.partition
            WHERE t."offset" >= p.start_offset AND t."offset" < p.next_offset
              AND NOT EXISTS (SELECT FROM public.iu_route_attempt AS d
                               WHERE d.route_code = r.route_code AND d.event_ref = a.event_ref
                                 AND d.lane = 'live')""",
    ),
)

# One row per (route, event): its state, by the first rule that fits.
STATES: Final = """
    WITH state AS (
      SELECT r.route_code, e.event_ref,
        CASE
          WHEN EXISTS (SELECT FROM public.iu_route_attempt AS a WHERE a.route_code = r.route_code
                          AND a.event_ref = e.event_ref AND a.decision = 'sent') THEN 'projected'
          WHEN d.state IS NOT NULL AND d.state <> 'replayed' THEN d.state
          WHEN EXISTS (SELECT FROM public.iu_route_attempt AS a WHERE a.route_code = r.route_code
                          AND a.event_ref = e.event_ref AND a.lane = 'live' AND a.final) THEN 'refused'
          WHEN t."offset" IS NULL THEN 'unpublished'
          WHEN p.next_offset IS NULL OR t."offset" >= p.next_offset THEN 'ahead'
          WHEN t."offset" < p.start_offset THEN 'before_start'
          ELSE 'undecided'
        END AS state,
        EXISTS (SELECT FROM public.iu_route_attempt AS a WHERE a.route_code = r.route_code
                   AND a.event_ref = e.event_ref AND a.decision = 'dry_run') AS planned
        FROM public.iu_outbound_route AS r
        JOIN public.event_outbox AS e ON e.event_type = r.event_type
        LEFT JOIN pg_temp.verify_topic AS t ON t.event_ref = e.event_ref
        LEFT JOIN public.iu_route_offset AS p ON p.route_code = r.route_code AND p.lane = 'live'
             AND p.partition = t.partition AND p.topic = %(topic)s
        LEFT JOIN public.iu_route_dead_letter AS d ON d.route_code = r.route_code AND d.lane = 'live'
             AND d.event_ref = e.event_ref AND d.partition = t.partition AND d."offset" = t."offset"
             AND d.topic = %(topic)s
    )
    SELECT r.route_code,
           count(*) FILTER (WHERE state = 'projected'), count(*) FILTER (WHERE state = 'dead'),
           count(*) FILTER (WHERE state = 'parked'), count(*) FILTER (WHERE state = 'discarded'),
           count(*) FILTER (WHERE state = 'refused'), count(*) FILTER (WHERE state = 'ahead'),
           count(*) FILTER (WHERE state = 'before_start'), count(*) FILTER (WHERE state = 'unpublished'),
           count(*) FILTER (WHERE state = 'undecided'), count(*) FILTER (WHERE planned),
           min(event_ref::text) FILTER (WHERE state = 'undecided')
      FROM public.iu_outbound_route AS r LEFT JOIN state USING (route_code)
     GROUP BY r.route_code ORDER BY r.route_code
"""
