-- fn_iu_outbound_route_audit writes down who changed a route, from what to what, and why; and
-- refuses to open one for no reason.
--
-- To open is to leave dry-run, to be enabled outside it, or to point a route that is live at
-- something else.  Closing must never wait for a good reason, so only this direction asks.
--
-- Inside a definer function current_user is the owner, so it says nothing about the caller:
-- the login is session_user, and the role it had taken is the setting `role`.

CREATE OR REPLACE FUNCTION public.fn_iu_outbound_route_audit()
RETURNS trigger
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_before public.iu_outbound_route;
  v_after  public.iu_outbound_route;
  v_reason text := public.fn_iu_reason();
BEGIN
  IF TG_OP <> 'INSERT' THEN
    v_before := OLD;
  END IF;
  IF TG_OP <> 'DELETE' THEN
    v_after := NEW;
  END IF;

  IF TG_OP = 'UPDATE' AND v_after.route_code <> v_before.route_code THEN
    -- Positions and decisions are kept under the code; the new one would start from nothing.
    RAISE EXCEPTION USING
      ERRCODE = 'IU040',
      MESSAGE = format('route %L cannot be renamed', v_before.route_code),
      DETAIL  = 'Its positions, decisions and audit trail are kept under its route_code.',
      HINT    = 'Register the other route and disable this one: iu route disable '
                || v_before.route_code;
  END IF;

  IF v_reason IS NULL AND NOT v_after.dry_run AND (
       v_before.dry_run IS DISTINCT FROM false
    OR v_after.enabled
       AND (v_after.enabled, v_after.event_type, v_after.target_kind, v_after.target_ref)
           IS DISTINCT FROM
           (v_before.enabled, v_before.event_type, v_before.target_kind, v_before.target_ref)
  ) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU006',
      MESSAGE = format('opening route %L needs a reason', v_after.route_code),
      DETAIL  = format('It would be enabled=%s, dry_run=%s, delivering %s to %s %s.',
                       v_after.enabled, v_after.dry_run, v_after.event_type,
                       v_after.target_kind, v_after.target_ref),
      HINT    = 'Use iu route enable … --reason "...", or SELECT set_config(''iu.reason'', ''...'', true) first.';
  END IF;

  INSERT INTO public.iu_outbound_route_audit
    (operation, route_code, old_route, new_route, login, role, application_name, reason)
  VALUES
    (TG_OP, coalesce(v_after.route_code, v_before.route_code),
     CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(v_before) END,
     CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(v_after) END,
     session_user, current_setting('role'), current_setting('application_name'), v_reason);
  RETURN NULL;
END;
$$;

ALTER FUNCTION public.fn_iu_outbound_route_audit() OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_outbound_route_audit() IS
  'Row trigger of iu_outbound_route: one audit row per change; IU006 if a change opens a route without iu.reason.';

REVOKE ALL ON FUNCTION public.fn_iu_outbound_route_audit() FROM PUBLIC;
