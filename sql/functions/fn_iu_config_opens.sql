-- fn_iu_config_opens tells whether a change of a switch lets something happen that could not
-- happen before: a key …_enabled becomes exactly 'true', or a …live_routes list gains a code.
--
-- Closing must never wait for a good reason, so only this direction asks for one.  Keys of
-- downstream kinds carry a suffix (iu_core.delivery_enabled.http) and count as their stem.

CREATE OR REPLACE FUNCTION public.fn_iu_config_opens(p_key text, p_old_value text, p_new_value text)
RETURNS boolean
LANGUAGE sql
IMMUTABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN p_key ~ '_enabled(\.|$)' THEN
      p_new_value IS NOT DISTINCT FROM 'true' AND p_old_value IS DISTINCT FROM 'true'
    WHEN p_key ~ 'live_routes(\.|$)' THEN
      EXISTS (
        SELECT btrim(code) FROM unnest(string_to_array(p_new_value, ',')) AS new_list (code)
         WHERE btrim(code) <> ''
        EXCEPT
        SELECT btrim(code) FROM unnest(string_to_array(p_old_value, ',')) AS old_list (code)
      )
    ELSE false
  END;
$$;

ALTER FUNCTION public.fn_iu_config_opens(text, text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_config_opens(text, text, text) IS
  'True if the change of this switch opens something: such a change needs a reason. NULL is a missing key.';

REVOKE ALL ON FUNCTION public.fn_iu_config_opens(text, text, text) FROM PUBLIC;
