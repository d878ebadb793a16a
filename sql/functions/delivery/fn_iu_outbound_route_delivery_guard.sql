-- fn_iu_outbound_route_delivery_guard lets a route go live only if the allowlist names it.
--
-- It replaces the static CHECK iu_outbound_route_safe_chk, which could not ask dot_config and
-- so forbade every live route.  With the list empty or missing this forbids them all the same.
--
-- The statement trigger trg_iu_outbound_route_queue has taken the gate's lock by now, and no
-- change of the list can run beside this one.  FOR SHARE is for a caller with an older
-- snapshot (REPEATABLE READ): it fails on a list that has changed since, and does not act on it.
--
-- A code taken off the list while its route is live needs nothing here: gate 2 refuses every
-- delivery from then on, and the route may change only to a state that is not live.

CREATE OR REPLACE FUNCTION public.fn_iu_outbound_route_delivery_guard()
RETURNS trigger
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_live_routes text;
BEGIN
  IF NOT NEW.enabled OR NEW.dry_run THEN
    RETURN NEW;
  END IF;

  SELECT config.value INTO v_live_routes
    FROM public.dot_config AS config
   WHERE config.key = 'iu_core.delivery_live_routes'
     FOR SHARE;

  IF NOT public.fn_iu_route_listed(v_live_routes, NEW.route_code) THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('route %L may not go live', NEW.route_code),
      DETAIL  = format('iu_core.delivery_live_routes is %L', v_live_routes),
      HINT    = format('Allow it first with: iu gate allow %s --reason "..."', NEW.route_code);
  END IF;
  RETURN NEW;
END;
$$;

ALTER FUNCTION public.fn_iu_outbound_route_delivery_guard() OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_outbound_route_delivery_guard() IS
  'Row trigger of iu_outbound_route: enabled and not dry_run only for a route in iu_core.delivery_live_routes, else 42501.';

REVOKE ALL ON FUNCTION public.fn_iu_outbound_route_delivery_guard() FROM PUBLIC;
