-- fn_iu_route_record_attempts writes the decisions of one batch, one per record decided on.
--
-- The ledger must not say more than happened.  `sent` is believed only with the projection row
-- before its eyes, of an event of the route's own type, so no process can claim an effect it
-- did not have.  The one `sent` of a (route, event) is held by an index: an event that comes
-- a second time, after a seek back, is counted on the position instead.
--
-- Records of other event types in the batch get no row: they were never this route's to decide.

CREATE OR REPLACE FUNCTION public.fn_iu_route_record_attempts(
  p_route       public.iu_outbound_route,
  p_lane        text,
  p_topic       text,
  p_partition   integer,
  p_owner_epoch bigint,
  p_from_offset bigint,
  p_next_offset bigint,
  p_attempts    jsonb
)
RETURNS void
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_wrong   text;
  v_written bigint;
BEGIN
  SELECT format('offset %s: %s', attempt."offset", string_agg(attempt.decision, ' and ')) INTO v_wrong
    FROM jsonb_to_recordset(p_attempts) AS attempt ("offset" bigint, decision text)
   GROUP BY attempt."offset"
  HAVING (attempt."offset" >= p_from_offset AND attempt."offset" < p_next_offset) IS NOT TRUE
      OR bool_and(attempt.decision IN ('refused', 'failed')
                  OR attempt.decision = CASE p_lane WHEN 'live' THEN 'sent' ELSE 'dry_run' END) IS NOT TRUE
      OR count(*) > 1
   LIMIT 1;
  IF v_wrong IS NULL AND p_lane = 'live' THEN
    SELECT format('event %s was not delivered', attempt.event_ref) INTO v_wrong
      FROM jsonb_to_recordset(p_attempts) AS attempt (event_ref uuid, decision text)
     WHERE attempt.decision = 'sent'
       AND NOT EXISTS (
         SELECT FROM public.iu_tree_change_log AS change
          WHERE change.event_ref = attempt.event_ref
            AND change.event_type = p_route.event_type)
     LIMIT 1;
  END IF;
  IF v_wrong IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU032',
      MESSAGE = format('the decisions recorded for route %L are not consistent', p_route.route_code),
      DETAIL  = format('%s (lane %s, offsets %s up to %s).', v_wrong, p_lane, p_from_offset, p_next_offset),
      HINT    = 'One decision per offset of the batch; sent only after fn_iu_route_deliver in the same lane.';
  END IF;

  INSERT INTO public.iu_route_attempt
    (route_code, lane, event_ref, decision, final, gate, reason, detail, topic, partition, "offset", owner_epoch)
  SELECT p_route.route_code, p_lane, attempt.event_ref, attempt.decision,
         attempt.decision IN ('sent', 'refused'), attempt.gate, attempt.reason, attempt.detail,
         p_topic, p_partition, attempt."offset", p_owner_epoch
    FROM jsonb_to_recordset(p_attempts) AS attempt
         (event_ref uuid, "offset" bigint, decision text, gate text, reason text, detail jsonb)
   ORDER BY attempt."offset"
      ON CONFLICT (route_code, event_ref) WHERE decision = 'sent' DO NOTHING;
  GET DIAGNOSTICS v_written = ROW_COUNT;

  IF v_written < jsonb_array_length(p_attempts) THEN
    UPDATE public.iu_route_offset AS position
       SET repeats = position.repeats + jsonb_array_length(p_attempts) - v_written
     WHERE position.route_code = p_route.route_code AND position.lane = p_lane
       AND position.topic = p_topic AND position.partition = p_partition;
  END IF;
END;
$$;

ALTER FUNCTION public.fn_iu_route_record_attempts(public.iu_outbound_route, text, text, integer, bigint, bigint, bigint, jsonb)
  OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_record_attempts(public.iu_outbound_route, text, text, integer, bigint, bigint, bigint, jsonb) IS
  'Writes the decisions of a batch; IU032 if one is outside it, doubled, of the other lane, or sent without a projection row.';

-- Part of fn_iu_route_record, which has fenced the caller before: nobody else may call it.
REVOKE ALL ON FUNCTION
  public.fn_iu_route_record_attempts(public.iu_outbound_route, text, text, integer, bigint, bigint, bigint, jsonb)
  FROM PUBLIC;
