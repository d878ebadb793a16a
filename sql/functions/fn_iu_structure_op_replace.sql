-- fn_iu_structure_op_replace puts a new unit in the place of another: right after it, with its
-- living children, its lifecycle and its document; the old one is deprecated.
--
-- For a piece that another piece supersedes. New text for the same piece is a revision and no
-- structure operation.
--
-- Lock order: gate, then the tree's head row.

CREATE OR REPLACE FUNCTION public.fn_iu_structure_op_replace(
  p_unit_id uuid, p_piece jsonb, p_actor text, p_reason text
)
RETURNS TABLE (operation_id uuid, event_ref uuid, tree_id uuid, aggregate_version bigint, unit_ids uuid[])
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tree     public.iu_tree;
  v_source   public.information_unit;
  v_piece    jsonb;
  v_piece_id uuid;
  v_moved    jsonb;
BEGIN
  PERFORM public.fn_iu_structure_op_begin(p_actor, p_reason);
  v_tree := public.fn_iu_tree_lock(ARRAY[p_unit_id]);
  v_source := public.fn_iu_structure_op_source(p_unit_id, 'replace');

  PERFORM public.fn_iu_tree_make_room(v_source.parent_id, v_source.ordinal + 1, 1, NULL);
  v_piece := public.fn_iu_piece_insert(p_piece, v_source, v_source.ordinal + 1, v_source.lifecycle);
  v_piece_id := (v_piece ->> 'unit_id')::uuid;
  v_moved := public.fn_iu_children_adopt(ARRAY[p_unit_id], v_piece_id);

  RETURN QUERY SELECT done.* FROM public.fn_iu_structure_op_enact(
    'replace', 'structure_piece_replaced', v_tree, p_unit_id, v_source.doc_code, p_actor, p_reason,
    jsonb_build_object('unit_id', p_unit_id, 'piece', public.fn_iu_piece_arguments(p_piece)),
    jsonb_build_object(
      'unit_id', v_source.id, 'iu_code', v_source.iu_code, 'parent_id', v_source.parent_id,
      'piece', v_piece, 'moved_children', v_moved),
    ARRAY[v_piece_id], ARRAY[v_piece_id], ARRAY[p_unit_id]) AS done;
END;
$$;

ALTER FUNCTION public.fn_iu_structure_op_replace(uuid, jsonb, text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_structure_op_replace(uuid, jsonb, text, text) IS
  'Puts the piece {unit_id?, iu_code, content} in the place of a unit. unit_ids is the new unit. Event structure_piece_replaced.';

REVOKE ALL ON FUNCTION public.fn_iu_structure_op_replace(uuid, jsonb, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_structure_op_replace(uuid, jsonb, text, text) TO iu_editor;
