-- Undoes 016. Which events were given up is forgotten: keep a dump of the table. Trees keep their
-- incarnations; events that were given up count as unknown from then on (IU001).

BEGIN;
SET LOCAL ROLE iu_owner;

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

  SELECT event.* INTO v_event
    FROM public.event_outbox AS event
   WHERE event.event_ref = p_event_ref;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU001',
      MESSAGE = format('event %s is not in the outbox', p_event_ref),
      DETAIL  = 'No committed operation of this database wrote it.',
      HINT    = format('See what is known of it with: iu explain %s', p_event_ref);
  END IF;

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

DROP FUNCTION public.fn_iu_route_event(uuid);
DROP FUNCTION public.fn_iu_rebase_adopt(text, jsonb, bytea, jsonb, text);
DROP FUNCTION public.fn_iu_rebase_abandon(uuid, integer, text, jsonb, text);
DROP TRIGGER trg_iu_tree_incarnation ON public.iu_tree;
DROP FUNCTION public.fn_iu_tree_incarnation();
COMMENT ON COLUMN public.iu_tree.version IS 'Events this tree has had in this incarnation; 0 as loaded.';
DROP TABLE public.iu_abandoned_event;

COMMIT;
