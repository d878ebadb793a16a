-- fn_iu_route_gate lets a transaction deliver on a route, or refuses it: all three gates, asked
-- in one place for every way of delivering.
--
-- Gates 1 and 2 come from fn_iu_delivery_gate, whose advisory lock must come before any row
-- lock; the route follows FOR SHARE, so that its target stays what gate 3 has seen.
--
-- It does not ask whether the route is enabled or in dry-run: a rehearsal calls the real
-- delivery and rolls it back.  What makes progress durable asks that (fn_iu_route_lane).

CREATE OR REPLACE FUNCTION public.fn_iu_route_gate(p_route_code text)
RETURNS public.iu_outbound_route
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_route public.iu_outbound_route;
BEGIN
  PERFORM public.fn_iu_delivery_gate(p_route_code);

  SELECT route.* INTO v_route
    FROM public.iu_outbound_route AS route
   WHERE route.route_code = p_route_code
     FOR SHARE;
  IF NOT FOUND THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('route %L is not registered', p_route_code),
      DETAIL  = 'It is in iu_core.delivery_live_routes, but iu_outbound_route has no such route_code.',
      HINT    = 'See the registered ones with: iu route list';
  END IF;

  IF (v_route.target_kind, v_route.target_ref)
     IS DISTINCT FROM ('sql_function', 'fn_iu_structure_consumer') THEN
    RAISE feature_not_supported USING
      MESSAGE = format('route %L has a target that is not supported', p_route_code),
      DETAIL  = format('Its target is %s %L; only sql_function ''fn_iu_structure_consumer'' is.',
                       v_route.target_kind, v_route.target_ref),
      HINT    = format('See the route with: iu route show %s', p_route_code);
  END IF;
  RETURN v_route;
END;
$$;

ALTER FUNCTION public.fn_iu_route_gate(text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_gate(text) IS
  'Passes gates 1 to 3 of a route, pins them until commit and returns the route; or raises 42501 or 0A000.';

-- Like fn_iu_delivery_gate it can hold a close back: only functions of the owner call it.
REVOKE ALL ON FUNCTION public.fn_iu_route_gate(text) FROM PUBLIC;
