-- Undoes 013: the raising stub and the static CHECK of 009 come back, the projection goes.
-- Refused (IU012) while a route is live or the projection holds rows: the CHECK would not
-- take the one, and the other is what consumers were told had happened.

BEGIN;
SET LOCAL ROLE iu_owner;

DO $$
DECLARE
  v_live text;
  v_rows bigint;
BEGIN
  -- Behind the deliveries under way, before any table is locked: see fn_iu_gate_queue.
  PERFORM pg_advisory_xact_lock(18773, 1);

  SELECT string_agg(route.route_code, ', ' ORDER BY route.route_code) INTO v_live
    FROM public.iu_outbound_route AS route
   WHERE route.enabled AND NOT route.dry_run;
  SELECT count(*) INTO v_rows FROM public.iu_tree_change_log AS change;

  IF v_live IS NOT NULL OR v_rows > 0 THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU012',
      MESSAGE = 'the delivery seam is in use and stays',
      DETAIL  = format('Live routes: %s. Rows of iu_tree_change_log: %s.', coalesce(v_live, 'none'), v_rows),
      HINT    = 'Put the routes into dry-run and export the rows with: iu db down --to 12 --force-inert';
  END IF;
END;
$$;

ALTER TABLE public.iu_outbound_route
  -- squawk-ignore constraint-missing-not-valid
  ADD CONSTRAINT iu_outbound_route_safe_chk CHECK (enabled = false OR dry_run = true);
DROP TRIGGER trg_iu_outbound_route_delivery_guard ON public.iu_outbound_route;
DROP FUNCTION public.fn_iu_outbound_route_delivery_guard();

CREATE OR REPLACE FUNCTION public.fn_iu_route_deliver(p_route_code text, p_event_ref uuid, p_payload jsonb)
RETURNS boolean
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RAISE feature_not_supported USING
    MESSAGE = 'delivery is not built in this database',
    DETAIL  = 'Before migration 013 every route can only be run dry.',
    HINT    = 'Bring the database up to date with: iu db up';
END;
$$;

COMMENT ON FUNCTION public.fn_iu_route_deliver(text, uuid, jsonb) IS
  'Not built before 013: raises 0A000.';

DROP FUNCTION public.fn_iu_structure_consumer(uuid, jsonb);
DROP FUNCTION public.fn_iu_route_gate(text);
DROP FUNCTION public.fn_iu_delivery_gate(text);
DROP FUNCTION public.fn_iu_route_listed(text, text);
DROP FUNCTION public.fn_iu_delivery_enabled();
DROP TABLE public.iu_tree_change_log;

COMMIT;
