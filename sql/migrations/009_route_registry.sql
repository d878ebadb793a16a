-- 009: the registry of outbound routes, inert: no route can be live, and delivering is not
-- possible yet. Both change with 013.

BEGIN;
SET LOCAL ROLE iu_owner;

-- ---------------------------------------------------------------------------------------
-- The registry.
-- A route says which events go to which target; that it exists lets nothing happen. The
-- static CHECK forbids a live route for as long as nothing can ask whether it is allowed.
-- ---------------------------------------------------------------------------------------

CREATE TABLE public.iu_outbound_route (
  route_code    text NOT NULL,
  event_type    text NOT NULL,
  target_kind   text NOT NULL,
  target_ref    text NOT NULL,
  enabled       boolean NOT NULL DEFAULT false,
  dry_run       boolean NOT NULL DEFAULT true,
  description   text,
  registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT iu_outbound_route_pk PRIMARY KEY (route_code),
  -- It names a consumer group and stands in a comma-separated list: no comma, no blank.
  CONSTRAINT iu_outbound_route_code_chk CHECK (route_code ~ '^[A-Za-z][A-Za-z0-9_.-]{0,99}$'),
  CONSTRAINT iu_outbound_route_event_type_chk CHECK (event_type ~ '^[a-z][a-z0-9_]{0,99}$'),
  CONSTRAINT iu_outbound_route_target_kind_chk CHECK (target_kind ~ '^[a-z][a-z0-9_]{0,99}$'),
  CONSTRAINT iu_outbound_route_target_ref_chk CHECK (btrim(target_ref) <> ''),
  CONSTRAINT iu_outbound_route_safe_chk CHECK (enabled = false OR dry_run = true)
);

COMMENT ON TABLE public.iu_outbound_route IS
  'Which events go to which target. Disabled: idle. Enabled in dry-run: decides only. Enabled outside it: delivers behind the gates.';
COMMENT ON COLUMN public.iu_outbound_route.route_code IS
  'Names the route, its consumer groups and its place in the allowlist; exact, never renamed.';
COMMENT ON COLUMN public.iu_outbound_route.event_type IS 'The one event type it delivers.';
COMMENT ON COLUMN public.iu_outbound_route.target_kind IS
  'Kind of target; sql_function is the one delivered inside the database.';
COMMENT ON COLUMN public.iu_outbound_route.target_ref IS
  'The target of that kind. A name to compare, never to execute.';
COMMENT ON COLUMN public.iu_outbound_route.enabled IS 'False: its consumers fetch nothing.';
COMMENT ON COLUMN public.iu_outbound_route.dry_run IS
  'True: decisions are recorded and nothing is delivered.';
COMMENT ON COLUMN public.iu_outbound_route.description IS 'What the route is for.';
COMMENT ON COLUMN public.iu_outbound_route.registered_at IS 'Clock at registration.';

-- ---------------------------------------------------------------------------------------
-- The audit trail of routes.
-- Disabling a route or sending it to dry-run is a close as much as a switch is, so who did
-- it, and who opened it and why, is kept the same way as for dot_config.
-- ---------------------------------------------------------------------------------------

CREATE TABLE public.iu_outbound_route_audit (
  id               bigint GENERATED ALWAYS AS IDENTITY,
  operation        text NOT NULL,
  route_code       text NOT NULL,
  old_route        jsonb,
  new_route        jsonb,
  login            text NOT NULL,
  role             text NOT NULL,
  application_name text NOT NULL,
  reason           text,
  xid              xid8 NOT NULL DEFAULT pg_current_xact_id(),
  changed_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT iu_outbound_route_audit_pk PRIMARY KEY (id),
  CONSTRAINT iu_outbound_route_audit_operation_chk CHECK (operation IN ('INSERT', 'UPDATE', 'DELETE'))
);

CREATE INDEX iu_outbound_route_audit_route_idx ON public.iu_outbound_route_audit (route_code, id);

COMMENT ON TABLE public.iu_outbound_route_audit IS 'One row per change of a route; append-only.';
COMMENT ON COLUMN public.iu_outbound_route_audit.id IS 'Order of the changes; rolled-back ones leave gaps.';
COMMENT ON COLUMN public.iu_outbound_route_audit.operation IS 'INSERT, UPDATE or DELETE.';
COMMENT ON COLUMN public.iu_outbound_route_audit.route_code IS
  'The route; no reference, because the trail outlives the route.';
COMMENT ON COLUMN public.iu_outbound_route_audit.old_route IS
  'The whole row before; NULL if it did not exist.';
COMMENT ON COLUMN public.iu_outbound_route_audit.new_route IS 'The whole row after; NULL if it was deleted.';
COMMENT ON COLUMN public.iu_outbound_route_audit.login IS
  'session_user: who is connected, whatever role was taken.';
COMMENT ON COLUMN public.iu_outbound_route_audit.role IS 'The role taken with SET ROLE, or none.';
COMMENT ON COLUMN public.iu_outbound_route_audit.application_name IS 'As the client named itself.';
COMMENT ON COLUMN public.iu_outbound_route_audit.reason IS
  'The setting iu.reason; never NULL for a change that opened something.';
COMMENT ON COLUMN public.iu_outbound_route_audit.xid IS
  'Transaction of the change: joins it to what else that transaction did.';
COMMENT ON COLUMN public.iu_outbound_route_audit.changed_at IS
  'Clock at the change, not at the start of the transaction.';
COMMENT ON INDEX public.iu_outbound_route_audit_route_idx IS 'The history of one route, in order.';

-- >> sql/functions/delivery/fn_iu_outbound_route_audit.sql
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
-- << sql/functions/delivery/fn_iu_outbound_route_audit.sql

-- ---------------------------------------------------------------------------------------
-- What happens on a change: wait for deliveries, demand a reason, write it down.
-- ENABLE ALWAYS, because a plain trigger sleeps under session_replication_role = replica.
-- ---------------------------------------------------------------------------------------

CREATE TRIGGER trg_iu_outbound_route_queue
  BEFORE INSERT OR UPDATE OR DELETE ON public.iu_outbound_route
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_iu_gate_queue();
ALTER TABLE public.iu_outbound_route ENABLE ALWAYS TRIGGER trg_iu_outbound_route_queue;
COMMENT ON TRIGGER trg_iu_outbound_route_queue ON public.iu_outbound_route IS
  'Lets a change wait its turn behind deliveries instead of being starved by them.';

CREATE TRIGGER trg_iu_outbound_route_audit
  AFTER INSERT OR UPDATE OR DELETE ON public.iu_outbound_route
  FOR EACH ROW EXECUTE FUNCTION public.fn_iu_outbound_route_audit();
ALTER TABLE public.iu_outbound_route ENABLE ALWAYS TRIGGER trg_iu_outbound_route_audit;
COMMENT ON TRIGGER trg_iu_outbound_route_audit ON public.iu_outbound_route IS
  'Writes iu_outbound_route_audit; refuses to open a route without a reason.';

CREATE TRIGGER trg_iu_outbound_route_no_truncate
  BEFORE TRUNCATE ON public.iu_outbound_route
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_iu_append_only();
ALTER TABLE public.iu_outbound_route ENABLE ALWAYS TRIGGER trg_iu_outbound_route_no_truncate;
COMMENT ON TRIGGER trg_iu_outbound_route_no_truncate ON public.iu_outbound_route IS
  'TRUNCATE fires no row trigger, so it would drop every route without an audit row.';

CREATE TRIGGER trg_iu_outbound_route_audit_append_only
  BEFORE UPDATE OR DELETE OR TRUNCATE ON public.iu_outbound_route_audit
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_iu_append_only();
ALTER TABLE public.iu_outbound_route_audit ENABLE ALWAYS TRIGGER trg_iu_outbound_route_audit_append_only;
COMMENT ON TRIGGER trg_iu_outbound_route_audit_append_only ON public.iu_outbound_route_audit IS
  'The audit trail is append-only.';

-- ---------------------------------------------------------------------------------------
-- Delivery, not built yet.
-- The name stands from here on, so that a consumer meets a refusal that it knows as a gate
-- and holds, rather than a missing function.
-- ---------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION public.fn_iu_route_deliver(p_route_code text, p_event_ref uuid, p_payload jsonb)
RETURNS boolean
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RAISE feature_not_supported USING
    MESSAGE = 'delivery is not built in this database',
    DETAIL  = 'Before migration 013 every route can only be run dry.',
    HINT    = 'Bring the database up to date with: iu db up';
END;
$$;

ALTER FUNCTION public.fn_iu_route_deliver(text, uuid, jsonb) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_deliver(text, uuid, jsonb) IS
  'Not built before 013: raises 0A000.';

REVOKE ALL ON FUNCTION public.fn_iu_route_deliver(text, uuid, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_route_deliver(text, uuid, jsonb) TO iu_consumer;

-- ---------------------------------------------------------------------------------------
-- Privileges: the gatekeeper switches routes on and off, and may not point them elsewhere.
-- ---------------------------------------------------------------------------------------

GRANT SELECT, UPDATE (enabled, dry_run) ON public.iu_outbound_route TO iu_gatekeeper;
GRANT SELECT ON public.iu_outbound_route_audit TO iu_gatekeeper;
GRANT SELECT ON public.iu_outbound_route, public.iu_outbound_route_audit TO iu_reader;

COMMIT;
