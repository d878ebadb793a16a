-- fn_iu_structure_op_deprecate_piece takes a unit out of use. It keeps its row, its place and
-- its ordinal; exports leave it out.
--
-- Bottom-up only: a unit with living children is refused, so nothing living ever hangs below
-- something that is not.
--
-- Lock order: gate, then the tree's head row. Under it no child can come in between the count
-- and the update.

CREATE OR REPLACE FUNCTION public.fn_iu_structure_op_deprecate_piece(
  p_unit_id uuid, p_actor text, p_reason text
)
RETURNS TABLE (operation_id uuid, event_ref uuid, tree_id uuid, aggregate_version bigint, unit_ids uuid[])
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tree     public.iu_tree;
  v_unit     public.information_unit;
  v_children bigint;
BEGIN
  PERFORM public.fn_iu_structure_op_begin(p_actor, p_reason);
  v_tree := public.fn_iu_tree_lock(ARRAY[p_unit_id]);
  v_unit := public.fn_iu_unit_living(p_unit_id);

  SELECT count(*) INTO v_children
    FROM public.information_unit AS child
   WHERE child.parent_id = p_unit_id AND child.lifecycle <> 'deprecated';
  IF v_children > 0 THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU004',
      MESSAGE = format('unit %s has living children', v_unit.iu_code),
      DETAIL  = format('%s of them.', v_children),
      HINT    = 'Deprecate or move them first, from the bottom up.';
  END IF;

  UPDATE public.information_unit AS unit
     SET lifecycle = 'deprecated'
   WHERE unit.id = p_unit_id;

  RETURN QUERY SELECT done.* FROM public.fn_iu_structure_op_enact(
    'deprecate_piece', 'structure_piece_deprecated', v_tree, p_unit_id, v_unit.doc_code, p_actor, p_reason,
    jsonb_build_object('unit_id', p_unit_id),
    jsonb_build_object(
      'unit_id', v_unit.id, 'iu_code', v_unit.iu_code, 'parent_id', v_unit.parent_id,
      'ordinal', v_unit.ordinal, 'old_lifecycle', v_unit.lifecycle),
    ARRAY[p_unit_id], '{}', '{}') AS done;
END;
$$;

ALTER FUNCTION public.fn_iu_structure_op_deprecate_piece(uuid, text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_structure_op_deprecate_piece(uuid, text, text) IS
  'Takes a unit without living children out of use. unit_ids is the unit. Event structure_piece_deprecated.';

REVOKE ALL ON FUNCTION public.fn_iu_structure_op_deprecate_piece(uuid, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_structure_op_deprecate_piece(uuid, text, text) TO iu_editor;
