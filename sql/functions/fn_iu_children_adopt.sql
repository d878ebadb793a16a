-- fn_iu_children_adopt takes sources out of use and hands their living children to the piece
-- that takes their place: in the order of the sources, then of their ordinals, from 0 on.
--
-- A child that is a source itself goes out of use and stays where it is, as do children that
-- are deprecated already. The new piece has no children yet, so every place is free.
--
-- The children's frozen flags are looked at before anything is written; that the pieces are
-- there already does not matter, because a refusal takes the whole operation back.

CREATE OR REPLACE FUNCTION public.fn_iu_children_adopt(p_source_ids uuid[], p_piece_id uuid)
RETURNS jsonb
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_child_ids uuid[];
BEGIN
  SELECT coalesce(array_agg(child.id ORDER BY source.position, child.ordinal), '{}') INTO v_child_ids
    FROM unnest(p_source_ids) WITH ORDINALITY AS source (id, position)
    JOIN public.information_unit AS child ON child.parent_id = source.id
   WHERE child.lifecycle <> 'deprecated'
     AND child.id <> ALL (p_source_ids);
  PERFORM public.fn_iu_unit_refuse_frozen(v_child_ids);

  UPDATE public.information_unit AS unit
     SET lifecycle = 'deprecated'
   WHERE unit.id = ANY (p_source_ids);

  UPDATE public.information_unit AS unit
     SET parent_id = p_piece_id, ordinal = moved.position - 1
    FROM unnest(v_child_ids) WITH ORDINALITY AS moved (id, position)
   WHERE unit.id = moved.id;

  RETURN coalesce(
    (SELECT jsonb_agg(jsonb_build_object(
              'unit_id', moved.id, 'parent_id', p_piece_id, 'ordinal', moved.position - 1)
              ORDER BY moved.position)
       FROM unnest(v_child_ids) WITH ORDINALITY AS moved (id, position)),
    '[]');
END;
$$;

ALTER FUNCTION public.fn_iu_children_adopt(uuid[], uuid) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_children_adopt(uuid[], uuid) IS
  'Deprecates the sources, moves their living children to the piece; returns moved_children as the event carries them. IU005. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_children_adopt(uuid[], uuid) FROM PUBLIC;
