-- fn_iu_tree_baseline_digest is one digest over a tree as it stood before its first event.
--
-- It is taken over a text, not over the jsonb, because another language must be able to make
-- it: one line per unit, in the order of the array, each line ended by LF, its fields
-- separated by TAB:
--
--   id TAB parent_id TAB ordinal TAB iu_code TAB lifecycle TAB content_digest LF
--
-- An absent parent_id is the empty field. No field can hold a TAB or LF: iu_code is checked
-- to have no blanks. The digest is the SHA-256 of that text in UTF-8.

CREATE OR REPLACE FUNCTION public.fn_iu_tree_baseline_digest(p_units jsonb)
RETURNS bytea
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT sha256(convert_to(coalesce(string_agg(
           concat_ws(E'\t',
             each.unit ->> 'id', coalesce(each.unit ->> 'parent_id', ''), each.unit ->> 'ordinal',
             each.unit ->> 'iu_code', each.unit ->> 'lifecycle', each.unit ->> 'content_digest'
           ) || E'\n', '' ORDER BY each.position), ''), 'UTF8'))
    FROM jsonb_array_elements(p_units) WITH ORDINALITY AS each (unit, position);
$$;

ALTER FUNCTION public.fn_iu_tree_baseline_digest(jsonb) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_tree_baseline_digest(jsonb) IS
  'SHA-256 over the lines "id TAB parent_id TAB ordinal TAB iu_code TAB lifecycle TAB content_digest LF" of a baseline.';

REVOKE ALL ON FUNCTION public.fn_iu_tree_baseline_digest(jsonb) FROM PUBLIC;
