-- fn_iu_config_set sets one switch, with the reason as an argument; the old value comes back.
--
-- Lock order: (18773, 2) if the switch is the gate of structure operations, then (18773, 1)
-- by the statement trigger, then the row.  Operations hold (2) and never ask for (1), and
-- deliveries hold (1) and never ask for (2), so no ring can form.  (2) comes before the
-- statement, because a close that held (1) while it waited for a long import would hold all
-- deliveries back with it: the very thing the kill switch must not depend on.

CREATE OR REPLACE FUNCTION public.fn_iu_config_set(p_key text, p_value text, p_reason text)
RETURNS text
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_reason_before text := current_setting('iu.reason', true);
  v_old_value     text;
BEGIN
  IF p_key IS NULL OR p_value IS NULL THEN
    RAISE null_value_not_allowed USING
      MESSAGE = 'a switch needs a key and a value',
      HINT    = 'DELETE the row of dot_config to remove a switch, which closes it.';
  END IF;

  IF p_key = 'iu_core.structure_op_enabled' THEN
    PERFORM pg_advisory_xact_lock(18773, 2);
  END IF;

  PERFORM set_config('iu.reason', coalesce(p_reason, ''), true);

  -- Two statements: the first waits for the gate's lock in its trigger, and only a statement
  -- that starts after the wait sees the value that stood when the wait ended.
  INSERT INTO public.dot_config AS config (key, value)
  VALUES (p_key, p_value)
      ON CONFLICT (key) DO NOTHING;
  IF NOT FOUND THEN
    SELECT config.value INTO v_old_value
      FROM public.dot_config AS config
     WHERE config.key = p_key
       FOR UPDATE;
    UPDATE public.dot_config AS config
       SET value = p_value
     WHERE config.key = p_key
       AND config.value IS DISTINCT FROM p_value;
  END IF;

  -- The reason was for this change, not for whatever the transaction does next.
  PERFORM set_config('iu.reason', coalesce(v_reason_before, ''), true);
  RETURN v_old_value;
END;
$$;

ALTER FUNCTION public.fn_iu_config_set(text, text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_config_set(text, text, text) IS
  'Sets a switch and returns its old value, NULL if it is new. Opening one needs a reason: IU006.';

REVOKE ALL ON FUNCTION public.fn_iu_config_set(text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_config_set(text, text, text) TO iu_gatekeeper;
