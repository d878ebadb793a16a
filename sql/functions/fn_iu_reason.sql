-- fn_iu_reason is the reason the caller gave for what this transaction does, or NULL.
--
-- A plain UPDATE has no argument to carry a reason in, so it travels in a setting:
--   SELECT set_config('iu.reason', 'release 7 is approved', true);

CREATE OR REPLACE FUNCTION public.fn_iu_reason()
RETURNS text
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  -- A setting that was set once in a session reads as '' afterwards, not as NULL.
  SELECT nullif(btrim(current_setting('iu.reason', true)), '');
$$;

ALTER FUNCTION public.fn_iu_reason() OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_reason() IS
  'The setting iu.reason of this transaction or session, trimmed; NULL if there is none.';

REVOKE ALL ON FUNCTION public.fn_iu_reason() FROM PUBLIC;
