-- fn_iu_route_claim makes a process the owner of partitions, and tells it where they stand.
--
-- Each claim raises the owner epoch, and fn_iu_route_record writes only under the epoch that
-- stands: whoever owned a partition before changes nothing from here on, even if it wakes up
-- much later and still believes in its lease.  A partition that was never claimed starts at
-- the first record the topic still has, because a position nobody chose must not skip one.
--
-- The id of the topic is compared with the one its positions were counted in.  A topic that
-- was made again has offsets of its own, and grown past ours it would be skipped silently.
--
-- No gate lock is taken: a claim delivers nothing, and a closed gate must not keep a group from
-- standing ready.  The rows are locked in the order of their partitions, so that two
-- processes that claim the same ones queue up instead of waiting for each other.
--
-- With empty arrays it claims nothing and only looks; route and switches are as stored, NULL
-- where there is none, so that the caller decides from the same values as the gates.

CREATE OR REPLACE FUNCTION public.fn_iu_route_claim(
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
  v_route    jsonb;
  v_switches jsonb;
  v_claimed  jsonb;
  v_topic_id text;
BEGIN
  SELECT jsonb_build_object(
           'route_code', route.route_code, 'event_type', route.event_type,
           'target_kind', route.target_kind, 'target_ref', route.target_ref,
           'enabled', route.enabled, 'dry_run', route.dry_run)
    INTO v_route
    FROM public.iu_outbound_route AS route
   WHERE route.route_code = p_route_code;

  SELECT jsonb_build_object(
           'delivery_enabled',
           max(config.value) FILTER (WHERE config.key = 'iu_core.delivery_enabled'),
           'live_routes',
           max(config.value) FILTER (WHERE config.key = 'iu_core.delivery_live_routes'))
    INTO v_switches
    FROM public.dot_config AS config
   WHERE config.key IN ('iu_core.delivery_enabled', 'iu_core.delivery_live_routes');

  IF coalesce(cardinality(p_partitions), 0) > 0 THEN
    IF v_route IS NULL THEN
      RAISE insufficient_privilege USING
        MESSAGE = format('route %L is not registered', p_route_code),
        DETAIL  = 'iu_outbound_route has no such route_code, so nothing may be claimed for it.',
        HINT    = 'See the registered ones with: iu route list';
    END IF;

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
  END IF;

  RETURN jsonb_build_object(
    'route', v_route, 'switches', v_switches, 'partitions', coalesce(v_claimed, '[]'::jsonb));
END;
$$;

ALTER FUNCTION public.fn_iu_route_claim(text, text, text, text, integer[], bigint[], text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_claim(text, text, text, text, integer[], bigint[], text) IS
  'Claims partitions under a new owner epoch and returns {route, switches, partitions}; IU030 if the topic was made again.';

REVOKE ALL ON FUNCTION public.fn_iu_route_claim(text, text, text, text, integer[], bigint[], text) FROM PUBLIC;
-- The consumer has no table privilege: this is how it reads its route, its switches, its position.
GRANT EXECUTE ON FUNCTION public.fn_iu_route_claim(text, text, text, text, integer[], bigint[], text) TO iu_consumer;
