-- fn_iu_route_claim_partitions makes the caller the owner of partitions of one lane.
--
-- Each claim raises the owner epoch, and fn_iu_route_record writes only under the epoch that
-- stands: whoever owned a partition before changes nothing from here on, even if it wakes up
-- much later and still believes in its lease.  A partition that was never claimed starts at
-- the first record the topic still has, because a position nobody chose must not skip one.
--
-- The id of the topic is compared with the one its positions were counted in.  A topic that
-- was made again has offsets of its own, and grown past ours it would be skipped silently.
--
-- The rows are locked in the order of their partitions, so that two processes that claim the
-- same ones queue up instead of waiting for each other.

CREATE OR REPLACE FUNCTION public.fn_iu_route_claim_partitions(
  p_route_code text,
  p_lane       text,
  p_topic      text,
  p_topic_id   text,
  p_partitions integer[],
  p_log_starts bigint[],
  p_owner      text
)
RETURNS jsonb
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_claimed  jsonb;
  v_topic_id text;
BEGIN
  INSERT INTO public.iu_route_offset
    (route_code, lane, topic, partition, topic_id, start_offset, next_offset, owner)
  SELECT p_route_code, p_lane, p_topic, claim.partition, p_topic_id,
         claim.log_start, claim.log_start, p_owner
    FROM unnest(p_partitions, p_log_starts) AS claim (partition, log_start)
   ORDER BY claim.partition
      ON CONFLICT (route_code, lane, topic, partition) DO NOTHING;

  PERFORM
     FROM public.iu_route_offset AS position
    WHERE position.route_code = p_route_code AND position.lane = p_lane
      AND position.topic = p_topic AND position.partition = ANY (p_partitions)
    ORDER BY position.partition
      FOR UPDATE;

  -- Of every partition, not only of those claimed: one old position is enough to know.
  SELECT position.topic_id INTO v_topic_id
    FROM public.iu_route_offset AS position
   WHERE position.route_code = p_route_code AND position.lane = p_lane
     AND position.topic = p_topic AND position.topic_id <> p_topic_id
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU030',
      MESSAGE = format('topic %s is not the one that route %L has its positions in', p_topic, p_route_code),
      DETAIL  = format('The positions were counted in topic id %s; the broker now has %s.', v_topic_id, p_topic_id),
      HINT    = format('The topic was made again. See the positions with: iu route show %s', p_route_code);
  END IF;

  WITH claimed AS (
    UPDATE public.iu_route_offset AS position
       SET owner_epoch = position.owner_epoch + 1,
           owner = p_owner,
           claimed_at = clock_timestamp()
     WHERE position.route_code = p_route_code AND position.lane = p_lane
       AND position.topic = p_topic AND position.partition = ANY (p_partitions)
    RETURNING position.partition, position.next_offset, position.start_offset, position.owner_epoch
  )
  SELECT jsonb_agg(to_jsonb(claimed) ORDER BY claimed.partition) INTO v_claimed FROM claimed;
  RETURN v_claimed;
END;
$$;

ALTER FUNCTION public.fn_iu_route_claim_partitions(text, text, text, text, integer[], bigint[], text)
  OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_claim_partitions(text, text, text, text, integer[], bigint[], text) IS
  'Raises the owner epoch of the partitions and returns where they stand; IU030 if the topic was made again.';

-- Part of fn_iu_route_claim, which knows that the route exists: nobody else may call it.
REVOKE ALL ON FUNCTION public.fn_iu_route_claim_partitions(text, text, text, text, integer[], bigint[], text)
  FROM PUBLIC;
