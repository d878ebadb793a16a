"""The checks that are one query each: how many rows break the rule, and the first of them in words.

Every query returns (count, first case). `iu_event` has the rows of the outbox and what was pruned
of it. All of them run in one REPEATABLE READ snapshot that is younger than the end of the topic
they compare with: so each record on the topic has its row or its stub.

Which events the relay could not publish is said by the table of its dead letters, a copy of a topic
that `iu relay blocked` brings up to date.
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
              AND NOT EXISTS (SELECT FROM public.iu_event AS e WHERE e.event_ref = t.event_ref)
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
             FROM pg_temp.verify_topic AS t JOIN public.iu_event AS e ON e.event_ref = t.event_ref
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
                         aggregate_id, aggregate_version, partition, "offset", 'version ' || before))
             FROM (SELECT e.aggregate_id, e.aggregate_version, t.partition, t."offset",
                          lag(e.aggregate_version) OVER tree AS before,
                          coalesce(lag(e.aggregate_version) OVER tree, 0) AS since,
                          t.partition <> coalesce(lag(t.partition) OVER tree, t.partition) AS elsewhere,
                          e.incarnation < coalesce(lag(e.incarnation) OVER tree, 1) AS earlier
                     FROM pg_temp.verify_topic AS t
                     JOIN public.iu_event AS e ON e.event_ref = t.event_ref
                   WINDOW tree AS (PARTITION BY e.aggregate_id ORDER BY t.partition, t."offset")) AS steps
            WHERE elsewhere OR earlier
               OR aggregate_version - since <> 1 + (
                    SELECT count(*) FROM public.iu_relay_dead_letter AS l
                     WHERE l.tree_id = steps.aggregate_id AND l.state IN ('skipped', 'discarded')
                       AND l.aggregate_version > since AND l.aggregate_version < steps.aggregate_version)""",
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
    """SELECT count(*), min('event ' || e.event_ref || coalesce(', outbox row ' || e.outbox_id, ', pruned'))
         FROM public.iu_event AS e
        WHERE (e.pruned_at IS NOT NULL OR e.outbox_id <= %(floor)s
               OR pg_visible_in_snapshot(e.xid, %(settled)s::text::pg_snapshot))
          AND NOT EXISTS (SELECT FROM pg_temp.verify_topic AS t WHERE t.event_ref = e.event_ref)
          AND NOT EXISTS (
                SELECT FROM public.iu_relay_dead_letter AS l
                 WHERE l.tree_id = e.aggregate_id
                   AND CASE l.state
                         WHEN 'blocked' THEN l.aggregate_version <= e.aggregate_version
                         WHEN 'published' THEN false
                         ELSE l.event_ref = e.event_ref
                       END)""",
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
             FROM public.iu_tree_change_log AS c LEFT JOIN public.iu_event AS e USING (event_ref)
            WHERE CASE WHEN e.pruned_at IS NULL THEN c.payload IS DISTINCT FROM e.payload
                       ELSE NOT public.fn_iu_payload_matches(
                              e.event_type, e.schema_version, c.payload, e.payload_digest) END""",
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

ON_PRUNED: Final = (
    Check(
        "an event is in the outbox or pruned, not both",
        """SELECT count(*), min(format('event %s', s.event_ref))
             FROM public.event_outbox_stub AS s JOIN public.event_outbox AS e ON e.event_ref = s.event_ref""",
    ),
    Check(
        "what was pruned of a tree are its first versions, without a hole",
        """SELECT count(*), min(format('tree %s: %s events up to version %s, from version %s on',
                                       aggregate_id, events, last, first))
             FROM (SELECT aggregate_id, count(DISTINCT aggregate_version) AS events,
                          min(aggregate_version) AS first, max(aggregate_version) AS last,
                          max(aggregate_version) FILTER (WHERE pruned_at IS NOT NULL) AS last_pruned,
                          min(aggregate_version) FILTER (WHERE pruned_at IS NULL) AS first_kept
                     FROM public.iu_event
                    WHERE aggregate_id IN (SELECT s.aggregate_id FROM public.event_outbox_stub AS s)
                    GROUP BY aggregate_id) AS tree
            WHERE first <> 1 OR last <> events OR last_pruned > first_kept""",
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
        JOIN public.iu_event AS e ON e.event_type = r.event_type
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
