-- Undoes runtime 020: takes the six routes out of the registry. Positions and decisions stay.
-- Refused (IU012) while one of them is live: its consumers would hold and nothing say why.

BEGIN;
SET LOCAL ROLE iu_owner;

DO $$
DECLARE
  v_routes text[] := ARRAY[
    'structure_reparented', 'structure_child_added', 'structure_piece_deprecated',
    'structure_piece_split', 'structure_piece_merged', 'structure_piece_replaced'];
  v_live   text;
BEGIN
  -- Before the look, so that none goes live between it and the DELETE: see fn_iu_gate_queue.
  PERFORM pg_advisory_xact_lock(18773, 1);

  SELECT route.route_code INTO v_live
    FROM public.iu_outbound_route AS route
   WHERE route.route_code = ANY (v_routes) AND route.enabled AND NOT route.dry_run
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU012',
      MESSAGE = format('route %L is live and stays registered', v_live),
      DETAIL  = 'It is enabled and not in dry-run.',
      HINT    = format('Disable it first with: iu route disable %s', v_live);
  END IF;

  DELETE FROM public.iu_outbound_route AS route WHERE route.route_code = ANY (v_routes);
END;
$$;

COMMIT;
