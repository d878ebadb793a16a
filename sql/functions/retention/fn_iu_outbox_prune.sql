-- fn_iu_outbox_prune takes rows out of the outbox, each replaced by its stub: the one way out.
--
-- Bounded: it looks at p_window rows above p_after_id and takes at most p_limit of those that
-- fn_iu_outbox_judge lets go, the oldest first and of each tree a prefix of its versions.  What
-- it returns tells where to go on; a call that is killed has done nothing, and a run that
-- begins again from 0 finds what is left.
--
-- The owner's alone: what it is told of the relay's cursors it has to believe, so only
-- `iu relay prune`, which has compared them with this database, calls it.  What cannot be true
-- is refused: a NULL would let rows through, and a bound that this database's transactions
-- have not reached is that of another database.
--
-- Locks: one prune at a time, (18773, 4); then rows that nobody else changes.  Relay, writers
-- and deliveries wait for none of it.  DELETE and stub are one statement: the stubs are made
-- of what was deleted, so no event is in both places or in neither.

CREATE OR REPLACE FUNCTION public.fn_iu_outbox_prune(
  p_before     text,
  p_newest_ids bigint[],
  p_blocked    uuid[],
  p_older_than interval,
  p_after_id   bigint,
  p_window     integer,
  p_limit      integer
)
RETURNS TABLE (examined bigint, pruned bigint, last_id bigint)
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF num_nulls(p_before, p_newest_ids, p_blocked, p_older_than, p_after_id, p_window, p_limit) > 0
     OR array_position(p_newest_ids, NULL) IS NOT NULL OR array_position(p_blocked, NULL) IS NOT NULL
     OR p_older_than < '0' OR p_window < 1 OR p_limit < 1
     OR p_before::xid8 > pg_snapshot_xmax(pg_current_snapshot()) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU013',
      MESSAGE = 'this is no bound for pruning the outbox',
      DETAIL  = format('Before xid %s (the next is %s), older than %s, after id %s, window %s, limit %s, %s published ids, %s blocked trees; none may be NULL, negative or ahead.',
                       p_before, pg_snapshot_xmax(pg_current_snapshot()), p_older_than, p_after_id, p_window,
                       p_limit, cardinality(p_newest_ids), cardinality(p_blocked)),
      HINT    = 'Use the command, which reads the bound from the relay''s cursors: iu relay prune --reason "..."';
  END IF;

  -- 18773 is 'IU' in ASCII, 4 pruning. A statement of its own, so that the next one sees what
  -- the prune it waited for has taken.
  PERFORM pg_advisory_xact_lock(18773, 4);
  PERFORM set_config('iu.maintenance', 'outbox_prune', true);

  RETURN QUERY
  WITH window_rows AS MATERIALIZED (
    SELECT judge.*
      FROM public.fn_iu_outbox_judge(
             p_before, p_newest_ids, p_blocked, p_older_than, false, p_after_id, p_window) AS judge
  ), going AS (
    -- By the highest id so far within the tree: the oldest first, and never a version before
    -- a lower one, whatever their ids are.
    SELECT candidate.id
      FROM (SELECT judge.id, judge.aggregate_version,
                   max(judge.id) OVER (PARTITION BY judge.tree_id ORDER BY judge.aggregate_version) AS turn
              FROM window_rows AS judge
             WHERE judge.held_by IS NULL) AS candidate
     ORDER BY candidate.turn, candidate.aggregate_version
     LIMIT p_limit
  ), gone AS (
    DELETE FROM public.event_outbox AS event
     USING going
     WHERE event.id = going.id
    RETURNING event.event_ref, event.event_type, event.schema_version, event.aggregate_id,
              event.aggregate_version, event.incarnation, event.payload_digest, event.occurred_at
  ), kept AS (
    INSERT INTO public.event_outbox_stub
      (event_ref, event_type, schema_version, aggregate_id, aggregate_version, incarnation,
       payload_digest, occurred_at)
    SELECT gone.event_ref, gone.event_type, gone.schema_version, gone.aggregate_id,
           gone.aggregate_version, gone.incarnation, gone.payload_digest, gone.occurred_at
      FROM gone
    RETURNING event_outbox_stub.event_ref
  )
  SELECT (SELECT count(*) FROM window_rows),
         (SELECT count(*) FROM kept),
         (SELECT max(window_rows.id) FROM window_rows);

  PERFORM set_config('iu.maintenance', '', true);
END;
$$;

ALTER FUNCTION public.fn_iu_outbox_prune(text, bigint[], uuid[], interval, bigint, integer, integer)
  OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_outbox_prune(text, bigint[], uuid[], interval, bigint, integer, integer) IS
  'Moves at most p_limit rows from the outbox to their stubs; returns rows examined and pruned, and the last id examined.';

REVOKE ALL ON FUNCTION public.fn_iu_outbox_prune(text, bigint[], uuid[], interval, bigint, integer, integer)
  FROM PUBLIC;
