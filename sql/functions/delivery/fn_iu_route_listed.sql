-- fn_iu_route_listed tells whether a list of live routes names a route.
--
-- The one reading of iu_core.delivery_live_routes: the gate that asks per delivery and the
-- guard that asks per route change must not differ by a blank.  Codes are split at commas,
-- trimmed of blanks, and compared exactly.  No list lists nothing, and no list lists ''.

CREATE OR REPLACE FUNCTION public.fn_iu_route_listed(p_live_routes text, p_route_code text)
RETURNS boolean
LANGUAGE sql
IMMUTABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT EXISTS (
    SELECT FROM unnest(string_to_array(p_live_routes, ',')) AS live (route_code)
     WHERE btrim(live.route_code) = p_route_code
       AND p_route_code <> ''
  );
$$;

ALTER FUNCTION public.fn_iu_route_listed(text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_listed(text, text) IS
  'True if the comma-separated list names the route exactly; false for a missing list.';

REVOKE ALL ON FUNCTION public.fn_iu_route_listed(text, text) FROM PUBLIC;
