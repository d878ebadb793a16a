-- fn_iu_route_deliver delivers one event on one route, if the gates say so.
--
-- 1. The gates, first and for every call: a batch that began with open gates keeps them open
--    until its transaction ends, and a closed one refuses before anything is looked at.
-- 2. The event.  The caller's payload is never trusted: it must equal the one that the
--    operation wrote, or where that has left the outbox have its digest (fn_iu_route_event);
--    and the event must be of the route's own type.
-- 3. The target, by a static CASE.  No name is ever built into a statement here, and no
--    network, secret or outside address is within reach.
--
-- Refused by a gate: 42501, 0A000.  Refused for the event's own sake: IU001, IU020, IU022.

CREATE OR REPLACE FUNCTION public.fn_iu_route_deliver(p_route_code text, p_event_ref uuid, p_payload jsonb)
RETURNS boolean
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_route public.iu_outbound_route;
  v_event public.event_outbox;
BEGIN
  v_route := public.fn_iu_route_gate(p_route_code);
  v_event := public.fn_iu_route_event(p_event_ref, p_payload);

  IF v_event.event_type <> v_route.event_type THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU020',
      MESSAGE = format('event %s is not one of route %L', p_event_ref, p_route_code),
      DETAIL  = format('The event is a %s; the route delivers %s.', v_event.event_type, v_route.event_type),
      HINT    = format('See the event with: iu explain %s', p_event_ref);
  END IF;

  IF p_payload IS DISTINCT FROM v_event.payload THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU020',
      MESSAGE = format('the payload given for event %s is not the one that was written', p_event_ref),
      -- Names only: a forged value has no business in a log.
      DETAIL  = format('It differs in: %s.', coalesce((
                  SELECT string_agg(coalesce(given.key, written.key), ', ' ORDER BY written.key, given.key)
                    FROM jsonb_each(CASE jsonb_typeof(p_payload) WHEN 'object' THEN p_payload END) AS given
                    FULL JOIN jsonb_each(v_event.payload) AS written USING (key)
                   WHERE given.value IS DISTINCT FROM written.value), 'its form')),
      HINT    = format('See the event with: iu explain %s', p_event_ref);
  END IF;

  CASE
    WHEN v_route.target_kind = 'sql_function' AND v_route.target_ref = 'fn_iu_structure_consumer' THEN
      RETURN public.fn_iu_structure_consumer(p_event_ref, p_payload);
    -- No ELSE: a target that gate 3 lets through and nobody serves is a fault of this file,
    -- and case_not_found is the alarm for it.
  END CASE;
END;
$$;

ALTER FUNCTION public.fn_iu_route_deliver(text, uuid, jsonb) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_deliver(text, uuid, jsonb) IS
  'Delivers one event on one route behind gates 1 to 3; true if it had an effect, false if it had had it before.';

REVOKE ALL ON FUNCTION public.fn_iu_route_deliver(text, uuid, jsonb) FROM PUBLIC;
-- The one way a consumer can have an effect on the projection.
GRANT EXECUTE ON FUNCTION public.fn_iu_route_deliver(text, uuid, jsonb) TO iu_consumer;
