-- fn_iu_outbox_judge says of rows of the outbox whether they may be pruned, and what holds
-- them back: the one place where that is decided, for the preview and for the deed.
--
-- It looks at the p_window rows above p_after_id, by id (NULL: at all).  A row may go, held_by
-- NULL, if none of these holds it; of several the first is named:
--
--   newest_published  it is the row with the highest published id of a shard.  The relay finds
--                     it again at every start, and tells a restored database by its absence
--   unsettled         its transaction was not over for every shard of the relay: p_before is
--                     the smallest xmin of their settled snapshots (S1, not the window's S2)
--   blocked           its tree waits for a dead letter of the relay to be resolved
--   too_young         it occurred less than p_older_than ago
--   undecided         a route registered for its type has not decided for good: no sent, no
--                     final decision in the live lane, no discarded dead letter.  Whether the
--                     route is enabled does not matter: what it would deliver is still owed
--   no_baseline       no baseline of its tree stands at its version or above, so the tree
--                     could not be rebuilt.  p_with_baselines true leaves this one out, and
--                     column baseline tells
--   behind            a lower version of its tree stays: only a prefix of the versions leaves,
--                     so no hole arises
--
-- p_before, p_newest_ids and p_blocked come from the cursors of all shards; old ones err on
-- the side of keeping, because cursors only move forward.

CREATE OR REPLACE FUNCTION public.fn_iu_outbox_judge(
  p_before         text,
  p_newest_ids     bigint[],
  p_blocked        uuid[],
  p_older_than     interval,
  p_with_baselines boolean,
  p_after_id       bigint,
  p_window         integer
)
RETURNS TABLE (
  id bigint, event_ref uuid, event_type text, tree_id uuid, aggregate_version bigint,
  occurred_at timestamptz, baseline boolean, held_by text
)
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  WITH examined AS (
    SELECT event.id, event.xid, event.event_ref, event.event_type, event.aggregate_id,
           event.incarnation, event.aggregate_version, event.occurred_at,
           EXISTS (SELECT FROM public.iu_tree_baseline AS base
                    WHERE base.tree_id = event.aggregate_id
                      AND base.version >= event.aggregate_version) AS baseline
      FROM public.event_outbox AS event
     WHERE event.id > p_after_id
     ORDER BY event.id
     LIMIT p_window
  ), judged AS (
    SELECT examined.*,
           CASE
             WHEN examined.id = ANY (p_newest_ids) THEN 'newest_published'
             WHEN examined.xid >= p_before::xid8 THEN 'unsettled'
             WHEN examined.aggregate_id = ANY (p_blocked) THEN 'blocked'
             WHEN examined.occurred_at > statement_timestamp() - p_older_than THEN 'too_young'
             WHEN EXISTS (
               SELECT FROM public.iu_outbound_route AS route
                WHERE route.event_type = examined.event_type
                  AND NOT EXISTS (
                    SELECT FROM public.iu_route_attempt AS attempt
                     WHERE attempt.event_ref = examined.event_ref
                       AND attempt.route_code = route.route_code
                       AND attempt.lane = 'live' AND attempt.final)
                  AND NOT EXISTS (
                    SELECT FROM public.iu_route_dead_letter AS letter
                     WHERE letter.event_ref = examined.event_ref
                       AND letter.route_code = route.route_code
                       AND letter.lane = 'live' AND letter.state = 'discarded')
             ) THEN 'undecided'
             WHEN NOT (examined.baseline OR p_with_baselines) THEN 'no_baseline'
           END AS reason
      FROM examined
  ), tree AS (
    SELECT named.aggregate_id,
           (SELECT oldest.aggregate_version
              FROM public.event_outbox AS oldest
             WHERE oldest.aggregate_id = named.aggregate_id
             ORDER BY oldest.incarnation, oldest.aggregate_version
             LIMIT 1) AS first_version
      FROM (SELECT DISTINCT examined.aggregate_id FROM examined) AS named
  )
  SELECT judged.id, judged.event_ref, judged.event_type, judged.aggregate_id, judged.aggregate_version,
         judged.occurred_at, judged.baseline,
         coalesce(judged.reason, CASE
           WHEN count(judged.reason) OVER versions > 0
             OR judged.aggregate_version <> tree.first_version + row_number() OVER versions - 1
             THEN 'behind'
         END)
    FROM judged JOIN tree ON tree.aggregate_id = judged.aggregate_id
  WINDOW versions AS (PARTITION BY judged.aggregate_id
                      ORDER BY judged.incarnation, judged.aggregate_version
                      ROWS UNBOUNDED PRECEDING);
$$;

ALTER FUNCTION public.fn_iu_outbox_judge(text, bigint[], uuid[], interval, boolean, bigint, integer)
  OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_outbox_judge(text, bigint[], uuid[], interval, boolean, bigint, integer) IS
  'Of rows of the outbox: held_by NULL if they may be pruned, else the first reason that holds them.';

-- It reads every table and decides nothing by itself; the owner's command previews with it.
REVOKE ALL ON FUNCTION public.fn_iu_outbox_judge(text, bigint[], uuid[], interval, boolean, bigint, integer)
  FROM PUBLIC;
