-- sandbox 080: proves the delivery seam in the database it is run on, and leaves no row behind.
--
--   psql -X -q -v ON_ERROR_STOP=1 -f sql/sandbox/080_delivery_seam_probe.sql
--
-- Prints one row per probe: probe, what, expected, got, pass. The login is a superuser or a
-- member of iu_owner; the database is migrated and registered, and may be in use. Units,
-- routes and switch values of the probe are its own and are rolled back with everything else;
-- only sequences move on. While it runs, about a second, other operations and deliveries wait:
-- it holds both gates as whoever changes them does.

BEGIN;
SET LOCAL ROLE iu_owner;
SET LOCAL iu.reason = 'sandbox 080';
SET LOCAL client_min_messages = warning;

CREATE TEMPORARY TABLE probe_result (probe text, what text, expected text, got text) ON COMMIT DROP;
CREATE TEMPORARY TABLE probe_event (number integer, event_ref uuid) ON COMMIT DROP;

-- What a statement answers: 'accepted', or SQLSTATE and message. A refusal undoes only itself.
CREATE FUNCTION pg_temp.answer(p_statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE p_statement;
  RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
  RETURN SQLSTATE || ' ' || SQLERRM;
END;
$$;

CREATE FUNCTION pg_temp.deliver(p_route_code text, p_event_ref uuid) RETURNS boolean LANGUAGE sql AS $$
  SELECT public.fn_iu_route_deliver(p_route_code, event.event_ref, event.payload)
    FROM public.event_outbox AS event
   WHERE event.event_ref = p_event_ref;
$$;

CREATE FUNCTION pg_temp.rows_of(p_event_ref uuid) RETURNS bigint LANGUAGE sql AS $$
  SELECT count(*) FROM public.iu_tree_change_log AS change WHERE change.event_ref = p_event_ref;
$$;

-- The call that the auto-cut bridge makes for a piece it has cut.
CREATE FUNCTION pg_temp.add_piece(p_parent_id uuid, p_name text) RETURNS uuid LANGUAGE sql AS $$
  SELECT done.event_ref
    FROM public.fn_iu_structure_op_add_new_piece(
           p_unit_id => NULL, p_parent_id => p_parent_id, p_ordinal => NULL,
           p_iu_code => format('probe.080.%s.%s', p_name, public.fn_iu_uuid_v7()), p_doc_code => NULL,
           p_content => 'A piece of sandbox 080.', p_lifecycle => 'draft', p_supersedes => '{}',
           p_actor => 'sandbox 080', p_reason => 'probe of the delivery seam') AS done;
$$;

CREATE FUNCTION pg_temp.unit_of(p_event_ref uuid) RETURNS uuid LANGUAGE sql AS $$
  SELECT (event.payload ->> 'unit_id')::uuid FROM public.event_outbox AS event WHERE event.event_ref = p_event_ref;
$$;

-- Stage: four routes, a root with two branches and a leaf, and 44 moves of the leaf.
DO $$
DECLARE
  v_root     uuid;
  v_branches uuid[];
  v_leaf     uuid;
BEGIN
  -- By the function, because it takes the locks of both gates in the order that cannot deadlock.
  PERFORM public.fn_iu_config_set('iu_core.structure_op_enabled', 'true', 'sandbox 080');

  INSERT INTO public.iu_outbound_route (route_code, event_type, target_kind, target_ref)
  VALUES ('probe.080.added', 'structure_child_added', 'sql_function', 'fn_iu_structure_consumer'),
         ('probe.080.moved', 'structure_reparented', 'sql_function', 'fn_iu_structure_consumer'),
         ('probe.080.unlisted', 'structure_reparented', 'sql_function', 'fn_iu_structure_consumer'),
         ('probe.080.foreign', 'structure_child_added', 'http', 'nowhere');

  v_root := pg_temp.unit_of(pg_temp.add_piece(NULL, 'root'));
  v_branches := ARRAY[
    pg_temp.unit_of(pg_temp.add_piece(v_root, 'branch')),
    pg_temp.unit_of(pg_temp.add_piece(v_root, 'branch'))];
  INSERT INTO probe_event SELECT 0, pg_temp.add_piece(v_branches[1], 'leaf');
  SELECT pg_temp.unit_of(event_ref) INTO v_leaf FROM probe_event;

  FOR v_number IN 1..44 LOOP
    INSERT INTO probe_event
    SELECT v_number, done.event_ref
      FROM public.fn_iu_structure_op_reparent(
             v_leaf, v_branches[v_number % 2 + 1], NULL, 'sandbox 080', 'probe of the delivery seam') AS done;
  END LOOP;
END;
$$;

-- D1 to D4: the two gates, one delivery, the same again.
DO $$
DECLARE
  v_event_ref uuid := (SELECT event_ref FROM probe_event WHERE number = 0);
  v_deliver   text := format('SELECT pg_temp.deliver(%L, %L)', 'probe.080.added', v_event_ref);
  v_before    bigint;
  v_effect    boolean;
BEGIN
  PERFORM public.fn_iu_config_set('iu_core.delivery_live_routes', 'probe.080.added', 'sandbox 080');
  PERFORM public.fn_iu_config_set('iu_core.delivery_enabled', 'false', 'sandbox 080');
  INSERT INTO probe_result
  VALUES ('D1', 'gate closed', '42501 delivery is closed by the kill switch', pg_temp.answer(v_deliver));

  PERFORM public.fn_iu_config_set('iu_core.delivery_live_routes', '', 'sandbox 080');
  PERFORM public.fn_iu_config_set('iu_core.delivery_enabled', 'true', 'sandbox 080');
  INSERT INTO probe_result
  VALUES ('D2', 'not allowlisted', '42501 route ''probe.080.added'' is not allowed to deliver',
          pg_temp.answer(v_deliver));

  PERFORM public.fn_iu_config_set(
    'iu_core.delivery_live_routes', 'probe.080.added, probe.080.moved, probe.080.foreign', 'sandbox 080');
  v_before := pg_temp.rows_of(v_event_ref);
  v_effect := pg_temp.deliver('probe.080.added', v_event_ref);
  INSERT INTO probe_result
  VALUES ('D3', 'delivery ok', 'projection 0→1, effect t',
          format('projection %s→%s, effect %s', v_before, pg_temp.rows_of(v_event_ref), v_effect));

  v_before := pg_temp.rows_of(v_event_ref);
  v_effect := pg_temp.deliver('probe.080.added', v_event_ref);
  INSERT INTO probe_result
  VALUES ('D4', 'idempotent: the same event again', 'projection 1→1, effect f',
          format('projection %s→%s, effect %s', v_before, pg_temp.rows_of(v_event_ref), v_effect));
END;
$$;

-- D5a, D5b, D6: which routes may go live, and to what they may deliver.
INSERT INTO probe_result
VALUES ('D5a', 'guard blocks a live route that is not allowlisted',
        '42501 route ''probe.080.unlisted'' may not go live',
        pg_temp.answer('UPDATE public.iu_outbound_route SET enabled = true, dry_run = false'
                       ' WHERE route_code = ''probe.080.unlisted'''));
INSERT INTO probe_result
VALUES ('D5b', 'guard permits a live route that is allowlisted', 'accepted',
        pg_temp.answer('UPDATE public.iu_outbound_route SET enabled = true, dry_run = false'
                       ' WHERE route_code = ''probe.080.moved'''));
INSERT INTO probe_result
SELECT 'D6', 'unsupported target', '0A000 route ''probe.080.foreign'' has a target that is not supported',
       pg_temp.answer(format('SELECT pg_temp.deliver(%L, %L)', 'probe.080.foreign', event_ref))
  FROM probe_event
 WHERE number = 0;

-- D7: the route worker's transaction, 44 events long: claim, deliver each, record them all.
DO $$
DECLARE
  v_epoch    bigint;
  v_number   integer;
  v_ref      uuid;
  v_attempts jsonb := '[]';
BEGIN
  v_epoch := public.fn_iu_route_claim(
    'probe.080.moved', 'live', 'probe.080', 'probe.080', ARRAY[0], ARRAY[1::bigint], 'sandbox 080'
  ) #>> '{partitions,0,owner_epoch}';
  FOR v_number, v_ref IN
    SELECT event.number, event.event_ref FROM probe_event AS event WHERE event.number > 0 ORDER BY event.number
  LOOP
    PERFORM pg_temp.deliver('probe.080.moved', v_ref);
    v_attempts := v_attempts || jsonb_build_object('event_ref', v_ref, 'offset', v_number, 'decision', 'sent');
  END LOOP;
  PERFORM public.fn_iu_route_record(
    'probe.080.moved', 'live', 'probe.080', 0, v_epoch, 1, 45, v_ref, v_attempts, '[]');
END;
$$;
INSERT INTO probe_result
SELECT 'D7', 'worker delivers 44 events', '44 projection rows, 44 sent attempts',
       format('%s projection rows, %s sent attempts', count(change.id), count(attempt.id))
  FROM probe_event AS event
  LEFT JOIN public.iu_tree_change_log AS change ON change.event_ref = event.event_ref
  LEFT JOIN public.iu_route_attempt AS attempt
         ON attempt.event_ref = event.event_ref AND attempt.route_code = 'probe.080.moved'
        AND attempt.decision = 'sent'
 WHERE event.number > 0;

-- D8: from the operation that auto-cut makes, through its event, to the projection.
DO $$
DECLARE
  v_event_ref  uuid := pg_temp.add_piece(NULL, 'autocut');
  v_event_type text := (SELECT event_type FROM public.event_outbox WHERE event_ref = v_event_ref);
  v_before     bigint := pg_temp.rows_of(v_event_ref);
BEGIN
  PERFORM pg_temp.deliver('probe.080.added', v_event_ref);
  INSERT INTO probe_result
  VALUES ('D8', 'auto-cut adds a piece, its event is delivered', 'structure_child_added, projection 0→1',
          format('%s, projection %s→%s', v_event_type, v_before, pg_temp.rows_of(v_event_ref)));
END;
$$;

SELECT probe, what, expected, got, got = expected AS pass FROM probe_result ORDER BY probe;

ROLLBACK;
