-- fn_iu_structure_consumer is the internal target: it gives an event its one projection row.
--
-- Idempotent by the unique event_ref: whoever delivers an event again, or at the same time,
-- waits for the first and then finds the row there.  What kind of event it was, of which tree
-- and version, is read from the outbox or the stub: those columns are not the caller's to tell.
--
-- It asks no gate.  Only fn_iu_route_deliver calls it, and no process role may.

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
    FROM public.iu_event AS event
   WHERE event.event_ref = p_event_ref
      ON CONFLICT (event_ref) DO NOTHING;
  RETURN FOUND;
END;
$$;

ALTER FUNCTION public.fn_iu_structure_consumer(uuid, jsonb) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_structure_consumer(uuid, jsonb) IS
  'Adds the projection row of an event; true if it made it, false if it was there. Idempotent.';

REVOKE ALL ON FUNCTION public.fn_iu_structure_consumer(uuid, jsonb) FROM PUBLIC;
