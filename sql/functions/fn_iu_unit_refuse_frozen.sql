-- fn_iu_unit_refuse_frozen stops an operation that would touch a frozen unit.
--
-- Touch means: move it, take it out of use, or give it or take from it a child. Its ordinal
-- may rise when a sibling comes in before it: its place in the order stays the same.

CREATE OR REPLACE FUNCTION public.fn_iu_unit_refuse_frozen(p_unit_ids uuid[])
RETURNS void
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_code text;
BEGIN
  SELECT unit.iu_code INTO v_code
    FROM public.information_unit AS unit
   WHERE unit.id = ANY (p_unit_ids) AND unit.frozen
   ORDER BY unit.iu_code
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU005',
      MESSAGE = format('unit %s is frozen', v_code),
      DETAIL  = 'A frozen unit neither moves nor changes, and neither gains nor loses children.',
      HINT    = 'Work on another unit; whether this one may be changed is not decided here.';
  END IF;
END;
$$;

ALTER FUNCTION public.fn_iu_unit_refuse_frozen(uuid[]) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_unit_refuse_frozen(uuid[]) IS
  'IU005 if one of the units is frozen. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_unit_refuse_frozen(uuid[]) FROM PUBLIC;
