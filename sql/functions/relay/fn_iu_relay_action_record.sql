-- fn_iu_relay_action_record writes down that somebody acts in the relay's place, and why.
--
-- Called before the act: one that was killed in the middle has its row, too. Inside a definer
-- function current_user is the owner, so the caller is session_user.

CREATE OR REPLACE FUNCTION public.fn_iu_relay_action_record(p_command text, p_detail jsonb, p_reason text)
RETURNS bigint
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_id bigint;
BEGIN
  IF nullif(btrim(p_reason), '') IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU006',
      MESSAGE = format('%s needs a reason', p_command),
      DETAIL  = 'It changes what the relay publishes, and the trail has to say why.',
      HINT    = format('Say why: iu %s … --reason "..."', p_command);
  END IF;

  INSERT INTO public.iu_relay_action (login, role, application_name, command, detail, reason)
  VALUES (session_user, current_setting('role'), current_setting('application_name'),
          p_command, p_detail, btrim(p_reason))
  RETURNING iu_relay_action.id INTO v_id;
  RETURN v_id;
END;
$$;

ALTER FUNCTION public.fn_iu_relay_action_record(text, jsonb, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_relay_action_record(text, jsonb, text) IS
  'Adds a row to the trail of relay commands and returns its id; IU006 without a reason.';

-- The commands that act in the relay's place run as the owner.
REVOKE ALL ON FUNCTION public.fn_iu_relay_action_record(text, jsonb, text) FROM PUBLIC;
