-- fn_iu_piece_insert makes the unit that a piece {unit_id?, iu_code, content} describes, and
-- returns what the event says of it.
--
-- Every key is looked at for its type: ->> would take the number 7 or an object for a text
-- and store its spelling.

CREATE OR REPLACE FUNCTION public.fn_iu_piece_insert(
  p_piece jsonb, p_source public.information_unit, p_ordinal integer, p_lifecycle text
)
RETURNS jsonb
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_unit    public.information_unit;
  v_unknown text;
BEGIN
  IF jsonb_typeof(p_piece) IS DISTINCT FROM 'object' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU007',
      MESSAGE = 'a piece is an object {unit_id?, iu_code, content}',
      DETAIL  = format('Found %s.', coalesce(left(p_piece::text, 80), 'nothing')),
      HINT    = 'Give iu_code and content; unit_id may be left out.';
  END IF;
  SELECT string_agg(found.key, ', ') INTO v_unknown
    FROM jsonb_object_keys(p_piece) AS found (key)
   WHERE found.key NOT IN ('unit_id', 'iu_code', 'content');
  IF v_unknown IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU007',
      MESSAGE = format('a piece has no %s', v_unknown),
      DETAIL  = 'A key that is not known is a mistake, and would be lost without a word.',
      HINT    = 'A piece is {unit_id?, iu_code, content}.';
  END IF;
  IF coalesce(jsonb_typeof(p_piece -> 'iu_code'), 'null') NOT IN ('string', 'null')
     OR coalesce(p_piece ->> 'unit_id', '') !~* '^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})?$' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU010',
      MESSAGE = 'the code or the id of a piece is malformed',
      DETAIL  = format('iu_code is %s, unit_id is %s.',
                       left((p_piece -> 'iu_code')::text, 250), left((p_piece -> 'unit_id')::text, 250)),
      HINT    = 'iu_code is a text, unit_id a UUID.';
  END IF;

  v_unit := public.fn_iu_unit_insert(
    coalesce((nullif(p_piece ->> 'unit_id', ''))::uuid, public.fn_iu_uuid_v7()),
    p_source.tree_id, p_piece ->> 'iu_code', p_source.doc_code, p_source.parent_id, p_ordinal,
    CASE jsonb_typeof(p_piece -> 'content') WHEN 'string' THEN p_piece ->> 'content' END,
    p_lifecycle);

  RETURN jsonb_build_object(
    'unit_id', v_unit.id, 'iu_code', v_unit.iu_code, 'ordinal', v_unit.ordinal,
    'lifecycle', v_unit.lifecycle, 'content_digest', encode(v_unit.content_digest, 'hex'),
    'content_bytes', octet_length(convert_to(v_unit.content, 'UTF8')));
END;
$$;

ALTER FUNCTION public.fn_iu_piece_insert(jsonb, public.information_unit, integer, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_piece_insert(jsonb, public.information_unit, integer, text) IS
  'Inserts a piece beside its source and returns it as the event carries it; IU007, IU010. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_piece_insert(jsonb, public.information_unit, integer, text) FROM PUBLIC;
