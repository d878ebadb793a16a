-- fn_iu_tree_make_room frees p_count ordinals from p_ordinal on, and puts p_moving on the first.
--
-- The rule is fixed, because whoever folds the events must come to the same ordinals without
-- being told them: walk the siblings from p_ordinal upwards; each moves to the higher of its
-- own ordinal and the one after its predecessor's. Only the run that is in the way shifts, and
-- it stops at the first gap that is wide enough. As ordinals are distinct and ascend, the
-- i-th of them lands on the higher of its own ordinal and p_ordinal + p_count + i.
--
-- One statement moves them all, and the moving unit with them: the unique constraint is
-- checked at the end of a statement, and in two the places in between could be taken.

CREATE OR REPLACE FUNCTION public.fn_iu_tree_make_room(
  p_parent_id uuid, p_ordinal integer, p_count integer, p_moving uuid
)
RETURNS void
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  WITH place AS (
    SELECT sibling.id,
           greatest(sibling.ordinal,
                    p_ordinal + p_count + row_number() OVER (ORDER BY sibling.ordinal)::integer - 1
           ) AS ordinal
      FROM public.information_unit AS sibling
     WHERE sibling.parent_id = p_parent_id
       AND sibling.ordinal >= p_ordinal
       AND sibling.id IS DISTINCT FROM p_moving
    UNION ALL
    SELECT p_moving, p_ordinal
     WHERE p_moving IS NOT NULL
  )
  UPDATE public.information_unit AS unit
     SET parent_id = p_parent_id, ordinal = place.ordinal
    FROM place
   WHERE unit.id = place.id
     AND (unit.parent_id, unit.ordinal) IS DISTINCT FROM (p_parent_id, place.ordinal);
END;
$$;

ALTER FUNCTION public.fn_iu_tree_make_room(uuid, integer, integer, uuid) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_tree_make_room(uuid, integer, integer, uuid) IS
  'Shifts the run of siblings that is in the way of p_count new ones, and places p_moving (or nobody, if NULL). Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_tree_make_room(uuid, integer, integer, uuid) FROM PUBLIC;
