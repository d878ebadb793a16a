-- 001: the switches, who changed them and why, and the functions everything after stands on.
-- Default is deny: a key that is missing here is a closed gate everywhere.

BEGIN;
SET LOCAL ROLE iu_owner;

-- ---------------------------------------------------------------------------------------
-- Identifiers and the append-only rule.
-- First, because nearly every table after this uses one or the other.
-- ---------------------------------------------------------------------------------------

-- >> sql/functions/fn_iu_uuid_v7.sql
-- fn_iu_uuid_v7 makes an identifier that sorts by the millisecond it was made in.
--
-- Keys that arrive in order keep an index's newest page hot; random ones touch them all.
-- PostgreSQL 18 has the function built in and counts within a millisecond too; before, the
-- first 48 bits of a random identifier are overwritten with the clock and its version with 7.
-- RFC 9562, section 5.7.

CREATE OR REPLACE FUNCTION public.fn_iu_uuid_v7()
RETURNS uuid
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_bytes bytea;
BEGIN
  -- plpgsql plans a statement when it is reached: the call below is never looked up on 15.
  IF current_setting('server_version_num')::integer >= 180000 THEN
    RETURN uuidv7();
  END IF;

  v_bytes := overlay(
    uuid_send(gen_random_uuid())
    PLACING substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
    FROM 1 FOR 6
  );
  v_bytes := set_byte(v_bytes, 6, (get_byte(v_bytes, 6) & 15) | 112);
  RETURN encode(v_bytes, 'hex')::uuid;
END;
$$;

ALTER FUNCTION public.fn_iu_uuid_v7() OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_uuid_v7() IS
  'A time-ordered identifier, RFC 9562 version 7.';

-- Default privileges already keep PUBLIC out; said again, so that the file stands by itself.
REVOKE ALL ON FUNCTION public.fn_iu_uuid_v7() FROM PUBLIC;
-- << sql/functions/fn_iu_uuid_v7.sql

-- >> sql/functions/fn_iu_append_only.sql
-- fn_iu_append_only refuses the statement that fired it: history is added to, never changed.
--
-- A privilege would not be enough, because the owner and superusers have them all, and a
-- mistake is made by exactly those.  The triggers that call this are ENABLE ALWAYS: a plain
-- trigger sleeps under session_replication_role = replica.

CREATE OR REPLACE FUNCTION public.fn_iu_append_only()
RETURNS trigger
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'IU040',
    MESSAGE = format('%s of %I is refused: it keeps its history', TG_OP, TG_TABLE_NAME),
    DETAIL  = 'Rows of this table are the record of what happened; nothing is taken back.',
    HINT    = 'Correct it with a new operation, which leaves its own record.';
END;
$$;

ALTER FUNCTION public.fn_iu_append_only() OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_append_only() IS
  'Trigger: refuses UPDATE, DELETE or TRUNCATE with IU040.';

REVOKE ALL ON FUNCTION public.fn_iu_append_only() FROM PUBLIC;
-- << sql/functions/fn_iu_append_only.sql

-- ---------------------------------------------------------------------------------------
-- The registry of switches and its audit trail.
-- A key/value table and not columns: a later downstream kind brings a key, not a migration.
-- ---------------------------------------------------------------------------------------

CREATE TABLE public.dot_config (
  key         text NOT NULL,
  value       text NOT NULL,
  description text,
  CONSTRAINT dot_config_pk PRIMARY KEY (key),
  CONSTRAINT dot_config_key_chk CHECK (key ~ '^[a-z0-9_.]{1,200}$')
);

COMMENT ON TABLE public.dot_config IS
  'Switches by key. A gate is open only if its value is exactly true; a missing key is closed.';
COMMENT ON COLUMN public.dot_config.key IS 'Dotted name in lower case, such as iu_core.delivery_enabled.';
COMMENT ON COLUMN public.dot_config.value IS 'As stored: nothing trims it, folds its case or guesses.';
COMMENT ON COLUMN public.dot_config.description IS 'What the switch lets happen, for whoever reads the table.';

CREATE TABLE public.dot_config_audit (
  id               bigint GENERATED ALWAYS AS IDENTITY,
  operation        text NOT NULL,
  key              text NOT NULL,
  old_value        text,
  new_value        text,
  login            text NOT NULL,
  role             text NOT NULL,
  application_name text NOT NULL,
  reason           text,
  xid              xid8 NOT NULL DEFAULT pg_current_xact_id(),
  changed_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT dot_config_audit_pk PRIMARY KEY (id),
  CONSTRAINT dot_config_audit_operation_chk CHECK (operation IN ('INSERT', 'UPDATE', 'DELETE'))
);

CREATE INDEX dot_config_audit_key_idx ON public.dot_config_audit (key, id);

COMMENT ON TABLE public.dot_config_audit IS 'One row per change of a switch; append-only.';
COMMENT ON COLUMN public.dot_config_audit.id IS 'Order of the changes; rolled-back ones leave gaps.';
COMMENT ON COLUMN public.dot_config_audit.operation IS 'INSERT, UPDATE or DELETE.';
COMMENT ON COLUMN public.dot_config_audit.key IS 'The switch; no reference, because the trail outlives the switch.';
COMMENT ON COLUMN public.dot_config_audit.old_value IS 'NULL if the switch did not exist.';
COMMENT ON COLUMN public.dot_config_audit.new_value IS 'NULL if the switch was deleted.';
COMMENT ON COLUMN public.dot_config_audit.login IS 'session_user: who is connected, whatever role was taken.';
COMMENT ON COLUMN public.dot_config_audit.role IS 'The role taken with SET ROLE, or none.';
COMMENT ON COLUMN public.dot_config_audit.application_name IS 'As the client named itself.';
COMMENT ON COLUMN public.dot_config_audit.reason IS 'The setting iu.reason; never NULL for a change that opened something.';
COMMENT ON COLUMN public.dot_config_audit.xid IS 'Transaction of the change: joins it to what else that transaction did.';
COMMENT ON COLUMN public.dot_config_audit.changed_at IS 'Clock at the change, not at the start of the transaction.';
COMMENT ON INDEX public.dot_config_audit_key_idx IS 'The history of one switch, in order.';

-- ---------------------------------------------------------------------------------------
-- What happens on a change: wait for deliveries, demand a reason, write it down.
-- ENABLE ALWAYS, because a plain trigger sleeps under session_replication_role = replica.
-- ---------------------------------------------------------------------------------------

-- >> sql/functions/fn_iu_gate_queue.sql
-- fn_iu_gate_queue makes a change of a switch wait its turn behind the deliveries under way.
--
-- Deliveries share advisory lock (18773, 1) until they commit; this takes it exclusively,
-- before the statement touches its first row.  Row locks alone would starve the change,
-- because share locks overtake a waiting update; the advisory lock is granted in order of
-- arrival.  dot_config and iu_outbound_route use one and the same pair: with two, a delivery
-- and two changes could wait for each other in a ring.
--
-- It has to be a statement trigger.  A row trigger fires with the row already found, under a
-- snapshot older than the wait, and the change would act on what the wait made stale.

CREATE OR REPLACE FUNCTION public.fn_iu_gate_queue()
RETURNS trigger
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- 18773 is 'IU' in ASCII, 1 the delivery gate; fn_iu_delivery_gate shares the same pair.
  PERFORM pg_advisory_xact_lock(18773, 1);
  RETURN NULL;
END;
$$;

ALTER FUNCTION public.fn_iu_gate_queue() OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_gate_queue() IS
  'Statement trigger: waits for the deliveries under way, and keeps new ones waiting until commit.';

REVOKE ALL ON FUNCTION public.fn_iu_gate_queue() FROM PUBLIC;
-- << sql/functions/fn_iu_gate_queue.sql

-- >> sql/functions/fn_iu_reason.sql
-- fn_iu_reason is the reason the caller gave for what this transaction does, or NULL.
--
-- A plain UPDATE has no argument to carry a reason in, so it travels in a setting:
--   SELECT set_config('iu.reason', 'release 7 is approved', true);

CREATE OR REPLACE FUNCTION public.fn_iu_reason()
RETURNS text
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  -- A setting that was set once in a session reads as '' afterwards, not as NULL.
  SELECT nullif(btrim(current_setting('iu.reason', true)), '');
$$;

ALTER FUNCTION public.fn_iu_reason() OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_reason() IS
  'The setting iu.reason of this transaction or session, trimmed; NULL if there is none.';

REVOKE ALL ON FUNCTION public.fn_iu_reason() FROM PUBLIC;
-- << sql/functions/fn_iu_reason.sql

-- >> sql/functions/fn_iu_config_opens.sql
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
-- << sql/functions/fn_iu_config_opens.sql

-- >> sql/functions/fn_iu_dot_config_audit.sql
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
-- << sql/functions/fn_iu_dot_config_audit.sql

CREATE TRIGGER trg_dot_config_queue
  BEFORE INSERT OR UPDATE OR DELETE ON public.dot_config
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_iu_gate_queue();
ALTER TABLE public.dot_config ENABLE ALWAYS TRIGGER trg_dot_config_queue;
COMMENT ON TRIGGER trg_dot_config_queue ON public.dot_config IS
  'Lets a change wait its turn behind deliveries instead of being starved by them.';

CREATE TRIGGER trg_dot_config_audit
  AFTER INSERT OR UPDATE OR DELETE ON public.dot_config
  FOR EACH ROW EXECUTE FUNCTION public.fn_iu_dot_config_audit();
ALTER TABLE public.dot_config ENABLE ALWAYS TRIGGER trg_dot_config_audit;
COMMENT ON TRIGGER trg_dot_config_audit ON public.dot_config IS
  'Writes dot_config_audit; refuses to open a switch without a reason.';

CREATE TRIGGER trg_dot_config_no_truncate
  BEFORE TRUNCATE ON public.dot_config
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_iu_append_only();
ALTER TABLE public.dot_config ENABLE ALWAYS TRIGGER trg_dot_config_no_truncate;
COMMENT ON TRIGGER trg_dot_config_no_truncate ON public.dot_config IS
  'TRUNCATE fires no row trigger, so it would close every gate without an audit row.';

CREATE TRIGGER trg_dot_config_audit_append_only
  BEFORE UPDATE OR DELETE OR TRUNCATE ON public.dot_config_audit
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_iu_append_only();
ALTER TABLE public.dot_config_audit ENABLE ALWAYS TRIGGER trg_dot_config_audit_append_only;
COMMENT ON TRIGGER trg_dot_config_audit_append_only ON public.dot_config_audit IS
  'The audit trail is append-only.';

-- >> sql/functions/fn_iu_config_set.sql
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
-- << sql/functions/fn_iu_config_set.sql

-- ---------------------------------------------------------------------------------------
-- Privileges: the gatekeeper changes switches, the reader looks.
-- Nobody may write the audit trail: only its trigger does, as the owner.
-- ---------------------------------------------------------------------------------------

GRANT SELECT, INSERT, UPDATE, DELETE ON public.dot_config TO iu_gatekeeper;
GRANT SELECT ON public.dot_config_audit TO iu_gatekeeper;
GRANT SELECT ON public.dot_config, public.dot_config_audit TO iu_reader;

COMMIT;
