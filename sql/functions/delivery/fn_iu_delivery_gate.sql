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

