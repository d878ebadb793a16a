-- fn_iu_unit_living reads a unit that an operation works on, once the tree's head is locked.
--
-- It sees what its caller's statement sees, so the caller must call it in a statement of its
-- own, after the one that waited for the lock: only that one's snapshot is younger than the wait.

CREATE OR REPLACE FUNCTION public.fn_iu_unit_living(p_unit_id uuid)
RETURNS public.information_unit
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_unit public.information_unit;
BEGIN
  SELECT unit.* INTO STRICT v_unit
    FROM public.information_unit AS unit
   WHERE unit.id = p_unit_id;
  IF v_unit.lifecycle = 'deprecated' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU009',
      MESSAGE = format('unit %s is deprecated already', v_unit.iu_code),
      DETAIL  = 'A deprecated unit keeps its place for good and takes part in nothing.',
      HINT    = 'Name the unit that took its place, if there is one: see iu_unit_supersedes.';
  END IF;
  RETURN v_unit;
END;
$$;

ALTER FUNCTION public.fn_iu_unit_living(uuid) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_unit_living(uuid) IS
  'The unit as it stands under the lock of its tree; IU009 if it is deprecated. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_unit_living(uuid) FROM PUBLIC;
