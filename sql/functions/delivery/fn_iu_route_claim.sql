-- fn_iu_route_claim makes a process the owner of partitions, and tells it where they stand.
--
-- No gate lock is taken: a claim delivers nothing, and a closed gate must not keep a group from
-- standing ready.
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

    v_claimed := public.fn_iu_route_claim_partitions(
      p_route_code, p_lane, p_topic, p_topic_id, p_partitions, p_log_starts, p_owner);
  END IF;

  RETURN jsonb_build_object(
    'route', v_route, 'switches', v_switches, 'partitions', coalesce(v_claimed, '[]'::jsonb));
END;
$$;

ALTER FUNCTION public.fn_iu_route_claim(text, text, text, text, integer[], bigint[], text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_claim(text, text, text, text, integer[], bigint[], text) IS
  'Claims partitions under a new owner epoch and returns {route, switches, partitions}; IU030 if the topic was made again.';

REVOKE ALL ON FUNCTION public.fn_iu_route_claim(text, text, text, text, integer[], bigint[], text)
  FROM PUBLIC;
-- The consumer has no table privilege: this is how it reads its route, its switches, its position.
GRANT EXECUTE ON FUNCTION public.fn_iu_route_claim(text, text, text, text, integer[], bigint[], text)
  TO iu_consumer;
