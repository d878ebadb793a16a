-- fn_iu_unit_insert makes one unit, on a place that is free.
--
-- A code that is taken is found by the insert itself and not by a look before it: two
-- operations in two trees hold no lock in common, and both would have found it free. ON
-- CONFLICT waits for the other to end and needs no subtransaction, as catching the error would.

CREATE OR REPLACE FUNCTION public.fn_iu_unit_insert(
  p_unit_id uuid, p_tree_id uuid, p_iu_code text, p_doc_code text, p_parent_id uuid,
  p_ordinal integer, p_content text, p_lifecycle text
)
RETURNS public.information_unit
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_unit public.information_unit;
BEGIN
  IF p_iu_code IS NULL OR p_iu_code !~ '^[^[:space:][:cntrl:]]{1,200}$'
     OR p_doc_code !~ '^[^[:space:][:cntrl:]]{1,200}$' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU010',
      MESSAGE = 'the code of a unit is malformed',
      DETAIL  = format('iu_code is %L, doc_code is %L.', left(p_iu_code, 250), left(p_doc_code, 250)),
      HINT    = 'A code is 1 to 200 characters without blanks or control characters.';
  END IF;
  IF p_content IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU007',
      MESSAGE = format('unit %s has no content', p_iu_code),
      DETAIL  = 'content is NULL or is no text.',
      HINT    = 'An empty text is content; give '''' if that is meant.';
  END IF;
  IF EXISTS (SELECT FROM public.information_unit AS unit WHERE unit.id = p_unit_id) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU010',
      MESSAGE = format('unit %s exists already', p_unit_id),
      DETAIL  = 'An id is used once and for ever.',
      HINT    = 'Leave the id out and one is made.';
  END IF;

  INSERT INTO public.information_unit AS unit
    (id, tree_id, iu_code, doc_code, parent_id, ordinal, content, content_digest, lifecycle)
  VALUES
    (p_unit_id, p_tree_id, p_iu_code, p_doc_code, p_parent_id, p_ordinal, p_content,
     public.fn_iu_content_digest(p_content), p_lifecycle)
      ON CONFLICT (iu_code) DO NOTHING
  RETURNING unit.* INTO v_unit;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU010',
      MESSAGE = format('iu_code %s is taken', p_iu_code),
      DETAIL  = 'Codes are unique over all trees, deprecated units included.',
      HINT    = 'Choose another code.';
  END IF;
  RETURN v_unit;
END;
$$;

ALTER FUNCTION public.fn_iu_unit_insert(uuid, uuid, text, text, uuid, integer, text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_unit_insert(uuid, uuid, text, text, uuid, integer, text, text) IS
  'Inserts one unit and returns it; IU007, IU010. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_unit_insert(uuid, uuid, text, text, uuid, integer, text, text) FROM PUBLIC;
