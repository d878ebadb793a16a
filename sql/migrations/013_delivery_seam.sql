-- 013: the delivery seam: events reach the projection, behind three gates and inert by default.
-- Additive but for two swaps: the raising stub of 009 becomes the gated dispatcher, and the
-- static CHECK becomes a guard that asks the allowlist. Both keys missing, both deny.

BEGIN;
SET LOCAL ROLE iu_owner;

-- ---------------------------------------------------------------------------------------
-- The projection.
-- No index but the unique event_ref: every delivery pays for each.
-- ---------------------------------------------------------------------------------------

CREATE TABLE public.iu_tree_change_log (
  id                bigint GENERATED ALWAYS AS IDENTITY,
  event_ref         uuid NOT NULL,
  event_type        text NOT NULL,
  tree_id           uuid NOT NULL,
  aggregate_version bigint NOT NULL,
  incarnation       integer NOT NULL,
  payload           jsonb NOT NULL,
  delivered_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT iu_tree_change_log_pk PRIMARY KEY (id),
  CONSTRAINT iu_tree_change_log_event_ref_uq UNIQUE (event_ref)
);

COMMENT ON TABLE public.iu_tree_change_log IS
  'The projection: one row per delivered structure event; append-only, truncated only by its owner for a rebuild.';
COMMENT ON COLUMN public.iu_tree_change_log.id IS 'Order of delivery; rolled-back batches leave gaps.';
COMMENT ON COLUMN public.iu_tree_change_log.event_ref IS
  'The event; unique, which makes delivering it again harmless.';
COMMENT ON COLUMN public.iu_tree_change_log.event_type IS 'As in the outbox.';
COMMENT ON COLUMN public.iu_tree_change_log.tree_id IS 'The tree that changed.';
COMMENT ON COLUMN public.iu_tree_change_log.aggregate_version IS 'Version of the tree after the change.';
COMMENT ON COLUMN public.iu_tree_change_log.incarnation IS 'As in the outbox.';
COMMENT ON COLUMN public.iu_tree_change_log.payload IS 'The event, equal to the one in the outbox.';
COMMENT ON COLUMN public.iu_tree_change_log.delivered_at IS 'Clock at delivery.';

-- TRUNCATE is left out on purpose: a rebuild is a diff, then TRUNCATE and INSERT in one
-- transaction, and the privilege for it is granted to nobody but the owner.
CREATE TRIGGER trg_iu_tree_change_log_append_only
  BEFORE UPDATE OR DELETE ON public.iu_tree_change_log
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_iu_append_only();
ALTER TABLE public.iu_tree_change_log ENABLE ALWAYS TRIGGER trg_iu_tree_change_log_append_only;
COMMENT ON TRIGGER trg_iu_tree_change_log_append_only ON public.iu_tree_change_log IS
  'What was delivered stays.';

GRANT SELECT ON public.iu_tree_change_log TO iu_reader;

-- ---------------------------------------------------------------------------------------
-- The gates: kill switch, allowlist, target.
-- One implementation for every way of delivering; each denies what it cannot read.
-- ---------------------------------------------------------------------------------------

-- >> sql/functions/delivery/fn_iu_delivery_enabled.sql
-- fn_iu_delivery_enabled tells whether the kill switch lets deliveries through, right now.
--
-- For people and dashboards.  It takes no lock, so its answer may be old when it arrives, and
-- nothing is permitted by it: a delivery asks fn_iu_delivery_gate, which reads the same switch
-- the same way and pins it.  Fail-closed: a missing key, or any value but 'true', is false.

CREATE OR REPLACE FUNCTION public.fn_iu_delivery_enabled()
RETURNS boolean
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT EXISTS (
    SELECT FROM public.dot_config AS config
     WHERE config.key = 'iu_core.delivery_enabled'
       AND config.value = 'true'
  );
$$;

ALTER FUNCTION public.fn_iu_delivery_enabled() OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_delivery_enabled() IS
  'The delivery kill switch as it reads now: true only if iu_core.delivery_enabled is exactly ''true''.';

REVOKE ALL ON FUNCTION public.fn_iu_delivery_enabled() FROM PUBLIC;
-- Who opens it and who reports on it; a consumer reads the stored value when it claims.
GRANT EXECUTE ON FUNCTION public.fn_iu_delivery_enabled() TO iu_gatekeeper, iu_reader;
-- << sql/functions/delivery/fn_iu_delivery_enabled.sql

-- >> sql/functions/delivery/fn_iu_route_listed.sql
-- fn_iu_route_listed tells whether a list of live routes names a route.
--
-- The one reading of iu_core.delivery_live_routes: the gate that asks per delivery and the
-- guard that asks per route change must not differ by a blank.  Codes are split at commas,
-- trimmed of blanks, and compared exactly.  No list lists nothing, and no list lists ''.

CREATE OR REPLACE FUNCTION public.fn_iu_route_listed(p_live_routes text, p_route_code text)
RETURNS boolean
LANGUAGE sql
IMMUTABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT EXISTS (
    SELECT FROM unnest(string_to_array(p_live_routes, ',')) AS live (route_code)
     WHERE btrim(live.route_code) = p_route_code
       AND p_route_code <> ''
  );
$$;

ALTER FUNCTION public.fn_iu_route_listed(text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_listed(text, text) IS
  'True if the comma-separated list names the route exactly; false for a missing list.';

REVOKE ALL ON FUNCTION public.fn_iu_route_listed(text, text) FROM PUBLIC;
-- << sql/functions/delivery/fn_iu_route_listed.sql

-- >> sql/functions/delivery/fn_iu_delivery_gate.sql
-- fn_iu_delivery_gate lets a delivering transaction pass gates 1 and 2, or refuses it;
-- the switches it has read keep their values until that transaction ends.
--
-- FOR SHARE is what keeps them: no UPDATE of a switch completes while a delivery that
-- read it is open.  But row share locks overtake a waiting UPDATE, so steady delivery
-- would starve the close (four workers: not through after 10 s).  The advisory lock is
-- granted in order of arrival: deliveries share it, the statement trigger on dot_config
-- takes it exclusively (eight workers, 60 closes: the longest took 77 ms).
--
-- It comes first, because a delivery that waits for it with the rows already locked
-- deadlocks with the close it waits behind; and in a statement of its own, because one
-- statement promises no order of evaluation and has one snapshot, older than its wait.
-- The snapshot of the next statement sees the very close that was waited for.

CREATE OR REPLACE FUNCTION public.fn_iu_delivery_gate(p_route_code text)
RETURNS void
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_delivery_enabled text;
  v_live_routes      text;
BEGIN
  -- 18773 is 'IU' in ASCII, 1 the delivery gate.  The trigger takes the same pair.
  PERFORM pg_advisory_xact_lock_shared(18773, 1);

  SELECT config.value INTO v_delivery_enabled
    FROM public.dot_config AS config
   WHERE config.key = 'iu_core.delivery_enabled'
     FOR SHARE;

  SELECT config.value INTO v_live_routes
    FROM public.dot_config AS config
   WHERE config.key = 'iu_core.delivery_live_routes'
     FOR SHARE;

  -- A missing key reads as NULL: IS DISTINCT FROM denies where <> would let it pass.
  IF v_delivery_enabled IS DISTINCT FROM 'true' THEN
    RAISE insufficient_privilege USING
      MESSAGE = 'delivery is closed by the kill switch',
      DETAIL  = format('iu_core.delivery_enabled is %L', v_delivery_enabled),
      HINT    = 'Open it with: iu gate open --reason "..."';
  END IF;

  IF NOT public.fn_iu_route_listed(v_live_routes, p_route_code) THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('route %L is not allowed to deliver', p_route_code),
      DETAIL  = format('iu_core.delivery_live_routes is %L', v_live_routes),
      HINT    = format('Allow it with: iu gate allow %s --reason "..."', p_route_code);
  END IF;
END;
$$;

ALTER FUNCTION public.fn_iu_delivery_gate(text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_delivery_gate(text) IS
  'Passes gates 1 and 2 and pins them until commit, or raises 42501. Fail-closed.';

-- Whoever may call this can hold a close back for as long as a transaction lasts, so no
-- process role may: the delivery functions, which iu_owner owns too, call it for them.
REVOKE ALL ON FUNCTION public.fn_iu_delivery_gate(text) FROM PUBLIC;

-- << sql/functions/delivery/fn_iu_delivery_gate.sql

-- >> sql/functions/delivery/fn_iu_route_gate.sql
-- fn_iu_route_gate lets a transaction deliver on a route, or refuses it: all three gates, asked
-- in one place for every way of delivering.
--
-- Gates 1 and 2 come from fn_iu_delivery_gate, whose advisory lock must come before any row
-- lock; the route follows FOR SHARE, so that its target stays what gate 3 has seen.
--
-- It does not ask whether the route is enabled or in dry-run: a rehearsal calls the real
-- delivery and rolls it back.  What makes progress durable asks that (fn_iu_route_lane).

CREATE OR REPLACE FUNCTION public.fn_iu_route_gate(p_route_code text)
RETURNS public.iu_outbound_route
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_route public.iu_outbound_route;
BEGIN
  PERFORM public.fn_iu_delivery_gate(p_route_code);

  SELECT route.* INTO v_route
    FROM public.iu_outbound_route AS route
   WHERE route.route_code = p_route_code
     FOR SHARE;
  IF NOT FOUND THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('route %L is not registered', p_route_code),
      DETAIL  = 'It is in iu_core.delivery_live_routes, but iu_outbound_route has no such route_code.',
      HINT    = 'See the registered ones with: iu route list';
  END IF;

  IF (v_route.target_kind, v_route.target_ref)
     IS DISTINCT FROM ('sql_function', 'fn_iu_structure_consumer') THEN
    RAISE feature_not_supported USING
      MESSAGE = format('route %L has a target that is not supported', p_route_code),
      DETAIL  = format('Its target is %s %L; only sql_function ''fn_iu_structure_consumer'' is.',
                       v_route.target_kind, v_route.target_ref),
      HINT    = format('See the route with: iu route show %s', p_route_code);
  END IF;
  RETURN v_route;
END;
$$;

ALTER FUNCTION public.fn_iu_route_gate(text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_gate(text) IS
  'Passes gates 1 to 3 of a route, pins them until commit and returns the route; or raises 42501 or 0A000.';

-- Like fn_iu_delivery_gate it can hold a close back: only functions of the owner call it.
REVOKE ALL ON FUNCTION public.fn_iu_route_gate(text) FROM PUBLIC;
-- << sql/functions/delivery/fn_iu_route_gate.sql

-- ---------------------------------------------------------------------------------------
-- The internal consumer, and the dispatcher that replaces the stub of 009.
-- ---------------------------------------------------------------------------------------

-- >> sql/functions/delivery/fn_iu_structure_consumer.sql
-- fn_iu_structure_consumer is the internal target: it gives an event its one projection row.
--
-- Idempotent by the unique event_ref: whoever delivers an event again, or at the same time,
-- waits for the first and then finds the row there.  What kind of event it was, of which tree
-- and version, is read from the outbox: those columns are not the caller's to tell.
--
-- It asks no gate.  Only fn_iu_route_deliver calls it, and no process role may.

CREATE OR REPLACE FUNCTION public.fn_iu_structure_consumer(p_event_ref uuid, p_payload jsonb)
RETURNS boolean
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO public.iu_tree_change_log
    (event_ref, event_type, tree_id, aggregate_version, incarnation, payload)
  SELECT event.event_ref, event.event_type, event.aggregate_id, event.aggregate_version,
         event.incarnation, p_payload
    FROM public.event_outbox AS event
   WHERE event.event_ref = p_event_ref
      ON CONFLICT (event_ref) DO NOTHING;
  RETURN FOUND;
END;
$$;

ALTER FUNCTION public.fn_iu_structure_consumer(uuid, jsonb) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_structure_consumer(uuid, jsonb) IS
  'Adds the projection row of an event; true if it made it, false if it was there. Idempotent.';

REVOKE ALL ON FUNCTION public.fn_iu_structure_consumer(uuid, jsonb) FROM PUBLIC;
-- << sql/functions/delivery/fn_iu_structure_consumer.sql

-- >> sql/functions/delivery/fn_iu_route_deliver.sql
-- fn_iu_route_deliver delivers one event on one route, if the gates say so.
--
-- 1. The gates, first and for every call: a batch that began with open gates keeps them open
--    until its transaction ends, and a closed one refuses before anything is looked at.
-- 2. The event.  The caller's payload is never trusted: it must equal the one that the
--    operation wrote, and the event must be of the route's own type.
-- 3. The target, by a static CASE.  No name is ever built into a statement here, and no
--    network, secret or outside address is within reach.
--
-- Refused by a gate: 42501, 0A000.  Refused for the event's own sake: IU001, IU020.

CREATE OR REPLACE FUNCTION public.fn_iu_route_deliver(p_route_code text, p_event_ref uuid, p_payload jsonb)
RETURNS boolean
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_route public.iu_outbound_route;
  v_event public.event_outbox;
BEGIN
  v_route := public.fn_iu_route_gate(p_route_code);

  SELECT event.* INTO v_event
    FROM public.event_outbox AS event
   WHERE event.event_ref = p_event_ref;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU001',
      MESSAGE = format('event %s is not in the outbox', p_event_ref),
      DETAIL  = 'No committed operation of this database wrote it.',
      HINT    = format('See what is known of it with: iu explain %s', p_event_ref);
  END IF;

  IF v_event.event_type <> v_route.event_type THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU020',
      MESSAGE = format('event %s is not one of route %L', p_event_ref, p_route_code),
      DETAIL  = format('The event is a %s; the route delivers %s.', v_event.event_type, v_route.event_type),
      HINT    = format('See the event with: iu explain %s', p_event_ref);
  END IF;

  IF p_payload IS DISTINCT FROM v_event.payload THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU020',
      MESSAGE = format('the payload given for event %s is not the one that was written', p_event_ref),
      -- Names only: a forged value has no business in a log.
      DETAIL  = format('It differs in: %s.', coalesce((
                  SELECT string_agg(coalesce(given.key, written.key), ', ' ORDER BY written.key, given.key)
                    FROM jsonb_each(CASE jsonb_typeof(p_payload) WHEN 'object' THEN p_payload END) AS given
                    FULL JOIN jsonb_each(v_event.payload) AS written USING (key)
                   WHERE given.value IS DISTINCT FROM written.value), 'its form')),
      HINT    = format('See the event with: iu explain %s', p_event_ref);
  END IF;

  CASE
    WHEN v_route.target_kind = 'sql_function' AND v_route.target_ref = 'fn_iu_structure_consumer' THEN
      RETURN public.fn_iu_structure_consumer(p_event_ref, p_payload);
    -- No ELSE: a target that gate 3 lets through and nobody serves is a fault of this file,
    -- and case_not_found is the alarm for it.
  END CASE;
END;
$$;

ALTER FUNCTION public.fn_iu_route_deliver(text, uuid, jsonb) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_deliver(text, uuid, jsonb) IS
  'Delivers one event on one route behind gates 1 to 3; true if it had an effect, false if it had had it before.';

REVOKE ALL ON FUNCTION public.fn_iu_route_deliver(text, uuid, jsonb) FROM PUBLIC;
-- The one way a consumer can have an effect on the projection.
GRANT EXECUTE ON FUNCTION public.fn_iu_route_deliver(text, uuid, jsonb) TO iu_consumer;
-- << sql/functions/delivery/fn_iu_route_deliver.sql

-- ---------------------------------------------------------------------------------------
-- The guard replaces the CHECK, and is stricter: it can permit one route by name.
-- The trigger stands before the CHECK falls, so that at no moment neither holds.
-- ---------------------------------------------------------------------------------------

-- >> sql/functions/delivery/fn_iu_outbound_route_delivery_guard.sql
-- fn_iu_outbound_route_delivery_guard lets a route go live only if the allowlist names it.
--
-- It replaces the static CHECK iu_outbound_route_safe_chk, which could not ask dot_config and
-- so forbade every live route.  With the list empty or missing this forbids them all the same.
--
-- The statement trigger trg_iu_outbound_route_queue has taken the gate's lock by now, and no
-- change of the list can run beside this one.  FOR SHARE is for a caller with an older
-- snapshot (REPEATABLE READ): it fails on a list that has changed since, and does not act on it.
--
-- A code taken off the list while its route is live needs nothing here: gate 2 refuses every
-- delivery from then on, and the route may change only to a state that is not live.

CREATE OR REPLACE FUNCTION public.fn_iu_outbound_route_delivery_guard()
RETURNS trigger
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_live_routes text;
BEGIN
  IF NOT NEW.enabled OR NEW.dry_run THEN
    RETURN NEW;
  END IF;

  SELECT config.value INTO v_live_routes
    FROM public.dot_config AS config
   WHERE config.key = 'iu_core.delivery_live_routes'
     FOR SHARE;

  IF NOT public.fn_iu_route_listed(v_live_routes, NEW.route_code) THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('route %L may not go live', NEW.route_code),
      DETAIL  = format('iu_core.delivery_live_routes is %L', v_live_routes),
      HINT    = format('Allow it first with: iu gate allow %s --reason "..."', NEW.route_code);
  END IF;
  RETURN NEW;
END;
$$;

ALTER FUNCTION public.fn_iu_outbound_route_delivery_guard() OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_outbound_route_delivery_guard() IS
  'Row trigger of iu_outbound_route: enabled and not dry_run only for a route in iu_core.delivery_live_routes, else 42501.';

REVOKE ALL ON FUNCTION public.fn_iu_outbound_route_delivery_guard() FROM PUBLIC;
-- << sql/functions/delivery/fn_iu_outbound_route_delivery_guard.sql

CREATE TRIGGER trg_iu_outbound_route_delivery_guard
  BEFORE INSERT OR UPDATE ON public.iu_outbound_route
  FOR EACH ROW EXECUTE FUNCTION public.fn_iu_outbound_route_delivery_guard();
ALTER TABLE public.iu_outbound_route ENABLE ALWAYS TRIGGER trg_iu_outbound_route_delivery_guard;
COMMENT ON TRIGGER trg_iu_outbound_route_delivery_guard ON public.iu_outbound_route IS
  'Lets a route be enabled outside dry-run only if the allowlist names it.';

ALTER TABLE public.iu_outbound_route DROP CONSTRAINT iu_outbound_route_safe_chk;

COMMIT;
