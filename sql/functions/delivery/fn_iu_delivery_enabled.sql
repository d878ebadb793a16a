-- fn_iu_delivery_enabled tells whether the kill switch lets deliveries through, right now.
--
-- For people and dashboards.  It takes no lock, so its answer may be old when it arrives, and
-- nothing is permitted by it: a delivery asks fn_iu_delivery_gate, which reads the same switch
-- the same way and pins it.  Fail-closed: a missing key, or any value but 'true', is false.

CREATE OR REPLACE FUNCTION public.fn_iu_delivery_enabled()
RETURNS boolean
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT EXISTS (
    SELECT FROM public.dot_config AS config
     WHERE config.key = 'iu_core.delivery_enabled'
       AND config.value = 'true'
  );
$$;

ALTER FUNCTION public.fn_iu_delivery_enabled() OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_delivery_enabled() IS
  'The delivery kill switch as it reads now: true only if iu_core.delivery_enabled is exactly ''true''.';

REVOKE ALL ON FUNCTION public.fn_iu_delivery_enabled() FROM PUBLIC;
-- Who opens it and who reports on it; a consumer reads the stored value when it claims.
GRANT EXECUTE ON FUNCTION public.fn_iu_delivery_enabled() TO iu_gatekeeper, iu_reader;
