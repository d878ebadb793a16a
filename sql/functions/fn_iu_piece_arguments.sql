-- fn_iu_piece_arguments is a piece as the record of an operation keeps it: the text stands in
-- information_unit, so here its digest is enough.

CREATE OR REPLACE FUNCTION public.fn_iu_piece_arguments(p_piece jsonb)
RETURNS jsonb
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT p_piece - 'content' || jsonb_build_object(
           'content_digest', encode(public.fn_iu_content_digest(p_piece ->> 'content'), 'hex'));
$$;

ALTER FUNCTION public.fn_iu_piece_arguments(jsonb) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_piece_arguments(jsonb) IS
  'The piece with content replaced by content_digest. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_piece_arguments(jsonb) FROM PUBLIC;
