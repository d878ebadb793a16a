-- fn_iu_tree_expect refuses an operation that was planned on another version of the tree.
--
-- Who shows a plan and runs it later sets the version the plan was made from:
--   SELECT set_config('iu.expected_version', '17', true);
-- It is asked at every operation while it is set, so a plan of several sets it before each.
-- Not an argument, because most callers take the tree as it is.

CREATE OR REPLACE FUNCTION public.fn_iu_tree_expect(p_tree_id uuid, p_version bigint)
RETURNS void
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_expected bigint := nullif(current_setting('iu.expected_version', true), '')::bigint;
BEGIN
  IF v_expected <> p_version THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU008',
      MESSAGE = 'the tree has moved since this was planned',
      DETAIL  = format('Tree %s stands at version %s; the plan was made from %s.',
                       p_tree_id, p_version, v_expected),
      HINT    = 'Look at the tree again and plan anew.';
  END IF;
END;
$$;

ALTER FUNCTION public.fn_iu_tree_expect(uuid, bigint) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_tree_expect(uuid, bigint) IS
  'IU008 if the setting iu.expected_version is there and is not this version. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_tree_expect(uuid, bigint) FROM PUBLIC;
