-- fn_iu_content_digest is the SHA-256 of a unit's text in UTF-8, its bytes as a file has them.

CREATE OR REPLACE FUNCTION public.fn_iu_content_digest(p_content text)
RETURNS bytea
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT sha256(convert_to(p_content, 'UTF8'));
$$;

ALTER FUNCTION public.fn_iu_content_digest(text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_content_digest(text) IS
  'SHA-256 of the UTF-8 bytes of a text; 32 bytes.';

REVOKE ALL ON FUNCTION public.fn_iu_content_digest(text) FROM PUBLIC;
