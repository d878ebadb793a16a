-- fn_iu_structure_op_source reads a unit whose place new pieces are about to take, and says no
-- to one that has no place among siblings or may not give it up.
--
-- Called under the lock of the tree's head row.

CREATE OR REPLACE FUNCTION public.fn_iu_structure_op_source(p_unit_id uuid, p_kind text)
RETURNS public.information_unit
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_unit public.information_unit := public.fn_iu_unit_living(p_unit_id);
BEGIN
  IF v_unit.parent_id IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU003',
      MESSAGE = format('unit %s is the root of its tree: no %s', v_unit.iu_code, p_kind),
      DETAIL  = 'The new piece would stand beside it, and beside a root there is no place.',
      HINT    = 'Start a tree with add_new_piece and supersedes, then deprecate this one.';
  END IF;
  PERFORM public.fn_iu_unit_refuse_frozen(ARRAY[v_unit.parent_id]);
  RETURN v_unit;
END;
$$;

ALTER FUNCTION public.fn_iu_structure_op_source(uuid, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_structure_op_source(uuid, text) IS
  'The unit that split, merge or replace takes out of use; IU003, IU005, IU009. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_structure_op_source(uuid, text) FROM PUBLIC;
