-- fn_iu_structure_op_reparent moves a unit, with everything below it, to another place of its
-- tree: under another parent, or elsewhere under its own.
--
-- Lock order: gate, then the tree's head row, before anything is read that a move depends on.
-- The walk up from the new parent is safe only under that lock: of two moves that each look
-- fine alone (a under b, b under a), the second one sees the first.

CREATE OR REPLACE FUNCTION public.fn_iu_structure_op_reparent(
  p_unit_id uuid, p_new_parent_id uuid, p_ordinal integer, p_actor text, p_reason text
)
RETURNS TABLE (operation_id uuid, event_ref uuid, tree_id uuid, aggregate_version bigint, unit_ids uuid[])
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tree    public.iu_tree;
  v_unit    public.information_unit;
  v_parent  public.information_unit;
  v_ordinal integer;
BEGIN
  PERFORM public.fn_iu_structure_op_begin(p_actor, p_reason);
  v_tree := public.fn_iu_tree_lock(ARRAY[p_unit_id, p_new_parent_id]);
  v_unit := public.fn_iu_unit_living(p_unit_id);
  v_parent := public.fn_iu_unit_living(p_new_parent_id);

  IF v_unit.parent_id IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU003',
      MESSAGE = format('unit %s is the root of its tree and cannot move', v_unit.iu_code),
      DETAIL  = 'The tree is named by its root.',
      HINT    = 'Move what hangs below it.';
  END IF;
  PERFORM public.fn_iu_unit_refuse_frozen(ARRAY[v_unit.parent_id]);

  -- UNION and not UNION ALL: even in a tree that is a ring already the walk would end.
  IF EXISTS (
    WITH RECURSIVE above AS (
      SELECT v_parent.id AS id, v_parent.parent_id AS parent_id
      UNION
      SELECT unit.id, unit.parent_id
        FROM above JOIN public.information_unit AS unit ON unit.id = above.parent_id
    )
    SELECT FROM above WHERE above.id = p_unit_id
  ) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU002',
      MESSAGE = format('unit %s cannot move below itself', v_unit.iu_code),
      DETAIL  = format('%s is %s.', v_parent.iu_code,
                       CASE WHEN v_parent.id = v_unit.id THEN 'the unit itself' ELSE 'one of its descendants' END),
      HINT    = 'Move that unit out first.';
  END IF;

  v_ordinal := public.fn_iu_child_place(p_new_parent_id, p_ordinal, p_unit_id);
  PERFORM public.fn_iu_tree_make_room(p_new_parent_id, v_ordinal, 1, p_unit_id);

  RETURN QUERY SELECT done.* FROM public.fn_iu_structure_op_enact(
    'reparent', 'structure_reparented', v_tree, p_unit_id, v_unit.doc_code, p_actor, p_reason,
    jsonb_build_object('unit_id', p_unit_id, 'new_parent_id', p_new_parent_id, 'ordinal', p_ordinal),
    jsonb_build_object(
      'unit_id', v_unit.id, 'iu_code', v_unit.iu_code,
      'old_parent_id', v_unit.parent_id, 'old_ordinal', v_unit.ordinal,
      'new_parent_id', p_new_parent_id, 'new_ordinal', v_ordinal),
    ARRAY[p_unit_id], '{}', '{}') AS done;
END;
$$;

ALTER FUNCTION public.fn_iu_structure_op_reparent(uuid, uuid, integer, text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_structure_op_reparent(uuid, uuid, integer, text, text) IS
  'Moves a unit within its tree; p_ordinal NULL appends. unit_ids is the unit. Event structure_reparented.';

REVOKE ALL ON FUNCTION public.fn_iu_structure_op_reparent(uuid, uuid, integer, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_structure_op_reparent(uuid, uuid, integer, text, text) TO iu_editor;
