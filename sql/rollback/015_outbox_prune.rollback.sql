-- Undoes 015: nothing leaves the outbox any more. Refused (IU012) while there are stubs: they
-- are the only trace of what was pruned, and the topic's records of it would seem forged.

BEGIN;
SET LOCAL ROLE iu_owner;

DO $$
DECLARE
  v_stubs bigint;
BEGIN
  SELECT count(*) INTO v_stubs FROM public.event_outbox_stub AS stub;
  IF v_stubs > 0 THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU012',
      MESSAGE = 'events were pruned, so their stubs stay',
      DETAIL  = format('Rows of event_outbox_stub: %s.', v_stubs),
      HINT    = 'Restore the outbox from a backup made before the first prune, then roll back.';
  END IF;
END;
$$;

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

COMMENT ON FUNCTION public.fn_iu_route_deliver(text, uuid, jsonb) IS
  'Delivers one event on one route behind gates 1 to 3; true if it had an effect, false if it had had it before.';

CREATE OR REPLACE FUNCTION public.fn_iu_structure_consumer(p_event_ref uuid, p_payload jsonb)
RETURNS boolean
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO public.iu_tree_change_log
    (event_ref, event_type, tree_id, aggregate_version, incarnation, payload)
  SELECT event.event_ref, event.event_type, event.aggregate_id, event.aggregate_version,
         event.incarnation, p_payload
    FROM public.event_outbox AS event
   WHERE event.event_ref = p_event_ref
      ON CONFLICT (event_ref) DO NOTHING;
  RETURN FOUND;
END;
$$;

COMMENT ON FUNCTION public.fn_iu_structure_consumer(uuid, jsonb) IS
  'Adds the projection row of an event; true if it made it, false if it was there. Idempotent.';

DROP FUNCTION public.fn_iu_route_event(uuid, jsonb);
DROP FUNCTION public.fn_iu_payload_matches(text, integer, jsonb, bytea);
DROP FUNCTION public.fn_iu_tree_baseline_take(uuid, bigint, bytea, text, text);
DROP FUNCTION public.fn_iu_outbox_prune(text, bigint[], uuid[], interval, bigint, integer, integer);
DROP FUNCTION public.fn_iu_outbox_judge(text, bigint[], uuid[], interval, boolean, bigint, integer);

CREATE OR REPLACE FUNCTION public.fn_iu_append_only()
RETURNS trigger
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'IU040',
    MESSAGE = format('%s of %I is refused: it keeps its history', TG_OP, TG_TABLE_NAME),
    DETAIL  = 'Rows of this table are the record of what happened; nothing is taken back.',
    HINT    = 'Correct it with a new operation, which leaves its own record.';
END;
$$;

COMMENT ON FUNCTION public.fn_iu_append_only() IS
  'Trigger: refuses UPDATE, DELETE or TRUNCATE with IU040.';

-- squawk-ignore ban-drop-view
DROP VIEW public.iu_event;
DROP TABLE public.event_outbox_stub;

COMMIT;
