-- fn_iu_dot_config_audit writes down who changed a switch, from what to what, and why; and
-- refuses to open one for no reason.
--
-- Inside a definer function current_user is the owner, so it says nothing about the caller:
-- the login is session_user, and the role it had taken is the setting `role`.

CREATE OR REPLACE FUNCTION public.fn_iu_dot_config_audit()
RETURNS trigger
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_key       text;
  v_old_value text;
  v_new_value text;
  v_reason    text := public.fn_iu_reason();
BEGIN
  IF TG_OP = 'UPDATE' AND NEW.key <> OLD.key THEN
    -- A renamed switch would carry an open value to a key that nobody opened.
    RAISE EXCEPTION USING
      ERRCODE = 'IU040',
      MESSAGE = format('switch %L cannot be renamed', OLD.key),
      DETAIL  = 'Its audit trail is kept under its key.',
      HINT    = 'Delete it, which closes it, and insert the other one.';
  END IF;

  IF TG_OP = 'DELETE' THEN
    v_key := OLD.key;
  ELSE
    v_key := NEW.key;
    v_new_value := NEW.value;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    v_old_value := OLD.value;
  END IF;

  IF v_reason IS NULL AND public.fn_iu_config_opens(v_key, v_old_value, v_new_value) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU006',
      MESSAGE = format('opening %s needs a reason', v_key),
      DETAIL  = format('It would go from %L to %L.', v_old_value, v_new_value),
      HINT    = 'Use iu gate … --reason "...", or SELECT set_config(''iu.reason'', ''...'', true) first.';
  END IF;

  INSERT INTO public.dot_config_audit
    (operation, key, old_value, new_value, login, role, application_name, reason)
  VALUES
    (TG_OP, v_key, v_old_value, v_new_value, session_user, current_setting('role'),
     current_setting('application_name'), v_reason);
  RETURN NULL;
END;
$$;

ALTER FUNCTION public.fn_iu_dot_config_audit() OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_dot_config_audit() IS
  'Row trigger of dot_config: one audit row per change; IU006 if a change opens something without iu.reason.';

REVOKE ALL ON FUNCTION public.fn_iu_dot_config_audit() FROM PUBLIC;
