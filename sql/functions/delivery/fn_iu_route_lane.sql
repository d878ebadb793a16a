-- fn_iu_route_lane lets a transaction record progress in a lane, or refuses it; the route keeps
-- its state until that transaction ends.
--
-- Disabling a route and sending it back to dry-run are closes, as final as the kill switch.
-- So the order is the same: the shared advisory lock first and in a statement of its own, then
-- the route FOR SHARE, under a snapshot that sees the change that was waited for.
--
-- Nothing moves in the live lane while a gate is closed, not even past a record that cannot be
-- read: a hold that advances is no hold.  The dry-run lane delivers nothing and asks no gate.

CREATE OR REPLACE FUNCTION public.fn_iu_route_lane(p_route_code text, p_lane text)
RETURNS public.iu_outbound_route
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_route public.iu_outbound_route;
BEGIN
  -- 18773 is 'IU' in ASCII, 1 the delivery gate; changes of a route take it exclusively.
  PERFORM pg_advisory_xact_lock_shared(18773, 1);

  SELECT route.* INTO v_route
    FROM public.iu_outbound_route AS route
   WHERE route.route_code = p_route_code
     FOR SHARE;
  IF NOT FOUND THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('route %L is not registered', p_route_code),
      DETAIL  = 'iu_outbound_route has no such route_code.',
      HINT    = 'See the registered ones with: iu route list';
  END IF;

  IF p_lane = 'live' AND v_route.enabled AND NOT v_route.dry_run THEN
    -- Before 013 no route can be live, so this is never reached without its function.
    PERFORM public.fn_iu_route_gate(p_route_code);
  ELSIF p_lane = 'dry_run' AND v_route.enabled AND v_route.dry_run THEN
    NULL;
  ELSE
    RAISE insufficient_privilege USING
      MESSAGE = format('route %L does not run in lane %L', p_route_code, p_lane),
      DETAIL  = format('It is enabled=%s, dry_run=%s.', v_route.enabled, v_route.dry_run),
      HINT    = CASE p_lane
                  WHEN 'live' THEN format('Make it live with: iu route enable %s --reason "..."', p_route_code)
                  ELSE format('Put it into dry-run with: iu route dry-run %s', p_route_code)
                END;
  END IF;
  RETURN v_route;
END;
$$;

ALTER FUNCTION public.fn_iu_route_lane(text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_lane(text, text) IS
  'Passes if the route runs in this lane, live with every gate open, and pins that until commit; or raises 42501 or 0A000.';

-- It takes the gate's lock, as fn_iu_delivery_gate does: only functions of the owner call it.
REVOKE ALL ON FUNCTION public.fn_iu_route_lane(text, text) FROM PUBLIC;
