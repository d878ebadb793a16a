-- fn_iu_structure_op_add_new_piece adds a unit under a parent, or starts a tree with it.
--
-- Lock order: gate, then the tree's head row. A new tree has no head to wait for: its row is
-- inserted, and of two that insert the same one the second waits there and is refused.
--
-- p_supersedes may name units of other trees: that is how a piece goes from one tree to
-- another. They are only pointed to, so their trees are not locked.

CREATE OR REPLACE FUNCTION public.fn_iu_structure_op_add_new_piece(
  p_unit_id uuid, p_parent_id uuid, p_ordinal integer, p_iu_code text, p_doc_code text,
  p_content text, p_lifecycle text, p_supersedes uuid[], p_actor text, p_reason text
)
RETURNS TABLE (operation_id uuid, event_ref uuid, tree_id uuid, aggregate_version bigint, unit_ids uuid[])
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_unit_id    uuid := coalesce(p_unit_id, public.fn_iu_uuid_v7());
  v_lifecycle  text := coalesce(p_lifecycle, 'draft');
  v_doc_code   text := p_doc_code;
  v_ordinal    integer := 0;
  v_supersedes uuid[];
  v_unknown    text;
  v_parent     public.information_unit;
  v_tree       public.iu_tree;
  v_unit       public.information_unit;
BEGIN
  PERFORM public.fn_iu_structure_op_begin(p_actor, p_reason);

  IF v_lifecycle NOT IN ('draft', 'enacted') THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU009',
      MESSAGE = format('a new piece cannot be %s', v_lifecycle),
      DETAIL  = 'It is born draft or enacted.',
      HINT    = 'Leave the lifecycle out for draft.';
  END IF;

  IF p_parent_id IS NULL THEN
    IF p_ordinal <> 0 THEN
      RAISE EXCEPTION USING
        ERRCODE = 'IU011',
        MESSAGE = format('ordinal %s is out of range', p_ordinal),
        DETAIL  = 'The root of a new tree has no siblings.',
        HINT    = 'Leave the ordinal out.';
    END IF;
    INSERT INTO public.iu_tree AS tree (tree_id)
    VALUES (v_unit_id)
        ON CONFLICT ON CONSTRAINT iu_tree_pk DO NOTHING
    RETURNING tree.* INTO v_tree;
    IF NOT FOUND THEN
      RAISE EXCEPTION USING
        ERRCODE = 'IU010',
        MESSAGE = format('unit %s exists already', v_unit_id),
        DETAIL  = 'It is the root of a tree.',
        HINT    = 'Leave the id out and one is made.';
    END IF;
    PERFORM public.fn_iu_tree_expect(v_tree.tree_id, v_tree.version);
  ELSE
    v_tree := public.fn_iu_tree_lock(ARRAY[p_parent_id]);
    v_parent := public.fn_iu_unit_living(p_parent_id);
    v_doc_code := coalesce(p_doc_code, v_parent.doc_code);
    v_ordinal := public.fn_iu_child_place(p_parent_id, p_ordinal, NULL);
    PERFORM public.fn_iu_tree_make_room(p_parent_id, v_ordinal, 1, NULL);
  END IF;

  -- Each once, in the order given: the event carries a list, the edges are a set.
  SELECT coalesce(array_agg(named.unit_id ORDER BY named.position), '{}'),
         min(coalesce(named.unit_id::text, 'NULL')) FILTER (WHERE NOT EXISTS (
           SELECT FROM public.information_unit AS unit WHERE unit.id = named.unit_id))
    INTO v_supersedes, v_unknown
    FROM (SELECT each.unit_id, min(each.position) AS position
            FROM unnest(p_supersedes) WITH ORDINALITY AS each (unit_id, position)
           GROUP BY each.unit_id) AS named;
  IF v_unknown IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU001',
      MESSAGE = format('there is no unit %s', v_unknown),
      DETAIL  = 'supersedes names units that exist, in whatever tree.',
      HINT    = 'Check the id.';
  END IF;

  v_unit := public.fn_iu_unit_insert(
    v_unit_id, v_tree.tree_id, p_iu_code, v_doc_code, p_parent_id, v_ordinal, p_content, v_lifecycle);

  RETURN QUERY SELECT done.* FROM public.fn_iu_structure_op_enact(
    'add_new_piece', 'structure_child_added', v_tree, v_unit.id, v_unit.doc_code, p_actor, p_reason,
    jsonb_build_object(
      'unit_id', p_unit_id, 'parent_id', p_parent_id, 'ordinal', p_ordinal, 'iu_code', p_iu_code,
      'doc_code', p_doc_code, 'content_digest', encode(v_unit.content_digest, 'hex'),
      'lifecycle', p_lifecycle, 'supersedes', p_supersedes),
    jsonb_build_object(
      'unit_id', v_unit.id, 'iu_code', v_unit.iu_code, 'parent_id', v_unit.parent_id,
      'ordinal', v_unit.ordinal, 'lifecycle', v_unit.lifecycle,
      'content_digest', encode(v_unit.content_digest, 'hex'),
      'content_bytes', octet_length(convert_to(v_unit.content, 'UTF8')),
      'supersedes', to_jsonb(v_supersedes)),
    ARRAY[v_unit.id], ARRAY[v_unit.id], v_supersedes) AS done;
END;
$$;

ALTER FUNCTION public.fn_iu_structure_op_add_new_piece(
  uuid, uuid, integer, text, text, text, text, uuid[], text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_structure_op_add_new_piece(
  uuid, uuid, integer, text, text, text, text, uuid[], text, text) IS
  'Adds a unit; p_parent_id NULL starts a tree, p_doc_code NULL takes the parent''s. unit_ids is the new unit. Event structure_child_added.';

REVOKE ALL ON FUNCTION public.fn_iu_structure_op_add_new_piece(
  uuid, uuid, integer, text, text, text, text, uuid[], text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_structure_op_add_new_piece(
  uuid, uuid, integer, text, text, text, text, uuid[], text, text) TO iu_editor;
