-- fn_iu_structure_op_merge puts one new unit in the place of two or more: right after the first
-- one named, with the living children of all of them.
--
-- The new piece stands where the first source stood. If a unit above that place were a source
-- too, its child on the way down would move below the new piece, and the new piece hangs below
-- that child: a ring. So no unit above the first source may be merged with it.
--
-- It is enacted only if all its sources are: a draft does not become enacted by being merged.
--
-- Lock order: gate, then the tree's head row.

CREATE OR REPLACE FUNCTION public.fn_iu_structure_op_merge(
  p_unit_ids uuid[], p_piece jsonb, p_actor text, p_reason text
)
RETURNS TABLE (operation_id uuid, event_ref uuid, tree_id uuid, aggregate_version bigint, unit_ids uuid[])
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tree      public.iu_tree;
  v_first     public.information_unit;
  v_source    public.information_unit;
  v_source_id uuid;
  v_lifecycle text := 'enacted';
  v_above     text;
  v_piece     jsonb;
  v_piece_id  uuid;
  v_moved     jsonb;
BEGIN
  PERFORM public.fn_iu_structure_op_begin(p_actor, p_reason);

  IF coalesce(cardinality(p_unit_ids), 0) < 2
     OR (SELECT count(DISTINCT named.id) FROM unnest(p_unit_ids) AS named (id)) < cardinality(p_unit_ids) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU002',
      MESSAGE = 'a merge needs at least two different units',
      DETAIL  = format('Named were %s.', coalesce(array_to_string(p_unit_ids, ', ', 'NULL'), 'none')),
      HINT    = 'Name each unit once; one piece in the place of another is a replace.';
  END IF;

  v_tree := public.fn_iu_tree_lock(p_unit_ids);
  FOREACH v_source_id IN ARRAY p_unit_ids LOOP
    v_source := public.fn_iu_structure_op_source(v_source_id, 'merge');
    v_first := coalesce(v_first, v_source);
    IF v_source.lifecycle = 'draft' THEN
      v_lifecycle := 'draft';
    END IF;
  END LOOP;

  WITH RECURSIVE above AS (
    SELECT unit.id, unit.parent_id, unit.iu_code
      FROM public.information_unit AS unit
     WHERE unit.id = v_first.parent_id
    UNION
    SELECT unit.id, unit.parent_id, unit.iu_code
      FROM above JOIN public.information_unit AS unit ON unit.id = above.parent_id
  )
  SELECT above.iu_code INTO v_above FROM above WHERE above.id = ANY (p_unit_ids) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU002',
      MESSAGE = format('unit %s stands above %s and cannot merge into its place', v_above, v_first.iu_code),
      DETAIL  = 'The new piece would hang below a unit that moves below the new piece.',
      HINT    = 'Name the upper unit first.';
  END IF;

  PERFORM public.fn_iu_tree_make_room(v_first.parent_id, v_first.ordinal + 1, 1, NULL);
  v_piece := public.fn_iu_piece_insert(p_piece, v_first, v_first.ordinal + 1, v_lifecycle);
  v_piece_id := (v_piece ->> 'unit_id')::uuid;
  v_moved := public.fn_iu_children_adopt(p_unit_ids, v_piece_id);

  RETURN QUERY SELECT done.* FROM public.fn_iu_structure_op_enact(
    'merge', 'structure_piece_merged', v_tree, v_first.id, v_first.doc_code, p_actor, p_reason,
    jsonb_build_object('unit_ids', to_jsonb(p_unit_ids), 'piece', public.fn_iu_piece_arguments(p_piece)),
    jsonb_build_object(
      'sources', to_jsonb(p_unit_ids), 'parent_id', v_first.parent_id,
      'piece', v_piece, 'moved_children', v_moved),
    ARRAY[v_piece_id], ARRAY[v_piece_id], p_unit_ids) AS done;
END;
$$;

ALTER FUNCTION public.fn_iu_structure_op_merge(uuid[], jsonb, text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_structure_op_merge(uuid[], jsonb, text, text) IS
  'Puts the piece {unit_id?, iu_code, content} in the place of the first of several units of a tree. unit_ids is the new unit. Event structure_piece_merged.';

REVOKE ALL ON FUNCTION public.fn_iu_structure_op_merge(uuid[], jsonb, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_structure_op_merge(uuid[], jsonb, text, text) TO iu_editor;
